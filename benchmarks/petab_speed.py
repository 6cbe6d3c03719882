"""Published PEtab problems: time from import to the first gradient, and of one gradient.

Each problem runs in a process of its own. Points differ from call to call, so that nothing found
before can be used again.

    python benchmarks/petab_speed.py FOLDER [NAME ...]

FOLDER holds one folder a problem, as the PEtab benchmark collection does.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

NAMES = ["Boehm_JProteomeRes2014", "Fiedler_BMCSystBiol2016", "Crauste_CellSystems2017",
         "Bruno_JExpBot2016", "Weber_BMC2015", "Brannmark_JBC2010", "Schwen_PONE2014"]  # fmt: skip


def measure(folder: Path, name: str) -> None:
    """Print the times of one problem, in this process."""
    begun = time.perf_counter()
    import numpy as np

    import symode

    problem = symode.read_petab(folder / name / f"{name}.yaml")
    x = problem.point()
    value, _ = problem.objective(x)
    first = time.perf_counter() - begun
    rng = np.random.default_rng(0)
    points = [problem.space.inside(x + 1e-6 * rng.standard_normal(x.size)) for _ in range(20)]
    times = []
    for point in points:
        begun = time.perf_counter()
        try:
            problem.objective(point)
        except symode.SolverError:  # Crauste blows up next to its nominal parameters
            continue
        times.append(time.perf_counter() - begun)
    print(f"{name:26s} {first:8.2f} {1e3 * min(times):9.3f} {1e3 * float(np.median(times)):9.3f} "
          f"{len(problem.parts):5d} {problem.size:5d} {value:16.8g}")  # fmt: skip


def main() -> None:
    """Run every problem in a process of its own."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    if names[:1] == ["--one"]:
        measure(folder, names[1])
        return
    print(f"{'problem':26s} {'first, s':>8s} {'best, ms':>9s} {'median':>9s} {'parts':>5s} "
          f"{'p':>5s} {'objective':>16s}", flush=True)  # fmt: skip
    for name in names or NAMES:
        subprocess.run([sys.executable, __file__, str(folder), "--one", name], check=True)


if __name__ == "__main__":
    main()
