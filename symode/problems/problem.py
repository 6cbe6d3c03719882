"""Problem: a model, data, noise and bounds, as one objective with exact derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike, NDArray

from symode.codegen.reference import evaluate
from symode.equations.loss import Loss, ObservationGroup
from symode.equations.values import vector
from symode.equations.walk import symbols_in
from symode.errors import DataError, InitialStateError, OptionError, ParameterError
from symode.gradients.residuals import Residuals
from symode.gradients.value_and_grad import ValueAndGrad
from symode.interface.model import Model
from symode.problems.data import Data, Series
from symode.problems.noise import Noise, spread
from symode.problems.scores import Scores
from symode.problems.tables import is_frame
from symode.problems.transforms import ParameterSpace, make_space
from symode.solvers.options import check_names, make_options
from symode.symbolic.lift import lift_expressions

Floats = NDArray[np.float64]

LOG_2PI = float(np.log(2 * np.pi))
#: A fit calls the solver at hopeless points, too: it should give up sooner than a single solve.
MAX_STEPS = 10_000
#: See `Problem.relaxed`: no likelihood of interest has a model value that far below all data.
FLOOR = 1e-9


class Problem:
    r"""What to estimate from which data: the negative log-likelihood and its derivatives.

    Parameters
    ----------
    model
        With initial values. Unknown ones are declared as parameters:
        ``Model(..., parameters=[..., x0], initial={x: x0})``.
    data
        Measurements. Times are the model's; rows at t0 are allowed.
    noise
        `Normal` or `LogNormal`, or a mapping {column: noise} with one for each. A sigma that is a
        parameter of the model is estimated with the others.
    bounds
        {parameter: (low, high)}, a pair for each parameter in order, or one pair for all. On a
        logarithmic scale the default is (1e-3, 1e3); on the linear one there is none, and
        bounds may be infinite where starting points are given.
    scale
        ``"lin"``, ``"log10"`` or ``"log"``, for all or as {parameter: scale} (others linear): where
        the search and the intervals are made.
    fixed
        {parameter: value} of parameters that are not estimated.
    t0
        When the initial values hold.
    method
        How gradients are computed, as in `Model.gradient`.
    **options
        ``solver``, ``rtol``, ``atol``, ``max_steps`` (10,000 here), ``h_max``.

    Raises
    ------
    DataError
        Naming row and column: times before t0, columns that measure nothing known, values the
        noise cannot produce.
    OptionError
        Naming the parameter whose bounds, scale or value cannot be.
    InitialStateError
        When the model has no initial values.
    LossError
        When an expression holds a symbol that the model does not know.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k, s = sp.symbols("x k s")
    >>> model = symode.Model({x: -k * x}, parameters=[k, s], initial={x: 2})
    >>> data = Data([1, 2], {"x": [1.0, 0.5]})
    >>> problem = Problem(model, data, symode.LogNormal(s), scale="log10")
    >>> problem
    Problem(estimated: k, s; values: 2 of x; optimizer: L-BFGS-B)
    >>> value, gradient = problem.objective(problem.space.point([0.7, 0.1]))
    >>> round(value, 6)
    -3.4487
    """

    def __init__(
        self,
        model: Model,
        data: Data,
        noise: Noise | Mapping[Any, Noise],
        *,
        bounds: Any = None,
        scale: Any = "lin",
        fixed: Mapping[Any, float] | None = None,
        t0: float = 0.0,
        method: Any = "auto",
        **options: Any,
    ) -> None:
        _check_parts(model, data)
        check_names(options, "Problem()", "bounds", "scale", "fixed", "t0", "method")
        self._given = (model, data, noise, bounds, scale, fixed, t0, method, options)
        equations = model.equations
        if equations.initial is None:
            raise InitialStateError(
                "A problem needs a model with initial values. Where they are unknown, declare them "
                "as parameters: Model(..., parameters=[..., x0], initial={x: x0})."
            )
        self.model, self.data, self.t0 = model, data, float(t0)
        self.method, self.options = method, {"max_steps": MAX_STEPS, **options}
        solver = {name: value for name, value in self.options.items() if name != "backend"}
        make_options(equations.state_names, **solver)
        self.series = data.series(equations)
        self.noise = tuple(_noise_of(s.name, noise, data.names) for s in self.series)
        self.sigma = tuple(
            spread(kind, equations, s.name) for kind, s in zip(self.noise, self.series, strict=True)
        )
        self.space: ParameterSpace = make_space(equations.parameter_names, bounds, scale, fixed)
        for series, kind in zip(self.series, self.noise, strict=True):
            _check_series(series, kind, self.t0)
        self._check_sigma()
        self.expressions = tuple(series.expression for series in self.series)
        self.loss = self._likelihood().resolve(equations)
        if not (self.loss.times > self.t0).any():
            raise DataError(f"All measurements were made at t0 = {self.t0:g}: nothing happens yet.")

    @property
    def size(self) -> int:
        """Number of estimated parameters, p."""
        return self.space.size

    @property
    def n_values(self) -> int:
        """Number of measured values, K."""
        return sum(series.values.size for series in self.series)

    @property
    def is_least_squares(self) -> bool:
        """Whether no sigma depends on what is estimated: then least squares say it all."""
        equations = self.model.equations
        estimated = {equations.parameters[i] for i in self.space.places} | set(equations.states)
        return estimated.isdisjoint(symbols_in(self.sigma))

    def objective(self, x: ArrayLike) -> tuple[float, Floats]:
        """Return the negative log-likelihood and its gradient at a point on the scale.

        Raises
        ------
        SolverError, GradientError
            A failed pass never returns a value.
        OptionError
            When the point has another length than there are estimated parameters.
        """
        point = self.space.check(x)
        value, gradient = self._value_and_grad(np.asarray(self.space.theta(point)))
        return value, gradient[self.space.places] * self.space.slopes(point)

    def value(self, theta: Any) -> float:
        """Return the negative log-likelihood of parameters, by name or in order."""
        return self._value_and_grad(self.parameters(theta))[0]

    def scores(self, x: ArrayLike) -> Scores:
        """Return residuals and spreads at a point on the scale, with exact derivatives.

        In the order of `series`, and of the times of each.
        """
        point = self.space.check(x)
        values, rows = self._residuals(np.asarray(self.space.theta(point)))
        rows = rows * self.space.slopes(point)
        count, n_x = self.n_values, self.size
        log_sigma, dlog_sigma = np.empty(count), np.zeros((count, n_x))
        measured = np.empty(count)
        at, extra = 0, count
        for series, kind, sigma in zip(self.series, self.noise, self.sigma, strict=True):
            here = slice(at, at + series.values.size)
            measured[here] = kind.scaled(series.values)
            if sigma.is_Number:
                log_sigma[here] = np.log(float(sigma))
            else:
                there = slice(extra, extra + series.values.size)
                log_sigma[here], dlog_sigma[here] = values[there], rows[there]
                extra = there.stop
            at = here.stop
        weight = np.exp(-log_sigma)
        return Scores(
            (measured - values[:count]) * weight,
            log_sigma,
            rows[:count] * weight[:, None],
            dlog_sigma,
        )

    def likelihood_of(self, scores: Scores) -> float:
        """Return the negative log-likelihood of scores: the objective, from the other route."""
        total = 0.5 * float(scores.residuals @ scores.residuals) + float(scores.log_sigma.sum())
        for series, kind in zip(self.series, self.noise, strict=True):
            total += float(np.sum(kind.log_slope(kind.scaled(series.values))))
        return total + 0.5 * LOG_2PI * self.n_values

    @cached_property
    def relaxed(self) -> Problem:
        """The same problem with a likelihood for model values of zero and below.

        Far from the data a model may decay to nothing, and the solver's error then decides
        whether its logarithm exists. So that such a point does not end a search, model values under
        `FLOOR` times the smallest measured value count as that. Only searches use this: what they
        find is judged by the problem itself.
        """
        if not any(kind.is_positive for kind in self.noise):
            return self
        other = copy(self)
        for name in ("_value_and_grad", "_residuals", "relaxed"):
            other.__dict__.pop(name, None)
        other.expressions = tuple(
            sp.Max(h, sp.Float(FLOOR * series.values.min()), evaluate=False)
            if kind.is_positive
            else h
            for series, kind, h in zip(self.series, self.noise, self.expressions, strict=True)
        )
        other.loss = other._likelihood()
        return other

    def predict(self, theta: Any, times: ArrayLike) -> dict[str, Floats]:
        """Return the course of each observable at these times, by name. Each of shape ``(k,)``."""
        courses = self.courses(theta, times, list(self.expressions))
        return {s.name: course for s, course in zip(self.series, courses, strict=True)}

    def courses(
        self, theta: Any, times: ArrayLike, expressions: list[sp.Expr]
    ) -> NDArray[np.float64]:
        """Return expressions in states, time, parameters along the solution. Shape ``(r, k)``."""
        values = self.parameters(theta)
        wanted = np.atleast_1d(np.asarray(times, dtype=float))
        order = np.argsort(wanted, kind="stable")
        last = max(float(wanted.max()), float(self.loss.times.max()))
        solution = self.model.solve(
            (self.t0, last), theta=values, times=wanted[order], dense_output=False, **self.options
        )
        graph = lift_expressions(self.model.equations, expressions)
        rows = evaluate(graph, solution.t, solution.z.T, values)
        result = np.empty((len(expressions), wanted.size))
        for i, row in enumerate(rows):
            result[i, order] = row
        return result

    def parameters(self, theta: Any) -> Floats:
        """Return all parameters in order; a mapping may leave out those that are fixed."""
        names = self.space.parameters
        if isinstance(theta, Mapping):
            fixed = {n: v for n, v in zip(names, self.space.values, strict=True) if v == v}
            theta = fixed | {str(key): value for key, value in theta.items()}
        return vector(theta, names, "parameters", ParameterError)

    @cached_property
    def _value_and_grad(self) -> ValueAndGrad:
        return self.model.value_and_grad(
            self.loss, wrt="theta", t0=self.t0, method=self.method, **self.options
        )

    @cached_property
    def _residuals(self) -> Residuals:
        groups = [
            ObservationGroup(kind.location(h), series.times)
            for series, kind, h in zip(self.series, self.noise, self.expressions, strict=True)
        ]
        groups += [
            ObservationGroup(sp.log(sigma), series.times)
            for series, sigma in zip(self.series, self.sigma, strict=True)
            if not sigma.is_Number
        ]
        return Residuals(
            self.model.equations,
            Loss(observations=groups),
            self.space.names,
            t0=self.t0,
            **self.options,
        )

    def _likelihood(self) -> Loss:
        groups = []
        parts = zip(self.series, self.noise, self.sigma, self.expressions, strict=True)
        for series, kind, sigma, h in parts:
            u = sp.Dummy("u")
            residual = (u - kind.location(h)) / sigma
            term = residual**2 / 2 + sp.log(sigma) + kind.log_slope(u) + sp.Float(LOG_2PI / 2)
            scaled = kind.scaled(series.values)
            groups.append(ObservationGroup(term, series.times, (u,), scaled[:, None]))
        return Loss(observations=groups)

    def _check_sigma(self) -> None:
        names, lowest = self.space.names, self.space.lower
        for series, sigma in zip(self.series, self.sigma, strict=True):
            if not (isinstance(sigma, sp.Symbol) and sigma.name in names):
                continue
            i = names.index(sigma.name)
            if not self.space.transforms[i].is_positive and not lowest[i] > 0:
                raise OptionError(
                    f"{sigma} is the sigma of {series.name}, so its bounds must be positive; the "
                    f"lower one is {lowest[i]:g}."
                )
        for name, value in zip(self.space.parameters, self.space.values, strict=True):
            if value <= 0 and any(str(sigma) == name for sigma in self.sigma):
                raise OptionError(f"{name} is a sigma, so it must be positive; it is {value:g}.")

    def __repr__(self) -> str:
        """Return what is estimated from what."""
        values = ", ".join(f"{s.values.size} of {s.name}" for s in self.series)
        optimizer = "least_squares" if self.is_least_squares else "L-BFGS-B"
        names = ", ".join(self.space.names)
        return f"Problem(estimated: {names}; values: {values}; optimizer: {optimizer})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what was given; machine code is found in the store where it is used."""
        return (_rebuild, self._given)


def _check_parts(model: Any, data: Any) -> None:
    if not isinstance(model, Model) or not isinstance(data, Data):
        way_out = ""
        if is_frame(data):
            way_out = " Wrap the table: symode.Data(frame)."
        elif isinstance(model, Data) and isinstance(data, Model):
            way_out = " Swap the first two."
        raise OptionError(
            "Problem expects (model, data, noise): a Model, then Data; got a "
            f"{type(model).__name__}, then a {type(data).__name__}.{way_out}"
        )


def _rebuild(
    model: Model, data: Data, noise: Any, bounds: Any, scale: Any, fixed: Any, t0: float,
    method: Any, options: dict[str, Any],
) -> Problem:  # fmt: skip
    return Problem(
        model, data, noise, bounds=bounds, scale=scale, fixed=fixed, t0=t0, method=method, **options
    )


def _noise_of(name: str, noise: Any, columns: tuple[str, ...]) -> Noise:
    if isinstance(noise, Mapping):
        given = {str(key): kind for key, kind in noise.items()}
        unknown = [key for key in given if key not in columns]
        if unknown or name not in given:
            missing = [column for column in columns if column not in given]
            raise OptionError(
                f"noise= must name every column once; missing: {', '.join(missing) or 'none'}; "
                f"unknown: {', '.join(unknown) or 'none'}."
            )
        noise = given[name]
    if not isinstance(noise, Noise):
        raise OptionError(
            f"The noise of {name} must be Normal(sigma) or LogNormal(sigma); got {noise!r}."
        )
    return noise


def _check_series(series: Series, noise: Noise, t0: float) -> None:
    early = series.times < t0
    if early.any():
        raise series.fault(
            early,
            f"its time is before t0 = {t0:g}, when the initial values hold. Pass t0= if they hold "
            "earlier, or drop the row.",
        )
    bad = series.values <= 0
    if noise.is_positive and bad.any():
        raise series.fault(
            bad,
            f"{type(noise).__name__} noise needs positive values. Use Normal noise for this "
            "column, or drop the value.",
        )
