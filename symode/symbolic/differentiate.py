r"""Derivatives of SymPy expressions for people, node by node and almost everywhere.

SymPy's own ``diff`` answers questions of complex analysis: the derivative of ``Abs(x)`` holds
unevaluated derivatives of real and imaginary parts unless x is declared real, that of ``sign`` and
``Heaviside`` a Dirac delta. Models are real, and their symbols keep the assumptions the user gave,
so the rules here are those of real functions and hold wherever the derivative exists; nothing is
asked of the symbols. At a kink they agree with the graph's rules: ``Abs``, ``sign``, ``Heaviside``
and ``floor`` have slope 0 there, and ``Max`` and ``Min`` follow their first argument in a tie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef, ArgumentIndexError

from symode.equations.describe import brief
from symode.equations.walk import distinct_nodes, postorder
from symode.errors import ModelError, UnsupportedFunctionError

_STEPS = (sp.sign, sp.Heaviside, sp.floor, sp.ceiling)


def gradient(expression: sp.Expr, variables: Sequence[sp.Symbol]) -> list[sp.Expr]:
    r"""Return the derivatives of an expression in each variable, in their order.

    Raises
    ------
    UnsupportedFunctionError
        For a function whose derivative SymPy does not know; the message names it.
    ModelError
        When the expression is nested too deeply for SymPy to form the result.

    Examples
    --------
    >>> import sympy as sp
    >>> x, k = sp.symbols("x k")
    >>> gradient(sp.Abs(x) * k + sp.Heaviside(k), [x, k])
    [k*sign(x), Abs(x)]
    """
    nodes = postorder(expression)
    variables_below = _variables_below(nodes, variables)
    result = []
    for k, _ in enumerate(variables):
        bit = 1 << k
        if not variables_below[id(expression)] & bit:
            result.append(sp.S.Zero)
            continue
        derivatives: dict[int, sp.Expr] = {}
        try:
            for node in nodes:
                if variables_below[id(node)] & bit and isinstance(node, sp.Expr):
                    derivatives[id(node)] = _derivative(node, derivatives)
        except RecursionError:
            raise ModelError(
                f"{brief(expression)} is nested {_depth(nodes)} deep, and SymPy overflows the "
                "stack in forming its derivative. Solving and compiled gradients are not "
                "affected; to see this block, split the expression with further states or "
                "symbols."
            ) from None
        result.append(derivatives[id(expression)])
    return result


def _variables_below(nodes: Sequence[sp.Basic], variables: Sequence[sp.Symbol]) -> dict[int, int]:
    """Return for each node the set of variables it holds, as bits of an integer."""
    bits = {variable: 1 << k for k, variable in enumerate(variables)}
    found: dict[int, int] = {}
    for node in nodes:
        mask = bits.get(node, 0) if isinstance(node, sp.Symbol) else 0
        for arg in node.args:
            mask |= found.get(id(arg), 0)
        found[id(node)] = mask
    return found


def _depth(nodes: Sequence[sp.Basic]) -> int:
    depth: dict[int, int] = {}
    for node in nodes:
        depth[id(node)] = 1 + max((depth.get(id(arg), 0) for arg in node.args), default=0)
    return depth[id(nodes[-1])]


def _derivative(node: sp.Expr, derivatives: Mapping[int, sp.Expr]) -> sp.Expr:
    """Return the derivative of a node that holds the variable, from those of its arguments."""
    if isinstance(node, sp.Symbol):
        return sp.S.One
    if isinstance(node, _STEPS):
        return sp.S.Zero
    if isinstance(node, sp.Piecewise):
        return _of_piecewise(node, derivatives)
    of_args = [derivatives.get(id(arg), sp.S.Zero) for arg in node.args]
    for kind, rule in _RULES.items():
        if isinstance(node, kind):
            return rule(node, of_args)
    return _of_function(node, of_args)


def _of_piecewise(node: sp.Piecewise, derivatives: Mapping[int, sp.Expr]) -> sp.Expr:
    pairs = [(derivatives.get(id(pair.args[0]), sp.S.Zero), pair.args[1]) for pair in node.args]
    if all(slope == pairs[0][0] for slope, _ in pairs):
        return pairs[0][0]
    return sp.Piecewise(*pairs)


def _of_sum(node: sp.Add, of_args: Sequence[sp.Expr]) -> sp.Expr:
    return sp.Add(*of_args)


def _of_product(node: sp.Mul, of_args: Sequence[sp.Expr]) -> sp.Expr:
    factors = node.args
    return sp.Add(
        *(
            sp.Mul(*factors[:i], slope, *factors[i + 1 :])
            for i, slope in enumerate(of_args)
            if slope is not sp.S.Zero
        )
    )


def _of_power(node: sp.Pow, of_args: Sequence[sp.Expr]) -> sp.Expr:
    base, exponent = node.args
    # n*x**(n - 1), not n*x**n/x: the first is finite at x = 0.
    of_base = exponent * sp.Pow(base, exponent - 1) * of_args[0]
    if of_args[1] is sp.S.Zero:
        return of_base
    return of_base + node * sp.log(base) * of_args[1]


def _of_abs(node: sp.Expr, of_args: Sequence[sp.Expr]) -> sp.Expr:
    return sp.sign(node.args[0]) * of_args[0]


def _of_extremum(node: sp.Expr, of_args: Sequence[sp.Expr]) -> sp.Expr:
    wins = sp.Ge if isinstance(node, sp.Max) else sp.Le
    pairs = []
    for i, (candidate, slope) in enumerate(zip(node.args, of_args, strict=True)):
        rivals = [rival for j, rival in enumerate(node.args) if j != i]
        is_last = i == len(node.args) - 1
        holds = sp.true if is_last else sp.And(*(wins(candidate, rival) for rival in rivals))
        pairs.append((slope, holds))
    return sp.Piecewise(*pairs)


def _of_remainder(node: sp.Mod, of_args: Sequence[sp.Expr]) -> sp.Expr:
    return of_args[0] - sp.floor(node.args[0] / node.args[1]) * of_args[1]


def _of_function(node: sp.Expr, of_args: Sequence[sp.Expr]) -> sp.Expr:
    terms = []
    for k, slope in enumerate(of_args):
        if slope is sp.S.Zero:
            continue
        terms.append(_partial(node, k) * slope)
    return sp.Add(*terms)


def _partial(node: sp.Expr, k: int) -> sp.Expr:
    """Return the derivative of a function in its argument number k, or refuse one without."""
    partial = None
    if isinstance(node, sp.Function) and not isinstance(node, AppliedUndef):
        try:
            partial = node.fdiff(k + 1)
        except (ArgumentIndexError, NotImplementedError, AttributeError):
            partial = None
    unevaluated = (sp.Derivative, sp.Subs, sp.DiracDelta)
    if partial is None or any(isinstance(n, unevaluated) for n in distinct_nodes([partial])):
        raise UnsupportedFunctionError(
            f"The derivative of {brief(node)} in its argument {k + 1} is not known. Write "
            f"{type(node).__name__} with functions that have one."
        )
    return partial


_RULES: dict[type[Any], Callable[[Any, Sequence[sp.Expr]], sp.Expr]] = {
    sp.Add: _of_sum,
    sp.Mul: _of_product,
    sp.Pow: _of_power,
    sp.Abs: _of_abs,
    sp.Max: _of_extremum,
    sp.Min: _of_extremum,
    sp.Mod: _of_remainder,
    sp.frac: _of_sum,
}
