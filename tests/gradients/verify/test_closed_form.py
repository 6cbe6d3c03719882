"""Closed forms are found where there are any, checked, compared, and never waited for."""

import time

import numpy as np
import pytest
import sympy as sp
from cases import CASES, LOSSES, exact

import symode
import symode.gradients.verify.closed_form as module
from symode.gradients.value_and_grad import make_task
from symode.gradients.verify.solutions import NoSolutionError, solve_equations

X, Y, Z, K, A, T = sp.symbols("x y z k a t")


@pytest.mark.parametrize("name", ["decay", "oscillator", "logistic", "linear"])
@pytest.mark.parametrize("initial", [False, True])
def test_the_exact_gradient_is_that_of_known_flows(name, initial):
    (case,) = (c for c in CASES if c.name == name)
    known = exact(name, "observations", from_initial=initial)
    task = make_task(
        case.model.equations, symode.Loss(**LOSSES["observations"](case)), case.span,
        from_initial=initial,
    )  # fmt: skip
    z0 = None if initial else np.array(case.z0)
    solution = solve_equations(case.model.equations)
    value, gradient = module.exact_gradient(task, solution, np.array(case.theta), z0)
    assert value == pytest.approx(known.value, rel=1e-14)
    found = np.concatenate([known.theta, known.z0, [known.t0, known.t1]])
    assert gradient == pytest.approx(found, rel=1e-13, abs=1e-14)


SOLVABLE = [
    ({X: -K * X + sp.sin(T)}, "linear"),
    ({X: K * X * (1 - X / A)}, "Bernoulli"),
    ({X: -K * X**3 + A * X}, "Bernoulli"),
    ({X: -K * sp.sqrt(X)}, "separable"),
    ({X: -K * X, Y: K * X - A * Y}, "cascade"),
    ({X: -K * X + A * Y, Y: X - Y}, "constant coefficients"),
    ({X: -K * X + A * Y, Y: X - Y + 1, Z: Y - X}, "constant coefficients"),
]


@pytest.mark.parametrize(("rhs", "kind"), SOLVABLE, ids=str)
def test_verify_compares_with_the_exact_gradient(rhs, kind):
    names = sorted(set().union(*(e.free_symbols for e in rhs.values())) - {*rhs, T}, key=str)
    model = symode.Model(rhs, parameters=names, time=T)
    theta, z0 = [0.7, 0.45][: len(names)], [0.6, 0.8, 0.5][: len(rhs)]
    loss = symode.Loss(terminal=X**2 * names[0], observations={0.4: X * T})
    report = symode.verify(model, loss, (0.1, 0.9), theta, z0, checks=["closed form"])
    check = report["closed form"]
    assert not check.skipped and kind in check.summary, str(check)
    assert check.digits > 8


@pytest.mark.parametrize(
    ("rhs", "why"),
    [({X: X * Y, Y: -X * Y}, "coupled"), ({X: sp.Abs(X)}, "kink"),
     ({X: Y + sp.sin(T), Y: -X}, "driven"), ({X: sp.sin(X * T)}, "neither")],
)  # fmt: skip
def test_a_hard_model_is_left_out_with_its_reason(rhs, why):
    model = symode.Model(rhs, parameters=[], time=T)
    with pytest.raises(NoSolutionError, match=why):
        solve_equations(model.equations)


def test_a_slow_solution_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(module, "solve_equations", lambda equations: all(iter(lambda: True, 0)))
    monkeypatch.setattr(module, "BUDGET", 0.3)
    model = symode.Model({X: -K * X}, parameters=[K])
    begun = time.perf_counter()
    report = symode.verify(
        model, symode.Loss(terminal=X), (0, 1), [0.5], [1.0], checks=["closed form"]
    )
    assert report["closed form"].skipped and "within" in report["closed form"].summary
    assert time.perf_counter() - begun < 60


def test_a_wrong_solution_is_refused_by_its_own_equation(monkeypatch):
    right = solve_equations

    def wrong(equations):
        found = right(equations)
        make = lambda mp: lambda t, t0, z0, p: [z0[0] * mp.exp(p[0] * (t - t0))]  # noqa: E731
        return type(found)(found.kind, found.formulas, make)

    monkeypatch.setattr(module, "solve_equations", wrong)
    model = symode.Model({X: -K * X}, parameters=[K])
    report = symode.verify(
        model, symode.Loss(terminal=X), (0, 1), [0.5], [1.0], checks=["closed form"]
    )
    assert report["closed form"].skipped
    assert "does not solve" in report["closed form"].summary
