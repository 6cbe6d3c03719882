r"""One step of a Rosenbrock method, in the variables of the W-transformed form.

.. math::
    \left(\tfrac{1}{h\gamma} M - J\right) U_i &=
        g\Bigl(t + \alpha_i h, y + \sum_{j<i} a_{ij} U_j\Bigr)
        + M \sum_{j<i} \tfrac{C_{ij}}{h} U_j + h\,d_i\, g_t \\
    y^+ &= y + \sum_i m_i U_i

Hairer & Wanner (1996), *Solving ODEs II*, eq. IV.7.25. The three kinds of state share one matrix:
tangents obey the same step differentiated (with the derivative of J along the tangent), and the
adjoint equation has the Jacobian :math:`(-J^\top, 0; -(\nabla_{§3} f)^\top, 0)`.
"""

from __future__ import annotations

from symode.kernels import linear
from symode.kernels.call import call_field, call_product
from symode.kernels.combine import add_stages
from symode.kernels.dense import trajectory_at, trajectory_slope
from symode.kernels.jit import by_type, inline
from symode.kernels.mass import add_product, has_mass
from symode.kernels.rhs import evaluate, evaluate_field, push
from symode.kernels.types import (
    ADJOINTS,
    DJAC,
    JAC,
    NJEV,
    SECOND,
    VJP,
    Adjoint,
    Field,
    Floats,
    Rosenbrock,
    Scratch,
    System,
    Tangents,
)


@inline
def evaluate_jacobian(system: System, t: float, z: Floats, scratch: Scratch) -> None:
    """Write the Jacobian values and f_t into scratch.jac."""
    scratch.count[NJEV] += 1
    call_field(system.address[JAC], t, z, 0, system.p, 0, scratch.work, 0, scratch.jac, 0)


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


# -- the four places where the kinds of state differ --------------------------------------------


def _open_field(method: Rosenbrock, system: System, t: float, h: float, scratch: Scratch) -> bool:
    evaluate_jacobian(system, t, scratch.y, scratch)
    for i in range(system.n):
        scratch.new[i] = scratch.jac[system.pattern.rows.size + i]
    return linear.factor(system, 1.0 / (h * method.gamma), -1.0, scratch)


def _open_adjoint(
    method: Rosenbrock, system: Adjoint, t: float, h: float, scratch: Scratch
) -> bool:
    # g_t = -(dJ/dt)^T lam and its parameter part: the second-order kernel along zdot.
    n, nnz, y = system.n, system.pattern.rows.size, scratch.y
    step, s = trajectory_at(t, system, scratch)
    trajectory_slope(step, s, system, scratch)
    for e in range(nnz):
        scratch.v[e] = y[system.pattern.rows[e]] * scratch.zdot[system.pattern.cols[e]]
    for i in range(n):
        scratch.v[nnz + i] = y[i]
    call_second(system, t, scratch.z, scratch)
    for i in range(y.size):
        scratch.new[i] = -scratch.out[i]
    # The stages overwrite scratch.z; from here on zdot keeps the state at the step's start.
    for i in range(n):
        scratch.zdot[i] = scratch.z[i]
    evaluate_jacobian(system, t, scratch.z, scratch)
    return linear.factor(system, 1.0 / (h * method.gamma), 1.0, scratch)


@by_type(
    1,
    {
        Field: _open_field,
        Tangents: _open_field,
        **dict.fromkeys(ADJOINTS, _open_adjoint),
    },
)
def open_step(method: Rosenbrock, system: System, t: float, h: float, scratch: Scratch) -> bool:
    """Factor the matrix and write g_t into scratch.new; return whether it could be factored."""
    raise NotImplementedError


def _slope_all(system: System, t: float, scratch: Scratch, i: int) -> int:
    evaluate(system, t, scratch.stage, scratch, scratch.k, i)
    return scratch.y.size


def _slope_state(system: System, t: float, scratch: Scratch, i: int) -> int:
    evaluate_field(system, t, scratch.stage, scratch, scratch.k, i)
    return system.n


@by_type(
    0,
    {
        Field: _slope_all,
        Tangents: _slope_state,
        **dict.fromkeys(ADJOINTS, _slope_all),
    },
)
def slope(system: System, t: float, scratch: Scratch, i: int) -> int:
    """Write g at scratch.stage into row i; return how many components it has (tangents follow)."""
    raise NotImplementedError


def _solve_field(
    method: Rosenbrock, system: System, t: float, h: float, scratch: Scratch, i: int
) -> bool:
    if i == 0:
        return linear.solve_checked(system, scratch, scratch.k, i, 0, False)
    linear.solve(system, scratch, scratch.k, i, 0, False)
    return True


def _solve_adjoint(
    method: Rosenbrock, system: System, t: float, h: float, scratch: Scratch, i: int
) -> bool:
    if i > 0:
        linear.solve(system, scratch, scratch.k, i, 0, True)
    elif not linear.solve_checked(system, scratch, scratch.k, i, 0, True):
        return False
    # The rows of mu have the Jacobian -(∇§3 f)ᵀ against lam, at the step's start, and no other.
    n, m, k = system.n, system.m, scratch.k
    if m == 0:
        return True
    call_product(
        system.address[VJP],
        t,
        scratch.zdot,
        0,
        system.p,
        0,
        k,
        i * k.shape[1],
        scratch.work,
        0,
        scratch.out,
        0,
    )
    for j in range(n, n + m):
        k[i, j] = h * method.gamma * (k[i, j] - scratch.out[j])
    return True


@by_type(
    1,
    {
        Field: _solve_field,
        Tangents: _solve_field,
        **dict.fromkeys(ADJOINTS, _solve_adjoint),
    },
)
def solve_stage(
    method: Rosenbrock, system: System, t: float, h: float, scratch: Scratch, i: int
) -> bool:
    """Turn the right-hand side in row i into the increment U_i; False for a singular matrix."""
    raise NotImplementedError


def _no_tangents(method: Rosenbrock, system: System, t: float, h: float, scratch: Scratch) -> None:
    pass


def _tangents(method: Rosenbrock, system: Tangents, t: float, h: float, scratch: Scratch) -> None:
    n, m, nnz = system.n, system.m, system.pattern.rows.size
    y, k, v = scratch.y, scratch.k, scratch.v
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
            push(system, t + method.c[i] * h, scratch.stage, scratch, k, i * y.size + o)
            if has_mass(system):
                for j in range(n):
                    scratch.kept[j] = 0.0
                for l in range(i):  # noqa: E741
                    for j in range(n):
                        scratch.kept[j] += method.coupling[i, l] / h * k[l, o + j]
                add_product(system, scratch.kept, False, k[i, o : o + n])
            else:
                for l in range(i):  # noqa: E741
                    w = method.coupling[i, l] / h
                    if w != 0.0:
                        for j in range(n):
                            k[i, o + j] += w * k[l, o + j]
            w = h * method.d[i]
            for j in range(n):
                k[i, o + j] += w * scratch.out[nnz + j]
            for e in range(nnz):
                k[i, o + system.pattern.rows[e]] += scratch.out[e] * k[i, system.pattern.cols[e]]
            linear.solve(system, scratch, k, i, o, False)


@by_type(
    1,
    {
        Field: _no_tangents,
        Tangents: _tangents,
        **dict.fromkeys(ADJOINTS, _no_tangents),
    },
)
def tangent_stages(
    method: Rosenbrock, system: System, t: float, h: float, scratch: Scratch
) -> None:
    r"""Differentiate the step: with (f_zz S + f_zθ d) U, sharing the factorization keeps order."""
    raise NotImplementedError


@inline
def step_rosenbrock(
    method: Rosenbrock, system: System, t: float, h: float, scratch: Scratch
) -> bool:
    """Make all stages and the new state; return whether the matrix was regular."""
    y, k, stage = scratch.y, scratch.k, scratch.stage
    if not open_step(method, system, t, h, scratch):
        return False
    for i in range(method.n_stages):
        for j in range(y.size):
            stage[j] = y[j]
        add_stages(method.a[i], 1.0, i, k, y.size, stage)
        size = slope(system, t + method.c[i] * h, scratch, i)
        if has_mass(system):
            for j in range(size):
                scratch.kept[j] = 0.0
            add_stages(method.coupling[i], 1.0 / h, i, k, size, scratch.kept)
            add_product(system, scratch.kept, False, k[i])
        else:
            add_stages(method.coupling[i], 1.0 / h, i, k, size, k[i])
        w = h * method.d[i]
        if w != 0.0:
            for j in range(size):
                k[i, j] += w * scratch.new[j]
        if not solve_stage(method, system, t, h, scratch, i):
            return False
    tangent_stages(method, system, t, h, scratch)
    for j in range(y.size):
        scratch.new[j] = y[j]
    add_stages(method.b, 1.0, method.n_stages, k, y.size, scratch.new)
    return True
