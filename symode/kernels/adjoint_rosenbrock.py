r"""The transpose of Rosenbrock steps.

With W the matrix of the step and :math:`\mu_i = W^{-\top} \bar U_i`, each stage returns

.. math:: (\bar Z_i, \bar\theta) \mathrel{+}= \mu_i^\top (\nabla_{§1} f, \nabla_{§3} f)(Z_i), \qquad
          \bar U_j \mathrel{+}= a_{ij} \bar Z_i + \tfrac{C_{ij}}{h} M^\top \mu_i

and the dependence of J and f_t on z and theta is collected over all stages in
:math:`G = \sum_i \mu_i U_i^\top` on the pattern of J and :math:`w = h \sum_i d_i \mu_i`: one call
of the second-order kernel a step.
"""

from __future__ import annotations

from symode.kernels import linear
from symode.kernels.adjoint_erk import pull
from symode.kernels.combine import add_stages
from symode.kernels.fused_step import back_fused
from symode.kernels.jit import inline
from symode.kernels.mass import add_product, has_mass
from symode.kernels.rosenbrock import call_second, evaluate_jacobian
from symode.kernels.seeds import seed_step
from symode.kernels.types import (
    LEFT,
    Floats,
    Gradient,
    LossTable,
    Observations,
    Rosenbrock,
    Scratch,
    Store,
    System,
)
from symode.status import PAUSED, SINGULAR, SUCCESS


@inline
def adjoint_rosenbrock(
    method: Rosenbrock,
    system: System,
    store: Store,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    gradient: Gradient,
    budget: int,
) -> int:
    """Carry lam from z_N back to z_0; count[LEFT] steps and count[NEXT_OBS] observations remain."""
    n, m, count = system.n, system.m, scratch.count
    lam, theta = gradient.lam, gradient.theta
    bar = scratch.k
    base, g = scratch.z, scratch.v
    for _ in range(budget):
        if count[LEFT] == 0:
            return SUCCESS
        step = count[LEFT] - 1
        t, h, u, z = store.t[step], store.h[step], store.k[step], store.z[step]
        for s in range(method.n_stages):
            for i in range(n):
                bar[s, i] = 0.0
        for i in range(n):
            base[i] = 0.0
        seed_step(method, observations, loss, scratch, step, h, lam, base, bar)
        if back_fused(method, system, t, h, u, z, scratch, lam, theta):
            count[LEFT] = step
            continue
        evaluate_jacobian(system, t, z, scratch)
        linear.factor(system, 1.0 / (h * method.gamma), -1.0, scratch)
        for i in range(n):
            base[i] += lam[i]
        for s in range(method.n_stages):
            for i in range(n):
                bar[s, i] += method.b[s] * lam[i]
        for s in range(method.n_stages - 1, -1, -1):
            if s < method.n_stages - 1:
                linear.solve(system, scratch, bar, s, 0, True)
            elif not linear.solve_checked(system, scratch, bar, s, 0, True):
                return SINGULAR
            for i in range(n):
                scratch.stage[i] = z[i]
            add_stages(method.a[s], 1.0, s, u, n, scratch.stage)
            moved = pull(system, t + method.c[s] * h, scratch.stage, 0, s, scratch, theta)
            if not moved:
                continue
            for i in range(n):
                base[i] += scratch.out[i]
            coupled = bar[s]
            if has_mass(system):
                coupled = scratch.kept
                for i in range(n):
                    coupled[i] = 0.0
                add_product(system, bar[s], True, coupled)
            for j in range(s):
                w = method.a[s, j]
                c = method.coupling[s, j] / h
                for i in range(n):
                    bar[j, i] += w * scratch.out[i] + c * coupled[i]
        _collect(method, system, h, bar, u, g)
        call_second(system, t, z, scratch)
        for i in range(n):
            lam[i] = base[i] + scratch.out[i]
        for i in range(m):
            theta[i] += scratch.out[n + i]
        count[LEFT] = step
    return PAUSED


@inline
def _collect(
    method: Rosenbrock, system: System, h: float, mu: Floats, u: Floats, g: Floats
) -> None:
    """Write G on the pattern of J, then w, into g; four stages at a time, as `add_stages`."""
    rows, cols, n_stages = system.pattern.rows, system.pattern.cols, method.n_stages
    nnz = rows.size
    for i in range(nnz + system.n):
        g[i] = 0.0
    s = 0
    while s + 4 <= n_stages:
        m0, m1, m2, m3 = mu[s], mu[s + 1], mu[s + 2], mu[s + 3]
        u0, u1, u2, u3 = u[s], u[s + 1], u[s + 2], u[s + 3]
        for e in range(nnz):
            i, j = rows[e], cols[e]
            g[e] += m0[i] * u0[j] + m1[i] * u1[j] + m2[i] * u2[j] + m3[i] * u3[j]
        s += 4
    while s < n_stages:
        for e in range(nnz):
            g[e] += mu[s, rows[e]] * u[s, cols[e]]
        s += 1
    add_stages(method.d, h, n_stages, mu, system.n, g[nnz:])
