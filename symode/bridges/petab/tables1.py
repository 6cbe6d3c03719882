"""The tables of PEtab version 1: read as texts, checked row by row, turned into values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from symode.bridges.petab.cells import Rows, by_id, measurement_columns, number
from symode.bridges.petab.files import Tables, inside, only, read_rows
from symode.bridges.petab.formulas import check_size
from symode.errors import ImportFileError

SCALES: Final = ("lin", "log", "log10")
NOISES: Final = ("normal", "laplace")
#: What stands for an empty cell.
EMPTY: Final = frozenset({"nan", "na", "n/a", "null", "none", "<na>", "#n/a"})
#: The kinds of files, and the columns that they must have.
KINDS: Final = {
    "condition_files": ("conditionId",),
    "measurement_files": ("observableId", "simulationConditionId", "time", "measurement"),
    "observable_files": ("observableId", "observableFormula", "noiseFormula"),
    "parameter_file": ("parameterId", "parameterScale", "estimate"),
}


@dataclass(frozen=True, eq=False)
class Tables1(Tables):
    """The tables of a problem of version 1.

    Parameters
    ----------
    conditions
        {condition: {what it sets: text}}; an empty text leaves it.
    targets
        What the condition table can set.
    """

    conditions: dict[str, dict[str, str]] = field(default_factory=dict)
    targets: tuple[str, ...] = ()


def read_tables1(path: Path, content: dict[str, Any]) -> Tables1:
    """Return the tables of a problem of version 1.

    Raises
    ------
    ImportFileError
        Naming the file, the row or the id of what is wrong or not supported.
    """
    name, folder = str(path), path.resolve().parent
    problem = only(content.get("problems"), f"{path}: problems")
    if not isinstance(problem, dict):
        raise ImportFileError(f"{path}: problems must be a list of mappings.")
    if problem.get("mapping_files"):
        raise ImportFileError(f"{path} has mapping_files, which are not supported.")
    rows: dict[str, Rows] = {}
    for kind, columns in KINDS.items():
        given = content.get(kind) if kind == "parameter_file" else problem.get(kind)
        listed = given if isinstance(given, list) else [given]
        if not listed or listed == [None]:
            raise ImportFileError(f"{path} names no {kind}.")
        rows[kind] = _without_nan(read_rows(path, folder, listed, columns, kind))
    sbml_name = only(problem.get("sbml_files"), f"{path}: sbml_files")
    sbml = inside(path, folder, sbml_name).read_bytes()
    conditions = by_id(rows["condition_files"], "conditionId", f"{name}: the condition table")
    targets = [key for key in rows["condition_files"][0] if key and key not in NOT_SET]
    observables = _observables(rows["observable_files"], name)
    measurements = measurement_columns(rows["measurement_files"], observables, (), name)
    _check_measurements(measurements, conditions, name)
    return Tables1(
        name,
        measurements,
        observables,
        _parameters(rows["parameter_file"], name),
        sbml,
        str(sbml_name),
        conditions={
            key: {target: cells.get(target, "") for target in targets}
            for key, cells in conditions.items()
        },
        targets=tuple(targets),
    )


NOT_SET: Final = ("conditionId", "conditionName")


def _without_nan(rows: Rows) -> Rows:
    return [{k: "" if v.lower() in EMPTY else v for k, v in cells.items()} for cells in rows]


def _parameters(rows: Rows, name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, cells in by_id(rows, "parameterId", f"{name}: the parameter table").items():
        where = f"{name}: parameter {key}"
        scale = cells["parameterScale"]
        if scale not in SCALES:
            raise ImportFileError(
                f"{where} has the parameterScale {scale!r}; supported are {', '.join(SCALES)}."
            )
        estimate = number(cells["estimate"], f"{where}, estimate")
        if estimate not in (0.0, 1.0):
            raise ImportFileError(f"{where}: estimate must be 0 or 1, not {cells['estimate']!r}.")
        numbers = {
            column: number(cells.get(column, ""), f"{where}, {column}")
            for column in ("lowerBound", "upperBound", "nominalValue")
        }
        low, high = numbers["lowerBound"], numbers["upperBound"]
        if estimate and low > high:
            raise ImportFileError(f"{where} has the lowerBound {low} above the upperBound {high}.")
        if not estimate and not np.isfinite(numbers["nominalValue"]):
            raise ImportFileError(f"{where} has estimate 0 and needs a nominalValue.")
        found[key] = {**cells, "parameterScale": scale, **numbers, "estimate": int(estimate)}
    return found


def _observables(rows: Rows, name: str) -> dict[str, dict[str, Any]]:
    found = by_id(rows, "observableId", f"{name}: the observable table")
    for key, cells in found.items():
        for column in ("observableFormula", "noiseFormula"):
            check_size(cells[column], f"{name}: the {column} of {key}")
            if not cells[column]:
                raise ImportFileError(f"{name}: observable {key} has no {column}.")
        for column, known in (("observableTransformation", SCALES), ("noiseDistribution", NOISES)):
            given = cells.get(column, "")
            if given and given not in known:
                raise ImportFileError(
                    f"{name}: observable {key} has the {column} {given!r}; supported are "
                    f"{', '.join(known)}."
                )
    return {key: dict(cells) for key, cells in found.items()}


def _check_measurements(table: dict[str, Any], conditions: dict[str, Any], name: str) -> None:
    for column in ("simulationConditionId", "preequilibrationConditionId"):
        given = dict.fromkeys(table.get(column, ()))
        unknown = [key for key in given if key and key not in conditions]
        if unknown or (column == "simulationConditionId" and "" in given):
            raise ImportFileError(
                f"{name}: the measurement table names the {column} {', '.join(unknown) or 'none'}, "
                "which no table defines."
            )
    times = table["time"]
    early = times < 0
    if early.any():
        raise ImportFileError(
            f"{name}: row {int(np.flatnonzero(early)[0])} has a time before 0, when simulations "
            "start."
        )
