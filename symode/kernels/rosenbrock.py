r"""One step of a Rosenbrock method, in the variables of the W-transformed form.

.. math::
    \left(\tfrac{1}{h\gamma} I - J\right) U_i = g\Bigl(t + \alpha_i h, y + \sum_{j<i} a_{ij} U_j\Bigr)
        + \sum_{j<i} \tfrac{C_{ij}}{h} U_j + h\,d_i\, g_t, \qquad y^+ = y + \sum_i m_i U_i

Hairer & Wanner (1996), *Solving ODEs II*, eq. IV.7.25. The three kinds of state share one matrix:
tangents obey the same step differentiated (with the derivative of J along the tangent), and the
adjoint equation has the Jacobian :math:`(-J^\top, 0; -(\nabla_{§3} f)^\top, 0)`.
"""

from __future__ import annotations

from symode.kernels import lu
from symode.kernels.call import call_field, call_product
from symode.kernels.dense import trajectory_at, trajectory_slope
from symode.kernels.jit import inline
from symode.kernels.rhs import evaluate
from symode.kernels.types import (
    ADJOINT,
    DJAC,
    JAC,
    JVP,
    NFEV,
    NJEV,
    NLU,
    SECOND,
    VJP,
    Floats,
    Method,
    Scratch,
    Store,
    System,
)


@inline
def form_matrix(system: System, diagonal: float, sign: float, scratch: Scratch) -> bool:
    """Factor ``diagonal * I + sign * J``; return whether it is regular."""
    n = system.n
    for i in range(n):
        for j in range(n):
            scratch.lu[i, j] = 0.0
        scratch.lu[i, i] = diagonal
    for e in range(system.rows.size):
        scratch.lu[system.rows[e], system.cols[e]] += sign * scratch.jac[e]
    scratch.count[NLU] += 1
    return lu.factor(scratch.lu, scratch.pivots, n)


@inline
def evaluate_jacobian(system: System, t: float, z: Floats, scratch: Scratch) -> None:
    """Write the Jacobian values and f_t into scratch.jac."""
    scratch.count[NJEV] += 1
    call_field(
        system.address[JAC], t, z, 0, system.p, 0, scratch.work, 0, scratch.jac, 0
    )


@inline
def step_rosenbrock(
    method: Method,
    system: System,
    t: float,
    h: float,
    scratch: Scratch,
    past_method: Method,
    past: Store,
    n_past: int,
) -> bool:
    """Make all stages and the new state; return whether the matrix was regular."""
    n, nnz = system.n, system.rows.size
    y, k, stage = scratch.y, scratch.k, scratch.stage
    size = y.size
    flat = k.reshape(k.size)
    if system.kind == ADJOINT:
        i_step, s = trajectory_at(t, past_method, past, n_past, n, scratch)
        evaluate_jacobian(system, t, scratch.z, scratch)
        if not form_matrix(system, 1.0 / (h * method.gamma), 1.0, scratch):
            return False
        # g_t = -(dJ/dt)^T lam and its parameter part: the second-order kernel along zdot.
        trajectory_slope(i_step, s, past_method, past, n, scratch)
        for e in range(nnz):
            scratch.v[e] = y[system.rows[e]] * scratch.zdot[system.cols[e]]
        for i in range(n):
            scratch.v[nnz + i] = y[i]
        call_second(system, t, scratch.z, scratch)
        for i in range(size):
            scratch.new[i] = -scratch.out[i]
        # The stages overwrite scratch.z; from here on zdot keeps the state at the step's start.
        for i in range(n):
            scratch.zdot[i] = scratch.z[i]
    else:
        evaluate_jacobian(system, t, y, scratch)
        if not form_matrix(system, 1.0 / (h * method.gamma), -1.0, scratch):
            return False
        for i in range(n):
            scratch.new[i] = scratch.jac[nnz + i]
    # scratch.new holds g_t until the stages are made.
    for i in range(method.n_stages):
        for j in range(size):
            stage[j] = y[j]
        for l in range(i):  # noqa: E741
            w = method.a[i, l]
            if w != 0.0:
                for j in range(size):
                    stage[j] += w * k[l, j]
        t_stage = t + method.c[i] * h
        if system.kind == SENSITIVITY:
            _field_stage(system, t_stage, scratch, i)
        else:
            evaluate(system, t_stage, stage, scratch, k, i, past_method, past, n_past)
        active = n if system.kind == SENSITIVITY else size
        for l in range(i):  # noqa: E741
            w = method.coupling[i, l] / h
            if w != 0.0:
                for j in range(active):
                    k[i, j] += w * k[l, j]
        w = h * method.d[i]
        for j in range(active):
            k[i, j] += w * scratch.new[j]
        if system.kind == ADJOINT:
            lu.solve_transposed(scratch.lu, scratch.pivots, n, flat, i * size)
            _adjoint_parameters(method, system, t, h, scratch, i)
        else:
            lu.solve(scratch.lu, scratch.pivots, n, flat, i * size)
    if system.kind == SENSITIVITY:
        _tangent_stages(method, system, t, h, scratch)
    for j in range(size):
        total = y[j]
        for i in range(method.n_stages):
            total += method.b[i] * k[i, j]
        scratch.new[j] = total
    return True


@inline
def call_second(system: System, t: float, z: Floats, scratch: Scratch) -> None:
    """Contract second derivatives with scratch.v into scratch.out."""
    call_product(
        system.address[SECOND],
        t,
        z,
        0,
        system.p,
        0,
        scratch.v,
        0,
        scratch.work,
        0,
        scratch.out,
        0,
    )


@inline
def _field_stage(system: System, t: float, scratch: Scratch, i: int) -> None:
    flat = scratch.k.reshape(scratch.k.size)
    scratch.count[NFEV] += 1
    call_field(
        system.address[0],
        t,
        scratch.stage,
        0,
        system.p,
        0,
        scratch.work,
        0,
        flat,
        i * scratch.k.shape[1],
    )


@inline
def _adjoint_parameters(
    method: Method, system: System, t: float, h: float, scratch: Scratch, i: int
) -> None:
    """Solve the rows of mu, whose Jacobian is -(∇§3 f)ᵀ against lam and nothing else."""
    n, m, k = system.n, system.m, scratch.k
    flat = k.reshape(k.size)
    offset = i * k.shape[1]
    call_product(
        system.address[VJP],
        t,
        scratch.zdot,
        0,
        system.p,
        0,
        flat,
        offset,
        scratch.work,
        0,
        scratch.out,
        0,
    )
    for j in range(n, n + m):
        k[i, j] = h * method.gamma * (k[i, j] - scratch.out[j])


@inline
def _tangent_stages(
    method: Method, system: System, t: float, h: float, scratch: Scratch
) -> None:
    r"""Differentiate the step: with (f_zz S + f_zθ d) U, sharing the factorization keeps order."""
    n, m, nnz = system.n, system.m, system.rows.size
    y, k, v = scratch.y, scratch.k, scratch.v
    flat = k.reshape(k.size)
    size = y.size
    for d in range(system.directions.shape[0]):
        o = n * (d + 1)
        for j in range(n):
            v[j] = y[o + j]
        for j in range(m):
            v[n + j] = system.directions[d, j]
        call_product(
            system.address[DJAC], t, y, 0, system.p, 0, v, 0, scratch.work, 0, scratch.out, 0
        )
        for i in range(method.n_stages):
            for j in range(n):
                scratch.stage[j] = y[j]
                v[j] = y[o + j]
            for l in range(i):  # noqa: E741
                w = method.a[i, l]
                if w != 0.0:
                    for j in range(n):
                        scratch.stage[j] += w * k[l, j]
                        v[j] += w * k[l, o + j]
            call_product(
                system.address[JVP],
                t + method.c[i] * h,
                scratch.stage,
                0,
                system.p,
                0,
                v,
                0,
                scratch.work,
                0,
                flat,
                i * size + o,
            )
            for l in range(i):  # noqa: E741
                w = method.coupling[i, l] / h
                if w != 0.0:
                    for j in range(n):
                        k[i, o + j] += w * k[l, o + j]
            w = h * method.d[i]
            for j in range(n):
                k[i, o + j] += w * scratch.out[nnz + j]
            for e in range(nnz):
                k[i, o + system.rows[e]] += scratch.out[e] * k[i, system.cols[e]]
            lu.solve(scratch.lu, scratch.pivots, n, flat, i * size + o)


