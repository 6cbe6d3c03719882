"""Jacobian: values and gradients of several losses, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.equations.loss import LossLike
from symode.equations.values import Named, named
from symode.equations.vector_loss import VectorLoss
from symode.errors import LossError, OptionError, UnknownNameError
from symode.gradients.methods import GradientMethod
from symode.gradients.pack import Layout
from symode.gradients.rows import RawJacobian, prepare_rows
from symode.gradients.rows_task import RowsTask
from symode.gradients.setup import closed_span
from symode.solvers.options import make_options

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Jacobian:
    r"""Values of several losses and their derivatives, one row for each.

    What was not asked for (``wrt=``) is left out: columns, or, for times, NaN.

    Parameters
    ----------
    values
        :math:`J_i`, by name or position. Shape ``(r,)``.
    theta
        :math:`dJ_i/d\theta_j`; a name gives a column. Shape ``(r, m)``.
    z0
        Shape ``(r, n)``.
    t0, t1
        Shape ``(r,)``.
    stats
        Method, why it was chosen, and what the passes cost.
    """

    values: Named
    theta: Named
    z0: Named
    t0: Named
    t1: Named
    stats: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rows."""
        return self.values.names

    def __getitem__(self, name: Any) -> dict[str, Any]:
        """Return one row, by name or position, as a mapping of what was asked for."""
        if isinstance(name, str) and name not in self.names:
            raise UnknownNameError(f"{name!r} is none of the losses {', '.join(self.names)}.")
        i = self.names.index(name) if isinstance(name, str) else int(name)
        row: dict[str, Any] = {"value": float(np.asarray(self.values)[i])}
        for kind in ("theta", "z0"):
            matrix: Named = getattr(self, kind)
            if matrix.names:
                row[kind] = named(np.asarray(matrix)[i], matrix.names)
        for kind in ("t0", "t1"):
            value = float(np.asarray(getattr(self, kind))[i])
            if not np.isnan(value):
                row[kind] = value
        return row

    def __repr__(self) -> str:
        """Return the sizes."""
        columns = (*self.theta.names, *(f"{s}(t0)" for s in self.z0.names))
        return (
            f"Jacobian({len(self.names)} rows: {', '.join(self.names[:4])}"
            f"{', ...' if len(self.names) > 4 else ''}; columns: {', '.join(columns)}; "
            f"method={self.stats.get('method')})"
        )


def as_vector(losses: Any) -> VectorLoss:
    """Return losses as a VectorLoss.

    Raises
    ------
    LossError
        For what is none, saying how to make one of it.
    """
    if isinstance(losses, VectorLoss):
        return losses
    if hasattr(losses, "resolve") or not isinstance(losses, Mapping | Sequence):
        raise LossError(
            "Several losses are expected: a VectorLoss, a mapping or a sequence. For the residuals "
            "of least squares pass VectorLoss.residuals(loss), for the observations of a loss one "
            f"by one VectorLoss.each(loss); got {type(losses).__name__}."
        )
    return VectorLoss(losses)


def make_rows_task(
    equations: Equations,
    losses: Any,
    span: tuple[float, float | None],
    layout: Layout,
    *,
    from_initial: bool,
    backend: str = "llvm",
    **options: Any,
) -> RowsTask:
    """Return the task of several losses."""
    rows = as_vector(losses).resolve(equations)
    t0, t1 = closed_span(rows.loss, span)
    solver = make_options(equations.state_names, **options, mass=equations.mass is not None)
    return RowsTask(
        equations, rows.loss, t0, t1, solver, from_initial, backend, layout.asked, rows=rows
    )


def jacobian(
    equations: Equations,
    losses: VectorLoss | Mapping[Any, LossLike] | Sequence[LossLike],
    span: tuple[float, float | None],
    theta: Floats,
    z0: Floats | None,
    *,
    wrt: Any,
    method: str | GradientMethod,
    **options: Any,
) -> Jacobian:
    """Return values and gradients of several losses, see `Model.jacobian`."""
    layout = Layout(equations, wrt)
    if "times" in layout.wrt:
        raise OptionError(
            "A Jacobian has no columns for the times of observations: leave 'times' out of wrt."
        )
    task = make_rows_task(equations, losses, span, layout, from_initial=z0 is None, **options)
    compute, reason = prepare_rows(task, method)
    return as_jacobian(layout, task.rows.losses, compute(theta, z0), {"reason": reason})


def as_jacobian(
    layout: Layout, names: Sequence[str], raw: RawJacobian, extra: Mapping[str, Any]
) -> Jacobian:
    """Return what was asked for of a raw Jacobian, with names."""
    kinds = {part.kind for part in layout.parts}
    nothing = np.full(raw.values.size, np.nan)
    return Jacobian(
        named(raw.values, names),
        layout.named("theta", raw.theta),
        layout.named("z0", raw.z0[:, list(layout.places("z0"))]),
        named(raw.t0 if "t0" in kinds else nothing, names),
        named(raw.t1 if "t1" in kinds else nothing, names),
        {**raw.stats, **extra},
    )
