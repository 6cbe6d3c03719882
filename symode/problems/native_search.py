"""Searches in compiled code: a problem as tables, and one call for a whole search.

What `symode.kernels.search` covers: noise of location and scale with a spread of any kind, all
scales and priors, any number of conditions, explicit and Rosenbrock methods. The rest goes the way
of `symode.problems.optimizers.scoring`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from symode.codegen.backends import compile_kernels
from symode.errors import SymodeError
from symode.gradients.residual_runners import CompiledRunner, is_compiled
from symode.kernels import search_types as st
from symode.problems.censoring import KNOWN
from symode.problems.conditions import ParameterMap
from symode.problems.noise import Log10Normal, LogNormal, Normal
from symode.problems.parts import Part
from symode.problems.priors import LaplacePrior, NormalPrior, Prior, UniformPrior
from symode.problems.problem import Problem
from symode.problems.queues import make_queue
from symode.problems.space import ParameterSpace
from symode.problems.tails import Laplace, StudentT
from symode.problems.transforms import Affine, Linear, Logarithm, Logit, Softplus
from symode.solvers.native import Driver
from symode.status import PAUSED, SWITCH

Floats = NDArray[np.float64]

#: Kinds that compiled searches know, by their exact type.
NOISE: Final = {
    Normal: st.NORMAL,
    LogNormal: st.NORMAL,
    Log10Normal: st.NORMAL,
    Laplace: st.LAPLACE,
    StudentT: st.STUDENT,
}
SCALES: Final[dict[type, tuple[int, Callable[[Any], tuple[float, float]]]]] = {
    Linear: (st.LINEAR, lambda s: (0.0, 0.0)),
    Logarithm: (st.POWER, lambda s: (s.base, float(np.log(s.base)))),
    Logit: (st.LOGIT, lambda s: (s.low, s.high)),
    Softplus: (st.SOFTPLUS, lambda s: (0.0, 0.0)),
    Affine: (st.AFFINE, lambda s: (s.shift, s.factor)),
}
PRIORS: Final = {NormalPrior: st.NORMAL, LaplacePrior: st.LAPLACE, UniformPrior: st.FLAT}

#: Seconds of searching after which a thread hands over what has ended.
HARVEST: Final = 0.01

#: One at a time makes tables: they compile.
_making = threading.Lock()


@dataclass(frozen=True, eq=False)
class Found:
    """Where a compiled search ended; ``x`` is None where its first point cannot be computed."""

    x: Floats | None
    value: float
    misfit: float
    gradient: Floats
    decrement: float
    message: str
    evaluations: int
    lost: int


@contextmanager
def native_search(problem: Problem, stop: threading.Event | None = None) -> Iterator[NativeSearch]:
    """Lend a search of the problem to one thread, made where none is idle.

    ``stop`` ends its work from another thread.
    """
    # A list's pop and append are atomic.
    idle: list[NativeSearch] = problem.__dict__.setdefault("_searches", [])
    try:
        search = idle.pop()
    except IndexError:
        search = NativeSearch(problem)
    search.driver.stop = stop
    yield search
    # One that was broken off is not used again.
    search.driver.stop = None
    idle.append(search)


def covers(problem: Problem) -> bool:
    """Whether compiled searches cover a problem."""
    return (
        problem.reduced is None
        and all(type(c.noise) in NOISE and set(c.codes) <= {KNOWN} for c in problem.columns)
        and all(type(scale) in SCALES for scale in problem.space.transforms)
        and all(type(prior) in PRIORS for _, prior in problem.priors)
        and all(type(part.parameters) is ParameterMap for part in problem.parts)
        and is_compiled(problem.parts[0].task)
    )


class NativeSearch:
    """The searches of one problem, one at a time: each thread has its own.

    Parameters
    ----------
    problem
        One that `covers`.
    """

    def __init__(self, problem: Problem) -> None:
        with _making:
            self._make(problem)
        self.problem = problem
        self.driver = Driver()

    def _make(self, problem: Problem) -> None:
        space, parts = problem.space, problem.parts
        self._runners: list[CompiledRunner] = []
        self._parts, outer, formulas, work = self._make_parts(problem)
        self._noise = _noise(parts, self._parts.row)
        self._priors = _priors(problem.priors, space)
        self._space = _space(space)
        p = space.size
        spreads = int(np.count_nonzero(self._noise.spread >= 0))
        priors = int(np.count_nonzero(self._priors.estimated >= 0))
        rows = self._noise.u.size + spreads + priors
        self._work = st.Work(
            outer, np.zeros(p), formulas, work, np.zeros(p), self._parts.entry.copy(),
            self._parts.table.copy(), np.zeros(st.N_AT, dtype=np.int64),
        )  # fmt: skip
        self._here, self._trial = (
            st.Point(np.zeros(p), np.zeros(2), np.zeros(p), np.zeros((p, rows))) for _ in range(2)
        )
        self._search = st.Search(
            np.zeros(st.N_COUNT, dtype=np.int64), np.zeros(st.N_NUMBER),
            np.zeros(p + 1, dtype=np.int64), np.zeros(p), np.zeros((p, rows)), np.zeros((p, p)),
            np.zeros(p), np.zeros(p), np.zeros(p),
        )  # fmt: skip
        self._no_queue = make_queue(np.zeros((0, p)), 0)

    def _make_parts(self, problem: Problem) -> tuple[st.Parts, Floats, Floats, Floats]:
        """Return the tables of all conditions, and memory for the parameters and formulas."""
        space, parts = problem.space, problem.parts
        moving = np.zeros(len(space.parameters), dtype=bool)
        moving[space.places] = True
        estimated_of = np.full(moving.size, -1, dtype=np.int64)
        estimated_of[space.places] = np.arange(space.size)
        prepared = [part.residuals(moving) for part in parts]
        tasks = [residuals.task for residuals, _ in prepared]
        widths = np.array([wrt.size for _, wrt in prepared], dtype=np.int64)
        heights = np.array([task.times.size for task in tasks], dtype=np.int64)
        row, entries = _starts(heights), _starts(heights * widths)
        values, jacobian = np.zeros(row[-1]), np.zeros(max(int(entries[-1]), 1))
        theta = np.zeros((len(parts), parts[0].equations.n_parameters))
        tries = np.zeros(len(parts), dtype=np.int64)
        estimated = np.full((len(parts), max(int(widths.max()), 1)), -1, dtype=np.int64)
        formula = estimated.copy()
        for c, (residuals, wrt) in enumerate(prepared):
            part, task = parts[c], tasks[c]
            block = jacobian[entries[c] : entries[c + 1]].reshape(heights[c], widths[c])
            rows, here = slice(row[c], row[c + 1]), theta[c]
            runner = CompiledRunner(
                task, residuals.columns, here, values[rows], block, tries[c : c + 1]
            )
            self._runners.append(runner)
            source = part.parameters.source[wrt]
            estimated[c, : wrt.size] = np.where(source >= 0, estimated_of[source], -1)
            places = part.parameters.places.tolist()
            formula[c, : wrt.size] = [places.index(j) if j in places else -1 for j in wrt]
        bound = [runner.first() for runner in self._runners]
        maps: list[Any] = [part.parameters for part in parts]
        graphs = {f"formulas{c}": ("field", m.graph) for c, m in enumerate(maps) if m.graph}
        outer, hoist, graph, work = space.values.copy(), np.zeros(3, dtype=np.int64), None, 1
        if graphs:
            self._formulas = compile_kernels(graphs, outer.size, tasks[0].backend)
            outer = np.concatenate([outer, np.zeros(self._formulas.n_p - outer.size)])
            # A value, its derivatives in all parameters of the problem, and in time.
            stride = 2 + space.values.size
            hoist[:] = self._formulas.address.get("hoist", 0), space.values.size, stride
            graph, work = self._formulas.address, max(self._formulas.work_size, 1)
        first = _starts([m.places.size for m in maps])
        table = st.Parts(
            entry=np.array([b.entry for b in bound], dtype=np.int64),
            table=np.array([b.table for b in bound], dtype=np.int64),
            source=np.array([m.source for m in maps], dtype=np.int64),
            constant=np.array([m.constant for m in maps], dtype=float),
            theta=theta,
            tries=tries,
            graph=np.array([(graph or {}).get(f"formulas{c}", 0) for c in range(len(parts))]),
            hoist=hoist,
            formulas=np.concatenate([m.places for m in maps]).astype(np.int64),
            first_formula=first,
            row=row,
            entries=entries,
            width=widths,
            estimated=estimated,
            formula=formula,
            values=values,
            jacobian=jacobian,
        )
        return table, outer, np.zeros(max(int(first[-1] * hoist[2]), 1)), np.zeros(work)

    # -- searches --------------------------------------------------------------------------------

    def run(self, x: Floats, max_iterations: int, scores: bool) -> Found:
        """Return where the damped search from a point leads, scoring steps included if asked."""
        self._search.count[:] = 0
        self._search.count[st.STAGE], self._search.count[st.LIMIT] = st.FIRST, max_iterations
        return self._run(x, scores)

    def score(self, x: Floats) -> Found:
        """Return where scoring steps from a point lead."""
        self._search.count[:] = 0
        self._search.count[st.STAGE] = st.SCORE_FIRST
        return self._run(x, True)

    @property
    def root(self) -> Floats:
        """W where the last search ended, with the Fisher information its square. ``(k, p)``."""
        return self._here.root.T.copy()

    def _run(self, x: Floats, scores: bool) -> Found:
        self._trial.x[:] = x
        self._work.entry[:], self._work.table[:] = self._parts.entry, self._parts.table
        self._work.at[st.PART] = -1
        self._search.number[st.DECREMENT] = np.inf
        enter = self._entry(self._no_queue, scores)
        while self.driver.run(enter) == SWITCH:
            self._switch()
        here = self._here
        numbers = np.concatenate([self._search.number, here.scalars])
        return self._found(x, here.x, here.gradient, numbers, self._search.count)

    def run_queue(self, queue: st.Queue) -> Iterator[list[tuple[int, Found]]]:
        """Make searches of a queue, scoring steps included; yield those that ended, in portions.

        A portion takes some ten milliseconds, or what is left of one search.
        """
        self._search.count[st.STAGE] = st.OVER
        enter, status = self._entry(queue, True), PAUSED
        while status in (PAUSED, SWITCH):
            status = self.driver.once(enter, HARVEST)
            if status == SWITCH:
                self._switch()
                continue
            done = queue.done[: queue.lane[st.N_DONE]].tolist()
            queue.lane[st.N_DONE] = 0
            if done:
                yield [
                    (i, self._found(queue.begin[i], queue.x[i], queue.gradient[i],
                                    queue.numbers[i], queue.counts[i]))
                    for i in done
                ]  # fmt: skip

    def _entry(self, queue: st.Queue, scores: bool) -> Callable[[int], int]:
        from symode.kernels.search import run_search

        arguments = (
            self._space, self._parts, self._noise, self._priors, self._work, self._here,
            self._trial, self._search, queue, scores,
        )  # fmt: skip
        return lambda budget: int(run_search(*arguments, budget))

    def _switch(self) -> None:
        """Change the method of the solve that asks for it."""
        work = self._work
        c = int(work.at[st.PART])
        bound = self._runners[c].switched(int(work.table[c]))
        work.entry[c], work.table[c] = bound.entry, bound.table

    def _found(
        self, begin: Floats, x: Floats, gradient: Floats, numbers: Floats, count: Any
    ) -> Found:
        reason = int(count[st.REASON])
        undefined = reason == st.UNDEFINED
        return Found(
            None if undefined else x.copy(),
            float(numbers[st.FOUND_VALUE]),
            float(numbers[st.FOUND_MISFIT]),
            gradient.copy(),
            float(numbers[st.DECREMENT]),
            self._why(begin) if undefined else _message(reason, count, numbers),
            int(count[st.EVALUATIONS]),
            int(count[st.LOST]),
        )

    def _why(self, x: Floats) -> str:
        """Return why a point cannot be computed, in the words of the Python route."""
        try:
            self.problem.scores(x)
        except (SymodeError, ArithmeticError, ValueError) as error:
            return str(error)
        return "The negative log-likelihood is not finite at the starting point."


def _message(reason: int, count: Any, numbers: Floats) -> str:
    if reason == st.ENOUGH_GAINED:
        return f"a step would gain {numbers[st.PROMISED]:.1e}"
    if reason == st.ALL_ITERATIONS:
        return f"{count[st.LIMIT]} iterations were made"
    return {
        st.NO_PARAMETER: "every parameter is at a bound, or the data say nothing about it",
        st.NO_STEP: "no step lowers the value",
    }.get(reason, "")


def _starts(sizes: Any) -> NDArray[np.int64]:
    """Return where each of several blocks starts, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _space(space: ParameterSpace) -> st.Space:
    pairs = [SCALES[type(scale)] for scale in space.transforms]
    numbers = [make(scale) for (_, make), scale in zip(pairs, space.transforms, strict=True)]
    return st.Space(
        np.array([code for code, _ in pairs], dtype=np.int64),
        np.array([a for a, _ in numbers], dtype=float),
        np.array([b for _, b in numbers], dtype=float),
        space.places.astype(np.int64),
        np.ascontiguousarray(space.lower),
        np.ascontiguousarray(space.upper),
        np.ascontiguousarray(space.widths),
    )


def _noise(parts: Sequence[Part], row: NDArray[np.int64]) -> st.Noise:
    kind: list[int] = []
    df: list[float] = []
    extra, part_of, location, spread = [], [], [], []
    for c, part in enumerate(parts):
        count, varying = part.n_values, part.varying
        rows = np.full(count, -1)
        rows[varying] = row[c] + count + np.arange(varying.size)
        spread.append(rows)
        location.append(row[c] + np.arange(count))
        part_of.append(np.full(count, c))
        for block in part.blocks:
            kind += [NOISE[type(block.column.noise)]] * block.u.size
            df += [float(getattr(block.column.noise, "df", 1.0))] * block.u.size
            # At a residual of 0 and a spread of 1 nothing else is left.
            at_rest = block.column.slopes(KNOWN, block.u, block.u, np.ones(block.u.size))
            extra.append(at_rest.terms)
    logs = np.concatenate([part.log_sigma for part in parts])
    return st.Noise(
        np.array(kind, dtype=np.int64),
        np.array(df),
        np.concatenate([part.u for part in parts]),
        np.concatenate(extra),
        np.where(np.isnan(logs), 0.0, logs),
        np.concatenate(part_of).astype(np.int64),
        np.concatenate(location).astype(np.int64),
        np.concatenate(spread).astype(np.int64),
    )


def _priors(priors: Sequence[tuple[int, Prior]], space: ParameterSpace) -> st.Priors:
    from symode.problems.measure import MEASURES

    where = {int(place): k for k, place in enumerate(space.places)}
    measures = [MEASURES[prior.on] for _, prior in priors]  # type: ignore[attr-defined]
    constants = []
    for _, prior in priors:
        if isinstance(prior, UniformPrior):
            constants.append(np.log(prior.high - prior.low))
        elif isinstance(prior, NormalPrior):
            constants.append(np.log(prior.sd) + 0.5 * np.log(2 * np.pi))
        elif isinstance(prior, LaplacePrior):
            constants.append(np.log(2 * prior.sd))
    pairs = list(zip(measures, (prior for _, prior in priors), strict=True))
    return st.Priors(
        np.array([PRIORS[type(prior)] for _, prior in priors], dtype=np.int64),
        np.array([place for place, _ in priors], dtype=np.int64),
        np.array([where.get(place, -1) for place, _ in priors], dtype=np.int64),
        np.array([getattr(prior, "mean", 0.0) for _, prior in priors], dtype=float),
        np.array([getattr(prior, "sd", 1.0) for _, prior in priors], dtype=float),
        np.array([measure.factor for measure in measures], dtype=float),
        np.array(
            [m.is_positive and not getattr(p, "of_scale", False) for m, p in pairs], dtype=np.int64
        ),
        np.array(constants, dtype=float),
    )
