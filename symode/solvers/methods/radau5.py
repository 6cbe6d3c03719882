"""Radau IIA with 3 stages: order 5, L-stable, for stiff problems at tight tolerances."""

from __future__ import annotations

from functools import lru_cache

from symode.solvers.collocation import CollocationTableau, radau_iia


@lru_cache(maxsize=1)
def load() -> CollocationTableau:
    """Return the tableau.

    Examples
    --------
    >>> load()
    CollocationTableau('radau5', order 5(3), 3 stages)
    """
    return radau_iia(
        "radau5",
        3,
        "E. Hairer and G. Wanner (1999), Stiff differential equations solved by Radau methods, "
        "Journal of Computational and Applied Mathematics 111, 93-111",
    )
