"""A published PEtab problem fitted from many starts, beside AMICI with SciPy on the same starts.

    python benchmarks/petab_fit.py FOLDER [NAME] [--starts 100] [--hops 20] [--seed 0]
        [--amici PYTHON] [--models FOLDER] [--amici-starts 20]

FOLDER holds one folder a problem, as the PEtab benchmark collection does. symode searches with and
without hops; AMICI's side is SciPy's L-BFGS-B with AMICI's forward sensitivities (rtol 1e-8,
atol 1e-16, its own tolerances) from the first of the same points. All on one thread, in CPU
seconds; where AMICI takes fewer starts its total is scaled up, and the table says so. The last
column is what it takes on average until one search ends at the best objective.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from petab_speed import ask, has_amici

import symode
from symode.problems.starts import starting_points

#: A search has found the best objective where it ends at most this far above it.
NEAR = 0.1


def ours(problem: Any, starts: int, seed: int, hops: int) -> dict[str, Any]:
    """Return the ends of symode's searches, and CPU seconds of all."""
    begun = time.process_time()
    fit = symode.fit(problem, starts, seed=seed, workers=1, hops=hops, progress=False)
    seconds = time.process_time() - begun
    calls = sum(start.evaluations for start in fit.starts)
    return {"values": [s.value for s in fit.starts], "seconds": seconds, "calls": calls}


def theirs(python: str, given: argparse.Namespace, problem: Any, points: Any) -> Any:
    """Return the same of AMICI and SciPy; a sentence where it cannot."""
    space = problem.space
    asked = {
        "names": list(space.names),
        "points": [list(map(float, x)) for x in points],
        "bounds": [list(map(float, pair)) for pair in zip(space.lower, space.upper, strict=True)],
        "tolerances": [],
    }
    found = ask(python, given.folder, given.name, asked, given.models)
    if isinstance(found, str):
        return found
    searches = found["searches"]
    return {
        "values": [s["value"] for s in searches],
        "seconds": sum(s["seconds"] for s in searches),
        "calls": sum(s["calls"] for s in searches),
    }


def row(label: str, found: dict[str, Any], best: float, starts: int) -> str:
    """Return one line of the table."""
    values = np.array(found["values"])
    hits, scale = int(np.sum(values <= best + NEAR)), starts / values.size
    often = f"{found['seconds'] / hits:9.2f}" if hits else f"   > {found['seconds']:.0f}"
    scaled = "" if scale == 1 else f"  (measured {found['seconds']:.1f} s, scaled)"
    return (
        f"{label:38s} {np.nanmin(values):10.4f} {hits:4d} of {values.size:<4d} "
        f"{found['calls'] / values.size:9.0f} {scale * found['seconds']:9.1f} {often}{scaled}"
    )


def main() -> None:
    """Fit with both, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", nargs="?", default="Boehm_JProteomeRes2014")
    parser.add_argument("--starts", type=int, default=100)
    parser.add_argument("--hops", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--amici", default=sys.executable, help="a Python that has AMICI")
    parser.add_argument(
        "--models", default="amici_models", help="where AMICI keeps compiled models"
    )
    parser.add_argument("--amici-starts", type=int, default=20)
    given = parser.parse_args()
    problem = symode.read_petab(given.folder / given.name / f"{given.name}.yaml")
    # Those of the fit: it draws them from its seed, on the scale.
    points = starting_points(problem, given.starts, given.seed)
    # Once before: what is compiled is compiled.
    ours(problem, 1, given.seed, 0)
    table = {f"symode, {hops} hops": ours(problem, given.starts, given.seed, hops)
             for hops in dict.fromkeys((0, given.hops))}  # fmt: skip
    if has_amici(given.amici):
        peer = theirs(given.amici, given, problem, points[: given.amici_starts])
        if isinstance(peer, str):
            print(f"AMICI: {peer}")
        else:
            table["AMICI 1 + SciPy L-BFGS-B, forward"] = peer
    else:
        print(f"AMICI is not installed in {given.amici}: symode's own figures alone.")
    best = min(min(found["values"]) for found in table.values())
    print(
        f"{given.name}, {given.starts} starts (seed {given.seed}), best objective {best:.4f}; "
        "CPU seconds on one thread\n"
        f"{'':38s} {'best':>10s} {f'within {NEAR:g}':>12s} {'calls each':>9s} "
        f"{f'{given.starts} starts':>9s} {'per hit':>9s}"
    )
    for label, found in table.items():
        print(row(label, found, best, given.starts), flush=True)


if __name__ == "__main__":
    main()
