"""What does one gradient cost, in solves? Each method beside a solve at the same tolerances.

``python benchmarks/relative_cost.py [--workloads network_20 ...] [--rtol 1e-6]``. Prints, for each
workload and method, the time of one gradient over that of one solve; what ``method="auto"`` takes,
and how far it is from the best measured; and the cost of the adjoints over that of a solve for a
family of models whose f does the same work whatever the number of parameters. ``--check`` ends with
an error where a stated bound does not hold. Times are CPU times, each entry's least of many turns.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sympy as sp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

import symode  # noqa: E402
from symode.errors import GradientError  # noqa: E402
from symode.gradients.choose import choose_method  # noqa: E402
from symode.gradients.methods import METHODS, GradientMethod  # noqa: E402
from symode.gradients.methods.base import begin, make_forward  # noqa: E402
from symode.gradients.setup import make_task  # noqa: E402
from symode.gradients.task import Task  # noqa: E402

#: Bounds on network_20: a number, or a function of the number of directions.
BOUNDS: dict[str, Callable[[int], float]] = {
    "discrete": lambda directions: 3.5,
    "forward": lambda directions: 1 + 1.2 * directions,
    "gauss": lambda directions: 5.0,
}
#: How much more a choice may cost than the best measured.
CHOICE = 1.2


def least(calls: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Return the least CPU seconds of each call, measured in turns."""
    best = dict.fromkeys(calls, np.inf)
    repeats = {}
    for name, call in calls.items():
        call()
        begun = time.process_time()
        call()
        repeats[name] = max(1, int(0.01 / max(time.process_time() - begun, 1e-7)))
    for _ in range(turns):
        for name, call in calls.items():
            begun = time.process_time()
            for _ in range(repeats[name]):
                call()
            best[name] = min(best[name], (time.process_time() - begun) / repeats[name])
    return best


def solve_of(task: Task, theta: np.ndarray, z0: np.ndarray) -> Callable[[], object]:
    """Return a function that solves the task once, with its observations and running cost."""
    compiled = task.compile(["rhs", *task.options.jacobian_kernels()])
    system = task.bind(compiled, task.options.is_stiff)
    forward = make_forward(task, compiled, system, keep=False, lazy=True)
    y0 = begin(task, forward, compiled, theta, z0)

    def run() -> None:
        forward.reset(y0, task.t0, task.t1)
        assert forward.run() == 0

    return run


def gradient_of(
    method: GradientMethod, task: Task, theta: np.ndarray, z0: np.ndarray
) -> Callable[[], object] | None:
    """Return a function that computes one gradient; None where the method refuses."""
    runner = method.prepare(task)
    try:
        runner.compute(theta, z0)
    except GradientError:
        return None
    return lambda: runner.compute(theta, z0)


def measure(
    task: Task, theta: np.ndarray, z0: np.ndarray, names: list[str], turns: int
) -> dict[str, float]:
    """Return the cost of each method in solves."""
    calls: dict[str, Callable[[], object]] = {"solve": solve_of(task, theta, z0)}
    for method in METHODS:
        if method.name in names:
            call = gradient_of(method, task, theta, z0)
            if call is not None:
                calls[method.name] = call
    seconds = least(calls, turns)
    unit = seconds.pop("solve")
    print(f"  one solve: {1e6 * unit:.1f} us")
    return {name: value / unit for name, value in seconds.items()}


def task_of(name: str, rtol: float) -> tuple[Task, np.ndarray, np.ndarray]:
    """Return a workload as a task, with its point."""
    from workloads import load

    workload = load(name)
    states, parameters, clock, rhs = workload.equations()
    model = symode.Model(dict(zip(states, rhs, strict=True)), parameters=parameters, time=clock)
    loss = symode.LeastSquares(workload.times, workload.data)
    task = make_task(
        model.equations, loss, (workload.t0, float(workload.times[-1])), from_initial=False,
        solver="rodas5p" if workload.stiff else "tsit5", rtol=rtol, atol=rtol * 1e-3,
    )  # fmt: skip
    return task, workload.theta, workload.z0


def family(m: int) -> tuple[Task, np.ndarray, np.ndarray]:
    """Return four coupled oscillators whose forcing is a sum of m terms."""
    z, p = sp.symbols("z0:4"), sp.symbols(f"p0:{m}")
    forcing = sp.Add(*(p[i] * sp.tanh(z[i % 4] + sp.Rational(i, m)) for i in range(m)))
    rhs = {z[i]: z[(i + 1) % 4] - z[i] + forcing * (i + 1) / m for i in range(4)}
    model = symode.Model(rhs, parameters=p)
    loss = symode.Loss(terminal=z[0] ** 2 + z[3])
    task = make_task(
        model.equations, loss, (0.0, 10.0), from_initial=False, solver="tsit5", rtol=1e-6, atol=1e-9
    )
    return task, np.linspace(-0.6, 0.7, m), np.array([0.3, -0.2, 0.5, 0.1])


def small(m: int) -> tuple[Task, np.ndarray, np.ndarray]:
    """Return a pendulum, asked for the first m of its two parameters and no initial value."""
    x, v, w, c = sp.symbols("x v w c")
    model = symode.Model({x: v, v: -(w**2) * sp.sin(x) - c * v}, parameters=[w, c])
    from symode.gradients.task import Asked

    loss = symode.Loss(observations=[(t, x**2) for t in (1.0, 2.5, 4.0)])
    task = make_task(
        model.equations, loss, (0.0, 5.0), from_initial=False, solver="tsit5", rtol=1e-6, atol=1e-9,
        asked=Asked(tuple(range(m)), (), False),
    )  # fmt: skip
    return task, np.array([1.7, 0.2]), np.array([1.0, 0.3])


def calibrate(turns: int) -> None:
    """Print the constants of `symode.gradients.choose`, by least squares over 1 to 16 directions.

    What a call costs besides its steps is taken off first.
    """
    from symode.gradients.choose import CALL
    from symode.gradients.task import Asked

    found: dict[bool, list[tuple[int, float, float]]] = {False: [], True: []}
    for name in ("network_20", "brusselator_40", "hires"):
        whole, theta, z0 = task_of(name, 1e-6)
        for q in [
            q for q in (1, 2, 4, 8, 16) if q <= whole.m and (q <= 4 or not whole.options.is_stiff)
        ]:
            task = Task(
                whole.equations, whole.loss, whole.t0, whole.t1, whole.options, False,
                asked=Asked(tuple(range(q)), (), False),
            )  # fmt: skip
            calls = {"solve": solve_of(task, theta, z0)}
            for method in METHODS:
                if method.name in ("discrete", "forward"):
                    calls[method.name] = gradient_of(method, task, theta, z0)
            work = {k: 1e6 * v - CALL[k] for k, v in least(calls, turns).items()}
            row = (q, work["discrete"] / work["solve"], work["forward"] / work["solve"])
            print(f"{name}, {q} directions: discrete {row[1]:.2f}, forward {row[2]:.2f}")
            found[task.options.is_stiff].append(row)
    for stiff, rows in found.items():
        q, adjoint, forward = np.array(rows).T
        tangent, base = np.polyfit(q, forward, 1)
        print(
            f"{'implicit' if stiff else 'explicit'}: adjoint {adjoint.mean():.2f}, "
            f"base {base:.2f}, tangent {tangent:.2f}"
        )


def main() -> None:
    """Print the tables; with --check fail where a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    standard = ["lotka_volterra", "network_20", "brusselator_40", "robertson", "hires"]
    parser.add_argument("--workloads", nargs="*", default=standard)
    parser.add_argument("--rtol", type=float, default=1e-6)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--no-family", action="store_true")
    parser.add_argument("--calibrate", action="store_true")
    options = parser.parse_args()
    if options.calibrate:
        calibrate(options.turns)
        return
    failed: list[str] = []
    names = ["discrete", "interpolating", "gauss", "forward"]
    cases = {name: (lambda name=name: task_of(name, options.rtol)) for name in options.workloads}
    cases |= {f"pendulum, {m} asked": (lambda m=m: small(m)) for m in (1, 2)}
    for name, make in cases.items():
        task, theta, z0 = make()
        print(f"{name}: n={task.n} m={task.m}, {task.n_directions} directions")
        cost = measure(task, theta, z0, names, options.turns)
        for method, ratio in cost.items():
            bound = BOUNDS[method](task.n_directions) if method in BOUNDS else None
            note = "" if bound is None or name != "network_20" else f"   bound {bound:.1f}"
            print(f"  {method:14} {ratio:8.2f}{note}")
            if note and ratio > bound:
                failed.append(f"{name} {method}: {ratio:.2f} > {bound:.2f}")
        chosen, reason = choose_method(task)[:2]
        away = cost[chosen.name] / min(cost.values())
        print(f"  auto: {chosen.name}, {away:.2f} of the best measured ({reason})")
        if away > CHOICE:
            failed.append(f"{name}: auto costs {away:.2f} of the best")
    if not options.no_family:
        print("\nsum of m terms in f: cost in solves")
        for m in (10, 100, 1000):
            task, theta, z0 = family(m)
            print(f" m={m}")
            found = measure(task, theta, z0, ["discrete", "interpolating", "gauss"], options.turns)
            print("  " + "  ".join(f"{k} {v:.2f}" for k, v in found.items()))
    if options.check and failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
