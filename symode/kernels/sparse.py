r"""Elimination on a model's pattern by loops: :math:`W = L D U`, without pivoting.

Columns of one node (a supernode: consecutive pivots whose rows of U reach the same columns) are
eliminated together, four at a time: the sums over them run along contiguous memory, and only their
total is scattered. L and U have unit diagonals; the places of D hold its inverse.

Davis (2006), *Direct Methods for Sparse Linear Systems*, sections 4.8 and 6.2.
"""

from __future__ import annotations

import numba

from symode.kernels.jit import HELPER, inline
from symode.kernels.types import Floats, Ints, Pattern

#: Pivots in a node from which contiguous pieces pay, as `symode.symbolic.elimination` counts them.
WIDE = 4
#: Sums may be reordered here, and then run on vector registers: their rounding is part of the
#: solve's, whose residual is checked.
_reordered = numba.njit(**{**HELPER, "fastmath": {"contract", "reassoc"}})


@inline
def factor(pattern: Pattern, values: Floats, row: Floats, sums: Floats) -> None:
    """Replace the entries of W in ``values`` by those of L, D⁻¹ and U; ``sums`` is scratch."""
    column, diagonal = pattern.column, pattern.diagonal
    for i in range(diagonal.size):
        first, pivot, stop = pattern.start[i], diagonal[i], pattern.start[i + 1]
        for at in range(first, stop):
            row[column[at]] = values[at]
        at = first
        while at < pivot:
            k = column[at]
            end = min(pattern.node[k], i)
            if end - k == 1:
                w = row[k]
                for other in range(diagonal[k] + 1, pattern.start[k + 1]):
                    row[column[other]] -= w * values[other]
            else:
                _eliminate(pattern, values, row, sums, k, end)
            at += end - k
        for at in range(first, pivot):
            values[at] = row[column[at]] * values[diagonal[column[at]]]
        inverse = 1.0 / row[i]
        values[pivot] = inverse
        for at in range(pivot + 1, stop):
            values[at] = row[column[at]] * inverse


@_reordered
def _eliminate(
    pattern: Pattern, values: Floats, row: Floats, sums: Floats, first: int, end: int
) -> None:
    """Subtract from a row its multiples of the rows ``first`` to ``end - 1`` of one node."""
    last = pattern.node[first]  # columns up to here are the node's own, and contiguous in the row
    rest = pattern.start[last] - pattern.diagonal[last - 1] - 1
    total = sums[:rest]
    for q in range(rest):
        total[q] = 0.0
    j = first
    while j + 4 <= end:
        o = pattern.diagonal[j]
        u0 = values[o : o + last - j]
        o = pattern.diagonal[j + 1]
        u1 = values[o : o + last - j - 1]
        o = pattern.diagonal[j + 2]
        u2 = values[o : o + last - j - 2]
        o = pattern.diagonal[j + 3]
        u3 = values[o : o + last - j - 3]
        w0 = row[j]
        w1 = row[j + 1] - w0 * u0[1]
        w2 = row[j + 2] - w0 * u0[2] - w1 * u1[1]
        w3 = row[j + 3] - w0 * u0[3] - w1 * u1[2] - w2 * u2[1]
        row[j + 1] = w1
        row[j + 2] = w2
        row[j + 3] = w3
        own = row[j + 4 : last]
        v0, v1, v2, v3 = u0[4:], u1[3:], u2[2:], u3[1:]
        for q in range(own.size):
            own[q] -= w0 * v0[q] + w1 * v1[q] + w2 * v2[q] + w3 * v3[q]
        if rest:
            o = pattern.start[j + 1]
            v0 = values[o - rest : o]
            o = pattern.start[j + 2]
            v1 = values[o - rest : o]
            o = pattern.start[j + 3]
            v2 = values[o - rest : o]
            o = pattern.start[j + 4]
            v3 = values[o - rest : o]
            for q in range(rest):
                total[q] += w0 * v0[q] + w1 * v1[q] + w2 * v2[q] + w3 * v3[q]
        j += 4
    while j < end:
        o = pattern.diagonal[j]
        w0 = row[j]
        v0 = values[o + 1 : o + last - j]
        own = row[j + 1 : last]
        for q in range(own.size):
            own[q] -= w0 * v0[q]
        o = pattern.start[j + 1]
        v0 = values[o - rest : o]
        for q in range(rest):
            total[q] += w0 * v0[q]
        j += 1
    o = pattern.start[last] - rest
    for q in range(rest):
        row[pattern.column[o + q]] -= total[q]


@_reordered
def _product(values: Floats, y: Floats) -> float:
    """Return the scalar product of two contiguous pieces."""
    total = 0.0
    for q in range(values.size):
        total += values[q] * y[q]
    return total


@_reordered
def _gathered(values: Floats, column: Ints, first: int, stop: int, y: Floats) -> float:
    """Return the scalar product of values with the entries of y in their columns."""
    total = 0.0
    for at in range(first, stop):
        total += values[at] * y[column[at]]
    return total


@inline
def _subtract(values: Floats, w: float, y: Floats) -> None:
    """Subtract w times a contiguous piece from another."""
    for q in range(values.size):
        y[q] -= w * values[q]


@inline
def solve(pattern: Pattern, values: Floats, y: Floats, rest: Floats) -> None:
    """Solve W x = y in place, y in the order of elimination; ``rest`` is scratch."""
    column, diagonal, start, node = pattern.column, pattern.diagonal, pattern.start, pattern.node
    n = diagonal.size
    for i in range(n):
        at, pivot = pattern.wide[i], diagonal[i]
        total = y[i] - _gathered(values, column, start[i], at, y)
        while at < pivot:
            k = column[at]
            width = min(node[k], i) - k
            total -= _product(values[at : at + width], y[k : k + width])
            at += width
        y[i] = total
    i = n - 1
    while i >= 0:
        # All pivots of a node reach the same entries of y beyond it.
        last, first = i + 1, i
        while first > 0 and node[first - 1] == last:
            first -= 1
        if last - first < WIDE:
            for j in range(i, first - 1, -1):
                total = y[j] * values[diagonal[j]]
                y[j] = total - _gathered(values, column, diagonal[j] + 1, start[j + 1], y)
        else:
            beyond = start[last] - diagonal[i] - 1
            for q in range(beyond):
                rest[q] = y[column[start[last] - beyond + q]]
            for j in range(i, first - 1, -1):
                stop = start[j + 1]
                total = y[j] * values[diagonal[j]]
                total -= _product(values[diagonal[j] + 1 : stop - beyond], y[j + 1 : last])
                y[j] = total - _product(values[stop - beyond : stop], rest[:beyond])
        i = first - 1


@inline
def solve_transposed(pattern: Pattern, values: Floats, y: Floats, rest: Floats) -> None:
    """Solve Wᵀ x = y in place, y in the order of elimination; ``rest`` is scratch."""
    column, diagonal, start, node = pattern.column, pattern.diagonal, pattern.start, pattern.node
    n = diagonal.size
    i = 0
    while i < n:
        last = node[i]
        if last - i < WIDE:
            for j in range(i, last):
                w = y[j]
                for at in range(diagonal[j] + 1, start[j + 1]):
                    y[column[at]] -= values[at] * w
                y[j] = w * values[diagonal[j]]
        else:
            beyond = start[last] - diagonal[last - 1] - 1
            for q in range(beyond):
                rest[q] = 0.0
            for j in range(i, last):
                w, stop = y[j], start[j + 1]
                _subtract(values[diagonal[j] + 1 : stop - beyond], w, y[j + 1 : last])
                _subtract(values[stop - beyond : stop], w, rest[:beyond])
                y[j] = w * values[diagonal[j]]
            for q in range(beyond):
                y[column[start[last] - beyond + q]] += rest[q]
        i = last
    for i in range(n - 1, -1, -1):
        w, at, pivot = y[i], pattern.wide[i], diagonal[i]
        for narrow in range(start[i], at):
            y[column[narrow]] -= values[narrow] * w
        while at < pivot:
            k = column[at]
            width = min(node[k], i) - k
            _subtract(values[at : at + width], w, y[k : k + width])
            at += width
