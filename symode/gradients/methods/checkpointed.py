"""CheckpointedAdjoint: the transpose of the solver's own steps, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from symode.errors import GradientError, OptionError
from symode.gradients.methods.base import (
    Floats,
    begin,
    check_finite,
    failed_backward,
    failed_forward,
)
from symode.gradients.methods.watched import WatchedRunner
from symode.gradients.schedule import Held, best_split, fewest_runs, repetitions
from symode.gradients.task import Task
from symode.gradients.unlocated import Jumps
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.methods import get_method
from symode.solvers.segments import Checkpoint, Stepper
from symode.status import FULL, MAX_STEPS, PAUSED, SUCCESS, SWITCH

#: Bytes used where neither memory nor checkpoints are given.
MEMORY = 64 * 2**20
#: Steps of a segment where the number of checkpoints is given.
SEGMENT = 64
#: Bytes of Python around the numbers of one checkpoint: the array, its place in a table that may
#: be half empty, and its level.
OVERHEAD = 384
#: Steps the store of a segment holds before it first grows.
FIRST = 256


@dataclass(frozen=True)
class CheckpointedAdjoint:
    r"""Transpose every accepted step as DiscreteAdjoint does, in memory that does not grow.

    The forward pass keeps the state at some steps; the backward pass solves again from the last
    one, keeps the steps of one segment, and transposes them. Checkpoints are placed while the
    number of steps is unknown, so that no step is run again more than r times, the least r with
    :math:`\binom{c + r}{c} L \ge N` for c checkpoints, segments of L steps and N steps in all; the
    binomial rule places those of the backward pass. With ``memory`` in bytes half of it holds
    checkpoints and half a segment: one further forward pass (r = 1) then serves up to
    :math:`(c + 1) L` steps, 3 million for Lotka-Volterra in 1 MB.

    A segment is solved again with the same step control from the same numbers, so the steps, and
    the gradient, are those of DiscreteAdjoint; where a segment does not meet the next one bit by
    bit, there is an error. ``stats`` holds the steps run again, the fewest possible and the bytes.

    Parameters
    ----------
    memory
        Bytes for checkpoints and steps; 64 MiB by default.
    checkpoints
        Number of checkpoints instead, at least 1.
    segment
        With ``checkpoints``: the steps of a segment, 64 by default.

    References
    ----------
    Griewank & Walther (2000), *Algorithm 799: Revolve*, ACM TOMS 26, 19-45; Wang, Moin & Iaccarino
    (2009), *Minimal repetition dynamic checkpointing algorithm for unsteady adjoint calculation*,
    SIAM J. Sci. Comput. 31, 2549-2567; Stumm & Walther (2010), *New algorithms for optimal online
    checkpointing*, SIAM J. Sci. Comput. 32, 836-854.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k])
    >>> gradient = model.gradient(
    ...     symode.Loss(terminal=x**2), (0, 1), theta=[0.7], z0=[2.0],
    ...     method=symode.CheckpointedAdjoint(memory=10_000))
    >>> round(gradient.theta["k"], 6)  # -2 t z(t)**2
    -1.972776
    """

    memory: float | None = None
    checkpoints: int | None = None
    segment: int | None = None

    def __post_init__(self) -> None:
        if self.memory is not None and self.checkpoints is not None:
            raise OptionError("Give memory= (bytes) or checkpoints= (a number), not both.")
        if self.segment is not None and self.checkpoints is None:
            raise OptionError("segment= goes with checkpoints=; memory= decides it by itself.")
        for name in ("memory", "checkpoints", "segment"):
            value = getattr(self, name)
            if value is None:
                continue
            whole = name == "memory" or value == int(value)
            if not (isinstance(value, int | float) and 1 <= value < float("inf") and whole):
                kind = "a number of bytes" if name == "memory" else "a whole number of at least 1"
                raise OptionError(f"{name} must be {kind}; got {value!r}.")

    @property
    def name(self) -> str:
        """Short name, as in tables."""
        return "checkpointed"

    def prepare(self, task: Task) -> CheckpointedRunner:
        """Compile what the task needs; return the function that computes."""
        return CheckpointedRunner(task, (), self)

    def plan(self, step: int, checkpoint: int) -> tuple[int, int]:
        """Return how many checkpoints, and steps of a segment, there may be.

        Parameters
        ----------
        step, checkpoint
            Bytes of each.

        Raises
        ------
        OptionError
            When the memory does not hold a segment of one step and two checkpoints.

        Examples
        --------
        >>> CheckpointedAdjoint(memory=2**20).plan(step=144, checkpoint=600)
        (873, 3640)
        """
        if self.checkpoints is not None:
            return int(self.checkpoints), int(self.segment or SEGMENT)
        memory = int(self.memory or MEMORY)
        least = step + 16 + 2 * checkpoint
        if memory < least:
            raise OptionError(
                f"memory={memory} bytes is too little: a step takes {step} bytes and a checkpoint "
                f"{checkpoint}. Give at least {least}."
            )
        segment = max(memory // (2 * step), 1)
        # One checkpoint more than planned holds the state the pass has reached.
        held = (memory - segment * step - 16) // checkpoint
        if held < 2:
            segment = (memory - 2 * checkpoint - 16) // step
            held = 2
        return held - 1, segment


class CheckpointedRunner(WatchedRunner):
    """A `CheckpointedAdjoint` made ready for one task."""

    kernels = ("vjp",)
    derivative = "second"
    switches = True

    def __init__(self, task: Task, watched: tuple[int, ...], options: CheckpointedAdjoint) -> None:
        super().__init__(task, watched)
        self.options = options
        forward = self.forward
        stages = [forward.method.n_dense]
        if task.options.stiff:
            stages.append(native.native_method(get_method(task.options.stiff)).n_dense)
        # Times and size, and of a family's step which number of stages it had.
        fixed = 2 + isinstance(forward.method, kt.Chebyshev)
        self.step_bytes = 8 * ((max(stages) + 1) * task.n + fixed)
        self.checkpoint_bytes = forward.take().nbytes + OVERHEAD
        self.limit, self.segment = options.plan(self.step_bytes, self.checkpoint_bytes)
        forward.capacity = min(self.segment, FIRST)
        forward.driver.on_full = None
        self._owner: Stepper | None = None
        self._own_store()
        self._found: dict[str, object] = {}

    def _sibling(self, watched: tuple[int, ...]) -> CheckpointedRunner:
        return CheckpointedRunner(self.task, watched, self.options)

    def _run(self, theta: Floats, z0: Floats | None) -> Floats:
        from symode.kernels.gradient import close_gradient, loss_value

        task, forward = self.task, self.forward
        start = begin(task, forward, self.compiled, theta, z0)
        self.z0[:] = start
        tangents = np.zeros(forward.scratch.y.size - task.n)
        forward.reset(np.concatenate([start, tangents]), task.t0, task.t1)
        self._own_store()
        if self.watched:
            self._start_tangents(theta, z0)
        forward.driver.seconds = 0.0
        self._again = self._most = 0
        self._first_pass()
        stats, scratch = forward.stats, forward.scratch
        peak = scratch.peak[: task.n_watched].copy()
        loss_value(self.system, forward.observations, self.table, scratch, self.gradient)
        scratch.k[forward.method.n_dense] = 0.0
        self._backward()
        close_gradient(
            self.system, self.table, task.t0, self.z0, forward.scratch, self.gradient, z0 is None
        )
        check_finite(task, self.gradient)
        units, most = self.units, repetitions(self.limit, self.units)
        self._found = {
            "method": "checkpointed",
            "forward": stats,
            "checkpoints": self.limit,
            "segment": self.segment,
            "segments": units,
            "recomputed": self._again,
            "fewest_recomputed": fewest_runs(self.limit, units) * self.segment,
            "repetitions": most,
            "bytes": self._most * self.checkpoint_bytes
            + forward.store.h.size * self.step_bytes + 16,
        }  # fmt: skip
        return peak

    def _refuse_jumps(self, theta: Floats, z0: Floats | None) -> None:
        """Leave it to the first pass, whose segments fit into memory."""
        self._theta = theta

    # -- solving a segment --------------------------------------------------------------------

    def _own_store(self) -> None:
        """Give the current method memory for its steps; there is one such memory at a time."""
        forward = self.forward
        if self._owner is not forward.stepper:
            # Dropped before the new one is made.
            forward.store = native.no_store(forward.method, self.task.n)
            self._store = forward.store
            self._store = native.make_store(forward.method, self.task.n, forward.capacity)
            self._owner = forward.stepper
        forward.store = self._store

    def _switch(self) -> None:
        """Go on with the other method."""
        # A closed segment must not hold its steps.
        self.forward.store = native.no_store(self.forward.method, self.task.n)
        self.forward.switch()
        self._own_store()

    def _solve(self, most: int) -> int:
        """Solve on for ``most`` steps, counted from 0; return FULL where they are not the last."""
        from symode.kernels.loop import advance

        forward, count = self.forward, self.forward.scratch.count
        count[kt.BEFORE] += count[kt.STEPS]
        count[kt.STEPS] = 0
        control = forward.control._replace(max_steps=most + int(count[kt.BEFORE]))
        while True:
            store = forward.store
            status = forward.driver.run(
                lambda budget, store=store: advance(  # type: ignore[misc]
                    forward.method, forward.stepper.system, control, store, forward.observations,
                    forward.scratch, budget,
                )
            )  # fmt: skip
            if status == FULL and forward.store.h.size < self.segment:
                self._store = grown(forward.store, min(2 * store.h.size, self.segment))
                forward.store = self._store
            elif status == MAX_STEPS and count[kt.STEPS] == most:
                return FULL
            else:
                return status

    def _first_pass(self) -> None:
        """Solve to the end, with checkpoints; the store keeps the last segment."""
        task, forward = self.task, self.forward
        allowed, jumps = task.options.max_steps, Jumps.of(task)
        self.held = Held(self.limit)
        self.saved: dict[int, Checkpoint] = {}
        #: Units that start with another method than the one before ended with.
        self.starts = {0}
        self.units = done = here = 0
        while True:
            self._keep(self.units)
            status = self._solve(min(self.segment, allowed - done))
            count = forward.scratch.count
            self.steps = int(count[kt.STEPS])
            if jumps is not None:
                store = forward.store
                jumps.look(store.t[: self.steps + 1], store.z[: self.steps + 1], self._theta)
            done, here, self.units = done + self.steps, here + self.steps, self.units + 1
            if status in (FULL, SWITCH) and done < allowed:
                if status == SWITCH:
                    count[kt.STEPS], count[kt.BEFORE] = here, done - here
                    self._switch()
                    self.starts.add(self.units)
                    here = 0
                continue
            if status != SUCCESS:
                failed = MAX_STEPS if status in (FULL, SWITCH) else status
                raise failed_forward(task, forward, failed)
            # For the statistics: all steps of this method's segment.
            count[kt.STEPS], count[kt.BEFORE] = here, done - here
            return

    def _keep(self, unit: int) -> None:
        """Keep the present state as that before a unit, by the rule for an unknown end."""
        dropped = self.held.place(unit)
        if dropped is not None:
            del self.saved[dropped]
        self._save(unit)

    def _save(self, unit: int) -> None:
        self.saved[unit] = self.forward.take()
        self._most = max(self._most, len(self.saved))

    def _restore(self, unit: int) -> None:
        self.forward.restore(self.saved[unit])
        self._own_store()

    # -- going back ---------------------------------------------------------------------------

    def _backward(self) -> None:
        """Transpose all segments, the last first."""
        forward = self.forward
        for unit in range(self.units - 1, -1, -1):
            if unit < self.units - 1:
                # What the segment must end with, bit by bit, is what the next one began with.
                store, shared = forward.store, forward.scratch.k[forward.method.n_dense]
                after = np.append(store.z[0], store.t[0])
                # The stage that two steps share is shared by steps of one method.
                carry = np.zeros_like(shared) if unit + 1 in self.starts else shared.copy()
                first = self._bring_back(unit)
                store, count = forward.store, forward.scratch.count
                steps = int(count[kt.STEPS])
                if not np.array_equal(np.append(store.z[steps], store.t[steps]), after):
                    raise GradientError(
                        f"Solved again up to t = {after[-1]:.10g}, the state is not what it was: "
                        "the right-hand side is not a function of its arguments alone, or its "
                        "solver keeps more between steps than is known here. Use "
                        "DiscreteAdjoint()."
                    )
                forward.scratch.k[forward.method.n_dense] = carry
            else:
                count = forward.scratch.count
                first, steps = self.saved[unit].n_observed, self.steps
                count[kt.NEXT_OBS] = self.task.times.size
            # Steps are counted from the segment's start: those of other segments are not its own.
            forward.observations.step[:first] = -1
            count[kt.LEFT] = steps
            self._transpose(last=unit in self.starts)

    def _bring_back(self, unit: int) -> int:
        """Solve a segment again and keep its steps; return its first observation."""
        held = self.held
        for gone in held.drop_from(unit + 1):
            del self.saved[gone]
        at = held.units[-1]
        self._restore(at)
        while at < unit:
            room = self.limit - len(held.units) + 1
            stride = best_split(room, unit - at + 1) if room > 1 else unit - at
            for _ in range(stride):
                if self._again_over() == SWITCH:
                    self._switch()
            at += stride
            if room > 1 and at < unit:
                held.insert(at)
                self._save(at)
        first = int(self.forward.scratch.count[kt.NEXT_OBS])
        self._again_over()
        return first

    def _again_over(self) -> int:
        """Solve one unit again; return FULL, or SWITCH where its method ends with it."""
        # Kept although overwritten: an implicit step that is kept evaluates f once more.
        status = self._solve(self.segment)
        if status not in (FULL, SWITCH):
            raise failed_backward(
                self.task, self.forward.t, status, "Solving a segment again failed."
            )
        self._again += int(self.forward.scratch.count[kt.STEPS])
        return status

    def _transpose(self, last: bool) -> None:
        """Carry lam over the stored segment."""
        from symode.kernels.transpose import transpose_steps

        forward, count = self.forward, self.forward.scratch.count

        def enter(budget: int) -> int:
            most = budget if last else min(budget, int(count[kt.LEFT]))
            status = transpose_steps(
                forward.method, forward.stepper.system, forward.store, forward.observations,
                self.table, forward.scratch, self.gradient, most,
            )  # fmt: skip
            done = not last and status == PAUSED and count[kt.LEFT] == 0
            return SUCCESS if done else int(status)

        status = forward.driver.run(enter)
        if status != SUCCESS:
            raise failed_backward(self.task, forward.t, status, "Tighten the tolerances.")

    def stats(self) -> dict[str, object]:
        """Return what the last call cost."""
        found: dict[str, object] = self._last._found
        return found


def grown(store: kt.Store, capacity: int) -> kt.Store:
    """Return a store of this capacity with the same content."""
    new = kt.Store(
        keep=store.keep,
        t=np.empty(capacity + 1),
        h=np.empty(capacity),
        z=np.empty((capacity + 1, *store.z.shape[1:])),
        k=np.empty((capacity, *store.k.shape[1:])),
        member=np.zeros(capacity if store.member.size else 0, dtype=np.int64),
    )
    for old, fresh in zip(store[1:], new[1:], strict=True):
        fresh[: old.shape[0]] = old
    return new
