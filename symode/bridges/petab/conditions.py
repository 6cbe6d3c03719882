"""The condition table: what each pair of pre-equilibration and simulation condition sets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import sympy as sp

from symode.bridges.petab.formulas import is_identifier, number
from symode.bridges.petab.model import Prepared
from symode.bridges.petab.tables1 import Tables1
from symode.equations.equations import Equations
from symode.equations.walk import symbols_in
from symode.errors import ImportFileError
from symode.problems.conditions import Condition


@dataclass(frozen=True, eq=False)
class Setting:
    """What one experiment sets.

    Parameters
    ----------
    values
        {parameter of the model: value or expression}.
    reset
        Quantities whose value the condition sets at its start, though the experiment starts from
        rest.
    before
        The same of the pre-equilibration; None without one.
    rows
        Of the measurement table.
    t0
        When the experiment starts; 0 by default.
    course
        The experiment at the end of which this one starts at rest; then ``before`` is not used.
    """

    values: dict[str, sp.Expr]
    reset: tuple[str, ...] = ()
    before: dict[str, sp.Expr] | None = None
    rows: list[int] = field(default_factory=list)
    t0: float | None = None
    course: Setting | None = None

    @property
    def symbols(self) -> set[sp.Symbol]:
        """Symbols of all its expressions."""
        return set(symbols_in([*self.values.values(), *(self.before or {}).values()]))

    def condition(self, equations: Equations) -> Condition:
        """Return the condition of the problem; names that nothing uses are left out."""
        known = equations.parameter_names
        values = {name: value for name, value in self.values.items() if name in known}
        if self.course is not None:
            return Condition(values, t0=self.t0, rest=self.course.condition(equations))
        if self.before is None:
            return Condition(values, t0=self.t0)
        before = {name: value for name, value in self.before.items() if name in known}
        assert equations.initial is not None
        start = dict(zip(equations.state_names, equations.initial, strict=True))
        chosen = {s: start[s] for q in self.reset for s in (q, f"{q}_amount") if s in start}
        return Condition(values, initial=chosen, t0=self.t0, rest=Condition(before))


def read_settings(
    tables: Tables1, prepared: Prepared, columns: list[str], declared: set[str]
) -> dict[str, Setting]:
    """Return the experiments of the measurement table by name, in its order.

    Raises
    ------
    ImportFileError
        Naming the condition and the column of a value that cannot be.
    """
    frame = tables.measurements
    simulated, times = frame["simulationConditionId"], frame["time"]
    rested = frame.get("preequilibrationConditionId", [""] * len(simulated))
    found: dict[tuple[str | None, str], list[int]] = {}
    for row, (before, during) in enumerate(zip(rested, simulated, strict=True)):
        first = before or None
        found.setdefault((first, during), []).append(row)
    names = [during for _, during in found]
    result: dict[str, Setting] = {}
    fresh: dict[str, sp.Expr] = {} if prepared.fresh is None else {prepared.fresh: sp.Integer(1)}
    for (before, during), rows in found.items():
        name = during if names.count(during) == 1 else f"{during} after {before or 'nothing'}"
        values, given = _row(tables, prepared, columns, declared, during)
        resting = {key: -value for key, value in fresh.items()}
        timed = [row for row in rows if np.isfinite(times[row])]
        if before is None:
            setting = Setting(prepared.defaults | values | fresh, rows=timed)
        else:
            earlier, _ = _row(tables, prepared, columns, declared, before)
            earlier = prepared.defaults | earlier | fresh
            reset = tuple(q for q, label in prepared.starts.items() if q in given)
            # What is not reset rests at what it was; its start is not used.
            setting = Setting(earlier | values | resting, reset, earlier, timed)
        if timed:
            result[name] = setting
        if len(timed) < len(rows):
            last = [row for row in rows if row not in set(timed)]
            after = setting.values | resting
            result[f"{name}, at rest"] = Setting(after, rows=last, course=setting)
    return result


def _row(
    tables: Tables1,
    prepared: Prepared,
    columns: list[str],
    declared: set[str],
    condition: str,
) -> tuple[dict[str, sp.Expr], set[str]]:
    """Return what a row of the condition table sets, and the columns that are not empty."""
    values: dict[str, sp.Expr] = {}
    given: set[str] = set()
    row = tables.conditions[condition]
    known = prepared.model.values
    used = {str(p) for p in prepared.model.equations.parameters}
    for column in columns:
        value = row[column]
        target = prepared.starts.get(column, column)
        where = f"{tables.name}: condition {condition}, column {column}"
        if not value:
            # The value of the model; after a pre-equilibration the value at rest.
            if column not in prepared.starts:
                values[column] = _stated(prepared, column, where)
            continue
        given.add(column)
        expression = _value(value, where, declared)
        if column in known and target not in used:
            raise ImportFileError(f"{where}: the model does not let {column} be set.")
        values[target] = expression
    # Parameters of the parameter table that are starts of what changes.
    for quantity, label in prepared.starts.items():
        if quantity not in columns:
            values[label] = sp.Symbol(quantity)
    return values, given


def _value(text: str, where: str, declared: set[str]) -> sp.Expr:
    try:
        result = float(text)
    except ValueError:
        if is_identifier(text) and text in declared:
            return sp.Symbol(text)
        raise ImportFileError(
            f"{where} holds {text!r}, which is neither a number nor a parameter of a table."
        ) from None
    if not np.isfinite(result):
        raise ImportFileError(f"{where} holds {text}: a finite number is expected.")
    return number(result)


def _stated(prepared: Prepared, column: str, where: str) -> sp.Expr:
    """Return the value of a parameter as the model states it."""
    found = prepared.model.theta.get(column, float("nan"))
    if found != found:
        raise ImportFileError(f"{where} is empty, and the model states no value of {column}.")
    return number(found)
