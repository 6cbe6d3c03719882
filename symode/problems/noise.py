r"""Noise: how measured values scatter around what the model says.

Each kind states its negative log-likelihood exactly, constants included, so that values can be
compared between models, kinds of noise, and other programs. With u the scale of measurement and
:math:`r = (u(y) - u(h)) / \sigma`, kinds of location and scale have the terms

.. math:: \rho(r) + \log\sigma + c - \log|du/dy|
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.errors import DataError, OptionError
from symode.problems.measure import LIN, LOG, LOG10, Measure

Floats = NDArray[np.float64]

LOG_2PI = float(np.log(2 * np.pi))


class Slopes(NamedTuple):
    r"""What one kind of noise says about K values at known location and spread.

    ``terms`` are the negative log-likelihoods (without :math:`-\log|du/dy|`); ``location`` and
    ``log_sigma`` their derivatives, the first per unit of spread; the last two the expected
    second derivatives (Fisher information). Each of shape ``(K,)``.
    """

    residuals: Floats
    terms: Floats
    location: Floats
    log_sigma: Floats
    information: Floats
    information_sigma: Floats


@runtime_checkable
class Noise(Protocol):
    """A kind of noise: a density of the measured value given the model's."""

    @property
    def sigma(self) -> Any:
        """Spread: a number, or an expression in parameters, states and time."""
        ...

    @property
    def measure(self) -> Measure:
        """The scale on which the noise is symmetric."""
        ...

    @property
    def is_positive(self) -> bool:
        """Whether the model's values must be positive."""
        ...

    @property
    def is_normal(self) -> bool:
        """Whether the likelihood is a sum of squares on the scale."""
        ...

    def fault(self, values: Floats) -> tuple[NDArray[np.bool_], str]:
        """Return which values this noise cannot produce, and why."""
        ...

    def term(self, u: sp.Expr, location: sp.Expr, sigma: sp.Expr) -> sp.Expr:
        """Return the negative log-likelihood of one value, as an expression."""
        ...

    def slopes(self, u: Floats, location: Floats, sigma: Floats) -> Slopes:
        """Return the same as numbers, with derivatives and information."""
        ...

    def unit(self, sigma: Floats) -> Floats:
        """Return the unit in which the location is measured: sigma, or 1."""
        ...

    def band(self, h: Floats, sigma: Floats, level: float) -> tuple[Floats, Floats]:
        """Return the ends of the central range that holds this share of measurements."""
        ...

    def draw(self, h: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
        """Return measurements drawn around the model's values."""
        ...


@dataclass(frozen=True)
class LocationScale:
    """What kinds of location and scale share; sigma is checked."""

    sigma: Any
    is_normal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_sigma(self)

    @property
    def measure(self) -> Measure:
        """Measured values as they are."""
        return LIN

    @property
    def is_positive(self) -> bool:
        """Logarithms need positive values."""
        return self.measure.is_positive

    def fault(self, values: Floats) -> tuple[NDArray[np.bool_], str]:
        """Values must be positive on a logarithmic scale."""
        name = type(self).__name__
        bad = (values <= 0) & self.is_positive
        return bad, (
            f"{name} noise needs positive values. Use Normal noise for this column, or drop the "
            "value."
        )

    def unit(self, sigma: Floats) -> Floats:
        """Return sigma."""
        return sigma

    def term(self, u: sp.Expr, location: sp.Expr, sigma: sp.Expr) -> sp.Expr:
        r"""Return :math:`\rho(r) + \log\sigma + c`."""
        r = (u - location) / sigma
        rho: sp.Expr = self._rho(r)
        return rho + sp.log(sigma) + sp.Float(self._constant())

    def slopes(self, u: Floats, location: Floats, sigma: Floats) -> Slopes:
        """Return terms, derivatives and information."""
        r = (u - location) / sigma
        slope = self._slope(r)
        a, b = self._information()
        ones = np.ones_like(r)
        return Slopes(
            r,
            np.asarray(self._rho_of(r) + np.log(sigma) + self._constant()),
            -slope,
            1.0 - r * slope,
            a * ones,
            b * ones,
        )

    def band(self, h: Floats, sigma: Floats, level: float) -> tuple[Floats, Floats]:
        """Return the ends of the central range that holds this share of measurements."""
        with np.errstate(divide="ignore", invalid="ignore"):
            u = self.measure.scaled(h)
        half = self._quantile(0.5 + level / 2) * sigma
        return self.measure.unscaled(u - half), self.measure.unscaled(u + half)

    def draw(self, h: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
        """Return measurements drawn around the model's values."""
        with np.errstate(divide="ignore", invalid="ignore"):
            u = self.measure.scaled(h)
        return np.asarray(self.measure.unscaled(u + sigma * self._standard(rng, np.shape(h))))

    def _standard(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        raise NotImplementedError

    def _rho(self, r: sp.Expr) -> sp.Expr:
        raise NotImplementedError

    def _rho_of(self, r: Floats) -> Floats:
        raise NotImplementedError

    def _slope(self, r: Floats) -> Floats:
        raise NotImplementedError

    def _constant(self) -> float:
        raise NotImplementedError

    def _information(self) -> tuple[float, float]:
        raise NotImplementedError

    def _quantile(self, p: float) -> float:
        raise NotImplementedError


class _Gaussian(LocationScale):
    is_normal: ClassVar[bool] = True

    def _standard(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        return rng.standard_normal(shape)

    def _rho(self, r: sp.Expr) -> sp.Expr:
        return r**2 / 2

    def _rho_of(self, r: Floats) -> Floats:
        return 0.5 * r**2

    def _slope(self, r: Floats) -> Floats:
        return r

    def _constant(self) -> float:
        return 0.5 * LOG_2PI

    def _information(self) -> tuple[float, float]:
        return 1.0, 2.0

    def _quantile(self, p: float) -> float:
        from scipy.stats import norm

        return float(norm.ppf(p))


@dataclass(frozen=True)
class Normal(_Gaussian):
    r"""Measured values are normal around the model's, with standard deviation sigma.

    .. math:: -\log L = \sum_i \tfrac12 \log 2\pi + \log\sigma
              + \frac{(y_i - h_i)^2}{2\sigma^2}

    Parameters
    ----------
    sigma
        In the units of the observable: a positive number, a declared parameter of the model (symbol
        or name), which is then estimated, or an expression in parameters, states and time, such as
        ``s * x`` for a relative error.

    Raises
    ------
    DataError
        When sigma is a number that is not positive and finite.

    Examples
    --------
    >>> Normal(0.5).sigma
    0.5
    """


@dataclass(frozen=True)
class LogNormal(_Gaussian):
    r"""The logarithms of measured values are normal around that of the model's.

    .. math:: -\log L = \sum_i \tfrac12 \log 2\pi + \log\sigma + \log y_i
              + \frac{(\log y_i - \log h_i)^2}{2\sigma^2}

    The model gives the median of the measurement, not its mean. The term :math:`\log y_i` is the
    Jacobian of the logarithm: with it, the likelihood is that of y itself, in the units of y.

    Parameters
    ----------
    sigma
        Standard deviation of the natural logarithm, dimensionless: a positive number, a declared
        parameter of the model (symbol or name), or an expression in parameters, states and time.

    Raises
    ------
    DataError
        When sigma is a number that is not positive and finite.

    Examples
    --------
    >>> import sympy as sp
    >>> LogNormal(sp.Symbol("sigma"))
    LogNormal(sigma=sigma)
    """

    @property
    def measure(self) -> Measure:
        """Natural logarithm."""
        return LOG


@dataclass(frozen=True)
class Log10Normal(_Gaussian):
    r"""The decimal logarithms of measured values are normal around that of the model's.

    .. math:: -\log L = \sum_i \tfrac12 \log 2\pi + \log\sigma + \log(y_i \log 10)
              + \frac{(\log_{10} y_i - \log_{10} h_i)^2}{2\sigma^2}

    Parameters
    ----------
    sigma
        Standard deviation of the decimal logarithm, dimensionless, as for `LogNormal`.

    Raises
    ------
    DataError
        When sigma is a number that is not positive and finite.

    Examples
    --------
    >>> Log10Normal(0.1).measure.name
    'log10'
    """

    @property
    def measure(self) -> Measure:
        """Decimal logarithm."""
        return LOG10


def spread(noise: Noise, equations: Equations, observable: str) -> sp.Expr:
    """Return sigma as an expression; a name becomes the parameter of that name.

    Raises
    ------
    OptionError
        When the model has no such parameter.
    """
    sigma = noise.sigma
    if isinstance(sigma, str):
        for symbol in equations.parameters:
            if symbol.name == sigma:
                return symbol
        raise OptionError(
            f"The sigma {sigma!r} of {observable} is no parameter of the model. Its parameters "
            f"are {', '.join(equations.parameter_names) or 'none'}: declare it among them."
        )
    return sigma if isinstance(sigma, sp.Expr) else sp.Float(float(sigma))


def require_sigma(noise: Any) -> None:
    """Raise unless sigma is a positive number, or a name or expression that may become one."""
    sigma, kind = noise.sigma, type(noise).__name__
    if isinstance(sigma, str) or (isinstance(sigma, sp.Expr) and not sigma.is_Number):
        return
    try:
        value = float(sigma)
    except (TypeError, ValueError):
        raise DataError(
            f"The sigma of {kind} must be a number, a parameter of the model, or an expression; "
            f"got {sigma!r}."
        ) from None
    if not (value > 0 and np.isfinite(value)):
        raise DataError(f"The sigma of {kind} must be positive and finite; got {value:g}.")
