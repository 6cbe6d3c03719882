r"""Posterior density of a problem, with gradient: what samplers ask for.

Parameters are sampled in coordinates y without bounds. A parameter on the scale of the search,
:math:`x = u(\theta)`, with bounds on both sides is

.. math:: x = x_{low} + (x_{high} - x_{low}) / (1 + e^{-y})

with one bound :math:`x = x_{low} + e^y` or :math:`x_{high} - e^y`, and with none :math:`x = y`.
The logarithm of the density of y is

.. math:: \log L(\theta) + \sum_j \log p_j + \log\Bigl|\frac{dx_j}{dy_j}\Bigr|

where :math:`p_j` is the prior density of :math:`x_j`. A prior of the problem is a density of
:math:`\theta_j`, so that :math:`p_j = p(\theta_j)\,|d\theta_j/dx_j|`; with ``of_scale`` it is one
of :math:`v(\theta_j)` and :math:`p_j = p(v)\,|dv/dx_j|`. **A parameter without a prior is
uniform on the scale of the search**, within its bounds: on a logarithmic scale its logarithm is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from symode.equations.values import Named
from symode.errors import GradientError, OptionError, SolverError
from symode.problems.measure import MEASURES
from symode.problems.problem import Problem

Floats = NDArray[np.float64]


class LogDensity:
    """The logarithm of a problem's posterior density, up to a constant, with its gradient.

    Parameters
    ----------
    problem
        With priors for what was known before; see `symode.problems.log_density` for those of the
        other parameters.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    >>> data = symode.Data([1, 2, 3], {"x": [1.01, 0.48, 0.26]})
    >>> density = LogDensity(symode.Problem(model, data, symode.Normal(0.02), scale="log10"))
    >>> y = density.start({"k": 0.7})
    >>> value, gradient = density(y)
    >>> round(value, 4), gradient.round(2).tolist(), density.theta(y)
    (8.5259, [-89.08], k=0.7)
    """

    def __init__(self, problem: Problem) -> None:
        if not isinstance(problem, Problem):
            raise OptionError(f"LogDensity expects a Problem; got a {type(problem).__name__}.")
        self.problem = problem
        space = problem.space
        lower, upper = np.isfinite(space.lower), np.isfinite(space.upper)
        self._both, self._low, self._high = lower & upper, lower & ~upper, upper & ~lower
        self._width = np.where(self._both, space.widths, 1.0)
        given = dict(problem.priors)
        self._prior_of = [given.get(int(place)) for place in space.places]

    @property
    def size(self) -> int:
        """Number of coordinates, one for each estimated parameter."""
        return self.problem.size

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the estimated parameters."""
        return self.problem.space.names

    def __call__(self, y: ArrayLike) -> tuple[float, Floats]:
        """Return the logarithm of the density at y, and its gradient. Shape ``(p,)``.

        Where the model cannot be solved the density counts as zero: minus infinity and a gradient
        of zeros, which samplers reject.
        """
        point = np.asarray(y, dtype=float)
        space = self.problem.space
        x, slope, jacobian, bend = self._from_free(point)
        if not np.isfinite(x).all():
            return -np.inf, np.zeros(self.size)
        try:
            value, gradient = self.problem.objective(x)
        except (SolverError, GradientError):
            return -np.inf, np.zeros(self.size)
        theta = np.asarray(space.theta(x))[space.places]
        for j, prior in enumerate(self._prior_of):
            if prior is not None:
                term, along = _on_scale(prior, space.transforms[j], float(theta[j]))
                value -= term
                gradient[j] -= along
        return float(jacobian.sum() - value), bend - gradient * slope

    def theta(self, y: ArrayLike) -> Named:
        """Return all parameters of the problem at y. Shape ``(m,)``."""
        return self.problem.space.theta(self._from_free(np.asarray(y, dtype=float))[0])

    def start(self, theta: Any) -> Floats:
        """Return the coordinates of parameters, by name or in order; those on a bound move in.

        Raises
        ------
        OptionError
            For a parameter outside its bounds.
        """
        space = self.problem.space
        x = space.begin(self.problem.parameters(theta))
        room = 1e-3 * self._width
        low, high = (
            np.where(self._both | self._low, space.lower + room, -np.inf),
            np.where(self._both | self._high, space.upper - room, np.inf),
        )
        x = np.clip(x, low, high)
        y = x.copy()
        both, lower, upper = self._both, self._low, self._high
        share = (x[both] - space.lower[both]) / self._width[both]
        y[both] = np.log(share) - np.log1p(-share)
        y[lower] = np.log(x[lower] - space.lower[lower])
        y[upper] = np.log(space.upper[upper] - x[upper])
        return y

    def _from_free(self, y: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return x, dx/dy, log |dx/dy| and the derivative of that."""
        if y.shape != (self.size,):
            raise OptionError(
                f"A point has one coordinate for each of {', '.join(self.names)}; got shape "
                f"{y.shape}."
            )
        space = self.problem.space
        x, slope, jacobian, bend = y.copy(), np.ones_like(y), np.zeros_like(y), np.zeros_like(y)
        both = self._both
        half = np.tanh(0.5 * y[both])
        x[both] = space.lower[both] + self._width[both] * 0.5 * (1.0 + half)
        jacobian[both] = np.log(self._width[both]) - np.logaddexp(0, y[both])
        jacobian[both] -= np.logaddexp(0, -y[both])
        slope[both], bend[both] = np.exp(jacobian[both]), -half
        for side, ends, sign in ((self._low, space.lower, 1.0), (self._high, space.upper, -1.0)):
            with np.errstate(over="ignore"):
                grown = np.exp(y[side])
            x[side], slope[side] = ends[side] + sign * grown, sign * grown
            jacobian[side], bend[side] = y[side], 1.0
        return x, slope, jacobian, bend


def _on_scale(prior: Any, transform: Any, theta: float) -> tuple[float, float]:
    """Return the logarithm of what makes the prior a density of x, and its derivative in x."""
    slope = float(transform.slope(theta))
    # The slope is an analytic function of theta: the complex step is exact to rounding.
    value, along = (
        float(np.log(abs(slope))),
        float(np.imag(transform.slope(theta + 1e-30j)) / 1e-30),
    )
    measure = MEASURES[getattr(prior, "on", "lin")]
    if measure.is_positive and getattr(prior, "of_scale", False):
        value += float(np.log(measure.factor / theta))
        along -= slope / theta
    return value, along
