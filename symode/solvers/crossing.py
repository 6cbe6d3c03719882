"""Steps and dense output between two looks at the root functions of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from symode.codegen.reference import evaluate
from symode.kernels import types as kt
from symode.solvers.event_functions import BoundEvents
from symode.solvers.jumps import slope_of
from symode.status import FULL, PAUSED, SUCCESS, SWITCH

if TYPE_CHECKING:
    from symode.solvers.forward import Forward

Floats = NDArray[np.float64]

#: Points at which root functions of time that are not linear in it are looked at before the solve.
SAMPLES: Final = 4000
#: Most steps of a portion.
MOST: Final = 128
#: Newton iterations that put a root at the end of a step.
POLISH: Final = 6


def take_portion(forward: Forward, budget: int) -> int:
    """Take at most so many steps."""
    from symode.kernels.loop import advance

    while True:
        status = int(
            advance(
                forward.method, forward.stepper.system, forward.control, forward.store,
                forward.observations, forward.scratch, budget,
            )
        )  # fmt: skip
        if forward.driver.stop is not None and forward.driver.stop.is_set():
            raise KeyboardInterrupt
        if status != FULL:
            return status
        forward.enlarge()


def run_to_target(forward: Forward) -> int:
    """Step to where the solve is aimed, without a look at root functions."""
    while True:
        status = take_portion(forward, MOST)
        if status == SWITCH:
            forward.switch()
        elif status != PAUSED:
            return status


def weights_at(method: kt.Method, s: Floats) -> Floats:
    """Return the interpolant's weights at fractions of a step. Shape ``(points, n_dense)``."""
    powers = s[:, None] ** np.arange(1, method.dense.shape[1] + 1)
    result: Floats = powers @ method.dense[: method.n_dense].T
    return result


def state_inside(forward: Forward, step: int, s: float, n: int) -> tuple[float, Floats]:
    """Return time and state inside a step."""
    store, method = forward.store, forward.method
    h = float(store.h[step])
    if s == 1.0:
        return float(store.t[step + 1]), store.z[step + 1, :n].copy()
    scale = h if isinstance(method, kt.Erk | kt.Dirk | kt.Chebyshev) else 1.0
    w = scale * weights_at(method, np.array([s]))[0]
    return float(store.t[step]) + s * h, store.z[step, :n] + w @ store.k[step, : w.size, :n]


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

    def next(self, t: float, signs: list[int]) -> tuple[float, list[int]] | None:
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


def rate_of(bound: BoundEvents, forward: Forward, k: int, t: float, y: Floats) -> float:
    """Return dr/dt of one root function along the solution."""
    n = bound.functions.n
    r_z, r_t, _ = bound.slope(k, t, y[:n])
    work = np.empty(max(1, forward.work_size))
    return float(r_z @ slope_of(forward.system, work, t, y)[:n]) + r_t


def step_to_root(
    bound: BoundEvents, forward: Forward, k: int, moment: float, y: Floats, t: float, h: float
) -> int:
    """Step from (t, y) to a root near ``moment``, polished on the step itself; return a status.

    ``h`` is the step, from t on, on whose dense output the root was found.
    """
    n, target, last_move = bound.functions.n, forward.t_end, np.inf
    for attempt in range(POLISH):
        if moment <= t:
            # At its very start: the moment is now.
            break
        forward.aim(moment)
        segment = len(forward.closed)
        status = run_to_target(forward)
        if status != SUCCESS:
            return status
        now = forward.scratch.y[: forward.system.n]
        value = float(bound.roots(moment, now[:n])[k])
        rate = rate_of(bound, forward, k, moment, now)
        move = -value / rate if rate else 0.0
        fits = t < moment + move <= min(t + h, target) or moment + move == target
        small = abs(move) <= 2 * np.spacing(abs(moment))
        settled = small or attempt == POLISH - 1 or abs(move) > 0.5 * last_move
        if settled or not fits or len(forward.closed) != segment:
            break
        moment, last_move = moment + move, abs(move)
        forward.back_to(0, y, "", h)
    return SUCCESS


def sharpness(
    bound: BoundEvents, forward: Forward, causes: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Return d²r/dt² over the last step, and the error of r that the tolerances allow."""
    functions, n = bound.functions, bound.functions.n
    curvature, uncertainty = np.zeros(len(causes)), np.zeros(len(causes))
    count, store, y = int(forward.scratch.count[kt.STEPS]), forward.store, forward.scratch.y
    options, t = forward.options, forward.t
    for j, k in enumerate(causes):
        if functions.timed[k]:
            # No error of the state moves it.
            continue
        r_z, _, _ = bound.slope(k, t, y[:n])
        size = options.atol + options.rtol * np.abs(y[:n])
        uncertainty[j] = float(np.abs(r_z) @ np.broadcast_to(size, n))
        if count:
            past, h = store.z[count - 1], float(store.h[count - 1])
            before = rate_of(bound, forward, k, t - h, past)
            curvature[j] = (rate_of(bound, forward, k, t, y) - before) / h
    return curvature, uncertainty


def values_inside(
    bound: BoundEvents, forward: Forward, first: int, last: int
) -> tuple[Floats, Floats]:
    """Return fractions of a step, and the root functions there in the steps first to last - 1.

    The last fraction is the end of the step. Shapes: ``(q,)`` and ``(roots, last - first, q)``.
    """
    store, method, n = forward.store, forward.method, bound.functions.n
    points = np.arange(1, method.dense.shape[1] + 1) / method.dense.shape[1]
    h, weights = store.h[first:last], weights_at(method, points)
    scale = h if isinstance(method, kt.Erk | kt.Dirk | kt.Chebyshev) else np.ones(h.size)
    k = store.k[first:last, : method.n_dense, :n]
    z = store.z[first:last, None, :n] + scale[:, None, None] * np.einsum("pl,sln->spn", weights, k)
    z[:, -1] = store.z[first + 1 : last + 1, :n]
    t = store.t[first:last, None] + h[:, None] * points
    values = roots_at(bound, t.ravel(), z.reshape(-1, n).T)
    return points, values.reshape(-1, h.size, points.size)


def noise_of(bound: BoundEvents, forward: Forward, crossing: list[int]) -> dict[int, float]:
    """Return the size below which each of these root functions counts as zero now."""
    t, y, n = forward.t, forward.scratch.y, bound.functions.n
    values = bound.roots(t, y[:n])
    noise = {}
    for k in crossing:
        r_z, r_t, _ = bound.slope(k, t, y[:n])
        size = float(np.abs(r_z) @ np.abs(y[:n])) + abs(r_t * t)
        size += abs(rate_of(bound, forward, k, t, y)) * abs(t)
        noise[k] = 4 * abs(values[k]) + 64 * np.finfo(float).eps * size
    return noise


def observe_after(forward: Forward, at_end: bool) -> None:
    """Let observations at this moment see the state after its jump; none follow ``at_end``."""
    observations, n, count = forward.observations, forward.system.n, forward.scratch.count
    mine = observations.t == forward.t
    observations.y[mine, :n] = forward.scratch.y[:n]
    if mine.any() and at_end:
        stop = int(np.flatnonzero(mine)[-1]) + 1
        count[kt.NEXT_OBS] = max(int(count[kt.NEXT_OBS]), stop)
