"""Dense LU with partial pivoting, for the small matrices of implicit steps."""

from __future__ import annotations

from symode.kernels.jit import inline
from symode.kernels.types import Floats, Ints


@inline
def factor(lu: Floats, pivots: Ints, n: int) -> bool:
    """Replace a matrix by its factors; return whether it is regular and finite."""
    for k in range(n):
        pivot, top = k, abs(lu[k, k])
        for i in range(k + 1, n):
            size = abs(lu[i, k])
            if size > top:
                pivot, top = i, size
        # Also false for NaN.
        if not (0.0 < top < 1e308):
            return False
        pivots[k] = pivot
        if pivot != k:
            for j in range(n):
                lu[k, j], lu[pivot, j] = lu[pivot, j], lu[k, j]
        inverse = 1.0 / lu[k, k]
        for i in range(k + 1, n):
            if lu[i, k] != 0.0:
                lu[i, k] *= inverse
                w = lu[i, k]
                for j in range(k + 1, n):
                    lu[i, j] -= w * lu[k, j]
    return True


@inline
def solve(lu: Floats, pivots: Ints, n: int, x: Floats, r: int, c: int) -> None:
    """Solve A y = x in place, for row r of x from column c."""
    for k in range(n):
        j = pivots[k]
        if j != k:
            x[r, c + k], x[r, c + j] = x[r, c + j], x[r, c + k]
    for i in range(1, n):
        total = x[r, c + i]
        for j in range(i):
            total -= lu[i, j] * x[r, c + j]
        x[r, c + i] = total
    for i in range(n - 1, -1, -1):
        total = x[r, c + i]
        for j in range(i + 1, n):
            total -= lu[i, j] * x[r, c + j]
        x[r, c + i] = total / lu[i, i]


@inline
def solve_transposed(lu: Floats, pivots: Ints, n: int, x: Floats, r: int, c: int) -> None:
    """Solve Aᵀ y = x in place, for row r of x from column c."""
    for i in range(n):
        x[r, c + i] /= lu[i, i]
        w = x[r, c + i]
        for j in range(i + 1, n):
            x[r, c + j] -= lu[i, j] * w
    for i in range(n - 1, 0, -1):
        w = x[r, c + i]
        for j in range(i):
            x[r, c + j] -= lu[i, j] * w
    for k in range(n - 1, -1, -1):
        j = pivots[k]
        if j != k:
            x[r, c + k], x[r, c + j] = x[r, c + j], x[r, c + k]
