"""Work-precision of the classic problems: symode's methods and SciPy's, in the same run.

    python benchmarks/work_precision.py                            # some eight minutes
    python benchmarks/work_precision.py --problems hires --solvers rodas5p scipy:Radau
    python benchmarks/work_precision.py --docs                     # also writes table and plots

Error is relative, in the norm of the known components of the end state; time is the median of a few
runs, of the compiled part for symode and of the call for SciPy, whose right-hand side and Jacobian
are symode's machine code (SciPy in Python alone would be some ten times slower). A solver that
needs more than ``--limit`` seconds is not asked for a tighter tolerance.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy.integrate import solve_ivp
from scipy.sparse import csc_matrix

if __name__ == "__main__":  # also run as a file, from anywhere
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ivp_problems import Problem, condition, names, problem
from symode.codegen.backends import compile_kernels
from symode.errors import SolverError
from symode.interface.model import Model
from symode.solvers import native
from symode.solvers.methods import METHODS, get_method
from symode.symbolic.derive import derive_jac, derive_rhs
from symode.symbolic.lift import lift_field

ROOT = Path(__file__).resolve().parents[1]
RTOLS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
SCIPY = ("scipy:Radau", "scipy:BDF", "scipy:LSODA")
STIFF = (*(name for name in METHODS if get_method(name).implicit), "auto")
#: Explicit methods, on problems that are not stiff.
CALM = ("tsit5", "dopri5", "vern7", "dop853")
#: Problems of diffusion, for the stabilised explicit method.
MILD = ("brusselator_1d", "medical_akzo_nobel")
#: Solves of which the median counts, fewer where they take a second together.
REPEATS = 10
#: Of the lines of symode's methods.
COLOURS = (*(f"C{i}" for i in range(10)), "black", "gold")
#: States from which a Jacobian is given to SciPy as a sparse matrix.
SPARSE = 50


@dataclass(frozen=True)
class Run:
    """One solver on one problem at one tolerance."""

    problem: str
    solver: str
    rtol: float
    error: float
    steps: int
    seconds: float
    failure: str = ""

    @property
    def allowed(self) -> float:
        return max(100 * self.rtol, problem(self.problem).floor)


def clock_of(cpu: bool) -> Callable[[], float]:
    """Return the clock: of this thread alone on a machine that others use."""
    return time.thread_time if cpu else time.perf_counter


def typical(seconds: list[float]) -> float:
    """Return the median without the first, which finds caches cold; clocks err to both sides."""
    return statistics.median(seconds[1:] or seconds)


def by_symode(p: Problem, solver: str, rtol: float, cpu: bool = False) -> Run:
    """Solve by one of symode's methods."""
    seconds: list[float] = []
    # What the solver takes for the time that passes.
    native.time = SimpleNamespace(perf_counter=clock_of(cpu))  # type: ignore[assignment]
    try:
        for _ in range(REPEATS):
            solution = p.model.solve(
                p.span, p.theta, p.z0, times=[p.span[1]], solver=solver, rtol=rtol,
                atol=p.atol(rtol), max_steps=10**6, dense_output=False,
            )  # fmt: skip
            seconds.append(solution.stats.seconds)
            if sum(seconds) > 1.0:
                break
    except SolverError as failure:
        return Run(p.name, solver, rtol, np.nan, 0, np.nan, str(failure))
    return Run(
        p.name, solver, rtol, p.error(solution.z[-1]), solution.stats.steps, typical(seconds)
    )


class Compiled:
    """Right-hand side and Jacobian of a model as SciPy calls them."""

    def __init__(self, model: Model, theta, band: int = 0) -> None:
        field = lift_field(model.equations)
        kernels = {"rhs": ("field", derive_rhs(field)), "jac": ("field", derive_jac(field))}
        self.native = compile_kernels(kernels, len(theta), "llvm")
        self.p = self.native.pack(np.array(theta, dtype=float))
        self.n = field.n_states
        self.place = (np.array(field.jacobian.rows), np.array(field.jacobian.cols))
        self.band = band

    def rhs(self, t: float, z: np.ndarray) -> np.ndarray:
        return self.native.call("rhs", t, z, self.p)

    def jac(self, t: float, z: np.ndarray):
        values = self.native.call("jac", t, z, self.p)[: self.place[0].size]
        if self.n >= SPARSE:
            return csc_matrix((values, self.place), shape=(self.n, self.n))
        matrix = np.zeros((self.n, self.n))
        matrix[self.place] = values
        return matrix


def by_scipy(p: Problem, solver: str, rtol: float, compiled: Compiled, cpu: bool = False) -> Run:
    """Solve by one of SciPy's methods."""
    method = solver.removeprefix("scipy:")
    more: dict = {"jac": compiled.jac}
    if method == "LSODA" and p.band:
        more = {"lband": p.band, "uband": p.band}
    seconds: list[float] = []
    clock = clock_of(cpu)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(REPEATS):
            begun = clock()
            found = solve_ivp(
                compiled.rhs, p.span, np.array(p.z0), method=method, rtol=rtol, atol=p.atol(rtol),
                t_eval=[p.span[1]], **more,
            )  # fmt: skip
            seconds.append(clock() - begun)
            if sum(seconds) > 1.0:
                break
    if not found.success:
        return Run(p.name, solver, rtol, np.nan, 0, np.nan, str(found.message))
    return Run(p.name, solver, rtol, p.error(found.y[:, -1]), found.nfev, typical(seconds))


def suited(p: Problem) -> tuple[str, ...]:
    """Return the solvers that are compared on a problem."""
    mild = ("rock4",) if p.name in MILD else ()
    return (*(() if p.stiff else CALM), *STIFF, *mild, *SCIPY)


def measure(p: Problem, solvers: tuple[str, ...], rtols, limit: float, cpu: bool) -> list[Run]:
    """Return the runs of one problem."""
    runs = []
    compiled = Compiled(p.model, p.theta, p.band)
    for solver in solvers:
        scipy = solver.startswith("scipy:")
        if not scipy:
            by_symode(p, solver, 1e-3, cpu)  # compiles the solver
        for rtol in rtols:
            if scipy:
                run = by_scipy(p, solver, rtol, compiled, cpu)
            else:
                run = by_symode(p, solver, rtol, cpu)
            runs.append(run)
            print(line(run), flush=True)
            if not run.seconds <= limit:
                break
    return runs


def line(run: Run) -> str:
    """Return a run as a row of text."""
    if run.failure:
        return f"{run.problem:20} {run.solver:12} {run.rtol:.0e}  failed: {run.failure[:90]}"
    mark = "" if run.error <= run.allowed else "  > 100 rtol"
    return (
        f"{run.problem:20} {run.solver:12} {run.rtol:.0e}  error {run.error:.1e}  error/rtol "
        f"{run.error / run.rtol:8.3g}  steps {run.steps:7d}  {1e3 * run.seconds:10.3f} ms{mark}"
    )


def draw(name: str, runs: list[Run], folder: Path) -> None:
    """Write the work-precision diagram of one problem."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.6, 4.2), layout="constrained")
    solvers = list(dict.fromkeys(run.solver for run in runs))
    ours = [s for s in solvers if not s.startswith("scipy:")]
    for solver in solvers:
        mine = [r for r in runs if r.solver == solver and not r.failure]
        at = ours.index(solver) if solver in ours else solvers.index(solver) - len(ours)
        style = {"ls": "-", "marker": "os^DvpX*<>hd"[at % 12], "color": COLOURS[at % 12]}
        if solver not in ours:
            style = {"ls": "--", "marker": "x+1"[at % 3], "color": ("0.25", "0.45", "0.65")[at % 3]}
        label = solver.replace("scipy:", "SciPy ")
        axes.loglog([r.error for r in mine], [1e3 * r.seconds for r in mine], label=label, **style)
    floor = problem(name).floor
    low = axes.get_xlim()[0]
    if floor > low:
        axes.axvspan(low, floor, color="0.92", zorder=0)
        axes.set_xlim(left=low)
    axes.invert_xaxis()
    axes.set_xlabel("relative error at the end (smaller to the right)")
    axes.set_ylabel("time, ms")
    axes.set_title(f"{name} (n = {len(problem(name).z0)})")
    axes.grid(True, which="major", color="0.9")
    figure.legend(fontsize=8, loc="outside right upper")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"work_precision_{name}.png", dpi=100)
    plt.close(figure)


def page(runs: list[Run]) -> str:
    """Return the tables as MyST text."""
    parts = []
    for name in dict.fromkeys(run.problem for run in runs):
        p = problem(name)
        mine = [run for run in runs if run.problem == name]
        parts.append(f"## {p.title}\n")
        parts.append(
            f"![Time against error on {name}](_static/work_precision_{name}.png)\n\n"
            f"`{name}`, n = {len(p.z0)}; the known values are good to {p.floor:.0e}.\n"
        )
        rows = ["| solver | rtol | error | error/rtol | steps | ms |", "|---|---|---|---|---|---|"]
        for run in mine:
            if run.rtol not in (1e-4, 1e-6, 1e-8, 1e-10):
                continue
            if run.failure:
                rows.append(f"| {run.solver} | {run.rtol:.0e} | failed | | | |")
                continue
            steps = str(run.steps) if not run.solver.startswith("scipy:") else ""
            rows.append(
                f"| {run.solver} | {run.rtol:.0e} | {run.error:.1e} | {run.error / run.rtol:.2g} "
                f"| {steps} | {1e3 * run.seconds:.3g} |"
            )
        parts.append("\n".join(rows) + "\n")
    parts.append("## Errors above 100 tolerances\n\n" + exceptions(runs) + "\n")
    return "\n".join(parts)


def exceptions(runs: list[Run]) -> str:
    """Return the list of symode's runs beyond 100 rtol, with the condition of the problem."""
    rows = [
        f"| {r.solver} | {r.problem} | {r.rtol:.0e} | {r.error / r.rtol:.3g} | {r.steps} | "
        f"{condition(r.problem):.3g} |"
        for r in runs
        if not r.solver.startswith("scipy:") and not r.failure and r.error > r.allowed
    ]
    if not rows:
        return "None of symode's runs has one."
    head = [
        "| solver | problem | rtol | error/rtol | steps | condition |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join(head + rows)


def merged(runs: list[Run]) -> list[Run]:
    """Return these runs with those of other problems measured before; keep all for next time."""
    path = ROOT / "docs" / "_static" / "work_precision.json"
    done = {run.problem for run in runs}
    before = json.loads(path.read_text("utf-8")) if path.is_file() else []
    runs = [*runs, *(Run(**row) for row in before if row["problem"] not in done)]
    runs.sort(key=lambda run: names().index(run.problem))
    path.write_text(json.dumps([asdict(run) for run in runs], indent=0) + "\n", "utf-8")
    return runs


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", default=list(names()), choices=names())
    parser.add_argument("--solvers", nargs="+", help="among symode's methods and scipy:...")
    parser.add_argument("--rtols", nargs="+", type=float, default=list(RTOLS))
    parser.add_argument("--limit", type=float, default=10.0, help="seconds, see above")
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that others use")
    parser.add_argument("--docs", action="store_true", help="write docs/ pages and plots")
    options = parser.parse_args()
    runs: list[Run] = []
    for name in options.problems:
        p = problem(name)
        solvers = tuple(options.solvers or suited(p))
        mine = measure(p, solvers, options.rtols, options.limit, options.cpu_time)
        if options.docs:
            draw(name, mine, ROOT / "docs" / "_static")
        runs += mine
    print("\n" + exceptions(runs))
    if options.docs:
        runs = merged(runs)
        path = ROOT / "docs" / "work_precision.md"
        path.write_text(HEAD + page(runs), encoding="utf-8")
    beyond = [r for r in runs if not r.solver.startswith("scipy:") and (
        r.failure or r.error > r.allowed * max(1.0, condition(r.problem) if r.failure == ""
                                               and r.error > r.allowed else 1.0))]  # fmt: skip
    return 1 if beyond else 0


HEAD = r"""# Work and precision

What a tolerance costs, and what it buys: the classic problems solved by symode's methods and by
SciPy's Radau, BDF and LSODA in the same run (this page was written by
`python benchmarks/work_precision.py --docs --cpu-time`). Times are medians, of the thread in CPU
time.
Errors are relative, in the norm of the known components of the state at the end;
`atol` is a millionth of `rtol`. SciPy calls symode's machine code for the right-hand side and for
the Jacobian (sparse above 50 states; LSODA uses the band where there is one), so the difference in
time is that of the solvers. No tighter tolerance was asked for after a run of some seconds.
Grey: errors smaller than what the known values are good to.

An error of at most 100 `rtol` is what a tolerance promises here. A problem amplifies an error made
on the way by its *condition*, the largest $\|\Phi(t_1, s)\, \mathrm{diag}|z(s)|\|_2/\|z(t_1)\|$
over several times $s$, with the transition matrix $\Phi$ of the variational equation; runs beyond
100 `rtol` are listed with it at the end of the page, and with their steps: over tens of thousands
of them, on an oscillation that must be followed turn by turn, even small shares of a tolerance add
up.

"""


if __name__ == "__main__":
    sys.exit(main())
