"""How long kernels take to compile: linear growth, 10,000 operations in 1.5 s, 50,000 in 8 s.

    python benchmarks/compile.py

The kernel is f with both vector-Jacobian products of a reaction network; seconds of each stage.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

if __name__ == "__main__":  # also run as a file, from anywhere
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.systems import network, with_products
from symode.codegen import compiled
from symode.codegen.llvm import emit_module
from symode.codegen.program import make_bundle

#: Number of states for about this many operations; seconds allowed.
SIZES = {1_000: (40, None), 10_000: (400, 1.5), 50_000: (2000, 8.0)}


class Clock:
    """Seconds of each named stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.stages[name] = now - self._last
        self._last = now


def measure(n: int) -> tuple[int, dict[str, float], float]:
    """Return operations, seconds of each stage, and microseconds a call."""
    import llvmlite.binding as llvm

    system = network(n, 3 * n)
    compiled._target()  # once a process
    clock = Clock()
    field = system.field()
    clock.lap("build")
    kernel = with_products(field)
    clock.lap("derive")
    bundle = make_bundle({"both": ("product", kernel)}, 3 * n)
    clock.lap("lower")
    text, work_size, externals = emit_module(bundle.programs)
    clock.lap("emit")
    module = llvm.parse_assembly(text)
    clock.lap("parse")
    code = compiled._target()[0].emit_object(module)
    clock.lap("machine code")
    entry = compiled.Entry(code, work_size, bundle.n_hoisted, {"both": 5 * n}, externals)
    engine = compiled._load(entry)
    clock.lap("load")
    operations = sum(program.n_operations for program in bundle.programs)
    return operations, clock.stages, seconds_a_call(engine, entry, n)


def seconds_a_call(engine, entry, n: int) -> float:
    address = engine.get_function_address("symode_both")
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 1.5, size) for size in (n, 3 * n + entry.n_hoisted, n)]
    arrays += [np.empty(entry.work_size + 1), np.empty(5 * n)]
    pointers = [a.ctypes.data for a in arrays]
    function = compiled._PRODUCT(address)
    best = np.inf
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(10):
            function(0.0, *pointers)
        best = min(best, (time.perf_counter() - start) / 10)
    return best


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    late = False
    for k, (n, allowed) in enumerate(SIZES.values()):
        operations, stages, call = measure(n)
        total = sum(stages.values())
        if k == 0:
            print(f"| operations | {' | '.join(stages)} | total, s | µs an operation | call, µs |")
            print("|---" * (len(stages) + 4) + "|")
        columns = " | ".join(f"{s:.3f}" for s in stages.values())
        row = f"| {operations} | {columns} | {total:.2f} | {1e6 * total / operations:.0f} "
        verdict = ""
        if allowed is not None:
            late |= total > allowed
            verdict = f" {'met' if total <= allowed else 'MISSED'}: {allowed} s allowed"
        print(f"{row}| {1e6 * call:.1f} |{verdict}", flush=True)
    if late:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
