"""Many jobs on any executor: results as they come, lost workers replaced, nothing lost.

An executor is anything with the interface of `concurrent.futures.Executor`: processes of this
machine, ``distributed.Client.get_executor()``, ``mpi4py.futures.MPIPoolExecutor``.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from queue import Empty, SimpleQueue
from typing import Any, Final

from symode.errors import MissingExtraError, OptionError
from symode.problems.jobs import Job, run_job

#: How often a pool of our own is made anew after a worker died.
REPAIRS: Final = 5
#: Seconds of work left from which processes pay for their start, when the caller has no opinion.
WORTH_PROCESSES: Final = 10.0


def check_workers(workers: Any, executor: Any) -> int | None:
    """Return the number of processes asked for; None for "decide yourself".

    Raises
    ------
    OptionError
        For numbers below 1, things that are no executors, and both at once.
    """
    if executor is not None:
        if not callable(getattr(executor, "submit", None)) or isinstance(executor, type):
            raise OptionError(
                "executor must have the interface of concurrent.futures.Executor, such as "
                f"ProcessPoolExecutor() or distributed.Client().get_executor(); got {executor!r}."
            )
        if workers is not None:
            raise OptionError("Give workers= or executor=, not both: an executor has its own.")
    if workers is None:
        return None
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise OptionError(f"workers must be a whole number, 1 or more; got {workers!r}.")
    return workers


def run_all(
    jobs: Sequence[Job], workers: int | None = None, executor: Executor | None = None
) -> Iterator[tuple[Job, Any]]:
    """Run all jobs; yield (job, result) as they end, in any order.

    Parameters
    ----------
    jobs
        What to do.
    workers
        Processes. 1 runs the jobs here. None runs the first here, and the rest in one process per
        core if they promise to take longer than `WORTH_PROCESSES`.
    executor
        Runs the jobs instead.

    Raises
    ------
    Exception
        What a job raised: jobs are expected to return their failures.
    """
    waiting = list(jobs)
    if executor is None and workers is None:
        begun = time.perf_counter()
        cores = os.cpu_count() or 1
        while waiting:
            job = waiting.pop(0)
            yield job, job()
            done = len(jobs) - len(waiting)
            left = (time.perf_counter() - begun) / done * len(waiting)
            if cores > 1 and len(waiting) > 1 and left > WORTH_PROCESSES and _can_start_processes():
                workers = cores
                break
    if not waiting:
        return
    if executor is not None:
        yield from _on(executor, waiting)
        # What a broken executor has left undone is done here: slower, but done.
        for job in list(waiting):
            yield job, job()
    elif workers == 1 or workers is None:
        for job in waiting:
            yield job, job()
    else:
        yield from _on_processes(waiting, min(workers, len(waiting)))


def run_threads(
    work: Callable[[Any, threading.Event], Any], keys: Sequence[Any], workers: int
) -> Iterator[list[Any]]:
    """Run ``work(key, stop)`` on threads of this process; yield the results that have ended.

    For work that runs without the GIL; see `gather`.
    """
    waiting = deque(keys)

    def take(stop: threading.Event, put: Callable[[list[Any]], None]) -> None:
        while waiting and not stop.is_set():
            try:
                key = waiting.popleft()
            except IndexError:
                return
            put([work(key, stop)])

    yield from gather(take, min(workers, len(keys)), len(keys))


def gather(
    work: Callable[[threading.Event, Callable[[list[Any]], None]], None], workers: int, count: int
) -> Iterator[list[Any]]:
    """Run ``work(stop, put)`` on threads of this process; yield ``count`` results that are put.

    Work breaks off when ``stop`` is set. What ends while the caller is busy with results (a disk
    takes longer than a short search) comes together.

    Raises
    ------
    Exception
        What the work raised; the rest is then given up.
    """
    ended = SimpleQueue[tuple[list[Any], BaseException | None]]()
    stop = threading.Event()

    def run() -> None:
        try:
            work(stop, lambda results: ended.put((results, None)))
        except BaseException as error:
            ended.put(([], error))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        left = count
        while left:
            found = [_next(ended)]
            while not ended.empty():
                found.append(ended.get())
            results = [result for some, _ in found for result in some]
            if results:
                yield results
            left -= len(results)
            for _, error in found:
                if error is not None:
                    raise error
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _next(ended: SimpleQueue[Any]) -> Any:
    """Wait for the next result, in portions short enough for Ctrl-C."""
    while True:
        try:
            return ended.get(timeout=0.2)
        except Empty:
            continue


def _on_processes(waiting: list[Job], workers: int) -> Iterator[tuple[Job, Any]]:
    for _ in range(REPAIRS):
        pool = _pool(workers)
        try:
            yield from _on(pool, waiting)
        except BaseException:
            # Ctrl-C, or a consumer that stopped: running jobs are killed, not waited for.
            pool.shutdown(wait=False, kill_workers=True)
            raise
        if not waiting:
            pool.shutdown(wait=False)
            return
        pool.shutdown(wait=False, kill_workers=True)
    for job in list(waiting):
        yield job, job()


def _on(executor: Executor, waiting: list[Job]) -> Iterator[tuple[Job, Any]]:
    """Yield results of an executor, removing their jobs from the list; stop where it breaks."""
    try:
        running: dict[Future[Any], Job] = {executor.submit(run_job, job): job for job in waiting}
    except RuntimeError:
        return
    try:
        while running:
            # A bounded wait returns to Python often enough for Ctrl-C, with every executor.
            done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                try:
                    result = future.result()
                except _broken():
                    continue
                waiting.remove(job)
                yield job, result
    finally:
        for future in running:
            future.cancel()


def _broken() -> tuple[type[BaseException], ...]:
    """Return what executors raise for a job whose worker died."""
    kinds: list[type[BaseException]] = [BrokenProcessPool]
    try:
        from distributed.scheduler import KilledWorker

        kinds.append(KilledWorker)
    except ImportError:
        pass
    return tuple(kinds)


def _can_start_processes() -> bool:
    try:
        import loky  # noqa: F401
    except ImportError:
        return False
    return True


def _pool(workers: int) -> Any:
    """Return fresh processes that do not import the caller's script: it needs no main guard."""
    try:
        from loky import ProcessPoolExecutor
    except ImportError as error:
        raise MissingExtraError(
            "workers= above 1 needs loky: install the extra, symode-adjoint[fit]; or pass "
            "executor=, such as concurrent.futures.ProcessPoolExecutor()."
        ) from error
    return ProcessPoolExecutor(max_workers=workers, timeout=None)
