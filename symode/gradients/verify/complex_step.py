"""The check against complex steps: the same steps in complex numbers, no derivative of f used."""

from __future__ import annotations

from symode.errors import SymodeError
from symode.gradients.methods.complex_step import ComplexStep
from symode.gradients.verify.report import Check, digits_of
from symode.gradients.verify.subject import Subject

#: Relative disagreement that rounding explains.
ROUNDING = 1e-10
#: Agreement in multiples of rtol, for methods with steps of their own.
TOLERANCES = 1e3
#: Seconds that the replay, in plain Python, may take, and those of an operation.
BUDGET, OPERATION = 1.0, 4e-6


def check_complex_step(subject: Subject) -> Check:
    """Return the check that the method finds the derivative that complex steps find."""
    task = subject.task
    stages = len(getattr(task.options.tableau, "b", ())) or 8
    steps = subject.steps(task).h.size
    cost = OPERATION * steps * stages * max(task.field.graph.n_operations, 1)
    if cost > BUDGET:
        return Check.skip(
            "complex step", "consistency",
            f"{steps} steps in plain Python would take about {cost:.0f} s",
        )  # fmt: skip
    try:
        judge = subject.outcome(ComplexStep(), task)
    except SymodeError as refusal:
        return Check.skip("complex step", "consistency", str(refusal).split(". ")[0])
    error = subject.error(subject.outcome(subject.method, task), judge)
    if subject.differentiates_steps:
        # Steps of its own, where tangents count in the error norm, agree to the tolerance.
        own = subject.outcome(subject.method, task).value == judge.value
        limit = ROUNDING if own else TOLERANCES * task.options.rtol
    else:
        limit = TOLERANCES * subject.tasks[0].options.rtol
    passed = error <= limit
    summary = f"differs from complex steps along the same steps by {error:.1e}, limit {limit:.0e}"
    return Check("complex step", passed, digits_of(error), "consistency", summary)
