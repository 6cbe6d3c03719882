"""Modes of one solve: which piece of the right-hand side holds, and how it turns at a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symode.kernels import types as kt
from symode.solvers.event_functions import BoundEvents

if TYPE_CHECKING:
    from symode.solvers.forward import Forward

Floats = NDArray[np.float64]

#: Turns in a row, each within `NEXT` steps of the one before, from which a switch across which f
#: goes on is noise about zero: from then on it is evaluated as it was written.
RESTLESS, NEXT = 40, 2


class Modes:
    """The modes of a right-hand side's switches.

    Attributes
    ----------
    values
        One mode for each switch, then one weight, as `symode.symbolic.freeze.Frozen` has them.
    sliding
        The root function onto which f pushes the state from both sides; empty where none does.
    """

    def __init__(self, bound: BoundEvents) -> None:
        functions = bound.functions
        self.bound = bound
        self.switches, self.first = functions.switches, functions.n_own
        self.values = np.zeros(functions.n_modes)
        self.sliding = ""
        count = len(self.switches)
        self.nested = any(functions.nested)
        self._turns = np.zeros(count, dtype=np.int64)
        self._last = np.full(count, -(10**9))

        #: Signs of the root functions of floors; the others' are the modes in these places.
        self._signs = np.array(
            [s for w in self.switches for s in ((1, -1) if w.kind == "floor" else (0,))],
            dtype=np.int64,
        )
        self._plain = np.flatnonzero(self._signs == 0)
        self._sources = [k for k, w in enumerate(self.switches) if w.kind != "floor"]

    def signs(self) -> NDArray[np.int64]:
        """Return the signs that the root functions have while these modes hold."""
        found = self._signs.copy()
        found[self._plain] = self.values[self._sources]
        return found

    def live(self) -> list[int]:
        """Return the root functions that are not looked at."""
        weights = self.values[len(self.switches) :]
        if not weights.any():
            return []
        return [self.first + j for k in np.flatnonzero(weights) for j in self.switches[k].roots]

    def settle(
        self,
        forward: Forward,
        y: Floats,
        crossing: dict[int, int],
        noise: dict[int, float],
        moved: bool,
    ) -> Floats:
        """Set the modes of a state, and let them hold; return them.

        Parameters
        ----------
        crossing
            Root functions that cross zero at this moment, and the signs they were seen to have
            beyond it (0 where they are solved for in time).
        noise
            Size below which such a function counts as zero.
        moved
            Whether an event has moved the state since.
        """
        t, n, first = forward.t, self.bound.functions.n, self.first
        modes, zeros, turned = self.values.copy(), [], []
        self.bound.enter(modes)
        values = self.bound.roots(t, y[:n])
        count = len(self.switches)
        # Nothing but the state itself, or another switch, moves those that do not cross.
        alone = bool(crossing) and not moved and not self.nested
        for k in self._crossed(crossing) if alone else range(count):
            switch = self.switches[k]
            if modes[count + k]:
                continue
            if self.nested and self.bound.enter(modes):
                values = self.bound.roots(t, y[:n])
            roots = [first + j for j in switch.roots]
            mine = [r for r in roots if r in crossing]
            value, old = float(values[roots[0]]), modes[k]
            small = abs(value) <= noise.get(roots[0], 0.0)
            if switch.kind == "floor":
                whole = value + old
                if mine and not moved:
                    modes[k] = old - 1.0 if mine[0] == roots[0] else old + 1.0
                else:
                    modes[k] = np.floor(whole)
                    if modes[k] == whole or (mine and small):
                        zeros.append(k)
            elif mine and not moved:
                modes[k] = -old if old else float(crossing[mine[0]])
                turned.append(k)
            elif value == 0.0 or (mine and small):
                modes[k] = 0.0
                zeros.append(k)
            elif not np.isnan(value):
                modes[k] = np.sign(value)
            if modes[k] != old:
                self._watch(forward, k, modes)
        self.values = modes
        self.enter(forward)
        for k in zeros:
            self._leave(forward, k, y)
        for k in turned:
            self._check_sliding(forward, k, y)
        return self.values

    def _crossed(self, crossing: dict[int, int]) -> list[int]:
        """Return the switches that these root functions belong to."""
        owners = (int(self.bound.functions.switch_of[r]) for r in crossing)
        return sorted({k for k in owners if k >= 0})

    def enter(self, forward: Forward) -> None:
        """Let the modes hold in f and in the root functions."""
        forward.enter_modes(self.values)
        self.bound.enter(self.values)

    def _watch(self, forward: Forward, k: int, modes: Floats) -> None:
        """Count turns in quick succession; end what is noise."""
        count = forward.scratch.count
        steps = int(count[kt.BEFORE] + count[kt.STEPS])
        quick = steps - self._last[k] <= NEXT
        self._turns[k] = self._turns[k] + 1 if quick else 0
        self._last[k] = steps
        if self._turns[k] >= RESTLESS and self.switches[k].continuous:
            modes[k], modes[len(self.switches) + k] = 0.0, 1.0

    def rate(self, forward: Forward, root: int, y: Floats) -> float:
        """Return dr/dt along the solution while these modes hold."""
        n = self.bound.n
        return self.bound.rate(root, forward.t, y[:n], forward.slope(forward.t, y)[:n])

    def _leave(self, forward: Forward, k: int, y: Floats) -> None:
        """Give a root function that is zero the sign that it leaves zero with."""
        root = self.first + self.switches[k].roots[0]
        rate = self.rate(forward, root, y)
        if self.switches[k].kind == "floor":
            if rate < 0.0:
                self.values[k] -= 1.0
                self.enter(forward)
            return
        if rate == 0.0:
            return
        for sign in (np.sign(rate), -np.sign(rate)):
            self.values[k] = sign
            self.enter(forward)
            if sign * self.rate(forward, root, y) >= 0.0:
                return
        self._slide(k)

    def _check_sliding(self, forward: Forward, k: int, y: Floats) -> None:
        """Find out whether f beyond a switch drives the state straight back."""
        if self.switches[k].continuous:
            return
        root, mode = self.first + self.switches[k].roots[0], self.values[k]
        if self.bound.functions.timed[root] or mode * self.rate(forward, root, y) >= 0.0:
            return
        self.values[k] = -mode
        self.enter(forward)
        if mode * self.rate(forward, root, y) > 0.0:
            self._slide(k)
        self.values[k] = mode
        self.enter(forward)

    def _slide(self, k: int) -> None:
        self.sliding = str(self.bound.functions.roots[self.first + self.switches[k].roots[0]])
