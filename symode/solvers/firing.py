"""What happens at a moment: triggers are read, events fire one after another, switches turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symode.equations.event import Trigger
from symode.errors import GradientError
from symode.kernels import types as kt
from symode.solvers.crossing import noise_of, observe_after, sharpness
from symode.solvers.event_functions import BoundEvents, EventFunctions
from symode.solvers.jumps import EventJump
from symode.solvers.modes import Modes
from symode.status import CHATTERING, SUCCESS

if TYPE_CHECKING:
    from collections import deque

    from symode.solvers.forward import Forward

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Events at one moment, and moments in a row within `CLOSE` of the span, that count as endless.
CASCADE, CROWD, CLOSE = 1000, 100, 1e-10


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


class Truths:
    """The truths of all triggers, read off the signs of root functions at once."""

    def __init__(self, triggers: Sequence[Trigger]) -> None:
        plain = [i for i, trigger in enumerate(triggers) if trigger.kind == "relation"]
        self.rest = [(i, t) for i, t in enumerate(triggers) if t.kind not in ("relation", "root")]
        self.crossings = [(i, t) for i, t in enumerate(triggers) if t.kind == "root"]
        self.count, self.plain = len(triggers), np.array(plain, dtype=np.intp)
        self.root = np.array([triggers[i].root for i in plain], dtype=np.intp)
        self.sign = np.array([triggers[i].sign for i in plain], dtype=np.int64)
        self.at_zero = np.array([triggers[i].at_zero for i in plain], dtype=bool)

    def of(self, signs: Ints) -> NDArray[np.bool_]:
        """Return what holds where the root functions have these signs."""
        found = np.zeros(self.count, dtype=bool)
        if self.plain.size:
            here = signs[self.root]
            found[self.plain] = (here == self.sign) | ((here == 0) & self.at_zero)
        for i, trigger in self.rest:
            found[i] = trigger.holds(signs.tolist())
        return found


@dataclass(eq=False)
class Firing:
    """The events of one solve in progress, at the moments themselves.

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
    #: Events that fire one another without end.
    endless: str = ""
    fresh: int = 0

    bound: BoundEvents = field(init=False)
    modes: Modes = field(init=False)
    reader: Truths = field(init=False)
    work: Floats = field(init=False)
    way: list[Floats] = field(init=False)
    recent: deque[float] = field(init=False)
    seen: dict[int, int] = field(init=False)
    watched: list[int] = field(init=False)
    signs: Ints = field(init=False)
    t0: float = field(init=False)
    t1: float = field(init=False)
    n: int = field(init=False)

    @property
    def last_names(self) -> str:
        """What fired last, for messages."""
        if self.endless or not self.jumps:
            return self.endless
        jump = self.jumps[-1]
        return jump.names if jump.steps else f"the switch at {jump.names}"

    def _start(self, forward: Forward) -> int:
        """Set the signs at t0, and fire what is due there."""
        self.released: frozenset[int] = frozenset()
        self.fresh = 0
        self.signs = np.zeros(len(self.functions.roots), dtype=np.int64)
        self.reader = Truths(self.functions.triggers)
        self.truths = np.array([e.initial_value for e in self.functions.events], dtype=bool)
        y = forward.scratch.y
        self._settle(forward, y, [], {}, False)
        self.opening = self.modes.values.copy()
        if self.modes.sliding:
            return CHATTERING
        self.truths &= self.reader.of(self._signs(forward, forward.t, y, {}, None))
        return self._fire(forward, [], {})

    def _moment(self, forward: Forward, crossing: list[int]) -> int:
        """Turn the signs of these root functions, and fire what turns true."""
        plain = not self.watched and not self.functions.switches
        if plain and all(self.signs[k] for k in crossing):
            return self._fire_timed(forward, crossing)
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
    ) -> Ints:
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
        own, n = self.functions.n_own, self.n
        found = np.empty(len(self.functions.roots), dtype=np.int64)
        found[own:] = self.modes.signs()
        if not own:
            return found
        values = self.bound.roots(t, y[:n])[:own]
        found[:own] = (values > 0.0).astype(np.int64) - (values < 0.0)
        undefined = np.isnan(values)
        if undefined.any():
            found[:own][undefined] = self.signs[:own][undefined]
        zeros = {k for k in noise if k < own and abs(values[k]) <= noise[k]}
        if just_after:
            zeros |= set(np.flatnonzero(values == 0.0).tolist())
        if zeros.difference(turned or ()):
            f = forward.slope(t, y)[:n]
            for k in zeros:
                rate = self.bound.rate(k, t, y[:n], f)
                # A root function that jumps has no slope to tell it.
                found[k] = int(np.sign(rate if rate or k not in noise else values[k]))
        for k in turned or ():
            if k < own:
                found[k] = -self.signs[k] if self.signs[k] else int(np.sign(values[k]))
        return found

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
        y = forward.scratch.y[: forward.system.n].copy()
        states = [y[: self.n].copy()]
        steps: list[tuple[int, int, int]] = []
        due: list[tuple[int, int]] = []
        turned: list[int] | None = list(crossing) if crossing else None
        causes: set[int] = set()
        just_after = False
        modes = self.modes.values.copy()
        self._settle(forward, y, crossing, noise, False)
        while events:
            signs = self._signs(forward, t, y, noise, turned, just_after)
            truths = self.reader.of(signs)
            new = np.flatnonzero(truths & ~self.truths).tolist()
            if turned is not None:
                new += [
                    i
                    for i, trigger in self.reader.crossings
                    if trigger.root in turned and trigger.sign in (0, signs[trigger.root])
                ]
            for i in sorted(new):
                due.append((i, len(steps)))
                if turned is not None:
                    causes |= triggers[i].roots() & set(turned)
            self.truths = truths
            due = [
                (i, source)
                for i, source in due
                if events[i].persistent or truths[i] or triggers[i].kind == "root"
            ]
            if due:
                if len(steps) >= CASCADE:
                    self.endless = ", ".join(dict.fromkeys(events[i].name for i, _, _ in steps))
                    return CHATTERING
                i, source = due.pop(self._next(due, t, states[-1]))
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
        if not events:
            signs = self._signs(forward, t, y, noise, turned)
        self.signs = signs
        values = self.bound.roots(t, y[: self.n]).tolist() if self.watched else ()
        self.released = frozenset(
            k for k, value in enumerate(values) if abs(value) <= noise.get(k, 0.0)
        )
        self.fresh = forward.rolled + int(forward.scratch.count[kt.STEPS])
        switched = modes.tobytes() != self.modes.values.tobytes()
        if switched:
            # f goes on across switches of some kinds: when they turn is no matter then.
            causes |= {k for k in crossing if self._matters(k)}
        status = SUCCESS
        if steps or switched:
            status = self._split(forward, tuple(steps), tuple(sorted(causes)), modes, states)
        if self.modes.sliding:
            return CHATTERING
        return status

    def _fire_timed(self, forward: Forward, crossing: list[int]) -> int:
        """Fire the events of a moment where time alone decides: no jump moves any sign."""
        t, events, triggers = forward.t, self.functions.events, self.functions.triggers
        signs = self.signs.copy()
        signs[crossing] *= -1
        truths = self.reader.of(signs)
        new = (truths & ~self.truths).nonzero()[0].tolist()
        for i, trigger in self.reader.crossings:
            if trigger.root in crossing and trigger.sign in (0, signs[trigger.root]):
                new.append(i)
        self.signs, self.truths = signs, truths
        if not new:
            return SUCCESS
        due = [(i, 0) for i in sorted(new)]
        steps: list[tuple[int, int, int]] = []
        states = [forward.scratch.y[: self.n].copy()]
        while due:
            i, _ = due.pop(self._next(due, t, states[-1]))
            source = 0 if events[i].use_trigger_values else len(steps)
            state = states[-1].copy()
            state[self.functions.targets[i]] = self.bound.assigned(i, t, states[source])
            self.fired.append(Fired(t, events[i].name, states[-1], state))
            steps.append((i, source, len(steps)))
            states.append(state)
            self.ended = self.ended or events[i].terminal
        causes = {k for i, _, _ in steps for k in triggers[i].roots()}.intersection(crossing)
        return self._split(forward, tuple(steps), tuple(sorted(causes)), self.modes.values, states)

    def _next(self, due: list[tuple[int, int]], t: float, state: Floats) -> int:
        """Return the place of the event among those due that goes first."""
        if len(due) == 1 or not self.functions.has_priority:
            return 0
        return int(np.argmax([self.bound.priority(i, t, state) for i, _ in due]))

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
        states: list[Floats],
    ) -> int:
        """End the segment with the jump over these states; f had these modes before."""
        t, after = forward.t, self.modes.values.copy()
        forward.enter_modes(modes)
        self.bound.enter(modes)
        curvature, uncertainty = sharpness(self.bound, forward, causes)
        self.modes.enter(forward)
        jump = EventJump(
            self.bound, forward.system, self.work, forward.slope, t, steps, causes, curvature,
            uncertainty, modes, after, tuple(states),
        )  # fmt: skip
        self.jumps.append(jump)
        if len(self.way) == 1:
            # What fires at t0 gives the way its start.
            moved = int(forward.scratch.count[kt.STEPS]) > 0
            self.way = [self.way[0], states[0].copy()] if moved else [states[-1].copy()]
        self._push(forward, jump)
        if steps:
            forward.leave_observations_at(t)
        forward.split("", jump)
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
