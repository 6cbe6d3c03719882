"""Where f jumps and no one locates the moment, there is no gradient, and an error says why."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import GradientError, SolverError
from symode.gradients.methods import JUDGES, METHODS

t, x, y, k, a = sp.symbols("t x y k a")
LOSS = symode.Loss(terminal=x**2, observations={0.4: x})
THETA = {"k": 0.7, "a": 1.3}
#: x' is -k above a and -k / 5 below: dx/dtheta jumps where x(t) = a, if it is not told so.
FALL = sp.Piecewise((-k, x > a), (-k / 5, True))
#: The same slope on both sides of the border.
BEND = sp.Piecewise((-k * a, x > a), (-k * x, True))
ALL = pytest.mark.parametrize("method", (*METHODS, *JUDGES), ids=lambda m: type(m).__name__)


def _model(rhs: sp.Expr, **options) -> symode.Model:
    return symode.Model({x: rhs}, parameters=[k, a], time=t, **options)


def _refused(model, span, z0, match: str = "jumps between t = ", **options) -> None:
    with pytest.raises(GradientError, match=match):
        model.gradient(LOSS, span, THETA, z0, **options)


@ALL
def test_a_jump_met_backwards_in_time_is_refused(method) -> None:
    _refused(_model(FALL), (1, 0), [1.25], "solve forwards", method=method)


@ALL
def test_a_jump_is_refused_where_switches_are_not_located(method) -> None:
    _refused(_model(FALL), (0, 1), [1.6], "switch_events=False", method=method,
             switch_events=False)  # fmt: skip


@pytest.mark.parametrize("solver", ["tsit5", "rodas5p", "radau5"])
def test_checkpoints_refuse_a_jump_in_any_segment(solver: str) -> None:
    method = symode.CheckpointedAdjoint(checkpoints=2, segment=3)
    for end in (0.5, 1.0, 3.0):
        _refused(_model(FALL), (0, end), [1.6], "switch_events=False", method=method,
                 solver=solver, switch_events=False)  # fmt: skip


@pytest.mark.parametrize("method", ["discrete", "forward"])
def test_a_jump_beside_a_mass_matrix_is_refused(method: str) -> None:
    model = symode.Model({x: FALL - 0 * y}, [k, a], t, algebraic={y: x - y})
    _refused(model, (0, 1), [1.6, 1.6], "mass matrix", method=method)


@pytest.mark.parametrize("method", ["backsolve", "forward"])
def test_a_jump_met_by_another_solver_is_refused(method: str) -> None:
    _refused(_model(FALL), (0, 1), [1.6], method=method, solver="scipy:RK45")


def test_a_jump_of_a_running_cost_is_refused_backwards() -> None:
    loss = symode.Loss(running=sp.Piecewise((1 + k / 50, x > a), (1, True)))
    with pytest.raises(GradientError, match="jumps between"):
        _model(-k * x).gradient(loss, (1, 0), THETA, [1.25], rtol=1e-3, atol=1e-3)


def test_rows_and_batches_meet_the_same_refusal() -> None:
    model = _model(FALL)
    with pytest.raises(GradientError, match="jumps between"):
        model.jacobian([LOSS, symode.Loss(running=x)], (1, 0), THETA, [1.25])
    with pytest.raises(GradientError, match="jumps between"):
        model.gradient(LOSS, (1, 0), THETA, [[1.05], [1.1], [1.25]], method="discrete")


@pytest.mark.parametrize("method", ["discrete", "forward"])
def test_a_failing_member_of_a_batch_is_no_keyboard_interrupt(method) -> None:
    # x' = x**2 from 1.25 blows up at t = 0.8; the others go on beyond 1, for long.
    model = symode.Model({x: k * x**2 / 0.7, y: sp.sin(900 * t) * y}, parameters=[k, a], time=t)
    members = np.ones((64, 2)) * 0.5
    members[40:, 0] = 1.25
    vg = model.value_and_grad(LOSS, t1=1, method=method)
    for _ in range(5):
        with pytest.raises(SolverError, match="blow-up"):
            vg.batch(THETA, members, workers=4)


@ALL
def test_a_jump_that_is_not_met_is_no_matter(method) -> None:
    # Backwards from 0.9 to 0.9 + 0.14: below a throughout.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = _model(FALL).gradient(LOSS, (1, 0), THETA, [0.9], method=method)
    # x(0) = 0.9 + k / 5 and x(0.4) = 0.9 + 0.6 k / 5.
    assert found.theta["k"] == pytest.approx(2 * (0.9 + 0.14) / 5 + 0.12, rel=1e-7)


@ALL
def test_a_kink_backwards_in_time_has_its_gradient(method) -> None:
    model = _model(BEND)
    found = model.gradient(LOSS, (1, 0), THETA, [1.1], method=method)

    # x = 1.1 exp(k s) up to a, s = 1 - t, then a straight line of slope k a.
    def value(kk: float, aa: float) -> float:
        def course(s: float) -> float:
            turn = np.log(aa / 1.1) / kk
            return 1.1 * np.exp(kk * s) if s < turn else aa + kk * aa * (s - turn)

        return course(1.0) ** 2 + course(0.6)

    h = 1e-5
    known = [
        (value(0.7 + h, 1.3) - value(0.7 - h, 1.3)) / (2 * h),
        (value(0.7, 1.3 + h) - value(0.7, 1.3 - h)) / (2 * h),
    ]
    # Met by error control alone, a kink costs the differences of a judge four digits more.
    rel = 1e-3 if method in JUDGES else 1e-5
    assert np.asarray(found.theta) == pytest.approx(known, rel=rel)


def test_differences_of_solves_know_of_jumps() -> None:
    model = _model(FALL)
    judge = symode.FiniteDifference(steps="resolved")
    back = model.gradient(symode.Loss(terminal=x), (1, 0), THETA, [1.25], method=judge)
    # Up by k / 5 to a = 1.3, then by k: x(0) = a + k - 5 (a - 1.25).
    assert np.asarray(back.theta) == pytest.approx([1.0, -4.0], rel=1e-5)
