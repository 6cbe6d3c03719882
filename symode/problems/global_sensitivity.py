r"""Global sensitivity: Morris' elementary effects and Sobol's indices, by SALib.

The model is solved at all sampled parameters by compiled code on all cores; SALib chooses the
samples and computes the indices. Morris (1991), *Technometrics* 33, 161; Sobol (2001), *Math.
Comput. Simul.* 55, 271.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from symode.errors import GradientError, MissingExtraError, OptionError, SolverError
from symode.interface.model import Model
from symode.problems.sensitivity import prepare_courses
from symode.problems.space import make_space

Floats = NDArray[np.float64]

#: Share of samples that may fail before an analysis is refused.
FAILED: Final = 0.02


@dataclass(frozen=True, eq=False)
class GlobalSensitivity:
    r"""Indices of each parameter for each observable at each time.

    Parameters
    ----------
    method
        ``"sobol"`` or ``"morris"``.
    times
        Shape ``(k,)``.
    observables, parameters
        Names: r and p of them.
    first
        Sobol: share of the variance due to the parameter alone, S1. Morris: mean absolute effect
        :math:`\mu^*`. Shape ``(r, k, p)``.
    total
        Sobol: that with all interactions, ST. Morris: standard deviation of the effects,
        :math:`\sigma` (interactions and curvature). Shape ``(r, k, p)``.
    confidence
        Half width of the 95 % interval of ``first``, from resampling. Shape ``(r, k, p)``.
    samples, failed
        Solves made, and how many of them failed (left out with their group of samples).
    seed
        Of the samples.
    """

    method: str
    times: Floats
    observables: tuple[str, ...]
    parameters: tuple[str, ...]
    first: Floats
    total: Floats
    confidence: Floats
    samples: int
    failed: int
    seed: int

    def ranking(self, observable: Any = None) -> list[tuple[str, float]]:
        """Return parameters with their mean index (total for Sobol), largest first."""
        values = self.total if self.method == "sobol" else self.first
        rows = slice(None)
        if observable is not None:
            if str(observable) not in self.observables:
                raise OptionError(
                    f"There is no observable {observable}; there are {', '.join(self.observables)}."
                )
            at = self.observables.index(str(observable))
            rows = slice(at, at + 1)
        mean = np.nanmean(values[rows], axis=(0, 1))
        order = np.argsort(-mean, kind="stable")
        return [(self.parameters[i], float(mean[i])) for i in order]

    def plot(self, observable: Any = None) -> Any:
        """Draw the indices over time; return the axes."""
        from symode.problems.plots_sensitivity import plot_global

        return plot_global(self, observable)

    def __repr__(self) -> str:
        """Return the ranking."""
        word = "total index" if self.method == "sobol" else "mean absolute effect"
        lines = [f"  {name}: {value:.3g}" for name, value in self.ranking()]
        head = f"{self.method}, {self.samples} solves ({self.failed} failed), seed {self.seed}"
        return "\n".join([head, f"{word} of each parameter", *lines])


def global_sensitivity(
    model: Model,
    times: ArrayLike,
    bounds: Any,
    observables: Mapping[str, Any] | Sequence[str] | None = None,
    *,
    method: str = "sobol",
    samples: int = 512,
    scale: Any = "lin",
    fixed: Mapping[Any, float] | None = None,
    seed: int = 0,
    t0: float = 0.0,
    workers: int | None = None,
    **options: Any,
) -> GlobalSensitivity:
    """Return Sobol indices or Morris effects of parameters over ranges.

    Parameters
    ----------
    model
        With initial values.
    times
        Shape ``(k,)``, not before t0.
    bounds
        Range of each parameter, as in `Problem`; samples are uniform on its scale.
    observables
        Names of states or observables, or {name: expression}.
    method
        ``"sobol"`` or ``"morris"``.
    samples
        Base samples N: a power of two for Sobol, which makes N (p + 2) solves; trajectories for
        Morris, N (p + 1) solves.
    scale, fixed
        As in `Problem`.
    seed
        Of the samples.
    t0
        When the initial values hold.
    workers
        Threads; the number of cores by default. The result does not depend on it.
    **options
        ``solver``, ``rtol``, ``atol``, ``max_steps``, ``h_max``.

    Raises
    ------
    MissingExtraError
        Without SALib, which the extra ``sensitivity`` installs.
    OptionError
        For unknown names and methods, and sample sizes that cannot be.
    SolverError
        When more than two per cent of the solves fail.
    """
    if method not in ("sobol", "morris"):
        raise OptionError(f"method must be 'sobol' or 'morris'; got {method!r}.")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 4:
        raise OptionError(f"samples must be a whole number, 4 or more; got {samples!r}.")
    if method == "sobol" and samples & (samples - 1):
        raise OptionError(f"Sobol's sequence is balanced at powers of two; got samples={samples}.")
    space = make_space(model.equations.parameter_names, bounds, scale, fixed)
    if not np.isfinite(space.widths).all():
        raise OptionError("Sampling needs finite bounds for every parameter.")
    start = np.asarray(space.theta(space.lower))
    residuals, names, _, _, order = prepare_courses(
        model, times, start, observables, (), t0, options
    )
    task = {
        "num_vars": space.size,
        "names": list(space.names),
        "bounds": np.column_stack([space.lower, space.upper]).tolist(),
    }
    sample, analyze = _salib(method)
    points = sample(task, samples, seed)
    wanted = np.atleast_1d(np.asarray(times, dtype=float))
    outputs = np.full((points.shape[0], len(names) * wanted.size), np.nan)

    def run(rows: range) -> Exception | None:
        first: Exception | None = None
        for row in rows:
            try:
                outputs[row] = residuals.compute(np.asarray(space.theta(points[row])))[0]
            except (SolverError, GradientError) as error:
                first = first or error
        return first

    count = workers or os.cpu_count() or 1
    shares = [range(i, points.shape[0], count) for i in range(count)]
    with ThreadPoolExecutor(count) as pool:
        reasons = [reason for reason in pool.map(run, shares) if reason is not None]
    bad = ~np.isfinite(outputs).all(axis=1)
    failed = int(bad.sum())
    if failed > FAILED * points.shape[0]:
        raise SolverError(
            f"{failed} of {points.shape[0]} solves failed, so indices would mean little. Narrow "
            f"bounds= or set solver=. The first: {reasons[0]}"
        )
    # A failed solve takes its whole group of samples with it: indices compare within groups.
    size = space.size + (2 if method == "sobol" else 1)
    sound = ~bad.reshape(-1, size).any(axis=1).repeat(size)
    shape = (len(names), wanted.size, space.size)
    back = np.argsort(order, kind="stable")
    first, total, confidence = (
        part.reshape(shape)[:, back] for part in analyze(task, points[sound], outputs[sound], seed)
    )
    return GlobalSensitivity(
        method, wanted, names, space.names, first, total, confidence, points.shape[0], failed, seed
    )


def _salib(method: str) -> tuple[Any, Any]:
    """Return functions that sample and analyze."""
    try:
        if method == "sobol":
            import SALib.analyze.sobol as analysis
            import SALib.sample.sobol as sampling
        else:
            import SALib.analyze.morris as analysis
            import SALib.sample.morris as sampling
    except ImportError as error:
        raise MissingExtraError(
            "Global sensitivity analysis needs SALib: install the extra, "
            "symode-adjoint[sensitivity]."
        ) from error

    def sample(task: Any, count: int, seed: int) -> Floats:
        extra = {"calc_second_order": False} if method == "sobol" else {}
        return np.asarray(sampling.sample(task, count, seed=seed, **extra))

    def analyze(task: Any, x: Floats, y: Floats, seed: int) -> tuple[Floats, Floats, Floats]:
        found = []
        for column in y.T:
            if np.ptp(column) <= 1e-12 * np.max(np.abs(column), initial=0.0):
                # Nothing moves here, such as a state at t0: there is no variance to share out.
                found.append(np.zeros((3, x.shape[1])))
                continue
            if method == "sobol":
                indices = analysis.analyze(
                    task, column, calc_second_order=False, seed=seed, print_to_console=False
                )
                found.append(np.array([indices[key] for key in ("S1", "ST", "S1_conf")]))
            else:
                indices = analysis.analyze(task, x, column, seed=seed, print_to_console=False)
                keys = ("mu_star", "sigma", "mu_star_conf")
                found.append(np.array([np.asarray(indices[key], dtype=float) for key in keys]))
        whole = np.array(found)
        return whole[:, 0], whole[:, 1], whole[:, 2]

    return sample, analyze
