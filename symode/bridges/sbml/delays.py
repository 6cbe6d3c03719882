r"""Delays of events: what waits is kept in states of its own.

An event with a delay :math:`d` that triggers at :math:`t^*` is executed at :math:`t^* + d`. It
becomes three kinds of events over states that rest between them:

- one at the trigger, which puts the moment :math:`t^* + d` (and, with
  ``useValuesFromTriggerTime``, the values to be assigned) into the first slot that is free;
- one for each slot, which fires when its moment has come, assigns, and frees the slot;
- where the trigger is not persistent, one that frees all slots when its condition turns false.

Derivatives in parameters follow through the moments and the values that wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import sympy as sp
from sympy.core.relational import Relational

from symode.equations.event import Event
from symode.equations.walk import distinct_nodes, symbols_in

if TYPE_CHECKING:
    from symode.bridges.sbml.assemble import _Assembly

#: Executions of one event that may wait at once; one more ends the solve.
MOST_WAITING = 8
#: Before whatever the model does at the same moment: first what triggers, then what ends waiting.
_FIRST, _SECOND = sp.Integer(2 * 10**15), sp.Integer(10**15)


def delayed(
    assembly: _Assembly, event: Event, delay: sp.Expr, values: Mapping[str, sp.Expr]
) -> list[Event]:
    """Return the events that do what one with a delay does; their states go to ``hidden``.

    Parameters
    ----------
    assembly
        The model, which turns values of ids into assignments.
    event
        The event as it would be without its delay, and without assignments.
    delay
        How long it waits, at its trigger.
    values
        {id: what it becomes}.
    """
    name, hold = event.name, event.use_trigger_values
    count = _most_waiting(event, assembly)
    waits = [_state(assembly, f"{name}_waits_{i}") for i in range(1, count + 1)]
    moments = [_state(assembly, f"{name}_due_{i}") for i in range(1, count + 1)]
    held = [
        {key: _state(assembly, f"{name}_{key}_{i}") for key in values} if hold else {}
        for i in range(1, count + 1)
    ]
    enters: list[tuple[sp.Symbol, sp.Expr]] = []
    found = []
    for i in range(count):
        is_next = sp.And(waits[i] < sp.S.Half, *(w > sp.S.Half for w in waits[:i]))

        def put(symbol: sp.Symbol, value: sp.Expr, here: sp.Basic = is_next) -> None:
            enters.append((symbol, sp.Piecewise((value, here), (symbol, sp.true))))

        put(waits[i], sp.Integer(1))
        put(moments[i], assembly.time + delay)
        for key, symbol in held[i].items():
            put(symbol, values[key])
        becomes: Mapping[str, sp.Expr] = held[i] if hold else values
        found.append(
            replace(
                event,
                trigger=sp.And(waits[i] > sp.S.Half, sp.Ge(assembly.time, moments[i])),
                assignments=(*assembly.assignments(becomes), (waits[i], sp.Integer(0))),
                name=name if i == 0 else assembly.event_name(f"{name}_{i + 1}"),
                persistent=False,
                initial_value=True,
                use_trigger_values=False,
            )
        )
    # Undefined where all slots are taken, which ends the solve.
    full = _state(assembly, f"{name}_full")
    enters.append((full, sp.Piecewise((0, sp.Or(*(w < sp.S.Half for w in waits))))))
    begins = replace(
        event,
        assignments=tuple(enters),
        name=assembly.event_name(f"{name}_triggers"),
        priority=_FIRST,
        persistent=True,
        use_trigger_values=True,
    )
    found.insert(0, begins)
    if not event.persistent:
        found.append(
            Event(
                sp.Not(event.trigger),
                tuple((w, sp.Integer(0)) for w in waits),
                name=assembly.event_name(f"{name}_ends"),
                priority=_SECOND,
            )
        )
    return found


def _most_waiting(event: Event, assembly: _Assembly) -> int:
    """Return how many executions may wait at once: few where only time decides."""
    relations = [n for n in distinct_nodes([event.trigger]) if isinstance(n, Relational)]
    for relation in relations:
        root = relation.lhs - relation.rhs
        rest = set(symbols_in([root])) - {assembly.time}
        if any(not assembly.is_fixed(symbol) for symbol in rest):
            return MOST_WAITING
        if sp.diff(root, assembly.time).has(assembly.time):
            return MOST_WAITING
    # Every relation of this kind turns once, so the condition turns true no more often.
    return max(1, min(MOST_WAITING, len(relations)))


def _state(assembly: _Assembly, name: str) -> sp.Symbol:
    symbol = sp.Symbol(assembly.unused(name))
    assembly.hidden[symbol] = sp.Integer(0)
    return symbol
