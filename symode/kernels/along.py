"""Explicit steps of an adjoint equation along a trajectory, as a function of their own.

Inlined into the adaptive loop, the stages would share its registers with a hundred arrays and take
longer to find their operands than to add them: this function takes the few arrays it needs.
"""

from __future__ import annotations

from symode.kernels.call import call_product
from symode.kernels.combine import combine, combine_weights
from symode.kernels.dense import find_step, polynomial_at
from symode.kernels.jit import apart, inline
from symode.kernels.types import (
    CURSOR,
    FSAL_READY,
    NFEV,
    VJP,
    Z_AT,
    Erk,
    ErkAdjoint,
    Floats,
    Ints,
    Scratch,
)


@inline
def _slope(
    t: float, address: int, p: Floats, work: Floats, past_t: Floats, past_h: Floats,
    past_z: Floats, past_k: Floats, n_past: int, degree: int, y: Floats, z: Floats, size: int,
    clock: Floats, count: Ints, k: Floats, row: int,
) -> None:  # fmt: skip
    """Write minus the product of lam in y with the derivatives of f at the stored z(t)."""
    count[NFEV] += 1
    # The last stages of most methods share their time.
    if clock[Z_AT] != t:
        i = find_step(t, past_t, n_past, count[CURSOR])
        count[CURSOR] = i
        s = (t - past_t[i]) / past_h[i]
        polynomial_at(past_z[i], past_k[i], s, degree, z.size, z)
        clock[Z_AT] = t
    call_product(address, t, z, 0, p, 0, y, 0, work, 0, k, row * k.shape[1])
    for i in range(size):
        k[row, i] = -k[row, i]


@apart
def _stages(
    t: float, h: float, a: Floats, b: Floats, c: Floats, n_stages: int, fsal: bool, ready: bool,
    address: int, p: Floats, work: Floats, past_t: Floats, past_h: Floats, past_z: Floats,
    past_k: Floats, n_past: int, degree: int, y: Floats, stage: Floats, new: Floats, k: Floats,
    z: Floats, clock: Floats, count: Ints,
) -> None:  # fmt: skip
    size, lam = y.size, y[: z.size]
    for s in range(1 if ready else 0, n_stages - 1 if fsal else n_stages):
        x = stage
        if s == 0:
            x = y
        else:
            combine(lam, h, a, s, s, k, stage)
        _slope(
            t + c[s] * h, address, p, work, past_t, past_h, past_z, past_k, n_past, degree, x, z,
            size, clock, count, k, s,
        )  # fmt: skip
    if not fsal:
        combine_weights(y, h, b, n_stages, k, new)
        return
    last = n_stages - 1
    combine(y, h, a, last, last, k, new)
    _slope(
        t + h, address, p, work, past_t, past_h, past_z, past_k, n_past, degree, new, z, size,
        clock, count, k, last,
    )  # fmt: skip


@inline
def step_along(method: Erk, system: ErkAdjoint, t: float, h: float, scratch: Scratch) -> None:
    """Make all stages that are not there yet, and the new state."""
    past, count = system.past, scratch.count
    _stages(
        t, h, method.a, method.b, method.c, method.n_stages, method.fsal, count[FSAL_READY] != 0,
        system.address[VJP], system.p, scratch.work, past.t, past.h, past.z, past.k,
        system.n_past, system.past_method.dense.shape[1], scratch.y, scratch.stage, scratch.new,
        scratch.k, scratch.z[: system.n], scratch.clock, count,
    )  # fmt: skip
    count[FSAL_READY] = 1
