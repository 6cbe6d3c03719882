"""Polygamma against mpmath, in doubles, on both sides of 0."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from symode.codegen.compiled import CompiledModel
from symode.codegen.reference import COMPLEX, evaluate
from symode.codegen.special import MAX_ORDER, polygamma_graph
from symode.symbolic.rules import MAX_POLYGAMMA

ORDERS = range(MAX_ORDER + 1)
EPSILON = 2.0**-53


def points() -> np.ndarray:
    rng = np.random.default_rng(0)
    fixed = [0.5, 1.0, 2.0, 1.4616321449683623, 15.999999, 16.0, 16.1, 1e300, 1e-40]
    negative = [-0.5, -1.5, -2.25, -0.25, -0.75, -3 + 1e-7, -3 - 1e-7, -1e-30, -0.5040830082644554]
    return np.concatenate(
        [
            10.0 ** rng.uniform(-6, 6, 40),
            rng.uniform(0, 40, 40),
            -rng.uniform(0, 40, 60),
            -(10.0 ** rng.uniform(-5, 5, 20)),
            fixed,
            negative,
        ]
    )


def polygamma(n: int, x):
    return evaluate(polygamma_graph(n), x, [], [])[0]


@pytest.mark.parametrize("n", ORDERS)
def test_polygamma_is_right_to_a_few_roundings(n):
    mp = mpmath.MPContext()
    mp.dps = 60
    x = points()
    for at, got in zip(x, polygamma(n, x), strict=True):
        expected = mp.polygamma(n, mp.mpf(at))
        if abs(expected) > 1e307 or abs(expected) < 1e-307:
            assert got == float(expected) or not math.isfinite(got) or abs(got) < 1e-300
            continue
        # A relative perturbation of x by one rounding is allowed to show.
        scale = abs(expected) + abs(at * mp.polygamma(n + 1, mp.mpf(at)))
        assert abs(got - expected) <= 8 * EPSILON * scale


@pytest.mark.parametrize("n", ORDERS)
def test_the_compiled_function_is_the_reference(n):
    b_graph = polygamma_graph(n)
    model = CompiledModel({"f": ("field", b_graph)}, 0)
    x = points()
    expected = polygamma(n, x)
    got = [model.call("f", at, np.empty(0), np.empty(0))[0] for at in x]
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("n", ORDERS)
def test_poles_and_the_ends_of_the_range(n):
    edges = np.array([0.0, -1.0, -7.0, -1e300, -np.inf, np.nan])
    assert np.isnan(polygamma(n, edges)).all()
    assert polygamma(n, np.inf) == (np.inf if n == 0 else 0.0)
    assert abs(polygamma(n, 1e-200)) == (1e200 if n == 0 else np.inf)


@pytest.mark.parametrize("n", ORDERS[:-1])
@pytest.mark.parametrize("x", [0.3, 2.7, 31.0, -1.3])
def test_each_order_is_the_derivative_of_the_one_below(n, x):
    step = 1e-30
    slope = evaluate(polygamma_graph(n), x + 1j * step, [], [], None, COMPLEX)[0].imag / step
    assert slope == pytest.approx(polygamma(n + 1, x), rel=1e-12)


def test_derivatives_stay_within_the_orders_that_exist():
    assert MAX_POLYGAMMA + 1 == MAX_ORDER
