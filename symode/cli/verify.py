"""The command ``symode verify FILE.py``: whether the gradient of a model and loss is right."""

from __future__ import annotations

import argparse
import json

from symode.cli.codes import FAILED, PASSED
from symode.cli.files import numbers, pick, read_names, say
from symode.errors import OptionError

NAME = "verify"
HELP = "verify a gradient: proofs, Taylor tests, a 30-digit reference"
DESCRIPTION = """\
Verify the gradient of a loss of a model that a Python file defines. The file is run, as python
would run it, and these names are taken from it:

  model   a symode.Model
  loss    a symode.Loss or symode.LeastSquares
  span    (t0, t1)
  theta   parameter values: a sequence in the model's order or a dict by name
  z0      initial values (not needed where the model has its own)
  claimed a gradient from elsewhere, to be judged (optional)

The result is printed on stdout as a table, or as JSON; progress goes to stderr.

exit codes: 0 passed; 1 a check failed; 2 wrong usage or input; 3 the solve failed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("file", metavar="FILE.py", help="Python file that defines the problem")
    for name in ("model", "loss"):
        parser.add_argument(f"--{name}", default=name, metavar="NAME", help=f"name of the {name}")
    parser.add_argument("--span", metavar="T0,T1", help="times, instead of the file's span")
    parser.add_argument("--theta", metavar="VALUES", help="parameters, as 1,2.5 or a=1,b=2.5")
    parser.add_argument("--z0", metavar="VALUES", help="initial values, as 1,2.5 or x=1,y=2.5")
    parser.add_argument("--method", default="auto", help="gradient method (default: auto)")
    parser.add_argument("--solver", default="auto", help="solver (default: auto)")
    parser.add_argument("--rtol", type=float, default=1e-8, help="relative tolerance")
    parser.add_argument("--atol", type=float, default=1e-10, help="absolute tolerance")
    parser.add_argument("--seed", type=int, default=0, help="of the random directions")
    parser.add_argument(
        "--digits", type=int, metavar="N",
        help="digits of the reference; 0 for none (default: 30 where that is cheap)",
    )  # fmt: skip
    parser.add_argument(
        "--checks", metavar="NAMES", help="checks to make, separated by commas (default: all)"
    )
    parser.add_argument("--html", metavar="OUT.html", help="write the report as a page")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Verify, print, and return the exit code."""
    from symode.gradients.verify import verify

    path = arguments.file
    say(f"symode: running {path}")
    names = read_names(path)
    model = pick(names, arguments.model, path, "model")
    loss = pick(names, arguments.loss, path, "loss")
    span = numbers(arguments.span) if arguments.span else pick(names, "span", path, "span")
    theta = numbers(arguments.theta) if arguments.theta else names.get("theta")
    z0 = numbers(arguments.z0) if arguments.z0 else names.get("z0")
    checks = [name.strip() for name in arguments.checks.split(",")] if arguments.checks else None
    if isinstance(span, dict) or len(span) != 2:
        raise OptionError(f"The span must be two times, as --span 0,10; got {span!r}.")
    say("symode: verifying")
    report = verify(
        model, loss, span, theta, z0, method=arguments.method, solver=arguments.solver,
        rtol=arguments.rtol, atol=arguments.atol, seed=arguments.seed, checks=checks,
        reference_digits=arguments.digits, claimed=names.get("claimed"),
    )  # fmt: skip
    if arguments.html:
        try:
            report.save(arguments.html)
        except OSError as error:
            raise OptionError(f"The report could not be written: {error}.") from None
        say(f"symode: report written to {arguments.html}")
    print(json.dumps(report.as_dict(), indent=1) if arguments.json else report)
    return PASSED if report.passed else FAILED
