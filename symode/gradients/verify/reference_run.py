r"""What every run of a reference shares: where it starts, and the loss's derivatives at its end.

A run carries z as dual numbers, with derivatives in :math:`(\theta, z_0)`, from t0 to t1 in
arbitrary precision; nothing of the compiled solvers and of the derived products takes part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from symode.gradients.task import Task
from symode.gradients.verify.series import Inputs, NoSeriesError, SeriesGraph, rows_of
from symode.symbolic.derive import derive_rhs
from symode.symbolic.lift import lift_expressions

Floats = NDArray[np.float64]
Numbers = NDArray[Any]

#: Digits carried beyond those asked for, against cancellation.
GUARD = 12


class TooLongError(NoSeriesError):
    """The reference would take longer than it may: about so many seconds, where that is known."""

    def __init__(self, message: str, seconds: float = float("nan")) -> None:
        super().__init__(message)
        self.seconds = seconds


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
        The running cost c at t0 and t1; of a composite, that of its parts times their weights.
    kind
        What it was computed with.
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
    kind: str = ""

    @property
    def vector(self) -> Floats:
        """The gradient in (theta, z0), rounded to doubles."""
        return np.array([float(v) for v in (*self.theta, *self.z0)])


class Run(ABC):
    """One run over the span, and the loss's derivatives along it."""

    #: What it does, as in "in 12 steps of ...".
    kind: str

    def __init__(self, task: Task, theta: Floats, z0: Floats | None, digits: int) -> None:
        self.task, self.digits = task, digits
        self.mp = mpmath.MPContext()
        self.mp.dps = digits + GUARD
        m, n = task.m, task.equations.n_states
        self.q = m + n
        self.field = SeriesGraph(derive_rhs(task.field))
        self.order = 0
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

    @abstractmethod
    def run(self, limit: float) -> Reference:
        """Return the result.

        Raises
        ------
        TooLongError
            When it would not end before the limit, in seconds of this thread.
        NoSeriesError
            When there is none.
        """

    def close(
        self, t1: Decimal, z1: Numbers, found: dict[int, Numbers], first: Numbers, steps: int
    ) -> Reference:
        """Return the result of a trajectory.

        Parameters
        ----------
        t1, z1
            The end.
        found
            States at the observations, by their places in the solve.
        first
            f at t0.
        steps
            How many there were.
        """
        task, m = self.task, self.task.m
        equations, loss = task.equations, task.loss
        terms, costs = self._terms(z1, found), (Decimal(0), Decimal(0))
        total = self._outer([sum((t.row for t in terms if t.part == k), self._nothing())
                             for k in range(loss.n_parts)])  # fmt: skip
        weights, whole = total[1 + self.q :], total[: 1 + self.q]
        late, dt0, last = self._nothing(), Decimal(0), Decimal(0)
        observed = np.full(len(task.times), Decimal(0))
        for term in terms:
            w = weights[term.part]
            t = task.t1 if term.place is None else task.times[term.place]
            if t == task.t0:
                dt0 += w * (term.slope - self._along(term.row, first))
                continue
            late = late + w * term.row
            if t == task.t1:
                last += w * term.slope
            else:
                observed[term.place] = w * term.slope
        if loss.runnings:
            w = [weights[k] for k, _ in loss.runnings]
            rates = [
                Decimal(np.dot(w, self._rate(t, z)[equations.n_states :]))
                for t, z in ((Decimal(task.t0), self.z), (t1, z1))
            ]
            dt0, costs = dt0 - rates[0], (rates[0], rates[1])
        dz0, dtheta = whole[1 + m :], whole[1 : 1 + m]
        dt0 -= self._along(late, first)
        if self.moved is not None:
            of_theta, of_t0 = self.moved
            dtheta = dtheta + (dz0 @ of_theta if m else dtheta)
            dt0 += dz0 @ of_t0
        times = np.full(len(task.times), Decimal(0))
        times[task.places] = observed
        return Reference(
            whole[0], tuple(dtheta), tuple(dz0), dt0, last, tuple(times), 0.0, steps, self.order,
            (float(costs[0]), float(costs[1])), self.kind,
        )  # fmt: skip

    def _nothing(self) -> Numbers:
        return np.full(1 + self.q, Decimal(0))

    def _terms(self, z1: Numbers, found: dict[int, Numbers]) -> list[_Term]:
        """Return the terms of all parts of the loss: integrals, terminal ones, observations."""
        task, loss = self.task, self.task.loss
        equations, t1 = task.equations, Decimal(task.t1)
        rates = self._rate(t1, z1)[equations.n_states :] if loss.runnings else ()
        integrals = zip(loss.runnings, z1[equations.n_states :], rates, strict=True)
        terms = [_Term(k, row, rate) for (k, _), row, rate in integrals]
        for k, e in loss.terminals:
            graph = SeriesGraph(lift_expressions(equations, [e]), False)
            terms.append(_Term(k, *self._term(graph, t1, z1, ())))
        graphs = [
            (SeriesGraph(lift_expressions(equations, [g.expression], g.data_symbols), False), row)
            for g in loss.groups
            for row in g.data
        ]
        for place, z in found.items():
            at = int(task.order[place])
            graph, data = graphs[at]
            row, slope = self._term(graph, Decimal(float(task.times[place])), z, data)
            terms.append(_Term(int(loss.row[at]), row, slope, place))
        return terms

    def _outer(self, parts: list[Numbers]) -> Numbers:
        """Return J as a dual number, and behind it its derivatives in the parts."""
        loss, count = self.task.loss, len(parts)
        if loss.outer is None:
            return np.array([*parts[0], Decimal(1)], dtype=object)
        width = 1 + self.q + count
        v, p = (np.full((k, width), Decimal(0)) for k in (count, self.p.shape[0]))
        v[:, : 1 + self.q], p[:, : 1 + self.q] = parts, self.p
        v[range(count), range(1 + self.q, width)] = Decimal(1)
        graph = SeriesGraph(
            lift_expressions(self.task.equations, [loss.outer], loss.symbols), False
        )
        return np.asarray(graph.at(Inputs(rows_of([0], width)[0], p[:0], p, v), self.mp)[0])

    def _along(self, row: Numbers, first: Numbers) -> Decimal:
        """Return (∂/∂z0) f: the derivative of a term along the flow at t0."""
        states = self.task.equations.n_states
        return Decimal(np.dot(row[1 + self.task.m :], first[:states]))

    def _rate(self, t: Decimal, z: Numbers) -> Numbers:
        """Return f, with the running costs last where there are some. Shape ``(n,)``."""
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


@dataclass(frozen=True, eq=False)
class _Term:
    """A term of the loss.

    Parameters
    ----------
    part
        What it belongs to.
    row, slope
        Its dual number, and its derivative along time.
    place
        Which observation it is, in the order of the solve; None for what counts at t1.
    """

    part: int
    row: Numbers
    slope: Any
    place: int | None = None
