"""The likelihood is the one the noise states, constants included: SciPy's densities judge."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from scipy.stats import lognorm, norm

import symode
from symode.errors import DataError, LossError, OptionError
from symode.problems.noise import LogNormal, Normal

X, K, S = sp.symbols("x k s")
MODEL = symode.Model({X: -K * X}, parameters=[K, S], initial={X: 2})
TIMES, VALUES = np.array([0.0, 0.5, 1.0, 2.5]), np.array([2.1, 1.4, 1.2, 0.3])
THETA = {"k": 0.7, "s": 0.15}
COURSE = 2 * np.exp(-0.7 * TIMES)


def value_of(noise: symode.problems.noise.Noise) -> float:
    data = symode.Data(TIMES, {"x": VALUES})
    return symode.Problem(MODEL, data, noise, scale="log10").value(THETA)


# The solver keeps the state to rtol 1e-8 and the residuals are of order 1: 1e-6 leaves room.
@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        (Normal(0.2), norm.logpdf(VALUES, COURSE, 0.2)),
        (Normal(S), norm.logpdf(VALUES, COURSE, 0.15)),
        (Normal("s"), norm.logpdf(VALUES, COURSE, 0.15)),
        (Normal(S * X), norm.logpdf(VALUES, COURSE, 0.15 * COURSE)),
        (LogNormal(0.2), lognorm.logpdf(VALUES, s=0.2, scale=COURSE)),
        (LogNormal(S), lognorm.logpdf(VALUES, s=0.15, scale=COURSE)),
    ],
    ids=str,
)
def test_the_objective_is_the_negative_log_density(noise, expected) -> None:
    assert value_of(noise) == pytest.approx(-float(np.sum(expected)), rel=1e-6)


@pytest.mark.parametrize("kind", [Normal, LogNormal])
@pytest.mark.parametrize("sigma", [0, -0.1, float("nan"), float("inf"), sp.Integer(0)])
def test_a_sigma_that_is_not_positive_is_refused(kind, sigma) -> None:
    with pytest.raises(DataError, match="must be positive and finite"):
        kind(sigma)


def test_a_sigma_that_is_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="a number, a parameter of the model, or an expression"):
        Normal([1, 2])


def test_a_sigma_the_model_does_not_know_is_named() -> None:
    with pytest.raises(OptionError, match=r"'tau' of x is no parameter.*k, s"):
        value_of(Normal("tau"))
    with pytest.raises(LossError, match="tau"):
        value_of(Normal(sp.Symbol("tau")))


@pytest.mark.parametrize("noise", [Normal(0.3), LogNormal(0.3)], ids=str)
def test_the_band_holds_the_share_of_measurements_it_states(noise) -> None:
    low, high = noise.band(np.array([2.0]), np.array([0.3]), 0.95)
    judge = norm(2.0, 0.3) if isinstance(noise, Normal) else lognorm(s=0.3, scale=2.0)
    assert judge.cdf(high)[0] - judge.cdf(low)[0] == pytest.approx(0.95, rel=1e-12)
