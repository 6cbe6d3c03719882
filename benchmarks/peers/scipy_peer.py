"""SciPy: solve_ivp and odeint with right-hand sides and Jacobians jitted by Numba.

forward-*   the sensitivity system as one ODE. LSODA through `odeint` (its loop over the output
            times is compiled; `solve_ivp` loops in Python), "banded" with the block diagonal of
            the sensitivity system's Jacobian, ordered column by column. Radau and BDF: as sparse.
grid-*      the adjoint with z from a cubic Hermite table between observations and the parameter
            part by Boole's rule, for problems with many states.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

from peers.numba_kernels import JIT, initial_forward_state, kernels, parameter_vector

NAME = "scipy"
INSTALL = "pip install scipy numba"
CONFIGURATIONS = (
    "forward-odeint",
    "forward-odeint_banded",
    "forward-LSODA",
    "forward-RK45",
    "forward-DOP853",
    "forward-Radau",
    "forward-BDF",
    "grid-odeint",
    "grid-odeint_banded",
)
# The configurations that lead the work-precision diagram of each workload, as measured.
BEST = {
    "lotka_volterra": ("forward-odeint", "forward-DOP853"),
    "network_20": ("grid-odeint",),
    "robertson": ("forward-odeint",),
    "hires": ("forward-odeint_banded",),
    "brusselator_40": ("grid-odeint_banded",),
    "brusselator_200": ("grid-odeint_banded",),
}
MAX_STEPS = 200_000
# Points of the z table between two observations; a multiple of 4 for Boole's rule.
GRID = 32


def available() -> bool:
    """Return whether SciPy and Numba can be imported."""
    try:
        import numba  # noqa: F401
        import scipy  # noqa: F401
    except ImportError:
        return False
    return True


def prepare(workload, rtol, atol, configuration=None):
    """Return ``call() -> gradient`` in (theta, z0) for one tolerance."""
    configuration = configuration or BEST[workload.name][0]
    method, solver = configuration.split("-")
    gradient = (
        _forward(workload.name, solver) if method == "forward" else _grid(workload.name, solver)
    )
    theta, z0 = workload.theta.copy(), workload.z0.copy()
    return lambda: gradient(theta, z0, rtol, atol)


@cache
def _bandwidths(name):
    from workloads import load

    workload = load(name)
    n = workload.n
    pattern = np.zeros((n, n))
    point = workload.z0 + 0.1
    kernels(name).jacobian(0.0, point, parameter_vector(workload), pattern)
    rows, columns = np.nonzero(pattern)
    return int(max(0, (rows - columns).max())), int(max(0, (columns - rows).max()))


@cache
def _forward(name, solver):
    import numba
    from scipy.integrate import odeint, solve_ivp
    from workloads import load

    workload = load(name)
    n, m = workload.n, workload.m
    columns = n + m
    blocks = 1 + columns
    packed, start = parameter_vector(workload), initial_forward_state(workload, workload.z0)
    t_eval = np.concatenate([[workload.t0], workload.times])
    data, scale = workload.data, workload.scale
    kernel, dense = kernels(name).forward, kernels(name).jacobian
    below, above = _bandwidths(name)

    @numba.njit(**JIT)
    def rhs(t, y, p):
        out = np.empty(y.size)
        kernel(t, y, p, out)
        return out

    @numba.njit(**JIT)
    def banded(t, y, p):
        """Return the block diagonal of the sensitivity system's Jacobian, LAPACK band storage."""
        jacobian = np.zeros((n, n))
        dense(t, y, p, jacobian)
        out = np.zeros((below + above + 1, y.size))
        for i in range(n):
            for j in range(max(0, i - below), min(n, i + above + 1)):
                for block in range(blocks):
                    out[above + i - j, block * n + j] = jacobian[i, j]
        return out

    @numba.njit(**JIT)
    def block(t, y, p):
        jacobian = np.zeros((n, n))
        dense(t, y, p, jacobian)
        return jacobian

    @numba.njit(**JIT)
    def contract(y, data):
        out = np.zeros(columns)
        for k in range(data.shape[0]):
            for i in range(n):
                residual = 2.0 * (y[k + 1, i] - data[k, i])
                for j in range(columns):
                    out[j] += residual * y[k + 1, n + j * n + i]
        return out / scale

    def sparse_block_diagonal(t, y, p):
        from scipy.sparse import csc_matrix, kron

        return kron(np.eye(blocks), csc_matrix(block(t, y, p)), format="csc")

    def gradient(theta, z0, rtol, atol):
        p = packed.copy()
        p[:m] = theta
        y0 = start.copy()
        y0[:n] = z0
        if solver.startswith("odeint"):
            options = (
                {"Dfun": banded, "ml": below, "mu": above} if solver == "odeint_banded" else {}
            )
            y, info = odeint(
                rhs, y0, t_eval, (p,), tfirst=True, rtol=rtol, atol=atol,
                mxstep=MAX_STEPS, full_output=True, **options,
            )  # fmt: skip
            if info["message"] != "Integration successful.":
                raise RuntimeError(info["message"])
            return contract(y, data)
        options = {"jac": sparse_block_diagonal} if solver in ("Radau", "BDF") else {}
        solution = solve_ivp(
            rhs,
            (t_eval[0], t_eval[-1]),
            y0,
            solver,
            t_eval,
            args=(p,),
            rtol=rtol,
            atol=atol,
            **options,
        )
        if not solution.success:
            raise RuntimeError(solution.message)
        return contract(np.ascontiguousarray(solution.y.T), data)

    return gradient


@cache
def _grid(name, solver):
    import numba
    from scipy.integrate import odeint
    from workloads import load

    workload = load(name)
    n, m = workload.n, workload.m
    edges = np.concatenate([[workload.t0], workload.times])
    fine = np.concatenate(
        [np.linspace(lo, hi, GRID, endpoint=False) for lo, hi in pairwise(edges)] + [edges[-1:]]
    )
    data = workload.data
    plain, vjp, dense = kernels(name).rhs, kernels(name).vjp, kernels(name).jacobian
    below, above = _bandwidths(name)
    boole = np.zeros(GRID + 1)
    for k in range(0, GRID, 4):
        boole[k : k + 5] += np.array([7.0, 32.0, 12.0, 32.0, 7.0]) * 2.0 / 45.0

    @numba.njit(**JIT)
    def rhs(t, z, p):
        out = np.empty(n)
        plain(t, z, p, out)
        return out

    @numba.njit(**JIT)
    def rhs_band(t, z, p):
        jacobian = np.zeros((n, n))
        dense(t, z, p, jacobian)
        out = np.zeros((below + above + 1, n))
        for i in range(n):
            for j in range(max(0, i - below), min(n, i + above + 1)):
                out[above + i - j, j] = jacobian[i, j]
        return out

    @numba.njit(**JIT)
    def interpolate(s, table, slopes, h):
        cell = min(int(s / h), GRID - 1)
        x = s / h - cell
        y = 1.0 - x
        return (
            (y * y * (1.0 + 2.0 * x)) * table[cell]
            + (x * x * (1.0 + 2.0 * y)) * table[cell + 1]
            - (h * x * y * y) * slopes[cell]
            + (h * x * x * y) * slopes[cell + 1]
        )

    @numba.njit(**JIT)
    def adjoint(s, a, p, table, slopes, h):
        out = np.empty(n + m)
        vjp(-s, interpolate(s, table, slopes, h), a, p, out)
        return out[:n]

    @numba.njit(**JIT)
    def adjoint_band(s, a, p, table, slopes, h):
        jacobian = np.zeros((n, n))
        dense(-s, interpolate(s, table, slopes, h), p, jacobian)
        out = np.zeros((below + above + 1, n))
        # Transposed: entry (i, j) of the adjoint's Jacobian is df_j/dz_i.
        for i in range(n):
            for j in range(max(0, i - above), min(n, i + below + 1)):
                out[below + i - j, j] = jacobian[j, i]
        return out

    @numba.njit(**JIT)
    def segment(z, k, p):
        table, slopes = np.empty((GRID + 1, n)), np.empty((GRID + 1, n))
        for j in range(GRID + 1):
            table[j] = z[k * GRID - j]
            plain(0.0, table[j], p, slopes[j])
        return table, slopes

    @numba.njit(**JIT)
    def quadrature(table, a, p, h):
        out, total = np.empty(n + m), np.zeros(m)
        for j in range(GRID + 1):
            vjp(0.0, table[j], a[j], p, out)
            total += (h * boole[j]) * out[n:]
        return total

    banded = solver == "odeint_banded"

    def solve(function, y0, times, args, band, ml, mu, rtol, atol):
        options = {"Dfun": band, "ml": ml, "mu": mu} if banded else {}
        y, info = odeint(
            function, y0, times, args, tfirst=True, rtol=rtol, atol=atol,
            mxstep=MAX_STEPS, full_output=True, **options,
        )  # fmt: skip
        if info["message"] != "Integration successful.":
            raise RuntimeError(info["message"])
        return y

    def gradient(theta, z0, rtol, atol):
        z = solve(rhs, z0, fine, (theta,), rhs_band, below, above, rtol, atol)
        a, g = np.zeros(n), np.zeros(m)
        for k in range(data.shape[0], 0, -1):
            h = (edges[k] - edges[k - 1]) / GRID
            table, slopes = segment(z, k, theta)
            a = a + 2.0 * (table[0] - data[k - 1])
            grid = np.arange(GRID + 1) * h
            path = solve(
                adjoint, a, grid, (theta, table, slopes, h), adjoint_band, above, below, rtol, atol
            )
            g += quadrature(table, path, theta, h)
            a = path[-1]
        return np.concatenate([g, a])

    return gradient
