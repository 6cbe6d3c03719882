"""Jobs: pieces of work on a problem that run in any process and on any machine.

A problem travels as its pickle, once per job and small (what was given, no machine code); a worker
unpacks it once and finds the kernels in the store.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from symode.problems.problem import Problem


@dataclass(frozen=True)
class Job:
    """One call ``function(problem, *arguments)``.

    Parameters
    ----------
    key
        Name of the job among the others: what its result is filed under.
    function
        Importable by name in the worker.
    problem
        The pickled problem.
    digest
        Of that pickle.
    arguments
        What else the function takes.
    """

    key: int
    function: Callable[..., Any]
    problem: bytes
    digest: str
    arguments: tuple[Any, ...]

    def __call__(self) -> Any:
        """Run, wherever this is."""
        return self.function(_unpacked(self.digest, self.problem), *self.arguments)


def make_jobs(
    problem: Problem, function: Callable[..., Any], arguments: dict[int, tuple[Any, ...]]
) -> list[Job]:
    """Return one job for each key."""
    pickled = pickle.dumps(problem)
    digest = hashlib.sha256(pickled).hexdigest()
    return [Job(key, function, pickled, digest, given) for key, given in arguments.items()]


def run_job(job: Job) -> Any:
    """Run a job: the function that executors are given."""
    return job()


@lru_cache(maxsize=4)
def _unpacked(digest: str, pickled: bytes) -> Problem:
    problem: Problem = pickle.loads(pickled)
    # Jobs share the cores already: a worker simulates its conditions one after the other.
    problem.workers = 1
    return problem
