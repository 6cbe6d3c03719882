"""How many steps of an explicit solve were held down by stability, told by what it has stored."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from symode.solvers.segments import PATIENCE, Segment, can_watch, stiff_from
from symode.solvers.tableau import ExplicitTableau

#: Steps at the limit from which a solve is called stiff: as many signs make ``"auto"`` switch.
MANY = PATIENCE[False]
#: Two states closer than this many roundings tell nothing of the slope between them.
ROUNDING = 2e-14


def steps_at_limit(
    segments: Iterable[Segment], states: int, rtol: float, atol: NDArray[np.float64]
) -> int:
    r"""Return the number of stored steps whose :math:`|h|\rho(J)` is at the method's limit.

    The two last slopes at t + h estimate it, as in `symode.kernels.stiffness`. Methods without two
    such slopes, and implicit ones, count 0.

    Parameters
    ----------
    segments
        A solve whose steps are kept.
    states
        Leading components that tell.
    rtol, atol
        Its tolerances; atol of shape ``(states,)`` or longer.
    """
    found = 0
    for segment in segments:
        tableau, store, count = segment.stepper.tableau, segment.store, segment.steps
        if not isinstance(tableau, ExplicitTableau) or not can_watch(tableau) or not count:
            continue
        last = tableau.n_stages - 1
        k, z = store.k[:count, : last + 1, :states], store.z[: count + 1, :states]
        scale = atol[:states] + rtol * np.maximum(np.abs(z[:-1]), np.abs(z[1:]))
        scale[scale == 0.0] = np.inf
        between = np.einsum("s,csn->cn", (tableau.a[last] - tableau.a[last - 1])[: last + 1], k)
        apart = np.linalg.norm(between / scale, axis=1)
        slopes = np.linalg.norm((k[:, last] - k[:, last - 1]) / scale, axis=1)
        limit = stiff_from(rtol) * tableau.stability
        clear = np.abs(store.h[:count]) * apart > ROUNDING / rtol
        found += int(np.count_nonzero(clear & (slopes > limit * apart)))
    return found
