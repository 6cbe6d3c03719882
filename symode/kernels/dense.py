"""Interpolants: the solution inside a step, and the place of a time in a stored trajectory."""

from __future__ import annotations

from symode.kernels.combine import add_stages
from symode.kernels.jit import apart, by_type, inline, kernel
from symode.kernels.types import (
    CURSOR,
    Z_AT,
    Adjoint,
    Chebyshev,
    Collocation,
    Dirk,
    Erk,
    Floats,
    Method,
    Rosenbrock,
    Scratch,
    Store,
)


def _scale_erk(method: Method, h: float) -> float:
    return h


def _scale_rosenbrock(method: Method, h: float) -> float:
    return 1.0


@by_type(
    0,
    {
        Erk: _scale_erk,
        Rosenbrock: _scale_rosenbrock,
        Collocation: _scale_rosenbrock,
        Dirk: _scale_erk,
        Chebyshev: _scale_erk,
    },
)
def stage_scale(method: Method, h: float) -> float:
    """Return the factor of the stages: h for slopes, 1 for increments."""
    raise NotImplementedError


@inline
def interpolant_weights(method: Method, s: float, h: float, weights_out: Floats) -> None:
    """Write w such that z(t + s h) = z + sum_i w_i k_i."""
    scale = stage_scale(method, h)
    degree = method.dense.shape[1]
    for i in range(method.n_dense):
        total = 0.0
        for j in range(degree - 1, -1, -1):
            total = (total + method.dense[i, j]) * s
        weights_out[i] = scale * total


@inline
def find_step(t: float, times: Floats, n_steps: int, cursor: int) -> int:
    """Return the step that holds t, searching from the last one used.

    Works in both directions of time; times outside fall to the first or last step.
    """
    forward = times[n_steps] >= times[0]
    i = min(max(cursor, 0), n_steps - 1)
    if forward:
        while i > 0 and t < times[i]:
            i -= 1
        while i < n_steps - 1 and t > times[i + 1]:
            i += 1
    else:
        while i > 0 and t > times[i]:
            i -= 1
        while i < n_steps - 1 and t < times[i + 1]:
            i += 1
    return i


@inline
def as_polynomial(method: Method, store: Store, i: int, weights: Floats, rows: Floats) -> None:
    r"""Turn the stages of a stored step into coefficients of powers of s.

    .. math:: z(t_i + s h_i) = z_i + \sum_{d \ge 1} s^d\, k_{i, d-1}

    No interpolant's degree exceeds its number of stages, so they take their places. Scratch:
    ``weights`` (S,), ``rows`` (degree, n).
    """
    scale, n = stage_scale(method, store.h[i]), store.z.shape[1]
    if method.n_dense == 7 and method.dense.shape[1] == 4:
        _seven_to_four(method.dense, scale, store.k[i], n)
    else:
        _stages_to_powers(method.dense, method.n_dense, scale, store.k[i], n, weights, rows)


@apart
def _stages_to_powers(
    dense: Floats, n_dense: int, scale: float, k: Floats, n: int, weights: Floats, rows: Floats
) -> None:
    degree = dense.shape[1]
    for d in range(degree):
        for l in range(n_dense):  # noqa: E741
            weights[l] = scale * dense[l, d]
        for j in range(n):
            rows[d, j] = 0.0
        add_stages(weights, 1.0, n_dense, k, n, rows[d])
    for d in range(degree):
        for j in range(n):
            k[d, j] = rows[d, j]


@inline
def _seven(
    w: Floats, d: int, scale: float
) -> tuple[float, float, float, float, float, float, float]:
    return (
        scale * w[0, d], scale * w[1, d], scale * w[2, d], scale * w[3, d], scale * w[4, d],
        scale * w[5, d], scale * w[6, d],
    )  # fmt: skip


@apart
def _seven_to_four(dense: Floats, scale: float, k: Floats, n: int) -> None:
    """Do the same for the pairs of order 5, whose stages are then read and written once."""
    a0, a1, a2, a3, a4, a5, a6 = _seven(dense, 0, scale)
    b0, b1, b2, b3, b4, b5, b6 = _seven(dense, 1, scale)
    c0, c1, c2, c3, c4, c5, c6 = _seven(dense, 2, scale)
    d0, d1, d2, d3, d4, d5, d6 = _seven(dense, 3, scale)
    k0, k1, k2, k3, k4, k5, k6 = k[0], k[1], k[2], k[3], k[4], k[5], k[6]
    for j in range(n):
        s, t, u, v, w, x, y = k0[j], k1[j], k2[j], k3[j], k4[j], k5[j], k6[j]
        k0[j] = (a0 * s + a1 * t) + (a2 * u + a3 * v) + (a4 * w + a5 * x + a6 * y)
        k1[j] = (b0 * s + b1 * t) + (b2 * u + b3 * v) + (b4 * w + b5 * x + b6 * y)
        k2[j] = (c0 * s + c1 * t) + (c2 * u + c3 * v) + (c4 * w + c5 * x + c6 * y)
        k3[j] = (d0 * s + d1 * t) + (d2 * u + d3 * v) + (d4 * w + d5 * x + d6 * y)


@kernel
def as_polynomials(
    method: Method, store: Store, n_steps: int, weights: Floats, rows: Floats
) -> None:
    """Turn stored steps into polynomials, see `as_polynomial`: read often, they are worth it."""
    for i in range(n_steps):
        as_polynomial(method, store, i, weights, rows)


@inline
def polynomial_at(z: Floats, k: Floats, s: float, degree: int, n: int, out: Floats) -> None:
    """Write z + sum_d s^(d + 1) k[d], the value of a stored step, see `as_polynomial`."""
    w, w2 = s, s * s
    if degree == 4:
        k0, k1, k2, k3, w3, w4 = k[0], k[1], k[2], k[3], w2 * s, w2 * w2
        for j in range(n):
            out[j] = z[j] + (w * k0[j] + w2 * k1[j] + (w3 * k2[j] + w4 * k3[j]))
        return
    for j in range(n):
        out[j] = z[j]
    d = 0
    while d + 3 <= degree:
        k0, k1, k2, w2, w3 = k[d], k[d + 1], k[d + 2], w * s, w * s * s
        for j in range(n):
            out[j] += w * k0[j] + w2 * k1[j] + w3 * k2[j]
        w = w3 * s
        d += 3
    while d < degree:
        k0 = k[d]
        for j in range(n):
            out[j] += w * k0[j]
        w *= s
        d += 1


@inline
def trajectory_at(t: float, system: Adjoint, scratch: Scratch) -> tuple[int, float]:
    """Write z(t) of the stored trajectory into scratch.z; return the step and the fraction.

    Its steps are polynomials, see `as_polynomial`.
    """
    store = system.past
    i = find_step(t, store.t, system.n_past, scratch.count[CURSOR])
    scratch.count[CURSOR] = i
    s = (t - store.t[i]) / store.h[i]
    # The last stages of most methods share their time.
    if scratch.clock[Z_AT] != t:
        degree = system.past_method.dense.shape[1]
        polynomial_at(store.z[i], store.k[i], s, degree, system.n, scratch.z)
        scratch.clock[Z_AT] = t
    return i, s


@inline
def trajectory_slope(i: int, s: float, system: Adjoint, scratch: Scratch) -> None:
    """Write the time derivative of the interpolant in step i into scratch.zdot."""
    store = system.past
    for j in range(system.n):
        scratch.zdot[j] = 0.0
    w = 1.0 / store.h[i]
    for d in range(system.past_method.dense.shape[1]):
        factor = (d + 1) * w
        for j in range(system.n):
            scratch.zdot[j] += factor * store.k[i, d, j]
        w *= s


@kernel
def sample(
    times: Floats,
    method: Method,
    store_t: Floats,
    store_h: Floats,
    store_z: Floats,
    store_k: Floats,
    n_steps: int,
    weights: Floats,
    z_out: Floats,
) -> None:
    """Write the interpolated solution at each of many times; weights is scratch."""
    i = 0
    n = store_z.shape[1]
    for row in range(times.size):
        i = find_step(times[row], store_t, n_steps, i)
        h = store_h[i]
        s = (times[row] - store_t[i]) / h
        interpolant_weights(method, s, h, weights)
        for j in range(n):
            total = store_z[i, j]
            for l in range(method.n_dense):  # noqa: E741
                total += weights[l] * store_k[i, l, j]
            z_out[row, j] = total
