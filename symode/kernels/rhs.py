"""The right-hand side of the loop: a field, a field with tangents, or an adjoint equation."""

from __future__ import annotations

from symode.kernels.call import call_field, call_product
from symode.kernels.dense import trajectory_at
from symode.kernels.jit import by_type, inline
from symode.kernels.types import (
    ADJOINTS,
    BLOCK,
    JVP,
    NFEV,
    RHS,
    SLOPES,
    VJP,
    Adjoint,
    Field,
    Floats,
    Scratch,
    System,
    Tangents,
)


@inline
def evaluate_field(
    system: System, t: float, y: Floats, scratch: Scratch, k_out: Floats, row: int
) -> None:
    """Write f(z, t) into the first n places of one row of stages; y starts with z."""
    scratch.count[NFEV] += 1
    call_field(
        system.address[RHS],
        t,
        y,
        0,
        system.p,
        0,
        scratch.work,
        0,
        k_out,
        row * k_out.shape[1],
    )


@inline
def _tangents(
    system: Tangents, t: float, y: Floats, scratch: Scratch, k_out: Floats, row: int
) -> None:
    evaluate_field(system, t, y, scratch, k_out, row)
    push_all(system, t, y, y, scratch, k_out, row)


@inline
def push_all(
    system: Tangents, t: float, z: Floats, x: Floats, scratch: Scratch, k_out: Floats, row: int
) -> None:
    """Write the Jacobian-vector product along each tangent in x behind the first n of a row."""
    n, m, count, width = system.n, system.m, system.directions.shape[0], system.width
    o = row * k_out.shape[1]
    if width == 0:
        for j in range(count):
            start = n * (j + 1)
            for i in range(n):
                scratch.v[i] = x[start + i]
            for i in range(m):
                scratch.v[n + i] = system.directions[j, i]
            push(system, t, z, scratch, k_out, o + start)
        return
    j = 0
    while True:
        at = n * (j + 1)
        call_product(
            system.address[BLOCK], t, z, 0, system.p, 0, x, at, scratch.work, 0, k_out, o + at
        )
        j += width
        if j >= count:
            break
        # The last block overlaps the one before it.
        j = min(j, count - width)
    if system.rows.size > 0:
        call_field(system.address[SLOPES], t, z, 0, system.p, 0, scratch.work, 0, scratch.out, 0)
        for e in range(system.rows.size):
            k_out[row, n * (system.cols[e] + 1) + system.rows[e]] += scratch.out[e]


@inline
def push(system: System, t: float, z: Floats, scratch: Scratch, k_out: Floats, offset: int) -> None:
    """Write the Jacobian-vector product along scratch.v."""
    call_product(
        system.address[JVP],
        t,
        z,
        0,
        system.p,
        0,
        scratch.v,
        0,
        scratch.work,
        0,
        k_out,
        offset,
    )


@inline
def _adjoint(
    system: Adjoint, t: float, y: Floats, scratch: Scratch, k_out: Floats, row: int
) -> None:
    scratch.count[NFEV] += 1
    trajectory_at(t, system, scratch)
    call_product(
        system.address[VJP],
        t,
        scratch.z,
        0,
        system.p,
        0,
        y,
        0,
        scratch.work,
        0,
        k_out,
        row * k_out.shape[1],
    )
    for i in range(system.n + system.m):
        k_out[row, i] = -k_out[row, i]


@by_type(
    0,
    {
        Field: evaluate_field,
        Tangents: _tangents,
        **dict.fromkeys(ADJOINTS, _adjoint),
    },
)
def evaluate(
    system: System, t: float, y: Floats, scratch: Scratch, k_out: Floats, row: int
) -> None:
    r"""Write dy/dt into one row of stages.

    For a Field it is f; for Tangents also :math:`\nabla_{§1} f\,S_j + \nabla_{§3} f\,d_j` for each
    direction j; for an adjoint :math:`-(\nabla_{§1} f)^\top\lambda` and
    :math:`-(\nabla_{§3} f)^\top\lambda` at the stored z(t).
    """
    raise NotImplementedError
