"""Forward: one solve in progress, over as many segments and methods as it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.calls import CallMemory, NativeCall
from symode.solvers.events import EventRun
from symode.solvers.jumps import enter_modes
from symode.solvers.mass import Point, first_step
from symode.solvers.options import SolverOptions
from symode.solvers.segments import (
    CALM_BELOW,
    ENDLESS,
    LOG_SMALL_ERROR,
    MISTAKEN,
    PATIENCE,
    SHORT,
    Checkpoint,
    Jump,
    Segment,
    Stepper,
    can_watch,
    memory_between_steps,
    stiff_from,
)
from symode.solvers.stats import SegmentStats, Stats
from symode.solvers.stops import run_over_stops
from symode.solvers.tableau import ExplicitTableau
from symode.status import SWITCH

Floats = NDArray[np.float64]
#: Returns a compiled model and its system for the method of given options.
Build = Callable[[SolverOptions], tuple[NativeModel, kt.System]]

#: Steps the store holds before it first grows.
CAPACITY = 256
#: Why the last segment of a complete solve ended.
THE_END = "the end of the span"


class HeldDownError(Exception):
    """An explicit solve that was to tell is held down by stability; its maker goes another way."""


@dataclass
class Forward:
    """A forward solve in progress: what kernels need, kept together and reused.

    `method`, `control`, `scratch` and `store` are those of the current segment; `system` is the
    first method's, and its parameters are those of all.

    Parameters
    ----------
    system, options
        What to solve and how.
    observations
        Times to record, in the order of the solve.
    n_controlled
        Leading components under absolute tolerance; those after it, up to n, are quadratures,
        held to rtol of their own largest value; tangents follow with ``tangent_atol``.
    weight
        Weights of components judged together (tangents of quadratures).
    build
        Compiles the system for the other method of ``options``, when first needed; None for a
        solve that keeps its method.
    start
        The consistent start of a model with a mass matrix, set before `reset`: its dz/dt is not f,
        and gives the first step size.
    events
        What may happen on the way; needs ``keep`` and all stages of the interpolant.
    stops
        Returns the times at which steps end, of p. Events go before them.
    tells
        Whether a solve that keeps to an explicit method raises `HeldDownError` where stability
        holds its steps down.
    """

    system: kt.System
    options: SolverOptions
    observations: kt.Observations
    n_controlled: int
    work_size: int
    keep: bool = True
    lazy: bool = False
    tangent_atol: Floats | None = None
    weight: Floats | None = None
    build: Build | None = None
    start: Point | None = None
    events: EventRun | None = None
    stops: Callable[[Floats], Floats] | None = None
    tells: bool = False
    #: Steps of the segment that are no longer stored, and whether there may be such.
    rolled: int = field(default=0, init=False)
    rolls: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        n, options = self.system.n, self.options
        extra = np.empty(0) if self.tangent_atol is None else self.tangent_atol
        atol = np.concatenate([options.atol, np.zeros(n - self.n_controlled), extra])
        floor = np.zeros(atol.size)
        floor[self.n_controlled : n] = 1.0
        switching = bool(self.build and options.stiff)
        self.tells = self.tells and not switching and not options.tableau.implicit
        watching = (switching or self.tells) and can_watch(options.tableau)
        control = native.make_control(
            options,
            atol,
            floor,
            weight=self.weight,
            lazy=self.lazy,
            patience=PATIENCE[False] if watching else 0,
            limit=stiff_from(options.rtol) * getattr(options.tableau, "stability", 0.0),
            n_tested=self.n_controlled,
        )
        method = native.native_method(options.tableau)
        scratch = native.make_scratch(method, self.system, atol.size, self.work_size)
        stepper = Stepper(options.tableau, None, self.system, method, control, scratch)
        self.steppers = [stepper]
        self.capacity = CAPACITY
        self.closed: list[Segment] = []
        #: Closed segments of each stepper: counting them anew would make many segments slow.
        self._made: dict[int, int] = {}
        self.ended = False
        self._t0, self._start = np.nan, np.empty(0)
        self.driver = native.Driver(self.enlarge)
        self._slope: NativeCall | None = None
        self._use(stepper)

    def _use(self, stepper: Stepper) -> None:
        """Make a method the current one, with the memory of its next segment."""
        self.stepper = stepper
        self.method, self.control, self.scratch = stepper.method, stepper.control, stepper.scratch
        before = self._made.get(id(stepper), 0)
        if before < len(stepper.stores):
            self.store = stepper.stores[before]
        else:
            capacity = self.capacity if self.keep else 0
            self.store = native.make_store(stepper.method, self.system.n, capacity, self.keep)

    def enlarge(self) -> None:
        """Double the store."""
        self.store = native.enlarged(self.store)

    def rewind(self, t0: float) -> None:
        """Forget the segments of an earlier solve and take up the first method again."""
        self._t0, self._start = t0, np.empty(0)
        if self.closed or self.stepper is not self.steppers[0]:
            self.closed, self._made, self.ended = [], {}, False
            self._use(self.steppers[0])

    def reset(self, y0: Floats, t0: float, t1: float) -> None:
        """Go to the start."""
        self.rewind(t0)
        self._start = np.array(y0)
        scratch = self.scratch
        scratch.count[:] = 0
        scratch.y[:] = y0
        scratch.clock[kt.T], scratch.clock[kt.T_END] = t0, t1
        scratch.clock[kt.H_TRIED] = np.nan
        scratch.clock[kt.GROUP] = 0.0
        at_start = self.observations.t == t0
        self.observations.y[at_start] = y0
        scratch.count[kt.NEXT_OBS] = scratch.count[kt.FIRST_OBS] = np.count_nonzero(at_start)
        scratch.count[kt.PATIENCE] = self.control.patience
        if self.start is not None:
            scratch.peak[:] = np.abs(y0)
            if self.control.weight.size:
                scratch.clock[kt.GROUP] = np.linalg.norm(self.control.weight * y0)
            scratch.clock[kt.ERR] = LOG_SMALL_ERROR
            scratch.clock[kt.H] = first_step(self.start, self.options, t1 - t0)
            scratch.count[kt.STARTED] = 1

    def run(self) -> int:
        """Advance to the end, switching where the problem asks for it; return the status."""
        if self.events is not None:
            return self.events.run(self)
        return self.go() if self.stops is None else run_over_stops(self)

    def go(self) -> int:
        """Advance to where the solve is aimed, switching where the problem asks for it."""
        from symode.kernels.loop import advance

        def enter(budget: int) -> int:
            return int(
                advance(
                    self.method,
                    self.stepper.system,
                    self.control,
                    self.store,
                    self.observations,
                    self.scratch,
                    budget,
                )
            )

        while True:
            self.entering()
            status = self.driver.run(enter)
            if status != SWITCH:
                return status
            self.switch()

    def entering(self) -> None:
        """Look at the solve where the loop is about to be entered."""

    def room(self, budget: int) -> int:
        """Return how many steps of a portion of steps there is room for."""
        return budget

    # -- segments --------------------------------------------------------------------------------

    def switch(self) -> None:
        """End the segment and go on from its state with the other method."""
        if self.tells:
            raise HeldDownError
        old, count = self.stepper, self.scratch.count
        # Carried in counters, so that a restored checkpoint decides alike.
        back = int(count[kt.RETURN]) or PATIENCE[True]
        if not old.tableau.implicit and count[kt.EARLIER] and count[kt.WATCHED] < SHORT:
            back = min(back * MISTAKEN, ENDLESS)
        patience = PATIENCE[False] if old.tableau.implicit else back
        self.close(self._why())
        self._go_on(self._other(old), patience, back)

    def split(self, reason: str, jump: Jump | None = None) -> None:
        """End the segment here and start another of the same method.

        Parameters
        ----------
        reason
            Why, for the statistics.
        jump
            What the state does here; the size of the next step is kept.
        """
        old, count = self.stepper, self.scratch.count
        patience, back = int(count[kt.PATIENCE]), int(count[kt.RETURN])
        self.close(reason, jump)
        if jump is not None:
            n, theta = self.system.n, self.system.p[: int(self.system.address[kt.HOIST_AT])]
            self.scratch.y[:n] = jump.apply(self.t, self.scratch.y[:n].copy(), theta)
        self._go_on(old, patience, back)

    def back_to(self, step: int, y: Floats, reason: str, h: float | None = None) -> None:
        """Drop the steps of this segment from one on; go on from its start.

        In a segment of its own where the method remembers more than a slope.

        Parameters
        ----------
        step
            The first to drop; 0 begins the segment again.
        y
            State at its start.
        reason
            Why, for the statistics.
        h
            Size of the next step; that of the dropped step by default.
        """
        stepper, scratch, n = self.stepper, self.scratch, self.system.n
        count, clock = scratch.count, scratch.clock
        h = float(self.store.h[step]) if h is None else h
        clock[kt.T], clock[kt.H] = self.store.t[step], h
        scratch.y[:n] = y[:n]
        inside = self.observations.step[count[kt.FIRST_OBS] : count[kt.NEXT_OBS]]
        count[kt.NEXT_OBS] -= int(np.count_nonzero(inside >= step))
        count[kt.REJECTED] += count[kt.STEPS] - step
        count[kt.STEPS] = count[kt.STORED] = step
        if step and isinstance(self.method, kt.Erk):
            # It carries its last slope alone from step to step: f is evaluated again, to the same.
            count[kt.FSAL_READY] = count[kt.JUST_REJECTED] = count[kt.CAUSE] = 0
            clock[kt.ERR] = LOG_SMALL_ERROR
            return
        patience, back = int(count[kt.PATIENCE]), int(count[kt.RETURN])
        if step:
            self.close(reason)
            self._go_on(stepper, patience, back)
            return
        kept = {place: int(count[place]) for place in (kt.REJECTED, kt.NFEV, kt.NJEV, kt.NLU)}
        before = self._made.get(id(stepper), 0)
        stepper.stores[before : before + 1] = [self.store]
        count[kt.EARLIER] -= 1
        self._go_on(stepper, patience, back)
        for place, value in kept.items():
            self.scratch.count[place] = value

    def slope(self, t: float, y: Floats) -> Floats:
        """Return f(t, y) in the modes that hold, running cost included. Shape ``(n,)``."""
        n = self.system.n
        if self._slope is None:
            memory = CallMemory(n, 0, n, self.system.p, np.empty(max(1, self.work_size)))
            self._slope = NativeCall(int(self.system.address[kt.RHS]), n, memory)
        return self._slope(t, y[:n])

    def enter_modes(self, modes: Floats) -> None:
        """Let these pieces of the right-hand side hold, for all methods of the solve."""
        for stepper in self.steppers:
            enter_modes(stepper.system, stepper.scratch.work, modes)

    def leave_observations_at(self, t: float) -> None:
        """Leave observations at the current time to the next segment: what follows a jump."""
        count = self.scratch.count
        while count[kt.NEXT_OBS] > count[kt.FIRST_OBS]:
            if self.observations.t[count[kt.NEXT_OBS] - 1] != t:
                return
            count[kt.NEXT_OBS] -= 1

    def close(self, reason: str, jump: Jump | None = None) -> None:
        """Put the current segment behind the solve."""
        before = self._made.get(id(self.stepper), 0)
        self.stepper.stores[before : before + 1] = [self.store]
        self.closed.append(self._segment(reason, jump))
        self._made[id(self.stepper)] = before + 1

    def end(self) -> list[Segment]:
        """Close the last segment of a complete solve; return all."""
        if not self.ended:
            self.close(THE_END)
            self.ended = True
        return self.closed

    def aim(self, t1: float) -> None:
        """Set where the solve ends, further on in its direction."""
        self.scratch.clock[kt.T_END] = t1
        self.ended = False

    def skip_to(self, t: float) -> None:
        """Let the segment that has just begun start at another time, with the same state."""
        self.scratch.clock[kt.T] = self._t0 = t

    @property
    def t_end(self) -> float:
        """Where it is going."""
        return float(self.scratch.clock[kt.T_END])

    @property
    def t(self) -> float:
        """How far it is."""
        return float(self.scratch.clock[kt.T])

    @property
    def segments(self) -> list[Segment]:
        """The segments so far, the current one included."""
        return self.closed if self.ended else [*self.closed, self._segment(THE_END, None)]

    def _segment(self, reason: str, jump: Jump | None) -> Segment:
        count, steps = self.scratch.count, int(self.scratch.count[kt.STEPS])
        t0, start = self._t0, self._start
        if not start.size and self.keep and steps:
            # Kernels that begin a solve themselves leave its start in the store.
            t0, start = float(self.store.t[0]), self.store.z[0].copy()
        return Segment(
            self.stepper, self.store, steps, int(count[kt.FIRST_OBS]), int(count[kt.NEXT_OBS]),
            t0, float(self.scratch.clock[kt.T]), start, count.copy(), reason, jump,
        )  # fmt: skip

    def _why(self) -> str:
        """Return why the current method hands over, with the numbers that decided."""
        count, rho = self.scratch.count, float(self.scratch.clock[kt.RHO])
        signs = f"{count[kt.EVIDENCE]} steps"
        if not self.stepper.tableau.implicit:
            limit = self.control.limit / stiff_from(self.options.rtol)
            return f"stiff: |h|·ρ at {rho:.3g} of {limit:.3g} for {signs}"
        limit = self.control.limit / CALM_BELOW
        return f"no longer stiff: |h|·ρ at most {rho:.2g} of {limit:.3g} for {signs}"

    def _other(self, old: Stepper) -> Stepper:
        """Return the method that is not ``old``, made when first needed, parameters bound."""
        first = self.steppers[0]
        if len(self.steppers) == 1:
            self.steppers.append(self._make_other(first))
        new = self.steppers[1] if old is first else first
        if new.compiled is not None:
            new.compiled.pack(self.system.p[: new.compiled.n_parameters], new.system.p)
        return new

    def _make_other(self, first: Stepper) -> Stepper:
        assert self.build is not None
        assert isinstance(first.tableau, ExplicitTableau)
        options = self.options.with_method(self.options.stiff)
        compiled, system = self.build(options)
        method = native.native_method(options.tableau)
        work = max(self.work_size, compiled.work_size)
        scratch = native.make_scratch(method, system, first.scratch.y.size, work)
        # The arrays are shared: tolerances set for one method hold for the other.
        control = first.control._replace(limit=CALM_BELOW * first.tableau.stability)
        return Stepper(options.tableau, compiled, system, method, control, scratch)

    def _go_on(self, new: Stepper, patience: int, back: int) -> None:
        """Start a segment from the current state: no slope and no controller's past kept."""
        old, clock, count = self.scratch, self.scratch.clock.copy(), self.scratch.count.copy()
        self._use(new)
        scratch = self.scratch
        scratch.y[:], scratch.peak[:], scratch.clock[:] = old.y, old.peak, clock
        scratch.clock[kt.ERR] = LOG_SMALL_ERROR
        scratch.count[:] = 0
        scratch.count[kt.STARTED] = 1
        for kept in (kt.NEXT_OBS, kt.PHASE):
            scratch.count[kept] = count[kept]
        scratch.count[kt.FIRST_OBS] = count[kt.NEXT_OBS]
        scratch.count[kt.EARLIER] = count[kt.EARLIER] + 1
        scratch.count[kt.BEFORE] = count[kt.BEFORE] + count[kt.STEPS]
        scratch.count[kt.PATIENCE], scratch.count[kt.RETURN] = patience, back
        self._t0, self._start = float(clock[kt.T]), scratch.y.copy()

    # -- checkpoints -----------------------------------------------------------------------------

    def take(self) -> Checkpoint:
        """Return what the solve needs to go on from here."""
        parts = [np.ravel(part) for part in memory_between_steps(self.stepper)]
        return Checkpoint(self.stepper, np.concatenate(parts, dtype=float))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint of this solve, as the start of a segment.

        Steps are counted, and stored, from 0 again; what follows is bitwise what followed before.
        """
        self.closed, self._made, self.ended = [], {}, False
        if checkpoint.stepper is not self.stepper:
            self._use(checkpoint.stepper)
        at = 0
        for part in memory_between_steps(self.stepper):
            part[...] = checkpoint.packed[at : at + part.size].reshape(part.shape)
            at += part.size
        count = self.scratch.count
        count[kt.BEFORE] += count[kt.STEPS]
        count[kt.STEPS] = count[kt.STORED] = 0
        count[kt.FIRST_OBS] = count[kt.NEXT_OBS]
        self._t0, self._start = checkpoint.t, self.scratch.y.copy()

    # -- what it cost ----------------------------------------------------------------------------

    @property
    def stats(self) -> Stats:
        """What the solve cost so far."""
        parts = tuple(
            SegmentStats.of(s.stepper.tableau.name, s.t0, s.t1, s.count, s.why)
            for s in self.segments
        )
        return Stats.over(parts, self.driver.seconds, self.options.reason)
