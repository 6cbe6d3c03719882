r"""Fisher scoring: the last digits of a search, and the measure of how much it still could gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symode.errors import GradientError, SolverError
from symode.kernels.search_types import CUT_OFF, FRACTIONS, MAX_STEPS
from symode.problems.counter import Counter
from symode.problems.scores import Scores

Floats = NDArray[np.float64]

#: A search has converged when a Newton step would gain less, in units of the value.
CONVERGED = 1e-6


@dataclass(frozen=True, eq=False)
class Ending:
    """Where scoring ended: the point on the scale, what was found there, what is left to gain.

    ``decrement`` is half the slope along the step not taken; it has the unit of the value, whatever
    the units of the parameters.
    """

    x: Floats
    value: float
    misfit: float
    gradient: Floats
    decrement: float

    @property
    def converged(self) -> bool:
        """Whether hardly anything is left to gain.

        Where sigma is only a weight, the value has no unit of its own: it is compared with the
        misfit.
        """
        return self.decrement <= CONVERGED * min(1.0, self.misfit) + 1e-10


def score_to_the_end(
    counter: Counter, x: Floats, held: Sequence[int] = (), known: Scores | None = None
) -> Ending:
    r"""Take scoring steps :math:`-F^{-1} g` while they lower the value.

    With residuals and their Jacobian at hand the information F costs nothing more, and the steps
    reach the optimum to rounding where those of SciPy end in the noise of the value. Entries of x
    that are ``held`` stay as they are; ``known`` are the scores at x, where they are at hand.

    Raises
    ------
    SolverError, GradientError
        When the first point cannot be computed.
    """
    space = counter.problem.space
    scores = counter.scores(x) if known is None else known
    value = scores.value
    step, decrement = scoring_step(scores, space.at_bound(x), space.widths, held)
    for _ in range(MAX_STEPS):
        if decrement <= 1e-14 * (1.0 + abs(value)):
            break
        for fraction in FRACTIONS:
            trial = space.inside(x + fraction * step)
            try:
                trial_scores = counter.scores(trial)
            except (SolverError, GradientError):
                continue
            trial_value = trial_scores.value
            if trial_value < value:
                break
        else:
            break
        x, value, scores = trial, trial_value, trial_scores
        step, decrement = scoring_step(scores, space.at_bound(x), space.widths, held)
    return Ending(x, value, scores.misfit, scores.gradient, decrement)


def scoring_step(
    scores: Scores, sides: NDArray[np.intp], widths: Floats, held: Sequence[int] = ()
) -> tuple[Floats, float]:
    r"""Return :math:`-F^{-1} g`, no longer than the box, and :math:`\tfrac12 g^\top F^{-1} g`.

    Parameters that a bound holds (``sides``: -1 lower, 1 upper) do not move, nor does the point
    along directions that F does not determine.
    """
    gradient, root = scores.gradient, scores.information_root
    # Downhill is out of the box where the gradient points into it.
    movable = sides * gradient >= 0
    movable[list(held)] = False
    free = np.flatnonzero(movable)
    step = np.zeros(gradient.size)
    lengths = np.linalg.norm(root[:, free], axis=0)
    free, lengths = free[lengths > 0], lengths[lengths > 0]
    if not free.size:
        return step, 0.0
    # Columns of one length make the cut-off independent of units.
    _, s, vt = np.linalg.svd(root[:, free] / lengths, full_matrices=False)
    known = s > CUT_OFF * s[0]
    along = (vt @ (gradient[free] / lengths))[known] / s[known]
    step[free] = -(vt[known].T @ (along / s[known])) / lengths
    longest = float(np.max(np.abs(step) / widths, initial=0.0))
    return step / max(1.0, longest), 0.5 * float(along @ along)
