"""Samples from a problem's posterior by the No-U-Turn sampler of the package nutpie."""

from __future__ import annotations

from typing import Any

import numpy as np

from symode.errors import MissingExtraError, OptionError
from symode.problems.log_density import LogDensity
from symode.problems.problem import Problem


def sample(
    problem: Problem,
    start: Any = None,
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: int = 0,
    cores: int | None = None,
    progress: bool = False,
    **options: Any,
) -> Any:
    """Return draws of the estimated parameters as ArviZ InferenceData.

    The density is that of `LogDensity`, by its exact gradient: a parameter without a prior is
    uniform on the scale of the search, within its bounds.

    Parameters
    ----------
    problem
        With priors.
    start
        Parameters where all chains begin (each is moved a little), such as ``fit.theta``: there is
        no default.
    draws, tune
        Of each chain: kept draws, and draws before them that adapt steps and metric.
    chains
        How many.
    seed
        Of starts and draws.
    cores
        Threads that run chains side by side; the number of cores by default. Draws do not depend
        on it.
    progress
        Whether to show a bar.
    **options
        Further ones of ``nutpie.sample``, such as ``target_accept``.

    Returns
    -------
    arviz.InferenceData
        ``posterior`` has one variable for each estimated parameter, on its own scale; divergences
        and energies are in ``sample_stats``.

    Raises
    ------
    MissingExtraError
        Without nutpie, which the extra ``sampling`` installs.
    OptionError
        For numbers that are not whole and positive, and a start outside the bounds.

    Notes
    -----
    Hoffman & Gelman (2014), *J. Mach. Learn. Res.* 15, 1593.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    >>> data = symode.Data([1, 2, 3], {"x": [1.01, 0.48, 0.26]})
    >>> problem = symode.Problem(model, data, symode.Normal(0.02), scale="log10")
    >>> found = symode.sample(problem, {"k": 0.7}, draws=200, tune=200, chains=2, seed=1)
    >>> bool(abs(found.posterior["k"].mean() - 0.694) < 0.01)
    True
    """
    try:
        import nutpie
        from nutpie.compiled_pyfunc import from_pyfunc
    except ImportError as error:
        raise MissingExtraError(
            "sample() needs the package nutpie: install the extra, symode-adjoint[sampling]."
        ) from error
    for name, number in (("draws", draws), ("tune", tune), ("chains", chains)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise OptionError(f"{name} must be a whole number, 1 or more; got {number!r}.")
    density = LogDensity(problem)
    if start is None:
        raise OptionError("start= is missing: parameters where all chains begin, as fit.theta.")
    center = density.start(start)
    # Compiled here, once; it also tells at once when the start cannot be solved.
    value, _ = density(center)
    if not np.isfinite(value):
        raise OptionError("The model cannot be solved at start=: give another point.")
    names, places = list(density.names), problem.space.places

    def expand(y: Any) -> dict[str, Any]:
        theta = np.asarray(density.theta(y))[places]
        return {name: np.asarray(v) for name, v in zip(names, theta, strict=True)}

    def begin(given: Any) -> Any:
        return center + np.random.default_rng(given).uniform(-0.05, 0.05, density.size)

    model = from_pyfunc(
        density.size,
        lambda: density,
        lambda seed1, seed2, chain: expand,
        [np.dtype(np.float64)] * len(names),
        [()] * len(names),
        names,
        make_initial_point_fn=begin,
    )
    found = nutpie.sample(
        model, draws=draws, tune=tune, chains=chains, cores=cores, seed=seed,
        progress_bar=progress, **options,
    )  # fmt: skip
    found.posterior.attrs["inference_library"] = "nutpie, by symode"
    return found
