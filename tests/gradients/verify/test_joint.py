"""verify on a composite: proved, compared with closed form and series, and taken apart."""

from itertools import islice

import numpy as np
import pytest
import sympy as sp
from gradients.mutation import mutants

import symode
import symode.gradients.verify.theorem as theorem
from symode import Composite, Loss
from symode.gradients.setup import make_task
from symode.gradients.verify.proof import prove

X, Y, A, B, T, U, V, W = sp.symbols("x y a b t u v w")
MODEL = symode.Model(
    {X: A * X - B * X * Y + sp.sin(T) / 5, Y: X * Y / 2 - A * Y**2},
    parameters=[A, B], time=T, initial={X: 1 + A / 4 + T / 5, Y: B + A * T / 3},
)  # fmt: skip
LOSS = Composite(
    sp.log(U) * V / (A + W**2),
    {
        U: (0.9, X**2 * A),
        V: Loss(running=B * X**2 + Y / 3, observations=[(1.4, Y), (0.2, X * T)]),
        W: Loss(running=Y * T, terminal=X * Y + A, observations={2.0: X}),
    },
)
SPAN, THETA = (0.2, 2.0), (0.8, 0.6)
LINEAR = symode.Model({X: -A * X + B}, parameters=[A, B], time=T, initial={X: 2 * B + T})
RATIO = Composite(A * U / V, {U: Loss(running=X, terminal=T * X), V: (0.5, X**2)})


def test_every_check_passes_and_the_proof_is_symbolic():
    report = symode.verify(MODEL, LOSS, SPAN, THETA, rtol=1e-9, atol=1e-11, precise=True)
    assert report.passed, str(report)
    assert report["reference"].digits > 7 and report["second order"].digits > 8
    proofs = report.derivation.proofs()
    assert "end conditions, and the weights of the parts: proved by SymPy" in proofs
    for words in (r"\mathrm{d}J", "w_{u}", "Weights of the parts"):
        assert words in report.derivation.latex()
    assert "<svg" in report.html()


def test_a_closed_form_is_composed_too():
    report = symode.verify(LINEAR, RATIO, (0, 1), [0.7, 0.4], rtol=1e-10, atol=1e-12)
    assert report.passed
    assert report["closed form"].digits > 9 and report["reference"].digits > 9


@pytest.mark.parametrize("what", ["derive_joint", "lift_observation"])
def test_a_mutant_of_the_function_is_false(what, monkeypatch):
    original = getattr(theorem, what)
    first = 1
    for change in range(0, 12, 3):

        def broken(*arguments, change=change):
            found = list(islice(mutants(original(*arguments), first, inner=False), change + 1))
            return found[-1][1]

        monkeypatch.setattr(theorem, what, broken)
        task = make_task(MODEL.equations, LOSS, SPAN, from_initial=True, solver="tsit5", rtol=1e-6)
        assert "false" in {s.how for s in prove(task)}, change


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("dropped part", "the part v is dropped"),
        ("no weight", "the factor dJ/dv"),
        ("no weights", "all factors dJ/d(part)"),
        ("explicit", "explicit dependence of the function"),
    ],
)
def test_what_is_wrong_with_a_claimed_gradient_is_told(wrong, said):
    # The exact parts: dJ = sum of weights times the parts' gradients, and dg/da.
    options = {"theta": THETA, "rtol": 1e-10, "atol": 1e-12}
    true = np.asarray(MODEL.gradient(LOSS, SPAN, **options).theta)
    parts = {U: Loss(observations={0.9: X**2 * A}),
             V: Loss(running=B * X**2 + Y / 3, observations=[(1.4, Y), (0.2, X * T)]),
             W: Loss(running=Y * T, terminal=X * Y + A, observations={2.0: X})}  # fmt: skip
    rows = MODEL.jacobian(parts, SPAN, **options)
    at = {**dict(zip(parts, np.asarray(rows.values), strict=True)), A: THETA[0]}
    g = LOSS.expression
    weights = np.array([float(g.diff(s).subs(at)) for s in parts])
    theta = np.asarray(rows.theta)
    explicit = np.array([float(g.diff(A).subs(at)), 0.0])
    assert true == pytest.approx(weights @ theta + explicit, rel=1e-8)
    claimed = {
        "dropped part": true - weights[1] * theta[1],
        "no weight": true + (1 - weights[1]) * theta[1],
        "no weights": explicit + theta.sum(axis=0),
        "explicit": true - explicit,
    }[wrong]
    report = symode.verify(
        MODEL, LOSS, SPAN, THETA, rtol=1e-9, atol=1e-11, claimed=claimed, checks=["methods"]
    )
    assert said in report["claimed"].details[0]
