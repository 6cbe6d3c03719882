"""More priors: they integrate to one, have their slopes, and stay complete when cut off."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

import symode
from symode.errors import OptionError

INF = float("inf")
#: (prior, its density by another hand, where it lives).
PRIORS = {
    "Cauchy": (symode.CauchyPrior(0.4, 1.3), stats.cauchy(0.4, 1.3), (-INF, INF)),
    "gamma": (symode.GammaPrior(2.7, 0.6), stats.gamma(2.7, scale=0.6), (0.0, INF)),
    "chi-square": (symode.GammaPrior(2.5, 2.0), stats.chi2(5), (0.0, INF)),
    "exponential": (symode.ExponentialPrior(0.7), stats.expon(scale=0.7), (0.0, INF)),
    "Rayleigh": (symode.RayleighPrior(1.4), stats.rayleigh(scale=1.4), (0.0, INF)),
    "normal": (symode.NormalPrior(0.4, 1.3), stats.norm(0.4, 1.3), (-INF, INF)),
    "Laplace": (symode.LaplacePrior(0.4, 1.3), stats.laplace(0.4, 1.3), (-INF, INF)),
    "log-normal": (
        symode.NormalPrior(0.4, 1.3, on="log"),
        stats.lognorm(1.3, scale=np.exp(0.4)),
        (0.0, INF),
    ),
    "log-Laplace": (
        symode.LaplacePrior(0.4, 1.3, on="log"),
        stats.loglaplace(1 / 1.3, scale=np.exp(0.4)),
        (0.0, INF),
    ),
    "uniform": (symode.UniformPrior(0.4, 1.3), stats.uniform(0.4, 0.9), (0.4, 1.3)),
    "log-uniform": (
        symode.UniformPrior(np.log(0.4), np.log(3.0), on="log"),
        stats.loguniform(0.4, 3.0),
        (0.4, 3.0),
    ),
}
kinds = pytest.mark.parametrize("kind", PRIORS)


@kinds
def test_the_term_is_the_density_with_its_slope(kind) -> None:
    prior, density, _ = PRIORS[kind]
    for theta in (0.45, 1.1):
        value, slope, bend = prior.terms(theta)
        assert value == pytest.approx(-density.logpdf(theta), rel=1e-12)
        h = 1e-5  # central differences: 1e-10 of truncation, 1e-11 of rounding
        difference = (prior.terms(theta + h)[0] - prior.terms(theta - h)[0]) / (2 * h)
        assert slope == pytest.approx(difference, abs=1e-8)
        assert bend >= 0.0


@kinds
def test_a_prior_cut_off_at_bounds_integrates_to_one(kind) -> None:
    prior, density, _ = PRIORS[kind]
    low, high = 0.5, 1.2
    cut = symode.TruncatedPrior(prior, low, high)
    total, _ = quad(lambda theta: np.exp(-cut.terms(theta)[0]), low, high, points=[np.exp(0.4)])
    assert total == pytest.approx(1.0, rel=1e-8)
    assert cut.mass == pytest.approx(density.cdf(high) - density.cdf(low), rel=1e-12)
    assert cut.terms(0.8)[1:] == prior.terms(0.8)[1:]


@kinds
def test_a_prior_cut_off_nowhere_is_itself_and_knows_where_it_lives(kind) -> None:
    prior, _, ends = PRIORS[kind]
    whole = symode.TruncatedPrior(prior, -INF, INF)
    assert whole.mass == pytest.approx(1.0, abs=1e-15)
    assert whole.support == pytest.approx(ends, rel=1e-14)


@pytest.mark.parametrize("kind", ["normal", "Laplace", "gamma", "exponential", "Rayleigh"])
def test_the_mass_far_in_the_upper_tail_keeps_its_digits(kind) -> None:
    prior, density, _ = PRIORS[kind]
    wanted = density.sf(14.0) - density.sf(15.0)
    assert symode.TruncatedPrior(prior, 14.0, 15.0).mass == pytest.approx(wanted, rel=1e-9)


def test_what_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(OptionError, match=r"no mass between 2\.0 and 3\.0"):
        symode.TruncatedPrior(symode.UniformPrior(0.0, 1.0), 2.0, 3.0)
    with pytest.raises(OptionError, match="positive shape"):
        symode.GammaPrior(-1.0, 2.0)
    with pytest.raises(OptionError, match="positive scale"):
        symode.CauchyPrior(0.0, INF)
    scaled = symode.NormalPrior(0.0, 1.0, on="log10", of_scale=True)
    with pytest.raises(OptionError, match="cannot be truncated"):
        symode.TruncatedPrior(scaled, 1.0, 2.0)
