"""ForwardSensitivity: tangents of the trajectory, integrated with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from symode.gradients.methods.base import (
    Floats,
    Runner,
    begin,
    check_finite,
    check_loss,
    failed_forward,
    make_forward,
)
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.status import SUCCESS


@dataclass(frozen=True)
class ForwardSensitivity:
    r"""Integrate :math:`S = \partial z/\partial(\theta, z_0)` along with z.

    .. math:: \dot S_j = \nabla_{§1} f\, S_j + \nabla_{§3} f\, d_j

    One tangent per parameter and initial value, all in the error norm with
    :math:`\mathrm{atol}_i / |\theta_j|`; a Rosenbrock step shares its factorization between z and
    the tangents. Cost grows with m + n; memory does not grow with the number of steps. Serves
    every solver of symode, and gives the Jacobian of residuals for least squares.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k])
    >>> gradient = model.gradient(
    ...     symode.Loss(terminal=x**2), (0, 1), theta=[0.7], z0=[2.0],
    ...     method=symode.ForwardSensitivity())
    >>> round(gradient.theta["k"], 6)
    -1.972776
    """

    @property
    def name(self) -> str:
        """Short name, as in tables."""
        return "forward"

    def prepare(self, task: Task) -> SensitivityRunner:
        """Compile what the task needs; return the function that computes."""
        return SensitivityRunner(task)


class SensitivityRunner(Runner):
    """A `ForwardSensitivity` made ready for one task."""

    def __init__(self, task: Task) -> None:
        implicit = task.options.is_stiff
        names = ["rhs", "jvp", *task.options.jacobian_kernels("djac")]
        self.task = task
        self.compiled = task.compile(names)
        self.system = task.bind(self.compiled, implicit)
        states = task.equations.n_states
        self.directions = np.vstack([np.eye(task.m), np.zeros((states, task.m))])
        tangents = kt.Tangents(*self.system, self.directions)
        self.forward = make_forward(
            task,
            self.compiled,
            tangents,
            keep=False,
            lazy=True,
            tangent_atol=np.zeros(task.n * (task.m + states)),
            weight=np.zeros(task.n * (1 + task.m + states)) if task.n > states else None,
        )
        self.table = task.loss_table()
        self.gradient = task.gradient_arrays()

    def solve(self, theta: Floats, z0: Floats | None) -> Floats:
        """Run the forward pass with tangents; return the state at t0."""
        task, forward, states = self.task, self.forward, self.task.equations.n_states
        y0 = begin(task, forward, self.compiled, theta, z0)
        scale = np.abs(np.concatenate([theta, y0[:states]]))
        scale[scale == 0.0] = 1.0
        atol = forward.control.atol[task.n :].reshape(-1, task.n)
        atol[:, :states] = task.options.atol / scale[:, None]
        if task.n > states:
            # Tangents of a quadrature are held to rtol together, in the scaled norm.
            atol[:, states:] = np.inf
            weight = forward.control.weight[task.n :].reshape(-1, task.n)
            weight[:, states:] = scale[:, None]
        start = np.zeros((task.m + states, task.n))
        start[task.m :, :states] = np.eye(states)
        forward.reset(np.concatenate([y0, start.ravel()]), task.t0, task.t1)
        status = forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        return y0

    def tangents(self) -> Floats:
        """Return the tangents at the observations. Shape ``(K, m + n, n)``."""
        y = self.forward.observations.y
        return y[:, self.task.n :].reshape(y.shape[0], self.directions.shape[0], self.task.n)

    def compute(self, theta: Floats, z0: Floats | None) -> None:
        """Compute value and gradient, see `Runner`."""
        from symode.kernels.gradient import close_gradient, loss_value

        task, forward, gradient = self.task, self.forward, self.gradient
        y0 = self.solve(theta, z0)
        loss_value(self.system, forward.observations, self.table, forward.scratch, gradient)
        check_loss(task, gradient, self.table)
        final = forward.scratch.y[task.n :].reshape(-1, task.n)
        total = final @ gradient.lam
        after = slice(self.table.n_start, None)
        total += np.einsum("kqn,kn->q", self.tangents()[after], self.table.seeds[after])
        gradient.theta[:] += total[: task.m]
        gradient.lam[: task.equations.n_states] = total[task.m :]
        # The adjoint of the running cost's integral is 1 at all times.
        gradient.lam[task.equations.n_states :] = 1.0
        close_gradient(self.system, self.table, task.t0, y0, forward.scratch, gradient, z0 is None)
        check_finite(task, gradient)

    def stats(self) -> dict[str, object]:
        """Return what the last call cost."""
        return {"method": "forward", "forward": self.forward.stats}
