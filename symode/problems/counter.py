"""The objective as a search sees it: counted, with the best point kept, failures as walls."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from symode.errors import GradientError, SolverError
from symode.problems.hierarchical import Reduced
from symode.problems.problem import Problem
from symode.problems.scores import Scores

Floats = NDArray[np.float64]


@dataclass
class Counter:
    """The objective of a search: counts its calls and keeps the best point seen."""

    problem: Problem | Reduced
    evaluations: int = 0
    lost: int = 0
    best: tuple[float, Floats] | None = None
    best_scores: Scores | None = field(default=None, repr=False)
    last: tuple[float, Floats, Floats] | None = field(default=None, repr=False)

    def value_and_grad(self, x: Floats) -> tuple[float, Floats]:
        """Return value and gradient; raise where the solve fails."""
        x = self.problem.space.inside(x)
        self.evaluations += 1
        try:
            value, gradient = self.problem.objective(x)
        except (SolverError, GradientError):
            self.lost += 1
            raise
        self.last = (value, gradient, x)
        if self._keep(value, x):
            self.best_scores = None
        return value, gradient

    def walled(self, x: Floats) -> tuple[float, Floats]:
        r"""Return value and gradient, or a wall where the solve fails.

        At the last good point x' with value J and slope g the wall is
        :math:`J + |g^\top (x - x')|`, level: a line search then shortens its step about
        ninefold, where an infinite value would end it and a huge one make it creep.
        """
        try:
            return self.value_and_grad(x)
        except (SolverError, GradientError):
            assert self.last is not None
            value, gradient, good = self.last
            rise = max(abs(float(gradient @ (x - good))), 1e-6 * (1.0 + abs(value)))
            return value + rise, np.zeros_like(gradient)

    def scores(self, x: Floats) -> Scores:
        """Return residuals and Jacobian; raise where the solve fails."""
        self.evaluations += 1
        try:
            scores = self.problem.scores(self.problem.space.inside(x))
        except (SolverError, GradientError):
            self.lost += 1
            raise
        if self._keep(scores.value, x):
            self.best_scores = scores
        return scores

    def _keep(self, value: float, x: Floats) -> bool:
        """Remember the best point; return whether this one is."""
        better = self.best is None or value < self.best[0]
        if better:
            self.best = (value, np.array(x))
        return better
