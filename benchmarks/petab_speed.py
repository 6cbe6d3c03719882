"""Published PEtab problems: time to the first gradient, and of one gradient, beside AMICI's.

    python benchmarks/petab_speed.py FOLDER [NAME ...] [--amici PYTHON] [--models FOLDER]

FOLDER holds one folder a problem, as the PEtab benchmark collection does. Each problem runs in
processes of its own, on one thread. AMICI is that of the Python named by --amici, or of this one;
it compiles each model once, into --models. Times are CPU seconds, so that a busy machine does not
move them much.

Errors are those of gradients on the parameters' scale, |g - ref|/|ref|, the median over points
next to the nominal ones (where the gradient of a fitted problem is rounding); ref is symode's at
rtol 1e-12. The time of symode is that of the loosest tolerances at which its error is at
most AMICI's at AMICI's own tolerances (rtol 1e-8, atol 1e-16).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ["Boehm_JProteomeRes2014", "Fiedler_BMCSystBiol2016", "Crauste_CellSystems2017",
         "Bruno_JExpBot2016", "Weber_BMC2015", "Brannmark_JBC2010", "Schwen_PONE2014"]  # fmt: skip
#: Tolerances of symode, loosest first; atol is a hundredth. 1e-8 is the default.
LADDER = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
THEIRS = ((1e-8, 1e-16),)
POINTS, AWAY = 5, 0.1


def measure(folder: Path, name: str, out: str) -> None:
    """Write the times and gradients of one problem, in this process."""
    begun = time.perf_counter()
    import numpy as np

    import symode

    path = folder / name / f"{name}.yaml"
    problem = symode.read_petab(path, workers=1)
    x = problem.point()
    try:
        problem.objective(x)
    except symode.SolverError as failure:
        print(f"{name}: at its nominal parameters: {failure}")
    first = time.perf_counter() - begun
    reference = symode.read_petab(path, workers=1, rtol=1e-12, atol=1e-14, max_steps=100_000)
    rng, points, wanted = np.random.default_rng(0), [], []
    while len(points) < POINTS:
        point = problem.space.inside(x + AWAY * rng.standard_normal(x.size))
        try:
            wanted.append(reference.objective(point)[1].tolist())
        except symode.SolverError:  # Crauste blows up next to its nominal parameters
            continue
        points.append(point.tolist())
    nothing = np.full(x.size, np.nan)

    def gradient_of(trial: Any, point: Any) -> Any:
        try:
            return trial.objective(point)[1]
        except symode.SolverError:  # too loose for this point
            return nothing

    runs = []
    for rtol in LADDER:
        trial = symode.read_petab(path, workers=1, rtol=rtol, atol=1e-2 * rtol)
        seconds, gradients = [], []
        for point in points:
            best = np.inf
            for _ in range(5):
                # Never the same point twice in a row: nothing found before can be used again.
                gradient_of(trial, x)
                start = time.process_time()
                gradient = gradient_of(trial, point)
                best = min(best, time.process_time() - start)
            seconds.append(best)
            gradients.append(gradient.tolist())
        runs.append({"rtol": rtol, "seconds": seconds, "gradients": gradients})
    result = {"first": first, "names": list(problem.space.names), "points": points,
              "reference": wanted, "runs": runs, "parts": len(problem.parts)}  # fmt: skip
    Path(out).write_text(json.dumps(result))


def error(found: list[list[float]], wanted: list[list[float]]) -> float:
    """Return the median error of gradients."""
    import numpy as np

    rows = zip(np.array(found), np.array(wanted), strict=True)
    return float(np.median([np.linalg.norm(g - ref) / np.linalg.norm(ref) for g, ref in rows]))


def ask(python: str, folder: Path, name: str, given: dict[str, Any], models: str) -> Any:
    """Return what AMICI's side answers; a sentence where it cannot."""
    peer = Path(__file__).parent / "peers" / "amici_peer.py"
    with tempfile.TemporaryDirectory() as scratch:
        asked, out = Path(scratch) / "points.json", Path(scratch) / "amici.json"
        asked.write_text(json.dumps(given))
        command = [python, str(peer), str(folder), name, str(asked), str(out), models]
        # Its generated code is built by swig and cmake, which may be that Python's own.
        where = f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PATH": where}
        )
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["it failed"])[-1]
        return json.loads(out.read_text())


def has_amici(python: str) -> bool:
    """Tell whether a Python has AMICI."""
    return subprocess.run([python, "-c", "import amici"], capture_output=True).returncode == 0


def line(name: str, mine: dict[str, Any], theirs: Any) -> str:
    """Return the row of one problem."""
    import numpy as np

    errors = [error(run["gradients"], mine["reference"]) for run in mine["runs"]]
    times = [1e3 * float(np.median(run["seconds"])) for run in mine["runs"]]
    default = LADDER.index(1e-8)
    head = (
        f"{name:24s} {mine['parts']:3d} {mine['first']:7.2f} {times[default]:8.3f} "
        f"{errors[default]:8.1e}"
    )
    if theirs is None:
        return head
    if isinstance(theirs, str):
        return f"{head}   AMICI: {theirs[:60]}"
    order = [theirs["runs"][0]["names"].index(n) for n in mine["names"]]
    best = None
    for run in theirs["runs"]:
        bad = error(np.array(run["gradients"])[:, order].tolist(), mine["reference"])
        if np.isfinite(bad) and (best is None or sum(run["seconds"]) < sum(best[0]["seconds"])):
            best = run, bad
    if best is None:
        return f"{head}   AMICI: no gradient"
    run, bad = best
    whole, inner = (1e3 * float(np.median(run[key])) for key in ("seconds", "inner"))
    peer = f"{head} | {whole:8.2f} {inner:8.2f} {bad:8.1e} {run['mode']:8s}| "
    fits = [i for i, e in enumerate(errors) if e <= bad]
    if not fits:
        return f"{peer}more exact than all of symode's"
    i = min(fits, key=lambda i: times[i])
    return (
        f"{peer}{LADDER[i]:.0e} {times[i]:8.3f} {errors[i]:8.1e} {whole / times[i]:6.1f}x "
        f"{inner / times[i]:6.1f}x"
    )


def main() -> None:
    """Run every problem in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--amici", default=sys.executable, help="a Python that has AMICI")
    parser.add_argument(
        "--models", default="amici_models", help="where AMICI keeps compiled models"
    )
    parser.add_argument("--one", metavar="OUT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        measure(given.folder, given.names[0], given.one)
        return
    present = has_amici(given.amici)
    if not present:
        print(
            f"AMICI is not installed in {given.amici}: no comparison, symode's own times alone.\n"
            "It needs swig and a C++ compiler: pip install swig amici==1.0.1, then --amici PYTHON."
        )
    groups = f"{'':29s}symode, rtol 1e-8          "
    titles = f"{'problem':28s} {'first, s':>7s} {'ms':>7s} {'error':>8s}"
    if present:
        groups += f"| {'AMICI, rtol 1e-8':37s}| symode, at most as wrong"
        titles += f" | {'ms':>8s} {'in C++':>8s} {'error':>8s} {'':9s}| {'rtol':5s} {'ms':>8s} "
        titles += f"{'error':>8s} {'faster':>7s} {'C++':>7s}"
    print(f"{groups}\n{titles}", flush=True)
    for name in given.names:
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "symode.json"
            command = [sys.executable, __file__, str(given.folder), name, "--one", str(out)]
            subprocess.run(command, check=True)
            mine = json.loads(out.read_text())
        theirs = None
        if present:
            points = {"names": mine["names"], "points": mine["points"], "tolerances": THEIRS}
            theirs = ask(given.amici, given.folder, name, {**points, "repeats": 5}, given.models)
        print(line(name, mine, theirs), flush=True)


if __name__ == "__main__":
    main()
