"""One step of an explicit Runge-Kutta method, for every tableau."""

from __future__ import annotations

from symode.kernels.combine import combine, combine_weights
from symode.kernels.jit import by_type, inline
from symode.kernels.rhs import evaluate
from symode.kernels.types import ADJOINTS, Adjoint, Erk, Field, Scratch, System, Tangents


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
