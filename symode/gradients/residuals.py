"""Residuals: the observations of a loss as a vector, with their exact Jacobian."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.equations.equations import Equations
from symode.equations.loss import LossLike
from symode.equations.values import vector
from symode.equations.walk import symbols_in
from symode.errors import GradientError, LossError, ParameterError
from symode.gradients.jumps import push_jumps
from symode.gradients.mass import slopes_in_theta
from symode.gradients.methods.base import begin, failed_forward, make_forward
from symode.gradients.methods.finder import JumpFinder
from symode.gradients.setup import make_task
from symode.gradients.tangents import bind_tangents, tangent_kernels
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.options import SolverOptions
from symode.status import SUCCESS

Floats = NDArray[np.float64]


class Residuals:
    r"""The observations :math:`\ell_k` of a loss and :math:`d\ell_k/d\theta`, one row for each.

    .. math:: \frac{d\ell_k}{d\theta_j} = \frac{\partial\ell_k}{\partial z}
              \Bigl(\frac{\partial z}{\partial\theta_j}\Bigr)(t_k)
              + \frac{\partial\ell_k}{\partial\theta_j}

    One forward pass with a tangent for each parameter that the dynamics or the initial values
    contain, which starts at :math:`\partial z_0/\partial\theta_j`; all are in the error norm.
    Compiled once, called often, from several threads.

    Parameters
    ----------
    equations
        Model with initial values.
    loss
        A loss of observations alone.
    wrt
        Names of parameters; all of them by default.
    t0, t1
        Span. t1 defaults to the last observation.
    shared
        Residuals of the same equations and expressions at other times, whose kernels serve these.
    solver, rtol, atol, max_steps, h_max
        As in `Model.solve`.

    Raises
    ------
    LossError
        When the loss has other terms than observations.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    >>> residuals = Residuals(model.equations, symode.Loss(observations={1.0: x, 2.0: x - k}))
    >>> values, jacobian = residuals([0.7])
    >>> values.round(6).tolist(), jacobian.round(6).tolist()
    ([0.993171, -0.206806], [[-0.993171], [-1.986388]])
    """

    def __init__(
        self,
        equations: Equations,
        loss: LossLike,
        wrt: Sequence[str] | None = None,
        *,
        t0: float = 0.0,
        t1: float | None = None,
        shared: Residuals | None = None,
        **options: Any,
    ) -> None:
        self.task = make_task(equations, loss, (t0, t1), from_initial=True, **options)
        if shared is not None:
            self.task = shared.task.sharing_kernels_with(self.task)
        resolved = self.task.loss
        if resolved.terminal is not None or resolved.running is not None:
            raise LossError("Residuals are observations: leave terminal= and running= out.")
        names = equations.parameter_names
        self.wrt = names if wrt is None else tuple(wrt)
        self.columns = np.array([names.index(name) for name in self.wrt], dtype=np.intp)
        self._local = threading.local()

    def __call__(self, theta: Any) -> tuple[Floats, Floats]:
        """Return the values, shape ``(K,)``, and their Jacobian, shape ``(K, len(wrt))``.

        Raises
        ------
        SolverError
            When the solve fails.
        GradientError
            When an observation or a derivative is not finite.
        """
        names = self.task.equations.parameter_names
        return self.compute(vector(theta, names, "parameters", ParameterError))

    def compute(self, theta: Floats) -> tuple[Floats, Floats]:
        """Return the same at parameters that are known to be an array of m finite numbers."""
        runner: _Runner | None = getattr(self._local, "runner", None)
        if runner is None:
            runner = self._local.runner = _Runner(self.task, self.columns)
        return runner(theta)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the machine code."""
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore; the runner is made on first use."""
        self.__dict__.update(state)
        self._local = threading.local()


class _Runner:
    """What one thread needs to compute residuals."""

    def __init__(self, task: Task, columns: NDArray[np.intp]) -> None:
        equations = task.equations
        assert equations.initial is not None
        self.task, self.columns = task, columns
        # A parameter of the observations alone (such as a spread) moves no trajectory.
        in_initial = set(symbols_in(equations.initial))
        moving = in_initial | set(symbols_in(equations.rhs))
        for event in equations.events:
            values = (value for _, value in event.assignments)
            moving |= set(symbols_in([event.trigger, *values]))
        self.start_depends = any(equations.parameters[j] in in_initial for j in columns)
        self.moving = np.array(
            [i for i, j in enumerate(columns) if equations.parameters[j] in moving], dtype=np.intp
        )
        self.directions = np.zeros((self.moving.size, task.m))
        self.directions[np.arange(self.moving.size), columns[self.moving]] = 1.0
        self.compiled, tangents = self._build(task.options)
        self.forward = make_forward(
            task,
            self.compiled,
            tangents,
            keep=False,
            lazy=True,
            takes_mass=True,
            takes_events=True,
            tangent_atol=np.zeros(task.n * self.moving.size),
            build=self._build,
        )
        self.finder = JumpFinder(task, self._build, columns.tolist())
        self.system = native.field_of(tangents)
        self.table = task.loss_table()
        self.values = np.zeros(task.times.size)
        self.dtheta = np.zeros((task.times.size, task.m))

    def _build(self, options: SolverOptions) -> tuple[NativeModel, kt.Tangents]:
        task = self.task
        names = tangent_kernels(task, self.directions)
        compiled = task.compile(["rhs", *names, *options.jacobian_kernels("djac")])
        return compiled, bind_tangents(task, compiled, options.is_stiff, self.directions)

    def __call__(self, theta: Floats) -> tuple[Floats, Floats]:
        from symode.kernels.observe import observe

        task, forward, n = self.task, self.forward, self.task.n
        y0 = begin(task, forward, self.compiled, theta, None)
        scale = np.abs(theta[self.columns[self.moving]])
        scale[scale == 0.0] = 1.0
        forward.control.atol[n:] = (task.options.atol / scale[:, None]).ravel()
        start = self._start(y0)
        jumps = self.finder(theta, None)
        forward.reset(np.concatenate([y0, start.ravel()]), task.t0, task.t1)
        status = push_jumps(forward, jumps, self.directions) if jumps else forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        observe(
            self.system, forward.observations, self.table, forward.scratch, self.values, self.dtheta
        )
        tangents = forward.observations.y[:, n:].reshape(task.times.size, self.moving.size, n)
        jacobian = self.dtheta[:, self.columns]
        jacobian[:, self.moving] += np.einsum("kqn,kn->kq", tangents, self.table.seeds)
        self._check(jacobian)
        values, rows = np.empty_like(self.values), np.empty_like(jacobian)
        values[task.places], rows[task.places] = self.values, jacobian
        return values, rows

    def _start(self, y0: Floats) -> Floats:
        """Return ∂z0/∂theta of the moving parameters. Shape ``(q, n)``."""
        task, n = self.task, self.task.n
        start, p = np.zeros((self.moving.size, n)), self.forward.system.p
        if self.start_depends:
            rows = [self.compiled.call("initial_vjp", task.t0, y0, p, unit) for unit in np.eye(n)]
            start = np.ascontiguousarray(np.array(rows)[:, self.columns[self.moving]].T)
        point = self.forward.start
        if point is None:
            return start
        along = slopes_in_theta(task, self.compiled, p, point)[self.columns[self.moving]]
        return np.array([point.push(*row) for row in zip(start, along, strict=True)])

    def _check(self, jacobian: Floats) -> None:
        finite = np.isfinite(self.values) & np.isfinite(jacobian).all(axis=1)
        if finite.all():
            return
        k = int(np.flatnonzero(~finite)[0])
        expression = self.task.loss.groups[self.table.group[k]].expression
        raise GradientError(
            f"The observation {expression} at t = {self.task.times[k]:g} or its derivative is not "
            "finite on this trajectory. Look for a logarithm, root or division that meets zero or "
            "negative values."
        )
