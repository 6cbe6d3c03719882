"""Many members on all cores: each thread has its own memory, compiled code runs without the GIL."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
from numpy.typing import NDArray

from symode.gradients.methods.base import Runner
from symode.gradients.methods.discrete import DiscreteRunner

Floats = NDArray[np.float64]

#: Seconds of members handed out at a time: long next to the hand-over, short next to a Ctrl-C.
PORTION = 0.05


def run_members(
    theta: Floats, z0: Floats, runners: Sequence[Runner]
) -> tuple[Floats, Floats, Floats]:
    """Return values, and gradients in theta and z0, of members with their own initial values.

    Members are computed one by one whatever the number of threads, so the result does not depend
    on it. The first failure stops the rest and is raised.
    """
    size = z0.shape[0]
    dtheta = np.empty((size, runners[0].task.m))
    values, dz0 = np.empty(size), np.empty(z0.shape)
    lock, stop = threading.Lock(), threading.Event()
    given = 0

    def take(count: int) -> slice:
        nonlocal given
        with lock:
            part = slice(given, min(given + count, size))
            given = part.stop
        return part

    def work(runner: Runner) -> None:
        count = 1
        while not stop.is_set():
            part = take(count)
            if part.start == part.stop:
                return
            begun = time.perf_counter()
            try:
                values[part], dtheta[part], dz0[part] = _members(runner, theta, z0[part], stop)
            except BaseException:
                stop.set()
                raise
            elapsed = time.perf_counter() - begun
            share = -(-(size - given) // (2 * len(runners)))
            wanted = int(count * min(PORTION / max(elapsed, 1e-6), 32.0))
            count = max(1, min(wanted, share))

    if len(runners) == 1:
        work(runners[0])
        return values, dtheta, dz0
    with ThreadPoolExecutor(len(runners)) as pool:
        futures = [pool.submit(work, runner) for runner in runners]
        try:
            wait(futures)
        except BaseException:
            stop.set()
            raise
    failures = [error for future in futures if (error := future.exception()) is not None]
    # The members that the first failure stopped were interrupted: they are not why it failed.
    for error in sorted(failures, key=lambda error: isinstance(error, KeyboardInterrupt)):
        raise error
    return values, dtheta, dz0


def _members(
    runner: Runner, theta: Floats, z0: Floats, stop: threading.Event
) -> tuple[Floats, Floats, Floats]:
    if isinstance(runner, DiscreteRunner):
        runner.forward.driver.stop = stop
        return runner.members(theta, z0)
    outcomes = []
    for row in z0:
        if stop.is_set():
            raise KeyboardInterrupt
        outcomes.append(runner(theta, row))
    return (
        np.array([o.value for o in outcomes]),
        np.array([o.theta for o in outcomes]),
        np.array([o.z0 for o in outcomes]),
    )
