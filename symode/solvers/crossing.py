"""Steps between two looks at the root functions of events, and steps to their zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from symode.kernels import types as kt
from symode.solvers.event_functions import BoundEvents
from symode.status import FULL, PAUSED, SUCCESS, SWITCH

if TYPE_CHECKING:
    from symode.kernels.moments import Course
    from symode.solvers.forward import Forward

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Most steps of a portion.
MOST: Final = 128
#: Newton iterations that put a root at the end of a step.
POLISH: Final = 6
#: The machine's unit of rounding.
EPS: Final = float(np.finfo(float).eps)


def take_portion(forward: Forward, budget: int) -> int:
    """Take at most so many steps."""
    from symode.kernels.loop import advance

    forward.entering()
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


def forget_after(forward: Forward, first: int, step: int, peak: Floats, group: float) -> None:
    """Let the largest values seen be those before a step, not of steps beyond a moment.

    ``peak`` and ``group`` are those before the step ``first``. Beyond the moment f is another one:
    what a state did there says nothing, and how far a portion went must not matter.
    """
    scratch, n = forward.scratch, forward.system.n
    scratch.peak[:] = peak
    inside = np.abs(forward.store.z[first : step + 1]).max(axis=0)
    np.maximum(scratch.peak[:n], inside, out=scratch.peak[:n])
    scratch.clock[kt.GROUP] = group


def run_to_target(forward: Forward) -> int:
    """Step to where the solve is aimed, without a look at root functions."""
    while True:
        status = take_portion(forward, MOST)
        if status == SWITCH:
            forward.switch()
        elif status != PAUSED:
            return status


class Watch:
    """Looks for the first crossing among steps, in compiled code.

    Parameters
    ----------
    bound
        The root functions.
    """

    def __init__(self, bound: BoundEvents) -> None:
        self.bound = bound
        count = bound.n_roots
        self.found = np.zeros((count, 4))
        self.away = np.array([not timed for timed in bound.functions.timed], dtype=np.int64)
        self._z, self._value = np.zeros(bound.n), np.zeros(count)
        self._courses: dict[int, tuple[kt.Method, Course]] = {}

    def _course(self, method: kt.Method) -> Course:
        """Return the root functions along the steps of a method, as kernels take them."""
        from symode.kernels.moments import Course

        kept = self._courses.get(id(method))
        if kept is None:
            bound = self.bound
            course = Course(
                address=bound.compiled.address["roots"],
                n=bound.n,
                n_dense=method.n_dense,
                scaled=isinstance(method, kt.Erk | kt.Dirk | kt.Chebyshev),
                p=bound.p,
                work=bound.work,
                dense=method.dense,
                z=self._z,
                value=self._value,
                grid=np.zeros((method.dense.shape[1] + 1, self._value.size)),
            )
            # The method is kept with it: its id is then no other's.
            kept = self._courses[id(method)] = (method, course)
        return kept[1]

    def first(
        self,
        forward: Forward,
        first: int,
        signs: Ints,
        hidden: list[int],
        fresh: int,
        released: frozenset[int],
    ) -> tuple[int, list[tuple[float, int]], dict[int, int]] | None:
        """Return the first step from ``first`` on in which a sign turns; None where none does.

        With it come pairs (fraction of the step, root function), and the signs beyond.

        Parameters
        ----------
        signs
            Those that hold.
        hidden
            Root functions that are not looked at, besides those of time alone.
        fresh, released
            Step that begins at a moment, and the root functions that are zero there.
        """
        from symode.kernels.moments import AT_ZERO, HIGH, SIGN, first_crossing

        last = int(forward.scratch.count[kt.STEPS])
        if last <= first:
            return None
        course, looked, found = self._course(forward.method), self.away, self.found
        if hidden:
            looked = looked.copy()
            looked[hidden] = 0
        start = np.zeros(signs.size, dtype=np.int64)
        start[list(released)] = 1
        step = first_crossing(
            course, forward.store, first, last, signs, looked, fresh, start, found
        )
        if step < 0:
            return None
        roots, beyond = [], {}
        for k in np.flatnonzero(found[:, SIGN]).tolist():
            s = float(found[k, HIGH])
            if found[k, AT_ZERO]:
                s = self._after_zero(forward, course, step, k, s)
            roots.append((s, k))
            beyond[k] = int(found[k, SIGN])
        return step, sorted(roots), beyond

    def _after_zero(
        self, forward: Forward, course: Course, step: int, k: int, high: float
    ) -> float:
        """Return where a root function that starts at its zero comes back to it."""
        from symode.kernels.moments import root_after_zero

        t, z = float(forward.store.t[step]), forward.store.z[step]
        f = forward.slope(t, z)[: self.bound.n]
        rate = self.bound.rate(k, t, z[: self.bound.n], f) * float(forward.store.h[step])
        # What is left of it after dividing by s has the slope's sign at 0.
        return float(root_after_zero(course, forward.store, step, k, high, rate)) if rate else 0.0


def step_to_root(
    bound: BoundEvents, forward: Forward, k: int, moment: float, t: float, h: float
) -> int:
    """Step from t to a root near ``moment``, polished on the step itself; return a status.

    ``h`` is the step, from t on, on whose dense output the root was found.
    """
    n, target, last_move = bound.n, forward.t_end, np.inf
    scratch, count = forward.scratch, forward.scratch.count
    kept = [part.copy() for part in (scratch.clock, count, scratch.y, scratch.peak)]
    for attempt in range(POLISH):
        if moment <= t:
            # At its very start: the moment is now.
            break
        forward.aim(moment)
        segment = len(forward.closed)
        status = run_to_target(forward)
        if status != SUCCESS:
            return status
        now = scratch.y[: forward.system.n]
        value = float(bound.roots(moment, now[:n])[k])
        rate = bound.rate(k, moment, now[:n], forward.slope(moment, now)[:n])
        move = -value / rate if rate else 0.0
        fits = t < moment + move <= min(t + h, target) or moment + move == target
        small = abs(move) <= 2 * np.spacing(abs(moment))
        settled = small or attempt == POLISH - 1 or abs(move) > 0.5 * last_move
        if settled or not fits or len(forward.closed) != segment:
            break
        moment, last_move = moment + move, abs(move)
        # The step is made again from its start: what it cost stays counted.
        dropped = count[kt.REJECTED] + count[kt.STEPS] - kept[1][kt.STEPS]
        cost = dropped, count[kt.NFEV], count[kt.NJEV], count[kt.NLU]
        for mine, before in zip((scratch.clock, count, scratch.y, scratch.peak), kept, strict=True):
            mine[:] = before
        count[kt.REJECTED], count[kt.NFEV], count[kt.NJEV], count[kt.NLU] = cost
    return SUCCESS


def sharpness(
    bound: BoundEvents, forward: Forward, causes: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Return d²r/dt² over the last step, and the error of r that the tolerances allow."""
    functions, n = bound.functions, bound.n
    curvature, uncertainty = np.zeros(len(causes)), np.zeros(len(causes))
    if all(functions.timed[k] for k in causes):
        # No error of the state moves it.
        return curvature, uncertainty
    count, store, options, t = (
        int(forward.scratch.count[kt.STEPS]), forward.store, forward.options, forward.t,
    )  # fmt: skip
    y = forward.scratch.y[: forward.system.n]
    size = np.broadcast_to(options.atol + options.rtol * np.abs(y[:n]), n)
    f = forward.slope(t, y)[:n]
    past, h = (store.z[count - 1], float(store.h[count - 1])) if count else (y, 1.0)
    f_past = forward.slope(t - h, past)[:n] if count else f
    for j, k in enumerate(causes):
        if functions.timed[k]:
            continue
        r_z, r_t, _ = bound.slope(k, t, y[:n])
        uncertainty[j] = float(np.abs(r_z) @ size)
        if count:
            before = bound.rate(k, t - h, past[:n], f_past)
            curvature[j] = (float(r_z @ f) + r_t - before) / h
    return curvature, uncertainty


def noise_of(bound: BoundEvents, forward: Forward, crossing: list[int]) -> dict[int, float]:
    """Return the size below which each of these root functions counts as zero now."""
    t, y, n = forward.t, forward.scratch.y[: forward.system.n], bound.n
    values, f = bound.roots(t, y[:n]), forward.slope(t, y)[:n]
    noise: dict[int, float] = {}
    for k in crossing:
        r_z, r_t, _ = bound.slope(k, t, y[:n])
        size = float(np.abs(r_z) @ np.abs(y[:n])) + abs(r_t * t)
        size += abs(float(r_z @ f) + r_t) * abs(t)
        noise[k] = 4 * abs(float(values[k])) + 64 * EPS * size
    return noise


def observe_after(forward: Forward, at_end: bool) -> None:
    """Let observations at this moment see the state after its jump; none follow ``at_end``."""
    observations, n, count = forward.observations, forward.system.n, forward.scratch.count
    mine = observations.t == forward.t
    observations.y[mine, :n] = forward.scratch.y[:n]
    if mine.any() and at_end:
        stop = int(np.flatnonzero(mine)[-1]) + 1
        count[kt.NEXT_OBS] = max(int(count[kt.NEXT_OBS]), stop)
