"""Newton's method for states at rest: next to a state, or wherever one is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]

#: A Newton step below this, relative to the state, is rounding.
ROUNDING: Final = 1e-13
#: Matrices of a larger condition number, their rows and columns scaled, count as singular.
SINGULAR: Final = 1e13
#: Steps that halve nothing any more.
SHORTEST: Final = 1e-6


def nearest_root(
    residual: Function,
    jacobian: Function,
    start: Floats,
    far: float = np.inf,
    size_of_all: float = 0.0,
) -> Floats | None:
    r"""Return the root that Newton's method finds without leaving the neighbourhood of a state.

    Parameters
    ----------
    residual, jacobian
        r(z), shape ``(n,)``, and :math:`\partial r/\partial z`, shape ``(n, n)``.
    start
        Shape ``(n,)``.
    far
        How far any component may move, relative to itself.
    size_of_all
        A size next to which 1e-12 of it is nothing: components die out.

    Examples
    --------
    >>> nearest_root(lambda z: z**2 - 2, lambda z: np.diag(2 * z), np.array([1.5]))
    array([1.41421356])
    """
    all_of_it = max(size_of_all, float(np.max(np.abs(start), initial=1e-300)))
    scale = np.abs(start) + 1e-12 * all_of_it
    z, best = start, np.inf
    for _ in range(25):
        step = solve_scaled(jacobian(z), -residual(z))
        if step is None or not np.isfinite(step).all():
            return None
        size = float(np.max(np.abs(step) / scale, initial=0.0))
        z = z + step
        if float(np.max(np.abs(z - start) / scale, initial=0.0)) > far:
            return None
        if size <= ROUNDING or (size < 1e-9 and size >= 0.5 * best):
            return z
        best = min(best, size)
    return None


def damped_root(residual: Function, jacobian: Function, start: Floats) -> Floats | None:
    """Return a root, from far away: a step is halved until the one after it would be shorter.

    References
    ----------
    Deuflhard (2004), *Newton Methods for Nonlinear Problems*, section 3.3: the natural
    monotonicity test.

    Examples
    --------
    >>> far = np.array([40.0])
    >>> damped_root(lambda z: np.arctan(z), lambda z: np.diag(1 / (1 + z**2)), far).round(12)
    array([0.])
    """
    z, share = start, 1.0
    for _ in range(200):
        matrix = jacobian(z)
        step = solve_scaled(matrix, -residual(z))
        if step is None or not np.isfinite(step).all():
            return None
        scale = np.abs(start) + np.abs(z) + 1e-9 * float(np.max(np.abs(z), initial=1e-300))
        length = float(np.linalg.norm(step / scale))
        if length <= 1e-6:
            return nearest_root(residual, jacobian, z)
        share = min(1.0, 4.0 * share)
        while share >= SHORTEST:
            with np.errstate(all="ignore"):
                following = solve_scaled(matrix, -residual(z + share * step))
            if following is not None and (
                np.linalg.norm(following / scale) <= (1.0 - 0.25 * share) * length
            ):
                break
            share *= 0.5
        else:
            return None
        z = z + share * step
    return None


def solve_scaled(matrix: Floats, right: Floats) -> Floats | None:
    """Return the solution of a square system, None where it is singular to rounding."""
    if not matrix.size:
        return np.zeros(right.shape)
    rows = np.abs(matrix).max(axis=1)
    columns = np.abs(matrix).max(axis=0)
    if not (np.isfinite(rows).all() and rows.all() and columns.all()):
        return None
    scaled = matrix / rows[:, None]
    columns = np.abs(scaled).max(axis=0)
    scaled = scaled / columns
    if not np.linalg.cond(scaled) <= SINGULAR:
        return None
    found: Floats = np.linalg.solve(scaled, (right.T / rows).T)
    result: Floats = (found.T / columns).T
    return result
