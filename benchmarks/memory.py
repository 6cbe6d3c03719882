"""Does the memory of a gradient grow with its steps? Peak memory at 1e3 to 1e6 steps, each method.

``python benchmarks/memory.py [--steps 1e3 1e4 1e5 1e6]``. Every cell is a process of its own: it
computes one gradient of a few steps, notes its peak, computes the long one, and reports the rise.
Ends with an error where BacksolveAdjoint's rises by more than 2 MiB. ``--budget`` instead solves
Lotka-Volterra in 1e6 steps by CheckpointedAdjoint within 1 MB, and ends with an error where its
arrays, traced, take more, where more is run again than one pass, or where a bit differs from
DiscreteAdjoint.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 2.0
SPAN = 10.0


def measure(method: str, steps: int) -> dict[str, float]:
    """Return the rise of the peak in MiB, the steps taken and the relative error of dJ/dk."""
    import math
    import resource

    import sympy as sp

    import symode

    x, y, k = sp.symbols("x y k")
    circle = symode.Model({x: y, y: -k * x}, parameters=[k])

    def gradient(count: int) -> symode.Gradient:
        return circle.gradient(
            symode.Loss(terminal=x), (0.0, SPAN), theta=[1.0], z0=[1.0, 0.0], method=method,
            solver="tsit5", rtol=1e-9, atol=1e-11, h_max=SPAN / count, max_steps=10 * count,
        )  # fmt: skip

    unit = 1 if sys.platform == "darwin" else 1024
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20  # noqa: E731
    gradient(200)
    before = peak()
    found = gradient(steps)
    # x = cos(sqrt(k) t): dx/dk = -t sin(t) / 2 at k = 1.
    known = -SPAN * math.sin(SPAN) / 2
    return {
        "rise": peak() - before,
        "steps": found.stats["forward"].steps,
        "error": abs(found.theta["k"] - known) / abs(known),
    }


def run(steps: list[int]) -> dict[str, list[dict[str, float]]]:
    """Measure every cell in a process of its own."""
    sys.path.insert(0, str(ROOT))
    from symode.gradients.methods import METHODS

    table: dict[str, list[dict[str, float]]] = {}
    for method in METHODS:
        for count in steps:
            command = [sys.executable, __file__, "--cell", method.name, str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            table.setdefault(method.name, []).append(json.loads(done.stdout.splitlines()[-1]))
    return table


def budget(memory: int = 2**20, steps: int = 10**6) -> None:
    """Print what a million steps of Lotka-Volterra take in a budget of bytes, and check it."""
    import tracemalloc

    import numpy as np
    import sympy as sp

    import symode

    x, y, a, b, c, d = sp.symbols("x y a b c d")
    model = symode.Model({x: a * x - b * x * y, y: d * x * y - c * y}, parameters=[a, b, c, d])
    loss, span = symode.Loss(terminal=x, observations=[(300.0, x * y)]), 1000.0

    def gradient(count: int, method: symode.DiscreteAdjoint) -> symode.Gradient:
        return model.gradient(
            loss, (0.0, span), theta=[1.1, 0.4, 0.4, 0.1], z0=[10.0, 5.0], method=method,
            solver="tsit5", rtol=1e-9, atol=1e-11, h_max=span / count, max_steps=2 * steps,
        )  # fmt: skip

    method = symode.CheckpointedAdjoint(memory=memory)
    known = gradient(steps, symode.DiscreteAdjoint())
    gradient(20_000, method)

    def traced(count: int, method: symode.DiscreteAdjoint) -> tuple[symode.Gradient, int]:
        tracemalloc.start()
        found = gradient(count, method)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found, peak

    least = traced(100, symode.CheckpointedAdjoint(memory=4096))[1]
    found, peak = traced(steps, method)
    s = found.stats
    same = np.array_equal(found.theta, known.theta) and np.array_equal(found.z0, known.z0)
    print(
        f"{s['forward'].steps:,} steps in {memory:,} bytes: {s['checkpoints']} checkpoints, "
        f"segments of {s['segment']} steps\n{s['recomputed']:,} steps run again (fewest possible "
        f"{s['fewest_recomputed']:,}), none more than {s['repetitions']} times\n"
        f"{s['bytes']:,} bytes of checkpoints and steps; traced peak {peak:,}, {peak - least:,} "
        f"above that of a solve of some steps\nbit by bit the discrete gradient: {same}"
    )
    if not (same and peak - least <= memory and s["recomputed"] <= s["fewest_recomputed"]):
        raise SystemExit("CheckpointedAdjoint is not within its budget")


def main() -> None:
    """Print the table; fail where the memory of BacksolveAdjoint is not flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", nargs="+", type=float, default=[1e3, 1e4, 1e5, 1e6])
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--budget", action="store_true")
    options = parser.parse_args()
    if options.budget:
        sys.path.insert(0, str(ROOT))
        budget()
        return
    if options.cell:
        sys.path.insert(0, str(ROOT))
        print(json.dumps(measure(options.cell[0], int(options.cell[1]))))
        return
    steps = [int(count) for count in options.steps]
    table = run(steps)
    print("rise of the peak memory in MiB (bytes a step), Tsit5, n = 2, m = 1\n")
    print(f"{'method':<15}" + "".join(f"{count:>20,}" for count in steps))
    for method, cells in table.items():
        entries = [f"{c['rise']:.1f} ({c['rise'] * 2**20 / c['steps']:.0f})" for c in cells]
        print(f"{method:<15}" + "".join(f"{entry:>20}" for entry in entries))
    worst = max(cell["rise"] for cell in table["backsolve"])
    errors = max(cell["error"] for cells in table.values() for cell in cells)
    print(f"\nbacksolve rises by at most {worst:.2f} MiB (limit {LIMIT:g}); errors <= {errors:.0e}")
    if not (worst <= LIMIT and errors < 1e-6):
        raise SystemExit("the memory of BacksolveAdjoint is not flat")


if __name__ == "__main__":
    main()
