"""DiscreteAdjoint: the transpose of the solver's own steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from symode.gradients.jumps import check_jumps, pull_jump, slopes_at_observations
from symode.gradients.mass import add_ends, close_at_start
from symode.gradients.methods.base import (
    Floats,
    begin,
    check_finite,
    failed_backward,
    failed_forward,
)
from symode.gradients.methods.watched import WatchedRunner
from symode.gradients.task import Task
from symode.gradients.unlocated import Jumps
from symode.kernels import types as kt
from symode.kernels.types import BACKWARD, FORWARD
from symode.solvers.jumps import EventJump
from symode.solvers.segments import Segment, Stepper
from symode.status import SUCCESS, SWITCH


@dataclass(frozen=True)
class DiscreteAdjoint:
    r"""Differentiate the computed numbers: every accepted step, its size frozen, transposed.

    The result equals the derivative of the computed J to rounding; its distance to the derivative
    of the true J falls with the solver's tolerance. Cost: one forward pass, and one
    vector-Jacobian product per stage. Memory: :math:`8 (S + 1) n + 16` bytes a step for S stages.
    Serves every solver of symode, explicit and stiff. Where stability holds the steps of an
    explicit one down, a tangent joins the error norm.

    The steps are chosen for z, not for its sensitivities. Where a parameter is exactly 0 or a state
    0 throughout, the tangents in these directions are added to the error norm; an accidental
    cancellation, such as (p - q) g(t) at p = q, is for `verify`, ``gradient_rtol`` or
    `ForwardSensitivity` to find.

    References
    ----------
    Hairer, Lubich & Wanner (2006), *Geometric Numerical Integration*, VI.4; for Rosenbrock
    methods Sandu, Daescu & Carmichael (2003), doi:10.1016/j.atmosenv.2003.08.019.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k])
    >>> gradient = model.gradient(
    ...     symode.Loss(terminal=x**2), (0, 1), theta=[0.7], z0=[2.0],
    ...     method=symode.DiscreteAdjoint())
    >>> round(gradient.theta["k"], 6)  # -2 t z(t)**2
    -1.972776
    """

    @property
    def name(self) -> str:
        """Short name, as in tables."""
        return "discrete"

    def prepare(self, task: Task) -> DiscreteRunner:
        """Compile what the task needs; return the function that computes."""
        return DiscreteRunner(task.with_switches())


class DiscreteRunner(WatchedRunner):
    """A `DiscreteAdjoint` made ready for one task."""

    kernels = ("vjp",)
    whole_steps = True
    derivative = "second"
    takes_mass = True
    takes_events = True
    switches = True

    def __init__(self, task: Task, watched: tuple[int, ...] = ()) -> None:
        super().__init__(task, watched)
        #: The compiled pass of each segment, with the memory it was bound to.
        self._bound: dict[int, tuple[kt.Store, bool, Callable[[int], int]]] = {}

    def _run(self, theta: Floats, z0: Floats | None) -> Floats:
        """Compute; return the largest size of each state."""
        task, forward = self.task, self.forward
        if task.mass is not None:
            return self._run_with_mass(theta, z0)
        if self.apart:
            return self._run_in_segments(theta, z0)
        if forward.closed:
            forward.rewind(task.t0)
        self.system.p[: theta.size] = theta
        if z0 is not None:
            self.z0[: task.equations.n_states] = z0
            self.z0[task.equations.n_states :] = 0.0
        if self.watched:
            self._start_tangents(theta, z0)
        from_initial = z0 is None
        forward.scratch.count[kt.PHASE] = 0
        forward.scratch.clock[kt.H_TRIED] = np.nan
        enter = lambda budget: self._enter(from_initial, budget)  # noqa: E731
        status = forward.driver.run(enter)
        while status == SWITCH:
            forward.switch()
            status = forward.driver.run(enter)
        if status != SUCCESS:
            if forward.scratch.count[kt.PHASE] == FORWARD:
                raise failed_forward(task, forward, status)
            raise failed_backward(task, forward.t, status, "Tighten the tolerances.")
        if forward.closed:
            self._back(forward.end())
        check_finite(task, self.gradient)
        return forward.scratch.peak[: task.n_watched]

    def _run_with_mass(self, theta: Floats, z0: Floats | None) -> Floats:
        """Compute; both ends of the compiled pass are made here, where dz/dt is not f."""
        task, forward = self.task, self.forward
        self.z0[:] = begin(task, forward, self.compiled, theta, z0)
        tangents = np.zeros(forward.scratch.y.size - task.n)
        forward.reset(np.concatenate([self.z0, tangents]), task.t0, task.t1)
        if self.watched:
            self._start_tangents(theta, z0)
        forward.scratch.count[kt.PHASE] = FORWARD
        status = forward.driver.run(lambda budget: self._enter(False, budget))
        if status != SUCCESS:
            if forward.scratch.count[kt.PHASE] == FORWARD:
                raise failed_forward(task, forward, status)
            raise failed_backward(task, forward.t, status, "Tighten the tolerances.")
        p, z1 = self.system.p, forward.scratch.y[: task.n].copy()
        add_ends(task, self.compiled, p, forward.observations, self.table, self.gradient, z1)
        assert forward.start is not None
        close_at_start(task, self.compiled, p, forward.start, self.table, self.gradient, z0 is None)
        check_finite(task, self.gradient)
        return forward.scratch.peak[: task.n_watched]

    @property
    def apart(self) -> bool:
        """Whether events or corners of inputs divide the solve before the compiled pass ends it."""
        return self.task.events is not None or self.forward.stops is not None

    def _run_in_segments(self, theta: Floats, z0: Floats | None) -> Floats:
        """Compute; the compiled pass of the last segment begins at the end of the span."""
        task, forward = self.task, self.forward
        self.z0[:] = begin(task, forward, self.compiled, theta, z0)
        tangents = np.zeros(forward.scratch.y.size - task.n)
        forward.reset(np.concatenate([self.z0, tangents]), task.t0, task.t1)
        if self.watched:
            self._start_tangents(theta, z0)
        status = forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        if forward.events is not None:
            check_jumps(task, forward.events)
        forward.scratch.count[kt.PHASE] = FORWARD
        status = forward.driver.run(lambda budget: self._enter(z0 is None, budget))
        if status != SUCCESS:
            raise failed_backward(task, forward.t, status, "Tighten the tolerances.")
        slopes_at_observations(task, forward, self.table)
        if forward.closed:
            self._back(forward.end(), z0 is None)
        check_finite(task, self.gradient)
        return forward.scratch.peak[: task.n_watched]

    def _back(self, segments: list[Segment], from_initial: bool = False) -> None:
        """Carry lam from the start of the last segment to t0, over all before it.

        The last has evaluated the loss and gone back over its own steps; the first closes the
        gradient. The slope that two steps of an explicit method share is never shared by segments.
        """
        for i in range(len(segments) - 2, -1, -1):
            segment = segments[i]
            if isinstance(segment.jump, EventJump):
                pull_jump(self.task, self.forward, segment, self.table, self.gradient)
            if self.apart:
                self._bind(i, segment.stepper, segment.store, from_initial)
            scratch = segment.stepper.scratch
            count = scratch.count
            count[kt.PHASE], count[kt.LEFT], count[kt.EARLIER] = BACKWARD, segment.steps, i
            count[kt.FIRST_OBS], count[kt.NEXT_OBS] = segment.first, segment.stop
            scratch.k[segment.method.n_dense] = 0.0
            status = self.forward.driver.run(self._bound[i][2])
            if status != SUCCESS:
                raise failed_backward(self.task, segment.t1, status, "Tighten the tolerances.")

    def _enter(self, from_initial: bool, budget: int) -> int:
        """Enter the compiled pass, through its address where that is bound for this store."""
        forward = self.forward
        segment = len(forward.closed)
        return self._bind(segment, forward.stepper, forward.store, from_initial)(budget)

    def _bind(
        self, segment: int, stepper: Stepper, store: kt.Store, from_initial: bool
    ) -> Callable[[int], int]:
        """Return the compiled pass of a segment."""
        bound = self._bound.get(segment)
        if bound is None or bound[0] is not store or bound[1] != from_initial:
            arguments = (
                stepper.method, stepper.system, stepper.control, store,
                self.forward.observations, self.table, stepper.scratch, self.gradient, self.z0,
                self.task.t0, self.task.t1, from_initial,
            )  # fmt: skip
            bound = (store, from_initial, bind_gradient(arguments))
            self._bound[segment] = bound
        return bound[2]

    def members(self, theta: Floats, z0: Floats) -> tuple[Floats, Floats, Floats]:
        """Return values and gradients of several initial values, in one compiled loop.

        Raises
        ------
        SolverError, GradientError
            Of the first member that fails.
        """
        from symode.kernels.gradient import discrete_members

        task, forward = self.task, self.forward
        if (
            Jumps.of(task)
            or task.mass is not None
            or self.apart
            or not task.chosen(theta).all()
            or not z0.all()
        ):
            return self._one_by_one(theta, z0)
        self.system.p[: theta.size] = theta
        starts = np.zeros((z0.shape[0], task.n))
        starts[:, : task.equations.n_states] = z0
        scalars = np.empty((z0.shape[0], kt.N_SCALARS))
        dtheta, dz0 = np.empty((z0.shape[0], task.m)), np.empty(starts.shape)
        reached = 0
        forward.scratch.count[kt.PHASE] = 0

        def enter(budget: int) -> int:
            nonlocal reached
            status, reached = discrete_members(
                forward.method, self.system, forward.control, forward.store, forward.observations,
                self.table, forward.scratch, self.gradient, starts, task.t0, task.t1,
                reached, starts.shape[0], budget, scalars, dz0, dtheta,
            )  # fmt: skip
            return int(status)

        while True:
            forward.rewind(task.t0)
            status = forward.driver.run(enter)
            if status == SUCCESS:
                break
            # Alone, the member switches its method, or fails again and says why.
            self.compute(theta, z0[reached])
            scalars[reached] = self.gradient.scalars
            dz0[reached], dtheta[reached] = self.gradient.lam, self.gradient.theta
            reached += 1
            forward.rewind(task.t0)
            forward.scratch.count[kt.PHASE] = 0
            if reached == starts.shape[0]:
                break
        unsound = np.flatnonzero(scalars[:, kt.CHECK] != 0.0)
        if unsound.size:
            self.compute(theta, z0[unsound[0]])
        return scalars[:, kt.VALUE], dtheta, dz0[:, : task.equations.n_states]

    def _one_by_one(self, theta: Floats, z0: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the same where zeros may have to be watched."""
        values = np.empty(z0.shape[0])
        dtheta, dz0 = np.empty((z0.shape[0], self.task.m)), np.empty(z0.shape)
        for i, row in enumerate(z0):
            self.compute(theta, row)
            values[i] = self.gradient.scalars[kt.VALUE]
            dtheta[i] = self.gradient.theta
            dz0[i] = self.gradient.lam[: z0.shape[1]]
        return values, dtheta, dz0

    def stats(self) -> dict[str, object]:
        """Return what the last call cost."""
        return {"method": "discrete", "forward": self._last.forward.stats}


def bind_gradient(arguments: tuple[Any, ...]) -> Callable[[int], int]:
    """Return the compiled pass with its arguments bound: a function of the step budget."""
    from symode.kernels.entry import ENTRIES, BoundGradient

    if type(arguments[0]) in ENTRIES and isinstance(arguments[1], kt.Field):
        return BoundGradient(*arguments)
    from symode.kernels.gradient import discrete_gradient

    enter: Callable[..., int] = discrete_gradient
    return lambda budget: int(enter(*arguments, budget))
