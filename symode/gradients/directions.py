"""What methods share that differentiate one direction at a time: complex numbers, and the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from symode.codegen.arithmetic import COMPLEX
from symode.codegen.reference import ReferenceModel
from symode.gradients.methods.base import check_finite
from symode.gradients.task import Kernels, Task
from symode.kernels import types as kt
from symode.symbolic.graph import Builder, Graph

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]

#: Imaginary step, in units of each parameter and initial value: no difference is formed, so that
#: nothing cancels, and its square is below all rounding.
STEP = 1e-40


def close_directions(
    task: Task,
    system: kt.Field | kt.Tangents,
    table: kt.LossTable,
    gradient: kt.Gradient,
    scratch: kt.Scratch,
    y0: Floats,
    dtheta: Floats,
    dz0: Floats,
    from_initial: bool,
) -> None:
    """Put derivatives in theta and z0 in place; add those in t0, t1 and the t_i by their formulas.

    The loss has been evaluated into ``gradient`` and ``table``, with the state at t1 in scratch.
    """
    from symode.kernels.gradient import close_gradient

    states = task.equations.n_states
    at_start = table.seeds[: table.n_start].sum(axis=0)
    gradient.lam[:states] = dz0 - at_start[:states]
    # The adjoint of a running cost's integral is what it was at t1, at all times.
    gradient.theta[:] = dtheta
    close_gradient(system, table, task.t0, y0, scratch, gradient, from_initial)
    gradient.theta[:] = dtheta
    check_finite(task, gradient)


class ComplexLoss:
    r"""f and J in complex numbers, for many directions at once.

    Column j of every array moves along direction j of (theta, z0): the parameters asked for, then
    all initial values. :math:`\partial J/\partial x_j = \operatorname{Im} J(x + i\epsilon e_j) /
    \epsilon`.

    Abs, Min, Max, Piecewise and comparisons keep the branch of the real part, and floor has slope
    0: derivatives almost everywhere, as elsewhere in symode; erf, gamma, sigmoid and atan2 are
    extended to first order, which the size of the step makes exact.
    """

    def __init__(self, task: Task, names: tuple[str, ...]) -> None:
        self.task = task
        kernels = task.kernels(names)
        # Of losses and initial values only the values: their derivatives are what is judged.
        values: Kernels = {
            name: (signature, _first(graph) if name.startswith(("observe", "terminal")) else graph)
            for name, (signature, graph) in kernels.items()
            if name in names or name == "initial" or name.startswith(("observe", "terminal"))
        }
        self.model = ReferenceModel(values, task.equations.n_parameters, COMPLEX)
        self.columns = task.m + task.equations.n_states

    def start(self, theta: Floats, z0: Floats | None) -> tuple[Complexes, Complexes, Floats]:
        """Return p, the state at t0, and the size of each step. Shapes (P, k), (n, k), (k,)."""
        task, k = self.task, self.columns
        states = task.equations.n_states
        moved = np.repeat(theta[:, None], k, axis=1).astype(complex)
        size = np.abs(task.chosen(theta))
        size[size == 0.0] = 1.0
        moved[task.wrt, np.arange(task.m)] += 1j * STEP * size
        p = _columns(self.model.pack(moved), k)
        z = np.zeros((task.n, k), dtype=complex)
        if z0 is None:
            z[:] = self.columns_of("initial", task.t0, z, p)
        else:
            z[:states] = z0[:, None]
        scale = np.abs(z[:states, -1].real)
        scale[scale == 0.0] = 1.0
        z[np.arange(states), task.m + np.arange(states)] += 1j * STEP * scale
        return p, z, np.concatenate([size, scale]) * STEP

    def rhs(self, t: float, z: Complexes, p: Complexes) -> Complexes:
        """Return f. Shape ``(n, k)``."""
        return self.columns_of("rhs", t, z, p) if z.ndim == 2 else self.model.call("rhs", t, z, p)

    def columns_of(self, name: str, t: float, z: Complexes, p: Complexes) -> Complexes:
        """Return the outputs of a kernel, one column for each direction."""
        return _columns(self.model.call(name, t, z, p), self.columns)

    def value(self, end: Complexes, observed: list[Complexes], p: Complexes) -> Complexes:
        """Return J of the states at t1 and at the observations, in the order of the solve."""
        task = self.task
        table = task.loss_table()
        parts = np.zeros((task.loss.n_parts, self.columns), dtype=complex)
        for i, z in enumerate(observed):
            name = f"observe{table.group[i]}"
            parts[table.row[i]] += self.model.call(name, task.times[i], z, p, table.data[i])[0]
        total = parts[0]
        if task.loss.outer is not None:
            total = self.model.call("terminal", task.t1, end, p, parts)[0]
        elif "terminal" in self.model.programs:
            total = total + self.model.call("terminal", task.t1, end, p)[0]
        return np.broadcast_to(total, (self.columns,))

    def derivatives(self, value: Complexes, step: Floats) -> tuple[Floats, Floats]:
        """Return dJ/dtheta and dJ/dz0."""
        slopes = value.imag / step
        return slopes[: self.task.m], slopes[self.task.m :]


def _columns(values: Complexes, k: int) -> Complexes:
    # Outputs that depend on nothing have no columns of their own.
    wide = values[:, None] if values.ndim == 1 else values
    return np.broadcast_to(wide, (wide.shape[0], k))


def _first(graph: Graph) -> Graph:
    return Builder(graph).freeze([graph.outputs[0]])


#: ``advance(t, h, z, p, i) -> (z at t + h, stages)`` for step i.
Advance = Callable[[float, float, Complexes, Complexes, int], tuple[Complexes, list[Complexes]]]


class Part(NamedTuple):
    """A segment of a solve, to be repeated.

    ``advance`` makes a step; ``weights`` are those of the stages in the interpolant at a fraction
    of a step of given size; observations up to ``stop`` lie in it or before it.
    """

    advance: Advance
    weights: Callable[[float, float], Floats]
    store: kt.Store
    steps: int
    stop: int


def replay(
    loss: ComplexLoss,
    parts: Sequence[Part],
    observations: kt.Observations,
    p: Complexes,
    z: Complexes,
) -> Complexes:
    """Return J of the same steps in complex numbers.

    Parameters
    ----------
    parts, observations
        The accepted steps; where in them the observations lie.
    p, z
        Parameters and state at t0, see `ComplexLoss.start`.
    """
    task = loss.task
    observed: list[Any] = [z for t in task.times if t == task.t0]
    i = len(observed)
    for part in parts:
        for step in range(part.steps):
            t, h = float(part.store.t[step]), float(part.store.h[step])
            new, stages = part.advance(t, h, z, p, step)
            while i < part.stop and observations.step[i] == step:
                s = float(observations.s[i])
                if s == 1.0:
                    observed.append(new)
                else:
                    w = part.weights(s, h)
                    observed.append(z + sum(w[l] * stages[l] for l in range(w.size)))  # noqa: E741
                i += 1
            z = new
    return loss.value(z, observed, p)
