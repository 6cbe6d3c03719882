"""A campaign: the searches of one fit, wherever they run, each kept as it ends."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from symode.problems.executors import run_all, run_threads
from symode.problems.jobs import make_jobs
from symode.problems.problem import Problem
from symode.problems.search import is_native, run_start, screen_start
from symode.problems.starts import Start
from symode.problems.store import FINAL, SCREENING, FitStore
from symode.problems.together import search_together

Floats = NDArray[np.float64]

#: Iterations after which searches are compared.
SCREENING_ITERATIONS: Final = 15


@dataclass(eq=False)
class Campaign:
    """Searches to be run; see `symode.problems.fit.fit` for the options."""

    problem: Problem
    points: Sequence[Floats]
    seed: int
    optimizer: str
    max_iterations: int
    screen: float | None
    workers: int | None
    executor: Executor | None
    path: Any
    progress: bool | None
    hops: int = 0

    def run(self) -> list[Start]:
        """Return the searches that ended; Ctrl-C ends it early, with what is there."""
        store = None if self.path is None else FitStore(self.path, self.problem, self._settings())
        begin = dict(enumerate(self.points))
        given_up: list[Start] = []
        try:
            if self.screen is not None and self.screen < 1:
                begin, given_up = self._screened(begin, store)
            return given_up + self._stage(store, FINAL, run_start, begin, self.max_iterations)
        except _Interrupted as interruption:
            if not interruption.done:
                raise KeyboardInterrupt from None
            return given_up + interruption.done

    def _screened(
        self, begin: dict[int, Floats], store: FitStore | None
    ) -> tuple[dict[int, Floats], list[Start]]:
        """Return where the best searches go on, and the others as they stand."""
        tried = self._stage(store, SCREENING, screen_start, begin, SCREENING_ITERATIONS)
        tried.sort(key=lambda start: (start.value, start.index))
        keep = max(1, round((self.screen or 1.0) * len(tried)))
        best, last = tried[0].value, tried[keep - 1].value
        space = self.problem.space
        going = {s.index: space.point(s.theta) for s in tried[:keep] if s.status != "failed"}
        given_up = [
            start
            if start.status == "failed"
            else replace(
                start,
                message=(
                    f"given up after {SCREENING_ITERATIONS} iterations at {start.value:.6g}: the "
                    f"best {keep} of {len(tried)} then lay between {best:.6g} and {last:.6g}"
                ),
            )
            for start in tried
            if start.index not in going
        ]
        return going, given_up

    def _stage(
        self,
        store: FitStore | None,
        stage: str,
        function: Callable[..., Start],
        begin: dict[int, Floats],
        iterations: int,
    ) -> list[Start]:
        more = (self.hops, self.seed) if stage == FINAL else ()
        known = {} if store is None else store.finished(stage)
        done = [start for index, start in known.items() if index in begin]
        arguments = {
            index: (index, x0, self.optimizer, iterations, *more)
            for index, x0 in begin.items()
            if index not in known
        }
        update, close = _bar(len(begin), len(done), stage, self.progress)
        try:
            for ended in self._run(function, arguments, store is not None):
                if store is not None:
                    store.add(ended, stage)
                done.extend(ended)
                for _ in ended:
                    update()
        except KeyboardInterrupt:
            raise _Interrupted(done) from None
        finally:
            close()
        return sorted(done, key=lambda start: start.index)

    def _run(
        self, function: Callable[..., Start], arguments: dict[int, tuple[Any, ...]], stored: bool
    ) -> Iterator[list[Start]]:
        """Run the searches: compiled ones on threads of this process, else as jobs."""
        if self.executor is not None or not is_native(self.problem, self.optimizer):
            jobs = make_jobs(self.problem, function, arguments)
            return ([start] for _, start in run_all(jobs, self.workers, self.executor))
        workers = min(self.workers or os.cpu_count() or 1, len(arguments))
        alone = workers <= 1 and not stored
        whole = function is run_start and not self.hops and self.problem.relaxed is self.problem
        if whole and arguments:
            begin = {index: given[1] for index, given in arguments.items()}
            return search_together(
                self.problem, begin, self.max_iterations, 0 if alone else workers
            )
        if alone:
            return ([function(self.problem, *given)] for given in arguments.values())
        return run_threads(
            lambda i, stop: function(self.problem, *arguments[i], stop), list(arguments), workers
        )

    def _settings(self) -> dict[str, Any]:
        points = np.asarray(self.points, dtype=float)
        return {
            "seed": self.seed,
            "optimizer": self.optimizer,
            "max_iterations": self.max_iterations,
            "screen": self.screen,
            "hops": self.hops,
            "requested": len(self.points),
            "points": hashlib.sha256(points.tobytes()).hexdigest(),
        }


class _Interrupted(Exception):
    """Ctrl-C, with the searches that had ended."""

    def __init__(self, done: list[Start]) -> None:
        super().__init__()
        self.done = done


def _bar(
    total: int, done: int, stage: str, progress: bool | None
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what moves a progress bar on, and what closes it."""
    show = sys.stderr.isatty() if progress is None else progress
    if show:
        try:
            from tqdm import tqdm
        except ImportError:
            show = False
    if not show:
        return (lambda: None), (lambda: None)
    name = "starts" if stage == FINAL else "screening"
    bar = tqdm(total=total, initial=done, desc=name, file=sys.stderr)
    return (lambda: bar.update()), bar.close
