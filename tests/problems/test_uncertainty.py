"""Profiles, bands and the bootstrap against regressions whose answers are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from scipy import stats
from scipy.optimize import brentq

import symode
from symode.errors import DataError, FitError, OptionError

X, A, B, K, S, P, Q = sp.symbols("x a b k s p q")
T = sp.Symbol("t")
#: A line a + b t is an ODE whose regression has exact answers.
LINE = symode.Model({X: B}, parameters=[A, B, S], initial={X: A})
TIMES = np.array([0.0, 1.0, 2.0, 3.5, 5.0, 7.0])
VALUES = np.array([1.1, 2.9, 5.2, 8.4, 10.6, 15.3])
SIGMA = 0.4


@pytest.fixture(scope="module")
def line() -> symode.Fit:
    data = symode.Data(TIMES, {"x": VALUES})
    problem = symode.Problem(
        LINE, data, symode.Normal(S), bounds=(-30, 30), fixed={"s": SIGMA}, rtol=1e-10
    )
    return symode.fit(problem, starts=3, seed=0)


def design() -> tuple[np.ndarray, np.ndarray]:
    matrix = np.column_stack([np.ones_like(TIMES), TIMES])
    return matrix, SIGMA**2 * np.linalg.inv(matrix.T @ matrix)


@pytest.mark.parametrize("method", ["optimize", "integrate"])
@pytest.mark.parametrize("level", [0.68, 0.95])
def test_the_profile_of_a_linear_model_is_its_parabola(line, method: str, level: float) -> None:
    _, covariance = design()
    for i, name in enumerate(("a", "b")):
        profile = line.profile(name, level, method)
        half = stats.norm.ppf(0.5 + level / 2) * np.sqrt(covariance[i, i])
        center = float(line.theta[name])
        # The crossing is found to 1e-5 of a standard error.
        assert profile.interval == pytest.approx((center - half, center + half), abs=1e-4 * half)
        rise = profile.objective - profile.best
        parabola = 0.5 * (profile.values - center) ** 2 / covariance[i, i]
        # Integrated paths are exact at the crossing only.
        tolerance = 1e-6 if method == "optimize" else 2e-2
        np.testing.assert_allclose(rise, parabola, atol=tolerance, rtol=tolerance)
        assert profile.is_identifiable


def test_the_profile_of_sigma_is_skewed_as_its_likelihood() -> None:
    data = symode.Data(TIMES, {"x": VALUES})
    problem = symode.Problem(
        LINE, data, symode.Normal(S), bounds={A: (-30, 30), B: (-30, 30), S: (1e-3, 1e3)},
        scale={S: "log10"}, rtol=1e-10,
    )  # fmt: skip
    result = symode.fit(problem, starts=4, seed=1)
    matrix, _ = design()
    residual = VALUES - matrix @ np.linalg.lstsq(matrix, VALUES, rcond=None)[0]
    rss, n = float(residual @ residual), VALUES.size

    def rise(sigma: float) -> float:
        best = np.sqrt(rss / n)
        return n * np.log(sigma / best) + 0.5 * rss * (1 / sigma**2 - 1 / best**2)

    top = 0.5 * stats.chi2.ppf(0.95, 1)
    best = np.sqrt(rss / n)
    ends = [brentq(lambda s: rise(s) - top, *ab) for ab in ((best / 20, best), (best, best * 20))]
    assert result.profile("s").interval == pytest.approx(ends, rel=1e-4)


def test_a_product_of_parameters_is_flat_named_and_structural() -> None:
    model = symode.Model({X: -P * Q * X}, parameters=[P, Q], initial={X: 3})
    data = symode.Data([0.5, 1.0, 2.0], {"x": [2.2, 1.6, 0.9]})
    problem = symode.Problem(model, data, symode.Normal(0.1), scale="log10")
    result = symode.fit(problem, starts=3, seed=0)
    profile = result.profile("p")
    assert not profile.is_identifiable
    assert "lower side ends at the bound 0.001" in profile.remarks[0]
    # Upwards q reaches its own bound first, at p q = 1e-3 p.
    product = float(result.theta["p"] * result.theta["q"])
    assert profile.upper == pytest.approx(1e3 * product, rel=0.3)
    assert np.ptp(profile.objective[profile.values < 0.9e3 * product]) < 1e-6
    found = result.identifiability()
    assert not found.is_identifiable
    assert found.structural == found.practical and len(found.structural) == 1
    assert "log10(p)" in found.structural[0] and "log10(q)" in found.structural[0]
    assert found.spectrum[-1] < 1e-10 * found.spectrum[0]
    assert "whatever the data" in repr(found)


def test_what_more_data_would_determine_is_not_called_structural() -> None:
    # x = exp(-k t) and y' = q x: with y seen at t0 only, q is not determined, but could be.
    y = sp.Symbol("y")
    model = symode.Model({X: -K * X, y: Q * X}, parameters=[K, Q], initial={X: 1, y: 0})
    data = symode.Data([0.0, 1.0, 2.0], {"x": [None, 0.6, 0.4], "y": [0.01, None, None]})
    problem = symode.Problem(model, data, symode.Normal(0.05), scale="log10")
    found = symode.fit(problem, starts=2, seed=0).identifiability()
    assert len(found.practical) == 1 and "log10(q)" in found.practical[0]
    assert not found.structural
    assert "Not determined by these data" in repr(found)


def test_a_profile_that_finds_a_better_fit_says_so(line) -> None:
    from dataclasses import replace

    worse = line.starts[0].theta.copy()
    worse[1] += 0.5
    wrong = replace(line, starts=(replace(line.starts[0], theta=worse),))
    # The other parameter is optimal for each value, so the minimum is found on the way.
    with pytest.raises(FitError, match=r"below that of the fit, at a = .*Fit again"):
        wrong.profile("b")


@pytest.mark.parametrize("method", ["delta", "ensemble"])
def test_the_band_of_a_line_is_that_of_regression(line, method: str) -> None:
    _, covariance = design()
    times = np.array([6.0, 0.0, 3.0, 12.0])
    band = line.band(times, method=method, level=0.9)
    rows = np.column_stack([np.ones_like(times), times])
    half = stats.norm.ppf(0.95) * np.sqrt(np.einsum("ki,ij,kj->k", rows, covariance, rows))
    curve, lower, upper = band["x"]
    np.testing.assert_allclose(curve, rows @ np.asarray(line.theta)[:2], rtol=1e-7)
    if method == "delta":
        np.testing.assert_allclose(upper - curve, half, rtol=1e-6)
        np.testing.assert_allclose(curve - lower, half, rtol=1e-6)
    else:
        # A path ends at x + q C e_i / sqrt(C_ii): the farther of both ends makes the band.
        ends = np.abs(rows @ covariance) / np.sqrt(np.diag(covariance))
        reached = stats.norm.ppf(0.95) * ends.max(axis=1)
        assert (reached <= half).all()
        np.testing.assert_allclose(upper - curve, reached, rtol=1e-4)
        np.testing.assert_allclose(curve - lower, reached, rtol=1e-4)


def test_a_band_of_any_expression_and_of_t0_alone(line) -> None:
    band = line.band([0.0], {"twice": 2 * X + T})
    _, covariance = design()
    assert band["twice"][2][0] - band["twice"][0][0] == pytest.approx(
        2 * 1.959963984540054 * np.sqrt(covariance[0, 0]), rel=1e-6
    )


def test_the_bootstrap_scatters_as_the_estimates_do(line) -> None:
    found = line.bootstrap(300, seed=4, workers=1)
    _, covariance = design()
    # A standard deviation of 300 draws has a relative error of 1/sqrt(600), 4 per cent.
    for i, name in enumerate(("a", "b")):
        column = found.estimates[:, i]
        assert np.std(column) == pytest.approx(np.sqrt(covariance[i, i]), rel=0.16)
        assert np.mean(column) == pytest.approx(float(line.theta[name]), abs=0.2 * np.std(column))
    assert found.estimates.shape == (300, 2)
    again = line.bootstrap(5, seed=4, workers=1)
    np.testing.assert_array_equal(again.estimates, found.estimates[:5])


def test_pictures_are_drawn(line) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    from symode.problems import plots_uncertainty as plots

    profiles = line.profiles(workers=1)
    assert len(plots.plot_profiles(profiles)) == 2
    assert profiles["a"].plot().get_xlabel() == "a"
    assert line.band([0, 1, 2]).plot()[0].get_ylabel() == "x"
    assert plots.plot_waterfall(line).get_yscale() == "log"
    assert [t.get_text() for t in plots.plot_parameters(line).get_yticklabels()] == ["a", "b"]
    assert plots.plot_correlation(line).images[0].get_array().shape == (2, 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda f: f.profile("c"), OptionError, "no estimated parameter c"),
        (lambda f: f.profile("s"), OptionError, "Those are a, b"),
        (lambda f: f.profile("a", 95), OptionError, "level must lie between 0 and 1"),
        (lambda f: f.profile("a", method="mcmc"), OptionError, "one of optimize, integrate"),
        (lambda f: f.band([-1.0]), DataError, "not before t0"),
        (lambda f: f.band([1.0], ["w"]), OptionError, "no observable 'w'"),
        (lambda f: f.band([1.0], method="x"), OptionError, "'delta' or 'ensemble'"),
        (lambda f: f.bootstrap(1), OptionError, "count must be"),
    ],
)
def test_what_cannot_be_is_named(line, call, error, words: str) -> None:
    with pytest.raises(error, match=words):
        call(line)
