r"""The proof: the products that are compiled are those of Theorem 1, for the user's own model.

Each output of each derived graph is read back as an expression and compared with what SymPy
differentiates from the equations; the theorem's invariants are simplified to zero. What SymPy
cannot decide in time is compared at 20 random points in 50 digits, and labelled so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from symode.codegen.reference import evaluate, mpmath_arithmetic
from symode.equations.loss import Loss
from symode.errors import ModelError
from symode.gradients.task import Task
from symode.gradients.verify.bounded import within
from symode.gradients.verify.report import Check
from symode.gradients.verify.subject import Subject
from symode.gradients.verify.symbols import expressions
from symode.symbolic.adjoint_system import AdjointSystem, adjoint_system
from symode.symbolic.build import build
from symode.symbolic.derive import FIELD_KERNELS
from symode.symbolic.differentiate import gradient
from symode.symbolic.graph import Builder, Graph
from symode.symbolic.lift import lift_initial, lift_observation, lift_terminal

#: Seconds for all of SymPy's work on one model.
BUDGET = 2.0
#: Operations of a graph above which SymPy is not asked.
LARGEST = 600
#: Operations of an expression above which it is not simplified, only expanded.
LARGEST_TERM = 150
#: Operations of f above which nothing is tried: SymPy's derivatives alone take seconds.
TOO_LARGE = 1500
#: Random points, and decimal digits, where SymPy cannot tell.
POINTS, DIGITS = 20, 50


@dataclass(frozen=True)
class Statement:
    """Something that was to be proved.

    Parameters
    ----------
    name
        What it says, in words.
    how
        "symbolically", "numerically" (at random points), "false", or "open".
    """

    name: str
    how: str


def check_proof(subject: Subject) -> Check:
    """Return the check that the derived graphs are Theorem 1's, term by term."""
    statements = subject.statements
    if isinstance(statements, str):
        return Check.skip("proof", "proof", statements)
    wrong = [s.name for s in statements if s.how == "false"]
    undecided = [s.name for s in statements if s.how == "open"]
    symbolic = sum(s.how == "symbolically" for s in statements)
    numeric = sum(s.how == "numerically" for s in statements)
    summary = f"{symbolic} statements proved by SymPy"
    if numeric:
        summary += f", {numeric} compared at {POINTS} random points in {DIGITS} digits (no proof)"
    if wrong:
        summary += f"; FALSE: {'; '.join(wrong[:4])}"
    details = (f"undecided: {'; '.join(undecided[:4])}",) if undecided else ()
    digits = 0.0 if wrong else 16.0
    return Check("proof", not wrong, digits, "proof", summary, details)


def prove(task: Task) -> list[Statement]:
    """Return every statement with how it was proved.

    Raises
    ------
    ModelError
        When the model is nested too deeply for SymPy.
    """
    deadline = time.perf_counter() + BUDGET
    rng = np.random.default_rng(0)
    # SymPy rounds products of decimal numbers to doubles while it differentiates; the graph does
    # not. With such numbers in the model equal expressions differ by some roundings.
    parts = [*task.equations.rhs, *(task.equations.initial or ()), *_parts(task.loss)]
    tolerance = 1e-13 if any(e.has(sp.Float) for e in parts) else 10.0 ** (10 - DIGITS)
    found = []
    for name, terms in _claims(task):
        hows = [_decide(term, deadline, rng, tolerance) for term in terms]
        order = ("false", "open", "numerically", "symbolically")
        found.append(Statement(name, min(hows, key=order.index, default="symbolically")))
    return found


@dataclass(frozen=True)
class _Term:
    """Two expressions that should be equal, made when asked for, and how to compare numbers."""

    left: Callable[[], sp.Expr]
    right: Callable[[], sp.Expr]
    numeric: Callable[[Any, np.random.Generator], tuple[Any, Any]]
    small: bool


def _parts(loss: Loss) -> list[sp.Expr]:
    """Return the expressions of a loss."""
    whole = [loss.terminal, loss.running, *(group.expression for group in loss.groups)]
    return [e for e in whole if e is not None]


def _decide(term: _Term, deadline: float, rng: np.random.Generator, tolerance: float) -> str:
    left = deadline - time.perf_counter()
    ask = lambda: _vanishes(term.left() - term.right())  # noqa: E731
    if term.small and left > 0 and within(min(left, 0.5), ask, False):
        return "symbolically"
    mp = mpmath.MPContext()
    mp.dps = DIGITS
    compared = 0
    for _ in range(2 * POINTS):
        if time.perf_counter() > deadline + BUDGET:
            break
        try:
            a, b = term.numeric(mp, rng)
        except (ModelError, RecursionError):
            return "open"
        if not (mp.isfinite(a) and mp.isfinite(b)):
            continue
        compared += 1
        if abs(a - b) > tolerance * (1 + abs(a) + abs(b)):
            return "false"
        if compared == POINTS:
            break
    return "numerically" if compared >= POINTS // 4 else "open"


def _vanishes(difference: sp.Expr) -> bool:
    """Return whether SymPy can show that an expression is zero."""
    # Doubles are exact numbers to the graph; SymPy would round their sums.
    exact = {number: sp.Rational(number) for number in difference.atoms(sp.Float)}
    difference = difference.xreplace(exact)
    if difference == 0:
        return True
    expanded = sp.expand(difference)
    if expanded == 0:
        return True
    if sp.count_ops(expanded) > LARGEST_TERM or expanded.is_polynomial(*expanded.free_symbols):
        return False
    return bool(sp.together(expanded) == 0 or sp.simplify(difference) == 0)


class _Symbols:
    """The symbols of a model, of its adjoint, and their order in the kernels' inputs."""

    def __init__(self, task: Task, system: AdjointSystem) -> None:
        eq = task.equations
        self.eq, self.task = eq, task
        self.running = task.loss.running
        self.z, self.p, self.t = eq.states, eq.parameters, eq.time
        self.a1, self.a3 = system.a1, system.a3
        extra = [sp.Dummy("J_c")] if self.running is not None else []
        self.whole = [*self.z, *extra]
        #: The adjoint of the running cost's integral is 1.
        self.seeds = [*self.a1, *([sp.S.One] if extra else [])]

    def term(
        self, graph: Graph, place: int, z: Sequence[Any], v: Sequence[Any], expected: sp.Expr
    ) -> _Term:
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
        return _Term(left, lambda: expected, numeric, pick.n_operations <= LARGEST)

    def identity(
        self, left: Callable[[], sp.Expr], right: Callable[[], sp.Expr], small: bool
    ) -> _Term:
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

        return _Term(left, right, numeric, small)


def _number_of(expression: sp.Expr, symbols: Sequence[sp.Symbol], at: Any, arithmetic: Any) -> Any:
    """Return an expression's value in many digits, through a graph of its own."""
    b = Builder()
    table = {s: b.input("z", i) for i, s in enumerate(symbols)}
    graph = b.freeze(build(b, [sp.sympify(expression)], table))
    return evaluate(graph, 0, [at[s] for s in symbols], [], [], arithmetic)[0]


def _only(graph: Graph, place: int) -> Graph:
    b = Builder(graph)
    return b.freeze([graph.outputs[place]])


def _claims(task: Task) -> Iterator[tuple[str, list[_Term]]]:
    """Yield (what is claimed, the terms that must agree)."""
    system = adjoint_system(task.equations, task.loss)
    names = _Symbols(task, system)
    yield from _augmented(names, system)
    yield from _products(names)
    yield from _ends(names, system)
    yield from _invariants(names, system)


def _augmented(names: _Symbols, system: AdjointSystem) -> Iterator[tuple[str, list[_Term]]]:
    """Yield the claims on q = (z, a§1, a§3), each entry one."""
    task = names.task
    graph = task.augmented.graph
    states, n = len(names.z), task.n
    inputs = [*names.whole, *names.seeds, *names.a3]
    places = [*range(states), *range(n, n + states), *range(2 * n, 2 * n + task.m)]
    for place, symbol, expected in zip(places, system.q.flat(), system.dqdt.flat(), strict=True):
        yield f"d{symbol}/dt", [names.term(graph, place, inputs, [], expected)]
    if names.running is not None:
        yield (
            "the running cost's integral, and its adjoint of 1",
            [
                names.term(graph, states, inputs, [], names.running),
                names.term(graph, n + states, inputs, [], sp.S.Zero),
            ],
        )


def _products(names: _Symbols) -> Iterator[tuple[str, list[_Term]]]:
    """Yield the claims on the products that the methods compile."""
    task = names.task
    f = [*names.eq.rhs, *([names.running] if names.running is not None else [])]
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


def _ends(names: _Symbols, system: AdjointSystem) -> Iterator[tuple[str, list[_Term]]]:
    """Yield the claims on end conditions, jumps and z0(theta, t0)."""
    task, eq = names.task, names.eq
    order = [*names.z, *names.p, names.t]
    places = [*range(1, 1 + len(names.z)), *range(1 + task.n, 2 + task.n + task.m)]
    # The integral of the running cost, the last state where there is one, counts once.
    integral = [1 + len(names.z)] if names.running is not None else []
    terminal = lift_terminal(eq, task.loss, task.n)
    if terminal is not None:
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


def _invariants(names: _Symbols, system: AdjointSystem) -> Iterator[tuple[str, list[_Term]]]:
    r"""Yield the invariants of the theorem, da/dt taken from the graph."""
    task, eq = names.task, names.eq
    n, states, f = task.n, len(names.z), eq.rhs
    cost = sp.S.Zero if names.running is None else names.running
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


def statements_of(task: Task) -> list[Statement] | str:
    """Return the statements, or why SymPy cannot be asked."""
    size = task.field.graph.n_operations
    if size > TOO_LARGE:
        return f"f has {size} operations, SymPy is asked up to {TOO_LARGE}"
    try:
        return prove(task)
    except (ModelError, RecursionError) as error:
        return str(error).split(". ")[0]
