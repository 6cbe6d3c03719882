r"""Profile likelihoods: intervals that need no parabola.

The profile of a parameter is the best value of the objective with it held fixed,

.. math:: p(x_i) = \min_{x_j, j \ne i} J(x), \qquad
          \{x_i : p(x_i) - \min J \le \tfrac12 \chi^2_{1, \text{level}}\}

its confidence interval. Raue et al. (2009), *Bioinformatics* 25, 1923.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from symode.errors import FitError, GradientError, OptionError, SolverError
from symode.problems.executors import check_workers, run_all
from symode.problems.held import Held
from symode.problems.jobs import make_jobs
from symode.problems.problem import Problem
from symode.solvers.methods import did_you_mean

Floats = NDArray[np.float64]

#: Steps of the signed root from the optimum to the threshold.
STEPS: Final = 5
#: How far beyond the threshold a path goes, so that a picture shows the crossing.
BEYOND: Final = 1.15
#: Points of one side after which a profile that does not rise is called flat.
MAX_POINTS: Final = 60
#: A value below the fit's by more than this means that the fit was not the minimum.
LOWER: Final = 1e-4


@dataclass(frozen=True, eq=False)
class Profile:
    """The profile of one parameter, from low to high values.

    Parameters
    ----------
    name, label
        Of the parameter, and of it on the scale of the search.
    values
        Of the parameter. Shape ``(k,)``.
    objective
        Negative log-likelihood, all other parameters at their best. Shape ``(k,)``.
    points
        All estimated parameters on the scale. Shape ``(k, p)``.
    best
        The objective's minimum.
    level, threshold
        Confidence level, and the objective where the interval ends.
    lower, upper
        Ends of the interval; minus or plus infinity, or 0, where it has none.
    remarks
        Why an end is missing, and what else went wrong.
    """

    name: str
    label: str
    values: Floats
    objective: Floats
    points: Floats
    best: float
    level: float
    threshold: float
    lower: float
    upper: float
    remarks: tuple[str, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """The confidence interval."""
        return self.lower, self.upper

    @property
    def is_identifiable(self) -> bool:
        """Whether the data bound the parameter on both sides (at this level)."""
        return not self.remarks

    def plot(self, axes: Any = None) -> Any:
        """Draw the profile with its threshold; return the axes."""
        from symode.problems.plots_uncertainty import plot_profile

        return plot_profile(self, axes)

    def __repr__(self) -> str:
        """Return the interval and the remarks."""
        lines = [
            f"{self.name}: {100 * self.level:g} % interval {self.lower:.6g} to {self.upper:.6g}"
        ]
        return "\n".join([*lines, *(f"  {remark}" for remark in self.remarks)])


@dataclass(frozen=True)
class _Point:
    x: Floats
    value: float


def profile(
    problem: Problem, x: Floats, parameter: Any, level: float = 0.95, method: str = "optimize"
) -> Profile:
    """Return the profile of one parameter around a point on the scale; see `Fit.profile`.

    Raises
    ------
    OptionError
        For unknown parameters and methods, and levels outside 0 to 1.
    FitError
        When the point is not a minimum in its neighbourhood.
    """
    from scipy.stats import chi2

    space = problem.space
    name = str(parameter)
    if name not in space.names:
        raise OptionError(
            f"There is no estimated parameter {name}{did_you_mean(name, space.names)}. Those are "
            f"{', '.join(space.names)}."
        )
    if not 0 < level < 1:
        raise OptionError(f"level must lie between 0 and 1; got {level!r}.")
    if method not in METHODS:
        raise OptionError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    i = space.names.index(name)
    held = Held(problem, i)
    start = held.best_at(x, float(x[i]))
    rise = 0.5 * float(chi2.ppf(level, 1))
    walk = METHODS[method]
    sides, remarks, ends = [], [], []
    for side in (-1, 1):
        path, end, remark = walk(held, _Point(start.x, start.value), side, rise)
        sides.append(path)
        ends.append(end)
        if remark:
            remarks.append(remark)
    points = [*reversed(sides[0]), _Point(start.x, start.value), *sides[1]]
    lowest = min(point.value for point in points)
    if lowest < start.value - LOWER:
        best = points[int(np.argmin([p.value for p in points]))]
        named = dict(zip(space.names, np.asarray(space.theta(best.x))[space.places], strict=True))
        where = ", ".join(f"{n} = {v:.6g}" for n, v in named.items())
        raise FitError(
            f"The profile of {name} found a value {start.value - lowest:.3g} below that of the "
            f"fit, at {where}: the fit is not the minimum. Fit again with this point among starts=."
        )
    whole = np.array([point.x for point in points])
    transform = space.transforms[i]
    # Beyond its scale a parameter's ends are those of its range.
    lower, upper = (float(transform.to_theta(end)) for end in ends)
    return Profile(
        name,
        space.labels[i],
        np.asarray(transform.to_theta(whole[:, i])),
        np.array([point.value for point in points]),
        whole,
        start.value,
        level,
        start.value + rise,
        lower,
        upper,
        tuple(remarks),
    )


def profiles(
    problem: Problem,
    x: Floats,
    names: Iterable[Any] | None = None,
    level: float = 0.95,
    method: str = "optimize",
    workers: int | None = None,
    executor: Executor | None = None,
) -> dict[str, Profile]:
    """Return the profiles of several parameters by name, computed side by side."""
    wanted = list(problem.space.names) if names is None else [str(name) for name in names]
    workers = check_workers(workers, executor)
    arguments = {k: (x, name, level, method) for k, name in enumerate(wanted)}
    found: dict[int, Profile] = {}
    for job, result in run_all(make_jobs(problem, profile, arguments), workers, executor):
        found[job.key] = result
    return {name: found[k] for k, name in enumerate(wanted)}


def _optimize(held: Held, start: _Point, side: int, rise: float) -> tuple[list[_Point], float, str]:
    r"""Walk in steps that raise the root of the profile evenly, optimizing at each.

    The root :math:`z = \sqrt{2 (p - p_{min})}` is nearly linear in the parameter, so that the next
    step is known from the last; the start of each optimization follows the path's tangent.
    """
    i, space = held.place, held.problem.space
    bound = float(space.upper[i] if side > 0 else space.lower[i])
    goal = float(np.sqrt(2 * rise))
    h = held.natural_step(start.x)
    path: list[_Point] = []
    here, z = start, 0.0
    while len(path) < MAX_POINTS:
        at = float(here.x[i]) + side * h
        at_bound = side * (at - bound) >= 0
        at = bound if at_bound else at
        try:
            found = held.best_at(held.along_tangent(here.x, at), at)
        except (SolverError, GradientError, FitError) as error:
            if h < 1e-6 * (1.0 + abs(at)):
                return path, side * np.inf, _side(side) + f"cannot be computed further: {error}"
            h *= 0.25
            continue
        there = _Point(found.x, found.value)
        z_there = float(np.sqrt(2 * max(there.value - start.value, 0.0)))
        if z_there - z > 2.5 * goal / STEPS and z_there > 0.5 * goal and h > 1e-12:
            h *= 0.5
            continue
        if z_there >= goal:
            crossing = _crossing(held, start, here, there, rise)
            path += [crossing, there]
            end = float(crossing.x[i])
            if z_there < BEYOND * goal and not at_bound:
                _beyond(held, path, side, bound)
            return path, end, ""
        path.append(there)
        if at_bound:
            value = float(held.problem.space.transforms[i].to_theta(bound))
            return path, bound, (f"{_side(side)}ends at the bound {value:.4g}: the data allow more")
        slope = (z_there - z) / h
        wanted = goal / STEPS / slope if slope > 0 else np.inf
        h = float(np.clip(wanted, 0.3 * h, 4.0 * h))
        here, z = there, z_there
    return path, side * np.inf, f"{_side(side)}is flat: the data do not bound it there"


def _beyond(held: Held, path: list[_Point], side: int, bound: float) -> None:
    """Add one point past the crossing, for pictures."""
    i, last = held.place, path[-1]
    at = float(last.x[i]) + 0.25 * (float(last.x[i]) - float(path[0].x[i]))
    at = min(at, bound) if side > 0 else max(at, bound)
    try:
        found = held.best_at(held.along_tangent(last.x, at), at)
    except (SolverError, GradientError, FitError):
        return
    path.append(_Point(found.x, found.value))


def _crossing(held: Held, start: _Point, below: _Point, above: _Point, rise: float) -> _Point:
    """Return where the profile crosses the threshold, by regula falsi on its root."""
    i, goal = held.place, float(np.sqrt(2 * rise))

    def height(point: _Point) -> float:
        return float(np.sqrt(2 * max(point.value - start.value, 0.0))) - goal

    a, fa, b, fb = below, height(below), above, height(above)
    for _ in range(20):
        # A step of 1e-5 of the root's unit moves the interval by 1e-5 standard errors.
        if abs(fb) < 1e-5 or abs(float(b.x[i] - a.x[i])) < 1e-10 * (1 + abs(float(b.x[i]))):
            break
        at = float(b.x[i] - fb * (b.x[i] - a.x[i]) / (fb - fa))
        share = (at - a.x[i]) / (b.x[i] - a.x[i])
        found = held.best_at(a.x + share * (b.x - a.x), at)
        c = _Point(found.x, found.value)
        fc = height(c)
        if fc * fb < 0:
            a, fa = b, fb
        else:
            # Illinois: the end that stays counts half, so that it moves at last.
            fa *= 0.5
        b, fb = c, fc
    return b


def _integrate(
    held: Held, start: _Point, side: int, rise: float
) -> tuple[list[_Point], float, str]:
    r"""Follow the path of optima as a differential equation, with the parameter as time.

    .. math:: \frac{dx_o}{dx_i} = -F_{oo}^{-1} (F_{oi} + \gamma\, g_o)

    F is the Fisher information in place of the Hessian; :math:`\gamma` pulls the path back to
    :math:`g_o = 0`. Chen & Jennrich (1996), *J. Comput. Graph. Stat.* 5, 264.
    """
    from scipy.integrate import RK23

    i, space = held.place, held.problem.space
    bound = float(space.upper[i] if side > 0 else space.lower[i])
    step = held.natural_step(start.x)
    far = float(start.x[i]) + side * 1e3 * step
    far = min(far, bound) if side > 0 else max(far, bound)
    solver = RK23(
        lambda at, x: held.path_slope(x, side / step),
        float(start.x[i]),
        start.x.copy(),
        far,
        first_step=min(step / 4, abs(far - float(start.x[i])) / 2),
        rtol=1e-3,
        atol=1e-3 * np.maximum(1e-3, np.abs(start.x)),
    )
    path: list[_Point] = []
    previous = start
    while solver.status == "running" and len(path) < MAX_POINTS:
        try:
            message = solver.step()
        except (SolverError, GradientError) as error:
            return path, side * np.inf, _side(side) + f"cannot be computed further: {error}"
        if solver.status == "failed":
            return path, side * np.inf, _side(side) + f"could not be followed: {message}"
        x = space.inside(solver.y)
        x[i] = solver.t
        here = _Point(x, held.value(x))
        if here.value - start.value >= rise:
            crossing = _crossing(held, start, previous, here, rise)
            return [*path, crossing, here], float(crossing.x[i]), ""
        path.append(here)
        previous = here
    if solver.t == bound:
        value = float(space.transforms[i].to_theta(bound))
        return path, bound, f"{_side(side)}ends at the bound {value:.4g}: the data allow more"
    return path, side * np.inf, f"{_side(side)}is flat: the data do not bound it there"


#: Ways to compute a profile, by name.
METHODS: Final = {"optimize": _optimize, "integrate": _integrate}


def _side(side: int) -> str:
    return "upper side " if side > 0 else "lower side "
