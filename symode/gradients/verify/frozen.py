"""J along frozen steps: what Taylor and dot-product tests differentiate."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.errors import GradientError
from symode.gradients.methods import ForwardSensitivity, GradientMethod
from symode.gradients.methods.base import begin, failed_forward, make_forward
from symode.gradients.methods.discrete import DiscreteRunner
from symode.gradients.methods.sensitivity import SensitivityRunner
from symode.gradients.methods.watched import WatchedRunner
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.forward import Forward
from symode.solvers.options import SolverOptions
from symode.solvers.replay import Steps, run_steps
from symode.status import SUCCESS

Floats = NDArray[np.float64]


def builder(
    task: Task, *names: str, derivative: str = ""
) -> Callable[[SolverOptions], tuple[NativeModel, kt.Field]]:
    """Return the function that compiles and binds these kernels for the method of given options."""

    def build(options: SolverOptions) -> tuple[NativeModel, kt.Field]:
        compiled = task.compile([*names, *options.jacobian_kernels(derivative)])
        return compiled, task.bind(compiled, options.is_stiff)

    return build


def base_solve(task: Task, method: GradientMethod, theta: Floats, z0: Floats | None) -> Forward:
    """Return the forward pass along which the method computes J, its steps kept.

    Raises
    ------
    SolverError
        When the solve fails.
    """
    if isinstance(method, ForwardSensitivity):
        # Tangents are in the error norm, so these steps are its own.
        runner = SensitivityRunner(task)
        forward = runner.forward
        forward.keep = True
        forward.store = native.make_store(forward.method, task.n, 256)
        runner.solve(theta, z0)
        return forward
    build = builder(task, "rhs")
    compiled, system = build(task.options)
    forward = make_forward(task, compiled, system, keep=True, lazy=True, build=build)
    y0 = begin(task, forward, compiled, theta, z0)
    forward.reset(y0, task.t0, task.t1)
    status = forward.run()
    if status != SUCCESS:
        raise failed_forward(task, forward, status)
    return forward


def own_solve(task: Task, method: GradientMethod, theta: Floats, z0: Floats | None) -> Forward:
    """Return the forward pass along which J has a derivative that can be trusted.

    That of `DiscreteAdjoint`: where directions are watched, their tangents have chosen its steps.
    Along steps chosen for z alone at the edge of stability, J has z right and any slope. Where it
    refuses the point, and for forward sensitivities, as `base_solve`.

    Raises
    ------
    SolverError
        When the solve fails.
    """
    if not isinstance(method, ForwardSensitivity):
        runner = DiscreteRunner(task)
        with suppress(GradientError):
            runner.compute(theta, z0)
            return runner.last.forward
    return base_solve(task, method, theta, z0)


def solve_fully(runner: WatchedRunner) -> None:
    """Let a runner take the steps of its last run again, implicit stages solved to rounding.

    An iteration stops at a share of the tolerance; its transpose is that of exact stages.
    """
    forward = runner.forward
    steps = int(forward.scratch.count[kt.STORED])
    store = forward.store
    forward.store = store._replace(
        t=store.t[: steps + 1].copy(),
        h=store.h[:steps].copy(),
        z=store.z[: steps + 1].copy(),
        k=store.k[:steps].copy(),
        member=store.member[:steps].copy(),
    )
    stepper = replace(forward.stepper, control=forward.control._replace(replay=True))
    forward.stepper, forward.control = stepper, stepper.control


class FrozenLoss:
    r"""J as a function of theta, z0 and the times, along the same steps whatever they are.

    A step size of the base solve stays as it is while theta and z0 change; an observation that
    moves is interpolated in the same steps.

    Parameters
    ----------
    task
        Model, loss and solver.
    steps
        Accepted steps of the base solve.
    """

    def __init__(self, task: Task, steps: Steps) -> None:
        self.task, self.steps = task, steps
        self.build = builder(task, "rhs")
        self.compiled, self.system = self.build(task.options)
        self.table = task.loss_table()
        self.gradient = task.gradient_arrays()

    def __call__(
        self,
        theta: Floats,
        z0: Floats | None,
        offset: Floats | float = 0.0,
        steps: Steps | None = None,
        shift: Floats | float = 0.0,
    ) -> float:
        """Return J, NaN where the solve leaves the finite numbers.

        Parameters
        ----------
        theta, z0
            The point; z0 is None where the model's own initial values count.
        offset
            Added to z0. Shape ``(n,)``.
        steps
            Other steps than the base solve's; their ends are t0 and t1.
        shift
            Added to the observation times, in the order of the solve; those at the ends stay
            there. Shape ``(K,)``.
        """
        from symode.kernels.gradient import loss_value

        task = self.task
        steps = self.steps if steps is None else steps
        t0, t1 = float(steps.t[0]), float(steps.t[-1])
        p = self.compiled.pack(theta, self.system.p)
        if z0 is None:
            y0 = self.compiled.call("initial", t0, np.zeros(task.n), p)
        else:
            y0 = task.start(z0)
        y0[: task.equations.n_states] += offset
        times = task.times + shift
        times[task.times == task.t0] = t0
        times[task.times == task.t1] = t1
        observations = native.make_observations(times, task.n)
        status, forward = run_steps(
            self.system, task.options, observations, self.compiled.work_size, y0, steps, self.build
        )  # fmt: skip
        if status != SUCCESS:
            return float("nan")
        loss_value(self.system, observations, self.table, forward.scratch, self.gradient)
        return float(self.gradient.scalars[kt.VALUE])

    def tangents(self, theta: Floats, z0: Floats, directions: Floats) -> Floats:
        r"""Return dJ along directions in (theta, z0), by tangents of the same steps.

        .. math:: dJ = \Phi_z S(t_1) d + \sum_i \ell_{i,z} S(t_i) d
                       + (\Phi_\theta + \sum_i \ell_{i,\theta})\,d_\theta

        Parameters
        ----------
        directions
            Shape ``(q, m + n)``.

        Returns
        -------
        array
            Shape ``(q,)``.
        """
        from symode.kernels.gradient import loss_value

        task, q = self.task, directions.shape[0]
        n, m, states = task.n, task.m, task.equations.n_states
        fields, moved = builder(task, "rhs", "jvp", derivative="djac"), directions[:, :m].copy()

        def build(options: SolverOptions) -> tuple[NativeModel, kt.Tangents]:
            compiled, field = fields(options)
            return compiled, kt.Tangents(*field, moved)

        compiled, system = build(task.options)
        compiled.pack(theta, system.p)
        start = np.zeros((q, n))
        start[:, :states] = directions[:, m:]
        y0 = np.concatenate([task.start(z0), start.ravel()])
        observations = native.make_observations(task.times, y0.size)
        status, forward = run_steps(
            system, task.options, observations, compiled.work_size, y0, self.steps, build
        )
        if status != SUCCESS:
            return np.full(q, np.nan)
        loss_value(
            native.field_of(system), observations, self.table, forward.scratch, self.gradient
        )
        final = forward.scratch.y[n:].reshape(q, n)
        total = directions[:, :m] @ self.gradient.theta + final @ self.gradient.lam
        inner = observations.y[:, n:].reshape(-1, q, n)
        return np.asarray(total + np.einsum("kqn,kn->q", inner, self.table.seeds))
