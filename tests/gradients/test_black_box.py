"""Any solver serves: SciPy's by name, a user's callable, and what they return is checked."""

import numpy as np
import pytest
from cases import CASES, LOSSES, exact

import symode
from symode.errors import (
    DriftError,
    GradientError,
    OptionError,
    SolverError,
    UnsupportedCombinationError,
)
from symode.gradients.methods import JUDGES, METHODS

SERVED = [m for m in METHODS if m.name in ("backsolve", "forward")]
served = pytest.mark.parametrize("method", SERVED, ids=lambda m: m.name)


def rk4(fun, span, y0, t_eval, steps=64):
    """Return classical Runge-Kutta steps: 20 lines that know nothing of adjoints."""
    rows, t, y = [], span[0], y0
    for target in t_eval:
        h = (target - t) / steps
        for _ in range(steps):
            k1 = fun(t, y)
            k2 = fun(t + h / 2, y + h / 2 * k1)
            k3 = fun(t + h / 2, y + h / 2 * k2)
            k4 = fun(t + h, y + h * k3)
            t, y = t + h, y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        t = target
        rows.append(y)
    return np.array(rows)


def ask(case, loss, **options):
    return case.model.gradient(
        symode.Loss(**LOSSES[loss](case)), case.span, theta=case.theta,
        **{"z0": case.z0, "rtol": 1e-8, "atol": 1e-10, **options},
    )  # fmt: skip


@pytest.mark.parametrize("solver", ["scipy:Radau", "scipy:LSODA", "scipy:DOP853", rk4],
                         ids=["Radau", "LSODA", "DOP853", "callable"])  # fmt: skip
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@served
def test_a_whole_gradient_runs_through_it(method, case, loss, solver):
    known = exact(case.name, loss)
    # SciPy's error norm knows no quadratures, and holds the adjoint to the states' atol.
    found = ask(case, loss, method=method, solver=solver)
    for name in ("value", "theta", "z0", "t0", "t1", "times"):
        expected = np.asarray(getattr(known, name))
        size = max(float(np.max(np.abs(expected), initial=0.0)), 1.0)
        assert np.allclose(getattr(found, name), expected, rtol=0.0, atol=2e-6 * size), name


@served
def test_it_goes_through_the_models_initial_values_too(method):
    case = CASES[2]
    known = exact(case.name, "mixed", from_initial=True)
    found = ask(case, "mixed", method=method, solver="scipy:DOP853", z0=None)
    assert np.allclose(found.theta, known.theta, rtol=1e-6)
    assert found.t0 == pytest.approx(known.t0, rel=1e-6)


def test_a_solve_backwards_in_time():
    case = CASES[1].reversed()
    known = exact(case.name, "mixed", backwards=True)
    found = ask(case, "mixed", method="forward", solver="scipy:DOP853")
    assert np.allclose(found.theta, known.theta, rtol=1e-5)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in SERVED], ids=lambda m: m.name)
def test_methods_that_need_steps_refuse(method):
    with pytest.raises(UnsupportedCombinationError, match="black box"):
        ask(CASES[0], "terminal", method=method, solver=rk4)


@served
def test_wrong_answers_of_a_solver_are_refused(method):
    case = CASES[1]
    wrong = {
        "shape": lambda fun, span, y0, t: np.zeros((t.size + 1, y0.size)),
        r"expected \(": lambda fun, span, y0, t: rk4(fun, span, y0, t).T,
        "not finite": lambda fun, span, y0, t: rk4(fun, span, y0, t) * np.nan,
    }
    for message, solver in wrong.items():
        with pytest.raises(GradientError, match=message):
            ask(case, "mixed", method=method, solver=solver)


def test_a_solver_that_raises_is_heard():
    def breaks(fun, span, y0, t_eval):
        raise ArithmeticError("out of luck")

    with pytest.raises(SolverError, match="out of luck") as caught:
        ask(CASES[0], "terminal", solver=breaks)
    assert isinstance(caught.value.__cause__, ArithmeticError)


def test_a_failure_of_scipy_is_a_solver_error():
    import sympy as sp

    x, k = sp.symbols("x k")
    grows = symode.Model({x: k * x**2}, parameters=[k])
    with pytest.raises((SolverError, GradientError)):
        grows.gradient(symode.Loss(terminal=x), (0, 2), theta=[1.0], z0=[1.0], solver="scipy:RK45")


def test_an_inaccurate_solver_drifts_and_says_so():
    coarse = lambda fun, span, y0, t: rk4(fun, span, y0, t, steps=2)  # noqa: E731
    with pytest.raises(DriftError, match="tolerance"):
        ask(CASES[1], "terminal", solver=coarse, method="backsolve")
    looking = symode.BacksolveAdjoint(on_drift="warn")
    with pytest.warns(RuntimeWarning, match="cannot be trusted"):
        gradient = ask(CASES[1], "terminal", solver=coarse, method=looking)
    assert gradient.stats["drift"] > 100


def test_a_method_that_scipy_has_not_is_named():
    with pytest.raises(OptionError, match="Radau"):
        ask(CASES[0], "terminal", solver="scipy:radau5")


def complex_rk4(fun, span, y0, t_eval):
    """Return rk4's steps; it never asks what numbers are."""
    return rk4(fun, span, y0, t_eval, steps=24)


@pytest.mark.parametrize("solver", ["scipy:DOP853", "scipy:RK45", complex_rk4],
                         ids=["DOP853", "RK45", "callable"])  # fmt: skip
@pytest.mark.parametrize("z0", ["given", "model"])
@pytest.mark.parametrize("method", JUDGES, ids=lambda m: m.name)
def test_judges_run_through_it(method, z0, solver):
    case = CASES[1]
    known = exact(case.name, "mixed", from_initial=z0 == "model")
    found = ask(case, "mixed", method=method, solver=solver, z0=case.z0 if z0 == "given" else None)
    for name in ("value", "theta", "z0", "t0", "t1", "times"):
        expected = np.asarray(getattr(known, name))
        size = max(float(np.max(np.abs(expected), initial=0.0)), 1.0)
        assert np.allclose(getattr(found, name), expected, rtol=0.0, atol=1e-5 * size), name


def test_a_solver_of_real_numbers_refuses_the_complex_step():
    real = lambda fun, span, y0, t: np.real(rk4(fun, span, y0, t, steps=4))  # noqa: E731
    for solver in (real, "scipy:Radau"):
        with pytest.raises(UnsupportedCombinationError, match="FiniteDifference"):
            ask(CASES[0], "terminal", method="complex_step", solver=solver)


def test_backwards_in_time_by_differences():
    case = CASES[2].reversed()
    known = exact(case.name, "mixed", backwards=True)
    for method in JUDGES:
        found = ask(case, "mixed", method=method, solver=complex_rk4)
        assert np.allclose(found.theta, known.theta, rtol=1e-4)
