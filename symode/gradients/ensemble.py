"""Many members on all cores: each thread has its own memory, compiled code runs without the GIL."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from symode.gradients.methods.base import Runner
from symode.gradients.methods.discrete import DiscreteRunner

Floats = NDArray[np.float64]

#: Members per call into compiled code: about 20 ms of small problems, so Ctrl-C is prompt.
CHUNK = 256


def run_members(
    theta: Floats, z0: Floats, runners: Sequence[Runner]
) -> tuple[Floats, Floats, Floats]:
    """Return values, and gradients in theta and z0, of members with their own initial values.

    Members are computed one by one whatever the number of threads, so the result does not depend
    on it. The first failure stops the rest and is raised.
    """
    size = z0.shape[0]
    values, dtheta, dz0 = np.empty(size), np.empty((size, theta.size)), np.empty(z0.shape)
    chunk = max(1, min(CHUNK, -(-size // len(runners))))
    starts = iter(range(0, size, chunk))
    lock, stop = threading.Lock(), threading.Event()

    def work(runner: Runner) -> None:
        while not stop.is_set():
            with lock:
                first = next(starts, None)
            if first is None:
                return
            part = slice(first, min(first + chunk, size))
            try:
                if isinstance(runner, DiscreteRunner):
                    values[part], dtheta[part], dz0[part] = runner.members(theta, z0[part])
                else:
                    for i in range(part.start, part.stop):
                        outcome = runner(theta, z0[i])
                        values[i], dtheta[i], dz0[i] = outcome.value, outcome.theta, outcome.z0
            except BaseException:
                stop.set()
                raise

    if len(runners) == 1:
        work(runners[0])
        return values, dtheta, dz0
    with ThreadPoolExecutor(len(runners)) as pool:
        futures = [pool.submit(work, runner) for runner in runners]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            raise
    return values, dtheta, dz0
