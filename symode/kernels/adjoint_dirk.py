r"""The transpose of diagonally implicit steps, their stage equations taken as solved exactly.

With :math:`W_i = I/(h\gamma) - J_i` at the stage value :math:`Z_i`, the slope
:math:`k_i = f(\psi_i + h\gamma k_i)` has the transpose

.. math:: \mu_i = \tfrac{1}{h\gamma} W_i^{-\top} \bar k_i, \qquad
          (\bar\psi_i, \bar\theta) \mathrel{+}= \mu_i^\top (\nabla_{§1} f, \nabla_{§3} f)(Z_i), \\
          \bar k_j \mathrel{+}= h a_{ij} \bar\psi_i

and the first slope is the last of the step before. The computed stages solve their equations up to
the error at which Newton's iteration stops: the gradient is that of numbers so close to them.
"""

from __future__ import annotations

from symode.kernels import linear
from symode.kernels.adjoint_erk import pull
from symode.kernels.combine import combine
from symode.kernels.jit import inline
from symode.kernels.rosenbrock import evaluate_jacobian
from symode.kernels.seeds import seed_step
from symode.kernels.types import (
    LEFT,
    Dirk,
    Floats,
    Gradient,
    LossTable,
    Observations,
    Scratch,
    Store,
    System,
)
from symode.status import PAUSED, SINGULAR, SUCCESS


@inline
def adjoint_dirk(
    method: Dirk,
    system: System,
    store: Store,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    gradient: Gradient,
    budget: int,
) -> int:
    """Carry lam from z_N back to z_0; count[LEFT] steps and count[NEXT_OBS] observations remain."""
    n, count = system.n, scratch.count
    lam, theta, bar = gradient.lam, gradient.theta, scratch.k
    shared = method.n_stages  # row for the adjoint of the slope shared with the step after
    base = scratch.z  # adjoint of z at the step's start
    for _ in range(budget):
        if count[LEFT] == 0:
            if pull(system, store.t[0], store.z, 0, shared, scratch, theta):
                for i in range(n):
                    lam[i] += scratch.out[i]
            return SUCCESS
        step = count[LEFT] - 1
        t, h, k, z = store.t[step], store.h[step], store.k[step], store.z[step]
        last = method.n_stages - 1
        for s in range(last):
            for i in range(n):
                bar[s, i] = 0.0
        for i in range(n):
            bar[last, i] = bar[shared, i]
            base[i] = 0.0
        seed_step(method, observations, loss, scratch, step, h, lam, base, bar)
        for s in range(method.n_stages):
            w = h * method.b[s]
            for i in range(n):
                bar[s, i] += w * lam[i]
        for i in range(n):
            base[i] += lam[i]
        for s in range(last, 0, -1):
            if not _pull_stage(method, system, t, h, z, k, s, scratch, theta):
                return SINGULAR
        for i in range(n):
            bar[shared, i] = bar[0, i]
            lam[i] = base[i]
        count[LEFT] = step
    return PAUSED


@inline
def _pull_stage(
    method: Dirk, system: System, t: float, h: float, z: Floats, k: Floats, s: int,
    scratch: Scratch, theta: Floats,
) -> bool:  # fmt: skip
    """Move the adjoint of stage s to the step's start and to the stages before it."""
    n, bar, base = system.n, scratch.k, scratch.z
    moved = False
    inverse = 1.0 / (h * method.gamma)
    for i in range(n):
        if bar[s, i] != 0.0:
            moved = True
        bar[s, i] *= inverse
    if not moved:
        return True
    combine(z, h, method.a, s, s + 1, k, scratch.stage)
    at = t + method.c[s] * h
    evaluate_jacobian(system, at, scratch.stage, scratch)
    linear.factor(system, inverse, -1.0, scratch)
    if not linear.solve_checked(system, scratch, bar, s, 0, True):
        return False
    if not pull(system, at, scratch.stage, 0, s, scratch, theta):
        return True
    for i in range(n):
        base[i] += scratch.out[i]
    for j in range(s):
        w = h * method.a[s, j]
        if w != 0.0:
            for i in range(n):
                bar[j, i] += w * scratch.out[i]
    return True
