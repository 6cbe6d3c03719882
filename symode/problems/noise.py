r"""Noise: how measured values scatter around what the model says.

Each kind states its negative log-likelihood exactly, constants included, so that values can be
compared between models, kinds of noise, and other programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.errors import DataError, OptionError

Floats = NDArray[np.float64]


@runtime_checkable
class Noise(Protocol):
    r"""A kind of noise that is normal on some scale of the measurement.

    With :math:`u` that scale, the residual is :math:`r = (u(y) - u(h)) / \sigma`.
    """

    @property
    def sigma(self) -> Any:
        """Spread on that scale: a number, or an expression in parameters, states and time."""
        ...

    @property
    def is_positive(self) -> bool:
        """Whether measured values, and the model's, must be positive."""
        ...

    def scaled(self, values: Floats) -> Floats:
        """Return u(y)."""
        ...

    def location(self, h: sp.Expr) -> sp.Expr:
        """Return u(h)."""
        ...

    def log_slope(self, u: Any) -> Any:
        r"""Return :math:`-\log |du/dy|` at u (expression or array): part of the likelihood."""
        ...

    def band(self, h: Floats, sigma: Floats, quantile: float) -> tuple[Floats, Floats]:
        """Return the values at minus and plus this quantile of the standard normal."""
        ...


@dataclass(frozen=True)
class Normal:
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

    sigma: Any

    def __post_init__(self) -> None:
        _check_sigma(self)

    @property
    def is_positive(self) -> bool:
        """All values are allowed."""
        return False

    def scaled(self, values: Floats) -> Floats:
        """Return y."""
        return values

    def location(self, h: sp.Expr) -> sp.Expr:
        """Return h."""
        return h

    def log_slope(self, u: Any) -> Any:
        """Return 0."""
        return 0 * u

    def band(self, h: Floats, sigma: Floats, quantile: float) -> tuple[Floats, Floats]:
        """Return h minus and plus so many sigma."""
        return h - quantile * sigma, h + quantile * sigma


@dataclass(frozen=True)
class LogNormal:
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

    sigma: Any

    def __post_init__(self) -> None:
        _check_sigma(self)

    @property
    def is_positive(self) -> bool:
        """Logarithms need positive values."""
        return True

    def scaled(self, values: Floats) -> Floats:
        """Return log y."""
        return np.log(values)

    def location(self, h: sp.Expr) -> sp.Expr:
        """Return log h."""
        return sp.log(h)

    def log_slope(self, u: Any) -> Any:
        """Return log y, which is u."""
        return u

    def band(self, h: Floats, sigma: Floats, quantile: float) -> tuple[Floats, Floats]:
        """Return h over and times exp(quantile * sigma)."""
        return h * np.exp(-quantile * sigma), h * np.exp(quantile * sigma)


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


def _check_sigma(noise: Any) -> None:
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
