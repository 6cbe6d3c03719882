"""Parametric bootstrap: the fit repeated on data drawn from the fitted model."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.errors import DataError, OptionError
from symode.problems.data import Data
from symode.problems.executors import check_workers, run_all
from symode.problems.jobs import make_jobs
from symode.problems.problem import Problem
from symode.problems.search import run_start
from symode.problems.starts import Start

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Estimates from data drawn from the fitted model.

    Parameters
    ----------
    names
        Of the estimated parameters.
    estimates
        One row for each data set whose fit converged. Shape ``(count, p)``.
    starts
        The fits, in the order of the draws.
    seed
        Of the draws.
    """

    names: tuple[str, ...]
    estimates: Floats
    starts: tuple[Start, ...]
    seed: int

    def interval(self, parameter: Any, level: float = 0.95) -> tuple[float, float]:
        """Return the central interval of the estimates of one parameter."""
        column = self.estimates[:, self.names.index(str(parameter))]
        low, high = np.quantile(column, [0.5 - level / 2, 0.5 + level / 2])
        return float(low), float(high)

    def to_frame(self) -> Any:
        """Return the estimates as a pandas DataFrame (needs the extra ``fit``)."""
        import pandas as pd

        return pd.DataFrame(self.estimates, columns=list(self.names))

    def __repr__(self) -> str:
        """Return spread and failures."""
        failed = len(self.starts) - len(self.estimates)
        lines = [f"{len(self.starts)} data sets, seed {self.seed}; {failed} fits failed"]
        for name in self.names:
            low, high = self.interval(name)
            lines.append(f"  {name}: 95 % of estimates between {low:.6g} and {high:.6g}")
        return "\n".join(lines)


def bootstrap(
    problem: Problem,
    theta: Any,
    optimizer: str,
    count: int = 200,
    seed: int = 0,
    workers: int | None = None,
    executor: Executor | None = None,
) -> Bootstrap:
    """Return estimates from drawn data; see `Fit.bootstrap`.

    Raises
    ------
    OptionError
        For counts below 2.
    DataError
        When values are censored: what was not measured cannot be drawn without a rule for it.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 2:
        raise OptionError(f"count must be a whole number, 2 or more; got {count!r}.")
    if any((series.censored != 0).any() for series in problem.series):
        raise DataError("Censored values cannot be drawn again: their limits are unknown.")
    workers = check_workers(workers, executor)
    arguments = {k: (np.asarray(theta), optimizer, (seed, k)) for k in range(count)}
    found: dict[int, Start] = {}
    for job, start in run_all(make_jobs(problem, refit, arguments), workers, executor):
        found[job.key] = start
    starts = tuple(found[k] for k in range(count))
    places = problem.space.places
    ended = [np.asarray(s.theta)[places] for s in starts if s.status == "converged"]
    return Bootstrap(problem.space.names, np.array(ended).reshape(-1, problem.size), starts, seed)


def refit(problem: Problem, theta: Floats, optimizer: str, seed: tuple[int, int]) -> Start:
    """Draw data at theta and fit them from there."""
    drawn = redrawn(problem, theta, np.random.default_rng(seed))
    return run_start(drawn, seed[1], drawn.space.point(theta), optimizer)


def redrawn(problem: Problem, theta: Floats, rng: np.random.Generator) -> Problem:
    """Return the problem with data drawn from the model at theta, at the measured times."""
    (model, _, noise), options = problem._given
    data: dict[str, Data] = {}
    for part in problem.parts:
        measured = problem.measured[part.name]
        values = np.full(measured.values.shape, np.nan)
        for j, name in enumerate(measured.names):
            column = next(c for c in problem.columns if c.name == name)
            there = ~np.isnan(measured.values[:, j])
            h, sigma = problem.courses(
                theta, measured.times[there], [column.expression, column.sigma], part.name or None
            )
            values[there, j] = column.noise.draw(h, sigma, rng)
        drawn = Data(measured.times, dict(zip(measured.names, values.T, strict=True)))
        drawn.expressions = measured.expressions
        data[part.name] = drawn
    single = isinstance(problem.data, Data)
    return Problem(model, next(iter(data.values())) if single else data, noise, **options)
