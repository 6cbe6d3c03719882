"""Radau IIA with 7 stages: order 13, L-stable, for stiff problems at tight tolerances."""

from __future__ import annotations

from functools import lru_cache

from symode.solvers.collocation import CollocationTableau, radau_iia


@lru_cache(maxsize=1)
def load() -> CollocationTableau:
    """Return the tableau.

    Examples
    --------
    >>> load()
    CollocationTableau('radau13', order 13(7), 7 stages)
    """
    return radau_iia(
        "radau13",
        7,
        "E. Hairer and G. Wanner (1999), Stiff differential equations solved by Radau methods, "
        "Journal of Computational and Applied Mathematics 111, 93-111",
    )
