r"""Jumps: what events do to the state at one moment, and to tangents and adjoints there.

At :math:`t^*`, where a root function :math:`r(z^-, t^*, \theta) = 0`, the state becomes
:math:`z^+ = g(z^-, t^*, \theta)`. With :math:`f^\mp` the slopes before and after,

.. math:: \delta z^+ = g_z \delta z^- + g_\theta \delta\theta + (g_z f^- + g_t - f^+)\,\delta t^*,
          \qquad \delta t^* = -\frac{r_z \delta z^- + r_\theta \delta\theta}{r_z f^- + r_t}

and the adjoint takes the transpose: see the theory page, Events.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.codegen.backends import compile_kernels
from symode.codegen.compiled import NativeModel
from symode.equations.equations import Equations
from symode.errors import GradientError
from symode.kernels import types as kt
from symode.symbolic.graph import Graph
from symode.symbolic.lift_events import lift_events, plan_events

Floats = NDArray[np.float64]

#: Why a solve with events goes forwards.
BACKWARDS = "A model with events is solved forwards, t1 > t0: a jump cannot be undone."

_POINTER = ctypes.c_void_p
_FIELD = ctypes.CFUNCTYPE(None, ctypes.c_double, *[_POINTER] * 4)


class EventFunctions:
    """A model's events compiled: root functions, assignments, and their pullbacks.

    Parameters
    ----------
    equations
        A model with events.
    asked
        Places of the parameters that derivatives are taken in; all by default.
    """

    def __init__(self, equations: Equations, asked: Sequence[int] | None = None) -> None:
        self.equations = equations
        self.events = equations.events
        self.n = equations.n_states
        self.asked = tuple(range(equations.n_parameters)) if asked is None else tuple(asked)
        plan = plan_events(equations, self.asked)
        self.triggers, self.roots, self.timed = plan.triggers, plan.roots, plan.timed
        self.linear, self.free = plan.linear, plan.free
        places = {state: i for i, state in enumerate(equations.states)}
        self.targets = [
            np.array([places[key] for key, _ in event.assignments], dtype=np.intp)
            for event in self.events
        ]
        self.has_priority = any(event.priority is not None for event in self.events)

    def moved_by(self, places: Sequence[int]) -> EventFunctions:
        """Return the same functions where these parameters alone can move an event."""
        other = copy(self)
        other.free = plan_events(self.equations, places).free
        return other

    @cached_property
    def graphs(self) -> dict[str, tuple[str, Graph]]:
        """The graphs behind the compiled functions."""
        return lift_events(self.equations, self.roots, self.asked)

    @cached_property
    def compiled(self) -> NativeModel:
        """The machine code."""
        return compile_kernels(self.graphs, self.equations.n_parameters)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the machine code."""
        return {k: v for k, v in self.__dict__.items() if k not in ("compiled", "graphs")}

    def bound(self, theta: Floats) -> BoundEvents:
        """Return the functions with parameters bound."""
        return BoundEvents(self, np.array(theta, dtype=float))


@dataclass(eq=False)
class BoundEvents:
    """Event functions at one theta."""

    functions: EventFunctions
    theta: Floats
    p: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.p = self.functions.compiled.pack(self.theta)

    def roots(self, t: float, z: Floats) -> Floats:
        """Return the values of all root functions."""
        if not self.functions.roots:
            return np.empty(0)
        return self.functions.compiled.call("roots", t, z, self.p)

    def slope(self, k: int, t: float, z: Floats) -> tuple[Floats, float, Floats]:
        """Return r_z, r_t and r_theta of one root function."""
        v = np.zeros(len(self.functions.roots))
        v[k] = 1.0
        return self.split(self.functions.compiled.call("roots_vjp", t, z, self.p, v))

    def split(self, row: Floats) -> tuple[Floats, float, Floats]:
        """Return the parts of a pullback: in z, t and theta."""
        n = self.functions.n
        return row[:n], float(row[n]), row[n + 1 :]

    def priority(self, i: int, t: float, z: Floats) -> float:
        """Return the priority of an event now; -inf where it has none."""
        if self.functions.events[i].priority is None:
            return -np.inf
        return float(self.functions.compiled.call("priority", t, z, self.p)[i])

    def assigned(self, i: int, t: float, z: Floats) -> Floats:
        """Return the values that an event sets."""
        if not self.functions.targets[i].size:
            return np.empty(0)
        return self.functions.compiled.call(f"jump{i}", t, z, self.p)

    def pulled(self, i: int, t: float, z: Floats, v: Floats) -> tuple[Floats, float, Floats]:
        """Return the pullback of the values that an event sets."""
        if not self.functions.targets[i].size:
            return np.zeros(self.functions.n), 0.0, np.zeros(len(self.functions.asked))
        return self.split(self.functions.compiled.call(f"jump{i}_vjp", t, z, self.p, v))


def slope_of(system: kt.System, work: Floats, t: float, y: Floats) -> Floats:
    """Return f(t, y) of a system, running cost included. Shape ``(n,)``."""
    out, y = np.empty(system.n), np.ascontiguousarray(y)
    pointers = [a.ctypes.data for a in (y, system.p, work, out)]
    _FIELD(int(system.address[kt.RHS]))(t, *pointers)
    return out


@dataclass(frozen=True, eq=False)
class EventJump:
    """What all events of one moment do: see `symode.solvers.segments.Jump`.

    Parameters
    ----------
    bound
        The event functions.
    system, work
        Give the slopes f.
    t
        The moment.
    steps
        (event, state its values are from, state it changes) in order; states are counted from the
        one before the jump.
    causes
        Root functions whose zero is the moment; none at t0.
    curvature, uncertainty
        Of each cause, d²r/dt² as found over the last step, and the error of r that the tolerances
        allow.
    """

    bound: BoundEvents
    system: kt.System
    work: Floats
    t: float
    steps: tuple[tuple[int, int, int], ...]
    causes: tuple[int, ...]
    curvature: Floats
    uncertainty: Floats

    @property
    def names(self) -> str:
        """The events, for messages."""
        events = self.bound.functions.events
        return ", ".join(dict.fromkeys(events[i].name for i, _, _ in self.steps))

    def states(self, z: Floats) -> list[Floats]:
        """Return the states from before the first event to after the last."""
        found = [z]
        for i, source, _ in self.steps:
            new = found[-1].copy()
            new[self.bound.functions.targets[i]] = self.bound.assigned(i, self.t, found[source])
            found.append(new)
        return found

    def apply(self, t: float, z: Floats, theta: Floats) -> Floats:
        """Return the state after the jump; quadratures go on."""
        n = self.bound.functions.n
        return np.concatenate([self.states(z[:n])[-1], z[n:]])

    def _moment(self, z: Floats, before: Floats) -> tuple[Floats, Floats]:
        """Return dt*/dz and dt*/dtheta.

        Raises
        ------
        GradientError
            Where the moment does not depend smoothly on them.
        """
        n = self.bound.functions.n
        rows = []
        for j, k in enumerate(self.causes):
            if self.bound.functions.free[k]:
                # At a time that nothing asked for moves.
                rows.append(np.zeros(n + len(self.bound.functions.asked)))
                continue
            r_z, r_t, r_theta = self.bound.slope(k, self.t, z)
            rate = float(r_z @ before[:n]) + r_t
            # Where r bends by more than its slope resolves, the tolerance cannot tell whether the
            # trajectory crosses at all.
            if not rate**2 > 16.0 * abs(self.curvature[j]) * self.uncertainty[j]:
                root = self.bound.functions.roots[k]
                raise GradientError(
                    f"The event {self.names} at t = {self.t:.10g} grazes: {root} touches zero with "
                    f"slope {rate:.3g}, so its time has no derivative. Move the parameters away "
                    "from this point, or tighten rtol= and atol= if it crosses after all."
                )
            rows.append(-np.concatenate([r_z, r_theta]) / rate)
        if any(np.abs(row - rows[0]).max() > 1e-6 * (np.abs(rows[0]).max()) for row in rows[1:]):
            raise GradientError(
                f"The events {self.names} meet at t = {self.t:.10g} by chance: moving a parameter "
                "changes their order, so the gradient is not defined here."
            )
        return rows[0][:n], rows[0][n:]

    @property
    def moves(self) -> bool:
        """Whether the moment can depend on states or parameters."""
        return not all(self.bound.functions.free[k] for k in self.causes)

    def transpose(
        self, t: float, z: Floats, theta: Floats, lam: Floats, dtheta_out: Floats
    ) -> Floats:
        """Return the adjoint before the jump; add the jump's own part to dJ/dtheta."""
        lam_before, moved = self.pull(z, lam, lam, dtheta_out)
        if self.causes:
            n = self.bound.functions.n
            dz, dtheta = self._moment(z[:n], slope_of(self.system, self.work, self.t, z))
            lam_before[:n] += moved * dz
            dtheta_out += moved * dtheta
        return lam_before

    def pull(
        self, z: Floats, lam: Floats, later: Floats, dtheta_out: Floats
    ) -> tuple[Floats, float]:
        """Return g_zᵀ lam and lam·(g_z f⁻ + g_t) - later·f⁺; add lam·g_theta to dJ/dtheta."""
        n, functions = self.bound.functions.n, self.bound.functions
        found = self.states(z[:n])
        bars = [np.zeros(n) for _ in found]
        bars[-1] = lam[:n].copy()
        in_t = 0.0
        for place in range(len(self.steps) - 1, -1, -1):
            i, source, _ = self.steps[place]
            bar, target = bars[place + 1], functions.targets[i]
            b_z, b_t, b_theta = self.bound.pulled(i, self.t, found[source], bar[target])
            rest = bar.copy()
            rest[target] = 0.0
            bars[place] += rest
            bars[source] += b_z
            in_t += b_t
            dtheta_out += b_theta
        after = np.concatenate([found[-1], z[n:]])
        f_before = slope_of(self.system, self.work, self.t, z)
        f_after = slope_of(self.system, self.work, self.t, after)
        before = np.concatenate([bars[0], lam[n:]])
        return before, float(before @ f_before) + in_t - float(later @ f_after)

    def push(self, z: Floats, tangents: Floats, directions: Floats) -> Floats:
        """Return tangents after the jump; rows of ``directions`` are theirs in theta."""
        n = self.bound.functions.n
        total = z.size
        g_z, g_theta = np.zeros((total, total)), np.zeros((total, directions.shape[1]))
        moved = np.zeros(total)
        for i, unit in enumerate(np.eye(total)):
            g_z[i], moved[i] = self.pull(z, unit, unit, g_theta[i])
        after = tangents @ g_z.T + directions @ g_theta.T
        dz, dtheta = self._moment(z[:n], slope_of(self.system, self.work, self.t, z))
        shift = tangents[:, :n] @ dz + directions @ dtheta
        result: Floats = after + shift[:, None] * moved
        return result
