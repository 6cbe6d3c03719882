r"""Elimination on a known pattern: a fill-reducing order, the fill, and LU as straight-line code.

The matrix of an implicit step is :math:`W = d M + s J` with J on the model's pattern. Its LU
factorization without pivoting touches the same places at every step, so order and fill are found
once, when the model is compiled. The kernels check residuals and fall back on pivoting.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from symode.symbolic.graph import Builder, Graph

#: Operations of one factorization up to which straight-line code beats loops over the pattern.
STRAIGHT_LINE = 10_000
#: Pivots that reach the same columns from which loops run over contiguous pieces.
WIDE = 4


@dataclass(frozen=True)
class Elimination:
    """Order and pattern of the factors.

    Parameters
    ----------
    order, row_order
        Column and row eliminated k-th; the same unless rows had to be exchanged. Length n.
    start, column
        Rows of L + U in elimination order: row k holds ``column[start[k]:start[k + 1]]``,
        ascending, in elimination order.
    diagonal
        Place of each pivot.
    place
        Place of each entry of J, then of M unless it is the identity, among those of L + U.
    node
        ``node[k]`` is the end of the node that holds pivot k: the pivots from k up to there have
        rows of U that reach the same columns, apart from their own.
    wide
        Place in each row from which on the entries of L stand in runs of contiguous columns.
    """

    order: tuple[int, ...]
    start: tuple[int, ...]
    column: tuple[int, ...]
    diagonal: tuple[int, ...]
    place: tuple[int, ...]
    node: tuple[int, ...]
    wide: tuple[int, ...]
    row_order: tuple[int, ...]

    @property
    def n_operations(self) -> int:
        """Multiplications and divisions of one factorization."""
        total = 0
        for i in range(len(self.order)):
            for at in range(self.start[i], self.diagonal[i]):
                k = self.column[at]
                total += 1 + self.start[k + 1] - self.diagonal[k] - 1
        return total


def eliminate(
    rows: Sequence[int], cols: Sequence[int], n: int, partner: Sequence[int] | None = None
) -> Elimination:
    """Return the elimination of ``I + J`` for J on this pattern, by minimum degree.

    With ``partner``, the matrix whose entries are given, with row ``partner[j]`` in the place of
    row j (see `match_rows`).

    The pattern is made symmetric, which holds for the order of elimination what a row exchange
    would undo. Ties go to the index whose neighbourhood has been left alone longest, then to the
    lower one: a chain is eliminated from both its ends in turn, which halves the longest run of
    operations that wait for each other, and the result is the same in every process.

    Examples
    --------
    >>> arrow = eliminate([0, 0, 0, 1, 2], [0, 1, 2, 0, 0], 3)
    >>> arrow.order  # the hub comes last: no fill
    (1, 2, 0)
    """
    if partner is None:
        partner = range(n)
    else:
        moved = dict(zip(partner, range(n), strict=True))
        rows = [moved[i] for i in rows]
    neighbours: list[set[int]] = [set() for _ in range(n)]
    for i, j in zip(rows, cols, strict=True):
        if i != j:
            neighbours[i].add(j)
            neighbours[j].add(i)
    order, later = _minimum_degree(neighbours)
    if sum((len(above) + 1) * len(above) for above in later) > STRAIGHT_LINE:
        order, later = _postordered(order, later)
    position = [0] * n
    for k, i in enumerate(order):
        position[i] = k
    rows_of: list[list[int]] = [[] for _ in range(n)]
    for k in range(n):
        for j in later[k]:
            rows_of[j].append(k)
    start, column, diagonal = [0], [], []
    for k in range(n):
        column += rows_of[k]
        diagonal.append(len(column))
        column.append(k)
        column += later[k]
        start.append(len(column))
    lookup = [{column[at]: at for at in range(start[k], start[k + 1])} for k in range(n)]
    place = [lookup[position[i]][position[j]] for i, j in zip(rows, cols, strict=True)]
    node = _nodes(later)
    wide = _wide(start, column, diagonal, node)
    row_order = [partner[j] for j in order]
    parts = (order, start, column, diagonal, place, node, wide, row_order)
    return Elimination(*(tuple(part) for part in parts))


def match_rows(rows: Sequence[int], cols: Sequence[int], n: int) -> list[int]:
    """Return for each column a row of its own that has an entry there, or -1.

    Columns keep their own row where they can; the others are found by augmenting paths (Duff,
    Erisman & Reid 1986, *Direct Methods for Sparse Matrices*, section 6.3). A column is left with
    -1 when there is no such choice: the matrix is singular whatever its entries are.

    Examples
    --------
    >>> match_rows([0, 0, 1], [0, 1, 0], 2)  # the last diagonal entry is 0: rows are exchanged
    [1, 0]
    """
    entries: list[list[int]] = [[] for _ in range(n)]
    for i, j in zip(rows, cols, strict=True):
        entries[j].append(i)
    row_of = [j if j in entries[j] else -1 for j in range(n)]
    column_of = list(row_of)
    for free in range(n):
        if row_of[free] >= 0:
            continue
        # Breadth-first from the free column: reached row -> column it was reached from.
        reached: dict[int, int] = {}
        queue, end = deque([free]), -1
        while queue and end < 0:
            j = queue.popleft()
            for i in entries[j]:
                if i not in reached:
                    reached[i] = j
                    if column_of[i] < 0:
                        end = i
                        break
                    queue.append(column_of[i])
        while end >= 0:
            j = reached[end]
            row_of[j], column_of[end], end = end, j, -1 if j == free else row_of[j]
    return row_of


def _minimum_degree(neighbours: list[set[int]]) -> tuple[list[int], list[list[int]]]:
    """Return the order, and for each pivot those after it that its row and column reach."""
    n = len(neighbours)
    touched = [0] * n
    heap = [(len(neighbours[i]), 0, i) for i in range(n)]
    heapq.heapify(heap)
    order: list[int] = []
    while heap:
        degree, since, i = heapq.heappop(heap)
        if degree != len(neighbours[i]) or since != touched[i]:
            continue
        order.append(i)
        touched[i] = -1
        clique = neighbours[i]
        for j in clique:
            neighbours[j] |= clique
            neighbours[j] -= {i, j}
            touched[j] = len(order)
            heapq.heappush(heap, (len(neighbours[j]), touched[j], j))
    position = [0] * n
    for k, i in enumerate(order):
        position[i] = k
    return order, [sorted(position[j] for j in neighbours[i]) for i in order]


def _postordered(order: list[int], later: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Return an equivalent order, with the pivots of a node next to each other.

    Pivots form a tree, each below the first one that its row reaches; any order in which children
    come before their parents has the same fill.
    """
    n = len(order)
    children: list[list[int]] = [[] for _ in range(n + 1)]
    for k, reached in enumerate(later):
        children[reached[0] if reached else n].append(k)
    walk: list[int] = []
    stack = [n]
    while stack:
        k = stack.pop()
        walk.append(k)
        # The child that reaches farthest comes last, next to its parent.
        stack += sorted(children[k], key=lambda child: len(later[child]))
    walk = walk[:0:-1]
    position = [0] * n
    for new, k in enumerate(walk):
        position[k] = new
    return [order[k] for k in walk], [sorted(position[j] for j in later[k]) for k in walk]


def _nodes(later: list[list[int]]) -> list[int]:
    """Return the end of the node of each pivot."""
    n = len(later)
    end = list(range(1, n + 1))
    for k in range(n - 2, -1, -1):
        if later[k][:1] == [k + 1] and len(later[k]) == len(later[k + 1]) + 1:
            end[k] = end[k + 1]
    return end


def _wide(
    start: Sequence[int], column: Sequence[int], diagonal: Sequence[int], node: Sequence[int]
) -> list[int]:
    """Return for each row the place of its first entry in a node of at least WIDE pivots."""
    found = []
    for i, pivot in enumerate(diagonal):
        at = start[i]
        while at < pivot and min(node[column[at]], i) - column[at] < WIDE:
            at += 1
        found.append(at)
    return found


def derive_factor(
    elimination: Elimination, mass: Sequence[tuple[int, int, Fraction]] | None = None
) -> Graph:
    r"""Return L, :math:`D^{-1}` and U with :math:`L D U = d M + s J`, in the places of L + U.

    L and U have unit diagonals, so that the chains of a solve hold no operation but one
    multiplication and subtraction. Inputs: z = (d, s), v = the entries of J.
    """
    b = Builder()
    d, s = b.input("z", 0), b.input("z", 1)
    start, column, diagonal = elimination.start, elimination.column, elimination.diagonal
    values: list[int] = [b.const(0)] * len(column)
    entries = elimination.place
    if mass is None:
        for k in diagonal:
            values[k] = d
    else:
        entries = elimination.place[: len(elimination.place) - len(mass)]
        held = elimination.place[len(entries) :]
        for at, (_, _, value) in zip(held, mass, strict=True):
            values[at] = b.mul(b.const(value), d)
    for entry, at in enumerate(entries):
        values[at] = b.add(values[at], b.mul(s, b.input("v", entry)))
    for i in range(len(elimination.order)):
        row = {column[at]: at for at in range(start[i], start[i + 1])}
        for at in range(start[i], diagonal[i]):
            k = column[at]
            for other in range(diagonal[k] + 1, start[k + 1]):
                target = row[column[other]]
                values[target] = b.sub(values[target], b.mul(values[at], values[other]))
            values[at] = b.mul(values[at], values[diagonal[k]])
        values[diagonal[i]] = b.div(b.const(1), values[diagonal[i]])
        for at in range(diagonal[i] + 1, start[i + 1]):
            values[at] = b.mul(values[at], values[diagonal[i]])
    return b.freeze(values)


def derive_solve(elimination: Elimination) -> Graph:
    """Return x with W x = v. Inputs: z = the factors, v = the right-hand side."""
    b = Builder()
    x, lu = _vectors(b, elimination, elimination.row_order)
    start, column, diagonal = elimination.start, elimination.column, elimination.diagonal
    n = len(x)
    for i in range(n):
        for at in range(start[i], diagonal[i]):
            x[i] = b.sub(x[i], b.mul(lu[at], x[column[at]]))
    for i in reversed(range(n)):
        x[i] = b.mul(x[i], lu[diagonal[i]])
        for at in reversed(range(diagonal[i] + 1, start[i + 1])):
            x[i] = b.sub(x[i], b.mul(lu[at], x[column[at]]))
    return _reordered(b, elimination.order, x)


def derive_solve_transposed(elimination: Elimination) -> Graph:
    """Return x with Wᵀ x = v. Inputs: z = the factors, v = the right-hand side."""
    b = Builder()
    x, lu = _vectors(b, elimination, elimination.order)
    start, column, diagonal = elimination.start, elimination.column, elimination.diagonal
    n = len(x)
    for i in range(n):
        for at in range(diagonal[i] + 1, start[i + 1]):
            x[column[at]] = b.sub(x[column[at]], b.mul(lu[at], x[i]))
    for i in reversed(range(n)):
        x[i] = b.mul(x[i], lu[diagonal[i]])
    for i in reversed(range(n)):
        for at in range(start[i], diagonal[i]):
            x[column[at]] = b.sub(x[column[at]], b.mul(lu[at], x[i]))
    return _reordered(b, elimination.row_order, x)


def _vectors(
    b: Builder, elimination: Elimination, order: Sequence[int]
) -> tuple[list[int], list[int]]:
    x = [b.input("v", i) for i in order]
    return x, [b.input("z", at) for at in range(len(elimination.column))]


def _reordered(b: Builder, order: Sequence[int], x: list[int]) -> Graph:
    outputs = [0] * len(x)
    for k, i in enumerate(order):
        outputs[i] = x[k]
    return b.freeze(outputs)
