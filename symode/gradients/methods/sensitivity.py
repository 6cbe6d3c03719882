"""ForwardSensitivity: tangents of the trajectory, integrated with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from symode.codegen.compiled import NativeModel
from symode.gradients.jumps import push_jumps, slopes_at_observations
from symode.gradients.mass import add_ends, slopes_in_theta
from symode.gradients.methods.base import (
    Floats,
    Runner,
    begin,
    check_finite,
    check_loss,
    failed_forward,
    make_forward,
)
from symode.gradients.methods.finder import JumpFinder
from symode.gradients.tangents import bind_tangents, tangent_kernels
from symode.gradients.task import Task
from symode.gradients.unlocated import refuse_jumps
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.options import SolverOptions
from symode.status import SUCCESS


@dataclass(frozen=True)
class ForwardSensitivity:
    r"""Integrate :math:`S = \partial z/\partial(\theta, z_0)` along with z.

    .. math:: \dot S_j = \nabla_{§1} f\, S_j + \nabla_{§3} f\, d_j

    One tangent per parameter and initial value that is asked for, all in the error norm with
    :math:`\mathrm{atol}_i / |\theta_j|`; a Rosenbrock step shares its factorization between z and
    the tangents. Cost grows with their number; memory does not grow with the number of steps.
    Serves every solver of symode, and gives the Jacobian of residuals for least squares.

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
        return SensitivityRunner(task.with_switches())


class SensitivityRunner(Runner):
    """A `ForwardSensitivity` made ready for one task.

    The tangents are those of the parameters asked for, then of the initial values, then of t0.
    Where all initial values are among them, the derivatives through z0(theta, t0) and in t0 are
    combinations of theirs; otherwise each tangent starts at what moves z0.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        states, count = task.equations.n_states, task.n_directions
        self.complete = len(task.asked.z0) == states
        self.directions = np.zeros((count, task.m))
        self.directions[: task.m] = np.eye(task.m)
        self.compiled, tangents = self._build(task.options)
        self.system = native.field_of(tangents)
        self.forward = make_forward(
            task,
            self.compiled,
            tangents,
            keep=False,
            lazy=True,
            takes_mass=True,
            takes_events=True,
            tangent_atol=np.zeros(task.n * count),
            weight=np.zeros(task.n * (1 + count)) if task.n > states else None,
            build=self._build,
        )
        self.finder = JumpFinder(task, self._build)
        self.table = task.loss_table()
        self.gradient = task.gradient_arrays()

    def _build(self, options: SolverOptions) -> tuple[NativeModel, kt.Tangents]:
        """Return model and system for the method of these options."""
        task = self.task
        names = tangent_kernels(task, self.directions)
        compiled = task.compile(["rhs", *names, *options.jacobian_kernels("djac")])
        return compiled, bind_tangents(task, compiled, options.is_stiff, self.directions)

    def solve(self, theta: Floats, z0: Floats | None) -> Floats:
        """Run the forward pass with tangents; return the state at t0."""
        task, forward, states = self.task, self.forward, self.task.equations.n_states
        refuse_jumps(task, theta, z0)
        y0 = begin(task, forward, self.compiled, theta, z0)
        scale = np.ones(task.n_directions)
        both = np.concatenate([task.chosen(theta), y0[list(task.asked.z0)]])
        scale[: both.size] = np.abs(both)
        scale[both.size :] = abs(task.t1 - task.t0)
        scale[scale == 0.0] = 1.0
        atol = forward.control.atol[task.n :].reshape(-1, task.n)
        atol[:, :states] = task.options.atol / scale[:, None]
        if task.n > states:
            # Tangents of a quadrature are held to rtol together, in the scaled norm.
            atol[:, states:] = np.inf
            weight = forward.control.weight[task.n :].reshape(-1, task.n)
            weight[:, states:] = scale[:, None]
        jumps = self.finder(theta, z0)
        forward.enter_modes(self.finder.opening)
        start = self._start(y0, z0 is None)
        forward.reset(np.concatenate([y0, start.ravel()]), task.t0, task.t1)
        status = push_jumps(forward, jumps, self.directions) if jumps else forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        return y0

    def _start(self, y0: Floats, from_initial: bool) -> Floats:
        """Return the tangents at t0. Shape ``(directions, n)``."""
        task, p = self.task, self.forward.system.p
        start = np.zeros((task.n_directions, task.n))
        places = np.array(task.asked.z0, dtype=np.int64)
        start[task.m + np.arange(places.size), places] = 1.0
        if self.complete:
            return self._consistent(start)
        self.initial = self.pullback(y0, from_initial)
        start[: task.m] = self.initial[: task.m]
        if task.mass is not None:
            if task.asked.t0:
                start[-1] = self.initial[task.m]
            return self._consistent(start)
        if task.asked.t0:
            start[-1] = self.initial[task.m] - self.compiled.call("rhs", task.t0, y0, p)
        return start

    def _consistent(self, start: Floats) -> Floats:
        """Return the tangents of the consistent values; those of z0 as given are in start."""
        task, point = self.task, self.forward.start
        if point is None:
            return start
        along = np.zeros_like(start)
        along[: task.m] = slopes_in_theta(task, self.compiled, self.forward.system.p, point)
        apart = task.asked.t0 and not self.complete
        if apart:
            along[-1] = point.f_t
        self.given = np.array([point.push(*row) for row in zip(start, along, strict=True)])
        start = self.given.copy()
        if apart:
            start[-1] -= point.slope()
        return start

    def pullback(self, y0: Floats, from_initial: bool) -> Floats:
        """Return ∂z0/∂theta and ∂z0/∂t0, zero where z0 is given. Shape ``(m + 1, n)``."""
        task, p = self.task, self.forward.system.p
        result = np.zeros((task.m + 1, task.n))
        if from_initial:
            for i, unit in enumerate(np.eye(task.n)[: task.equations.n_states]):
                result[:, i] = self.compiled.call("initial_vjp", task.t0, y0, p, unit)
        return result

    def tangents(self) -> Floats:
        """Return the tangents at the observations. Shape ``(K, directions, n)``."""
        y = self.forward.observations.y
        return y[:, self.task.n :].reshape(y.shape[0], self.directions.shape[0], self.task.n)

    def compute(self, theta: Floats, z0: Floats | None) -> None:
        """Compute value and gradient, see `Runner`."""
        from symode.kernels.gradient import close_gradient, loss_value

        task, forward, gradient = self.task, self.forward, self.gradient
        y0 = self.solve(theta, z0)
        loss_value(self.system, forward.observations, self.table, forward.scratch, gradient)
        check_loss(task, gradient, self.table)
        slopes_at_observations(task, forward, self.table)
        forward.enter_modes(self.finder.opening)
        final = forward.scratch.y[task.n :].reshape(-1, task.n)
        total = final @ gradient.lam
        after = slice(self.table.n_start, None)
        total += np.einsum("kqn,kn->q", self.tangents()[after], self.table.seeds[after])
        gradient.theta[:] += total[: task.m]
        if task.mass is not None:
            self._close_with_mass(total[task.m :], z0 is None)
            return
        if not self.complete:
            self._close(total[task.m :])
            return
        gradient.lam[list(task.asked.z0)] = total[task.m :]
        # The adjoint of a running cost's integral stays what it is at t1.
        close_gradient(self.system, self.table, task.t0, y0, forward.scratch, gradient, z0 is None)
        check_finite(task, gradient)

    def _close_with_mass(self, total: Floats, from_initial: bool) -> None:
        """Close the gradient of a model with a mass matrix; total is that of z0 and t0."""
        task, gradient, forward, p = self.task, self.gradient, self.forward, self.forward.system.p
        point, states, m, scalars = forward.start, task.equations.n_states, task.m, gradient.scalars
        assert point is not None
        z1 = forward.scratch.y[: task.n].copy()
        add_ends(task, self.compiled, p, forward.observations, self.table, gradient, z1)
        at_start = self.table.seeds[: self.table.n_start].sum(axis=0)
        moved = self.given @ at_start
        gradient.theta[:] += moved[:m]
        places, lam = list(task.asked.z0), gradient.lam
        lam[:states] = np.nan
        lam[places] = total[: len(places)]
        if self.complete:
            scalars[kt.DT0] -= lam @ point.slope()
            lam[places] += moved[m:]
            scalars[kt.DT0] += at_start @ point.push(np.zeros(task.n), point.f_t)
            if from_initial:
                through = self.compiled.call("initial_vjp", task.t0, point.z, p, lam)
                gradient.theta[:] += through[:m]
                scalars[kt.DT0] += through[m]
        else:
            lam[places] += moved[m : m + len(places)]
            scalars[kt.DT0] += total[-1] + moved[-1] if task.asked.t0 else np.nan
        found = scalars[kt.VALUE] + lam[places].sum() + gradient.theta.sum()
        scalars[kt.CHECK] = 0.0 * found
        check_finite(task, gradient)

    def _close(self, total: Floats) -> None:
        """Close a gradient without the whole of dJ/dz0; total is that of z0 and t0."""
        task, gradient = self.task, self.gradient
        at_start = self.table.seeds[: self.table.n_start].sum(axis=0)
        places = list(task.asked.z0)
        gradient.lam[:] = 0.0
        gradient.lam[places] = total[: len(places)] + at_start[places]
        gradient.theta[:] += self.initial[: task.m] @ at_start
        scalars = gradient.scalars
        if task.asked.t0:
            scalars[kt.DT0] += total[-1] + self.initial[task.m] @ at_start
        scalars[kt.CHECK] = 0.0 * (scalars[kt.VALUE] + gradient.lam.sum() + gradient.theta.sum())
        check_finite(task, gradient)
        unasked = np.ones(task.n, dtype=bool)
        unasked[places] = False
        gradient.lam[unasked] = np.nan
        if not task.asked.t0:
            scalars[kt.DT0] = np.nan

    @property
    def one_sided(self) -> tuple[str, ...]:
        """Where J has a kink, see `Runner`."""
        return self.finder.one_sided

    def stats(self) -> dict[str, object]:
        """Return what the last call cost."""
        return {"method": "forward", "forward": self.forward.stats}
