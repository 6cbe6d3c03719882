"""The file of a fit: each search is written as it ends, and a run that was killed goes on.

SQLite keeps what was committed whatever happens to the process. The file says what it belongs to;
a changed model, other data or another seed do not resume.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from symode.equations.values import named
from symode.errors import StoreError
from symode.problems.fingerprint import fingerprint
from symode.problems.problem import Problem
from symode.problems.starts import Start

#: Of the layout of the file.
FORMAT: Final = "symode fit 1"
#: Stages of a search that are kept.
FINAL: Final = "final"
SCREENING: Final = "screening"
#: Words for what may differ, in messages.
WORDS: Final = {
    "model": "the model's equations",
    "data": "the data",
    "noise": "observables or noise",
    "conditions": "the conditions",
    "parameters": "bounds, scales, fixed values or priors",
    "solver": "solver options",
    "seed": "the seed",
    "optimizer": "the optimizer",
    "max_iterations": "max_iterations",
    "screen": "screen",
    "hops": "hops",
    "requested": "the number of starts",
    "points": "the starting points",
}


class FitStore:
    """The file of one fit.

    Parameters
    ----------
    path
        Made where it does not exist.
    problem
        What is fitted.
    settings
        Seed, optimizer, number of starts and so on: what the searches depend on.

    Raises
    ------
    StoreError
        When the file is no file of a fit, or belongs to another one, naming what differs.

    Examples
    --------
    >>> FitStore.settings_of("no such file") is None
    True
    """

    def __init__(self, path: Any, problem: Problem, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.problem = problem
        wanted = {**fingerprint(problem), **{k: json.dumps(v) for k, v in settings.items()}}
        with self._open() as database:
            found = _meta(database)
            if not found:
                _create(database, wanted)
                return
        if found.get("format") != FORMAT:
            raise StoreError(
                f"{self.path} was written by another version of symode ({found.get('version')}): "
                "finish it with that one, or choose another file."
            )
        other = [WORDS.get(k, k) for k, v in wanted.items() if found.get(k) != v]
        if other:
            raise StoreError(
                f"{self.path} holds a fit of another problem; what differs: {', '.join(other)}. "
                "Pass the problem and the options it was begun with, or another file."
            )

    @staticmethod
    def settings_of(path: Any) -> dict[str, Any] | None:
        """Return seed, optimizer and so on of an existing file; None where there is none."""
        if not Path(path).exists():
            return None
        with closing(sqlite3.connect(path)) as database:
            found = _meta(database, str(path))
        names = ("seed", "optimizer", "max_iterations", "requested")
        return {name: json.loads(found[name]) for name in names if name in found}

    def finished(self, stage: str = FINAL) -> dict[int, Start]:
        """Return the searches that are in the file, by their number."""
        with self._open() as database:
            rows = database.execute(
                "SELECT number, record FROM starts WHERE stage = ?", (stage,)
            ).fetchall()
        return {number: start_from(json.loads(record), self.problem) for number, record in rows}

    def add(self, starts: Sequence[Start], stage: str = FINAL) -> None:
        """Write searches that have ended; when this returns, they are on the disk."""
        rows = [
            (stage, s.index, s.status, _number(s.value), json.dumps(record_of(s))) for s in starts
        ]
        with self._open() as database:
            database.executemany("INSERT OR REPLACE INTO starts VALUES (?, ?, ?, ?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=30.0)) as database, database:
                yield database
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self.path} cannot be used as the file of a fit: {error}.") from None


def record_of(start: Start) -> dict[str, Any]:
    """Return a search as JSON has it; numbers keep all their digits."""
    return {
        "index": start.index,
        "begin": _numbers(start.begin),
        "theta": _numbers(start.theta),
        "value": _number(start.value),
        "gradient": _numbers(start.gradient),
        "decrement": _number(start.decrement),
        "status": start.status,
        "message": start.message,
        "at_bound": dict(start.at_bound),
        "evaluations": start.evaluations,
        "lost": start.lost,
        "seconds": start.seconds,
    }


def start_from(record: Mapping[str, Any], problem: Problem) -> Start:
    """Return a search as it was recorded."""
    space = problem.space
    return Start(
        index=int(record["index"]),
        begin=named(_floats(record["begin"]), space.parameters),
        theta=named(_floats(record["theta"]), space.parameters),
        value=_float(record["value"]),
        gradient=named(_floats(record["gradient"]), space.names),
        decrement=_float(record["decrement"]),
        status=record["status"],
        message=record["message"],
        at_bound=record["at_bound"],
        evaluations=int(record["evaluations"]),
        lost=int(record["lost"]),
        seconds=float(record["seconds"]),
    )


def _meta(database: sqlite3.Connection, path: str = "") -> dict[str, str]:
    try:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        if not tables:
            return {}
        if ("meta",) not in tables:
            raise StoreError(f"{path or 'The file'} is a database, but not the file of a fit.")
        return dict(database.execute("SELECT name, value FROM meta").fetchall())
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path or 'The file'} is not the file of a fit: {error}.") from None


def _create(database: sqlite3.Connection, wanted: Mapping[str, str]) -> None:
    from symode import __version__

    database.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT)")
    database.execute(
        "CREATE TABLE starts (stage TEXT, number INTEGER, status TEXT, value REAL, record TEXT, "
        "PRIMARY KEY (stage, number))"
    )
    rows = {"format": FORMAT, "version": __version__, **wanted}
    database.executemany("INSERT INTO meta VALUES (?, ?)", rows.items())


def _number(value: float) -> Any:
    """Return a number, or its name where JSON has none for it."""
    return float(value) if np.isfinite(value) else repr(float(value))


def _float(value: Any) -> float:
    return float(value)


def _numbers(values: Any) -> list[Any]:
    return [_number(v) for v in np.asarray(values, dtype=float)]


def _floats(values: Any) -> Any:
    return np.array([_float(v) for v in values])
