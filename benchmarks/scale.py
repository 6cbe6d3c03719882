"""What size costs: derivation, machine code, solve and gradient of large sparse models.

    python benchmarks/scale.py                      # three minutes
    python benchmarks/scale.py --families network --small

Times are seconds of CPU in a fresh store: of lifting and deriving all graphs, of writing machine
code for them, of one Rodas5P solve and of one gradient in all parameters and initial values (rtol
1e-6, atol 1e-9, DiscreteAdjoint). The exponent is that of the nonzeros of the Jacobian, fitted over
the sizes of a family. 1.0 is linear; a grid in two dimensions fills up when it is eliminated, so
the exponent of its L + U is printed too.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sympy as sp

if __name__ == "__main__":  # also run as a file, from anywhere
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import symode
from benchmarks.systems import System, brusselator, network

OPTIONS = {"solver": "rodas5p", "rtol": 1e-6, "atol": 1e-9}
COLUMNS = ("n", "m", "nnz", "L+U", "model", "derive", "compile", "solve", "steps", "gradient")


def gray_scott(side: int) -> System:
    """Gray and Scott's reaction and diffusion on a square with periodic ends."""
    feed, kill, du, dv = p = sp.symbols("F K Du Dv")
    u, v = sp.symbols(f"u0:{side * side}"), sp.symbols(f"v0:{side * side}")
    rhs = []
    for i in range(side):
        for j in range(side):
            around = [
                ((i + a) % side) * side + (j + b) % side
                for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1))
            ]
            c = i * side + j
            reaction = u[c] * v[c] ** 2
            spread = [sp.Add(*(s[q] for q in around)) - 4 * s[c] for s in (u, v)]
            rhs.append(du * spread[0] - reaction + feed * (1 - u[c]))
            rhs.append(dv * spread[1] + reaction - (feed + kill) * v[c])
    states = tuple(s for pair in zip(u, v, strict=True) for s in pair)
    return System(f"Gray-Scott {side}x{side}", states, p, tuple(rhs))


def _start_gray_scott(system: System):
    cells = len(system.states) // 2
    rng = np.random.default_rng(1)
    square = rng.random(cells) < 0.2
    u, v = np.where(square, 0.5, 1.0), np.where(square, 0.25, 0.0)
    z0 = np.stack([u, v], axis=1).ravel() + 0.01 * rng.random(2 * cells)
    return np.array([0.04, 0.06, 0.2, 0.1]), z0, 200.0


def _start_brusselator(system: System):
    cells = len(system.states) // 2
    x = np.arange(1, cells + 1) / (cells + 1)
    z0 = np.stack([1 + 0.5 * np.sin(2 * np.pi * x), np.full(cells, 3.0)], axis=1).ravel()
    return np.array([1.0, 3.0, 0.02, 0.02]), z0, 2.0


def _start_network(system: System):
    rng = np.random.default_rng(2)
    theta = rng.uniform(0.2, 1.5, len(system.parameters))
    return theta, rng.uniform(0.2, 1.5, len(system.states)), 20.0


FAMILIES: dict[str, tuple[list[Callable[[], System]], Callable]] = {
    "brusselator": ([lambda c=c: brusselator(c) for c in (50, 100, 200)], _start_brusselator),
    "gray_scott": ([lambda k=k: gray_scott(k) for k in (8, 16, 32)], _start_gray_scott),
    "network": (
        [lambda n=n: network(n, 2 * n + n // 2) for n in (100, 250, 500, 1000)], _start_network,
    ),
}  # fmt: skip


def measure(system: System, start: Callable) -> dict[str, float]:
    """Return the row of one system."""
    from symode.codegen.backends import compile_kernels
    from symode.gradients.methods.discrete import DiscreteAdjoint
    from symode.gradients.setup import make_task

    theta, z0, t1 = start(system)
    clock = time.process_time
    row: dict[str, float] = {"n": len(z0), "m": len(theta)}
    begun = clock()
    rhs = dict(zip(system.states, system.rhs, strict=True))
    model = symode.Model(rhs, parameters=system.parameters)
    row["model"] = clock() - begun
    loss = symode.Loss(terminal=sp.Add(*model.states))
    begun = clock()
    task = make_task(model.equations, loss, (0.0, t1), from_initial=False, **OPTIONS)
    kernels = task.kernels(["rhs", "jac", "vjp", "second"])
    field = task.field
    row["nnz"], row["L+U"] = len(field.jacobian.rows), len(field.elimination.column)
    row["derive"] = clock() - begun
    begun = clock()
    compile_kernels(kernels, len(theta), "llvm")
    row["compile"] = clock() - begun

    def solve():
        return model.solve((0, t1), theta, z0, times=[t1], dense_output=False, **OPTIONS)

    solve()
    begun = clock()
    solution = solve()
    row["solve"], row["steps"] = clock() - begun, solution.stats.steps
    vg = model.value_and_grad(loss, t0=0.0, t1=t1, method=DiscreteAdjoint(), **OPTIONS)
    point = vg.pack(theta=theta, z0=z0)
    vg(point)
    begun = clock()
    vg(point)
    row["gradient"] = clock() - begun
    return row


def show(row: dict[str, float]) -> str:
    """Return a row as text; times in seconds."""
    cells = []
    for name in COLUMNS:
        value = row[name]
        whole = name in ("n", "m", "nnz", "L+U", "steps")
        cells.append(f"{value:9d}" if whole else f"{value:9.3f}")
    return " ".join(cells)


def exponents(rows: list[dict[str, float]]) -> str:
    """Return the fitted growth of each column with the nonzeros; solve and gradient by the step."""
    nnz = np.log([row["nnz"] for row in rows])
    parts = []
    for name in ("L+U", "model", "derive", "compile", "solve", "gradient"):
        values = np.array([row[name] for row in rows], dtype=float)
        if name in ("solve", "gradient"):
            values /= [row["steps"] for row in rows]
        parts.append(f"{name} {np.polyfit(nnz, np.log(np.maximum(values, 1e-6)), 1)[0]:.2f}")
    return "growth with the nonzeros: " + ", ".join(parts) + " (solve and gradient by the step)"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--small", action="store_true", help="leave out the largest of each")
    options = parser.parse_args()
    # Compile the solvers before anything is timed, on a model of two states.
    warm = symode.Model.from_text("x' = -k*x + y; y' = -y")
    warm.gradient(
        symode.Loss(terminal=warm.states[0]), (0, 1), theta=[1.0], z0=[1.0, 1.0], **OPTIONS
    )
    # A fresh store: machine code is written, not found.
    for name in options.families:
        makers, start = FAMILIES[name]
        rows = []
        print(f"\n{name}\n" + " ".join(f"{c:>9}" for c in COLUMNS), flush=True)
        for make in makers[: -1 if options.small else None]:
            with tempfile.TemporaryDirectory() as folder:
                before = os.environ.get("SYMODE_CACHE_DIR")
                os.environ["SYMODE_CACHE_DIR"] = folder
                rows.append(measure(make(), start))
                if before is None:
                    del os.environ["SYMODE_CACHE_DIR"]
                else:
                    os.environ["SYMODE_CACHE_DIR"] = before
            print(show(rows[-1]), flush=True)
        print(exponents(rows))


if __name__ == "__main__":
    main()
