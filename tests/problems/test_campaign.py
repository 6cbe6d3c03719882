"""Searches run anywhere with one result; what ended is kept; a killed run goes on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import OptionError, StoreError
from symode.problems.executors import run_all
from symode.problems.jobs import make_jobs
from symode.problems.optimizers import OPTIMIZERS
from symode.problems.store import FitStore, record_of, start_from

X, K, X0, S = sp.symbols("x k x0 s")
MODEL = symode.Model({X: -K * X}, parameters=[K, X0, S], initial={X: X0})
DATA = symode.Data([0, 1, 2, 3], {"x": [2.1, 0.97, 0.51, 0.24]})
ROOT = Path(__file__).parents[2]


def problem(**options) -> symode.Problem:
    return symode.Problem(MODEL, DATA, symode.LogNormal(S), **({"scale": "log10"} | options))


def table(fit: symode.Fit) -> list[tuple]:
    return [
        (s.index, s.status, s.message, s.value, s.begin.tolist(), str(s.theta.tolist()))
        for s in fit.starts
    ]


@pytest.fixture(scope="module")
def here() -> symode.Fit:
    return symode.fit(problem(), starts=6, seed=3, workers=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ThreadPoolExecutor(2),
        lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
    ],
    ids=["threads", "processes"],
)
def test_an_executor_gives_the_same_fit(make, here) -> None:
    with make() as executor:
        assert table(symode.fit(problem(), starts=6, seed=3, executor=executor)) == table(here)


def test_processes_of_this_machine_give_the_same_fit(here) -> None:
    pytest.importorskip("loky")
    assert table(symode.fit(problem(), starts=6, seed=3, workers=2)) == table(here)


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    pytest.importorskip("loky")
    flag = str(tmp_path / "died")

    def work(_: symode.Problem, number: int) -> int:
        if number == 2 and not os.path.exists(flag):
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2

    jobs = make_jobs(problem(), work, {i: (i,) for i in range(5)})
    results = {job.key: result for job, result in run_all(jobs, workers=2)}
    assert results == {i: i**2 for i in range(5)}
    assert Path(flag).exists()


def test_a_worker_that_always_dies_does_not_hang_its_caller(tmp_path: Path) -> None:
    pytest.importorskip("loky")
    caller = os.getpid()

    def work(_: symode.Problem, number: int) -> int:
        if os.getpid() != caller:
            os._exit(1)
        return number

    jobs = make_jobs(problem(), work, {i: (i,) for i in range(2)})
    # In the end the jobs run here.
    assert sorted(result for _, result in run_all(jobs, workers=2)) == [0, 1]


def test_a_dask_cluster_that_loses_a_worker_halfway_finishes_the_fit(
    tmp_path: Path, here, monkeypatch
) -> None:
    distributed = pytest.importorskip("distributed")
    path = tmp_path / "fit.db"
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    )
    with cluster, distributed.Client(cluster) as client:
        victims = list(client.run(os.getpid).values())[:1]
        original = FitStore.add

        def add(store: FitStore, starts: list[symode.problems.starts.Start], stage: str) -> None:
            original(store, starts, stage)
            while victims:
                os.kill(victims.pop(), signal.SIGKILL)

        monkeypatch.setattr(FitStore, "add", add)
        executor = client.get_executor()
        result = symode.fit(problem(), starts=6, seed=3, executor=executor, store=path)
    assert not victims
    assert table(result) == table(here)


def test_records_keep_every_digit(here) -> None:
    import json

    for start in (*here.starts, failed_start()):
        again = start_from(json.loads(json.dumps(record_of(start))), problem())
        assert record_of(again) == record_of(start)


def failed_start() -> symode.problems.starts.Start:
    x, k = sp.symbols("x k")
    blow_up = symode.Model({x: k * x**2}, parameters=[k], initial={x: 5})
    data = symode.Data([1.0], {"x": [5.1]})
    stuck = symode.Problem(blow_up, data, symode.Normal(1.0), scale="log10")
    (start,) = symode.fit(stuck, [{"k": 50.0}]).starts
    assert start.status == "failed"
    from dataclasses import replace

    filler = symode.fit(problem(), starts=1, seed=0).starts[0]
    return replace(filler, value=start.value, decrement=start.decrement, status=start.status)


def test_a_store_spares_what_is_done(tmp_path: Path, here, monkeypatch) -> None:
    path = tmp_path / "fit.db"
    first = symode.fit(problem(), starts=6, seed=3, store=path, workers=1)
    assert table(first) == table(here)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM starts WHERE number IN (1, 4)")
    done: list[int] = []
    original = FitStore.add

    def add(store: FitStore, starts: list[symode.problems.starts.Start], stage: str) -> None:
        done.extend(start.index for start in starts)
        original(store, starts, stage)

    monkeypatch.setattr(FitStore, "add", add)
    # The seed is in the file.
    again = symode.fit(problem(), starts=6, store=path, workers=1)
    assert table(again) == table(here)
    assert sorted(done) == [1, 4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: (problem(bounds=(1e-2, 1e2)), {}), "bounds, scales, fixed values or priors"),
        (lambda: (problem(rtol=1e-6), {}), "solver options"),
        (lambda: (problem(), {"seed": 4}), "the seed, the starting points"),
        (lambda: (problem(), {"optimizer": "trust-constr"}), "the optimizer"),
        (
            lambda: (
                symode.Problem(
                    symode.Model({X: -K * X - X**3}, [K, X0, S], initial={X: X0}),
                    DATA, symode.LogNormal(S), scale="log10",
                ),
                {},
            ),
            "the model's equations",
        ),
        (
            lambda: (
                symode.Problem(
                    MODEL, symode.Data([0, 1, 2, 3], {"x": [2.1, 0.97, 0.51, 0.25]}),
                    symode.LogNormal(S), scale="log10",
                ),
                {},
            ),
            "the data",
        ),
    ],
)  # fmt: skip
def test_a_store_of_another_fit_is_refused(tmp_path: Path, change, words: str) -> None:
    path = tmp_path / "fit.db"
    symode.fit(problem(), starts=2, seed=3, store=path, workers=1)
    other, options = change()
    with pytest.raises(StoreError, match=words):
        symode.fit(other, starts=2, **({"seed": 3} | options), store=path, workers=1)


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("my notes, which I would miss" * 200)
    with pytest.raises(StoreError, match="is not the file of a fit"):
        symode.fit(problem(), starts=2, store=text)
    assert text.read_text().startswith("my notes")
    database = tmp_path / "other.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE mine (a)")
    with pytest.raises(StoreError, match="not the file of a fit"):
        symode.fit(problem(), starts=2, seed=1, store=database)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from problems.test_campaign import problem
import symode, symode.problems.store as store
original = store.FitStore.add
def slow(self, starts, stage):
    import time
    time.sleep(0.05)
    original(self, starts, stage)
    for start in starts:
        print(start.index, flush=True)
store.FitStore.add = slow
symode.fit(problem(), starts=12, seed=3, store={path!r}, workers=1)
"""


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX signal")
@pytest.mark.parametrize("after", [1, 5])
def test_a_run_killed_at_any_moment_goes_on(tmp_path: Path, after: int) -> None:
    path = str(tmp_path / "fit.db")
    code = SCRIPT.format(tests=str(ROOT / "tests"), path=path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    for _ in range(after):
        process.stdout.readline()
    time.sleep(0.03)
    process.kill()
    process.wait()
    kept = FitStore(path, problem(), _settings(path)).finished()
    assert after <= len(kept) < 12
    resumed = symode.fit(problem(), starts=12, store=path, workers=1)
    assert table(resumed) == table(symode.fit(problem(), starts=12, seed=3, workers=1))


def _settings(path: str) -> dict:
    with sqlite3.connect(path) as database:
        found = dict(database.execute("SELECT name, value FROM meta").fetchall())
    import json

    names = ("seed", "optimizer", "max_iterations", "screen", "hops", "requested", "points")
    return {name: json.loads(found[name]) for name in names}


def test_screening_gives_up_hopeless_starts_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "fit.db"
    full = symode.fit(problem(), starts=8, seed=3, workers=1)
    result = symode.fit(problem(), starts=8, seed=3, screen=0.25, store=path, workers=1)
    assert result.value == pytest.approx(full.value, rel=1e-9)
    given_up = [s for s in result.starts if s.message.startswith("given up after 15 iterations")]
    failed = [s for s in result.starts if s.status == "failed"]
    assert len(given_up) + len(failed) == 6 and len(given_up) >= 3 and len(result.starts) == 8
    assert all(s.status == "stopped" and s.value >= result.value for s in given_up)
    assert table(symode.fit(problem(), starts=8, seed=3, screen=0.25, store=path)) == table(result)


@pytest.mark.parametrize("optimizer", [n for n in OPTIMIZERS if n != "least_squares"])
def test_every_optimizer_finds_the_optimum(optimizer: str, here) -> None:
    if optimizer == "fides":
        pytest.importorskip("fides")
    result = symode.fit(problem(), starts=3, seed=1, optimizer=optimizer)
    assert result.value == pytest.approx(here.value, rel=1e-9)
    assert result.best.status == "converged"


def test_sobol_points_extend_a_shorter_sequence() -> None:
    from symode.problems.starts import sobol

    space = problem().space
    short, long = sobol(space, 5, seed=2), sobol(space, 8, seed=2)
    assert np.array_equal(short, long[:5])
    assert ((long >= space.lower) & (long <= space.upper)).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 0}, "workers must be a whole number"),
        ({"workers": 2, "executor": ThreadPoolExecutor(1)}, "not both"),
        ({"executor": 3}, "interface of concurrent.futures.Executor"),
        ({"screen": 0}, "screen must be a share"),
        ({"hops": -1}, "hops must be a whole number"),
        ({"sampling": "grid"}, "sampling must be one of latin, sobol"),
        ({"max_iterations": 0}, "max_iterations must be 1 or more"),
        ({"conditions": {}}, r"belongs to the problem: symode.Problem\(..., conditions"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        symode.fit(problem(), starts=2, seed=0, **options)
