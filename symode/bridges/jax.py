"""JAX: the posterior of a problem as a function of BlackJAX, NumPyro and the like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from symode.errors import MissingExtraError
from symode.problems.log_density import LogDensity
from symode.problems.problem import Problem


def to_jax(problem: Problem | LogDensity) -> Callable[[Any], Any]:
    """Return the logarithm of a problem's posterior density as a function that JAX differentiates.

    It may be jitted, mapped (``jax.vmap`` calls it one point after the other) and differentiated
    once; it runs symode's own compiled code through ``jax.pure_callback``, with the exact gradient.

    Parameters
    ----------
    problem
        With priors. The coordinates are those of ``problem.log_density()``, unbounded:
        ``density.start(theta)`` gives them, ``density.theta(y)`` goes back.

    Raises
    ------
    MissingExtraError
        Without JAX, which the extra ``jax`` installs.
    OptionError
        For what is no Problem.

    Notes
    -----
    JAX computes in single precision unless ``jax.config.update("jax_enable_x64", True)`` is called
    first: values and gradients are then rounded to 7 digits on their way.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    >>> data = symode.Data([1, 2, 3], {"x": [1.01, 0.48, 0.26]})
    >>> problem = symode.Problem(model, data, symode.Normal(0.02), scale="log10")
    >>> density = problem.log_density()
    >>> start = density.start({"k": 0.7})
    >>> logdensity = symode.to_jax(density)  # doctest: +SKIP
    >>> kernel = blackjax.nuts(logdensity, 0.3, np.ones(1))  # doctest: +SKIP
    >>> nuts = numpyro.infer.NUTS(potential_fn=lambda y: -logdensity(y))  # doctest: +SKIP
    """
    try:
        import jax
        import jax.numpy as jnp
    except ImportError as error:
        raise MissingExtraError(
            "to_jax() needs the package jax: install the extra, symode-adjoint[jax]."
        ) from error
    density = problem if isinstance(problem, LogDensity) else LogDensity(problem)

    def both(y: Any) -> tuple[Any, Any]:
        y = jnp.asarray(y)
        kind = y.dtype if jnp.issubdtype(y.dtype, jnp.floating) else jnp.zeros(0).dtype

        def call(point: Any) -> tuple[Any, Any]:
            value, slope = density(np.asarray(point, dtype=float))
            return np.asarray(value, dtype=kind), np.asarray(slope, dtype=kind)

        shapes = jax.ShapeDtypeStruct((), kind), jax.ShapeDtypeStruct((density.size,), kind)
        found: tuple[Any, Any] = jax.pure_callback(call, shapes, y, vmap_method="sequential")
        return found

    logdensity = jax.custom_vjp(lambda y: both(y)[0])
    logdensity.defvjp(both, lambda slope, out: (out * slope,))
    result: Callable[[Any], Any] = logdensity
    return result
