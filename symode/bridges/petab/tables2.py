"""The tables of PEtab version 2: read as texts, checked row by row, turned into values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from symode.bridges.petab.cells import Rows, by_id, identifier, measurement_columns, number
from symode.bridges.petab.files import Tables, inside, read_rows
from symode.bridges.petab.formulas import check_size
from symode.errors import ImportFileError

#: {target: formula} of one condition, or of several that are applied together.
Changes = Mapping[str, str]

#: The kinds of files: columns that they must have, and whether rows may be missing altogether.
KINDS: Final = {
    "condition_files": ("conditionId", "targetId", "targetValue"),
    "experiment_files": ("experimentId", "time", "conditionId"),
    "measurement_files": ("observableId", "time", "measurement"),
    "observable_files": ("observableId", "observableFormula", "noiseFormula"),
    "parameter_files": ("parameterId", "estimate"),
    "mapping_files": ("petabEntityId", "modelEntityId"),
}
NEEDED: Final = ("measurement_files", "observable_files", "parameter_files")
NOISES: Final = ("normal", "laplace", "log-normal", "log-laplace")


@dataclass(frozen=True, eq=False)
class Period:
    """From when on which conditions hold; -inf for a pre-equilibration."""

    time: float
    conditions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Tables2(Tables):
    """The tables of a problem of version 2.

    Parameters
    ----------
    changes
        {condition: {target: formula}}.
    experiments
        {experiment: its periods, by time}.
    aliases
        {name in the tables: id in the model}, where they differ.
    """

    changes: dict[str, dict[str, str]] = field(default_factory=dict)
    experiments: dict[str, list[Period]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


def read_tables2(path: Path, content: dict[str, Any]) -> Tables2:
    """Return the tables of a problem of version 2.

    Raises
    ------
    ImportFileError
        Naming the file, the row or the id of what is wrong or not supported.
    """
    name, folder = str(path), path.resolve().parent
    extensions = content.get("extensions") or {}
    if extensions:
        raise ImportFileError(
            f"{name} needs extensions of PEtab ({', '.join(map(str, extensions))}), which are not "
            "supported."
        )
    sbml, sbml_name = _model(path, folder, content)
    rows = {}
    for kind, columns in KINDS.items():
        given = content.get(kind) or []
        listed = given if isinstance(given, list) else [given]
        if kind in NEEDED and not listed:
            raise ImportFileError(f"{name} names no {kind}.")
        rows[kind] = read_rows(path, folder, listed, columns, kind)
    parameters = _parameters(rows["parameter_files"], name)
    observables = _observables(rows["observable_files"], name)
    optional = ("experimentId", "observableParameters", "noiseParameters", "modelId")
    measurements = measurement_columns(rows["measurement_files"], observables, optional, name)
    models = {key for key in measurements["modelId"] if key} - {
        str(k) for k in content["model_files"]
    }
    if models:
        raise ImportFileError(f"{name}: the measurement table names the model {min(models)!r}.")
    changes = _changes(rows["condition_files"], name)
    experiments = _experiments(rows["experiment_files"], changes, name)
    unknown = [e for e in dict.fromkeys(measurements["experimentId"]) if e and e not in experiments]
    if unknown:
        raise ImportFileError(
            f"{name}: the measurement table names the experiment {', '.join(unknown)}, which no "
            "table defines."
        )
    both = [t for c in changes.values() for t in c if t in parameters]
    if both:
        raise ImportFileError(
            f"{name}: {', '.join(dict.fromkeys(both))} is in the parameter table, and a condition "
            "changes it."
        )
    return Tables2(
        name,
        measurements,
        observables,
        parameters,
        sbml,
        sbml_name,
        changes=changes,
        experiments=experiments,
        aliases=_aliases(rows["mapping_files"], name),
    )


def _model(path: Path, folder: Path, content: dict[str, Any]) -> tuple[bytes, str]:
    models = content.get("model_files")
    if not isinstance(models, dict) or len(models) != 1:
        count = len(models) if isinstance(models, dict) else 0
        raise ImportFileError(
            f"{path}: model_files must name exactly one model; it names {count}. Problems of "
            "several models are not supported: read each one on its own."
        )
    (entry,) = models.values()
    if not isinstance(entry, dict):
        raise ImportFileError(f"{path}: model_files must give a location and a language.")
    language = str(entry.get("language", ""))
    if language.lower() != "sbml":
        raise ImportFileError(f"{path}: the model's language is {language!r}; sbml is supported.")
    location = entry.get("location")
    return inside(path, folder, location).read_bytes(), str(location)


def _parameters(rows: Rows, name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, cells in by_id(rows, "parameterId", f"{name}: the parameter table").items():
        where = f"{name}: parameter {key}"
        estimate = cells["estimate"].lower()
        if estimate not in ("true", "false"):
            raise ImportFileError(f"{where}: estimate must be true or false, not {estimate!r}.")
        numbers = {
            column: number(cells.get(column, ""), f"{where}, {column}")
            for column in ("lowerBound", "upperBound", "nominalValue")
        }
        low, high = numbers["lowerBound"], numbers["upperBound"]
        if estimate == "true" and not low <= high:
            raise ImportFileError(
                f"{where} is estimated and needs lowerBound <= upperBound; they are {low} and "
                f"{high}."
            )
        if estimate == "false" and not np.isfinite(numbers["nominalValue"]):
            raise ImportFileError(f"{where} is not estimated and needs a finite nominalValue.")
        found[key] = {
            **cells,
            "parameterScale": "lin",
            **numbers,
            "estimate": int(estimate == "true"),
        }
    return found


def _observables(rows: Rows, name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, cells in by_id(rows, "observableId", f"{name}: the observable table").items():
        for column in ("observableFormula", "noiseFormula"):
            check_size(cells[column], f"{name}: the {column} of {key}")
        kind = cells.get("noiseDistribution", "") or "normal"
        if kind not in NOISES:
            raise ImportFileError(
                f"{name}: observable {key} has the noiseDistribution {kind!r}; supported are "
                f"{', '.join(NOISES)}."
            )
        scale, _, plain = kind.rpartition("-")
        found[key] = {
            "observableFormula": cells["observableFormula"],
            "noiseFormula": cells["noiseFormula"],
            "observableTransformation": scale or "lin",
            "noiseDistribution": plain,
            **{
                column: tuple(
                    identifier(part.strip(), f"{name}: observable {key}, {column}")
                    for part in cells.get(column, "").split(";")
                    if part.strip()
                )
                for column in ("observablePlaceholders", "noisePlaceholders")
            },
        }
    return found


def _changes(rows: Rows, name: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row, cells in enumerate(rows):
        where = f"{name}: row {row} of the condition table"
        key = identifier(cells["conditionId"], where)
        target = identifier(cells["targetId"], where)
        check_size(cells["targetValue"], where)
        if target in found.setdefault(key, {}):
            raise ImportFileError(f"{where}: condition {key} sets {target} twice.")
        found[key][target] = cells["targetValue"]
    return found


def _experiments(rows: Rows, changes: Changes | Any, name: str) -> dict[str, list[Period]]:
    times: dict[str, dict[float, list[str]]] = {}
    for row, cells in enumerate(rows):
        where = f"{name}: row {row} of the experiment table"
        key = identifier(cells["experimentId"], where)
        time = number(cells["time"], f"{where}, time")
        if not (np.isfinite(time) or time == -np.inf):
            raise ImportFileError(f"{where}: the time must be finite or -inf; it is {time}.")
        period = times.setdefault(key, {}).setdefault(time, [])
        condition = cells["conditionId"]
        if not condition:
            continue
        if condition not in changes:
            raise ImportFileError(f"{where} names the condition {condition!r}, which there is not.")
        twice = [t for c in period for t in changes[c] if t in changes[condition]]
        if twice:
            raise ImportFileError(
                f"{where}: at time {time:g}, {', '.join(twice)} is set by more than one condition."
            )
        period.append(condition)
    return {
        key: [Period(t, tuple(sorted(found))) for t, found in sorted(periods.items())]
        for key, periods in times.items()
    }


def _aliases(rows: Rows, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for row, cells in enumerate(rows):
        if not cells["modelEntityId"]:
            # An annotation.
            continue
        key = identifier(cells["petabEntityId"], f"{name}: row {row} of the mapping table")
        if key in found:
            raise ImportFileError(f"{name}: the mapping table names {key} twice.")
        # Local parameters become global ones of these names when the model is read.
        found[key] = cells["modelEntityId"].removeprefix("$").replace(".", "_")
    return {key: value for key, value in found.items() if key != value}
