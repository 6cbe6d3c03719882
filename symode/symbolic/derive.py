r"""Derived graphs: what each kernel computes, from the graph of the right-hand side.

A `Field` is the graph of f with its sizes; each function here returns the graph of one kernel. The
transposed products carry no minus sign: the adjoint equations put it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Final

from symode.symbolic.adjoint import adjoint_sweep, adjoint_terms
from symode.symbolic.complex_elimination import complex_kernels
from symode.symbolic.elimination import (
    STRAIGHT_LINE,
    Elimination,
    derive_factor,
    derive_solve,
    derive_solve_transposed,
    eliminate,
    match_rows,
)
from symode.symbolic.graph import Builder, Graph
from symode.symbolic.tangent import tangent_sweep


@dataclass(frozen=True)
class Field:
    r"""A vector field :math:`f(z, t, \theta)` as a graph.

    Parameters
    ----------
    graph
        Its outputs are f, one per state.
    n_states, n_parameters
        n and the number of parameters. States without a node (quadratures) count.
    asked
        Places of the parameters that derivatives are taken in, in the order of every derived
        kernel: m of them. All by default.
    mass
        Nonzero entries (row, column, value) of M, row by row; None for the identity.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> Field(decay, n_states=1, n_parameters=1).jacobian.rows
    (0,)
    """

    graph: Graph
    n_states: int
    n_parameters: int
    asked: tuple[int, ...] | None = None
    mass: tuple[tuple[int, int, Fraction], ...] | None = dataclasses.field(default=None, repr=False)

    @property
    def wrt(self) -> tuple[int, ...]:
        """Places of the parameters that derivatives are taken in."""
        return tuple(range(self.n_parameters)) if self.asked is None else self.asked

    @cached_property
    def jacobian(self) -> Jacobian:
        r""":math:`\nabla_{§1} f` on its pattern, with :math:`\nabla_{§2} f` appended."""
        # Kept with the graph, which fields that ask for other derivatives share.
        kept = self.graph.__dict__.setdefault("jacobians", {})
        if self.n_states not in kept:
            kept[self.n_states] = derive_jacobian(self)
        return kept[self.n_states]  # type: ignore[no-any-return]

    @cached_property
    def elimination(self) -> Elimination:
        """Order and fill of the matrices of implicit steps."""
        rows, cols, n = self.jacobian.rows, self.jacobian.cols, self.n_states
        if self.mass is None:
            return eliminate(rows, cols, n)
        held = [i for i, _, _ in self.mass], [j for _, j, _ in self.mass]
        return eliminate([*rows, *held[0]], [*cols, *held[1]], n, self.partner)

    @cached_property
    def partner(self) -> list[int]:
        """The equation eliminated with each state; -1 for a state that no equation determines."""
        rows, cols, n = self.jacobian.rows, self.jacobian.cols, self.n_states
        if self.mass is None:
            return list(range(n))
        held = [i for i, _, _ in self.mass], [j for _, j, _ in self.mass]
        return match_rows([*held[0], *rows], [*held[1], *cols], n)


@dataclass(frozen=True)
class Jacobian:
    r"""Values of :math:`\partial f/\partial z` in row-major order of the pattern, then f_t.

    Parameters
    ----------
    graph
        ``nnz + n`` outputs: the nonzero entries, then :math:`\partial f/\partial t`.
    rows, cols
        Position of each entry.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> Field(decay, 1, 1).jacobian
    Jacobian(graph=Graph(1 operations, 2 outputs), rows=(0,), cols=(0,))
    """

    graph: Graph
    rows: tuple[int, ...]
    cols: tuple[int, ...]


def inputs(b: Builder, kind: str, count: int, start: int = 0) -> list[int]:
    """Return the ids of consecutive inputs of one kind.

    Examples
    --------
    >>> b = Builder()
    >>> inputs(b, "z", 2) == [b.input("z", 0), b.input("z", 1)]
    True
    """
    return [b.input(kind, start + i) for i in range(count)]


def chosen(b: Builder, parameters: int | Sequence[int]) -> list[int]:
    """Return the ids of parameters at these places, or of the first so many.

    Examples
    --------
    >>> b = Builder()
    >>> chosen(b, [3, 1]) == [b.input("p", 3), b.input("p", 1)]
    True
    """
    places = range(parameters) if isinstance(parameters, int) else parameters
    return [b.input("p", j) for j in places]


def sparse_rows(
    b: Builder, outputs: Sequence[int], wrt: Sequence[int]
) -> tuple[list[int], list[int], list[int]]:
    """Add the nonzero entries of a Jacobian; return (rows, columns, ids), row by row.

    Examples
    --------
    >>> b = Builder()
    >>> x, y = inputs(b, "z", 2)
    >>> rows, cols, _ = sparse_rows(b, [b.unary("sin", y), b.mul(x, y)], [x, y])
    >>> rows, cols
    ([0, 1, 1], [1, 0, 1])
    """
    rows: list[int] = []
    cols: list[int] = []
    nodes: list[int] = []
    one = b.const(1)
    place = {x: j for j, x in enumerate(wrt)}
    for i, y in enumerate(outputs):
        found = adjoint_terms(b, [y], [one], place)
        for x in sorted(found, key=place.__getitem__):
            rows.append(i)
            cols.append(place[x])
            nodes.append(found[x])
    return rows, cols, nodes


def derive_jacobian(field: Field) -> Jacobian:
    """Return the state Jacobian on its pattern, and the time derivative.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_jacobian(Field(decay, 1, 1)).cols
    (0,)
    """
    b = Builder(field.graph)
    f = field.graph.outputs
    rows, cols, nodes = sparse_rows(b, f, inputs(b, "z", field.n_states))
    time_part = tangent_sweep(b, f, {b.input("t", 0): b.const(1)})
    return Jacobian(b.freeze(nodes + time_part), tuple(rows), tuple(cols))


def derive_rhs(field: Field) -> Graph:
    """Return f itself.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_rhs(Field(decay, 1, 1)) == decay
    True
    """
    return field.graph


def derive_vjp(field: Field) -> Graph:
    r"""Return :math:`(v^\top \nabla_{§1} f, v^\top \nabla_{§3} f)`: n + m outputs, v packed.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_vjp(Field(decay, 1, 1))
    Graph(4 operations, 2 outputs)
    """
    b = Builder(field.graph)
    wrt = inputs(b, "z", field.n_states) + chosen(b, field.wrt)
    seeds = inputs(b, "v", field.n_states)
    return b.freeze(adjoint_sweep(b, field.graph.outputs, seeds, wrt))


def derive_jvp(field: Field) -> Graph:
    r"""Return :math:`\nabla_{§1} f\,\dot z + \nabla_{§3} f\,\dot\theta`; v is (zdot, thetadot).

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_jvp(Field(decay, 1, 1))
    Graph(4 operations, 1 outputs)
    """
    b = Builder(field.graph)
    wrt = inputs(b, "z", field.n_states) + chosen(b, field.wrt)
    tangents = dict(zip(wrt, inputs(b, "v", len(wrt)), strict=True))
    return b.freeze(tangent_sweep(b, field.graph.outputs, tangents))


def derive_jac(field: Field) -> Graph:
    """Return the entries of the Jacobian on its pattern, then f_t: nnz + n outputs.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_jac(Field(decay, 1, 1))
    Graph(1 operations, 2 outputs)
    """
    return field.jacobian.graph


def derive_second(field: Field) -> Graph:
    r"""Return the gradient in (z, theta) of :math:`\sum G_{ij} J_{ij} + \sum w_i f_{t,i}`.

    v is (G on the pattern, w): every second-order contraction the adjoint of a Rosenbrock step
    needs, in one call.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_second(Field(decay, 1, 1))
    Graph(1 operations, 2 outputs)
    """
    b = Builder(field.jacobian.graph)
    outputs = field.jacobian.graph.outputs
    wrt = inputs(b, "z", field.n_states) + chosen(b, field.wrt)
    return b.freeze(adjoint_sweep(b, outputs, inputs(b, "v", len(outputs)), wrt))


def derive_djac(field: Field) -> Graph:
    """Return the directional derivative of (J, f_t) along v = (zdot, thetadot).

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_djac(Field(decay, 1, 1))
    Graph(1 operations, 2 outputs)
    """
    b = Builder(field.jacobian.graph)
    wrt = inputs(b, "z", field.n_states) + chosen(b, field.wrt)
    tangents = dict(zip(wrt, inputs(b, "v", len(wrt)), strict=True))
    return b.freeze(tangent_sweep(b, field.jacobian.graph.outputs, tangents))


def derive_dfdtheta(field: Field) -> Graph:
    r"""Return :math:`\nabla_{§3} f` as n * m dense outputs, row-major.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_dfdtheta(Field(decay, 1, 1))
    Graph(1 operations, 1 outputs)
    """
    b = Builder(field.graph)
    zero = b.const(0)
    wrt = chosen(b, field.wrt)
    rows, cols, nodes = sparse_rows(b, field.graph.outputs, wrt)
    dense = [zero] * (field.n_states * len(wrt))
    for i, j, node in zip(rows, cols, nodes, strict=True):
        dense[i * len(wrt) + j] = node
    return b.freeze(dense)


def augmented(field: Field) -> Field:
    r"""Return the field of the note's augmented system, q = (z, a§1ᵀ, a§3ᵀ).

    .. math:: \dot q = (f,\; -(\nabla_{§1} f)^\top a_{§1}^\top,\; -(\nabla_{§3} f)^\top a_{§1}^\top)

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> augmented(Field(decay, 1, 1))
    Field(graph=Graph(4 operations, 3 outputs), n_states=3, n_parameters=1, asked=None)
    """
    n, m = field.n_states, len(field.wrt)
    b = Builder(field.graph)
    wrt = inputs(b, "z", n) + chosen(b, field.wrt)
    products = adjoint_sweep(b, field.graph.outputs, inputs(b, "z", n, start=n), wrt)
    graph = b.freeze([*field.graph.outputs, *(b.neg(i) for i in products)])
    return Field(graph, 2 * n + m, field.n_parameters, field.asked)


def derive_scalar(graph: Graph, n_states: int, parameters: int | Sequence[int]) -> Graph:
    r"""Return (l, ∂l/∂z, ∂l/∂theta, ∂l/∂t) of a graph with one output: 2 + n + m outputs.

    ``parameters`` are the places of those that derivatives are taken in, or how many there are.

    Examples
    --------
    >>> b = Builder()
    >>> square = b.freeze([b.powi(b.input("z", 0), 2)])
    >>> derive_scalar(square, n_states=1, parameters=0)
    Graph(2 operations, 3 outputs)
    """
    b = Builder(graph)
    (y,) = graph.outputs
    wrt = [*inputs(b, "z", n_states), *chosen(b, parameters), b.input("t", 0)]
    return b.freeze([y, *adjoint_sweep(b, [y], [b.const(1)], wrt)])


def derive_joint(
    graph: Graph, n_states: int, parameters: int | Sequence[int], n_parts: int
) -> Graph:
    r"""Return (g, ∂g/∂z, ∂g/∂theta, ∂g/∂t, ∂g/∂v) of a joint loss, see `symode.symbolic.lift`.

    Examples
    --------
    >>> b = Builder()
    >>> ratio = b.freeze([b.div(b.input("v", 0), b.input("z", 0))])
    >>> derive_joint(ratio, n_states=1, parameters=0, n_parts=1)
    Graph(4 operations, 4 outputs)
    """
    b = Builder(graph)
    (y,) = graph.outputs
    wrt = [*inputs(b, "z", n_states), *chosen(b, parameters), b.input("t", 0)]
    wrt += inputs(b, "v", n_parts)
    return b.freeze([y, *adjoint_sweep(b, [y], [b.const(1)], wrt)])


def derive_dense(graph: Graph, n_states: int, parameters: int | Sequence[int]) -> Graph:
    r"""Return (y, ∂y/∂z, ∂y/∂theta, ∂y/∂t) of k outputs: k rows of 2 + n + m values.

    ``parameters`` are the places of those that derivatives are taken in, or how many there are.

    Examples
    --------
    >>> b = Builder()
    >>> square = b.freeze([b.powi(b.input("z", 0), 2)])
    >>> derive_dense(square, n_states=1, parameters=0)
    Graph(2 operations, 3 outputs)
    """
    b = Builder(graph)
    zero = b.const(0)
    wrt = [*inputs(b, "z", n_states), *chosen(b, parameters), b.input("t", 0)]
    width = len(wrt) + 1
    values = [zero] * (width * len(graph.outputs))
    values[::width] = graph.outputs
    for i, j, node in zip(*sparse_rows(b, graph.outputs, wrt), strict=True):
        values[i * width + 1 + j] = node
    return b.freeze(values)


def linear_kernels(
    field: Field, *, transposed: bool, pairs: bool = False
) -> dict[str, tuple[str, Graph]]:
    """Return straight-line LU and solves of d I + s J, where short enough to win; else none.

    With ``pairs`` also those of complex d, for the pairs of a collocation method.
    """
    elimination = field.elimination
    if elimination.n_operations > STRAIGHT_LINE:
        return {}
    kernels = {
        "lu_factor": ("product", derive_factor(elimination, field.mass)),
        "lu_solve": ("product", derive_solve(elimination)),
    }
    if transposed:
        kernels["lu_solve_t"] = ("product", derive_solve_transposed(elimination))
    if pairs:
        kernels |= complex_kernels(elimination, transposed=transposed)
    return kernels


def derive_vjp_theta(field: Field) -> Graph:
    r"""Return :math:`v^\top \nabla_{§3} f` alone: m outputs.

    Only what lies between parameters and f is swept: entries of :math:`\nabla_{§3} f` that are
    zero cost nothing.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_vjp_theta(Field(decay, 1, 1))
    Graph(2 operations, 1 outputs)
    """
    b = Builder(field.graph)
    seeds = inputs(b, "v", field.n_states)
    return b.freeze(adjoint_sweep(b, field.graph.outputs, seeds, chosen(b, field.wrt)))


def without_parameters(field: Field) -> Field:
    """Return the field with derivatives taken in no parameter.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> derive_vjp(without_parameters(Field(decay, 1, 1)))
    Graph(2 operations, 1 outputs)
    """
    other = replace(field, asked=())
    if "jacobian" in field.__dict__:
        other.__dict__["jacobian"] = field.jacobian
    return other


#: Kernels of a field by name; "field" kernels read (t, z, p), "product" kernels also v.
FIELD_KERNELS: Final[dict[str, tuple[str, Callable[[Field], Graph]]]] = {
    "rhs": ("field", derive_rhs),
    "jac": ("field", derive_jac),
    # The same for those who never factor it.
    "jac_values": ("field", derive_jac),
    "dfdtheta": ("field", derive_dfdtheta),
    "vjp": ("product", derive_vjp),
    "jvp": ("product", derive_jvp),
    "second": ("product", derive_second),
    "djac": ("product", derive_djac),
    "vjp_z": ("product", lambda field: derive_vjp(without_parameters(field))),
    "vjp_theta": ("product", derive_vjp_theta),
    "second_z": ("product", lambda field: derive_second(without_parameters(field))),
}
