"""BacksolveAdjoint: the note's method, z integrated backwards together with its adjoint."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np

from symode.codegen.compiled import NativeModel
from symode.errors import DriftError, OptionError
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

#: Drift, in units of the forward tolerance at the state's largest size, that is still an honest
#: result. Well-posed spans measure 0.01 to 10; the 0-d Brusselator at 76 was 100 rtol wrong.
DRIFT_LIMIT = 30.0


@dataclass(frozen=True)
class BacksolveAdjoint:
    r"""Integrate the augmented system q = (z, a§1ᵀ, a§3ᵀ) from t1 back to t0.

    .. math:: \dot q = (f,\; -(\nabla_{§1} f)^\top a_{§1}^\top,\; -(\nabla_{§3} f)^\top a_{§1}^\top)

    The method of Chen et al. (2018). Memory does not grow with the number of steps. Integrating z
    backwards is unstable wherever the forward problem contracts, so z is restarted from its known
    value at each observation, and compared with it there and at t0.

    Parameters
    ----------
    on_drift
        ``"raise"`` a `DriftError` when the reconstructed z leaves the forward solution by more
        than the tolerance allows, or ``"warn"`` to look at the result anyway.

    References
    ----------
    Chen, Rubanova, Bettencourt & Duvenaud (2018), *Neural Ordinary Differential Equations*,
    algorithm 1; Khungurn (2022), Theorem 1.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k])
    >>> gradient = model.gradient(
    ...     symode.Loss(terminal=x**2), (0, 1), theta=[0.7], z0=[2.0],
    ...     method=symode.BacksolveAdjoint())
    >>> round(gradient.theta["k"], 6)
    -1.972776
    """

    on_drift: Literal["raise", "warn"] = "raise"

    def __post_init__(self) -> None:
        if self.on_drift not in ("raise", "warn"):
            raise OptionError(f"on_drift must be 'raise' or 'warn'; got {self.on_drift!r}.")

    @property
    def name(self) -> str:
        """Short name, as in tables."""
        return "backsolve"

    def prepare(self, task: Task) -> BacksolveRunner:
        """Compile what the task needs; return the function that computes."""
        return BacksolveRunner(task.with_switches(), self.on_drift)


class BacksolveRunner(ContinuousRunner):
    """A `BacksolveAdjoint` made ready for one task."""

    def __init__(self, task: Task, on_drift: str) -> None:
        self.task, self.on_drift = task, on_drift
        self.compiled, self.system = self._build(task.options)
        self.forward = make_forward(
            # Events are looked for on kept steps.
            task, self.compiled, self.system, keep=task.events is not None, lazy=True,
            build=self._build, takes_events=True,
        )  # fmt: skip
        states = task.equations.n_states
        atol = np.concatenate([task.options.atol, np.full(task.n - states, np.inf)])
        self.control = adjoint_control(task, atol)
        self._augmented: dict[Stepper, tuple[kt.System, kt.Scratch]] = {}
        self.table = task.loss_table()
        self.gradient = task.gradient_arrays()

    def _build(self, options: SolverOptions) -> tuple[NativeModel, kt.Field]:
        """Return model and system for the method of these options."""
        jac = options.jacobian_kernels()
        compiled = self.task.compile(["rhs", *jac], ["rhs", *jac])
        return compiled, self.task.bind(compiled, options.is_stiff)

    def _place(self, segment: Segment) -> tuple[kt.System, kt.Scratch]:
        """Return the augmented system for the method of a segment, and memory to integrate it."""
        stepper, whole = segment.stepper, self.task.augmented
        if stepper not in self._augmented:
            compiled = stepper.compiled or self.compiled
            # f may be free of states where the augmented system is not: ask the method alone.
            stiff = self.task.options.with_method(stepper.tableau.name).is_stiff
            pattern = native.native_pattern(whole if stiff else None)
            system = native.make_field(
                compiled, whole.n_states, stepper.system.p, pattern, "augmented_", m=self.task.m
            )
            scratch = native.make_scratch(
                stepper.method, system, whole.n_states, compiled.work_size
            )
            self._augmented[stepper] = system, scratch
        return self._augmented[stepper]

    def compute(self, theta: Floats, z0: Floats | None) -> None:
        """Compute value and gradient, see `Runner`."""
        task, forward = self.task, self.forward
        y0 = self.solve(theta, z0)
        y1 = np.concatenate([forward.scratch.y, self.gradient.lam, np.zeros(task.m)])
        states = task.equations.n_states
        peak = np.maximum(np.abs(y0), forward.scratch.peak[: task.n])
        allowed = task.options.rtol * peak
        allowed[:states] += task.options.atol
        allowed[states:] = np.inf
        status, t, backward = run_backward(
            task, forward, self._place, self.control, self.gradient, self.table, theta, y1, task.n,
            np.maximum(allowed, 1e-300),
        )  # fmt: skip
        drift = float(self.gradient.scalars[kt.DRIFT])
        if status != SUCCESS:
            raise failed_backward(
                task, t, status,
                "Integrating z backwards is unstable here. Use DiscreteAdjoint or "
                "InterpolatingAdjoint.",
            )  # fmt: skip
        if not drift <= DRIFT_LIMIT:
            message = (
                f"The state reconstructed backwards from t = {task.t1:g} differs from the forward "
                f"solution by {drift:.3g} times the tolerance (limit {DRIFT_LIMIT:g}), so the "
                "gradient cannot be trusted: backwards in time this problem amplifies errors. Use "
                "DiscreteAdjoint or InterpolatingAdjoint, or tighten rtol."
            )
            if self.on_drift == "raise":
                raise DriftError(message)
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        self.backward, self.drift = backward, drift
        self.close(y0, z0)

    def stats(self) -> dict[str, object]:
        """Return what the last call cost."""
        return {
            "method": "backsolve",
            "forward": self.forward.stats,
            "backward": self.backward,
            "drift": self.drift,
        }
