"""The loss: its value, the jumps it gives the adjoint, and the terms at both ends of time."""

from __future__ import annotations

from symode.kernels.call import call_field, call_product
from symode.kernels.jit import inline
from symode.kernels.mass import has_mass
from symode.kernels.observe import observe_one
from symode.kernels.types import (
    CHECK,
    DT0,
    DT1,
    INITIAL_VJP,
    RHS,
    SIZE,
    TERMINAL,
    VALUE,
    Floats,
    Gradient,
    LossTable,
    Observations,
    Scratch,
    System,
    T,
)


@inline
def _evaluate_joint(
    system: System, observations: Observations, loss: LossTable, scratch: Scratch
) -> None:
    """Sum the observations of each part, then set J of the parts and its derivatives."""
    for j in range(loss.parts.size):
        loss.parts[j] = 0.0
    for k in range(observations.t.size):
        observe_one(system, observations, loss, scratch, k)
        loss.parts[loss.row[k]] += scratch.out[0]
    call_product(
        system.address[TERMINAL],
        scratch.clock[T],
        scratch.y,
        0,
        system.p,
        0,
        loss.parts,
        0,
        scratch.work,
        0,
        loss.joint,
        0,
    )


@inline
def evaluate_loss(
    system: System,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    gradient: Gradient,
) -> None:
    r"""Set J, the jumps :math:`\partial\ell_i/\partial z`, and the direct parts of the gradient.

    Every loss kernel writes (l, ∂l/∂z, ∂l/∂theta, ∂l/∂t). The state is at t1; lam becomes
    :math:`\partial\Phi/\partial z`. Of a joint loss J = g(v, z(t1), t1, theta), v the sums of the
    parts' observations, g takes the place of the terminal loss, and each observation counts times
    its part's ∂g/∂v, known before any backward pass. Jumps of observations at t1 stay in
    ``loss.seeds``. With a mass matrix dz/dt is not f: the terms with it are added by
    `symode.gradients.mass`.
    """
    n, m, out = system.n, system.m, scratch.out
    t1 = scratch.clock[T]
    scalars, lam, theta = gradient.scalars, gradient.lam, gradient.theta
    scalars[VALUE] = 0.0
    scalars[SIZE] = 0.0
    scalars[DT0] = 0.0
    scalars[DT1] = 0.0
    lam[:] = 0.0
    theta[:] = 0.0
    joint = loss.parts.size > 0
    if joint:
        _evaluate_joint(system, observations, loss, scratch)
        out = loss.joint
    elif system.address[TERMINAL] != 0:
        call_field(system.address[TERMINAL], t1, scratch.y, 0, system.p, 0, scratch.work, 0, out, 0)
    if joint or system.address[TERMINAL] != 0:
        scalars[VALUE] = out[0]
        scalars[SIZE] = abs(out[0])
        for i in range(n):
            lam[i] = out[1 + i]
        for i in range(m):
            theta[i] = out[1 + n + i]
        scalars[DT1] = out[1 + n + m]
    out = scratch.out
    # f at t1, for the terms of dJ/dt1 and dJ/dt_i; stage rows are free between passes.
    f = scratch.stage
    for k in range(observations.t.size):
        t, row = observations.t[k], k * observations.y.shape[1]
        observe_one(system, observations, loss, scratch, k)
        if joint:
            # The chain rule: what is left is the sum of the parts, each times dJ/d(part).
            share = loss.joint[2 + n + m + loss.row[k]]
            for i in range(2 + n + m):
                out[i] *= share
        else:
            scalars[VALUE] += out[0]
        scalars[SIZE] += abs(out[0])
        for i in range(m):
            theta[i] += out[1 + n + i]
        for i in range(n):
            loss.seeds[k, i] = out[1 + i]
        loss.times[k] = out[1 + n + m]
        if k < loss.n_start:
            scalars[DT0] += out[1 + n + m]
            loss.times[k] = 0.0
        elif t == t1:
            scalars[DT1] += out[1 + n + m]
            for i in range(n):
                lam[i] += out[1 + i]
            loss.times[k] = 0.0
        elif not has_mass(system):
            call_field(
                system.address[RHS], t, observations.y, row, system.p, 0, scratch.work, 0, f, 0
            )
            for i in range(n):
                loss.times[k] += loss.seeds[k, i] * f[i]
    if not has_mass(system):
        call_field(system.address[RHS], t1, scratch.y, 0, system.p, 0, scratch.work, 0, f, 0)
        for i in range(n):
            scalars[DT1] += lam[i] * f[i]
    # The backward passes add the seeds themselves when they reach t1.
    for k in range(loss.n_start, observations.t.size):
        if observations.t[k] == t1:
            for i in range(n):
                lam[i] -= loss.seeds[k, i]


@inline
def finish(
    system: System,
    loss: LossTable,
    t0: float,
    z0: Floats,
    scratch: Scratch,
    gradient: Gradient,
    from_initial: bool,
) -> None:
    r"""Close the gradient at t0, where lam is :math:`a_{§1}(t_0^+)`.

    dJ/dt0 gains :math:`-a_{§1}(t_0^+) f`; the observations at t0 jump; where z0 comes from the
    model's initial values, :math:`a_{§1}(t_0^-)\,\partial z_0` joins dJ/dtheta and dJ/dt0.
    """
    n, m = system.n, system.m
    scalars, lam, theta = gradient.scalars, gradient.lam, gradient.theta
    if has_mass(system):
        return  # `symode.gradients.mass` closes the gradient
    call_field(system.address[RHS], t0, z0, 0, system.p, 0, scratch.work, 0, scratch.stage, 0)
    for i in range(n):
        scalars[DT0] -= lam[i] * scratch.stage[i]
    for k in range(loss.n_start):
        for i in range(n):
            lam[i] += loss.seeds[k, i]
    if from_initial:
        call_product(
            system.address[INITIAL_VJP],
            t0,
            z0,
            0,
            system.p,
            0,
            lam,
            0,
            scratch.work,
            0,
            scratch.out,
            0,
        )
        for i in range(m):
            theta[i] += scratch.out[i]
        scalars[DT0] += scratch.out[m]
    total = scalars[VALUE] * 0.0
    for i in range(n):
        total += lam[i] * 0.0
    for i in range(m):
        total += theta[i] * 0.0
    scalars[CHECK] = total
