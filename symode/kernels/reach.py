"""How far a step of the adjoint may reach along the trajectory it was given."""

from __future__ import annotations

from symode.kernels.dense import find_step
from symode.kernels.jit import by_type
from symode.kernels.types import (
    CURSOR,
    Adjoint,
    ChebyshevAdjoint,
    CollocationAdjoint,
    DirkAdjoint,
    ErkAdjoint,
    Field,
    H,
    RosenbrockAdjoint,
    Scratch,
    System,
    T,
    Tangents,
)

#: Steps of the forward pass that one step of lam may pass over. Passes take about as many steps
#: back as forth, so it binds where lam alone would not see what the trajectory does.
REACH = 4


def _free(system: System, scratch: Scratch) -> None:
    pass


def _limited(system: Adjoint, scratch: Scratch) -> None:
    clock, t = scratch.clock, scratch.clock[T]
    times = system.past.t
    i = find_step(t, times, system.n_past, scratch.count[CURSOR])
    # Of the step that ends at t, too.
    if t == times[i] and i > 0:
        i -= 1
    reach = times[max(i - REACH + 1, 0)] - t
    if reach != 0.0 and abs(clock[H]) > abs(reach):
        clock[H] = reach


@by_type(
    0,
    {
        Field: _free,
        Tangents: _free,
        ErkAdjoint: _free,
        RosenbrockAdjoint: _limited,
        DirkAdjoint: _limited,
        CollocationAdjoint: _limited,
        ChebyshevAdjoint: _limited,
    },
)
def limit_reach(system: System, scratch: Scratch) -> None:
    r"""Let the next step of an implicit method pass over a few steps of the forward pass at most.

    With :math:`h \rho(J) \gg 1` such a step sees the driving terms of lam at its own nodes alone,
    and its error estimate is damped: a layer of z next to t0, thin beside h, stays unseen, and
    lam(t0) becomes that of a trajectory that stands still at z0. The forward pass has resolved the
    layer; where it made small steps, so must this one. Explicit steps are as short by stability.
    """
    raise NotImplementedError
