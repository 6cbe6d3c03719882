"""The reference is right to 30 digits, says how right it is, and says why where it is not made."""

import numpy as np
import pytest
import sympy as sp
from cases import CASES, DRIVEN, LOSSES
from gradients.reference import ENTRIES, needs_entries

import symode
from symode.gradients.value_and_grad import make_task
from symode.gradients.verify.closed_form import exact_gradient
from symode.gradients.verify.reference import NoSeriesError, make_reference
from symode.gradients.verify.solutions import solve_equations

X, K, T = sp.symbols("x k t")


def reference(model, loss, span, theta, z0=None, **options):
    task = make_task(model.equations, loss, span, from_initial=z0 is None)
    start = None if z0 is None else np.array(z0, dtype=float)
    return make_reference(task, np.array(theta, dtype=float), start, **options)


def test_thirty_digits_of_a_closed_form():
    # J = x(1)**2 = 4 e^(-2k): dJ/dk = -2 J, at the double nearest to 0.7.
    model = symode.Model({X: -K * X}, parameters=[K], time=T)
    found = reference(model, symode.Loss(terminal=X**2), (0, 1), [0.7], [2.0])
    true = 4 * sp.exp(-2 * sp.Rational(0.7)).evalf(50)
    assert abs(sp.Float(str(found.value), 50) / true - 1) < 1e-30
    assert abs(sp.Float(str(found.theta[0]), 50) / (-2 * true) - 1) < 1e-30
    assert abs(sp.Float(str(found.t1), 50) / (-2 * sp.Rational(0.7) * true) - 1) < 1e-30
    assert found.digits >= 30


@pytest.mark.parametrize("initial", [False, True], ids=["z0", "z0(theta)"])
@pytest.mark.parametrize("name", ["decay", "oscillator", "logistic"])
def test_every_derivative_is_that_of_the_closed_form(name, initial):
    (case,) = (c for c in CASES if c.name == name)
    for way in (case, case.reversed()):
        loss = symode.Loss(**LOSSES["mixed"](way))
        z0 = None if initial else np.array(way.z0)
        task = make_task(way.model.equations, loss, way.span, from_initial=initial)
        theta = np.array(way.theta)
        solution = solve_equations(way.model.equations)
        value, gradient = exact_gradient(task, solution, theta, z0)
        found = make_reference(task, theta, z0)
        numbers = [float(v) for v in (*found.theta, *found.z0, found.t0, found.t1)]
        # Both round to doubles.
        assert numbers == pytest.approx(gradient, rel=1e-14, abs=1e-15)
        assert float(found.value) == pytest.approx(value, rel=1e-14)


@needs_entries
@pytest.mark.parametrize("name", [n for n, e in ENTRIES.items() if not e.is_stiff])
def test_references_of_others_agree(name):
    entry = ENTRIES[name]
    found = reference(entry.model, entry.loss, entry.span, entry.theta, entry.z0)
    gap = found.vector - entry.gradient
    # Theirs hold 16 digits, at exact decimals; ours, at the doubles next to them.
    assert np.linalg.norm(gap) <= 1e-14 * np.linalg.norm(entry.gradient)
    assert found.digits >= 30


FUNCTIONS = [
    sp.exp(-X * K), sp.log(1 + X**2) * K, sp.sin(K * X), sp.cos(X) * K, sp.tan(X / 3) * K,
    sp.asin(X / 9) * K, sp.acos(X / 9) * K, sp.atan(K * X), sp.atan2(X, K), sp.sinh(X / 5) * K,
    sp.cosh(X / 5) * K, sp.tanh(K * X), sp.asinh(K * X), sp.acosh(1 + X) * K, sp.atanh(X / 9) * K,
    1 / (1 + sp.exp(-K * X)), sp.log(sp.exp(X) + sp.exp(K)), sp.erf(K * X), sp.erfc(K * X),
    X**K / 4, sp.sqrt(X) * K, X ** sp.Rational(5, 3) * K / 9, K ** (X / 3), sp.gamma(K) * X / 4,
    sp.loggamma(K) * X, X**5 / 200 * K, K / X**3, X / (K + X) + sp.sin(T), sp.Abs(K) * X,
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_every_function_has_its_series(function):
    model = symode.Model({X: function - X / 2}, parameters=[K], time=T, initial={X: 1.3})
    loss = symode.Loss(terminal=X**2, running=sp.cos(X) * K)
    found = reference(model, loss, (0, 0.7), [1.7], digits=16)
    g = model.gradient(loss, (0, 0.7), [1.7], solver="dop853", rtol=1e-12, atol=1e-14)
    numbers = [float(v) for v in (found.value, found.theta[0], found.t0, found.t1)]
    assert numbers == pytest.approx([g.value, g.theta["k"], g.t0, g.t1], rel=1e-9)


@pytest.mark.parametrize(
    ("function", "why"),
    [(sp.Abs(X) * K, "kink"), (sp.Max(X, K), "kink"), (sp.gamma(X + 2) * K, "gamma"),
     (sp.sqrt(X - 1), "power|finite|agree")],
)  # fmt: skip
def test_what_has_no_series_is_refused_with_the_reason(function, why):
    model = symode.Model({X: function}, parameters=[K], time=T, initial={X: 1})
    with pytest.raises(NoSeriesError, match=why):
        reference(model, symode.Loss(terminal=X), (0, 1), [0.5])


def test_a_stiff_problem_is_solved_by_collocation():
    y = sp.Symbol("y")
    model = symode.Model({X: -1e6 * K * (X - sp.cos(T)), y: -X}, parameters=[K], time=T)
    report = symode.verify(
        model, symode.Loss(terminal=X + y), (0, 10), [1.3], [1.2, 0.0], solver="rodas5p",
        checks=["reference"],
    )  # fmt: skip
    assert report["reference"].passed and not report["reference"].skipped
    assert "Radau collocation" in report["reference"].summary
    assert report.passed


def test_verify_measures_the_error_itself():
    model, loss, span, theta = DRIVEN
    report = symode.verify(
        model, loss, span, theta, rtol=1e-5, atol=1e-7, solver="bosh3", checks=["reference"]
    )
    tight = model.gradient(loss, span, theta, solver="dop853", rtol=1e-13, atol=1e-15)
    found = model.gradient(loss, span, theta, solver="bosh3", rtol=1e-5, atol=1e-7)
    for entry, own, true in zip(report.entries, found.theta, tight.theta, strict=False):
        assert entry.value == own
        assert entry.digits == pytest.approx(-np.log10(abs(own / true - 1)), abs=0.05)
