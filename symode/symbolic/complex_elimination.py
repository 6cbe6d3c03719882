r"""Straight-line LU and solves of complex matrices :math:`d I + s J`, d complex, J real.

Fully implicit Runge-Kutta methods split into one real system and pairs of conjugate complex ones
on the same pattern (Hairer & Wanner 1996, *Solving ODEs II*, section IV.8). The order of
elimination and the fill are those of the real system.
"""

from __future__ import annotations

from symode.symbolic.elimination import STRAIGHT_LINE, Elimination
from symode.symbolic.graph import Builder, Graph

#: Real and imaginary part.
Pair = tuple[int, int]


def complex_kernels(elimination: Elimination, *, transposed: bool) -> dict[str, tuple[str, Graph]]:
    """Return the kernels of complex systems where straight-line code is short enough; else none.

    Examples
    --------
    >>> from symode.symbolic.elimination import eliminate
    >>> sorted(complex_kernels(eliminate([0], [0], 1), transposed=False))
    ['complex_factor', 'complex_solve']
    """
    # A complex product is four real ones.
    if 4 * elimination.n_operations > STRAIGHT_LINE:
        return {}
    kernels = {
        "complex_factor": ("product", derive_complex_factor(elimination)),
        "complex_solve": ("product", derive_complex_solve(elimination, transposed=False)),
    }
    if transposed:
        solve = derive_complex_solve(elimination, transposed=True)
        kernels["complex_solve_t"] = ("product", solve)
    return kernels


def derive_complex_factor(elimination: Elimination) -> Graph:
    r"""Return L and U of :math:`d I + s J` (pivots inverted), real and imaginary parts by turns.

    Inputs: z = (Re d, Im d, s), v = the entries of J.

    Examples
    --------
    >>> from symode.symbolic.elimination import eliminate
    >>> derive_complex_factor(eliminate([0], [0], 1))
    Graph(9 operations, 2 outputs)
    """
    b = Builder()
    s, zero = b.input("z", 2), b.const(0)
    start, column, diagonal = elimination.start, elimination.column, elimination.diagonal
    values: list[Pair] = [(zero, zero)] * len(column)
    for k in diagonal:
        values[k] = (b.input("z", 0), b.input("z", 1))
    for entry, at in enumerate(elimination.place):
        real, imaginary = values[at]
        values[at] = (b.add(real, b.mul(s, b.input("v", entry))), imaginary)
    for i in range(len(elimination.order)):
        row = {column[at]: at for at in range(start[i], start[i + 1])}
        for at in range(start[i], diagonal[i]):
            k = column[at]
            values[at] = _times(b, values[at], values[diagonal[k]])
            for other in range(diagonal[k] + 1, start[k + 1]):
                target = row[column[other]]
                values[target] = _minus(b, values[target], _times(b, values[at], values[other]))
        values[diagonal[i]] = _inverse(b, values[diagonal[i]])
    return b.freeze([part for value in values for part in value])


def derive_complex_solve(elimination: Elimination, *, transposed: bool) -> Graph:
    """Return x with W x = v or Wᵀ x = v. Inputs: z = the factors, v = real, then imaginary parts.

    Examples
    --------
    >>> from symode.symbolic.elimination import eliminate
    >>> derive_complex_solve(eliminate([0], [0], 1), transposed=False)
    Graph(6 operations, 2 outputs)
    """
    b = Builder()
    n = len(elimination.order)
    start, column, diagonal = elimination.start, elimination.column, elimination.diagonal
    x: list[Pair] = [(b.input("v", i), b.input("v", n + i)) for i in elimination.order]
    lu: list[Pair] = [(b.input("z", 2 * at), b.input("z", 2 * at + 1)) for at in range(len(column))]
    if transposed:
        for i in range(n):
            x[i] = _times(b, x[i], lu[diagonal[i]])
            for at in range(diagonal[i] + 1, start[i + 1]):
                x[column[at]] = _minus(b, x[column[at]], _times(b, lu[at], x[i]))
        for i in reversed(range(n)):
            for at in range(start[i], diagonal[i]):
                x[column[at]] = _minus(b, x[column[at]], _times(b, lu[at], x[i]))
    else:
        for i in range(n):
            for at in range(start[i], diagonal[i]):
                x[i] = _minus(b, x[i], _times(b, lu[at], x[column[at]]))
        for i in reversed(range(n)):
            for at in range(diagonal[i] + 1, start[i + 1]):
                x[i] = _minus(b, x[i], _times(b, lu[at], x[column[at]]))
            x[i] = _times(b, x[i], lu[diagonal[i]])
    outputs = [0] * (2 * n)
    for k, i in enumerate(elimination.order):
        outputs[i], outputs[n + i] = x[k]
    return b.freeze(outputs)


def _times(b: Builder, x: Pair, y: Pair) -> Pair:
    real = b.sub(b.mul(x[0], y[0]), b.mul(x[1], y[1]))
    return real, b.add(b.mul(x[0], y[1]), b.mul(x[1], y[0]))


def _minus(b: Builder, x: Pair, y: Pair) -> Pair:
    return b.sub(x[0], y[0]), b.sub(x[1], y[1])


def _inverse(b: Builder, x: Pair) -> Pair:
    size = b.add(b.mul(x[0], x[0]), b.mul(x[1], x[1]))
    scale = b.div(b.const(1), size)
    return b.mul(x[0], scale), b.neg(b.mul(x[1], scale))
