"""Fit: what the searches found, and everything that follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from symode.equations.values import Named
from symode.errors import FitError
from symode.problems.bands import Band, prediction_band
from symode.problems.bootstrap import Bootstrap, bootstrap
from symode.problems.ends import profile_ends
from symode.problems.identifiability import Identifiability, identifiability
from symode.problems.intervals import Intervals, intervals
from symode.problems.problem import Problem
from symode.problems.profiles import Profile, profile, profiles
from symode.problems.starts import Start
from symode.problems.summary import summary_lines

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

    def profile(self, parameter: Any, level: float = 0.95, method: str = "optimize") -> Profile:
        """Return the profile likelihood of one parameter, with its confidence interval.

        Parameters
        ----------
        parameter
            Name or symbol of an estimated parameter.
        level
            Confidence level.
        method
            ``"optimize"`` fits the other parameters anew at each step; ``"integrate"`` follows the
            path of optima as a differential equation, which is cheaper and less exact on the way.

        Raises
        ------
        OptionError
            For unknown parameters and methods.
        FitError
            When the profile finds a better value than the fit.
        """
        return profile(self.problem, self._point, parameter, level, method)

    def profile_interval(self, parameter: Any, level: float = 0.95) -> tuple[float, float]:
        """Return the profile's confidence interval alone, at a third of the profile's cost.

        Where an end does not exist the whole profile is computed, whose remarks say why.

        Raises
        ------
        OptionError
            For unknown parameters.
        FitError
            When the profile finds a better value than the fit.
        """
        return profile_ends(self.problem, self._point, parameter, level)

    def profiles(
        self,
        parameters: Iterable[Any] | None = None,
        level: float = 0.95,
        method: str = "optimize",
        workers: int | None = None,
        executor: Executor | None = None,
    ) -> dict[str, Profile]:
        """Return the profiles of several parameters (all by default), computed side by side.

        Parameters as for `profile`; ``workers`` and ``executor`` as for `symode.fit`.
        """
        return profiles(self.problem, self._point, parameters, level, method, workers, executor)

    def band(
        self,
        times: ArrayLike,
        observables: Mapping[str, Any] | Sequence[str] | None = None,
        *,
        level: float = 0.95,
        method: str = "delta",
        condition: str | None = None,
        profiles: Mapping[str, Profile] | None = None,
    ) -> Band:
        """Return curves with confidence bands that follow from the parameters' uncertainty.

        Parameters
        ----------
        times
            Shape ``(k,)``.
        observables
            Names, or {name: expression}; what was measured by default.
        level
            Confidence level at each time.
        method
            ``"delta"``: from the Fisher information and exact sensitivities. ``"ensemble"``: the
            range over all points of the profiles that the data allow.
        condition
            The experiment, where there are several.
        profiles
            For ``"ensemble"``: profiles at hand; computed otherwise.
        """
        return prediction_band(
            self.problem, self._point, times, observables, level, method, condition, profiles
        )

    def bootstrap(
        self,
        count: int = 200,
        *,
        seed: int = 0,
        workers: int | None = None,
        executor: Executor | None = None,
    ) -> Bootstrap:
        """Return estimates from data drawn from the fitted model (parametric bootstrap).

        Each data set is fitted from the fitted parameters. ``workers`` and ``executor`` as for
        `symode.fit`.
        """
        return bootstrap(self.problem, self.theta, self.optimizer, count, seed, workers, executor)

    def report(
        self,
        path: Any,
        *,
        profiles: Mapping[str, Profile] | None = None,
        title: str = "Fit",
        level: float = 0.95,
    ) -> None:
        """Write everything about this fit as one self-contained HTML page.

        Tables of estimates and searches, pictures, the model's equations, settings, versions and
        the seed; it loads nothing and runs no script.

        Parameters
        ----------
        path
            Of the file.
        profiles
            From `profiles`, to be shown with their intervals.
        title
            Heading of the page.
        level
            Confidence level of the intervals.
        """
        from symode.problems.report import write_report

        write_report(self, path, profiles, title, level)

    def identifiability(self) -> Identifiability:
        """Return which combinations of parameters the data, and the model, can determine."""
        return identifiability(self.problem, self._point)

    @property
    def _point(self) -> NDArray[np.float64]:
        return self.problem.space.point(self.theta)

    def summary(self) -> str:
        """Return how the searches went, in a few lines of text."""
        return "\n".join(summary_lines(self))

    def __repr__(self) -> str:
        """Return how the searches went, and the best estimates."""
        lines = list(summary_lines(self))
        if self.starts[0].status != "failed":
            lines += [f"  {n} = {self.theta[n]:.6g}" for n in self.problem.space.names]
        return "\n".join(lines)
