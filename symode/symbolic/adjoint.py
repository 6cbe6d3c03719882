r"""The adjoint sweep: :math:`\lambda^\top \partial y/\partial x` for all x in one backward pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from symode.symbolic.graph import LEAVES, Builder, postorder
from symode.symbolic.rules import scaled_partial


def adjoint_sweep(
    b: Builder, outputs: Sequence[int], seeds: Sequence[int], wrt: Sequence[int]
) -> list[int]:
    r"""Add the nodes of a vector-Jacobian product; return one id per entry of ``wrt``.

    .. math:: \bar x_j = \sum_i s_i \, \partial y_i / \partial x_j

    The cost in operations is bounded per node of the outputs' cone, whatever the number of
    inputs: `symode.symbolic.rules.OPERATIONS` and one addition per argument (Griewank & Walther
    2008, *Evaluating Derivatives*, section 4.6). A model of sums, products and quotients costs
    at most 5 times f, itself included.

    Parameters
    ----------
    outputs, seeds
        Ids of the y and of their weights s, equally many.
    wrt
        Ids of the input nodes x.

    Examples
    --------
    >>> b = Builder()
    >>> x, y, s = b.input("z", 0), b.input("z", 1), b.input("v", 0)
    >>> adjoint_sweep(b, [b.mul(x, y)], [s], [x, y]) == [b.mul(s, y), b.mul(s, x)]
    True
    """
    zero = b.const(0)
    found = adjoint_terms(b, outputs, seeds, frozenset(wrt))
    return [found.get(x, zero) for x in wrt]


def adjoint_terms(
    b: Builder, outputs: Sequence[int], seeds: Sequence[int], wrt: Collection[int]
) -> dict[int, int]:
    """Add the same nodes; return the ids of those products that are not zero, by input.

    The work is that of the outputs' cone, however many inputs there are: a row of a large sparse
    Jacobian costs what the row holds.
    """
    order = postorder(b.args, outputs)
    active: set[int] = set()
    for i in order:
        if i in wrt or any(x in active for x in b.args[i]):
            active.add(i)
    collected: dict[int, list[int]] = {}
    for y, s in zip(outputs, seeds, strict=True):
        if y in active and b.value(s) != 0:
            collected.setdefault(y, []).append(s)
    # Postorder lists arguments before users, so its reverse meets each node after all its users.
    for i in reversed(order):
        terms = collected.get(i)
        if terms is None or b.ops[i] in LEAVES:
            continue
        adjoint = b.total(terms)
        for k, x in enumerate(b.args[i]):
            if x in active:
                term = scaled_partial(b, i, k, adjoint)
                if b.value(term) != 0:
                    collected.setdefault(x, []).append(term)
    totals = {i: b.total(terms) for i, terms in collected.items() if i in wrt}
    return {i: total for i, total in totals.items() if b.value(total) != 0}
