r"""Jumps: what events do to the state at one moment, and to tangents and adjoints there.

At :math:`t^*`, where a root function :math:`r(z^-, t^*, \theta) = 0`, the state becomes
:math:`z^+ = g(z^-, t^*, \theta)`. With :math:`f^\mp` the slopes before and after,

.. math:: \delta z^+ = g_z \delta z^- + g_\theta \delta\theta + (g_z f^- + g_t - f^+)\,\delta t^*,
          \qquad \delta t^* = -\frac{r_z \delta z^- + r_\theta \delta\theta}{r_z f^- + r_t}

and the adjoint takes the transpose: see the theory page, Events.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symode.errors import GradientError
from symode.kernels import types as kt
from symode.solvers.calls import function, pointer
from symode.solvers.event_functions import BoundEvents

Floats = NDArray[np.float64]


def slope_of(system: kt.System, work: Floats, t: float, y: Floats) -> Floats:
    """Return f(t, y) of a system, running cost included. Shape ``(n,)``."""
    out, y = np.empty(system.n), np.ascontiguousarray(y)
    pointers = [pointer(a) for a in (y, system.p, work, out)]
    function(int(system.address[kt.RHS]))(t, *pointers)
    return out


def enter_modes(system: kt.System, work: Floats, modes: Floats) -> None:
    """Let these modes hold in a right-hand side; what is hoisted is computed anew."""
    address, p = system.address, system.p
    top = int(address[kt.HOIST_AT])
    at = top - modes.size
    if not modes.size or p[at:top].tobytes() == modes.tobytes():
        return
    p[at:top] = modes
    if address[kt.HOIST]:
        start = pointer(p)
        function(int(address[kt.HOIST]))(0.0, None, start, pointer(work), start + 8 * top)


_NO_MODES = np.empty(0)
#: Change of f, against its size, that is rounding: f goes on across the switch.
NO_JUMP = 1e-12


def _agree(rows: list[Floats]) -> bool:
    """Tell whether all causes give the moment the same derivatives."""
    size = 1e-6 * np.abs(rows[0]).max(initial=0.0)
    return all(np.abs(row - rows[0]).max(initial=0.0) <= size for row in rows[1:])


@dataclass(frozen=True, eq=False)
class EventJump:
    """What all events of one moment do: see `symode.solvers.segments.Jump`.

    Parameters
    ----------
    bound
        The event functions.
    system, work, f
        The right-hand side, which these modes hold in.
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
    before, after
        Modes of the right-hand side's switches on both sides of the moment.
    course
        The states that were met, from before the first event to after the last.
    """

    bound: BoundEvents
    system: kt.System
    work: Floats
    f: Callable[[float, Floats], Floats]
    t: float
    steps: tuple[tuple[int, int, int], ...]
    causes: tuple[int, ...]
    curvature: Floats
    uncertainty: Floats
    before: Floats = dataclasses.field(default_factory=lambda: _NO_MODES)
    after: Floats = dataclasses.field(default_factory=lambda: _NO_MODES)
    course: tuple[Floats, ...] = ()

    @property
    def names(self) -> str:
        """The events, or the switches where none fires, for messages."""
        functions = self.bound.functions
        if self.steps:
            return ", ".join(dict.fromkeys(functions.events[i].name for i, _, _ in self.steps))
        turned = np.flatnonzero(self.before != self.after) % max(len(functions.switches), 1)
        roots = [functions.switches[k].roots[0] + functions.n_own for k in dict.fromkeys(turned)]
        return ", ".join(f"{functions.roots[k]} = 0" for k in roots)

    @property
    def what(self) -> str:
        """What happens, for messages."""
        return f"The event {self.names}" if self.steps else f"The switch at {self.names}"

    @property
    def reason(self) -> str:
        """Why a segment ends with it, for the statistics."""
        return f"the event {self.names}" if self.steps else f"the switch at {self.names}"

    def states(self, z: Floats) -> list[Floats]:
        """Return the states from before the first event to after the last."""
        if self.course and self.course[0].tobytes() == z.tobytes():
            return list(self.course)
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

    def _rows(self, z: Floats, before: Floats) -> list[Floats]:
        """Return dt*/d(z, theta) as each cause tells it.

        Raises
        ------
        GradientError
            Where the moment does not depend smoothly on them.
        """
        n = self.bound.functions.n
        self.bound.enter(self.before)
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
                    f"{self.what} at t = {self.t:.10g} grazes: {root} touches zero with slope "
                    f"{rate:.3g}, so its time has no derivative. Move the parameters away from "
                    "this point, or tighten rtol= and atol= if it crosses after all."
                )
            rows.append(-np.concatenate([r_z, r_theta]) / rate)
        return rows

    def moment(self, z: Floats, before: Floats) -> tuple[Floats, Floats]:
        """Return dt*/dz and dt*/dtheta, on which all causes agree."""
        n, rows = self.bound.functions.n, self._rows(z, before)
        if not _agree(rows):
            for group in self.bound.functions.twins:
                # Moments that were put there together: one stands for all.
                for j in group:
                    first = next(i for i in group if z[i] == z[j])
                    for row in rows if first != j else ():
                        row[first] += row[j]
                        row[j] = 0.0
        if not _agree(rows):
            raise GradientError(
                f"The events {self.names} meet at t = {self.t:.10g} by chance: moving a parameter "
                "changes their order, so the gradient is not defined here."
            )
        return rows[0][:n], rows[0][n:]

    def slopes(self, z: Floats, after: Floats) -> tuple[Floats, Floats]:
        """Return f before and after the moment; the modes before it hold from here on."""
        enter_modes(self.system, self.work, self.after)
        later = self.f(self.t, after)
        enter_modes(self.system, self.work, self.before)
        return self.f(self.t, z), later

    def turns(self, z: Floats) -> list[tuple[Floats, Floats, Floats]]:
        r"""Return what switches alone do: pairs of :math:`f^- - f^+` and of dt*/dz, dt*/dtheta.

        Switches that meet by chance each have a pair of their own where f jumps by the sum of what
        each of them does: their order then does not matter.
        """
        n = self.bound.functions.n
        before, after = self.slopes(z, z)
        whole, size = before - after, np.abs(before) + np.abs(after)
        if not self.causes or (np.abs(whole) <= NO_JUMP * size).all():
            return []
        rows = self._rows(z[:n], before)
        if _agree(rows):
            return [(whole, rows[0][:n], rows[0][n:])]
        found, rest = [], whole.copy()
        count = len(self.bound.functions.switches)
        for k, row in zip(self.causes, rows, strict=True):
            alone, i = self.before.copy(), self.bound.functions.switch_of[k]
            alone[[i, count + i]] = self.after[[i, count + i]]
            enter_modes(self.system, self.work, alone)
            change = before - self.f(self.t, z)
            rest -= change
            found.append((change, row[:n], row[n:]))
        enter_modes(self.system, self.work, self.before)
        if not (np.abs(rest) <= 1e-9 * size).all():
            raise GradientError(
                f"{self.what} at t = {self.t:.10g}: these switches meet by chance, and f depends "
                "on their order, so the gradient is not defined here. Move a parameter."
            )
        return found

    @property
    def moves(self) -> bool:
        """Whether the moment can depend on states or parameters."""
        return not all(self.bound.functions.free[k] for k in self.causes)

    def transpose(
        self, t: float, z: Floats, theta: Floats, lam: Floats, dtheta_out: Floats
    ) -> Floats:
        """Return the adjoint before the jump; add the jump's own part to dJ/dtheta."""
        if not self.steps:
            lam_before, n = lam.copy(), self.bound.functions.n
            for change, dz, dtheta in self.turns(z):
                moved = float(lam @ change)
                lam_before[:n] += moved * dz
                dtheta_out += moved * dtheta
            return lam_before
        lam_before, moved = self.pull(z, lam, lam, dtheta_out)
        if self.causes:
            n = self.bound.functions.n
            dz, dtheta = self.moment(z[:n], self.f(self.t, z))
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
        f_before, f_after = self.slopes(z, after)
        before = np.concatenate([bars[0], lam[n:]])
        return before, float(before @ f_before) + in_t - float(later @ f_after)

    def push(self, z: Floats, tangents: Floats, directions: Floats) -> Floats:
        """Return tangents after the jump; rows of ``directions`` are theirs in theta."""
        n = self.bound.functions.n
        if not self.steps:
            pushed = tangents.copy()
            for change, dz, dtheta in self.turns(z):
                pushed += (tangents[:, :n] @ dz + directions @ dtheta)[:, None] * change
            return pushed
        total = z.size
        g_z, g_theta = np.zeros((total, total)), np.zeros((total, directions.shape[1]))
        moved = np.zeros(total)
        for i, unit in enumerate(np.eye(total)):
            g_z[i], moved[i] = self.pull(z, unit, unit, g_theta[i])
        after = tangents @ g_z.T + directions @ g_theta.T
        dz, dtheta = self.moment(z[:n], self.f(self.t, z))
        shift = tangents[:, :n] @ dz + directions @ dtheta
        result: Floats = after + shift[:, None] * moved
        return result
