"""Tables of measurements as people keep them, read into columns; every fault named by its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.errors import DataError

Floats = NDArray[np.float64]

#: Names a column of times may have without being told so.
TIME_NAMES = ("time", "t")
#: Columns, beside time, of a table that has one row for each measurement.
LONG_NAMES = ("observable", "value")


def is_frame(table: Any) -> bool:
    """Tell whether this is a DataFrame, of pandas or alike, without importing any of them."""
    return hasattr(table, "columns") and hasattr(table, "__getitem__") and not is_mapping(table)


def is_mapping(table: Any) -> bool:
    """Tell whether this is a plain mapping."""
    return isinstance(table, Mapping)


def numbers(values: Any, what: str) -> Floats:
    """Return one column as floats; None and the like become NaN.

    Raises
    ------
    DataError
        Naming the first row that is not a number, counted from 0.

    Examples
    --------
    >>> numbers([1, None, "2.5"], "column 'x'").tolist()
    [1.0, nan, 2.5]
    """
    cells = list(values)
    try:
        # Booleans and dates turn into floats silently, so they are looked for below.
        if not _has_strange_type(values):
            return np.array(cells, dtype=float)
    except (TypeError, ValueError):
        pass
    result = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            result[row] = _number(cell)
        except (TypeError, ValueError):
            raise DataError(
                f"Row {row} of {what} holds {cell!r}, which is not a number. Leave a missing value "
                "empty (NaN or None)."
            ) from None
    return result


def _has_strange_type(values: Any) -> bool:
    dtype = getattr(values, "dtype", None)
    return dtype is not None and getattr(dtype, "kind", "O") not in "iufO"


def _number(cell: Any) -> float:
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return float("nan")
    if isinstance(cell, bool | np.bool_ | np.datetime64 | np.timedelta64):
        raise TypeError
    return float(cell)


def read_frame(frame: Any, time: str | None) -> tuple[Floats, dict[str, Floats]]:
    """Return times and columns of a wide or long DataFrame.

    Parameters
    ----------
    frame
        Wide: a column for each observable, times in a column or in the index. Long: a row for each
        measurement, with columns ``observable``, ``value`` and that of the times.
    time
        Name of the column, or of the index, that holds the times. None looks for ``time`` or ``t``,
        then takes an index that was set on purpose.

    Raises
    ------
    DataError
        Naming row and column.
    """
    columns = [str(column) for column in frame.columns]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise DataError(f"The table has more than one column named {', '.join(doubled)}.")
    original = dict(zip(columns, frame.columns, strict=True))
    times, time_name = _times_of(frame, original, time)
    rest = [name for name in columns if name != time_name]
    if set(LONG_NAMES) <= set(rest):
        extra = [name for name in rest if name not in LONG_NAMES]
        if extra:
            raise DataError(
                f"A long table has the columns time, observable and value; this one also has "
                f"{', '.join(extra)}. Drop what is not a measurement."
            )
        names, value = (frame[original[name]] for name in LONG_NAMES)
        return times, _widened(list(names), numbers(value, "column 'value'"))
    return times, {name: numbers(frame[original[name]], f"column {name!r}") for name in rest}


def _times_of(
    frame: Any, original: Mapping[str, Any], time: str | None
) -> tuple[Floats, str | None]:
    index = getattr(frame, "index", None)
    index_name = getattr(index, "name", None)
    if time is None:
        found = [name for name in TIME_NAMES if name in original]
        if len(found) > 1:
            raise DataError(
                f"Columns {' and '.join(found)} could both hold the times: say which with time=."
            )
        # The index pandas makes by itself counts rows; to take it for times would be a guess.
        counted = type(index).__name__ == "RangeIndex" and index_name not in TIME_NAMES
        if not found and (index is None or counted):
            raise DataError(
                f"The table has no times among its columns {', '.join(original) or '(none)'}: name "
                "the column with time=, or make the times its index."
            )
        time = found[0] if found else None
    if time is not None and time in original:
        return numbers(frame[original[time]], f"column {time!r}"), time
    if time is not None and time != index_name:
        raise DataError(
            f"There is no column {time!r} for the times. The table has "
            f"{', '.join(original) or 'no columns'}."
        )
    return numbers(index, "the index"), None


def _widened(names: Sequence[Any], values: Floats) -> dict[str, Floats]:
    """Return one column per observable, each row holding the one value measured there."""
    columns: dict[str, Floats] = {}
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        if not isinstance(name, str) or not name:
            raise DataError(
                f"Row {row} of column 'observable' holds {name!r}, which is no observable's name."
            )
        columns.setdefault(name, np.full(len(names), np.nan))[row] = value
    return columns


def read_arrays(
    times: Any, values: Any, names: Sequence[str] | None
) -> tuple[Floats, dict[str, Floats]]:
    """Return times and columns given as arrays, or as a mapping of columns.

    Raises
    ------
    DataError
        For lengths that do not match, columns without a name, and cells that are no numbers.
    """
    if not isinstance(times, Iterable) or isinstance(times, str):
        raise DataError(f"times must be a sequence of numbers; got {times!r}.")
    t = numbers(times, "times")
    if is_mapping(values) or is_frame(values):
        columns = {str(name): numbers(values[name], f"column {str(name)!r}") for name in values}
    else:
        try:
            array = np.asarray(values)
        except ValueError:
            raise DataError("The rows of values differ in length; pass one row per time.") from None
        if array.ndim not in (1, 2):
            raise DataError(
                f"values must have one row per time and one column per observable; got shape "
                f"{array.shape}."
            )
        array = array.reshape(array.shape[0], -1) if array.size else array.reshape(0, 1)
        if names is None or len(names) != array.shape[1]:
            given = "no observables" if names is None else f"observables {', '.join(names)}"
            raise DataError(
                f"values has {array.shape[1]} columns, but {given} to say what they are. Pass "
                "observables={name: expression} with one entry per column, or values as a dict "
                "{name: column}."
            )
        columns = {name: numbers(array[:, j], f"column {name!r}") for j, name in enumerate(names)}
    for name, column in columns.items():
        if column.size != t.size:
            raise DataError(f"Column {name!r} has {column.size} values for {t.size} times.")
    return t, columns
