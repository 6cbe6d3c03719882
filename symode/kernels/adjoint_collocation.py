r"""The transpose of collocation steps.

With the seeds :math:`\bar Z_i` of the increments (the last one's from :math:`z^+`, all from
interpolated observations) the exact stage equations, their Jacobians :math:`J_i` taken at each
stage, give

.. math:: \bigl(h^{-1} A^{-\top} \otimes I - \mathrm{diag}(J_i^\top)\bigr)\,\mu = \bar Z, \qquad
          (\bar z, \bar\theta)
          \mathrel{+}= \sum_i \mu_i^\top (\nabla_{§1} f, \nabla_{§3} f)(z + Z_i)

solved by iteration with the transposed modes of the mean Jacobian, down to rounding; where that
does not converge, as one dense block. No second derivatives are needed: the simplified matrix of
the forward iteration does not enter the solution.
"""

from __future__ import annotations

from symode.kernels.adjoint_erk import pull
from symode.kernels.block import (
    add_products,
    factor_block,
    solve_block,
    stage_jacobian,
)
from symode.kernels.jit import inline
from symode.kernels.modes import factor_modes, solve_modes
from symode.kernels.seeds import seed_step
from symode.kernels.types import (
    LEFT,
    Collocation,
    Floats,
    Gradient,
    LossTable,
    Observations,
    Scratch,
    Store,
    System,
)
from symode.status import NO_CONVERGENCE, PAUSED, SUCCESS

#: Relative size of the correction after which the next one would be rounding.
ENOUGH = 1e-14
#: Size of a correction that an iteration may stall at: rounding in a badly scaled step.
STALLED = 1e-9
LIMIT = 60


@inline
def adjoint_collocation(
    method: Collocation,
    system: System,
    store: Store,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    gradient: Gradient,
    budget: int,
) -> int:
    """Carry lam from z_N back to z_0; count[LEFT] steps and count[NEXT_OBS] observations remain."""
    n, stages, count = system.n, method.n_stages, scratch.count
    lam, theta, bar = gradient.lam, gradient.theta, scratch.k
    base, mu = scratch.z, stages + 1
    for _ in range(budget):
        if count[LEFT] == 0:
            return SUCCESS
        step = count[LEFT] - 1
        t, h, increments, z = store.t[step], store.h[step], store.k[step], store.z[step]
        for s in range(stages):
            for i in range(n):
                bar[s, i] = 0.0
        for i in range(n):
            base[i] = 0.0
        seed_step(method, observations, loss, scratch, step, h, lam, base, bar)
        for i in range(n):
            base[i] += lam[i]
            bar[stages - 1, i] += lam[i]
        if not _solve_transposed(method, system, t, h, z, increments, scratch):
            return NO_CONVERGENCE
        for s in range(stages):
            for i in range(n):
                scratch.stage[i] = z[i] + increments[s, i]
            if pull(system, t + method.c[s] * h, scratch.stage, 0, mu + s, scratch, theta):
                for i in range(n):
                    base[i] += scratch.out[i]
        for i in range(n):
            lam[i] = base[i]
        count[LEFT] = step
    return PAUSED


@inline
def _solve_transposed(
    method: Collocation, system: System, t: float, h: float, z: Floats, increments: Floats,
    scratch: Scratch,
) -> bool:  # fmt: skip
    """Write mu for the seeds in the first rows of scratch.k; return whether it was found."""
    n, stages, k = system.n, method.n_stages, scratch.k
    nnz = system.pattern.rows.size
    mu, r = stages + 1, 2 * stages + 2
    for e in range(nnz):
        scratch.jac[e] = 0.0
    for s in range(stages):
        for i in range(n):
            scratch.stage[i] = z[i] + increments[s, i]
            k[mu + s, i] = 0.0
            k[r + s, i] = k[s, i]
        stage_jacobian(system, t + method.c[s] * h, s, scratch)
        at = (s + 1) * (nnz + n)
        for e in range(nnz):
            scratch.jac[e] += method.b[s] * scratch.jac[at + e]
    regular = factor_modes(method, system, h, -1.0, scratch)
    before = 0.0
    for iteration in range(LIMIT):
        if not regular or not _correct(method, system, scratch, iteration == 0):
            break
        change, size = 0.0, 0.0
        for i in range(n):
            # In units of the loss: an adjoint times its state.
            unit = abs(z[i]) + abs(increments[stages - 1, i])
            unit = unit if unit > 0.0 else 1.0
            for s in range(stages):
                change = max(change, unit * abs(k[r + s, i]))
                size = max(size, unit * abs(k[mu + s, i]))
        if not (change < 1e300):
            break
        rate = change / before if iteration > 0 and before > 0.0 else 0.0
        if iteration > 0 and rate >= 0.9:
            if change <= STALLED * size:
                return True
            if iteration > 4:
                break
        elif change * (rate if iteration > 0 else 1.0) <= ENOUGH * size:
            return True
        before = change
        for i in range(n):
            for s in range(stages):
                total = 0.0
                for l in range(stages):  # noqa: E741
                    total += method.inverse[l, s] * k[mu + l, i]
                k[r + s, i] = k[s, i] - total / h
        add_products(method, system, scratch, k, mu, 0, r, True)
    if not factor_block(method, system, h, scratch):
        return False
    for s in range(stages):
        for i in range(n):
            k[mu + s, i] = k[s, i]
    solve_block(method, system, scratch, mu, True)
    return True


@inline
def _correct(method: Collocation, system: System, scratch: Scratch, check: bool) -> bool:
    """Solve for the residuals with the transposed modes, and add the result to mu."""
    n, stages, k = system.n, method.n_stages, scratch.k
    mu, r, w = stages + 1, 2 * stages + 2, 3 * stages + 2
    for i in range(n):
        for j in range(stages):
            total = 0.0
            for s in range(stages):
                total += method.back[s, j] * k[r + s, i]
            # A transposed block of a pair is the conjugate number.
            k[w + j, i] = total if j % 2 or j == 0 else -total
    if not solve_modes(method, system, scratch, k, w, True, check):
        return False
    for i in range(n):
        for s in range(2, stages, 2):
            k[w + s, i] = -k[w + s, i]
        for s in range(stages):
            total = 0.0
            for j in range(stages):
                total += method.into[j, s] * k[w + j, i]
            k[r + s, i] = total
            k[mu + s, i] += total
    return True
