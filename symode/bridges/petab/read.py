"""read_petab: tables and a model become a problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.bridges.petab.columns import Observed, make_columns
from symode.bridges.petab.conditions import Setting, read_settings
from symode.bridges.petab.courses import (
    Jumps,
    changes_of,
    make_jumps,
    plan_courses,
)
from symode.bridges.petab.files import Tables, read_tables
from symode.bridges.petab.formulas import parse
from symode.bridges.petab.model import Prepared, look_around, prepare_model
from symode.bridges.petab.priors import read_priors, read_priors2
from symode.bridges.petab.problem import PetabProblem
from symode.bridges.petab.settings import settings_of
from symode.bridges.petab.tables1 import Tables1
from symode.bridges.petab.tables2 import Tables2
from symode.equations.walk import symbols_in
from symode.errors import ImportFileError, ModelError, OptionError
from symode.interface.model import Model
from symode.problems.data import Data
from symode.problems.densities import TruncatedPrior

Floats = NDArray[np.float64]

#: Lower bound, relative to the upper one, where a prior has no finite density at 0.
SMALLEST = 1e-12
#: Unless the caller says otherwise. Likelihoods of published problems agree to 1e-6 and better with
#: these; most of them are stiff somewhere within the bounds of their parameters.
DEFAULTS: dict[str, Any] = {"solver": "rodas5p", "rtol": 1e-8, "atol": 1e-10}


def read_petab(source: Any, *, scale: Any = None, **options: Any) -> PetabProblem:
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
    made = _version2(tables) if isinstance(tables, Tables2) else _version1(tables)
    prepared, observed, settings, model = made.prepared, made.observed, made.settings, made.model
    parameters, own = tables.parameters, set(model.equations.parameter_names)
    times = tables.measurements["time"]
    for setting in settings.values():
        if setting.course is not None:
            # At rest: measured where the part that begins there starts.
            times = times.copy()
            times[setting.rows] = setting.t0 or 0.0
    data, rows = _data(tables, times, observed, settings)
    outer = {s.name for setting in settings.values() for s in setting.symbols}
    outer |= {p for p in parameters if tables.estimated(p)}
    fixed = {
        name: float(value)
        for name, value in prepared.model.theta.items()
        if name not in parameters and not all(name in s.values for s in settings.values())
    }
    known = [p for p in parameters if p in outer or p in own]
    fixed |= {p: _nominal(parameters, p) for p in known if not tables.estimated(p)}
    free = [p for p in known if tables.estimated(p)]
    if not free:
        raise ImportFileError(f"{tables.name}: no parameter is estimated.")
    unset = [name for name, value in fixed.items() if not np.isfinite(value)]
    if unset:
        raise ImportFileError(f"{tables.name}: these parameters have no value: {', '.join(unset)}.")
    read = read_priors2 if isinstance(tables, Tables2) else read_priors
    priors = read(parameters, tables.name)
    try:
        return PetabProblem(
            model,
            data,
            {column.name: column.noise for column in observed},
            conditions={
                name: setting.condition(model.equations) for name, setting in settings.items()
            },
            parameters=[p for p in known if p not in own],
            priors={p: prior for p, prior in priors.items() if p in free},
            bounds={p: _bounds(parameters, p, priors.get(p)) for p in free},
            scale={p: parameters[p]["parameterScale"] for p in free} if scale is None else scale,
            fixed=fixed,
            nominal={p: _nominal(parameters, p) for p in known},
            measurements=tables.measurements,
            rows=rows,
            times=times,
            files=tables.files,
            parameter_files=tables.parameter_files,
            **(DEFAULTS | options),
        )
    except (OptionError, ModelError) as error:
        raise ImportFileError(f"{tables.name}: {error}") from error


@dataclass(frozen=True, eq=False)
class _Made:
    """The model, what is measured of it, and the experiments."""

    prepared: Prepared
    observed: list[Observed]
    settings: Mapping[str, Setting]
    model: Model


def _version1(tables: Tables) -> _Made:
    assert isinstance(tables, Tables1)
    columns = list(tables.targets)
    rested = any(tables.measurements.get("preequilibrationConditionId", ()))
    rested = rested or bool(np.isinf(tables.measurements["time"]).any())
    targets = [*columns, *tables.parameters]
    prepared = prepare_model(tables.sbml, tables.sbml_name, targets, rests=rested)
    names = _Names(tables, prepared, columns)
    observed = make_columns(tables, names.meaning)
    _check_rest(tables, prepared, observed)
    settings = read_settings(tables, prepared, columns, names.declared)
    return _Made(prepared, observed, settings, _with_parameters(prepared, observed, names, None))


def _version2(tables: Tables2) -> _Made:
    plan = plan_courses(tables, look_around(tables.sbml, tables.sbml_name))
    periods = {c for p in plan.courses for c in (*(p.before or ()), *p.first)}
    periods |= {c for p in plan.courses for q in p.later for c in q.conditions}
    columns = list(changes_of(tables, sorted(periods)))
    own = [tables.aliases.get(p, p) for p in tables.parameters]
    prepared = prepare_model(
        tables.sbml,
        tables.sbml_name,
        [*columns, *own],
        plan.kept,
        any(course.before is not None or course.last for course in plan.courses),
    )
    names = _Names(tables, prepared, columns)
    observed = make_columns(tables, names.meaning)
    _check_rest(tables, prepared, observed)
    jumps = make_jumps(tables, plan, prepared, names.meaning)
    settings = settings_of(tables, plan, prepared, jumps)
    return _Made(prepared, observed, settings, _with_parameters(prepared, observed, names, jumps))


def _check_rest(tables: Tables, prepared: Prepared, observed: Sequence[Observed]) -> None:
    """Raise for an observable of time that is measured at rest."""
    last = set(np.flatnonzero(np.isinf(tables.measurements["time"])).tolist())
    time = prepared.model.equations.time
    for column in observed:
        used = symbols_in([column.expression, column.noise.sigma])
        if time in used and last.intersection(column.rows):
            raise ImportFileError(
                f"{tables.name}: observable {column.observable} depends on time, and is measured "
                "at time inf."
            )


@dataclass(eq=False)
class _Names:
    """What names in formulas mean, and which of them the tables declare."""

    tables: Tables
    prepared: Prepared
    columns: list[str]
    active: list[str] = field(default_factory=list)

    @property
    def declared(self) -> set[str]:
        """Names of the parameter table and of the columns of the condition table."""
        return {*self.tables.parameters, *self.columns}

    def _observable(self, name: str) -> sp.Expr:
        """Return what another observable measures.

        Raises
        ------
        ImportFileError
            When it has placeholders, or is defined through itself.
        """
        where = f"{self.tables.name}: observable {name}"
        if name in self.active:
            raise ImportFileError(f"{where} is defined through itself.")
        self.active.append(name)
        try:
            formula = self.tables.observables[name]["observableFormula"]
            return parse(formula, f"{where}, observableFormula", self.meaning)
        finally:
            self.active.pop()

    def meaning(self, name: str) -> sp.Expr:
        model = self.prepared.model
        if isinstance(self.tables, Tables2):
            name = self.tables.aliases.get(name, name)
        if name in model.values:
            return model.values[name]
        if name == "time":
            return model.equations.time
        if name in self.declared:
            return sp.Symbol(name)
        if name in self.tables.observables:
            return self._observable(name)
        raise ImportFileError(
            f"{self.tables.name}: a formula uses {name!r}, which neither the model nor a table "
            "defines."
        )


def _with_parameters(
    prepared: Prepared, observed: list[Observed], names: _Names, jumps: Jumps | None
) -> Model:
    """Return the model with the parameters of observables, noise and jumps, and the jumps."""
    equations = prepared.model.equations
    expressions = [e for column in observed for e in (column.expression, column.noise.sigma)]
    events, times = equations.events, []
    if jumps is not None:
        events, times = (*jumps.events, *events), list(jumps.times.values())
        expressions += [value for event in jumps.events for _, value in event.assignments]
    used = {s.name for s in symbols_in([e for e in expressions if isinstance(e, sp.Basic)])}
    taken = {*equations.parameter_names, *equations.state_names, str(equations.time)}
    extra = [n for n in [*names.tables.parameters, *names.columns] if n in used - taken]
    added = (*(sp.Symbol(n) for n in dict.fromkeys(extra)), *times)
    return Model(replace(equations, parameters=(*equations.parameters, *added), events=events))


def _data(
    tables: Tables, times: Floats, observed: list[Observed], settings: Mapping[str, Setting]
) -> tuple[dict[str, Data], dict[str, dict[str, list[int]]]]:
    """Return measurements and their rows, by condition and column."""
    values = tables.measurements["measurement"]
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


def _nominal(table: Mapping[str, Any], name: str) -> float:
    return float(table[name]["nominalValue"])


def _bounds(table: Mapping[str, Any], name: str, prior: Any) -> tuple[float, float]:
    """Return the bounds of a parameter, inside the support of its prior."""
    low, high = table[name]["lowerBound"], table[name]["upperBound"]
    low, high = (-np.inf if low != low else low), (np.inf if high != high else high)
    if isinstance(prior, TruncatedPrior):
        low, high = max(low, prior.support[0]), min(high, prior.support[1])
        if low == 0.0 and not _is_finite_at_0(prior):
            # A search that ends at its bound must not end where the density is 0 or infinite.
            low = SMALLEST * (high if np.isfinite(high) else 1.0)
    return low, high


def _is_finite_at_0(prior: TruncatedPrior) -> bool:
    try:
        with np.errstate(all="ignore"):
            return bool(np.isfinite(prior.terms(0.0)).all())
    except ZeroDivisionError:
        return False
