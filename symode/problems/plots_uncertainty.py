"""Pictures of what is not known: profiles, bands, correlations, waterfalls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from symode.errors import MissingExtraError
from symode.problems.bands import Band
from symode.problems.profiles import Profile

if TYPE_CHECKING:
    from symode.problems.result import Fit


def pyplot() -> Any:
    """Return matplotlib.pyplot.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingExtraError(
            "Pictures need matplotlib: install the extra, symode-adjoint[fit]."
        ) from error
    return plt


def plot_profile(profile: Profile, axes: Any = None) -> Any:
    """Draw a profile with its threshold and interval; return the axes."""
    plt = pyplot()
    if axes is None:
        _, axes = plt.subplots(figsize=(4.2, 3.0), layout="constrained")
    rise = profile.objective - profile.best
    axes.plot(profile.values, rise, ".-", color="C0", ms=4)
    top = profile.threshold - profile.best
    axes.axhline(top, color="black", lw=0.8, ls="--")
    axes.annotate(
        f"{100 * profile.level:g} %", (0.99, top), xycoords=("axes fraction", "data"),
        ha="right", va="bottom", fontsize="small",
    )  # fmt: skip
    for end in profile.interval:
        if np.isfinite(end) and profile.values.min() <= end <= profile.values.max():
            axes.axvline(end, color="C0", lw=0.8, ls=":")
    axes.plot(profile.values[np.argmin(rise)], 0.0, "o", color="black", ms=5)
    axes.set_ylim(-0.05 * top, 1.6 * top)
    # Narrow ranges have no decades to label.
    if profile.label.startswith("log") and profile.values.max() > 20 * profile.values.min():
        axes.set_xscale("log")
    else:
        axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(profile.name)
    axes.set_ylabel("rise of the objective")
    return axes


def plot_profiles(profiles: Mapping[str, Profile]) -> Any:
    """Draw several profiles side by side; return the axes."""
    plt = pyplot()
    count = len(profiles)
    columns = min(count, 4)
    rows = -(-count // columns)
    _, panels = plt.subplots(
        rows, columns, figsize=(3.2 * columns, 2.5 * rows), squeeze=False, layout="constrained"
    )
    for panel, profile in zip(panels.ravel(), profiles.values(), strict=False):
        plot_profile(profile, panel)
    for panel in panels.ravel()[count:]:
        panel.set_visible(False)
    return panels.ravel()[:count]


def plot_band(band: Band, axes: Any = None) -> Any:
    """Draw curves with their bands, one panel for each observable; return the axes."""
    plt = pyplot()
    count = len(band.names)
    if axes is None:
        _, axes = plt.subplots(
            count, 1, sharex=True, figsize=(6.0, 1.0 + 2.0 * count), layout="constrained"
        )
    panels = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    order = np.argsort(band.times, kind="stable")
    for j, (panel, name) in enumerate(zip(panels, band.names, strict=False)):
        low, high = band.lower[j, order], band.upper[j, order]
        panel.fill_between(
            band.times[order], low, high, color=f"C{j}", alpha=0.25, lw=0,
            label=f"{100 * band.level:g} % band ({band.method})",
        )  # fmt: skip
        panel.plot(band.times[order], band.curve[j, order], color=f"C{j}", label="best fit")
        panel.set_ylabel(name)
        panel.legend(fontsize="small", frameon=False)
    panels[-1].set_xlabel("time")
    return panels


def plot_waterfall(fit: Fit, axes: Any = None) -> Any:
    """Draw the values of all searches, best first; return the axes."""
    plt = pyplot()
    if axes is None:
        _, axes = plt.subplots(figsize=(4.8, 3.2), layout="constrained")
    ended = [start for start in fit.starts if start.status != "failed"]
    rise = np.array([start.value - fit.value for start in ended])
    floor = 1e-8
    for status, marker in (("converged", "o"), ("stopped", "x")):
        here = [k for k, start in enumerate(ended) if start.status == status]
        if here:
            axes.plot(np.array(here) + 1, np.maximum(rise[here], floor), marker, ms=5, label=status)
    axes.set_yscale("log")
    axes.set_xlabel("search, best first")
    axes.set_ylabel("objective above the best")
    failed = fit.n_failed
    axes.set_title(f"{failed} of {len(fit.starts)} failed" if failed else "", fontsize="small")
    axes.legend(fontsize="small", frameon=False)
    return axes


def plot_parameters(fit: Fit, axes: Any = None, count: int = 10) -> Any:
    """Draw the parameters of the best searches within their bounds; return the axes."""
    plt = pyplot()
    space = fit.problem.space
    if axes is None:
        _, axes = plt.subplots(figsize=(5.2, 1.2 + 0.35 * space.size), layout="constrained")
    rows = np.arange(space.size)
    ended = [start for start in fit.starts if start.status != "failed"][:count]
    points = np.array([space.point(start.theta) for start in ended])
    lower = np.where(np.isfinite(space.lower), space.lower, points.min(axis=0) - 1)
    upper = np.where(np.isfinite(space.upper), space.upper, points.max(axis=0) + 1)
    for k, point in reversed(list(enumerate(points))):
        share = (point - lower) / (upper - lower)
        axes.plot(
            share, rows, ".-" if k == 0 else ".", color="C3" if k == 0 else "0.6", lw=1.0,
            label="best" if k == 0 else None,
        )  # fmt: skip
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks([0, 1], ["lower bound", "upper bound"])
    axes.set_yticks(rows, space.labels)
    axes.invert_yaxis()
    axes.legend(fontsize="small", frameon=False)
    return axes


def plot_correlation(fit: Fit, axes: Any = None) -> Any:
    """Draw the correlations of the estimates; return the axes."""
    plt = pyplot()
    found = fit.intervals()
    count = len(found.names)
    if axes is None:
        size = 2.2 + 0.35 * count
        _, axes = plt.subplots(figsize=(size + 0.8, size), layout="constrained")
    image = axes.imshow(found.correlation, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(count), found.names, rotation=45, ha="right")
    axes.set_yticks(range(count), found.names)
    axes.figure.colorbar(image, ax=axes, label="correlation", shrink=0.8)
    return axes


def plot_residuals(fit: Fit, axes: Any = None) -> Any:
    """Draw the residuals of all measurements over time, in units of sigma; return the axes."""
    plt = pyplot()
    problem = fit.problem
    if axes is None:
        _, axes = plt.subplots(figsize=(6.0, 2.8), layout="constrained")
    residuals = problem.scores(problem.space.point(fit.theta)).residuals
    at = 0
    for part in problem.parts:
        for block in part.blocks:
            here = slice(at, at + block.times.size)
            at = here.stop
            if block.times.size:
                label = f"{block.column.name} {part.name}".strip()
                axes.plot(block.times, residuals[here], "o", ms=4, label=label)
    axes.axhline(0.0, color="black", lw=0.8)
    for level in (-2.0, 2.0):
        axes.axhline(level, color="black", lw=0.6, ls=":")
    axes.set_xlabel("time")
    axes.set_ylabel("residual / sigma")
    axes.legend(fontsize="small", frameon=False, ncols=3)
    return axes
