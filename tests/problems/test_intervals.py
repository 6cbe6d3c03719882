"""What the data do not determine is named, and does not spoil what they do."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

import symode
from symode.errors import OptionError
from symode.problems.intervals import invert_information

X, A, B, C, K = sp.symbols("x a b c k", positive=True)
TIMES = np.linspace(0.5, 4, 8)


def fitted(model: symode.Model, values, **options) -> symode.Fit:
    problem = symode.Problem(
        model, symode.Data(TIMES, {"x": values}), symode.Normal(0.1), scale="log10", **options
    )
    return symode.fit(problem, starts=2, seed=0)


VALUES = 3 * np.exp(-0.5 * TIMES)


def test_a_product_is_determined_and_its_factors_are_not() -> None:
    model = symode.Model({X: -A * B * X}, parameters=[A, B, C], initial={X: C})
    found = fitted(model, VALUES).intervals()
    (remark,) = found.remarks
    assert "do not determine one combination of log10(a), log10(b)" in remark
    assert "log10(a) by +1, log10(b) by -1" in remark
    assert np.isinf(found.standard_error["a"])
    assert np.isinf(found.standard_error["b"])
    assert "undetermined" in str(found)
    # c is as well determined as where the product is one parameter.
    alone = symode.Model({X: -A * X}, parameters=[A, C], initial={X: C})
    expected = fitted(alone, VALUES).intervals().standard_error["c"]
    assert found.standard_error["c"] == pytest.approx(expected, rel=1e-4)


def test_a_parameter_that_does_nothing_is_named_alone() -> None:
    model = symode.Model({X: -A * X}, parameters=[A, B, C, K], initial={X: C})
    remarks = fitted(model, VALUES).intervals(curvature="hessian").remarks
    assert [r for r in remarks if "do not determine log10(b)" in r]
    assert [r for r in remarks if "do not determine log10(k)" in r]


def test_intervals_read_as_a_table() -> None:
    model = symode.Model({X: -A * X}, parameters=[A, C], initial={X: C})
    result = fitted(model, VALUES)
    found = result.intervals(0.9)
    lines = result.table(0.9).splitlines()
    assert lines[0].split() == ["parameter", "estimate", "std.", "error", "90", "%", "interval"]
    assert [line.split()[0] for line in lines[1:]] == ["a", "c"]
    low, high = found[A]
    assert low < found.estimate["a"] < high
    pytest.importorskip("pandas")
    frame = found.to_frame()
    assert frame.loc["c", "upper"] == found.upper["c"]


@pytest.mark.parametrize(
    ("options", "words"), [({"level": 95}, "between 0 and 1"), ({"curvature": "x"}, "fisher")]
)
def test_options_that_do_not_exist_are_refused(options, words: str) -> None:
    model = symode.Model({X: -A * X}, parameters=[A, C], initial={X: C})
    with pytest.raises(OptionError, match=words):
        fitted(model, VALUES).intervals(**options)


@given(seed=st.integers(0, 2**32 - 1), p=st.integers(1, 6), units=st.integers(-8, 8))
def test_a_regular_information_is_inverted_whatever_the_units(
    seed: int, p: int, units: int
) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((p + 6, p))
    scale = 10.0 ** (units * rng.uniform(-1, 1, p))
    inverse, directions = invert_information(root * scale)
    assert directions.shape == (0, p)
    # cond(root)^2 rounding errors; six rows to spare keep the condition below some dozens.
    expected = np.linalg.inv(root.T @ root)
    np.testing.assert_allclose(inverse * np.outer(scale, scale), expected, rtol=1e-8, atol=1e-9)


@given(seed=st.integers(0, 2**32 - 1), p=st.integers(2, 6), rank=st.integers(1, 5))
def test_directions_are_the_null_space(seed: int, p: int, rank: int) -> None:
    rank = min(rank, p - 1)
    rng = np.random.default_rng(seed)
    # Whole numbers of a few digits keep a null space apart from a nearly null one.
    root = rng.integers(-3, 4, (9, rank)) @ rng.integers(-3, 4, (rank, p)).astype(float)
    _, directions = invert_information(root)
    assert directions.shape[0] == p - np.linalg.matrix_rank(root)
    # Entries below INVOLVED = 1e-3 of the direction are left out of it.
    assert np.abs(root @ directions.T).max(initial=0.0) <= 1e-2 * max(np.abs(root).max(), 1.0)
