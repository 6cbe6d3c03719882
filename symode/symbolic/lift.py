"""From checked equations and losses to graphs: the first arrow of a model's path."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import sympy as sp

from symode.equations.equations import Equations
from symode.equations.loss import Loss, ObservationGroup
from symode.equations.mass import mass_values
from symode.symbolic.adjoint import adjoint_sweep
from symode.symbolic.build import build
from symode.symbolic.derive import Field, chosen, derive_scalar, inputs
from symode.symbolic.graph import Builder, Graph


def lift_field(
    equations: Equations,
    runnings: Sequence[sp.Expr] = (),
    asked: tuple[int, ...] | None = None,
) -> Field:
    r"""Return the field of the equations, and of the running costs of a loss.

    A running cost c becomes one more state, :math:`\dot J_c = c`: with :math:`\Phi + J_c(t_1)` as
    terminal loss, Theorem 1 without running cost gives the terms with it
    (:math:`-\partial c/\partial z` and so on), since the adjoint of :math:`J_c` is 1 throughout.

    Examples
    --------
    >>> x, k, t = sp.symbols("x k t")
    >>> decay = Equations((x,), (-k * x,), (k,), t, initial=(2 * k,))
    >>> lift_field(decay)
    Field(graph=Graph(2 operations, 1 outputs), n_states=1, n_parameters=1, asked=None)
    >>> lift_field(decay, [x**2]).n_states
    2
    """
    expressions = (*equations.rhs, *runnings)
    # Models are solved and differentiated again and again; a large one takes seconds to lift.
    # Kept by identity, since hashing or comparing deep expressions recurses.
    kept = _lifted.setdefault(id(equations), {})
    if not kept:
        weakref.finalize(equations, _lifted.pop, id(equations), None)
    key = tuple(map(id, runnings))
    found = kept.get(key)
    if found is None:
        if len(kept) > KEPT:
            kept.clear()
        # The running costs are kept too: their ids stay their own.
        found = kept[key] = (lift_expressions(equations, expressions), tuple(runnings))
    extra = len(expressions) - equations.n_states
    mass = mass_values(equations.mass, extra, equations.n_states)
    return Field(found[0], len(expressions), equations.n_parameters, asked, mass)


#: Running costs of one model whose graphs are kept at a time.
KEPT = 8
#: Graphs of right-hand sides by identity of equations and of running costs.
_lifted: dict[int, dict[tuple[int, ...], tuple[Graph, tuple[sp.Expr, ...]]]] = {}


def lift_expressions(
    equations: Equations, expressions: Sequence[sp.Expr], data: Sequence[sp.Symbol] = ()
) -> Graph:
    """Return the graph of expressions in states, time, parameters and data (kind ``v``).

    Examples
    --------
    >>> x, k, t = sp.symbols("x k t")
    >>> decay = Equations((x,), (-k * x,), (k,), t, initial=(2 * k,))
    >>> lift_expressions(decay, [x + t, k])
    Graph(1 operations, 2 outputs)
    """
    b = Builder()
    return b.freeze(build(b, expressions, _symbols(b, equations, data)))


def lift_terminal(
    equations: Equations, loss: Loss, n_states: int, asked: Sequence[int] | None = None
) -> Graph | None:
    r"""Return (Φ, ∂Φ/∂z, ∂Φ/∂theta, ∂Φ/∂t), the running cost's integral joined; None if zero.

    Examples
    --------
    >>> x, k, t = sp.symbols("x k t")
    >>> decay = Equations((x,), (-k * x,), (k,), t, initial=(2 * k,))
    >>> lift_terminal(decay, Loss(terminal=x**2), n_states=1)
    Graph(2 operations, 4 outputs)
    """
    if loss.terminal is None and loss.running is None:
        return None
    b = Builder()
    total = b.const(0)
    if loss.terminal is not None:
        (total,) = build(b, [loss.terminal], _symbols(b, equations))
    if loss.running is not None:
        total = b.add(total, b.input("z", equations.n_states))
    return derive_scalar(b.freeze([total]), n_states, _places(equations, asked))


def lift_joint(equations: Equations, loss: Loss, quadrature: int) -> Graph:
    r"""Return g of a joint loss: of z(t1), of the running costs' integrals, and of observations.

    The integrals are states from place ``quadrature`` on; the sums of observations of the parts are
    the input v.

    Examples
    --------
    >>> from symode.equations.composite import Composite
    >>> x, k, t, a, b = sp.symbols("x k t a b")
    >>> decay = Equations((x,), (-k * x,), (k,), t, initial=(2 * k,))
    >>> ratio = Composite(a / b, {a: (1.0, x), b: Loss(terminal=x)}).resolve(decay)
    >>> lift_joint(decay, ratio, quadrature=1)
    Graph(2 operations, 1 outputs)
    """
    b = Builder()
    symbols = _symbols(b, equations)
    terms = build(b, [e for _, e in loss.terminals], symbols)
    parts = [[b.input("v", k)] for k in range(loss.n_parts)]
    for (k, _), term in zip(loss.terminals, terms, strict=True):
        parts[k].append(term)
    for i, (k, _) in enumerate(loss.runnings):
        parts[k].append(b.input("z", quadrature + i))
    symbols |= {s: b.total(part) for s, part in zip(loss.symbols, parts, strict=True)}
    assert loss.outer is not None
    return b.freeze(build(b, [loss.outer], symbols))


def lift_observation(
    equations: Equations,
    group: ObservationGroup,
    n_states: int,
    asked: Sequence[int] | None = None,
) -> Graph:
    r"""Return (l, ∂l/∂z, ∂l/∂theta, ∂l/∂t) of one observation; its data are the input v.

    Examples
    --------
    >>> x, k, t = sp.symbols("x k t")
    >>> decay = Equations((x,), (-k * x,), (k,), t, initial=(2 * k,))
    >>> (group,) = Loss(observations={1.0: (x - 3) ** 2}).resolve(decay).groups
    >>> lift_observation(decay, group, n_states=1)
    Graph(3 operations, 4 outputs)
    """
    graph = lift_expressions(equations, [group.expression], group.data_symbols)
    return derive_scalar(graph, n_states, _places(equations, asked))


def lift_initial(
    equations: Equations, n_states: int, asked: Sequence[int] | None = None
) -> tuple[Graph, Graph]:
    r"""Return the graphs of :math:`z_0(\theta, t_0)` and of :math:`v^\top \partial z_0`.

    The first starts quadratures at 0. The second has m + 1 outputs: the parameters', then that
    of :math:`t_0`.

    Examples
    --------
    >>> x, k, t = sp.symbols("x k t")
    >>> decay = Equations((x,), (-k * x,), (k,), t, initial=(2 * k,))
    >>> lift_initial(decay, n_states=1)
    (Graph(1 operations, 1 outputs), Graph(1 operations, 2 outputs))
    """
    assert equations.initial is not None
    graph = lift_expressions(equations, equations.initial)
    b = Builder(graph)
    wrt = [*chosen(b, _places(equations, asked)), b.input("t", 0)]
    seeds = inputs(b, "v", equations.n_states)
    start = [*graph.outputs, *[b.const(0)] * (n_states - equations.n_states)]
    return b.freeze(start), b.freeze(adjoint_sweep(b, graph.outputs, seeds, wrt))


def _places(equations: Equations, asked: Sequence[int] | None) -> Sequence[int]:
    return range(equations.n_parameters) if asked is None else asked


def _symbols(
    b: Builder, equations: Equations, data: Sequence[sp.Symbol] = ()
) -> dict[sp.Basic, int]:
    table: dict[sp.Basic, int] = {equations.time: b.input("t", 0)}
    table |= {s: b.input("z", i) for i, s in enumerate(equations.states)}
    table |= {s: b.input("p", i) for i, s in enumerate(equations.parameters)}
    table |= {s: b.input("v", i) for i, s in enumerate(data)}
    return table
