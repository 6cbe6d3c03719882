"""ESDIRK4(3)6L[2]SA2: an L-stable method of order 4, for loose tolerances.

Matrix and error weights are published as fractions. The weights are taken five times, with which
the error at a tolerance is that of the methods of order 5 here. No interpolant is published, and
the one here is derived from the matrix. On the Prothero-Robinson problem with stiffness L,
measured: error h**3 / L at the steps, h**4 between them.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np

from symode.solvers.dirk_tableau import DirkTableau, fractions, stage_value_dense

GAMMA = 31 / 125

A = [
    "31/125",
    "-360286518617/7014585480527 *",
    "-506388693497/5937754990171 * 7149918333491/13390931526268",
    "-7628305438933/11061539393788 * 21592626537567/14352247503901 11630056083252/17263101053231",
    "-12917657251/5222094901039 * 5602338284630/15643096342197 9002339615474/18125249312447 "
    "-2420307481369/24731958684496",
]

# Embedded minus propagated weights.
E = [
    "5106873525203549881053916/63280437666689274586070553",
    "5106873525203549881053916/63280437666689274586070553",
    "-25162027003603428150355757/187362381104177276978781327",
    "-4098711186040344850920813/204021751328880889263048263",
    "-2403006641348284599749077/92621941821407359153398928",
    "20990421664717/1109114971657125",
]


@lru_cache(maxsize=1)
def load() -> DirkTableau:
    """Return the tableau of ESDIRK4(3)6L[2]SA2.

    Examples
    --------
    >>> load()
    DirkTableau('esdirk43', order 4(3), 6 stages)
    """
    a = fractions(A) + np.diag([0.0] + [GAMMA] * 5)
    return DirkTableau(
        name="esdirk43",
        order=4,
        embedded_order=3,
        a=a,
        c=a.sum(axis=1),
        e=-5.0 * np.array([float(Fraction(entry)) for entry in E]),
        dense=stage_value_dense(a, order=3, stiff_order=3),
        dense_order=3,
        source="C. A. Kennedy & M. H. Carpenter (2019), Diagonally implicit Runge-Kutta methods "
        "for stiff ODEs, Applied Numerical Mathematics 146, 221-244",
    )
