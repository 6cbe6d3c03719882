"""One search from one point: SciPy's optimizer, then Fisher scoring, in rounds."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from symode.equations.values import named
from symode.errors import FitError, SymodeError
from symode.problems.counter import Counter
from symode.problems.hierarchical import Reduced
from symode.problems.optimizers import OPTIMIZERS
from symode.problems.problem import Problem
from symode.problems.scoring import Ending, score_to_the_end
from symode.problems.starts import Start
from symode.problems.threads import one_blas_thread

Floats = NDArray[np.float64]

#: Both again, from where they ended, while they have not converged and still gain.
ROUNDS = 5


def run_start(
    problem: Problem, index: int, x0: Floats, optimizer: str, max_iterations: int = 1000
) -> Start:
    """Search from one point on the scale; return the record, also of a search that fails.

    SciPy searches the relaxed problem (see `Problem.relaxed`); the problem itself judges what is
    found. Needs nothing but its arguments, so that it can run in any process.
    """
    begun, x = time.perf_counter(), problem.space.inside(x0)
    search, judge = Counter(_searched(problem)), Counter(problem)
    same = search.problem is problem
    ending: Ending | None = None
    message = ""
    with one_blas_thread():
        for _ in range(ROUNDS):
            before = np.inf if ending is None else ending.value
            try:
                message = OPTIMIZERS[optimizer](search, _begin(problem, x), max_iterations)
            except (SymodeError, ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
                message = str(error)
            try:
                if search.best is None:
                    raise FitError(message)
                known = search.best_scores if same else None
                ending = score_to_the_end(judge, _ended(problem, search.best[1]), known=known)
            except SymodeError as error:
                message = str(error)
                break
            if ending.converged or not ending.value < before:
                break
            x = ending.x
    return _record(
        problem,
        index,
        x0,
        ending,
        message,
        evaluations=search.evaluations + judge.evaluations,
        lost=search.lost + judge.lost,
        seconds=time.perf_counter() - begun,
    )


def screen_start(
    problem: Problem, index: int, x0: Floats, optimizer: str, iterations: int
) -> Start:
    """Search for a few iterations only; return where that led, without a verdict."""
    begun, x = time.perf_counter(), problem.space.inside(x0)
    search, judge = Counter(_searched(problem)), Counter(problem)
    ending: Ending | None = None
    with one_blas_thread():
        try:
            message = OPTIMIZERS[optimizer](search, _begin(problem, x), iterations)
        except (SymodeError, ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
            message = str(error)
        try:
            if search.best is not None:
                x = _ended(problem, search.best[1])
                scores = judge.scores(x)
                ending = Ending(x, scores.value, scores, np.inf)
        except SymodeError as error:
            message = str(error)
    return _record(
        problem,
        index,
        x0,
        ending,
        message,
        evaluations=search.evaluations + judge.evaluations,
        lost=search.lost + judge.lost,
        seconds=time.perf_counter() - begun,
    )


def _searched(problem: Problem) -> Problem | Reduced:
    """Return what a search sees."""
    return problem.relaxed if problem.reduced is None else problem.reduced


def _begin(problem: Problem, x: Floats) -> Floats:
    """Return the part of a point that a search moves."""
    return x if problem.reduced is None else x[problem.reduced.outer]


def _ended(problem: Problem, x: Floats) -> Floats:
    """Return the whole point where a search ended."""
    return x if problem.reduced is None else problem.reduced.whole(x)


def _record(
    problem: Problem, index: int, x0: Floats, ending: Ending | None, message: str, **costs: float
) -> Start:
    space = problem.space
    if ending is None:
        nothing = np.full(len(space.parameters), np.nan)
        theta = named(nothing, space.parameters)
        gradient, value, decrement, status = np.full(space.size, np.nan), np.inf, np.nan, "failed"
        sides = np.zeros(space.size, dtype=np.intp)
    else:
        theta, gradient = space.theta(ending.x), ending.scores.gradient
        value, decrement = ending.value, ending.decrement
        status = "converged" if ending.converged else "stopped"
        sides = space.at_bound(ending.x)
    words = {-1: "lower", 1: "upper"}
    return Start(
        index=index,
        begin=space.theta(x0),
        theta=theta,
        value=value,
        gradient=named(gradient, space.names),
        decrement=decrement,
        status=status,
        message=message,
        at_bound={n: words[int(s)] for n, s in zip(space.names, sides, strict=True) if s},
        evaluations=int(costs["evaluations"]),
        lost=int(costs["lost"]),
        seconds=costs["seconds"],
    )
