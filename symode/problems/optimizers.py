"""SciPy's optimizers, fed with exact derivatives: L-BFGS-B and trust-region least squares.

A solve that fails on the way is a wall to step back from, not the end of the search.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from symode.errors import GradientError, MissingExtraError, OptionError, SolverError
from symode.problems.counter import Counter
from symode.problems.damped import damped_scoring
from symode.problems.problem import Problem
from symode.problems.scores import Scores

Floats = NDArray[np.float64]


Optimizer = Callable[[Counter, Floats, int], str]


def l_bfgs_b(counter: Counter, x0: Floats, max_iterations: int) -> str:
    """Search with limited-memory quasi-Newton steps; return the optimizer's last word.

    SciPy's first step inside a box is the whole gradient, whatever its size: unscaled, it lands in
    a corner. So parameters are measured in tenths of the width of their bounds, and the value in
    units that give the first step length one.
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


def scoring(counter: Counter, x0: Floats, max_iterations: int) -> str:
    """Search with damped Fisher-scoring steps; return why it ended."""
    return damped_scoring(counter, x0, max_iterations)


def least_squares(counter: Counter, x0: Floats, max_iterations: int) -> str:
    """Search with SciPy's trust-region Gauss-Newton steps; return the optimizer's last word."""
    from scipy.optimize import least_squares as scipy_least_squares

    space = counter.problem.space
    remembered = _Residuals(counter)
    size = remembered(x0).residuals.size

    def residuals(x: Floats) -> Floats:
        try:
            return remembered(x).residuals
        except (SolverError, GradientError):
            # SciPy shrinks its trust region where residuals are not finite.
            return np.full(size, np.nan)

    with warnings.catch_warnings():
        # It also computes the cost of such residuals, with a warning.
        warnings.simplefilter("ignore", RuntimeWarning)
        result = scipy_least_squares(
            residuals,
            x0,
            jac=lambda x: remembered(x).jacobian,
            bounds=(space.lower, space.upper),
            x_scale="jac",
            xtol=1e-10,
            ftol=1e-10,
            gtol=1e-10,
            max_nfev=max_iterations,
        )
    return str(result.message)


class _Residuals:
    """Scores at the last points, by point: optimizers ask for residuals and Jacobian apart."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.known: dict[bytes, Scores] = {}

    def __call__(self, x: Floats) -> Scores:
        key = x.tobytes()
        found = self.known.get(key)
        if found is None:
            found = self.counter.scores(x)
            if len(self.known) > 1:
                del self.known[next(iter(self.known))]
            self.known[key] = found
        return found


def trust_constr(counter: Counter, x0: Floats, max_iterations: int) -> str:
    """Search in a trust region with the Fisher information as curvature."""
    from scipy.optimize import Bounds, minimize

    space = counter.problem.space
    known = _Remembered(counter)
    with warnings.catch_warnings():
        # It warns of every step on which the gradient did not change, such as one against a wall.
        warnings.simplefilter("ignore", UserWarning)
        result = minimize(
            lambda x: known(x)[0],
            x0,
            jac=lambda x: known(x)[1],
            hess=lambda x: known(x)[2],
            method="trust-constr",
            bounds=Bounds(space.lower, space.upper, keep_feasible=True),
            options={"maxiter": max_iterations, "xtol": 1e-10, "gtol": 1e-8},
        )
    return str(result.message)


def fides(counter: Counter, x0: Floats, max_iterations: int) -> str:
    """Search with the reflective trust-region method of the package fides."""
    try:
        import fides as package
    except ImportError as error:
        raise MissingExtraError(
            "optimizer='fides' needs the package fides: install the extra, "
            "symode-adjoint[optimizers]."
        ) from error
    import logging

    space = counter.problem.space
    known = _Remembered(counter)
    options = {"maxiter": max_iterations, "fatol": 1e-10, "frtol": 0.0, "xtol": 1e-10}
    # fides' steps end on the bounds from inside; a start on one is moved in by a rounding.
    room = 1e-9 * np.where(np.isfinite(space.widths), space.widths, 0.0)
    search = package.Optimizer(
        lambda x: known(x), ub=space.upper, lb=space.lower, verbose=logging.ERROR, options=options
    )
    search.minimize(np.clip(x0, space.lower + room, space.upper - room))
    return f"fides: {search.exitflag.name}"


class _Remembered:
    """Value, gradient and Fisher information at the last point; walls where the solve fails."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.key = b""
        self.found: tuple[float, Floats, Floats] | None = None

    def __call__(self, x: Floats) -> tuple[float, Floats, Floats]:
        key = np.asarray(x).tobytes()
        if self.found is None or key != self.key:
            self.found, self.key = self._compute(np.asarray(x, dtype=float)), key
        return self.found

    def _compute(self, x: Floats) -> tuple[float, Floats, Floats]:
        try:
            scores = self.counter.scores(x)
        except (SolverError, GradientError):
            if self.found is None:
                raise
            value, gradient, information = self.found
            return value + max(1.0, abs(value)), np.zeros_like(gradient), information
        root = scores.information_root
        return scores.value, scores.gradient, root.T @ root


#: Searches by name.
OPTIMIZERS: dict[str, Optimizer] = {
    "scoring": scoring,
    "l-bfgs-b": l_bfgs_b,
    "least_squares": least_squares,
    "trust-constr": trust_constr,
    "fides": fides,
}


def choose_optimizer(problem: Problem, name: str) -> str:
    """Return the name of the search; for "auto" scoring where least squares say it all.

    Raises
    ------
    OptionError
        For unknown names, and for least squares with an estimated sigma.
    """
    key = name.lower().replace("lbfgsb", "l-bfgs-b")
    if problem.reduced is not None and key in ("auto", "least_squares"):
        if key == "auto":
            return "scoring"
        raise OptionError("optimizer='least_squares' cannot search hierarchically; use 'scoring'.")
    if key == "auto":
        return "scoring" if problem.is_least_squares else "l-bfgs-b"
    if key not in OPTIMIZERS:
        raise OptionError(f"optimizer must be auto, {', '.join(OPTIMIZERS)}; got {name!r}.")
    if key == "least_squares" and not problem.is_least_squares:
        raise OptionError(
            "A sigma depends on what is estimated, so the sum of squares alone is not the "
            "likelihood. Use optimizer='l-bfgs-b', or give sigma as a number."
        )
    return key
