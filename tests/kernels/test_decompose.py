"""Singular values by rotations against LAPACK's, small ones included."""

from __future__ import annotations

import numpy as np
import pytest

from symode.kernels.decompose import singular_values
from symode.kernels.jit import kernel
from symode.kernels.types import Floats


@kernel
def run(columns: Floats, p: int, rows: int, v: Floats, s: Floats) -> int:
    singular_values(columns, p, rows, v, s)
    return 0


def decompose(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return singular values in falling order, and right singular vectors as rows."""
    rows, p = matrix.shape
    v, s = np.zeros((p, p)), np.zeros(p)
    run(np.array(matrix.T, order="C"), p, rows, v, s)
    order = np.argsort(-s)
    return s[order], v[order]


@pytest.mark.parametrize("shape", [(40, 5), (5, 5), (3, 5), (7, 1), (1, 4), (120, 30)])
def test_singular_values_are_those_of_lapack(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(3).standard_normal(shape)
    s, v = decompose(matrix)
    expected = np.linalg.svd(matrix, compute_uv=False)
    # Each rotation rounds once; both agree to some dozens of roundings of the largest.
    np.testing.assert_allclose(s[: expected.size], expected, atol=1e-13 * expected[0])
    np.testing.assert_allclose(s[expected.size :], 0.0, atol=1e-13 * expected[0])
    np.testing.assert_allclose(v @ v.T, np.eye(shape[1]), atol=1e-13)
    np.testing.assert_allclose(
        v.T @ np.diag(s**2) @ v, matrix.T @ matrix, atol=1e-12 * expected[0] ** 2
    )


def test_small_singular_values_keep_their_digits() -> None:
    # Of a matrix A diag(d) with well conditioned A, one-sided rotations find even the smallest to
    # full relative accuracy; in the product of the matrix with itself it is lost.
    matrix = np.random.default_rng(4).standard_normal((30, 4)) * [1.0, 1e-3, 1e-6, 1e-11]
    s, _ = decompose(matrix)
    inverse = np.linalg.svd(np.linalg.pinv(matrix, rcond=1e-16), compute_uv=False)
    assert s[-1] == pytest.approx(1.0 / inverse[0], rel=1e-4)
    assert np.linalg.svd(matrix, compute_uv=False)[-1] == pytest.approx(s[-1], rel=1e-3)


def test_columns_that_say_the_same_or_nothing() -> None:
    a = np.random.default_rng(5).standard_normal(12)
    s, v = decompose(np.column_stack([a, 2 * a, np.zeros(12)]))
    np.testing.assert_allclose(s, [np.sqrt(5.0) * np.linalg.norm(a), 0.0, 0.0], atol=1e-14)
    np.testing.assert_allclose(np.abs(v[0]), np.array([1.0, 2.0, 0.0]) / np.sqrt(5.0), atol=1e-14)
