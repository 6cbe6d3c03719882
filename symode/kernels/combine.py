"""Sums over stages."""

from __future__ import annotations

from symode.kernels.jit import inline
from symode.kernels.types import Floats
from symode.kernels.vector import sum_stages

#: Number of states below which loops over stages go inside.
SMALL = 8


@inline
def add_stages(
    weights: Floats, factor: float, n_stages: int, k: Floats, size: int, out: Floats
) -> None:
    """Add factor * sum_s weights[s] * k[s] to the first ``size`` places of out.

    Four stages at a time, and the rest together: out is then read and written less often.
    """
    if size < SMALL:
        for i in range(size):
            total = 0.0
            for s in range(n_stages):
                total += weights[s] * k[s, i]
            out[i] += factor * total
        return
    s = 0
    while s + 4 <= n_stages:
        w0, w1 = factor * weights[s], factor * weights[s + 1]
        w2, w3 = factor * weights[s + 2], factor * weights[s + 3]
        k0, k1, k2, k3 = k[s], k[s + 1], k[s + 2], k[s + 3]
        if w0 != 0.0 or w1 != 0.0 or w2 != 0.0:
            for i in range(size):
                out[i] += w0 * k0[i] + w1 * k1[i] + w2 * k2[i] + w3 * k3[i]
        elif w3 != 0.0:
            for i in range(size):
                out[i] += w3 * k3[i]
        s += 4
    left = n_stages - s
    if left == 3:
        w0, w1, w2 = factor * weights[s], factor * weights[s + 1], factor * weights[s + 2]
        k0, k1, k2 = k[s], k[s + 1], k[s + 2]
        if w0 != 0.0 or w1 != 0.0 or w2 != 0.0:
            for i in range(size):
                out[i] += w0 * k0[i] + w1 * k1[i] + w2 * k2[i]
    elif left == 2:
        w0, w1, k0, k1 = factor * weights[s], factor * weights[s + 1], k[s], k[s + 1]
        if w0 != 0.0 or w1 != 0.0:
            for i in range(size):
                out[i] += w0 * k0[i] + w1 * k1[i]
    elif left == 1:
        w0, k0 = factor * weights[s], k[s]
        if w0 != 0.0:
            for i in range(size):
                out[i] += w0 * k0[i]


@inline
def combine(
    y: Floats, h: float, a: Floats, row: int, n_stages: int, k: Floats, out: Floats
) -> None:
    """Write y + h * sum_s a[row, s] * k[s] into out."""
    sum_stages(out, y, h, a, row * a.shape[1], n_stages, k, y.size)


@inline
def combine_weights(
    y: Floats, h: float, weights: Floats, n_stages: int, k: Floats, out: Floats
) -> None:
    """Write y + h * sum_s weights[s] * k[s] into out."""
    sum_stages(out, y, h, weights, 0, n_stages, k, y.size)
