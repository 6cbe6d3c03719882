"""A user's Python file as the source of a model: run as a script, names picked from it."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from symode.errors import OptionError


def read_names(path: str) -> dict[str, Any]:
    """Run a Python file and return the names it defines.

    The file is the user's own, given on the command line, and is run as ``python FILE`` would run
    it, except that ``__name__`` is "symode_input": code under ``if __name__ == "__main__"`` stays
    out. What it prints goes to stderr, so that results alone are on stdout.

    Raises
    ------
    OptionError
        When there is no such file, or running it raises.
    """
    file = Path(path)
    if not file.is_file():
        raise OptionError(f"There is no file {path}.")
    stdout, folder = sys.stdout, str(file.resolve().parent)
    sys.stdout = sys.stderr
    # As a script finds its neighbours.
    sys.path.insert(0, folder)
    try:
        return runpy.run_path(str(file), run_name="symode_input")
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise OptionError(f"{path} raises {type(error).__name__}: {error}") from error
    finally:
        sys.stdout = stdout
        if folder in sys.path:
            sys.path.remove(folder)


def pick(names: dict[str, Any], name: str, path: str, what: str) -> Any:
    """Return a name of a file, or say what it defines.

    Raises
    ------
    OptionError
        Listing the names there are.
    """
    if name in names:
        return names[name]
    own = ", ".join(sorted(n for n in names if not n.startswith("_"))) or "nothing"
    raise OptionError(
        f"{path} defines no {name!r} ({what}). It defines {own}. Define {name}, or name another "
        f"with --{what}."
    )


def numbers(text: str) -> list[float] | dict[str, float]:
    """Return "1,2.5" as a list and "a=1,b=2.5" as a dict of numbers.

    Raises
    ------
    OptionError
        For anything else.

    Examples
    --------
    >>> numbers("1, 2.5"), numbers("a=1, b=-2e3")
    ([1.0, 2.5], {'a': 1.0, 'b': -2000.0})
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        if parts and all("=" in part for part in parts):
            pairs = (part.split("=", 1) for part in parts)
            return {name.strip(): float(value) for name, value in pairs}
        return [float(part) for part in parts]
    except ValueError:
        raise OptionError(
            f"{text!r} is not a list of numbers such as 1,2.5 or a=1,b=2.5."
        ) from None


def read_problem(path: str, name: str) -> Any:
    """Return the problem of a Python file, or of a PEtab problem (``.yaml``).

    Raises
    ------
    OptionError
        When the file does not define one of this name.
    ImportFileError
        When it is no PEtab problem.
    """
    if Path(path).suffix.lower() in (".yaml", ".yml"):
        from symode.bridges.petab import read_petab

        say(f"symode: reading {path}")
        return read_petab(path)
    from symode.problems.problem import Problem

    say(f"symode: running {path}")
    problem = pick(read_names(path), name, path, "problem")
    if not isinstance(problem, Problem):
        raise OptionError(
            f"{name} of {path} is a {type(problem).__name__}; a symode.Problem is expected."
        )
    return problem


def say(text: Any) -> None:
    """Print a line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)
