"""Pictures of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from symode.errors import MissingExtraError, OptionError
from symode.problems.problem import Problem

#: Points of a drawn curve.
FINE = 400


def plot_fit(problem: Problem, theta: Any, axes: Any, level: float) -> Any:
    """Draw data and curves, one panel for each observable, see `Fit.plot`."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingExtraError(
            "plot() needs matplotlib: install the extra, symode-adjoint[fit]."
        ) from error
    from scipy.stats import norm

    if not 0 <= level < 1:
        raise OptionError(f"level must lie between 0 and 1; got {level!r}.")
    count = len(problem.series)
    if axes is None:
        rows = -(-count // 2) if count > 3 else count
        columns = -(-count // rows)
        _, axes = plt.subplots(
            rows,
            columns,
            sharex=True,
            squeeze=False,
            figsize=(7.0 * columns**0.5, 1.2 + 2.2 * rows),
            layout="constrained",
        )
    panels = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    strange = [panel for panel in panels if not hasattr(panel, "fill_between")]
    if strange:
        raise OptionError(
            f"axes must be Matplotlib axes, one for each of the {count} observables, as from "
            f"plt.subplots({count}); got {strange[0]!r}. None draws new ones, of all observables."
        )
    if panels.size < count:
        raise OptionError(f"There are {count} observables to draw, but {panels.size} axes.")
    last = float(problem.loss.times.max())
    times = np.unique(np.append(np.linspace(problem.t0, last, FINE), problem.loss.times))
    courses = problem.courses(theta, times, [*problem.expressions, *problem.sigma])
    quantile = float(norm.ppf(0.5 + level / 2))
    for j, (panel, series) in enumerate(zip(panels, problem.series, strict=False)):
        color = f"C{j}"
        if level > 0:
            low, high = problem.noise[j].band(courses[j], courses[count + j], quantile)
            label = f"{100 * level:g} % of measurements"
            panel.fill_between(times, low, high, color=color, alpha=0.15, lw=0, label=label)
        panel.plot(times, courses[j], color=color, label="model")
        panel.plot(series.times, series.values, "o", color="black", ms=4, label="data")
        panel.set_ylabel(series.name)
        if np.min(courses[j]) >= 0 and np.min(series.values) >= 0:
            panel.set_ylim(bottom=0)
        panel.legend(fontsize="small", frameon=False)
    for panel in panels[count:]:
        panel.set_visible(False)
    for panel in panels[:count]:
        if panel.get_subplotspec() is None or panel.get_subplotspec().is_last_row():
            panel.set_xlabel(str(problem.model.time))
    return panels[:count]
