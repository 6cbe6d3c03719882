"""Gradients through events: what each method does at a jump, and what has no derivative."""

from __future__ import annotations

import numpy as np

from symode.equations.walk import symbols_in
from symode.errors import GradientError, UnsupportedCombinationError
from symode.gradients.task import Floats, Task
from symode.kernels import types as kt
from symode.solvers.events import EventRun
from symode.solvers.forward import Forward
from symode.solvers.jumps import EventJump, slope_of
from symode.solvers.segments import Segment
from symode.status import SUCCESS

#: What to do where a gradient method does not take events.
USE_JUMPS = (
    "DiscreteAdjoint, CheckpointedAdjoint, ForwardSensitivity, InterpolatingAdjoint, GaussAdjoint "
    "and BacksolveAdjoint carry derivatives over the jumps of events."
)


def refuse_events(equations: object, what: str, way_out: str) -> None:
    """Raise for a model with events; return for any other.

    Raises
    ------
    UnsupportedCombinationError
        With the way out.
    """
    if getattr(equations, "events", ()):
        raise UnsupportedCombinationError(f"{what} does not take events. {way_out}")


def check_jumps(task: Task, run: EventRun, at_start: bool = True, ends: bool = True) -> None:
    """Pass if J has a derivative through all that fired, or one from one side.

    Where a moment that moves is at the time of an observation of something that goes on there, J
    has a kink: `EventRun.one_sided` then says from which side the derivative is.

    Parameters
    ----------
    task, run
        What was asked, and what happened.
    at_start
        Whether the method takes jumps at t0 together with everything there.
    ends
        Whether it takes a span that a terminal event has ended.

    Raises
    ------
    GradientError
        Naming the event, and why it has none.
    """
    if run.ended:
        name, end = run.fired[-1].name, run.fired[-1].t
        if not ends:
            raise GradientError(
                f"The terminal event {name!r} ended the solve at t = {end:.10g}: only adjoints "
                "give the gradient of a loss at an end that moves. Use DiscreteAdjoint."
            )
        beyond = task.times[task.times > end]
        if beyond.size:
            raise GradientError(
                f"The terminal event {name!r} ended the solve at t = {end:.10g}, before the "
                f"observation at t = {beyond[0]:.10g}. Leave out terminal=True, or observe before."
            )
    sides = []
    for jump in run.jumps:
        meets = bool(jump.causes and jump.moves and (task.times == jump.t).any())
        if not jump.steps:
            # Observations at the moment belong to the piece before it.
            sides += [_side(jump, "later")] if meets else []
            continue
        if jump.t == task.t1:
            raise GradientError(
                f"The event {jump.names} is at the end of the span, t1 = {task.t1:g}, where J "
                "jumps with t1. Move t1 to either side of it."
            )
        if not at_start and jump.t == task.t0 and (task.asked.t0 or (task.times == task.t0).any()):
            raise GradientError(
                f"The event {jump.names} is at t0 = {task.t0:g}: ForwardSensitivity gives neither "
                "dJ/dt0 nor observations there. Use DiscreteAdjoint."
            )
        if meets and _observed(task, jump):
            raise GradientError(
                f"The event {jump.names} is at the time of an observation, t = {jump.t:.10g}, and "
                "moves with the parameters or the state: the loss jumps where they meet, and has "
                "no derivative. Move the observation."
            )
        # Here they belong to what follows.
        sides += [_side(jump, "earlier")] if meets else []
    run.one_sided = tuple(sides)


def _side(jump: EventJump, way: str) -> str:
    """Return the sentence of a kink of J."""
    return (
        f"{jump.what} is at the time of an observation, t = {jump.t:.10g}, and moves with the "
        f"parameters or the state: J has a kink there, and this is its derivative as the moment "
        f"moves {way}."
    )


def _observed(task: Task, jump: EventJump) -> bool:
    """Tell whether an observation at a jump can see a state that the events set."""
    functions = jump.bound.functions
    states = functions.equations.states
    moved = {states[j] for i, _, _ in jump.steps for j in functions.targets[i]}
    return any(
        (group.times == jump.t).any() and not moved.isdisjoint(symbols_in([group.expression]))
        for group in task.loss.groups
    )


def slopes_at_observations(task: Task, forward: Forward, table: kt.LossTable) -> None:
    """Put dJ/dt_i right where f has other modes at an observation than at the end of the span.

    Kernels evaluate the loss with those of the last segment.
    """
    segments = forward.segments
    jumps = [s.jump for s in segments if isinstance(s.jump, EventJump) and s.jump.after.size]
    if not jumps or not task.asked.ends:
        return
    last = modes = jumps[-1].after
    work = jumps[-1].work
    for segment in reversed(segments):
        if isinstance(segment.jump, EventJump):
            modes = segment.jump.before
        for i in range(segment.first, segment.stop):
            if task.times[i] == task.t1 or np.array_equal(modes, last):
                continue
            t, z = float(task.times[i]), forward.observations.y[i, : task.n]
            forward.enter_modes(modes)
            slope = slope_of(forward.system, work, t, z)
            forward.enter_modes(last)
            slope -= slope_of(forward.system, work, t, z)
            table.times[i] += float(table.seeds[i] @ slope)


def pull_jump(
    task: Task, forward: Forward, segment: Segment, table: kt.LossTable, gradient: kt.Gradient
) -> None:
    """Carry lam back over the jump at the end of a segment; dJ/dtheta and dJ/dt0 gain its part.

    The modes before the jump hold from here on.
    """
    jump, lam = segment.jump, gradient.lam
    assert isinstance(jump, EventJump)
    forward.enter_modes(jump.before)
    z = segment.start if not segment.steps else segment.store.z[segment.steps]
    z = z[: task.n].copy()
    theta = jump.bound.theta
    run = forward.events
    if run is not None and run.ended and jump is run.jumps[-1]:
        _pull_end(jump, z, gradient)
        return
    if jump.t != task.t0:
        lam[:] = jump.transpose(jump.t, z, theta, lam.copy(), gradient.theta)
        return
    # The moment moves with t0, and so do the observations attached to it.
    later = lam.copy()
    seeds = table.seeds[: table.n_start].sum(axis=0)
    table.seeds[: table.n_start] = 0.0
    before, moved = jump.pull(z, later + seeds, later, gradient.theta)
    lam[:] = before
    gradient.scalars[kt.DT0] += moved


def _pull_end(jump: EventJump, z: Floats, gradient: kt.Gradient) -> None:
    """Carry lam back over a terminal event: the loss is taken at its time, which moves.

    As any jump, but the state is wanted at the moved time: with no f after it, and with the loss's
    own derivative in time.
    """
    lam, n = gradient.lam, jump.bound.functions.n
    at_end = gradient.lam.copy()
    before, after = jump.slopes(z, jump.apply(jump.t, z, jump.bound.theta))
    loss_t = float(gradient.scalars[kt.DT1]) - float(at_end @ after)
    lam[:], moved = jump.pull(z, at_end, np.zeros_like(at_end), gradient.theta)
    gradient.scalars[kt.DT1] = 0.0
    if jump.causes:
        dz, dtheta = jump.moment(z[:n], before)
        lam[:n] += (moved + loss_t) * dz
        gradient.theta[:] += (moved + loss_t) * dtheta
    else:
        # At t0: the end moves with it.
        gradient.scalars[kt.DT0] += moved + loss_t


def push_jumps(forward: Forward, jumps: list[EventJump], directions: Floats) -> int:
    """Run a pass with tangents over jumps whose times are known; return the status."""
    n, t1 = forward.system.n, forward.t_end
    for jump in jumps:
        if jump.t > forward.t:
            forward.aim(jump.t)
            status = forward.run()
            if status != SUCCESS:
                return status
        if jump.steps:
            forward.leave_observations_at(jump.t)
        y = forward.scratch.y
        tangents = y[n:].reshape(-1, n).copy()
        y[n:] = jump.push(y[:n].copy(), tangents, directions).ravel()
        forward.split(f"the {'event' if jump.steps else 'switch at'} {jump.names}", jump)
        forward.enter_modes(jump.after)
        if jump.steps:
            forward.scratch.count[kt.STARTED] = 0
    forward.aim(t1)
    return forward.run()
