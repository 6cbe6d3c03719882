"""Method against method, and tolerance against tolerance."""

from __future__ import annotations

from symode.errors import SymodeError
from symode.gradients.methods import METHODS, GradientMethod
from symode.gradients.task import Task
from symode.gradients.verify.report import Check, digits_of
from symode.gradients.verify.subject import NEARBY, Subject

#: Multiples of the two methods' own errors by which they may differ.
SAFETY = 30.0
#: ... and of rtol, where both hardly change with the tolerance.
TOLERANCES = 1e3
#: A gradient that changes by more than this with the tolerance is not known.
UNKNOWN = 1e-2


def check_methods(subject: Subject) -> Check:
    """Return the check that all methods that run find the same gradient.

    They are compared at the tighter of two tolerances; the change from the looser one says how far
    each may be off. Those that refuse are listed with their reason.
    """
    tight = subject.tasks[1]
    reference = subject.outcome(subject.method, tight)
    own = _change(subject, subject.method)
    details, worst, passed, count = [], 0.0, True, 0
    for method in METHODS:
        if method == subject.method:
            continue
        try:
            found = subject.outcome(method, tight)
            allowed = SAFETY * (own + _change(subject, method)) + TOLERANCES * tight.options.rtol
        except SymodeError as error:
            reason = str(error).split(". ")[0]
            details.append(f"{type(method).__name__} refused: {type(error).__name__}: {reason}")
            continue
        count += 1
        gap = subject.error(found, reference)
        worst = max(worst, gap)
        agrees = gap <= allowed
        passed &= agrees
        verdict = "" if agrees else f"; at most {allowed:.1e} is explained by the tolerance"
        details.append(f"{type(method).__name__}: {digits_of(gap):.1f} digits{verdict}")
    if not count:
        summary = "no other method runs here: nothing to compare"
        return Check("methods", True, 0.0, "consistency", summary, tuple(details))
    summary = f"{count} other methods at rtol {tight.options.rtol:.0e}"
    return Check("methods", passed, digits_of(worst), "consistency", summary, tuple(details))


def check_tolerances(subject: Subject) -> Check:
    """Return the check that the gradient does not hang on the tolerance.

    Two tolerances 100 times apart take different meshes, so their difference measures the error of
    the looser: this is the evidence of accuracy.
    """
    loose, tight = subject.tasks
    steps = [_steps(subject, task) for task in (loose, tight)]
    change = _change(subject, subject.method)
    passed = change <= UNKNOWN
    text = f"rtol {loose.options.rtol:.0e} and {tight.options.rtol:.0e}"
    if all(steps):
        text += f" ({steps[0]} and {steps[1]} steps)"
    if not passed:
        text += ": the gradient hangs on the tolerance (too loose, or a chaotic problem)"
    elif subject.vanishes:
        text += (
            f": the gradient vanishes here, as at an optimum; errors are relative to its size at a "
            f"relative distance of {NEARBY:.0e}"
        )
    return Check("tolerances", passed, digits_of(change), "accuracy", text)


def _change(subject: Subject, method: GradientMethod) -> float:
    loose, tight = (subject.outcome(method, task) for task in subject.tasks)
    return subject.error(loose, tight)


def _steps(subject: Subject, task: Task) -> int | None:
    forward = subject.outcome(subject.method, task).stats.get("forward")
    steps: int | None = getattr(forward, "steps", None)
    return steps
