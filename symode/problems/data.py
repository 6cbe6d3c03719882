"""Data: what was measured, when, and what it measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.errors import DataError
from symode.problems.marks import read_marks, take_marks
from symode.problems.tables import is_frame, read_arrays, read_frame

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Series:
    """The values of one observable that are not missing, in the order of time.

    Parameters
    ----------
    name
        Of the observable.
    expression
        What was measured, in states, time and parameters.
    times, values
        Shape ``(k,)``.
    rows
        Where each stood in the table, counted from 0. Shape ``(k,)``.
    censored
        -1 where the true value is known to be at most the given one, 1 where at least, 0 where it
        was measured. Shape ``(k,)``.
    """

    name: str
    expression: sp.Expr
    times: Floats
    values: Floats
    rows: Ints
    censored: Ints

    def fault(self, bad: NDArray[np.bool_], reason: str, condition: str = "") -> DataError:
        """Return the error for the first of the bad values, by row and column."""
        where = f"Condition {condition!r}: " if condition else ""
        first = int(np.flatnonzero(bad)[0])
        more = int(bad.sum()) - 1
        others = f" ({more} more like it)" if more else ""
        return DataError(
            f"{where}Row {self.rows[first]} of column {self.name!r} "
            f"(t = {self.times[first]:g}) holds {self.values[first]:g}{others}: {reason}"
        )


class Data:
    """Measurements of observables over time.

    Parameters
    ----------
    times
        Shape ``(k,)``, in units of the model's time, in any order and with repeats; rows are
        sorted. Or a DataFrame: wide, with a column per observable and the times in a column or
        in the index; or long, with columns for time, ``observable`` and ``value``.
    values
        A mapping {name: column}, or an array of shape ``(k, r)`` (``(k,)`` for r = 1) with its
        columns in the order of ``observables``. NaN and None mark missing values. Not given with a
        DataFrame.
    observables
        What each column measures: {name: expression in states, time and parameters}. A column that
        is not mentioned measures the state or observable of the model that has its name.
    time
        The column, or index, of a DataFrame that holds the times; None looks for ``time`` and
        ``t``, then takes an index that was set on purpose.
    censored
        {column: marks, one for each row}: ``"<"`` where the true value is at most the given one
        (below a limit of detection), ``">"`` where at least, empty (or 0, None) where it was
        measured. With a DataFrame also the name of the column that holds the marks.
    units
        {column: label}, and ``time``: shown on axes and in tables, not computed with.

    Raises
    ------
    DataError
        With row (counted from 0) and column: times or values that are no numbers, times that are
        missing, lengths that do not match, tables and columns without a single value.

    Examples
    --------
    >>> Data([0, 1, 2], {"prey": [10.0, None, 14.0], "predator": [5, 6, 8]})
    Data(3 rows, t = 0 to 2; prey: 2 values, predator: 3 values)

    >>> import sympy as sp
    >>> x = sp.Symbol("x")
    >>> Data([0, 1, 2], [10.0, 12.0, 14.0], observables={"prey": 2 * x}).names
    ('prey',)
    """

    def __init__(
        self,
        times: Any,
        values: Any = None,
        observables: Mapping[Any, Any] | Sequence[Any] | None = None,
        *,
        time: str | None = None,
        censored: Mapping[Any, Any] | None = None,
        units: Mapping[Any, str] | None = None,
    ) -> None:
        self.expressions = _expressions(observables)
        self.units = {str(name): str(label) for name, label in (units or {}).items()}
        marks = {str(name): value for name, value in (censored or {}).items()}
        if is_frame(times):
            times, marks = take_marks(times, marks)
        if is_frame(times):
            if values is not None:
                raise DataError("A DataFrame already holds the values: leave values= out.")
            t, columns = read_frame(times, time)
        elif values is None:
            raise DataError(
                "No values: pass Data(times, values), or a DataFrame with times and values in it."
            )
        else:
            names = None if observables is None else tuple(self.expressions)
            t, columns = read_arrays(times, values, names)
        _check(t, columns)
        for name in self.expressions:
            if name not in columns:
                raise DataError(_unknown("observable", name, columns, "There is no such column"))
        # Stable: rows of one time keep their order.
        order = np.argsort(t, kind="stable")
        self.names: tuple[str, ...] = tuple(columns)
        self.times: Floats = t[order]
        self.values: Floats = np.column_stack([columns[name] for name in columns])[order]
        self.rows: Ints = order.astype(np.int64)
        self.censored: Ints = read_marks(marks, self.names, t.size)[order]

    @classmethod
    def split(cls, frame: Any, by: str, **options: Any) -> dict[str, Data]:
        """Return the data of each condition of a DataFrame: {name: Data}.

        Parameters
        ----------
        frame
            A table, wide or long, with one column more.
        by
            The column that names the condition of each row.
        **options
            As for `Data`.

        Raises
        ------
        DataError
            When there is no such column, and as `Data`, naming the condition.

        Examples
        --------
        >>> import pandas as pd
        >>> table = pd.DataFrame({"time": [1, 2, 1], "x": [3.0, 4.0, 5.0], "dose": ["a", "a", "b"]})
        >>> Data.split(table, by="dose")["b"]
        Data(1 rows, t = 1 to 1; x: 1 values)
        """
        if not is_frame(frame) or by not in frame.columns:
            given = list(frame.columns) if is_frame(frame) else type(frame).__name__
            raise DataError(f"There is no column {by!r} to split by; got {given}.")
        parts: dict[str, Data] = {}
        for name, rows in frame.groupby(by, sort=False):
            rest = rows.drop(columns=by).dropna(axis="columns", how="all").reset_index(drop=True)
            try:
                parts[str(name)] = cls(rest, **options)
            except DataError as error:
                raise DataError(f"Condition {name!r}: {error}") from None
        if len(parts) and frame[by].isna().any():
            row = int(np.flatnonzero(frame[by].isna())[0])
            raise DataError(f"Row {row} names no condition in column {by!r}.")
        if not parts:
            raise DataError("The table is empty: it has no rows.")
        return parts

    def __len__(self) -> int:
        """Return the number of values that are not missing."""
        return int(np.count_nonzero(~np.isnan(self.values)))

    def series(self, equations: Equations) -> tuple[Series, ...]:
        """Return each observable's values with the expression they measure.

        Raises
        ------
        DataError
            Naming a column that measures nothing the model knows.
        """
        known: dict[str, Any] = dict(zip(equations.state_names, equations.states, strict=True))
        known |= dict(equations.observables)
        result = []
        for j, name in enumerate(self.names):
            meaning = self.expressions.get(name, name)
            if isinstance(meaning, str):
                if meaning not in known:
                    raise DataError(
                        _unknown(
                            "column", meaning, known, "The model has no such state or observable"
                        )
                        + f" Pass observables={{{name!r}: expression}}, or drop the column."
                    )
                meaning = known[meaning]
            there = ~np.isnan(self.values[:, j])
            result.append(
                Series(
                    name,
                    meaning,
                    self.times[there],
                    self.values[there, j],
                    self.rows[there],
                    self.censored[there, j],
                )
            )
        return tuple(result)

    def __repr__(self) -> str:
        """Return sizes, span and names."""
        counts = np.count_nonzero(~np.isnan(self.values), axis=0)
        columns = ", ".join(f"{n}: {c} values" for n, c in zip(self.names, counts, strict=True))
        span = f"t = {self.times[0]:g} to {self.times[-1]:g}"
        return f"Data({self.times.size} rows, {span}; {columns})"


def _expressions(observables: Mapping[Any, Any] | Sequence[Any] | None) -> dict[str, Any]:
    """Return {column: expression or name}."""
    if observables is None:
        return {}
    if isinstance(observables, str):
        observables = [observables]
    pairs = (
        observables.items()
        if isinstance(observables, Mapping)
        else [(entry, entry) for entry in observables]
    )
    result: dict[str, Any] = {}
    for name, meaning in pairs:
        if not isinstance(meaning, str | sp.Expr):
            raise DataError(
                f"The observable {name} must be a SymPy expression, or the name of a state or "
                f"observable of the model; got {meaning!r}."
            )
        if str(name) in result:
            raise DataError(f"The observable {name} is given twice.")
        result[str(name)] = meaning
    return result


def _check(times: Floats, columns: Mapping[str, Floats]) -> None:
    if not times.size or not columns:
        missing = "rows" if not times.size else "columns of values"
        raise DataError(f"The table is empty: it has no {missing}.")
    if not np.isfinite(times).all():
        row = int(np.flatnonzero(~np.isfinite(times))[0])
        raise DataError(
            f"Row {row} has the time {times[row]}: every row needs a finite time. Drop the row, or "
            "give it one."
        )
    for name, column in columns.items():
        if np.isinf(column).any():
            row = int(np.flatnonzero(np.isinf(column))[0])
            raise DataError(
                f"Row {row} of column {name!r} (t = {times[row]:g}) holds {column[row]}: values "
                "must be finite. NaN marks a missing one."
            )
        if np.isnan(column).all():
            raise DataError(f"Column {name!r} holds no value at all: drop it.")


def _unknown(what: str, name: str, known: Mapping[str, Any], sentence: str) -> str:
    close = get_close_matches(name, list(known), 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"Unknown {what} {name!r}{hint}. {sentence}; known: {', '.join(known) or 'none'}."
