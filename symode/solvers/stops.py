"""Stops: a solve that ends a step wherever an input jumps or has a kink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from symode.kernels import types as kt
from symode.status import SUCCESS

if TYPE_CHECKING:
    from symode.solvers.forward import Forward

#: Steps a segment's store holds before it first grows.
STORE: Final = 8


def run_over_stops(forward: Forward) -> int:
    """Advance to the end with a segment of its own between neighbouring stops; return the status.

    A table has at a corner the value before it. So a segment ends at the corner itself, and the
    next one starts at the next number after it: no stage sees the other side of a jump.
    """
    assert forward.stops is not None
    t0, t1 = forward.t, forward.t_end
    stops = forward.stops(forward.system.p)
    # Many short segments: a store grows where one is long.
    forward.capacity = min(forward.capacity, STORE)
    if t1 > t0:
        ends = stops[(stops >= t0) & (stops < t1)]
        starts = np.nextafter(ends, np.inf)
    else:
        starts = stops[(stops >= t1) & (stops < t0)][::-1]
        ends = np.nextafter(starts, np.inf)
    for end, start in zip(ends.tolist(), starts.tolist(), strict=True):
        if end == t0:
            pass_corner(forward, start)
            continue
        forward.aim(end)
        status = forward.go()
        if status != SUCCESS:
            return status
        pass_corner(forward, start)
    forward.aim(t1)
    return forward.go()


def pass_corner(forward: Forward, start: float) -> None:
    """Go on at the other side of a corner, in a segment of its own."""
    if forward.scratch.count[kt.STEPS]:
        forward.split("a corner of an input")
    forward.skip_to(start)
    # The course before a corner says little about the step after it.
    forward.scratch.count[kt.STARTED] = 0
