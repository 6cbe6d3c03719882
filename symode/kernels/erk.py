"""One step of an explicit Runge-Kutta method, for every tableau."""

from __future__ import annotations

from symode.kernels.combine import SMALL, add_stages
from symode.kernels.jit import by_type, inline
from symode.kernels.rhs import evaluate
from symode.kernels.types import ADJOINTS, Adjoint, Erk, Field, Floats, Scratch, System, Tangents


@inline
def combine(
    y: Floats, h: float, a: Floats, row: int, n_stages: int, k: Floats, out: Floats
) -> None:
    """Write y + h * sum_s a[row, s] * k[s] into out."""
    n = y.size
    if n < SMALL:
        # Short inner loops cost more to start than to run: one per component, not one per stage.
        for i in range(n):
            total = 0.0
            for s in range(n_stages):
                total += a[row, s] * k[s, i]
            out[i] = y[i] + h * total
        return
    # Several stages a pass: with many tangents the passes over out are what costs.
    weights = a[row]
    w0, k0 = h * weights[0], k[0]
    if n_stages == 1:
        for i in range(n):
            out[i] = y[i] + w0 * k0[i]
    elif n_stages == 2:
        w1, k1 = h * weights[1], k[1]
        for i in range(n):
            out[i] = y[i] + w0 * k0[i] + w1 * k1[i]
    else:
        w1, w2, k1, k2 = h * weights[1], h * weights[2], k[1], k[2]
        for i in range(n):
            out[i] = y[i] + w0 * k0[i] + w1 * k1[i] + w2 * k2[i]
        add_stages(weights[3:], h, n_stages - 3, k[3:], n, out)


@inline
def combine_weights(
    y: Floats, h: float, weights: Floats, n_stages: int, k: Floats, out: Floats
) -> None:
    """Write y + h * sum_s weights[s] * k[s] into out."""
    for i in range(y.size):
        total = 0.0
        for s in range(n_stages):
            total += weights[s] * k[s, i]
        out[i] = y[i] + h * total


def _whole(system: System, size: int) -> int:
    return size


def _lam(system: Adjoint, size: int) -> int:
    return system.n


@by_type(0, {Field: _whole, Tangents: _whole, **dict.fromkeys(ADJOINTS, _lam)})
def coupled(system: System, size: int) -> int:
    """Return how many components slopes depend on: mu of an adjoint is in no stage."""
    raise NotImplementedError


@inline
def step_erk(
    method: Erk,
    system: System,
    t: float,
    h: float,
    scratch: Scratch,
) -> None:
    """Make stages 1 to n_stages - 1 and the new state; stage 0 is there already."""
    k, y = scratch.k, scratch.y[: coupled(system, scratch.y.size)]
    last = method.n_stages - 1 if method.fsal else method.n_stages
    for s in range(1, last):
        combine(y, h, method.a, s, s, k, scratch.stage)
        evaluate(system, t + method.c[s] * h, scratch.stage, scratch, k, s)
    if method.fsal:
        combine(scratch.y, h, method.a, last, last, k, scratch.new)
        evaluate(system, t + h, scratch.new, scratch, k, last)
    else:
        combine_weights(scratch.y, h, method.b, last, k, scratch.new)


@inline
def complete_stages(
    method: Erk,
    system: System,
    t: float,
    h: float,
    scratch: Scratch,
) -> None:
    """Make the stages that only the interpolant needs."""
    y = scratch.y[: coupled(system, scratch.y.size)]
    for s in range(method.n_stages, method.n_dense):
        combine(y, h, method.a, s, s, scratch.k, scratch.stage)
        evaluate(system, t + method.c[s] * h, scratch.stage, scratch, scratch.k, s)
