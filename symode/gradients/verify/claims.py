r"""A gradient from elsewhere, taken apart: which term is off, and how.

J is a sum, :math:`\Phi + \sum_i \ell_i + \int c`, and so is its gradient: each term contributes
through the dynamics, explicitly, and through :math:`z_0(\theta)`. A claimed gradient that is not
the true one is compared with the true one less one of these parts, with a part of the wrong sign,
and with the usual slips: a sign, a factor, another order of the parameters, another scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.codegen.reference import evaluate
from symode.equations.composite import JointLoss
from symode.equations.equations import Equations
from symode.equations.loss import Loss, ObservationGroup
from symode.errors import OptionError, SymodeError
from symode.gradients.methods import DiscreteAdjoint
from symode.gradients.rows import prepare_rows
from symode.gradients.rows_task import RowsTask
from symode.gradients.task import Outcome, Task
from symode.gradients.verify.report import Check, digits_of
from symode.gradients.verify.subject import Subject
from symode.symbolic.derive import derive_joint
from symode.symbolic.lift import lift_expressions

Floats = NDArray[np.float64]

#: Relative disagreement with an explanation that still counts as one.
EXPLAINED = 1e-4
#: Relative error up to which a claimed gradient is right, at least.
RIGHT = 1e-6
#: Observations that are looked at one by one.
SINGLE = 12


@dataclass(frozen=True)
class Claim:
    """Claimed derivatives: values and their places among (theta, z0, t0, t1)."""

    places: tuple[int, ...]
    values: Floats


def read_claim(claimed: Any, equations: Equations) -> Claim:
    """Return a claim from a `Gradient`, a mapping by name or by part, or an array.

    Raises
    ------
    OptionError
        Saying what is understood.
    """
    m, n = equations.n_parameters, equations.n_states
    names = [*equations.parameter_names, *(f"{s}(t0)" for s in equations.state_names), "t0", "t1"]
    parts = {"theta": range(m), "z0": range(m, m + n), "t0": [m + n], "t1": [m + n + 1]}
    if hasattr(claimed, "theta") and hasattr(claimed, "z0"):
        claimed = {part: getattr(claimed, part) for part in parts}
    places: list[int] = []
    values: list[float] = []
    if isinstance(claimed, Mapping):
        known = {name: [i] for i, name in enumerate(names)}
        known |= {s: [m + i] for i, s in enumerate(equations.state_names) if s not in known}
        for key, value in claimed.items():
            name = str(key)
            where = list(known.get(name) or parts.get(name) or ())
            if isinstance(value, Mapping) and name in ("theta", "z0"):
                inner = read_claim(value, equations)
                where, value = list(inner.places), inner.values
            found = np.atleast_1d(np.asarray(value, dtype=float))
            if (name not in known and name not in parts) or found.size != len(where):
                raise OptionError(
                    f"claimed[{name!r}] is not understood. Expected names ({', '.join(names)}) "
                    "with one number each, or the parts theta, z0, t0, t1."
                )
            places += where
            values += found.tolist()
    else:
        found = np.asarray(claimed, dtype=float)
        if found.shape not in ((m,), (m + n,)):
            raise OptionError(
                f"claimed has shape {found.shape}; expected ({m},) for the parameters, ({m + n},) "
                "with the initial values behind them, or a mapping by name."
            )
        places, values = list(range(found.size)), found.tolist()
    if not np.isfinite(values).all():
        raise OptionError("claimed holds numbers that are not finite.")
    return Claim(tuple(places), np.array(values))


def whole(outcome: Outcome) -> Floats:
    """Return the derivatives in (theta, z0, t0, t1)."""
    return np.concatenate([outcome.theta, outcome.z0, [outcome.t0, outcome.t1]])


def names_of(equations: Equations) -> tuple[str, ...]:
    """Return the names of (theta, z0, t0, t1)."""
    return (
        *equations.parameter_names, *(f"{s}(t0)" for s in equations.state_names), "t0", "t1",
    )  # fmt: skip


def check_claim(subject: Subject, claim: Claim) -> Check:
    """Return the check of a gradient from elsewhere, with what is wrong in it."""
    true = true_gradient(subject)
    places = np.array(claim.places)
    scale = _scale(subject)[places]
    gap = np.abs(claim.values - true[places]) * scale
    size = max(float(np.linalg.norm(true[places] * scale)), subject.floor) or 1.0
    error = float(np.linalg.norm(gap)) / size
    allowed = max(RIGHT, 1e3 * subject.task.options.rtol)
    names = names_of(subject.task.equations)
    details = [
        f"{names[i]}: claimed {c:.10g}, true {t:.10g}"
        for i, c, t, g in zip(places, claim.values, true[places], gap, strict=True)
        if g > allowed * size
    ][:8]
    passed = error <= allowed
    summary = f"the claimed gradient differs from the true one by {error:.1e}"
    if not passed:
        why = explain(subject, claim, true)
        details = [*why, *details]
    return Check("claimed", passed, digits_of(error), "accuracy", summary, tuple(details))


def true_gradient(subject: Subject) -> Floats:
    """Return the best gradient there is: of the reference, else of the tighter tolerance."""
    found = subject.reference
    if isinstance(found, str):
        return whole(subject.outcome(DiscreteAdjoint(), subject.tasks[1]))
    return np.array([float(v) for v in (*found.theta, *found.z0, found.t0, found.t1)])


def _scale(subject: Subject) -> Floats:
    span = abs(subject.task.t1 - subject.task.t0)
    return np.concatenate([subject.scale, [span, span]])


def explain(subject: Subject, claim: Claim, true: Floats) -> list[str]:
    """Return the best explanation of a wrong claim, as sentences; empty if there is none."""
    places = np.array(claim.places)
    scale = _scale(subject)[places]
    size = float(np.linalg.norm(true[places] * scale)) or 1.0
    before = float(np.linalg.norm((claim.values - true[places]) * scale))
    best: tuple[float, str] | None = None
    for complexity, text, wrong in _hypotheses(subject, claim, true):
        left = float(np.linalg.norm((claim.values - wrong[places]) * scale))
        if left <= EXPLAINED * min(before, size):
            # The simplest explanation wins among those that leave next to nothing.
            rank = complexity + left / max(before, 1e-300)
            if best is None or rank < best[0]:
                best = (rank, text)
    return [f"likely: {best[1]}"] if best else []


def _hypotheses(
    subject: Subject, claim: Claim, true: Floats
) -> Iterator[tuple[float, str, Floats]]:
    """Yield (complexity, what is wrong, the gradient it would give)."""
    m, n = subject.task.m, subject.task.equations.n_states
    blocks = {
        "the whole gradient": slice(None),
        "the derivatives in the parameters": slice(0, m),
        "the derivatives in the initial values": slice(m, m + n),
        "dJ/dt0": slice(m + n, m + n + 1),
        "dJ/dt1": slice(m + n + 1, None),
    }
    factors = {-1.0: "has its sign flipped", 2.0: "has a factor 2 too many",
               0.5: "lacks a factor 2", 0.0: "is missing (0)"}  # fmt: skip
    count = subject.task.times.size
    if count > 2:
        factors[1.0 / count] = f"is divided by the number of observations, {count}"
        factors[float(count)] = f"is multiplied by the number of observations, {count}"
    for level, (name, block) in enumerate(blocks.items()):
        for factor, text in factors.items():
            wrong = true.copy()
            wrong[block] *= factor
            yield 1.0 + level / 10, f"{name} {text}", wrong
    sizes = np.concatenate([subject.theta, np.ones(n + 2)])
    for factor, text in ((1.0, "ln"), (np.log(10.0), "log10")):
        wrong = true * sizes * np.where(np.arange(true.size) < m, factor, 1.0)
        yield 2.0, f"it is the gradient in {text} of the parameters", wrong
    for text, wrong in _other_models(subject):
        # What was computed from the states by other means is not in question.
        for place, value in zip(claim.places, claim.values, strict=True):
            if place >= m + n:
                wrong[place] = value
        yield 2.2, text, wrong
    parts = parts_of(subject)
    for name, part in parts.items():
        yield 1.5, f"{name} is dropped", true - part
        yield 1.7, f"{name} has its sign flipped", true - 2.0 * part
        yield 1.8, f"{name} is counted twice", true + part
    names = names_of(subject.task.equations)
    for i, name in enumerate(names):
        for factor, text in factors.items():
            wrong = true.copy()
            wrong[i] *= factor
            yield 2.5, f"d J/d{name} {text}", wrong
    for i, j in combinations(range(m), 2):
        wrong = true.copy()
        wrong[[i, j]] = wrong[[j, i]]
        yield 2.6, f"{names[i]} and {names[j]} are exchanged", wrong
    if m > 2:
        order = np.argsort(names[:m])
        wrong = true.copy()
        wrong[:m] = true[:m][order]
        yield 2.7, "the parameters are in alphabetical order, not in the model's", wrong
    for (a, x), (b, y) in combinations(list(parts.items())[:20], 2):
        yield 3.0, f"{a} is dropped, and {b} is dropped", true - x - y


def _other_models(subject: Subject) -> Iterator[tuple[str, Floats]]:
    """Yield the gradients of models with a wrong sign, as a user's own solver may integrate."""
    task, eq = subject.task, subject.task.equations
    flips = {"f, in all of the equations (a solver that steps the wrong way),": range(eq.n_states)}
    if 1 < eq.n_states <= SINGLE:
        flips |= {f"the equation of {s}": range(i, i + 1) for i, s in enumerate(eq.state_names)}
    for name, places in flips.items():
        rhs = tuple(-e if i in places else e for i, e in enumerate(eq.rhs))
        try:
            changed = replace(task, equations=replace(eq, rhs=rhs))
            found = whole(DiscreteAdjoint().prepare(changed)(subject.theta, subject.z0))
        except SymodeError:
            continue
        yield f"{name} has the wrong sign", found


def parts_of(subject: Subject) -> dict[str, Floats]:
    """Return what each term contributes to (theta, z0, t0, t1), and through which path."""
    if "parts" not in subject.measured:
        subject.measured["parts"] = {
            name: part for name, part in _parts(subject) if np.any(part != 0.0)
        }
    result: dict[str, Floats] = subject.measured["parts"]
    return result


def _parts(subject: Subject) -> Iterator[tuple[str, Floats]]:
    task, theta = subject.task, subject.theta
    if task.loss.outer is not None:
        yield from _parts_of_joint(subject)
        return
    exact = map(sp.Rational, map(float, theta))
    values = dict(zip(task.equations.parameters, exact, strict=True))
    for name, loss in _terms(task):
        try:
            total = _gradient(task, loss, theta, subject.z0)
            given = _gradient(replace(task, from_initial=False), loss, theta, subject.start)
            blind = _gradient(task, _at(loss, values), theta, subject.z0)
        except SymodeError:
            continue
        yield f"the contribution of {name}", total
        explicit = total - blind
        yield f"the explicit dependence of {name} on the parameters", explicit
        if task.from_initial:
            yield f"the dependence of z0 on the parameters, in {name},", total - given
    if task.loss.runnings:
        m, n = task.m, task.equations.n_states
        steps = subject.reference
        if not isinstance(steps, str):
            for i, name, c in ((m + n, "t0", -steps.costs[0]), (m + n + 1, "t1", steps.costs[1])):
                part = np.zeros(m + n + 2)
                part[i] = c
                yield f"the running cost c at {name}, in dJ/d{name},", part
    if task.from_initial:
        try:
            total = _gradient(task, task.loss, theta, None)
            given = _gradient(replace(task, from_initial=False), task.loss, theta, subject.start)
            yield "the dependence of z0 on the parameters (and t0)", total - given
        except SymodeError:
            pass
    try:
        blind = _gradient(task, _at(task.loss, values), theta, subject.z0)
        total = _gradient(task, task.loss, theta, subject.z0)
        yield "the explicit dependence of the loss on the parameters", total - blind
    except SymodeError:
        pass


def _parts_of_joint(subject: Subject) -> Iterator[tuple[str, Floats]]:
    """Yield what each part of a composite contributes, and what its weight makes of it."""
    task, theta = subject.task, subject.theta
    loss = task.loss
    assert isinstance(loss, JointLoss)
    compute, _ = prepare_rows(RowsTask.of(task, loss.parts()), DiscreteAdjoint())
    found = compute(theta, subject.z0)
    graph = lift_expressions(task.equations, [loss.outer], loss.symbols)
    slopes = evaluate(derive_joint(graph, 0, task.m, loss.n_parts), 0.0, [], theta, found.values)
    weights = np.array(slopes[2 + task.m :], dtype=float)
    each = np.column_stack([found.theta, found.z0, found.t0, found.t1])
    for symbol, w, part in zip(loss.symbols, weights, each, strict=True):
        yield f"the part {symbol}", w * part
        yield f"the difference that the factor dJ/d{symbol} makes,", (w - 1.0) * part
    yield "the difference that all factors dJ/d(part) make,", (weights - 1.0) @ each
    explicit = np.zeros(each.shape[1])
    explicit[: task.m] = slopes[1 : 1 + task.m]
    yield "the explicit dependence of the function of the parts on the parameters", explicit


def _gradient(task: Task, loss: Loss, theta: Floats, z0: Floats | None) -> Floats:
    tighter = replace(task.options, rtol=max(task.options.rtol * 1e-2, 1e-13))
    changed = Task(task.equations, loss, task.t0, task.t1, tighter, task.from_initial, task.backend)
    return whole(DiscreteAdjoint().prepare(changed)(theta, z0))


def _terms(task: Task) -> Iterator[tuple[str, Loss]]:
    """Yield the terms of a loss, each as a loss of its own."""
    loss = task.loss
    if loss.terminal is not None:
        yield "the terminal cost", Loss(terminal=loss.terminal)
    if loss.running is not None:
        yield "the running cost", Loss(running=loss.running)
    groups: dict[str, list[ObservationGroup]] = {}
    single = loss.times.size <= SINGLE
    for group in loss.groups:
        for k, t in enumerate(group.times):
            name = f"the observation at t = {t:g}"
            if t in (task.t0, task.t1):
                name = f"the observation at {'t0' if t == task.t0 else 't1'}"
            elif not single:
                name = "the observations inside the span"
            one = ObservationGroup(
                group.expression, np.array([t]), group.data_symbols, group.data[k : k + 1]
            )
            groups.setdefault(name, []).append(one)
    for name, entries in groups.items():
        yield name, Loss(observations=entries)
    if loss.groups and len(groups) > 1:
        yield "all observations", Loss(observations=list(loss.groups))


def _at(loss: Loss, values: Mapping[Any, Any]) -> Loss:
    """Return a loss with its explicit parameters at their values."""

    def fixed(e: sp.Expr | None) -> sp.Expr | None:
        return None if e is None else e.xreplace(dict(values))

    groups = [replace(g, expression=fixed(g.expression)) for g in loss.groups]
    return Loss(fixed(loss.terminal), fixed(loss.running), groups or None)
