"""Every kind of noise against SciPy's densities, its own slopes and simulated information."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from scipy import stats
from scipy.special import log_ndtr

import symode
from symode.errors import DataError, OptionError
from symode.problems.censoring import ABOVE, BELOW, censored_slopes, censored_term
from symode.problems.noise import Noise

LN10 = np.log(10.0)
X, K, S = sp.symbols("x k s")
MODEL = symode.Model({X: -K * X}, parameters=[K, S], initial={X: 20})
TIMES = np.array([0.0, 0.5, 1.0, 2.5])
VALUES = np.array([17.3, 15.2, 8.1, 3.7])
COUNTS = np.array([23.0, 11.0, 12.0, 0.0])
THETA = {"k": 0.7, "s": 0.15}
COURSE = 20 * np.exp(-0.7 * TIMES)

#: Each kind with its log density at the values, sigma being 0.15.
KINDS: list[tuple[Noise, np.ndarray, np.ndarray]] = [
    (symode.Normal(S), VALUES, stats.norm.logpdf(VALUES, COURSE, 0.15)),
    (symode.LogNormal(S), VALUES, stats.lognorm.logpdf(VALUES, s=0.15, scale=COURSE)),
    (symode.Log10Normal(S), VALUES, stats.lognorm.logpdf(VALUES, s=0.15 * LN10, scale=COURSE)),
    (symode.Laplace(S), VALUES, stats.laplace.logpdf(VALUES, COURSE, 0.15)),
    (symode.Laplace(S, on="log"), VALUES, stats.loglaplace.logpdf(VALUES, 1 / 0.15, scale=COURSE)),
    (
        symode.Laplace(S, on="log10"),
        VALUES,
        stats.loglaplace.logpdf(VALUES, 1 / (0.15 * LN10), scale=COURSE),
    ),
    (symode.StudentT(S, df=3.5), VALUES, stats.t.logpdf(VALUES, 3.5, COURSE, 0.15)),
    (
        symode.StudentT(S, on="log"),
        VALUES,
        stats.t.logpdf(np.log(VALUES), 4, np.log(COURSE), 0.15) - np.log(VALUES),
    ),
    (symode.Poisson(), COUNTS, stats.poisson.logpmf(COUNTS, COURSE)),
    (
        symode.NegativeBinomial(S),
        COUNTS,
        stats.nbinom.logpmf(COUNTS, 0.15, 0.15 / (0.15 + COURSE)),
    ),
]


def problem_of(noise: Noise, values: np.ndarray) -> symode.Problem:
    data = symode.Data(TIMES, {"x": values})
    return symode.Problem(MODEL, data, noise, scale="log10", rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("noise", "values", "expected"), KINDS, ids=lambda v: str(v)[:30])
def test_the_objective_is_the_negative_log_density(noise, values, expected) -> None:
    problem = problem_of(noise, values)
    # The solver's error of 1e-10, in units of sigma, times residuals of order 10.
    assert problem.value(THETA) == pytest.approx(-float(np.sum(expected)), rel=1e-7)
    x = problem.space.point(problem.parameters(THETA))
    assert problem.scores(x).value == pytest.approx(-float(np.sum(expected)), rel=1e-7)


@pytest.mark.parametrize(("noise", "values", "expected"), KINDS, ids=lambda v: str(v)[:30])
def test_both_routes_give_the_slope_of_the_objective(noise, values, expected) -> None:
    problem = problem_of(noise, values)
    x = problem.space.point(problem.parameters(THETA))
    gradient = problem.objective(x)[1]
    # Central differences with h = 1e-4: h^2 / 6 times a third derivative of order 1e3.
    h = 1e-4
    steps = h * np.eye(x.size)
    quotient = [
        (problem.objective(x + e)[0] - problem.objective(x - e)[0]) / (2 * h) for e in steps
    ]
    np.testing.assert_allclose(gradient, quotient, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(problem.scores(x).gradient, gradient, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("noise", "draw"),
    [
        (symode.Normal(1), lambda g, mu, s: g.normal(mu, s)),
        (symode.Laplace(1), lambda g, mu, s: g.laplace(mu, s)),
        (symode.StudentT(1, df=5), lambda g, mu, s: mu + s * g.standard_t(5, mu.size)),
        (symode.Poisson(), lambda g, mu, s: g.poisson(mu).astype(float)),
        (
            symode.NegativeBinomial(1),
            lambda g, mu, s: g.negative_binomial(s, s / (s + mu)).astype(float),
        ),
    ],
    ids=lambda v: str(v)[:20],
)
def test_information_is_the_variance_of_the_slope(noise, draw) -> None:
    count = 200_000
    mu, sigma = np.full(count, 6.0), np.full(count, 1.7)
    values = draw(np.random.default_rng(3), mu, sigma)
    slopes = noise.slopes(values, mu, sigma)
    # A variance of 2e5 draws has a standard error of sqrt(kurtosis / 2e5), below 1.5 per cent.
    assert np.var(slopes.location) == pytest.approx(slopes.information[0], rel=0.05)
    assert np.mean(slopes.location) == pytest.approx(0.0, abs=0.01)
    if not isinstance(noise, symode.Poisson):
        assert np.mean(slopes.log_sigma) == pytest.approx(0.0, abs=0.02)
        if not isinstance(noise, symode.NegativeBinomial):
            assert np.var(slopes.log_sigma) == pytest.approx(slopes.information_sigma[0], rel=0.05)


def test_the_information_about_a_dispersion_is_its_expected_curvature() -> None:
    mu, size = 6.0, 1.7
    y = np.arange(400.0)
    weights = stats.nbinom.pmf(y, size, size / (size + mu))
    h = 1e-4
    noise = symode.NegativeBinomial(1)

    def slope(log_size: float) -> np.ndarray:
        full = np.full(y.size, np.exp(log_size))
        return noise.slopes(y, np.full(y.size, mu), full).log_sigma

    center = np.log(size)
    curvature = weights @ (slope(center + h) - slope(center - h)) / (2 * h)
    found = noise.slopes(y[:1], np.array([mu]), np.array([size])).information_sigma[0]
    assert found == pytest.approx(curvature, rel=1e-5)


@pytest.mark.parametrize("code", [BELOW, ABOVE])
@pytest.mark.parametrize("w", [-60.0, -31.0, -29.0, -3.0, 0.0, 2.5, 9.0])
def test_a_censored_term_is_the_log_probability_also_far_out(code: int, w: float) -> None:
    u, location, sigma = 2.0, sp.Symbol("h", real=True), sp.Float(0.3)
    side = 1 if code == BELOW else -1
    mean = 2.0 - side * 0.3 * w
    term = censored_term(code, sp.Float(u), location, sigma).subs(location, sp.Float(mean, 40))
    judge = -stats.norm.logcdf(side * (u - mean) / 0.3)
    assert float(term.evalf(30)) == pytest.approx(judge, rel=1e-9, abs=1e-16)
    one = np.ones(1)
    slopes = censored_slopes(code, u * one, mean * one, 0.3 * one)
    assert slopes.terms[0] == pytest.approx(judge, rel=1e-12)
    h = 1e-5
    moved = [censored_slopes(code, u * one, (mean + e) * one, 0.3 * one).terms[0] for e in (h, -h)]
    assert slopes.location[0] / 0.3 == pytest.approx(
        (moved[0] - moved[1]) / (2 * h), rel=1e-5, abs=1e-9
    )


@pytest.mark.parametrize("kind", [symode.Normal, symode.LogNormal])
@pytest.mark.parametrize("sigma", [0.1, S], ids=["number", "parameter"])
@pytest.mark.parametrize("code", [BELOW, ABOVE])
def test_what_is_compiled_of_a_censored_term_keeps_its_digits_far_out(kind, sigma, code) -> None:
    # SymPy writes erfc(-v) as 2 - erfc(v) where it can take out a sign: nothing of the probability
    # is then left from 8 standard deviations on.
    model = symode.Model({X: 0 * X}, parameters=[K, S], initial={X: K})
    data = symode.Data([1.0], {"x": [3.0]}, censored={"x": [code]})
    bounds = {K: (-np.inf, np.inf), S: (1e-3, 10)}
    problem = symode.Problem(model, data, kind(sigma), bounds=bounds)
    for w in (-36.0, -20.0, -9.5, -7.0, -3.0, 0.5, 6.0):
        value = 3.0 + code * 0.1 * w if kind is symode.Normal else 3.0 * np.exp(code * 0.1 * w)
        point = np.array([value, 0.1])
        found, slope = problem.objective(point)
        assert found == pytest.approx(-log_ndtr(w), rel=1e-11), w
        assert slope == pytest.approx(problem.scores(point).gradient, rel=1e-9), w


def test_censored_values_join_the_likelihood() -> None:
    data = symode.Data(TIMES, {"x": VALUES}, censored={"x": ["", "<", "", ">"]})
    problem = symode.Problem(MODEL, data, symode.LogNormal(S), scale="log10", rtol=1e-10)
    known = stats.lognorm.logpdf(VALUES[[0, 2]], s=0.15, scale=COURSE[[0, 2]]).sum()
    below = stats.norm.logcdf(np.log(VALUES[1] / COURSE[1]) / 0.15)
    above = stats.norm.logcdf(-np.log(VALUES[3] / COURSE[3]) / 0.15)
    assert problem.value(THETA) == pytest.approx(-(known + below + above), rel=1e-6)
    x = problem.space.point(problem.parameters(THETA))
    np.testing.assert_allclose(problem.scores(x).gradient, problem.objective(x)[1], rtol=1e-5)


def test_marks_come_from_a_column_of_the_table() -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"time": TIMES, "x": VALUES, "limit": ["", "<", None, ""]})
    data = symode.Data(table, censored={"x": "limit"})
    assert data.censored.ravel().tolist() == [0, -1, 0, 0]
    with pytest.raises(DataError, match="Row 1 of column 'x' has the mark '~'"):
        symode.Data(TIMES, {"x": VALUES}, censored={"x": ["", "~", "", ""]})
    with pytest.raises(DataError, match="names the column 'y'"):
        symode.Data(TIMES, {"x": VALUES}, censored={"y": [0, 0, 0, 0]})
    with pytest.raises(DataError, match="3 marks for column 'x', which has 4 rows"):
        symode.Data(TIMES, {"x": VALUES}, censored={"x": [0, 0, 0]})


def test_what_a_noise_cannot_produce_is_refused_by_row() -> None:
    with pytest.raises(DataError, match=r"Row 2 of column 'x'.*8\.1.*whole numbers"):
        problem_of(symode.Poisson(), np.array([23.0, 11.0, 8.1, 0.0]))
    with pytest.raises(DataError, match=r"Row 3 of column 'x'.*positive values"):
        problem_of(symode.Laplace(S, on="log"), COUNTS)
    with pytest.raises(DataError, match="censored values, which need normal noise"):
        symode.Problem(
            MODEL,
            symode.Data(TIMES, {"x": VALUES}, censored={"x": [0, -1, 0, 0]}),
            symode.Laplace(S),
            scale="log10",
        )
    with pytest.raises(OptionError, match="on must be one of lin, log, log10"):
        symode.StudentT(S, on="log2")
    with pytest.raises(OptionError, match="df must be positive"):
        symode.StudentT(S, df=0)


@pytest.mark.parametrize(
    ("noise", "judge"),
    [
        (symode.Log10Normal(1), stats.lognorm(s=0.3 * LN10, scale=2.0)),
        (symode.Laplace(1), stats.laplace(2.0, 0.3)),
        (symode.StudentT(1, df=3), stats.t(3, 2.0, 0.3)),
    ],
    ids=lambda v: str(v)[:20],
)
def test_the_band_holds_the_share_of_measurements_it_states(noise, judge) -> None:
    low, high = noise.band(np.array([2.0]), np.array([0.3]), 0.9)
    assert judge.cdf(low)[0] == pytest.approx(0.05, rel=1e-9)
    assert judge.cdf(high)[0] == pytest.approx(0.95, rel=1e-9)
