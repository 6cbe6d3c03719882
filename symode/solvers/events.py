"""Events on the way of a forward solve: found on dense output, located, fired.

Portions of steps are taken by the compiled loop, and looked through by another: see
`symode.kernels.moments`. At the first change of sign the solve goes back to the start of its step,
and steps to the moment itself; a few Newton iterations on that step put the root at the moment to
rounding. Root functions of time alone are solved before, and steps end there.
"""

from __future__ import annotations

import time as clock_time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symode.kernels import types as kt
from symode.solvers.crossing import (
    MOST,
    Watch,
    forget_after,
    run_to_target,
    step_to_root,
    take_portion,
)
from symode.solvers.firing import CROWD, Firing
from symode.solvers.modes import Modes
from symode.solvers.stops import pass_corner
from symode.solvers.timed import Stops
from symode.status import CHATTERING, MAX_STEPS, PAUSED, STEP_TOO_SMALL, SUCCESS, SWITCH

if TYPE_CHECKING:
    from symode.solvers.forward import Forward

Floats = NDArray[np.float64]

#: Steps of a portion after an event, at least; one that follows others is as long as they were.
FIRST = 4
#: Steps that the memory of a segment begins with.
STORE = 8


class EventRun(Firing):
    """The events of one solve in progress: see `Firing`."""

    def run(self, forward: Forward) -> int:
        """Advance to the end of the span or a terminal event; return the status."""
        self.fired, self.jumps, self.ended, self.endless = [], [], False, ""
        self.recent: deque[float] = deque(maxlen=CROWD)
        system, clock = forward.system, forward.scratch.clock
        self.bound = self.functions.bound(system.p[: self.functions.n_theta].copy())
        self.n = self.functions.n
        self.work = np.empty(max(1, forward.work_size))
        self.modes = Modes(self.bound)
        self.watched = [k for k, timed in enumerate(self.functions.timed) if not timed]
        self.watch = Watch(self.bound) if self.watched else None
        self.seen: dict[int, int] = {}
        self.stretch = FIRST
        #: State at both ends of the way to the first moment; the latter once it is reached.
        self.way = [forward.scratch.y[: self.n].copy()]
        self.t0, self.t1 = t0, t1 = float(clock[kt.T]), float(clock[kt.T_END])
        # Many short segments: a store grows where one is long.
        forward.capacity = min(forward.capacity, STORE)
        begun = clock_time.perf_counter()
        try:
            status = self._run(forward, t0, t1)
            stuck = status in (STEP_TOO_SMALL, MAX_STEPS)
            return CHATTERING if stuck and self._crowded(forward.t, 10, 1e-8) else status
        finally:
            forward.driver.seconds += clock_time.perf_counter() - begun

    def _run(self, forward: Forward, t0: float, t1: float) -> int:
        status = self._start(forward)
        if status != SUCCESS or self.ended:
            return status
        # Modes that stops depend on are known from here on.
        stops = Stops(self.bound, t0, t1)
        corners = np.empty(0) if forward.stops is None else forward.stops(forward.system.p)
        while True:
            if corners.size and forward.t in corners:
                pass_corner(forward, float(np.nextafter(forward.t, np.inf)))
                self.fresh = -1
            stop = stops.next(forward.t, self.signs)
            target, crossing = (t1, []) if stop is None else stop
            ahead = corners[(corners > forward.t) & (corners < target)][:1]
            forward.aim(float(ahead[0]) if ahead.size else target)
            status, found = self._toward(forward)
            if status != SUCCESS:
                return status
            if ahead.size and not found:
                continue
            if found:
                crossing = found
            elif stop is None:
                return SUCCESS
            if forward.t == t1 and all(k >= self.functions.n_own for k in crossing):
                # What f does beyond the end is no matter.
                return SUCCESS
            status = self._moment(forward, crossing)
            if status != SUCCESS or self.ended:
                return status
            if forward.t == t1:
                return SUCCESS

    def _toward(self, forward: Forward) -> tuple[int, list[int]]:
        """Step to the target or the first root; return the status and the roots found there."""
        if self.watch is None:
            return run_to_target(forward), []
        budget, hidden, taken = self.stretch, self.modes.live(), 0
        while True:
            room = forward.room(budget)
            seen = int(forward.scratch.count[kt.STEPS])
            past = forward.scratch.peak.copy(), float(forward.scratch.clock[kt.GROUP])
            status = take_portion(forward, room)
            fresh = self.fresh - forward.rolled
            found = self.watch.first(forward, seen, self.signs, hidden, fresh, self.released)
            if found is not None:
                step, roots, beyond = found
                forget_after(forward, seen, step, *past)
                self.seen.update(beyond)
                self.stretch = min(MOST, max(FIRST, taken + step - seen + 2))
                return self._land(forward, step, roots)
            if status == SWITCH:
                forward.switch()
                self.fresh = -1
            elif status != PAUSED:
                return status, []
            else:
                taken += int(forward.scratch.count[kt.STEPS]) - seen
            budget = min(2 * budget, MOST)

    def _land(
        self, forward: Forward, step: int, roots: list[tuple[float, int]]
    ) -> tuple[int, list[int]]:
        """Go back to the start of a step and step to its first root; return the roots there."""
        store = forward.store
        t, h, y = float(store.t[step]), float(store.h[step]), store.z[step].copy()
        moment = t + roots[0][0] * h
        same = 64 * np.spacing(max(abs(t), abs(moment))) + 1e-13 * abs(h)
        found = [k for s, k in roots if abs(t + s * h - moment) <= same]
        forward.back_to(step, y, "the step of an event")
        forward.rolls = False
        try:
            status = step_to_root(self.bound, forward, found[0], moment, t, h)
        finally:
            forward.rolls = True
        return status, found if status == SUCCESS else []
