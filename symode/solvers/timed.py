"""Moments that time and parameters alone decide: solved for before a step comes near them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from symode.codegen.reference import evaluate
from symode.solvers.event_functions import BoundEvents

Floats = NDArray[np.float64]

#: Points at which root functions of time that are not linear in it are looked at before the solve.
SAMPLES: Final = 4000


def root_between(
    function: Callable[[float], float], low: float, high: float, **options: float
) -> float:
    """Return a root of a function by Brent's method."""
    # 0.25 s of imports that no solve without events needs.
    from scipy.optimize import brentq

    return float(brentq(function, low, high, **options))


def roots_at(bound: BoundEvents, t: Floats, z: Floats) -> Floats:
    """Return all root functions at many points. Shape ``(R, points)``."""
    rows = evaluate(bound.functions.graphs["roots"][1], t, z, bound.p)
    return np.array([np.broadcast_to(np.asarray(row, dtype=float), t.shape) for row in rows])


class Stops:
    """The zeros of root functions of time alone, solved for before a step comes near them.

    Those that depend on a mode are solved for again from each moment.

    Parameters
    ----------
    bound
        The root functions.
    t0, t1
        The span.
    """

    def __init__(self, bound: BoundEvents, t0: float, t1: float) -> None:
        functions = bound.functions
        self.bound, self.t1 = bound, t1
        self.nowhere = np.zeros(functions.n)
        floors = {
            functions.n_own + j for s in functions.switches if s.kind == "floor" for j in s.roots
        }
        timed = [k for k, alone in enumerate(functions.timed) if alone]
        self.again = [k for k in timed if functions.nested[k] or k in floors]
        found: list[tuple[float, int]] = []
        at_zero, slopes = self._lines() if timed else (self.nowhere, self.nowhere)
        for k in timed:
            if k in self.again:
                continue
            if functions.linear[k]:
                if slopes[k]:
                    found.append((-at_zero[k] / slopes[k], k))
            else:
                found += [(t, k) for t in self._zeros(k, t0, t1)]
        self.fixed = sorted((t, k) for t, k in found if t0 < t <= t1)
        self.place = 0

    def _lines(self) -> tuple[Floats, Floats]:
        """Return values at t = 0, and slopes, of all root functions."""
        compiled = self.bound.functions.compiled
        slopes = compiled.call("roots_dt", 0.0, self.nowhere, self.bound.p)
        return self.bound.roots(0.0, self.nowhere), slopes

    def _zeros(self, k: int, low: float, high: float, sign: int = 0) -> list[float]:
        """Return the zeros inside a stretch; with a sign, the first at which it is lost."""

        def value(t: float) -> float:
            return float(self.bound.roots(t, self.nowhere)[k])

        grid = np.linspace(low, high, SAMPLES + 1)
        nowhere = np.zeros((self.nowhere.size, grid.size))
        course = roots_at(self.bound, grid, nowhere)[k]
        change = course[:-1] * course[1:] < 0.0
        if sign:
            change &= course[:-1] * sign > 0.0
        found = [
            root_between(value, grid[i], grid[i + 1], xtol=1e-300) for i in np.flatnonzero(change)
        ]
        inner = np.flatnonzero(course[1:-1] == 0.0) + 1
        found += [float(grid[i]) for i in inner if not sign or course[i - 1] * sign > 0.0]
        return sorted(found)

    def next(self, t: float, signs: NDArray[np.int64]) -> tuple[float, list[int]] | None:
        """Return the next of them after a time, and the functions; None where there is none.

        Parameters
        ----------
        signs
            Those of all root functions from here on.
        """
        while self.place < len(self.fixed) and self.fixed[self.place][0] <= t:
            self.place += 1
        found: list[tuple[float, int]] = []
        for time, k in self.fixed[self.place :]:
            if found and time - found[0][0] > 4 * np.spacing(abs(time)):
                break
            found.append((time, k))
        if self.again:
            at_zero, slopes = self._lines()
            for k in self.again:
                if self.bound.functions.linear[k]:
                    # Crossed on the way out only: the moment it was entered at is no zero to come.
                    ahead = slopes[k] * signs[k] < 0.0
                    times = [-at_zero[k] / slopes[k]] if ahead else []
                else:
                    times = self._zeros(k, t, self.t1, signs[k])[:1]
                found += [(time, k) for time in times if t < time <= self.t1]
        if not found:
            return None
        first = min(found)[0]
        return first, [k for time, k in found if time - first <= 4 * np.spacing(abs(first))]
