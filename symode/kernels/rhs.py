"""The right-hand side of the loop: a field, a field with tangents, or an adjoint equation."""

from __future__ import annotations

from symode.kernels.call import call_field, call_product
from symode.kernels.dense import trajectory_at
from symode.kernels.jit import inline
from symode.kernels.types import (
    ADJOINT,
    JVP,
    NFEV,
    RHS,
    SENSITIVITY,
    VJP,
    Floats,
    Method,
    Scratch,
    Store,
    System,
)


@inline
def evaluate(
    system: System,
    t: float,
    y: Floats,
    scratch: Scratch,
    k_out: Floats,
    row: int,
    past_method: Method,
    past: Store,
    n_past: int,
) -> None:
    r"""Write dy/dt into one row of stages.

    For a FIELD it is f; for SENSITIVITY also :math:`\nabla_{§1} f\,S_j + \nabla_{§3} f\,d_j` for each
    direction j; for ADJOINT :math:`-(\nabla_{§1} f)^\top\lambda` and
    :math:`-(\nabla_{§3} f)^\top\lambda` at the stored z(t).
    """
    n, m = system.n, system.m
    offset = row * k_out.shape[1]
    flat = k_out.reshape(k_out.size)
    scratch.count[NFEV] += 1
    if system.kind == ADJOINT:
        trajectory_at(t, past_method, past, n_past, n, scratch)
        call_product(
            system.address[VJP], t, scratch.z, 0, system.p, 0, y, 0, scratch.work, 0, flat, offset
        )
        for i in range(n + m):
            k_out[row, i] = -k_out[row, i]
        return
    call_field(system.address[RHS], t, y, 0, system.p, 0, scratch.work, 0, flat, offset)
    if system.kind == SENSITIVITY:
        for j in range(system.directions.shape[0]):
            start = n * (j + 1)
            for i in range(n):
                scratch.v[i] = y[start + i]
            for i in range(m):
                scratch.v[n + i] = system.directions[j, i]
            call_product(
                system.address[JVP],
                t,
                y,
                0,
                system.p,
                0,
                scratch.v,
                0,
                scratch.work,
                0,
                flat,
                offset + start,
            )
