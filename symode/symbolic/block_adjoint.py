r"""Several vector-Jacobian products in one kernel: f's intermediates and inverses are shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from symode.symbolic.adjoint import adjoint_sweep
from symode.symbolic.derive import Field, chosen, inputs
from symode.symbolic.graph import Builder, Graph

#: Most vectors a call.
WIDEST: Final = 8
#: Vectors from which a block costs less than single products.
FEWEST: Final = 3
#: Operations of a block from which compiling it (0.1 ms each) is not worth what it saves.
LARGEST: Final = 6000


def derive_vjp_block(field: Field, width: int) -> Graph:
    r"""Return :math:`v_j^\top \nabla_{§1} f` for all ``width`` vectors, then :math:`\nabla_{§3} f`.

    The vectors are packed in v, one after the other; so are the products.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_vjp_block(Field(decay, 1, 1), 4)
    Graph(16 operations, 8 outputs)
    """
    b, n = Builder(field.graph), field.n_states
    wrt = inputs(b, "z", n) + chosen(b, field.wrt)
    rows = [
        adjoint_sweep(b, field.graph.outputs, inputs(b, "v", n, start=j * n), wrt)
        for j in range(width)
    ]
    return b.freeze([i for row in rows for i in row[:n]] + [i for row in rows for i in row[n:]])


def block_of(field: Field, rows: int) -> int:
    """Return how many vectors a call should take; 0 where single calls serve better.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> [block_of(Field(decay, 1, 1), r) for r in (1, 3, 8, 9, 20)]
    [0, 3, 8, 5, 7]
    """
    if rows < FEWEST:
        return 0
    widest = min(WIDEST, LARGEST // (3 * max(field.graph.n_operations, 1)))
    if widest < FEWEST:
        return 0
    # As many calls as the widest block needs, each as full as the others.
    return -(-rows // -(-rows // widest))


def _block(width: int) -> tuple[str, Callable[[Field], Graph]]:
    return "product", lambda field: derive_vjp_block(field, width)


#: Kernels by name, as `symode.symbolic.derive.FIELD_KERNELS`.
ADJOINT_BLOCKS: Final[dict[str, tuple[str, Callable[[Field], Graph]]]] = {
    f"vjp_block{width}": _block(width) for width in range(2, WIDEST + 1)
}
