"""Scales are inverse to themselves, their slopes exact, and bad ones refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from symode.errors import OptionError
from symode.problems.space import make_space
from symode.problems.transforms import TRANSFORMS, Affine, Logit

KINDS = [*TRANSFORMS.values(), Logit(-2.0, 40.0), Affine(3.0, 0.5)]


@pytest.mark.parametrize("transform", KINDS, ids=str)
def test_a_scale_undoes_itself_and_knows_its_slope(transform) -> None:
    theta = np.array([0.02, 0.7, 0.95 if transform.name == "logit" else 31.0])
    x = transform.to_scale(theta)
    np.testing.assert_allclose(transform.to_theta(x), theta, rtol=1e-14)
    # Central differences: h^2 / 6 times the third derivative, at most ln(10)^3, leaves 1e-9.
    h = 1e-5
    quotient = (transform.to_theta(x + h) - transform.to_theta(x - h)) / (2 * h)
    np.testing.assert_allclose(transform.slope(theta), quotient, rtol=2e-9)


def test_scales_bounds_and_fixed_values_mix() -> None:
    a, c = sp.symbols("a c")
    space = make_space(
        ["a", "b", "c", "d"],
        {a: (0.1, 10), "c": (-1, 3)},
        {"a": "log10", c: "lin", "b": "log"},
        {"d": 4.0},
    )
    assert space.names == ("a", "b", "c")
    assert space.labels == ("log10(a)", "log(b)", "c")
    assert space.lower == pytest.approx([-1, np.log(1e-3), -1])
    theta = space.theta(np.array([0.5, 0.0, 2.0]))
    assert theta.as_dict() == pytest.approx({"a": 10**0.5, "b": 1.0, "c": 2.0, "d": 4.0})
    assert space.point(theta) == pytest.approx([0.5, 0.0, 2.0])
    assert space.point([1e9, 1.0, -7.0, 4.0]) == pytest.approx([1.0, 0.0, -1.0])
    assert space.at_bound(np.array([1.0, 0.0, -1.0])).tolist() == [1, 0, -1]


def test_bounds_may_be_one_pair_or_one_for_each() -> None:
    assert make_space(["a", "b"], (1, 2), "lin", None).upper.tolist() == [2, 2]
    assert make_space(["a", "b"], [(1, 2), (3, 4)], "lin", None).lower.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("bounds", "scale", "fixed", "words"),
    [
        (None, "lin", None, "alpha has no bounds"),
        ({"alpha": (2, 1)}, "lin", {"beta": 1}, "alpha must be low < high"),
        ({"alpha": (0, 1)}, "log10", None, "alpha is on the scale log10"),
        ({"alhpa": (0, 1)}, "log10", None, "alhpa (did you mean alpha?)"),
        ({"alpha": 3}, "log10", None, "alpha must be a pair"),
        ({"beta": (1, 2)}, "log10", {"beta": 1}, "beta: fixed"),
        ([(1, 2)] * 3, "lin", None, "a pair for each of the 2 parameters"),
        (None, "log2", None, "must be one of lin, log10, log"),
        (None, {"gamma": "lin"}, None, "scale= names gamma"),
        (None, "log10", {"beta": "x"}, "fixed value of beta"),
        (None, "log10", {"alpha": 1, "beta": 2}, "nothing to estimate"),
    ],
)
def test_what_cannot_be_is_refused_by_name(bounds, scale, fixed, words: str) -> None:
    with pytest.raises(OptionError) as error:
        make_space(["alpha", "beta"], bounds, scale, fixed)
    assert words in str(error.value)


def test_a_value_off_the_scale_is_named() -> None:
    space = make_space(["a"], None, "log10", None)
    with pytest.raises(OptionError, match="a = -1 has no place on the scale log10"):
        space.point([-1.0])
