"""Do 95 % intervals hold the truth in 95 % of experiments? A thousand epidemics are simulated.

The SIR model with known parameters gives the infected and removed at 12 times; log-normal noise of
known size is added, and the rates and the first infected are fitted and given intervals: by
profile likelihoods and by the Fisher information (Laplace), once with sigma known and once with
sigma estimated. Each row tells the share of data sets whose interval holds the truth, with the
standard error of that share.

    python benchmarks/interval_coverage.py [--count 1000] [--seed 0] [--level 0.95]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import sympy as sp

import symode
from symode.errors import SymodeError
from symode.problems.ends import profile_ends

POPULATION = 1000.0
TIMES = np.linspace(2.0, 24.0, 12)
TRUTH = {"beta": 0.8, "gamma": 0.25, "i0": 2.0, "sigma": 0.15}

s, i, r = sp.symbols("S I R", positive=True)
beta, gamma, i0, sigma = sp.symbols("beta gamma i0 sigma", positive=True)
MODEL = symode.Model(
    {s: -beta * s * i / POPULATION, i: beta * s * i / POPULATION - gamma * i, r: gamma * i},
    parameters=[beta, gamma, i0, sigma],
    initial={s: POPULATION - i0, i: i0, r: 0},
)


def make_problem(values: dict[str, np.ndarray], known: bool) -> symode.Problem:
    return symode.Problem(
        MODEL,
        symode.Data(TIMES, values),
        symode.LogNormal(sigma),
        scale="log10",
        fixed={"sigma": TRUTH["sigma"]} if known else {},
    )


def draw(seed: int, number: int, course: np.ndarray) -> dict[str, np.ndarray]:
    """Return the data set of this number: its generator is its own."""
    rng = np.random.default_rng((seed, number))
    noisy = course * np.exp(TRUTH["sigma"] * rng.standard_normal(course.shape))
    return {"I": noisy[0], "R": noisy[1]}


def holds(interval: tuple[float, float], name: str) -> bool:
    return interval[0] <= TRUTH[name] <= interval[1]


def run(count: int, seed: int, level: float, known: bool) -> None:
    course = MODEL.solve((0.0, TIMES[-1]), theta=TRUTH, times=TIMES, rtol=1e-10).z[:, 1:].T
    names = [name for name in TRUTH if not (known and name == "sigma")]
    inside = {"profile": np.zeros((count, len(names))), "Laplace": np.zeros((count, len(names)))}
    failures: list[str] = []
    begun = time.process_time()
    for k in range(count):
        problem = make_problem(draw(seed, k, course), known)
        # One search from the truth: the likelihood of these data has one optimum nearby.
        fit = symode.fit(problem, [TRUTH], seed=seed, optimizer="scoring", workers=1)
        try:
            laplace = fit.intervals(level)
            point = problem.space.point(fit.theta)
            for j, name in enumerate(names):
                inside["profile"][k, j] = holds(profile_ends(problem, point, name, level), name)
                ends = float(laplace.lower[name]), float(laplace.upper[name])
                inside["Laplace"][k, j] = holds(ends, name)
        except SymodeError as error:
            failures.append(f"{k}: {error}")
            inside["profile"][k], inside["Laplace"][k] = np.nan, np.nan
    elapsed = time.process_time() - begun
    print(f"sigma {'known' if known else 'estimated'}: {count} data sets, seed {seed}, "
          f"{elapsed:.0f} s, {len(failures)} failed")  # fmt: skip
    for failure in failures:
        print(f"  {failure}")
    for kind, table in inside.items():
        shares = np.nanmean(table, axis=0)
        errors = np.sqrt(shares * (1 - shares) / count)
        cells = (f"{n} {100 * v:.1f} ± {100 * e:.1f} %"
                 for n, v, e in zip(names, shares, errors, strict=True))  # fmt: skip
        print(f"  {kind}: {', '.join(cells)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--level", type=float, default=0.95)
    arguments = parser.parse_args()
    for known in (True, False):
        run(arguments.count, arguments.seed, arguments.level, known)


if __name__ == "__main__":
    main()
