"""Rows: the gradients of several losses from one forward pass, forward or row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from symode.codegen.reference import evaluate
from symode.equations.vector_loss import Outer
from symode.errors import GradientError
from symode.gradients.blocks import Blocks
from symode.gradients.choose import choose_rows
from symode.gradients.jumps import check_jumps, pull_jump
from symode.gradients.methods import (
    DiscreteAdjoint,
    ForwardSensitivity,
    GradientMethod,
    get_gradient_method,
)
from symode.gradients.methods.base import begin, failed_backward, failed_forward
from symode.gradients.methods.sensitivity import SensitivityRunner
from symode.gradients.methods.watched import WatchedRunner
from symode.gradients.rows_task import Parts, RowsTask, check_rows, evaluate_rows
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.jumps import EventJump
from symode.status import SUCCESS
from symode.symbolic.block_adjoint import block_of
from symode.symbolic.derive import derive_joint
from symode.symbolic.graph import Graph
from symode.symbolic.lift import lift_expressions

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RawJacobian:
    """Values and derivatives of the rows; z0 as a whole, or NaN where it was not asked for."""

    values: Floats
    theta: Floats
    z0: Floats
    t0: Floats
    t1: Floats
    stats: Mapping[str, object]


class ForwardRows:
    """All rows from one forward pass with a tangent for each direction."""

    def __init__(self, task: RowsTask) -> None:
        self.task = task
        self.runner = SensitivityRunner(task)

    def __call__(self, theta: Floats, z0: Floats | None) -> RawJacobian:
        """Return the Jacobian, see `RowsMethod`."""
        task, runner = self.task, self.runner
        m, states, start = task.m, task.equations.n_states, runner.table.n_start
        y0 = runner.solve(theta, z0)
        forward = runner.forward
        parts = evaluate_rows(task, runner.compiled, runner.system, forward, runner.table)
        total = parts.lam @ forward.scratch.y[task.n :].reshape(-1, task.n).T
        along = np.einsum("kqn,kn->kq", runner.tangents(), parts.seeds)
        np.add.at(total, task.row[start:], along[start:])
        at_start = np.zeros((parts.values.size, task.n))
        np.add.at(at_start, task.row[:start], parts.seeds[:start])
        places, stop = list(task.asked.z0), m + len(task.asked.z0)
        initial = runner.pullback(y0, z0 is None)
        dtheta, dt0 = parts.theta + total[:, :m], parts.dt0.copy()
        dz0 = np.full((parts.values.size, states), np.nan)
        dz0[:, places] = total[:, m:stop] + at_start[:, places]
        forward.enter_modes(runner.finder.opening)
        if runner.complete:
            later = np.zeros_like(at_start)
            later[:, places] = total[:, m:stop]
            for i, (row, _) in enumerate(task.rows.running, start=states):
                later[row, i] = 1.0
            dt0 -= later @ runner.compiled.call("rhs", task.t0, y0, runner.system.p)
            at_start += later
        elif task.asked.t0:
            dt0 += total[:, -1]
        else:
            dt0[:] = np.nan
        through = at_start @ initial.T
        dtheta += through[:, :m]
        dt0 += through[:, m]
        check_rows(task, dtheta.sum(axis=1) + total.sum(axis=1))
        stats = {"method": "forward", "forward": forward.stats}
        stats |= {"one_sided": runner.one_sided} if runner.one_sided else {}
        return RawJacobian(parts.values, dtheta, dz0, dt0, parts.dt1, stats)


class AdjointRows(WatchedRunner):
    """The transpose of one forward pass's steps, for each row of losses.

    Over explicit steps several rows go back together, see `Blocks`; over implicit ones row by row.
    """

    kernels: tuple[str, ...] = ("vjp",)
    derivative = "second"
    takes_events = True
    switches = True
    found: RawJacobian

    def __init__(self, task: RowsTask, watched: tuple[int, ...] = ()) -> None:
        # Blocks go over steps alone, not over jumps.
        explicit = not task.options.is_stiff and task.events is None
        self.width = block_of(task.field, len(task.rows.names)) if explicit else 0
        if self.width:
            self.kernels = ("vjp", f"vjp_block{self.width}")
        super().__init__(task, watched)

    def __call__(self, theta: Floats, z0: Floats | None) -> RawJacobian:  # type: ignore[override]
        """Return the Jacobian, see `RowsMethod`."""
        self.compute(theta, z0)
        result: RawJacobian = self._last.found
        return result

    def _run(self, theta: Floats, z0: Floats | None) -> Floats:
        task, forward = self.task, self.forward
        assert isinstance(task, RowsTask)
        start = begin(task, forward, self.compiled, theta, z0)
        self.z0[:] = start
        tangents = np.zeros(forward.scratch.y.size - task.n)
        forward.reset(np.concatenate([start, tangents]), task.t0, task.t1)
        if self.watched:
            self._start_tangents(theta, z0)
        status = forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        if forward.events is not None:
            check_jumps(task, forward.events, ends=False)
        peak = forward.scratch.peak[: task.n_watched].copy()
        field = native.field_of(self.system)
        parts = evaluate_rows(task, self.compiled, field, forward, self.table)
        forward.end()
        r, states = parts.values.size, task.equations.n_states
        dz0, dt0, passes = np.empty((r, states)), np.empty(r), r
        explicit = all(isinstance(segment.method, kt.Erk) for segment in forward.segments)
        if self.width and explicit and isinstance(forward.method, kt.Erk):
            passes = self._pull_blocks(task, parts, dz0, dt0, z0 is None)
        else:
            for i in range(r):
                self._pull_back(task, parts, i, z0 is None)
                parts.theta[i] = self.gradient.theta
                dz0[i], dt0[i] = self.gradient.lam[:states], self.gradient.scalars[kt.DT0]
        check_rows(task, parts.theta.sum(axis=1) + dz0.sum(axis=1))
        stats = {"method": "discrete", "forward": forward.stats, "backward_passes": passes}
        stats |= {"one_sided": self.one_sided} if self.one_sided else {}
        self.found = RawJacobian(parts.values, parts.theta, dz0, dt0, parts.dt1, stats)
        return peak

    @cached_property
    def blocks(self) -> Blocks:
        """Memory to carry several rows back at once."""
        task, field = self.task, native.field_of(self.system)
        method = self.forward.method
        assert isinstance(method, kt.Erk)
        return Blocks.of(self.width, field, method, self.compiled, task.m)

    def _pull_blocks(
        self, task: RowsTask, parts: Parts, dz0: Floats, dt0: Floats, from_initial: bool
    ) -> int:
        """Carry the adjoints of all rows back, some at a time; return the number of passes."""
        blocks, table, p = self.blocks, self.table, self.system.p
        r, m, states, start = parts.values.size, task.m, dz0.shape[1], self.table.n_start
        slope = self.compiled.call("rhs", task.t0, self.z0, p)
        for first in range(0, r, blocks.width):
            rows = np.arange(first, min(first + blocks.width, r))
            lam, theta = parts.lam[rows], parts.theta[rows]
            mine = (task.row[:, None] == rows)[:, :, None]
            seeds = np.where(mine, parts.seeds[:, None, :], 0.0)
            status = blocks.pull_back(self.forward, table, seeds, lam, theta)
            if status != SUCCESS:
                raise failed_backward(task, task.t1, status, "Tighten the tolerances.")
            dt0[rows] = parts.dt0[rows] - lam @ slope
            lam += seeds[:start].sum(axis=0)
            if from_initial:
                for i in range(rows.size):
                    through = self.compiled.call("initial_vjp", task.t0, self.z0, p, lam[i])
                    theta[i] += through[:m]
                    dt0[rows[i]] += through[m]
            parts.theta[rows], dz0[rows] = theta, lam[:, :states]
        return -(-r // blocks.width)

    def _pull_back(self, task: RowsTask, parts: Parts, i: int, from_initial: bool) -> None:
        """Carry the adjoint of one row back over all steps."""
        from symode.kernels.gradient import close_gradient
        from symode.kernels.transpose import transpose_steps

        forward, table, gradient = self.forward, self.table, self.gradient
        mine = task.row == i
        table.seeds[:] = np.where(mine[:, None], parts.seeds, 0.0)
        gradient.lam[:], gradient.theta[:] = parts.lam[i], parts.theta[i]
        gradient.scalars[:] = 0.0
        gradient.scalars[kt.DT0] = parts.dt0[i]
        # Above the last observation of a row without terminal loss its adjoint is zero.
        last = task.times.size
        if not parts.lam[i].any():
            last = int(np.max(np.flatnonzero(mine), initial=-1)) + 1
        segments = forward.segments
        jumps = [s.jump for s in segments if isinstance(s.jump, EventJump)]
        if jumps:
            forward.enter_modes(jumps[-1].after)
        for segment in reversed(segments):
            if isinstance(segment.jump, EventJump):
                pull_jump(task, forward, segment, table, gradient)
            if segment.first >= last and not gradient.lam.any():
                continue
            stepper = segment.stepper
            count, bar = stepper.scratch.count, stepper.scratch.k
            count[kt.LEFT] = segment.steps
            count[kt.FIRST_OBS], count[kt.NEXT_OBS] = segment.first, min(segment.stop, last)
            if last < segment.stop:
                count[kt.LEFT] = forward.observations.step[last - 1] + 1
            bar[stepper.method.n_dense] = 0.0
            status = forward.driver.run(
                lambda budget, s=segment: transpose_steps(  # type: ignore[misc]
                    s.method, s.stepper.system, s.store, forward.observations, table,
                    s.stepper.scratch, gradient, budget,
                )
            )  # fmt: skip
            if status != SUCCESS:
                raise failed_backward(task, segment.t1, status, "Tighten the tolerances.")
        close_gradient(
            self.system, table, task.t0, self.z0, forward.scratch, gradient, from_initial
        )

    def stats(self) -> dict[str, object]:
        """Return what the last call cost."""
        return dict(self._last.found.stats)


class SeparateRows:
    """Each row by itself, with a forward pass of its own: for every other method."""

    def __init__(self, task: RowsTask, method: GradientMethod) -> None:
        self.method = method
        self.runners = [method.prepare(self._alone(task, i)) for i in range(len(task.rows.names))]

    @staticmethod
    def _alone(task: RowsTask, i: int) -> Task:
        return Task(
            task.equations, task.rows.loss_of(i), task.t0, task.t1, task.options,
            task.from_initial, task.backend, task.asked,
        )  # fmt: skip

    def __call__(self, theta: Floats, z0: Floats | None) -> RawJacobian:
        """Return the Jacobian, see `RowsMethod`."""
        found = [runner(theta, z0) for runner in self.runners]
        return RawJacobian(
            np.array([o.value for o in found]),
            np.array([o.theta for o in found]),
            np.array([o.z0 for o in found]),
            np.array([o.t0 for o in found]),
            np.array([o.t1 for o in found]),
            {"method": self.method.name, "forward_passes": len(found), **found[-1].stats},
        )


class MixedRows:
    """Functions of the rows, by the chain rule: where some of the losses are composites."""

    def __init__(self, task: RowsTask, rows: RowsMethod) -> None:
        assert task.rows.outers is not None
        self.task, self.rows = task, rows
        self.outers = [(outer, self._graph(outer)) for outer in task.rows.outers]

    def _graph(self, outer: Outer) -> Graph:
        graph = lift_expressions(self.task.equations, [outer.expression], outer.symbols)
        return derive_joint(graph, 0, self.task.asked.theta, len(outer.symbols))

    def __call__(self, theta: Floats, z0: Floats | None) -> RawJacobian:
        """Return the Jacobian, see `RowsMethod`."""
        parts, m, count = self.rows(theta, z0), self.task.m, len(self.outers)
        mix = np.zeros((count, parts.values.size))
        values, explicit = np.empty(count), np.empty((count, m))
        for i, (outer, graph) in enumerate(self.outers):
            mine = slice(outer.first, outer.first + len(outer.symbols))
            with np.errstate(all="ignore"):
                found = np.array(evaluate(graph, 0.0, [], theta, parts.values[mine]), dtype=float)
            if not np.isfinite(found).all():
                raise GradientError(
                    f"The loss {outer.name!r} or its derivative is not finite where its parts are "
                    f"{', '.join(f'{v:.6g}' for v in parts.values[mine])}."
                )
            values[i], explicit[i], mix[i, mine] = found[0], found[1 : 1 + m], found[2 + m :]
        return RawJacobian(
            values, explicit + mix @ parts.theta, mix @ parts.z0, mix @ parts.t0, mix @ parts.t1,
            parts.stats,
        )  # fmt: skip


class RowsMethod(Protocol):
    """All rows of one task; called often, by one thread at a time."""

    def __call__(self, theta: Floats, z0: Floats | None) -> RawJacobian:
        """Return values and derivatives of the rows; z0 is None for the model's own.

        Raises
        ------
        SolverError, GradientError
            When a pass fails or a number is not finite.
        """
        ...


def prepare_rows(task: RowsTask, method: str | GradientMethod) -> tuple[RowsMethod, str]:
    """Return what computes the rows, and why it was chosen.

    ``"auto"`` takes the cheaper of one forward pass with a tangent for each direction, and of one
    backward pass for each row over the steps of one forward pass.
    """
    reason = "chosen by the caller"
    if isinstance(method, str) and method.lower() == "auto":
        method, reason = choose_rows(task, len(task.rows.names))
    rows = _rows_by(task, get_gradient_method(method))
    return (rows if task.rows.outers is None else MixedRows(task, rows)), reason


def _rows_by(task: RowsTask, method: GradientMethod) -> RowsMethod:
    if task.equations.mass is not None:
        # Its ends need equations of their own, which each row's gradient solves.
        return SeparateRows(task, method)
    located = task.with_switches()
    assert isinstance(located, RowsTask)
    if isinstance(method, ForwardSensitivity):
        return ForwardRows(located)
    if isinstance(method, DiscreteAdjoint):
        return AdjointRows(located)
    return SeparateRows(task, method)
