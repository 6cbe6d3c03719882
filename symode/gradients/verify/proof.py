r"""The proof: the products that are compiled are those of Theorem 1, for the user's own model.

Each output of each derived graph is read back as an expression and compared with what SymPy
differentiates from the equations; the theorem's invariants are simplified to zero (the claims are
in `symode.gradients.verify.theorem`). What SymPy cannot decide in time is compared at 20 random
points in 50 digits, and labelled so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import mpmath
import numpy as np
import sympy as sp

from symode.equations.loss import Loss
from symode.errors import ModelError
from symode.gradients.task import Task
from symode.gradients.verify.bounded import within
from symode.gradients.verify.report import Check
from symode.gradients.verify.subject import Subject
from symode.gradients.verify.theorem import Term, claims

#: Seconds for all of SymPy's work on one model.
BUDGET = 2.0
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
    for name, terms in claims(task):
        hows = [_decide(term, deadline, rng, tolerance) for term in terms]
        order = ("false", "open", "numerically", "symbolically")
        found.append(Statement(name, min(hows, key=order.index, default="symbolically")))
    return found


def _parts(loss: Loss) -> list[sp.Expr]:
    """Return the expressions of a loss."""
    costs = [e for _, e in (*loss.terminals, *loss.runnings)]
    whole = [loss.outer, *costs, *(group.expression for group in loss.groups)]
    return [e for e in whole if e is not None]


def _decide(term: Term, deadline: float, rng: np.random.Generator, tolerance: float) -> str:
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


def statements_of(task: Task) -> list[Statement] | str:
    """Return the statements, or why SymPy cannot be asked."""
    size = task.field.graph.n_operations
    if size > TOO_LARGE:
        return f"f has {size} operations, SymPy is asked up to {TOO_LARGE}"
    try:
        return prove(task)
    except (ModelError, RecursionError) as error:
        return str(error).split(". ")[0]
