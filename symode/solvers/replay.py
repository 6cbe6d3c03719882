"""Replay: a solve over given steps, so that its result is a smooth function of what it starts from.

An adaptive solve is not: its step sizes jump with the error estimate. With the accepted steps
frozen the result is one fixed composition of differentiable maps, and differences of it converge.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.forward import Build, Forward
from symode.solvers.methods import Tableau
from symode.solvers.options import SolverOptions
from symode.status import SUCCESS

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Steps:
    """The accepted steps of a solve.

    Parameters
    ----------
    t
        Times of the steps, both ends included. Shape ``(N + 1,)``.
    h
        Step sizes, in units of time. Shape ``(N,)``.
    parts
        The method of each segment, and how many steps it has; empty where the options of the replay
        name the one method.
    member
        Which number of stages each step has, for families of methods. Shape ``(N,)``, or ``(0,)``.
    starts
        When each segment starts: past a corner of an input, the next number after the end of the
        one before it. Empty where segments meet.
    """

    t: Floats
    h: Floats
    parts: tuple[tuple[Tableau, int], ...] = ()
    member: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    starts: Floats = field(default_factory=lambda: np.empty(0))

    def with_start(self, t0: float, fixed: int) -> Steps:
        """Return these steps with the first ``fixed`` of them stretched so that they start at t0.

        A smooth function of t0; all steps after those stay.
        """
        anchor, t, h = self.t[fixed], self.t.copy(), self.h.copy()
        ratio = (anchor - t0) / (anchor - t[0])
        t[:fixed] = anchor - (anchor - t[:fixed]) * ratio
        h[:fixed] *= ratio
        t[0] = t0
        starts = self.starts.copy()
        starts[:1] = t0
        return replace(self, t=t, h=h, starts=starts)

    def with_end(self, t1: float, fixed: int) -> Steps:
        """Return these steps with those from step ``fixed`` on stretched so that they end at t1."""
        anchor, t, h = self.t[fixed], self.t.copy(), self.h.copy()
        ratio = (t1 - anchor) / (t[-1] - anchor)
        t[fixed:] = anchor + (t[fixed:] - anchor) * ratio
        h[fixed:] *= ratio
        t[-1] = t1
        return replace(self, t=t, h=h)

    @property
    def smooth_ends(self) -> tuple[int, int]:
        """How many steps from the start, and from which on to the end, no corner lies between."""
        if not self.starts.size:
            return self.h.size, 0
        return self.parts[0][1], self.h.size - self.parts[-1][1]

    def step_of(self, times: Floats) -> NDArray[np.int64]:
        """Return the step that holds each time; a time at the end of a step belongs to it."""
        sign = 1.0 if self.t[-1] >= self.t[0] else -1.0
        place = np.searchsorted(sign * self.t, sign * times, side="left") - 1
        return np.asarray(np.clip(place, 0, self.h.size - 1), dtype=np.int64)


def steps_of(forward: Forward) -> Steps:
    """Return a copy of the steps that a forward pass has kept, over all its segments."""
    kept = [segment for segment in forward.segments if segment.steps]
    # A segment starts where the one before it ended.
    t = [kept[0].store.t[:1], *(segment.store.t[1 : segment.steps + 1] for segment in kept)]
    h = [segment.store.h[: segment.steps] for segment in kept]
    parts = tuple((segment.stepper.tableau, segment.steps) for segment in kept)
    member = np.empty(0, dtype=np.int64)
    if any(segment.store.member.size for segment in kept):
        member = np.zeros(sum(steps.size for steps in h), dtype=np.int64)
        at = 0
        for segment in kept:
            found = segment.store.member[: segment.steps]
            member[at : at + found.size] = found
            at += segment.steps
    starts = np.array([segment.store.t[0] for segment in kept])
    ends = np.array([segment.store.t[segment.steps] for segment in kept])
    meet = bool((starts[1:] == ends[:-1]).all())
    return Steps(
        np.concatenate(t), np.concatenate(h), parts, member, np.empty(0) if meet else starts
    )


def states_of(forward: Forward) -> Floats:
    """Return the states at the times of `steps_of`. Shape ``(N + 1, n)``."""
    kept = [segment for segment in forward.segments if segment.steps]
    ends = (segment.store.z[1 : segment.steps + 1] for segment in kept)
    return np.concatenate([kept[0].store.z[:1], *ends])


def run_steps(
    system: kt.Field | kt.Tangents,
    options: SolverOptions,
    observations: kt.Observations,
    work_size: int,
    y0: Floats,
    steps: Steps,
    build: Build | None = None,
) -> tuple[int, Forward]:
    """Solve again over these steps, none chosen or rejected; return the status and the solve.

    Parameters
    ----------
    system, options
        What to solve and by which method. Tolerances do not count.
    observations
        Times to record, in the order of the solve; interpolated in the step that holds them.
    y0
        State at the start, with its tangents. Shape ``(N,)``.
    build
        Compiles the system for another method, where the steps have more than one.

    Returns
    -------
    status, forward
        The solve is that of the last segment.
    """
    parts = steps.parts or ((options.tableau, steps.h.size),)
    y, start, reached = y0, 0, 0
    part: kt.System
    for place, (tableau, count) in enumerate(parts):
        own = replace(options, tableau=tableau, stiff="")
        part, work = system, work_size
        if tableau is not options.tableau:
            assert build is not None
            compiled, other = build(own)
            compiled.pack(system.p[: compiled.n_parameters], other.p)
            part, work = other, max(work, compiled.work_size)
        stop = start + count
        forward = _replay(part, own, observations, work, y, steps, slice(start, stop))
        if start:
            forward.scratch.count[kt.NEXT_OBS] = reached
            if steps.starts.size:
                forward.skip_to(float(steps.starts[place]))
        status = forward.run()
        if status != SUCCESS:
            break
        y, start, reached = forward.scratch.y, stop, int(forward.scratch.count[kt.NEXT_OBS])
    return status, forward


def _replay(
    system: kt.System,
    options: SolverOptions,
    observations: kt.Observations,
    work_size: int,
    y0: Floats,
    steps: Steps,
    part: slice,
) -> Forward:
    """Return a solve over the steps of one segment, ready to run."""
    forward = Forward(
        system,
        options,
        observations,
        options.atol.size,
        work_size,
        keep=False,
        lazy=True,
        tangent_atol=np.zeros(y0.size - system.n),
    )
    # Nothing is in the error norm: with atol = 0 a component at 0 would count as not finite.
    forward.control = native.make_control(
        options, np.full(y0.size, np.inf), np.zeros(y0.size), replay=True, lazy=True
    )
    forward.store = forward.store._replace(
        h=np.ascontiguousarray(steps.h[part]), member=np.ascontiguousarray(steps.member[part])
    )
    forward.reset(y0, float(steps.t[part.start]), float(steps.t[part.stop]))
    return forward
