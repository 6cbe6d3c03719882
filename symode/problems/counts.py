r"""Noise of counts: whole numbers of events, with the spread that counting itself brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.problems.measure import LIN, Measure
from symode.problems.noise import Slopes, require_sigma

Floats = NDArray[np.float64]

#: Terms of the sum in the information about a dispersion; the rest is below 1e-8 of it.
TERMS = 20_000


class _Counts:
    """What kinds of counts share."""

    is_normal: ClassVar[bool] = False
    is_positive: ClassVar[bool] = True

    @property
    def measure(self) -> Measure:
        """Counts as they are."""
        return LIN

    def fault(self, values: Floats) -> tuple[NDArray[np.bool_], str]:
        """Values must be whole numbers, 0 or more."""
        bad = (values < 0) | (values != np.round(values))
        return bad, (
            f"{type(self).__name__} noise is of counts, whole numbers from 0 on. Use Normal or "
            "LogNormal noise for measured quantities."
        )

    def unit(self, sigma: Floats) -> Floats:
        """Return 1: a count is measured in counts."""
        return np.ones_like(sigma)


@dataclass(frozen=True)
class Poisson(_Counts):
    r"""Measured values are counts of independent events, the model's value their mean.

    .. math:: -\log L = \sum_i h_i - y_i \log h_i + \log y_i!

    Examples
    --------
    >>> Poisson().is_positive
    True
    """

    sigma: ClassVar[Any] = 1.0

    def term(self, u: sp.Expr, location: sp.Expr, sigma: sp.Expr) -> sp.Expr:
        """Return the negative log-likelihood of one count."""
        return location - u * sp.log(location) + sp.loggamma(u + 1)

    def slopes(self, u: Floats, location: Floats, sigma: Floats) -> Slopes:
        """Return terms, derivatives and information."""
        from scipy.special import gammaln

        zero = np.zeros_like(u)
        return Slopes(
            (u - location) / np.sqrt(location),
            np.asarray(location - u * np.log(location) + gammaln(u + 1)),
            1.0 - u / location,
            zero,
            1.0 / location,
            zero,
        )

    def band(self, h: Floats, sigma: Floats, level: float) -> tuple[Floats, Floats]:
        """Return the ends of the central range that holds this share of measurements."""
        from scipy.stats import poisson

        low, high = poisson.interval(level, h)
        return np.asarray(low), np.asarray(high)

    def draw(self, h: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
        """Return counts drawn around the model's values."""
        return rng.poisson(h).astype(float)


@dataclass(frozen=True)
class NegativeBinomial(_Counts):
    r"""Measured values are counts that scatter more than independent events would.

    The model's value h is their mean, :math:`h + h^2/\sigma` their variance.

    .. math:: -\log L = \sum_i \log\frac{\Gamma(\sigma)\, y_i!}{\Gamma(y_i + \sigma)}
              - \sigma \log\frac{\sigma}{\sigma + h_i} - y_i \log\frac{h_i}{\sigma + h_i}

    Parameters
    ----------
    sigma
        The size (inverse dispersion), positive: large values approach `Poisson`. A number, a
        declared parameter of the model, or an expression.

    Raises
    ------
    DataError
        When sigma is a number that is not positive and finite.

    Examples
    --------
    >>> NegativeBinomial(10).sigma
    10
    """

    sigma: Any

    def __post_init__(self) -> None:
        require_sigma(self)

    def term(self, u: sp.Expr, location: sp.Expr, sigma: sp.Expr) -> sp.Expr:
        """Return the negative log-likelihood of one count."""
        whole = sigma + location
        return (
            sp.loggamma(sigma)
            + sp.loggamma(u + 1)
            - sp.loggamma(u + sigma)
            - sigma * sp.log(sigma / whole)
            - u * sp.log(location / whole)
        )

    def slopes(self, u: Floats, location: Floats, sigma: Floats) -> Slopes:
        """Return terms, derivatives and information."""
        from scipy.special import digamma, gammaln

        whole = sigma + location
        variance = location * whole / sigma
        terms = (
            gammaln(sigma)
            + gammaln(u + 1)
            - gammaln(u + sigma)
            - sigma * np.log(sigma / whole)
            - u * np.log(location / whole)
        )
        by_size = (
            digamma(sigma) - digamma(u + sigma) - np.log(sigma / whole) - 1.0 + (u + sigma) / whole
        )
        return Slopes(
            (u - location) / np.sqrt(variance),
            np.asarray(terms),
            (location - u) / variance,
            np.asarray(sigma * by_size),
            1.0 / variance,
            sigma**2 * _size_information(location, sigma),
        )

    def band(self, h: Floats, sigma: Floats, level: float) -> tuple[Floats, Floats]:
        """Return the ends of the central range that holds this share of measurements."""
        from scipy.stats import nbinom

        low, high = nbinom.interval(level, sigma, sigma / (sigma + h))
        return np.asarray(low), np.asarray(high)

    def draw(self, h: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
        """Return counts drawn around the model's values."""
        return rng.negative_binomial(sigma, sigma / (sigma + h)).astype(float)


def _size_information(mean: Floats, size: Floats) -> Floats:
    r"""Return the information about the size: :math:`\sum_j P(y > j)/(\sigma + j)^2 - \ldots`.

    From :math:`\psi_1(\sigma) - E\,\psi_1(y + \sigma) = \sum_{j \ge 0} P(y > j) (\sigma + j)^{-2}`.
    """
    from scipy.stats import nbinom

    share = size / (size + mean)
    lasts = np.minimum(TERMS, nbinom.ppf(1 - 1e-12, size, share) + 1).astype(int)
    result = np.empty_like(mean)
    for i, (mu, r, p, last) in enumerate(zip(mean, size, share, lasts, strict=True)):
        j = np.arange(last)
        # Probabilities by their ratio: a tenth of the time of nbinom.sf.
        ratios = np.log((j[:-1] + r) / (j[:-1] + 1) * (mu / (r + mu)))
        logs = r * np.log(p) + np.concatenate([[0.0], np.cumsum(ratios)])
        above = np.maximum(1.0 - np.cumsum(np.exp(logs)), 0.0)
        total = np.sum(above / (r + j) ** 2)
        result[i] = max(total - mu / (r * (r + mu)), 0.0)
    return result
