r"""Singular values and right singular vectors of a tall matrix, for searches.

Householder reflections make it triangular, one-sided Jacobi rotations make the triangle's columns
orthogonal: :math:`W = QR`, :math:`R V = U \Sigma`. Small singular values keep their digits, which
those of :math:`W^\top W` do not. Demmel & Veselić (1992), *SIAM J. Matrix Anal. Appl.* 13, 1204.
"""

from __future__ import annotations

import math

from symode.kernels.jit import inline
from symode.kernels.types import Floats

#: Cosine of two columns that count as orthogonal.
ORTHOGONAL = 1e-15
#: Sweeps allowed; some six are needed.
SWEEPS = 40


@inline
def triangle(columns: Floats, p: int, rows: int) -> int:
    """Turn the first p columns (rows of the array) to upper triangular form; return its rows."""
    reached = min(p, rows)
    for j in range(reached):
        square = 0.0
        for k in range(j, rows):
            square += columns[j, k] ** 2
        norm = math.sqrt(square)
        if norm == 0.0:
            continue
        head = columns[j, j]
        diagonal = -norm if head > 0.0 else norm
        # v = x - diagonal e_1, and v·v / 2 without cancellation.
        columns[j, j] = head - diagonal
        half = norm * (norm + abs(head))
        for i in range(j + 1, p):
            along = 0.0
            for k in range(j, rows):
                along += columns[j, k] * columns[i, k]
            along /= half
            for k in range(j, rows):
                columns[i, k] -= along * columns[j, k]
        columns[j, j] = diagonal
        for k in range(j + 1, rows):
            columns[j, k] = 0.0
    return reached


@inline
def singular_values(columns: Floats, p: int, rows: int, v_out: Floats, s_out: Floats) -> None:
    """Write the singular values, in no order, and the right singular vectors as rows of v.

    The columns (rows of the array, the first p of them and of their entries the first ``rows``) are
    overwritten.
    """
    reached = triangle(columns, p, rows)
    for i in range(p):
        for j in range(p):
            v_out[i, j] = 1.0 if i == j else 0.0
    for _ in range(SWEEPS):
        turned = False
        for i in range(p - 1):
            for j in range(i + 1, p):
                alpha, beta, gamma = 0.0, 0.0, 0.0
                for k in range(reached):
                    a, b = columns[i, k], columns[j, k]
                    alpha += a * a
                    beta += b * b
                    gamma += a * b
                if not (abs(gamma) > ORTHOGONAL * math.sqrt(alpha) * math.sqrt(beta)):
                    continue
                turned = True
                zeta = (beta - alpha) / (2.0 * gamma)
                t = 1.0 / (abs(zeta) + math.sqrt(1.0 + zeta * zeta))
                if zeta < 0.0:
                    t = -t
                c = 1.0 / math.sqrt(1.0 + t * t)
                s = c * t
                for k in range(reached):
                    a, b = columns[i, k], columns[j, k]
                    columns[i, k] = c * a - s * b
                    columns[j, k] = s * a + c * b
                for k in range(p):
                    a, b = v_out[i, k], v_out[j, k]
                    v_out[i, k] = c * a - s * b
                    v_out[j, k] = s * a + c * b
        if not turned:
            break
    for i in range(p):
        square = 0.0
        for k in range(reached):
            square += columns[i, k] ** 2
        s_out[i] = math.sqrt(square)
