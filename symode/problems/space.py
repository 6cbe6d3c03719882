"""The space of a problem's parameters: which are estimated, on which scale, in which bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from symode.equations.values import Named, named
from symode.errors import OptionError, SolverError
from symode.problems.transforms import TRANSFORMS, Logit, Transform

Floats = NDArray[np.float64]

#: Bounds of a parameter on a logarithmic scale that was given none.
DEFAULT_BOUNDS = (1e-3, 1e3)


@dataclass(frozen=True, eq=False)
class ParameterSpace:
    r"""The parameters that are estimated, each on its scale and within its bounds.

    Parameters
    ----------
    parameters
        Names of all parameters of the model, in order. Length m.
    places
        Positions of those estimated. Shape ``(p,)``.
    values
        All parameters, shape ``(m,)``: those that are fixed at their value, the others at NaN.
    transforms
        Scale of each estimated parameter. Length p.
    lower, upper
        Bounds on the scale. Shape ``(p,)``.
    """

    parameters: tuple[str, ...]
    places: NDArray[np.intp]
    values: Floats
    transforms: tuple[Transform, ...]
    lower: Floats
    upper: Floats

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the estimated parameters."""
        return tuple(self.parameters[i] for i in self.places)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the estimated parameters on their scales."""
        pairs = zip(self.transforms, self.names, strict=True)
        return tuple(transform.label(name) for transform, name in pairs)

    @property
    def size(self) -> int:
        """Number of estimated parameters, p."""
        return int(self.places.size)

    @cached_property
    def groups(self) -> tuple[tuple[Transform, NDArray[np.intp]], ...]:
        """Each transform with the entries of x that it serves."""
        kinds = dict.fromkeys(self.transforms)
        return tuple(
            (kind, np.flatnonzero([transform == kind for transform in self.transforms]))
            for kind in kinds
        )

    def check(self, x: ArrayLike) -> Floats:
        """Return a point as an array.

        Raises
        ------
        OptionError
            Unless it has one number for each estimated parameter.
        """
        try:
            point = np.asarray(x, dtype=float)
        except (TypeError, ValueError):
            raise OptionError(
                f"A point is an array of numbers, one for each of {', '.join(self.labels)}; got "
                f"{x!r}. Make one of parameter values with problem.space.point(theta)."
            ) from None
        if point.shape != (self.size,):
            raise OptionError(
                f"A point has one number for each of the {self.size} estimated parameters "
                f"({', '.join(self.labels)}); got shape {point.shape}. Make one of parameter "
                "values with problem.space.point(theta)."
            )
        if not np.isfinite(point).all():
            bad = [self.labels[i] for i in np.flatnonzero(~np.isfinite(point))]
            # What failed solves raise, so that searches step back.
            raise SolverError(f"A point must be finite; {', '.join(bad)} is not.")
        return point

    def theta(self, x: Floats) -> Named:
        """Return all parameters of a point on the scale. Shape ``(m,)``."""
        theta = self.values.copy()
        for transform, entries in self.groups:
            theta[self.places[entries]] = transform.to_theta(np.asarray(x)[entries])
        return named(theta, self.parameters)

    def point(self, theta: Floats) -> Floats:
        """Return the point on the scale of all parameters, inside the bounds. Shape ``(p,)``.

        Raises
        ------
        OptionError
            For a value that is not positive on a logarithmic scale.
        """
        return self.inside(self._scaled(np.asarray(theta)[self.places]))

    def begin(self, theta: Floats) -> Floats:
        """Return the point on the scale of parameters to start at. Shape ``(p,)``.

        Raises
        ------
        OptionError
            As `point`, and naming a parameter outside its bounds.
        """
        values = np.asarray(theta)[self.places]
        x = self._scaled(values)
        inside = self.inside(x)
        # Rounding of the scale is forgiven.
        bad = np.flatnonzero(np.abs(x - inside) > 1e-9 * np.maximum(1.0, np.abs(inside)))
        if bad.size:
            i = int(bad[0])
            low, high = (float(self.transforms[i].to_theta(b[i])) for b in (self.lower, self.upper))
            raise OptionError(
                f"The starting point has {self.names[i]} = {values[i]:g}, outside its bounds "
                f"({low:g}, {high:g}). Move it inside, or widen bounds=."
            )
        return inside

    def begin_all(self, rows: Floats) -> Floats | None:
        """Return the points of several rows of parameters, see `begin`; None where any is wrong."""
        if rows.shape[1] != len(self.parameters) or not np.isfinite(rows).all():
            return None
        values = rows[:, self.places]
        x = np.empty_like(values)
        with np.errstate(divide="ignore", invalid="ignore"):
            for transform, entries in self.groups:
                x[:, entries] = transform.to_scale(values[:, entries])
        inside = self.inside(x)
        near = np.abs(x - inside) <= 1e-9 * np.maximum(1.0, np.abs(inside))
        return inside if near.all() else None

    def _scaled(self, values: Floats) -> Floats:
        x = np.empty(self.size)
        for transform, entries in self.groups:
            with np.errstate(divide="ignore", invalid="ignore"):
                x[entries] = transform.to_scale(values[entries])
        bad = np.isnan(x)
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            raise OptionError(
                f"{self.names[i]} = {values[i]:g} has no place on the scale "
                f"{self.transforms[i].name}, which is for positive values."
            )
        return x

    def slopes(self, x: Floats) -> Floats:
        r"""Return :math:`d\theta/dx` of the estimated parameters. Shape ``(p,)``."""
        values, slopes = np.asarray(self.theta(x))[self.places], np.empty(self.size)
        for transform, entries in self.groups:
            slopes[entries] = transform.slope(values[entries])
        return slopes

    def inside(self, x: Floats) -> Floats:
        """Return the nearest point within the bounds."""
        return np.clip(x, self.lower, self.upper)

    @property
    def widths(self) -> Floats:
        """Distance of the bounds on the scale; infinite where there is none. Shape ``(p,)``."""
        return self.upper - self.lower

    def at_bound(self, x: Floats, slack: float = 1e-6) -> NDArray[np.intp]:
        """Return -1 at the lower bound, 1 at the upper, 0 between. Shape ``(p,)``."""
        room = slack * np.where(np.isfinite(self.widths), self.widths, 0.0)
        return (x >= self.upper - room).astype(np.intp) - (x <= self.lower + room).astype(np.intp)


def make_space(
    parameters: Sequence[str], bounds: Any, scale: Any, fixed: Mapping[Any, float] | None
) -> ParameterSpace:
    """Return the space of the parameters that are not fixed.

    Raises
    ------
    OptionError
        Naming the parameter whose scale, bounds or value cannot be.

    Examples
    --------
    >>> space = make_space(["a", "b"], {"a": (0.1, 10)}, "log10", {"b": 2.0})
    >>> space.labels, space.lower.tolist(), space.theta([0.0])
    (('log10(a)',), [-1.0], a=1, b=2)
    """
    values = np.full(len(parameters), np.nan)
    for name, value in _by_name(fixed or {}, parameters, "fixed").items():
        values[parameters.index(name)] = _finite(value, f"The fixed value of {name}")
    places = np.flatnonzero(np.isnan(values))
    if not places.size:
        raise OptionError("Every parameter is fixed: there is nothing to estimate.")
    free = [parameters[int(i)] for i in places]
    scales = _scales(scale, parameters)
    limits = _by_name(_as_mapping(bounds, parameters), parameters, "bounds")
    contradictions = [name for name in limits if name not in free]
    if contradictions and isinstance(bounds, Mapping):
        raise OptionError(f"{', '.join(contradictions)}: fixed, so bounds= has no use for it.")
    pairs = [_limits(name, scales[name], limits) for name in free]
    return ParameterSpace(
        tuple(parameters),
        places,
        values,
        tuple(scales[name] for name in free),
        np.array([low for low, _ in pairs]),
        np.array([high for _, high in pairs]),
    )


def _limits(name: str, transform: Transform, limits: Mapping[str, Any]) -> tuple[float, float]:
    if name not in limits and isinstance(transform, Logit):
        # The ends are at infinity on the scale; 1e-3 of the range from them is a start.
        low, high = (transform.low + s * (transform.high - transform.low) for s in (1e-3, 0.999))
    elif name not in limits:
        if not transform.is_positive:
            raise OptionError(
                f"{name} has no bounds. Give bounds={{{name}: (low, high)}} (they may be infinite) "
                f"or scale='log10', whose default is {DEFAULT_BOUNDS}."
            )
        low, high = DEFAULT_BOUNDS
    else:
        try:
            low, high = (float(v) for v in limits[name])
        except (TypeError, ValueError):
            raise OptionError(
                f"The bounds of {name} must be a pair (low, high); got {limits[name]!r}."
            ) from None
    if not low < high:
        raise OptionError(
            f"The bounds of {name} must be low < high; got ({low:g}, {high:g}). A parameter with "
            "one value only belongs into fixed=."
        )
    if transform.is_positive and not low > 0:
        raise OptionError(
            f"{name} is on the scale {transform.name}, so its bounds must be positive; got "
            f"({low:g}, {high:g}). Use scale={{{name}: 'lin'}} for it."
        )
    if isinstance(transform, Logit) and not (transform.low <= low and high <= transform.high):
        raise OptionError(
            f"{name} is on a logit scale between {transform.low:g} and {transform.high:g}, so its "
            f"bounds must lie there; got ({low:g}, {high:g})."
        )
    with np.errstate(divide="ignore"):
        return float(transform.to_scale(low)), float(transform.to_scale(high))


def _scales(scale: Any, parameters: Sequence[str]) -> dict[str, Transform]:
    if isinstance(scale, Mapping):
        given = _by_name(scale, parameters, "scale")
    else:
        given = dict.fromkeys(parameters, scale)
    result: dict[str, Transform] = {}
    for name in parameters:
        choice = given.get(name, "lin")
        if isinstance(choice, Transform) and not isinstance(choice, type):
            result[name] = choice
            continue
        if not isinstance(choice, str) or choice not in TRANSFORMS:
            raise OptionError(
                f"The scale of {name} must be one of {', '.join(TRANSFORMS)}, or symode.Logit(low, "
                f"high), symode.Affine(shift, factor); got {choice!r}."
            )
        result[name] = TRANSFORMS[choice]
    return result


def _as_mapping(bounds: Any, parameters: Sequence[str]) -> Mapping[Any, Any]:
    """Return bounds by name: one pair for all, a pair for each in order, or a mapping."""
    if bounds is None:
        return {}
    if isinstance(bounds, Mapping):
        return bounds
    pairs = np.asarray(bounds, dtype=float)
    if pairs.shape == (2,):
        pairs = np.broadcast_to(pairs, (len(parameters), 2))
    if pairs.shape != (len(parameters), 2):
        raise OptionError(
            f"bounds must be a mapping, one pair for all, or a pair for each of the "
            f"{len(parameters)} parameters ({', '.join(parameters)}); got shape {pairs.shape}."
        )
    return dict(zip(parameters, pairs.tolist(), strict=True))


def _by_name(given: Mapping[Any, Any], parameters: Sequence[str], what: str) -> dict[str, Any]:
    result = {str(key): value for key, value in given.items()}
    for name in result:
        if name not in parameters:
            close = get_close_matches(name, parameters, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise OptionError(
                f"{what}= names {name}{hint}, which is no parameter. The parameters are "
                f"{', '.join(parameters) or 'none'}."
            )
    return result


def _finite(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise OptionError(f"{what} must be a finite number; got {value!r}.")
    return number
