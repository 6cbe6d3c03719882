"""The transpose of stored steps by itself, for passes that hold a few of them at a time."""

from __future__ import annotations

from symode.kernels.gradient import adjoint_steps
from symode.kernels.jit import kernel
from symode.kernels.types import (
    Gradient,
    LossTable,
    Method,
    Observations,
    Scratch,
    Store,
    System,
)


@kernel
def transpose_steps(
    method: Method,
    system: System,
    store: Store,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    gradient: Gradient,
    budget: int,
) -> int:
    """Carry lam back over ``budget`` of the count[LEFT] stored steps; return a status.

    With ``budget == count[LEFT]`` it ends before the first stage is pulled back, which a method
    that takes that stage from the step before leaves to the segment before.
    """
    return adjoint_steps(method, system, store, observations, loss, scratch, gradient, budget)
