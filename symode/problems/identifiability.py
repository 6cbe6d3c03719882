r"""Identifiability: which combinations of parameters the data can determine at all.

Practical: the spectrum of the Fisher information of these data at the fit. Structural: whether a
direction stays silent at other parameters, too, and for all observables at many times, whatever
the noise; what is silent at every generic point is silent by the model's structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.loss import Loss, ObservationGroup
from symode.errors import GradientError, SolverError
from symode.gradients.residuals import Residuals
from symode.problems.intervals import describe_direction, invert_information
from symode.problems.problem import Problem

Floats = NDArray[np.float64]

#: Other parameters at which structural silence is tested, and times of each condition.
POINTS, TIMES = 3, 40
#: A spectrum spread wider than this marks a problem as practically hard ("sloppy").
WIDE = 1e6


@dataclass(frozen=True, eq=False)
class Identifiability:
    """What the data, and the model, can tell about the parameters.

    Parameters
    ----------
    labels
        Of the free parameters on their scale (those not held by a bound).
    spectrum
        Eigenvalues of the Fisher information, each parameter measured in units of what the data
        say about it alone; largest first. Shape ``(p,)``.
    directions
        Eigenvectors, one per row. Shape ``(p, p)``.
    practical
        Sentences: directions these data do not determine.
    structural
        Sentences: directions that no data of these observables could determine.
    """

    labels: tuple[str, ...]
    spectrum: Floats
    directions: Floats
    practical: tuple[str, ...]
    structural: tuple[str, ...]

    @property
    def is_identifiable(self) -> bool:
        """Whether the data determine all parameters (locally)."""
        return not self.practical

    def __repr__(self) -> str:
        """Return spectrum and verdicts."""
        values = ", ".join(f"{value:.2e}" for value in self.spectrum)
        lines = [f"Fisher spectrum (unit diagonal): {values}"]
        if self.structural:
            lines += ["Not identifiable from these observables, whatever the data:"]
            lines += [f"  {sentence}" for sentence in self.structural]
        rest = [s for s in self.practical if s not in self.structural]
        if rest:
            lines += ["Not determined by these data:", *(f"  {sentence}" for sentence in rest)]
        if not self.practical:
            lines.append("All parameters are determined (locally).")
            if self.spectrum[0] > WIDE * self.spectrum[-1]:
                weak = describe(self.directions[-1], self.labels)
                lines.append(f"Weakly: the data say least about {weak}.")
        return "\n".join(lines)


def identifiability(problem: Problem, x: Floats, seed: int = 0) -> Identifiability:
    """Return the diagnosis at a point on the scale; see `Fit.identifiability`."""
    space = problem.space
    free = np.flatnonzero(space.at_bound(x) == 0)
    labels = tuple(space.labels[int(i)] for i in free)
    root = problem.scores(x).information_root[:, free]
    lengths = np.linalg.norm(root, axis=0)
    unit = root / np.where(lengths > 0, lengths, 1.0)
    p = free.size
    padded = np.vstack([unit, np.zeros((max(0, p - unit.shape[0]), p))])
    _, s, vt = np.linalg.svd(padded, full_matrices=False)
    _, silent = invert_information(root)
    practical = tuple(describe_direction(d, labels) for d in silent)
    structural: tuple[str, ...] = ()
    if practical:
        _, always = invert_information(_generic_root(problem, x, free, seed))
        structural = tuple(describe_direction(d, labels) for d in always)
    return Identifiability(labels, s**2, vt, practical, structural)


def _generic_root(problem: Problem, x: Floats, free: NDArray[np.intp], seed: int) -> Floats:
    """Return sensitivities of all observables at many times and several generic points."""
    space, rng = problem.space, np.random.default_rng(seed)
    rows = []
    points = [x] + [
        space.inside(x + rng.uniform(0.1, 0.4, x.size) * rng.choice([-1.0, 1.0], x.size))
        for _ in range(POINTS)
    ]
    for part in problem.parts:
        names = {series.name for series in part.series}
        times = part.t0 + (part.last - part.t0) * (np.arange(TIMES) + 1) / TIMES
        groups = [
            ObservationGroup(c.noise.measure.location(c.expression), times)
            for c in problem.columns
            if c.name in names
        ]
        groups += [
            ObservationGroup(sp.log(c.sigma), times)
            for c in problem.columns
            if c.name in names and not c.sigma.is_Number
        ]
        residuals = Residuals(
            part.equations, Loss(observations=groups), t0=part.t0, **problem.options
        )
        for k, point in enumerate(points):
            outer = np.asarray(space.theta(point))
            try:
                found = residuals(part.parameters.theta(outer))[1]
            except (SolverError, GradientError):
                if k == 0:
                    raise
                continue
            slopes = part.parameters.pull(found, outer)[:, space.places] * space.slopes(point)
            rows.append(slopes[:, free])
    return np.vstack(rows)


def describe(direction: Floats, labels: Sequence[str]) -> str:
    """Return a direction as a sum of its main parts."""
    size = np.max(np.abs(direction))
    parts = [(c, name) for c, name in zip(direction, labels, strict=True) if abs(c) > 0.1 * size]
    return " ".join(f"{c:+.2g} {name}" for c, name in parts)
