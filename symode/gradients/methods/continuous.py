"""The backward pass shared by the continuous adjoints."""

from __future__ import annotations

import numpy as np

from symode.gradients.methods.base import Floats
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.integrate import Forward
from symode.solvers.solution import Stats

#: Share of an adjoint component's largest past value that counts as its current size: below it
#: the component is noise next to its own history. Scale-free, so a loss times 1e12 gives the
#: same digits.
ADJOINT_FLOOR = 1e-3
#: Share of the loss, per unit of a state or parameter in its own size, below which an adjoint is
#: noise: lam starts from 0, where no error relative to itself can be small. Scale-free too.
LOSS_FLOOR, ROUNDING_FLOOR = 1e-4, 1e-14


def adjoint_control(task: Task, leading: Floats) -> kt.Control:
    """Return the control of a state (leading, lam, mu).

    Each component of lam is held to rtol of its own size; lam of a quadrature is constant. The
    components of mu are held to rtol together, in the scaled norm of the gradient (`set_scales`):
    lam alone does not see a loss that depends on a parameter through a running cost or forcing.
    """
    states = task.equations.n_states
    lam = np.where(np.arange(task.n) < states, 0.0, np.inf)
    atol = np.concatenate([leading, lam, np.full(task.m, np.inf)])
    floor = np.concatenate([np.zeros(leading.size), np.full(task.n + task.m, ADJOINT_FLOOR)])
    return native.make_control(task.options, atol, floor, weight=np.zeros(atol.size))


def set_scales(
    task: Task,
    forward: Forward,
    control: kt.Control,
    scratch: kt.Scratch,
    gradient: kt.Gradient,
    theta: Floats,
    z_offset: int,
) -> None:
    """Set what depends on the forward pass: the smallest sizes of lam and mu that count.

    Their unit is the loss per state and per parameter, each in its own size (1 where that is 0).
    """
    states, n, options = task.equations.n_states, task.n, task.options
    loss = float(gradient.scalars[kt.SIZE]) + float(forward.scratch.peak[states:n].sum())
    floor = max(LOSS_FLOOR, ROUNDING_FLOOR / options.rtol) * loss
    size = forward.scratch.peak[:states] + options.atol / options.rtol
    size[size == 0.0] = 1.0
    control.atol[z_offset : z_offset + states] = options.rtol * floor / size
    if control.weight.size and task.m:
        size = np.abs(task.chosen(theta))
        control.weight[-task.m :] = np.where(size == 0.0, 1.0, size)
    scratch.clock[kt.GROUP] = floor


def run_backward(
    task: Task,
    forward: Forward,
    system: kt.System,
    control: kt.Control,
    scratch: kt.Scratch,
    gradient: kt.Gradient,
    table: kt.LossTable,
    theta: Floats,
    y1: Floats,
    z0: Floats,
    z_offset: int,
    allowed: Floats,
) -> tuple[int, Stats]:
    """Integrate the adjoint from t1 to t0; leave lam and the parameters' gradient in place."""
    from symode.kernels.gradient import continuous_backward

    scratch.count[:] = 0
    scratch.y[:] = y1
    set_scales(task, forward, control, scratch, gradient, theta, z_offset)
    scratch.count[kt.NEXT_OBS] = scratch.count[kt.LEFT] = task.times.size
    scratch.clock[kt.T] = task.t1
    inner = task.times[table.n_start :]
    scratch.clock[kt.T_END] = inner[-1] if inner.size else task.t0
    gradient.scalars[kt.DRIFT] = 0.0
    none = native.no_store(forward.method, task.n)
    driver = native.Driver()
    status = driver.run(
        lambda budget: continuous_backward(
            forward.method,
            system,
            control,
            forward.observations,
            table,
            scratch,
            none,
            z_offset,
            task.t0,
            z0,
            allowed,
            gradient,
            budget,
        )
    )
    n = task.n
    gradient.lam[:] = scratch.y[z_offset : z_offset + n]
    gradient.theta[:] += scratch.y[z_offset + n :]
    return status, Stats.of(task.options.tableau.name, scratch.count, driver.seconds)
