"""Diagonally implicit steps: stiff accuracy, honest failures, transposes of solved stages."""

import math

import numpy as np
import pytest
import sympy as sp
from cases import DRIVEN
from gradients.reference import ENTRIES, needs_entries

import symode
from symode.errors import SolverError, TableauError
from symode.gradients.methods import METHODS, DiscreteAdjoint
from symode.gradients.value_and_grad import make_task
from symode.gradients.verify.dot_product import check_dot_product, dot_product_errors
from symode.gradients.verify.subject import Subject
from symode.solvers.dirk_tableau import DirkTableau, damped_error_weights, stage_value_dense
from symode.solvers.methods import METHODS as ALL_SOLVERS
from symode.solvers.methods import get_method
from symode.status import NO_CONVERGENCE, NONFINITE

SOLVERS = [name for name in ALL_SOLVERS if isinstance(get_method(name), DirkTableau)]
every_solver = pytest.mark.parametrize("solver", SOLVERS)

X, Y, L, T = sp.symbols("x y L t")
PROTHERO_ROBINSON = symode.Model(
    {X: -L * (X - sp.sin(T + 0.3)) + sp.cos(T + 0.3)}, parameters=[L], time=T
)


def subject_of(entry, solver: str, **options) -> Subject:
    task = make_task(
        entry.model.equations, entry.loss, entry.span, from_initial=False, solver=solver, **options
    )
    return Subject(task, DiscreteAdjoint(), entry.theta, entry.z0)


# -- stiff accuracy ------------------------------------------------------------------------------


@every_solver
@pytest.mark.parametrize("stiffness", [1e2, 1e5, 1e8])
def test_a_smooth_solution_costs_the_same_however_stiff(solver, stiffness):
    solution = PROTHERO_ROBINSON.solve(
        (0, 10), [stiffness], [math.sin(0.3)], solver=solver, rtol=1e-6, atol=1e-9
    )
    assert solution.stats.steps < 300
    assert solution.z[:, 0] == pytest.approx(np.sin(solution.t + 0.3), abs=1e-5)
    # Between the steps too: the error estimate sees the interpolant, which does not multiply the
    # slopes of the stiff mode.
    times = np.linspace(0, 10, 997)
    assert solution(times)[:, 0] == pytest.approx(np.sin(times + 0.3), abs=1e-5)


@every_solver
def test_a_stiff_transient_leaves_nothing_behind(solver):
    solution = PROTHERO_ROBINSON.solve((0, 1), [1e7], [2.0], solver=solver, rtol=1e-8)
    assert solution.z[-1, 0] == pytest.approx(math.sin(1.3), rel=1e-8)
    assert solution.stats.steps < 300


@every_solver
@pytest.mark.parametrize("kink", np.linspace(0.31, 2.83, 8))
def test_a_kink_is_seen_wherever_it_lies_in_a_step(solver, kink):
    model = symode.Model({X: sp.Piecewise((1, kink > Y), (-2, True)), Y: 1}, parameters=[])
    solution = model.solve((0, 3), z0=[0, 0], solver=solver, rtol=1e-8, atol=1e-10)
    # The estimate is at worst a tenth of the error of one step.
    assert solution.z[-1, 0] == pytest.approx(kink - 2 * (3 - kink), abs=1e-6)


# -- Newton's iteration --------------------------------------------------------------------------


@every_solver
def test_a_linear_model_needs_one_iterate(solver):
    model = symode.Model({X: Y, Y: -X - Y / 10}, parameters=[])
    stats = model.solve((0, 20), z0=[1, 0], solver=solver).stats
    # One iterate of each stage, and one more to see that it was exact.
    assert stats.nfev < 2.2 * (stats.steps + stats.rejected) * get_method(solver).n_stages


@every_solver
def test_stages_without_a_solution_are_told_from_other_failures(solver):
    # The stage Z = psi + h g (Z**2 + 1) has no real root for any h above 1 / (4 g): the step
    # shrinks and passes.
    growth = symode.Model({X: X**2 + 1}, parameters=[])
    assert growth.solve((0, 1.5), z0=[0.0], solver=solver).z[-1, 0] == pytest.approx(
        math.tan(1.5), rel=1e-6
    )
    # Here no step is small enough: just above 0 the slope is huge, just below it is not real.
    with pytest.raises(SolverError) as caught:
        symode.Model({X: -sp.sqrt(X)}, parameters=[]).solve((0, 5), z0=[1.0], solver=solver)
    assert caught.value.status in (NONFINITE, NO_CONVERGENCE)
    assert caught.value.t == pytest.approx(2.0, abs=1e-5)


def test_a_rate_of_convergence_is_not_trusted_for_ever():
    # Fast decay into slow: all first iterates pass if the rate of some early stage is believed,
    # with a Jacobian that is long out of date; the error was 300 tolerances then.
    a, b, c = sp.symbols("a b c")
    k = [0.127, 5.0e5, 230.0, 1100.0]
    model = symode.Model(
        {
            a: -k[0] * a + k[2] * b * c,
            b: k[0] * a - k[2] * b * c - k[3] * b**2,
            c: k[3] * b**2 - k[2] * b * c,
        },
        parameters=[],
    )
    options = {"z0": [1.1, 0.5, 0.3], "times": [0.9], "atol": 1e-10}
    exact = model.solve((0, 0.9), solver="rodas5p", rtol=1e-12, **options | {"atol": 1e-14}).z[-1]
    for rtol in (1e-5, 1e-7, 1e-9):
        stats_of = model.solve((0, 0.9), solver="esdirk54", rtol=rtol, **options)
        error = np.linalg.norm(stats_of.z[-1] - exact) / np.linalg.norm(exact)
        assert error < 100 * rtol
        assert stats_of.stats.nfev > 1.5 * stats_of.stats.steps * 7


def test_a_slow_component_does_not_hide_behind_fast_ones():
    # The Jacobian of the transient in s damps p: with it the corrections of p are 500 times too
    # small, and the rate is that of s, whose corrections are large and exact.
    p, q, s = sp.symbols("p q s")
    model = symode.Model(
        {p: -448.8 * p * s + 411.0 * s + 0.00142, q: -0.00113 * q, s: 0.00113 * q - 411.0 * s},
        parameters=[],
    )
    options = {"z0": [0.9555, 0.1221, 0.3353], "times": [88.8]}
    exact = model.solve((0, 88.8), solver="radau13", rtol=1e-12, atol=1e-16, **options).z[-1]
    for solver in SOLVERS:
        for rtol in (1e-4, 1.56e-7, 1e-9):
            found = model.solve((0, 88.8), solver=solver, rtol=rtol, atol=1e-3 * rtol, **options).z[
                -1
            ]
            assert np.linalg.norm(found - exact) < 100 * rtol * np.linalg.norm(exact)


# -- transposes ----------------------------------------------------------------------------------


@needs_entries
@every_solver
@pytest.mark.parametrize("name", ["robertson_t40", "hires", "lotka_volterra_10_times"])
@pytest.mark.parametrize("rtol", [1e-4, 1e-7])
def test_the_adjoint_is_the_transpose_of_solved_stages(solver, name, rtol):
    subject = subject_of(ENTRIES[name], solver, rtol=rtol, atol=rtol * 1e-2)
    # Rounding, through matrices of condition up to 1e4; measured 1e-13.
    assert dot_product_errors(subject).max() < 1e-12
    check = check_dot_product(subject)
    assert check.passed
    assert "unfinished" in check.summary


@every_solver
def test_observations_between_steps_are_transposed_through_the_interpolant(solver):
    model, loss, span, theta = DRIVEN
    task = make_task(model.equations, loss, span, from_initial=True, solver=solver, rtol=1e-5)
    assert dot_product_errors(Subject(task, DiscreteAdjoint(), np.array(theta), None)).max() < 1e-13


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_every_gradient_method_verifies(method):
    model, loss, span, theta = DRIVEN
    report = symode.verify(model, loss, span, theta, method=method, solver="esdirk54")
    assert report.passed, str(report)


@every_solver
def test_unfinished_iterations_move_a_gradient_by_less_than_the_tolerance_does(solver):
    model, loss, span, theta = DRIVEN
    reference = model.gradient(loss, span, theta=theta, solver="dop853", rtol=1e-13, atol=1e-15)
    for rtol in (1e-5, 1e-7, 1e-9):
        found = model.gradient(loss, span, theta=theta, solver=solver, rtol=rtol, atol=rtol * 1e-2)
        gap = np.linalg.norm(found.theta - reference.theta) / np.linalg.norm(reference.theta)
        assert gap < 100 * rtol


# -- tableaus ------------------------------------------------------------------------------------


def test_a_method_that_is_not_a_stable_is_refused():
    # gamma = 0.1 in the two-stage method of order 2: R leaves the unit disk on the imaginary axis.
    gamma = 0.1
    a = [[0, 0, 0], [gamma, gamma, 0], [0.5 - gamma / 2 - 0.25, 0.5 - gamma / 2 + 0.25, gamma]]
    with pytest.raises(TableauError):
        DirkTableau(
            name="loose", order=1, embedded_order=0, a=a, c=np.sum(a, axis=1), e=[0, 0, 1],
            dense=np.array(a)[-1:].T, dense_order=1, source="a counterexample",
        )  # fmt: skip


def test_a_matrix_with_two_diagonals_is_refused():
    with pytest.raises(TableauError, match="diagonal"):
        DirkTableau(
            name="two", order=1, embedded_order=0, a=[[0, 0, 0], [0.5, 0.5, 0], [0, 0.6, 0.4]],
            c=[0, 1, 1], e=[0, 0, 1], dense=[[0], [0.6], [0.4]], dense_order=1, source="none",
        )  # fmt: skip


def test_error_weights_see_the_share_of_a_transient_that_was_asked_for():
    a = get_method("esdirk54").a
    for share in (0.0, -0.2, 0.4):
        e = damped_error_weights(a, 4, 1e-3, share)
        z = -1e9
        seen = z * e @ np.linalg.solve(np.eye(8) - z * a, np.ones(8))
        assert seen == pytest.approx(-share, abs=1e-6) or seen == pytest.approx(share, abs=1e-6)


def test_the_interpolant_ends_at_the_step_and_is_bounded_for_every_stiffness():
    a = get_method("esdirk54").a
    dense = stage_value_dense(a, order=4, stiff_order=4)
    assert dense.sum(axis=1) == pytest.approx(a[-1], abs=1e-12)
    s = np.linspace(0, 1, 21)
    weights = dense @ s[None, :] ** np.arange(1, dense.shape[1] + 1)[:, None]
    for z in (*-np.logspace(-2, 8, 21), *1j * np.logspace(-2, 8, 21)):
        inside = 1 + z * np.linalg.solve(np.eye(8) - z * a, np.ones(8)) @ weights
        assert np.abs(inside).max() < 1.2
