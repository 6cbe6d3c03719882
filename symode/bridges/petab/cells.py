"""Cells of PEtab tables: texts that must be names, numbers, or nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from symode.errors import ImportFileError

Rows = list[dict[str, str]]
#: {column: cells}: ``time`` and ``measurement`` are arrays, all others lists of texts.
Columns = dict[str, Any]

_ID: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def identifier(text: str, where: str) -> str:
    """Return a text that is an identifier of PEtab.

    Raises
    ------
    ImportFileError
        Saying where it is none.

    Examples
    --------
    >>> identifier("obs_1", "here")
    'obs_1'
    """
    if _ID.fullmatch(text) is None:
        raise ImportFileError(f"{where}: {text[:60]!r} is no identifier of PEtab.")
    return text


def number(text: str, where: str) -> float:
    """Return the number of a cell; NaN where it is empty.

    Raises
    ------
    ImportFileError
        Saying where it is none.
    """
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise ImportFileError(f"{where}: {text[:60]!r} is no number.") from None
    if value != value:
        raise ImportFileError(f"{where}: NaN is no value of PEtab.")
    if math.isinf(value) and "inf" not in text.lower():
        raise ImportFileError(f"{where}: {text[:60]!r} exceeds the range of double precision.")
    return value


def by_id(rows: Rows, column: str, where: str) -> dict[str, dict[str, str]]:
    """Return rows by their identifier.

    Raises
    ------
    ImportFileError
        For one that is given twice, and a table without rows.
    """
    found: dict[str, dict[str, str]] = {}
    for row, cells in enumerate(rows):
        key = identifier(cells[column], f"{where}: row {row}")
        if key in found:
            raise ImportFileError(f"{where}: {key} is given twice.")
        found[key] = cells
    if not found:
        raise ImportFileError(f"{where} is empty.")
    return found


def measurement_columns(
    rows: Rows, known: Mapping[str, Any], optional: Sequence[str], name: str
) -> Columns:
    """Return the measurement table by columns, checked; ``known`` are the observables.

    Raises
    ------
    ImportFileError
        Naming the row of what cannot be.
    """
    where = f"{name}: the measurement table"
    if not rows:
        raise ImportFileError(f"{where} is empty.")
    keys = dict.fromkeys([*(key for cells in rows for key in cells), *optional])
    table: Columns = {key: [cells.get(key, "") for cells in rows] for key in keys}
    unknown = [key for key in dict.fromkeys(table["observableId"]) if key not in known]
    if unknown:
        raise ImportFileError(
            f"{where} names the observableId {', '.join(unknown)}, which no table defines."
        )
    for column in ("time", "measurement"):
        texts = table[column]
        values: NDArray[np.float64] = np.array(
            [number(text, f"{where}, row {row}, {column}") for row, text in enumerate(texts)]
        )
        fine = np.isfinite(values)
        if column == "time":
            fine |= values == np.inf
        if not fine.all():
            row = int(np.flatnonzero(~fine)[0])
            raise ImportFileError(f"{where}, row {row}, has the {column} {texts[row]!r}.")
        table[column] = values
    return table
