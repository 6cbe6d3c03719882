"""Experiments of PEtab version 2: periods become starts, pre-equilibrations and events.

The first period of an experiment sets parameters and starts, as a condition of version 1 does. What
a later one changes must be a state: parameters and compartments among it become states that nothing
changes in between, and the change an event at the time of the period, which is a parameter of the
model, so that all experiments share one set of equations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import sympy as sp

from symode.bridges.petab.formulas import Meaning, number, parse
from symode.bridges.petab.model import Prepared, Surroundings
from symode.bridges.petab.tables2 import Changes, Period, Tables2
from symode.equations.event import Event
from symode.errors import ImportFileError

#: Time of a period that an experiment does not have; priority over the model's own events.
NEVER, FIRST = sp.Float("1e300"), sp.Float("1e300")
#: Most events of all periods together.
MOST_JUMPS = 2000
#: The experiment of measurements that name none.
PLAIN = "the model as it is"


@dataclass(frozen=True, eq=False)
class Course:
    """One experiment that was measured.

    Parameters
    ----------
    name
        Its id.
    before
        Conditions of its pre-equilibration; None without one.
    t0, first
        When it starts, and the conditions from there.
    later
        Its further periods.
    rows, last
        Of the measurement table, at finite times and at rest.
    """

    name: str
    before: tuple[str, ...] | None
    t0: float
    first: tuple[str, ...]
    later: tuple[Period, ...]
    rows: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Plan:
    """How the periods of all experiments are made.

    Parameters
    ----------
    courses
        The experiments.
    kept
        Targets that become states.
    by_event
        Names of experiments whose first period after pre-equilibration is an event, too.
    """

    courses: list[Course]
    kept: frozenset[str]
    by_event: frozenset[str]

    def jumps(self, course: Course) -> list[Period]:
        """Return the periods of an experiment that are events."""
        first = [Period(course.t0, course.first)] if course.name in self.by_event else []
        return [p for p in [*first, *course.later] if p.conditions]


def read_courses(tables: Tables2) -> list[Course]:
    """Return the experiments that the measurement table names, in its order.

    Raises
    ------
    ImportFileError
        Naming a measurement before its experiment starts.
    """
    frame = tables.measurements
    taken = frame["time"]
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(frame["experimentId"]):
        rows.setdefault(key, []).append(row)
    found = []
    for key, here in rows.items():
        periods = list(tables.experiments[key]) if key else []
        before = None
        if periods and periods[0].time == -np.inf:
            before = periods.pop(0).conditions
        first = periods.pop(0) if periods else Period(0.0, ())
        early = [row for row in here if taken[row] < first.time]
        if early:
            raise ImportFileError(
                f"{tables.name}: row {early[0]} of the measurement table has the time "
                f"{taken[early[0]]:g}, and experiment {key or PLAIN} starts at {first.time:g}."
            )
        finite = [row for row in here if np.isfinite(taken[row])]
        last = [row for row in here if not np.isfinite(taken[row])]
        end = np.inf if last else max(taken[row] for row in finite)
        later = tuple(period for period in periods if period.time <= end)
        found.append(
            Course(key or PLAIN, before, first.time, first.conditions, later, finite, last)
        )
    return found


def changes_of(tables: Tables2, conditions: Iterable[str]) -> Changes:
    """Return what several conditions set, by ids of the model."""
    return {
        tables.aliases.get(target, target): formula
        for condition in conditions
        for target, formula in tables.changes[condition].items()
    }


def plan_courses(tables: Tables2, around: Surroundings) -> Plan:
    """Return which targets become states, and which first periods become events."""
    courses = read_courses(tables)
    kept = {t for c in courses for p in c.later for t in changes_of(tables, p.conditions)}
    by_event: set[str] = set()
    while True:
        size = len(kept), len(by_event)
        for course in courses:
            changes = changes_of(tables, course.first)
            if course.before is None or not changes:
                continue
            needed = around.has_events or any(
                target in kept
                or target in around.assigned_from
                or any(n in kept or n in around.moving for n in names_in(formula, tables))
                for target, formula in changes.items()
            )
            if needed:
                by_event.add(course.name)
                kept |= set(changes)
        if size == (len(kept), len(by_event)):
            return Plan(courses, frozenset(kept), frozenset(by_event))


def names_in(formula: str, tables: Tables2) -> set[str]:
    """Return the names of a formula, as ids of the model."""
    found: set[str] = set()

    def meet(name: str) -> sp.Expr:
        found.add(tables.aliases.get(name, name))
        return sp.Symbol(name)

    parse(formula, tables.name, meet)
    return found


# -- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Jumps:
    """The events of all later periods.

    Parameters
    ----------
    events
        One for each set of conditions, and one more for each time that an experiment repeats it.
    times
        {(conditions, repetition): the parameter that is its time}.
    """

    events: tuple[Event, ...]
    times: Mapping[tuple[tuple[str, ...], int], sp.Symbol]

    def values(self, periods: Sequence[Period]) -> dict[str, sp.Expr]:
        """Return the times of an experiment's periods; those it does not have never come."""
        result = {symbol.name: NEVER for symbol in self.times.values()}
        count: dict[tuple[str, ...], int] = {}
        for period in periods:
            k = count.get(period.conditions, 0)
            count[period.conditions] = k + 1
            result[self.times[period.conditions, k].name] = number(period.time)
        return result


def make_jumps(tables: Tables2, plan: Plan, prepared: Prepared, meaning: Meaning) -> Jumps:
    """Return the events of the later periods of all experiments.

    Raises
    ------
    ImportFileError
        When they are too many.
    """
    most: dict[tuple[str, ...], int] = {}
    for course in plan.courses:
        found = [period.conditions for period in plan.jumps(course)]
        for key in found:
            most[key] = max(most.get(key, 0), found.count(key))
    if sum(most.values()) > MOST_JUMPS:
        raise ImportFileError(
            f"{tables.name}: the periods of its experiments make {sum(most.values())} events; at "
            f"most {MOST_JUMPS} are supported."
        )
    time = prepared.model.equations.time
    taken = {*prepared.model.values, *tables.parameters, *plan.kept}
    events: list[Event] = []
    times: dict[tuple[tuple[str, ...], int], sp.Symbol] = {}
    for key, count in most.items():
        assignments = _assignments(tables, key, prepared, meaning)
        for k in range(count):
            label = f"time_of_{'_'.join(key)}" + (f"_{k + 1}" if k else "")
            while label in taken:
                label += "_"
            taken.add(label)
            times[key, k] = sp.Symbol(label)
            events.append(
                Event(
                    sp.Ge(time, times[key, k], evaluate=False),
                    assignments,
                    name=label.removeprefix("time_of_"),
                    priority=FIRST,
                    initial_value=False,
                )
            )
    return Jumps(tuple(events), times)


def _assignments(
    tables: Tables2, conditions: tuple[str, ...], prepared: Prepared, meaning: Meaning
) -> dict[sp.Symbol, sp.Expr]:
    """Return what the states become; concentrations stay where compartments change their size."""
    model = prepared.model
    changes = changes_of(tables, conditions)
    values = {
        target: parse(
            formula,
            f"{tables.name}: condition {', '.join(conditions)}, target {target}",
            meaning,
        )
        for target, formula in changes.items()
    }
    states = {s.name: s for s in model.equations.states}
    result: dict[sp.Symbol, sp.Expr] = {}
    for target, value in values.items():
        amount = f"{target}_amount"
        if target not in states and amount in states:
            box = prepared.compartments[target]
            result[states[amount]] = value * values.get(box, model.values[box])
        elif target in states:
            result[states[target]] = value
        else:
            raise ImportFileError(
                f"{tables.name}: condition {', '.join(conditions)} sets {target}, which a rule of "
                "the model sets."
            )
    for species, box in prepared.compartments.items():
        amount = f"{species}_amount"
        if box in values and species not in values and species not in states and amount in states:
            result[states[amount]] = model.values[species] * values[box]
    return result
