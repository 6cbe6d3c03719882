"""Starts: the points a search begins at, and what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.equations.values import Named
from symode.errors import OptionError
from symode.problems.problem import Problem
from symode.problems.space import ParameterSpace

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Start:
    r"""One search: where it began, and where and how it ended.

    Parameters
    ----------
    index
        Its number, counted from 0.
    begin
        All parameters where it began.
    theta
        All parameters where it ended; NaN where the search failed.
    value
        Negative log-likelihood there; infinite where the search failed.
    gradient
        Of the estimated parameters on their scale, at the end. Shape ``(p,)``.
    decrement
        What a Newton step would still gain: :math:`\tfrac12 g^\top F^{-1} g` over the parameters
        that are not held by a bound, in units of the value. Free of all units of the parameters.
    status
        ``"converged"``, ``"stopped"`` (before it converged) or ``"failed"`` (the first point, or
        all progress, was lost to a failing solve).
    message
        Why it ended.
    at_bound
        Names of the parameters that ended at a bound, each with ``"lower"`` or ``"upper"``.
    evaluations
        Values with gradients, or residuals with Jacobians, that were computed.
    lost
        How many of these failed, so that the search stepped back.
    seconds
        Wall time.
    """

    index: int
    begin: Named
    theta: Named
    value: float
    gradient: Named
    decrement: float
    status: str
    message: str
    at_bound: Mapping[str, str]
    evaluations: int
    lost: int
    seconds: float

    @property
    def nll(self) -> float:
        """The negative log-likelihood, another name of ``value``."""
        return self.value

    def __getitem__(self, name: Any) -> float:
        """Return a parameter by name or symbol."""
        return float(self.theta[str(name)])

    def __repr__(self) -> str:
        """Return value, estimates and how the search ended."""
        if self.status == "failed":
            return f"Start {self.index} failed: {self.message}"
        return f"nll = {self.value:.6g} (start {self.index}, {self.status}): {self.theta!r}"


def starting_points(
    problem: Problem, starts: Any, seed: int, sampling: str = "latin"
) -> list[Floats]:
    """Return points on the scale: sampled for a number, else those that are given.

    Parameters
    ----------
    starts
        How many points to sample, or one point, or several: each a mapping {parameter: value} or
        all parameters in order.
    seed
        Of the sample.

    Raises
    ------
    OptionError
        When a bound is infinite, so that there is nothing to sample from, and for a given point
        outside the bounds.
    ParameterError
        When a given point lacks a parameter or names an unknown one.
    """
    if isinstance(starts, int | np.integer) and not isinstance(starts, bool):
        if starts < 1:
            raise OptionError(f"starts must be at least 1; got {starts}.")
        return list(SAMPLINGS[_known(sampling)](problem.space, int(starts), seed))
    given = starts
    if isinstance(starts, Mapping):
        starts = [starts]
    elif isinstance(starts, Iterable) and not isinstance(starts, str):
        starts = list(starts)
        if starts and np.ndim(starts[0]) == 0 and not isinstance(starts[0], Mapping):
            starts = [starts]
    else:
        raise OptionError(
            f"starts must be a number, or points as dicts or arrays of parameters; got {starts!r}."
        )
    if not starts:
        raise OptionError("starts holds no point to begin at.")
    if isinstance(given, np.ndarray) and given.ndim == 2 and given.dtype == np.float64:
        # All at once: one by one, 100 points take as long as three searches of alpha-pinene.
        together = problem.space.begin_all(given)
        if together is not None:
            return list(together)
    return [problem.space.begin(problem.parameters(point)) for point in starts]


def latin_hypercube(space: ParameterSpace, count: int, seed: int) -> Floats:
    """Return points spread evenly over the bounds on the scale. Shape ``(count, p)``.

    Each parameter's range is cut into ``count`` parts, and each part holds one point.
    """
    from scipy.stats import qmc

    _check_finite(space)
    unit = qmc.LatinHypercube(d=space.size, rng=np.random.default_rng(seed)).random(count)
    return np.asarray(space.lower + unit * space.widths)


def sobol(space: ParameterSpace, count: int, seed: int) -> Floats:
    """Return scrambled Sobol points over the bounds on the scale. Shape ``(count, p)``.

    The first points of a longer sequence are those of a shorter one: starts can be added.
    """
    from scipy.stats import qmc

    _check_finite(space)
    # Drawn in powers of two, for which the sequence is balanced.
    power = int(np.ceil(np.log2(max(count, 1))))
    unit = qmc.Sobol(d=space.size, rng=np.random.default_rng(seed)).random_base2(power)[:count]
    return np.asarray(space.lower + unit * space.widths)


#: Ways to spread starting points, by name.
SAMPLINGS = {"latin": latin_hypercube, "sobol": sobol}


def _known(sampling: Any) -> str:
    if sampling not in SAMPLINGS:
        raise OptionError(f"sampling must be one of {', '.join(SAMPLINGS)}; got {sampling!r}.")
    return str(sampling)


def _check_finite(space: ParameterSpace) -> None:
    endless = [n for n, w in zip(space.names, space.widths, strict=True) if not np.isfinite(w)]
    if endless:
        raise OptionError(
            f"{', '.join(endless)}: no finite bounds, so no starting points can be drawn. Give "
            "bounds=, or pass starts= as points."
        )
