"""CheckpointedAdjoint: the transpose of the solver's own steps, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from symode.errors import GradientError, OptionError
from symode.gradients.jumps import check_jumps, pull_jump, slopes_at_observations
from symode.gradients.methods.base import (
    Floats,
    begin,
    check_finite,
    failed_backward,
    failed_forward,
)
from symode.gradients.methods.watched import WatchedRunner
from symode.gradients.rolling import Leg, RollingForward
from symode.gradients.schedule import fewest_runs, repetitions
from symode.gradients.task import Task
from symode.gradients.unlocated import Jumps
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.jumps import EventJump
from symode.solvers.methods import get_method
from symode.status import PAUSED, SUCCESS

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

    Where events, switches of f, corners of inputs or changes of the method divide the solve, a
    small state is kept for each such moment besides, counted in ``stats["bytes"]``.

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
        return CheckpointedRunner(task.with_switches(), (), self)

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
    whole_steps = True
    derivative = "second"
    takes_events = True
    switches = True
    kind = RollingForward
    forward: RollingForward

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
        forward.limit, forward.unit_steps = options.plan(self.step_bytes, self.checkpoint_bytes)
        forward.fit(FIRST)
        self._found: dict[str, object] = {}

    def _sibling(self, watched: tuple[int, ...]) -> CheckpointedRunner:
        return CheckpointedRunner(self.task, watched, self.options)

    def _refuse_jumps(self, theta: Floats, z0: Floats | None) -> None:
        """Leave it to the first pass, whose units fit into memory."""

    def _run(self, theta: Floats, z0: Floats | None) -> Floats:
        from symode.kernels.gradient import close_gradient, loss_value

        task, forward = self.task, self.forward
        start = begin(task, forward, self.compiled, theta, z0)
        self.z0[:] = start
        tangents = np.zeros(forward.scratch.y.size - task.n)
        forward.reset(np.concatenate([start, tangents]), task.t0, task.t1)
        if self.watched:
            self._start_tangents(theta, z0)
        forward.driver.seconds = 0.0
        jumps = Jumps.of(task)
        forward.looks = None if jumps is None else lambda t, z: jumps.look(t, z, theta)
        status = forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        forward.settle()
        if forward.events is not None:
            check_jumps(task, forward.events)
        stats, scratch = forward.stats, forward.scratch
        peak, self.end = scratch.peak[: task.n_watched].copy(), scratch.y[: task.n].copy()
        loss_value(self.system, forward.observations, self.table, scratch, self.gradient)
        slopes_at_observations(task, forward, self.table)
        self._backward()
        close_gradient(
            self.system, self.table, task.t0, self.z0, forward.scratch, self.gradient, z0 is None
        )
        check_finite(task, self.gradient)
        self._found = {"method": "checkpointed", "forward": stats, **self._cost()}
        return peak

    def _end(self) -> Floats:
        """Return the state that the last forward pass ended with, kept over the way back."""
        return self.end

    def _cost(self) -> dict[str, object]:
        """Return what was kept and what was done again."""
        forward, units = self.forward, self.forward.n_units
        if len(forward.legs) + forward.marked == 1:
            fewest = fewest_runs(forward.limit, units) * forward.unit_steps
        else:
            # Each once but the last: every segment has its start.
            fewest = sum(forward.unit(u)[0] for u in range(units - 1))
        # The state at the start is among those of the segments.
        kept = (forward.most + 1) * self.checkpoint_bytes
        kept += sum(leg.nbytes + OVERHEAD for leg in forward.legs[1:])
        kept += forward.marked * (forward.legs[0].nbytes + OVERHEAD)
        return {
            "checkpoints": forward.limit,
            "segment": forward.unit_steps,
            "segments": units,
            "recomputed": forward.again,
            "fewest_recomputed": fewest,
            "repetitions": repetitions(forward.limit, units),
            "bytes": kept + forward.largest * self.step_bytes + 16,
        }

    # -- going back ---------------------------------------------------------------------------

    def _backward(self) -> None:
        """Transpose all units, the last first, and the jumps between segments."""
        forward = self.forward
        segments = forward.segments
        stop = forward.n_units
        for i in range(len(segments) - 1, -1, -1):
            segment, leg = segments[i], forward.legs[i]
            jump, here = segment.jump, stop > leg.first
            n_observed = self.task.times.size if i == len(segments) - 1 else segment.stop
            if isinstance(jump, EventJump):
                forward.enter_modes(jump.before)
            if here:
                self._load(leg, stop - 1, leg.end)
                forward.scratch.count[kt.NEXT_OBS] = n_observed
            if isinstance(jump, EventJump):
                steps = int(forward.scratch.count[kt.STEPS]) if here else 0
                pulled = replace(segment, store=forward.store, steps=steps)
                pull_jump(self.task, forward, pulled, self.table, self.gradient)
            # The slope that two steps share is never shared by segments.
            carry = np.zeros(self.task.n)
            for unit in range(stop - 1, leg.first - 1, -1):
                self._load(leg, unit, np.append(forward.store.z[0], forward.store.t[0]))
                shared = forward.scratch.k[forward.method.n_dense]
                shared[: carry.size], shared[carry.size :] = carry, 0.0
                forward.scratch.count[kt.LEFT] = forward.scratch.count[kt.STEPS]
                self._transpose(last=unit == leg.first)
                carry = shared[: carry.size].copy()
            stop = leg.first

    def _load(self, leg: Leg, unit: int, end: Floats) -> None:
        """Have the steps of a unit in memory; it ends with this (z, t), bit by bit."""
        forward = self.forward
        if forward.loaded == unit:
            return
        status = forward.bring_back(leg, unit)
        if status != SUCCESS:
            raise failed_backward(self.task, forward.t, status, "Solving a segment again failed.")
        store, steps = forward.store, int(forward.scratch.count[kt.STEPS])
        if not np.array_equal(np.append(store.z[steps], store.t[steps]), end):
            raise GradientError(
                f"Solved again up to t = {end[-1]:.10g}, the state is not what it was: "
                "the right-hand side is not a function of its arguments alone, or its "
                "solver keeps more between steps than is known here. Use "
                "DiscreteAdjoint()."
            )

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
