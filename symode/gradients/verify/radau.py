r"""Radau collocation of any number of stages in many digits.

The polynomial u of degree s through z at the start of a step satisfies the equations at the zeros
:math:`c_i` of :math:`P_s - P_{s-1}`, the end among them:

.. math:: \frac1h \sum_j D_{ij} Z_j = f(t + c_i h, z + Z_i), \qquad D = A^{-1}.

D differentiates on the nodes :math:`0, c_1, \dots, c_s`. The values at the end are of order
2 s - 1, those between of order s + 1; the method is L-stable.

References
----------
Hairer & Wanner (1996), *Solving Ordinary Differential Equations II*, section IV.5; the barycentric
formulas are those of Berrut & Trefethen (2004), *SIAM Review* 46, 501-517.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from symode.gradients.verify.series import number

Numbers = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Radau:
    """Coefficients of one number of stages, as decimals.

    Parameters
    ----------
    c
        Nodes in (0, 1]. Shape ``(s,)``.
    inverse
        D. Shape ``(s, s)``.
    tail
        Rows that make the last two Legendre coefficients of u' of its values. Shape ``(2, s)``.
    weights
        Barycentric weights of the nodes 0, c. Shape ``(s + 1,)``.
    """

    c: Numbers
    inverse: Numbers
    tail: Numbers
    weights: Numbers

    def at(self, s: Decimal) -> Numbers:
        """Return the weights of the increments in u - z at a fraction of the step. Shape (s,)."""
        nodes = [Decimal(0), *self.c]
        if s in nodes:
            return np.array([Decimal(int(s == c)) for c in self.c], dtype=object)
        terms = [w / (s - c) for w, c in zip(self.weights, nodes, strict=True)]
        total = sum(terms)
        return np.array([term / total for term in terms[1:]], dtype=object)


@lru_cache(maxsize=8)
def radau(stages: int, digits: int) -> Radau:
    """Return the method of these stages; the current decimal precision must be that of digits.

    Examples
    --------
    >>> [round(float(c), 6) for c in radau(3, 30).c]
    [0.155051, 0.644949, 1.0]
    """
    from scipy.special import roots_jacobi

    mp = mpmath.MPContext()
    mp.dps = digits + 10
    # In x = 2 c - 1 the inner nodes are the zeros of a Jacobi polynomial: doubles, then Newton.
    inner = []
    for x in roots_jacobi(stages - 1, 1.0, 0.0)[0] if stages > 1 else []:
        x = mp.mpf(float(x))
        for _ in range(8):
            p, dp = _radau_polynomial(mp, stages, x)
            x -= p / dp
        inner.append((x + 1) / 2)
    nodes = [mp.mpf(0), *inner, mp.mpf(1)]
    weights = []
    for i, a in enumerate(nodes):
        product = mp.mpf(1)
        for j, b in enumerate(nodes):
            if j != i:
                product *= 4 * (a - b)  # 4: nodes of an interval of length 1 neither grow nor fade
        weights.append(1 / product)
    size = range(1, stages + 1)
    matrix = [
        [
            (weights[j] / weights[i]) / (nodes[i] - nodes[j])
            if j != i
            else sum(1 / (nodes[i] - nodes[k]) for k in range(stages + 1) if k != i)
            for j in size
        ]
        for i in size
    ]
    tail = [
        [(2 * k + 1) * _weight(mp, stages, nodes[i]) * _legendre(mp, k, 2 * nodes[i] - 1)[k]
         for i in size]
        for k in (stages - 2, stages - 1)
    ]  # fmt: skip
    table = np.vectorize(number, otypes=[object])
    return Radau(
        table(np.array(nodes[1:], dtype=object)), table(np.array(matrix, dtype=object)),
        table(np.array(tail, dtype=object)), table(np.array(weights, dtype=object)),
    )  # fmt: skip


def _legendre(mp: Any, n: int, x: Any) -> list[Any]:
    """Return the Legendre polynomials up to degree n at x."""
    values = [mp.mpf(1), x]
    for k in range(1, n):
        values.append(((2 * k + 1) * x * values[k] - k * values[k - 1]) / (k + 1))
    return values


def _radau_polynomial(mp: Any, s: int, x: Any) -> tuple[Any, Any]:
    """Return (P_s - P_{s-1}) / (x - 1) and its derivative."""
    p = _legendre(mp, s, x)
    slope = [s * (p[s - 1] - x * p[s]) / (1 - x * x),
             (s - 1) * ((p[s - 2] if s > 1 else 0) - x * p[s - 1]) / (1 - x * x)]  # fmt: skip
    value = (p[s] - p[s - 1]) / (x - 1)
    return value, (slope[0] - slope[1] - value) / (x - 1)


def _weight(mp: Any, s: int, c: Any) -> Any:
    """Return the quadrature weight of a node, on [0, 1]."""
    x = 2 * c - 1
    if x == 1:
        return mp.mpf(1) / s**2
    return (1 + x) / (2 * (s * _legendre(mp, s, x)[s - 1]) ** 2)
