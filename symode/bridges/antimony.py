"""Antimony: models as people type them, to and from SBML by libAntimony in a process of its own.

libAntimony keeps one model per process in global memory, follows ``import`` to any file, and takes
exponential time for modules that hold modules. So texts that import are refused, and the rest is
done by a child process with limits of time and memory, whose only answer is a text.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import sympy as sp

from symode.bridges.sbml import SbmlModel, read_sbml, write_sbml
from symode.codegen.reference import evaluate
from symode.equations.equations import Equations
from symode.equations.event import Event, split_trigger
from symode.errors import ImportFileError, MissingExtraError, ModelError
from symode.interface.model import Model
from symode.symbolic.lift import lift_expressions

#: Bytes of a text, seconds and bytes of memory that libAntimony gets for it.
MOST_BYTES: Final = 4 * 2**20
SECONDS: Final = 60
MEMORY: Final = 4 * 2**30

_CHILD = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
except (ImportError, ValueError, OSError):
    pass
import antimony
text = sys.stdin.buffer.read().decode()
load, give = {
    "sbml": (antimony.loadAntimonyString, antimony.getSBMLString),
    "antimony": (antimony.loadSBMLString, antimony.getAntimonyString),
}[sys.argv[1]]
found = load(text)
name = antimony.getMainModuleName() if found >= 0 else ""
answer = {"error": antimony.getLastError()} if found < 0 else {"text": give(name)}
sys.stdout.buffer.write(json.dumps(answer).encode())
"""

#: What ends with a line, a block, or a quote: comments and texts, and the word between them.
_PARTS = re.compile(r'//[^\n]*|\#[^\n]*|/\*.*?(?:\*/|\Z)|"[^"\n]*"?|\bimport\b', re.DOTALL)
_IMPORT = re.compile(r'\bimport\b(?:\s|/\*.*?\*/|//[^\n]*|\#[^\n]*)*"', re.DOTALL)


def read_antimony(source: Any) -> SbmlModel:
    """Return the model of a text in Antimony, or of a file that holds one.

    The text becomes SBML, which `read_sbml` reads: what it says of names and values holds here.

    Parameters
    ----------
    source
        The text, or a path: a `pathlib.Path`, or a string of one line without ``;``, ``=`` and
        ``->``.

    Raises
    ------
    ImportFileError
        When it is no Antimony (with libAntimony's reason), imports other files, is too large, or
        takes too long or too much memory; and for what `read_sbml` refuses.
    MissingExtraError
        Without libAntimony or libSBML, which the extra ``antimony`` installs.

    Examples
    --------
    >>> import pytest
    >>> antimony = pytest.importorskip("antimony")
    >>> model = read_antimony("A -> B; k*A; A = 3; B = 0; k = 0.1")
    >>> model.equations.rhs, model.theta["k"]
    ((-A*k/default_compartment, A*k/default_compartment), 0.1)
    """
    text, name = _read(source)
    if "\0" in text:
        raise ImportFileError(f"{name} holds a zero byte, with which no text goes on.")
    words = {match.group() for match in _PARTS.finditer(text)}
    if "import" in words or _IMPORT.search(text):
        raise ImportFileError(
            f"{name} imports another file, which is refused; put what it needs into one text."
        )
    return read_sbml(_converted(text, "sbml", name))


def write_antimony(
    model: Model,
    path: str | os.PathLike[str] | None = None,
    *,
    theta: Any = None,
    z0: Any = None,
    name: str = "model",
) -> str:
    """Return a model as a text in Antimony, and write it to a path if one is given.

    The model is written by `write_sbml`, whose parameters and refusals hold here, and the text is
    read back and compared before it is returned. libAntimony keeps 15 digits of numbers.

    Raises
    ------
    ModelError
        For what SBML or Antimony has no words for, such as names that are words of Antimony.
    MissingExtraError
        Without libAntimony or libSBML, which the extra ``antimony`` installs.

    Examples
    --------
    >>> import pytest
    >>> antimony = pytest.importorskip("antimony")
    >>> import symode
    >>> model = symode.Model.from_text("x' = -k*x; x(0) = 2")
    >>> print(write_antimony(model, theta={"k": 0.5}).split("// Rate Rules:")[1].strip())
    x' = -(k*x);
    <BLANKLINE>
      // Variable initializations:
      k = 0.5;
      x = 2;
    <BLANKLINE>
      // Other declarations:
      var x;
      const k;
    end
    """
    document = write_sbml(model, theta=theta, z0=z0, name=name)
    wanted = read_sbml(document)
    try:
        text = _converted(document, "antimony", "The model")
        # A parameter without a value has nothing to be initialized with.
        text = re.sub(r"(?m)^\s*\w+ = ;\n", "", text)
        difference = _difference(wanted, read_antimony(text))
    except ImportFileError as error:
        difference = str(error)
    if difference:
        raise ModelError(f"Antimony has no words for all of this model: {difference}.")
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _read(source: Any) -> tuple[str, str]:
    if not isinstance(source, str | os.PathLike):
        raise ImportFileError(f"read_antimony takes a text or the path of one; got {source!r}.")
    is_text = isinstance(source, str) and any(mark in source for mark in ("\n", ";", "=", "->"))
    if is_text:
        text, name = str(source), "The text"
    else:
        path = Path(source)
        name = str(path)
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ImportFileError(f"{name} is larger than {MOST_BYTES // 2**20} MB.")
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise ImportFileError(f"{name} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError as error:
            raise ImportFileError(f"{name} is not UTF-8 (byte {error.start}).") from None
    if len(text.encode("utf-8", "replace")) > MOST_BYTES:
        raise ImportFileError(f"{name} is larger than {MOST_BYTES // 2**20} MB.")
    return text, name


def _converted(text: str, to: str, name: str) -> str:
    """Return a text in the other language, made by a child process."""
    command = [sys.executable, "-P", "-c", _CHILD, to, str(MEMORY)]
    try:
        done = subprocess.run(
            command,
            input=text.encode("utf-8", "replace"),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ImportFileError(
            f"{name} kept libAntimony busy for more than {SECONDS} seconds: modules that hold "
            "modules multiply. It was given up."
        ) from None
    if b"No module named 'antimony'" in done.stderr:
        raise MissingExtraError(
            "Antimony needs libAntimony: install the extra, symode-adjoint[antimony]."
        )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise ImportFileError(
            f"{name} ended libAntimony (exit code {done.returncode}): it is too large, or broken."
        ) from None
    if "error" in answer:
        reason = " ".join(str(answer["error"]).split())[:500]
        raise ImportFileError(f"{name} is not what libAntimony reads: {reason}")
    return str(answer["text"])


def _difference(wanted: SbmlModel, found: SbmlModel) -> str:
    """Return what of a model did not come back, in words; nothing where all did."""
    one, two = wanted.equations, found.equations
    for what, mine, theirs in (
        ("states", set(one.state_names), set(two.state_names)),
        ("parameters", set(one.parameter_names), set(two.parameter_names)),
        ("observables", {n for n, _ in one.observables}, {n for n, _ in two.observables}),
        ("events", {e.name for e in one.events}, {e.name for e in two.events}),
    ):
        if mine != theirs:
            return f"{what} ({', '.join(sorted(mine ^ theirs))}) are lost or added"
    if (one.mass is None) != (two.mass is None):
        return "algebraic equations are lost"
    events = {event.name: event for event in two.events}
    changed = [e.name for e in one.events if _flags(e) != _flags(events[e.name])]
    if changed:
        return f"the events {', '.join(changed)} are others"
    return _different_value(one, two)


def _flags(event: Event) -> tuple[bool, ...]:
    rank = event.priority is None
    return (event.persistent, event.initial_value, event.use_trigger_values, rank)


def _different_value(one: Equations, two: Equations) -> str:
    """Return the first expression with another value at a point that is not special."""
    rng = np.random.default_rng(7)
    z = dict(zip(one.state_names, rng.uniform(0.3, 1.9, one.n_states), strict=True))
    theta = dict(zip(one.parameter_names, rng.uniform(0.3, 1.9, one.n_parameters), strict=True))
    found = []
    for eq in (one, two):
        named = [*(("d" + n, e) for n, e in zip(eq.state_names, eq.rhs, strict=True))]
        named += [(n, e) for n, e in zip(eq.state_names, eq.initial or (), strict=False)]
        named += eq.observables
        for event in eq.events:
            named += [(f"{event.name}, {key}", value) for key, value in event.assignments]
            roots: list[sp.Expr] = []
            split_trigger(event, roots)
            named += [(f"{event.name}, root {i}", root) for i, root in enumerate(roots)]
            named += [] if event.priority is None else [(f"{event.name}'s", event.priority)]
        graph = lift_expressions(eq, [e for _, e in named])
        state = np.array([[z[n]] for n in eq.state_names])
        point = np.array([theta[n] for n in eq.parameter_names])
        with np.errstate(all="ignore"):
            rows = evaluate(graph, np.array([0.7]), state, point)
        values = [float(np.ravel(np.asarray(row, dtype=float))[0]) for row in rows]
        found.append(dict(zip((n for n, _ in named), values, strict=True)))
    for key, value in found[0].items():
        if not np.isclose(found[1].get(key, np.inf), value, rtol=1e-9, equal_nan=True):
            return f"{key} has another value"
    return ""
