"""A forward solve in bounded memory: units of steps, any of which can be solved again."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from symode.gradients.schedule import Held, best_split
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.forward import Floats, Forward
from symode.solvers.segments import LOG_SMALL_ERROR, Checkpoint, Jump, Segment, Stepper
from symode.status import FULL, SUCCESS, SWITCH


@dataclass(eq=False)
class Leg:
    """Units of one segment, and what the loop knows at its start.

    A segment begins with no slope and no stage of the past, so clocks, counters, state and largest
    values say everything; ``end`` is (z, t) at its end.
    """

    first: int
    stepper: Stepper
    clock: Floats
    count: NDArray[np.int64]
    y: Floats
    peak: Floats
    end: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""
        arrays = (self.clock, self.count, self.y, self.peak, self.end)
        return sum(array.nbytes for array in arrays)


@dataclass
class RollingForward(Forward):
    """A forward solve that keeps the steps of one unit, and states from which to solve again.

    A unit is at most ``unit_steps`` steps of one segment towards one target. States between units
    are kept by the rule for an unknown end, those at the start of a segment always.

    Parameters
    ----------
    unit_steps, limit
        Steps of a unit; states between units that may be kept.
    looks
        Called with times and states of each unit of the first pass.
    """

    unit_steps: int = 256
    looks: Callable[[Floats, Floats], None] | None = None
    limit: int = 1
    _memory: kt.Store | None = field(default=None, init=False)
    _owner: Stepper | None = field(default=None, init=False)
    _new: bool = field(default=True, init=False)
    _first: int = field(default=0, init=False)

    def _use(self, stepper: Stepper) -> None:
        self.stepper = stepper
        self.method, self.control, self.scratch = stepper.method, stepper.control, stepper.scratch
        if self._owner is not stepper:
            self._none = native.no_store(stepper.method, self.system.n)
            # Dropped before the new one is made: there is one such memory at a time.
            self._memory = self.store = self._none
            capacity = min(self.capacity, self.unit_steps)
            self._memory = native.make_store(stepper.method, self.system.n, capacity)
            self._owner = stepper
        assert self._memory is not None
        self.store = self._memory

    def reset(self, y0: Floats, t0: float, t1: float) -> None:
        """Go to the start, and forget all that was kept."""
        self.n_units = 0
        #: Steps of units that are not whole, and where units went, from which one on: a long solve
        #: has many units, and its memory does not grow.
        self.odd: dict[int, int] = {}
        self.targets: list[tuple[int, float]] = []
        self.legs: list[Leg] = []
        #: Starts of units inside a segment, where steps were dropped before them.
        self.marks: dict[int, Leg] = {}
        self.held = Held(self.limit)
        self.held.place(0)
        self.saved: dict[int, Checkpoint] = {}
        self.most = self.again = self.rolled = 0
        self._new, self.driver.on_full = True, self.enlarge
        super().reset(y0, t0, t1)
        self._first = int(self.scratch.count[kt.FIRST_OBS])

    def fit(self, capacity: int) -> None:
        """Take memory for so many steps, or a unit where that is less, before it first grows."""
        self.capacity, self._owner = capacity, None
        self._use(self.stepper)

    @property
    def largest(self) -> int:
        """Steps there is memory for."""
        return 0 if self._memory is None else int(self._memory.h.size)

    # -- the first pass --------------------------------------------------------------------------

    def entering(self) -> None:
        """Note what the loop knows where a segment begins."""
        if self._new:
            self.legs.append(self._noted())
            self._new = False

    def _noted(self) -> Leg:
        scratch = self.scratch
        return Leg(
            self.n_units, self.stepper, scratch.clock.copy(), scratch.count.copy(),
            scratch.y.copy(), scratch.peak.copy(),
        )  # fmt: skip

    def enlarge(self) -> None:
        """Make room for more steps: in memory up to a unit, then by beginning another one."""
        store = self.store
        if store.h.size >= self.unit_steps and self.rolls:
            self.roll()
            return
        size = 2 * max(store.h.size, 1)
        self._memory = self.store = native.resized(
            store, min(size, self.unit_steps) if self.rolls else size
        )

    def room(self, budget: int) -> int:
        """Return how many steps of a portion the unit has room for."""
        steps = int(self.scratch.count[kt.STEPS])
        if steps and steps + budget > self.unit_steps:
            self.roll()
        return min(budget, self.unit_steps)

    def aim(self, t1: float) -> None:
        """Set where the solve ends; another target is another unit."""
        if t1 != self.t_end and self.scratch.count[kt.STEPS]:
            self.roll()
        super().aim(t1)

    def roll(self) -> None:
        """End the unit; keep the state here by the rule for an unknown end."""
        self._end_unit()
        self.rolled += int(self.scratch.count[kt.STEPS])
        self._count_anew()
        unit = self.n_units
        dropped = self.held.place(unit)
        if dropped is not None:
            self.saved.pop(dropped, None)
        self._save(unit)

    def settle(self) -> None:
        """Note the last unit of a complete solve; its steps are still in memory."""
        self.entering()
        self._end_unit()

        self.marked = len(self.marks)
        self.loaded = self.n_units - 1 if self.scratch.count[kt.STEPS] else -1
        self.driver.on_full = None

    def _end_unit(self) -> None:
        if steps := int(self.scratch.count[kt.STEPS]):
            if self.looks is not None:
                self.looks(self.store.t[: steps + 1], self.store.z[: steps + 1])
            if steps != self.unit_steps:
                self.odd[self.n_units] = steps
            if not self.targets or self.targets[-1][1] != self.t_end:
                self.targets.append((self.n_units, self.t_end))
            self.n_units += 1

    def unit(self, place: int) -> tuple[int, float]:
        """Return the steps of a unit, and where it was going."""
        _, t_end = self.targets[bisect_right(self.targets, (place, math.inf)) - 1]
        return self.odd.get(place, self.unit_steps), t_end

    def _count_anew(self) -> None:
        """Count, and store, the next steps from 0."""
        count = self.scratch.count
        count[kt.BEFORE] += count[kt.STEPS]
        count[kt.STEPS] = count[kt.STORED] = 0
        count[kt.FIRST_OBS] = count[kt.NEXT_OBS]

    def _save(self, unit: int) -> None:
        self.saved[unit] = self.take()
        self.most = max(self.most, len(self.saved))

    # -- segments --------------------------------------------------------------------------------

    def close(self, reason: str, jump: Jump | None = None) -> None:
        """Put the current segment behind the solve; its steps are given up."""
        self.entering()
        self._end_unit()
        self.closed.append(self._segment(reason, jump))
        self.legs[-1].end = np.append(self.scratch.y[: self.system.n], self.t)

    def back_to(self, step: int, y: Floats, reason: str, h: float | None = None) -> None:
        """Drop the steps of this unit from one on; go on from there in a segment of its own."""
        if isinstance(self.method, kt.Erk) and (step or self.rolled):
            self._back_within(step, y, h)
            return
        if step or not self.rolled:
            if not (step or self._new):
                self.legs.pop()
            super().back_to(step, y, reason, h)
            self.stepper.stores.clear()
            return
        count, clock = self.scratch.count, self.scratch.clock
        clock[kt.T], clock[kt.H] = self.store.t[0], self.store.h[0] if h is None else h
        self.scratch.y[: self.system.n] = y[: self.system.n]
        count[kt.NEXT_OBS] = count[kt.FIRST_OBS]
        count[kt.REJECTED] += count[kt.STEPS]
        count[kt.STEPS] = count[kt.STORED] = 0
        patience, back = int(count[kt.PATIENCE]), int(count[kt.RETURN])
        self.close(reason)
        self._go_on(self.stepper, patience, back)

    def _back_within(self, step: int, y: Floats, h: float | None) -> None:
        """Go on in the same segment: its next unit starts from what is noted here."""
        count, clock = self.scratch.count, self.scratch.clock
        clock[kt.T], clock[kt.H] = self.store.t[step], self.store.h[step] if h is None else h
        clock[kt.ERR] = LOG_SMALL_ERROR
        self.scratch.y[: self.system.n] = y[: self.system.n]
        inside = self.observations.step[count[kt.FIRST_OBS] : count[kt.NEXT_OBS]]
        count[kt.NEXT_OBS] -= int(np.count_nonzero(inside >= step))
        count[kt.REJECTED] += count[kt.STEPS] - step
        count[kt.STEPS] = step
        count[kt.FSAL_READY] = count[kt.JUST_REJECTED] = count[kt.CAUSE] = 0
        self._end_unit()
        self.rolled += step
        self._count_anew()
        self.marks[self.n_units] = self._noted()

    def _go_on(self, new: Stepper, patience: int, back: int) -> None:
        super()._go_on(new, patience, back)
        self._new, self.rolled = True, 0
        self._first = int(self.scratch.count[kt.FIRST_OBS])

    def _segment(self, reason: str, jump: Jump | None) -> Segment:
        found = super()._segment(reason, jump)
        count = found.count.copy()
        count[kt.STEPS] += self.rolled
        count[kt.BEFORE] -= self.rolled
        steps = found.steps + self.rolled
        return replace(found, store=self._none, steps=steps, count=count, first=self._first)

    # -- once more -------------------------------------------------------------------------------

    def bring_back(self, leg: Leg, unit: int) -> int:
        """Solve a unit again and keep its steps; return SUCCESS or why that failed."""
        held = self.held
        for gone in held.drop_from(unit + 1):
            self.saved.pop(gone, None)
        for gone in [u for u in self.marks if u > unit]:
            del self.marks[gone]
        start = self.marks[max(self.marks)] if self.marks else leg
        start = start if start.first > leg.first else leg
        at = max(held.units[-1], start.first)
        self._restore(start if at == start.first else self.saved[at])
        while at < unit:
            room = self.limit - len(held.units) + 1
            stride = best_split(room, unit - at + 1) if room > 1 else unit - at
            for _ in range(stride):
                status = self._repeat(at)
                if status != SUCCESS:
                    return status
                at += 1
                self._count_anew()
            if room > 1 and at < unit:
                held.insert(at)
                self._save(at)
        self.loaded = unit
        return self._repeat(unit)

    def _restore(self, start: Leg | Checkpoint) -> None:
        """Go back to the start of a segment, or to a state between units."""
        if isinstance(start, Checkpoint):
            self.restore(start)
            return
        self._use(start.stepper)
        scratch = self.scratch
        scratch.clock[:], scratch.count[:] = start.clock, start.count
        scratch.y[:], scratch.peak[:] = start.y, start.peak

    def _repeat(self, unit: int) -> int:
        """Solve from the present state over the steps of a unit; return SUCCESS or a failure."""
        from symode.kernels.loop import advance

        steps, t_end = self.unit(unit)
        assert self._memory is not None
        if self._memory.h.size < steps:
            self._memory = native.make_store(self.method, self.system.n, steps)
        # Full after exactly these steps. Kept although they may be overwritten: an implicit step
        # that is kept evaluates f once more.
        self.store = first_steps(self._memory, steps)
        self.scratch.clock[kt.T_END] = t_end
        status = self.driver.run(
            lambda budget: advance(
                self.method, self.stepper.system, self.control, self.store, self.observations,
                self.scratch, budget,
            )
        )  # fmt: skip
        self.again += int(self.scratch.count[kt.STEPS])
        whole = status in (FULL, SWITCH, SUCCESS) and self.scratch.count[kt.STEPS] == steps
        # Short of them, the steps are others, and the states that are compared differ.
        return SUCCESS if whole or status in (FULL, SWITCH) else int(status)


def first_steps(store: kt.Store, steps: int) -> kt.Store:
    """Return the memory of the first steps of a store, as a store of its own."""
    return kt.Store(
        keep=store.keep,
        t=store.t[: steps + 1],
        h=store.h[:steps],
        z=store.z[: steps + 1],
        k=store.k[:steps],
        member=store.member[:steps],
    )
