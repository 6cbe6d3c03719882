"""The posterior as other packages' samplers take it: same values, same gradients, same answer."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import MissingExtraError, OptionError

x, k, s = sp.symbols("x k s", positive=True)


@pytest.fixture(scope="module")
def problem() -> symode.Problem:
    model = symode.Model({x: -k * x}, parameters=[k, s], initial={x: 2})
    times = np.linspace(0.5, 6, 12)
    noise = np.random.default_rng(5).normal(0, 0.05, 12)
    return symode.Problem(
        model,
        symode.Data(times, {"x": 2 * np.exp(-0.5 * times + noise)}),
        symode.LogNormal(s),
        scale="log10",
        bounds={k: (0.01, 10), s: (0.01, 1)},
        priors={k: symode.NormalPrior(np.log(0.5), 0.5, on="log")},
        workers=1,
    )


POINTS = [np.array([0.3, -0.8]), np.array([-1.2, 0.4])]


def test_pytensor_has_the_density_its_gradient_and_parameters_by_name(problem) -> None:
    pymc = pytest.importorskip("pymc", reason="PyMC is not installed: extra pymc")
    density = problem.log_density()
    model = symode.to_pymc(problem, {"k": 0.6, "s": 0.1})
    value, slope = model.compile_logp(), model.compile_dlogp()
    for y in POINTS:
        wanted = density(y)
        assert value({"coordinates": y}) == pytest.approx(wanted[0], rel=1e-12)
        np.testing.assert_allclose(slope({"coordinates": y}), wanted[1], rtol=1e-12)
    np.testing.assert_allclose(
        model.initial_point()["coordinates"], density.start({"k": 0.6, "s": 0.1})
    )
    with model:
        trace = pymc.sample(300, tune=300, chains=2, cores=1, random_seed=1, progressbar=False)
    assert float(trace.posterior["k"].mean()) == pytest.approx(0.5, abs=0.03)
    assert float(trace.posterior["s"].mean()) == pytest.approx(0.05, abs=0.03)


def test_jax_has_the_density_and_its_gradient_jitted_and_mapped(problem) -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed: extra jax")
    jax.config.update("jax_enable_x64", True)
    density = problem.log_density()
    logdensity = symode.to_jax(density)
    for y in POINTS:
        wanted = density(y)
        for function in (jax.value_and_grad(logdensity), jax.jit(jax.value_and_grad(logdensity))):
            value, slope = function(y)
            assert float(value) == pytest.approx(wanted[0], rel=1e-12)
            np.testing.assert_allclose(slope, wanted[1], rtol=1e-12)
    # The chain rule goes through: half the coordinates give half the gradient.
    slope = jax.grad(lambda y: logdensity(0.5 * y))(2 * POINTS[0])
    np.testing.assert_allclose(slope, 0.5 * density(POINTS[0])[1], rtol=1e-12)
    values, slopes = jax.vmap(jax.value_and_grad(logdensity))(np.array(POINTS))
    np.testing.assert_allclose(values, [density(y)[0] for y in POINTS], rtol=1e-12)
    np.testing.assert_allclose(slopes, [density(y)[1] for y in POINTS], rtol=1e-12)


def test_numpyro_and_blackjax_find_the_posterior(problem) -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed: extra jax")
    numpyro = pytest.importorskip("numpyro", reason="NumPyro is not installed")
    blackjax = pytest.importorskip("blackjax", reason="BlackJAX is not installed")
    jax.config.update("jax_enable_x64", True)
    density = problem.log_density()
    logdensity = symode.to_jax(density)
    start = density.start({"k": 0.6, "s": 0.1})
    sampler = numpyro.infer.MCMC(
        numpyro.infer.NUTS(potential_fn=lambda y: -logdensity(y)),
        num_warmup=200, num_samples=300, progress_bar=False,
    )  # fmt: skip
    sampler.run(jax.random.PRNGKey(0), init_params=jax.numpy.asarray(start))
    rates = [density.theta(y)["k"] for y in np.asarray(sampler.get_samples())]
    assert np.mean(rates) == pytest.approx(0.5, abs=0.03)

    # About the variances of the coordinates.
    kernel = blackjax.nuts(logdensity, step_size=0.4, inverse_mass_matrix=np.array([2e-5, 0.05]))
    state, key, rates = kernel.init(start), jax.random.PRNGKey(1), []
    step = jax.jit(kernel.step)
    for _ in range(300):
        key, one = jax.random.split(key)
        state, _ = step(one, state)
        rates.append(density.theta(np.asarray(state.position))["k"])
    assert np.mean(rates[50:]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("package", "function"), [("pymc", "to_pymc"), ("jax", "to_jax")])
def test_a_missing_package_is_named_with_its_extra(package, function, problem, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*symode-adjoint\[{package}\]"):
        getattr(symode, function)(problem)


def test_what_is_no_problem_is_refused(problem) -> None:
    for package, function in (("pymc", symode.to_pymc), ("jax", symode.to_jax)):
        pytest.importorskip(package, reason=f"{package} is not installed")
        with pytest.raises(OptionError, match="expects a Problem; got a Model"):
            function(problem.model)
