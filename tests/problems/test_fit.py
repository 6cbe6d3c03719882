"""Fits find what a closed form knows, keep what failed, and say how far to trust them."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import FitError, OptionError, ParameterError
from symode.problems import campaign
from symode.problems.threads import one_blas_thread

X, A, B, K, X0, S = sp.symbols("x a b k x0 s", positive=True)
RNG = np.random.default_rng(7)
TIMES = np.linspace(0.0, 4.0, 15)

# x' = b, x(0) = a: a straight line, so the estimates are those of linear regression.
LINE = symode.Model({X: B}, parameters=[A, B, S], initial={X: A})
LINE_DATA = 2.0 + 0.7 * TIMES + 0.1 * RNG.standard_normal(TIMES.size)
# x' = -k x, x(0) = x0: a straight line in log x.
DECAY = symode.Model({X: -K * X}, parameters=[K, X0, S], initial={X: X0})
DECAY_DATA = 3.0 * np.exp(-0.6 * TIMES + 0.2 * RNG.standard_normal(TIMES.size))


def regression(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return estimates, their covariance at sigma = 1, and the maximum likelihood sigma."""
    design = np.column_stack([np.ones_like(TIMES), TIMES])
    covariance = np.linalg.inv(design.T @ design)
    estimate = covariance @ design.T @ u
    return estimate, covariance, float(np.sqrt(np.mean((u - design @ estimate) ** 2)))


def line(noise, **options) -> symode.Problem:
    data = symode.Data(TIMES, {"x": LINE_DATA})
    return symode.Problem(LINE, data, noise, bounds=(0.01, 10), **options)


@pytest.mark.parametrize("scale", ["lin", "log10"])
@pytest.mark.parametrize("optimizer", ["scoring", "least_squares", "l-bfgs-b"])
def test_a_line_is_fitted_as_by_linear_regression(scale: str, optimizer: str) -> None:
    problem = line(symode.Normal(0.3), scale=scale, fixed={S: 1.0})
    result = symode.fit(problem, starts=3, seed=0, optimizer=optimizer)
    estimate, covariance, _ = regression(LINE_DATA)
    # The solver is exact for a constant slope; scoring ends at rounding of a sum of 15 squares.
    assert [result.theta["a"], result.theta["b"]] == pytest.approx(estimate, rel=1e-7)
    errors = np.asarray(result.intervals().standard_error)
    assert errors == pytest.approx(0.3 * np.sqrt(np.diag(covariance)), rel=1e-6)
    assert result.n_best == 3
    assert all(start.status == "converged" for start in result.starts)


def test_an_estimated_sigma_is_the_root_mean_square() -> None:
    result = symode.fit(line(symode.Normal(S), scale="log10"), starts=4, seed=0)
    estimate, covariance, sigma = regression(LINE_DATA)
    assert result.theta.as_dict() == pytest.approx(
        {"a": estimate[0], "b": estimate[1], "s": sigma}, rel=1e-6
    )
    expected = [*sigma * np.sqrt(np.diag(covariance)), sigma / np.sqrt(2 * TIMES.size)]
    assert np.asarray(result.intervals().standard_error) == pytest.approx(expected, rel=1e-5)
    assert result.optimizer == "l-bfgs-b"


def test_log_normal_noise_is_regression_of_logarithms() -> None:
    data = symode.Data(TIMES, {"x": DECAY_DATA})
    problem = symode.Problem(DECAY, data, symode.LogNormal(S), scale="log10")
    result = symode.fit(problem, starts=5, seed=0)
    (intercept, slope), covariance, sigma = regression(np.log(DECAY_DATA))
    assert result.theta.as_dict() == pytest.approx(
        {"k": -slope, "x0": np.exp(intercept), "s": sigma}, rel=1e-6
    )
    # x0 on the logarithmic scale is the intercept: its interval is symmetric there.
    low, high = result.intervals(0.9)["x0"]
    half = 1.6448536269514722 * sigma * np.sqrt(covariance[0, 0])
    assert np.log([low, high]) == pytest.approx([intercept - half, intercept + half], rel=1e-5)


@pytest.mark.parametrize("optimizer", ["scoring", "least_squares", "l-bfgs-b"])
def test_data_without_noise_give_back_the_truth(optimizer: str) -> None:
    y, m = sp.symbols("y m", positive=True)
    model = symode.Model({X: -A * X, y: A * X - B * y / (m + y)}, [A, B, m], initial={X: 5, y: 0})
    truth = {"a": 0.8, "b": 1.3, "m": 0.5}
    times = np.linspace(0.2, 4, 20)
    values = model.solve((0, 4), truth, times=times, rtol=1e-10, atol=1e-12)["y"]
    data = symode.Data(times, {"y": values})
    problem = symode.Problem(model, data, symode.Normal(0.01), bounds=(0.05, 20), scale="log10")
    result = symode.fit(problem, starts=6, seed=0, optimizer=optimizer)
    # Residuals vanish, so the error is that of the solver (1e-8) times the condition, about 1e2.
    assert result.theta.as_dict() == pytest.approx(truth, rel=1e-5)
    # Without residuals the Hessian is the Fisher information; differences err by rtol^(2/3).
    fisher, hessian = (result.intervals(curvature=c) for c in ("fisher", "hessian"))
    np.testing.assert_allclose(hessian.standard_error, fisher.standard_error, rtol=1e-3)
    np.testing.assert_allclose(hessian.correlation, fisher.correlation, rtol=1e-3)


def test_the_same_seed_gives_the_same_fit_and_the_seed_is_told() -> None:
    problem = line(symode.Normal(S), scale="log10")
    one, two = (symode.fit(problem, starts=3, seed=5) for _ in range(2))
    assert [s.value for s in one.starts] == [s.value for s in two.starts]
    unseeded = symode.fit(problem, starts=2)
    again = symode.fit(problem, starts=2, seed=unseeded.seed)
    assert unseeded.starts[0].begin.tolist() == again.starts[0].begin.tolist()


def test_an_active_bound_is_kept_reported_and_left_out_of_the_errors() -> None:
    data = symode.Data(TIMES, {"x": LINE_DATA})
    bounds = {"a": (3.0, 9.0), "b": (0.01, 5.0)}
    problem = symode.Problem(LINE, data, symode.Normal(0.3), bounds=bounds, fixed={"s": 1})
    for optimizer in ("scoring", "least_squares", "l-bfgs-b"):
        result = symode.fit(problem, starts=3, seed=0, optimizer=optimizer)
        # With a held at 3, b is the regression through that point.
        b = float(TIMES @ (LINE_DATA - 3.0) / (TIMES @ TIMES))
        assert result.theta["a"] == pytest.approx(3.0, rel=1e-9)
        assert result.theta["b"] == pytest.approx(b, rel=1e-5)
        assert result.best.at_bound == {"a": "lower"}
        assert result.best.status == "converged"
        found = result.intervals()
        assert np.isnan(found.standard_error["a"])
        error = 0.3 / np.sqrt(TIMES @ TIMES)
        assert found.standard_error["b"] == pytest.approx(error, rel=1e-5)
        assert "at a bound" in str(found)
        assert "at a bound: a (lower)" in result.summary()


BLOW_UP = symode.Model({X: K * X**2}, parameters=[K, X0], initial={X: X0})


def blow_up() -> symode.Problem:
    # x = x0 / (1 - k x0 t) exists up to t = 2 only where k x0 < 1/2.
    times = np.array([0.5, 1.0, 2.0])
    data = symode.Data(times, {"x": 1 / (1 - 0.3 * times)})
    return symode.Problem(BLOW_UP, data, symode.Normal(0.1), bounds=(0.01, 100), scale="log10")


@pytest.mark.parametrize("optimizer", ["scoring", "least_squares", "l-bfgs-b"])
def test_failed_starts_are_kept_with_their_reason_and_abort_nothing(optimizer: str) -> None:
    points = [{"k": 50, "x0": 50}, {"k": 0.2, "x0": 0.8}, {"k": 20, "x0": 1}]
    result = symode.fit(blow_up(), points, optimizer=optimizer)
    assert [start.status for start in result.starts] == ["converged", "failed", "failed"]
    assert [start.index for start in result.starts] == [1, 0, 2]
    assert "stopped at t =" in result.starts[1].message
    assert result.theta.as_dict() == pytest.approx({"k": 0.3, "x0": 1.0}, rel=1e-5)
    assert "2 failed" in result.summary()


@pytest.mark.parametrize(
    ("optimizer", "start"),
    [
        ("scoring", {"k": 0.012, "x0": 0.02}),
        ("least_squares", {"k": 0.02, "x0": 20.0}),
        ("l-bfgs-b", {"k": 0.02, "x0": 20.0}),
    ],
)
def test_a_search_that_meets_failing_solves_steps_back(optimizer: str, start: dict) -> None:
    result = symode.fit(blow_up(), start, optimizer=optimizer)
    assert result.best.lost > 0
    assert result.theta.as_dict() == pytest.approx({"k": 0.3, "x0": 1.0}, rel=1e-4)


def test_a_fit_without_any_success_says_why() -> None:
    result = symode.fit(blow_up(), [{"k": 50, "x0": 50}])
    with pytest.raises(FitError, match=r"All 1 starts failed.*stopped at t =.*bounds="):
        result.best  # noqa: B018
    assert "all 1 starts failed" in repr(result)


def test_a_value_the_noise_cannot_explain_ends_as_a_reason() -> None:
    # The model is zero at t = 0; log-normal noise cannot have produced the 0.1 measured there.
    y = sp.Symbol("y")
    model = symode.Model({X: -K * X, y: K * X}, parameters=[K], initial={X: 2, y: 0})
    data = symode.Data([0, 1], {"y": [0.1, 1.0]})
    problem = symode.Problem(model, data, symode.LogNormal(0.1), scale="log10")
    result = symode.fit(problem, starts=2, seed=0)
    assert [start.status for start in result.starts] == ["failed", "failed"]
    assert "log(y) at t = 0" in result.starts[0].message


def test_ctrl_c_returns_what_is_done(monkeypatch) -> None:
    run, calls = campaign.run_start, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(campaign, "run_start", interrupted)
    result = symode.fit(line(symode.Normal(S), scale="log10"), starts=5, seed=0)
    assert len(result.starts) == 2
    assert result.interrupted
    assert "interrupted: 2 of 5 starts were run" in repr(result)

    calls[:] = [None, None]
    with pytest.raises(KeyboardInterrupt):
        symode.fit(line(symode.Normal(S), scale="log10"), starts=5, seed=0)


def test_the_bar_runs_on_stderr(capsys) -> None:
    pytest.importorskip("tqdm")
    symode.fit(line(symode.Normal(S), scale="log10"), starts=2, seed=0, progress=True)
    captured = capsys.readouterr()
    assert "2/2" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("starts", "options", "error", "words"),
    [
        (0, {}, OptionError, "at least 1"),
        ("many", {}, OptionError, "'many'"),
        ([], {}, OptionError, "no point"),
        ([{"a": 1, "b": 1}], {}, ParameterError, "missing: s"),
        (2, {"optimizer": "adam"}, OptionError, "auto, scoring, l-bfgs-b, least_squares"),
        (2, {"optimizer": "least_squares"}, OptionError, "not the likelihood"),
    ],
)
def test_options_that_do_not_exist_are_refused(starts, options, error, words: str) -> None:
    with pytest.raises(error) as caught:
        symode.fit(line(symode.Normal(S), scale="log10"), starts, **options)
    assert words in str(caught.value)


def test_without_finite_bounds_points_must_be_given() -> None:
    data = symode.Data(TIMES, {"x": LINE_DATA})
    bounds = (-np.inf, np.inf)
    problem = symode.Problem(LINE, data, symode.Normal(0.3), bounds=bounds, fixed={"s": 1})
    with pytest.raises(OptionError, match="a, b: no finite bounds"):
        symode.fit(problem, starts=2)
    result = symode.fit(problem, {"a": 0.0, "b": 0.0})
    assert [result.theta["a"], result.theta["b"]] == pytest.approx(
        regression(LINE_DATA)[0], rel=1e-6
    )


def test_a_search_keeps_linear_algebra_on_one_thread_and_gives_it_back() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads() -> set[int]:
        return {
            pool["num_threads"]
            for pool in threadpoolctl.threadpool_info()
            if pool["user_api"] == "blas"
        }

    before = threads()
    with one_blas_thread():
        assert threads() == {1}
    assert threads() == before
