"""Simulation of all conditions: compiled, side by side on all cores, in a fixed order of sums."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from symode.problems.parts import Part

Floats = NDArray[np.float64]
T = TypeVar("T")

#: Seconds of work below which threads cost more than they bring.
WORTH_THREADS = 5e-4


class Simulator:
    """The parts of a problem as one function of its parameters.

    Parameters
    ----------
    parts
        The conditions.
    workers
        Threads; the number of cores for None. The result does not depend on it: every part is
        computed alike in any thread, and sums are formed in the order of the parts.
    """

    def __init__(self, parts: Sequence[Part], workers: int | None) -> None:
        self.parts = tuple(parts)
        self.workers = min(workers or os.cpu_count() or 1, len(self.parts))
        self._pool: ThreadPoolExecutor | None = None
        self._seconds = 0.0

    def __call__(self, outer: Floats) -> tuple[float, Floats]:
        """Return the negative log-likelihood and its gradient in the problem's parameters."""
        if len(self.parts) == 1:
            return self.parts[0].value_and_grad(outer)
        total, gradient = 0.0, np.zeros(outer.size)
        for value, slope in self.map(lambda part: part.value_and_grad(outer)):
            total += value
            gradient += slope
        return total, gradient

    def map(self, work: Callable[[Part], T]) -> list[T]:
        """Return the result of each part, in order; the first failure in that order is raised."""
        begun = time.perf_counter()
        if self.workers == 1 or self._seconds < WORTH_THREADS:
            results = [work(part) for part in self.parts]
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.workers)
            # One task a thread: handing over each part alone costs as much as a small solve.
            shares = [self.parts[i :: self.workers] for i in range(self.workers)]
            futures = [
                self._pool.submit(lambda share: [work(part) for part in share], share)
                for share in shares
            ]
            found = [future.result() for future in futures]
            results = [found[i % self.workers][i // self.workers] for i in range(len(self.parts))]
        # The estimate ages, so that one slow call (a first compilation) does not decide for ever.
        elapsed = time.perf_counter() - begun
        self._seconds = elapsed if self._seconds == 0.0 else 0.5 * (self._seconds + elapsed)
        return results
