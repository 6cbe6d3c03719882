r"""Which states to keep when not all can be kept: schedules of a pass that is run backwards.

A chain of M units is to be reversed with at most c states in memory, the first included. With r
runs of each unit at most :math:`\beta(c, r) = \binom{c + r}{c}` units can be reversed, and the
fewest runs beyond the first are :math:`t(c, M) = r M - \beta(c + 1, r - 1)` (Griewank & Walther
2000, *Revolve*, ACM TOMS 26, 19-45). While M is unknown, states are kept by the rule of Wang, Moin
& Iaccarino (2009), *Minimal repetition dynamic checkpointing algorithm for unsteady adjoint
calculation*, SIAM J. Sci. Comput. 31, 2549-2567, which runs no unit again more than r times.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field


def reach(checkpoints: int, runs: int) -> int:
    """Return the units that so many checkpoints reverse when each is run so often.

    Examples
    --------
    >>> reach(3, 2)
    10
    """
    return math.comb(checkpoints + runs, checkpoints) if runs >= 0 else 0


def repetitions(checkpoints: int, units: int) -> int:
    """Return the fewest r with ``reach(checkpoints, r) >= units``.

    Examples
    --------
    >>> [repetitions(3, units) for units in (1, 4, 5, 10, 11)]
    [0, 1, 2, 2, 3]
    """
    r = 0
    while reach(checkpoints, r) < units:
        r += 1
    return r


def fewest_runs(checkpoints: int, units: int) -> int:
    """Return t(c, M): the fewest units run again to reverse a chain of known length.

    Examples
    --------
    >>> fewest_runs(1, 5), fewest_runs(5, 5)
    (10, 4)
    """
    r = repetitions(checkpoints, units)
    return r * units - reach(checkpoints + 1, r - 1)


def best_split(checkpoints: int, units: int) -> int:
    """Return where the next state is kept: units past the one kept, by the binomial rule.

    Parameters
    ----------
    checkpoints
        States that may be kept, the one at the start of these units included; at least 2.
    units
        Units to reverse, at least 2.

    Examples
    --------
    >>> best_split(2, 6)
    3
    """
    r = repetitions(checkpoints, units)
    candidates = {
        reach(checkpoints, r - 1), reach(checkpoints, r - 2),
        units - reach(checkpoints - 1, r), units - reach(checkpoints - 1, r - 1), 1,
    }  # fmt: skip
    inside = [m for m in candidates if 1 <= m < units]
    return min(
        inside,
        key=lambda m: (
            m + fewest_runs(checkpoints - 1, units - m) + fewest_runs(checkpoints, m), m
        ),
    )  # fmt: skip


@dataclass
class Held:
    """Places of the states kept while the chain grows; the first is never given up.

    Parameters
    ----------
    checkpoints
        c, the states that stay; the state the chain has reached is held besides.

    Examples
    --------
    >>> held = Held(2)
    >>> [held.place(unit) for unit in range(6)]
    [None, None, None, 2, 1, 4]
    >>> held.units
    [0, 3, 5]
    """

    checkpoints: int
    units: list[int] = field(default_factory=list)
    _levels: list[float] = field(default_factory=list)

    def place(self, unit: int) -> int | None:
        """Keep the state before this unit, later than all others; return the unit given up."""
        gone, level = None, math.inf if not self.units else 0.0
        if len(self.units) > self.checkpoints:
            gone = self._dispensable()
            if gone is None:
                gone, level = len(self.units) - 1, self._levels[-1] + 1
        dropped = None if gone is None else self.units.pop(gone)
        if gone is not None:
            del self._levels[gone]
        self.units.append(unit)
        self._levels.append(level)
        return dropped

    def _dispensable(self) -> int | None:
        """Return the last place whose level is lower than that of a later one."""
        highest = -1.0
        for i in range(len(self.units) - 1, 0, -1):
            if self._levels[i] < highest:
                return i
            highest = max(highest, self._levels[i])
        return None

    def insert(self, unit: int) -> None:
        """Keep a state on the way to a known end, later than all others."""
        self.units.append(unit)
        self._levels.append(0.0)

    def drop_from(self, unit: int) -> list[int]:
        """Give up, and return, all units from this one on; the first stays."""
        place = max(bisect_left(self.units, unit), 1)
        gone = self.units[place:]
        del self.units[place:], self._levels[place:]
        return gone
