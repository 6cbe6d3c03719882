r"""Scales on which parameters are searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from symode.errors import OptionError


@runtime_checkable
class Transform(Protocol):
    r"""A scale :math:`x = u(\theta)` of one parameter, monotone and smooth."""

    @property
    def name(self) -> str:
        """Name, as in ``scale=``."""
        ...

    @property
    def is_positive(self) -> bool:
        """Whether the parameter must be positive."""
        ...

    def to_scale(self, theta: Any) -> Any:
        r"""Return :math:`u(\theta)`."""
        ...

    def to_theta(self, x: Any) -> Any:
        r"""Return :math:`\theta`."""
        ...

    def slope(self, theta: Any) -> Any:
        r"""Return :math:`d\theta/dx`."""
        ...

    def label(self, parameter: str) -> str:
        """Return what the scaled parameter is called."""
        ...


@dataclass(frozen=True)
class Linear:
    r""":math:`x = \theta`."""

    name: str = "lin"
    is_positive: bool = False

    def to_scale(self, theta: Any) -> Any:
        """Return theta."""
        return theta

    def to_theta(self, x: Any) -> Any:
        """Return x."""
        return x

    def slope(self, theta: Any) -> Any:
        """Return 1."""
        return np.ones_like(theta)

    def label(self, parameter: str) -> str:
        """Return the parameter's name."""
        return parameter


@dataclass(frozen=True)
class Logarithm:
    r""":math:`x = \log\theta / \log b`: equal steps in x are equal factors in theta."""

    name: str
    base: float
    is_positive: bool = True

    def to_scale(self, theta: Any) -> Any:
        """Return the logarithm."""
        return np.log10(theta) if self.base == 10 else np.log(theta) / np.log(self.base)

    def to_theta(self, x: Any) -> Any:
        """Return the power."""
        return np.power(self.base, x)

    def slope(self, theta: Any) -> Any:
        """Return theta log b."""
        return theta * np.log(self.base)

    def label(self, parameter: str) -> str:
        """Return log10(parameter), or log(parameter)."""
        return f"{self.name}({parameter})"


@dataclass(frozen=True)
class Logit:
    r""":math:`x = \log\frac{\theta - a}{b - \theta}`: parameters between two values.

    Examples
    --------
    >>> float(Logit(0.0, 2.0).to_theta(0.0))
    1.0
    """

    low: float = 0.0
    high: float = 1.0
    name: str = "logit"
    is_positive: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise OptionError(f"Logit needs finite low < high; got ({self.low}, {self.high}).")

    def to_scale(self, theta: Any) -> Any:
        """Return the log odds."""
        return np.log((theta - self.low) / (self.high - theta))

    def to_theta(self, x: Any) -> Any:
        """Return the parameter."""
        # Of the two ways to write it, neither overflows.
        share = np.where(np.asarray(x) < 0, np.exp(np.minimum(x, 0)), 1.0)
        return self.low + (self.high - self.low) * share / (1.0 + np.exp(-np.abs(x)))

    def slope(self, theta: Any) -> Any:
        """Return the product of the distances to both ends, over their distance."""
        return (theta - self.low) * (self.high - theta) / (self.high - self.low)

    def label(self, parameter: str) -> str:
        """Return logit(parameter)."""
        return f"logit({parameter})"


@dataclass(frozen=True)
class Softplus:
    r""":math:`\theta = \log(1 + e^x)`: positive parameters that are linear where they are large.

    Examples
    --------
    >>> round(float(Softplus().to_theta(0.0)), 6)
    0.693147
    """

    name: str = "softplus"
    is_positive: bool = True

    def to_scale(self, theta: Any) -> Any:
        """Return log(exp(theta) - 1)."""
        return theta + np.log(-np.expm1(-np.asarray(theta)))

    def to_theta(self, x: Any) -> Any:
        """Return log(1 + exp(x))."""
        return np.logaddexp(0.0, x)

    def slope(self, theta: Any) -> Any:
        """Return 1 - exp(-theta)."""
        return -np.expm1(-np.asarray(theta))

    def label(self, parameter: str) -> str:
        """Return softplus(parameter)."""
        return f"softplus({parameter})"


@dataclass(frozen=True)
class Affine:
    r""":math:`x = (\theta - a)/s`: parameters in units of their own.

    Examples
    --------
    >>> float(Affine(shift=300.0, factor=10.0).to_theta(0.5))
    305.0
    """

    shift: float = 0.0
    factor: float = 1.0
    name: str = "affine"
    is_positive: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.shift) and np.isfinite(self.factor) and self.factor > 0):
            raise OptionError(f"Affine needs a finite shift and a positive factor; got {self}.")

    def to_scale(self, theta: Any) -> Any:
        """Return the distance from the shift in units of the factor."""
        return (theta - self.shift) / self.factor

    def to_theta(self, x: Any) -> Any:
        """Return the parameter."""
        return self.shift + self.factor * np.asarray(x)

    def slope(self, theta: Any) -> Any:
        """Return the factor."""
        return self.factor * np.ones_like(theta)

    def label(self, parameter: str) -> str:
        """Return (parameter - a)/s."""
        return f"({parameter} - {self.shift:g})/{self.factor:g}"


#: Scales by name.
TRANSFORMS: dict[str, Transform] = {
    transform.name: transform
    for transform in (
        Linear(),
        Logarithm("log10", 10.0),
        Logarithm("log", float(np.e)),
        Logit(),
        Softplus(),
    )
}
