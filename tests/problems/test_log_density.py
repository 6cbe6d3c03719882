"""The posterior density: gradients by differences, integrals by quadrature, draws of a line."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import OptionError
from symode.problems.transforms import TRANSFORMS

X, A, B, K = sp.symbols("x a b k", positive=True)
LINE = symode.Model({X: A}, parameters=[A, B], initial={X: B})
DECAY = symode.Model({X: -K * X}, parameters=[K], initial={X: 2})
DATA = symode.Data([1, 2, 3, 5], {"x": [1.4, 0.6, 0.35, 0.2]})


def decay(prior, scale, bounds=(0.05, 3.0)) -> symode.Problem:
    priors = {} if prior is None else {K: prior}
    return symode.Problem(
        DECAY, DATA, symode.Normal(0.3), priors=priors, bounds={K: bounds}, scale={K: scale}
    )


PRIORS = {
    "none": None,
    "normal": symode.NormalPrior(0.6, 0.2),
    "log-normal": symode.NormalPrior(np.log(0.4), 0.5, on="log"),
    "of the logarithm": symode.NormalPrior(-0.4, 0.3, on="log10", of_scale=True),
    "Laplace": symode.LaplacePrior(0.5, 0.2),
}


@pytest.mark.parametrize("bounds", [(0.05, 3.0), (0.05, np.inf), (-np.inf, 3.0), (-np.inf, np.inf)])
def test_gradients_with_every_kind_of_bounds(bounds) -> None:
    density = decay(PRIORS["normal"], "lin", bounds).log_density()
    check_gradient(density, density.start({"k": 0.6}))


@pytest.mark.parametrize("scale", [*TRANSFORMS, symode.Logit(0.01, 4.0), symode.Affine(1.0, 3.0)])
@pytest.mark.parametrize("prior", PRIORS.values(), ids=list(PRIORS))
def test_gradients_on_every_scale(scale, prior) -> None:
    bounds = (0.05, 0.9) if scale == "logit" else (0.05, 3.0)
    density = decay(prior, scale, bounds).log_density()
    check_gradient(density, density.start({"k": 0.62}))


def check_gradient(density, y) -> None:
    step = 1e-4
    (up, _), (down, _) = density(y + step), density(y - step)
    _, gradient = density(y)
    # The error of a central difference: step² times a third derivative of size 100, and rounding.
    assert gradient[0] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=2e-5)
    assert abs(gradient[0]) > 1e-2


@pytest.mark.parametrize("scale", ["lin", "log10", "softplus"])
@pytest.mark.parametrize("name", ["normal", "log-normal", "of the logarithm"])
def test_a_prior_gives_one_posterior_on_every_scale(name: str, scale: str) -> None:
    # The mean of k under the density of y is that under prior times likelihood in k.
    prior = PRIORS[name]
    density = decay(prior, scale).log_density()
    ys = np.linspace(-12, 12, 4001)
    logs = np.array([density([y])[0] for y in ys])
    ks = np.array([density.theta([y])["k"] for y in ys])
    weights = np.exp(logs - logs.max())
    found = (weights * ks).sum() / weights.sum()
    grid = np.linspace(0.05, 3.0, 20001)
    misfit = DATA.values[:, 0] - 2 * np.exp(-grid[:, None] * DATA.times)
    if name == "normal":
        log_prior = -0.5 * ((grid - 0.6) / 0.2) ** 2
    elif name == "log-normal":
        log_prior = -0.5 * ((np.log(grid) - np.log(0.4)) / 0.5) ** 2 - np.log(grid)
    else:
        log_prior = -0.5 * ((np.log10(grid) + 0.4) / 0.3) ** 2 - np.log(grid)
    log = log_prior - 0.5 * ((misfit / 0.3) ** 2).sum(axis=1)
    weights = np.exp(log - log.max())
    # The trapezoids of a smooth density that ends at the bounds are good to about 1e-5.
    assert found == pytest.approx((weights * grid).sum() / weights.sum(), rel=1e-4)


def test_what_cannot_be_solved_has_density_zero() -> None:
    blow_up = symode.Model({X: K * X**2}, parameters=[K], initial={X: 5})
    problem = symode.Problem(
        blow_up, symode.Data([1.0], {"x": [5.1]}), symode.Normal(1.0), bounds={K: (1e-3, 50)}
    )
    density = problem.log_density()
    value, gradient = density(density.start({"k": 40.0}))
    assert value == -np.inf and gradient.tolist() == [0.0]


def test_points_of_another_shape_are_named() -> None:
    with pytest.raises(OptionError, match="one coordinate for each of k"):
        decay(None, "lin").log_density()([0.0, 1.0])
    with pytest.raises(OptionError, match="expects a Problem"):
        symode.LogDensity(LINE)


def line_problem() -> tuple[symode.Problem, np.ndarray, np.ndarray]:
    """Return a linear problem with normal priors, and its posterior's mean and covariance."""
    times, values, sigma = np.arange(5.0), np.array([1.2, 1.9, 3.3, 3.8, 5.3]), 0.5
    problem = symode.Problem(
        LINE, symode.Data(times, {"x": values}), symode.Normal(sigma),
        bounds=(-np.inf, np.inf),
        priors={A: symode.NormalPrior(0.5, 0.3), B: symode.NormalPrior(2.0, 0.4)},
    )  # fmt: skip
    design = np.column_stack([times, np.ones(5)])
    precision = design.T @ design / sigma**2 + np.diag([0.3**-2, 0.4**-2])
    covariance = np.linalg.inv(precision)
    right = design.T @ values / sigma**2 + np.array([0.5 / 0.3**2, 2.0 / 0.4**2])
    return problem, covariance @ right, covariance


def test_the_log_density_of_a_line_is_a_parabola() -> None:
    problem, mean, covariance = line_problem()
    density = problem.log_density()
    at_mean, gradient = density(mean)
    assert np.abs(gradient).max() < 1e-6
    for point in ([1.0, 1.0], [0.7, 2.5]):
        value, gradient = density(point)
        away = np.array(point) - mean
        assert value - at_mean == pytest.approx(-0.5 * away @ np.linalg.solve(covariance, away))
        assert gradient == pytest.approx(-np.linalg.solve(covariance, away), rel=1e-6)


def test_draws_have_the_known_mean_and_covariance() -> None:
    pytest.importorskip("nutpie")
    arviz = pytest.importorskip("arviz")
    problem, mean, covariance = line_problem()
    found = symode.sample(problem, {"a": 0.8, "b": 1.5}, draws=500, tune=300, chains=2, seed=3)
    draws = np.stack([found.posterior[name].values.ravel() for name in ("a", "b")])
    assert draws.shape == (2, 1000)
    ess = min(float(arviz.ess(found)[name]) for name in ("a", "b"))
    assert ess > 200 and not found.sample_stats.diverging.values.any()
    # Standard errors: sd / sqrt(ess) of a mean, sqrt(2 / ess) of a variance; five of them.
    spread = np.sqrt(np.diag(covariance))
    assert (np.abs(draws.mean(axis=1) - mean) < 5 * spread / np.sqrt(ess)).all()
    ratio = np.cov(draws) / covariance
    assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / ess) * 1.3
    again = symode.sample(problem, {"a": 0.8, "b": 1.5}, draws=500, tune=300, chains=2, seed=3)
    assert np.array_equal(again.posterior["a"], found.posterior["a"])


def test_sampling_options_are_checked() -> None:
    pytest.importorskip("nutpie")
    problem = line_problem()[0]
    with pytest.raises(OptionError, match="draws must be a whole number"):
        symode.sample(problem, {"a": 1, "b": 1}, draws=0)
