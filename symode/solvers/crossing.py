"""Steps and dense output between two looks at the root functions of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from symode.codegen.reference import evaluate
from symode.kernels import types as kt
from symode.solvers.jumps import BoundEvents, EventFunctions
from symode.status import FULL, PAUSED, SWITCH

if TYPE_CHECKING:
    from symode.solvers.forward import Forward

Floats = NDArray[np.float64]

#: Points at which root functions of time that are not linear in it are looked at before the solve.
SAMPLES: Final = 4000
#: Most steps of a portion.
MOST: Final = 128


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


def roots_at(functions: EventFunctions, theta: Floats, t: Floats, z: Floats) -> Floats:
    """Return all root functions at many points. Shape ``(R, points)``."""
    rows = evaluate(functions.graphs["roots"][1], t, z, theta)
    return np.array([np.broadcast_to(np.asarray(row, dtype=float), t.shape) for row in rows])


def stops_of(
    functions: EventFunctions, bound: BoundEvents, theta: Floats, n: int, t0: float, t1: float
) -> list[tuple[float, list[int]]]:
    """Return the zeros of root functions of time alone, in order, with the functions."""
    found: list[tuple[float, int]] = []
    nowhere = np.zeros(n)
    for k, timed in enumerate(functions.timed):
        if not timed:
            continue

        def value(t: float, k: int = k) -> float:
            return float(bound.roots(t, nowhere)[k])

        if functions.linear[k]:
            _, rate, _ = bound.slope(k, t0, nowhere)
            if rate:
                found.append((-value(0.0) / rate, k))
            continue
        grid = np.linspace(t0, t1, SAMPLES + 1)
        course = roots_at(functions, theta, grid, np.zeros((n, grid.size)))[k]
        for i in np.flatnonzero(course[:-1] * course[1:] < 0.0):
            found.append((root_between(value, grid[i], grid[i + 1], xtol=1e-300), k))
        found += [(float(grid[i]), k) for i in np.flatnonzero(course[1:-1] == 0.0) + 1]
    stops: list[tuple[float, list[int]]] = []
    for t, k in sorted(found):
        if not t0 < t <= t1:
            continue
        if stops and t - stops[-1][0] <= 4 * np.spacing(abs(t)):
            stops[-1][1].append(k)
        else:
            stops.append((t, [k]))
    return stops
