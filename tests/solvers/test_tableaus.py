"""Every method has the order it states, and no wrong digit gets past its tableau."""

import pickle
import time
from dataclasses import fields, replace
from fractions import Fraction
from importlib import import_module

import numpy as np
import pytest
from scipy import integrate

from symode.errors import OptionError, TableauError
from symode.solvers.chebyshev import ChebyshevTableau
from symode.solvers.collocation import CollocationTableau
from symode.solvers.dirk_tableau import DirkTableau
from symode.solvers.methods import METHODS, get_method
from symode.solvers.tableau import ExplicitTableau, nested_dense
from symode.solvers.trees import rooted_trees, stage_weights

TABLEAUS = [get_method(name) for name in METHODS]
EXPLICIT = [t for t in TABLEAUS if isinstance(t, ExplicitTableau)]
RODAS5P = get_method("rodas5p")

# Families of methods take too long to be made for every entry: see test_chebyshev.py.
SINGLE = [t for t in TABLEAUS if not isinstance(t, ChebyshevTableau)]

every_method = pytest.mark.parametrize("method", TABLEAUS, ids=lambda m: m.name)
every_single = pytest.mark.parametrize("method", SINGLE, ids=lambda m: m.name)
every_explicit = pytest.mark.parametrize("method", EXPLICIT, ids=lambda m: m.name)


# Nonlinear, non-autonomous, coupled, smooth, and solved by (1 / (1 + t^2), exp(sin t)).
def f(t, z):
    shrink = np.exp(-np.sin(t))
    return np.array(
        [
            -2 * t * shrink * z[0] ** 2 * z[1],
            np.cos(t) * shrink * (1 + t * t) * z[0] * z[1] ** 2,
        ]
    )


def dfdz(t, z):
    return np.array([[2.0, 1.0], [1.0, 2.0]]) * f(t, z)[:, None] / z


def dfdt(t, z):
    logarithmic = np.array(
        [1 / t - np.cos(t), -np.tan(t) - np.cos(t) + 2 * t / (1 + t * t)],
    )
    return f(t, z) * logarithmic


def exact(t):
    return np.array([1 / (1 + t * t), np.exp(np.sin(t))])


def explicit_stages(method, f, t, z, h):
    k = np.zeros((method.n_dense, len(z)))
    for i in range(method.n_dense):
        k[i] = f(t + method.c[i] * h, z + h * method.a[i] @ k)
    return h * k, method.b, method.e[0]


def rosenbrock_stages(method, f, dfdz, dfdt, t, z, h):
    matrix = np.eye(len(z)) / (h * method.gamma) - dfdz(t, z)
    u = np.zeros((len(method.m), len(z)))
    for i in range(len(method.m)):
        right = f(t + method.alpha[i] * h, z + method.a[i] @ u) + method.C[i] @ u / h
        u[i] = np.linalg.solve(matrix, right + h * method.d[i] * dfdt(t, z))
    return u, method.m, method.e


def collocation_stages(method, f, dfdz, t, z, h):
    """Return increments with the slope at the start, which the error needs, as a last row."""
    s, n = len(method.c), len(z)
    inverse, found = np.linalg.inv(method.a), np.zeros((s, n))
    for _ in range(20):
        residual = np.array([f(t + method.c[i] * h, z + found[i]) for i in range(s)])
        matrix = np.kron(inverse / h, np.eye(n))
        for i in range(s):
            block = slice(i * n, (i + 1) * n)
            matrix[block, block] -= dfdz(t + method.c[i] * h, z + found[i])
        residual -= inverse @ found / h
        found += np.linalg.solve(matrix, residual.ravel()).reshape(s, n)
    stages = np.vstack([found, h * method.gamma0 * f(t, z)])
    return stages, np.eye(s + 1)[s - 1], np.append(method.e, 1.0)


def dirk_stages(method, f, dfdz, t, z, h, slope=None):
    k = np.zeros((method.n_stages, len(z)))
    k[0] = f(t, z) if slope is None else slope
    matrix = np.eye(len(z))
    for i in range(1, method.n_stages):
        at, psi = t + method.c[i] * h, z + h * method.a[i, :i] @ k[:i]
        k[i] = k[i - 1]
        for _ in range(20):
            inner = psi + h * method.gamma * k[i]
            move = np.linalg.solve(matrix - h * method.gamma * dfdz(at, inner), f(at, inner) - k[i])
            k[i] += move
            if np.abs(move).max() <= 1e-14 * np.abs(k[i]).max():
                break
    return h * k, method.b, method.e


#: The member of a family that stands for all.
MEMBER = 6


def stabilised_stages(method, f, t, z, h):
    a, c, e = method.runge_kutta(MEMBER)
    k = np.zeros((len(c), len(z)))
    for i in range(len(c)):
        k[i] = f(t + c[i] * h, z + h * a[i] @ k)
    return h * k, a[-1], e


def stages_of(method, t, z, h):
    if isinstance(method, CollocationTableau):
        return collocation_stages(method, f, dfdz, t, z, h)
    if isinstance(method, ChebyshevTableau):
        return stabilised_stages(method, f, t, z, h)
    if isinstance(method, ExplicitTableau):
        return explicit_stages(method, f, t, z, h)
    if isinstance(method, DirkTableau):
        return dirk_stages(method, f, dfdz, t, z, h)
    return rosenbrock_stages(method, f, dfdz, dfdt, t, z, h)


def interpolant_weights(method, s):
    if isinstance(method, CollocationTableau):
        return np.append(method.dense @ s ** np.arange(1, len(method.c) + 1), 0.0)
    weights = method.dense @ s ** np.arange(1, method.dense.shape[1] + 1)
    if isinstance(method, ChebyshevTableau):
        # Rows: the slope, the mean slope of the step, the slope at its end.
        b = method.runge_kutta(MEMBER)[0][-1]
        first, last = np.eye(len(b))[[0, -1]]
        return weights[0] * first + weights[1] * b + weights[2] * last
    return weights


def slope(h, errors):
    return np.polyfit(np.log(h), np.log(errors), 1)[0]


def step_counts(method):
    # Fine enough to be asymptotic, coarse enough that order 8 and more stay above rounding.
    if method.order > 8:
        return np.array([3, 4, 6]) if method.order < 13 else np.array([2, 3, 4])
    return np.array([10, 14, 20]) if method.order > 5 else np.array([40, 80, 160])


def global_errors(method, n_steps, at=(0.2, 0.4, 0.6, 0.8)):
    h, t, z = 1.5 / n_steps, 0.2, exact(0.2)
    step_error = dense_error = 0.0
    for _ in range(n_steps):
        stages, b, _ = stages_of(method, t, z, h)
        for s in at:
            between = z + interpolant_weights(method, s) @ stages
            dense_error = max(dense_error, np.abs(between - exact(t + s * h)).max())
        z = z + b @ stages
        t += h
        step_error = max(step_error, np.abs(z - exact(t)).max())
    return step_error, dense_error


# Slopes are bounded from below: methods tuned to small leading errors meet their order from
# above (5(4) pairs at 5.4, Vern7 at 8 here). That no order is higher than stated is proved by
# `test_a_higher_order_cannot_be_claimed`.
@every_method
def test_global_error_falls_at_the_stated_order(method):
    n = step_counts(method)
    step_errors, dense_errors = np.transpose([global_errors(method, k) for k in n])
    if method.order > 9:
        # The interpolant is far coarser than the steps, and meets its order on finer ones.
        dense_errors = np.array([global_errors(method, 4 * k)[1] for k in n])
    assert slope(1.0 / n, step_errors) > method.order - 0.3
    assert slope(1.0 / n, dense_errors) > min(method.order, method.dense_order + 1) - 0.3


@every_method
def test_local_errors_fall_one_order_faster(method):
    # Sums over several places: at one place, a leading error term may be small by accident.
    steps = np.array([0.16, 0.13, 0.1]) if method.order > 5 else np.array([0.02, 0.01, 0.005])
    places = np.linspace(0.3, 0.8, 6)
    estimates, between = np.zeros(len(steps)), np.zeros(len(steps))
    for i, h in enumerate(steps):
        for t in places:
            stages, _, e = stages_of(method, t, exact(t), h)
            estimates[i] += np.abs(e @ stages).sum()
            for s in (0.35, 0.65):
                at = exact(t) + interpolant_weights(method, s) @ stages
                between[i] += np.abs(at - exact(t + s * h)).sum()
    # The first error row of DOP853 is of order 5, alone it does not reach embedded_order.
    embedded = 5 if method.name == "dop853" else method.embedded_order
    assert slope(steps, estimates) == pytest.approx(embedded + 1, abs=0.35)
    # The solution's poles, at distance 1, delay the asymptotic slope of high orders.
    assert slope(steps, between) > method.dense_order + 1 - (0.35 if method.order > 8 else 0.3)


@every_single
def test_every_entry_of_every_array_is_guarded(method):
    unnoticed = []
    for field in fields(method):
        value = getattr(method, field.name)
        if not isinstance(value, np.ndarray):
            continue
        for at in np.ndindex(value.shape):
            wrong = value.copy()
            wrong[at] += 1e-6
            try:
                replace(method, **{field.name: wrong})
            except TableauError:
                continue
            unnoticed.append((field.name, at))
    assert unnoticed == []


@every_method
@pytest.mark.parametrize("field", ["order", "embedded_order", "dense_order"])
def test_a_higher_order_cannot_be_claimed(method, field):
    with pytest.raises(TableauError, match=method.name):
        replace(method, **{field: getattr(method, field) + 1})


@every_explicit
def test_a_wrong_stability_limit_is_refused(method):
    for factor in (1 - 1e-6, 1 + 1e-6):
        with pytest.raises(TableauError, match="stability"):
            replace(method, stability=factor * method.stability)


@every_method
@pytest.mark.parametrize("entry", [np.nan, np.inf])
def test_entries_that_are_not_finite_are_refused(method, entry):
    wrong = method.a.copy()
    wrong[1, 0] = entry
    with pytest.raises(TableauError, match="not finite"):
        replace(method, a=wrong)


@every_explicit
def test_the_interpolant_is_continuously_differentiable(method):
    powers = np.arange(1, method.dense.shape[1] + 1)
    at_0, at_1 = method.dense[:, 0], method.dense @ powers
    new = np.eye(method.n_dense)[method.n_stages - 1]
    assert at_0 == pytest.approx(np.eye(method.n_dense)[0], abs=1e-12)
    assert at_1 == pytest.approx(new, abs=1e-11)


@pytest.mark.parametrize(
    ("name", "judge"),
    [("bosh3", "RK23"), ("dopri5", "RK45"), ("dop853", "DOP853")],
)
def test_steps_and_interpolants_agree_with_scipy(name, judge):
    method = get_method(name)
    solver = getattr(integrate, judge)(f, 0.3, exact(0.3), 1.0, first_step=0.01)
    solver.step()
    h = solver.t - 0.3
    stages, b, _ = explicit_stages(method, f, 0.3, exact(0.3), h)
    assert exact(0.3) + b @ stages == pytest.approx(solver.y, rel=1e-14)
    for s in (0.25, 0.5, 0.75):
        between = exact(0.3) + interpolant_weights(method, s) @ stages
        assert between == pytest.approx(solver.dense_output()(0.3 + s * h), rel=1e-14)


def test_dop853_error_rows_are_of_order_5_and_3():
    trees = rooted_trees(8)
    residuals = np.abs(stage_weights(trees, get_method("dop853").a) @ get_method("dop853").e.T)
    for row, order in enumerate((5, 3)):
        assert residuals[trees.up_to(order), row].max() < 1e-13
        assert residuals[trees.order == order + 1, row].max() > 1e-5


def test_rodas5p_is_l_stable():
    alpha, gamma_matrix = RODAS5P.untransformed()
    b, beta, ones = RODAS5P.m @ gamma_matrix, alpha + gamma_matrix, np.ones(8)
    y = np.concatenate([np.logspace(-3, 5, 400), -np.logspace(-3, 5, 400)])
    on_axis = [abs(1 + 1j * v * b @ np.linalg.solve(np.eye(8) - 1j * v * beta, ones)) for v in y]
    assert max(on_axis) <= 1 + 1e-12
    assert abs(RODAS5P.stability_at_infinity()) < 1e-13


@pytest.mark.parametrize("stiffness", [1e4, 1e6])
def test_rodas5p_on_prothero_robinson(stiffness):
    # Classical order 5 drops to 3 here, with an error constant of 1/stiffness
    # (so no digit is lost); the interpolant keeps its order 4 between steps.
    def g(t, z):
        return -stiffness * (z - np.sin(t + 0.3)) + np.cos(t + 0.3)

    def dgdz(t, z):
        return np.array([[-stiffness]])

    def dgdt(t, z):
        return np.array([stiffness * np.cos(t + 0.3) - np.sin(t + 0.3)])

    steps, ends, middles = 2.0 / np.array([5, 10, 20]), [], []
    for h in steps:
        t, z, end, middle = 0.0, np.sin([0.3]), 0.0, 0.0
        while t < 2.0 - h / 2:
            stages, m, _ = rosenbrock_stages(RODAS5P, g, dgdz, dgdt, t, z, h)
            between = z + interpolant_weights(RODAS5P, 0.5) @ stages
            middle = max(middle, abs(between[0] - np.sin(t + h / 2 + 0.3)))
            z, t = z + m @ stages, t + h
            end = max(end, abs(z[0] - np.sin(t + 0.3)))
        ends.append(end)
        middles.append(middle)
    assert slope(steps, ends) == pytest.approx(3, abs=0.3)
    assert np.all(np.array(ends) < 0.02 * steps**3 / stiffness)
    assert slope(steps, middles) == pytest.approx(4, abs=0.3)


def test_rodas5p_keeps_order_5_in_the_limit_of_stiffness():
    # Kaps' problem, z = (exp(-2t), exp(-t)) whatever the stiffness: close to a differential-
    # algebraic system of index 1, whose order conditions Rodas5P meets. (Where h is so small
    # that h**2 / stiffness dominates, its slope is 2; measured 5.9 here.)
    stiffness = 1e10

    def g(t, z):
        return np.array([-(stiffness + 2) * z[0] + stiffness * z[1] ** 2, z[0] - z[1] * (1 + z[1])])

    def dgdz(t, z):
        return np.array([[-(stiffness + 2), 2 * stiffness * z[1]], [1.0, -1 - 2 * z[1]]])

    def dgdt(t, z):
        return np.zeros(2)

    steps, errors = np.array([0.5, 0.25, 0.125]), []
    for h in steps:
        t, z = 0.0, np.ones(2)
        while t < 1.0 - h / 2:
            stages, m, _ = rosenbrock_stages(RODAS5P, g, dgdz, dgdt, t, z, h)
            z, t = z + m @ stages, t + h
        errors.append(np.abs(z - np.exp([-2.0, -1.0])).max())
    assert slope(steps, errors) > 4.7


def test_rooted_trees_are_counted_and_weighed_right():
    # OEIS A000081. The densities satisfy sum of 1/(symmetry * density) = 1/n!-type identities;
    # here: exponential series, all chains and all bushes.
    trees = rooted_trees(9)
    assert [int((trees.order == p).sum()) for p in range(1, 10)] == [
        1, 1, 2, 4, 9, 20, 48, 115, 286,
    ]  # fmt: skip
    for p in range(2, 10):
        densities = trees.density[trees.order == p]
        assert densities.max() == float(Fraction(np.prod(np.arange(1, p + 1, dtype=object))))
        assert densities.min() == p


def test_order_conditions_accept_gauss_and_no_more():
    # An implicit method with known order 4 judges trees and weights independently.
    r = 3.0**0.5
    a = np.array([[1 / 4, 1 / 4 - r / 6], [1 / 4 + r / 6, 1 / 4]])
    trees = rooted_trees(5)
    residuals = np.abs(stage_weights(trees, a) @ [0.5, 0.5] - 1 / trees.density)
    assert residuals[trees.up_to(4)].max() < 1e-15
    assert residuals[trees.order == 5].max() > 1e-3


@every_method
def test_a_tableau_is_a_frozen_value(method):
    twin = pickle.loads(pickle.dumps(method))
    assert twin == method
    assert hash(twin) == hash(method)
    assert method not in [other for other in TABLEAUS if other is not method]
    for value in (method, twin):
        with pytest.raises(ValueError, match="read-only"):
            value.dense[0, 0] = 2.0
    assert method.source


@every_single
def test_construction_is_cheap(method):
    load = import_module(f"symode.solvers.methods.{method.name}").load
    times = []
    for _ in range(10):
        load.cache_clear()
        start = time.perf_counter()
        load()
        times.append(time.perf_counter() - start)
    # The budget of 5 ms is for the import of the package; measured 0.1 to 0.3 ms.
    assert min(times) < 5e-3


def test_methods_are_found_in_any_case_and_cached():
    assert get_method("TSIT5") is get_method("tsit5")
    assert [get_method(name).name for name in METHODS] == list(METHODS)


@pytest.mark.parametrize("name", ["tsit6", "", "os", "../tsit5", " tsit5"])
def test_an_unknown_method_is_refused_with_the_names_that_exist(name):
    with pytest.raises(OptionError, match=", ".join(METHODS)):
        get_method(name)


@pytest.mark.parametrize("factors", ["s", "tst", "sxt", ""])
def test_nested_dense_refuses_factors_that_do_not_fit(factors):
    with pytest.raises(TableauError, match="nested terms"):
        nested_dense(np.ones((3, 2)), factors)
