"""The system with a tangent of each parameter and initial value: several a call where it pays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from symode.codegen.compiled import NativeModel
from symode.gradients.task import Floats, Task
from symode.kernels import types as kt
from symode.symbolic.block_tangent import block_width, derive_slopes


class _Plan(NamedTuple):
    """How many tangents a call takes, and where the entries of df/dtheta go."""

    width: int
    rows: tuple[int, ...] = ()
    tangents: tuple[int, ...] = ()


def _plan(task: Task, directions: Floats) -> _Plan:
    """Return the plan for unit vectors in theta, and zeros; width 0 where single calls serve."""
    width = block_width(task.field, directions.shape[0])
    if width == 0 or not task.m:
        return _Plan(width)
    tangent_of = {int(np.argmax(row)): j for j, row in enumerate(directions) if row.any()}
    _, rows, cols = derive_slopes(task.field)
    if not set(cols) <= tangent_of.keys():
        return _Plan(0)
    return _Plan(width, tuple(rows), tuple(tangent_of[j] for j in cols))


def tangent_kernels(task: Task, directions: Floats) -> list[str]:
    """Return the names of what `bind_tangents` needs."""
    plan = _plan(task, directions)
    blocks = [f"jvp_block{plan.width}"] if plan.width else []
    return ["jvp", *blocks, *(["slopes"] if plan.rows else [])]


def bind_tangents(
    task: Task, compiled: NativeModel, needs_jacobian: bool, directions: Floats
) -> kt.Tangents:
    """Return the native system with tangents.

    Parameters
    ----------
    directions
        Unit vectors in theta, each at most once, and zeros (initial values). Shape ``(q, m)``.
    """
    field, plan = task.bind(compiled, needs_jacobian), _plan(task, directions)
    if plan.width == 0:
        return kt.Tangents(*field, directions)
    field.address[kt.BLOCK] = compiled.address[f"jvp_block{plan.width}"]
    field.address[kt.SLOPES] = compiled.address.get("slopes", 0)
    pattern = (np.array(part, dtype=np.int64) for part in (plan.rows, plan.tangents))
    return kt.Tangents(*field, directions, plan.width, *pattern)
