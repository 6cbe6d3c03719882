r"""Prediction bands: what the uncertainty of the parameters means for the curves.

Delta method: with the covariance C of the parameters on their scale,

.. math:: \operatorname{var} h(t) = \frac{dh}{dx}\, C\, \frac{dh}{dx}^\top

from exact sensitivities. Ensemble: the range of the curves of all parameters that profiles have
found compatible with the data; it follows curved and one-sided uncertainty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from symode.equations.loss import Loss, ObservationGroup
from symode.errors import DataError, OptionError
from symode.gradients.residuals import Residuals
from symode.problems.intervals import invert_information
from symode.problems.parts import Part
from symode.problems.problem import Problem
from symode.problems.profiles import Profile, profiles

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Band:
    """Curves with their uncertainty.

    Parameters
    ----------
    times
        Shape ``(k,)``.
    names
        Of the r observables.
    curve
        At the best fit. Shape ``(r, k)``.
    lower, upper
        Ends of the band of the curve itself, without measurement noise. Shape ``(r, k)``.
    level, method
        Confidence level at each time, and how the band was made.
    """

    times: Floats
    names: tuple[str, ...]
    curve: Floats
    lower: Floats
    upper: Floats
    level: float
    method: str

    def __getitem__(self, name: Any) -> tuple[Floats, Floats, Floats]:
        """Return (curve, lower, upper) of one observable."""
        j = self.names.index(str(name))
        return self.curve[j], self.lower[j], self.upper[j]

    def plot(self, axes: Any = None) -> Any:
        """Draw the bands; return the axes."""
        from symode.problems.plots_uncertainty import plot_band

        return plot_band(self, axes)

    def __repr__(self) -> str:
        """Return what is in it."""
        return (
            f"Band({', '.join(self.names)} at {self.times.size} times, {100 * self.level:g} %, "
            f"{self.method})"
        )


def prediction_band(
    problem: Problem,
    x: Floats,
    times: ArrayLike,
    observables: Mapping[str, Any] | Sequence[str] | None = None,
    level: float = 0.95,
    method: str = "delta",
    condition: str | None = None,
    found: Mapping[str, Profile] | None = None,
) -> Band:
    """Return curves with bands around a point on the scale; see `Fit.band`.

    Raises
    ------
    OptionError
        For unknown observables and methods, and levels outside 0 to 1.
    DataError
        For times before t0.
    """
    if not 0 < level < 1:
        raise OptionError(f"level must lie between 0 and 1; got {level!r}.")
    if method not in ("delta", "ensemble"):
        raise OptionError(f"method must be 'delta' or 'ensemble'; got {method!r}.")
    part = problem.part(condition)
    wanted = np.atleast_1d(np.asarray(times, dtype=float))
    if not np.isfinite(wanted).all() or (wanted < part.t0).any():
        raise DataError(f"times must be finite and not before t0 = {part.t0:g}.")
    names, expressions = _expressions(problem, part, observables)
    if method == "delta":
        curve, half = _delta(problem, part, x, wanted, expressions, level)
        lower, upper = curve - half, curve + half
    else:
        curve, lower, upper = _ensemble(problem, x, wanted, expressions, level, condition, found)
    return Band(wanted, names, curve, lower, upper, level, method)


def _delta(
    problem: Problem, part: Part, x: Floats, times: Floats, expressions: list[Any], level: float
) -> tuple[Floats, Floats]:
    from scipy.stats import norm

    space = problem.space
    order = np.argsort(times, kind="stable")
    groups = [ObservationGroup(h, times[order]) for h in expressions]
    if not (times > part.t0).any():
        # A solve needs a span; this time is asked for and not used.
        groups.append(ObservationGroup(part.equations.states[0], np.array([part.t0 + 1.0])))
    residuals = Residuals(part.equations, Loss(observations=groups), t0=part.t0, **problem.options)
    outer = np.asarray(space.theta(x))
    values, rows = residuals(part.parameters.theta(outer))
    count = times.size * len(expressions)
    slopes = part.parameters.pull(rows, outer)[:count, space.places] * space.slopes(x)
    free = np.flatnonzero(space.at_bound(x) == 0)
    inverse, _ = invert_information(problem.scores(x).information_root[:, free])
    # A parameter the data do not determine makes no finite band where the curve depends on it.
    unknown = np.isinf(np.diag(inverse))
    covariance = np.where(np.isfinite(inverse), inverse, 0.0)
    variance = np.einsum("ki,ij,kj->k", slopes[:, free], covariance, slopes[:, free])
    size = np.max(np.abs(slopes), axis=1, keepdims=True, initial=1e-300)
    variance[(np.abs(slopes[:, free][:, unknown]) > 1e-6 * size).any(axis=1)] = np.inf
    half = float(norm.ppf(0.5 + level / 2)) * np.sqrt(variance)
    back = np.empty_like(order)
    back[order] = np.arange(order.size)
    shape = (len(expressions), times.size)
    return values[:count].reshape(shape)[:, back], half.reshape(shape)[:, back]


def _ensemble(
    problem: Problem,
    x: Floats,
    times: Floats,
    expressions: list[Any],
    level: float,
    condition: str | None,
    found: Mapping[str, Profile] | None,
) -> tuple[Floats, Floats, Floats]:
    known = profiles(problem, x, level=level, workers=1) if found is None else found
    points = [x]
    for entry in known.values():
        points += [p for p, v in zip(entry.points, entry.objective, strict=True)
                   if v <= entry.threshold + 1e-4]  # fmt: skip
    curves = np.array(
        [problem.courses(problem.space.theta(p), times, expressions, condition) for p in points]
    )
    return curves[0], curves.min(axis=0), curves.max(axis=0)


def _expressions(
    problem: Problem, part: Part, observables: Mapping[str, Any] | Sequence[str] | None
) -> tuple[tuple[str, ...], list[Any]]:
    known = {column.name: column.expression for column in problem.columns}
    known |= dict(part.equations.observables)
    known |= {state.name: state for state in part.equations.states if state.name not in known}
    if observables is None:
        names = [series.name for series in part.series]
        return tuple(names), [known[name] for name in names]
    if isinstance(observables, Mapping):
        return tuple(str(n) for n in observables), list(observables.values())
    names = [observables] if isinstance(observables, str) else [str(n) for n in observables]
    for name in names:
        if name not in known:
            raise OptionError(f"There is no observable {name!r}. Known: {', '.join(known)}.")
    return tuple(names), [known[name] for name in names]
