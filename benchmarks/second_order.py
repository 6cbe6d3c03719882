"""What does a second derivative cost? Products and Hessians in units of one gradient.

    python benchmarks/second_order.py [--workloads lotka_volterra network_20] [--rounds 15]

Gradients and products by `DiscreteAdjoint` in theta and z0, at the same tolerances, timed in turns;
a product takes the steps of the gradient. Columns: the gradient in microseconds, then the ratio
of one Hessian-vector product, and of the whole Hessian per column, to it; and the largest
difference of the Hessian from its transpose, scaled.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from workloads import TOLERANCES, load

import symode
from symode.gradients.second_order import asymmetry_of


def measure(name: str, tolerance: str, rounds: int) -> dict[str, float]:
    """Return the figures of one workload."""
    w = load(name)
    states, parameters, t, rhs = w.equations()
    model = symode.Model(dict(zip(states, rhs, strict=True)), parameters=parameters, time=t)
    rtol, atol = TOLERANCES[tolerance]
    vg = model.value_and_grad(
        symode.LeastSquares(w.times, w.data), t0=w.t0, rtol=rtol, atol=atol,
        method=symode.DiscreteAdjoint(), solver="rodas5p" if w.stiff else "auto",
    )  # fmt: skip
    x = vg.pack(theta=w.theta, z0=w.z0)
    v = np.random.default_rng(0).normal(size=x.size) * w.scale
    calls = {"gradient": lambda: vg(x), "product": lambda: vg.hvp(x, v)}
    times: dict[str, list[float]] = {key: [] for key in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for key, call in calls.items():
            begun, count = time.process_time(), 0
            while time.process_time() - begun < 0.05:
                call()
                count += 1
            times[key].append((time.process_time() - begun) / count)
    gradient, product = (statistics.median(times[key]) for key in calls)
    begun = time.process_time()
    matrix = vg.columns(x)
    whole = time.process_time() - begun
    return {
        "gradient": gradient * 1e6,
        "product": product / gradient,
        "column": whole / x.size / gradient,
        "asymmetry": asymmetry_of(matrix, x),
    }


def main() -> None:
    """Print one line for each workload and tolerance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workloads", nargs="+", default=["lotka_volterra", "network_20", "robertson", "hires"]
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--check", action="store_true", help="fail where a product costs over 4")
    arguments = parser.parse_args()
    print(f"{'workload':<18}{'tol':>4}{'gradient us':>13}{'product':>9}{'column':>8}{'asym':>10}")
    dear = False
    for name in arguments.workloads:
        for tolerance in TOLERANCES:
            f = measure(name, tolerance, arguments.rounds)
            dear = dear or f["product"] > 4.0
            print(
                f"{name:<18}{tolerance:>4}{f['gradient']:>13.1f}{f['product']:>9.2f}"
                f"{f['column']:>8.2f}{f['asymmetry']:>10.1e}"
            )
    if arguments.check and dear:
        raise SystemExit("A Hessian-vector product cost more than 4 gradients.")


if __name__ == "__main__":
    main()
