"""Judges through a solver that symode knows nothing about: one solve for each direction."""

from __future__ import annotations

import numpy as np

from symode.errors import GradientError, SymodeError, UnsupportedCombinationError
from symode.gradients.black_box import (
    BlackBox,
    as_rows,
    cause_of,
    refuse_seen_jumps,
    solve_box,
)
from symode.gradients.directions import Complexes, ComplexLoss, close_directions
from symode.gradients.methods import ComplexStep, FiniteDifference
from symode.gradients.methods.base import Floats, check_loss
from symode.gradients.methods.finite_difference import moved_point, sizes_of
from symode.gradients.task import Outcome, Task, outcome
from symode.kernels import types as kt
from symode.solvers import native


class BoxedLoss:
    """J by a black box; the state at t1, the observations and the loss stay in its arrays."""

    def __init__(self, task: Task, solver: BlackBox) -> None:
        self.task, self.solver = task, solver
        self.compiled = task.compile(["rhs"])
        self.system = task.bind(self.compiled, False)
        self.table, self.gradient = task.loss_table(), task.gradient_arrays()
        self.observations = native.make_observations(task.times, task.n)
        method = native.native_method(task.options.tableau)
        self.scratch = native.make_scratch(method, self.system, task.n, self.compiled.work_size)

    def __call__(self, theta: Floats, offset: Floats | float, z0: Floats | None) -> float:
        """Return J with something added to z0."""
        from symode.kernels.gradient import loss_value

        task = self.task
        p = self.compiled.pack(theta, self.system.p)
        if z0 is None:
            self.y0 = self.compiled.call("initial", task.t0, np.zeros(task.n), p)
        else:
            self.y0 = task.start(z0)
        self.y0[: task.equations.n_states] += offset
        fun = lambda t, y: self.compiled.call("rhs", t, y, p)  # noqa: E731
        states = solve_box(self.solver, fun, task, self.y0)
        self.observations.y[:] = states[: task.times.size]
        self.scratch.y[:] = states[-1]
        self.scratch.clock[kt.T] = task.t1
        loss_value(self.system, self.observations, self.table, self.scratch, self.gradient)
        return float(self.gradient.scalars[kt.VALUE])


def direction_gradient(
    task: Task,
    solver: BlackBox,
    method: ComplexStep | FiniteDifference,
    theta: Floats,
    z0: Floats | None,
) -> Outcome:
    """Return the gradient by differences, or complex steps, of what the solver returns.

    Raises
    ------
    UnsupportedCombinationError
        When a complex step meets a solver that does not compute in complex numbers.
    """
    loss = BoxedLoss(task, solver)
    value = loss(theta, 0.0, z0)
    check_loss(task, loss.gradient, loss.table)
    start = loss.y0.copy()
    stats: dict[str, object] = {"method": method.name, "solver": "black box"}
    if isinstance(method, FiniteDifference):
        sizes = sizes_of(task, theta, start)
        found = method.differentiate(
            lambda j, u: loss(*moved_point(task, theta, sizes, j, u), z0), sizes, value
        )
        dtheta, dz0 = found.values[: task.m], found.values[task.m :]
        stats |= found.stats()
        # The arrays hold what was solved last: solve at the point again.
        loss(theta, 0.0, z0)
    else:
        states = np.vstack([loss.observations.y, loss.scratch.y])
        refuse_seen_jumps(task, theta, start, states)
        dtheta, dz0 = _complex_step(task, solver, theta, z0)
    close_directions(
        task, loss.system, loss.table, loss.gradient, loss.scratch, start, dtheta, dz0, z0 is None
    )
    return outcome(task, loss.gradient, loss.table, stats)


def _complex_step(
    task: Task, solver: BlackBox, theta: Floats, z0: Floats | None
) -> tuple[Floats, Floats]:
    loss = ComplexLoss(task, ("rhs",))
    p, z, step = loss.start(theta, z0)
    times = np.unique(np.append(task.times, task.t1))
    times = times if task.t1 >= task.t0 else times[::-1]
    inner = times[times != task.t0]
    states = {float(t): np.zeros_like(z) for t in inner} | {task.t0: z}
    for j in range(loss.columns):
        column = p[:, j]

        def fun(t: float, y: Complexes, column: Complexes = column) -> Complexes:
            return loss.rhs(t, y, column)

        for t, row in zip(inner, _solve(task, solver, fun, z[:, j], inner), strict=True):
            states[float(t)][:, j] = row
    value = loss.value(states[task.t1], [states[float(t)] for t in task.times], p)
    if not np.isfinite(value).all():
        raise GradientError("The solver returned values that are not finite in complex numbers.")
    return loss.derivatives(value, step)


def _solve(task: Task, solver: BlackBox, fun: object, z: Complexes, times: Floats) -> Complexes:
    try:
        with np.errstate(all="ignore"):
            result = solver(fun, (task.t0, task.t1), z.copy(), times.copy())  # type: ignore[arg-type]
    except SymodeError:
        raise
    except Exception as error:
        # It has just solved the same problem in real numbers.
        raise UnsupportedCombinationError(
            f"The given solver fails in complex numbers: {cause_of(error)} ComplexStep() needs a "
            "solver that takes them; FiniteDifference() does not."
        ) from error
    if not np.iscomplexobj(result):
        raise UnsupportedCombinationError(
            "ComplexStep() needs a solver that computes in complex numbers; this one returned "
            "real ones. Use FiniteDifference(), BacksolveAdjoint() or ForwardSensitivity()."
        )
    return np.asarray(as_rows(result, times.size, z.size, complex))
