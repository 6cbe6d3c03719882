"""The matrix: method x loss x with-respect-to x solver x problem, each cell before three judges.

Run ``python -m benchmarks.matrix`` to compute it and write docs/matrix.md: each method, solver,
loss and kind of initial values, with the problems in turn; ``--all`` takes every problem with each.
The judges of a cell:

- exact: J's derivative to 16 digits and more, by Taylor series in arbitrary precision;
- taylor: remainders of second order on frozen steps, and differences for the times;
- others: another method, on its own passes.

A cell passes all three, or the combination is refused with a reason before or instead of a result.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp

import symode
from symode.errors import GradientError, SolverError, UnsupportedCombinationError
from symode.gradients.methods import METHODS, DiscreteAdjoint, ForwardSensitivity, GradientMethod
from symode.gradients.task import Task
from symode.gradients.value_and_grad import make_task
from symode.gradients.verify.ends import check_ends
from symode.gradients.verify.reference import make_reference
from symode.gradients.verify.reference_run import Reference
from symode.gradients.verify.subject import Subject
from symode.gradients.verify.taylor import check_taylor
from symode.solvers.methods import METHODS as SOLVERS

RTOL = 1e-8
#: Errors up to this multiple of rtol: what the local errors of some hundred steps add up to.
LIMIT = 1e3 * RTOL
WRT = ("theta", "z0", "z0(theta)", "t0", "t1", "t_i")
LOSSES = ("terminal", "running", "observations", "all")
PAGE = Path(__file__).parents[1] / "docs" / "matrix.md"

T = sp.Symbol("t")


@dataclass(frozen=True)
class Problem:
    """A model with z0(theta, t0), a point and a span."""

    model: symode.Model
    theta: tuple[float, ...]
    z0: tuple[float, ...]
    span: tuple[float, float]
    atol: float = 1e-10


def _problems() -> dict[str, Problem]:
    x, y, w, a, b, c, d = sp.symbols("x y w a b c d")
    lotka = symode.Model(
        {x: a * x - b * x * y, y: d * x * y - c * y}, parameters=[a, b, c, d], time=T,
        initial={x: 8 + a + T, y: 5 * b + c * T + 2},
    )  # fmt: skip
    stiff = symode.Model(
        {x: -a * x + b * y * w, y: a * x - b * y * w - c * y**2, w: c * y**2},
        parameters=[a, b, c], time=T, initial={x: 1 - a * T, y: a / 1e6, w: c * T / 1e9},
    )  # fmt: skip
    forced = symode.Model(
        {x: -a * x + b * sp.sin(c * T)}, parameters=[a, b, c], time=T, initial={x: b + T / 2}
    )
    damped = symode.Model(
        {x: y, y: -(a**2) * x - b * y + sp.cos(T) / 4}, parameters=[a, b], time=T,
        initial={x: a / 2 + T, y: b - T / 3},
    )  # fmt: skip
    return {
        "Lotka-Volterra": Problem(lotka, (1.1, 0.4, 0.4, 0.1), (9.5, 4.2), (0.3, 3.8)),
        "Robertson": Problem(
            stiff, (0.04, 1e4, 3e7), (1.0, 2e-6, 1e-5), (0.0, 0.3), atol=1e-14
        ),
        "forced": Problem(forced, (0.8, 1.3, 2.1), (0.7,), (0.2, 3.1)),
        "damped": Problem(damped, (1.4, 0.3), (0.6, -0.8), (0.1, 2.9)),
    }  # fmt: skip


PROBLEMS = _problems()


def loss_of(problem: Problem, kind: str) -> symode.Loss:
    """Return a loss in which no derivative is idle: t and theta stand in every part."""
    model = problem.model
    first, last = model.states[0], model.states[-1]
    a, b = model.parameters[0], model.parameters[-1]
    scale = [max(abs(z), 1e-6) for z in problem.z0]
    u, v = first / sp.Float(scale[0], 6), last / sp.Float(scale[-1], 6)
    ra, rb = a / problem.theta[0], b / problem.theta[-1]
    t0, t1 = problem.span
    terminal = (u - 2) ** 2 + ra * u * v / 8 + T * v / 9 + sp.sin(rb)
    running = ra * u**2 / 3 + T * v / 7 - sp.cos(rb * T) / 4
    inner = [t0 + s * (t1 - t0) for s in (0.37, 0.81)]
    observations = [
        (t1, rb * u**2 / 4 + T * v / 9), (inner[0], (v - T) ** 2 / 30 + ra * u),
        (t0, rb * u**2 / 5 + T * v / 6), (inner[1], u * v / 9 + T * ra), (inner[0], T * u / 5),
    ]  # fmt: skip
    parts: dict[str, Any] = {
        "terminal": terminal, "running": running, "observations": observations,
    }  # fmt: skip
    return symode.Loss(**(parts if kind == "all" else {kind: parts[kind]}))


@dataclass(frozen=True)
class Cell:
    """One combination; all derivatives of it are computed at once."""

    method: GradientMethod
    solver: str
    loss: str
    problem: str
    from_initial: bool

    def __str__(self) -> str:
        start = "z0(theta)" if self.from_initial else "z0"
        return f"{self.method.name}-{self.solver}-{self.loss}-{self.problem}-{start}"


@dataclass(frozen=True)
class Verdict:
    """What became of a cell: digits by what is differentiated, or the reason of a refusal."""

    digits: dict[str, float]
    failures: tuple[str, ...] = ()
    refusal: str = ""


def all_cells() -> Iterator[Cell]:
    """Yield every combination."""
    for values in itertools.product(METHODS, SOLVERS, LOSSES, PROBLEMS, (False, True)):
        yield Cell(*values)


def in_turn() -> list[Cell]:
    """Return every combination of all but the problem, which goes round."""
    order = {name: i for i, name in enumerate(PROBLEMS)}
    place = {v: i for row in (METHODS, SOLVERS, LOSSES) for i, v in enumerate(row)}
    return [
        c
        for c in all_cells()
        if (place[c.method] + place[c.solver] + place[c.loss] + c.from_initial) % len(order)
        == order[c.problem]
    ]


def pairwise() -> list[Cell]:
    """Return few cells in which every pair of values occurs, found greedily."""
    cells = list(all_cells())
    np.random.default_rng(0).shuffle(cells)  # type: ignore[arg-type]

    def pairs(cell: Cell) -> set[Any]:
        values = (
            cell.method.name, cell.solver, cell.loss, cell.problem, cell.from_initial
        )  # fmt: skip
        return set(itertools.combinations(enumerate(values), 2))

    left = set().union(*map(pairs, cells))
    chosen = []
    while left:
        best = max(cells, key=lambda cell: len(pairs(cell) & left))
        chosen.append(best)
        left -= pairs(best)
    return chosen


def task_of(cell: Cell) -> Task:
    """Return the task of a cell."""
    problem = PROBLEMS[cell.problem]
    return make_task(
        problem.model.equations, loss_of(problem, cell.loss), problem.span,
        from_initial=cell.from_initial, solver=cell.solver, rtol=RTOL, atol=problem.atol,
    )  # fmt: skip


@cache
def exact(problem: str, loss: str, from_initial: bool) -> Reference:
    """Return the derivatives to 16 digits and more."""
    cell = Cell(DiscreteAdjoint(), "auto", loss, problem, from_initial)
    known = PROBLEMS[problem]
    z0 = None if from_initial else np.array(known.z0)
    return make_reference(task_of(cell), np.array(known.theta), z0, digits=16, budget=300.0)


def judge(cell: Cell) -> Verdict:
    """Return what the three judges say of a cell."""
    problem = PROBLEMS[cell.problem]
    theta = np.array(problem.theta)
    z0 = None if cell.from_initial else np.array(problem.z0)
    try:
        subject = Subject(task_of(cell), cell.method, theta, z0)
        found = subject.outcome(cell.method, subject.task)
    except (UnsupportedCombinationError, GradientError, SolverError) as error:
        return Verdict({}, (), f"{type(error).__name__}: {error}")
    true = exact(cell.problem, cell.loss, cell.from_initial)
    failures = []
    for check in (check_taylor, check_ends):
        try:
            result = check(subject)
        except GradientError as error:
            return Verdict({}, (), f"{type(error).__name__}: {error}")
        if not result.passed:
            failures.append(str(result))
    other = ForwardSensitivity() if isinstance(cell.method, DiscreteAdjoint) else DiscreteAdjoint()
    gap = subject.error(found, subject.outcome(other, subject.task))
    if not gap <= 2.0 * LIMIT:
        failures.append(f"differs from {other!r} by {gap:.1e}")
    digits = {}
    span = abs(problem.span[1] - problem.span[0])
    numbers = lambda values: np.array([float(v) for v in values])  # noqa: E731
    whole = float(np.linalg.norm(true.vector * subject.scale))
    ends = numbers((true.t0, true.t1, *true.times)) * span
    # Times are judged beside the states' and parameters' part: single ones may vanish.
    size = float(np.linalg.norm(ends)) + whole
    parts = [
        ("z0(theta)" if cell.from_initial else "theta", found.theta - numbers(true.theta),
         subject.scale[: theta.size], whole),
        ("z0", found.z0 - numbers(true.z0), subject.scale[theta.size :], whole),
        ("t0", np.array([found.t0 - float(true.t0)]), np.array([span]), size),
        ("t1", np.array([found.t1 - float(true.t1)]), np.array([span]), size),
    ]  # fmt: skip
    if found.times.size:
        parts.append(("t_i", found.times - numbers(true.times), np.array([span]), size))
    for name, difference, scale, unit in parts:
        error = float(np.linalg.norm(difference * scale)) / unit
        digits[name] = -np.log10(max(error, 1e-16))
        if not error <= LIMIT:
            failures.append(f"dJ/d{name} is off by {error:.1e}")
    return Verdict(digits, tuple(failures))


def page(verdicts: dict[Cell, Verdict]) -> str:
    """Return the page: fewest digits over losses and problems, and the refusals with reasons."""
    lines = [
        "# Every combination, judged",
        "",
        "Written by `python -m benchmarks.matrix`, which computes these "
        f"{len(verdicts)} combinations of {len(METHODS)} methods, {len(SOLVERS)} solvers, losses "
        f"({', '.join(LOSSES)}; observations at both ends, repeated and between), "
        f"problems ({', '.join(PROBLEMS)}; in turn, or each with `--all`), initial values given or "
        "from the parameters, each with its derivatives in everything.",
        "",
        "Each goes before three judges: the exact derivative by Taylor series in arbitrary "
        "precision, remainders of second order on frozen steps (for times: differences), and "
        f"another method. A cell shows the fewest correct digits over losses and problems at "
        f"`rtol={RTOL:g}`; ✗ is a failed judge. Superscripts number the refusals below: there, "
        "some combinations are refused with a reason, and the digits are those of the others.",
        "",
        f"| method | solver | {' | '.join(f'`{w}`' for w in WRT)} |",
        f"|---|---|{'---|' * len(WRT)}",
    ]
    reasons: dict[str, int] = {}
    listed: dict[int, list[str]] = {}
    for method, solver in itertools.product(METHODS, SOLVERS):
        group = {c: v for c, v in verdicts.items() if c.method == method and c.solver == solver}
        marks = []
        for cell, verdict in group.items():
            if verdict.refusal:
                number = reasons.setdefault(_kind(verdict.refusal), len(reasons) + 1)
                where = f"{method.name}, {solver}: {cell.problem}"
                if where not in listed.setdefault(number, []):
                    listed[number].append(where)
                marks.append(number)
        cells = []
        for name in WRT:
            digits = [v.digits[name] for v in group.values() if name in v.digits]
            failed = any(v.failures for v in group.values() if name in v.digits)
            text = "✗" if failed else f"{min(digits):.1f}" if digits else "–"
            cells.append(text + "".join(f"<sup>{n}</sup>" for n in sorted(set(marks))))
        lines.append(f"| {method.name} | {solver} | {' | '.join(cells)} |")
    lines += ["", "## Refusals", ""]
    for reason, number in reasons.items():
        lines.append(f"{number}. {reason} ({'; '.join(listed[number])})")
    if not reasons:
        lines.append("None.")
    failures = [(cell, f) for cell, v in verdicts.items() for f in v.failures]
    if failures:
        lines += ["", "## Failures", "", *(f"- {cell}: {text}" for cell, text in failures)]
    return "\n".join([*lines, ""])


def _kind(refusal: str) -> str:
    """Return a refusal with its numbers left out, so that equal reasons count once."""
    words = refusal.split(". ")[0].split(" at t = ")[0]
    return " ".join("…" if any(ch.isdigit() for ch in w) else w for w in words.split())


def main(arguments: Sequence[str]) -> int:
    """Compute the matrix and write the page as it grows; --thin stops after the pairwise part."""
    cells = pairwise()
    if "--thin" not in arguments:
        more = all_cells() if "--all" in arguments else in_turn()
        cells += [cell for cell in more if cell not in set(cells)]
    verdicts = {}
    for k, cell in enumerate(cells):
        verdicts[cell] = judge(cell)
        if verdicts[cell].failures:
            print(f"{cell}: {verdicts[cell].failures}", flush=True)
        if k % 20 == 0 or k + 1 == len(cells):
            print(f"{k + 1} of {len(cells)}", file=sys.stderr, flush=True)
            PAGE.write_text(page(verdicts), encoding="utf-8")
    return int(any(v.failures for v in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
