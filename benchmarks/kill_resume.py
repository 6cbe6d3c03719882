"""Does a fit that is killed at ten random moments and resumed find what an undisturbed one finds?

A multi-start of two workers writes each search to its file as it ends. The process and its workers
receive SIGKILL at a random moment, again and again, and the same command goes on from the file. At
last the table of all searches is compared, digit by digit, with that of one run that nothing
disturbed.

    python benchmarks/kill_resume.py [--kills 10] [--starts 400] [--seed 0] [--workers 2]
        [--optimizer auto] [--longest 1.0]

With ``--optimizer scoring`` the workers are threads, and searches take a millisecond: then wait at
most ``--longest 0.02`` seconds before a kill.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sympy as sp

import symode

BOUNDS = (1e-3, 1e3)


def problem() -> symode.Problem:
    x, y = sp.symbols("x y", positive=True)
    a, b, c, d, s = sp.symbols("a b c d s", positive=True)
    model = symode.Model(
        {x: a * x - b * x * y, y: d * x * y - c * y},
        parameters=[a, b, c, d, s],
        initial={x: 30, y: 4},
    )
    values = {"x": [47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22, 25.4],
              "y": [6.1, 9.8, 35.2, 59.4, 41.7, 19, 13, 8.3, 9.1]}  # fmt: skip
    data = symode.Data(np.arange(1, 10), values)
    return symode.Problem(model, data, symode.LogNormal(s), bounds=BOUNDS, scale="log10")


def table(fit: symode.Fit) -> list[tuple]:
    return [
        (s.index, s.status, s.message, s.value, s.begin.tolist(), str(s.theta.tolist()))
        for s in fit.starts
    ]


def begin(path: str, starts: int, seed: int, workers: int, optimizer: str) -> symode.Fit:
    return symode.fit(
        problem(), starts, seed=seed, workers=workers, optimizer=optimizer, store=path
    )


def stored(path: str, alone: bool = False) -> int:
    """Return how many searches are kept; ``alone`` rolls back what a killed writer has begun."""
    if not os.path.exists(path):
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode={'rw' if alone else 'ro'}", uri=True) as database:
            return int(database.execute("SELECT count(*) FROM starts").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def kill_one(path: str, rest: tuple[int, int, int, str], wait: float, first: int) -> int:
    """Start the run, wait for one more search to be kept and a while longer, and kill it all."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from kill_resume import begin\nbegin({path!r}, *{rest!r})"
    )
    # Its own session: the workers, too, are killed.
    run = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while run.poll() is None and stored(path) <= first:
        time.sleep(0.005)
    time.sleep(wait)
    over = run.poll() is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    if over:
        raise SystemExit(f"The run was over before it could be killed: raise --starts ({rest[0]}).")
    return stored(path, alone=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--starts", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--optimizer", default="auto")
    parser.add_argument("--longest", type=float, default=1.0, help="seconds before a kill")
    arguments = parser.parse_args()
    rest = arguments.starts, arguments.seed, arguments.workers, arguments.optimizer
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "fit.db")
        kept = 0
        for k in range(arguments.kills):
            wait = float(rng.uniform(0.0, arguments.longest))
            kept = kill_one(path, rest, wait, kept)
            print(f"kill {k + 1} after {1000 * wait:.0f} ms more: {kept} searches kept", flush=True)
        resumed = begin(path, *rest)
        alone = begin(str(Path(folder) / "alone.db"), *rest)
    same = table(resumed) == table(alone)
    print(f"{arguments.starts} searches, seed {arguments.seed}, {arguments.workers} workers:")
    print(f"the table after {arguments.kills} kills is {'the same' if same else 'ANOTHER'}")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
