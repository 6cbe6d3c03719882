"""Searches from one point: SciPy's least squares and L-BFGS-B, then Fisher scoring to the end.

Both are fed exact derivatives. A solve that fails during the search is a wall to step back from,
not the end of the search.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from symode.equations.values import named
from symode.errors import GradientError, OptionError, SolverError, SymodeError
from symode.problems.problem import Problem, Scores
from symode.problems.starts import Start, failed_start
from symode.problems.threads import one_blas_thread

Floats = NDArray[np.float64]

#: Scoring steps after SciPy's search: near the optimum each gains a digit or more.
MAX_SCORING_STEPS = 20
#: SciPy's search and scoring, again from where they ended, while that has not converged but helps.
ROUNDS = 5
#: A search has converged when a Newton step would gain less, in units of the value.
CONVERGED = 1e-6
#: What a fit may be worse than the best and count as the same: no test could tell them apart.
SAME_VALUE = 1e-3


@dataclass
class Counter:
    """The objective of a search: counts its calls and keeps the best point seen."""

    problem: Problem
    evaluations: int = 0
    lost: int = 0
    best: tuple[float, Floats] | None = None
    reason: str = ""
    last: tuple[float, Floats, Floats] | None = field(default=None, repr=False)

    def value_and_grad(self, x: Floats) -> tuple[float, Floats]:
        """Return value and gradient; raise where the solve fails."""
        x = self.problem.space.inside(x)
        self.evaluations += 1
        try:
            value, gradient = self.problem.objective(x)
        except (SolverError, GradientError) as error:
            self.lost += 1
            self.reason = str(error)
            raise
        self.last = (value, gradient, x)
        self._keep(value, x)
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
        except (SolverError, GradientError) as error:
            self.lost += 1
            self.reason = str(error)
            raise
        self._keep(self.problem.likelihood_of(scores), x)
        return scores

    def _keep(self, value: float, x: Floats) -> None:
        if self.best is None or value < self.best[0]:
            self.best = (value, np.array(x))


Optimizer = Callable[[Counter, Floats, int], str]


def l_bfgs_b(counter: Counter, x0: Floats, max_iterations: int) -> str:
    """Search with limited-memory quasi-Newton steps; return the optimizer's last word.

    SciPy's first step inside a box is the whole gradient, whatever its size: unscaled, it lands in a
    corner. So parameters are measured in tenths of the width of their bounds, and the value in units
    that give the first step length one.
    """
    from scipy.optimize import minimize

    space = counter.problem.space
    width = np.where(np.isfinite(space.widths), space.widths, np.maximum(np.abs(x0), 1.0))
    unit = 0.1 * width
    steepness = float(np.linalg.norm(counter.value_and_grad(x0)[1] * unit))
    if steepness == 0.0:
        return "The first point is stationary."

    def scaled(u: Floats) -> tuple[float, Floats]:
        value, gradient = counter.walled(u * unit)
        return value / steepness, gradient * (unit / steepness)

    result = minimize(
        scaled,
        x0 / unit,
        jac=True,
        method="L-BFGS-B",
        bounds=np.column_stack([space.lower / unit, space.upper / unit]),
        options={"maxiter": max_iterations, "ftol": 1e-12, "gtol": 1e-10},
    )
    return str(result.message)


def least_squares(counter: Counter, x0: Floats, max_iterations: int) -> str:
    """Search with trust-region Gauss-Newton steps; return the optimizer's last word."""
    from scipy.optimize import least_squares as scipy_least_squares

    space = counter.problem.space
    known: dict[bytes, Scores] = {}

    def at(x: Floats) -> Scores:
        key = x.tobytes()
        if key not in known:
            known.clear()
            known[key] = counter.scores(x)
        return known[key]

    first = at(x0).residuals

    def residuals(x: Floats) -> Floats:
        try:
            return at(x).residuals
        except (SolverError, GradientError):
            # SciPy shrinks its trust region where residuals are not finite.
            return np.full(first.size, np.nan)

    with warnings.catch_warnings():
        # It also computes the cost of such residuals, with a warning.
        warnings.simplefilter("ignore", RuntimeWarning)
        result = scipy_least_squares(
            residuals,
            x0,
            jac=lambda x: at(x).jacobian,
            bounds=(space.lower, space.upper),
            x_scale="jac",
            xtol=1e-10,
            ftol=1e-10,
            gtol=1e-10,
            max_nfev=max_iterations,
        )
    return str(result.message)


#: Searches by name.
OPTIMIZERS: dict[str, Optimizer] = {"l-bfgs-b": l_bfgs_b, "least_squares": least_squares}


def choose_optimizer(problem: Problem, name: str) -> str:
    """Return the name of the search; least squares where they say it all, for "auto".

    Raises
    ------
    OptionError
        For unknown names, and for least squares with an estimated sigma.
    """
    key = name.lower().replace("lbfgsb", "l-bfgs-b")
    if key == "auto":
        return "least_squares" if problem.is_least_squares else "l-bfgs-b"
    if key not in OPTIMIZERS:
        raise OptionError(f"optimizer must be auto, {', '.join(OPTIMIZERS)}; got {name!r}.")
    if key == "least_squares" and not problem.is_least_squares:
        raise OptionError(
            "A sigma depends on what is estimated, so the sum of squares alone is not the "
            "likelihood. Use optimizer='l-bfgs-b', or give sigma as a number."
        )
    return key


def run_start(
    problem: Problem, index: int, x0: Floats, optimizer: str, max_iterations: int = 1000
) -> Start:
    """Search from one point; a search that fails is returned with its reason, never raised."""
    with one_blas_thread():
        return _search(problem, index, x0, optimizer, max_iterations)


def _search(problem: Problem, index: int, x0: Floats, optimizer: str, max_iterations: int) -> Start:
    space, counter, begun = problem.space, Counter(problem), time.perf_counter()
    begin = np.asarray(space.theta(x0))
    x0 = space.inside(x0)
    message, converged = "", False
    for _ in range(ROUNDS):
        before = float("inf") if counter.best is None else counter.best[0]
        try:
            message = OPTIMIZERS[optimizer](counter, x0, max_iterations)
        except (SymodeError, ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
            message = str(error)
            if counter.best is None:
                return failed_start(
                    problem, index, begin, message, seconds=time.perf_counter() - begun
                )
        assert counter.best is not None
        x0, scores, decrement = score_to_the_end(counter, counter.best[1])
        value = counter.best[0]
        converged = decrement <= tolerance(scores)
        if converged or not value < before:
            break
    x = x0
    gradient = np.full(space.size, np.nan) if scores is None else scores.gradient
    sides = {-1: "lower", 1: "upper"}
    return Start(
        index=index,
        begin=named(begin, space.parameters),
        theta=space.theta(x),
        value=value,
        gradient=named(gradient, space.names),
        decrement=decrement,
        status="converged" if converged else "stopped",
        message=message,
        at_bound={
            name: sides[int(side)]
            for name, side in zip(space.names, space.at_bound(x), strict=True)
            if side
        },
        evaluations=counter.evaluations,
        lost=counter.lost,
        seconds=time.perf_counter() - begun,
    )


def tolerance(scores: Scores | None) -> float:
    """Return the decrement below which a search has converged.

    Where sigma is only a weight, the value has no unit of its own: it is compared with the misfit.
    """
    if scores is None:
        return 0.0
    return CONVERGED * min(1.0, 0.5 * float(scores.residuals @ scores.residuals)) + 1e-10


def score_to_the_end(counter: Counter, x: Floats) -> tuple[Floats, Scores | None, float]:
    r"""Take Fisher-scoring steps :math:`x - F^{-1} g` while they lower the value.

    With residuals at hand F costs nothing more, and near the optimum the steps reach it to
    rounding where quasi-Newton steps end in the noise of the value. Parameters held by a
    bound stay. Directions that F does not determine are left alone.

    Returns
    -------
    x, scores, decrement
        The best point, its scores (None where they cannot be computed), and what another step
        would gain.
    """
    problem, space = counter.problem, counter.problem.space
    try:
        scores = counter.scores(x)
    except (SolverError, GradientError):
        return x, None, float("inf")
    value = problem.likelihood_of(scores)
    decrement = float("inf")
    for _ in range(MAX_SCORING_STEPS):
        step, decrement = scoring_step(scores, space.at_bound(x), space.widths)
        if decrement <= 1e-14 * (1.0 + abs(value)):
            break
        for shrink in (1.0, 0.5, 0.25, 0.0625):
            trial = space.inside(x + shrink * step)
            try:
                trial_scores = counter.scores(trial)
            except (SolverError, GradientError):
                continue
            trial_value = problem.likelihood_of(trial_scores)
            if trial_value < value:
                break
        else:
            break
        x, scores, value = trial, trial_scores, trial_value
    else:
        decrement = scoring_step(scores, space.at_bound(x), space.widths)[1]
    counter.best = (value, x)
    return x, scores, decrement


def scoring_step(scores: Scores, sides: NDArray[np.intp], widths: Floats) -> tuple[Floats, float]:
    """Return the scoring step and half the slope along it, what it should gain."""
    gradient, root = scores.gradient, scores.information_root
    # A bound holds a parameter that would leave: the gradient points out of the box downhill.
    free = np.flatnonzero(sides * gradient >= 0)
    step = np.zeros(gradient.size)
    lengths = np.linalg.norm(root[:, free], axis=0)
    free, lengths = free[lengths > 0], lengths[lengths > 0]
    if not free.size:
        return step, 0.0
    # Columns of one length make the cut-off independent of units.
    _, s, vt = np.linalg.svd(root[:, free] / lengths, full_matrices=False)
    known = s > 1e-7 * s[0]
    along = (vt @ (gradient[free] / lengths))[known] / s[known]
    step[free] = -(vt[known].T @ (along / s[known])) / lengths
    # No step longer than the box.
    longest = np.max(np.abs(step) / widths, initial=0.0)
    return step / max(1.0, longest), 0.5 * float(along @ along)
