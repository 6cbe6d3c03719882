r"""Priors: what was known about parameters before the data.

A prior adds :math:`-\log p(\theta_j)` to the objective. It is a density of the parameter itself, or
of its logarithm; like the likelihood it is complete, constants included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from symode.errors import OptionError
from symode.problems.measure import MEASURES, Measure

Floats = NDArray[np.float64]


@runtime_checkable
class Prior(Protocol):
    """A density of one parameter."""

    def terms(self, theta: float) -> tuple[float, float, float]:
        r"""Return :math:`-\log p`, its slope in theta, and a curvature that is not negative."""
        ...


@dataclass(frozen=True)
class NormalPrior:
    r"""The parameter, or its logarithm, is normal.

    Parameters
    ----------
    mean, sd
        Of :math:`u(\theta)`, in its units.
    on
        ``"lin"``, ``"log"`` or ``"log10"``: u. On a logarithm the density is that of theta itself
        (log-normal) unless ``of_scale``.
    of_scale
        Whether the density is meant as one of :math:`u(\theta)`: then the term
        :math:`-\log|du/d\theta|` is left out.

    Raises
    ------
    OptionError
        When sd is not positive.

    Examples
    --------
    >>> value, slope, _ = NormalPrior(1.0, 0.5).terms(2.0)
    >>> round(value, 6), slope
    (2.225791, 4.0)
    """

    mean: float
    sd: float
    on: str = "lin"
    of_scale: bool = False

    def __post_init__(self) -> None:
        _check(self)

    def terms(self, theta: float) -> tuple[float, float, float]:
        """Return the term, its slope and curvature."""
        r, du = _residual(self, theta)
        value = 0.5 * r**2 + np.log(self.sd) + 0.5 * np.log(2 * np.pi)
        return _on_theta(self, theta, float(value), r * du, du**2)


@dataclass(frozen=True)
class LaplacePrior:
    r"""The parameter, or its logarithm, has density :math:`e^{-|u - \mu|/b} / 2b`: it favours mu.

    Parameters
    ----------
    mean, sd
        Location and scale b of :math:`u(\theta)`.
    on, of_scale
        As for `NormalPrior`.

    Raises
    ------
    OptionError
        When sd is not positive.

    Examples
    --------
    >>> round(LaplacePrior(0.0, 1.0, on="log10").terms(10.0)[0], 4)
    4.8298
    """

    mean: float
    sd: float
    on: str = "lin"
    of_scale: bool = False

    def __post_init__(self) -> None:
        _check(self)

    def terms(self, theta: float) -> tuple[float, float, float]:
        """Return the term, its slope and curvature."""
        r, du = _residual(self, theta)
        value = abs(r) + np.log(2 * self.sd)
        return _on_theta(self, theta, float(value), float(np.sign(r)) * du, du**2)


@dataclass(frozen=True)
class UniformPrior:
    r"""The parameter, or its logarithm, is uniform between two values.

    Parameters
    ----------
    low, high
        Ends of :math:`u(\theta)`; outside them the objective is not changed: use bounds.
    on, of_scale
        As for `NormalPrior`.

    Raises
    ------
    OptionError
        Unless low < high.

    Examples
    --------
    >>> round(UniformPrior(0.0, 4.0).terms(1.0)[0], 4)
    1.3863
    """

    low: float
    high: float
    on: str = "lin"
    of_scale: bool = False

    def __post_init__(self) -> None:
        _check_scale(self.on)
        if not self.low < self.high:
            raise OptionError(f"A uniform prior needs low < high; got {self.low}, {self.high}.")

    def terms(self, theta: float) -> tuple[float, float, float]:
        """Return the term, its slope and curvature."""
        return _on_theta(self, theta, float(np.log(self.high - self.low)), 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class PriorTerms:
    """The priors of one point: their sum, its slopes and curvatures on the scale. Shapes (p,)."""

    value: float
    gradient: Floats
    curvature: Floats


def prior_terms(
    priors: Sequence[tuple[int, Prior]], theta: Floats, slopes: Floats, places: NDArray[np.intp]
) -> PriorTerms:
    """Return the priors at a point; ``slopes`` are dtheta/dx of the estimated ``places``."""
    value, gradient, curvature = 0.0, np.zeros(places.size), np.zeros(places.size)
    where = {int(place): k for k, place in enumerate(places)}
    for place, prior in priors:
        term, slope, bend = prior.terms(float(theta[place]))
        value += term
        k = where.get(place)
        if k is not None:
            gradient[k] += slope * slopes[k]
            curvature[k] += bend * slopes[k] ** 2
    return PriorTerms(value, gradient, curvature)


def check_priors(given: Mapping[str, Any], names: Sequence[str]) -> tuple[tuple[int, Prior], ...]:
    """Return priors with the places of their parameters.

    Raises
    ------
    OptionError
        For unknown parameters and things that are no priors.
    """
    result = []
    for name, prior in given.items():
        if name not in names:
            raise OptionError(
                f"priors= names {name}, which is no parameter. The parameters are "
                f"{', '.join(names)}."
            )
        if not isinstance(prior, Prior) or isinstance(prior, type):
            raise OptionError(
                f"The prior of {name} must be a prior such as NormalPrior(mean, sd), with its "
                f"values; got {prior!r}."
            )
        result.append((names.index(name), prior))
    return tuple(result)


def _measure(prior: Any) -> Measure:
    return MEASURES[prior.on]


def _residual(prior: Any, theta: float) -> tuple[float, float]:
    """Return (u(theta) - mean) / sd and its derivative in theta."""
    measure = _measure(prior)
    if not measure.is_positive:
        return (theta - prior.mean) / prior.sd, 1.0 / prior.sd
    u = float(measure.scaled(np.asarray(theta)))
    return (u - prior.mean) / prior.sd, measure.factor / (theta * prior.sd)


def _on_theta(
    prior: Any, theta: float, value: float, slope: float, curvature: float
) -> tuple[float, float, float]:
    """Add what makes a density of u(theta) one of theta."""
    measure = _measure(prior)
    if measure.is_positive and not prior.of_scale:
        value += float(np.log(theta) - np.log(measure.factor))
        slope += 1.0 / theta
    return value, slope, curvature


def _check(prior: Any) -> None:
    _check_scale(prior.on)
    if not (np.isfinite(prior.mean) and np.isfinite(prior.sd) and prior.sd > 0):
        raise OptionError(
            f"{type(prior).__name__} needs a finite mean and a positive sd; got mean "
            f"{prior.mean!r}, sd {prior.sd!r}."
        )


def _check_scale(on: str) -> None:
    if on not in MEASURES:
        raise OptionError(f"on must be one of {', '.join(MEASURES)}; got {on!r}.")
