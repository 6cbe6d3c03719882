r"""Whole steps of a Rosenbrock method behind one address, see `symode.symbolic.fused_step`.

They serve small models, and states without tangents. Where the kernel says that its factors are
bad, or where there is none, the step is made of the general kernels.
"""

from __future__ import annotations

from symode.kernels.call import call_product
from symode.kernels.jit import by_type, inline
from symode.kernels.rosenbrock import evaluate_jacobian, step_rosenbrock
from symode.kernels.types import (
    ADJOINTS,
    NFEV,
    NJEV,
    NLU,
    PATIENCE,
    PIVOTED,
    STEP,
    STEP_T,
    Field,
    Floats,
    Rosenbrock,
    Scratch,
    System,
    Tangents,
)


@inline
def _count(method: Rosenbrock, scratch: Scratch, evaluations: int) -> None:
    scratch.count[NFEV] += evaluations
    scratch.count[NJEV] += 1
    scratch.count[NLU] += 1
    scratch.count[PIVOTED] = 0


def _step_field(method: Rosenbrock, system: Field, t: float, h: float, scratch: Scratch) -> bool:
    address = system.address[STEP]
    if address == 0:
        return False
    n, stages, k = system.n, method.n_stages, scratch.k
    scratch.shift[0] = h
    call_product(
        address, t, scratch.y, 0, system.p, 0, scratch.shift, 0, scratch.work, 0, k, 0
    )  # fmt: skip
    if k[stages + 1, 0] != 0.0:
        return False
    for i in range(n):
        scratch.new[i] = k[stages, i]
    if scratch.count[PATIENCE] != 0:
        # The tests for switching read it.
        evaluate_jacobian(system, t, scratch.y, scratch)
        scratch.count[NJEV] -= 1
    _count(method, scratch, stages)
    return True


def _step_none(method: Rosenbrock, system: System, t: float, h: float, scratch: Scratch) -> bool:
    return False


@by_type(
    1,
    {
        Field: _step_field,
        Tangents: _step_none,
        **dict.fromkeys(ADJOINTS, _step_none),
    },
)
def step_fused(method: Rosenbrock, system: System, t: float, h: float, scratch: Scratch) -> bool:
    """Make all stages and the new state by one kernel; False where that has to be done otherwise.

    Writes what `step_rosenbrock` writes, but for the factors.
    """
    raise NotImplementedError


@inline
def step_whole(method: Rosenbrock, system: System, t: float, h: float, scratch: Scratch) -> bool:
    """Make all stages and the new state; return whether the matrix was regular."""
    if step_fused(method, system, t, h, scratch):
        return True
    return step_rosenbrock(method, system, t, h, scratch)


def _back_field(
    method: Rosenbrock, system: Field, t: float, h: float, u: Floats, z: Floats, scratch: Scratch,
    lam: Floats, theta: Floats,
) -> bool:  # fmt: skip
    address = system.address[STEP_T]
    if address == 0:
        return False
    n, m, stages, k, out = system.n, system.m, method.n_stages, scratch.k, scratch.out
    for i in range(n):
        k[stages, i] = scratch.z[i]
        k[stages + 1, i] = z[i]
        k[stages + 2, i] = lam[i]
    k[stages + 3, 0] = h
    call_product(address, t, u, 0, system.p, 0, k, 0, scratch.work, 0, out, 0)
    if out[n + m] != 0.0:
        return False
    for i in range(n):
        lam[i] = out[i]
    for i in range(m):
        theta[i] += out[n + i]
    _count(method, scratch, 0)
    return True


def _back_none(
    method: Rosenbrock, system: System, t: float, h: float, u: Floats, z: Floats, scratch: Scratch,
    lam: Floats, theta: Floats,
) -> bool:  # fmt: skip
    return False


@by_type(
    1,
    {
        Field: _back_field,
        Tangents: _back_none,
        **dict.fromkeys(ADJOINTS, _back_none),
    },
)
def back_fused(
    method: Rosenbrock, system: System, t: float, h: float, u: Floats, z: Floats, scratch: Scratch,
    lam: Floats, theta: Floats,
) -> bool:  # fmt: skip
    """Carry lam over one stored step by one kernel; False where that has to be done otherwise.

    The seeds of the stages are in scratch.k and that of z in scratch.z, and stay there.
    """
    raise NotImplementedError
