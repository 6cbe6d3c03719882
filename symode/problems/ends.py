r"""Ends of profile intervals alone, without the profile between them.

The end is a point :math:`x` with

.. math:: J(x) = J_{min} + \tfrac12 \chi^2_{1, \text{level}}, \qquad
          \frac{\partial J}{\partial x_j} = 0 \quad (j \ne i)

The root :math:`z = \sqrt{2(p - p_{min})}` of the profile p is nearly linear in the parameter: a few
constrained fits find where it crosses the threshold, instead of some ten on the way. Venzon &
Moolgavkar (1988), *Applied Statistics* 37, 87, state the equations.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from symode.errors import FitError, GradientError, OptionError, SolverError
from symode.problems.held import Held
from symode.problems.problem import Problem
from symode.problems.profiles import profile
from symode.solvers.methods import did_you_mean

Floats = NDArray[np.float64]

#: Steps towards one end; where they do not arrive, the whole profile is walked.
STEPS: Final = 12
#: The end is known to this share of a standard error.
CLOSE: Final = 1e-3


def profile_ends(
    problem: Problem, x: Floats, parameter: Any, level: float = 0.95
) -> tuple[float, float]:
    """Return the ends of a parameter's profile interval around a fitted point on the scale.

    The same interval as that of `profile`, to a thousandth of a standard error, at a third of the
    cost; where an end does not exist, or the way to it is not plain, `profile` decides.

    Raises
    ------
    OptionError
        For unknown parameters, and levels outside 0 to 1.
    FitError
        When the point is not a minimum in its neighbourhood.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> y, k = sp.symbols("y k")
    >>> model = symode.Model({y: -k * y}, parameters=[k], initial={y: 2})
    >>> data = symode.Data([1, 2, 3], {"y": [1.01, 0.48, 0.26]})
    >>> problem = symode.Problem(model, data, symode.Normal(0.02), scale="log10")
    >>> fit = symode.fit(problem, starts=3, seed=0, workers=1)
    >>> low, high = profile_ends(problem, problem.space.point(fit.theta), "k")
    >>> round(low, 3), round(high, 3)
    (0.67, 0.719)
    """
    from scipy.stats import chi2

    space, name = problem.space, str(parameter)
    if name not in space.names:
        raise OptionError(
            f"There is no estimated parameter {name}{did_you_mean(name, space.names)}. Those are "
            f"{', '.join(space.names)}."
        )
    if not 0 < level < 1:
        raise OptionError(f"level must lie between 0 and 1; got {level!r}.")
    i = space.names.index(name)
    goal = float(np.sqrt(chi2.ppf(level, 1)))
    held = Held(problem, i)
    start = held.best_at(x, float(x[i]))
    error = 3 * held.natural_step(start.x)
    found = [_end(held, start.x, start.value, side * error, goal) for side in (-1, 1)]
    if any(end is None for end in found):
        return profile(problem, x, name, level).interval
    low, high = (float(space.transforms[i].to_theta(end)) for end in found)
    return low, high


def _end(held: Held, x: Floats, lowest: float, error: float, goal: float) -> float | None:
    """Return where the profile's root reaches the goal, or None where that is not plain to see."""
    i, space = held.place, held.problem.space
    origin = float(x[i])
    # Brackets, as (step, height): the root is 0 at the optimum.
    low, high = (0.0, -goal), (np.inf, np.inf)
    step, along = goal * error, x
    for _ in range(STEPS):
        at = origin + step
        if not space.lower[i] < at < space.upper[i]:
            return None
        try:
            found = held.best_at(held.along_tangent(along, at), at)
        except (SolverError, GradientError, FitError):
            return None
        if found.value < lowest - 1e-6 * (1.0 + abs(lowest)):
            return None
        height = float(np.sqrt(2 * max(found.value - lowest, 0.0))) - goal
        if abs(height) < CLOSE:
            # One more secant step, which costs nothing, squares what is left.
            return float(origin + step * goal / (goal + height))
        if height > 0:
            high = (step, height)
        else:
            low = (step, height)
        along = found.x
        if np.isfinite(high[0]):
            share = -low[1] / (high[1] - low[1])
            step = low[0] + min(max(share, 0.05), 0.95) * (high[0] - low[0])
        elif goal + height > 0.2 * goal:
            step = step * min(goal / (goal + height), 2.0)
        else:
            return None
    return None
