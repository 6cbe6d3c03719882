"""Dense LU with partial pivoting of complex matrices, real and imaginary parts in separate rows.

The matrix occupies rows ``top`` to ``top + n`` (real parts) and the n rows after (imaginary parts)
of an array shared with other factorizations; its pivots start at ``top`` among all pivots.
"""

from __future__ import annotations

from symode.kernels.jit import inline
from symode.kernels.types import Floats, Ints


@inline
def factor(lu: Floats, pivots: Ints, n: int, top: int) -> bool:
    """Replace a matrix by its factors; return whether it is regular and finite."""
    low = top + n
    for k in range(n):
        pivot, most = k, abs(lu[top + k, k]) + abs(lu[low + k, k])
        for i in range(k + 1, n):
            size = abs(lu[top + i, k]) + abs(lu[low + i, k])
            if size > most:
                pivot, most = i, size
        # Also false for NaN.
        if not (0.0 < most < 1e150):
            return False
        pivots[top + k] = pivot
        if pivot != k:
            for j in range(n):
                lu[top + k, j], lu[top + pivot, j] = lu[top + pivot, j], lu[top + k, j]
                lu[low + k, j], lu[low + pivot, j] = lu[low + pivot, j], lu[low + k, j]
        # Scaled by its size, so that the square cannot vanish.
        u, v = lu[top + k, k] / most, lu[low + k, k] / most
        size = (u * u + v * v) * most
        u, v = u / size, -v / size
        for i in range(k + 1, n):
            x, y = lu[top + i, k], lu[low + i, k]
            if x != 0.0 or y != 0.0:
                x, y = x * u - y * v, x * v + y * u
                lu[top + i, k] = x
                lu[low + i, k] = y
                for j in range(k + 1, n):
                    lu[top + i, j] -= x * lu[top + k, j] - y * lu[low + k, j]
                    lu[low + i, j] -= x * lu[low + k, j] + y * lu[top + k, j]
    return True


@inline
def solve(
    lu: Floats, pivots: Ints, n: int, top: int, b: Floats, x_out: Floats, transposed: bool
) -> None:
    """Solve A x = b or Aᵀ x = b; b and x hold n real parts, then n imaginary ones."""
    low = top + n
    for i in range(2 * n):
        x_out[i] = b[i]
    if transposed:
        for i in range(n):
            _divide(lu, top, low, i, n, x_out)
            for j in range(i + 1, n):
                _subtract(x_out, j, n, lu[top + i, j], lu[low + i, j], i)
        for i in range(n - 1, 0, -1):
            for j in range(i):
                _subtract(x_out, j, n, lu[top + i, j], lu[low + i, j], i)
        for k in range(n - 1, -1, -1):
            _exchange(x_out, k, pivots[top + k], n)
        return
    for k in range(n):
        _exchange(x_out, k, pivots[top + k], n)
    for i in range(n):
        for j in range(i):
            _subtract(x_out, i, n, lu[top + i, j], lu[low + i, j], j)
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            _subtract(x_out, i, n, lu[top + i, j], lu[low + i, j], j)
        _divide(lu, top, low, i, n, x_out)


@inline
def _exchange(x: Floats, k: int, j: int, n: int) -> None:
    if j != k:
        x[k], x[j] = x[j], x[k]
        x[n + k], x[n + j] = x[n + j], x[n + k]


@inline
def _subtract(x: Floats, i: int, n: int, u: float, v: float, j: int) -> None:
    """Subtract (u + iv) x_j from x_i."""
    a, b = x[j], x[n + j]
    x[i] -= u * a - v * b
    x[n + i] -= u * b + v * a


@inline
def _divide(lu: Floats, top: int, low: int, i: int, n: int, x: Floats) -> None:
    u, v = lu[top + i, i], lu[low + i, i]
    most = abs(u) + abs(v)
    p, q = u / most, v / most
    size = (p * p + q * q) * most
    a, b = x[i], x[n + i]
    x[i] = (a * p + b * q) / size
    x[n + i] = (b * p - a * q) / size
