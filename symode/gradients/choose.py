"""The cost model of ``method="auto"``."""

from __future__ import annotations

from typing import NamedTuple

from symode.gradients.methods import (
    CheckpointedAdjoint,
    DiscreteAdjoint,
    ForwardSensitivity,
    GradientMethod,
)
from symode.gradients.task import Task
from symode.solvers import native
from symode.symbolic.block_adjoint import block_of


class Costs(NamedTuple):
    """Costs in solves without a gradient, measured by ``benchmarks/relative_cost.py --calibrate``.

    A discrete adjoint costs ``adjoint``; forward sensitivities cost ``base`` and ``tangent`` for
    each direction.
    """

    adjoint: float
    base: float
    tangent: float


#: From network_20 with 1 to 16 directions, and from brusselator_40 and HIRES with 1, 2 and 4.
EXPLICIT, IMPLICIT = Costs(2.1, 2.1, 1.4), Costs(2.3, 0.6, 2.8)
#: Microseconds of one call besides its steps.
CALL = {"solve": 15.0, "discrete": 16.0, "forward": 60.0}
#: Steps of a solve before it is known, and nanoseconds of an operation and of a component a stage.
STEPS, OPERATION, COMPONENT = 100, 0.3, 1.0
#: Bytes of a store of steps from which on it is bounded by checkpoints: 1 GiB.
MEMORY = 2**30
#: Cost of one product of the adjoint, alone and in a block, and of a tangent: in evaluations of f.
VJP_COST, BLOCK_COST = 3.0, 2.2
TANGENT_COST = 1.7


def choose_rows(task: Task, rows: int) -> tuple[GradientMethod, str]:
    """Return the cheaper way to the gradients of several losses, and the reason.

    One forward pass serves all rows either way: with a tangent for each direction, or with a
    backward pass for each row, for some rows together over explicit steps.

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
    together = not task.options.tableau.implicit and block_of(task.field, rows) > 0
    product = BLOCK_COST if together else VJP_COST
    adjoint, forward = 1 + product * rows, 1 + TANGENT_COST * directions
    reason = (
        f"cost in evaluations of f per stage: discrete {adjoint:.1f} for {rows} losses, "
        f"forward {forward:.1f} for {directions} directions"
    )
    return (ForwardSensitivity() if forward < adjoint else DiscreteAdjoint()), reason


def choose_method(task: Task) -> tuple[GradientMethod, str]:
    r"""Return the cheapest method that differentiates the computed steps, and the reason.

    DiscreteAdjoint costs a fixed multiple of a solve whatever the loss (its observations are points
    of the same steps) and however many directions are asked for; ForwardSensitivity costs one more
    multiple for each direction. Both differentiate the steps they take, so accuracy does not
    decide. Where ``max_steps`` steps would not fit in `MEMORY`, CheckpointedAdjoint takes the
    discrete adjoint's place: it costs the same until the memory is full, and a forward pass more
    from then on.

    Returns
    -------
    method, reason
        The reason holds the predicted costs, in solves, of the choice and of the runner-up.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> from symode.gradients.setup import make_task
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k])
    >>> task = make_task(model.equations, symode.Loss(terminal=x), (0, 1), from_initial=False)
    >>> choose_method(task)[0]
    DiscreteAdjoint()
    """
    if task.events is not None:
        return DiscreteAdjoint(), "its steps and jumps are differentiated: the model has events"
    directions, (adjoint, forward) = task.n_directions, predicted_costs(task)
    store = store_bytes(task) * task.options.max_steps
    # Models with a mass matrix: see `symode.gradients.methods.base` for what serves them.
    bounded = store > MEMORY and task.mass is None
    chosen: GradientMethod = CheckpointedAdjoint(memory=MEMORY) if bounded else DiscreteAdjoint()
    first, second = (chosen.name, adjoint), ("forward", forward)
    if forward < adjoint:
        chosen, first, second = ForwardSensitivity(), second, first
    reason = (
        f"predicted to cost {first[1]:.1f} solves; runner-up {second[0]}, {second[1]:.1f}, "
        f"for {directions} directions"
    )
    if isinstance(chosen, CheckpointedAdjoint):
        reason += (
            f"; checkpoints, since max_steps={task.options.max_steps} steps would take "
            f"{store / 2**30:.1f} GiB"
        )
    return chosen, reason


def store_bytes(task: Task) -> int:
    """Return the bytes that DiscreteAdjoint keeps of each step."""
    method = native.native_method(task.options.tableau)
    return 8 * ((method.n_dense + 1) * task.n + 2)


def predicted_costs(task: Task) -> tuple[float, float]:
    """Return the costs of a discrete adjoint and of forward sensitivities, in solves.

    Calls of compiled code have a price of their own, which decides for small models.
    """
    costs = IMPLICIT if task.options.tableau.implicit else EXPLICIT
    method = native.native_method(task.options.tableau)
    stage = OPERATION * len(task.field.graph.ops) + COMPONENT * task.n
    work = 1e-3 * STEPS * method.n_stages * stage
    solve = CALL["solve"] + work
    adjoint = CALL["discrete"] + costs.adjoint * work
    forward = CALL["forward"] + (costs.base + costs.tangent * task.n_directions) * work
    return adjoint / solve, forward / solve
