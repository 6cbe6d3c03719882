"""InterpolatingAdjoint: the adjoint ODE along the stored dense output of the forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from symode.codegen.compiled import NativeModel
from symode.gradients.methods.base import (
    Floats,
    failed_backward,
    make_forward,
)
from symode.gradients.methods.continuous import (
    ContinuousRunner,
    adjoint_control,
    run_backward,
)
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.options import SolverOptions
from symode.solvers.segments import Segment, Stepper
from symode.status import SUCCESS


@dataclass(frozen=True)
class InterpolatingAdjoint:
    r"""Integrate Theorem 1's equations backwards, z(t) read from the forward interpolant.

    .. math:: \dot a_{§1} = -a_{§1} \nabla_{§1} f(z(t), t, \theta), \qquad
              \dot a_{§3} = -a_{§1} \nabla_{§3} f(z(t), t, \theta)

    Stable wherever the forward problem is, since z is never integrated backwards. Accuracy: the
    tolerance of both passes and of the interpolant. Cost: one forward and one backward solve with
    steps of its own. Memory: :math:`8 (S + 1) n + 16` bytes a step. Serves every solver of symode.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k])
    >>> gradient = model.gradient(
    ...     symode.Loss(terminal=x**2), (0, 1), theta=[0.7], z0=[2.0],
    ...     method=symode.InterpolatingAdjoint())
    >>> round(gradient.z0["x"], 6)  # 2 z(t)**2 / z0
    0.986388
    """

    @property
    def name(self) -> str:
        """Short name, as in tables."""
        return "interpolating"

    def prepare(self, task: Task) -> InterpolatingRunner:
        """Compile what the task needs; return the function that computes."""
        return InterpolatingRunner(task.with_switches())


class InterpolatingRunner(ContinuousRunner):
    """An `InterpolatingAdjoint` made ready for one task."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.compiled, self.system = self._build(task.options)
        self.forward = make_forward(
            task, self.compiled, self.system, keep=True, lazy=False, build=self._build,
            takes_events=True,
        )  # fmt: skip
        self.table = task.loss_table()
        self.gradient = task.gradient_arrays()
        self.control = adjoint_control(task, np.empty(0))
        self._scratch: dict[Stepper, kt.Scratch] = {}

    def _build(self, options: SolverOptions) -> tuple[NativeModel, kt.Field]:
        """Return model and system for the method of these options."""
        compiled = self.task.compile(["rhs", "vjp", *options.jacobian_kernels("second")])
        return compiled, self.task.bind(compiled, options.is_stiff)

    def _place(self, segment: Segment) -> tuple[kt.System, kt.Scratch]:
        """Return the adjoint equation along a segment, and memory to integrate it."""
        task, stepper = self.task, segment.stepper
        if stepper not in self._scratch:
            work = stepper.scratch.work.size
            self._scratch[stepper] = native.make_scratch(
                stepper.method, stepper.system, task.n + task.m, work
            )
        adjoint = adjoint_system(stepper.system, stepper.method, segment.store, segment.steps)
        return adjoint, self._scratch[stepper]

    def compute(self, theta: Floats, z0: Floats | None) -> None:
        """Compute value and gradient, see `Runner`."""
        task, forward = self.task, self.forward
        y0 = self.solve(theta, z0)
        y1 = np.concatenate([self.gradient.lam, np.zeros(task.m)])
        status, t, self.backward = run_backward(
            task, forward, self._place, self.control, self.gradient, self.table, theta, y1, 0,
            np.ones(task.n),
        )  # fmt: skip
        if status != SUCCESS:
            raise failed_backward(
                task, t, status,
                "Tighten the tolerances, or use DiscreteAdjoint, which takes no steps of its own.",
            )  # fmt: skip
        self.close(y0, z0)

    def stats(self) -> dict[str, object]:
        """Return what the last call cost."""
        return {
            "method": "interpolating",
            "forward": self.forward.stats,
            "backward": self.backward,
        }


def adjoint_system(system: kt.System, method: kt.Method, store: kt.Store, steps: int) -> kt.Adjoint:
    """Return the adjoint equation along the stored trajectory of a method.

    The steps become polynomials, in place.
    """
    from symode.kernels.dense import as_polynomials

    rows = np.empty((method.dense.shape[1], store.z.shape[1]))
    as_polynomials(method, store, steps, np.empty(method.n_dense), rows)
    adjoint: kt.Adjoint = kt.ADJOINT_OF[type(method)](
        *native.field_of(system), method, store, steps
    )
    return adjoint
