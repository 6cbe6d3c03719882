"""The value of a loss alone: where it has no derivative, it still has a value."""

from __future__ import annotations

import math

from symode.codegen.compiled import NativeModel
from symode.errors import GradientError
from symode.gradients.methods.base import Floats, begin, failed_forward, make_forward
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.solvers.options import SolverOptions
from symode.status import SUCCESS


class ValueRunner:
    """J of one task, by one solve forwards; with the kernels of its discrete adjoint.

    Parameters
    ----------
    task
        What to compute.
    """

    def __init__(self, task: Task) -> None:
        self.task = task = task.with_switches()
        self.compiled, self.system = self._build(task.options)
        self.forward = make_forward(
            task, self.compiled, self.system, keep=True, lazy=True, takes_mass=True,
            takes_events=True, build=self._build,
        )  # fmt: skip
        self.table, self.gradient = task.loss_table(), task.gradient_arrays()

    def _build(self, options: SolverOptions) -> tuple[NativeModel, kt.Field]:
        task = self.task
        compiled = task.compile(["rhs", "vjp", *options.jacobian_kernels("second")])
        return compiled, task.bind(compiled, options.is_stiff)

    def __call__(self, theta: Floats, z0: Floats | None) -> float:
        """Return J.

        Raises
        ------
        SolverError
            When the solve fails.
        GradientError
            Where a terminal event ends it before an observation, or J is not finite.
        """
        from symode.kernels.gradient import loss_value

        task, forward = self.task, self.forward
        forward.reset(begin(task, forward, self.compiled, theta, z0), task.t0, task.t1)
        status = forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        loss_value(self.system, forward.observations, self.table, forward.scratch, self.gradient)
        value = float(self.gradient.scalars[kt.VALUE])
        ended = forward.events is not None and forward.events.ended
        if (ended and (task.times > forward.t).any()) or not math.isfinite(value):
            raise GradientError(
                f"J is {value:.6g}, and the solve ended at t = {forward.t:.10g}: not every "
                "observation has a value there. Observe before the end, or move the parameters."
            )
        return value
