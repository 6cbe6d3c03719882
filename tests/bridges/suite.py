"""Cases of the SBML semantic test suite: read, solve, compare with the published results."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import sympy as sp

from symode.bridges.sbml import SbmlModel, read_sbml
from symode.codegen.reference import evaluate
from symode.symbolic.lift import lift_expressions

CASES = Path(__file__).parents[3] / "shared" / "data" / "sbml" / "cases"


def settings_of(folder: Path) -> dict[str, str]:
    lines = (folder / f"{folder.name}-settings.txt").read_text().splitlines()
    return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}


def course(model: SbmlModel, name: str, amounts: set[str], concentrations: set[str], solution):
    """Return one column of the results as the settings mean it."""
    if name in amounts and name in model.amounts:
        expression = model.amounts[name]
    elif name in concentrations and name in model.concentrations:
        expression = model.concentrations[name]
    else:
        expression = model.values[name]
    if expression in (sp.nan, sp.oo, -sp.oo):
        return np.full(solution.t.shape, float(expression))
    graph = lift_expressions(model.equations, [expression])
    theta = np.array([model.theta[n] for n in model.equations.parameter_names])
    (row,) = np.asarray(evaluate(graph, solution.t, solution.z.T, theta))
    return np.broadcast_to(row, solution.t.shape)


def faults_of(folder: Path) -> list[str]:
    """Return where a case differs from its results by more than its tolerances."""
    (path, *_) = sorted(folder.glob("*-sbml-*.xml"))
    settings = settings_of(folder)
    with (folder / f"{folder.name}-results.csv").open() as file:
        head, *rows = [row for row in csv.reader(file) if row]
    expected = np.array(rows, dtype=float)
    model = read_sbml(path)
    t = expected[:, 0]
    solution = model.solve(
        (t[0], t[-1]), theta=model.theta, times=t, rtol=1e-10, atol=1e-13, max_steps=200_000
    )
    amounts, concentrations = (
        {n.strip() for n in settings[key].split(",")} for key in ("amount", "concentration")
    )
    absolute, relative = float(settings["absolute"]), float(settings["relative"])
    faults = []
    for j, name in enumerate(part.strip() for part in head):
        if j == 0:
            continue
        found = course(model, name, amounts, concentrations, solution)
        same = np.abs(found - expected[:, j]) <= absolute + relative * np.abs(expected[:, j])
        same |= np.isnan(found) & np.isnan(expected[:, j])
        same |= found == expected[:, j]
        if not same.all():
            k = int(np.flatnonzero(~same)[0])
            faults.append(f"{name} at t = {t[k]:g}: {found[k]:g}, expected {expected[k, j]:g}")
    return faults
