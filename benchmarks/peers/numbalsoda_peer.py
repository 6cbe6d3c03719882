"""numbalsoda: LSODA and DOP853 in C++ and Fortran, called from one compiled gradient function.

Three ways to the gradient, all without a line of Python between the call and the answer:

forward    the sensitivity system as one ODE (LSODA builds its Jacobian by differences);
columns    the same in groups of columns, which keeps LSODA's dense Jacobian small;
backsolve  the adjoint with z integrated back, restarted from the stored z at each observation;
grid       the adjoint with z from a cubic Hermite table on a fine grid, for diffusion problems
           whose backward integration is unstable.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

from peers.numba_kernels import JIT, initial_forward_state, kernels, parameter_vector

NAME = "numbalsoda"
INSTALL = "pip install numbalsoda  (builds from source: needs gcc, gfortran, cmake)"
CONFIGURATIONS = (
    "forward-lsoda",
    "forward-dop853",
    "columns1-lsoda",
    "columns2-lsoda",
    "backsolve-lsoda",
    "backsolve-dop853",
    "grid-lsoda",
    "grid-dop853",
)
# The configurations that lead the work-precision diagram of each workload, as measured.
BEST = {
    "lotka_volterra": ("forward-dop853", "forward-lsoda"),
    "network_20": ("grid-dop853", "backsolve-dop853"),
    "robertson": ("forward-lsoda",),
    "hires": ("columns2-lsoda",),
    "brusselator_40": ("grid-dop853",),
    "brusselator_200": ("grid-dop853",),
}
MAX_STEPS = 200_000


def available() -> bool:
    """Return whether numbalsoda can be imported."""
    try:
        import numbalsoda  # noqa: F401
    except ImportError:
        return False
    return True


def prepare(workload, rtol, atol, configuration=None):
    """Return ``call() -> gradient`` in (theta, z0) for one tolerance."""
    configuration = configuration or BEST[workload.name][0]
    gradient = _compiled(workload.name, configuration)
    theta, z0 = workload.theta.copy(), workload.z0.copy()

    def call():
        return gradient(theta, z0, rtol, atol)

    return call


def ensemble(workload, rtol, atol, z0s):
    """Return ``call() -> (sum over members of d/dtheta, d/dz0 of each)``, forward LSODA, serial."""
    import numba

    member = _compiled(workload.name, BEST[workload.name][0])
    theta, m = workload.theta.copy(), workload.m

    @numba.njit(nogil=True)
    def run(theta, z0s, rtol, atol):
        total, each = np.zeros(m), np.empty_like(z0s)
        for k in range(z0s.shape[0]):
            gradient = member(theta, z0s[k], rtol, atol)
            total += gradient[:m]
            each[k] = gradient[m:]
        return total, each

    return lambda: run(theta, z0s, rtol, atol)


@cache
def _compiled(name, configuration):
    from workloads import load

    workload = load(name)
    method, solver_name = configuration.split("-")
    import numbalsoda

    solver = {"lsoda": numbalsoda.lsoda, "dop853": numbalsoda.dop853}[solver_name]
    if method == "forward":
        return _forward(workload, solver)
    if method.startswith("columns"):
        return _columns(workload, solver, int(method.removeprefix("columns")))
    if method == "backsolve":
        return _backsolve(workload, solver)
    return _grid(workload, solver)


def _cfunc(function, size, p_size):
    """Return a cfunc of numbalsoda's signature around ``function(t, state, p, out)``."""
    import numba
    from numbalsoda import lsoda_sig

    @numba.cfunc(lsoda_sig, **{k: v for k, v in JIT.items() if k != "nogil"})
    def rhs(t, y, dy, p):
        function(t, numba.carray(y, size), numba.carray(p, p_size), numba.carray(dy, size))

    return rhs


def _forward(workload, solver):
    import numba

    n, m = workload.n, workload.m
    columns = n + m
    packed, start = parameter_vector(workload), initial_forward_state(workload, workload.z0)
    rhs = _cfunc(kernels(workload.name).forward, start.size, packed.size)
    address = rhs.address
    t_eval = np.concatenate([[workload.t0], workload.times])
    data, scale = workload.data, workload.scale

    @numba.njit(nogil=True)
    def gradient(theta, z0, rtol, atol):
        p = packed.copy()
        p[:m] = theta
        y0 = start.copy()
        y0[:n] = z0
        y, success = solver(address, y0, t_eval, p, rtol, atol, MAX_STEPS)
        if not success:
            raise RuntimeError("numbalsoda failed")
        out = np.zeros(columns)
        for k in range(data.shape[0]):
            for i in range(n):
                residual = 2.0 * (y[k + 1, i] - data[k, i])
                for j in range(columns):
                    out[j] += residual * y[k + 1, n + j * n + i]
        return out / scale

    gradient.keep_alive = rhs
    return gradient


def _columns(workload, solver, group):
    import numba

    n, m = workload.n, workload.m
    columns = n + m
    base, start = parameter_vector(workload), initial_forward_state(workload, workload.z0)
    t_eval = np.concatenate([[workload.t0], workload.times])
    data, scale = workload.data, workload.scale
    size = n * (1 + group)
    rhs = _cfunc(kernels(workload.name).column, size, base.size + 2)
    address = rhs.address

    @numba.njit(nogil=True)
    def gradient(theta, z0, rtol, atol):
        p = np.empty(base.size + 2)
        p[: base.size] = base
        p[:m] = theta
        out = np.zeros(columns)
        for first in range(0, columns, group):
            count = min(group, columns - first)
            p[-2] = first
            p[-1] = count
            y0 = np.empty(n * (1 + count))
            y0[:n] = z0
            y0[n:] = start[n + first * n : n + (first + count) * n]
            y, success = solver(address, y0, t_eval, p, rtol, atol, MAX_STEPS)
            if not success:
                raise RuntimeError("numbalsoda failed")
            for k in range(data.shape[0]):
                for i in range(n):
                    residual = 2.0 * (y[k + 1, i] - data[k, i])
                    for j in range(count):
                        out[first + j] += residual * y[k + 1, n + j * n + i]
        return out / scale

    gradient.keep_alive = rhs
    return gradient


def _backsolve(workload, solver):
    import numba

    n, m = workload.n, workload.m
    plain, vjp = kernels(workload.name).rhs, kernels(workload.name).vjp
    size = n + n + m

    @numba.njit(**JIT)
    def backward(s, q, p, out):
        # s = -t: dz/ds = -f, da/ds = a df/dz, dg/ds = a df/dtheta.
        plain(-s, q, p, out)
        for i in range(n):
            out[i] = -out[i]
        vjp(-s, q, q[n:], p, out[n:])

    forward_rhs = _cfunc(plain, n, m)
    backward_rhs = _cfunc(backward, size, m)
    forward_address, backward_address = forward_rhs.address, backward_rhs.address
    t_eval = np.concatenate([[workload.t0], workload.times])
    data = workload.data

    @numba.njit(nogil=True)
    def gradient(theta, z0, rtol, atol):
        z, success = solver(forward_address, z0, t_eval, theta, rtol, atol, MAX_STEPS)
        if not success:
            raise RuntimeError("numbalsoda failed forward")
        q = np.zeros(size)
        span = np.empty(2)
        for k in range(data.shape[0], 0, -1):
            q[:n] = z[k]
            q[n : 2 * n] += 2.0 * (z[k] - data[k - 1])
            span[0], span[1] = -t_eval[k], -t_eval[k - 1]
            y, success = solver(backward_address, q, span, theta, rtol, atol, MAX_STEPS)
            if not success:
                raise RuntimeError("numbalsoda failed backward")
            q[:] = y[1]
        return np.concatenate((q[2 * n :], q[n : 2 * n]))

    gradient.keep_alive = (forward_rhs, backward_rhs)
    return gradient


# Points of the z table between two observations: cubic Hermite error h^4/384 |z''''|.
GRID = 32


def _grid(workload, solver):
    import numba

    n, m = workload.n, workload.m
    plain, vjp = kernels(workload.name).rhs, kernels(workload.name).vjp
    size, p_size = n + m, m + 2 + 2 * (GRID + 1) * n

    @numba.njit(**JIT)
    def backward(s, q, p, out):
        # p = (theta, t_hi, h, z table, f table), the tables going back from t_hi; s = time since.
        h = p[m + 1]
        cell = min(int(s / h), GRID - 1)
        x = s / h - cell
        y = 1.0 - x
        a0, a1 = y * y * (1.0 + 2.0 * x), x * x * (1.0 + 2.0 * y)
        # The table runs backward in t, hence the signs of the slopes.
        b0, b1 = -h * x * y * y, h * x * x * y
        left = m + 2 + cell * n
        slope = left + (GRID + 1) * n
        z = np.empty(n)
        for i in range(n):
            z[i] = (
                a0 * p[left + i] + a1 * p[left + n + i] + b0 * p[slope + i] + b1 * p[slope + n + i]
            )
        vjp(p[m] - s, z, q, p, out)

    forward_rhs = _cfunc(plain, n, m)
    backward_rhs = _cfunc(backward, size, p_size)
    forward_address, backward_address = forward_rhs.address, backward_rhs.address
    edges = np.concatenate([[workload.t0], workload.times])
    fine = np.concatenate(
        [np.linspace(lo, hi, GRID, endpoint=False) for lo, hi in pairwise(edges)] + [edges[-1:]]
    )
    data = workload.data

    @numba.njit(nogil=True)
    def gradient(theta, z0, rtol, atol):
        z, success = solver(forward_address, z0, fine, theta, rtol, atol, MAX_STEPS)
        if not success:
            raise RuntimeError("numbalsoda failed forward")
        p = np.empty(p_size)
        p[:m] = theta
        table = p[m + 2 : m + 2 + (GRID + 1) * n].reshape(GRID + 1, n)
        slopes = p[m + 2 + (GRID + 1) * n :].reshape(GRID + 1, n)
        q = np.zeros(size)
        span = np.zeros(2)
        for k in range(data.shape[0], 0, -1):
            for j in range(GRID + 1):
                table[j] = z[k * GRID - j]
                plain(0.0, table[j], p, slopes[j])
            p[m] = edges[k]
            span[1] = edges[k] - edges[k - 1]
            p[m + 1] = span[1] / GRID
            q[:n] += 2.0 * (z[k * GRID] - data[k - 1])
            y, success = solver(backward_address, q, span, p, rtol, atol, MAX_STEPS)
            if not success:
                raise RuntimeError("numbalsoda failed backward")
            q[:] = y[1]
        return np.concatenate((q[n:], q[:n]))

    gradient.keep_alive = (forward_rhs, backward_rhs)
    return gradient
