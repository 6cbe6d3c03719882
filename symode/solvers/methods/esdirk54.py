"""ESDIRK5(4)8L[2]SAb: an L-stable method of order 5 whose stages are solved one by one.

The matrix is published as fractions. Error weights and interpolant are derived from it. The
published error weights are blind to a kink in the first third of a step, and ten times smaller;
with these the error at a tolerance is that of the other methods of order 5, and a kink is seen
anywhere: at the worst place measured, the error is 10 times the tolerance. No interpolant is
published. On the Prothero-Robinson problem with stiffness L, measured: error h**2 / L at the
steps, h**5 between them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from symode.solvers.dirk_tableau import (
    DirkTableau,
    damped_error_weights,
    fractions,
    stage_value_dense,
)

GAMMA = 2 / 9

A = [
    "2/9",
    "2366667076620/8822750406821 *",
    "-257962897183/4451812247028 * 128530224461/14379561246022",
    "-486229321650/11227943450093 * -225633144460/6633558740617 1741320951451/6824444397158",
    "621307788657/4714163060173 * -125196015625/3866852212004 940440206406/7593089888465 "
    "961109811699/6734810228204",
    "2036305566805/6583108094622 * -3039402635899/4450598839912 -1829510709469/31102090912115 "
    "-286320471013/6931253422520 8651533662697/9642993110008",
    "0 0 3517720773327/20256071687669 4569610470461/17934693873752 2819471173109/11655438449929 "
    "3296210113763/10722700128969 -1142099968913/5710983926999",
]


@lru_cache(maxsize=1)
def load() -> DirkTableau:
    """Return the tableau of ESDIRK5(4)8L[2]SAb.

    Examples
    --------
    >>> load()
    DirkTableau('esdirk54', order 5(4), 8 stages)
    """
    a = fractions(A) + np.diag([0.0] + [GAMMA] * 7)
    return DirkTableau(
        name="esdirk54",
        order=5,
        embedded_order=4,
        a=a,
        c=a.sum(axis=1),
        e=damped_error_weights(a, 4, size=9.6e-3, at_infinity=-0.2),
        dense=stage_value_dense(a, order=4, stiff_order=4),
        dense_order=4,
        source="C. A. Kennedy & M. H. Carpenter (2019), Diagonally implicit Runge-Kutta methods "
        "for stiff ODEs, Applied Numerical Mathematics 146, 221-244",
    )
