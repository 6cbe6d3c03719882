"""The command ``symode simulate FILE``: solve a model and print its course."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from typing import Any

import numpy as np

from symode.cli.codes import PASSED
from symode.cli.files import numbers, pick, read_names, say
from symode.errors import OptionError

NAME = "simulate"
HELP = "solve a model and print its course"
DESCRIPTION = """\
Solve a model that a Python file defines. The file is run, as python would run it, and these names
are taken from it:

  model  a symode.Model
  span   (t0, t1)
  theta  parameter values: a sequence in the model's order or a dict by name
  z0     initial values (not needed where the model has its own)

The course is printed on stdout as a table of comma-separated values, or as JSON; progress goes to
stderr.

exit codes: 0 solved; 2 wrong usage or input; 3 the solve failed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("file", metavar="FILE", help="Python file that defines the model")
    parser.add_argument("--model", default="model", metavar="NAME", help="name of the model")
    parser.add_argument("--span", metavar="T0,T1", help="times, instead of the file's span")
    parser.add_argument("--theta", metavar="VALUES", help="parameters, as 1,2.5 or a=1,b=2.5")
    parser.add_argument("--z0", metavar="VALUES", help="initial values, as 1,2.5 or x=1,y=2.5")
    parser.add_argument("--points", type=int, default=101, help="evenly spaced times")
    parser.add_argument("--times", metavar="VALUES", help="times, as 0,1,2.5, instead of points")
    parser.add_argument("--solver", default="auto", help="solver (default: auto)")
    parser.add_argument("--rtol", type=float, default=1e-8, help="relative tolerance")
    parser.add_argument("--atol", type=float, default=1e-10, help="absolute tolerance")
    parser.add_argument("--json", action="store_true", help="print JSON instead")


def run(arguments: argparse.Namespace) -> int:
    """Solve, print, and return the exit code."""
    path = arguments.file
    names = read_names(path)
    model = pick(names, arguments.model, path, "model")
    span = numbers(arguments.span) if arguments.span else pick(names, "span", path, "span")
    if isinstance(span, dict) or len(span) != 2:
        raise OptionError(f"The span must be two times, as --span 0,10; got {span!r}.")
    theta = numbers(arguments.theta) if arguments.theta else names.get("theta")
    z0 = numbers(arguments.z0) if arguments.z0 else names.get("z0")
    times: Any = numbers(arguments.times) if arguments.times else None
    if isinstance(times, dict):
        raise OptionError(f"--times expects numbers, as 0,1,2.5; got {arguments.times!r}.")
    if times is None:
        if arguments.points < 2:
            raise OptionError(f"--points must be 2 or more; got {arguments.points}.")
        times = np.linspace(float(span[0]), float(span[1]), arguments.points)
    say("symode: solving")
    solution = model.solve(
        span, theta=theta, z0=z0, times=times, solver=arguments.solver, rtol=arguments.rtol,
        atol=arguments.atol,
    )  # fmt: skip
    states = model.equations.state_names
    label = str(model.time)
    if arguments.json:
        course = {label: solution.t.tolist()}
        course |= {name: solution[name].tolist() for name in states}
        print(json.dumps(course, indent=1))
        return PASSED
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([label, *states])
    for t, row in zip(solution.t, solution.z, strict=True):
        writer.writerow([repr(float(t)), *(repr(float(value)) for value in row)])
    return PASSED
