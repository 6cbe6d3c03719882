"""Fits of three kinetic data sets from hopeless starts, and their speed against the usual ways.

The problems are those of the COPS collection (Dolan, Moré & Munson, 2004); optima from there.
Starts are log-uniform between a hundredth and a hundred times the optimum of each parameter.

    python benchmarks/fitting.py [--data FOLDER] [--starts 100] [--seed 0] [--workers 1]
        [--peers 40] [--pairs 0] [--petab FOLDER [--hops 20]]

``--peers N`` times N of the starts against SciPy's trust-region least squares with finite
differences over other solvers, all on one core, in CPU time; run it where numbalsoda is installed.
``--pairs N`` runs all starts N times on one thread and on two, in turn, and compares wall times;
also what CPU times, which other work does not touch, say that two free cores would take.
``--petab`` fits the PEtab problem in a folder, such as Boehm's.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sympy as sp

import symode

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "datasets"


@dataclass
class Case:
    """A model, its data, and the published least-squares optimum."""

    name: str
    file: str
    columns: tuple[str, ...]
    model: symode.Model
    first: int  # rows before are initial values
    optimum: float
    center: tuple[float, ...]  # about the published estimates; 1e-2 for those that vanish


def cases() -> list[Case]:
    y = sp.symbols("y1:6", positive=True)
    p = sp.symbols("p1:6", positive=True)
    pinene = symode.Model(
        {
            y[0]: -(p[0] + p[1]) * y[0],
            y[1]: p[0] * y[0],
            y[2]: p[1] * y[0] - (p[2] + p[3]) * y[2] + p[4] * y[4],
            y[3]: p[2] * y[2],
            y[4]: p[3] * y[2] - p[4] * y[4],
        },
        parameters=p,
        initial={y[0]: 100, y[1]: 0, y[2]: 0, y[3]: 0, y[4]: 0},
    )
    gas_oil = symode.Model(
        {y[0]: -(p[0] + p[2]) * y[0] ** 2, y[1]: p[0] * y[0] ** 2 - p[1] * y[1]},
        parameters=p[:3],
        initial={y[0]: 1, y[1]: 0},
    )
    whole = (p[1] + p[4]) * y[0] + y[1]
    methanol = symode.Model(
        {
            y[0]: -(2 * p[1] - p[0] * y[1] / whole + p[2] + p[3]) * y[0],
            y[1]: p[0] * y[0] * (p[1] * y[0] - y[1]) / whole + p[2] * y[0],
            y[2]: p[0] * y[0] * (y[1] + p[4] * y[0]) / whole + p[3] * y[0],
        },
        parameters=p,
        initial={y[0]: 1, y[1]: 0, y[2]: 0},
    )
    return [
        Case(
            "alpha-pinene", "alpha_pinene_isomerisation.csv", ("y1", "y2", "y3", "y4", "y5"),
            pinene, 1, 19.872, (5.93e-5, 2.96e-5, 2.05e-5, 27.5e-5, 4.00e-5),
        ),
        Case("gas oil", "gas_oil_cracking.csv", ("y1", "y2"), gas_oil, 1, 5.2366e-3,
             (11.847, 8.3445, 1.0014)),
        Case(
            "methanol", "methanol_to_hydrocarbons.csv", ("y1", "y2", "y3"), methanol, 1, 9.024e-3,
            (5.2407, 1.2176, 1e-2, 1e-2, 1e-2),
        ),
    ]  # fmt: skip


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with path.open() as file:
        rows = list(csv.reader(line for line in file if not line.startswith("#")))[1:]
    table = np.array(rows, dtype=float)
    return table[:, 0], table[:, 1:]


def make_problem(case: Case, folder: Path, **options: float) -> symode.Problem:
    times, values = read(folder / case.file)
    data = symode.Data(
        times[case.first :], dict(zip(case.columns, values[case.first :].T, strict=True))
    )
    center = np.array(case.center)
    bounds = np.column_stack([center * 1e-6, center * 1e4])
    return symode.Problem(
        case.model, data, symode.Normal(1.0), bounds=bounds, scale="log10", **options
    )


def points(case: Case, count: int, seed: int) -> np.ndarray:
    center = np.array(case.center)
    rng = np.random.default_rng(seed)
    return center * 10.0 ** rng.uniform(-2, 2, (count, center.size))


def squares_of(problem: symode.Problem, fit: symode.Fit) -> np.ndarray:
    """Return the sum of squares where each search ended."""
    return np.array(
        [
            2 * problem.scores(problem.space.point(s.theta)).misfit
            if s.status != "failed"
            else np.inf
            for s in fit.starts
        ]
    )


def run(case: Case, folder: Path, count: int, seed: int, workers: int | None) -> None:
    problem = make_problem(case, folder)
    begin = points(case, count, seed)
    # One fit compiles; its time is told apart.
    begun = time.process_time()
    symode.fit(problem, begin[:1], seed=seed, workers=1)
    cold = time.process_time() - begun
    begun = time.process_time()
    fit = symode.fit(problem, begin, seed=seed, workers=workers)
    elapsed = time.process_time() - begun
    squares = squares_of(problem, fit)
    reached = squares <= case.optimum * 1.001
    print(
        f"{case.name}: sum of squares {squares.min():.6g} (published {case.optimum:g}); "
        f"{reached.sum()} of {count} starts reach it within 0.1 % (seed {seed}); "
        f"{elapsed:.2f} s, first fit {cold:.2f} s"
    )
    print(f"  {', '.join(f'{n} = {fit.theta[n]:.5g}' for n in problem.space.names)}")
    for start, value in zip(fit.starts, squares, strict=True):
        if not value <= case.optimum * 1.001:
            begin_at = ", ".join(f"{v:.2g}" for v in np.asarray(start.begin))
            print(
                f"  start {start.index} from ({begin_at}): {value:.5g}, {start.status}: "
                f"{start.message[:110]}"
            )


def peers(case: Case, folder: Path, count: int, seed: int, rtol: float = 1e-8) -> None:
    """Time the same searches with finite differences over other solvers, on the same starts."""
    from scipy.integrate import solve_ivp
    from scipy.optimize import least_squares

    problem = make_problem(case, folder)
    times, values = read(folder / case.file)
    times, values = times[case.first :], values[case.first :]
    begin = points(case, count, seed)
    equations = case.model.equations
    rhs = sp.lambdify([equations.time, equations.states, equations.parameters], equations.rhs)
    start = np.array([float(v) for v in equations.initial])
    lower, upper = problem.space.lower, problem.space.upper

    def by_scipy(theta: np.ndarray) -> np.ndarray:
        found = solve_ivp(
            lambda t, y: rhs(t, y, theta),
            (0.0, times[-1]),
            start,
            "LSODA",
            times,
            rtol=rtol,
            atol=1e-10,
        )
        return found.y.T if found.success else np.full((times.size, start.size), np.nan)

    solvers = {"scipy LSODA": by_scipy}
    numbalsoda = numbalsoda_solver(case, times, start, rtol)
    if numbalsoda is not None:
        solvers["numbalsoda LSODA"] = numbalsoda

    def search(solver, x0: np.ndarray) -> float:
        def residuals(x: np.ndarray) -> np.ndarray:
            return (solver(10.0**x) - values).ravel()

        try:
            found = least_squares(
                residuals,
                np.clip(x0, lower, upper),
                bounds=(lower, upper),
                x_scale="jac",
                xtol=1e-10,
                ftol=1e-10,
                gtol=1e-10,
                diff_step=1e-5,
                max_nfev=200,
            )
        except ValueError:
            return np.inf
        return float(2 * found.cost)

    def ours() -> list[float]:
        return squares_of(problem, symode.fit(problem, begin, seed=seed, workers=1))

    print(
        f"  symode: damped Gauss-Newton, exact Jacobians, solver auto, rtol {rtol:g}, atol 1e-10;\n"
        "  peers: scipy least_squares (trf, x_scale jac, tolerances 1e-10, at most 200 steps),\n"
        f"  differences of 1e-5 on the scale, rtol {rtol:g}, atol 1e-10; all on one core, CPU time"
    )
    # All of them once: stiff points compile the second method of auto.
    ours()
    begun = time.process_time()
    reached = np.sum(np.array(ours()) <= case.optimum * 1.001)
    own = time.process_time() - begun
    print(f"  {count} starts: symode {own:.3f} s ({reached} reach the optimum)")
    for name, solver in solvers.items():
        search(solver, np.log10(begin[0]))
        begun = time.process_time()
        found = np.array([search(solver, np.log10(x)) for x in begin])
        elapsed = time.process_time() - begun
        print(
            f"  {name}, finite differences: {elapsed:.3f} s, {elapsed / own:.1f} times as long "
            f"({np.sum(found <= case.optimum * 1.001)} reach it, lowest {found.min():.6g})"
        )


def compare_threads(case: Case, folder: Path, count: int, seed: int, pairs: int) -> None:
    """Run all starts on one thread and on two, in turn: other work then slows both alike."""
    problem, begin = make_problem(case, folder), points(case, count, seed)
    tables, ratios, cpu, foretold = set(), [], [], []
    for turn in range(pairs + 1):
        wall, used = {}, {}
        for workers in (1, 2):
            begun, spent, own = time.perf_counter(), time.process_time(), time.thread_time()
            fit = symode.fit(problem, begin, seed=seed, workers=workers)
            wall[workers] = time.perf_counter() - begun
            used[workers] = time.process_time() - spent
            here = time.thread_time() - own
            starts = sorted(fit.starts, key=lambda s: s.index)
            tables.add(str([(s.value, s.theta.tolist(), s.evaluations) for s in starts]))
        if turn:
            ratios.append(wall[1] / wall[2])
            cpu.append(used[2] / used[1])
            # What this thread does, and half of what the two others do: free cores take as long.
            foretold.append(used[1] / (here + (used[2] - here) / 2))
    print(
        f"  two threads: {np.median(ratios):.2f} times as fast by wall clock, median of {pairs} "
        f"pairs ({min(ratios):.2f} to {max(ratios):.2f}; load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores); by CPU time {np.median(foretold):.2f}, with all three threads' "
        f"{np.median(cpu):.2f} of one's; results "
        f"{'the same, digit by digit' if len(tables) == 1 else 'DIFFER'}"
    )


def fit_petab(folder: Path, count: int, seed: int, workers: int | None, hops: int) -> None:
    """Fit a PEtab problem; tell how often the best value is found."""
    (path,) = sorted(folder.glob("*.yaml"))
    problem = symode.read_petab(path)
    for optimizer, jumps in (("scoring", 0), ("l-bfgs-b", 0), ("scoring", hops)):
        symode.fit(problem, 1, seed=seed, optimizer=optimizer, workers=1)
        begun, spent = time.perf_counter(), time.process_time()
        fit = symode.fit(
            problem, count, seed=seed, optimizer=optimizer, workers=workers, hops=jumps
        )
        wall, used = time.perf_counter() - begun, time.process_time() - spent
        values = np.array([start.value for start in fit.starts])
        print(
            f"{folder.name}, {optimizer}, {jumps} hops: best {values.min():.5f}, within 0.1 of it "
            f"{np.sum(values < values.min() + 0.1)} of {count} starts (seed {seed}); "
            f"{wall:.1f} s, CPU of this process {used:.1f} s, workers {workers}"
        )
        levels, times = np.unique(np.round(values[np.isfinite(values)], 2), return_counts=True)
        often = np.argsort(-times)[:6]
        print("  most often: " + ", ".join(f"{levels[i]:g} ({times[i]} times)" for i in often))


def numbalsoda_solver(case: Case, times: np.ndarray, start: np.ndarray, rtol: float):
    """Return the same solve by numbalsoda, or None where it is not installed."""
    try:
        import numba
        from numbalsoda import lsoda, lsoda_sig
    except ImportError:
        print("  (numbalsoda is not installed)")
        return None
    equations = case.model.equations
    arguments = (equations.time, *equations.states, *equations.parameters)
    code = numba.njit(sp.lambdify(arguments, equations.rhs, modules="math"))
    n, m = len(equations.states), len(equations.parameters)
    unpack = {
        (5, 5): lambda t, u, p: code(t, u[0], u[1], u[2], u[3], u[4], p[0], p[1], p[2], p[3], p[4]),
        (2, 3): lambda t, u, p: code(t, u[0], u[1], p[0], p[1], p[2]),
        (3, 5): lambda t, u, p: code(t, u[0], u[1], u[2], p[0], p[1], p[2], p[3], p[4]),
    }[n, m]
    call = numba.njit(unpack)

    @numba.cfunc(lsoda_sig)
    def rhs(t, u, du, p):
        y, theta = numba.carray(u, (n,)), numba.carray(p, (m,))
        out = call(t, y, theta)
        for i in range(n):
            du[i] = out[i]

    address, grid = rhs.address, np.concatenate([[0.0], times])

    def solve(theta: np.ndarray) -> np.ndarray:
        found, success = lsoda(address, start, grid, data=theta, rtol=rtol, atol=1e-10)
        return found[1:] if success else np.full((times.size, n), np.nan)

    return solve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=FOLDER)
    parser.add_argument("--starts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--peers", type=int, default=0, help="starts to time against peers")
    parser.add_argument("--pairs", type=int, default=0, help="runs on one thread and on two")
    parser.add_argument("--petab", type=Path, default=None)
    parser.add_argument("--hops", type=int, default=20, help="of the PEtab problem's last fit")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise SystemExit(f"{arguments.data} is missing: pass --data FOLDER with the CSV files.")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if arguments.petab is not None:
        fit_petab(arguments.petab, arguments.starts, arguments.seed, arguments.workers,
                  arguments.hops)  # fmt: skip
        return
    for case in cases():
        run(case, arguments.data, arguments.starts, arguments.seed, arguments.workers)
        if arguments.peers:
            peers(case, arguments.data, arguments.peers, arguments.seed)
        if arguments.pairs:
            compare_threads(case, arguments.data, arguments.starts, arguments.seed, arguments.pairs)


if __name__ == "__main__":
    main()
