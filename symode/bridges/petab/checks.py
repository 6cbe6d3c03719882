"""What is checked of PEtab tables before anything is made of them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from symode.bridges.petab.files import Tables
from symode.bridges.petab.formulas import check_size
from symode.errors import ImportFileError

SCALES: Final = ("lin", "log", "log10")
NOISES: Final = ("normal", "laplace")


def check_tables(tables: Tables) -> None:
    """Raise unless the tables are valid and use what is supported.

    The library's own checks come first, then those of what is supported here.

    Raises
    ------
    ImportFileError
        Naming rows and ids.
    """
    import petab.v1.lint as lint

    for column in ("observableFormula", "noiseFormula"):
        for key, text in tables.observables.get(column, {}).items():
            check_size(str(text), f"{tables.name}: the {column} of {key}")
    checks = (
        (lint.check_parameter_df, tables.parameters, "parameter"),
        (lint.check_condition_df, tables.conditions, "condition"),
        (lint.check_observable_df, tables.observables, "observable"),
        (lint.check_measurement_df, tables.measurements, "measurement"),
    )
    for check, frame, what in checks:
        try:
            check(frame)
        except Exception as error:  # the library raises all kinds
            reason = " ".join(str(error).split())[:300].rstrip(".")
            raise ImportFileError(
                f"{tables.name}: the {what} table is not valid: {reason}."
            ) from None
    _parameters(tables)
    _observables(tables)
    _measurements(tables)


def _parameters(tables: Tables) -> None:
    frame = tables.parameters
    repeated = frame.index[frame.index.duplicated()].unique()
    if len(repeated):
        raise ImportFileError(f"{tables.name}: parameters given twice: {', '.join(repeated)}.")
    if "nominalValue" not in frame.columns:
        frame["nominalValue"] = np.nan
    fixed = frame.index[(frame["estimate"] == 0) & frame["nominalValue"].isna()]
    if len(fixed):
        raise ImportFileError(
            f"{tables.name}: parameters with estimate 0 need a nominalValue: {', '.join(fixed)}."
        )


def _observables(tables: Tables) -> None:
    frame = tables.observables
    _refuse_others(tables, frame, "observableTransformation", SCALES)
    _refuse_others(tables, frame, "noiseDistribution", NOISES)


def _refuse_others(tables: Tables, frame: Any, column: str, known: tuple[str, ...]) -> None:
    if column not in frame.columns:
        return
    for key, given in frame[column].items():
        if isinstance(given, str) and given and given not in known:
            raise ImportFileError(
                f"{tables.name}: observable {key} has the {column} {given!r}; supported are "
                f"{', '.join(known)}."
            )


def _measurements(tables: Tables) -> None:
    frame, name = tables.measurements, tables.name
    for column, table in (
        ("observableId", tables.observables),
        ("simulationConditionId", tables.conditions),
        ("preequilibrationConditionId", tables.conditions),
    ):
        if column not in frame.columns:
            continue
        given = [k for k in frame[column].unique() if isinstance(k, str) and k]
        unknown = [key for key in given if key not in table.index]
        if unknown:
            raise ImportFileError(
                f"{name}: the measurement table names the {column} {', '.join(unknown)}, which "
                "no table defines."
            )
    times = frame["time"].to_numpy(dtype=float)
    forever = ~np.isfinite(times)
    if forever.any():
        ids = frame.loc[forever, "simulationConditionId"].unique()
        raise ImportFileError(
            f"{name}: measurements at time inf (steady states) are not supported; conditions "
            f"{', '.join(map(str, ids))}."
        )
    early = times < 0
    if early.any():
        raise ImportFileError(
            f"{name}: row {int(np.flatnonzero(early)[0])} has a time before 0, when simulations "
            "start."
        )
