"""Scalings, offsets and sigmas at their optimum: the same optimum as the full search's."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import OptionError

X, Y = sp.symbols("x y", positive=True)
A, B, C, D = sp.symbols("a b c d", positive=True)
G, H0, F, S1, S2 = sp.symbols("g o f s1 s2", positive=True)
MODEL = symode.Model(
    {X: A * X - B * X * Y, Y: D * X * Y - C * Y},
    parameters=[A, B, C, D, G, H0, F, S1, S2],
    initial={X: 3, Y: 1.5},
)
TIMES = np.linspace(0.3, 6.0, 9)
TRUTH = {"a": 0.9, "b": 0.4, "c": 0.7, "d": 0.3, "g": 20.0, "o": 6.0, "f": 0.05}
BOUNDS = {
    A: (0.05, 5), B: (0.05, 5), C: (0.05, 5), D: (0.05, 5), G: (1e-2, 1e3), H0: (0.1, 100),
    F: (1e-4, 10), S1: (1e-3, 100), S2: (1e-3, 100),
}  # fmt: skip
INNER = ["g", "o", "f", "s1", "s2"]


def problem(inner=INNER, shift: float = 0.0, **options) -> symode.Problem:
    course = MODEL.solve((0, 6), theta={**TRUTH, "s1": 1, "s2": 1}, times=TIMES).z
    rng = np.random.default_rng(4)
    gauge = 20 * course[:, 0] + 6 + shift + rng.normal(size=9)
    glow = 0.05 * course[:, 1] * np.exp(0.1 * rng.normal(size=9))
    data = symode.Data(TIMES, {"gauge": gauge, "glow": glow}, {"gauge": G * X + H0, "glow": F * Y})
    noise = {"gauge": symode.Normal(S1), "glow": symode.LogNormal(S2)}
    settings = {"bounds": BOUNDS, "scale": "log10", "hierarchical": inner} | options
    return symode.Problem(MODEL, data, noise, **settings)


START = {**TRUTH, "a": 0.8, "b": 0.5, "g": 1.0, "o": 1.0, "f": 1.0, "s1": 5.0, "s2": 5.0}


def outer_point(reduced) -> np.ndarray:
    return np.log10([0.91, 0.39, 0.69, 0.31])


def test_the_inner_optimum_is_stationary_and_the_best() -> None:
    whole = problem()
    x = whole.reduced.whole(outer_point(whole))
    value, gradient = whole.objective(x)
    inner = whole.reduced.inner
    # The first pass takes other steps than one with derivatives: equal to the solver's rtol.
    assert np.abs(gradient[inner]).max() < 1e-5 < np.abs(gradient).max()
    rng = np.random.default_rng(0)
    for _ in range(5):
        other = x.copy()
        other[inner] += 0.03 * rng.normal(size=inner.size)
        assert whole.objective(other)[0] > value


@pytest.mark.parametrize("shift", [0.0, -30.0], ids=["inside", "offset at its bound"])
def test_the_gradient_is_exact(shift: float) -> None:
    reduced = problem(shift=shift, rtol=1e-10, atol=1e-12).reduced
    x = outer_point(reduced)
    gradient = reduced.objective(x)[1]
    step, found = 1e-4, []
    for unit in np.eye(4):
        (up, _), (down, _) = (reduced.objective(x + s * step * unit) for s in (1, -1))
        found.append((up - down) / (2 * step))
    # Central differences: about step² times the third derivative.
    assert np.allclose(gradient, found, rtol=1e-5, atol=1e-5 * np.abs(gradient).max())
    at_bound = reduced.problem.space.at_bound(reduced.whole(x))
    assert at_bound.any() == (shift < 0)


@pytest.mark.parametrize("optimizer", ["scoring", "l-bfgs-b", "trust-constr"])
def test_the_search_finds_the_full_optimum(optimizer: str) -> None:
    full = symode.fit(problem(inner=()), [{**TRUTH, "s1": 1.0, "s2": 0.1}], workers=1)
    fit = symode.fit(problem(), [START], optimizer=optimizer, workers=1)
    assert full.best.status == fit.best.status == "converged"
    assert fit.value == pytest.approx(full.value, abs=1e-7)
    assert np.allclose(fit.theta, full.theta, rtol=1e-4)


def test_two_spreads_of_one_scaling_are_solved_together() -> None:
    x = outer_point(None)
    data = symode.Data(
        TIMES, {"u": TIMES + 1.0, "v": 2.0 + np.cos(TIMES)}, {"u": G * X, "v": G * Y}
    )
    noise = {"u": symode.Normal(S1), "v": symode.Normal(S2)}
    whole = symode.Problem(
        MODEL, data, noise, bounds={k: v for k, v in BOUNDS.items() if k not in (H0, F)},
        scale="log10", fixed={H0: 1.0, F: 1.0}, hierarchical=[G, S1, S2],
    )  # fmt: skip
    gradient = whole.objective(whole.reduced.whole(x))[1]
    assert np.abs(gradient[whole.reduced.inner]).max() < 1e-5


def test_local_scalings_belong_to_their_conditions() -> None:
    one = symode.Data([1, 2, 4], {"x": [4.1, 2.6, 1.2]})
    two = symode.Data([1, 2, 4], {"x": [41.0, 29.0, 11.0]})
    k, z = sp.symbols("k z", positive=True)
    model = symode.Model({z: -k * z}, parameters=[k, G, S1], initial={z: 5})
    data = {"one": one, "two": two}
    for d in data.values():
        d.expressions = {"x": G * z}
    settings = {"scale": "log10", "local": [G]}
    full = symode.Problem(model, data, symode.LogNormal(S1), **settings)
    inner = symode.Problem(model, data, symode.LogNormal(S1), hierarchical=[G, S1], **settings)
    assert inner.reduced.space.names == ("k",)
    best = symode.fit(full, 5, seed=0, workers=1)
    fit = symode.fit(inner, 3, seed=0, workers=1)
    assert fit.value == pytest.approx(best.value, abs=1e-7)
    assert np.allclose(fit.theta, best.theta, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inner": ["a"]}, "equations or the initial values contain it"),
        ({"inner": ["gg"]}, "names gg.*not estimated"),
        ({"inner": ["g"], "priors": {"g": symode.NormalPrior(1.0, 1.0)}}, "has a prior"),
        ({"inner": ["a", "b", "c", "d", *INNER]}, "none is left"),
    ],
)
def test_what_cannot_be_inner_is_named(options: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        problem(**options)


def test_expressions_of_conditions_are_not_inner() -> None:
    k, z, w = sp.symbols("k z w", positive=True)
    model = symode.Model({z: -k * z}, parameters=[k, G, S1], initial={z: 5})
    data = symode.Data([1, 2, 4], {"u": [4.1, 2.6, 1.2]}, {"u": G * z})
    conditions = {"one": symode.Condition({G: 2 * w})}
    with pytest.raises(OptionError, match="'one' has an expression that contains it"):
        symode.Problem(
            model, {"one": data}, symode.Normal(S1), conditions=conditions, parameters=[w],
            scale="log10", hierarchical=[w],
        )  # fmt: skip


def test_curved_scalings_and_other_noise_are_refused() -> None:
    data = symode.Data(TIMES, {"u": TIMES + 1.0}, {"u": G**2 * X})
    bounds = {k: v for k, v in BOUNDS.items() if k not in (H0, F, S2)}
    options = {"bounds": bounds, "scale": "log10", "fixed": {H0: 1.0, F: 1.0, S2: 1.0}}
    with pytest.raises(OptionError, match="straight line"):
        symode.Problem(MODEL, data, symode.Normal(S1), hierarchical=[G], **options)
    data = symode.Data(TIMES, {"u": TIMES + 1.0}, {"u": G * X})
    with pytest.raises(OptionError, match="other than normal noise"):
        symode.Problem(MODEL, data, symode.Laplace(S1), hierarchical=[G], **options)
