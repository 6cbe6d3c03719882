"""Where a right-hand side changes its branch: the values that say so."""

from __future__ import annotations

from dataclasses import dataclass

from symode.symbolic.graph import Builder, Graph, postorder


@dataclass(frozen=True)
class Switches:
    """Values along a trajectory that tell the branch.

    Parameters
    ----------
    graph
        First the values whose sign counts, then those whose every change counts.
    n_signs
        Number of the first.
    """

    graph: Graph
    n_signs: int


def find_switches(graph: Graph) -> Switches | None:
    """Return the switches of the outputs; None where they are smooth.

    Of ``abs(x)`` it is x, of ``max``, ``min`` and a condition the difference of both sides, of
    ``floor`` its value. Conditions in time alone switch at times that nothing moves: they do not
    count. Nor do equalities, which hold for an instant.

    Examples
    --------
    >>> b = Builder()
    >>> x, t = b.input("z", 0), b.input("t", 0)
    >>> find_switches(b.freeze([b.mul(b.unary("abs", x), b.unary("abs", t))]))
    Switches(graph=Graph(0 operations, 1 outputs), n_signs=1)
    >>> find_switches(b.freeze([b.mul(x, x)])) is None
    True
    """
    b = Builder(graph)
    moving: set[int] = set()
    signs: list[int] = []
    steps: list[int] = []
    for i in postorder(b.args, graph.outputs):
        op, args = b.ops[i], b.args[i]
        if op == "input" and b.payloads[i][0] in ("z", "p"):
            moving.add(i)
        if not any(a in moving for a in args):
            continue
        moving.add(i)
        if op == "abs":
            signs.append(args[0])
        elif op in ("max", "min", "lt", "le"):
            signs.append(b.sub(*args))
        elif op == "floor":
            steps.append(i)
    if not signs and not steps:
        return None
    return Switches(b.freeze([*signs, *steps]), len(signs))
