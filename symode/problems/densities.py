r"""More priors: densities of one parameter, and any prior cut off at bounds.

Each is complete, constants included, so that likelihoods with different priors can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import special

from symode.errors import OptionError
from symode.problems.measure import MEASURES
from symode.problems.priors import LaplacePrior, NormalPrior, Prior, UniformPrior

Tail = Callable[[float], float]


def _check(prior: Any, **positive: float) -> None:
    for name, value in positive.items():
        if not (np.isfinite(value) and value > 0):
            raise OptionError(f"{type(prior).__name__} needs a positive {name}; got {value!r}.")


@dataclass(frozen=True)
class CauchyPrior:
    r"""A density with heavy tails, :math:`1 / (\pi s (1 + ((\theta - l) / s)^2))`.

    Parameters
    ----------
    location, scale
        l and s, in the units of the parameter.

    Raises
    ------
    OptionError
        When the scale is not positive.

    Examples
    --------
    >>> round(CauchyPrior(3.0, 5.0).terms(5.0)[0], 6)
    2.902588
    """

    location: float
    scale: float

    def __post_init__(self) -> None:
        _check(self, scale=self.scale)

    def terms(self, theta: float) -> tuple[float, float, float]:
        """Return the term, its slope and a curvature that is not negative."""
        r = (theta - self.location) / self.scale
        width = 1.0 + r * r
        value = math.log(math.pi * self.scale) + math.log(width)
        return value, 2.0 * r / (self.scale * width), 2.0 / (self.scale**2 * width)


@dataclass(frozen=True)
class GammaPrior:
    r"""The gamma density :math:`\theta^{k-1} e^{-\theta/s} / (\Gamma(k) s^k)` of a positive value.

    With shape d/2 and scale 2 it is the chi-square density of d degrees of freedom.

    Parameters
    ----------
    shape, scale
        k, dimensionless, and s, in the units of the parameter.

    Raises
    ------
    OptionError
        When one of them is not positive.

    Examples
    --------
    >>> round(GammaPrior(3.0, 5.0).terms(5.0)[0], 6)
    3.302585
    """

    shape: float
    scale: float

    def __post_init__(self) -> None:
        _check(self, shape=self.shape, scale=self.scale)

    def terms(self, theta: float) -> tuple[float, float, float]:
        """Return the term, its slope and a curvature that is not negative."""
        k, s = self.shape, self.scale
        # xlogy: at theta = 0 an exponential density (k = 1) is finite.
        value = theta / s - float(special.xlogy(k - 1.0, theta))
        value += float(special.gammaln(k)) + k * math.log(s)
        if k == 1.0:
            return value, 1.0 / s, 0.0
        slope, bend = np.divide(k - 1.0, [theta, theta**2])
        return value, float(1.0 / s - slope), float(max(0.0, bend))


@dataclass(frozen=True)
class ExponentialPrior:
    r"""The density :math:`e^{-\theta/s} / s` of a positive value.

    Parameters
    ----------
    scale
        s, the mean, in the units of the parameter.

    Raises
    ------
    OptionError
        When it is not positive.

    Examples
    --------
    >>> round(ExponentialPrior(3.0).terms(5.0)[0], 6)
    2.765279
    """

    scale: float

    def __post_init__(self) -> None:
        _check(self, scale=self.scale)

    def terms(self, theta: float) -> tuple[float, float, float]:
        """Return the term, its slope and curvature."""
        return theta / self.scale + math.log(self.scale), 1.0 / self.scale, 0.0


@dataclass(frozen=True)
class RayleighPrior:
    r"""The density :math:`\theta e^{-\theta^2 / 2s^2} / s^2` of a positive value.

    Parameters
    ----------
    scale
        s, where it is largest, in the units of the parameter.

    Raises
    ------
    OptionError
        When it is not positive.

    Examples
    --------
    >>> round(RayleighPrior(3.0).terms(5.0)[0], 6)
    1.976676
    """

    scale: float

    def __post_init__(self) -> None:
        _check(self, scale=self.scale)

    def terms(self, theta: float) -> tuple[float, float, float]:
        """Return the term, its slope and curvature."""
        s2 = self.scale**2
        with np.errstate(divide="ignore"):
            log = float(np.log(theta))
            inverse = float(np.divide(1.0, theta))
        value = 0.5 * theta * theta / s2 - log + math.log(s2)
        return value, theta / s2 - inverse, 1.0 / s2 + inverse**2


@dataclass(frozen=True)
class TruncatedPrior:
    r"""Another prior, cut off at two values and divided by what lies between them.

    .. math:: p(\theta) = \frac{q(\theta)}{\int_a^b q} \quad \text{in } [a, b]

    Parameters
    ----------
    prior
        q: one of this package, and a density of the parameter itself (not ``of_scale``).
    low, high
        a and b, in the units of the parameter; they may be infinite.

    Raises
    ------
    OptionError
        When the prior has no mass between them.

    Examples
    --------
    >>> from symode import NormalPrior
    >>> half = TruncatedPrior(NormalPrior(0.0, 1.0), 0.0, float("inf"))
    >>> round(half.terms(1.0)[0] - NormalPrior(0.0, 1.0).terms(1.0)[0] + math.log(2.0), 12)
    0.0
    """

    prior: Prior
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (self.low < self.high and self.mass > 0.0):
            raise OptionError(
                f"{self.prior!r} has no mass between {self.low!r} and {self.high!r}: give bounds "
                "with low < high where its density is positive."
            )

    @property
    def support(self) -> tuple[float, float]:
        """Where its density is positive: no parameter should leave it."""
        low, high = self.low, self.high
        prior = self.prior
        if isinstance(prior, UniformPrior):
            ends = [_unscaled(prior.on, u) for u in (prior.low, prior.high)]
            return max(low, ends[0]), min(high, ends[1])
        if isinstance(prior, GammaPrior | ExponentialPrior | RayleighPrior) or (
            getattr(prior, "on", "lin") != "lin"
        ):
            return max(low, 0.0), high
        return low, high

    @cached_property
    def mass(self) -> float:
        """The share of the other prior that lies between the two values."""
        below, above = _tails(self.prior)
        low, high = self.low, self.high
        # The smaller tail: the difference of two numbers near 1 would have lost its digits.
        if below(low) < 0.5:
            return below(high) - below(low)
        return above(low) - above(high)

    def terms(self, theta: float) -> tuple[float, float, float]:
        """Return the term, its slope and curvature."""
        value, slope, bend = self.prior.terms(theta)
        return value + math.log(self.mass), slope, bend


def _tails(prior: Prior) -> tuple[Tail, Tail]:
    """Return the shares of a density below and above a value."""
    if isinstance(prior, CauchyPrior):

        def cauchy(theta: float, sign: float) -> float:
            r = sign * (theta - prior.location) / prior.scale
            return math.atan2(1.0, -r) / math.pi if np.isfinite(r) else float(r > 0)

        return lambda x: cauchy(x, 1.0), lambda x: cauchy(x, -1.0)
    if isinstance(prior, GammaPrior):
        k, s = prior.shape, prior.scale
        return (
            lambda x: float(special.gammainc(k, max(x, 0.0) / s)),
            lambda x: float(special.gammaincc(k, max(x, 0.0) / s)),
        )
    if isinstance(prior, ExponentialPrior | RayleighPrior):
        power = 1 if isinstance(prior, ExponentialPrior) else 2

        def exponent(x: float) -> float:
            return (max(x, 0.0) / prior.scale) ** power / power

        return lambda x: -math.expm1(-exponent(x)), lambda x: math.exp(-exponent(x))
    if not isinstance(prior, NormalPrior | LaplacePrior | UniformPrior) or prior.of_scale:
        raise OptionError(
            f"{prior!r} cannot be truncated: its density must be of the parameter itself, and one "
            "of this package."
        )
    on = prior.on
    if isinstance(prior, UniformPrior):
        low, width = prior.low, prior.high - prior.low

        def share(x: float) -> float:
            return float(np.clip((_scaled(on, x) - low) / width, 0.0, 1.0))

        return share, lambda x: 1.0 - share(x)
    mean, sd = prior.mean, prior.sd
    if isinstance(prior, NormalPrior):
        return (
            lambda x: float(special.ndtr((_scaled(on, x) - mean) / sd)),
            lambda x: float(special.ndtr((mean - _scaled(on, x)) / sd)),
        )

    def laplace(r: float) -> float:
        return 0.5 * math.exp(r) if r < 0 else 1.0 - 0.5 * math.exp(-r)

    return (
        lambda x: laplace((_scaled(on, x) - mean) / sd),
        lambda x: laplace((mean - _scaled(on, x)) / sd),
    )


def _scaled(on: str, theta: float) -> float:
    """Return u(theta); that of zero and below is -inf on a logarithm."""
    measure = MEASURES[on]
    if not measure.is_positive:
        return theta
    if not np.isfinite(theta):
        return math.inf if theta > 0 else -math.inf
    return float(measure.scaled(np.asarray(theta))) if theta > 0 else -math.inf


def _unscaled(on: str, u: float) -> float:
    measure = MEASURES[on]
    return math.exp(u / measure.factor) if measure.is_positive else u
