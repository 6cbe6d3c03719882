r"""Tangents of a collocation step, with the Jacobians of its stages.

.. math:: \bigl(h^{-1} A^{-1} \otimes I - \mathrm{diag}(J_i)\bigr)\,S
          = \bigl(J_i S_n + \nabla_{§3} f_i\, d\bigr)_i

solved by iteration with the factors of the step, so that no order is lost.
"""

from __future__ import annotations

from symode.kernels.block import (
    add_products,
    factor_block,
    solve_block,
    stage_jacobian,
)
from symode.kernels.jit import inline
from symode.kernels.newton import (
    REPLAY_ROUNDING,
    REPLAY_STALLED,
    STALLED,
    correct,
    target,
)
from symode.kernels.rhs import push_all
from symode.kernels.types import FACTORED, Collocation, Control, Scratch, Tangents
from symode.status import NO_CONVERGENCE, SUCCESS

#: Corrections of one tangent before the whole block is factored.
LIMIT = 40


@inline
def tangent_increments(
    method: Collocation, system: Tangents, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    """Make the increments of all tangents; return a status."""
    n, stages, y, k = system.n, method.n_stages, scratch.y, scratch.k
    first = stages + 1
    for i in range(stages):
        for j in range(n):
            scratch.stage[j] = y[j] + k[i, j]
        stage_jacobian(system, t + method.c[i] * h, i, scratch)
        push_all(system, t + method.c[i] * h, scratch.stage, y, scratch, k, first + i)
    whole = False
    for d in range(system.directions.shape[0]):
        o = n * (d + 1)
        if not whole and iterate(method, system, control, h, scratch, o):
            continue
        if not whole:
            if not factor_block(method, system, h, scratch):
                return NO_CONVERGENCE
            whole = True
        for i in range(stages):
            for j in range(n):
                k[2 * stages + 2 + i, j] = k[first + i, o + j]
        solve_block(method, system, scratch, 2 * stages + 2, False)
        for i in range(stages):
            for j in range(n):
                k[i, o + j] = k[2 * stages + 2 + i, j]
    if whole:
        scratch.count[FACTORED] = 0
    return SUCCESS


@inline
def iterate(
    method: Collocation, system: Tangents, control: Control, h: float, scratch: Scratch, o: int
) -> bool:
    """Iterate one tangent from its predicted increments; return whether it converged."""
    n, stages, k = system.n, method.n_stages, scratch.k
    tol = REPLAY_ROUNDING if control.replay else target(control)
    stalled = REPLAY_STALLED if control.replay else STALLED
    before, eta = 0.0, 1.0
    for iteration in range(LIMIT):
        for j in range(n):
            for i in range(stages):
                total = 0.0
                for l in range(stages):  # noqa: E741
                    total += method.inverse[i, l] * k[l, o + j]
                k[2 * stages + 2 + i, j] = k[stages + 1 + i, o + j] - total / h
        add_products(method, system, scratch, k, 0, o, 2 * stages + 2, False)
        norm = correct(method, system, control, scratch, o, False)
        if not (norm < 1e300):
            return False
        if iteration > 0:
            rate = norm / before if before > 0.0 else 0.0
            if rate >= 0.9:
                if norm <= stalled or norm <= tol:
                    return True
                if rate > 2.0 or iteration > 4:
                    return False
                before = norm
                continue
            eta = rate / (1.0 - rate)
        if eta * norm <= tol or norm == 0.0:
            return True
        before = norm
    return False
