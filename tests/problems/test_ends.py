"""The ends of profile intervals are those of whole profiles, and of the closed form."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import OptionError
from symode.problems.ends import profile_ends

X, K, X0, S = sp.symbols("x k x0 s", positive=True)
MODEL = symode.Model({X: -K * X}, parameters=[K, X0, S], initial={X: X0})
DATA = symode.Data([0, 1, 2, 3, 5], {"x": [2.1, 0.97, 0.51, 0.24, 0.07]})


def fitted(**options) -> symode.Fit:
    problem = symode.Problem(MODEL, DATA, symode.LogNormal(S), **({"scale": "log10"} | options))
    return symode.fit(problem, [{"k": 0.7, "x0": 2.0, "s": 0.1}], workers=1)


@pytest.mark.parametrize("level", [0.68, 0.95])
@pytest.mark.parametrize("name", ["k", "x0", "s"])
def test_ends_are_those_of_the_profile(name: str, level: float) -> None:
    fit = fitted()
    whole = fit.profile(name, level).interval
    ends = fit.profile_interval(name, level)
    # Known to a thousandth of a standard error each.
    width = np.log(whole[1] / whole[0])
    assert np.abs(np.log(ends) - np.log(whole)).max() < 1e-3 * width


def test_a_line_has_the_interval_of_its_closed_form() -> None:
    # log x = log x0 - k t with known sigma is linear regression: k ± 1.96 s / sqrt(Stt).
    times, values = DATA.times, np.log(DATA.values[:, 0])
    slope = -np.polyfit(times, values, 1)[0]
    error = 0.05 / np.sqrt(((times - times.mean()) ** 2).sum())
    problem = symode.Problem(
        MODEL, DATA, symode.LogNormal(S), fixed={"s": 0.05}, bounds={K: (0.0, 5.0), X0: (0.1, 9.0)}
    )
    fit = symode.fit(problem, [{"k": 0.7, "x0": 2.0}], workers=1)
    low, high = fit.profile_interval("k")
    expected = slope + np.array([-1, 1]) * 1.959964 * error
    assert np.allclose([low, high], expected, atol=2e-3 * error)


def test_where_there_is_no_end_the_profile_decides() -> None:
    fit = fitted(bounds={K: (0.6, 1.0), X0: (1e-3, 1e3), S: (1e-3, 1e3)})
    assert fit.profile_interval("k", 0.9999)[1] == pytest.approx(fit.profile("k", 0.9999).upper)
    assert fit.profile("k", 0.999999).remarks


def test_what_cannot_be_asked_is_named() -> None:
    fit = fitted()
    with pytest.raises(OptionError, match="no estimated parameter kk"):
        profile_ends(fit.problem, fit.problem.space.point(fit.theta), "kk")
    with pytest.raises(OptionError, match="level must lie between"):
        fit.profile_interval("k", 95)
