"""Runners whose steps see every direction: what is exactly 0 is watched by its tangent."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.gradients.mass import slopes_in_theta
from symode.gradients.methods.base import Floats, Runner, make_forward
from symode.gradients.task import WHOLE_STEPS, Task
from symode.gradients.unlocated import refuse_jumps
from symode.kernels import types as kt
from symode.solvers.forward import Forward, HeldDownError
from symode.solvers.options import SolverOptions
from symode.solvers.tableau import RosenbrockTableau


class WatchedRunner(Runner):
    """A method that differentiates the computed steps, made ready for one task.

    Where a parameter is exactly 0, or a state is 0 throughout, z need not show what moving it
    would do: f = k sin(9 t) at k = 0 is solved in one step. Such directions are watched.

    So are all together where an explicit method that was asked for is held down by stability. The
    error norm of z then keeps steps at the edge, where what z no longer has in it, the decayed fast
    modes, may grow from step to step: z is right, and its derivative wrong by any factor.

    Parameters
    ----------
    task
        What to do.
    watched
        Directions, in the order (theta, z0), whose tangents count in the error norm of the
        forward pass: each alone, or, where they are many, one irregular sum of all. None by
        default: the steps are then chosen for z alone.
    """

    #: Kernels needed besides those of the forward pass, and of second derivatives.
    kernels: tuple[str, ...] = ()
    derivative: str = ""
    #: Whether steps that one kernel makes, and transposes, serve it.
    whole_steps: bool = False
    takes_mass = False
    takes_events = False
    #: Whether it goes over all segments of a solve that changes its method.
    switches: bool = False
    #: The kind of forward solve.
    kind: type[Forward] = Forward

    def __init__(self, task: Task, watched: tuple[int, ...] = ()) -> None:
        self.task, self.watched = task, watched
        self.mix = mixture(watched, task.m + task.equations.n_states)
        size = task.n * self.mix.shape[0]
        self.compiled, self.system = self._build(task.options)
        self.forward: Forward = make_forward(
            task,
            self.compiled,
            self.system,
            keep=True,
            lazy=True,
            takes_mass=self.takes_mass,
            takes_events=self.takes_events,
            tangent_atol=np.zeros(size) if watched else None,
            weight=np.zeros(task.n + size) if watched else None,
            build=self._build if self.switches else None,
            tells=not watched and task.held_down != "go on",
            kind=self.kind,
        )
        self.table = task.loss_table()
        self.gradient = task.gradient_arrays()
        self.z0 = np.zeros(task.n)
        self._careful: dict[tuple[int, ...], Any] = {}
        self._last: Any = self

    def _build(self, options: SolverOptions) -> tuple[NativeModel, kt.Field | kt.Tangents]:
        """Return model and system for the method of these options."""
        task = self.task
        names = ["rhs", *self.kernels, *options.jacobian_kernels(self.derivative)]
        if self.watched:
            names += ["jvp", *options.jacobian_kernels("djac")[1:]]
        elif self.whole_steps and isinstance(options.tableau, RosenbrockTableau):
            names.append(WHOLE_STEPS + options.tableau.name)
        compiled = task.compile(names)
        field = task.bind(compiled, options.is_stiff)
        if self.watched:
            directions = np.ascontiguousarray(self.mix[:, : task.m])
            return compiled, kt.Tangents(*field, directions)
        return compiled, field

    @property
    def last(self) -> WatchedRunner:
        """The runner whose steps the last result is of: itself, or one that watches."""
        last: WatchedRunner = self._last
        return last

    @abstractmethod
    def _run(self, theta: Floats, z0: Floats | None) -> Floats:
        """Compute with the watched directions as they are; return each state's largest size."""

    def _sibling(self, watched: tuple[int, ...]) -> WatchedRunner:
        """Return a runner of the same options that watches these directions."""
        return type(self)(self.task, watched)

    def compute(self, theta: Floats, z0: Floats | None) -> None:
        """Compute value and gradient, see `Runner`."""
        self._last = self
        if self.watched:
            self._run(theta, z0)
            return
        self._refuse_jumps(theta, z0)
        try:
            self._watch_zeros(theta, z0)
        except HeldDownError:
            if self.task.held_down == "raise":
                raise
            self._watch_all(theta, z0)

    def _refuse_jumps(self, theta: Floats, z0: Floats | None) -> None:
        """Pass if the trajectory meets no jump of f that is not located."""
        refuse_jumps(self.task, theta, z0)

    def _watch_zeros(self, theta: Floats, z0: Floats | None) -> None:
        """Compute; again with those directions in the error norm that are exactly 0."""
        # Found anew at every call: a result must not depend on the calls before it.
        asked = self.task.chosen(theta)
        directions = np.empty(0, dtype=np.int64) if asked.all() else np.flatnonzero(asked == 0.0)
        if directions.size:
            directions = np.union1d(directions, self.task.m + self._at_rest(theta, z0))
        peak = self._watch(directions, theta, z0) if directions.size else self._run(theta, z0)
        if not peak.all():
            idle = self.task.m + np.flatnonzero(peak == 0.0)
            if np.setdiff1d(idle, directions).size:
                directions = np.union1d(directions, idle)
                self._watch(directions, theta, z0)
        resting = [self.task.m + i for i in self._last._resting()]
        if not set(resting).issubset(directions.tolist()):
            self._watch(np.union1d(directions, resting), theta, z0)

    def _end(self) -> Floats:
        """Return the state that the last forward pass ended with."""
        return self.forward.scratch.y

    def _resting(self) -> list[int]:
        """Return the states that f may move, and that moved by no more than some tolerances.

        They say nothing of the steps: what starts at its steady state is right in one step of any
        length, and the derivative of that step wrong by any factor.
        """
        forward, n = self.forward, self.task.n_watched
        control, scratch = forward.control, forward.scratch
        ways = [(self.z0[:n], self._end()[:n], scratch.peak[:n])]
        if forward.events is not None and len(forward.events.way) == 2:
            begin, end = (state[:n] for state in forward.events.way)
            ways.append((begin, end, np.maximum(np.abs(begin), np.abs(end))))
        found: set[int] = set()
        still, atol = min(STILL, SHARE / control.rtol), control.atol[:n].tolist()
        for place, (begin, end, peak) in enumerate(ways):
            if n > FEW:
                size = still * (control.atol[:n] + control.rtol * np.abs(begin))
                slow = (np.abs(end - begin) <= size) & (peak - np.abs(begin) <= size)
                candidates = np.flatnonzero(slow).tolist()
            else:
                # In plain Python, which is faster for few.
                rtol = control.rtol
                rows = zip(begin.tolist(), end.tolist(), peak.tolist(), atol, strict=True)
                candidates = [
                    i
                    for i, (z, last, most, a) in enumerate(rows)
                    if abs(last - z) <= (size := still * (a + rtol * abs(z)))
                    and most - abs(z) <= size
                ]
            if candidates:
                rhs, asked = self.task.equations.rhs, self.task.asked.z0
                # What is 0 up to a first dose moves with theta from then on alone.
                found |= {
                    i
                    for i in candidates
                    if rhs[i] != 0 and (place == 0 or begin[i] != 0.0 or i in asked)
                }
        return sorted(found)

    def _at_rest(self, theta: Floats, z0: Floats | None) -> NDArray[np.int64]:
        """Return the states that seem to stay 0: a guess, which saves a pass where it is right.

        They are 0 at the start, and f moves none of them at a point where those are 0 and the
        others anything.
        """
        task, compiled = self.task, self.compiled
        if task.mass is not None or not (z0 is not None or "initial" in compiled.address):
            return np.empty(0, dtype=np.int64)
        p = compiled.pack(theta, self.system.p)
        start = compiled.call("initial", task.t0, self.z0, p) if z0 is None else z0
        moves = start[: task.equations.n_states] != 0.0
        point = np.zeros(task.n)
        anything = 0.5 + (np.arange(moves.size) * 0.6180339887498949) % 1.0
        while not moves.all():
            point[: moves.size] = np.where(moves, anything, 0.0)
            slopes = compiled.call("rhs", task.t0, point, p)[: moves.size]
            found = moves | (slopes != 0.0)
            if (found == moves).all():
                break
            moves = found
        return np.flatnonzero(~moves)

    def _watch_all(self, theta: Floats, z0: Floats | None) -> None:
        """Compute with all directions in the error norm, each in the size of what it moves."""
        states = self.task.equations.n_states
        size = np.concatenate([np.abs(theta), self.forward.scratch.peak[:states]])
        size[size == 0.0] = 1.0
        self._watch(np.arange(size.size), theta, z0, size)

    def _watch(
        self,
        directions: NDArray[np.int64],
        theta: Floats,
        z0: Floats | None,
        size: Floats | None = None,
    ) -> Floats:
        """Compute with these directions in the error norm; return each state's largest size."""
        watched = tuple(int(i) for i in directions)
        if watched not in self._careful:
            self._careful[watched] = self._sibling(watched)
        runner: WatchedRunner = self._careful[watched]
        self._last = runner
        if size is not None:
            runner._measure(size)
        runner.forward.driver.stop = self.forward.driver.stop
        runner.compute(theta, z0)
        for mine, found in zip(self.gradient, runner.gradient, strict=True):
            mine[:] = found
        self.table.times[:] = runner.table.times
        self.forward.scratch.count[:] = runner.forward.scratch.count
        return runner.forward.scratch.peak[: self.task.n_watched]

    def _measure(self, size: Floats) -> None:
        """Set the unit of each direction that is watched."""
        self.mix[:] = mixture(self.watched, size.size) * size
        assert isinstance(self.system, kt.Tangents)
        self.system.directions[:] = self.mix[:, : self.task.m]

    def _start_tangents(self, theta: Floats, z0: Floats | None) -> None:
        """Set the tangents at t0 and the tolerances they are held to."""
        task, forward, states = self.task, self.forward, self.task.equations.n_states
        # Of z0, each entry by itself; of theta, where z0 depends on it, what moves z0.
        whole = np.vstack([np.zeros((task.m, states)), np.eye(states)])
        if z0 is None:
            p = self.compiled.pack(theta, self.system.p)
            moved = self.compiled.rows("initial_vjp", task.t0, self.z0, p, np.eye(states, task.n))
            whole[: task.m] = moved[:, : task.m].T
        start = np.zeros((self.mix.shape[0], task.n))
        start[:, :states] = self.mix @ whole
        if forward.start is not None:
            along = self.mix[:, : task.m] @ slopes_in_theta(
                task, self.compiled, self.system.p, forward.start
            )
            start = np.array([forward.start.push(*row) for row in zip(start, along, strict=True)])
        forward.scratch.y[task.n :] = start.ravel()
        atol = forward.control.atol[task.n :].reshape(-1, task.n)
        atol[:, :states] = task.options.atol
        if task.n > states:
            atol[:, states:] = np.inf
            forward.control.weight[task.n :].reshape(-1, task.n)[:, states:] = 1.0


#: Tolerances, and share of its size, that a state may move by and count as at rest. The
#: derivative of steps that only see so much of a motion is good to one in as many.
STILL = 1000.0
SHARE = 1e-3
#: States up to which plain Python looks at them.
FEW = 16
#: Directions up to which each is watched alone.
SEPARATE = 4


def mixture(watched: tuple[int, ...], size: int) -> Floats:
    """Return the directions whose tangents are integrated, as combinations of ``size`` unit ones.

    Many directions are watched as one sum with irregular weights of both signs, in which no
    pattern of the model cancels: a network whose biases all start at 0 costs one tangent.

    Examples
    --------
    >>> mixture((0, 2), 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if len(watched) <= SEPARATE:
        return np.eye(size)[list(watched)].reshape(-1, size)
    weights = np.zeros(size)
    places = np.arange(len(watched))
    golden = (places * 0.6180339887498949) % 1.0
    weights[list(watched)] = np.where(places % 2, -1.0, 1.0) * (0.5 + golden)
    return weights[None, :]
