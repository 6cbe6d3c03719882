"""Graphs read back as SymPy expressions, for proofs and for people."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import sympy as sp

from symode.codegen.arithmetic import Arithmetic, Operation
from symode.codegen.reference import evaluate
from symode.equations.table import TableData, Tabulated
from symode.symbolic.graph import Graph


def _number(value: Any) -> Any:
    if isinstance(value, Fraction):
        return sp.Rational(value.numerator, value.denominator)
    return value


_OPERATIONS: Final[dict[str, Operation]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "neg": lambda a: -a,
    "mul": lambda a, b: a * b,
    "mul0": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "div0": lambda a, b: a / b,
    "powi": lambda n, a: a**n,
    "pow": lambda a, b: a**b,
    "slope": lambda whole, a, b: a ** (b - 1),
    "sqrt": sp.sqrt,
    "exp": sp.exp,
    "log": sp.log,
    "log1p": lambda a: sp.log(1 + a),
    "sin": sp.sin,
    "cos": sp.cos,
    "tan": sp.tan,
    "asin": sp.asin,
    "acos": sp.acos,
    "atan": sp.atan,
    "atan2": sp.atan2,
    "sinh": sp.sinh,
    "cosh": sp.cosh,
    "tanh": sp.tanh,
    "asinh": sp.asinh,
    "acosh": sp.acosh,
    "atanh": sp.atanh,
    "sigmoid": lambda a: 1 / (1 + sp.exp(-a)),
    "logaddexp": lambda a, b: sp.log(sp.exp(a) + sp.exp(b)),
    "erf": sp.erf,
    "erfc": sp.erfc,
    "gamma": sp.gamma,
    "loggamma": sp.loggamma,
    "polygamma": lambda n, a: sp.polygamma(n, a),
    "abs": sp.Abs,
    "floor": sp.floor,
    "max": sp.Max,
    "min": sp.Min,
    "table": lambda family, x, k: Tabulated(x, k, TableData("table", family)),
    "lt": sp.Lt,
    "le": sp.Le,
    "eq": sp.Eq,
    "ne": sp.Ne,
    "and": sp.And,
    "or": sp.Or,
    "not": sp.Not,
    "select": lambda c, a, b: sp.Piecewise((a, c), (b, True)),
}

SYMBOLIC: Final = Arithmetic("SymPy", _number, sp.nan, _OPERATIONS, list)


def expressions(
    graph: Graph,
    time: sp.Expr,
    z: Sequence[sp.Expr],
    p: Sequence[sp.Expr],
    v: Sequence[sp.Expr] = (),
) -> list[sp.Expr]:
    """Return the outputs of a graph as SymPy expressions of these inputs.

    Examples
    --------
    >>> from symode.symbolic.graph import Builder
    >>> b = Builder()
    >>> x, k, t = sp.symbols("x k t")
    >>> graph = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> expressions(graph, t, [x], [k])
    [-k*x]
    """
    found: list[sp.Expr] = evaluate(graph, time, list(z), list(p), list(v), SYMBOLIC)
    return found
