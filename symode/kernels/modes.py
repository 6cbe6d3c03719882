r"""Linear systems of fully implicit steps: :math:`h^{-1} A^{-1} \otimes I \mp I \otimes J`, split.

In the modes of :math:`A^{-1}` the system falls into one real matrix :math:`(\gamma/h) I + s J` and
(S - 1) / 2 complex ones, all on the pattern of J (Hairer & Wanner 1996, *Solving ODEs II*, section
IV.8). Each is factored without pivoting, as straight-line code or as loops, and checked at its
first solve; where the residual is too large it is factored again, dense and pivoted.

Row r of an array holds the part of mode 0; rows r + 1 + 2k and r + 2 + 2k the real and imaginary
part of pair k. Complex factors lie behind the real ones, real and imaginary parts by turns.
"""

from __future__ import annotations

from symode.kernels import complex_lu, linear
from symode.kernels.call import call_product
from symode.kernels.jit import inline
from symode.kernels.types import (
    COMPLEX_FACTOR,
    COMPLEX_SOLVE,
    COMPLEX_SOLVE_T,
    NLU,
    PIVOTED,
    PIVOTED_MODES,
    Collocation,
    Floats,
    Scratch,
    System,
)

#: Places of the shifts (Re d, Im d, s) of pair k in scratch.shift: from 2 + 3 k on.
SHIFTS = 2


@inline
def factor_modes(method: Collocation, system: System, h: float, s: float, scratch: Scratch) -> bool:
    """Factor the matrices of all modes, J being the first values of scratch.jac."""
    regular = linear.factor(system, method.eigenvalues[0, 0] / h, s, scratch)
    scratch.count[PIVOTED_MODES] = 0
    size = system.pattern.column.size
    for k in range(method.eigenvalues.shape[0] - 1):
        at, base = SHIFTS + 3 * k, size * (1 + 2 * k)
        scratch.shift[at] = method.eigenvalues[k + 1, 0] / h
        scratch.shift[at + 1] = method.eigenvalues[k + 1, 1] / h
        scratch.shift[at + 2] = s
        scratch.count[NLU] += 1
        if system.address[COMPLEX_FACTOR] != 0:
            call_product(
                system.address[COMPLEX_FACTOR],
                0.0,
                scratch.shift,
                at,
                system.p,
                0,
                scratch.jac,
                0,
                scratch.work,
                0,
                scratch.factors,
                base,
            )
        else:
            _factor_pattern(system, at, base, scratch)
    return regular


@inline
def _factor_pattern(system: System, shift: int, base: int, scratch: Scratch) -> None:
    """Row by row, as `symode.kernels.linear._factor_pattern`, in complex arithmetic."""
    pattern, values, row = system.pattern, scratch.factors, scratch.row
    s = scratch.shift[shift + 2]
    for at in range(base, base + 2 * pattern.column.size):
        values[at] = 0.0
    for i in range(system.n):
        values[base + 2 * pattern.diagonal[i]] = scratch.shift[shift]
        values[base + 2 * pattern.diagonal[i] + 1] = scratch.shift[shift + 1]
    for e in range(pattern.place.size):
        values[base + 2 * pattern.place[e]] += s * scratch.jac[e]
    for i in range(system.n):
        first, pivot, stop = pattern.start[i], pattern.diagonal[i], pattern.start[i + 1]
        for at in range(first, stop):
            row[2 * pattern.column[at]] = values[base + 2 * at]
            row[2 * pattern.column[at] + 1] = values[base + 2 * at + 1]
        for at in range(first, pivot):
            k = pattern.column[at]
            d = base + 2 * pattern.diagonal[k]
            x = row[2 * k] * values[d] - row[2 * k + 1] * values[d + 1]
            y = row[2 * k] * values[d + 1] + row[2 * k + 1] * values[d]
            row[2 * k] = x
            row[2 * k + 1] = y
            for other in range(pattern.diagonal[k] + 1, pattern.start[k + 1]):
                j, u = 2 * pattern.column[other], base + 2 * other
                row[j] -= x * values[u] - y * values[u + 1]
                row[j + 1] -= x * values[u + 1] + y * values[u]
        for at in range(first, stop):
            values[base + 2 * at] = row[2 * pattern.column[at]]
            values[base + 2 * at + 1] = row[2 * pattern.column[at] + 1]
        d = base + 2 * pivot
        size = values[d] * values[d] + values[d + 1] * values[d + 1]
        values[d] = values[d] / size
        values[d + 1] = -values[d + 1] / size


@inline
def solve_modes(
    method: Collocation,
    system: System,
    scratch: Scratch,
    x: Floats,
    r: int,
    transposed: bool,
    check: bool,
) -> bool:
    """Solve the systems of all modes in place, for the rows of x from r on.

    With ``check`` by their residuals; False is returned where a matrix is singular. One call of
    each solver stands in the code, in loops: what is inlined twice is compiled twice.
    """
    n, kept = system.n, scratch.kept
    for attempt in range(2):
        for i in range(n):
            if attempt == 0:
                kept[i] = x[r, i]
            else:
                x[r, i] = kept[i]
        linear.solve(system, scratch, x, r, 0, transposed)
        if not check:
            break
        error = linear.backward_error(system, scratch, x, r, 0, transposed)
        # Pivoted factors are backward stable: only what is not finite fails there.
        if error <= (linear.BACKWARD_ERROR if attempt == 0 else 1.0):
            break
        if attempt == 1 or scratch.count[PIVOTED] or not linear.factor_pivoted(system, scratch):
            return False
    for k in range(method.eigenvalues.shape[0] - 1):
        row = r + 1 + 2 * k
        for i in range(n):
            kept[i] = x[row, i]
            kept[n + i] = x[row + 1, i]
        for attempt in range(2):
            _solve_pair(system, scratch, k, transposed)
            if not check:
                break
            error = _backward_error(system, scratch, k, transposed)
            if error <= (linear.BACKWARD_ERROR if attempt == 0 else 1.0):
                break
            if attempt == 1 or not _factor_pivoted(system, scratch, k):
                return False
        for i in range(n):
            x[row, i] = scratch.row[i]
            x[row + 1, i] = scratch.row[n + i]
    return True


@inline
def _solve_pair(system: System, scratch: Scratch, k: int, transposed: bool) -> None:
    """Solve pair k for the right-hand side in scratch.kept; the result is in scratch.row."""
    n, pattern, values = system.n, system.pattern, scratch.factors
    b, y = scratch.kept, scratch.row
    base = pattern.column.size * (1 + 2 * k)
    if scratch.count[PIVOTED_MODES] & (1 << k):
        complex_lu.solve(scratch.block, scratch.block_pivots, n, 2 * n * k, b, y, transposed)
        return
    if system.address[COMPLEX_FACTOR] != 0:
        address = COMPLEX_SOLVE_T if transposed else COMPLEX_SOLVE
        call_product(
            system.address[address], 0.0, values, base, system.p, 0, b, 0, scratch.work, 0, y, 0
        )
        return
    # In elimination order, real and imaginary parts by turns, behind the n sizes of the check.
    w = scratch.size
    for i in range(n):
        w[n + 2 * i] = b[pattern.order[i]]
        w[n + 2 * i + 1] = b[n + pattern.order[i]]
    if transposed:
        for i in range(n):
            _scale(w, n + 2 * i, values, base + 2 * pattern.diagonal[i])
            for at in range(pattern.diagonal[i] + 1, pattern.start[i + 1]):
                _subtract(w, n + 2 * pattern.column[at], values, base + 2 * at, n + 2 * i)
        for i in range(n - 1, -1, -1):
            for at in range(pattern.start[i], pattern.diagonal[i]):
                _subtract(w, n + 2 * pattern.column[at], values, base + 2 * at, n + 2 * i)
    else:
        for i in range(n):
            for at in range(pattern.start[i], pattern.diagonal[i]):
                _subtract(w, n + 2 * i, values, base + 2 * at, n + 2 * pattern.column[at])
        for i in range(n - 1, -1, -1):
            for at in range(pattern.diagonal[i] + 1, pattern.start[i + 1]):
                _subtract(w, n + 2 * i, values, base + 2 * at, n + 2 * pattern.column[at])
            _scale(w, n + 2 * i, values, base + 2 * pattern.diagonal[i])
    for i in range(n):
        y[pattern.order[i]] = w[n + 2 * i]
        y[n + pattern.order[i]] = w[n + 2 * i + 1]


@inline
def _scale(w: Floats, i: int, values: Floats, at: int) -> None:
    """Multiply the number at i of w by that at ``at`` of the factors."""
    x, y = w[i], w[i + 1]
    w[i] = x * values[at] - y * values[at + 1]
    w[i + 1] = x * values[at + 1] + y * values[at]


@inline
def _subtract(w: Floats, i: int, values: Floats, at: int, j: int) -> None:
    """Subtract from the number at i of w that at j, times that at ``at`` of the factors."""
    x, y = w[j], w[j + 1]
    w[i] -= x * values[at] - y * values[at + 1]
    w[i + 1] -= x * values[at + 1] + y * values[at]


@inline
def _factor_pivoted(system: System, scratch: Scratch, k: int) -> bool:
    n, pattern, at = system.n, system.pattern, SHIFTS + 3 * k
    top = 2 * n * k
    if scratch.block.shape[0] < top + 2 * n:
        return False
    for i in range(n):
        for j in range(n):
            scratch.block[top + i, j] = 0.0
            scratch.block[top + n + i, j] = 0.0
        scratch.block[top + i, i] = scratch.shift[at]
        scratch.block[top + n + i, i] = scratch.shift[at + 1]
    for e in range(pattern.rows.size):
        scratch.block[top + pattern.rows[e], pattern.cols[e]] += (
            scratch.shift[at + 2] * scratch.jac[e]
        )
    scratch.count[NLU] += 1
    scratch.count[PIVOTED_MODES] |= 1 << k
    return complex_lu.factor(scratch.block, scratch.block_pivots, n, top)


@inline
def _backward_error(system: System, scratch: Scratch, k: int, transposed: bool) -> float:
    """Return max |b - W x| / (|W| |x| + |b|) of scratch.kept = b and scratch.row = x."""
    n, pattern, at = system.n, system.pattern, SHIFTS + 3 * k
    x, size = scratch.row, scratch.size  # the residual lies behind the sizes
    d, c, s = scratch.shift[at], scratch.shift[at + 1], scratch.shift[at + 2]
    for i in range(n):
        u, v = x[i], x[n + i]
        if not (abs(u) < 1e300 and abs(v) < 1e300):
            return 1e300
        size[n + 2 * i] = scratch.kept[i] - (d * u - c * v)
        size[n + 2 * i + 1] = scratch.kept[n + i] - (d * v + c * u)
        size[i] = abs(scratch.kept[i]) + abs(scratch.kept[n + i])
        size[i] += (abs(d) + abs(c)) * (abs(u) + abs(v))
    for e in range(pattern.rows.size):
        i, j = pattern.rows[e], pattern.cols[e]
        if transposed:
            i, j = j, i
        w = s * scratch.jac[e]
        size[n + 2 * i] -= w * x[j]
        size[n + 2 * i + 1] -= w * x[n + j]
        size[i] += abs(w) * (abs(x[j]) + abs(x[n + j]))
    worst = 0.0
    for i in range(n):
        if size[i] > 0.0:
            worst = max(worst, (abs(size[n + 2 * i]) + abs(size[n + 2 * i + 1])) / size[i])
    return worst
