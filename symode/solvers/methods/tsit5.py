"""Tsit5: the 5(4) pair of Tsitouras, the usual choice for non-stiff problems.

The digits beyond those printed in the paper agree with OrdinaryDiffEq.jl (MIT licence).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from symode.solvers.tableau import ExplicitTableau

C = [0.0, 0.161, 0.327, 0.9, 0.98002554090450969, 1.0, 1.0]

A = [
    [],
    [0.161],
    [-0.0084806554923569885443, 0.33548065549235698854],
    [2.8971530571054934321, -6.3594484899750748431, 4.3622954328695814110],
    [
        5.3258648284392566044,
        -11.748883564062827877,
        7.4955393428898362083,
        -0.092495066361755249257,
    ],
    [
        5.8614554429464200287,
        -12.920969317847109292,
        8.1593678985761586432,
        -0.071584973281400997225,
        -0.028269050394068382909,
    ],
    [
        0.096460766818065229518,
        0.01,
        0.47988965041449957475,
        1.3790085741037418932,
        -3.2900695154360806799,
        2.3247105240997739824,
    ],
]

B_HAT = [
    0.094680755765839458075,
    0.0091835655403432530968,
    0.48777052842476157079,
    1.2342975669304789857,
    -2.7077123499835254549,
    1.8666284181705870358,
    1 / 66,
]

# Row i: coefficients of s, s**2, s**3, s**4 in b_i(s).
DENSE = [
    [1.0, -2.7637061972748259113, 2.9132554618219127438, -1.0530884977290216],
    [0.0, 0.1317, -0.2234, 0.1017],
    [0.0, 3.9302962368947515285, -5.9410338721315047347, 2.490627285651252793],
    [0.0, -12.411077166933676984, 30.338188630282321598, -16.54810288924490272],
    [0.0, 37.509313416511039195, -88.178904894766401101, 47.37952196281928122],
    [0.0, -27.896526289197287806, 65.091894674793671526, -34.87065786149660974],
    [0.0, 1.5, -4.0, 2.5],
]


@lru_cache(maxsize=1)
def load() -> ExplicitTableau:
    """Return the tableau of Tsit5.

    Examples
    --------
    >>> load()
    ExplicitTableau('tsit5', order 5(4), 7 stages)
    """
    a = np.zeros((7, 7))
    for i, row in enumerate(A):
        a[i, : len(row)] = row
    return ExplicitTableau(
        name="tsit5",
        order=5,
        embedded_order=4,
        a=a,
        b=a[6],
        c=np.array(C),
        e=(a[6] - B_HAT)[None, :],
        n_stages=7,
        n_dense=7,
        fsal=True,
        dense=np.array(DENSE),
        dense_order=4,
        stability=3.506846993804954,
        source="Ch. Tsitouras (2011), Runge-Kutta pairs of order 5(4) satisfying only the first "
        "column simplifying assumption, Computers & Mathematics with Applications 62, 770-775",
    )
