"""Sums over stages in registers, against NumPy."""

import numba
import numpy as np
import pytest

from symode.kernels.jit import OPTIONS
from symode.kernels.vector import sum_stages, weigh_stages


@numba.njit(**OPTIONS)
def both(out, plain, base, factor, weights, row, count, k, size):
    sum_stages(out, base, factor, weights, row * weights.shape[1], count, k, size)
    weigh_stages(plain, factor, weights, row * weights.shape[1], count, k, size)


# Every way through blocks of eight and four: none, whole ones, one that overlaps, single ones.
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 18, 30, 33])
@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_sums_over_stages_are_those_of_numpy(size, count):
    rng = np.random.default_rng([size, count])
    k, weights = rng.normal(size=(11, size + 2)), rng.normal(size=(3, 10))
    base, out, plain = rng.normal(size=size), np.full(size + 1, 7.0), np.full(size + 1, 7.0)
    both(out, plain, base, 0.3, weights, 2, count, k, size)
    expected = 0.3 * weights[2, :count] @ k[:count, :size]
    # Ten products and sums, each rounded once; the order of addition is free.
    bound = 1e-14 * (np.abs(base) + 0.3 * np.abs(weights[2, :count]) @ np.abs(k[:count, :size]))
    assert (np.abs(out[:size] - (base + expected)) <= bound).all()
    assert (np.abs(plain[:size] - expected) <= bound).all()
    # Nothing is written behind the end.
    assert out[size] == plain[size] == 7.0
