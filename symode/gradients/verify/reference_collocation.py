r"""Radau steps of a reference for stiff equations, where Taylor series would need millions.

The stages of a step and their derivatives in :math:`(\theta, z_0)` are found by Newton's method
with the Jacobian of a solve in doubles: each correction of a residual formed in full precision adds
some ten digits, whatever the Jacobian's own errors. That solve serves as first guess only: digits
come from the equations, as a series reads them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from symode.codegen.reference import evaluate
from symode.errors import SymodeError
from symode.gradients.methods.base import begin, make_forward
from symode.gradients.task import Task
from symode.gradients.verify.frozen import builder
from symode.gradients.verify.radau import Radau, radau
from symode.gradients.verify.reference_run import (
    GUARD,
    Floats,
    Numbers,
    Reference,
    Run,
    TooLongError,
)
from symode.gradients.verify.series import Inputs, NoSeriesError, rows_of
from symode.solvers.integrate import integrate
from symode.solvers.solution import Solution

#: Share of the digits to which u' is resolved on a step: at its end the method has twice the order
#: that it has between. For Robertson's problem 0.6 leaves 33 digits of 34, and so do 0.8 and 1.
SHARE = 0.6
#: Stages for each digit: 24 steps of 26 take half the time of 38 steps of 20.
STAGES = 0.77
#: Smallest size that counts of a component, in shares of its largest.
FLOOR = Decimal("1e-8")
#: Smallest size that counts, in shares of the largest component of the same direction.
BESIDE = Decimal("1e-12")
#: Newton corrections in doubles, and in full precision.
ROUGH, FINE = 12, 14
#: Most steps, taken or tried.
MOST = 5000


class CollocationRun(Run):
    """Radau collocation over the span."""

    kind = "Radau collocation"

    def __init__(self, task: Task, theta: Floats, z0: Floats | None, digits: int) -> None:
        super().__init__(task, theta, z0, digits)
        self.stages = max(6, round(STAGES * digits))
        self.order = 2 * self.stages - 1
        self.method: Radau = radau(self.stages, digits + GUARD)
        self.c = self.method.c.astype(float)
        self.tail = self.method.tail @ self.method.inverse
        self.differences = self.method.inverse.astype(float)
        self.tolerance = Decimal(10) ** Decimal(-SHARE * digits)
        self.close_enough = 10.0 ** -(digits + 2)
        scale = [abs(Decimal(float(v))) for v in theta] + [abs(v) for v in self.start]
        self.scale = np.array([v or Decimal(1) for v in scale], dtype=object)

    def run(self, limit: float) -> Reference:
        """Return the result, see `Run`."""
        task = self.task
        guess, mesh = self._rough()
        t0, t1 = Decimal(task.t0), Decimal(task.t1)
        forth = t1 > t0
        t, z, steps, tries = t0, self.z, 0, 0
        found: dict[int, Numbers] = {
            int(k): z.copy() for k in np.flatnonzero(task.times == task.t0)
        }
        stops = sorted({Decimal(float(s)) for s in task.times} - {t0} | {t1}, reverse=not forth)
        first = self._rate(t0, z)
        peak = np.abs(z)
        h = abs(Decimal(mesh[min(2, mesh.size - 1)]) - t0)
        begun = time.thread_time()
        while t != t1:
            stop = next(s for s in stops if (s > t) == forth and s != t)
            self._check_time(begun, limit, abs(mesh - task.t0), float(abs(t - t0)))
            size = min(h, abs(stop - t))
            signed = size if forth else -size
            step = self._step(t, signed, z, guess, peak)
            if isinstance(step, Decimal):
                h, tries = size * step, tries + 1
                if abs(h) <= abs(t) * Decimal(10) ** -self.digits or tries > MOST:
                    raise NoSeriesError("collocation does not converge")
                continue
            z, factor = step
            t = stop if size == abs(stop - t) else t + signed
            # A step cut short at an observation says nothing against its length.
            h = max(size * factor, h if size < h else Decimal(0))
            steps += 1
            peak = np.maximum(peak, np.abs(z))
            found |= {int(k): z for k in np.flatnonzero(task.times == float(t)) if t == stop}
        return self.close(t1, z, found, first, steps)

    def _check_time(self, begun: float, limit: float, mesh: Floats, done: float) -> None:
        """Raise if the run would not end in time: the solve in doubles shows how far it is."""
        now = time.thread_time()
        share = np.searchsorted(mesh, done) / mesh.size
        if now > limit or (share > 0.1 and begun + (now - begun) / share > limit + (limit - now)):
            raise TooLongError("too long", (now - begun) / max(share, 1e-2))

    def _rough(self) -> tuple[Callable[[Floats], Floats], Floats]:
        """Return a solution in doubles as a function of time, and its mesh."""
        task = self.task
        options = task.options if task.options.is_stiff else task.options.with_method("rodas5p")
        options = replace(options, rtol=1e-8, atol=options.atol * 1e-2, stiff="")
        rough = task.with_options(options)
        build = builder(rough, "rhs")
        try:
            compiled, system = build(options)
            forward = make_forward(rough, compiled, system, keep=True, lazy=False, build=build)
            given = self.z[: task.equations.n_states, 0].astype(float)
            z0 = given if self.moved is None else None
            start = begin(rough, forward, compiled, self.theta, z0)
            names = [*task.equations.state_names, *(f"c{k}" for k, _ in task.loss.runnings)]
            solution: Solution = integrate(
                forward, start, (task.t0, task.t1), names, at_steps=True, raise_on_failure=True,
                jacobian=None, dense_output=True,
            )  # fmt: skip
        except SymodeError as error:
            raise NoSeriesError(f"the solve in doubles failed: {error}") from None
        return solution, solution.t

    def _step(
        self, t: Decimal, h: Decimal, z: Numbers, guess: Callable[[Floats], Floats], peak: Numbers
    ) -> tuple[Numbers, Decimal] | Decimal:
        """Return the state after a step with the factor for the next, or the factor to try."""
        n, s = z.shape[0], self.stages
        times = np.array([t + c * h for c in self.method.c], dtype=object)
        smaller = Decimal("0.25")
        inverse, rough = self._newton(times.astype(float), float(h), z[:, 0].astype(float), guess)
        if inverse is None:
            return smaller
        w = np.full((s, n, 1 + self.q), Decimal(0))
        w[:, :, 0] = np.vectorize(Decimal, otypes=[object])(rough)
        if not self._refine(times, h, z, w, inverse, peak, slice(0, 1)):
            return smaller
        error = self._tail(z, w, peak, slice(0, 1))
        if error > 1:
            return self._factor(error)
        if not self._refine(times, h, z, w, inverse, peak, slice(1, None)):
            return smaller
        error = max(error, self._tail(z, w, peak, slice(1, None)))
        factor = self._factor(error)
        return factor if error > 1 else (np.asarray(z + w[-1]), factor)

    def _factor(self, error: Decimal) -> Decimal:
        if error == 0:
            return Decimal(8)
        ideal = Decimal("0.9") * (-error.ln() / self.stages).exp()
        return min(Decimal(8), max(Decimal("0.1"), ideal))

    def _newton(
        self, times: Floats, h: float, z: Floats, guess: Callable[[Floats], Floats]
    ) -> tuple[Floats | None, Floats]:
        """Return the inverse of Newton's last matrix, and the increments in doubles."""
        n, s, field = z.size, self.stages, self.task.field
        scaled = self.differences / h
        w = guess(times)[:, :n] - z
        size = np.maximum(np.max(np.abs(w + z), axis=0), np.abs(z))
        size[size == 0.0] = 1.0
        before = np.inf
        for _ in range(ROUGH):
            with np.errstate(all="ignore"):
                inner = (z + w).T
                f = _table(evaluate(field.graph, times, inner, self.theta), s)[:n].T
                values = _table(evaluate(field.jacobian.graph, times, inner, self.theta), s)
            matrix = np.kron(scaled, np.eye(n)).reshape(s, n, s, n)
            for k, (i, j) in enumerate(zip(field.jacobian.rows, field.jacobian.cols, strict=True)):
                matrix[np.arange(s), i, np.arange(s), j] -= values[k]
            flat = matrix.reshape(s * n, s * n)
            residual = (f - scaled @ w).ravel()
            if not (np.isfinite(flat).all() and np.isfinite(residual).all()):
                return None, w
            try:
                inverse = np.linalg.inv(flat)
            except np.linalg.LinAlgError:
                return None, w
            change = (inverse @ residual).reshape(s, n)
            w = w + change
            norm = float(np.max(np.abs(change) / size))
            if norm <= 1e-11 or (norm <= 1e-6 and norm >= 0.3 * before):
                return inverse, w
            before = norm
        return None, w

    def _refine(
        self, times: Numbers, h: Decimal, z: Numbers, w: Numbers, inverse: Floats,
        peak: Numbers, columns: slice,
    ) -> bool:  # fmt: skip
        """Correct some columns of the increments in place; return whether that converged.

        The first column are the states, the others their derivatives, linear once those are known.
        """
        s, n = w.shape[:2]
        before = 1.0
        scaled = self.method.inverse / h
        for attempt in range(FINE):
            slopes = self._slopes(times, z, w, columns)
            part = w[:, :, columns].reshape(s, -1)
            residual = slopes.reshape(s, -1) - scaled @ part
            rough = residual.astype(float).reshape(s * n, -1)
            if not np.isfinite(rough).all():
                return False
            change = (inverse @ rough).reshape(s, n, -1)
            w[:, :, columns] += np.vectorize(Decimal, otypes=[object])(change)
            size = self._sizes(z, w, peak, columns).astype(float)
            norm = float(np.max(np.abs(change) / np.where(size == 0.0, 1.0, size)))
            # What the next correction would be, were it to shrink as much as this one.
            if norm * norm / before <= self.close_enough:
                return True
            if attempt and not norm <= 0.5 * before:
                return norm <= 1e3 * self.close_enough
            before = min(norm, 1.0)
        return False

    def _slopes(self, times: Numbers, z: Numbers, w: Numbers, columns: slice) -> Numbers:
        """Return f at all stages, with derivatives where these are asked for."""
        wide = columns.start > 0
        width = 1 + self.q if wide else 1
        p, none = self.p[:, :width], z[:0, :width]
        found = [
            self.field.at(Inputs(rows_of([t], width)[0], (z + rise)[:, :width], p, none), self.mp)
            for t, rise in zip(times, w, strict=True)
        ]
        return np.array(found, dtype=object)[:, :, columns]

    def _tail(self, z: Numbers, w: Numbers, peak: Numbers, columns: slice) -> Decimal:
        """Return the last coefficients of h u', in units of the tolerance."""
        s, n = w.shape[:2]
        last = np.abs(self.tail @ w[:, :, columns].reshape(s, -1)).max(axis=0).reshape(n, -1)
        size = self._sizes(z, w, peak, columns)
        ratios = [a / b for a, b in zip(last.ravel(), size.ravel(), strict=True) if b > 0]
        return max(ratios, default=Decimal(0)) / self.tolerance

    def _sizes(self, z: Numbers, w: Numbers, peak: Numbers, columns: slice) -> Numbers:
        """Return the sizes in which errors count: each component's own, down to shares of others.

        A tangent far below its state's size per size of its parameter is small beside what errors
        of the state do; those of one direction count together, since single ones are 0 for a while.
        """
        size = np.maximum(np.abs(z + w)[:, :, columns].max(axis=0), np.abs(z[:, columns]))
        size = np.maximum(size, FLOOR * peak[:, columns])
        size = np.maximum(size, BESIDE * size.max(axis=0)[None, :])
        if columns.start:
            size = np.maximum(size, BESIDE * peak[:, :1] / self.scale[None, :])
        return np.asarray(size)


def _table(values: Any, s: int) -> Floats:
    """Return the outputs of a graph, one row each: constants are one number."""
    return np.array([np.broadcast_to(np.asarray(v, dtype=float), (s,)) for v in values])
