"""The tables of PEtab version 2: read as texts, checked row by row, turned into values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from symode.bridges.petab.files import Tables, inside, read_rows
from symode.bridges.petab.formulas import check_size
from symode.errors import ImportFileError

#: {target: formula} of one condition, or of several that are applied together.
Changes = Mapping[str, str]

Rows = list[dict[str, str]]

_ID: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
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
    measurements = _measurements(rows["measurement_files"], observables, name)
    changes = _changes(rows["condition_files"], name)
    experiments = _experiments(rows["experiment_files"], changes, name)
    unknown = [e for e in measurements["experimentId"].unique() if e and e not in experiments]
    if unknown:
        raise ImportFileError(
            f"{name}: the measurement table names the experiment {', '.join(unknown)}, which no "
            "table defines."
        )
    both = [t for c in changes.values() for t in c if t in parameters.index]
    if both:
        raise ImportFileError(
            f"{name}: {', '.join(dict.fromkeys(both))} is in the parameter table, and a condition "
            "changes it."
        )
    return Tables2(
        name,
        None,
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


def _identifier(text: str, what: str) -> str:
    if _ID.fullmatch(text) is None:
        raise ImportFileError(f"{what}: {text!r} is no identifier of PEtab.")
    return text


def _number(text: str, what: str, default: float = math.nan) -> float:
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise ImportFileError(f"{what}: {text[:60]!r} is no number.") from None
    if value != value:
        raise ImportFileError(f"{what}: NaN is no value of PEtab.")
    return value


def _parameters(rows: Rows, name: str) -> Any:
    import pandas as pd

    found: dict[str, dict[str, Any]] = {}
    for row, cells in enumerate(rows):
        key = _identifier(cells["parameterId"], f"{name}: row {row} of the parameter table")
        where = f"{name}: parameter {key}"
        if key in found:
            raise ImportFileError(f"{where} is given twice.")
        estimate = cells["estimate"].lower()
        if estimate not in ("true", "false"):
            raise ImportFileError(f"{where}: estimate must be true or false, not {estimate!r}.")
        numbers = {
            column: _number(cells.get(column, ""), f"{where}, {column}")
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
            "parameterScale": "lin",
            **numbers,
            "estimate": int(estimate == "true"),
            "priorDistribution": cells.get("priorDistribution", ""),
            "priorParameters": cells.get("priorParameters", ""),
        }
    if not found:
        raise ImportFileError(f"{name}: the parameter table is empty.")
    return pd.DataFrame.from_dict(found, orient="index")


def _observables(rows: Rows, name: str) -> Any:
    import pandas as pd

    found: dict[str, dict[str, Any]] = {}
    for row, cells in enumerate(rows):
        key = _identifier(cells["observableId"], f"{name}: row {row} of the observable table")
        if key in found:
            raise ImportFileError(f"{name}: observable {key} is given twice.")
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
                    _identifier(part.strip(), f"{name}: observable {key}, {column}")
                    for part in cells.get(column, "").split(";")
                    if part.strip()
                )
                for column in ("observablePlaceholders", "noisePlaceholders")
            },
        }
    return pd.DataFrame.from_dict(found, orient="index")


def _measurements(rows: Rows, observables: Any, name: str) -> Any:
    import pandas as pd

    if not rows:
        raise ImportFileError(f"{name}: the measurement table is empty.")
    table = pd.DataFrame(rows).fillna("")
    texts = table.copy()
    for column in ("experimentId", "observableParameters", "noiseParameters"):
        if column not in table.columns:
            table[column] = ""
    for column in ("time", "measurement"):
        table[column] = [
            _number(text, f"{name}: row {row} of the measurement table, {column}")
            for row, text in enumerate(texts[column])
        ]
        bad = table[column].isna()
        if column == "measurement":
            bad |= ~np.isfinite(table[column])
        else:
            bad |= table[column] == -np.inf
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ImportFileError(
                f"{name}: row {row} of the measurement table has the {column} "
                f"{texts[column].iloc[row]!r}."
            )
    unknown = [key for key in table["observableId"].unique() if key not in observables.index]
    if unknown:
        raise ImportFileError(
            f"{name}: the measurement table names the observableId {', '.join(unknown)}, which no "
            "table defines."
        )
    return table.reset_index(drop=True)


def _changes(rows: Rows, name: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row, cells in enumerate(rows):
        where = f"{name}: row {row} of the condition table"
        key = _identifier(cells["conditionId"], where)
        target = _identifier(cells["targetId"], where)
        check_size(cells["targetValue"], where)
        if target in found.setdefault(key, {}):
            raise ImportFileError(f"{where}: condition {key} sets {target} twice.")
        found[key][target] = cells["targetValue"]
    return found


def _experiments(rows: Rows, changes: Changes | Any, name: str) -> dict[str, list[Period]]:
    times: dict[str, dict[float, list[str]]] = {}
    for row, cells in enumerate(rows):
        where = f"{name}: row {row} of the experiment table"
        key = _identifier(cells["experimentId"], where)
        time = _number(cells["time"], f"{where}, time")
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
        key = _identifier(cells["petabEntityId"], f"{name}: row {row} of the mapping table")
        if key in found:
            raise ImportFileError(f"{name}: the mapping table names {key} twice.")
        # Local parameters become global ones of these names when the model is read.
        found[key] = cells["modelEntityId"].removeprefix("$").replace(".", "_")
    return {key: value for key, value in found.items() if key != value}
