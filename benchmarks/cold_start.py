"""From the start of `python` to the first Lotka-Volterra gradient, every library in a new process.

Run by gradients.py; alone: ``python benchmarks/cold_start.py``. The peers' programs are written
by hand in the library's own terms: nobody pays for SymPy who does not need it. "new model" has a
constant that no cache has seen; "known model" is the same model again, by way of the library's
on-disk cache where it has one. symode compiles into a folder of its own, so its first run is the
run after an installation.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


def symode(factor: float) -> None:
    import sympy as sp

    import symode as sd

    workload = _workload()
    x, y, a, b, c, d = sp.symbols("x y a b c d")
    model = sd.Model({x: factor * a * x - b * x * y, y: d * x * y - c * y}, parameters=(a, b, c, d))
    value_and_grad = model.value_and_grad(
        sd.LeastSquares(workload.times, workload.data),
        wrt=("theta", "z0"),
        t0=0.0,
        rtol=1e-6,
        atol=1e-9,
    )
    value_and_grad(value_and_grad.pack(theta=workload.theta, z0=workload.z0))


def casadi(factor: float) -> None:
    import casadi as ca

    workload = _workload()
    z, p = ca.SX.sym("z", 2), ca.SX.sym("p", 4)
    ode = ca.vertcat(factor * p[0] * z[0] - p[1] * z[0] * z[1], -p[2] * z[1] + p[3] * z[0] * z[1])
    flow = ca.integrator(
        "flow", "cvodes", {"x": z, "p": p, "ode": ode}, 0.0, list(workload.times),
        {"reltol": 1e-6, "abstol": 1e-9},
    )  # fmt: skip
    z0, theta = ca.MX.sym("z0", 2), ca.MX.sym("theta", 4)
    loss = ca.sumsqr(flow(x0=z0, p=theta)["xf"] - ca.DM(workload.data.T))
    gradient = ca.Function("g", [theta, z0], [ca.gradient(loss, theta), ca.gradient(loss, z0)])
    gradient(workload.theta, workload.z0)


def diffrax(factor: float) -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import diffrax as dfx
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    workload = _workload()

    def field(t, z, p):
        x, y = z
        return jnp.stack([factor * p[0] * x - p[1] * x * y, -p[2] * y + p[3] * x * y])

    def loss(theta, z0):
        solution = dfx.diffeqsolve(
            dfx.ODETerm(field), dfx.Tsit5(), 0.0, 10.0, None, z0, theta,
            saveat=dfx.SaveAt(ts=jnp.asarray(workload.times)),
            stepsize_controller=dfx.PIDController(rtol=1e-6, atol=1e-9),
        )  # fmt: skip
        return jnp.sum((solution.ys - workload.data) ** 2)

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    jax.block_until_ready(gradient(workload.theta, workload.z0))


def numbalsoda(factor: float) -> None:
    import numba
    import numpy as np
    from numbalsoda import dop853, lsoda_sig

    workload = _workload()

    @numba.cfunc(lsoda_sig)
    def rhs(t, s, ds, p):
        x, y = s[0], s[1]
        xx, xy, yx, yy = factor * p[0] - p[1] * y, -p[1] * x, p[3] * y, p[3] * x - p[2]
        ds[0] = factor * p[0] * x - p[1] * x * y
        ds[1] = p[3] * x * y - p[2] * y
        for j in range(6):
            k = 2 + 2 * j
            ds[k] = xx * s[k] + xy * s[k + 1]
            ds[k + 1] = yx * s[k] + yy * s[k + 1]
        ds[2] += factor * x
        ds[4] -= x * y
        ds[7] -= y
        ds[9] += x * y

    start = np.zeros(14)
    start[:2] = workload.z0
    start[10] = start[13] = 1.0
    times = np.concatenate([[0.0], workload.times])
    s, success = dop853(rhs.address, start, times, workload.theta, 1e-6, 1e-9)
    if not success:
        raise RuntimeError("numbalsoda failed")
    residuals = 2.0 * (s[1:, :2] - workload.data)
    np.einsum("ki,kji->j", residuals, s[1:, 2:].reshape(-1, 6, 2))


def scipy(factor: float) -> None:
    import numpy as np
    from scipy.integrate import odeint

    workload = _workload()
    a, b, c, d = workload.theta

    def rhs(t, s):
        # Plain floats: for 14 states quicker than arrays, and nothing to compile.
        x, y, *columns = s.tolist()
        xx, xy, yx, yy = factor * a - b * y, -b * x, d * y, d * x - c
        out = [factor * a * x - b * x * y, d * x * y - c * y]
        for u, v in zip(columns[0::2], columns[1::2], strict=True):
            out += [xx * u + xy * v, yx * u + yy * v]
        out[2] += factor * x
        out[4] -= x * y
        out[7] -= y
        out[9] += x * y
        return out

    start = np.zeros(14)
    start[:2] = workload.z0
    start[10] = start[13] = 1.0
    times = np.concatenate([[0.0], workload.times])
    s = odeint(rhs, start, times, tfirst=True, rtol=1e-6, atol=1e-9)
    residuals = 2.0 * (s[1:, :2] - workload.data)
    np.einsum("ki,kji->j", residuals, s[1:, 2:].reshape(-1, 6, 2))


PROGRAMS = {f.__name__: f for f in (symode, casadi, numbalsoda, scipy, diffrax)}


def _workload():
    from workloads import load

    return load("lotka_volterra")


def run(present, missing, quick: bool) -> list[dict]:
    """Measure everybody who is present, print the table and return its rows."""
    from measure import table

    repeats = 2 if quick else 5
    rows, results = [], []
    with tempfile.TemporaryDirectory(prefix="bench_cold_") as folder:
        environment = dict(os.environ)
        environment |= {
            "SYMODE_CACHE_DIR": str(Path(folder) / "symode"),
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        }
        for who in PROGRAMS:
            if who not in present:
                continue
            for what, seconds, cpu, remark in _cases(who, repeats, environment, Path(folder)):
                rows.append([who, what, f"{seconds:.2f}", f"{cpu:.2f}", remark])
                results.append(
                    {"who": who, "what": what, "seconds": seconds, "cpu": cpu, "remark": remark}
                )
    rows += [[who, "not installed", "", "", ""] for who in missing]
    print("\ncold start: seconds from the start of python to the first Lotka-Volterra gradient")
    print(table(rows, ["who", "what", "s", "CPU s", "remark"]), flush=True)
    return results


def _cases(who, repeats, environment, folder):
    """Yield (what, median seconds, median CPU seconds, remark) of one library."""
    if who == "symode":
        seconds, cpu, said = _start(who, 1.0, environment)
        yield "first run after installation", seconds, cpu, said
        seconds = _import_time("symode", environment, repeats)
        yield "import", seconds, seconds, "inside python"
    fresh = [_start(who, 1.0 + 1e-6 * random.random(), environment) for _ in range(repeats)]
    yield "new model", *_medians(fresh), ""
    if who == "diffrax":
        environment = environment | {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        _start(who, 1.0, environment)
    if who in ("symode", "diffrax"):
        remark = "its persistent compilation cache" if who == "diffrax" else "found in the store"
        known = [_start(who, 1.0, environment) for _ in range(repeats)]
        yield "known model", *_medians(known), remark


def _medians(runs):
    return statistics.median(r[0] for r in runs), statistics.median(r[1] for r in runs)


def _start(who, factor, environment) -> tuple[float, float, str]:
    """Return wall and CPU seconds to the first gradient, and the last line on stderr."""
    started = time.time()
    done = subprocess.run(
        [sys.executable, __file__, who, repr(factor)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"cold start of {who} failed:\n{done.stderr[-2000:]}")
    lines = done.stderr.strip().splitlines()
    wall, cpu = map(float, done.stdout.split()[-2:])
    return wall - started, cpu, lines[-1][:90] if lines else ""


def _import_time(package, environment, repeats) -> float:
    program = (
        f"import time; s = time.perf_counter(); import {package}; print(time.perf_counter() - s)"
    )
    return statistics.median(
        float(
            subprocess.run(
                [sys.executable, "-c", program],
                capture_output=True,
                text=True,
                env=environment,
                check=True,
            ).stdout
        )
        for _ in range(repeats)
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        PROGRAMS[sys.argv[1]](float(sys.argv[2]))
        print(time.time(), time.process_time(), flush=True)
    else:
        from importlib import import_module

        names = list(PROGRAMS)
        available = [n for n in names if import_module(f"peers.{n}_peer").available()]
        run(available, [n for n in names if n not in available], quick=False)
