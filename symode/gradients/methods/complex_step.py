"""ComplexStep: the derivative of the computed numbers, by computing them in complex numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from symode.errors import GradientError, UnsupportedCombinationError
from symode.gradients.directions import (
    Advance,
    Complexes,
    ComplexLoss,
    Part,
    close_directions,
    replay,
)
from symode.gradients.methods.base import Floats, begin, check_loss, failed_forward
from symode.gradients.methods.watched import WatchedRunner
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.solvers.methods import get_method
from symode.solvers.segments import Segment
from symode.status import SUCCESS


@dataclass(frozen=True)
class ComplexStep:
    r"""Replay the accepted steps with an imaginary step in each parameter and initial value.

    .. math:: \frac{\partial J}{\partial x_j} =
              \frac{\operatorname{Im} J(x + i\epsilon e_j)}{\epsilon} + O(\epsilon^2)

    A judge: the exact derivative of the computed numbers, to rounding, from the graph of f alone
    and without any derivative of it; step sizes stay as they are. In plain Python, all directions
    at once: slow. t0, t1 and the observation times follow from dJ/dz0 by the formulas of the theory
    page. Abs, Min, Max, Piecewise and comparisons keep their branch; floor is constant. Serves
    explicit and Rosenbrock methods, and a user's solver that computes in complex numbers.

    References
    ----------
    Squire & Trapp (1998), *Using complex variables to estimate derivatives of real functions*,
    SIAM Review 40, 110-112; Martins, Sturdza & Alonso (2003), ACM TOMS 29, 245-262.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k])
    >>> gradient = model.gradient(
    ...     symode.Loss(terminal=x**2), (0, 1), theta=[0.7], z0=[2.0],
    ...     method=symode.ComplexStep())
    >>> round(gradient.theta["k"], 6)  # -2 t z(t)**2
    -1.972776
    """

    @property
    def name(self) -> str:
        """Short name, as in tables."""
        return "complex_step"

    def prepare(self, task: Task) -> ComplexStepRunner:
        """Compile what the task needs; return the function that computes."""
        return ComplexStepRunner(task)


class ComplexStepRunner(WatchedRunner):
    """A `ComplexStep` made ready for one task."""

    switches = True

    def __init__(self, task: Task, watched: tuple[int, ...] = ()) -> None:
        super().__init__(task, watched)
        tableaus = [task.options.tableau]
        if task.options.stiff:
            tableaus.append(get_method(task.options.stiff))
        for tableau in tableaus:
            if tableau.iterative:
                raise UnsupportedCombinationError(
                    f"ComplexStep replays explicit and Rosenbrock steps; {tableau.name} solves its "
                    "stages by iteration. Use FiniteDifference() as a judge, or another solver."
                )
        implicit = any(tableau.implicit for tableau in tableaus)
        self.loss = ComplexLoss(task, ("rhs", *(["jac"] if implicit else [])))

    def _part(self, segment: Segment) -> Part:
        """Return a segment as the replay takes it."""
        method = segment.method
        advance: Advance
        if isinstance(method, kt.Rosenbrock):
            advance = _Rosenbrock(self.loss, method)
        elif isinstance(method, kt.Chebyshev):
            advance = _Stabilised(self.loss, method, segment.store.member)
        else:
            assert isinstance(method, kt.Erk)
            advance = _Explicit(self.loss, method)

        def weights(s: float, h: float) -> Floats:
            powers = s ** np.arange(1, method.dense.shape[1] + 1)
            scale = 1.0 if isinstance(method, kt.Rosenbrock) else h
            return np.asarray(scale * (method.dense[: method.n_dense] @ powers))

        return Part(advance, weights, segment.store, segment.steps, segment.stop)

    def _run(self, theta: Floats, z0: Floats | None) -> Floats:
        from symode.kernels.gradient import loss_value

        task, forward = self.task, self.forward
        start = begin(task, forward, self.compiled, theta, z0)
        forward.reset(
            np.concatenate([start, np.zeros(forward.scratch.y.size - task.n)]), task.t0, task.t1
        )
        if self.watched:
            self._start_tangents(theta, z0)
        status = forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        peak = forward.scratch.peak[: task.n_watched].copy()
        loss_value(self.system, forward.observations, self.table, forward.scratch, self.gradient)
        check_loss(task, self.gradient, self.table)
        p, z, step = self.loss.start(theta, z0)
        parts = [self._part(segment) for segment in forward.segments]
        with np.errstate(all="ignore"):
            value = replay(self.loss, parts, forward.observations, p, z)
        self.agreement = _agreement(float(self.gradient.scalars[kt.VALUE]), value)
        dtheta, dz0 = self.loss.derivatives(value, step)
        close_directions(
            task, self.system, self.table, self.gradient, forward.scratch, start, dtheta, dz0,
            z0 is None,
        )  # fmt: skip
        return peak

    def stats(self) -> dict[str, object]:
        """Return what the last call cost; ``agreement`` is that of both values of J."""
        return {
            "method": "complex_step",
            "forward": self.forward.stats,
            "directions": self.loss.columns,
            "agreement": self._last.agreement,
        }


def _agreement(value: float, replayed: Complexes) -> float:
    """Return the relative difference of J as compiled and as replayed.

    Raises
    ------
    GradientError
        Where it shows that the replay computes something else.
    """
    gap = float(np.max(np.abs(replayed.real - value), initial=0.0)) / max(abs(value), 1e-300)
    if not gap < 1e-6 and not np.max(np.abs(replayed.real - value)) < 1e-12:
        raise GradientError(
            f"Replayed in Python, the loss differs from {value:.10g} by {gap:.2g}: the steps do "
            "not determine it to rounding (a long chaotic span, or a branch taken at its edge)."
        )
    return gap


class _Explicit:
    """Steps of an explicit Runge-Kutta method."""

    def __init__(self, loss: ComplexLoss, method: kt.Erk) -> None:
        self.loss, self.method = loss, method

    def __call__(
        self, t: float, h: float, z: Complexes, p: Complexes, i: int
    ) -> tuple[Complexes, list[Complexes]]:
        """Return the new state and all stages, those of the interpolant too."""
        method = self.method
        k: list[Complexes] = []
        for s in range(method.n_dense):
            inner = z + h * sum((method.a[s, j] * k[j] for j in range(s)), np.zeros_like(z))
            k.append(self.loss.rhs(t + method.c[s] * h, inner, p))
        new = z + h * sum(method.b[s] * k[s] for s in range(method.n_stages))
        return new, k


class _Stabilised:
    """Steps of many stages, their number as it was."""

    def __init__(self, loss: ComplexLoss, method: kt.Chebyshev, member: kt.Ints) -> None:
        self.loss, self.method, self.member = loss, method, member

    def __call__(
        self, t: float, h: float, z: Complexes, p: Complexes, i: int
    ) -> tuple[Complexes, list[Complexes]]:
        """Return the new state and the rows of the interpolant."""
        method, member = self.method, self.member[i]
        first, last = method.starts[member], method.starts[member + 1]
        slope = start = self.loss.rhs(t, z, p)
        before = now = z
        for j in range(first, last):
            share, m, c = method.flow[j]
            if j > first:
                slope = self.loss.rhs(t + c * h, now, p)
            before, now = now, share * now + (1.0 - share) * before + h * m * slope
        k: list[Complexes] = []
        for s in range(4):
            inner = now + h * sum((method.a[member, s, j] * k[j] for j in range(s)), 0.0 * z)
            k.append(self.loss.rhs(t + method.c[member, s] * h, inner, p))
        new = now + h * sum(method.b[member, s] * k[s] for s in range(4))
        return new, [start, (new - z) / h, self.loss.rhs(t + h, new, p)]


class _Rosenbrock:
    """Steps of a Rosenbrock method, W-transformed."""

    def __init__(self, loss: ComplexLoss, method: kt.Rosenbrock) -> None:
        self.loss, self.method = loss, method
        jacobian = loss.task.field.jacobian
        self.rows, self.cols = np.array(jacobian.rows, int), np.array(jacobian.cols, int)

    def __call__(
        self, t: float, h: float, z: Complexes, p: Complexes, i: int
    ) -> tuple[Complexes, list[Complexes]]:
        """Return the new state and the increments."""
        method, (n, k), nnz = self.method, z.shape, self.rows.size
        values = self.loss.columns_of("jac", t, z, p)
        matrix = np.zeros((k, n, n), dtype=complex)
        matrix[:, self.rows, self.cols] = -values[:nnz].T
        matrix[:, np.arange(n), np.arange(n)] += 1.0 / (h * method.gamma)
        inverse = np.linalg.inv(matrix)
        u: list[Complexes] = []
        for s in range(method.n_stages):
            inner = z + sum((method.a[s, j] * u[j] for j in range(s)), np.zeros_like(z))
            right = self.loss.rhs(t + method.c[s] * h, inner, p) + h * method.d[s] * values[nnz:]
            right = right + sum(
                (method.coupling[s, j] / h * u[j] for j in range(s)), np.zeros_like(z)
            )
            found = np.einsum("kij,jk->ik", inverse, right)
            # One correction takes the inverse's own rounding out.
            left = right - np.einsum("kij,jk->ik", matrix, found)
            u.append(found + np.einsum("kij,jk->ik", inverse, left))
        return z + sum(method.b[s] * u[s] for s in range(method.n_stages)), u
