r"""Intervals: standard errors and confidence intervals from the curvature at the best fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.equations.values import Named, named
from symode.errors import MissingExtraError, OptionError
from symode.problems.problem import Problem
from symode.problems.starts import Start

Floats = NDArray[np.float64]

#: A direction is not determined when the data speak this much less about it than about the
#: best determined one, each parameter measured by what the data say about it alone. Exact
#: sensitivities are good to about rtol = 1e-8 of this.
UNDETERMINED = 1e-6
#: Share of an undetermined direction from which a parameter counts as part of it.
INVOLVED = 1e-3


@dataclass(frozen=True, eq=False)
class Intervals:
    """Estimates of parameters with their standard errors and confidence intervals.

    The errors hold where the likelihood is close to a parabola on the scale of the search; the
    interval is symmetric there, and transformed back.

    Parameters
    ----------
    estimate
        By name or position. Shape ``(p,)``.
    standard_error
        On the parameters' own scale (delta method). NaN for a parameter held by a bound; infinite
        for one that the data do not determine. Shape ``(p,)``.
    lower, upper
        Confidence interval; NaN and the whole range likewise. It is not cut at the bounds.
    level
        Confidence level.
    correlation
        Of the estimates, on the scale of the search. Shape ``(p, p)``.
    remarks
        What the numbers do not say: undetermined directions, parameters held by bounds.
    """

    estimate: Named
    standard_error: Named
    lower: Named
    upper: Named
    level: float
    correlation: Floats
    remarks: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return self.estimate.names

    def __getitem__(self, name: Any) -> tuple[float, float]:
        """Return one interval by name or symbol."""
        return float(self.lower[str(name)]), float(self.upper[str(name)])

    def to_frame(self) -> Any:
        """Return the table as a pandas DataFrame (needs the extra ``fit``)."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError(
                "to_frame() needs pandas: install the extra, symode-adjoint[fit]."
            ) from error
        columns = ("estimate", "standard_error", "lower", "upper")
        table = {column: np.asarray(getattr(self, column)) for column in columns}
        return pd.DataFrame(table, index=pd.Index(self.names, name="parameter"))

    def __repr__(self) -> str:
        """Return the table, one line per parameter, then the remarks."""
        share = f"{100 * self.level:g} % interval"
        rows = [("parameter", "estimate", "std. error", share)]
        for i, name in enumerate(self.names):
            error = float(self.standard_error[i])
            between = f"{float(self.lower[i]):.4g} to {float(self.upper[i]):.4g}"
            if np.isnan(error):
                cells = ("at a bound", "-")
            elif np.isinf(error):
                cells = ("undetermined", between)
            else:
                cells = (f"{error:.2g}", between)
            rows.append((name, f"{float(self.estimate[i]):.4g}", *cells))
        widths = [max(len(row[j]) for row in rows) for j in range(4)]
        lines = [
            "  ".join(
                cell.ljust(width) if j in (0, 3) else cell.rjust(width)
                for j, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *self.remarks])


def intervals(problem: Problem, best: Start, level: float, curvature: str) -> Intervals:
    """Return the intervals of a fit, see `Fit.intervals`.

    Raises
    ------
    OptionError
        For a level outside 0 to 1, and an unknown curvature.
    """
    from scipy.stats import norm

    if not 0 < level < 1:
        raise OptionError(f"level must lie between 0 and 1; got {level!r}.")
    if curvature not in ("fisher", "hessian"):
        raise OptionError(f"curvature must be 'fisher' or 'hessian'; got {curvature!r}.")
    space = problem.space
    x = space.point(best.theta)
    free = np.flatnonzero(space.at_bound(x) == 0)
    labels = [space.labels[i] for i in free]
    covariance, remarks = np.full((space.size, space.size), np.nan), []
    held = [name for name in space.names if name in best.at_bound]
    if held:
        remarks.append(
            f"Held by a bound: {', '.join(held)}. The other errors are those with it held there."
        )
    if free.size:
        root = problem.scores(x).information_root[:, free]
        inner, undetermined = invert_information(root)
        if curvature == "hessian":
            if undetermined.shape[0]:
                remarks.append("The Hessian was not used, since the problem is singular.")
            else:
                inner = _inverse_hessian(problem, x, free, remarks, inner)
        covariance[np.ix_(free, free)] = inner
        remarks += [describe_direction(direction, labels) for direction in undetermined]
    error = np.sqrt(np.diag(covariance))
    with np.errstate(invalid="ignore"):
        correlation = covariance / np.outer(error, error)
    quantile = float(norm.ppf(0.5 + level / 2))
    with np.errstate(over="ignore"):
        ends = [
            np.asarray(space.theta(x + side * quantile * error))[space.places] for side in (-1, 1)
        ]
        natural = np.abs(space.slopes(x)) * error
    return Intervals(
        named(np.asarray(best.theta)[space.places], space.names),
        named(natural, space.names),
        named(ends[0], space.names),
        named(ends[1], space.names),
        level,
        correlation,
        tuple(remarks),
    )


def invert_information(root: Floats) -> tuple[Floats, Floats]:
    r"""Return :math:`(W^\top W)^{-1}`, and the directions in which it is singular.

    Each column of W is brought to length one first, so that the verdict depends on no unit.

    Parameters
    ----------
    root
        W, shape ``(k, p)``.

    Returns
    -------
    inverse, directions
        Shapes ``(p, p)`` and ``(q, p)``. The inverse is infinite for every parameter that is part
        of a direction, and that of the determined rest for the others.

    Examples
    --------
    >>> inverse, directions = invert_information(np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 2.0]]))
    >>> inverse.round(3).tolist()[2], directions.round(3).tolist()
    ([0.0, 0.0, 0.25], [[1.0, -0.5, 0.0]])
    """
    lengths = np.linalg.norm(root, axis=0)
    silent = lengths == 0
    unit = np.where(silent, 1.0, lengths)
    # Rows of zeros: a wide W still yields all p directions.
    p = root.shape[1]
    padded = np.vstack([root / unit, np.zeros((max(0, p - root.shape[0]), p))])
    _, s, vt = np.linalg.svd(padded, full_matrices=False)
    known = s > UNDETERMINED * max(float(s[0]), 1e-300)
    half = (vt[known].T / s[known]) / unit[:, None]
    inverse = half @ half.T
    directions = _sparse_basis(vt[~known])
    involved = np.any(np.abs(directions) > INVOLVED, axis=0)
    inverse[involved, :] = 0.0
    inverse[:, involved] = 0.0
    inverse[involved, involved] = np.inf
    directions = directions / unit
    scale = np.max(np.abs(directions), axis=1, keepdims=True, initial=0.0)
    return inverse, directions / np.where(scale > 0, scale, 1.0)


def _sparse_basis(rows: Floats) -> Floats:
    """Return a basis of the same space with as many zeros as elimination gives.

    Singular vectors of one singular value mix freely; a person reads "a" and "b + c" more easily
    than two sums of all three.
    """
    basis = rows.copy()
    for row in range(basis.shape[0]):
        # Columns of earlier pivots hold zeros from here on, so they are not chosen again.
        i, j = divmod(int(np.argmax(np.abs(basis[row:]))), basis.shape[1])
        swap = np.array([row, row + i])
        basis[swap] = basis[swap[::-1]]
        basis[row] /= basis[row, j]
        others = np.arange(basis.shape[0]) != row
        basis[others] -= np.outer(basis[others, j], basis[row])
    basis[np.abs(basis) < INVOLVED] = 0.0
    return basis


def describe_direction(direction: Floats, labels: Sequence[str]) -> str:
    """Return a sentence that names an undetermined direction."""
    parts = [
        (float(c), label) for c, label in zip(direction, labels, strict=True) if abs(c) > INVOLVED
    ]
    if len(parts) == 1:
        return f"The data do not determine {parts[0][1]}: changing it changes no residual."
    sign = np.sign(parts[0][0])
    moves = ", ".join(f"{label} by {sign * c:+.3g}" for c, label in parts)
    return (
        f"The data do not determine one combination of {', '.join(label for _, label in parts)}: "
        f"moving together {moves} changes no residual."
    )


def _inverse_hessian(
    problem: Problem, x: Floats, free: NDArray[np.intp], remarks: list[str], fallback: Floats
) -> Floats:
    """Return the inverse Hessian on the scale; the fallback, with a remark, if x is no minimum."""
    hessian = np.empty((free.size, free.size))
    # Central differences of a gradient with noise of relative size rtol: error h^2 + rtol / h.
    h = float(problem.options.get("rtol", 1e-8)) ** (1 / 3)
    sizes = h / np.sqrt(np.maximum(1.0 / np.diag(fallback), 1e-300))
    for j, (i, size) in enumerate(zip(free, sizes, strict=True)):
        ahead, back = x.copy(), x.copy()
        ahead[i] += size
        back[i] -= size
        change = problem.objective(ahead)[1] - problem.objective(back)[1]
        hessian[:, j] = change[free] / (2 * size)
    hessian = 0.5 * (hessian + hessian.T)
    if np.linalg.eigvalsh(hessian * np.outer(sizes, sizes))[0] <= 0:
        remarks.append(
            "The Hessian is not positive definite: this is no minimum inside the bounds. Errors "
            "are from the Fisher information."
        )
        return fallback
    return np.asarray(np.linalg.inv(hessian), dtype=float)
