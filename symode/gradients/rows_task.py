"""Several losses of one trajectory as a task, and what its forward pass gives of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.equations.vector_loss import Rows
from symode.errors import GradientError
from symode.gradients.task import Kernels, Task
from symode.kernels import types as kt
from symode.solvers.forward import Forward
from symode.symbolic.derive import Field, derive_dense, derive_scalar
from symode.symbolic.graph import Builder, Graph
from symode.symbolic.lift import lift_expressions

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RowsTask(Task):
    """Several losses of one trajectory: each running cost has a quadrature of its own.

    As a `Task` it is that of their sum.
    """

    rows: Rows = None  # type: ignore[assignment]  # always given

    @classmethod
    def of(cls, task: Task, rows: Rows) -> RowsTask:
        """Return the task of these rows with span, solver and sizes of another."""
        return cls(
            task.equations, rows.loss, task.t0, task.t1, task.options, task.from_initial,
            task.backend, task.asked, rows=rows,
        )  # fmt: skip

    @cached_property
    def field(self) -> Field:
        """The right-hand side, with the running costs as last states."""
        expressions = [*self.equations.rhs, *(e for _, e in self.rows.running)]
        graph = lift_expressions(self.equations, expressions)
        field = Field(graph, len(expressions), self.equations.n_parameters, self.asked.theta)
        return self.with_modes(field)

    def kernels(self, names: Any, augment: Any = ()) -> Kernels:
        """Return the graphs of a task, and that of all terminal losses."""
        found = super().kernels(names, augment)
        if self.rows.terminal:
            expressions = [e for _, e in self.rows.terminal]
            graph = lift_expressions(self.equations, expressions)
            found["terminals"] = ("field", derive_dense(graph, self.n, self.asked.theta))
        return found

    def terminal_graph(self) -> Graph | None:
        """Return the sum of terminal losses and quadratures with its derivatives."""
        if not self.rows.terminal and not self.rows.running:
            return None
        graph = lift_expressions(self.equations, [e for _, e in self.rows.terminal])
        b = Builder(graph)
        states = self.equations.n_states
        parts = [*graph.outputs, *(b.input("z", i) for i in range(states, self.n))]
        return derive_scalar(b.freeze([b.total(parts)]), self.n, self.asked.theta)

    @cached_property
    def row(self) -> NDArray[np.int64]:
        """The row of each observation, in the order the solve meets them."""
        return self.rows.row[self.order]


@dataclass(frozen=True, eq=False)
class Parts:
    """What the rows are made of after a forward pass: values, direct derivatives, seeds.

    Shapes: values, dt0, dt1 ``(r,)``; lam ``(r, n)``, at t1; theta ``(r, m)``; seeds ``(K, n)``.
    """

    values: Floats
    lam: Floats
    theta: Floats
    dt0: Floats
    dt1: Floats
    seeds: Floats


def evaluate_rows(
    task: RowsTask, compiled: NativeModel, system: kt.Field, forward: Forward, table: kt.LossTable
) -> Parts:
    """Return the parts of all rows; the forward pass is at t1.

    Raises
    ------
    GradientError
        Naming the row that is not finite, or whose derivative is not.
    """
    from symode.kernels.observe import observe

    n, m, r, count = task.n, task.m, len(task.rows.names), task.times.size
    values, dtheta = np.zeros(count), np.zeros((count, m))
    observe(system, forward.observations, table, forward.scratch, values, dtheta)
    p, y1 = system.p, forward.scratch.y[:n]
    parts = Parts(
        np.zeros(r), np.zeros((r, n)), np.zeros((r, m)), np.zeros(r), np.zeros(r),
        table.seeds.copy(),
    )  # fmt: skip
    np.add.at(parts.values, task.row, values)
    np.add.at(parts.theta, task.row, dtheta)
    start = np.arange(count) < table.n_start
    end = (task.times == task.t1) & ~start
    np.add.at(parts.dt0, task.row[start], table.times[start])
    np.add.at(parts.dt1, task.row[end], table.times[end])
    if task.rows.terminal:
        found = compiled.call("terminals", task.t1, y1, p).reshape(-1, 2 + n + m)
        at = np.array([row for row, _ in task.rows.terminal])
        np.add.at(parts.values, at, found[:, 0])
        np.add.at(parts.lam, at, found[:, 1 : 1 + n])
        np.add.at(parts.theta, at, found[:, 1 + n : 1 + n + m])
        np.add.at(parts.dt1, at, found[:, -1])
    for i, (row, _) in enumerate(task.rows.running, start=task.equations.n_states):
        parts.values[row] += y1[i]
        parts.lam[row, i] += 1.0
    slope = parts.lam.copy()
    np.add.at(slope, task.row[end], table.seeds[end])
    parts.dt1[:] += slope @ compiled.call("rhs", task.t1, y1, p)
    total = parts.values + parts.lam.sum(axis=1) + parts.theta.sum(axis=1)
    np.add.at(total, task.row, table.seeds.sum(axis=1))
    check_rows(task, total)
    return parts


def check_rows(task: RowsTask, total: Floats) -> None:
    """Raise a `GradientError` that names the first row whose number here is not finite."""
    if not np.isfinite(total).all():
        name = task.rows.names[int(np.flatnonzero(~np.isfinite(total))[0])]
        raise GradientError(
            f"The loss {name!r} or its derivative is not finite on this trajectory. Look for a "
            "logarithm, root or division that meets zero or negative values."
        )
