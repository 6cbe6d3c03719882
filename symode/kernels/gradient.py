"""One gradient in one call: forward pass, loss, backward pass.

The call returns PAUSED, FULL or a failure with everything in its arguments, and goes on where it
was when entered again; a caller that wants many gradients loops in compiled code.
"""

from __future__ import annotations

import math

from symode.kernels.adjoint_chebyshev import adjoint_chebyshev
from symode.kernels.adjoint_collocation import adjoint_collocation
from symode.kernels.adjoint_dirk import adjoint_dirk
from symode.kernels.adjoint_erk import adjoint_erk
from symode.kernels.adjoint_rosenbrock import adjoint_rosenbrock
from symode.kernels.call import call_field
from symode.kernels.jit import by_type, inline, kernel
from symode.kernels.loop import advance
from symode.kernels.loss import evaluate_loss, finish
from symode.kernels.types import (
    BACKWARD,
    DONE,
    DRIFT,
    EARLIER,
    FIRST_OBS,
    FORWARD,
    FSAL_READY,
    GROUP,
    HOIST,
    HOIST_AT,
    INITIAL,
    LEFT,
    N_COUNT,
    N_SCALARS,
    NEXT_OBS,
    PATIENCE,
    PHASE,
    STEPS,
    T_END,
    Chebyshev,
    Collocation,
    Control,
    Dirk,
    Erk,
    Floats,
    Gradient,
    LossTable,
    Method,
    Observations,
    Rosenbrock,
    Scratch,
    Store,
    System,
    T,
)
from symode.status import SUCCESS


@inline
def begin(
    system: System,
    loss: LossTable,
    observations: Observations,
    scratch: Scratch,
    z0: Floats,
    t0: float,
    t1: float,
    from_initial: bool,
) -> None:
    """Reset the solve to t0: hoisted values, z0, counters."""
    count = scratch.count
    for i in range(N_COUNT):
        count[i] = 0
    if system.address[HOIST] != 0:
        hoisted = system.address[HOIST_AT]
        call_field(
            system.address[HOIST], 0.0, z0, 0, system.p, 0, scratch.work, 0, system.p, hoisted
        )
    if from_initial:
        call_field(system.address[INITIAL], t0, z0, 0, system.p, 0, scratch.work, 0, scratch.y, 0)
    else:
        for i in range(system.n):
            scratch.y[i] = z0[i]
    for i in range(system.n):
        z0[i] = scratch.y[i]
        for k in range(loss.n_start):
            observations.y[k, i] = scratch.y[i]
    count[NEXT_OBS] = loss.n_start
    count[FIRST_OBS] = loss.n_start
    scratch.clock[T] = t0
    scratch.clock[T_END] = t1
    scratch.clock[GROUP] = 0.0


@by_type(
    0,
    {
        Erk: adjoint_erk,
        Rosenbrock: adjoint_rosenbrock,
        Collocation: adjoint_collocation,
        Dirk: adjoint_dirk,
        Chebyshev: adjoint_chebyshev,
    },
)
def adjoint_steps(
    method: Method,
    system: System,
    store: Store,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    gradient: Gradient,
    budget: int,
) -> int:
    """Carry lam back over the stored steps; return SUCCESS, PAUSED or a failure."""
    raise NotImplementedError


@inline
def discrete_member(
    method: Method,
    system: System,
    control: Control,
    store: Store,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    gradient: Gradient,
    z0: Floats,
    t0: float,
    t1: float,
    from_initial: bool,
    budget: int,
) -> int:
    """Run one member with the transpose of its own steps; return a status.

    On SWITCH the caller makes another segment, and enters with its method in phase FORWARD. The
    last segment evaluates the loss and goes back over its own steps; the caller then enters each
    earlier one in phase BACKWARD, see `symode.gradients.methods.discrete`.
    """
    count = scratch.count
    if count[PHASE] == 0:
        begin(system, loss, observations, scratch, z0, t0, t1, from_initial)
        count[PATIENCE] = control.patience
        count[PHASE] = FORWARD
    if count[PHASE] == FORWARD:
        status = advance(method, system, control, store, observations, scratch, budget)
        if status != SUCCESS:
            return status
        evaluate_loss(system, observations, loss, scratch, gradient)
        for i in range(system.n):
            scratch.k[method.n_dense, i] = 0.0
        count[LEFT] = count[STEPS]
        count[NEXT_OBS] = observations.t.size
        count[PHASE] = BACKWARD
    if count[PHASE] == BACKWARD:
        status = adjoint_steps(method, system, store, observations, loss, scratch, gradient, budget)
        if status != SUCCESS:
            return status
        if count[EARLIER] == 0:
            finish(system, loss, t0, z0, scratch, gradient, from_initial)
        count[PHASE] = DONE
    return SUCCESS


@kernel
def discrete_gradient(
    method: Method,
    system: System,
    control: Control,
    store: Store,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    gradient: Gradient,
    z0: Floats,
    t0: float,
    t1: float,
    from_initial: bool,
    budget: int,
) -> int:
    """Run one member with the transpose of its own steps; return a status."""
    return discrete_member(
        method, system, control, store, observations, loss, scratch, gradient, z0, t0, t1,
        from_initial, budget,
    )  # fmt: skip


@kernel
def discrete_members(
    method: Method,
    system: System,
    control: Control,
    store: Store,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    gradient: Gradient,
    z0: Floats,
    t0: float,
    t1: float,
    first: int,
    last: int,
    budget: int,
    scalars_out: Floats,
    z0_out: Floats,
    theta_out: Floats,
) -> tuple[int, int]:
    """Run members first to last - 1 of an ensemble; return (status, member reached)."""
    for member in range(first, last):
        row = z0[member]
        status = discrete_gradient(
            method, system, control, store, observations, loss, scratch, gradient, row, t0, t1,
            False, budget,
        )  # fmt: skip
        if status != SUCCESS:
            return status, member
        scratch.count[PHASE] = 0
        for i in range(N_SCALARS):
            scalars_out[member, i] = gradient.scalars[i]
        for i in range(system.n):
            z0_out[member, i] = gradient.lam[i]
        for i in range(system.m):
            theta_out[member, i] = gradient.theta[i]
    return SUCCESS, last


@kernel
def continuous_backward(
    method: Method,
    system: System,
    control: Control,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    none: Store,
    z_offset: int,
    t0: float,
    z0: Floats,
    allowed: Floats,
    gradient: Gradient,
    budget: int,
) -> int:
    r"""Integrate an adjoint ODE from clock[T] to t0, between observations; return a status.

    Those from count[FIRST_OBS] to count[LEFT] - 1 lie between. The adjoint jumps at each, and a
    step across it would smooth the jump. With ``z_offset == 0`` the state is (lam, mu) along a
    stored trajectory; with ``z_offset == n`` it is the note's (z, lam, mu): z is compared with what
    the forward pass found, the difference kept as drift in units of ``allowed``, and z restarted
    from the stored value. ``none`` is a store that keeps nothing.
    """
    n, clock, count = z0.size, scratch.clock, scratch.count
    y = scratch.y
    while True:
        status = advance(method, system, control, none, observations, scratch, budget)
        if status != SUCCESS:
            return status
        o = count[LEFT] - 1
        at_start = o < count[FIRST_OBS]
        if z_offset:
            total = 0.0
            for i in range(n):
                known = z0[i] if at_start else observations.y[o, i]
                total = max(total, abs(y[i] - known) / allowed[i])
                if not at_start:
                    y[i] = known
            if not (total <= gradient.scalars[DRIFT]):
                gradient.scalars[DRIFT] = total if total == total else math.inf
        if at_start:
            return SUCCESS
        t = observations.t[o]
        while o >= count[FIRST_OBS] and observations.t[o] == t:
            for i in range(n):
                y[z_offset + i] += loss.seeds[o, i]
            o -= 1
        count[LEFT] = o + 1
        count[FSAL_READY] = 0
        clock[T] = t
        clock[T_END] = observations.t[o] if o >= count[FIRST_OBS] else t0


@kernel
def loss_value(
    system: System,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    gradient: Gradient,
) -> None:
    """Evaluate the loss after a forward pass, see `evaluate_loss`."""
    evaluate_loss(system, observations, loss, scratch, gradient)


@kernel
def close_gradient(
    system: System,
    loss: LossTable,
    t0: float,
    z0: Floats,
    scratch: Scratch,
    gradient: Gradient,
    from_initial: bool,
) -> None:
    """Close the gradient at t0, see `finish`."""
    finish(system, loss, t0, z0, scratch, gradient, from_initial)
