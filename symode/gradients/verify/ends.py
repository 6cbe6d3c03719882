"""The check of dJ/dt0, dJ/dt1 and dJ/dt_i: differences of J on steps that follow the ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from symode.gradients.task import Outcome, Task
from symode.gradients.verify.difference import derivative, rounding_noise
from symode.gradients.verify.frozen import FrozenLoss
from symode.gradients.verify.report import Check, digits_of
from symode.gradients.verify.subject import Subject, vector_of
from symode.gradients.verify.taylor import FALL, SAFETY, TOLERANCES

#: Largest error that the doubt of a difference may excuse.
VAGUE = 1e-3


def check_ends(subject: Subject) -> Check:
    """Return the check of the derivatives in times.

    They come from formulas and not from the step map, so they agree to the tolerance.
    """
    loose, tight = (time_errors(subject, task) for task in subject.tasks)
    errors = loose if subject.task is subject.tasks[0] else tight
    worst = max(error for error, _ in errors.values())
    limit = TOLERANCES * subject.tasks[1].options.rtol
    passed = all(
        error <= max(limit, loose[name][0] / FALL) + min(SAFETY * doubt, VAGUE)
        for name, (error, doubt) in tight.items()
    )
    text = "the tolerance, as formulas of the true J must" if passed else "whatever the tolerance"
    details = tuple(
        f"{name}: error {error:.1e}, tighter {tight[name][0]:.1e}"
        for name, (error, _) in errors.items()
    )
    summary = f"derivatives in {', '.join(errors)} agree to {worst:.1e}, {text}"
    return Check("ends", passed, digits_of(worst), "consistency", summary, details)


def time_errors(subject: Subject, task: Task) -> dict[str, tuple[float, float]]:
    r"""Return the errors of the derivatives in times, each with its own doubt, by name.

    Relative to their joint norm plus :math:`(|J| + |g s|)/|t_1 - t_0|`, so that a derivative that
    happens to vanish is not divided by.
    """
    outcome = subject.outcome(subject.method, task)
    times = np.linalg.norm([outcome.t0, outcome.t1, *outcome.times])
    sizes = float(np.linalg.norm(vector_of(outcome) * subject.scale))
    others = max(abs(outcome.value) + sizes, subject.floor)
    size = float(times + others / abs(task.t1 - task.t0)) or 1.0
    errors = {}
    for name, (function, predicted, unit) in _movements(subject, task, outcome).items():
        true = derivative(function, rounding_noise(function, function(0.0)))
        gap = abs(true.value - predicted)
        if not np.isfinite(gap):
            gap = np.inf
        errors[name] = (gap / unit / size, true.error / unit / size)
    return errors


def _movements(
    subject: Subject, task: Task, outcome: Outcome
) -> dict[str, tuple[Callable[[float], float], float, float]]:
    """Return, by name, J over a movement in time, its predicted derivative, and the unit of time.

    An end takes with it the steps between it and the nearest observation; observations stay inside
    their own steps. Otherwise they would cross from one piece of the interpolant to the next,
    where J is not smooth.
    """
    theta, z0, steps = subject.theta, subject.z0, subject.steps(task)
    frozen = FrozenLoss(task, steps)
    inner = (task.times != task.t0) & (task.times != task.t1)
    holders = steps.step_of(task.times[inner])
    first, last = (holders[0], holders[-1] + 1) if inner.any() else (steps.h.size, 0)
    # Corners of inputs stay where they are.
    near, far = steps.smooth_ends
    first, last = max(min(int(first), near), 1), min(max(int(last), far), steps.h.size - 1)
    before, after = steps.t[first] - task.t0, task.t1 - steps.t[last]

    def start(e: float) -> float:
        return frozen(theta, z0, steps=steps.with_start(task.t0 + e * before, first))

    def end(e: float) -> float:
        return frozen(theta, z0, steps=steps.with_end(task.t1 + e * after, last))

    found: dict[str, tuple[Callable[[float], float], float, float]] = {
        "t0": (start, outcome.t0 * before, float(abs(before))),
        "t1": (end, outcome.t1 * after, float(abs(after))),
    }
    if inner.any():
        place, h = task.times[inner] - steps.t[holders], steps.h[holders]
        room = np.minimum(np.abs(place), np.abs(h - place))
        shift = np.zeros(task.times.size)
        # An observation on the border of a step has no room: it may cross, by little.
        shift[inner] = np.maximum(room, 1e-3 * np.abs(h))
        shift *= np.random.default_rng(subject.seed).uniform(0.5, 1.5, shift.size)
        predicted = float(outcome.times[task.places] @ shift)
        move = lambda e: frozen(theta, z0, shift=e * shift)  # noqa: E731
        found["t_i"] = (move, predicted, float(np.linalg.norm(shift)))
    return found
