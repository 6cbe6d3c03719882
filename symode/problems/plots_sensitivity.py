"""Pictures of sensitivities: courses over time, and rankings."""

from __future__ import annotations

from typing import Any

import numpy as np

from symode.problems.global_sensitivity import GlobalSensitivity
from symode.problems.plots_uncertainty import pyplot
from symode.problems.sensitivity import LocalSensitivity


def plot_local(found: LocalSensitivity, observable: Any = None, count: int = 8) -> Any:
    """Draw scaled sensitivities over time, one panel for each observable, and the ranking."""
    plt = pyplot()
    rows = found._rows(observable)
    _, panels = plt.subplots(
        len(rows), 2, figsize=(9.0, 0.8 + 2.4 * len(rows)), squeeze=False, layout="constrained",
        gridspec_kw={"width_ratios": [2, 1]},
    )  # fmt: skip
    order = np.argsort(found.times, kind="stable")
    for (left, right), row in zip(panels, rows, strict=True):
        name = found.observables[row]
        ranking = found.ranking(name)[:count]
        for parameter, _ in ranking:
            j = found.parameters.index(parameter)
            scaled = found.derivatives[row, order, j] * found.theta[j]
            left.plot(found.times[order], scaled, label=parameter)
        left.axhline(0.0, color="black", lw=0.6)
        left.set_ylabel(f"p · d{name}/dp")
        left.set_xlabel("time")
        left.legend(fontsize="small", frameon=False, ncols=2)
        names = [parameter for parameter, _ in reversed(ranking)]
        right.barh(names, [effect for _, effect in reversed(ranking)], color="0.5")
        right.set_xlabel(f"effect on {name}, relative")
    return panels


def plot_global(found: GlobalSensitivity, observable: Any = None) -> Any:
    """Draw indices over time, one panel for each observable; return the axes."""
    plt = pyplot()
    if observable is None:
        rows = list(range(len(found.observables)))
    else:
        found.ranking(observable)
        rows = [found.observables.index(str(observable))]
    values = found.total if found.method == "sobol" else found.first
    word = "total index" if found.method == "sobol" else "mean absolute effect"
    _, panels = plt.subplots(
        len(rows), 1, sharex=True, figsize=(6.4, 0.8 + 2.3 * len(rows)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    order = np.argsort(found.times, kind="stable")
    for panel, row in zip(panels[:, 0], rows, strict=True):
        for j, parameter in enumerate(found.parameters):
            panel.plot(found.times[order], values[row, order, j], ".-", label=parameter)
        panel.set_ylabel(f"{word} for {found.observables[row]}")
        panel.legend(fontsize="small", frameon=False, ncols=2)
    panels[-1, 0].set_xlabel("time")
    return panels[:, 0]
