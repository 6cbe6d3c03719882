"""The best point with one parameter held: what profiles are made of."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from symode.errors import FitError, GradientError, SolverError
from symode.problems.counter import Counter
from symode.problems.intervals import invert_information
from symode.problems.problem import Problem
from symode.problems.scoring import Ending, score_to_the_end
from symode.problems.threads import one_blas_thread

Floats = NDArray[np.float64]

#: Iterations of the quasi-Newton search where scoring alone does not arrive.
SEARCH: Final = 200


class Held:
    """A problem with one estimated parameter held fixed.

    Parameters
    ----------
    problem
        The problem.
    place
        Of the parameter among the estimated ones.
    """

    def __init__(self, problem: Problem, place: int) -> None:
        self.problem, self.place = problem, place
        self.counter = Counter(problem)

    def value(self, x: Floats) -> float:
        """Return the objective."""
        return self.counter.value_and_grad(x)[0]

    def best_at(self, x: Floats, at: float) -> Ending:
        """Return the best point with the parameter at this value, from the point x.

        Raises
        ------
        SolverError, GradientError
            When no point can be computed.
        FitError
            When the search does not converge.
        """
        x = self.problem.space.inside(x)
        x[self.place] = at
        with one_blas_thread():
            ending = score_to_the_end(self.counter, x, [self.place])
            for _ in range(3):
                if ending.converged or self.problem.size == 1:
                    return ending
                ending = score_to_the_end(self.counter, self._search(ending.x), [self.place])
        if not ending.decrement < 1e-3:
            raise FitError(
                f"With {self.problem.space.labels[self.place]} held at {at:.6g} the search did "
                f"not converge; a Newton step would still gain {ending.decrement:.1e}."
            )
        return ending

    def _search(self, x: Floats) -> Floats:
        """Return a better point by L-BFGS-B in the other parameters."""
        from scipy.optimize import minimize

        space = self.problem.space
        others = np.arange(x.size) != self.place
        unit = np.where(np.isfinite(space.widths), 0.1 * space.widths, np.maximum(np.abs(x), 1.0))

        def reduced(u: Floats) -> tuple[float, Floats]:
            full = x.copy()
            full[others] = u * unit[others]
            value, gradient = self.counter.walled(full)
            return value, gradient[others] * unit[others]

        self.counter.value_and_grad(x)
        result = minimize(
            reduced,
            x[others] / unit[others],
            jac=True,
            method="L-BFGS-B",
            bounds=np.column_stack([space.lower, space.upper])[others] / unit[others][:, None],
            options={"maxiter": SEARCH, "ftol": 1e-13, "gtol": 1e-9},
        )
        found = x.copy()
        found[others] = result.x * unit[others]
        return space.inside(found)

    def natural_step(self, x: Floats) -> float:
        """Return a third of the parameter's standard error, or of what stands in for it."""
        space = self.problem.space
        free = np.flatnonzero(space.at_bound(x) == 0)
        if self.place in free:
            root = self.counter.scores(x).information_root[:, free]
            inverse, _ = invert_information(root)
            error = float(np.sqrt(inverse[(at := int(np.flatnonzero(free == self.place)[0])), at]))
            if np.isfinite(error) and error > 0:
                width = float(space.widths[self.place])
                return min(error / 3, width / 10 if np.isfinite(width) else np.inf)
        width = float(space.widths[self.place])
        return width / 40 if np.isfinite(width) else 0.05 * max(abs(float(x[self.place])), 1.0)

    def along_tangent(self, x: Floats, at: float) -> Floats:
        """Return the point at this value along the tangent of the path of optima."""
        return self.problem.space.inside(x + (at - x[self.place]) * self.path_slope(x, 0.0))

    def path_slope(self, x: Floats, pull: float) -> Floats:
        r"""Return :math:`dx/dx_i` along the path of optima, with a pull back to it.

        Parameters at a bound, and directions the data do not determine, do not move.
        """
        space, i = self.problem.space, self.place
        slope = np.zeros(x.size)
        slope[i] = 1.0
        try:
            scores = self.counter.scores(x)
        except (SolverError, GradientError):
            if pull:
                raise
            return slope
        gradient, root = scores.gradient, scores.information_root
        movable = space.at_bound(x) * gradient >= 0
        movable[i] = False
        others = np.flatnonzero(movable)
        lengths = np.linalg.norm(root[:, others], axis=0)
        others, lengths = others[lengths > 0], lengths[lengths > 0]
        if others.size:
            u, s, vt = np.linalg.svd(root[:, others] / lengths, full_matrices=False)
            known = s > 1e-7 * s[0]
            wanted = u[:, known].T @ root[:, i] / s[known]
            wanted += pull * (vt[known] @ (gradient[others] / lengths)) / s[known] ** 2
            slope[others] = -(vt[known].T @ wanted) / lengths
        return slope
