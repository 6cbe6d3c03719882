"""What computes residuals: one compiled call where it can be, else driven from Python."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.equations.walk import symbols_in
from symode.errors import GradientError
from symode.gradients.jumps import push_jumps
from symode.gradients.mass import slopes_in_theta
from symode.gradients.methods.base import begin, failed_forward, make_forward
from symode.gradients.methods.finder import JumpFinder
from symode.gradients.tangents import bind_tangents, tangent_kernels
from symode.gradients.task import Task
from symode.gradients.unlocated import Jumps, refuse_jumps
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.options import SolverOptions
from symode.solvers.segments import Stepper
from symode.solvers.tableau import ExplicitTableau, RosenbrockTableau
from symode.status import SUCCESS, SWITCH

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ResidualRunner:
    """What one thread needs to compute residuals, with steps driven from Python."""

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
        """Return values and Jacobian in the order of the observations given."""
        from symode.kernels.observe import observe

        task, forward, n = self.task, self.forward, self.task.n
        refuse_jumps(task, theta, None)
        y0 = begin(task, forward, self.compiled, theta, None)
        scale = np.abs(theta[self.columns[self.moving]])
        scale[scale == 0.0] = 1.0
        forward.control.atol[n:] = (task.options.atol / scale[:, None]).ravel()
        start = self._start(y0)
        jumps = self.finder(theta, None)
        forward.enter_modes(self.finder.opening)
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
        if not finite.all():
            raise self._undefined(int(np.flatnonzero(~finite)[0]))

    def _undefined(self, k: int) -> GradientError:
        expression = self.task.loss.groups[self.table.group[k]].expression
        return GradientError(
            f"The observation {expression} at t = {self.task.times[k]:g} or its derivative is not "
            "finite on this trajectory. Look for a logarithm, root or division that meets zero or "
            "negative values."
        )


class CompiledRunner(ResidualRunner):
    """The same in one compiled call; only a change of the method comes back to Python.

    Parameters
    ----------
    task
        What is solved.
    columns
        Parameters of the Jacobian's columns.
    theta, values, jacobian, tries
        Memory for the parameters, the results and the number of steps tried, where the caller of
        the entry wants them in its own: shapes ``(n_parameters,)``, ``(K,)``, ``(K, w)``, ``(1,)``.
    """

    def __init__(
        self,
        task: Task,
        columns: NDArray[np.intp],
        theta: Floats | None = None,
        values: Floats | None = None,
        jacobian: Floats | None = None,
        tries: Ints | None = None,
    ) -> None:
        super().__init__(task, columns)
        sizes = task.times.size, columns.size
        self.theta = np.zeros(task.equations.n_parameters) if theta is None else theta
        self.results = np.zeros(sizes[0]) if values is None else values
        self.jacobian = np.zeros(sizes) if jacobian is None else jacobian
        self.tries = np.zeros(1, dtype=np.int64) if tries is None else tries
        self._bound: dict[int, Any] = {}
        self._fresh = 1

    def bound(self) -> Any:
        """Return the entry of the method that is up, a `BoundResiduals`."""
        from symode.kernels.residuals import BoundResiduals, Residuals

        stepper: Stepper = self.forward.stepper
        key = id(stepper)
        if key not in self._bound:
            task = self.task
            arguments = Residuals(
                float(task.t0), float(task.t1), bool(self.start_depends), self.theta,
                self.columns.astype(np.int64), self.moving.astype(np.int64),
                np.ascontiguousarray(task.options.atol), task.places.astype(np.int64),
                self.results, self.jacobian, self.tries,
            )  # fmt: skip
            self._bound[key] = BoundResiduals(
                stepper.method, stepper.system, stepper.control, self.forward.store,
                self.forward.observations, self.table, stepper.scratch, arguments,
            )  # fmt: skip
        return self._bound[key]

    def first(self) -> Any:
        """Return the entry that begins a solve."""
        self.forward.rewind(self.task.t0)
        return self.bound()

    def switched(self, table: int) -> Any:
        """Change the method of a solve whose entry asks for it; return the entry that goes on.

        ``table`` is that of the entry. Compiled callers begin solves without a word here: the first
        method in its first segment tells that this is another solve than the last.
        """
        first = self.forward.steppers[0]
        if table == self._bound[id(first)].table and not first.scratch.count[kt.EARLIER]:
            self.forward.rewind(self.task.t0)
        self.forward.switch()
        return self.bound()

    def __call__(self, theta: Floats) -> tuple[Floats, Floats]:
        """Return values and Jacobian in the order of the observations given."""
        self.theta[:] = theta
        entry, self._fresh = self.first(), 1

        def enter(budget: int) -> int:
            fresh, self._fresh = self._fresh, 0
            return int(entry(budget, fresh))

        while (status := self.forward.driver.run(enter)) == SWITCH:
            entry = self.switched(entry.table)
        if status != SUCCESS:
            raise self.failure(status)
        return self.results.copy(), self.jacobian.copy()

    def failure(self, status: int) -> Exception:
        """Return the error of a call that did not succeed."""
        from symode.kernels.residuals import NOT_DEFINED

        if status != NOT_DEFINED:
            return failed_forward(self.task, self.forward, status)
        bad = ~(np.isfinite(self.results) & np.isfinite(self.jacobian).all(axis=1))
        return self._undefined(int(np.flatnonzero(bad[self.task.places])[0]))


def make_runner(task: Task, columns: NDArray[np.intp]) -> ResidualRunner:
    """Return what computes the residuals of a task."""
    kind = CompiledRunner if is_compiled(task) else ResidualRunner
    return kind(task.with_switches(), columns)


def is_compiled(task: Task) -> bool:
    """Whether all of a task's residuals come from one compiled call."""
    return (
        isinstance(task.options.tableau, ExplicitTableau | RosenbrockTableau)
        and task.equations.mass is None
        and task.with_switches().events is None
        and Jumps.of(task.with_switches()) is None
        # Stops at the corners of inputs are made between compiled calls.
        and (task.forcing is None or task.forcing.stops is None)
    )
