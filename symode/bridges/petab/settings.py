"""Settings of experiments of version 2: parameters and starts as their periods set them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sympy as sp

from symode.bridges.petab.conditions import Setting
from symode.bridges.petab.courses import Jumps, Plan, changes_of
from symode.bridges.petab.formulas import number, parse
from symode.bridges.petab.model import Prepared
from symode.bridges.petab.tables2 import Changes, Tables2
from symode.errors import ImportFileError

#: How long before an event at its start an experiment that begins at rest is simulated.
EARLIER = 1e-3


@dataclass(eq=False)
class Values:
    """What parameters and starts of the model are, as changes set them."""

    tables: Tables2
    prepared: Prepared

    def start(self, targets: Iterable[str]) -> dict[str, sp.Expr]:
        """Return the model's own values of everything that any experiment sets."""
        model, prepared = self.prepared.model, self.prepared
        found = dict(prepared.defaults)
        for target in targets:
            if target in prepared.starts or target not in model.values:
                continue
            if target not in model.theta:
                raise ImportFileError(
                    f"{self.tables.name}: the model does not let {target} be set."
                )
            found[target] = prepared.stated.get(target, number(model.theta[target]))
        aliases = self.tables.aliases
        for parameter in self.tables.parameters:
            quantity = aliases.get(parameter, parameter)
            if quantity in prepared.starts or parameter in aliases:
                found[prepared.starts.get(quantity, quantity)] = sp.Symbol(parameter)
        return found

    def after(
        self, values: Mapping[str, sp.Expr], changes: Changes, t: float, where: str
    ) -> dict[str, sp.Expr]:
        """Return the values once changes have been applied at a time, all at once."""
        starts, model = self.prepared.starts, self.prepared.model

        def meaning(name: str) -> sp.Expr:
            if name == "time":
                return number(t)
            name = self.tables.aliases.get(name, name)
            key = starts.get(name, name)
            if key in values:
                return values[key]
            if name in self.tables.parameters:
                return sp.Symbol(name)
            if name in model.theta:
                return sp.Symbol(name)
            raise ImportFileError(
                f"{self.tables.name}: {where} uses {name!r}, which is no parameter: the first "
                "period of an experiment sets values from parameters and time alone."
            )

        new = {
            starts.get(target, target): parse(
                formula, f"{self.tables.name}: {where}, target {target}", meaning
            )
            for target, formula in changes.items()
        }
        return {**values, **new}

    def closed(self, values: Mapping[str, sp.Expr]) -> dict[str, sp.Expr]:
        """Return values in which no name stands for another of them.

        Raises
        ------
        ImportFileError
            Where some are made of each other.
        """
        table = {sp.Symbol(name): value for name, value in values.items()}
        result, open_ = dict(values), [""]
        for _ in range(len(values) + 1):
            open_ = [n for n, v in result.items() if table.keys() & v.free_symbols]
            if not open_:
                return result
            for name in open_:
                result[name] = result[name].xreplace(table)
        raise ImportFileError(
            f"{self.tables.name}: conditions set {', '.join(open_)} from each other."
        )


def settings_of(
    tables: Tables2, plan: Plan, prepared: Prepared, jumps: Jumps
) -> dict[str, Setting]:
    """Return the settings of all experiments, and of their ends at rest.

    Raises
    ------
    ImportFileError
        Naming the condition whose formula cannot be.
    """
    values = Values(tables, prepared)
    targets = {
        target
        for course in plan.courses
        for conditions in (course.before or (), course.first)
        for target in changes_of(tables, conditions)
    }
    own = values.start(targets)
    fresh = {} if prepared.fresh is None else {prepared.fresh: sp.Integer(1)}
    resting = {name: -value for name, value in fresh.items()}
    quiet = jumps.values([])
    found: dict[str, Setting] = {}
    for course in plan.courses:
        where = f"condition {', '.join(course.first)}"
        times = jumps.values(plan.jumps(course))
        reset: tuple[str, ...] = ()
        before = None
        if course.before is None:
            changes = changes_of(tables, course.first)
            during = values.closed(values.after(own, changes, course.t0, where))
            during |= times | fresh
        else:
            changes = changes_of(tables, course.before)
            label = f"condition {', '.join(course.before)}"
            before = values.closed(values.after(own, changes, course.t0, label))
            before |= quiet | fresh
            during = dict(before)
            if course.name not in plan.by_event:
                changes = changes_of(tables, course.first)
                during |= values.after(before, changes, course.t0, where)
                reset = tuple(q for q in prepared.starts if q in changes)
            during |= times | resting
        for values_ in (during, before or {}):
            unknown = [name for name, value in values_.items() if value is sp.nan]
            if unknown:
                names = {label: quantity for quantity, label in prepared.starts.items()}
                raise ImportFileError(
                    f"{tables.name}: experiment {course.name} does not set "
                    f"{', '.join(names.get(n, n) for n in unknown)}, which has no value."
                )
        t0 = course.t0
        if course.name in plan.by_event:
            # At rest a little earlier, too: so its first period comes at a time inside the span.
            t0 -= EARLIER * max(1.0, abs(t0))
        setting = Setting(during, reset, before, course.rows, t0)
        if course.rows:
            found[course.name] = setting
        if course.last:
            # Where it comes to rest after its last period: measured at the start of an experiment
            # that begins there.
            at_rest = during | quiet | resting
            found[f"{course.name}, at rest"] = Setting(
                at_rest, (), during, course.last, t0, setting
            )
    return found
