"""fit: estimates from data, by several searches, with what is needed to trust them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.equations.values import Named
from symode.errors import FitError, OptionError
from symode.problems.intervals import Intervals, intervals
from symode.problems.optimizers import choose_optimizer
from symode.problems.problem import Problem
from symode.problems.search import run_start
from symode.problems.starts import Start, starting_points
from symode.solvers.methods import did_you_mean
from symode.solvers.options import NAMES

Floats = NDArray[np.float64]

#: What a search may end above the best and count as the same: no test could tell them apart.
SAME_VALUE = 1e-3


@dataclass(frozen=True, eq=False)
class Fit:
    """What `fit` found.

    Parameters
    ----------
    problem
        What was fitted.
    starts
        Every search, best first, failed ones last.
    optimizer
        The search that was used.
    seed
        Of the starting points.
    requested
        How many searches were asked for; more than there are when the fit was interrupted.
    seconds
        Wall time.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    >>> data = symode.Data([1, 2, 3], {"x": [1.01, 0.48, 0.26]})
    >>> result = symode.fit(
    ...     symode.Problem(model, data, symode.Normal(0.02), scale="log10"), starts=3, seed=0)
    >>> round(float(result.theta["k"]), 3), result.n_best
    (0.694, 3)
    """

    problem: Problem
    starts: tuple[Start, ...]
    optimizer: str
    seed: int
    requested: int
    seconds: float

    @property
    def best(self) -> Start:
        """The search that ended lowest.

        Raises
        ------
        FitError
            When every search failed, with the first reason.
        """
        if self.starts[0].status == "failed":
            raise FitError(
                f"All {len(self.starts)} starts failed, the first one so: "
                f"{self.starts[0].message} Narrow bounds= towards plausible values, or pass "
                "starts= as points."
            )
        return self.starts[0]

    @property
    def theta(self) -> Named:
        """All parameters at the best fit, by name or position; fixed ones included."""
        return self.best.theta

    @property
    def value(self) -> float:
        """Negative log-likelihood at the best fit."""
        return self.best.value

    @property
    def n_best(self) -> int:
        """How many searches ended at the best value."""
        return sum(start.value <= self.value + self._same for start in self.starts)

    @property
    def n_failed(self) -> int:
        """How many searches failed."""
        return sum(start.status == "failed" for start in self.starts)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the fit early."""
        return len(self.starts) < self.requested

    @property
    def _same(self) -> float:
        """Difference in value below which two searches count as ending at the same place."""
        scores = self.problem.scores(self.problem.space.point(self.theta))
        misfit = scores.misfit
        return SAME_VALUE * min(1.0, misfit) + 1e-8

    def intervals(self, level: float = 0.95, curvature: str = "fisher") -> Intervals:
        """Return estimates with standard errors and confidence intervals.

        Parameters
        ----------
        level
            Confidence level, between 0 and 1.
        curvature
            ``"fisher"``: the Fisher information, from exact sensitivities. ``"hessian"``: the
            second derivative of the negative log-likelihood, by differences of its exact gradient.
        """
        return intervals(self.problem, self.best, level, curvature)

    def table(self, level: float = 0.95) -> str:
        """Return names, estimates, standard errors and intervals as lines of text."""
        return str(self.intervals(level))

    def plot(self, axes: Any = None, *, level: float = 0.95) -> Any:
        """Draw data and fitted curves, one panel for each observable; return the axes.

        Parameters
        ----------
        axes
            Matplotlib axes to draw in, one for each observable; new ones by default.
        level
            Share of measurements that the shaded band around each curve should hold, according to
            the noise; 0 draws none.

        Raises
        ------
        MissingExtraError
            Without matplotlib, which the extra ``fit`` installs.
        """
        from symode.problems.plots import plot_fit

        return plot_fit(self.problem, self.theta, axes, level)

    def summary(self) -> str:
        """Return how the searches went, in a few lines of text."""
        return "\n".join(_summary(self))

    def __repr__(self) -> str:
        """Return how the searches went, and the best estimates."""
        lines = list(_summary(self))
        if self.starts[0].status != "failed":
            lines += [f"  {n} = {self.theta[n]:.6g}" for n in self.problem.space.names]
        return "\n".join(lines)


def fit(
    problem: Problem,
    starts: Any = 20,
    *,
    seed: int | None = None,
    optimizer: str = "auto",
    max_iterations: int = 1000,
    progress: bool | None = None,
    **options: Any,
) -> Fit:
    """Return the parameters under which the data are most likely, found by several searches.

    Parameters
    ----------
    problem
        Model, data, noise, bounds and scales.
    starts
        How many searches, from a Latin hypercube within the bounds on the scale; or the points to
        begin at, each a mapping {parameter: value} or all parameters in order.
    seed
        Of the starting points; drawn and reported when not given.
    optimizer
        ``"least_squares"`` (trust region, exact Jacobian of the residuals), for a sigma that is
        fixed; ``"l-bfgs-b"`` (exact gradient of the negative log-likelihood), for any. ``"auto"``
        takes the first where it can. Both end with Fisher-scoring steps.
    max_iterations
        Of each search.
    progress
        Show a bar on stderr; by default where stderr is a terminal. Needs tqdm, and does without
        it.
    **options
        There are no others: a mistyped name is refused, and so are those that `Problem` takes.

    Returns
    -------
    Fit
        Searches that failed are in it, each with its reason. Ctrl-C ends the fit; it returns what
        was done, if anything was.

    Raises
    ------
    OptionError
        For options that do not exist, and starting points that cannot be drawn.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k, x0, s = sp.symbols("x k x0 s")
    >>> model = symode.Model({x: -k * x}, parameters=[k, x0, s], initial={x: x0})
    >>> data = symode.Data([0, 1, 2, 3], {"x": [2.1, 0.97, 0.51, 0.24]})
    >>> problem = symode.Problem(model, data, symode.LogNormal(s), scale="log10")
    >>> result = symode.fit(problem, starts=4, seed=1)
    >>> [round(float(result.theta[name]), 3) for name in ("k", "x0", "s")]
    [0.715, 2.065, 0.027]
    """
    if not isinstance(problem, Problem):
        raise OptionError(
            f"fit expects a Problem; got a {type(problem).__name__}. Make one: "
            "symode.Problem(model, data, noise)."
        )
    _refuse(options)
    chosen = choose_optimizer(problem, optimizer)
    if seed is not None and not (isinstance(seed, int | np.integer) and seed >= 0):
        raise OptionError(f"seed must be a whole number, 0 or more; got {seed!r}.")
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    points = starting_points(problem, starts, seed)
    begun = time.perf_counter()
    done: list[Start] = []
    try:
        for index, x0 in enumerate(_with_progress(points, progress)):
            done.append(run_start(problem, index, x0, chosen, max_iterations))
    except KeyboardInterrupt:
        if not done:
            raise
    # Failed searches have the value infinity, so they come last, in order.
    done.sort(key=lambda start: (start.value, start.index))
    return Fit(problem, tuple(done), chosen, seed, len(points), time.perf_counter() - begun)


def _refuse(options: Iterable[str]) -> None:
    """Raise for options that fit does not have, saying where they belong."""
    known = ("starts", "seed", "optimizer", "max_iterations", "progress")
    for name in options:
        if name in (*NAMES, "bounds", "scale", "fixed", "t0", "method"):
            raise OptionError(f"{name}= belongs to the problem: symode.Problem(..., {name}=...).")
        raise OptionError(
            f"fit() has no option {name}{did_you_mean(name, known)}. Its options are "
            f"{', '.join(known)}; those of the solver belong to symode.Problem(...)."
        )


def _with_progress(points: Sequence[Floats], progress: bool | None) -> Iterator[Floats]:
    show = sys.stderr.isatty() if progress is None else progress
    if show:
        try:
            from tqdm import tqdm
        except ImportError:
            show = False
    if not show:
        yield from points
        return
    with tqdm(total=len(points), desc="starts", file=sys.stderr) as bar:
        for point in points:
            yield point
            bar.update()


def _summary(result: Fit) -> Iterator[str]:
    problem, starts = result.problem, result.starts
    values = ", ".join(f"{s.values.size} of {s.name}" for s in problem.series)
    yield (
        f"Fit of {problem.size} parameters to {problem.n_values} values ({values}) by "
        f"{result.optimizer}, seed {result.seed}, {result.seconds:.2g} s"
    )
    if result.interrupted:
        yield f"  interrupted: {len(starts)} of {result.requested} starts were run"
    failed = [start for start in starts if start.status == "failed"]
    if len(failed) == len(starts):
        yield f"  all {len(starts)} starts failed, the first one so: {failed[0].message}"
        return
    best = result.best
    ended = [start for start in starts if start.status != "failed"]
    yield f"  best negative log-likelihood {best.value:.8g}, {best.status}"
    yield (
        f"  {result.n_best} of {len(starts)} starts ended there, {len(ended) - result.n_best} "
        f"elsewhere, {len(failed)} failed"
    )
    largest = float(np.max(np.abs(np.asarray(best.gradient))))
    yield (
        f"  largest slope {largest:.1e} on the scale of the search; "
        f"a Newton step would gain {best.decrement:.1e}"
    )
    if best.status != "converged":
        yield f"  NOT CONVERGED: {best.message}"
    if best.at_bound:
        held = ", ".join(f"{name} ({side})" for name, side in best.at_bound.items())
        yield f"  at a bound: {held}: widen bounds= if that is not meant"
    if result.n_best == 1 and len(ended) > 1:
        yield "  only one start ended there: more starts may find a better fit"
    if failed:
        yield f"  first failure (start {failed[0].index}): {failed[0].message}"
