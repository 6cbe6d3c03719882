"""Events of SBML as events of symode: assignments of everything they set, in its own reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sympy as sp

from symode.bridges.sbml.conditions import plain
from symode.equations.delays import Rooms, spread_delay
from symode.equations.event import Event
from symode.errors import ImportFileError, ModelError

if TYPE_CHECKING:
    from symode.bridges.sbml.assemble import _Assembly


def events_of(assembly: _Assembly) -> tuple[Event, ...]:
    """Return the events of a model; those without a trigger never fire and are left out.

    Raises
    ------
    ImportFileError
        Naming the event that cannot be represented.
    """
    model, found = assembly.model, []
    for i in range(model.getNumEvents()):
        element = model.getEvent(i)
        name = element.getId() or assembly.event_name(f"event_{i}")
        trigger = element.getTrigger()
        if trigger is None or not trigger.isSetMath():
            continue
        found += _event(assembly, element, name)
    return tuple(found)


def _event(assembly: _Assembly, element: Any, name: str) -> list[Event]:
    where, formulas = f"the event {name}", assembly.formulas
    trigger = element.getTrigger()
    condition = plain(
        formulas.condition(trigger.getMath(), assembly.value, f"the trigger of {name}"),
        assembly.is_steady,
    )
    changes = {
        change.getVariable(): change.getMath()
        for change in (
            element.getEventAssignment(j) for j in range(element.getNumEventAssignments())
        )
        if change.isSetMath()
    }
    values = {
        key: formulas.expression(tree, assembly.value, f"{where}, where it sets {key}")
        for key, tree in changes.items()
    }
    priority = element.getPriority() if element.isSetPriority() else None
    rank = None
    if priority is not None and priority.isSetMath():
        rank = formulas.expression(priority.getMath(), assembly.value, f"the priority of {name}")
    later = element.getLevel() > 2
    wait = _delay(assembly, element, name)
    try:
        event = Event(
            condition,
            name=name,
            priority=rank,
            persistent=bool(trigger.getPersistent()) if later else True,
            initial_value=bool(trigger.getInitialValue()) if later else True,
            use_trigger_values=bool(element.getUseValuesFromTriggerTime()),
        )
        if wait is not None:
            rooms = Rooms(assembly.time, assembly.unused, assembly.event_name, assembly.is_fixed)
            late = replace(event, delay=wait)
            found = spread_delay(late, values, assembly.assignments, rooms)
            assembly.hidden |= dict.fromkeys(rooms.states, sp.S.Zero)
            return found
        return [replace(event, assignments=assembly.assignments(values))]
    except ModelError as error:
        raise ImportFileError(f"{assembly.name}: in {where}, {error}") from None


def _delay(assembly: _Assembly, element: Any, name: str) -> sp.Expr | None:
    """Return how long an event waits, or None where it does not."""
    held = element.getDelay() if element.isSetDelay() else None
    if held is None or not held.isSetMath():
        return None
    wait = assembly.formulas.expression(held.getMath(), assembly.value, f"the delay of {name}")
    if wait.is_number and wait.is_negative:
        raise ImportFileError(f"{assembly.name}: the delay of {name} is negative ({wait}).")
    return None if wait.is_zero else wait


def assignments(
    assembly: _Assembly, values: Mapping[str, sp.Expr]
) -> Iterator[tuple[sp.Symbol, sp.Expr]]:
    """Return what the states become: where one is an amount, a concentration times the volume."""
    for key, value in values.items():
        q = assembly.known(key)
        if q.is_amount_state:
            # The volume of the moment after, where the event sets that too.
            value = value * values.get(q.compartment, assembly.value(q.compartment))
        yield sp.Symbol(q.state_name), value
    for q in assembly.quantities.values():
        # A concentration with a rate rule is its own state: the amount is kept where the volume
        # jumps.
        own = q.is_species and q.is_state and q.in_concentration and not q.is_amount_state
        if own and q.compartment in values and q.key not in values:
            symbol = sp.Symbol(q.state_name)
            yield symbol, symbol * assembly.value(q.compartment) / values[q.compartment]


def expressions_of(events: Sequence[Event]) -> list[sp.Basic]:
    """Return everything that events evaluate."""
    found: list[sp.Basic] = []
    for event in events:
        found += [event.trigger, *(value for _, value in event.assignments)]
        found += [] if event.priority is None else [event.priority]
    return found
