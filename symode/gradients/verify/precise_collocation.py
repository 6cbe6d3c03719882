r"""Stages of a collocation step in arbitrary precision.

.. math:: h^{-1} A^{-1} Z = F(z + Z)

Newton's iteration in doubles finds 15 digits of Z; the inverse of its last matrix then corrects
residuals formed in full precision, and each correction adds some ten digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.errors import GradientError

Numbers = list[Any]
Floats = NDArray[np.float64]

#: Corrections of either iteration.
LIMIT = 60


def collocation_increments(
    slope: Callable[[Any, Numbers], Numbers],
    jacobian: Callable[[float, Floats], Floats],
    method: Any,
    t: Any,
    h: Any,
    z: Numbers,
    mp: Any,
) -> list[Numbers]:
    """Return the increments of all stages.

    Parameters
    ----------
    slope
        f(t, z) in the arithmetic of its arguments.
    jacobian
        The state Jacobian in doubles. Shape ``(n, n)``.
    method
        Coefficients, their arrays in numbers of ``mp``.
    t, h, z
        Start, step size and state.
    mp
        The mpmath context.

    Raises
    ------
    GradientError
        When an iteration does not converge.
    """
    stages, n = method.n_stages, len(z)
    inverse, c = method.inverse.astype(float), method.c.astype(float)
    start, step, time = np.array(z, dtype=float), float(h), float(t)
    found = np.zeros((stages, n))
    matrix = np.eye(stages * n)
    for _ in range(LIMIT):
        slopes = np.array(
            [slope(time + c[i] * step, list(start + found[i])) for i in range(stages)], dtype=float
        )
        matrix = np.kron(inverse / step, np.eye(n))
        for i in range(stages):
            block = slice(i * n, (i + 1) * n)
            matrix[block, block] -= jacobian(time + c[i] * step, start + found[i])
        change = np.linalg.solve(matrix, (slopes - inverse @ found / step).ravel())
        found += change.reshape(stages, n)
        if not np.isfinite(found).all():
            break
        if np.max(np.abs(change)) <= 1e-12 * np.max(np.abs(found), initial=1e-300):
            break
    back = np.linalg.inv(matrix) if np.isfinite(matrix).all() else matrix
    increments = [[mp.mpf(v) for v in row] for row in found]
    for _ in range(LIMIT):
        residual = []
        for i in range(stages):
            f = slope(t + method.c[i] * h, [a + b for a, b in zip(z, increments[i], strict=True)])
            for j in range(n):
                known = sum(method.inverse[i, k] * increments[k][j] for k in range(stages))
                residual.append(f[j] - known / h)
        # Digits of the residual that doubles can hold, its size kept apart.
        size = max(abs(r) for r in residual)
        if size == 0:
            return increments
        change = back @ np.array([float(r / size) for r in residual])
        top = max(abs(v) for row in increments for v in row)
        for i in range(stages):
            for j in range(n):
                increments[i][j] += size * mp.mpf(change[i * n + j])
        if size * mp.mpf(np.max(np.abs(change))) <= mp.mpf(10) ** (3 - mp.dps) * top:
            return increments
    raise GradientError(
        f"The stages of the step at t = {float(t):.6g} could not be solved to {mp.dps} digits."
    )
