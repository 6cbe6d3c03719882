r"""The transpose of explicit Runge-Kutta steps.

For a step with its size frozen, seeds of :math:`z^+` and of interpolated observations travel
through the stages in reverse:

.. math:: \bar k_i = h b_i \bar z^+ + \sum_{l>i} h a_{li} \bar Z_l + w_i \bar z_\text{obs}, \qquad
          (\bar Z_i, \bar\theta) \mathrel{+}= \bar k_i^\top (\nabla_{§1} f, \nabla_{§3} f)(Z_i)

Hairer, Lubich & Wanner (2006), *Geometric Numerical Integration*, VI.4; the stage states are
formed again from the stored stages, without calls of f.
"""

from __future__ import annotations

from symode.kernels.call import call_product
from symode.kernels.combine import SMALL, combine
from symode.kernels.dense import interpolant_weights
from symode.kernels.jit import inline
from symode.kernels.types import (
    FIRST_OBS,
    LEFT,
    NEXT_OBS,
    VJP,
    Erk,
    Floats,
    Gradient,
    LossTable,
    Observations,
    Scratch,
    Store,
    System,
)
from symode.status import PAUSED, SUCCESS


@inline
def pull(
    system: System, t: float, z: Floats, zo: int, row: int, scratch: Scratch, theta: Floats
) -> bool:
    """Pull the adjoint in one row of scratch.k back through f; False where it is all zero.

    Writes its product with ∇§1 f into scratch.out and adds that with ∇§3 f to theta.
    """
    bar = scratch.k
    moved = False
    wide = scratch.z.size
    for i in range(wide):
        if bar[row, i] != 0.0:
            moved = True
    if not moved:
        return False
    call_product(
        system.address[VJP],
        t,
        z,
        zo,
        system.p,
        0,
        bar,
        row * bar.shape[1],
        scratch.work,
        0,
        scratch.out,
        0,
    )
    for i in range(theta.size):
        theta[i] += scratch.out[wide + i]
    return True


@inline
def adjoint_erk(
    method: Erk,
    system: System,
    store: Store,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    gradient: Gradient,
    budget: int,
) -> int:
    """Carry lam from z_N back to z_0; count[LEFT] steps and count[NEXT_OBS] observations remain.

    Several adjoints travel together where lam holds them one after the other, with theta, seeds and
    rows of scratch.k to match, and a product that takes them all.
    """
    n, wide, count = system.n, gradient.lam.size, scratch.count
    lam, theta = gradient.lam, gradient.theta
    bar = scratch.k  # adjoints of the stages; the forward pass has stored its own
    shared = method.n_dense  # row for the adjoint of the stage shared with the step after
    base = scratch.z  # adjoint of z at the step's start
    last = method.n_stages - 1
    for _ in range(budget):
        if count[LEFT] == 0:
            if method.fsal and pull(system, store.t[0], store.z, 0, shared, scratch, theta):
                for i in range(wide):
                    lam[i] += scratch.out[i]
            return SUCCESS
        step = count[LEFT] - 1
        t, h, k = store.t[step], store.h[step], store.k[step]
        z = store.z[step]
        for s in range(method.n_stages):
            for i in range(wide):
                bar[s, i] = 0.0
        for i in range(wide):
            base[i] = 0.0
        inside = False
        while count[NEXT_OBS] > count[FIRST_OBS] and observations.step[count[NEXT_OBS] - 1] == step:
            o = count[NEXT_OBS] - 1
            if observations.s[o] == 1.0:
                for i in range(wide):
                    lam[i] += loss.seeds[o, i]
            else:
                if not inside:
                    for s in range(method.n_stages, method.n_dense):
                        for i in range(wide):
                            bar[s, i] = 0.0
                inside = True
                interpolant_weights(method, observations.s[o], h, scratch.weights)
                for i in range(wide):
                    base[i] += loss.seeds[o, i]
                for s in range(method.n_dense):
                    for i in range(wide):
                        bar[s, i] += scratch.weights[s] * loss.seeds[o, i]
            count[NEXT_OBS] = o
        if inside:
            for s in range(method.n_dense - 1, last, -1):
                _pull_stage(method, system, t, h, z, k, s, scratch, base, theta)
        if method.fsal:
            for i in range(wide):
                bar[last, i] += bar[shared, i]
            if pull(system, store.t[step + 1], store.z, (step + 1) * n, last, scratch, theta):
                for i in range(wide):
                    lam[i] += scratch.out[i]
        top = last if method.fsal else method.n_stages
        for s in range(top):
            w = h * method.b[s]
            for i in range(wide):
                bar[s, i] += w * lam[i]
        for i in range(wide):
            base[i] += lam[i]
        for s in range(top - 1, 0, -1):
            _pull_stage(method, system, t, h, z, k, s, scratch, base, theta)
        if method.fsal:
            for i in range(wide):
                bar[shared, i] = bar[0, i]
        elif pull(system, t, store.z, step * n, 0, scratch, theta):
            for i in range(wide):
                base[i] += scratch.out[i]
        for i in range(wide):
            lam[i] = base[i]
        count[LEFT] = step
    return PAUSED


@inline
def _pull_stage(
    method: Erk, system: System, t: float, h: float, z: Floats, k: Floats, s: int,
    scratch: Scratch, base: Floats, theta: Floats,
) -> None:  # fmt: skip
    """Move the adjoint of stage s to the step's start and to the stages before it."""
    n, bar = base.size, scratch.k
    combine(z, h, method.a, s, s, k, scratch.stage)
    if pull(system, t + method.c[s] * h, scratch.stage, 0, s, scratch, theta):
        for i in range(n):
            base[i] += scratch.out[i]
        if n < SMALL:
            for i in range(n):
                w = h * scratch.out[i]
                for j in range(s):
                    bar[j, i] += method.a[s, j] * w
            return
        for j in range(s):
            w = h * method.a[s, j]
            if w != 0.0:
                for i in range(n):
                    bar[j, i] += w * scratch.out[i]
