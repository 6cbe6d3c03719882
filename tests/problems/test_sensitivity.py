"""Sensitivities against closed forms; global indices against those of functions that are known."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import OptionError, SolverError

X, K, X0, U, V = sp.symbols("x k x0 u v")
DECAY = symode.Model(
    {X: -K * X}, parameters=[K, X0, U], initial={X: X0}, observables={"twice": 2 * X}
)
TIMES = np.array([2.0, 0.0, 1.0])
THETA = {"k": 0.4, "x0": 3.0, "u": 7.0}


def test_local_sensitivities_are_the_derivatives_of_the_closed_form() -> None:
    found = symode.local_sensitivity(DECAY, TIMES, THETA, {"x": X, "with u": X * U}, rtol=1e-10)
    x = 3 * np.exp(-0.4 * TIMES)
    np.testing.assert_allclose(found.courses, [x, 7 * x], rtol=1e-8)
    by_k, by_x0 = -TIMES * x, x / 3
    np.testing.assert_allclose(
        found.derivatives[0], np.column_stack([by_k, by_x0, 0 * x]), rtol=1e-7, atol=1e-12
    )
    np.testing.assert_allclose(
        found.derivatives[1], np.column_stack([7 * by_k, 7 * by_x0, x]), rtol=1e-7, atol=1e-12
    )
    np.testing.assert_allclose(found.elasticities[0, :, 0], -0.4 * TIMES, rtol=1e-7, atol=1e-12)
    assert [name for name, _ in found.ranking("with u")][2] == "k"


def test_names_choose_observables_and_parameters() -> None:
    found = symode.local_sensitivity(DECAY, [1.0], THETA, wrt=["x0"])
    assert found.observables == ("twice",) and found.parameters == ("x0",)
    assert symode.local_sensitivity(DECAY, [1.0], THETA, "x").observables == ("x",)
    for options, words in (
        ({"observables": ["y"]}, "no state or observable 'y'"),
        ({"wrt": ["q"]}, "wrt= names q"),
        ({"times": [-1.0]}, "must not lie before t0"),
    ):
        with pytest.raises(OptionError, match=words):
            symode.local_sensitivity(DECAY, **({"times": [1.0], "theta": THETA} | options))


#: x' = u v has x(1) = u v: a product, whose Sobol indices are known.
PRODUCT = symode.Model({X: U * V}, parameters=[U, V], initial={X: 0})


def test_sobol_indices_of_a_product_are_those_of_its_variances() -> None:
    pytest.importorskip("SALib")
    bounds = {"u": (0.0, 2.0), "v": (1.0, 5.0)}
    found = symode.global_sensitivity(PRODUCT, [1.0], bounds, samples=1024, seed=3)
    var = {"u": 4 / 12, "v": 16 / 12}
    mean = {"u": 1.0, "v": 3.0}
    total = (var["u"] + 1) * (var["v"] + 9) - 9
    first = [var["u"] * 9 / total, var["v"] * 1 / total]
    both = [1 - first[1], 1 - first[0]]
    assert mean["u"] * mean["v"] == 3.0
    # Errors of 1024 quasi-random base samples: some times 1/1024^(3/4).
    np.testing.assert_allclose(found.first[0, 0], first, atol=0.02)
    np.testing.assert_allclose(found.total[0, 0], both, atol=0.02)
    assert [name for name, _ in found.ranking()] == ["u", "v"]


def test_morris_effects_of_a_line_are_its_slopes() -> None:
    pytest.importorskip("SALib")
    line = symode.Model({X: 2 * U - 5 * V}, parameters=[U, V], initial={X: 0})
    found = symode.global_sensitivity(
        line, [1.0, 2.0], (0.0, 1.0), method="morris", samples=8, seed=1
    )
    np.testing.assert_allclose(found.first[0], [[2, 5], [4, 10]], rtol=1e-6)
    np.testing.assert_allclose(found.total[0], 0.0, atol=1e-6)


def test_the_result_does_not_depend_on_the_threads_and_constant_outputs_have_no_indices() -> None:
    pytest.importorskip("SALib")
    options = {"samples": 16, "seed": 2, "scale": "log10"}
    bounds, fixed = (0.1, 2.0), {"x0": 2.0}
    one, two = (
        symode.global_sensitivity(DECAY, [0.0, 1.0], bounds, "x", fixed=fixed, workers=w, **options)
        for w in (1, 3)
    )
    np.testing.assert_array_equal(one.total, two.total)
    assert (one.total[0, 0] == 0).all() and one.parameters == ("k", "u")


def test_what_cannot_be_sampled_is_named() -> None:
    pytest.importorskip("SALib")
    for options, words in (
        ({"samples": 100}, "powers of two"),
        ({"samples": 1}, "4 or more"),
        ({"method": "fast"}, "'sobol' or 'morris'"),
        ({"bounds": {"u": (0, np.inf), "v": (0, 1)}}, "finite bounds"),
    ):
        with pytest.raises(OptionError, match=words):
            symode.global_sensitivity(PRODUCT, [1.0], **({"bounds": (0.0, 1.0)} | options))
    blow_up = symode.Model({X: U * X**2}, parameters=[U], initial={X: 1})
    with pytest.raises(SolverError, match=r"of 24 solves failed.*The first: .*stopped"):
        symode.global_sensitivity(blow_up, [1.0], (0.5, 3.0), samples=8)


def test_sensitivities_are_drawn() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    found = symode.local_sensitivity(DECAY, np.linspace(0.1, 4, 20), THETA, "x")
    assert found.plot().shape == (1, 2)
    pytest.importorskip("SALib")
    wide = symode.global_sensitivity(DECAY, [0.5, 1.0], (0.1, 2.0), samples=8)
    assert wide.plot("twice")[0].get_ylabel() == "total index for twice"
