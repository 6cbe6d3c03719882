"""Seeds of observations inside one step, on the way back."""

from __future__ import annotations

from symode.kernels.dense import interpolant_weights
from symode.kernels.jit import inline
from symode.kernels.types import (
    FIRST_OBS,
    NEXT_OBS,
    Floats,
    LossTable,
    Method,
    Observations,
    Scratch,
)


@inline
def seed_step(
    method: Method,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    step: int,
    h: float,
    lam: Floats,
    base: Floats,
    bar: Floats,
) -> None:
    """Take in the observations of a step: one at its end into lam, others through the interpolant.

    The interpolant is transposed into ``base``, the adjoint of z at the step's start, and ``bar``,
    those of its stages.
    """
    n, count = lam.size, scratch.count
    while count[NEXT_OBS] > count[FIRST_OBS] and observations.step[count[NEXT_OBS] - 1] == step:
        o = count[NEXT_OBS] - 1
        if observations.s[o] == 1.0:
            for i in range(n):
                lam[i] += loss.seeds[o, i]
        else:
            interpolant_weights(method, observations.s[o], h, scratch.weights)
            for i in range(n):
                base[i] += loss.seeds[o, i]
            for s in range(method.n_dense):
                for i in range(n):
                    bar[s, i] += scratch.weights[s] * loss.seeds[o, i]
        count[NEXT_OBS] = o
