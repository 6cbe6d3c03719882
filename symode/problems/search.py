"""One search from one point: an optimizer, then Fisher scoring, in rounds."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.equations.values import named
from symode.errors import FitError, SymodeError
from symode.problems.counter import Counter
from symode.problems.hierarchical import Reduced
from symode.problems.native_search import Found, covers, native_search
from symode.problems.optimizers import OPTIMIZERS
from symode.problems.problem import Problem
from symode.problems.scoring import Ending, score_to_the_end
from symode.problems.space import ParameterSpace
from symode.problems.starts import Start
from symode.problems.threads import one_blas_thread

Floats = NDArray[np.float64]

#: Both again, from where they ended, while they have not converged and still gain.
ROUNDS = 5


def run_start(
    problem: Problem,
    index: int,
    x0: Floats,
    optimizer: str,
    max_iterations: int = 1000,
    hops: int = 0,
    seed: int = 0,
    stop: threading.Event | None = None,
) -> Start:
    """Search from one point on the scale; return the record, also of a search that fails.

    The relaxed problem is searched (see `Problem.relaxed`); the problem itself judges what is
    found. After it come ``hops``, see `hopped`. Needs nothing but its arguments, so that it can run
    in any process; ``stop`` breaks off a compiled search from another thread.
    """
    begun = time.perf_counter()
    find = _compiled if is_native(problem, optimizer) else _driven
    found = find(problem, problem.space.inside(x0), optimizer, max_iterations, stop)
    # A generator takes 20 µs, a whole search of alpha-pinene 400.
    rng = np.random.default_rng([seed, index]) if hops else None
    for hop in range(hops):
        if found.ending is None:
            break
        assert rng is not None
        x = hopped(problem.space, found.ending.x, rng)
        other = find(problem, x, optimizer, max_iterations, stop)
        better = other.ending is not None and other.ending.value < found.ending.value
        best = other if better else found
        best.evaluations = found.evaluations + other.evaluations
        best.lost = found.lost + other.lost
        if better:
            best.message += f" (after hop {hop + 1} of {hops})"
        found = best
    return _record(problem, index, x0, found, time.perf_counter() - begun)


def screen_start(
    problem: Problem,
    index: int,
    x0: Floats,
    optimizer: str,
    iterations: int,
    stop: threading.Event | None = None,
) -> Start:
    """Search for a few iterations only; return where that led, without a verdict."""
    begun, x = time.perf_counter(), problem.space.inside(x0)
    judge = Counter(problem)
    ending: Ending | None = None
    evaluations, lost = 0, 0
    best: Floats | None = None
    if is_native(problem, optimizer):
        with native_search(problem.relaxed, stop) as native:
            found = native.run(x, iterations, scores=False)
        message, best = found.message, found.x
        evaluations, lost = found.evaluations, found.lost
    else:
        search = Counter(_searched(problem))
        with one_blas_thread():
            try:
                message = OPTIMIZERS[optimizer](search, _begin(problem, x), iterations)
            except _FAULTS as error:
                message = str(error)
        evaluations, lost = search.evaluations, search.lost
        best = None if search.best is None else _ended(problem, search.best[1])
    try:
        if best is not None:
            scores = judge.scores(best)
            ending = Ending(best, scores.value, scores.misfit, scores.gradient, np.inf)
    except SymodeError as error:
        message = str(error)
    outcome = _Outcome(ending, message, evaluations + judge.evaluations, lost + judge.lost)
    return _record(problem, index, x0, outcome, time.perf_counter() - begun)


def hopped(space: ParameterSpace, x: Floats, rng: np.random.Generator) -> Floats:
    """Return a point with two parameters drawn anew within their bounds.

    Two, because a local optimum often has one rate too fast to see where another should be: moving
    either alone is uphill. Lourenço, Martin & Stützle (2003), *Iterated local search*, in Handbook
    of Metaheuristics, 320.
    """
    finite = np.flatnonzero(np.isfinite(space.widths))
    moved = rng.choice(finite, min(2, finite.size), replace=False)
    result = x.copy()
    result[moved] = space.lower[moved] + rng.random(moved.size) * space.widths[moved]
    return result


def is_native(problem: Problem, optimizer: str) -> bool:
    """Whether searches of a problem are compiled, and run on threads without the GIL."""
    return optimizer == "scoring" and covers(problem)


#: What ends a search in a point that cannot be computed.
_FAULTS = (SymodeError, ArithmeticError, ValueError, np.linalg.LinAlgError)


@dataclass
class _Outcome:
    """What a search came to."""

    ending: Ending | None
    message: str
    evaluations: int
    lost: int


def finished(
    problem: Problem,
    index: int,
    x0: Floats,
    first: Found,
    seconds: float,
    max_iterations: int,
    stop: threading.Event | None,
) -> Start:
    """Return the record of a search whose first round a queue has made."""
    begun = time.perf_counter()
    found = _compiled(problem, x0, "scoring", max_iterations, stop, first)
    return _record(problem, index, x0, found, seconds + time.perf_counter() - begun)


def _compiled(
    problem: Problem,
    x: Floats,
    optimizer: str,
    max_iterations: int,
    stop: Any,
    first: Found | None = None,
) -> _Outcome:
    """Search in compiled code; ``first`` has the first round where it was made already."""
    found = _Outcome(None, "", 0, 0)
    for _ in range(ROUNDS):
        before = np.inf if found.ending is None else found.ending.value
        same = problem.relaxed is problem
        if first is None:
            with native_search(problem.relaxed, stop) as native:
                ended = native.run(x, max_iterations, scores=same)
        else:
            ended, first = first, None
        found.message = ended.message
        if not same and ended.x is not None:
            found.evaluations += ended.evaluations
            found.lost += ended.lost
            with native_search(problem, stop) as native:
                ended = native.score(ended.x)
            if ended.x is None:
                found.message = ended.message
        found.evaluations += ended.evaluations
        found.lost += ended.lost
        if ended.x is None:
            break
        found.ending = ending = Ending(
            ended.x, ended.value, ended.misfit, ended.gradient, ended.decrement
        )
        if ending.converged or not ending.value < before:
            break
        x = ending.x
    return found


def _driven(
    problem: Problem, x: Floats, optimizer: str, max_iterations: int, stop: Any
) -> _Outcome:
    """Search by any optimizer, in rounds with scoring."""
    search, judge = Counter(_searched(problem)), Counter(problem)
    same = search.problem is problem
    ending: Ending | None = None
    message = ""
    with one_blas_thread():
        for _ in range(ROUNDS):
            before = np.inf if ending is None else ending.value
            try:
                message = OPTIMIZERS[optimizer](search, _begin(problem, x), max_iterations)
            except _FAULTS as error:
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
    return _Outcome(
        ending, message, search.evaluations + judge.evaluations, search.lost + judge.lost
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


def _record(problem: Problem, index: int, x0: Floats, found: _Outcome, seconds: float) -> Start:
    space, ending = problem.space, found.ending
    if ending is None:
        nothing = np.full(len(space.parameters), np.nan)
        theta = named(nothing, space.parameters)
        gradient, value, decrement, status = np.full(space.size, np.nan), np.inf, np.nan, "failed"
        sides = np.zeros(space.size, dtype=np.intp)
    else:
        theta, gradient = space.theta(ending.x), ending.gradient
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
        message=found.message,
        at_bound={n: words[int(s)] for n, s in zip(space.names, sides, strict=True) if s},
        evaluations=found.evaluations,
        lost=found.lost,
        seconds=seconds,
    )
