r"""Several Jacobian-vector products in one kernel: f's intermediates and partials are shared.

:math:`\nabla_{§1} f\,S_j` for a block of tangents, and :math:`\nabla_{§3} f` on its pattern, to be
added where the tangents are those of the parameters themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from symode.symbolic.block_adjoint import ADJOINT_BLOCKS
from symode.symbolic.derive import Field, chosen, inputs, sparse_rows
from symode.symbolic.graph import Builder, Graph
from symode.symbolic.tangent import tangent_sweep

#: Tangents a call, the widest first. Eight cost 0.4 of eight single calls on a network of 20.
WIDTHS: Final = (8, 7, 6, 5, 4, 3, 2)
#: Operations of a block from which compiling it (0.1 ms each) is not worth what it saves.
LARGEST: Final = 6000


def derive_block(field: Field, width: int) -> Graph:
    r"""Return :math:`\nabla_{§1} f\,v_j` for ``width`` vectors packed in v, one after the other.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_block(Field(decay, 1, 1), 4)
    Graph(8 operations, 4 outputs)
    """
    b, n = Builder(field.graph), field.n_states
    wrt, found = inputs(b, "z", n), []
    for j in range(width):
        tangents = dict(zip(wrt, inputs(b, "v", n, start=j * n), strict=True))
        found += tangent_sweep(b, field.graph.outputs, tangents)
    return b.freeze(found)


def derive_slopes(field: Field) -> tuple[Graph, list[int], list[int]]:
    r"""Return the nonzero entries of :math:`\nabla_{§3} f`, with their rows and columns.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_slopes(Field(decay, 1, 1))
    (Graph(1 operations, 1 outputs), [0], [0])
    """
    b = Builder(field.graph)
    rows, cols, nodes = sparse_rows(b, field.graph.outputs, chosen(b, field.wrt))
    return b.freeze(nodes), rows, cols


def block_width(field: Field, directions: int) -> int:
    """Return how many tangents a call should take; 0 where single calls serve better.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> [block_width(Field(decay, 1, 1), q) for q in (1, 4, 9, 40)]
    [0, 4, 5, 8]
    """
    # The last block overlaps the one before it: nine tangents are three calls of four.
    fitting = [w for w in WIDTHS if w <= directions and 2 * w * field.graph.n_operations <= LARGEST]
    return min(fitting, key=lambda w: (-(-directions // w)) * (w + 2), default=0)


def _block(width: int) -> tuple[str, Callable[[Field], Graph]]:
    return "product", lambda field: derive_block(field, width)


#: Kernels by name, as `symode.symbolic.derive.FIELD_KERNELS`.
BLOCK_KERNELS: Final[dict[str, tuple[str, Callable[[Field], Graph]]]] = {
    "slopes": ("field", lambda field: derive_slopes(field)[0]),
    **{f"jvp_block{width}": _block(width) for width in WIDTHS},
    **ADJOINT_BLOCKS,
}
