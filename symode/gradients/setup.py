"""From what a user passes to a task: the loss resolved, the span closed, the solver chosen."""

from __future__ import annotations

from typing import Any

import numpy as np

from symode.equations.equations import Equations
from symode.equations.loss import Loss, LossLike, resolve_loss
from symode.errors import LossError
from symode.gradients.pack import Layout
from symode.gradients.task import Asked, Task
from symode.solvers.options import make_options


def make_task(
    equations: Equations,
    loss: LossLike,
    span: tuple[float, float | None],
    *,
    from_initial: bool,
    backend: str = "llvm",
    asked: Asked | None = None,
    **options: Any,
) -> Task:
    """Return the task of a loss over a span; t1 is the last observation where it is None.

    Raises
    ------
    LossError
        When the loss does not fit the model or the span.
    OptionError
        When a solver option is not valid.
    """
    resolved = resolve_loss(loss, equations)
    t0, t1 = closed_span(resolved, span)
    solver = make_options(equations.state_names, **options, mass=equations.mass is not None)
    if asked is None:
        return Task(equations, resolved, t0, t1, solver, from_initial, backend)
    return Task(equations, resolved, t0, t1, solver, from_initial, backend, asked)


def closed_span(loss: Loss, span: tuple[float, float | None]) -> tuple[float, float]:
    """Return both ends of the span of a resolved loss.

    Raises
    ------
    LossError
        When t1 is missing and the loss does not end by itself, or both ends are one.
    """
    t0, t1 = span
    if t1 is None:
        if not loss.times.size or loss.terminals or loss.runnings:
            raise LossError(
                "t1 is needed: only a loss of observations alone ends by itself, at the last one."
            )
        t1 = float(loss.times.max())
    if not (np.isfinite(t0) and np.isfinite(t1)) or t0 == t1:
        raise LossError(f"The span must have two different finite ends; got ({t0}, {t1}).")
    return float(t0), float(t1)


def make_layout(equations: Equations, loss: Loss, span: tuple[float, float], wrt: Any) -> Layout:
    """Return the layout of what is asked for; "times" are those attached to neither end."""
    given = np.empty(loss.times.size)
    given[loss.places] = loss.times
    free = np.flatnonzero((given != span[0]) & (given != span[1]))
    return Layout(equations, wrt, given.size, [int(i) for i in free])
