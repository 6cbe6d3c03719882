"""Dopri5: the 5(4) pair of Dormand and Prince, with Shampine's free interpolant."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from symode.solvers.tableau import ExplicitTableau, nested_dense

C = [0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0]

A = [
    [],
    [1 / 5],
    [3 / 40, 9 / 40],
    [44 / 45, -56 / 15, 32 / 9],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
    [35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
]

B_HAT = [5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40]

# The fifth term of the interpolant; the first four are Hermite's.
D = [
    -12715105075 / 11282082432,
    0.0,
    87487479700 / 32700410799,
    -10690763975 / 1880347072,
    701980252875 / 199316789632,
    -1453857185 / 822651844,
    69997945 / 29380423,
]


@lru_cache(maxsize=1)
def load() -> ExplicitTableau:
    """Return the tableau of Dopri5.

    Examples
    --------
    >>> load()
    ExplicitTableau('dopri5', order 5(4), 7 stages)
    """
    a = np.zeros((7, 7))
    for i, row in enumerate(A):
        a[i, : len(row)] = row
    b = a[6]
    first, last = np.eye(7)[[0, 6]]
    return ExplicitTableau(
        name="dopri5",
        order=5,
        embedded_order=4,
        a=a,
        b=b,
        c=np.array(C),
        e=(b - B_HAT)[None, :],
        n_stages=7,
        n_dense=7,
        fsal=True,
        dense=nested_dense([b, first - b, 2 * b - first - last, D], "stst"),
        dense_order=4,
        stability=3.3065678926349453,
        source="J. R. Dormand, P. J. Prince (1980), A family of embedded Runge-Kutta formulae, "
        "J. Comput. Appl. Math. 6, 19-26; interpolant: Hairer, Nørsett & Wanner (1993), "
        "Solving Ordinary Differential Equations I, section II.6 and code DOPRI5",
    )
