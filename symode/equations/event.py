"""Events: moments at which a trigger turns true, and what the state becomes there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean, BooleanAtom

from symode.equations.describe import brief
from symode.equations.walk import symbols_in
from symode.errors import ModelError

if TYPE_CHECKING:
    from symode.equations.equations import Equations

#: What an assignment may be written as.
Assignments = Mapping[Any, Any] | Sequence[tuple[Any, Any]]


@dataclass(frozen=True)
class Event:
    r"""A jump of the state, :math:`z^+ = g(z^-, t^*, \theta)`, when a trigger turns true.

    Parameters
    ----------
    trigger
        A condition of relations joined by And, Or and Not, which fires when it turns from false to
        true; or an expression, which fires where its course crosses zero.
    assignments
        {state: expression}; the other states go on. Values are taken before any of them is set.
    name
        Used in messages and in ``solution.events``.
    direction
        For an expression: 1 where it must rise through zero, -1 fall, 0 either.
    priority
        Among events that fire at once the largest goes first, then those without; ties go in the
        order of the model. A number or an expression.
    persistent
        Whether an event that waits for others at the same moment stays due when they have made its
        condition false.
    initial_value
        Value of the condition before t0: False makes one that holds at t0 fire there.
    use_trigger_values
        Evaluate the assignments at the state that fired the event, even where others go before it.
    terminal
        End the solve here.
    delay
        How long after its trigger it happens: an expression, with the state at the trigger; at
        once where that is not positive. Values are those of the trigger, or, with
        ``use_trigger_values=False``, of the execution; one that is not persistent is withdrawn
        when its condition turns false meanwhile. What waits is kept in states behind the model's
        own, up to 8 executions at once.

    Raises
    ------
    ModelError
        For a trigger that cannot be one.

    Examples
    --------
    >>> import sympy as sp
    >>> x, v = sp.symbols("x v")
    >>> bounce = Event(x < 0, {x: 0, v: -v / 2}, name="bounce")
    >>> bounce.name, bounce.assignments
    ('bounce', ((x, 0), (v, -v/2)))
    """

    trigger: Any
    assignments: Any = ()
    name: str = ""
    direction: int = 0
    priority: Any = None
    persistent: bool = True
    initial_value: bool = True
    use_trigger_values: bool = True
    terminal: bool = False
    delay: Any = None

    def __post_init__(self) -> None:
        trigger = (
            sp.sympify(self.trigger, strict=True) if not isinstance(self.trigger, str) else None
        )
        if trigger is None:
            raise ModelError(
                f"The trigger {self.trigger!r} is a text: write it with SymPy, as in x < 0."
            )
        if trigger.is_number:
            raise ModelError(
                f"The trigger {trigger} is a number, which never crosses zero. For an event at a "
                f"time write t > {trigger}, with the model's time."
            )
        object.__setattr__(self, "trigger", trigger)
        pairs = self.assignments
        pairs = list(pairs.items()) if isinstance(pairs, Mapping) else list(pairs)
        texts = [value for _, value in pairs if isinstance(value, str)]
        if texts:
            raise ModelError(f"The assignment {texts[0]!r} is a text: write it with SymPy.")
        object.__setattr__(
            self,
            "assignments",
            tuple((key, sp.sympify(value, strict=True)) for key, value in pairs),
        )
        if self.priority is not None:
            object.__setattr__(self, "priority", sp.sympify(self.priority, strict=True))
        if isinstance(self.delay, str):
            raise ModelError(f"The delay {self.delay!r} is a text: write it with SymPy.")
        if self.delay is not None:
            delay = sp.sympify(self.delay, strict=True)
            if delay.is_number and not delay.is_nonnegative:
                raise ModelError(f"The delay {delay} is no number of 0 or more.")
            object.__setattr__(self, "delay", None if delay.is_zero else delay)
        if self.direction not in (-1, 0, 1):
            raise ModelError(f"direction={self.direction!r}: an event has -1, 0 or 1.")
        if self.is_condition and self.direction:
            raise ModelError(
                f"The trigger {brief(trigger)} is a condition, which has no direction: it fires "
                "when it turns true. Give the expression that crosses zero, or no direction=."
            )

    @property
    def is_condition(self) -> bool:
        """Whether the trigger is a condition, not an expression that crosses zero."""
        return isinstance(self.trigger, Boolean) and not isinstance(self.trigger, sp.Symbol)

    def resolved(self, known: Mapping[str, sp.Symbol], place: int) -> Event:
        """Return this event with names turned into the model's symbols, and a name of its own."""
        pairs = tuple(
            (known.get(key, sp.Symbol(key)) if isinstance(key, str) else key, value)
            for key, value in self.assignments
        )
        return replace(self, assignments=pairs, name=self.name or f"event {place}")


@dataclass(frozen=True)
class Trigger:
    """A trigger over the signs of root functions.

    Parameters
    ----------
    kind
        "root", "relation", "and", "or", "not" or "constant".
    root
        Which root function.
    sign
        Sign that makes a relation true; direction of a root.
    at_zero
        Whether a relation holds at zero; value of a constant.
    parts
        Of and, or, not.
    """

    kind: str
    root: int = -1
    sign: int = 0
    at_zero: bool = False
    parts: tuple[Trigger, ...] = ()

    def holds(self, signs: Sequence[int]) -> bool:
        """Return the truth of a condition where the root functions have these signs."""
        if self.kind == "relation":
            sign = signs[self.root]
            return sign == self.sign or (sign == 0 and self.at_zero)
        if self.kind == "and":
            return all(part.holds(signs) for part in self.parts)
        if self.kind == "or":
            return any(part.holds(signs) for part in self.parts)
        if self.kind == "not":
            return not self.parts[0].holds(signs)
        return self.kind == "constant" and self.at_zero

    def roots(self) -> frozenset[int]:
        """Return the root functions it depends on."""
        mine = frozenset([self.root]) if self.root >= 0 else frozenset()
        return mine.union(*(part.roots() for part in self.parts))


def split_trigger(event: Event, roots: list[sp.Expr]) -> Trigger:
    """Return an event's trigger, adding its root functions to those known.

    Raises
    ------
    ModelError
        For equalities, and for conditions that are no relations.

    Examples
    --------
    >>> x = sp.Symbol("x")
    >>> roots = []
    >>> split_trigger(Event(x < 1), roots).holds([-1]), roots
    (True, [x - 1])
    """
    if not event.is_condition:
        return Trigger("root", _place(event.trigger, roots), event.direction)
    return _condition(event.trigger, roots)


def _place(root: sp.Expr, roots: list[sp.Expr]) -> int:
    if root not in roots:
        roots.append(root)
    return roots.index(root)


def _condition(node: sp.Basic, roots: list[sp.Expr]) -> Trigger:
    if isinstance(node, BooleanAtom):
        return Trigger("constant", at_zero=bool(node))
    if isinstance(node, Relational) and not isinstance(node, sp.Eq | sp.Ne):
        greater = isinstance(node, sp.Gt | sp.Ge)
        at_zero = isinstance(node, sp.Ge | sp.Le)
        root = node.lhs - node.rhs
        if -root in roots:
            root, greater = -root, not greater
        return Trigger("relation", _place(root, roots), 1 if greater else -1, at_zero)
    for head, kind in ((sp.And, "and"), (sp.Or, "or"), (sp.Not, "not")):
        if isinstance(node, head):
            return Trigger(kind, parts=tuple(_condition(part, roots) for part in node.args))
    if isinstance(node, sp.Xor):
        found = Trigger("constant")
        for argument in node.args:
            part = _condition(argument, roots)
            pair = (
                Trigger("and", parts=(found, Trigger("not", parts=(part,)))),
                Trigger("and", parts=(Trigger("not", parts=(found,)), part)),
            )
            found = Trigger("or", parts=pair)
        return found
    if isinstance(node, sp.Eq | sp.Ne):
        raise ModelError(
            f"the trigger has {brief(node)}: an equality holds at single moments that no solver "
            "can be sure to meet. Write an inequality, or the expression that crosses zero"
        )
    raise ModelError(f"the trigger has {brief(node)}, which is no relation, And, Or or Not")


def resolve_events(events: object, equations: Equations) -> tuple[Event, ...]:
    """Return a model's events with names resolved.

    Raises
    ------
    ModelError
        For anything that is no `Event`.
    """
    given = list(events) if isinstance(events, Iterable) else [events]
    found: list[Event] = []
    for event in given:
        if not isinstance(event, Event):
            raise ModelError(f"events= holds a {type(event).__name__}; give symode.Event values.")
        found.append(event)
    known = {s.name: s for s in (*equations.states, *equations.parameters, equations.time)}
    return tuple(event.resolved(known, i) for i, event in enumerate(found))


def faults_of_events(equations: Equations, known: Mapping[sp.Basic, str]) -> list[str]:
    """Return every fault of a model's events, one sentence each."""
    from symode.equations.checks import faults_of_expression

    faults = []
    names = [event.name for event in equations.events]
    faults += [f"Two events are called {n!r}." for n in sorted(set(names)) if names.count(n) > 1]
    if equations.events and equations.mass is not None:
        faults.append("A model with a mass matrix or algebraic equations takes no events yet.")
    states = ", ".join(equations.state_names)
    for event in equations.events:
        place = f"the event {event.name!r}"
        keys = [key for key, _ in event.assignments]
        for key in keys:
            if key in equations.parameters:
                faults.append(
                    f"In {place}, {key} is a parameter, which keeps its value: make it a state "
                    f"with right-hand side 0 and the parameter as its initial value."
                )
            elif key not in equations.states:
                faults.append(f"In {place}, {key} is set, which is no state ({states}).")
            elif keys.count(key) > 1:
                faults.append(f"In {place}, {key} is set twice.")
        roots: list[sp.Expr] = []
        try:
            split_trigger(event, roots)
        except ModelError as error:
            faults.append(f"In {place}, {error}.")
        values = [value for _, value in event.assignments]
        priority = [e for e in (event.priority, event.delay) if e is not None]
        for expression in (*roots, *values, *priority):
            faults += [f"In {place}: {fault}" for fault in faults_of_expression(expression)]
        unknown = set(symbols_in([*roots, *values, *priority])) - set(known)
        faults += [
            f"Unknown symbol {s} in {place}: declare it in parameters=."
            for s in sorted(unknown, key=str)
        ]
    return list(dict.fromkeys(faults))
