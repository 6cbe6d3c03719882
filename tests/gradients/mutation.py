"""Mutants of graphs, one term dropped or flipped in each: every wrong gradient must be caught."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from symode.codegen.reference import evaluate
from symode.symbolic.graph import Builder, Graph


def mutants(
    graph: Graph, first: int = 0, inner: bool = True, stop: int | None = None
) -> Iterator[tuple[str, Graph]]:
    """Yield (what was done, graph), without mutants that compute the same.

    Parameters
    ----------
    first
        Outputs before this one are no derivatives: a change in them alone is no mutant.
    inner
        Whether terms of sums inside the graph are mutated too, or outputs alone.
    stop
        Outputs from this one on are no derivatives either; None: all are.
    """
    for i in range(first, len(graph.outputs) if stop is None else stop):
        for what in ("drop", "flip"):
            changed = _copy(graph, output=(i, what))
            if _differs(graph, changed, first, stop):
                yield f"{what} output {i}", changed
    if not inner:
        return
    for node, op in enumerate(graph.ops):
        if op in ("add", "sub"):
            for what in ("drop left", "drop right", "flip right"):
                changed = _copy(graph, node=(node, what))
                if _differs(graph, changed, first, stop):
                    yield f"{what} term of {op} {node}", changed


def _copy(
    graph: Graph,
    node: tuple[int, str] | None = None,
    output: tuple[int, str] | None = None,
) -> Graph:
    b = Builder()
    new: list[int] = []
    for i, (op, args, payload) in enumerate(
        zip(graph.ops, graph.args, graph.payloads, strict=True)
    ):
        mapped = tuple(new[a] for a in args)
        if node is None or node[0] != i:
            new.append(b.node(op, mapped, payload))
        elif node[1] == "drop right":
            new.append(mapped[0])
        elif node[1] == "drop left":
            new.append(mapped[1] if op == "add" else b.neg(mapped[1]))
        else:
            new.append(b.node("sub" if op == "add" else "add", mapped))
    outputs = [new[i] for i in graph.outputs]
    if output is not None:
        i, what = output
        outputs[i] = b.const(0) if what == "drop" else b.neg(outputs[i])
    return b.freeze(outputs)


def _differs(a: Graph, b: Graph, first: int, stop: int | None) -> bool:
    rng = np.random.default_rng(0)
    t, z, p, v = rng.uniform(0.3, 1.7, 4 * 64).reshape(4, 64)
    before, after = (evaluate(g, t[0], z, p, v)[first:stop] for g in (a, b))
    return not np.allclose(before, after, rtol=1e-9, atol=0.0)
