"""What is likely behind a failed verification: one sentence for each finding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from symode.equations.checks import non_smooth_constructs
from symode.errors import SymodeError
from symode.gradients.verify.claims import Claim, explain, true_gradient, whole
from symode.gradients.verify.report import Check
from symode.gradients.verify.stability import SENSITIVE, Stability
from symode.gradients.verify.subject import Subject


def likely_causes(subject: Subject, tests: Sequence[Check]) -> tuple[str, ...]:
    """Return what is likely behind the checks that failed; empty where all passed."""
    failed = {check.name for check in tests if not check.passed}
    found: list[str] = []
    if not failed:
        return ()
    for check in tests:
        if check.name == "claimed" and not check.passed:
            said = [line for line in check.details if line.startswith("likely: ")]
            found += [f"in the claimed gradient, {s.removeprefix('likely: ')}" for s in said] or [
                "the claimed gradient is wrong in a way that no single dropped or flipped term "
                "explains: compare the entries listed"
            ]
    if "proof" in failed:
        found.append(
            "a derived product is not that of Theorem 1 for this model: an error in symode. "
            "Please report the model"
        )
    measured = subject.measured.get("stability")
    growth = measured.growth if isinstance(measured, Stability) else 1.0
    sensitive = not growth < SENSITIVE
    if sensitive and failed & {"tolerances", "reference", "methods", "stability", "taylor"}:
        found.append(
            f"chaos or instability: perturbations grow by {growth:.1e} along this "
            "trajectory, so its gradient hangs on the last digits of the solve"
        )
    elif failed & {"tolerances", "reference"} and not failed & {"taylor", "dot product"}:
        rtol = subject.task.options.rtol
        found.append(
            f"the tolerance is too loose: rtol={rtol:g} leaves too few digits; try "
            f"rtol={rtol / 100:.0e}"
        )
    kinks = non_smooth_constructs(subject.task.equations)
    if kinks and failed & {"taylor", "ends", "tolerances"}:
        found.append(
            f"a non-smooth point: {', '.join(kinks[:3])} is met on this trajectory, where J has no "
            "derivative or one that misses the switch's own movement"
        )
    if failed & {"taylor", "methods", "reference"} and not sensitive and not kinks:
        found += _term(subject)
    if "gradient" in failed:
        found.append("the method refused: see its message above, and the check of stability")
    return tuple(found)


def _term(subject: Subject) -> list[str]:
    """Return which term of the method's own result is off, where that explains it."""
    try:
        own = whole(subject.outcome(subject.method, subject.task))
        true = true_gradient(subject)
        claim = Claim(tuple(range(own.size)), own)
        limit = max(1e-5, 1e3 * subject.task.options.rtol)
        if np.allclose(own, true, rtol=limit, atol=limit * float(np.abs(true).max())):
            return []
        return [
            f"a wrong term in {subject.method!r}; {line}" for line in explain(subject, claim, true)
        ]
    except SymodeError:
        return []
