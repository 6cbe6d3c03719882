"""Inputs that differ between conditions: one compiled model, of which each takes its own tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sympy as sp

from symode.equations.equations import Equations
from symode.equations.forcing import with_tables
from symode.equations.pieces import check_span
from symode.equations.table import Table
from symode.equations.values import is_finite_number
from symode.errors import OptionError
from symode.solvers.methods import did_you_mean

if TYPE_CHECKING:
    from symode.problems.conditions import Condition


def with_condition_tables(
    equations: Equations, conditions: Mapping[str, Condition]
) -> tuple[Equations, Mapping[str, Condition]]:
    """Return equations with families of tables, and conditions that choose from them.

    The input u of the model becomes the table of a family that the new parameter ``u_table`` names
    by its number; every condition sets that.

    Raises
    ------
    OptionError
        Naming the condition that has neither a table nor a number for an input.
    """
    given: dict[str, None] = {}
    for label, condition in conditions.items():
        # What is no Condition is told by `make_layout`.
        for name in getattr(condition, "inputs", ()):
            if name not in equations.parameter_names:
                hint = did_you_mean(name, equations.parameter_names)
                raise OptionError(
                    f"Condition {label!r} has a table of {name}{hint}, which is no parameter of "
                    f"the model. It has {', '.join(equations.parameter_names) or 'none'}."
                )
            given[name] = None
    if not given:
        return equations, conditions
    taken = {*equations.state_names, *equations.parameter_names, str(equations.time)}
    indices = {}
    for name in given:
        label = f"{name}_table"
        while label in taken:
            label += "_"
        taken.add(label)
        indices[name] = sp.Symbol(label)
    members: dict[str, list[Table]] = {name: [] for name in given}

    def chosen(label: str, condition: Condition, values: dict[str, Any]) -> dict[str, Any]:
        for name, family in members.items():
            table, number = condition.inputs.get(name), values.pop(name, None)
            if table is not None and number is not None:
                raise OptionError(
                    f"Condition {label!r} has both a table and a value of {name}: give one."
                )
            if table is None:
                if not is_finite_number(number):
                    others = ", ".join(repr(c) for c, e in conditions.items() if name in e.inputs)
                    raise OptionError(
                        f"{name} is a table in the condition {others}, so the condition {label!r} "
                        f"needs one too (inputs=), or a number in values=; got {number!r}."
                    )
                table = Table([0.0], [float(number)], "constant", outside="hold")
            values[indices[name].name] = len(family)
            family.append(table)
        return values

    def changed(label: str, condition: Condition) -> Condition:
        rest = None if condition.rest is None else changed(label, condition.rest)
        values = chosen(label, condition, dict(condition.values))
        return replace(condition, values=values, rest=rest, inputs={})

    # First, since it fills the families.
    settings = {label: changed(label, condition) for label, condition in conditions.items()}
    tables = {name: (family, indices[name]) for name, family in members.items()}
    return with_tables(equations, tables, tuple(indices.values())), settings


def check_reach(
    conditions: Mapping[str, Condition], starts: Mapping[str, float], ends: Mapping[str, float]
) -> None:
    """Raise unless the tables of every condition cover its experiment.

    Raises
    ------
    OptionError
        Naming condition, input and time.
    """
    for label, condition in conditions.items():
        for name, table in condition.inputs.items():
            try:
                check_span(name, table.pieces, starts[label], ends.get(label, starts[label]))
            except OptionError as error:
                raise OptionError(f"Condition {label!r}: {error}") from None
