r"""The Taylor test: the remainder of first order falls with the square of the perturbation.

.. math:: R(\varepsilon) = |J(x + \varepsilon d) - J(x) - \varepsilon\, g \cdot d|
          = O(\varepsilon^2)

J is replayed along the accepted steps of the base solve, so it is smooth. A gradient with an error
:math:`\delta` keeps a part :math:`\varepsilon\,|\delta \cdot d|`: the quotient R/ε then levels off
at the error, which for a continuous adjoint is its tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from symode.gradients.task import Task
from symode.gradients.verify.difference import derivative, rounding_noise
from symode.gradients.verify.dot_product import UNFINISHED
from symode.gradients.verify.frozen import FrozenLoss
from symode.gradients.verify.report import Check, Curve, digits_of
from symode.gradients.verify.stability import measure
from symode.gradients.verify.subject import Subject, vector_of, worst_entries

Floats = NDArray[np.float64]

#: Perturbations, relative to each variable.
LADDER = 10.0 ** -np.arange(1, 9)
#: Random directions.
COUNT = 3
#: Agreement that counts as rounding, where differences can show no better.
ROUNDING = 1e-10
#: Agreement in multiples of rtol, for methods with steps of their own.
TOLERANCES = 1e3
#: Fall of the error that tightening the tolerance 100 times must bring, for what is above that.
FALL = 5.0
#: Error of a difference, relative to g·d, above which it judges nothing.
VAGUE = 1e-4
#: Errors of differences up to this multiple of J's rounding come from rounding alone.
HIDDEN = 1e5
#: Multiples of the error estimate of a difference that it may be off by.
SAFETY = 30.0


@dataclass(frozen=True)
class Remainder:
    """Remainders along one direction.

    ``gap`` is the error of g·d relative to |g||d| in scaled variables, ``doubt`` that of the
    difference it is measured by, ``slope`` the observed order over ``span`` (NaN where the
    remainder is rounding throughout). ``hidden``: J changes by no more than its rounding, and
    nothing contradicts g·d. ``curve`` holds the remainders over the perturbations.
    """

    gap: float
    doubt: float
    slope: float
    span: tuple[float, float]
    hidden: bool
    curve: Curve


def check_taylor(subject: Subject) -> Check:
    """Return the check of dJ/dtheta and dJ/dz0 by their Taylor remainders."""
    rows = remainders(subject, subject.task)
    judged = [row for row in rows if not row.hidden]
    worst = max(judged or rows, key=lambda row: row.gap)
    curves = tuple(replace(row.curve, label=f"direction {k + 1}") for k, row in enumerate(rows))
    details = [
        f"direction {k + 1}: {_slope_text(row)}, error {row.gap:.1e}" for k, row in enumerate(rows)
    ]
    if not judged:
        return Check(
            "taylor", True, 0.0, "consistency",
            "J does not change beyond its rounding, and its gradient agrees with that",
            tuple(details), curves=curves,
        )  # fmt: skip
    if not all(row.doubt <= VAGUE for row in judged):
        if grown := too_sharp(subject):
            return Check.skip("taylor", "consistency", grown)
        return Check(
            "taylor", False, digits_of(worst.gap), "consistency",
            "differences of J do not converge: J is not smooth here, or rounding hides it",
            tuple(details), curves=curves,
        )  # fmt: skip
    if subject.differentiates_steps:
        options = subject.task.options
        # The replay solves implicit stages fully, the solve as far as its tolerance asks.
        stages = UNFINISHED * options.rtol if options.tableau.iterative else 0.0
        passed = all(row.gap <= max(ROUNDING, SAFETY * row.doubt, stages) for row in judged)
        kind = "equals the derivative of the computed J"
        if worst.gap <= ROUNDING:
            kind += " to rounding"
        elif worst.gap <= stages:
            kind += " as far as implicit stages are solved"
        else:
            kind += " as far as differences can tell"
        if not passed:
            kind = "is not the derivative of the computed J"
    else:
        passed, kind = _plateau(subject, worst)
    if not passed and (grown := too_sharp(subject)):
        return Check.skip("taylor", "consistency", grown)
    if not passed:
        details += _blame(subject)
    summary = f"{_slope_text(worst)}; {kind}"
    return Check(
        "taylor", passed, digits_of(worst.gap), "consistency", summary, tuple(details),
        curves=curves,
    )  # fmt: skip


def too_sharp(subject: Subject) -> str:
    r"""Return why no difference of J tells its slope here, "" where one may.

    A perturbation :math:`\epsilon` stays small while :math:`\epsilon G < 1/10` for a growth G, and
    J has rounding of relative size G eps: what is left of the quotient is :math:`10\,G^2` eps.
    """
    growth = measure(subject).growth
    if not 10.0 * growth**2 * np.finfo(float).eps > VAGUE:
        return ""
    return (
        f"perturbations grow by {growth:.1e}: no difference of J is both small enough for its "
        "slope and large enough for rounding"
    )


def remainders(subject: Subject, task: Task) -> list[Remainder]:
    """Return the remainders along random directions."""
    function = _Along(subject, task)
    gradient = vector_of(subject.outcome(subject.method, task))
    return [
        _remainder(function, gradient, d, subject.unit, subject.floor)
        for d in subject.directions(COUNT)
    ]


class _Along:
    """J along the frozen steps of a task, as a function of (theta, z0) around the point."""

    def __init__(self, subject: Subject, task: Task) -> None:
        self.subject = subject
        self.loss = FrozenLoss(task, subject.steps(task))

    def along(self, d: Floats) -> Callable[[float], float]:
        """Return J(x + epsilon d) as a function of epsilon."""
        m, theta, z0 = self.subject.task.m, self.subject.theta, self.subject.z0
        return lambda epsilon: self.loss(theta + epsilon * d[:m], z0, epsilon * d[m:])


def _remainder(
    function: _Along, gradient: Floats, d: Floats, unit: Floats, floor: float
) -> Remainder:
    along = function.along(d)
    value = along(0.0)
    noise = rounding_noise(along, value)
    true = derivative(along, noise)
    predicted = float(gradient @ d)
    part = unit * (d != 0.0)
    size = max(float(np.linalg.norm(gradient * part)), floor) * float(np.linalg.norm(d / unit))
    size = max(size, abs(true.value), 1e-300)
    gap = abs(true.value - predicted)
    if not np.isfinite(gap):
        gap = np.inf
    left = np.array([abs(along(e) - value - e * predicted) for e in LADDER])
    # Above rounding, and above the part that the error of g leaves (see the module's docstring).
    clear = left > 20.0 * noise
    if gap <= 0.1 * size:
        clear &= left > 5.0 * LADDER * gap
    slope, span = order_of(left, clear)
    hidden = true.error > VAGUE * size and gap <= SAFETY * true.error <= HIDDEN * noise
    shown = np.isfinite(left) & (left > 0.0)
    curve = Curve("", tuple(LADDER[shown].tolist()), tuple(left[shown].tolist()))
    return Remainder(gap / size, true.error / size, slope, span, hidden, curve)


def order_of(
    left: Floats, clear: NDArray[np.bool_], expected: float = 2.0
) -> tuple[float, tuple[float, float]]:
    """Return the observed order and its rungs: the longest run of the expected one, if any.

    Terms of higher order rule the first rungs, and where they cancel the expected order, a rung in
    between may show anything; so the verdict rests on the error of g, and the slope shows it.
    """
    good = np.flatnonzero(clear[:-1] & clear[1:])
    if not good.size:
        return float("nan"), (float("nan"), float("nan"))
    with np.errstate(divide="ignore", invalid="ignore"):
        orders = np.log10(left[:-1] / left[1:])[good]
    runs: list[list[int]] = [[]]
    for k, rung in enumerate(good):
        quadratic = abs(orders[k] - expected) <= 0.2
        if quadratic and runs[-1] and good[runs[-1][-1]] == rung - 1:
            runs[-1].append(k)
        elif quadratic:
            runs.append([k])
    keep = np.array(max(runs, key=len) or range(good.size), dtype=np.int64)
    span = float(LADDER[good[keep[0]]]), float(LADDER[good[keep[-1]] + 1])
    return float(np.median(orders[keep])), span


def _slope_text(row: Remainder) -> str:
    if np.isnan(row.slope):
        return "remainder at rounding throughout"
    return f"slope {row.slope:.2f} from ε = {row.span[0]:.0e} to {row.span[1]:.0e}"


def _plateau(subject: Subject, worst: Remainder) -> tuple[bool, str]:
    """Judge a method with steps of its own: at the tolerance, or falling with it."""
    other = max(remainders(subject, subject.second), key=lambda row: row.gap)
    here_is_loose = subject.task is subject.tasks[0]
    loose, tight = (worst, other) if here_is_loose else (other, worst)
    rtol = subject.second.options.rtol
    limit = max(loose.gap / FALL, TOLERANCES * subject.tasks[1].options.rtol)
    if tight.gap <= max(limit, SAFETY * tight.doubt):
        text = f"R/ε levels off at {worst.gap:.1e}, the tolerance, as a continuous adjoint's must"
        return True, f"{text} (at rtol {rtol:.0e}: {other.gap:.1e})"
    return False, f"R/ε levels off at {worst.gap:.1e} whatever the tolerance"


def _blame(subject: Subject) -> list[str]:
    """Return which entries of the gradient are wrong, where there are few enough to look."""
    size = subject.unit.size
    if size > 64:
        return []
    function = _Along(subject, subject.task)
    gradient = vector_of(subject.outcome(subject.method, subject.task))
    unit = max(float(np.linalg.norm(gradient * subject.unit)), subject.floor) or 1.0
    gaps = np.empty(size)
    for i in range(size):
        d = np.zeros(size)
        d[i] = subject.unit[i]
        along = function.along(d)
        true = derivative(along, rounding_noise(along, along(0.0)))
        gaps[i] = (true.value - gradient @ d) / max(unit, abs(true.value))
    limit = max(ROUNDING, 0.1 * float(np.max(np.abs(gaps))))
    names = worst_entries(gaps, subject.names, limit)
    return [f"wrong in: {', '.join(names)}"] if names else []
