"""What a problem is given, checked and brought together: conditions, columns, noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from symode.equations.equations import Equations
from symode.equations.walk import symbols_in
from symode.errors import DataError, OptionError
from symode.interface.model import Model
from symode.problems.censoring import KNOWN, can_be_censored
from symode.problems.conditions import Condition, Layout
from symode.problems.data import Data, Series
from symode.problems.noise import Noise, spread
from symode.problems.parts import Column
from symode.problems.space import ParameterSpace
from symode.problems.tables import is_frame
from symode.solvers.methods import did_you_mean

if TYPE_CHECKING:
    from symode.problems.problem import Problem

#: See `Problem.relaxed`: no likelihood of interest has a model value that far below all data.
FLOOR = 1e-9
#: Name of the one condition of a problem that has no other.
SINGLE = ""


def check_parts(model: Any, data: Any) -> None:
    """Raise unless these are a model and data.

    Raises
    ------
    OptionError
        Saying what was given, and how to make data of it.
    """
    sound = isinstance(data, Data) or (
        isinstance(data, Mapping)
        and len(data) > 0
        and all(isinstance(part, Data) for part in data.values())
    )
    if isinstance(model, Model) and sound:
        return
    way_out = ""
    if is_frame(data):
        way_out = " Wrap the table: symode.Data(frame)."
    elif isinstance(model, Data) and isinstance(data, Model):
        way_out = " Swap the first two."
    elif isinstance(data, Mapping):
        way_out = " A mapping must hold symode.Data for each condition."
    raise OptionError(
        "Problem expects (model, data, noise): a Model, then Data; got a "
        f"{type(model).__name__}, then a {type(data).__name__}.{way_out}"
    )


def read_conditions(
    data: Data | Mapping[Any, Data], conditions: Mapping[Any, Condition] | None
) -> tuple[dict[str, Data], dict[str, Condition]]:
    """Return the data and the settings of each condition, by name.

    Raises
    ------
    OptionError
        For conditions without data, and one set of data with several conditions.
    """
    if conditions is not None and not isinstance(conditions, Mapping):
        raise OptionError(
            f"conditions= must map names to symode.Condition(...); got {conditions!r}."
        )
    given = {str(name): condition for name, condition in (conditions or {}).items()}
    if len(given) < len(conditions or {}):
        raise OptionError("Two conditions have the same name.")
    if isinstance(data, Data):
        if len(given) > 1:
            raise OptionError(
                f"There are {len(given)} conditions but one set of data. Pass data as "
                "{condition: Data}, or split a table: symode.Data.split(frame, by=column)."
            )
        name = next(iter(given), SINGLE)
        return {name: data}, {name: given.get(name, Condition())}
    measured = {str(name): part for name, part in data.items()}
    if len(measured) < len(data):
        raise OptionError("Two sets of data have the same condition.")
    for name in given:
        if name not in measured:
            raise OptionError(
                f"Condition {name!r}{did_you_mean(name, tuple(measured))} has no data. There are "
                f"data of {', '.join(map(repr, measured))}."
            )
    return measured, {name: given.get(name, Condition()) for name in measured}


def make_columns(
    found: Mapping[str, Sequence[Series]], noise: Any, equations: Equations
) -> tuple[Column, ...]:
    """Return every observable of all conditions once, with its noise.

    Raises
    ------
    OptionError
        When a noise is missing, unknown or no noise, or a column measures two things.
    DataError
        For censored values under a noise that has no probability for them.
    """
    first: dict[str, Series] = {}
    codes: dict[str, set[int]] = {}
    for condition, part in found.items():
        for series in part:
            known = first.setdefault(series.name, series)
            codes.setdefault(series.name, set()).update(np.unique(series.censored).tolist())
            if known.expression != series.expression:
                raise OptionError(
                    f"Column {series.name!r} measures {series.expression} in condition "
                    f"{condition!r}, but {known.expression} in another: give it two names."
                )
    columns = []
    for name, series in first.items():
        kind = _noise_of(name, noise, tuple(first))
        kinds = tuple(sorted(codes[name], key=abs))
        if kinds != (KNOWN,) and not can_be_censored(kind):
            raise DataError(
                f"Column {name!r} has censored values, which need normal noise (Normal, LogNormal, "
                f"Log10Normal); it has {type(kind).__name__}."
            )
        columns.append(Column(name, series.expression, kind, spread(kind, equations, name), kinds))
    return tuple(columns)


def check_series(
    condition: str, series: Sequence[Series], columns: Sequence[Column], t0: float
) -> None:
    """Raise for times before t0, and values that the noise cannot produce.

    Raises
    ------
    DataError
        Naming row and column.
    """
    noise = {column.name: column.noise for column in columns}
    for part in series:
        early = part.times < t0
        if early.any():
            raise part.fault(
                early,
                f"its time is before t0 = {t0:g}, when the initial values hold. Pass t0= if they "
                "hold earlier, or drop the row.",
                condition,
            )
        bad, reason = noise[part.name].fault(part.values)
        if bad.any():
            raise part.fault(bad, reason, condition)


def check_sigma(columns: Sequence[Column], layout: Layout, space: ParameterSpace) -> None:
    """Raise where a sigma that is a parameter may become zero or negative.

    Raises
    ------
    OptionError
        Naming the parameter, its bounds or its value.
    """
    parameters = layout.equations.parameters
    for column in columns:
        sigma = column.sigma
        if not isinstance(sigma, sp.Symbol) or sigma not in parameters:
            continue
        place = parameters.index(sigma)
        outer = {int(part.source[place]) for part in layout.maps.values()} - {-1}
        for i in sorted(outer):
            name = space.parameters[i]
            if name in space.names:
                k = space.names.index(name)
                if not space.transforms[k].is_positive and not space.lower[k] > 0:
                    raise OptionError(
                        f"{name} is the sigma of {column.name}, so its bounds must be positive; "
                        f"the lower one is {space.lower[k]:g}."
                    )
            elif not space.values[i] > 0:
                raise OptionError(
                    f"{name} is a sigma, so it must be positive; it is {space.values[i]:g}."
                )
        for label, part in layout.maps.items():
            if part.source[place] < 0 and place not in part.places and not part.constant[place] > 0:
                raise OptionError(
                    f"{sigma} is a sigma, so it must be positive; condition {label!r} sets it to "
                    f"{part.constant[place]:g}."
                )


def _noise_of(name: str, noise: Any, columns: tuple[str, ...]) -> Noise:
    if isinstance(noise, Mapping):
        given = {str(key): kind for key, kind in noise.items()}
        unknown = [key for key in given if key not in columns]
        if unknown or name not in given:
            missing = [column for column in columns if column not in given]
            raise OptionError(
                f"noise= must name every column once; missing: {', '.join(missing) or 'none'}; "
                f"unknown: {', '.join(unknown) or 'none'}."
            )
        noise = given[name]
    if not isinstance(noise, Noise) or isinstance(noise, type):
        raise OptionError(
            f"The noise of {name} must be Normal(sigma) or LogNormal(sigma), or another kind with "
            f"its values; got {noise!r}."
        )
    return noise


def are_squares(problem: Problem) -> bool:
    """Return whether noise is normal, no sigma is estimated, and there are no priors."""
    estimated = set(problem.model.equations.states)
    moving = np.zeros(len(problem.space.parameters), dtype=bool)
    moving[problem.space.places] = True
    for part in problem.parts:
        source = part.parameters.source
        moved = {i for i, place in enumerate(source) if place >= 0 and moving[place]}
        moved |= set(part.parameters.places.tolist())
        estimated |= {part.equations.parameters[i] for i in moved}
    return not problem.priors and all(
        column.noise.is_normal
        and column.codes == (KNOWN,)
        and estimated.isdisjoint(symbols_in([column.sigma]))
        for column in problem.columns
    )


def floored(column: Column, series: Sequence[Series]) -> Column:
    """Return the column with model values of at least a share of the lowest measured one."""
    if not column.noise.is_positive:
        return column
    positive = np.concatenate([s.values for s in series if s.name == column.name])
    positive = positive[positive > 0]
    lowest = FLOOR * float(positive.min(initial=np.inf) if positive.size else 1.0)
    expression = sp.Max(column.expression, sp.Float(lowest), evaluate=False)
    return Column(column.name, expression, column.noise, column.sigma, column.codes)
