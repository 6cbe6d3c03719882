r"""Elimination on a known pattern: a fill-reducing order, the fill, and LU as straight-line code.

The matrix of an implicit step is :math:`W = d I + s J` with J on the model's pattern. Its LU
factorization without pivoting touches the same places at every step, so order and fill are found
once, when the model is compiled. The kernels check residuals and fall back on pivoting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from symode.symbolic.graph import Builder, Graph

#: Operations of one factorization up to which straight-line code beats loops over the pattern.
STRAIGHT_LINE = 5000


@dataclass(frozen=True)
class Elimination:
    """Order and pattern of the factors.

    Parameters
    ----------
    order
        ``order[k]`` is the row and column eliminated k-th. Length n.
    start, column
        Rows of L + U in elimination order: row k holds ``column[start[k]:start[k + 1]]``,
        ascending, in elimination order.
    diagonal
        Place of each pivot.
    place
        Place of each entry of J among the values of L + U.
    """

    order: tuple[int, ...]
    start: tuple[int, ...]
    column: tuple[int, ...]
    diagonal: tuple[int, ...]
    place: tuple[int, ...]

    @property
    def n_operations(self) -> int:
        """Multiplications and divisions of one factorization."""
        total = 0
        for i in range(len(self.order)):
            for at in range(self.start[i], self.diagonal[i]):
                k = self.column[at]
                total += 1 + self.start[k + 1] - self.diagonal[k] - 1
        return total


def eliminate(rows: Sequence[int], cols: Sequence[int], n: int) -> Elimination:
    """Return the elimination of ``I + J`` for J on this pattern, by minimum degree.

    The pattern is made symmetric, which holds for the order of elimination what a row exchange
    would undo. Ties go to the lower index, so that the result is the same in every process.

    Examples
    --------
    >>> arrow = eliminate([0, 0, 0, 1, 2], [0, 1, 2, 0, 0], 3)
    >>> arrow.order  # the hub comes last but one: no fill
    (1, 0, 2)
    """
    neighbours: list[set[int]] = [set() for _ in range(n)]
    for i, j in zip(rows, cols, strict=True):
        if i != j:
            neighbours[i].add(j)
            neighbours[j].add(i)
    order, above = _minimum_degree(neighbours)
    position = [0] * n
    for k, i in enumerate(order):
        position[i] = k
    # above[k]: elimination positions after k that row and column k reach.
    later = [sorted(position[j] for j in above[i]) for i in order]
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
    return Elimination(tuple(order), tuple(start), tuple(column), tuple(diagonal), tuple(place))


def _minimum_degree(neighbours: list[set[int]]) -> tuple[list[int], list[set[int]]]:
    """Return the order, and for each index the neighbours it has when it is eliminated."""
    import heapq

    n = len(neighbours)
    heap = [(len(neighbours[i]), i) for i in range(n)]
    heapq.heapify(heap)
    done = [False] * n
    order: list[int] = []
    above: list[set[int]] = [set() for _ in range(n)]
    while heap:
        degree, i = heapq.heappop(heap)
        if done[i] or degree != len(neighbours[i]):
            continue
        done[i] = True
        order.append(i)
        clique = neighbours[i]
        above[i] = clique
        for j in clique:
            neighbours[j] |= clique
            neighbours[j] -= {i, j}
            heapq.heappush(heap, (len(neighbours[j]), j))
    return order, above


def derive_factor(elimination: Elimination) -> Graph:
    r"""Return L and U of :math:`d I + s J` (pivots inverted), in the places of the elimination.

    Inputs: z = (d, s), v = the entries of J.
    """
    b = Builder()
    d, s = b.input("z", 0), b.input("z", 1)
    start, column, diagonal = elimination.start, elimination.column, elimination.diagonal
    values: list[int] = [b.const(0)] * len(column)
    for k in diagonal:
        values[k] = d
    for entry, at in enumerate(elimination.place):
        values[at] = b.add(values[at], b.mul(s, b.input("v", entry)))
    for i in range(len(elimination.order)):
        row = {column[at]: at for at in range(start[i], start[i + 1])}
        for at in range(start[i], diagonal[i]):
            k = column[at]
            values[at] = b.mul(values[at], values[diagonal[k]])
            for other in range(diagonal[k] + 1, start[k + 1]):
                target = row[column[other]]
                values[target] = b.sub(values[target], b.mul(values[at], values[other]))
        values[diagonal[i]] = b.div(b.const(1), values[diagonal[i]])
    return b.freeze(values)


def derive_solve(elimination: Elimination) -> Graph:
    """Return x with W x = v. Inputs: z = the factors, v = the right-hand side."""
    b = Builder()
    x, lu = _vectors(b, elimination)
    start, column, diagonal = elimination.start, elimination.column, elimination.diagonal
    n = len(x)
    for i in range(n):
        for at in range(start[i], diagonal[i]):
            x[i] = b.sub(x[i], b.mul(lu[at], x[column[at]]))
    for i in reversed(range(n)):
        for at in range(diagonal[i] + 1, start[i + 1]):
            x[i] = b.sub(x[i], b.mul(lu[at], x[column[at]]))
        x[i] = b.mul(x[i], lu[diagonal[i]])
    return _reordered(b, elimination, x)


def derive_solve_transposed(elimination: Elimination) -> Graph:
    """Return x with Wᵀ x = v. Inputs: z = the factors, v = the right-hand side."""
    b = Builder()
    x, lu = _vectors(b, elimination)
    start, column, diagonal = elimination.start, elimination.column, elimination.diagonal
    n = len(x)
    for i in range(n):
        x[i] = b.mul(x[i], lu[diagonal[i]])
        for at in range(diagonal[i] + 1, start[i + 1]):
            x[column[at]] = b.sub(x[column[at]], b.mul(lu[at], x[i]))
    for i in reversed(range(n)):
        for at in range(start[i], diagonal[i]):
            x[column[at]] = b.sub(x[column[at]], b.mul(lu[at], x[i]))
    return _reordered(b, elimination, x)


def _vectors(b: Builder, elimination: Elimination) -> tuple[list[int], list[int]]:
    x = [b.input("v", i) for i in elimination.order]
    return x, [b.input("z", at) for at in range(len(elimination.column))]


def _reordered(b: Builder, elimination: Elimination, x: list[int]) -> Graph:
    outputs = [0] * len(x)
    for k, i in enumerate(elimination.order):
        outputs[i] = x[k]
    return b.freeze(outputs)
