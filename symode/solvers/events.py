"""Events on the way of a forward solve: found on dense output, located, fired.

Portions of steps are taken by the compiled loop; after each, all root functions are evaluated at
the end of every new step and at as many points inside as the interpolant has degrees, at once. At
the first change of sign the solve goes back to the start of its step, and steps to the moment
itself; a few Newton iterations on that step put the root at the moment to rounding. Root functions
of time alone are solved before, and steps end there.
"""

from __future__ import annotations

import time as clock_time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symode.errors import GradientError
from symode.kernels import types as kt
from symode.solvers.crossing import (
    MOST,
    Stops,
    noise_of,
    observe_after,
    rate_of,
    root_between,
    run_to_target,
    sharpness,
    state_inside,
    step_to_root,
    take_portion,
    values_inside,
)
from symode.solvers.event_functions import BoundEvents, EventFunctions
from symode.solvers.jumps import EventJump
from symode.solvers.modes import Modes
from symode.solvers.stops import pass_corner
from symode.status import (
    CHATTERING,
    MAX_STEPS,
    PAUSED,
    STEP_TOO_SMALL,
    SUCCESS,
    SWITCH,
)

if TYPE_CHECKING:
    from symode.solvers.forward import Forward

Floats = NDArray[np.float64]

#: Steps of a portion after an event.
FIRST = 4
#: Events at one moment, and moments in a row within `CLOSE` of the span, that count as endless.
CASCADE, CROWD, CLOSE = 1000, 100, 1e-10
#: Steps that the memory of a segment begins with.
STORE = 8


@dataclass(frozen=True)
class Fired:
    """One event that fired: its time, its name, and the states before and after it."""

    t: float
    name: str
    before: Floats
    after: Floats

    def __repr__(self) -> str:
        """Return time, name and states in a line."""
        return f"t = {self.t:.10g}: {self.name}, {self.before} -> {self.after}"


@dataclass(eq=False)
class EventRun:
    """The events of one solve in progress.

    Parameters
    ----------
    functions
        The model's events.
    fired
        What has fired so far.
    jumps
        The moments at which something fired, in order.
    ended
        Whether a terminal event has ended the solve.
    """

    functions: EventFunctions
    fired: list[Fired] = field(default_factory=list)
    jumps: list[EventJump] = field(default_factory=list)
    ended: bool = False
    #: Kinks of a loss at moments of this solve, one sentence each: set by whoever differentiates.
    one_sided: tuple[str, ...] = ()
    last_names: str = ""
    fresh: int = 0

    def run(self, forward: Forward) -> int:
        """Advance to the end of the span or a terminal event; return the status."""
        self.fired, self.jumps, self.ended = [], [], False
        self.recent: deque[float] = deque(maxlen=CROWD)
        system, clock = forward.system, forward.scratch.clock
        self.theta = system.p[: self.functions.n_theta].copy()
        self.bound: BoundEvents = self.functions.bound(self.theta)
        self.n = self.functions.n
        self.work = np.empty(max(1, forward.work_size))
        self.modes = Modes(self.bound, self.work)
        self.watched = [k for k, timed in enumerate(self.functions.timed) if not timed]
        self.seen: dict[int, int] = {}
        #: States that are 0 all the way to the first moment.
        self.idle = np.zeros(self.n, dtype=bool)
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
            if forward.t in corners:
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

    # -- going on --------------------------------------------------------------------------------

    def _toward(self, forward: Forward) -> tuple[int, list[int]]:
        """Step to the target or the first root; return the status and the roots found there."""
        if not self.watched:
            return run_to_target(forward), []
        seen, budget = int(forward.scratch.count[kt.STEPS]), FIRST
        while True:
            status = take_portion(forward, budget)
            crossing = self._check(forward, seen)
            if crossing is not None:
                status, found = self._land(forward, *crossing)
                return status, found
            if status == SWITCH:
                forward.switch()
                self.fresh = -1
                seen = 0
            elif status != PAUSED:
                return status, []
            else:
                seen = int(forward.scratch.count[kt.STEPS])
            budget = min(2 * budget, MOST)

    def _check(self, forward: Forward, first: int) -> tuple[int, list[tuple[float, int]]] | None:
        """Return the first new step in which a root function changes its sign, and its roots.

        The roots are pairs (fraction of the step, root function).
        """
        last = int(forward.scratch.count[kt.STEPS])
        if last <= first:
            return None
        points, values = values_inside(self.bound, forward, first, last)
        signs = np.sign(values)
        expected = np.array(self.signs)[:, None, None]
        changed = (signs != 0) & ~np.isnan(values) & (signs != expected)
        changed[[k for k, timed in enumerate(self.functions.timed) if timed]] = False
        changed[self.modes.live()] = False
        steps = np.flatnonzero(changed.any(axis=(0, 2)))
        if not steps.size:
            return None
        step = int(steps[0])
        roots = []
        for k_ in np.flatnonzero(changed[:, step].any(axis=1)):
            p = int(np.flatnonzero(changed[k_, step])[0])
            low = 0.0 if p == 0 else float(points[p - 1])
            self.seen[int(k_)] = int(signs[k_, step, p])
            roots.append((self._bracketed(forward, first + step, int(k_), low, points[p]), int(k_)))
        return first + step, sorted(roots)

    def _bracketed(self, forward: Forward, step: int, k: int, low: float, high: float) -> float:
        """Return the fraction of a step at which a root function crosses, on dense output."""

        def value(s: float) -> float:
            t, z = state_inside(forward, step, s, self.n)
            return float(self.bound.roots(t, z)[k])

        at_low, sign = value(low), self.signs[k]
        if low == 0.0 and step == self.fresh and (k in self.released):
            # It starts at its zero: what is left of it after dividing by s has a sign there.
            t = float(forward.store.t[step])
            rate = rate_of(self.bound, forward, k, t, forward.store.z[step]) * forward.store.h[step]
            if not rate * value(high) < 0.0:
                return 0.0
            reduced = lambda s: rate if s == 0.0 else (value(s) - at_low) / s  # noqa: E731
            return root_between(reduced, 0.0, high, xtol=1e-300, rtol=1e-14)
        if at_low == 0.0 or np.sign(at_low) != sign:
            return low
        return root_between(value, low, high, xtol=1e-300, rtol=1e-14)

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
        status = step_to_root(self.bound, forward, found[0], moment, y, t, h)
        return status, found if status == SUCCESS else []

    # -- moments ---------------------------------------------------------------------------------

    def _start(self, forward: Forward) -> int:
        """Set the signs at t0, and fire what is due there."""
        self.released: frozenset[int] = frozenset()
        self.fresh = 0
        self.signs = [0] * len(self.functions.roots)
        self.truths = [e.initial_value for e in self.functions.events]
        y = forward.scratch.y
        self._settle(forward, y, [], {}, False)
        self.opening = self.modes.values.copy()
        if self.modes.sliding:
            return CHATTERING
        exact = self._signs(forward, forward.t, y, {}, None)
        held = [trigger.holds(exact) for trigger in self.functions.triggers]
        self.truths = [
            h if e.initial_value else False
            for h, e in zip(held, self.functions.events, strict=True)
        ]
        return self._fire(forward, [], {})

    def _moment(self, forward: Forward, crossing: list[int]) -> int:
        """Turn the signs of these root functions, and fire what turns true."""
        if not self.functions.n_own and all(self.functions.timed[k] for k in crossing):
            # Solved for in time: no state is near a zero of theirs.
            return self._fire(forward, crossing, {})
        noise = noise_of(self.bound, forward, crossing)
        return self._fire(forward, crossing, noise)

    def _signs(
        self,
        forward: Forward,
        t: float,
        y: Floats,
        noise: dict[int, float],
        turned: list[int] | None,
        just_after: bool = False,
    ) -> list[int]:
        """Return the signs of all root functions.

        Parameters
        ----------
        noise
            Size below which a crossing function counts as zero: its slope then tells its sign.
        turned
            Functions whose sign is the other one than before.
        just_after
            Whether zeros are told by their slopes too.
        """
        own = self.functions.n_own
        values = self.bound.roots(t, y[: self.n])[:own]
        found = []
        for k, value in enumerate(values):
            zero = value == 0.0 or abs(value) <= noise.get(k, 0.0)
            if turned is not None and k in turned:
                found.append(-self.signs[k] if self.signs[k] else int(np.sign(value)))
            elif zero and (k in noise or just_after):
                rate = rate_of(self.bound, forward, k, t, y)
                # A root function that jumps has no slope to tell it.
                found.append(int(np.sign(rate if rate or k not in noise else value)))
            elif np.isnan(value):
                found.append(self.signs[k])
            else:
                found.append(int(np.sign(value)))
        return found + self.modes.signs()

    def _settle(
        self,
        forward: Forward,
        y: Floats,
        crossing: list[int],
        noise: dict[int, float],
        moved: bool,
    ) -> None:
        """Set the modes of f that hold at a state."""
        if self.functions.switches:
            seen = {k: self.seen.pop(k, 0) for k in crossing}
            self.modes.settle(forward, y, seen, noise, moved)

    def _fire(self, forward: Forward, crossing: list[int], noise: dict[int, float]) -> int:
        """Fire the events of this moment, one after another; split the solve where any did."""
        t, events, triggers = forward.t, self.functions.events, self.functions.triggers
        n = forward.system.n
        y = forward.scratch.y[:n].copy()
        states = [y[: self.n].copy()]
        steps: list[tuple[int, int, int]] = []
        due: list[tuple[int, int]] = []
        turned: list[int] | None = list(crossing) if crossing else None
        causes: set[int] = set()
        just_after = False
        modes = self.modes.values.copy()
        self._settle(forward, y, crossing, noise, False)
        while True:
            signs = self._signs(forward, t, y, noise, turned, just_after)
            truths = [trigger.holds(signs) for trigger in triggers]
            for i, trigger in enumerate(triggers):
                if trigger.kind == "root":
                    new = (
                        turned is not None
                        and trigger.root in turned
                        and trigger.sign in (0, signs[trigger.root])
                    )
                else:
                    new = truths[i] and not self.truths[i]
                if new:
                    due.append((i, len(steps)))
                    if turned is not None:
                        causes |= trigger.roots() & set(turned)
            self.truths = truths
            due = [
                (i, source)
                for i, source in due
                if events[i].persistent or truths[i] or triggers[i].kind == "root"
            ]
            if due:
                if len(steps) >= CASCADE:
                    self.last_names = ", ".join(dict.fromkeys(events[i].name for i, _, _ in steps))
                    return CHATTERING
                rank = [self.bound.priority(i, t, states[-1]) for i, _ in due]
                i, source = due.pop(int(np.argmax(rank)))
                source = source if events[i].use_trigger_values else len(steps)
                new_state = states[-1].copy()
                new_state[self.functions.targets[i]] = self.bound.assigned(i, t, states[source])
                self.fired.append(Fired(t, events[i].name, states[-1], new_state))
                steps.append((i, source, len(steps)))
                states.append(new_state)
                y[: self.n] = new_state
                self._settle(forward, y, crossing, noise, True)
                self.ended = self.ended or events[i].terminal
                # What leaves zero here has done so: exact zeros would take it back.
                turned = None
                continue
            if just_after:
                break
            # Zeros that leave at once count from here on.
            turned, just_after = (turned if not steps else None), True
            if not steps and crossing:
                # Roots have been told already: not twice.
                break
        self.signs = signs
        values = self.bound.roots(t, y[: self.n]) if self.watched else ()
        self.released = frozenset(
            k for k, value in enumerate(values) if abs(value) <= noise.get(k, 0.0)
        )
        self.fresh = int(forward.scratch.count[kt.STEPS])
        switched = not np.array_equal(modes, self.modes.values)
        if switched:
            # f goes on across switches of some kinds: when they turn is no matter then.
            causes |= {k for k in crossing if self._matters(k)}
        status = SUCCESS
        if steps or switched:
            status = self._split(forward, tuple(steps), tuple(sorted(causes)), modes)
        if self.modes.sliding:
            return CHATTERING
        return status

    def _matters(self, root: int) -> bool:
        """Tell whether f may jump where a root function of a switch is zero."""
        k = int(self.functions.switch_of[root])
        return k >= 0 and not self.functions.switches[k].continuous

    def _split(
        self,
        forward: Forward,
        steps: tuple[tuple[int, int, int], ...],
        causes: tuple[int, ...],
        modes: Floats,
    ) -> int:
        """End the segment with the jump of these steps; f had these modes before."""
        t, after = forward.t, self.modes.values.copy()
        forward.enter_modes(modes)
        self.bound.enter(modes)
        curvature, uncertainty = sharpness(self.bound, forward, causes)
        self.modes.enter(forward)
        jump = EventJump(
            self.bound, forward.system, self.work, t, steps, causes, curvature, uncertainty,
            modes, after,
        )  # fmt: skip
        self.jumps.append(jump)
        if len(self.jumps) == 1 and int(forward.scratch.count[kt.STEPS]):
            self.idle = forward.scratch.peak[: self.n] == 0.0
        self._push(forward, jump)
        self.last_names = jump.names if steps else f"the switch at {jump.names}"
        if steps:
            forward.leave_observations_at(t)
        forward.split(f"the event {jump.names}" if steps else self.last_names, jump)
        self.fresh = 0
        at_end = t == self.t1 or self.ended
        if steps:
            # The course after a jump says nothing about the step before it.
            forward.scratch.count[kt.STARTED] = 0
            if t == self.t0 or at_end:
                observe_after(forward, at_end)
        self.recent.append(t)
        return CHATTERING if self._crowded(t, CROWD, CLOSE) else SUCCESS

    def _push(self, forward: Forward, jump: EventJump) -> None:
        """Carry tangents that only steer the steps over a jump."""
        system, y = forward.stepper.system, forward.scratch.y
        if not isinstance(system, kt.Tangents) or y.size == system.n:
            return
        n = system.n
        # What has no derivative here is told by the pass that differentiates the jump.
        with suppress(GradientError):
            y[n:] = jump.push(y[:n].copy(), y[n:].reshape(-1, n), system.directions).ravel()
        self.modes.enter(forward)

    def _crowded(self, t: float, count: int, share: float) -> bool:
        """Return whether the last so many moments lie within a share of the span."""
        recent = self.recent
        return len(recent) >= count and t - recent[-count] <= share * abs(self.t1 - self.t0)
