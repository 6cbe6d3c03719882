"""The command ``symode``: finds the command that was asked for, and turns errors into codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from symode import __version__
from symode.cli import fit, simulate, verify
from symode.cli.codes import BAD_INPUT, FAILED, INTERRUPTED, SENTENCES, SOLVER_FAILED
from symode.errors import FitError, GradientError, SolverError, SymodeError


class Command(Protocol):
    """A module of one command."""

    NAME: str
    HELP: str
    DESCRIPTION: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


#: A new command is a new file here and its module in this list.
COMMANDS: Final = (fit, simulate, verify)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands.

    Examples
    --------
    >>> make_parser().parse_args(["verify", "problem.py", "--rtol", "1e-6"]).rtol
    1e-06
    """
    codes = "\n".join(f"  {code:<4} {sentence}" for code, sentence in SENTENCES.items())
    parser = argparse.ArgumentParser(
        prog="symode",
        description="Exact, fast gradients of ODE models.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"symode {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, see `symode.cli.codes`.

    Argparse itself leaves with code 2 for wrong usage, and 0 for ``--help``.
    """
    asked = make_parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except KeyboardInterrupt:
        print("symode: interrupted", file=sys.stderr)
        return INTERRUPTED
    except SolverError as error:
        print(f"symode: {error}", file=sys.stderr)
        return SOLVER_FAILED
    except (FitError, GradientError) as error:
        print(f"symode: {error}", file=sys.stderr)
        return FAILED
    except SymodeError as error:
        print(f"symode: {error}", file=sys.stderr)
        return BAD_INPUT
