r"""Linear systems of implicit steps, :math:`W = d M + s J`.

The factorization runs without pivoting on the model's known pattern: as generated straight-line
code where it is short, as loops over the pattern where it is not. The first solve of each
factorization is checked by its residual; where that is too large, W is factored again, dense and
with partial pivoting, and stays so until the next factorization.
"""

from __future__ import annotations

from symode.kernels import lu, sparse
from symode.kernels.call import call_product
from symode.kernels.jit import inline
from symode.kernels.lapack import getrf, getrs
from symode.kernels.types import (
    DENSE,
    GETRF,
    GETRS,
    LU_FACTOR,
    LU_SOLVE,
    LU_SOLVE_T,
    NLU,
    PIVOTED,
    Floats,
    Scratch,
    System,
)

#: Componentwise backward error up to which a solve without pivoting is accepted (Higham 2002,
#: *Accuracy and Stability of Numerical Algorithms*, theorem 7.3). Rounding leaves about n * 1e-16;
#: an error of this size in a stage is far below any tolerance.
BACKWARD_ERROR = 1e-10
#: Size below which a row of a residual says nothing.
UNDERFLOW = 1e-250


@inline
def factor(system: System, d: float, s: float, scratch: Scratch) -> bool:
    """Factor d M + s J, the entries of J being scratch.jac; return whether it can be used."""
    scratch.count[NLU] += 1 - system.address[DENSE]
    scratch.count[PIVOTED] = 0
    scratch.shift[0] = d
    scratch.shift[1] = s
    if system.address[DENSE] != 0:
        return factor_pivoted(system, scratch)
    if system.address[LU_FACTOR] != 0:
        call_product(
            system.address[LU_FACTOR],
            0.0,
            scratch.shift,
            0,
            system.p,
            0,
            scratch.jac,
            0,
            scratch.work,
            0,
            scratch.factors,
            0,
        )
    else:
        _factor_pattern(system, d, s, scratch)
    return True


@inline
def _factor_pattern(system: System, d: float, s: float, scratch: Scratch) -> None:
    pattern, values = system.pattern, scratch.factors
    for at in range(pattern.column.size):
        values[at] = 0.0
    if pattern.mass.size == 0:
        for i in range(system.n):
            values[pattern.diagonal[i]] = d
    for e in range(pattern.mass.size):
        values[pattern.mass_place[e]] = d * pattern.mass[e]
    for e in range(pattern.place.size):
        values[pattern.place[e]] += s * scratch.jac[e]
    sparse.factor(pattern, values, scratch.row, scratch.size)


@inline
def solve(system: System, scratch: Scratch, x: Floats, r: int, c: int, transposed: bool) -> None:
    """Solve W y = x, or Wᵀ y = x, in place, for row r of x from column c."""
    n = system.n
    if scratch.count[PIVOTED]:
        if system.address[GETRF] != 0:
            getrs(
                system.address[GETRS], n, scratch.lu, scratch.pivots, x, r * x.shape[1] + c,
                transposed,
            )  # fmt: skip
        elif transposed:
            lu.solve_transposed(scratch.lu, scratch.pivots, n, x, r, c)
        else:
            lu.solve(scratch.lu, scratch.pivots, n, x, r, c)
        return
    if system.address[LU_FACTOR] != 0:
        address = system.address[LU_SOLVE_T] if transposed else system.address[LU_SOLVE]
        call_product(
            address,
            0.0,
            scratch.factors,
            0,
            system.p,
            0,
            x,
            r * x.shape[1] + c,
            scratch.work,
            0,
            scratch.row,
            0,
        )
        for i in range(n):
            x[r, c + i] = scratch.row[i]
        return
    pattern, values, y = system.pattern, scratch.factors, scratch.row
    into = pattern.order if transposed else pattern.row_order
    back = pattern.row_order if transposed else pattern.order
    for i in range(n):
        y[i] = x[r, c + into[i]]
    if transposed:
        sparse.solve_transposed(pattern, values, y, scratch.size)
    else:
        sparse.solve(pattern, values, y, scratch.size)
    for i in range(n):
        x[r, c + back[i]] = y[i]


@inline
def solve_checked(
    system: System, scratch: Scratch, x: Floats, r: int, c: int, transposed: bool
) -> bool:
    """Solve as `solve` and check the residual; return False where W is singular."""
    n = system.n
    for i in range(n):
        scratch.kept[i] = x[r, c + i]
    solve(system, scratch, x, r, c, transposed)
    if backward_error(system, scratch, x, r, c, transposed) <= BACKWARD_ERROR:
        return True
    if scratch.count[PIVOTED] or not factor_pivoted(system, scratch):
        return False
    for i in range(n):
        x[r, c + i] = scratch.kept[i]
    solve(system, scratch, x, r, c, transposed)
    # Pivoted factors are backward stable: only what is not finite fails here.
    return backward_error(system, scratch, x, r, c, transposed) <= 1.0


@inline
def factor_pivoted(system: System, scratch: Scratch) -> bool:
    """Factor the same matrix again, dense and pivoted; return whether it is regular."""
    n, pattern = system.n, system.pattern
    if scratch.lu.shape[0] < n:
        return False
    for i in range(n):
        for j in range(n):
            scratch.lu[i, j] = 0.0
        if pattern.mass.size == 0:
            scratch.lu[i, i] = scratch.shift[0]
    for e in range(pattern.mass.size):
        scratch.lu[pattern.mass_rows[e], pattern.mass_cols[e]] = scratch.shift[0] * pattern.mass[e]
    for e in range(pattern.rows.size):
        scratch.lu[pattern.rows[e], pattern.cols[e]] += scratch.shift[1] * scratch.jac[e]
    scratch.count[NLU] += 1
    scratch.count[PIVOTED] = 1
    if system.address[GETRF] != 0:
        return bool(getrf(system.address[GETRF], n, scratch.lu, scratch.pivots) == 0)
    return lu.factor(scratch.lu, scratch.pivots, n)


@inline
def backward_error(
    system: System, scratch: Scratch, x: Floats, r: int, c: int, transposed: bool
) -> float:
    """Return max |b - W x| / (|W| |x| + |b|); infinite where x is not finite."""
    n, pattern, d, s = system.n, system.pattern, scratch.shift[0], scratch.shift[1]
    residual, size = scratch.row, scratch.size
    for i in range(n):
        if not (abs(x[r, c + i]) < 1e300):
            return 1e300
        residual[i] = scratch.kept[i]
        size[i] = abs(scratch.kept[i])
        if pattern.mass.size == 0:
            residual[i] -= d * x[r, c + i]
            size[i] += abs(d * x[r, c + i])
    for e in range(pattern.mass.size):
        i, j = pattern.mass_rows[e], pattern.mass_cols[e]
        if transposed:
            i, j = j, i
        term = d * pattern.mass[e] * x[r, c + j]
        residual[i] -= term
        size[i] += abs(term)
    for e in range(pattern.rows.size):
        i, j = pattern.rows[e], pattern.cols[e]
        if transposed:
            i, j = j, i
        term = s * scratch.jac[e] * x[r, c + j]
        residual[i] -= term
        size[i] += abs(term)
    worst = 0.0
    for i in range(n):
        # Rows near the smallest normal number (2e-308) are made of products that have underflowed.
        if size[i] > UNDERFLOW:
            worst = max(worst, abs(residual[i]) / size[i])
    return worst
