"""Numba right-hand sides for the peers whose solver wants one: plain, forward and adjoint.

Everything is derived by SymPy and written as straight-line code, except the Brusselator, whose
loops are written by hand, as an expert would (straight-line code of 400 states takes a minute to
compile).

Sensitivities are taken with respect to the scaled unknowns ``theta_j / scale_j`` and
``z0_j / scale_j``, so that one scalar absolute tolerance means the same for all of them.

Layouts of the packed states, with N = m + n columns, theta first:

    forward   y = (z, s_1, ..., s_N), s_j = scale_j dz/du_j   shape (n (1 + N),)
    adjoint   q = (z, a, g) or, with z from a table, (a, g)   shape (n + n + m,) or (n + m,)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numba
import numpy as np
from workloads import Workload, load

JIT = {"fastmath": {"contract", "nsz", "arcp"}, "error_model": "numpy", "nogil": True}


@dataclass(frozen=True)
class Kernels:
    """Jitted functions of one workload, all of signature ``(t, state, p, out)``.

    ``rhs`` writes f; ``forward`` the sensitivity system for the columns ``p[m:2m+n]`` scales;
    ``vjp`` (t, z, a, p, out) writes ``(a df/dz, a df/dtheta)`` of shape (n + m,).
    ``jacobian`` (t, z, p, dense_out) writes the dense df/dz.
    """

    rhs: object
    forward: object
    column: object
    vjp: object
    jacobian: object


@cache
def kernels(name: str) -> Kernels:
    """Return the kernels of a workload, made once."""
    workload = load(name)
    if name.startswith("brusselator"):
        return _brusselator(workload)
    return _generated(workload)


def parameter_vector(workload: Workload) -> np.ndarray:
    """Return ``(theta, scale)``: what the forward kernels read as p. Shape (m + m + n,)."""
    return np.concatenate([workload.theta, workload.scale])


def initial_forward_state(workload: Workload, z0: np.ndarray) -> np.ndarray:
    """Return the packed forward state at t0: z0, zero columns for theta, scaled unit columns."""
    n, m = workload.n, workload.m
    state = np.zeros(n * (1 + m + n))
    state[:n] = z0
    columns = state[n:].reshape(m + n, n)
    columns[m + np.arange(n), np.arange(n)] = workload.scale[m:]
    return state


def _print(expression) -> str:
    """Return Python source of a rational SymPy expression, small powers as products."""
    from sympy.printing.pycode import PythonCodePrinter

    class Printer(PythonCodePrinter):
        def _print_Pow(self, expr, rational=False, sqrt="math.sqrt"):
            base, exponent = expr.as_base_exp()
            if exponent.is_Integer and 0 < abs(int(exponent)) <= 4:
                product = "*".join([f"({self._print(base)})"] * abs(int(exponent)))
                return f"({product})" if exponent > 0 else f"(1.0/({product}))"
            return super()._print_Pow(expr, rational=rational, sqrt=sqrt)

    return Printer().doprint(expression)


def _function(header: str, targets: list[tuple[str, object]], reads: list[str]):
    """Return a jitted straight-line function that writes each ``target = expression``."""
    import sympy as sp

    shared, expressions = sp.cse([value for _, value in targets], symbols=sp.numbered_symbols("w"))
    lines = [header, *(f"    {line}" for line in reads)]
    lines += [f"    {symbol} = {_print(value)}" for symbol, value in shared]
    lines += [
        f"    {target} = {_print(value)}"
        for (target, _), value in zip(targets, expressions, strict=True)
    ]
    namespace: dict = {}
    exec(compile("\n".join(lines), f"<{header}>", "exec"), namespace)
    return numba.njit(**JIT)(namespace["kernel"])


def _generated(workload: Workload) -> Kernels:
    import sympy as sp

    z, p, _, rhs = workload.equations()
    n, m = workload.n, workload.m
    columns = n + m
    reads_z = [f"{z[i]} = z[{i}]" for i in range(n)]
    reads_p = [f"{p[j]} = p[{j}]" for j in range(m)]

    def nonzero(variables):
        found = []
        for i, expression in enumerate(rhs):
            for j, variable in enumerate(variables):
                if expression.has(variable):
                    found.append((i, j, sp.diff(expression, variable)))
        return found

    dfdz, dfdtheta = nonzero(z), nonzero(p)
    plain = _function(
        "def kernel(t, z, p, out):",
        [(f"out[{i}]", rhs[i]) for i in range(n)],
        reads_z + reads_p,
    )
    dense = _function(
        "def kernel(t, z, p, out):",
        [(f"out[{i}, {j}]", value) for i, j, value in dfdz],
        reads_z + reads_p,
    )

    a = sp.symbols(f"a0:{n}")
    into = [sp.Integer(0)] * (n + m)
    for offset, entries in ((0, dfdz), (n, dfdtheta)):
        for i, j, value in entries:
            into[offset + j] += a[i] * value
    vjp = _function(
        "def kernel(t, z, a, p, out):",
        [(f"out[{j}]", value) for j, value in enumerate(into)],
        reads_z + reads_p + [f"{a[i]} = a[{i}]" for i in range(n)],
    )

    # Values of f and of the nonzeros of both Jacobians, shared by the looped forward systems.
    values = _function(
        "def kernel(t, z, p, out, jz, jp):",
        [(f"out[{i}]", rhs[i]) for i in range(n)]
        + [(f"jz[{k}]", value) for k, (_, _, value) in enumerate(dfdz)]
        + [(f"jp[{k}]", value) for k, (_, _, value) in enumerate(dfdtheta)],
        reads_z + reads_p,
    )
    rows_z = np.array([i for i, _, _ in dfdz])
    cols_z = np.array([j for _, j, _ in dfdz])
    rows_p = np.array([i for i, _, _ in dfdtheta])
    cols_p = np.array([j for _, j, _ in dfdtheta])
    count_z, count_p = len(dfdz), len(dfdtheta)

    if n * columns <= 40:
        # Small systems: the sensitivity equations too as straight-line code.
        s = sp.symbols(f"s0:{n * columns}")
        scales = sp.symbols(f"c0:{m}")
        out = [sp.Integer(0)] * (n * columns)
        for j in range(columns):
            for i, k, value in dfdz:
                out[j * n + i] += value * s[j * n + k]
        for i, j, value in dfdtheta:
            out[j * n + i] += value * scales[j]
        forward = _function(
            "def kernel(t, z, p, out):",
            [(f"out[{i}]", rhs[i]) for i in range(n)]
            + [(f"out[{n + k}]", value) for k, value in enumerate(out)],
            reads_z
            + reads_p
            + [f"{scales[j]} = p[{m + j}]" for j in range(m)]
            + [f"{s[k]} = z[{n + k}]" for k in range(n * columns)],
        )
    else:
        forward = _looped_forward(
            n, m, values, rows_z, cols_z, rows_p, cols_p, count_z, count_p, True
        )
    column = _looped_forward(n, m, values, rows_z, cols_z, rows_p, cols_p, count_z, count_p, False)
    return Kernels(plain, forward, column, vjp, dense)


def _looped_forward(n, m, values, rows_z, cols_z, rows_p, cols_p, count_z, count_p, everything):
    """Return the sensitivity system with loops over the nonzeros of the Jacobians.

    With ``everything`` the columns are all of theta and z0; otherwise they are the columns
    ``first .. first + count`` where ``(first, count)`` are the last two entries of p.
    """
    total = n + m

    @numba.njit(**JIT)
    def forward(t, y, p, out):
        jz = np.empty(count_z)
        jp = np.empty(count_p)
        values(t, y, p, out, jz, jp)
        if everything:
            first, count = 0, total
        else:
            first, count = int(p[m + total]), int(p[m + total + 1])
        for j in range(count):
            base = n + j * n
            for i in range(n):
                out[base + i] = 0.0
            for k in range(count_z):
                out[base + rows_z[k]] += jz[k] * y[base + cols_z[k]]
        for k in range(count_p):
            j = cols_p[k] - first
            if 0 <= j < count:
                out[n + j * n + rows_p[k]] += jp[k] * p[m + cols_p[k]]

    return forward


def _brusselator(workload: Workload) -> Kernels:
    cells = workload.n // 2
    c = float((cells + 1) ** 2)
    n, m = workload.n, workload.m

    @numba.njit(**JIT)
    def rhs(t, z, p, out):
        a, b, du, dv = p[0], p[1], p[2] * c, p[3] * c
        # The two boundary cells first, so that the loop over the others has no branches.
        for i in (0, cells - 1):
            u, v = z[2 * i], z[2 * i + 1]
            ul = z[2 * i - 2] if i > 0 else 1.0
            vl = z[2 * i - 1] if i > 0 else 3.0
            ur = z[2 * i + 2] if i < cells - 1 else 1.0
            vr = z[2 * i + 3] if i < cells - 1 else 3.0
            w = u * u * v
            out[2 * i] = a + w - (b + 1.0) * u + du * (ul - 2.0 * u + ur)
            out[2 * i + 1] = b * u - w + dv * (vl - 2.0 * v + vr)
        for i in range(1, cells - 1):
            u, v = z[2 * i], z[2 * i + 1]
            w = u * u * v
            out[2 * i] = a + w - (b + 1.0) * u + du * (z[2 * i - 2] - 2.0 * u + z[2 * i + 2])
            out[2 * i + 1] = b * u - w + dv * (z[2 * i - 1] - 2.0 * v + z[2 * i + 3])

    @numba.njit(**JIT)
    def vjp(t, z, a, p, out):
        b, du, dv = p[1], p[2] * c, p[3] * c
        g0 = g1 = g2 = g3 = 0.0
        for i in range(cells):
            u, v = z[2 * i], z[2 * i + 1]
            au, av = a[2 * i], a[2 * i + 1]
            inner = 0 < i < cells - 1
            if inner:
                lap_u = z[2 * i - 2] - 2.0 * u + z[2 * i + 2]
                lap_v = z[2 * i - 1] - 2.0 * v + z[2 * i + 3]
                lap_au = a[2 * i - 2] - 2.0 * au + a[2 * i + 2]
                lap_av = a[2 * i - 1] - 2.0 * av + a[2 * i + 3]
            else:
                lap_u, lap_v, lap_au, lap_av = -2.0 * u, -2.0 * v, -2.0 * au, -2.0 * av
                if i > 0:
                    lap_u, lap_v = lap_u + z[2 * i - 2], lap_v + z[2 * i - 1]
                    lap_au, lap_av = lap_au + a[2 * i - 2], lap_av + a[2 * i - 1]
                else:
                    lap_u, lap_v = lap_u + 1.0, lap_v + 3.0
                if i < cells - 1:
                    lap_u, lap_v = lap_u + z[2 * i + 2], lap_v + z[2 * i + 3]
                    lap_au, lap_av = lap_au + a[2 * i + 2], lap_av + a[2 * i + 3]
                else:
                    lap_u, lap_v = lap_u + 1.0, lap_v + 3.0
            difference = au - av
            out[2 * i] = 2.0 * u * v * difference - au - b * difference + du * lap_au
            out[2 * i + 1] = u * u * difference + dv * lap_av
            g0 += au
            g1 -= u * difference
            g2 += au * lap_u
            g3 += av * lap_v
        out[n] = g0
        out[n + 1] = g1
        out[n + 2] = c * g2
        out[n + 3] = c * g3

    @numba.njit(**JIT)
    def columns(t, y, p, out, first, count):
        rhs(t, y, p, out)
        b, du, dv = p[1], p[2] * c, p[3] * c
        for j in range(count):
            base = n + j * n
            for i in range(cells):
                u, v = y[2 * i], y[2 * i + 1]
                k = base + 2 * i
                su, sv = y[k], y[k + 1]
                lap_u, lap_v = -2.0 * su, -2.0 * sv
                if i > 0:
                    lap_u, lap_v = lap_u + y[k - 2], lap_v + y[k - 1]
                if i < cells - 1:
                    lap_u, lap_v = lap_u + y[k + 2], lap_v + y[k + 3]
                w = 2.0 * u * v * su + u * u * sv
                out[k] = w - (b + 1.0) * su + du * lap_u
                out[k + 1] = b * su - w + dv * lap_v
            parameter = first + j
            if parameter >= m:
                continue
            weight = p[m + parameter]
            for i in range(cells):
                k = base + 2 * i
                if parameter == 0:
                    out[k] += weight
                elif parameter == 1:
                    out[k] -= weight * y[2 * i]
                    out[k + 1] += weight * y[2 * i]
                else:
                    # parameter 2 diffuses u (boundary 1), parameter 3 diffuses v (boundary 3)
                    which = parameter - 2
                    edge = 1.0 + 2.0 * which
                    left = y[2 * i - 2 + which] if i > 0 else edge
                    right = y[2 * i + 2 + which] if i < cells - 1 else edge
                    out[k + which] += weight * c * (left - 2.0 * y[2 * i + which] + right)

    @numba.njit(**JIT)
    def forward(t, y, p, out):
        columns(t, y, p, out, 0, n + m)

    @numba.njit(**JIT)
    def column(t, y, p, out):
        columns(t, y, p, out, int(p[2 * m + n]), int(p[2 * m + n + 1]))

    @numba.njit(**JIT)
    def jacobian(t, z, p, out):
        b, du, dv = p[1], p[2] * c, p[3] * c
        for i in range(cells):
            u, v = z[2 * i], z[2 * i + 1]
            k = 2 * i
            out[k, k] = 2.0 * u * v - (b + 1.0) - 2.0 * du
            out[k, k + 1] = u * u
            out[k + 1, k] = b - 2.0 * u * v
            out[k + 1, k + 1] = -u * u - 2.0 * dv
            if i > 0:
                out[k, k - 2] = du
                out[k + 1, k - 1] = dv
            if i < cells - 1:
                out[k, k + 2] = du
                out[k + 1, k + 3] = dv

    return Kernels(rhs, forward, column, vjp, jacobian)
