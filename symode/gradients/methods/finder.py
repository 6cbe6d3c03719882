"""JumpFinder: where the events of a pass with tangents are, found by a solve without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from symode.codegen.compiled import NativeModel
from symode.gradients.jumps import check_jumps
from symode.gradients.methods.base import Floats, begin, failed_forward, make_forward
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.forward import Build, Forward
from symode.solvers.jumps import EventJump
from symode.solvers.options import SolverOptions
from symode.status import SUCCESS


class JumpFinder:
    """Find the jumps of a task's events.

    Parameters
    ----------
    task
        What is solved.
    build
        Compiles model and system of the pass with tangents.
    places
        Parameters that the tangents are of: no other moves an event. All by default.
    """

    def __init__(self, task: Task, build: Build, places: Sequence[int] | None = None) -> None:
        self.task, self.build, self.places = task, build, places
        self.forward: Forward | None = None
        self.compiled: NativeModel | None = None
        #: Modes of f at t0, for the pass with tangents.
        self.opening: Floats = np.empty(0)

    def __call__(self, theta: Floats, z0: Floats | None) -> list[EventJump]:
        """Return what happens on the way, in order.

        Raises
        ------
        SolverError
            When the solve fails.
        GradientError
            When the result has no derivative through what fired.
        """
        task = self.task
        if task.events is None:
            return []
        if self.forward is None or self.compiled is None:
            self.compiled, system = self._plain(task.options)
            self.forward = make_forward(
                task, self.compiled, system, keep=True, lazy=True, takes_events=True,
                build=self._plain,
            )  # fmt: skip
            assert self.forward.events is not None
            if self.places is not None:
                run = self.forward.events
                run.functions = run.functions.moved_by(self.places)
        y0 = begin(task, self.forward, self.compiled, theta, z0)
        self.forward.reset(y0, task.t0, task.t1)
        status = self.forward.run()
        if status != SUCCESS:
            raise failed_forward(task, self.forward, status)
        assert self.forward.events is not None
        check_jumps(task, self.forward.events, at_start=False, ends=False)
        self.opening = self.forward.events.opening
        return self.forward.events.jumps

    @property
    def one_sided(self) -> tuple[str, ...]:
        """Where J has a kink, see `Runner`."""
        events = None if self.forward is None else self.forward.events
        return () if events is None else events.one_sided

    def _plain(self, options: SolverOptions) -> tuple[NativeModel, kt.Field]:
        compiled, tangents = self.build(options)
        field = native.field_of(tangents)
        return compiled, field._replace(p=field.p.copy())
