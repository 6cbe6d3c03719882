"""Timing that treats everybody alike, and work-precision curves read at equal error."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np


@dataclass
class Entry:
    """One configuration of one library at one tolerance, with what was measured of it."""

    who: str
    configuration: str
    rtol: float
    atol: float
    call: Callable[[], np.ndarray] | None = None
    error: float = math.nan
    failure: str = ""
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Return the median seconds of one gradient over the rounds."""
        return statistics.median(self.seconds) if self.seconds else math.nan

    @property
    def usable(self) -> bool:
        """Return whether there is a time and a finite error."""
        return bool(self.seconds) and math.isfinite(self.error) and not self.failure


def time_interleaved(
    entries: list[Entry],
    rounds: int,
    batch_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Time the entries in turns, so that noise of the machine falls on all of them alike.

    In each round every entry is called as often as fills ``batch_seconds`` (once where a single
    call takes longer); the mean of the batch is one measurement. Slow entries are measured less
    often. ``clock`` is `time.process_time` for a machine shared with others.
    """
    entries = [entry for entry in entries if entry.call is not None and not entry.failure]
    repeats = {}
    for entry in entries:
        entry.call()
        started = clock()
        entry.call()
        repeats[id(entry)] = max(1, int(batch_seconds / max(clock() - started, 1e-9)))
    gc.collect()
    gc.disable()
    try:
        for k in range(rounds):
            for entry in entries:
                # Beyond ten batch lengths a call is a measurement of its own: three suffice.
                if k >= 3 and entry.seconds[0] > 10 * batch_seconds:
                    continue
                count, call = repeats[id(entry)], entry.call
                started = clock()
                for _ in range(count):
                    call()
                entry.seconds.append((clock() - started) / count)
    finally:
        gc.enable()


@dataclass(frozen=True)
class AtError:
    """Time of a library at a given gradient error.

    ``kind`` is "" where interpolated, "loose" where the loosest run is already more accurate (its
    time is then taken as it is), "never" where no run is accurate enough.
    """

    seconds: float
    configuration: str
    kind: str


def at_error(entries: list[Entry], error: float) -> AtError:
    """Return the time at which the best configuration reaches ``error``, log-log interpolated.

    Each configuration's points are reduced to their Pareto front first: a run that is slower and
    less accurate than another run of the same configuration says nothing.
    """
    best = AtError(math.inf, "", "never")
    for configuration in dict.fromkeys(entry.configuration for entry in entries):
        points = [e for e in entries if e.configuration == configuration and e.usable]
        seconds, kind = _interpolate(pareto(points), error)
        if seconds < best.seconds:
            best = AtError(seconds, configuration, kind)
    return best


def pareto(points: list[Entry]) -> list[tuple[float, float]]:
    """Return (error, seconds) of the points that no other point beats in both, error falling."""
    front: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda e: (e.median, e.error)):
        if not front or point.error < front[-1][0]:
            front.append((point.error, point.median))
    return front


def _interpolate(front: list[tuple[float, float]], error: float) -> tuple[float, str]:
    if not front or error < front[-1][0]:
        return math.inf, "never"
    if error >= front[0][0]:
        return front[0][1], "loose"
    for (e_hi, s_hi), (e_lo, s_lo) in pairwise(front):
        if e_lo <= error <= e_hi:
            weight = math.log(error / e_hi) / math.log(e_lo / e_hi)
            return s_hi * (s_lo / s_hi) ** weight, ""
    return front[-1][1], ""


@contextlib.contextmanager
def quiet_descriptors() -> Iterator:
    """Send what C, C++ and Fortran print to nowhere; yield a stream that reaches the screen."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    screen = os.fdopen(os.dup(1), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield screen
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        screen.close()
        for descriptor in (*saved, nowhere):
            os.close(descriptor)


def table(rows: list[list[str]], header: list[str]) -> str:
    """Return rows as aligned text; columns that look like numbers are set to the right."""
    widths = [max(len(str(r[k])) for r in [header, *rows]) for k in range(len(header))]
    right = [
        any(str(r[k])[:1].isdigit() for r in rows) and k not in (0, 1) for k in range(len(header))
    ]

    def line(cells):
        return "  ".join(
            f"{c:>{w}}" if r else f"{c:<{w}}" for c, w, r in zip(cells, widths, right, strict=True)
        ).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])


def milliseconds(seconds: float) -> str:
    """Return seconds as milliseconds with three digits."""
    if not math.isfinite(seconds):
        return "-"
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.3f}"


def ratio(value: float) -> str:
    """Return a ratio with two digits and a times sign."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}x" if value >= 20 else f"{value:.1f}x" if value >= 1 else f"{value:.2f}x"
