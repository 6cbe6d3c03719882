"""The cost model of ``method="auto"``."""

from __future__ import annotations

from symode.gradients.methods import DiscreteAdjoint, ForwardSensitivity, GradientMethod
from symode.gradients.task import Task

#: Cost of one product of the adjoint, and of one tangent, in evaluations of f.
VJP_COST = 3.0
TANGENT_COST = 1.7


def choose_rows(task: Task, rows: int) -> tuple[GradientMethod, str]:
    """Return the cheaper way to the gradients of several losses, and the reason.

    One forward pass serves all rows either way: with a tangent for each direction, or with a
    backward pass for each row.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> from symode.gradients.setup import make_task
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k])
    >>> loss = symode.Loss(terminal=x)
    >>> choose_rows(make_task(model.equations, loss, (0, 1), from_initial=False), rows=9)[0]
    ForwardSensitivity()
    """
    directions = task.n_directions
    adjoint, forward = 1 + VJP_COST * rows, 1 + TANGENT_COST * directions
    reason = (
        f"cost in evaluations of f per stage: discrete {adjoint:.1f} for {rows} losses, "
        f"forward {forward:.1f} for {directions} directions"
    )
    return (ForwardSensitivity() if forward < adjoint else DiscreteAdjoint()), reason


def choose_method(task: Task) -> tuple[GradientMethod, str]:
    r"""Return the cheaper of DiscreteAdjoint and ForwardSensitivity, and the reason.

    In units of one evaluation of f per stage, the discrete adjoint costs 1 + 3, forward
    sensitivities 1 + 1.7 for each direction asked for: the adjoint wins unless there are fewer
    than two.
    Both differentiate the same steps, so accuracy does not decide.
    """
    directions = task.n_directions
    adjoint, forward = 1 + VJP_COST, 1 + TANGENT_COST * directions
    costs = f"cost in evaluations of f per stage: discrete {adjoint:.1f}, forward {forward:.1f}"
    if forward < adjoint:
        return ForwardSensitivity(), f"{costs}, for {directions} directions"
    return DiscreteAdjoint(), f"{costs}, for {directions} directions"
