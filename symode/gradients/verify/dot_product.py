"""The dot-product test: the discrete adjoint is the transpose of the frozen-step tangent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from symode.gradients.methods.discrete import DiscreteRunner
from symode.gradients.verify.frozen import FrozenLoss, solve_fully
from symode.gradients.verify.report import Check, digits_of
from symode.gradients.verify.stability import measure
from symode.gradients.verify.subject import Subject, scaled_error, vector_of
from symode.solvers.replay import steps_of

Floats = NDArray[np.float64]

#: Directions compared.
COUNT = 4
#: Relative disagreement that rounding explains.
LIMIT = 1e-12
#: Relative error at the start, rounding of all steps together, that growth is taken to multiply;
#: measured on Lorenz' equations at most a fifth of it, for growths of 10 to 3e12.
ROUNDINGS = 1e3 * float(np.finfo(float).eps)
#: Limit above which nothing is judged.
VAGUE = 1e-3
#: Multiples of rtol that unfinished iterations of implicit stages may move a gradient by; measured
#: at most 4, and 30 where the gradient itself is 10 times as far off.
UNFINISHED = 100.0


def check_dot_product(subject: Subject) -> Check:
    r"""Return the check that :math:`\lambda \cdot (S d) = (S^\top \lambda) \cdot d`.

    Tangent and adjoint run along the same accepted steps, z0 taken as given. Where implicit stages
    are solved by iteration, both run along stages solved to rounding, and the gradient that is
    returned must agree with that to a multiple of the tolerance.
    """
    errors, unfinished = _errors(subject)
    worst, explained = float(np.max(errors)), LIMIT
    limit = UNFINISHED * subject.task.options.rtol
    text = "discrete adjoint against tangents of the same steps"
    if not worst <= LIMIT:
        growth = measure(subject).growth
        explained = max(LIMIT, ROUNDINGS * growth)
        if explained > VAGUE:
            return Check.skip(
                "dot product", "consistency",
                f"{text}: {worst:.1e}; perturbations grow by {growth:.1e}, and rounding with them",
            )  # fmt: skip
    passed = bool(worst <= explained) and unfinished <= limit
    summary = f"{text}: {worst:.1e}, limit {explained:.0e}"
    if explained > LIMIT:
        summary += ", what rounding may grow to"
    if subject.task.options.tableau.iterative:
        summary += f"; moved by unfinished iterations: {unfinished:.1e}, limit {limit:.0e}"
    return Check("dot product", passed, digits_of(worst), "consistency", summary)


def dot_product_errors(subject: Subject) -> Floats:
    """Return |dJ - g·d| / (|g| |d|) for random directions, in scaled variables. Shape (q,)."""
    return _errors(subject)[0]


def _errors(subject: Subject) -> tuple[Floats, float]:
    """Return the errors, and what finishing the iterations changes, relative to the gradient."""
    task = replace(subject.task, from_initial=False)
    asked = DiscreteRunner(task)
    gradient = vector_of(asked(subject.theta, subject.start))
    runner = asked.last
    frozen = FrozenLoss(task, steps_of(runner.forward))
    unfinished = 0.0
    if task.options.tableau.iterative:
        solve_fully(runner)
        returned, gradient = gradient, vector_of(runner(subject.theta, subject.start))
        unfinished = scaled_error(returned, gradient, subject.unit)
    directions = subject.directions(COUNT)
    forward = frozen.tangents(subject.theta, subject.start, directions)
    parts = np.linalg.norm(gradient * subject.unit * (directions != 0.0), axis=1)
    sizes = np.maximum(parts * np.linalg.norm(directions / subject.unit, axis=1), abs(forward))
    gaps = np.abs(directions @ gradient - forward)
    errors = np.where(gaps == 0.0, 0.0, gaps / np.maximum(sizes, 1e-300))
    return np.asarray(np.where(np.isfinite(errors), errors, np.inf)), unfinished
