"""fit: estimates from data, by several searches, with what is needed to trust them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.equations.values import Named
from symode.errors import FitError, OptionError
from symode.problems.campaign import Campaign
from symode.problems.executors import check_workers
from symode.problems.intervals import Intervals, intervals
from symode.problems.optimizers import choose_optimizer
from symode.problems.problem import Problem
from symode.problems.starts import Start, starting_points
from symode.problems.store import FitStore
from symode.problems.summary import summary_lines
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
        return "\n".join(summary_lines(self))

    def __repr__(self) -> str:
        """Return how the searches went, and the best estimates."""
        lines = list(summary_lines(self))
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
    sampling: str = "latin",
    screen: float | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    store: Any = None,
    progress: bool | None = None,
    **options: Any,
) -> Fit:
    """Return the parameters under which the data are most likely, found by several searches.

    Parameters
    ----------
    problem
        Model, data, noise, bounds and scales.
    starts
        How many searches, from points spread over the bounds on the scale; or the points to
        begin at, each a mapping {parameter: value} or all parameters in order.
    seed
        Of the starting points; drawn and reported when not given.
    optimizer
        ``"least_squares"`` (trust region, exact Jacobian of the residuals), for a sigma that is
        fixed; ``"l-bfgs-b"`` (exact gradient of the negative log-likelihood), ``"trust-constr"``
        (gradient and Fisher information) and ``"fides"`` (the same, by the package of that name),
        for any. ``"auto"`` takes the first where it can, else the second. All end with
        Fisher-scoring steps.
    max_iterations
        Of each search.
    sampling
        ``"latin"`` (Latin hypercube) or ``"sobol"``: how starting points are spread.
    screen
        Share of the searches that go on after 15 iterations, the best ones; the others are given
        up, and say so. All go on by default.
    workers
        Processes that run searches side by side; 1 runs them here. By default they are started
        when the searches promise to take more than 10 s. Results do not depend on it.
    executor
        Runs the searches instead: any `concurrent.futures.Executor`, such as
        ``distributed.Client(...).get_executor()`` for a cluster.
    store
        Path of a file that receives each search as it ends. Where it exists the fit goes on from
        it: what is in it is not done again.
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
    StoreError
        When the file belongs to another fit.

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
    workers = check_workers(workers, executor)
    _check(seed, screen, max_iterations)
    if seed is None:
        known = None if store is None else FitStore.settings_of(store)
        seed = (
            int(np.random.SeedSequence().generate_state(1)[0]) if known is None else known["seed"]
        )
    points = starting_points(problem, starts, seed, sampling)
    campaign = Campaign(
        problem, points, seed, chosen, max_iterations, screen, workers, executor, store, progress
    )
    begun = time.perf_counter()
    done = campaign.run()
    # Failed searches have the value infinity, so they come last, in order.
    done.sort(key=lambda start: (start.value, start.index))
    return Fit(problem, tuple(done), chosen, seed, len(points), time.perf_counter() - begun)


def _check(seed: Any, screen: Any, max_iterations: Any) -> None:
    if seed is not None and not (isinstance(seed, int | np.integer) and seed >= 0):
        raise OptionError(f"seed must be a whole number, 0 or more; got {seed!r}.")
    if screen is not None and not (isinstance(screen, int | float) and 0 < screen <= 1):
        raise OptionError(f"screen must be a share above 0 and up to 1; got {screen!r}.")
    if not (isinstance(max_iterations, int | np.integer) and max_iterations > 0):
        raise OptionError(f"max_iterations must be 1 or more; got {max_iterations!r}.")


def _refuse(options: Iterable[str]) -> None:
    """Raise for options that fit does not have, saying where they belong."""
    known = ("starts", "seed", "optimizer", "max_iterations", "sampling", "screen", "workers",
             "executor", "store", "progress")  # fmt: skip
    of_problem = (*NAMES, "bounds", "scale", "fixed", "t0", "method", "conditions", "parameters",
                  "local", "priors", "noise")  # fmt: skip
    for name in options:
        if name in of_problem:
            raise OptionError(f"{name}= belongs to the problem: symode.Problem(..., {name}=...).")
        raise OptionError(
            f"fit() has no option {name}{did_you_mean(name, known)}. Its options are "
            f"{', '.join(known)}; those of the solver belong to symode.Problem(...)."
        )
