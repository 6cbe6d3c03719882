r"""The reference: J and its gradient to 30 digits, in arbitrary precision.

Taylor series solve the user's equations step after step, each with derivatives in
:math:`(\theta, z_0)`, so nothing of the compiled solvers and of the derived products takes part.
Where their steps would be too many, for stiff equations, Radau collocation of high order does. Two
runs, of different orders on different steps, give the error estimate.
"""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from symode.gradients.task import Task
from symode.gradients.verify.reference_collocation import CollocationRun
from symode.gradients.verify.reference_run import GUARD, Reference, Run, TooLongError
from symode.gradients.verify.reference_taylor import TaylorRun
from symode.gradients.verify.report import Check, digits_of
from symode.gradients.verify.series import NoSeriesError, precision
from symode.gradients.verify.subject import Subject, vector_of

Floats = NDArray[np.float64]

#: Digits of the reference, where none are asked for.
DIGITS = 30
#: Seconds of work that a reference may take where it was not asked for, and where it was.
BUDGET, ASKED_BUDGET = 1.5, 60.0
#: Seconds of collocation where it was not asked for: who is sent there by Taylor series has a stiff
#: model. Seconds that Taylor series have before collocation is tried.
STIFF_BUDGET, TRIAL = 6.0, 5.0
#: Largest multiples of a method's tolerance by which its gradient may be off.
UNKNOWN = 1e-2


def check_reference(subject: Subject) -> Check:
    """Return the check against the reference: the error itself, not an estimate of it."""
    asked = subject.reference_digits
    found = subject.reference
    if isinstance(found, str):
        return Check.skip("reference", "accuracy", found, failed=bool(asked))
    outcome = subject.outcome(subject.method, subject.task)
    error = max(subject.gap(vector_of(outcome), found.vector), _error_in_times(subject, found))
    # At an optimum of J = 0 its relative error says nothing.
    size = max(abs(float(found.value)), subject.floor, 1e-300)
    of_value = abs(float(Decimal(outcome.value) - found.value)) / size
    passed = bool(error <= UNKNOWN)
    summary = (
        f"error {error:.1e} (of J: {of_value:.1e}) against {found.kind} of order {found.order} in "
        f"{found.steps} steps, known to {found.digits:.0f} digits"
    )
    return Check("reference", passed, digits_of(error), "accuracy", summary)


def _error_in_times(subject: Subject, found: Reference) -> float:
    """Return the error in t0, t1 and the t_i, relative to all derivatives together."""
    outcome = subject.outcome(subject.method, subject.task)
    span = abs(subject.task.t1 - subject.task.t0)
    own = np.array([outcome.t0, outcome.t1, *outcome.times])
    true = np.array([float(v) for v in (found.t0, found.t1, *found.times)])
    size = float(np.linalg.norm(true) * span + np.linalg.norm(found.vector * subject.scale))
    size = max(size, subject.floor) or 1.0
    return float(np.linalg.norm(own - true)) * span / size


def make_reference(
    task: Task, theta: Floats, z0: Floats | None, digits: int = DIGITS, budget: float = ASKED_BUDGET
) -> Reference:
    """Return J and its gradient to about this many digits.

    Parameters
    ----------
    theta, z0
        The point, its doubles taken as exact; z0 is None where the model's own values count.
    budget
        Seconds, after which it gives up.

    Raises
    ------
    NoSeriesError
        When the equations have no Taylor series (a kink, say), or the budget does not suffice.
    """
    attempts: list[tuple[type[Run], float]] = [
        (TaylorRun, min(budget, TRIAL)), (CollocationRun, max(budget, STIFF_BUDGET)),
    ]  # fmt: skip
    if budget > TRIAL:
        attempts.append((TaylorRun, budget))
    said: dict[str, str] = {}
    for kind, seconds in attempts:
        try:
            return _agreed(kind, task, theta, z0, digits, seconds)
        except TooLongError as error:
            said[kind.kind] = f"about {error.seconds:.0f} s of {kind.kind}"
        except NoSeriesError as error:
            if kind is TaylorRun:
                raise
            said[kind.kind] = f"{kind.kind} finds none: {error}"
    raise TooLongError(
        f"{digits} digits would take {'; '.join(said.values())}; ask with reference_digits= to "
        f"spend up to {ASKED_BUDGET:.0f} s, or for fewer digits"
    )


def _agreed(
    kind: type[Run], task: Task, theta: Floats, z0: Floats | None, digits: int, budget: float
) -> Reference:
    """Return the better of two runs of different orders, with the digits in which they agree."""
    deadline = time.thread_time() + budget
    runs = []
    for k, more in enumerate((0, 7)):
        with localcontext(precision(digits + GUARD + more)):
            solver = kind(task, theta, z0, digits + 4 + more)
            # The first run may have its share only: what is left must do for the second.
            limit = deadline - (1 - k) * budget * 0.55
            runs.append(solver.run(limit))
    loose, tight = runs
    scale = np.abs(np.concatenate([theta, [float(z) for z in solver.start]]))
    scale = np.where(scale == 0.0, 1.0, scale)
    with localcontext(precision(digits + GUARD)):
        pairs = zip((*loose.theta, *loose.z0), (*tight.theta, *tight.z0), scale, strict=True)
        gaps, sizes = zip(
            *((abs(a - b) * Decimal(float(s)), abs(b) * Decimal(float(s))) for a, b, s in pairs),
            strict=True,
        )
        gap, size = max(gaps), max(sizes)
        error = gap / size if size else gap
    known = float(digits + 4) if error == 0 else float(-error.log10())
    if not known >= min(8.0, digits / 2):
        raise NoSeriesError("two runs of different orders do not agree")
    return replace(tight, digits=known)
