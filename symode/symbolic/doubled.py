r"""The doubled system: a trajectory with its tangent along one direction, at the level of graphs.

The directional derivative :math:`J'(\theta; v)` is a functional of (z, s),

.. math:: \dot z = f, \qquad \dot s = \nabla_{§1} f\,s + \nabla_{§3} f\,v, \qquad
          J' = \partial_z\Phi\,s + \partial_\theta\Phi\,v + \dots

whose gradient in theta and z0 by any adjoint method is the product of the Hessian with v. The
doubled parameters are theta, then v: one entry for each parameter asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from symode.symbolic.adjoint import adjoint_sweep
from symode.symbolic.derive import Field, chosen, derive_scalar, inputs
from symode.symbolic.graph import Builder, Graph
from symode.symbolic.tangent import tangent_sweep


def direction(b: Builder, n: int, n_parameters: int, asked: Sequence[int]) -> dict[int, int]:
    """Return for each input that moves the one that holds its tangent.

    Examples
    --------
    >>> b = Builder()
    >>> direction(b, 1, 3, [2]) == {b.input("z", 0): b.input("z", 1), b.input("p", 2):
    ...     b.input("p", 3)}
    True
    """
    moving = [*inputs(b, "z", n), *chosen(b, asked)]
    tangents = [*inputs(b, "z", n, start=n), *inputs(b, "p", len(asked), start=n_parameters)]
    return dict(zip(moving, tangents, strict=True))


def double_field(field: Field, n: int) -> Field:
    r"""Return the field of (z, s), then of the quadratures and of their tangents.

    ``n`` counts the states without quadratures, which f does not depend on.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> double_field(Field(decay, 1, 1), 1)
    Field(graph=Graph(6 operations, 2 outputs), n_states=2, n_parameters=2, asked=(0,))
    """
    b = Builder(field.graph)
    f = list(field.graph.outputs)
    s = tangent_sweep(b, f, direction(b, n, field.n_parameters, field.wrt))
    graph = b.freeze([*f[:n], *s[:n], *f[n:], *s[n:]])
    return Field(graph, 2 * len(f), field.n_parameters + len(field.wrt), field.wrt)


def double_scalar(
    graph: Graph,
    n: int,
    n_states: int,
    n_parameters: int,
    asked: Sequence[int],
    quadrature: bool = False,
) -> Graph:
    r"""Return :math:`l' = \partial_z l\,s + \partial_\theta l\,v` and its derivatives.

    Parameters
    ----------
    graph
        One output: l.
    n, n_states
        States of the model; states of the doubled system, quadratures included.
    quadrature
        Whether the tangent of the running cost's integral, the last state, joins in.

    Examples
    --------
    >>> b = Builder()
    >>> square = b.freeze([b.powi(b.input("z", 0), 2)])
    >>> double_scalar(square, 1, 2, 0, [])
    Graph(3 operations, 4 outputs)
    """
    b = Builder(graph)
    (slope,) = tangent_sweep(b, graph.outputs, direction(b, n, n_parameters, asked))
    if quadrature:
        slope = b.add(slope, b.input("z", n_states - 1))
    return derive_scalar(b.freeze([slope]), n_states, asked)


def double_joint(
    graph: Graph, n: int, n_costs: int, n_parts: int, n_parameters: int, asked: Sequence[int]
) -> Graph:
    r"""Return the directional derivative of a joint loss g(z, integrals, theta, v).

    .. math:: g' = \partial_z g\,s + \partial_\theta g\,u + \partial_v g\,v'

    Its states are z, s, the integrals of the running costs and their tangents; v' stands behind v.

    Examples
    --------
    >>> b = Builder()
    >>> ratio = b.freeze([b.div(b.input("v", 0), b.input("z", 0))])
    >>> double_joint(ratio, 1, 0, 1, 0, [])
    Graph(4 operations, 1 outputs)
    """
    b = Builder(graph)
    moves = direction(b, n, n_parameters, asked)
    integrals = inputs(b, "z", n_costs, start=2 * n)
    moves |= zip(integrals, inputs(b, "z", n_costs, start=2 * n + n_costs), strict=True)
    moves |= zip(inputs(b, "v", n_parts), inputs(b, "v", n_parts, start=n_parts), strict=True)
    return b.freeze(tangent_sweep(b, graph.outputs, moves))


def double_initial(
    graph: Graph, n_states: int, n_parameters: int, asked: Sequence[int]
) -> tuple[Graph, Graph]:
    r"""Return :math:`(z_0, \partial_\theta z_0\,v, 0)` and its pullback.

    The pullback has an output for each parameter asked for, then one for :math:`t_0`.

    Examples
    --------
    >>> b = Builder()
    >>> start = b.freeze([b.powi(b.input("p", 0), 2)])
    >>> double_initial(start, 2, 1, [0])
    (Graph(3 operations, 2 outputs), Graph(5 operations, 2 outputs))
    """
    b = Builder(graph)
    z0 = list(graph.outputs)
    outputs = [*z0, *tangent_sweep(b, z0, direction(b, 0, n_parameters, asked))]
    start = b.freeze([*outputs, *[b.const(0)] * (n_states - len(outputs))])
    wrt = [*chosen(b, asked), b.input("t", 0)]
    seeds = inputs(b, "v", len(outputs))
    return start, b.freeze(adjoint_sweep(b, outputs, seeds, wrt))
