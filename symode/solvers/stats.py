"""Stats: what a solve cost, in all and by segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symode.kernels import types as kt


@dataclass(frozen=True, repr=False)
class SegmentStats:
    """What one segment of a solve cost, and why it ended."""

    solver: str
    t0: float
    t1: float
    steps: int
    rejected: int
    nfev: int
    njev: int
    nlu: int
    reason: str

    @classmethod
    def of(
        cls, solver: str, t0: float, t1: float, count: NDArray[np.int64], reason: str
    ) -> SegmentStats:
        """Return the statistics held by a kernel's counters."""
        steps, rejected, nfev, njev, nlu = (
            int(count[i]) for i in (kt.STEPS, kt.REJECTED, kt.NFEV, kt.NJEV, kt.NLU)
        )
        return cls(solver, t0, t1, steps, rejected, nfev, njev, nlu, reason)

    def __repr__(self) -> str:
        """Return method, range, steps and the reason in a line."""
        return (
            f"t = {self.t0:.6g} to {self.t1:.6g}: {self.solver}, {self.steps} steps, "
            f"{self.rejected} rejected, until {self.reason}"
        )


@dataclass(frozen=True, repr=False)
class Stats:
    """What a solve cost.

    ``njev`` counts Jacobians, ``nlu`` factorizations, ``seconds`` compiled work (and, once a
    process, the loading of the solver). ``segments`` has the same for each stretch of one method,
    and why it ended; ``reason`` says why these methods. Printed, it is a short table.

    Examples
    --------
    >>> part = SegmentStats("tsit5", 0.0, 1.0, 12, 1, 79, 0, 0, "the end of the span")
    >>> print(Stats.over((part,), 1e-4, "chosen by the caller"))
    tsit5 (chosen by the caller): 12 steps, 1 rejected, 79 calls of f
      t = 0 to 1: tsit5, 12 steps, 1 rejected, until the end of the span
    """

    solver: str
    steps: int
    rejected: int
    nfev: int
    njev: int
    nlu: int
    seconds: float
    segments: tuple[SegmentStats, ...] = ()
    reason: str = ""

    @classmethod
    def of(cls, solver: str, count: NDArray[np.int64], seconds: float) -> Stats:
        """Return the statistics held by a kernel's counters."""
        part = SegmentStats.of(solver, float("nan"), float("nan"), count, "")
        return cls.over((part,), seconds, "")

    @classmethod
    def over(cls, segments: tuple[SegmentStats, ...], seconds: float, reason: str) -> Stats:
        """Return the totals over segments; the solver is named by all methods that took part."""
        solver = ", ".join(dict.fromkeys(part.solver for part in segments))
        return cls(
            solver,
            steps=sum(part.steps for part in segments),
            rejected=sum(part.rejected for part in segments),
            nfev=sum(part.nfev for part in segments),
            njev=sum(part.njev for part in segments),
            nlu=sum(part.nlu for part in segments),
            seconds=seconds,
            segments=segments,
            reason=reason,
        )

    def __repr__(self) -> str:
        """Return the totals and a line for each segment."""
        why = f" ({self.reason})" if self.reason else ""
        linear = f", {self.njev} Jacobians, {self.nlu} factorizations" if self.nlu else ""
        head = (
            f"{self.solver}{why}: {self.steps} steps, {self.rejected} rejected, "
            f"{self.nfev} calls of f{linear}"
        )
        return "\n  ".join([head, *(str(part) for part in self.segments)])
