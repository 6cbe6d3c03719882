"""Pictures of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from symode.errors import MissingExtraError, OptionError
from symode.problems.parts import Part
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
    if not 0 <= level < 1:
        raise OptionError(f"level must lie between 0 and 1; got {level!r}.")
    drawn = [(part, series) for part in problem.parts for series in part.series]
    count = len(drawn)
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
    at = 0
    for part in problem.parts:
        at += _draw_part(problem, part, theta, panels[at:count], level)
    for panel in panels[count:]:
        panel.set_visible(False)
    for panel in panels[:count]:
        if panel.get_subplotspec() is None or panel.get_subplotspec().is_last_row():
            panel.set_xlabel(_label(problem, part, str(problem.model.time)))
    return panels[:count]


def _draw_part(problem: Problem, part: Part, theta: Any, panels: Any, level: float) -> int:
    """Draw the observables of one condition; return how many."""
    columns = {column.name: column for column in problem.columns}
    shown = [columns[series.name] for series in part.series]
    measured = np.concatenate([series.times for series in part.series])
    times = np.unique(np.append(np.linspace(part.t0, part.last, FINE), measured))
    expressions = [c.expression for c in shown] + [c.sigma for c in shown]
    courses = problem.courses(theta, times, expressions, part.name or None)
    for j, (panel, series, column) in enumerate(zip(panels, part.series, shown, strict=False)):
        color = f"C{problem.columns.index(column)}"
        if level > 0:
            low, high = column.noise.band(courses[j], courses[len(shown) + j], level)
            label = f"{100 * level:g} % of measurements"
            panel.fill_between(times, low, high, color=color, alpha=0.15, lw=0, label=label)
        panel.plot(times, courses[j], color=color, label="model")
        for code, marker, label in ((0, "o", "data"), (-1, "v", "at most"), (1, "^", "at least")):
            here = series.censored == code
            if here.any():
                face = "black" if code == 0 else "none"
                panel.plot(
                    series.times[here], series.values[here], marker, color="black", mfc=face, ms=4,
                    ls="none", label=label,
                )  # fmt: skip
        panel.set_ylabel(_label(problem, part, series.name))
        if part.name:
            panel.set_title(part.name, fontsize="small", loc="left")
        if np.min(courses[j]) >= 0 and np.min(series.values) >= 0:
            panel.set_ylim(bottom=0)
        panel.legend(fontsize="small", frameon=False)
    return len(shown)


def _label(problem: Problem, part: Part, name: str) -> str:
    """Return a name with its unit."""
    units = problem.measured[part.name].units
    unit = units.get(name, units.get("time", "") if name == str(problem.model.time) else "")
    return f"{name} ({unit})" if unit else name
