"""Bosh3: the 3(2) pair of Bogacki and Shampine, for loose tolerances and rough right-hand sides."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from symode.solvers.tableau import ExplicitTableau, nested_dense

A = [
    [0.0, 0.0, 0.0, 0.0],
    [1 / 2, 0.0, 0.0, 0.0],
    [0.0, 3 / 4, 0.0, 0.0],
    [2 / 9, 1 / 3, 4 / 9, 0.0],
]
C = [0.0, 1 / 2, 3 / 4, 1.0]
B_HAT = [7 / 24, 1 / 4, 1 / 3, 1 / 8]


@lru_cache(maxsize=1)
def load() -> ExplicitTableau:
    """Return the tableau of Bosh3, with the cubic Hermite interpolant.

    Examples
    --------
    >>> load()
    ExplicitTableau('bosh3', order 3(2), 4 stages)
    """
    a = np.array(A)
    b = a[3]
    first, last = np.eye(4)[[0, 3]]
    return ExplicitTableau(
        name="bosh3",
        order=3,
        embedded_order=2,
        a=a,
        b=b,
        c=np.array(C),
        e=(b - B_HAT)[None, :],
        n_stages=4,
        n_dense=4,
        fsal=True,
        dense=nested_dense([b, first - b, 2 * b - first - last], "sts"),
        dense_order=3,
        stability=2.5127453266183286,
        source="P. Bogacki, L. F. Shampine (1989), A 3(2) pair of Runge-Kutta formulas, "
        "Applied Mathematics Letters 2(4), 321-325",
    )
