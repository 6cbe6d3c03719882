"""read_petab: tables and a model become a problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp

from symode.bridges.petab.checks import check_tables
from symode.bridges.petab.columns import Observed, make_columns
from symode.bridges.petab.conditions import Setting, read_settings
from symode.bridges.petab.files import Tables, read_tables
from symode.bridges.petab.model import Prepared, prepare_model
from symode.bridges.petab.priors import read_priors
from symode.bridges.petab.problem import PetabProblem
from symode.equations.walk import symbols_in
from symode.errors import ImportFileError, ModelError, OptionError
from symode.interface.model import Model
from symode.problems.data import Data

#: Unless the caller says otherwise. Likelihoods of published problems agree to 1e-6 and better with
#: these; most of them are stiff somewhere within the bounds of their parameters.
DEFAULTS: dict[str, Any] = {"solver": "rodas5p", "rtol": 1e-8, "atol": 1e-10}


def read_petab(source: Any, **options: Any) -> PetabProblem:
    r"""Return the problem of a PEtab file (version 1, with an SBML model).

    Parameters, bounds, scales and priors are those of the parameter table; each pair of
    pre-equilibration and simulation condition becomes a condition of the problem, each observable a
    column, or several where the measurement table overrides its parameters in several ways.

    Parameters
    ----------
    source
        Path of the YAML file. The files it names must lie in its folder.
    **options
        ``method``, ``workers``, ``solver`` ("rodas5p" here), ``rtol`` (1e-8), ``atol`` (1e-10),
        ``max_steps``, ``h_max``, as for `Problem`.

    Raises
    ------
    ImportFileError
        Naming the file, row or id that is wrong or not supported.
    MissingExtraError
        When the petab library is not installed.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> files = {
    ...     "problem.yaml": "{format_version: 1, parameter_file: p.tsv, problems: [{sbml_files: "
    ...     "[model.xml], condition_files: [c.tsv], observable_files: [o.tsv], "
    ...     "measurement_files: [m.tsv]}]}",
    ...     "p.tsv": "parameterId\tparameterScale\tlowerBound\tupperBound\tnominalValue\testimate\n"
    ...     "k\tlog10\t0.01\t10\t0.5\t1\n",
    ...     "c.tsv": "conditionId\tx\nlow\t2\n",
    ...     "o.tsv": "observableId\tobservableFormula\tnoiseFormula\nobs\tx\t0.1\n",
    ...     "m.tsv": "observableId\tsimulationConditionId\ttime\tmeasurement\n"
    ...     "obs\tlow\t1\t1.2\nobs\tlow\t2\t0.7\n",
    ...     "model.xml": '''<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3"
    ...     version="2"><model id="decay"><listOfParameters><parameter id="k" constant="true"/>
    ...     <parameter id="x" value="1" constant="false"/></listOfParameters><listOfRules>
    ...     <rateRule variable="x"><math xmlns="http://www.w3.org/1998/Math/MathML">
    ...     <apply><times/><cn>-1</cn><ci>k</ci><ci>x</ci></apply></math></rateRule></listOfRules>
    ...     </model></sbml>''',
    ... }
    >>> with TemporaryDirectory() as folder:
    ...     written = [(Path(folder) / name).write_text(text) for name, text in files.items()]
    ...     problem = read_petab(Path(folder) / "problem.yaml")
    >>> problem
    Problem(estimated: k; values: 2 of obs; optimizer: scoring)
    >>> round(problem.llh({"k": 0.5}), 4)
    2.6948
    """
    tables = read_tables(source)
    check_tables(tables)
    parameters = tables.parameters
    columns = [str(c) for c in tables.conditions.columns if c != "conditionName"]
    prepared = prepare_model(tables.sbml, tables.sbml_name, [*columns, *parameters.index])
    names = _Names(tables, prepared, columns)
    observed = make_columns(tables, names.meaning)
    settings = read_settings(tables, prepared, columns, names.declared)
    model, own = _with_parameters(prepared, observed, names)
    data, rows = _data(tables, observed, settings)
    outer = {s.name for setting in settings.values() for s in setting.symbols}
    outer |= set(parameters.index[parameters["estimate"] == 1])
    fixed = {
        name: float(value)
        for name, value in prepared.model.theta.items()
        if name not in parameters.index and not all(name in s.values for s in settings.values())
    }
    known = [p for p in parameters.index if p in outer or p in own]
    fixed |= {p: _nominal(parameters, p) for p in known if not parameters.loc[p, "estimate"]}
    free = [p for p in known if parameters.loc[p, "estimate"]]
    if not free:
        raise ImportFileError(f"{tables.name}: no parameter is estimated.")
    unset = [name for name, value in fixed.items() if not np.isfinite(value)]
    if unset:
        raise ImportFileError(f"{tables.name}: these parameters have no value: {', '.join(unset)}.")
    try:
        return PetabProblem(
            model,
            data,
            {column.name: column.noise for column in observed},
            conditions={
                name: setting.condition(model.equations) for name, setting in settings.items()
            },
            parameters=[p for p in known if p not in own],
            priors=read_priors(parameters, tables.name),
            bounds={p: _bounds(parameters, p) for p in free},
            scale={p: parameters.loc[p, "parameterScale"] for p in free},
            fixed=fixed,
            nominal={p: _nominal(parameters, p) for p in known},
            measurements=tables.measurements.reset_index(drop=True),
            rows=rows,
            **(DEFAULTS | options),
        )
    except (OptionError, ModelError) as error:
        raise ImportFileError(f"{tables.name}: {error}") from error


@dataclass(eq=False)
class _Names:
    """What names in formulas mean, and which of them the tables declare."""

    tables: Tables
    prepared: Prepared
    columns: list[str]

    @property
    def declared(self) -> set[str]:
        """Names of the parameter table and of the columns of the condition table."""
        return {*self.tables.parameters.index, *self.columns}

    def meaning(self, name: str) -> sp.Expr:
        model = self.prepared.model
        if name in model.values:
            return model.values[name]
        if name == "time":
            return model.equations.time
        if name in self.declared:
            return sp.Symbol(name)
        raise ImportFileError(
            f"{self.tables.name}: a formula uses {name!r}, which neither the model nor a table "
            "defines."
        )


def _with_parameters(
    prepared: Prepared, observed: list[Observed], names: _Names
) -> tuple[Model, set[str]]:
    """Return the model with the parameters of observables and noise, and all its parameters."""
    equations = prepared.model.equations
    expressions = [e for column in observed for e in (column.expression, column.noise.sigma)]
    used = {s.name for s in symbols_in([e for e in expressions if isinstance(e, sp.Basic)])}
    taken = {*equations.parameter_names, *equations.state_names, str(equations.time)}
    extra = [n for n in [*names.tables.parameters.index, *names.columns] if n in used - taken]
    extended = replace(
        equations, parameters=(*equations.parameters, *(sp.Symbol(n) for n in dict.fromkeys(extra)))
    )
    return Model(extended), set(extended.parameter_names)


def _data(
    tables: Tables, observed: list[Observed], settings: Mapping[str, Setting]
) -> tuple[dict[str, Data], dict[str, dict[str, list[int]]]]:
    """Return measurements and their rows, by condition and column."""
    frame = tables.measurements
    times = frame["time"].to_numpy(dtype=float)
    values = frame["measurement"].to_numpy(dtype=float)
    where = {row: name for name, setting in settings.items() for row in setting.rows}
    rows: dict[str, dict[str, list[int]]] = {name: {} for name in settings}
    for column in observed:
        for row in column.rows:
            rows[where[row]].setdefault(column.name, []).append(row)
    expressions = {column.name: column.expression for column in observed}
    data = {}
    for name, columns in rows.items():
        order = [row for found in columns.values() for row in found]
        table = {key: np.full(len(order), np.nan) for key in columns}
        at = 0
        for key, found in columns.items():
            table[key][at : at + len(found)] = values[found]
            at += len(found)
        data[name] = Data(times[order], table, observables={k: expressions[k] for k in columns})
    return data, rows


def _nominal(frame: Any, name: str) -> float:
    return float(frame.loc[name, "nominalValue"])


def _bounds(frame: Any, name: str) -> tuple[float, float]:
    low, high = float(frame.loc[name, "lowerBound"]), float(frame.loc[name, "upperBound"])
    return (-np.inf if low != low else low), (np.inf if high != high else high)
