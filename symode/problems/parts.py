"""Parts: the experiments of a problem, each one solve, one loss and one set of residuals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.equations.loss import Loss, ObservationGroup
from symode.errors import GradientError, SolverError
from symode.gradients.choose import choose_method
from symode.gradients.methods import get_gradient_method
from symode.gradients.methods.base import Runner
from symode.gradients.residuals import Residuals
from symode.gradients.task import Asked, Task
from symode.gradients.value import ValueRunner
from symode.gradients.value_and_grad import make_task
from symode.kernels import types as kt
from symode.problems.censoring import KNOWN, censored_slopes, censored_term
from symode.problems.conditions import ParameterMap
from symode.problems.data import Series
from symode.problems.noise import Noise, Slopes
from symode.problems.rest import RestedMap

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Column:
    """One observable of a problem: what it measures, and with what noise.

    ``codes`` are the kinds of values in any condition: known, below or above a bound.
    """

    name: str
    expression: sp.Expr
    noise: Noise
    sigma: sp.Expr
    codes: tuple[int, ...]

    def term(self, code: int, u: sp.Expr) -> sp.Expr:
        """Return the negative log-likelihood of one value, complete, as an expression."""
        location = self.noise.measure.location(self.expression)
        if code != KNOWN:
            return censored_term(code, u, location, self.sigma)
        return self.noise.term(u, location, self.sigma) + self.noise.measure.log_slope(u)

    def slopes(self, code: int, u: Floats, location: Floats, sigma: Floats) -> Slopes:
        """Return the same as numbers, with derivatives."""
        if code != KNOWN:
            return censored_slopes(code, u, location, sigma)
        found = self.noise.slopes(u, location, sigma)
        return found._replace(terms=found.terms + self.noise.measure.log_slope(u))


@dataclass(frozen=True, eq=False)
class Block:
    """The values of one column and kind in one condition."""

    column: Column
    code: int
    times: Floats
    u: Floats


@dataclass(frozen=True, eq=False)
class Rows:
    """Scores of one part in the problem's parameters: see `symode.problems.scores`."""

    slopes: Slopes
    unit: Floats
    log_sigma: Floats
    dlocation: Floats
    dlog_sigma: Floats


class Part:
    """One experiment: its data, its parameters, and the compiled work.

    Parameters
    ----------
    name
        Of the condition.
    equations
        Shared by all parts.
    parameters
        How the model's parameters follow from the problem's.
    series
        Its measurements.
    columns
        All observables of the problem, in order.
    t0
        When the initial values hold.
    method, options
        As in `Model.gradient`.
    wanted
        Places of the model's parameters that derivatives are taken in; all by default.
    sibling
        A part whose kernels serve this one, too.
    """

    def __init__(
        self,
        name: str,
        equations: Equations,
        parameters: ParameterMap | RestedMap,
        series: Sequence[Series],
        columns: Sequence[Column],
        t0: float,
        method: Any,
        options: dict[str, Any],
        wanted: Sequence[int] | None = None,
        sibling: Part | None = None,
    ) -> None:
        self.name, self.equations, self.parameters = name, equations, parameters
        self.series, self.columns, self.t0 = tuple(series), tuple(columns), t0
        self.method, self.options, self.sibling = method, options, sibling
        places = range(equations.n_parameters) if wanted is None else wanted
        self.wanted = np.array(sorted(places), dtype=np.intp)
        self.blocks = tuple(_blocks(series, columns))
        self._idle: list[Runner] = []

    @cached_property
    def loss(self) -> Loss:
        """The negative log-likelihood of the measurements, resolved."""
        groups = []
        for run in self._runs:
            u, sigma = sp.Dummy("u"), sp.Dummy("sigma", positive=True)
            times = np.concatenate([block.times for block in run])
            values = np.concatenate([block.u for block in run])
            if len(run) == 1:
                term = run[0].column.term(run[0].code, u)
                groups.append(ObservationGroup(term, times, (u,), values[:, None]))
                continue
            term = replace(run[0].column, sigma=sigma).term(run[0].code, u)
            spreads = np.concatenate(
                [np.full(block.times.size, float(block.column.sigma)) for block in run]
            )
            data = np.column_stack([values, spreads])
            groups.append(ObservationGroup(term, times, (u, sigma), data))
        return Loss(observations=groups).resolve(self.equations)

    @cached_property
    def _runs(self) -> list[list[Block]]:
        """Neighbouring blocks that differ in the number sigma alone: one expression with data."""
        runs: list[list[Block]] = []
        last: Any = None
        for block in self.blocks:
            column = block.column
            key = (column.expression, _kind(column), block.code) if column.sigma.is_Number else None
            if key is not None and key == last:
                runs[-1].append(block)
            else:
                runs.append([block])
            last = key
        return runs

    @property
    def last(self) -> float:
        """Time of the last measurement."""
        return max(float(b.times.max()) for b in self.blocks if b.times.size)

    @property
    def end(self) -> float:
        """End of the solve: the last measurement, or a time after t0 where all were made then.

        A little later with events: one at the very end would make the value jump with the end.
        """
        if not self.last > self.t0:
            return self.t0 + 1e-3 * max(1.0, abs(self.t0))
        return self.last + (1e-6 * (self.last - self.t0) if self.equations.events else 0.0)

    @cached_property
    def task(self) -> Task:
        """The gradient's task."""
        asked = Asked(tuple(self.wanted.tolist()), (), False, ends=False)
        task = make_task(
            self.equations, self.loss, (self.t0, self.end), from_initial=True, asked=asked,
            **self.options,
        )  # fmt: skip
        return task if self.sibling is None else self.sibling.task.sharing_kernels_with(task)

    @cached_property
    def gradient_method(self) -> Any:
        """The method, chosen by the cost model for ``"auto"``."""
        if isinstance(self.method, str) and self.method.lower() == "auto":
            return choose_method(self.task)[0]
        return get_gradient_method(self.method)

    def value_and_grad(self, outer: Floats) -> tuple[float, Floats]:
        """Return the negative log-likelihood and its gradient in the problem's parameters."""
        # A list's pop and append are atomic: each caller has a runner for itself.
        runner = self._idle.pop() if self._idle else self.gradient_method.prepare(self.task)
        with self._named():
            runner.compute(self.parameters.theta(outer), None)
        found = runner.gradient
        value = float(found.scalars[kt.VALUE])
        slopes = found.theta
        if self.wanted.size < self.equations.n_parameters:
            slopes = np.zeros(self.equations.n_parameters)
            slopes[self.wanted] = found.theta
        gradient = self.parameters.pull(slopes, outer)
        self._idle.append(runner)
        return value, gradient

    def value(self, outer: Floats) -> float:
        """Return the negative log-likelihood alone, also where it has no gradient."""
        if "_value" not in self.__dict__:
            self.__dict__["_value"] = ValueRunner(self.task)
        with self._named():
            found: float = self.__dict__["_value"](self.parameters.theta(outer), None)
        return found

    def rows(self, outer: Floats, moving: NDArray[np.bool_]) -> Rows:
        """Return every measurement's score; ``moving`` says which parameters are estimated."""
        residuals, wrt = self.residuals(moving)
        theta = self.parameters.theta(outer)
        with self._named():
            values, found = residuals.compute(theta)
        whole = found
        if wrt.size < theta.size:
            whole = np.zeros((values.size, theta.size))
            whole[:, wrt] = found
        rows = self.parameters.pull(whole, outer)
        count = self.n_values
        log_sigma, dlog_sigma = self.log_sigma.copy(), np.zeros((count, outer.size))
        if values.size > count:
            log_sigma[self.varying] = values[count:]
            dlog_sigma[self.varying] = rows[count:]
        sigma = np.exp(log_sigma)
        unit, locations = sigma.copy(), values[:count]
        parts = []
        for column, code, here in self._kinds:
            if code == KNOWN:
                unit[here] = column.noise.unit(sigma[here])
            parts.append(column.slopes(code, self.u[here], locations[here], sigma[here]))
        slopes = parts[0]
        if len(parts) > 1:
            order = np.argsort(np.concatenate([here for _, _, here in self._kinds]))
            slopes = Slopes(*(np.concatenate(e)[order] for e in zip(*parts, strict=True)))
        return Rows(slopes, unit, log_sigma, rows[:count] / unit[:, None], dlog_sigma)

    @cached_property
    def n_values(self) -> int:
        """Number of measured values."""
        return sum(block.times.size for block in self.blocks)

    @cached_property
    def u(self) -> Floats:
        """Measured values on the scale of their noise."""
        return np.concatenate([block.u for block in self.blocks])

    @cached_property
    def log_sigma(self) -> Floats:
        """The logarithm of each value's sigma, where it is a number; else NaN."""
        known = [b.column.sigma for b in self.blocks]
        logs = [float(np.log(float(sigma))) if sigma.is_Number else np.nan for sigma in known]
        return np.repeat(logs, [block.times.size for block in self.blocks])

    @cached_property
    def varying(self) -> NDArray[np.intp]:
        """Values whose sigma is an expression."""
        return np.flatnonzero(np.isnan(self.log_sigma))

    @cached_property
    def _kinds(self) -> list[tuple[Column, int, NDArray[np.intp]]]:
        """Values of one kind of noise together: columns that differ in sigma alone are one kind."""
        found: dict[Any, tuple[Column, int, list[NDArray[np.intp]]]] = {}
        at = 0
        for block in self.blocks:
            here = np.arange(at, at + block.times.size)
            key = (_kind(block.column), block.code)
            found.setdefault(key, (block.column, block.code, []))[2].append(here)
            at += block.times.size
        return [(column, code, np.concatenate(parts)) for column, code, parts in found.values()]

    def residuals(self, moving: NDArray[np.bool_]) -> tuple[Residuals, NDArray[np.intp]]:
        """Return locations, then logarithms of varying spreads; and columns of the Jacobian."""
        key = moving.tobytes()
        cache = self.__dict__.setdefault("_prepared", {})
        if key not in cache:
            source = self.parameters.source
            wrt = [i for i, place in enumerate(source) if place >= 0 and moving[place]]
            wrt = sorted({*wrt, *self.parameters.places.tolist()})
            groups = [
                ObservationGroup(
                    run[0].column.noise.measure.location(run[0].column.expression),
                    np.concatenate([block.times for block in run]),
                )
                for run in self._runs
            ]
            groups += [
                ObservationGroup(sp.log(b.column.sigma), b.times)
                for b in self.blocks
                if not b.column.sigma.is_Number
            ]
            names = [self.equations.parameter_names[i] for i in wrt]
            cache[key] = (
                Residuals(
                    self.equations,
                    Loss(observations=groups),
                    names,
                    t0=self.t0,
                    t1=self.end,
                    shared=None if self.sibling is None else self.sibling.residuals(moving)[0],
                    **self.options,
                ),
                np.array(wrt, dtype=np.intp),
            )
        found: tuple[Residuals, NDArray[np.intp]] = cache[key]
        return found

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say in which condition a solve failed."""
        try:
            yield
        except (SolverError, GradientError) as error:
            if self.name:
                error.args = (f"Condition {self.name!r}: {error.args[0]}", *error.args[1:])
            raise


def _kind(column: Column) -> tuple[Any, ...]:
    """Return what tells kinds of noise apart, but for sigma."""
    noise = column.noise
    return type(noise), noise.measure, getattr(noise, "df", None)


def _blocks(series: Sequence[Series], columns: Sequence[Column]) -> Iterator[Block]:
    """Return a block for each column and kind, empty where this part has none of it.

    All parts have the same blocks in the same order, so that one set of kernels serves them all.
    """
    by_name = {s.name: s for s in series}
    for column in columns:
        for code in column.codes:
            found = by_name.get(column.name)
            if found is None:
                yield Block(column, code, np.empty(0), np.empty(0))
                continue
            here = found.censored == code
            yield Block(
                column,
                code,
                found.times[here],
                column.noise.measure.scaled(found.values[here]),
            )
