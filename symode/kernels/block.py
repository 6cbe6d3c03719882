r"""The whole matrix of a collocation step, :math:`h^{-1} A^{-1} \otimes I - \mathrm{diag}(J_i)`.

With the Jacobians of its stages the system does not split into modes. It is solved by iteration
with the modes of one Jacobian; where that does not converge, dense and pivoted, as one block.
"""

from __future__ import annotations

from symode.kernels import lu
from symode.kernels.call import call_field
from symode.kernels.jit import inline
from symode.kernels.lapack import getrf, getrs
from symode.kernels.types import GETRF, GETRS, JAC, NJEV, NLU, Collocation, Floats, Scratch, System


@inline
def stage_jacobians(
    method: Collocation, system: System, t: float, h: float, scratch: Scratch
) -> None:
    """Write the Jacobian of every stage behind the first values of scratch.jac."""
    for i in range(method.n_stages):
        for j in range(system.n):
            scratch.stage[j] = scratch.y[j] + scratch.k[i, j]
        stage_jacobian(system, t + method.c[i] * h, i, scratch)


@inline
def stage_jacobian(system: System, t: float, i: int, scratch: Scratch) -> None:
    """Write the Jacobian at scratch.stage as that of stage i."""
    scratch.count[NJEV] += 1
    at = (i + 1) * (system.pattern.rows.size + system.n)
    call_field(
        system.address[JAC],
        t,
        scratch.stage,
        0,
        system.p,
        0,
        scratch.work,
        0,
        scratch.jac,
        at,
    )


@inline
def add_products(
    method: Collocation,
    system: System,
    scratch: Scratch,
    x: Floats,
    first: int,
    offset: int,
    out: int,
    transposed: bool,
) -> None:
    """Add J_i x_i, or J_iᵀ x_i, to rows ``out`` on of scratch.k; x_i is row ``first + i`` of x."""
    pattern, k = system.pattern, scratch.k
    nnz = pattern.rows.size
    for i in range(method.n_stages):
        at = (i + 1) * (nnz + system.n)
        for e in range(nnz):
            r, c = pattern.rows[e], pattern.cols[e]
            if transposed:
                r, c = c, r
            k[out + i, r] += scratch.jac[at + e] * x[first + i, offset + c]


@inline
def factor_block(method: Collocation, system: System, h: float, scratch: Scratch) -> bool:
    """Factor the whole matrix; return False where it is singular or no room was made for it."""
    n, stages, pattern, a = system.n, method.n_stages, system.pattern, scratch.block
    size, nnz = stages * n, pattern.rows.size
    if a.shape[1] < size:
        return False
    for i in range(size):
        for j in range(size):
            a[i, j] = 0.0
    for i in range(stages):
        for j in range(stages):
            for r in range(n):
                a[i * n + r, j * n + r] = method.inverse[i, j] / h
        at = (i + 1) * (nnz + n)
        for e in range(nnz):
            a[i * n + pattern.rows[e], i * n + pattern.cols[e]] -= scratch.jac[at + e]
    scratch.count[NLU] += 1
    if system.address[GETRF] != 0:
        return bool(getrf(system.address[GETRF], size, a, scratch.block_pivots) == 0)
    return lu.factor(a, scratch.block_pivots, size)


@inline
def solve_block(
    method: Collocation, system: System, scratch: Scratch, row: int, transposed: bool
) -> None:
    """Solve the whole system, or the transposed one, in place for S rows of scratch.k."""
    n, stages, a, k = system.n, method.n_stages, scratch.block, scratch.k
    size = stages * n
    # The last row of the array holds the vector.
    for i in range(stages):
        for j in range(n):
            a[size, i * n + j] = k[row + i, j]
    if system.address[GETRF] != 0:
        getrs(
            system.address[GETRS], size, a, scratch.block_pivots, a, size * a.shape[1], transposed
        )
    elif transposed:
        lu.solve_transposed(a, scratch.block_pivots, size, a, size, 0)
    else:
        lu.solve(a, scratch.block_pivots, size, a, size, 0)
    for i in range(stages):
        for j in range(n):
            k[row + i, j] = a[size, i * n + j]
