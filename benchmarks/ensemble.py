"""An ensemble of 1000 Lotka-Volterra gradients: milliseconds a member and core.

Run by gradients.py; alone: ``python benchmarks/ensemble.py``. Every library runs in a process of
its own on one core; symode, which takes all cores by itself, also on all of them.
Peers without batching loop over the members as quickly as they can.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
MEMBERS = 1000
# Peers with a batched gradient of their own; for the others, a loop over members.
WHO = ("symode", "numbalsoda", "diffrax", "casadi", "scipy")


def run(present, quick: bool) -> list[dict]:
    """Measure everybody who is present, print the table and return its rows."""
    from measure import table

    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    every = list(range(os.cpu_count() or 1))
    settings = [allowed[-1:]] if len(every) < 2 else [allowed[-1:], every]
    rows, results = [], []
    for who in WHO:
        if who not in present:
            continue
        for cores in settings:
            if who != "symode" and len(cores) > 1:
                continue
            result = _child(who, cores, quick)
            results.append(result)
            if "failure" in result:
                rows.append([who, str(len(cores)), "failed", "", "", result["failure"][:80]])
                continue
            members = result["members"]
            each = f"{1e3 * result['seconds'] * len(cores) / members:.4f}"
            cpu = f"{1e3 * result['cpu'] / members:.4f}"
            total = f"{1e3 * result['seconds'] * MEMBERS / members:.1f}"
            rows.append([who, str(len(cores)), total, each, cpu, result["how"]])
    header = ["who", "cores", "ms in all", "ms a member a core", "CPU ms a member", "how"]
    print(f"\nensemble: {MEMBERS} Lotka-Volterra gradients, rtol 1e-6, atol 1e-9")
    print(table(rows, header), flush=True)
    return results


def _child(who, cores, quick) -> dict:
    arguments = [sys.executable, __file__, who, ",".join(map(str, cores)), str(3 if quick else 7)]
    environment = dict(os.environ)
    environment.pop("NUMBA_NUM_THREADS", None)
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False)
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    return {"who": who, "cores": len(cores), "failure": (done.stderr.strip() or "no output")[-200:]}


def _measure(who, cores, rounds) -> dict:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(cores))
    from workloads import TOLERANCES, load

    workload = load("lotka_volterra")
    rtol, atol = TOLERANCES["A"]
    rng = np.random.default_rng(0)
    z0s = workload.z0 * (1.0 + 0.1 * rng.random((MEMBERS, workload.n)))
    module = import_module(f"peers.{who}_peer")
    members = MEMBERS
    if hasattr(module, "ensemble"):
        call, how = module.ensemble(workload, rtol, atol, z0s), "one call"
        _check(call, z0s, workload, who)
    else:
        single = module.prepare(workload, rtol, atol)
        members, how = 50, "loop in Python"

        def call():
            for _ in range(members):
                single()

    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter(), time.process_time()
        call()
        seconds.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    wall, cpu = map(float, np.median(seconds[1:], axis=0))
    return {
        "who": who,
        "cores": len(cores),
        "seconds": wall,
        "cpu": cpu,
        "members": members,
        "how": how,
    }


def _check(call, z0s, workload, who) -> None:
    """Raise unless the ensemble's gradient agrees with central differences to 1 %."""
    d_theta, d_z0 = call()
    if d_z0.shape != z0s.shape or d_theta.shape != (workload.m,):
        raise AssertionError(f"{who}: shapes {d_theta.shape}, {d_z0.shape}")
    expected_theta, expected_z0 = _reference(z0s, workload)
    for got, expected in ((d_theta, expected_theta), (d_z0[0], expected_z0)):
        error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
        if not error < 1e-2:
            raise AssertionError(f"{who}: ensemble gradient off by {error:.1e}")


def _reference(z0s, workload):
    """Return d/dtheta summed over all members and d/dz0 of the first, by central differences."""
    from scipy.integrate import solve_ivp

    def losses(theta, z0s):
        count = z0s.shape[0]

        def rhs(t, state):
            x, y = state.reshape(2, count)
            return np.concatenate(
                [theta[0] * x - theta[1] * x * y, -theta[2] * y + theta[3] * x * y]
            )

        path = solve_ivp(
            rhs, (workload.t0, workload.times[-1]), z0s.T.ravel(), "DOP853", workload.times,
            rtol=1e-10, atol=1e-12,
        )  # fmt: skip
        states = path.y.reshape(2, count, -1)
        return ((states - workload.data.T[:, None, :]) ** 2).sum(axis=(0, 2))

    h = 1e-5
    theta = [
        (losses(workload.theta + h * e, z0s).sum() - losses(workload.theta - h * e, z0s).sum())
        / (2 * h)
        for e in np.eye(workload.m)
    ]
    z0 = [
        (losses(workload.theta, z0s[:1] + h * e) - losses(workload.theta, z0s[:1] - h * e))[0]
        / (2 * h)
        for e in np.eye(workload.n)
    ]
    return np.array(theta), np.array(z0)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        answer = _measure(sys.argv[1], [int(c) for c in sys.argv[2].split(",")], int(sys.argv[3]))
        print(json.dumps(answer), flush=True)
    else:
        run([who for who in WHO if import_module(f"peers.{who}_peer").available()], quick=False)
