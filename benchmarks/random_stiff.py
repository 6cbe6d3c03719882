"""Random small stiff systems: no hang, no wrong success, every failure with its cause.

    python benchmarks/random_stiff.py                       # 10,000 systems, two minutes a solver
    python benchmarks/random_stiff.py --count 500 --seed 3 --solvers rodas5p
    python benchmarks/random_stiff.py --solvers rock4 --part 1 4   # the first quarter

A run is wrong when it succeeds with an error above 100 times its tolerance times the condition of
the problem (what an error of one tolerance, made earlier, becomes at the end), or when it succeeds
past the end of the solution. It hangs when it takes more than a second of CPU. A failure must be
that of a problem whose solution ends, and must call the end by its name. A method for problems that
are mildly stiff may refuse one that is not, where its message says so.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

if __name__ == "__main__":  # also run as a file, from anywhere
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.stiff_systems import CAUSES, StiffCase, cases
from symode.errors import SolverError
from symode.solvers.methods import METHODS, get_method
from symode.status import MAX_STEPS, SENTENCES

#: Error allowed, in tolerances times the condition.
ALLOWED = 100.0
#: Seconds after which a solve counts as hanging.
HANG = 1.0
#: What the message of a stabilised method says of problems that it is not made for.
REFUSALS = ("stages serve", "fastest modes oscillate", "lose order")
#: What may become of a solve.
ACCEPTED = ("right", "ended", "refused")
STIFF = (*(name for name in METHODS if get_method(name).implicit), "auto")


@dataclass(frozen=True)
class Verdict:
    """What became of one solve: ``kind`` is right, ended, refused, or one of the faults."""

    kind: str
    error: float  # in tolerances; NaN for a failure
    condition: float  # 1 where it was not needed
    seconds: float
    text: str

    @property
    def is_fault(self) -> bool:
        return self.kind not in (*ACCEPTED, "undecided")


def judge(case: StiffCase, solver: str, **options) -> Verdict:
    """Solve a case and compare with its reference."""
    t1 = case.span[1]
    begun = time.process_time()
    try:
        solution = case.structure.model.solve(
            case.span, case.theta, case.z0, times=[t1], solver=solver, rtol=case.rtol,
            atol=case.atol, dense_output=False, **options,
        )  # fmt: skip
    except SolverError as failure:
        seconds = time.process_time() - begun
        text = SENTENCES[failure.status]
        if seconds > HANG:
            return Verdict("hang", np.nan, 1.0, seconds, text)
        if case.exists and failure.status == MAX_STEPS and _refuses(solver, str(failure)):
            return Verdict("refused", np.nan, 1.0, seconds, f"{text}, stiff beyond the method")
        # A solver may tread on the spot: its message must then say that the solution ends here.
        treads = failure.status == MAX_STEPS and "may be singular" in str(failure)
        named = failure.status in CAUSES.get(case.family, set())
        named = named or (treads and case.family == "quench")
        if case.exists or not named:
            return Verdict("wrong failure", np.nan, 1.0, seconds, str(failure))
        return Verdict("ended", np.nan, 1.0, seconds, text)
    seconds = time.process_time() - begun
    if seconds > HANG:
        return Verdict("hang", np.nan, 1.0, seconds, "")
    if not case.exists:
        return Verdict("wrong success", np.nan, 1.0, seconds, "past the end of the solution")
    error, (_, own) = case.error(solution.z[-1]), case.reference
    text = f"error of the reference {own:.1e}"
    if error <= ALLOWED:
        return Verdict("right", error, 1.0, seconds, text)
    if not own <= 10 * case.rtol:
        return Verdict("undecided", error, 1.0, seconds, text)
    condition = case.condition
    kind = "right" if error <= ALLOWED * condition else "wrong success"
    return Verdict(kind, error, condition, seconds, text)


def _refuses(solver: str, message: str) -> bool:
    """Tell whether a method for mildly stiff problems says that this one is not."""
    mild = solver != "auto" and get_method(solver).bounds_spectrum
    return mild and any(words in message for words in REFUSALS)


def describe(case: StiffCase) -> str:
    """Return what is needed to see a case again."""
    return (
        f"{case.family} n={case.structure.n} rtol={case.rtol:.2g} span={case.span} "
        f"theta={case.theta.tolist()} z0={case.z0.tolist()}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=5, help="cases of each structure")
    parser.add_argument(
        "--part", nargs=2, type=int, default=(1, 1), metavar=("PART", "OF"), help="which cases"
    )
    parser.add_argument("--solvers", nargs="+", default=list(STIFF), choices=(*METHODS, "auto"))
    options = parser.parse_args()
    kinds: Counter = Counter()
    statuses: Counter = Counter()
    errors: dict[str, list[float]] = {solver: [] for solver in options.solvers}
    slowest = dict.fromkeys(options.solvers, 0.0)
    amplified: Counter = Counter()
    first = True
    part, parts = options.part
    low, high = options.count * (part - 1) // parts, options.count * part // parts
    for case in islice(cases(options.count, options.seed, options.draws), low, high):
        for solver in options.solvers:
            if first:
                judge(case, solver)  # compiles the solver
            verdict = judge(case, solver)
            kinds[solver, case.family, verdict.kind] += 1
            slowest[solver] = max(slowest[solver], verdict.seconds)
            if verdict.kind in ("ended", "refused"):
                statuses[solver, verdict.kind, verdict.text] += 1
            if verdict.kind == "right":
                errors[solver].append(verdict.error / verdict.condition)
                amplified[solver] += verdict.condition > 1.0
            if verdict.is_fault or verdict.kind == "undecided":
                print(f"{solver}: {verdict}\n    {describe(case)}", flush=True)
        first = False
    faults = sum(count for (_, _, kind), count in kinds.items() if kind not in ACCEPTED)
    for solver in options.solvers:
        print(f"\n{solver}: {high - low} systems, slowest {slowest[solver]:.2f} s")
        for (who, family, kind), count in sorted(kinds.items()):
            if who == solver:
                print(f"  {family:12} {kind:14} {count}")
        e = np.array(errors[solver])
        levels = ", ".join(
            f"{share}%: {np.percentile(e, share):.3g}" for share in (50, 90, 99, 100)
        )
        print(f"  errors in tolerances times condition: {levels}")
        print(f"  {amplified[solver]} above 100 tolerances, within their condition")
        for (who, kind, text), count in sorted(statuses.items()):
            if who == solver:
                print(f"  {count} {kind}: {text}")
    print(f"\n{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
