"""Noise with heavier tails than the normal one: single outliers hardly move a fit."""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.errors import OptionError
from symode.problems.measure import MEASURES, Measure
from symode.problems.noise import LocationScale

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _OnScale(LocationScale):
    """Kinds that take their scale of measurement as an option."""

    on: str = "lin"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on not in MEASURES:
            raise OptionError(f"on must be one of {', '.join(MEASURES)}; got {self.on!r}.")

    @property
    def measure(self) -> Measure:
        """The scale named by ``on``."""
        return MEASURES[self.on]


@dataclass(frozen=True)
class Laplace(_OnScale):
    r"""Measured values scatter with heavier tails than normal ones, and a sharp peak.

    .. math:: -\log L = \sum_i \log 2\sigma + \frac{|u(y_i) - u(h_i)|}{\sigma} - \log|du/dy_i|

    The best fit is a median: single outliers hardly move it.

    Parameters
    ----------
    sigma
        The scale b: the mean of the absolute deviation. As for `Normal`.
    on
        ``"lin"``, ``"log"`` or ``"log10"``: the scale u on which deviations are measured.

    Raises
    ------
    DataError
        When sigma is a number that is not positive and finite.

    Examples
    --------
    >>> Laplace(0.3, on="log10").is_positive
    True
    """

    def _standard(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        return rng.laplace(size=shape)

    def _rho(self, r: sp.Expr) -> sp.Expr:
        return sp.Abs(r)

    def _rho_of(self, r: Floats) -> Floats:
        return np.abs(r)

    def _slope(self, r: Floats) -> Floats:
        return np.sign(r)

    def _constant(self) -> float:
        return float(np.log(2.0))

    def _information(self) -> tuple[float, float]:
        return 1.0, 1.0

    def _quantile(self, p: float) -> float:
        return float(-np.sign(p - 0.5) * np.log1p(-2 * abs(p - 0.5)))


@dataclass(frozen=True)
class StudentT(_OnScale):
    r"""Measured values follow Student's t: normal in the middle, forgiving to outliers.

    .. math:: -\log L = \sum_i \tfrac{\nu + 1}{2} \log(1 + r_i^2/\nu) + \log\sigma
              + \log\frac{\Gamma(\nu/2)\sqrt{\nu\pi}}{\Gamma((\nu + 1)/2)} - \log|du/dy_i|

    Parameters
    ----------
    sigma
        Scale of the deviations. As for `Normal`.
    on
        ``"lin"``, ``"log"`` or ``"log10"``: the scale u on which deviations are measured.
    df
        Degrees of freedom, a positive number: 4 is a common choice, many are nearly normal.

    Raises
    ------
    DataError
        When sigma is a number that is not positive and finite.
    OptionError
        When df is not positive.

    Examples
    --------
    >>> StudentT(0.3, df=5).df
    5
    """

    df: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (np.isfinite(self.df) and self.df > 0):
            raise OptionError(f"df must be positive and finite; got {self.df!r}.")

    def _standard(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        return rng.standard_t(self.df, shape)

    def _rho(self, r: sp.Expr) -> sp.Expr:
        nu = sp.Float(self.df)
        return (nu + 1) / 2 * sp.log(1 + r**2 / nu)

    def _rho_of(self, r: Floats) -> Floats:
        return np.asarray(0.5 * (self.df + 1) * np.log1p(r**2 / self.df))

    def _slope(self, r: Floats) -> Floats:
        return np.asarray((self.df + 1) * r / (self.df + r**2))

    def _constant(self) -> float:
        nu = self.df
        return lgamma(nu / 2) - lgamma((nu + 1) / 2) + 0.5 * float(np.log(nu * np.pi))

    def _information(self) -> tuple[float, float]:
        return (self.df + 1) / (self.df + 3), 2 * self.df / (self.df + 3)

    def _quantile(self, p: float) -> float:
        from scipy.stats import t

        return float(t.ppf(p, self.df))
