"""Problem: a model, data, noise and bounds, as one objective with exact derivatives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike, NDArray

from symode.codegen.reference import evaluate
from symode.equations.loss import Loss
from symode.equations.values import is_finite_number, vector
from symode.errors import DataError, GradientError, InitialStateError, OptionError, ParameterError
from symode.gradients.methods import get_gradient_method
from symode.interface.model import Model
from symode.problems.conditions import Condition, make_layout
from symode.problems.data import Data, Series
from symode.problems.hierarchical import make_reduced
from symode.problems.inputs import check_reach
from symode.problems.noise import Noise
from symode.problems.parts import Column, Part
from symode.problems.priors import Prior, check_priors, prior_terms
from symode.problems.reading import (
    are_squares,
    check_parts,
    check_series,
    check_sigma,
    floored,
    make_columns,
    read_conditions,
)
from symode.problems.scores import Scores, join_scores
from symode.problems.simulate import Simulator
from symode.problems.space import ParameterSpace, make_space
from symode.solvers.options import check_names, make_options
from symode.symbolic.lift import lift_expressions

if TYPE_CHECKING:
    from symode.problems.log_density import LogDensity

Floats = NDArray[np.float64]

#: A fit calls the solver at hopeless points, too: it should give up sooner than a single solve.
MAX_STEPS = 10_000


class Problem:
    r"""What to estimate from which data: the negative log-likelihood and its derivatives.

    Parameters
    ----------
    model
        With initial values. Unknown ones are declared as parameters:
        ``Model(..., parameters=[..., x0], initial={x: x0})``.
    data
        Measurements, or {condition: measurements}. Times are the model's; rows at t0 are allowed.
    noise
        `Normal`, `LogNormal`, `Log10Normal`, `Laplace`, `StudentT`, `Poisson` or
        `NegativeBinomial`, or a mapping {column: noise} with one for each. A sigma that is a
        parameter of the model is estimated with the others.
    conditions
        {name: `Condition`}, for data of several experiments: what differs between them. Those of
        the data that are not mentioned are run as the model stands.
    parameters
        Parameters of the problem that only expressions in conditions contain.
    local
        Parameters of the model that each condition has for itself: ``k`` becomes ``k[low]``,
        ``k[high]``. In bounds, scale, fixed and priors the name ``k`` stands for all of them.
    priors
        {parameter: prior}: `NormalPrior`, `LaplacePrior` or `UniformPrior`.
    bounds
        {parameter: (low, high)}, a pair for each parameter in order, or one pair for all. On a
        logarithmic scale the default is (1e-3, 1e3); on the linear one there is none, and
        bounds may be infinite where starting points are given.
    scale
        ``"lin"``, ``"log10"``, ``"log"``, ``"logit"`` or ``"softplus"``, for all or as {parameter:
        scale} (others linear): where the search and the intervals are made.
    fixed
        {parameter: value} of parameters that are not estimated.
    hierarchical
        Scalings, offsets and sigmas of normal noise that searches set to their optimum in closed
        form at every point, so that they look for the other parameters only.
    t0
        When the initial values hold.
    method
        How gradients are computed, as in `Model.gradient`.
    workers
        Threads that run conditions side by side; the number of cores by default. Results do not
        depend on it.
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
        data: Data | Mapping[Any, Data],
        noise: Noise | Mapping[Any, Noise],
        *,
        conditions: Mapping[Any, Condition] | None = None,
        parameters: Iterable[Any] = (),
        local: Iterable[Any] = (),
        priors: Mapping[Any, Prior] | None = None,
        bounds: Any = None,
        scale: Any = "lin",
        fixed: Mapping[Any, float] | None = None,
        hierarchical: Iterable[Any] = (),
        t0: float = 0.0,
        method: Any = "auto",
        workers: int | None = None,
        **options: Any,
    ) -> None:
        check_parts(model, data)
        known = ("conditions", "parameters", "local", "priors", "bounds", "scale", "fixed", "t0",
                 "hierarchical", "method", "workers")  # fmt: skip
        check_names(options, "Problem()", *known)
        if not is_finite_number(t0):
            raise OptionError(f"t0= must be a finite number; got {t0!r}.")
        # Imported here: executors know problems.
        from symode.problems.executors import check_workers

        check_workers(workers, None)
        if not (isinstance(method, str) and method.lower() == "auto"):
            get_gradient_method(method)
        parameters, local, hierarchical = list(parameters), list(local), list(hierarchical)
        self._given = (model, data, noise), {
            "conditions": conditions, "parameters": parameters, "local": local, "priors": priors,
            "bounds": bounds, "scale": scale, "fixed": fixed, "t0": t0, "method": method,
            "workers": workers, "hierarchical": hierarchical, **options,
        }  # fmt: skip
        equations = model.equations
        if equations.initial is None:
            raise InitialStateError(
                "A problem needs a model with initial values. Where they are unknown, declare them "
                "as parameters: Model(..., parameters=[..., x0], initial={x: x0})."
            )
        self.model, self.data, self.t0 = model, data, float(t0)
        self.method, self.options = method, {"max_steps": MAX_STEPS, **options}
        self.workers = workers
        solver = {name: value for name, value in self.options.items() if name != "backend"}
        make_options(equations.state_names, **solver, mass=equations.mass is not None)
        self.measured, settings = read_conditions(data, conditions)
        self.conditions = settings
        layout = self.layout = make_layout(equations, settings, parameters, local)
        if local and isinstance(data, Data):
            raise OptionError(
                f"local= gives each condition its own {', '.join(map(str, local))}, but these data "
                "have one condition. Leave local= out, or pass data as {condition: Data}."
            )
        found = {name: part.series(layout.equations) for name, part in self.measured.items()}
        self.columns: tuple[Column, ...] = make_columns(found, noise, layout.equations)
        self.space: ParameterSpace = make_space(
            layout.names, _named(layout, bounds), _named(layout, scale), _named(layout, fixed)
        )
        self.priors = check_priors(layout.spread(priors or {}), layout.names)
        starts = {n: self.t0 if c.t0 is None else float(c.t0) for n, c in settings.items()}
        for name, series in found.items():
            check_series(name, series, self.columns, starts[name])
        self._check_sigma()
        check_reach(
            settings, starts, {n: max(float(s.times.max()) for s in rows if s.times.size)
                               for n, rows in found.items() if any(s.times.size for s in rows)},
        )  # fmt: skip
        self._found, self._starts = found, starts
        self.parts = self._make_parts(self.columns)
        self.reduced = make_reduced(self, [str(name) for name in hierarchical])

    @property
    def size(self) -> int:
        """Number of estimated parameters, p."""
        return self.space.size

    @property
    def n_values(self) -> int:
        """Number of measured values, K."""
        return sum(part.n_values for part in self.parts)

    @property
    def series(self) -> tuple[Series, ...]:
        """The measurements of all conditions, one after the other."""
        return tuple(series for part in self.parts for series in part.series)

    @property
    def loss(self) -> Loss:
        """The negative log-likelihood as a loss of the model, for a problem of one condition.

        Raises
        ------
        OptionError
            When there are several: each of ``problem.parts`` then has its own.
        """
        if len(self.parts) > 1:
            raise OptionError(
                "This problem has several conditions, each with a loss of its own: "
                "problem.parts[i].loss."
            )
        return self.parts[0].loss

    @property
    def is_least_squares(self) -> bool:
        """Whether noise is normal and no sigma is estimated: then least squares say it all."""
        return are_squares(self)

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
        outer = np.asarray(self.space.theta(point))
        slopes = self.space.slopes(point)
        value, gradient = self._simulator(outer)
        gradient = gradient[self.space.places] * slopes
        if self.priors:
            prior = prior_terms(self.priors, outer, slopes, self.space.places)
            value, gradient = value + prior.value, gradient + prior.gradient
        return value, gradient

    def log_density(self) -> LogDensity:
        """Return the posterior density's logarithm with gradient, as samplers want it."""
        from symode.problems.log_density import LogDensity

        return LogDensity(self)

    def value(self, theta: Any) -> float:
        """Return the negative log-likelihood of parameters, by name or in order.

        Also where it has no gradient: an event that grazes, or jumps at a measurement.
        """
        outer = self.parameters(theta)
        try:
            value = self._simulator(outer)[0]
        except GradientError:
            value = math.fsum(part.value(outer) for part in self.parts)
        return value + math.fsum(p.terms(float(outer[i]))[0] for i, p in self.priors)

    def scores(self, x: ArrayLike) -> Scores:
        """Return every measurement's residual and likelihood at a point, with derivatives.

        Condition by condition, in the order of the columns and of the times of each.
        """
        point = self.space.check(x)
        outer = np.asarray(self.space.theta(point))
        moving = np.zeros(outer.size, dtype=bool)
        moving[self.space.places] = True
        slopes = self.space.slopes(point)
        prior = prior_terms(self.priors, outer, slopes, self.space.places)
        rows = self._simulator.map(lambda part: part.rows(outer, moving))
        return join_scores(rows, self.space.places, slopes, prior)

    @cached_property
    def relaxed(self) -> Problem:
        """The same problem with a likelihood for model values of zero and below.

        Far from the data a model may decay to nothing, and the solver's error then decides
        whether its logarithm exists. So that such a point does not end a search, model values under
        a billionth of the smallest measured value count as that. Only searches use this: what they
        find is judged by the problem itself.
        """
        if not any(column.noise.is_positive for column in self.columns):
            return self
        other = copy(self)
        for name in ("_simulator", "_searches", "relaxed"):
            other.__dict__.pop(name, None)
        other.parts = self._make_parts([floored(column, self.series) for column in self.columns])
        return other

    def predict(
        self, theta: Any, times: ArrayLike, condition: str | None = None
    ) -> dict[str, Floats]:
        """Return the course of each observable at these times, by name. Each of shape ``(k,)``."""
        columns = [c for c in self.columns if c.name in self._names_of(condition)]
        courses = self.courses(theta, times, [c.expression for c in columns], condition)
        return {c.name: course for c, course in zip(columns, courses, strict=True)}

    def courses(
        self,
        theta: Any,
        times: ArrayLike,
        expressions: Sequence[sp.Expr],
        condition: str | None = None,
    ) -> NDArray[np.float64]:
        """Return expressions in states, time, parameters along the solution. Shape ``(r, k)``.

        ``condition`` names the experiment; it may be left out where there is one.
        """
        part = self.part(condition)
        values = part.parameters.theta(self.parameters(theta))
        wanted = np.atleast_1d(np.asarray(times, dtype=float))
        order = np.argsort(wanted, kind="stable")
        last = max(float(wanted.max()), part.end)
        solution = Model(part.equations).solve(
            (part.t0, last), theta=values, times=wanted[order], dense_output=False, **self.options
        )
        graph = lift_expressions(part.equations, expressions)
        rows = evaluate(graph, solution.t, solution.z.T, values)
        result = np.empty((len(expressions), wanted.size))
        for i, row in enumerate(rows):
            result[i, order] = row
        return result

    def part(self, condition: str | None = None) -> Part:
        """Return the part of a condition; it need not be named where there is one.

        Raises
        ------
        OptionError
            When it is unknown, or not named where there are several.
        """
        names = [part.name for part in self.parts]
        if condition is None and len(names) == 1:
            return self.parts[0]
        if condition not in names:
            raise OptionError(
                f"condition= must name one of {', '.join(map(repr, names))}; got {condition!r}."
            )
        return self.parts[names.index(str(condition))]

    def parameters(self, theta: Any) -> Floats:
        """Return all parameters in order; a mapping may leave out those that are fixed."""
        names = self.space.parameters
        if isinstance(theta, Mapping):
            fixed = {n: v for n, v in zip(names, self.space.values, strict=True) if v == v}
            theta = fixed | self.layout.spread(theta)
        return vector(theta, names, "parameters", ParameterError)

    def _check_sigma(self) -> None:
        check_sigma(self.columns, self.layout, self.space)

    @cached_property
    def _simulator(self) -> Simulator:
        return Simulator(self.parts, self.workers)

    @cached_property
    def _wanted(self) -> tuple[int, ...]:
        """Places of the model's parameters that depend on estimated ones in any condition."""
        moving = np.zeros(len(self.space.parameters), dtype=bool)
        moving[self.space.places] = True
        found: set[int] = set()
        for part in self.layout.maps.values():
            found |= {i for i, place in enumerate(part.source) if place >= 0 and moving[place]}
            found |= set(part.places.tolist())
        return tuple(sorted(found))

    def _make_parts(self, columns: Sequence[Column]) -> tuple[Part, ...]:
        parts: list[Part] = []
        for name, series in self._found.items():
            parts.append(
                Part(
                    name,
                    self.layout.equations,
                    self.layout.maps[name],
                    series,
                    columns,
                    self._starts[name],
                    self.method,
                    self.options,
                    self._wanted,
                    sibling=parts[0] if parts else None,
                )
            )
        self._check_courses(parts)
        return tuple(parts)

    def _check_courses(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if not part.last > part.t0:
                where = f"of condition {part.name!r} " if part.name else ""
                raise DataError(
                    f"All measurements {where}were made at t0 = {part.t0:g}: nothing happens yet."
                )

    def _names_of(self, condition: str | None) -> tuple[str, ...]:
        return tuple(series.name for series in self.part(condition).series)

    def __repr__(self) -> str:
        """Return what is estimated from what."""
        values = ", ".join(f"{s.values.size} of {s.name}" for s in self.series)
        if len(self.parts) > 1:
            values = f"{self.n_values} in {len(self.parts)} conditions"
        optimizer = "scoring" if self.is_least_squares else "L-BFGS-B"
        names = ", ".join(self.space.names)
        return f"Problem(estimated: {names}; values: {values}; optimizer: {optimizer})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what was given; machine code is found in the store where it is used."""
        return (_rebuild, self._given)


def _rebuild(arguments: tuple[Any, ...], options: dict[str, Any]) -> Problem:
    return Problem(*arguments, **options)


def _named(layout: Any, given: Any) -> Any:
    """Return a mapping with the copies of local parameters in place of their family."""
    return layout.spread(given) if isinstance(given, Mapping) else given
