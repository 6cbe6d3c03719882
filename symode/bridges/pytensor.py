"""PyMC: the posterior of a problem as a PyTensor operation with its exact gradient."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from symode.errors import MissingExtraError
from symode.problems.log_density import LogDensity
from symode.problems.problem import Problem


def to_pymc(problem: Problem | LogDensity, start: Any = None) -> Any:
    """Return a PyMC model of a problem's posterior.

    Its free variable ``coordinates`` has one entry for each estimated parameter, unbounded; the
    parameters themselves are Deterministics by name. Density and gradient are those of
    `LogDensity`: priors and bounds of the problem included.

    Parameters
    ----------
    problem
        With priors.
    start
        Parameters where chains begin, such as ``fit.theta``; the middle of the bounds by default.

    Raises
    ------
    MissingExtraError
        Without PyMC, which the extra ``pymc`` installs.
    OptionError
        For a start outside the bounds, and what is no Problem.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    >>> data = symode.Data([1, 2, 3], {"x": [1.01, 0.48, 0.26]})
    >>> problem = symode.Problem(model, data, symode.Normal(0.02), scale="log10")
    >>> with symode.to_pymc(problem, {"k": 0.7}):  # doctest: +SKIP
    ...     trace = pymc.sample(1000, chains=2)
    """
    try:
        import pymc
        import pytensor.tensor as pt
    except ImportError as error:
        raise MissingExtraError(
            "to_pymc() needs the package pymc: install the extra, symode-adjoint[pymc]."
        ) from error
    density = problem if isinstance(problem, LogDensity) else LogDensity(problem)
    value, parameters = _operations()
    center = np.zeros(density.size) if start is None else density.start(start)
    with pymc.Model() as model:
        y = pymc.Flat("coordinates", shape=density.size, initval=center)
        pymc.Potential("posterior", value(density)(y))
        theta = parameters(density)(y)
        for i, name in enumerate(density.names):
            pymc.Deterministic(name, pt.as_tensor(theta)[i])
    return model


@cache
def _operations() -> tuple[Any, Any]:
    """Return the classes of the density's operation and of that of its parameters."""
    import pytensor.tensor as pt
    from pytensor.graph.basic import Apply
    from pytensor.graph.op import Op

    class Operation(Op):  # type: ignore[misc]
        """What a density tells of its coordinates."""

        __props__ = ("density",)

        def __init__(self, density: LogDensity) -> None:
            self.density = density

    class Slope(Operation):
        """The gradient of the logarithm of a density."""

        def make_node(self, y: Any) -> Any:
            return Apply(self, [pt.as_tensor(y)], [pt.dvector()])

        def perform(self, node: Any, inputs: Any, outputs: Any) -> None:
            outputs[0][0] = self.density(inputs[0])[1]

    class Value(Operation):
        """The logarithm of a density, with its gradient."""

        def make_node(self, y: Any) -> Any:
            return Apply(self, [pt.as_tensor(y)], [pt.dscalar()])

        def perform(self, node: Any, inputs: Any, outputs: Any) -> None:
            outputs[0][0] = np.asarray(self.density(inputs[0])[0])

        def grad(self, inputs: Any, gradients: Any) -> Any:
            return [gradients[0] * Slope(self.density)(inputs[0])]

    class Parameters(Operation):
        """The estimated parameters at coordinates."""

        def make_node(self, y: Any) -> Any:
            return Apply(self, [pt.as_tensor(y)], [pt.dvector()])

        def perform(self, node: Any, inputs: Any, outputs: Any) -> None:
            places = self.density.problem.space.places
            outputs[0][0] = np.asarray(self.density.theta(inputs[0]))[places]

    return Value, Parameters
