r"""Delays of events: what waits is kept in states of its own.

An event with a delay :math:`d` that triggers at :math:`t^*` is executed at :math:`t^* + d`. It
becomes three kinds of events over states that rest between them:

- one at the trigger, which puts the moment :math:`t^* + d` (and, with ``use_trigger_values``, the
  values to be assigned) into the first slot that is free;
- one for each slot, which fires when its moment has come, assigns, and frees the slot;
- where the trigger is not persistent, one that frees all slots when its condition turns false.

Derivatives in parameters and states follow through the moments and the values that wait.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy.core.relational import Relational

from symode.equations.event import Event
from symode.equations.walk import distinct_nodes, symbols_in

if TYPE_CHECKING:
    from symode.equations.equations import Equations

#: Executions of one event that may wait at once; one more ends the solve.
MOST_WAITING = 8
#: Before whatever the model does at the same moment: first what triggers, then what ends waiting.
_FIRST, _SECOND = sp.Integer(2 * 10**15), sp.Integer(10**15)

#: Turns the values of keys into assignments of states.
Assign = Callable[[Mapping[Any, sp.Expr]], Sequence[tuple[Any, Any]]]


@dataclass
class Rooms:
    """Names that are free, and the states that waiting needs.

    Parameters
    ----------
    time
        The symbol of time.
    unused, event_name
        Return a free name of a state, and of an event, made from a wish.
    is_fixed
        Tells of a symbol whether it keeps its value.
    states
        The states made; all begin at 0.
    """

    time: sp.Symbol
    unused: Callable[[str], str]
    event_name: Callable[[str], str]
    is_fixed: Callable[[sp.Basic], bool]
    states: list[sp.Symbol] = field(default_factory=list)

    def state(self, name: str) -> sp.Symbol:
        """Return another state."""
        symbol = sp.Symbol(self.unused(name))
        self.states.append(symbol)
        return symbol


def spread_delay(
    event: Event, values: Mapping[Any, sp.Expr], assign: Assign, rooms: Rooms
) -> list[Event]:
    """Return the events that do what one with a delay does.

    Parameters
    ----------
    event
        The event, whose assignments are not looked at.
    values
        What is computed, at the trigger or at the execution.
    assign
        Turns it into assignments, at the execution.
    rooms
        Names; its states are joined by those that are needed.
    """
    hold, time, delay = event.use_trigger_values, rooms.time, event.delay
    name = re.sub(r"\W", "_", event.name)
    event = replace(event, delay=None)
    count = _most_waiting(event, rooms)
    waits = [rooms.state(f"{name}_waits_{i}") for i in range(1, count + 1)]
    moments = [rooms.state(f"{name}_due_{i}") for i in range(1, count + 1)]
    held = [
        {key: rooms.state(f"{name}_{key}_{i}") for key in values} if hold else {}
        for i in range(1, count + 1)
    ]
    enters: list[tuple[sp.Symbol, sp.Expr]] = []
    found = []
    for i in range(count):
        is_next = sp.And(waits[i] < sp.S.Half, *(w > sp.S.Half for w in waits[:i]))

        def put(symbol: sp.Symbol, value: sp.Expr, here: sp.Basic = is_next) -> None:
            enters.append((symbol, sp.Piecewise((value, here), (symbol, sp.true))))

        put(waits[i], sp.Integer(1))
        put(moments[i], time + delay)
        for key, symbol in held[i].items():
            put(symbol, values[key])
        becomes: Mapping[Any, sp.Expr] = held[i] if hold else values
        found.append(
            replace(
                event,
                trigger=sp.And(waits[i] > sp.S.Half, sp.Ge(time, moments[i])),
                direction=0,
                assignments=(*assign(becomes), (waits[i], sp.Integer(0))),
                name=event.name if i == 0 else rooms.event_name(f"{event.name}_{i + 1}"),
                persistent=False,
                initial_value=True,
                use_trigger_values=False,
            )
        )
    # Undefined where all slots are taken, which ends the solve.
    full = rooms.state(f"{name}_full")
    enters.append((full, sp.Piecewise((0, sp.Or(*(w < sp.S.Half for w in waits))))))
    begins = replace(
        event,
        assignments=tuple(enters),
        name=rooms.event_name(f"{event.name}_triggers"),
        priority=_FIRST,
        persistent=True,
        use_trigger_values=True,
        terminal=False,
    )
    found.insert(0, begins)
    if event.is_condition and not event.persistent:
        found.append(
            Event(
                sp.Not(event.trigger),
                tuple((w, sp.Integer(0)) for w in waits),
                name=rooms.event_name(f"{event.name}_ends"),
                priority=_SECOND,
            )
        )
    return found


def _most_waiting(event: Event, rooms: Rooms) -> int:
    """Return how many executions may wait at once: few where only time decides."""
    if not event.is_condition:
        return MOST_WAITING
    relations = [n for n in distinct_nodes([event.trigger]) if isinstance(n, Relational)]
    for relation in relations:
        root = relation.lhs - relation.rhs
        rest = set(symbols_in([root])) - {rooms.time}
        if any(not rooms.is_fixed(symbol) for symbol in rest):
            return MOST_WAITING
        if sp.diff(root, rooms.time).has(rooms.time):
            return MOST_WAITING
    # Every relation of this kind turns once, so the condition turns true no more often.
    return max(1, min(MOST_WAITING, len(relations)))


def same_moments(equations: Equations) -> tuple[tuple[int, ...], ...]:
    """Return places of resting states that hold moments of one trigger and one delay.

    Where two of them are equal they were put there together, and have the same derivatives.
    """
    groups: dict[Any, list[int]] = {}
    places = {state: i for i, state in enumerate(equations.states)}
    for event in equations.events:
        for state, value in event.assignments:
            i = places[state]
            if not (isinstance(value, sp.Piecewise) and equations.rhs[i].is_zero):
                continue
            moment = value.args[0].args[0]
            if len(value.args) == 2 and value.args[1].args[0] == state:
                key = event.trigger, event.direction, event.initial_value, moment
                if moment != state and moment.has(equations.time):
                    groups.setdefault(key, []).append(i)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def spread_delays(equations: Equations) -> Equations:
    """Return a model whose events wait in states behind its own; itself where none waits.

    Examples
    --------
    >>> import symode
    >>> t, x = sp.symbols("t x")
    >>> late = symode.Event(t > 1, {x: x + 1}, name="dose", delay=2)
    >>> symode.Model({x: -x}, time=t, events=[late]).equations.state_names
    ('x', 'dose_waits_1', 'dose_due_1', 'dose_x_1', 'dose_full')
    """
    if all(event.delay is None for event in equations.events):
        return equations
    parameters = set(equations.parameters)
    taken = {s.name for s in (*equations.states, *equations.parameters, equations.time)}
    names = {event.name for event in equations.events}

    def free(name: str, among: set[str]) -> str:
        while name in among:
            name += "_"
        among.add(name)
        return name

    rooms = Rooms(
        equations.time,
        lambda name: free(name, taken),
        lambda name: free(name, names),
        lambda symbol: symbol in parameters,
    )
    events: list[Event] = []
    for event in equations.events:
        if event.delay is None:
            events.append(event)
        else:
            values = dict(event.assignments)
            events += spread_delay(event, values, lambda held: tuple(held.items()), rooms)
    zeros = tuple(sp.S.Zero for _ in rooms.states)
    return replace(
        equations,
        states=(*equations.states, *rooms.states),
        rhs=(*equations.rhs, *zeros),
        initial=None if equations.initial is None else (*equations.initial, *zeros),
        events=tuple(events),
        n_waiting=equations.n_waiting + len(zeros),
    )
