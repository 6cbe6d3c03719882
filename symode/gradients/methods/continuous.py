"""The backward pass shared by the continuous adjoints."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from symode.codegen.compiled import NativeModel
from symode.gradients.jumps import check_jumps, pull_jump, slopes_at_observations
from symode.gradients.methods.base import (
    Floats,
    Runner,
    begin,
    check_finite,
    check_loss,
    failed_forward,
)
from symode.gradients.task import Task
from symode.gradients.unlocated import refuse_jumps
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.forward import Forward
from symode.solvers.jumps import EventJump
from symode.solvers.segments import LOG_SMALL_ERROR, Segment
from symode.solvers.stats import SegmentStats, Stats
from symode.status import SENTENCES, SUCCESS

#: Share of an adjoint component's largest past value that counts as its current size: below it
#: the component is noise next to its own history. Scale-free, so a loss times 1e12 gives the
#: same digits.
ADJOINT_FLOOR = 1e-3
#: Share of the loss, per unit of a state or parameter in its own size, below which an adjoint is
#: noise: lam starts from 0, where no error relative to itself can be small. Scale-free too.
LOSS_FLOOR, ROUNDING_FLOOR = 1e-4, 1e-14


class ContinuousRunner(Runner):
    """What continuous adjoints do before and after their pass backwards."""

    compiled: NativeModel
    system: kt.Field
    forward: Forward

    def solve(self, theta: Floats, z0: Floats | None) -> Floats:
        """Run the forward pass and evaluate the loss; return the state at t0."""
        from symode.kernels.gradient import loss_value

        task, forward = self.task, self.forward
        y0 = self.run_forward(theta, z0)
        loss_value(self.system, forward.observations, self.table, forward.scratch, self.gradient)
        check_loss(task, self.gradient, self.table)
        slopes_at_observations(task, forward, self.table)
        return y0

    def run_forward(self, theta: Floats, z0: Floats | None) -> Floats:
        """Run the forward pass; return the state at t0."""
        task, forward = self.task, self.forward
        refuse_jumps(task, theta, z0)
        y0 = begin(task, forward, self.compiled, theta, z0)
        forward.reset(y0, task.t0, task.t1)
        status = forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        if forward.events is not None:
            check_jumps(task, forward.events)
        return y0

    def close(self, y0: Floats, z0: Floats | None) -> None:
        """Close the gradient at t0; all of it must be finite."""
        from symode.kernels.gradient import close_gradient

        close_gradient(
            self.system, self.table, self.task.t0, y0, self.forward.scratch, self.gradient,
            z0 is None,
        )  # fmt: skip
        check_finite(self.task, self.gradient)


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
    weights = np.abs(gradient.lam[states:])
    loss = float(gradient.scalars[kt.SIZE]) + float(weights @ forward.scratch.peak[states:n])
    floor = max(LOSS_FLOOR, ROUNDING_FLOOR / options.rtol) * loss
    size = forward.scratch.peak[:states] + options.atol / options.rtol
    size[size == 0.0] = 1.0
    control.atol[z_offset : z_offset + states] = options.rtol * floor / size
    if control.weight.size and task.m:
        size = np.abs(task.chosen(theta))
        control.weight[-task.m :] = np.where(size == 0.0, 1.0, size)
    scratch.clock[kt.GROUP] = floor


#: Returns the adjoint system along a segment, and the memory to integrate it with.
Place = Callable[[Segment], tuple[kt.System, kt.Scratch]]


def run_backward(
    task: Task,
    forward: Forward,
    place: Place,
    control: kt.Control,
    gradient: kt.Gradient,
    table: kt.LossTable,
    theta: Floats,
    y1: Floats,
    z_offset: int,
    allowed: Floats,
) -> tuple[int, float, Stats]:
    """Integrate the adjoint from t1 to t0; leave lam and the parameters' gradient in place.

    Each segment of the forward pass is crossed by the method that made it: the adjoint's Jacobian
    is -Jᵀ, so it is stiff where the forward pass was. Where that was held down by accuracy alone,
    its own steps bound those that stability can ask of the adjoint.

    Returns
    -------
    status, t, stats
        How it ended and where.
    """
    n, y, before = task.n, y1, None
    gradient.scalars[kt.DRIFT] = 0.0
    driver, parts, status, t = native.Driver(), [], SUCCESS, task.t1
    for segment in reversed(forward.end()):
        system, scratch = place(segment)
        if isinstance(segment.jump, EventJump):
            y = over_jump(task, forward, segment, table, gradient, y, z_offset)
        start_segment(segment, task, scratch, y, before)
        if before is None:
            set_scales(task, forward, control, scratch, gradient, theta, z_offset)
        status = _cross(
            segment, system, control, forward.observations, table, scratch, z_offset, allowed,
            gradient, driver,
        )  # fmt: skip
        t = float(scratch.clock[kt.T])
        name = segment.stepper.tableau.name
        reason = "the start of the segment" if status == SUCCESS else SENTENCES[status]
        parts.append(SegmentStats.of(name, segment.t1, t, scratch.count, reason))
        y, before = scratch.y.copy(), scratch
        if status != SUCCESS:
            break
        if z_offset:
            y[:z_offset] = segment.start[:z_offset]
    gradient.lam[:] = y[z_offset : z_offset + n]
    gradient.theta[:] += y[z_offset + n :]
    return status, t, Stats.over(tuple(parts), driver.seconds, "the methods of the forward pass")


def over_jump(
    task: Task,
    forward: Forward,
    segment: Segment,
    table: kt.LossTable,
    gradient: kt.Gradient,
    y: Floats,
    z_offset: int,
) -> Floats:
    """Return the backward pass's state before the jump at the end of a segment.

    What the jump itself adds to dJ/dtheta goes to ``gradient``, which is added to mu at the end.
    """
    y, lam = y.copy(), slice(z_offset, z_offset + task.n)
    gradient.lam[:] = y[lam]
    pull_jump(task, forward, segment, table, gradient)
    y[lam] = gradient.lam
    if z_offset:
        before = segment.store.z[segment.steps] if segment.steps else segment.start
        y[:z_offset] = before[:z_offset]
    return y


def start_segment(
    segment: Segment, task: Task, scratch: kt.Scratch, y: Floats, before: kt.Scratch | None
) -> None:
    """Set the backward pass to the end of a segment, going on from the segment after it."""
    clock, count = scratch.clock, scratch.count
    if before is not None:
        # Step size and largest values carry over; the slope and the controller's past do not.
        clock[:], scratch.peak[:] = before.clock.copy(), before.peak.copy()
        clock[kt.ERR] = LOG_SMALL_ERROR
    clock[kt.Z_AT] = np.nan
    count[:] = 0
    count[kt.STARTED] = before is not None and np.isfinite(clock[kt.H]) and clock[kt.H] != 0.0
    scratch.y[:] = y
    count[kt.FIRST_OBS] = segment.first
    count[kt.LEFT] = segment.stop
    # Nothing is recorded on the way back.
    count[kt.NEXT_OBS] = task.times.size
    clock[kt.T] = segment.t1
    inner = task.times[segment.first : segment.stop]
    clock[kt.T_END] = inner[-1] if inner.size else segment.t0


def _cross(
    segment: Segment,
    system: kt.System,
    control: kt.Control,
    observations: kt.Observations,
    table: kt.LossTable,
    scratch: kt.Scratch,
    z_offset: int,
    allowed: Floats,
    gradient: kt.Gradient,
    driver: native.Driver,
) -> int:
    from symode.kernels.gradient import continuous_backward

    none = native.no_store(segment.method, allowed.size)
    z0 = np.ascontiguousarray(segment.start[: allowed.size])
    return driver.run(
        lambda budget: continuous_backward(
            segment.method,
            system,
            control,
            observations,
            table,
            scratch,
            none,
            z_offset,
            segment.t0,
            z0,
            allowed,
            gradient,
            budget,
        )
    )
