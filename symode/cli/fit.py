"""The command ``symode fit FILE``: estimate the parameters of a problem."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from symode.cli.codes import FAILED, PASSED
from symode.cli.files import read_problem, say
from symode.errors import OptionError

NAME = "fit"
HELP = "estimate parameters from data, by several searches"
DESCRIPTION = """\
Estimate the parameters of a problem that a Python file defines. The file is run, as python would
run it; it must define

  problem  a symode.Problem

A file that ends in .yaml is a PEtab problem; it is read, and nothing of it is run.

The estimates are printed on stdout as a table, or as JSON; progress goes to stderr. With --out
each search is kept in a file as it ends, and --resume goes on from it.

exit codes: 0 the best search converged; 1 it did not, or all failed; 2 wrong usage or input
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("file", metavar="FILE", help="Python file, or PEtab problem (.yaml)")
    parser.add_argument("--problem", default="problem", metavar="NAME", help="name of the problem")
    parser.add_argument("--starts", type=int, default=20, help="searches (default: 20)")
    parser.add_argument("--seed", type=int, help="of the starting points (default: drawn, told)")
    parser.add_argument("--optimizer", default="auto", help="search (default: auto)")
    parser.add_argument("--sampling", default="latin", help="latin or sobol (default: latin)")
    parser.add_argument("--screen", type=float, help="share of searches kept after 15 iterations")
    parser.add_argument("--hops", type=int, default=0, help="redrawn goes of each search")
    parser.add_argument(
        "--workers", type=int, help="searches side by side (default: by their time)"
    )
    parser.add_argument("--out", metavar="FILE.db", help="file that keeps each search as it ends")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the file of --out, which must exist"
    )
    parser.add_argument("--level", type=float, default=0.95, help="confidence level")
    parser.add_argument("--profiles", action="store_true", help="profile every parameter, too")
    parser.add_argument("--html", metavar="OUT.html", help="write the report as a page")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Fit, print, and return the exit code."""
    from pathlib import Path

    from symode.problems.fit import fit

    exists = arguments.out is not None and Path(arguments.out).exists()
    if arguments.resume and arguments.out is None:
        raise OptionError("--resume needs --out FILE: the file to go on from.")
    if arguments.resume and not exists:
        raise OptionError(f"--resume: there is no file {arguments.out}.")
    if exists and not arguments.resume:
        raise OptionError(
            f"{arguments.out} exists: add --resume to go on from it, or name another file."
        )
    problem = read_problem(arguments.file, arguments.problem)
    say("symode: fitting")
    result = fit(
        problem, arguments.starts, seed=arguments.seed, optimizer=arguments.optimizer,
        sampling=arguments.sampling, screen=arguments.screen, hops=arguments.hops,
        workers=arguments.workers, store=arguments.out,
    )  # fmt: skip
    if result.n_failed == len(result.starts):
        print(json.dumps({"failed": result.starts[0].message}) if arguments.json else result)
        return FAILED
    profiles = None
    if arguments.profiles:
        say("symode: profiling")
        profiles = result.profiles(level=arguments.level, workers=arguments.workers)
    if arguments.html:
        result.report(
            arguments.html, profiles=profiles, title=arguments.file, level=arguments.level
        )
        say(f"symode: report written to {arguments.html}")
    if arguments.json:
        print(json.dumps(as_dict(result, profiles, arguments.level), indent=1))
    else:
        print(result.summary())
        print(result.table(arguments.level))
        for entry in (profiles or {}).values():
            print(entry)
    return PASSED if result.best.status == "converged" else FAILED


def as_dict(result: Any, profiles: Any, level: float) -> dict[str, Any]:
    """Return a fit as JSON has it."""
    found = result.intervals(level)
    space = result.problem.space
    estimates: dict[str, dict[str, Any]] = {
        name: {
            "estimate": float(found.estimate[i]),
            "standard_error": _finite(found.standard_error[i]),
            "lower": _finite(found.lower[i]),
            "upper": _finite(found.upper[i]),
        }
        for i, name in enumerate(space.names)
    }
    for name, entry in (profiles or {}).items():
        estimates[name] |= {"profile": [_finite(entry.lower), _finite(entry.upper)]}
    return {
        "objective": float(result.value),
        "status": result.best.status,
        "seed": result.seed,
        "optimizer": result.optimizer,
        "starts": len(result.starts),
        "at_best": result.n_best,
        "failed": result.n_failed,
        "level": level,
        "parameters": estimates,
        "remarks": list(found.remarks),
    }


def _finite(value: Any) -> float | None:
    """Return a number, None for what JSON cannot hold."""
    return float(value) if np.isfinite(value) else None
