"""Interpolants: the solution inside a step, and the place of a time in a stored trajectory."""

from __future__ import annotations

from symode.kernels.combine import add_stages
from symode.kernels.jit import by_type, inline, kernel
from symode.kernels.types import (
    CURSOR,
    Adjoint,
    Chebyshev,
    Collocation,
    Dirk,
    Erk,
    Floats,
    Method,
    Rosenbrock,
    Scratch,
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
def derivative_weights(method: Method, s: float, h: float, weights_out: Floats) -> None:
    """Write w such that dz/dt (t + s h) = sum_i w_i k_i."""
    scale = stage_scale(method, h) / h
    degree = method.dense.shape[1]
    for i in range(method.n_dense):
        total = 0.0
        for j in range(degree - 1, -1, -1):
            total = total * s + (j + 1) * method.dense[i, j]
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
def trajectory_at(t: float, system: Adjoint, scratch: Scratch) -> tuple[int, float]:
    """Write z(t) of the stored trajectory into scratch.z; return the step and the fraction."""
    store, method = system.past, system.past_method
    i = find_step(t, store.t, system.n_past, scratch.count[CURSOR])
    scratch.count[CURSOR] = i
    h = store.h[i]
    s = (t - store.t[i]) / h
    interpolant_weights(method, s, h, scratch.weights)
    for j in range(system.n):
        scratch.z[j] = store.z[i, j]
    add_stages(scratch.weights, 1.0, method.n_dense, store.k[i], system.n, scratch.z)
    return i, s


@inline
def trajectory_slope(i: int, s: float, system: Adjoint, scratch: Scratch) -> None:
    """Write the time derivative of the interpolant in step i into scratch.zdot."""
    store, method = system.past, system.past_method
    derivative_weights(method, s, store.h[i], scratch.weights)
    for j in range(system.n):
        scratch.zdot[j] = 0.0
    for l in range(method.n_dense):  # noqa: E741
        w = scratch.weights[l]
        for j in range(system.n):
            scratch.zdot[j] += w * store.k[i, l, j]


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
