"""Marks of censored values in tables and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from symode.errors import DataError
from symode.problems.censoring import ABOVE, BELOW, KNOWN

Ints = NDArray[np.int64]

#: What a mark may look like.
MARKS: Final[dict[Any, int]] = {
    "<": BELOW,
    "below": BELOW,
    "left": BELOW,
    -1: BELOW,
    ">": ABOVE,
    "above": ABOVE,
    "right": ABOVE,
    1: ABOVE,
    "": KNOWN,
    0: KNOWN,
    None: KNOWN,
}


def read_marks(marks: Mapping[str, Any], names: Sequence[str], count: int) -> Ints:
    """Return codes of all values. Shape ``(count, len(names))``.

    Raises
    ------
    DataError
        Naming row and column of a mark that is none, and columns that do not exist.

    Examples
    --------
    >>> read_marks({"x": ["<", "", ">"]}, ["x"], 3).ravel().tolist()
    [-1, 0, 1]
    """
    codes = np.zeros((count, len(names)), dtype=np.int64)
    for name, given in marks.items():
        if name not in names:
            raise DataError(
                f"censored= names the column {name!r}, which there is not. Known: "
                f"{', '.join(names)}."
            )
        entries = [given] * count if isinstance(given, str) else list(given)
        if len(entries) != count:
            raise DataError(
                f"censored= has {len(entries)} marks for column {name!r}, which has {count} rows."
            )
        for row, mark in enumerate(entries):
            codes[row, names.index(name)] = _code(mark, row, name)
    return codes


def take_marks(frame: Any, marks: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a DataFrame without its columns of marks, and the marks by column of values."""
    result: dict[str, Any] = {}
    used = []
    for name, given in marks.items():
        if isinstance(given, str) and given not in MARKS:
            if given not in frame.columns:
                raise DataError(
                    f"censored= expects the marks of {name!r} in a column {given!r}, which the "
                    f"table has not. It has {', '.join(map(str, frame.columns))}."
                )
            used.append(given)
            result[name] = frame[given].tolist()
        else:
            result[name] = given
    return (frame.drop(columns=used) if used else frame), result


def _code(mark: Any, row: int, name: str) -> int:
    if isinstance(mark, float) and np.isnan(mark):
        return KNOWN
    key = mark.strip().lower() if isinstance(mark, str) else mark
    try:
        return MARKS[key]
    except (KeyError, TypeError):
        raise DataError(
            f"Row {row} of column {name!r} has the mark {mark!r}; expected '<' (at most), '>' (at "
            "least) or nothing."
        ) from None
