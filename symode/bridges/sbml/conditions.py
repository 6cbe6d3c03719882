"""Triggers in the words that events know: inequalities joined by And, Or and Not.

SBML lets numbers be conditions and conditions numbers, so a trigger may compare a piecewise
expression, or ask whether two quantities that only events change are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sympy as sp
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from symode.equations.walk import distinct_nodes, substituted, written_size
from symode.errors import ImportFileError

#: Pieces of one expression that are told apart in a trigger.
MOST_PIECES = 16
#: Nodes of a condition, written out: SymPy sorts its parts, each time asking all of them.
MOST_NODES = 5000


def plain(condition: Boolean, steady: Callable[[sp.Expr], bool]) -> Boolean:
    """Return an equivalent condition without equalities and pieces, as far as there is one.

    Parameters
    ----------
    condition
        Any condition.
    steady
        Whether an expression changes at events only: then it can be equal to another for a time.

    Examples
    --------
    >>> x, q = sp.symbols("x q")
    >>> plain(sp.Ne(sp.Piecewise((0, x < 1), (1, True)), 0), lambda e: False)
    x >= 1
    >>> plain(sp.Eq(q, 2), lambda e: True)
    (q >= 2) & (q <= 2)
    """
    if isinstance(condition, sp.And | sp.Or | sp.Not):
        return condition.func(*(plain(part, steady) for part in condition.args))
    if not isinstance(condition, Relational):
        return condition
    left, right = condition.lhs, condition.rhs
    pieces = [node for node in distinct_nodes([condition]) if isinstance(node, sp.Piecewise)]
    if pieces and sum(len(node.args) for node in pieces) <= MOST_PIECES:
        return plain(_by_pieces(condition, pieces[0]), steady)
    if isinstance(left, sp.floor) and right.is_Rational:
        return plain(_of_floor(condition), steady)
    if isinstance(right, sp.floor) and left.is_Rational:
        return plain(_of_floor(condition.reversed), steady)
    if isinstance(condition, sp.Eq) and steady(left - right):
        return sp.And(sp.Le(left, right), sp.Ge(left, right))
    if isinstance(condition, sp.Ne) and steady(left - right):
        return sp.Or(sp.Lt(left, right), sp.Gt(left, right))
    return condition


def _by_pieces(relation: Relational, node: sp.Piecewise) -> Boolean:
    before: list[Boolean] = []
    found: list[Boolean] = []
    for value, condition in node.args:
        found.append(sp.And(*before, condition, substituted(relation, {node: value})))
        before.append(sp.Not(condition))
    return sp.Or(*found)


def _of_floor(relation: Relational) -> Boolean:
    x, bound = relation.lhs.args[0], relation.rhs
    above, after = sp.ceiling(bound), sp.floor(bound) + 1
    if isinstance(relation, sp.Ge):
        return sp.Ge(x, above)
    if isinstance(relation, sp.Gt):
        return sp.Ge(x, after)
    if isinstance(relation, sp.Lt):
        return sp.Lt(x, above)
    if isinstance(relation, sp.Le):
        return sp.Lt(x, after)
    inside = sp.And(sp.Ge(x, bound), sp.Lt(x, after)) if bound.is_Integer else sp.false
    return inside if isinstance(relation, sp.Eq) else sp.Not(inside)


def without_pieces(condition: Boolean, where: str) -> Boolean:
    """Return an equivalent condition that compares no piecewise expressions.

    SymPy would do it by sets of real numbers, in a time without bounds.

    Raises
    ------
    ImportFileError
        When there is none of bounded length.

    Examples
    --------
    >>> x = sp.Symbol("x")
    >>> without_pieces(sp.Piecewise((0, x < 1), (x, True)) > 3, "a rule")
    (x >= 1) & (x > 3)
    """
    if isinstance(condition, sp.And | sp.Or | sp.Not):
        parts = [without_pieces(part, where) for part in condition.args]
        if all(new is old for new, old in zip(parts, condition.args, strict=True)):
            return condition
        return _bounded(condition.func(*parts), where)
    while isinstance(condition, Relational):
        pieces = [node for node in distinct_nodes([condition]) if isinstance(node, sp.Piecewise)]
        if not pieces:
            break
        if sum(len(node.args) for node in pieces) > MOST_NODES:
            raise _too_long(where)
        # The innermost first: conditions of the others are free of pieces already.
        condition = _bounded(_by_pieces(condition, pieces[-1]), where)
        if not isinstance(condition, Relational):
            return without_pieces(condition, where)
    return condition


def odd(parts: Sequence[Boolean], where: str) -> Boolean:
    """Return whether an odd number of conditions hold, in the words of and, or, not.

    Raises
    ------
    ImportFileError
        For too many: the length grows with the square of their number.

    Examples
    --------
    >>> p, q = sp.symbols("p q")
    >>> [bool(odd([p > 0, q > 0], "a rule").subs({p: 1, q: sign})) for sign in (-1, 1)]
    [True, False]
    """
    if len(parts) < 2:
        return parts[0] if parts else sp.false
    if len(parts) ** 2 * max(written_size(part) for part in parts) > 4 * MOST_NODES:
        raise _too_long(where)
    half = len(parts) // 2
    one, two = odd(parts[:half], where), odd(parts[half:], where)
    return sp.Or(sp.And(one, sp.Not(two)), sp.And(sp.Not(one), two))


def _bounded(condition: Boolean, where: str) -> Boolean:
    if written_size(condition) > MOST_NODES:
        raise _too_long(where)
    return condition


def _too_long(where: str) -> ImportFileError:
    return ImportFileError(
        f"{where} has a condition that, written out, has more than {MOST_NODES} operations; "
        "write it with fewer pieces."
    )
