r"""The tangent sweep: one forward pass gives :math:`(\partial y/\partial x)\,\dot x`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symode.symbolic.graph import Builder, postorder
from symode.symbolic.rules import OVERFLOWING, scaled_partial


def tangent_sweep(b: Builder, outputs: Sequence[int], tangents: Mapping[int, int]) -> list[int]:
    r"""Add the nodes of a Jacobian-vector product; return one id per output.

    Parameters
    ----------
    outputs
        Ids of the y.
    tangents
        For each input node x that moves, the id of its :math:`\dot x`.

    Examples
    --------
    >>> b = Builder()
    >>> x, dx = b.input("z", 0), b.input("v", 0)
    >>> tangent_sweep(b, [b.unary("sin", x)], {x: dx}) == [b.mul(dx, b.unary("cos", x))]
    True
    """
    zero = b.const(0)
    moved: dict[int, int] = dict(tangents)
    for i in postorder(b.args, outputs):
        if i in moved:
            continue
        parts = [(k, moved[x]) for k, x in enumerate(b.args[i]) if x in moved]
        if not parts:
            continue
        tangent = _tangent(b, i, parts)
        if b.value(tangent) != 0:
            moved[i] = tangent
    return [moved.get(y, zero) for y in outputs]


def _tangent(b: Builder, i: int, parts: list[tuple[int, int]]) -> int:
    op = b.ops[i]
    if op == "div" and len(parts) == 2:
        # One division instead of two.
        numerator = b.sub(parts[0][1], b.mul(i, parts[1][1]))
        return b.div(numerator, b.args[i][1])
    if op == "select":
        # The branch not taken may have no finite tangent: choose, do not mask and add.
        moving = dict(parts)
        zero = b.const(0)
        return b.select(b.args[i][0], moving.get(1, zero), moving.get(2, zero))
    total = b.total([scaled_partial(b, i, k, s) for k, s in parts])
    # 1/(3 + exp(u)) saturates where exp(u) and its tangent overflow: 0 times that must be 0.
    return b.guard(total) if op in OVERFLOWING else total
