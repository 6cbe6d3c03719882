r"""Replay in arbitrary precision: the accepted steps of a solve with 40 digits in every operation.

The steps :math:`(t_n, h_n)` and the method's coefficients are the doubles of the solve, taken as
exact numbers; so this is the function that the compiled solve evaluates, without its rounding, and
differences of it are exact derivatives of the step map. It judges the compiled tangents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from symode.codegen.reference import evaluate, mpmath_arithmetic
from symode.gradients.methods.discrete import DiscreteAdjoint
from symode.gradients.task import Task
from symode.gradients.verify.frozen import FrozenLoss, base_solve
from symode.gradients.verify.precise_collocation import collocation_increments
from symode.gradients.verify.report import Check, digits_of
from symode.gradients.verify.subject import Subject
from symode.kernels import types as kt
from symode.solvers.native import native_method
from symode.solvers.replay import Steps, steps_of
from symode.symbolic.lift import lift_initial, lift_observation

Floats = NDArray[np.float64]
Numbers = list[Any]

#: Decimal digits of the replay.
DIGITS = 40
#: Relative disagreement that rounding in doubles explains.
LIMIT = 1e-12
#: Directions compared.
COUNT = 2


def check_precise(subject: Subject) -> Check:
    """Return the check of frozen-step tangents against a replay in arbitrary precision."""
    errors = precise_errors(subject)
    worst = float(np.max(errors))
    summary = f"tangents against the same steps in {DIGITS} digits: {worst:.1e}, limit {LIMIT:.0e}"
    return Check("precise", worst <= LIMIT, digits_of(worst), "consistency", summary)


def precise_errors(subject: Subject) -> Floats:
    """Return |dJ - dJ_precise| / (|g| |d|) for random directions, z0 as given. Shape ``(q,)``."""
    task = replace(subject.task, from_initial=False)
    theta, start = subject.theta, subject.start
    steps = steps_of(base_solve(task, DiscreteAdjoint(), theta, start))
    directions = subject.directions(COUNT)
    found = FrozenLoss(task, steps).tangents(theta, start, directions)
    loss = PreciseLoss(task, steps)
    exact = np.array([loss.derivative(theta, start, d) for d in directions])
    gradient = DiscreteAdjoint().prepare(task)(theta, start)
    scaled = np.concatenate([gradient.theta, gradient.z0]) * subject.unit
    parts = np.linalg.norm(scaled * (directions != 0.0), axis=1)
    sizes = np.maximum(parts * np.linalg.norm(directions / subject.unit, axis=1), abs(exact))
    return np.asarray(np.abs(found - exact) / np.maximum(sizes, 1e-300))


class PreciseLoss:
    r"""J along frozen steps in arbitrary precision.

    Parameters
    ----------
    task
        Model, loss and solver.
    steps
        The accepted steps.
    digits
        Decimal digits of every operation.
    """

    def __init__(self, task: Task, steps: Steps, digits: int = DIGITS) -> None:
        self.task, self.steps = task, steps
        self.mp = mpmath.MPContext()
        self.mp.dps = digits
        self.arithmetic = mpmath_arithmetic(self.mp)
        # The method of each step; the current step's is `method`.
        self.methods: list[Any] = []
        for tableau, count in steps.parts or ((task.options.tableau, steps.h.size),):
            self.methods += [self._exact(native_method(tableau))] * count
        self._use(0)
        self.terminal = task.terminal_graph()
        self.observed = [
            (lift_observation(task.equations, group, task.n), row)
            for group in task.loss.groups
            for row in group.data
        ]
        self.holders = steps.step_of(task.times)

    def _exact(self, method: kt.Method) -> Any:
        """Return the coefficients as numbers of many digits."""
        number = np.vectorize(self.mp.mpf, otypes=[object])
        arrays = {k: number(v) for k, v in method._asdict().items() if isinstance(v, np.ndarray)}
        return method._replace(**arrays)

    def _use(self, step: int) -> None:
        self.step, self.method = step, self.methods[step]
        self.collocation = isinstance(self.method, kt.Collocation)
        self.in_slopes = not isinstance(self.method, kt.Rosenbrock | kt.Collocation)

    def derivative(self, theta: Floats, z0: Floats | None, direction: Floats) -> float:
        """Return dJ along a direction in (theta, z0), to a third of the digits or more."""
        mp, m = self.mp, self.task.m
        size = mp.mpf(10) ** (-mp.dps // 3)
        d = [mp.mpf(v) for v in direction]
        sides = []
        for sign in (1, -1):
            moved = [sign * size * v for v in d]
            point = [mp.mpf(v) + dv for v, dv in zip(theta, moved[:m], strict=True)]
            sides.append(self(point, z0, moved[m:]))
        return float((sides[0] - sides[1]) / (2 * size))

    def __call__(
        self, theta: Sequence[Any] | Floats, z0: Sequence[Any] | Floats | None, offset: Numbers
    ) -> Any:
        """Return J at theta and z0 + offset; z0 is None for the model's own initial values."""
        task, mp = self.task, self.mp
        if z0 is None:
            start, _ = lift_initial(task.equations, task.n)
            z = self._evaluate(start, task.t0, (), theta)
        else:
            z = [mp.mpf(v) for v in z0] + [mp.mpf(0)] * (task.n - len(z0))
        for i, dz in enumerate(offset):
            z[i] += dz
        found: dict[int, Numbers] = {int(k): z for k in np.flatnonzero(task.times == task.t0)}
        for n, h in enumerate(self.steps.h):
            self._use(n)
            t, end = mp.mpf(self.steps.t[n]), self.steps.t[n + 1]
            stages, new = self._step(t, mp.mpf(h), z, theta)
            for k in map(int, np.flatnonzero(self.holders == n)):
                if k in found:
                    continue
                s = (mp.mpf(task.times[k]) - t) / mp.mpf(h)
                inside = task.times[k] != end
                found[k] = self._inside(mp.mpf(h), z, stages, s) if inside else new
            z = new
        parts = [mp.mpf(0)] * task.loss.n_parts
        for k, y in found.items():
            graph, data = self.observed[task.order[k]]
            term = self._evaluate(graph, task.times[k], y, theta, data)[0]
            parts[task.loss.row[task.order[k]]] += term
        if task.loss.outer is not None:
            return self._evaluate(self.terminal, task.t1, z, theta, parts)[0]
        if self.terminal is not None:
            parts[0] += self._evaluate(self.terminal, task.t1, z, theta)[0]
        return parts[0]

    def _evaluate(self, graph: Any, t: Any, z: Any, theta: Any, v: Any = None) -> Numbers:
        values: Numbers = evaluate(graph, t, z, theta, v, self.arithmetic)
        return values

    def _step(self, t: Any, h: Any, z: Numbers, theta: Any) -> tuple[list[Numbers], Numbers]:
        """Return all stages and the new state."""
        stages: list[Numbers] = []
        if self.collocation:
            stages = collocation_increments(
                lambda at, y: self._f(at, y, theta),
                lambda at, y: self._jacobian(at, y, theta),
                self.method, t, h, z, self.mp,
            )  # fmt: skip
            return stages, _combine(z, [1], stages[-1:])
        if isinstance(self.method, kt.Chebyshev):
            return self._stabilised_step(t, h, z, theta)
        if isinstance(self.method, kt.Rosenbrock):
            solve = self._matrix(t, h, z, theta)
        for i in range(self.method.n_dense):
            at, scale = t + self.method.c[i] * h, h if self.in_slopes else 1
            inner = _combine(z, scale * self.method.a[i, :i], stages)
            if isinstance(self.method, kt.Rosenbrock):
                f = self._f(at, inner, theta)
                stages.append(solve(i, _combine(f, self.method.coupling[i, :i] / h, stages)))
            elif isinstance(self.method, kt.Dirk) and i > 0:
                guess = _combine(z, h * self.method.guess[i, :i], stages)
                stages.append(self._implicit_slope(at, h, inner, guess, theta))
            else:
                stages.append(self._f(at, inner, theta))
        return stages, _combine(z, (h if self.in_slopes else 1) * self.method.b, stages)

    def _stabilised_step(
        self, t: Any, h: Any, z: Numbers, theta: Any
    ) -> tuple[list[Numbers], Numbers]:
        """Return the rows of the interpolant and the new state of a step of many stages."""
        method, member = self.method, int(self.steps.member[self.step])
        before = now = z
        first = slope = self._f(t, z, theta)
        for j in range(int(method.starts[member]), int(method.starts[member + 1])):
            p, m, c = method.flow[j]
            if j > method.starts[member]:
                slope = self._f(t + c * h, now, theta)
            moved = _combine([p * v for v in now], [1 - p, h * m], [before, slope])
            before, now = now, moved
        slopes: list[Numbers] = []
        for i in range(4):
            inner = _combine(now, h * method.a[member, i, :i], slopes)
            slopes.append(self._f(t + method.c[member, i] * h, inner, theta))
        new = _combine(now, h * method.b[member], slopes)
        mean = [(a - b) / h for a, b in zip(new, z, strict=True)]
        return [first, mean, self._f(t + h, new, theta)], new

    def _implicit_slope(self, t: Any, h: Any, psi: Numbers, z: Numbers, theta: Any) -> Numbers:
        r"""Return k with :math:`k = f(t, Z),\; Z = \psi + h\gamma k`, by Newton's method from z."""
        mp, gamma = self.mp, h * self.method.gamma
        close = mp.mpf(10) ** (-mp.dps // 2 - 5)
        for _ in range(50):
            f = self._f(t, z, theta)
            right = [b - (a - c) / gamma for a, b, c in zip(z, f, psi, strict=True)]
            move = list(self._inverse(t, gamma, z, theta)[0] * mp.matrix(right))
            z = [a + d for a, d in zip(z, move, strict=True)]
            # Half the digits: the iterate after it, just made, has them all.
            if all(abs(d) <= close * max(abs(a), close) for a, d in zip(z, move, strict=True)):
                break
        return [(a - c) / gamma for a, c in zip(z, psi, strict=True)]

    def _f(self, t: Any, z: Numbers, theta: Any) -> Numbers:
        return self._evaluate(self.task.field.graph, t, z, theta)

    def _jacobian(self, t: float, z: Floats, theta: Any) -> Floats:
        jacobian, n = self.task.field.jacobian, self.task.n
        values = evaluate(jacobian.graph, t, z, [float(v) for v in theta])
        matrix = np.zeros((n, n))
        for i, j, value in zip(jacobian.rows, jacobian.cols, values, strict=False):
            matrix[i, j] += value
        return matrix

    def _matrix(self, t: Any, h: Any, z: Numbers, theta: Any) -> Any:
        r"""Return the function that solves :math:`(I/(h\gamma) - J)\,U = r + h d_i f_t` for U."""
        mp = self.mp
        inverse, ft = self._inverse(t, h * self.method.gamma, z, theta)

        def solve(i: int, r: Numbers) -> Numbers:
            w = h * self.method.d[i]
            return list(inverse * mp.matrix([a + w * b for a, b in zip(r, ft, strict=True)]))

        return solve

    def _inverse(self, t: Any, step: Any, z: Numbers, theta: Any) -> tuple[Any, Numbers]:
        """Return the inverse of I / step - J, and f_t."""
        mp, jacobian = self.mp, self.task.field.jacobian
        values = self._evaluate(jacobian.graph, t, z, theta)
        matrix = mp.eye(self.task.n) / step
        for i, j, value in zip(jacobian.rows, jacobian.cols, values, strict=False):
            matrix[i, j] -= value
        return mp.inverse(matrix), values[len(jacobian.rows) :]

    def _inside(self, h: Any, z: Numbers, stages: list[Numbers], s: Any) -> Numbers:
        """Return the interpolant at the fraction s of the step."""
        powers = np.array([s ** (j + 1) for j in range(self.method.dense.shape[1])], dtype=object)
        scale = h if self.in_slopes else 1
        return _combine(z, scale * (self.method.dense @ powers), stages)


def _combine(z: Numbers, weights: Any, stages: list[Numbers]) -> Numbers:
    """Return z + sum_i weights_i stages_i."""
    total = list(z)
    for w, k in zip(weights, stages, strict=False):
        if w != 0:
            total = [a + w * b for a, b in zip(total, k, strict=True)]
    return total
