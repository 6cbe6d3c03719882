r"""The reference: J and its gradient to 30 digits, by Taylor series in arbitrary precision.

The series solve the user's equations step after step, each with derivatives in
:math:`(\theta, z_0)`, so nothing of the compiled solvers and of the derived products takes part.
Two runs, of different orders on different steps, give the error estimate.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from symode.gradients.task import Task
from symode.gradients.verify.report import Check, digits_of
from symode.gradients.verify.series import (
    Inputs,
    NoSeriesError,
    SeriesGraph,
    precision,
    rows_of,
)
from symode.gradients.verify.subject import Subject, vector_of
from symode.symbolic.derive import derive_rhs
from symode.symbolic.lift import lift_expressions

Floats = NDArray[np.float64]
Numbers = NDArray[Any]

#: Digits of the reference, where none are asked for.
DIGITS = 30
#: Seconds of work that a reference may take where it was not asked for, and where it was.
BUDGET, ASKED_BUDGET = 1.5, 60.0
#: Digits carried beyond those asked for, against cancellation.
GUARD = 12
#: Largest multiples of a method's tolerance by which its gradient may be off.
UNKNOWN = 1e-2


class TooLongError(NoSeriesError):
    """The reference would take longer than it may."""


@dataclass(frozen=True)
class Reference:
    """J and its derivatives in many digits.

    Parameters
    ----------
    value, theta, z0, t0, t1, times
        As in `symode.gradients.task.Outcome`, as decimals.
    digits
        Digits in which two runs of different orders agree, in the scaled norm.
    steps, order
        Of the run of higher order.
    costs
        The running cost c at t0 and t1.
    """

    value: Decimal
    theta: tuple[Decimal, ...]
    z0: tuple[Decimal, ...]
    t0: Decimal
    t1: Decimal
    times: tuple[Decimal, ...]
    digits: float = 0.0
    steps: int = 0
    order: int = 0
    costs: tuple[float, float] = (0.0, 0.0)

    @property
    def vector(self) -> Floats:
        """The gradient in (theta, z0), rounded to doubles."""
        return np.array([float(v) for v in (*self.theta, *self.z0)])


def check_reference(subject: Subject) -> Check:
    """Return the check against the reference: the error itself, not an estimate of it."""
    asked = subject.reference_digits
    found = subject.reference
    if isinstance(found, str):
        return Check.skip("reference", "accuracy", found, failed=bool(asked))
    outcome = subject.outcome(subject.method, subject.task)
    error = max(subject.gap(vector_of(outcome), found.vector), _error_in_times(subject, found))
    # At an optimum of J = 0 its relative error says nothing.
    size = max(abs(float(found.value)), subject.floor, 1e-300)
    of_value = abs(float(Decimal(outcome.value) - found.value)) / size
    passed = bool(error <= UNKNOWN)
    summary = (
        f"error {error:.1e} (of J: {of_value:.1e}) against Taylor series of order {found.order} in "
        f"{found.steps} steps, known to {found.digits:.0f} digits"
    )
    return Check("reference", passed, digits_of(error), "accuracy", summary)


def _error_in_times(subject: Subject, found: Reference) -> float:
    """Return the error in t0, t1 and the t_i, relative to all derivatives together."""
    outcome = subject.outcome(subject.method, subject.task)
    span = abs(subject.task.t1 - subject.task.t0)
    own = np.array([outcome.t0, outcome.t1, *outcome.times])
    true = np.array([float(v) for v in (found.t0, found.t1, *found.times)])
    size = float(np.linalg.norm(true) * span + np.linalg.norm(found.vector * subject.scale))
    size = max(size, subject.floor) or 1.0
    return float(np.linalg.norm(own - true)) * span / size


def make_reference(
    task: Task, theta: Floats, z0: Floats | None, digits: int = DIGITS, budget: float = ASKED_BUDGET
) -> Reference:
    """Return J and its gradient to about this many digits.

    Parameters
    ----------
    theta, z0
        The point, its doubles taken as exact; z0 is None where the model's own values count.
    budget
        Seconds, after which it gives up.

    Raises
    ------
    NoSeriesError
        When the equations have no Taylor series, or the budget does not suffice.
    """
    deadline = time.thread_time() + budget
    runs = []
    for k, more in enumerate((0, 7)):
        with localcontext(precision(digits + GUARD + more)):
            solver = _Solver(task, theta, z0, digits + 4 + more)
            # The first run may have its share only: what is left must do for the second.
            limit = deadline - (1 - k) * budget * 0.55
            runs.append(solver.run(limit))
    loose, tight = runs
    scale = np.abs(np.concatenate([theta, [float(z) for z in solver.start]]))
    scale = np.where(scale == 0.0, 1.0, scale)
    with localcontext(precision(digits + GUARD)):
        pairs = zip((*loose.theta, *loose.z0), (*tight.theta, *tight.z0), scale, strict=True)
        gaps, sizes = zip(
            *((abs(a - b) * Decimal(float(s)), abs(b) * Decimal(float(s))) for a, b, s in pairs),
            strict=True,
        )
        gap, size = max(gaps), max(sizes)
        error = gap / size if size else gap
    known = float(digits + 4) if error == 0 else float(-error.log10())
    if not known >= min(8.0, digits / 2):
        raise NoSeriesError("two runs of different orders do not agree")
    return Reference(
        tight.value, tight.theta, tight.z0, tight.t0, tight.t1, tight.times, known, tight.steps,
        tight.order, tight.costs,
    )  # fmt: skip


class _Solver:
    """One run: Taylor steps over the span, and the loss's derivatives along them."""

    def __init__(self, task: Task, theta: Floats, z0: Floats | None, digits: int) -> None:
        self.task, self.digits = task, digits
        self.mp = mpmath.MPContext()
        self.mp.dps = digits + GUARD
        m, n = task.m, task.equations.n_states
        self.q = m + n
        self.field = SeriesGraph(derive_rhs(task.field))
        self.order = int(1.16 * digits) + 4
        zero, one = Decimal(0), Decimal(1)
        self.p = rows_of(theta, 1 + self.q)
        for j in range(m):
            self.p[j, 1 + j] = one
        self.theta = theta
        self.moved: tuple[Numbers, Numbers] | None = None
        if z0 is None:
            self.start, self.moved = self._initial(theta)
        else:
            self.start = [Decimal(float(z)) for z in z0]
        self.z = np.full((task.n, 1 + self.q), zero)
        for i in range(n):
            self.z[i, 0], self.z[i, 1 + m + i] = self.start[i], one

    def _initial(self, theta: Floats) -> tuple[list[Decimal], tuple[Numbers, Numbers]]:
        """Return z0, and its derivatives in theta, shape (n, m), and t0."""
        task = self.task
        assert task.equations.initial is not None
        graph = SeriesGraph(lift_expressions(task.equations, task.equations.initial), moving=False)
        p = rows_of(theta, 2 + task.m)
        for j in range(task.m):
            p[j, 1 + j] = Decimal(1)
        t = rows_of([task.t0], 2 + task.m)[0]
        t[-1] = Decimal(1)
        rows = graph.at(Inputs(t, p[:0], p, p[:0]), self.mp)
        return list(rows[:, 0]), (rows[:, 1:-1], rows[:, -1])

    def run(self, limit: float) -> Reference:
        """Return the result.

        Raises
        ------
        TooLongError
            When it would not end before the limit.
        """
        task = self.task
        t0, t1 = Decimal(task.t0), Decimal(task.t1)
        t, z, steps = t0, self.z, 0
        begun = time.thread_time()
        found: dict[int, Numbers] = {
            int(k): z.copy() for k in np.flatnonzero(task.times == task.t0)
        }
        first: Numbers | None = None
        peak = np.abs(z)
        while t != t1:
            inputs = Inputs(rows_of([t], 1 + self.q)[0], z, self.p, z[:0])
            series = self.field.expand(inputs, self.order, self.mp)
            first = series[1, :, 0].copy() if first is None else first
            h = self._step(series, peak, abs(t1 - t))
            end = t1 if h >= abs(t1 - t) else t + (h if t1 > t else -h)
            for k, time_k in enumerate(task.times):
                at = Decimal(float(time_k))
                inside = min(t, end) < at <= max(t, end) if t1 > t else end <= at < t
                if inside and k not in found:
                    found[k] = _horner(series, at - t)
            z = _horner(series, end - t)
            t, steps = end, steps + 1
            peak = np.maximum(peak, np.abs(z))
            now = time.thread_time()
            done = float(abs(t - t0) / abs(t1 - t0))
            if now > limit or (steps >= 3 and begun + (now - begun) / done > limit + (limit - now)):
                raise TooLongError(
                    f"{self.digits} digits would take about {(now - begun) / done:.0f} s of Taylor "
                    "steps (few digits of a stiff or long problem cost many); ask with "
                    "reference_digits= to spend up to a minute"
                )
            if not all(v.is_finite() for v in z.ravel()):
                raise NoSeriesError("the series leaves the finite numbers")
        assert first is not None
        return self._close(t1, z, found, first, steps)

    def _step(self, series: Numbers, peak: Numbers, left: Decimal) -> Decimal:
        """Return the step of Jorba & Zou (2005), *Exp. Math.* 14, 99-117, a bit shorter."""
        size = np.maximum(peak, np.abs(series[0]))
        # Tangents of one direction count together: single ones may be 0 for a while.
        joint = size.copy()
        joint[:, 1:] = size[:, 1:].max(axis=0)[None, :]
        size = np.where(size == 0, joint, size)
        shortest = left
        for k in (self.order - 1, self.order):
            ratio = Decimal(0)
            for c, s in zip(np.abs(series[k]).ravel(), size.ravel(), strict=True):
                if s > 0 and c / s > ratio:
                    ratio = c / s
            if not ratio.is_finite():
                raise NoSeriesError("the series leaves the finite numbers")
            if ratio > 0:
                tolerance = Decimal(10) ** (-self.digits) / ratio
                shortest = min(shortest, (tolerance.ln() / k).exp())
        return shortest

    def _close(
        self, t1: Decimal, z1: Numbers, found: dict[int, Numbers], first: Numbers, steps: int
    ) -> Reference:
        task, m, q = self.task, self.task.m, self.q
        equations, loss = task.equations, task.loss
        total = np.full(1 + q, Decimal(0))
        last = Decimal(0)
        observed = np.full(len(task.times), Decimal(0))
        late = np.full(1 + q, Decimal(0))
        at_t0 = Decimal(0)
        final = Decimal(0)
        if loss.running is not None:
            total = total + z1[-1]
            late = late + z1[-1]
            final = self._rate(t1, z1)[-1]
            last += final
        graphs: list[tuple[Any, Any]] = [
            (SeriesGraph(lift_expressions(equations, [g.expression], g.data_symbols), False), row)
            for g in loss.groups
            for row in g.data
        ]
        if loss.terminal is not None:
            graph = SeriesGraph(lift_expressions(equations, [loss.terminal]), False)
            row, slope = self._term(graph, t1, z1, ())
            total, late, last = total + row, late + row, last + slope
        for k, z in found.items():
            at = Decimal(float(task.times[k]))
            graph, data = graphs[task.order[k]]
            row, slope = self._term(graph, at, z, data)
            total += row
            if task.times[k] == task.t0:
                at_t0 += slope - self._along(row, first)
            else:
                late = late + row
                if task.times[k] == task.t1:
                    last += slope
                else:
                    observed[k] = slope
        n = equations.n_states
        dz0 = total[1 + m :]
        start = Decimal(task.t0)
        running = self._rate(start, self.z)[-1] if loss.running is not None else Decimal(0)
        dt0 = -self._along(late, first) - running + at_t0
        dtheta = total[1 : 1 + m]
        if self.moved is not None:
            of_theta, of_t0 = self.moved
            dtheta = dtheta + (dz0 @ of_theta if m else dtheta)
            dt0 += dz0 @ of_t0
        times = np.full(len(task.times), Decimal(0))
        times[task.places] = observed
        assert n == dz0.size
        return Reference(
            total[0], tuple(dtheta), tuple(dz0), dt0, last, tuple(times), 0.0, steps, self.order,
            (float(running), float(final)),
        )  # fmt: skip

    def _along(self, row: Numbers, first: Numbers) -> Decimal:
        """Return (∂/∂z0) f: the derivative of a term along the flow at t0."""
        states = self.task.equations.n_states
        return Decimal(np.dot(row[1 + self.task.m :], first[:states]))

    def _rate(self, t: Decimal, z: Numbers) -> Numbers:
        """Return f, with the running cost last where there is one. Shape ``(n,)``."""
        inputs = Inputs(rows_of([t], 1 + self.q)[0], z, self.p, z[:0])
        return np.asarray(self.field.at(inputs, self.mp)[:, 0])

    def _term(self, graph: SeriesGraph, t: Decimal, z: Numbers, data: Any) -> tuple[Numbers, Any]:
        """Return a term of the loss as dual number, and its derivative along time."""
        width = 2 + self.q
        wide = np.full((z.shape[0], width), Decimal(0))
        wide[:, :-1], wide[:, -1] = z, self._rate(t, z)
        p = np.full((self.p.shape[0], width), Decimal(0))
        p[:, :-1] = self.p
        clock = rows_of([t], width)[0]
        clock[-1] = Decimal(1)
        inputs = Inputs(clock, wide, p, rows_of(list(data), width))
        row = graph.at(inputs, self.mp)[0]
        return row[:-1], row[-1]


def _horner(series: Numbers, s: Decimal) -> Numbers:
    total = series[-1]
    for row in series[-2::-1]:
        total = total * s + row
    return np.asarray(total)
