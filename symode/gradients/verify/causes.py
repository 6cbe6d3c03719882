"""What is likely behind a failed verification: one sentence for each finding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from symode.equations.checks import kinks_in, non_smooth_constructs
from symode.equations.loss import Loss
from symode.errors import SymodeError
from symode.gradients.verify.claims import Claim, explain, true_gradient, whole
from symode.gradients.verify.report import Check
from symode.gradients.verify.stability import SENSITIVE, Stability
from symode.gradients.verify.subject import Subject

#: Growth of perturbations from which on agreement to rounding is not to be had.
ROUNDING = 1e3


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
    sharp = growth >= ROUNDING
    if sensitive and failed & {"tolerances", "reference", "methods", "stability", "taylor"}:
        found.append(
            f"chaos or instability: perturbations grow by {growth:.1e} along this "
            "trajectory, so its gradient hangs on the last digits of the solve"
        )
    elif sharp and failed & {"dot product", "complex step"}:
        found.append(
            f"rounding: perturbations grow by {growth:.1e} along this trajectory, and errors of "
            "rounding with them; products of the same steps agree to what is left"
        )
    kinks = (*non_smooth_constructs(subject.task.equations), *kinks_of_loss(subject.task.loss))
    at_kink = bool(kinks and failed & {"taylor", "ends", "tolerances", "complex step"})
    if at_kink:
        found.append(
            f"a non-smooth point: {', '.join(kinks[:3])} is met on this trajectory, where J has no "
            "derivative or one that misses the switch's own movement"
        )
    loose = failed & {"tolerances", "reference"} and not failed & {"taylor", "dot product"}
    # Beside a kink the two tolerances may be on different sides of it, however tight they are.
    if loose and not sensitive and not (at_kink and failed & {"ends", "complex step"}):
        rtol = subject.task.options.rtol
        found.append(
            f"the tolerance is too loose: rtol={rtol:g} leaves too few digits; try "
            f"rtol={rtol / 100:.0e}"
        )
    if failed & {"taylor", "methods", "reference"} and not sensitive and not kinks:
        found += _term(subject)
    if "gradient" in failed:
        found.append("the method refused: see its message above, and the check of stability")
    return tuple(found)


def kinks_of_loss(loss: Loss) -> tuple[str, ...]:
    """Return the constructs of a loss with a kink or a jump, each with where it stands."""
    places = [("the terminal loss", e) for _, e in loss.terminals]
    places += [("the running cost", e) for _, e in loss.runnings]
    places += [("an observation", g.expression) for g in loss.groups]
    if loss.outer is not None:
        places.append(("the function of the parts", loss.outer))
    return kinks_in(places)


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
