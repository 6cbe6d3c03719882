"""DiscreteAdjoint: the transpose of the solver's own steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.gradients.methods.base import (
    Floats,
    Runner,
    check_finite,
    failed_backward,
    failed_forward,
    make_forward,
)
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.solvers.integrate import Forward
from symode.status import SUCCESS


@dataclass(frozen=True)
class DiscreteAdjoint:
    r"""Differentiate the computed numbers: every accepted step, its size frozen, transposed.

    The result equals the derivative of the computed J to rounding; its distance to the derivative
    of the true J falls with the solver's tolerance. Cost: one forward pass, and one
    vector-Jacobian product per stage. Memory: :math:`8 (S + 1) n + 16` bytes a step for S stages.
    Serves every solver of symode, explicit and stiff.

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
        return DiscreteRunner(task)


class DiscreteRunner(Runner):
    """A `DiscreteAdjoint` made ready for one task.

    Parameters
    ----------
    task
        What to do.
    watched
        Directions, in the order (theta, z0), whose tangents count in the error norm of the
        forward pass: each alone, or, where they are many, one irregular sum of all. None by
        default: the steps are then chosen for z alone.
    """

    def __init__(self, task: Task, watched: tuple[int, ...] = ()) -> None:
        implicit = task.options.is_stiff
        names = ["rhs", "vjp", *task.options.jacobian_kernels("second")]
        if watched:
            names += ["jvp", *task.options.jacobian_kernels("djac")[1:]]
        self.task, self.watched = task, watched
        self.compiled = task.compile(names)
        field = task.bind(self.compiled, implicit)
        self.system: kt.Field | kt.Tangents = field
        self.mix = mixture(watched, task.m + task.equations.n_states)
        size = task.n * self.mix.shape[0]
        if watched:
            self.system = kt.Tangents(*field, np.ascontiguousarray(self.mix[:, : task.m]))
        self.forward: Forward = make_forward(
            task,
            self.compiled,
            self.system,
            keep=True,
            lazy=True,
            tangent_atol=np.zeros(size) if watched else None,
            weight=np.zeros(task.n + size) if watched else None,
        )
        self.table = task.loss_table()
        self.gradient = task.gradient_arrays()
        self.z0 = np.zeros(task.n)
        self._bound: tuple[kt.Store, bool, Callable[[int], int]] | None = None
        self._careful: dict[tuple[int, ...], DiscreteRunner] = {}

    def compute(self, theta: Floats, z0: Floats | None) -> None:
        """Compute value and gradient, see `Runner`.

        Where a parameter is exactly 0, or a state is 0 throughout, z need not show what moving it
        would do: f = k sin(9 t) at k = 0 is solved in one step. Such directions are watched.
        """
        if self.watched:
            self._run(theta, z0)
            return
        # Found anew at every call: a result must not depend on the calls before it.
        directions = np.empty(0, dtype=np.int64) if theta.all() else np.flatnonzero(theta == 0.0)
        peak = self._watch(directions, theta, z0) if directions.size else self._run(theta, z0)
        if not peak.all():
            idle = self.task.m + np.flatnonzero(peak == 0.0)
            self._watch(np.union1d(directions, idle), theta, z0)

    def _watch(self, directions: NDArray[np.int64], theta: Floats, z0: Floats | None) -> Floats:
        """Compute with these directions in the error norm; return each state's largest size."""
        watched = tuple(int(i) for i in directions)
        runner = self._careful.get(watched)
        if runner is None:
            runner = self._careful[watched] = DiscreteRunner(self.task, watched)
        runner.forward.driver.stop = self.forward.driver.stop
        runner.compute(theta, z0)
        for mine, found in zip(self.gradient, runner.gradient, strict=True):
            mine[:] = found
        self.table.times[:] = runner.table.times
        self.forward.scratch.count[:] = runner.forward.scratch.count
        return runner.forward.scratch.peak[: self.task.equations.n_states]

    def _start_tangents(self, theta: Floats, z0: Floats | None) -> None:
        """Set the tangents at t0 and the tolerances they are held to."""
        task, forward, states = self.task, self.forward, self.task.equations.n_states
        # Of z0, each entry by itself; of theta, where z0 depends on it, what moves z0.
        whole = np.vstack([np.zeros((task.m, states)), np.eye(states)])
        if z0 is None:
            p = self.compiled.pack(theta, self.system.p)
            for i, row in enumerate(np.eye(task.n)[:states]):
                moved = self.compiled.call("initial_vjp", task.t0, self.z0, p, row)
                whole[: task.m, i] = moved[: task.m]
        start = np.zeros((self.mix.shape[0], task.n))
        start[:, :states] = self.mix @ whole
        forward.scratch.y[task.n :] = start.ravel()
        atol = forward.control.atol[task.n :].reshape(-1, task.n)
        atol[:, :states] = task.options.atol
        if task.n > states:
            atol[:, states:] = np.inf
            forward.control.weight[task.n :].reshape(-1, task.n)[:, states:] = 1.0

    def _run(self, theta: Floats, z0: Floats | None) -> Floats:
        """Compute; return the largest size of each state."""
        task, forward = self.task, self.forward
        self.system.p[: task.m] = theta
        if z0 is not None:
            self.z0[: task.equations.n_states] = z0
            self.z0[task.equations.n_states :] = 0.0
        if self.watched:
            self._start_tangents(theta, z0)
        from_initial = z0 is None
        count = forward.scratch.count
        count[kt.PHASE] = 0
        forward.scratch.clock[kt.H_TRIED] = np.nan
        status = forward.driver.run(lambda budget: self._enter(from_initial, budget))
        if status != SUCCESS:
            if count[kt.PHASE] == 1:
                raise failed_forward(task, forward, status)
            raise failed_backward(task, forward.scratch, status, "Tighten the tolerances.")
        check_finite(task, self.gradient)
        return forward.scratch.peak[: task.equations.n_states]

    def _enter(self, from_initial: bool, budget: int) -> int:
        """Enter the compiled pass, through its address where that is bound for this store."""
        forward = self.forward
        bound = self._bound
        if bound is None or bound[0] is not forward.store or bound[1] != from_initial:
            arguments = (
                forward.method, self.system, forward.control, forward.store, forward.observations,
                self.table, forward.scratch, self.gradient, self.z0, self.task.t0, self.task.t1,
                from_initial,
            )  # fmt: skip
            bound = self._bound = (forward.store, from_initial, bind_gradient(arguments))
        return bound[2](budget)

    def members(self, theta: Floats, z0: Floats) -> tuple[Floats, Floats, Floats]:
        """Return values and gradients of several initial values, in one compiled loop.

        Raises
        ------
        SolverError, GradientError
            Of the first member that fails.
        """
        from symode.kernels.gradient import discrete_members

        task, forward = self.task, self.forward
        if not theta.all() or not z0.all():
            return self._one_by_one(theta, z0)
        self.system.p[: task.m] = theta
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

        status = forward.driver.run(enter)
        if status != SUCCESS:
            # Alone, the member fails again, and says why.
            self.compute(theta, z0[reached])
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
        return {"method": "discrete", "forward": self.forward.stats}


#: Directions up to which each is watched alone.
SEPARATE = 4


def mixture(watched: tuple[int, ...], size: int) -> Floats:
    """Return the directions whose tangents are integrated, as combinations of ``size`` unit ones.

    Many directions are watched as one sum with irregular weights of both signs, in which no
    pattern of the model cancels: a network whose biases all start at 0 costs one tangent.

    Examples
    --------
    >>> mixture((0, 2), 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if len(watched) <= SEPARATE:
        return np.eye(size)[list(watched)].reshape(-1, size)
    weights = np.zeros(size)
    places = np.arange(len(watched))
    golden = (places * 0.6180339887498949) % 1.0
    weights[list(watched)] = np.where(places % 2, -1.0, 1.0) * (0.5 + golden)
    return weights[None, :]


def bind_gradient(arguments: tuple[Any, ...]) -> Callable[[int], int]:
    """Return the compiled pass with its arguments bound: a function of the step budget."""
    if isinstance(arguments[0], kt.Erk) and isinstance(arguments[1], kt.Field):
        from symode.kernels.entry import BoundGradient

        return BoundGradient(*arguments)
    from symode.kernels.gradient import discrete_gradient

    enter: Callable[..., int] = discrete_gradient
    return lambda budget: int(enter(*arguments, budget))
