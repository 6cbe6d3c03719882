"""fit: estimates from data, by several searches, with what is needed to trust them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.errors import OptionError
from symode.problems.campaign import Campaign
from symode.problems.executors import check_workers
from symode.problems.optimizers import choose_optimizer
from symode.problems.problem import Problem
from symode.problems.result import Fit
from symode.problems.starts import starting_points
from symode.problems.store import FitStore
from symode.solvers.methods import did_you_mean
from symode.solvers.options import NAMES

Floats = NDArray[np.float64]


def fit(
    problem: Problem,
    starts: Any = 20,
    *,
    seed: int | None = None,
    optimizer: str = "auto",
    max_iterations: int = 1000,
    sampling: str = "latin",
    screen: float | None = None,
    hops: int = 0,
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
        ``"scoring"``: damped Gauss-Newton (Fisher scoring) steps, with exact Jacobians of all
        measurements, for any noise. ``"l-bfgs-b"``: by the exact gradient of the negative
        log-likelihood alone. ``"least_squares"``: SciPy's, for normal noise whose sigma is
        fixed. ``"trust-constr"`` and ``"fides"`` (the package of that name): gradient and Fisher
        information. ``"auto"`` takes scoring where sigma is fixed, else L-BFGS-B. All end with
        Fisher-scoring steps.
    max_iterations
        Of each search.
    sampling
        ``"latin"`` (Latin hypercube) or ``"sobol"``: how starting points are spread.
    screen
        Share of the searches that go on after 15 iterations, the best ones; the others are given
        up, and say so. All go on by default.
    hops
        How often each search goes on from its end with two parameters drawn anew within their
        bounds, to keep the better end: for problems whose searches end in many local optima.
    workers
        How many searches run side by side; 1 runs them here. Compiled searches run on threads, by
        default one for each core; others in processes, by default when they promise to take more
        than 10 s. Results do not depend on it.
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
    if not (isinstance(hops, int | np.integer) and not isinstance(hops, bool) and hops >= 0):
        raise OptionError(f"hops must be a whole number, 0 or more; got {hops!r}.")
    if hops and not np.isfinite(problem.space.widths).any():
        raise OptionError("hops= draws parameters between bounds, but all are infinite.")
    if not isinstance(store, str | os.PathLike | None):
        raise OptionError(f"store must be the path of a file; got {store!r}.")
    if seed is None:
        known = None if store is None else FitStore.settings_of(store)
        seed = (
            int(np.random.SeedSequence().generate_state(1)[0]) if known is None else known["seed"]
        )
    points = starting_points(problem, starts, seed, sampling)
    campaign = Campaign(
        problem, points, seed, chosen, max_iterations, screen, workers, executor, store, progress,
        int(hops),
    )  # fmt: skip
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
    known = ("starts", "seed", "optimizer", "max_iterations", "sampling", "screen", "hops",
             "workers", "executor", "store", "progress")  # fmt: skip
    of_problem = (*NAMES, "bounds", "scale", "fixed", "t0", "method", "conditions", "parameters",
                  "local", "priors", "noise", "hierarchical")  # fmt: skip
    for name in options:
        if name in of_problem:
            raise OptionError(f"{name}= belongs to the problem: symode.Problem(..., {name}=...).")
        raise OptionError(
            f"fit() has no option {name}{did_you_mean(name, known)}. Its options are "
            f"{', '.join(known)}; those of the solver belong to symode.Problem(...)."
        )
