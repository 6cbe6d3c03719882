"""Losses: what is differentiated, as SymPy expressions and measured values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any, Protocol, cast

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike, NDArray

from symode.equations.checks import faults_of_expression
from symode.equations.describe import brief
from symode.equations.equations import Equations
from symode.equations.inputs import as_expression
from symode.equations.values import real_array
from symode.equations.walk import distinct_nodes
from symode.errors import LossError, ModelError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ObservationGroup:
    r"""One expression :math:`\ell(z, t, \theta, d)` summed over times, each with its own data d.

    Parameters
    ----------
    expression
        In states, time, parameters and the data symbols.
    times
        Observation times, in any order, repeats allowed. Shape ``(k,)``.
    data_symbols
        Symbols that take the values of one row of ``data``.
    data
        Shape ``(k, len(data_symbols))``.
    """

    expression: sp.Expr
    times: Floats
    data_symbols: tuple[sp.Symbol, ...] = ()
    data: Floats = field(default_factory=lambda: np.empty((0, 0)))

    def __post_init__(self) -> None:
        times = np.atleast_1d(_measured("times", self.times))
        data = _measured("data", self.data).reshape(times.size, len(self.data_symbols))
        if not np.isfinite(times).all():
            raise LossError(f"Observation times must be finite numbers; got {times.tolist()}.")
        if not np.isfinite(data).all():
            row = int(np.flatnonzero(~np.isfinite(data).all(axis=1))[0])
            raise LossError(
                f"The data of the observation at t = {times[row]:g} (row {row}) are not finite: "
                f"{data[row].tolist()}. Leave missing values out of the loss."
            )
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "data", data)


class LossLike(Protocol):
    """Anything that becomes a `Loss` once the equations are known."""

    def resolve(self, equations: Equations) -> Loss:
        """Return the loss for these equations."""
        ...


class Loss:
    r"""A scalar objective of a trajectory.

    .. math:: J = \Phi(z(t_1), t_1, \theta) + \sum_i \ell_i(z(t_i), t_i, \theta)
                + \int_{t_0}^{t_1} c(z, t, \theta)\,dt

    Parameters
    ----------
    terminal
        :math:`\Phi`, an expression in states, time and parameters.
    running
        c, the integrand.
    observations
        Time to expression :math:`\ell_i`, as a mapping or as pairs; with pairs a time may repeat.
        Also accepts `ObservationGroup` values, for expressions with measured data.

    Raises
    ------
    LossError
        When empty, or when an expression holds a symbol that is none of the model's.

    Examples
    --------
    >>> import sympy as sp
    >>> x, a = sp.symbols("x a")
    >>> Loss(terminal=(x - 1) ** 2 + a**2, observations={1.5: x**2})
    Loss(terminal=a**2 + (x - 1)**2, observations at 1 time)
    """

    #: The function of its parts that a `Composite` is; None for a sum.
    outer: sp.Expr | None = None
    #: What stands for its parts in that function.
    symbols: tuple[sp.Symbol, ...] = ()

    def __init__(
        self,
        terminal: Any = None,
        running: Any = None,
        observations: Mapping[float, Any] | Iterable[Any] | None = None,
    ) -> None:
        self.terminal = None if terminal is None else expression_of(terminal, "terminal")
        self.running = None if running is None else expression_of(running, "running")
        self.groups, self.places = _group(observations)
        if self.terminal is None and self.running is None and not self.groups:
            raise LossError(
                "A loss needs terminal=, running= or observations=; all three are missing."
            )

    @property
    def terminals(self) -> tuple[tuple[int, sp.Expr], ...]:
        """The terminal losses, each with the part it belongs to: one of a sum, see `Composite`."""
        return () if self.terminal is None else ((0, self.terminal),)

    @property
    def runnings(self) -> tuple[tuple[int, sp.Expr], ...]:
        """The running costs, each with the part it belongs to."""
        return () if self.running is None else ((0, self.running),)

    @cached_property
    def n_parts(self) -> int:
        """How many losses it is a function of: one, itself."""
        return 1

    @cached_property
    def row(self) -> NDArray[np.int64]:
        """The part each observation belongs to, group by group."""
        return np.zeros(self.times.size, dtype=np.int64)

    @property
    def times(self) -> Floats:
        """All observation times, group by group; ``places`` are theirs in what was given."""
        return np.concatenate([g.times for g in self.groups]) if self.groups else np.empty(0)

    def moved(self, places: Mapping[float, float]) -> Loss:
        """Return this loss with the observations at some times moved to others.

        Observations at t0 or t1 are attached to these ends: they move with them.
        """
        result = copy(self)
        result.groups = tuple(
            replace(g, times=np.array([places.get(float(t), t) for t in g.times]))
            for g in self.groups
        )
        return result

    def at(self, times: Floats) -> Loss:
        """Return this loss with its observations at other times, in the order they were given."""
        result, moved, stop = copy(self), np.asarray(times, dtype=float)[self.places], 0
        groups = []
        for group in self.groups:
            start, stop = stop, stop + group.times.size
            groups.append(replace(group, times=moved[start:stop]))
        result.groups = tuple(groups)
        return result

    def resolve(self, equations: Equations) -> Loss:
        """Return this loss, once its symbols are known to be the model's."""
        known = {*equations.states, *equations.parameters, equations.time}
        parts: list[tuple[str, sp.Expr | None, set[sp.Symbol]]] = [
            ("terminal", self.terminal, set()),
            ("running", self.running, set()),
        ]
        parts += [("observation", g.expression, set(g.data_symbols)) for g in self.groups]
        for where, expression, data in parts:
            if expression is None:
                continue
            strangers = sorted(symbols_of(expression) - known - data, key=str)
            if strangers:
                raise LossError(
                    f"The {where} loss {expression} holds {', '.join(map(str, strangers))}, which "
                    f"the model does not know. Its states are {', '.join(equations.state_names)}; "
                    f"its parameters {', '.join(equations.parameter_names) or 'none'}; its time "
                    f"{equations.time}. Symbols with other assumptions are other symbols."
                )
        return self

    def __repr__(self) -> str:
        parts = []
        if self.terminal is not None:
            parts.append(f"terminal={self.terminal}")
        if self.running is not None:
            parts.append(f"running={self.running}")
        if self.groups:
            count = self.times.size
            parts.append(f"observations at {count} time{'s' if count > 1 else ''}")
        return f"Loss({', '.join(parts)})"


@dataclass(frozen=True, eq=False)
class LeastSquares:
    r"""The sum of squared residuals, :math:`\sum_{i,j} w_{ij} (h_j(z(t_i)) - d_{ij})^2`.

    Parameters
    ----------
    times
        Shape ``(k,)``.
    values
        Measured values; NaN, or a mask, marks a missing one. Shape ``(k, r)``, or ``(k,)`` for
        r = 1. A DataFrame's columns name the observables.
    observables
        What was measured: r expressions, names of states or observables, or a mapping whose
        values are expressions. All states by default.
    weights
        Scalar, shape ``(r,)`` or ``(k, r)``; 1 by default.

    Raises
    ------
    LossError
        When shapes do not fit, times or weights are not finite, or nothing was measured.

    Examples
    --------
    >>> LeastSquares([0.0, 1.0], [[1.0], [0.4]]).values.shape
    (2, 1)
    """

    times: ArrayLike
    values: ArrayLike
    observables: Mapping[str, Any] | Sequence[Any] | None = None
    weights: ArrayLike = 1.0

    def __post_init__(self) -> None:
        columns = [str(name) for name in getattr(self.values, "columns", ())]
        if self.observables is None and columns and all(map(str.isidentifier, columns)):
            object.__setattr__(self, "observables", tuple(columns))
        times = np.atleast_1d(_measured("times", self.times))
        hidden = np.ma.getmask(self.values)
        values = _measured("values", np.ma.getdata(self.values) if hidden.any() else self.values)
        if hidden.any():
            values[hidden] = np.nan
        if values.ndim < 2:
            values = values.reshape(-1, 1)
        if values.ndim > 2 or times.ndim > 1:
            raise LossError(
                f"times has shape {times.shape} and values {values.shape}; expected (k,) and "
                "(k, r), one row of values for each time."
            )
        if values.shape[0] != times.size:
            raise LossError(f"There are {times.size} times but {values.shape[0]} rows of values.")
        weights = _measured("weights", self.weights)
        try:
            weights = np.broadcast_to(weights, values.shape)
        except ValueError:
            raise LossError(
                f"weights of shape {np.shape(self.weights)} do not fit values of shape "
                f"{values.shape}."
            ) from None
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise LossError("weights must be finite and not negative.")
        if np.isinf(values).any() or np.isnan(values).all():
            raise LossError("values must be finite (NaN for a missing one), and not all missing.")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "weights", weights)

    def resolve(self, equations: Equations) -> Loss:
        """Return the loss for these equations."""
        expressions = resolve_observables(equations, self.observables)
        values, weights = np.asarray(self.values), np.asarray(self.weights)
        if len(expressions) != values.shape[1]:
            raise LossError(
                f"values has {values.shape[1]} columns for {len(expressions)} observables "
                f"({', '.join(map(str, expressions))}). Pass observables= to say what was measured."
            )
        missing = np.isnan(values)
        d = sp.symbols(f"d_0:{len(expressions)}", cls=sp.Dummy)
        if not missing.any() and (weights == 1.0).all():
            total = sp.Add(*((h - y) ** 2 for h, y in zip(expressions, d, strict=True)))
            group = ObservationGroup(total, np.asarray(self.times), d, values)
        else:
            w = sp.symbols(f"w_0:{len(expressions)}", cls=sp.Dummy)
            terms = zip(expressions, d, w, strict=True)
            total = sp.Add(*(wi * (h - y) ** 2 for h, y, wi in terms))
            known = np.where(missing, 0.0, values)
            data = np.hstack([known, np.where(missing, 0.0, weights)])
            group = ObservationGroup(total, np.asarray(self.times), (*d, *w), data)
        return Loss(observations=[group]).resolve(equations)


def _measured(what: str, values: Any) -> Floats:
    """Return real numbers of a loss as an array."""
    try:
        return real_array(values)
    except (TypeError, ValueError):
        raise LossError(f"{what} must be real numbers; got {values!r:.60}.") from None


def resolve_loss(loss: Any, equations: Equations) -> Loss:
    """Return the loss for these equations, of whatever was given as one.

    Raises
    ------
    LossError
        When it is no loss, saying how to make one of it.
    """
    if isinstance(loss, type) or not callable(getattr(loss, "resolve", None)):
        given = f"the class {loss.__name__}" if isinstance(loss, type) else type(loss).__name__
        if isinstance(loss, sp.Basic):
            given, way_out = f"the expression {brief(loss)}", "Wrap it: symode.Loss(terminal=...)."
        elif hasattr(loss, "series"):
            way_out = (
                "Wrap measurements: symode.LeastSquares(times, values), or estimate with "
                "symode.Problem(model, data, noise)."
            )
        else:
            way_out = "Make one: symode.Loss(terminal=...) or symode.LeastSquares(times, values)."
        raise LossError(f"A Loss or LeastSquares is expected; got {given}. {way_out}")
    resolved = loss.resolve(equations)
    if not isinstance(resolved, Loss):
        raise LossError(
            f"One Loss or LeastSquares is expected; got the {type(loss).__name__} {loss!r}. The "
            "gradients of several losses are the rows of model.jacobian(losses, span)."
        )
    return resolved


def resolve_observables(
    equations: Equations, observables: Mapping[str, Any] | Sequence[Any] | None
) -> tuple[sp.Expr, ...]:
    """Return expressions for observables given as expressions or names; all states for None."""
    if observables is None:
        return equations.states
    named = dict(zip(equations.state_names, equations.states, strict=True))
    named |= dict(equations.observables)
    entries = observables.values() if isinstance(observables, Mapping) else observables
    result = []
    for entry in entries:
        if isinstance(entry, str):
            if entry not in named:
                raise LossError(
                    f"There is no state or observable {entry!r}. Known: {', '.join(named)}."
                )
            entry = named[entry]
        result.append(expression_of(entry, "observable"))
    return tuple(result)


def _group(
    observations: Mapping[float, Any] | Iterable[Any] | None,
) -> tuple[tuple[ObservationGroup, ...], NDArray[np.int64]]:
    """Return one group for each expression, and the place of each time among those given."""
    if observations is None:
        return (), np.empty(0, dtype=np.int64)
    entries = observations.items() if isinstance(observations, Mapping) else observations
    groups: list[ObservationGroup] = []
    by_expression: dict[sp.Expr, list[float]] = {}
    grouped: list[int] = []
    places: dict[sp.Expr, list[int]] = {}
    count = 0
    for entry in entries:
        if isinstance(entry, ObservationGroup):
            expression_of(entry.expression, "observation")
            groups.append(entry)
            grouped.extend(range(count, count + entry.times.size))
            count += entry.times.size
            continue
        try:
            time, expression = cast(tuple[float, Any], entry)
            time = float(time)
        except (TypeError, ValueError):
            raise LossError(
                f"An observation must be a pair (time, expression), not {entry!r}."
            ) from None
        expression = expression_of(expression, "observation")
        by_expression.setdefault(expression, []).append(time)
        places.setdefault(expression, []).append(count)
        count += 1
    groups += [ObservationGroup(e, np.array(times)) for e, times in by_expression.items()]
    return tuple(groups), np.array([*grouped, *chain(*places.values())], dtype=np.int64)


def symbols_of(expression: sp.Basic) -> set[sp.Symbol]:
    """Return the symbols of an expression however deep."""
    return {node for node in distinct_nodes([expression]) if node.is_Symbol}


def expression_of(value: Any, where: str) -> sp.Expr:
    """Return a real-valued expression; text is refused, since reading it would mean running it."""
    if isinstance(value, str):
        raise LossError(
            f"The {where} of a loss is the text {value!r}: write it with SymPy symbols, as in "
            "(x - 1)**2 with x = sympy.Symbol('x')."
        )
    try:
        expression = as_expression(value)
    except ModelError as error:
        raise LossError(
            f"The {where} of a loss must be a SymPy expression or a number; {value!r} {error}."
        ) from None
    faults = faults_of_expression(expression)
    if faults:
        lines = "".join(f"\n  - {fault}" for fault in faults)
        raise LossError(f"The {where} of a loss is not a real-valued expression:{lines}")
    return expression
