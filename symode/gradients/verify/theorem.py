r"""What Theorem 1 claims of a model: pairs of expressions that must be equal.

On the left an output of a derived graph, on the right what SymPy differentiates from the equations;
and the theorem's invariants, with da/dt taken from the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import sympy as sp

from symode.codegen.reference import evaluate, mpmath_arithmetic
from symode.errors import ModelError
from symode.gradients.task import Task
from symode.gradients.verify.symbols import expressions
from symode.symbolic.adjoint_system import AdjointSystem, adjoint_system
from symode.symbolic.build import build
from symode.symbolic.derive import FIELD_KERNELS, derive_joint
from symode.symbolic.differentiate import gradient
from symode.symbolic.graph import Builder, Graph
from symode.symbolic.lift import lift_initial, lift_joint, lift_observation, lift_terminal

#: Operations of a graph above which SymPy is not asked.
LARGEST = 600


@dataclass(frozen=True)
class Term:
    """Two expressions that should be equal, made when asked for, and how to compare numbers."""

    left: Callable[[], sp.Expr]
    right: Callable[[], sp.Expr]
    numeric: Callable[[Any, np.random.Generator], tuple[Any, Any]]
    small: bool


class Symbols:
    """The symbols of a model, of its adjoint, and their order in the kernels' inputs."""

    def __init__(self, task: Task, system: AdjointSystem) -> None:
        eq = task.equations
        self.eq, self.task = eq, task
        self.costs = [c for _, c in task.loss.runnings]
        self.cost = system.running
        self.z, self.p, self.t = eq.states, eq.parameters, eq.time
        self.a1, self.a3 = system.a1, system.a3
        extra = [sp.Dummy(f"J_c{i}") for i in range(len(self.costs))]
        self.whole = [*self.z, *extra]
        #: The adjoint of a running cost's integral is 1, or the weight of its part, throughout.
        weights = [w for w, _ in system.weights] or [sp.S.One]
        self.seeds = [*self.a1, *(weights[k] for k, _ in task.loss.runnings)]

    def term(
        self, graph: Graph, place: int, z: Sequence[Any], v: Sequence[Any], expected: sp.Expr
    ) -> Term:
        """Return the claim that an output of a graph is an expression of the model's symbols."""
        symbols = sorted(
            {s for e in (*z, *v, expected) for s in sp.sympify(e).free_symbols} | {*self.p, self.t},
            key=lambda s: (s.name, str(s.assumptions0)),
        )
        pick = _only(graph, place)

        def numeric(mp: Any, rng: np.random.Generator) -> tuple[Any, Any]:
            at = {s: mp.mpf(float(rng.uniform(0.3, 1.7))) for s in symbols}
            arithmetic = mpmath_arithmetic(mp)
            zs, ps, vs = ([at.get(e, mp.one) for e in row] for row in (z, self.p, v))
            (left,) = evaluate(pick, at[self.t], zs, ps, vs, arithmetic)
            right = _number_of(expected, symbols, at, arithmetic)
            return left, right

        left = lambda: expressions(pick, self.t, z, self.p, v)[0]  # noqa: E731
        return Term(left, lambda: expected, numeric, pick.n_operations <= LARGEST)

    def identity(
        self, left: Callable[[], sp.Expr], right: Callable[[], sp.Expr], small: bool
    ) -> Term:
        """Return the claim that two expressions are equal."""

        def numeric(mp: Any, rng: np.random.Generator) -> tuple[Any, Any]:
            if not small:
                raise ModelError("too large for SymPy")
            pair = [sp.sympify(left()), sp.sympify(right())]
            symbols = list(pair[0].free_symbols | pair[1].free_symbols)
            symbols.sort(key=lambda s: (s.name, str(s.assumptions0)))
            at = {s: mp.mpf(float(rng.uniform(0.3, 1.7))) for s in symbols}
            arithmetic = mpmath_arithmetic(mp)
            a, b = (_number_of(e, symbols, at, arithmetic) for e in pair)
            return a, b

        return Term(left, right, numeric, small)


def _number_of(expression: sp.Expr, symbols: Sequence[sp.Symbol], at: Any, arithmetic: Any) -> Any:
    """Return an expression's value in many digits, through a graph of its own."""
    b = Builder()
    table = {s: b.input("z", i) for i, s in enumerate(symbols)}
    graph = b.freeze(build(b, [sp.sympify(expression)], table))
    return evaluate(graph, 0, [at[s] for s in symbols], [], [], arithmetic)[0]


def _only(graph: Graph, place: int) -> Graph:
    b = Builder(graph)
    return b.freeze([graph.outputs[place]])


def claims(task: Task) -> Iterator[tuple[str, list[Term]]]:
    """Yield (what is claimed, the terms that must agree)."""
    system = adjoint_system(task.equations, task.loss)
    names = Symbols(task, system)
    yield from _augmented(names, system)
    yield from _products(names)
    yield from _ends(names, system)
    yield from _invariants(names, system)


def _augmented(names: Symbols, system: AdjointSystem) -> Iterator[tuple[str, list[Term]]]:
    """Yield the claims on q = (z, a§1, a§3), each entry one."""
    task = names.task
    graph = task.augmented.graph
    states, n = len(names.z), task.n
    inputs = [*names.whole, *names.seeds, *names.a3]
    places = [*range(states), *range(n, n + states), *range(2 * n, 2 * n + task.m)]
    for place, symbol, expected in zip(places, system.q.flat(), system.dqdt.flat(), strict=True):
        yield f"d{symbol}/dt", [names.term(graph, place, inputs, [], expected)]
    if names.costs:
        terms = [names.term(graph, states + i, inputs, [], c) for i, c in enumerate(names.costs)]
        terms += [
            names.term(graph, n + states + i, inputs, [], sp.S.Zero)
            for i in range(len(names.costs))
        ]
        constant = "a constant adjoint" if system.weights else "its adjoint of 1"
        yield f"the running cost's integral, and {constant}", terms


def _products(names: Symbols) -> Iterator[tuple[str, list[Term]]]:
    """Yield the claims on the products that the methods compile."""
    task = names.task
    f = [*names.eq.rhs, *names.costs]
    rows = [gradient(e, [*names.z, *names.p]) for e in f]
    n, states = task.n, len(names.z)
    seeds = sp.symbols(f"s_0:{n}", cls=sp.Dummy)
    columns = list(zip(*rows, strict=True))
    expected = [sum(s * d for s, d in zip(seeds, column, strict=True)) for column in columns]
    vjp = FIELD_KERNELS["vjp"][1](task.field)
    places = [*range(states), *range(n, n + task.m)]
    yield (
        "products sᵀ∇f",
        [names.term(vjp, i, names.whole, seeds, e) for i, e in zip(places, expected, strict=True)],
    )
    moves = sp.symbols(f"u_0:{n + task.m}", cls=sp.Dummy)
    inner = [*moves[:states], *moves[n:]]
    jvp = FIELD_KERNELS["jvp"][1](task.field)
    yield (
        "products ∇f·u",
        [
            names.term(
                jvp, i, names.whole, moves, sum(d * u for d, u in zip(row, inner, strict=True))
            )
            for i, row in enumerate(rows)
        ],
    )
    if not task.options.serves_stiff:
        return
    jacobian = task.field.jacobian
    ft = [gradient(e, [names.t])[0] for e in f]
    terms = [
        names.term(jacobian.graph, k, names.whole, [], rows[i][j] if j < states else sp.S.Zero)
        for k, (i, j) in enumerate(zip(jacobian.rows, jacobian.cols, strict=True))
    ]
    nnz = len(jacobian.rows)
    terms += [names.term(jacobian.graph, nnz + i, names.whole, [], e) for i, e in enumerate(ft)]
    known = set(zip(jacobian.rows, jacobian.cols, strict=True))
    zero = partial(_same, sp.S.Zero)
    terms += [
        names.identity(partial(_same, entry), zero, True)
        for i, row in enumerate(rows)
        for j, entry in enumerate(row[:states])
        if (i, j) not in known and entry != 0
    ]
    yield "the Jacobian and ∂f/∂t", terms


def _ends(names: Symbols, system: AdjointSystem) -> Iterator[tuple[str, list[Term]]]:
    """Yield the claims on end conditions, jumps and z0(theta, t0)."""
    task, eq = names.task, names.eq
    order = [*names.z, *names.p, names.t]
    places = [*range(1, 1 + len(names.z)), *range(1 + task.n, 2 + task.n + task.m)]
    # The integrals of running costs are the last states; that of a sum counts once.
    integral = [1 + len(names.z) + i for i in range(len(names.costs))]
    if task.loss.outer is not None:
        yield (
            "end conditions, and the weights of the parts",
            _joint(names, system, places, integral),
        )
    elif (terminal := lift_terminal(eq, task.loss, task.n)) is not None:
        slopes = [*system.terminal_a1, *system.terminal_a3, *gradient(system.terminal, [names.t])]
        slopes += [sp.S.One] * len(integral)
        yield (
            "end conditions",
            [
                names.term(terminal, i, names.whole, [], e)
                for i, e in zip([*places, *integral], slopes, strict=True)
            ],
        )
    terms = []
    for group in task.loss.groups:
        graph = lift_observation(eq, group, task.n)
        terms += [
            names.term(graph, i, names.whole, group.data_symbols, e)
            for i, e in zip(places, gradient(group.expression, order), strict=True)
        ]
        terms += [
            names.term(graph, i, names.whole, group.data_symbols, sp.S.Zero) for i in integral
        ]
    if terms:
        yield "jumps at observations", terms
    if task.from_initial and eq.initial is not None:
        _, pullback = lift_initial(eq, task.n)
        seeds = sp.symbols(f"s_0:{len(names.z)}", cls=sp.Dummy)
        columns = zip(*(gradient(e, [*names.p, names.t]) for e in eq.initial), strict=True)
        expected = [sum(s * d for s, d in zip(seeds, column, strict=True)) for column in columns]
        yield (
            "sᵀ∂z0",
            [names.term(pullback, j, names.whole, seeds, e) for j, e in enumerate(expected)],
        )


def _joint(
    names: Symbols, system: AdjointSystem, places: Sequence[int], integral: Sequence[int]
) -> list[Term]:
    """Return the claims on a composite's derivatives in z(t1), theta, t1, integrals and parts."""
    task, loss, m = names.task, names.task.loss, names.task.m
    graph = derive_joint(
        lift_joint(names.eq, loss, len(names.z)), task.n, task.asked.theta, loss.n_parts
    )
    observed = [sp.Dummy(f"V_{s.name}") for s in loss.symbols]
    whole: list[sp.Expr] = list(observed)
    for k, e in loss.terminals:
        whole[k] += e
    for (k, _), integrated in zip(loss.runnings, names.whole[len(names.z) :], strict=True):
        whole[k] += integrated
    parts = dict(zip(loss.symbols, whole, strict=True))
    weights = [e.xreplace(parts) for _, e in system.weights]
    at = dict(zip((w for w, _ in system.weights), weights, strict=True))
    ends = [*system.terminal_a1, *system.terminal_a3, *gradient(system.terminal, [names.t])]
    expected = [e.xreplace(at).xreplace(parts) for e in ends]
    expected += [weights[k] for k, _ in loss.runnings]
    expected += weights
    order = [*places, *integral, *range(2 + task.n + m, 2 + task.n + m + loss.n_parts)]
    return [
        names.term(graph, i, names.whole, observed, e) for i, e in zip(order, expected, strict=True)
    ]


def _invariants(names: Symbols, system: AdjointSystem) -> Iterator[tuple[str, list[Term]]]:
    r"""Yield the invariants of the theorem, da/dt taken from the graph."""
    task, eq = names.task, names.eq
    n, states, f = task.n, len(names.z), eq.rhs
    cost = names.cost
    inputs = [*names.whole, *names.seeds, *names.a3]
    graph = task.augmented.graph
    small = graph.n_operations <= LARGEST

    def rates() -> tuple[list[sp.Expr], list[sp.Expr]]:
        out = expressions(graph, names.t, inputs, names.p)
        return out[n : n + states], out[2 * n :]

    def along(e: sp.Expr) -> sp.Expr:
        """Return the derivative of an expression in z, t and a along a solution."""
        da1, _ = rates()
        total = sum(d * g for d, g in zip(f, gradient(e, names.z), strict=True))
        total += sum(d * g for d, g in zip(da1, gradient(e, names.a1), strict=True))
        return total + gradient(e, [names.t])[0]

    tangent = sp.symbols(f"S_0:{states}", cls=sp.Dummy)

    def lost(k: int | None) -> sp.Expr:
        """Return d/dt(a§1 S) + (∂c/∂z) S, for a tangent in z0 or in parameter k, with a§3 added."""
        da1, da3 = rates()
        slopes = [gradient(e, names.z) for e in f]
        moved = [sum(g * s for g, s in zip(row, tangent, strict=True)) for row in slopes]
        if k is not None:
            moved = [a + gradient(e, [names.p[k]])[0] for a, e in zip(moved, f, strict=True)]
        total = sum(d * s for d, s in zip(da1, tangent, strict=True))
        total += sum(a * s for a, s in zip(names.a1, moved, strict=True))
        total += sum(g * s for g, s in zip(gradient(cost, names.z), tangent, strict=True))
        if k is not None:
            total += da3[k] + gradient(cost, [names.p[k]])[0]
        return total

    zero = lambda: sp.S.Zero  # noqa: E731
    yield "d/dt(a§1 ∂z/∂z0) = -(∂c/∂z)(∂z/∂z0)", [names.identity(lambda: lost(None), zero, small)]
    if task.m:
        yield (
            "d/dt(a§3 + a§1 ∂z/∂θ) = -∂c/∂θ - (∂c/∂z)(∂z/∂θ)",
            [names.identity(partial(lost, k), zero, small) for k in range(task.m)],
        )
    slopes_t = [gradient(e, [names.t])[0] for e in (*f, cost)]
    expected = -sum(a * d for a, d in zip((*names.a1, sp.S.One), slopes_t, strict=True))
    yield (
        "a§2 = -(a§1 f + c) solves da§2/dt = -a§1 ∇§2 f - ∂c/∂t",
        [names.identity(lambda: along(system.a2), lambda: expected, small)],
    )
    jumped = []
    for jump in system.jumps:
        after = {a: a + g for a, g in zip(names.a1, jump.a1, strict=True)}
        gain = system.a2.subs(after, simultaneous=True) - system.a2
        jumped.append(names.identity(partial(_same, gain), partial(_same, jump.a2), small))
    if jumped:
        yield "a§2 = -(a§1 f + c) across observations", jumped


def _same(expression: sp.Expr) -> sp.Expr:
    return expression
