"""The dot-product test: the discrete adjoint is the transpose of the frozen-step tangent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from symode.gradients.methods.discrete import DiscreteRunner
from symode.gradients.verify.frozen import FrozenLoss
from symode.gradients.verify.report import Check, digits_of
from symode.gradients.verify.subject import Subject, vector_of
from symode.solvers.replay import steps_of

#: Directions compared.
COUNT = 4
#: Relative disagreement that rounding explains.
LIMIT = 1e-12


def check_dot_product(subject: Subject) -> Check:
    r"""Return the check that :math:`\lambda \cdot (S d) = (S^\top \lambda) \cdot d`.

    Tangent and adjoint run along the same accepted steps, z0 taken as given.
    """
    errors = dot_product_errors(subject)
    worst = float(np.max(errors))
    passed = bool(worst <= LIMIT)
    summary = f"discrete adjoint against tangents of the same steps: {worst:.1e}, limit {LIMIT:.0e}"
    return Check("dot product", passed, digits_of(worst), "consistency", summary)


def dot_product_errors(subject: Subject) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return |dJ - g·d| / (|g| |d|) for random directions, in scaled variables. Shape (q,)."""
    task = replace(subject.task, from_initial=False)
    runner = DiscreteRunner(task)
    gradient = vector_of(runner(subject.theta, subject.start))
    frozen = FrozenLoss(task, steps_of(runner.forward))
    directions = subject.directions(COUNT)
    forward = frozen.tangents(subject.theta, subject.start, directions)
    parts = np.linalg.norm(gradient * subject.unit * (directions != 0.0), axis=1)
    sizes = np.maximum(parts * np.linalg.norm(directions / subject.unit, axis=1), abs(forward))
    gaps = np.abs(directions @ gradient - forward)
    errors = np.where(gaps == 0.0, 0.0, gaps / np.maximum(sizes, 1e-300))
    return np.asarray(np.where(np.isfinite(errors), errors, np.inf))
