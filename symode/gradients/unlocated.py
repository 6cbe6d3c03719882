"""Jumps of f that no one locates: a derivative that does not know of them is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.codegen.reference import evaluate
from symode.equations.checks import non_smooth_constructs
from symode.errors import GradientError
from symode.gradients.task import Task
from symode.status import SUCCESS
from symode.symbolic.switches import Switches, find_switches

Floats = NDArray[np.float64]

#: Operations whose value jumps; abs, max and min go on without one.
JUMPING = frozenset({"lt", "le", "floor"})
#: Smallest jump of a component of f, in its largest size on the trajectory, that counts.
SMALLEST = 1e-6
#: Halvings that bring both sides of a jump together: to rounding, from any step.
HALVINGS = 60


class Jumps:
    r"""Looks for moments at which f jumps, on a trajectory that does not end steps there.

    Where f jumps from :math:`f^-` to :math:`f^+` at a moment :math:`r(z, t, \theta) = 0`, a tangent
    jumps by :math:`(f^+ - f^-)\,dt^*`, which the variational equations between do not hold. A
    solve that locates switches adds it; one that meets them by error control alone has z right and
    its derivative wrong, at any tolerance.

    Parameters
    ----------
    task
        A task whose switches are not located.
    switches
        What may turn.
    """

    def __init__(self, task: Task, switches: Switches) -> None:
        self.task, self.switches = task, switches
        self._passed: tuple[bytes, bytes] | None = None

    @classmethod
    def of(cls, task: Task) -> Jumps | None:
        """Return them for a task; None where f has no jumps, or they are located.

        Examples
        --------
        >>> import sympy as sp, symode
        >>> from symode.gradients.setup import make_task
        >>> x, k = sp.symbols("x k")
        >>> model = symode.Model({x: -k * sp.Heaviside(x - 1)}, parameters=[k])
        >>> task = make_task(model.equations, symode.Loss(terminal=x), (1, 0), from_initial=False)
        >>> Jumps.of(task) is None, Jumps.of(task.with_switches()) is None
        (False, False)
        """
        if task.located or not task.looks_for_jumps:
            return None
        if "jumps" not in task.__dict__:
            graph = task.field.graph
            found = find_switches(graph) if JUMPING.intersection(graph.ops) else None
            task.__dict__["jumps"] = None if found is None else cls(task, found)
        return task.__dict__["jumps"]  # type: ignore[no-any-return]

    def check(self, theta: Floats, z0: Floats | None) -> None:
        """Pass if the trajectory from a point meets no jump; it is solved once for each point.

        Raises
        ------
        GradientError
            Saying where f jumps, and what knows of it.
        """
        point = theta.tobytes(), b"" if z0 is None else z0.tobytes()
        if point == self._passed:
            return
        self.look(*self._course(theta, z0), theta)
        self._passed = point

    def _course(self, theta: Floats, z0: Floats | None) -> tuple[Floats, Floats]:
        """Return times and states at the steps of a forward pass."""
        from symode.gradients.methods.base import begin, failed_forward, make_forward
        from symode.gradients.verify.frozen import builder

        task = self.task
        build = builder(task, "rhs")
        compiled, system = build(task.options)
        forward = make_forward(
            task, compiled, system, keep=True, lazy=True, build=build, takes_mass=True,
            takes_events=True,
        )  # fmt: skip
        forward.reset(begin(task, forward, compiled, theta, z0), task.t0, task.t1)
        status = forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        kept = [(segment.store, segment.steps + 1) for segment in forward.segments]
        return (
            np.concatenate([store.t[:count] for store, count in kept]),
            np.concatenate([store.z[:count] for store, count in kept]),
        )

    def look(self, t: Floats, z: Floats, theta: Floats) -> None:
        """Pass if f does not jump between these points of a trajectory, in the order of time.

        Parameters
        ----------
        t, z
            Shapes ``(k,)`` and ``(k, n)``.
        theta
            Shape ``(m,)``.
        """
        turns = self._turns(self._switched(t, z, theta))
        if not turns:
            return
        size = np.abs(_rows(evaluate(self.task.field.graph, t, z.T, theta), t)).max(axis=1)
        for row, first, last in turns:
            pair = [first, last]
            low, high = self._sides(row, t[pair], z[pair], theta)
            jump = np.abs(high - low)
            if not (jump <= SMALLEST * size).all():
                raise self._refusal(float(t[first]), float(t[last]))

    def _turns(self, values: Floats) -> list[tuple[int, int, int]]:
        """Return each switch that turns, with the points before and after it.

        A point on the border itself, where a sign is 0, belongs to neither side.
        """
        found = []
        for row, course in enumerate(values):
            signed = row < self.switches.n_signs
            sides = np.sign(course) if signed else course
            clear = np.flatnonzero(sides) if signed else np.arange(sides.size)
            turned = np.flatnonzero(np.diff(sides[clear]) != 0)
            found += [(row, int(clear[k]), int(clear[k + 1])) for k in turned]
        return found

    def _switched(self, t: Floats, z: Floats, theta: Floats) -> Floats:
        return _rows(evaluate(self.switches.graph, t, z.T, theta), t)

    def _sides(self, row: int, t: Floats, z: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """Return f on both sides of where one switch turns, along the chord of a step."""

        def at(s: float) -> tuple[Floats, Floats]:
            return np.array([t[0] + s * (t[1] - t[0])]), (z[0] + s * (z[1] - z[0]))[None, :]

        def side(s: float) -> float:
            value = float(self._switched(*at(s), theta)[row, 0])
            return float(np.sign(value)) if row < self.switches.n_signs else value

        found = []
        # From either end as far as its side goes: between them may lie the border itself.
        for here, there in ((0.0, 1.0), (1.0, 0.0)):
            mine = side(here)
            for _ in range(HALVINGS):
                middle = 0.5 * (here + there)
                if side(middle) == mine:
                    here = middle
                else:
                    there = middle
            point, state = at(here)
            found.append(_rows(evaluate(self.task.field.graph, point, state.T, theta), point)[:, 0])
        return found[0], found[1]

    def _refusal(self, t_low: float, t_high: float) -> GradientError:
        task = self.task
        constructs = ", ".join(non_smooth_constructs(task.equations))
        if not task.options.switch_events:
            way_out = "Leave out switch_events=False."
        elif task.equations.mass is not None:
            way_out = (
                "A model with a mass matrix does not locate them: replace the jump by a smooth "
                "function, such as (1 + tanh(s * x)) / 2 with a large s."
            )
        elif task.t1 < task.t0:
            way_out = (
                "A solve backwards in time does not locate them: solve forwards, in the model with "
                f"-{task.equations.time} for {task.equations.time} and the sign of f turned."
            )
        else:
            way_out = (
                "Use DiscreteAdjoint(), CheckpointedAdjoint(), ForwardSensitivity(), "
                'method="gauss", "interpolating" or "backsolve" with one of symode\'s solvers: '
                "they locate it."
            )
        return GradientError(
            f"The right-hand side jumps between t = {t_low:.6g} and t = {t_high:.6g}, at a moment "
            "that depends on parameters or initial values"
            f"{': ' + constructs if constructs else ''}. The derivative jumps there too, and this "
            f"pass does not locate the moment. {way_out}"
        )


def refuse_jumps(task: Task, theta: Floats, z0: Floats | None) -> None:
    """Pass if the trajectory meets no jump of f that the task does not locate, see `Jumps`."""
    jumps = Jumps.of(task)
    if jumps is not None:
        jumps.check(theta, z0)


def _rows(values: Any, t: Floats) -> Floats:
    return np.array([np.broadcast_to(np.asarray(row, dtype=float), t.shape) for row in values])
