"""Every observation of a loss by itself: its value and direct derivatives, not their sum."""

from __future__ import annotations

from symode.kernels.call import call_product
from symode.kernels.jit import inline, kernel
from symode.kernels.types import OBSERVE, Floats, LossTable, Observations, Scratch, System


@inline
def observe_one(
    system: System, observations: Observations, loss: LossTable, scratch: Scratch, k: int
) -> None:
    """Write one observation and its derivatives to scratch.out."""
    call_product(
        system.address[OBSERVE + loss.group[k]],
        observations.t[k],
        observations.y,
        k * observations.y.shape[1],
        system.p,
        0,
        loss.data,
        k * loss.data.shape[1],
        scratch.work,
        0,
        scratch.out,
        0,
    )


@kernel
def observe(
    system: System,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    values_out: Floats,
    dtheta_out: Floats,
) -> None:
    r"""Set the values :math:`\ell_k`, and of each observation its ∂l/∂z, ∂l/∂theta and ∂l/∂t.

    ∂l/∂z goes to ``loss.seeds``, ∂l/∂t to ``loss.times``.
    Shapes: ``values_out (K,)``, ``dtheta_out (K, m)``; K in the order of the solve.
    """
    n, m, out = system.n, system.m, scratch.out
    for k in range(observations.t.size):
        observe_one(system, observations, loss, scratch, k)
        values_out[k] = out[0]
        for i in range(n):
            loss.seeds[k, i] = out[1 + i]
        for i in range(m):
            dtheta_out[k, i] = out[1 + n + i]
        loss.times[k] = out[1 + n + m]
