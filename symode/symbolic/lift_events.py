"""From events to graphs: root functions, assignments and priorities, with their pullbacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy as sp

from symode.equations.equations import Equations
from symode.equations.event import Trigger, split_trigger
from symode.equations.walk import symbols_in
from symode.errors import ModelError
from symode.symbolic.adjoint import adjoint_sweep
from symode.symbolic.derive import chosen, inputs
from symode.symbolic.graph import Builder, Graph
from symode.symbolic.lift import lift_expressions
from symode.symbolic.tangent import tangent_sweep


@dataclass(frozen=True)
class EventPlan:
    """A model's triggers over root functions.

    Parameters
    ----------
    triggers
        One per event.
    roots
        The root functions, shared by all triggers.
    timed
        Whether each depends on time and parameters alone.
    linear
        Whether such a one is linear in time.
    free
        Whether each depends on time and parameters that are not asked for, so that nothing moves
        its zeros.
    """

    triggers: tuple[Trigger, ...]
    roots: tuple[sp.Expr, ...]
    timed: tuple[bool, ...]
    linear: tuple[bool, ...]
    free: tuple[bool, ...]


def plan_events(equations: Equations, asked: Sequence[int] | None = None) -> EventPlan:
    """Return the triggers of a model's events, over the root functions they share.

    ``asked`` are places of the parameters that derivatives are taken in; all by default.

    Examples
    --------
    >>> import symode
    >>> x, t = sp.symbols("x t")
    >>> model = symode.Model({x: -x}, time=t, events=[symode.Event((t > 1) & (x > t), {x: 3})])
    >>> plan_events(model.equations).timed
    (True, False)
    """
    waiting = [event.name for event in equations.events if event.delay is not None]
    if waiting:
        raise ModelError(f"The events {', '.join(waiting)} have a delay: symode.Model spreads it.")
    roots: list[sp.Expr] = []
    triggers = tuple(split_trigger(event, roots) for event in equations.events)
    t, states = equations.time, set(equations.states)
    symbols = [set(symbols_in([root])) for root in roots]
    timed = tuple(not states & found for found in symbols)
    linear = tuple(
        alone and bool(root.is_polynomial(t)) and sp.degree(root, t) == 1
        for root, alone in zip(roots, timed, strict=True)
    )
    parameters = equations.parameters
    moving = set(parameters) if asked is None else {parameters[j] for j in asked}
    free = tuple(states.isdisjoint(found) and moving.isdisjoint(found) for found in symbols)
    return EventPlan(triggers, tuple(roots), timed, linear, free)


def lift_events(
    equations: Equations,
    roots: Sequence[sp.Expr],
    asked: Sequence[int],
    more: Graph | None = None,
) -> dict[str, tuple[str, Graph]]:
    """Return the graphs of a model's events.

    "roots" holds the root functions, "roots_dt" their slopes in time alone, "jump0", "jump1", ...
    the assigned values of each event and "priority" one number each; names ending in "_vjp" are
    products v·∂(z, t, theta), with the states first, then time, then the parameters asked for.

    Parameters
    ----------
    equations
        A model with events.
    roots
        Root functions of its triggers.
    asked
        Places of the parameters that derivatives are taken in.
    more
        Further root functions, behind the first.

    Examples
    --------
    >>> import symode
    >>> x, t = sp.symbols("x t")
    >>> model = symode.Model({x: -x}, time=t, events=[symode.Event(t > 1, {x: x + 3})])
    >>> sorted(lift_events(model.equations, [t - 1], ()))
    ['jump0', 'jump0_vjp', 'roots', 'roots_dt', 'roots_vjp']
    """
    found: dict[str, tuple[str, Graph]] = {}

    def add(name: str, graph: Graph) -> None:
        b = Builder(graph)
        wrt = [*inputs(b, "z", equations.n_states), b.input("t", 0), *chosen(b, asked)]
        seeds = inputs(b, "v", len(graph.outputs))
        found[name] = ("field", graph)
        found[f"{name}_vjp"] = ("product", b.freeze(adjoint_sweep(b, graph.outputs, seeds, wrt)))

    if roots or more is not None:
        graph = lift_expressions(equations, roots)
        if more is not None:
            b = Builder(graph)
            graph = b.freeze([*graph.outputs, *b.graft(more)])
        add("roots", graph)
        b = Builder(graph)
        slopes = tangent_sweep(b, graph.outputs, {b.input("t", 0): b.const(1)})
        found["roots_dt"] = ("field", b.freeze(slopes))
    for i, event in enumerate(equations.events):
        if event.assignments:
            values = [value for _, value in event.assignments]
            add(f"jump{i}", lift_expressions(equations, values))
    priorities = [sp.S.Zero if e.priority is None else e.priority for e in equations.events]
    if any(e.priority is not None for e in equations.events):
        found["priority"] = ("field", lift_expressions(equations, priorities))
    return found
