"""Formulas: libSBML's trees as SymPy expressions, never through text that is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

import sympy as sp
from sympy.logic.boolalg import Boolean

from symode.bridges.sbml.conditions import odd, without_pieces
from symode.bridges.sbml.constants import factorial, power, tame
from symode.equations.walk import distinct_nodes
from symode.errors import ImportFileError

#: N_A of the SBML specification, level 3 version 2.
AVOGADRO: Final = sp.Float("6.02214179e23", 17)
#: Nodes of one formula, functions expanded.
MOST_NODES: Final = 200_000

Resolve = Callable[[str], sp.Basic]


class Formulas:
    """Turn trees into expressions.

    Parameters
    ----------
    library
        The module libsbml.
    functions
        {id: lambda tree} of the model's function definitions.
    time
        The symbol of time.
    rate_of
        Returns the rate of change of a symbol's id.
    """

    def __init__(
        self,
        library: Any,
        functions: Mapping[str, Any],
        time: sp.Symbol,
        rate_of: Callable[[str], sp.Expr],
    ) -> None:
        self.library, self.functions, self.time, self.rate_of = library, functions, time, rate_of
        self.nodes = 0
        self._unary = _unary_table(library)
        self._relations = {
            library.AST_RELATIONAL_EQ: sp.Eq,
            library.AST_RELATIONAL_NEQ: sp.Ne,
            library.AST_RELATIONAL_LT: sp.Lt,
            library.AST_RELATIONAL_LEQ: sp.Le,
            library.AST_RELATIONAL_GT: sp.Gt,
            library.AST_RELATIONAL_GEQ: sp.Ge,
        }

    def expression(self, tree: Any, resolve: Resolve, where: str) -> sp.Expr:
        """Return the number-valued expression of a tree; ``where`` names it in messages.

        Raises
        ------
        ImportFileError
            For what has no meaning here, naming it.
        """
        self.nodes = 0
        return _number(self._build(tree, resolve, where, ()))

    def condition(self, tree: Any, resolve: Resolve, where: str) -> Boolean:
        """Return the truth-valued expression of a tree."""
        self.nodes = 0
        return _truth(self._build(tree, resolve, where, ()))

    def _build(self, tree: Any, resolve: Resolve, where: str, calls: tuple[str, ...]) -> sp.Basic:
        return tame(self._node(tree, resolve, where, calls), where)

    def _node(self, tree: Any, resolve: Resolve, where: str, calls: tuple[str, ...]) -> sp.Basic:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise ImportFileError(f"{where} has more than {MOST_NODES} operations.")
        lib, kind = self.library, tree.getType()

        def child(i: int) -> sp.Basic:
            return self._build(tree.getChild(i), resolve, where, calls)

        def numbers() -> list[sp.Expr]:
            return [_number(child(i)) for i in range(tree.getNumChildren())]

        def truths() -> list[Boolean]:
            return [_truth(child(i)) for i in range(tree.getNumChildren())]

        if kind == lib.AST_INTEGER:
            return sp.Integer(tree.getInteger())
        if kind == lib.AST_RATIONAL:
            return sp.Rational(tree.getNumerator(), tree.getDenominator())
        if kind in (lib.AST_REAL, lib.AST_REAL_E):
            return _real(float(tree.getReal()), where)
        if kind == lib.AST_NAME:
            return resolve(tree.getName())
        if kind == lib.AST_NAME_TIME:
            return self.time
        if kind == lib.AST_NAME_AVOGADRO:
            return AVOGADRO
        if kind == lib.AST_CONSTANT_PI:
            return sp.pi
        if kind == lib.AST_CONSTANT_E:
            return sp.E
        if kind == lib.AST_CONSTANT_TRUE:
            return sp.true
        if kind == lib.AST_CONSTANT_FALSE:
            return sp.false
        if kind == lib.AST_PLUS:
            return sp.Add(*numbers())
        if kind == lib.AST_TIMES:
            return sp.Mul(*numbers())
        if kind == lib.AST_MINUS:
            parts = numbers()
            return -parts[0] if len(parts) == 1 else parts[0] - parts[1]
        if kind == lib.AST_DIVIDE:
            a, b = numbers()
            return _quotient(a, b, where)
        if kind in (lib.AST_POWER, lib.AST_FUNCTION_POWER):
            a, b = numbers()
            return power(a, b, where)
        if kind == lib.AST_FUNCTION_FACTORIAL:
            return factorial(numbers()[0], where)
        if kind in self._unary and tree.getNumChildren() == 1:
            return self._unary[kind](*numbers())
        if kind == lib.AST_FUNCTION_LOG:
            parts = numbers()
            # One argument: the base is 10, as in libSBML; two: base, then argument.
            base, x = (sp.Integer(10), parts[0]) if len(parts) == 1 else parts
            return sp.log(x) / sp.log(base)
        if kind == lib.AST_FUNCTION_ROOT:
            parts = numbers()
            degree, x = (sp.Integer(2), parts[0]) if len(parts) == 1 else parts
            return power(x, _quotient(sp.S.One, degree, where), where)
        if kind == lib.AST_FUNCTION_MIN:
            return sp.Min(*numbers())
        if kind == lib.AST_FUNCTION_MAX:
            return sp.Max(*numbers())
        if kind == lib.AST_FUNCTION_QUOTIENT:
            a, b = numbers()
            return _truncated(_quotient(a, b, where))
        if kind == lib.AST_FUNCTION_REM:
            a, b = numbers()
            return a - b * _truncated(_quotient(a, b, where))
        if kind in self._relations:
            parts = numbers()
            pairs = [self._relations[kind](a, b) for a, b in pairwise(parts)]
            return sp.And(*pairs)
        if kind == lib.AST_LOGICAL_AND:
            return sp.And(*truths())
        if kind == lib.AST_LOGICAL_OR:
            return sp.Or(*truths())
        if kind == lib.AST_LOGICAL_NOT:
            return sp.Not(*truths())
        if kind == lib.AST_LOGICAL_XOR:
            return odd(truths(), where)
        if kind == lib.AST_LOGICAL_IMPLIES:
            a, b = truths()
            return sp.Or(sp.Not(a), b)
        if kind == lib.AST_FUNCTION_PIECEWISE:
            return self._piecewise(tree, resolve, where, calls)
        if kind == lib.AST_FUNCTION_RATE_OF:
            return self.rate_of(tree.getChild(0).getName())
        if kind == lib.AST_FUNCTION:
            return self._call(tree, resolve, where, calls)
        if kind == lib.AST_FUNCTION_DELAY:
            if tree.getNumChildren() == 2 and child(1).is_zero:
                return child(0)
            raise ImportFileError(f"{where} uses delay(): delays are not supported.")
        raise ImportFileError(
            f"{where} uses {tree.getName() or lib.formulaToL3String(tree)!r}, which is not "
            "supported."
        )

    def _piecewise(
        self, tree: Any, resolve: Resolve, where: str, calls: tuple[str, ...]
    ) -> sp.Basic:
        count = tree.getNumChildren()
        parts = [self._build(tree.getChild(i), resolve, where, calls) for i in range(count)]
        pairs = [
            (_number(value), without_pieces(_truth(condition), where))
            for value, condition in zip(parts[0::2], parts[1::2], strict=False)
        ]
        if count % 2:
            pairs.append((_number(parts[-1]), sp.true))
        elif not pairs:
            raise ImportFileError(f"{where} has a piecewise without pieces.")
        # Without a last piece it is undefined elsewhere, as the specification says: NaN, which
        # ends a solve.
        return sp.Piecewise(*pairs)

    def _call(self, tree: Any, resolve: Resolve, where: str, calls: tuple[str, ...]) -> sp.Basic:
        name = tree.getName()
        definition = self.functions.get(name)
        if definition is None:
            raise ImportFileError(f"{where} calls {name}, which the model does not define.")
        if name in calls:
            raise ImportFileError(f"The function {name} calls itself.")
        body, count = definition.getChild(definition.getNumChildren() - 1), tree.getNumChildren()
        names = [definition.getChild(i).getName() for i in range(definition.getNumChildren() - 1)]
        if len(names) != count:
            raise ImportFileError(
                f"{where} calls {name} with {count} arguments; it takes {len(names)}."
            )
        arguments = {
            parameter: self._build(tree.getChild(i), resolve, where, calls)
            for i, parameter in enumerate(names)
        }

        def inner(symbol: str) -> sp.Basic:
            return arguments[symbol] if symbol in arguments else resolve(symbol)

        return self._build(body, inner, where, (*calls, name))


def is_finite(value: sp.Expr) -> bool:
    """Return whether an expression holds no infinity and no NaN."""
    infinite = (sp.nan, sp.oo, -sp.oo, sp.zoo)
    return not any(node is one for node in distinct_nodes([value]) for one in infinite)


def _number(value: sp.Basic) -> sp.Expr:
    """Return a value as a number: true is 1."""
    if isinstance(value, Boolean) and not isinstance(value, sp.Symbol):
        return sp.Piecewise((sp.Integer(1), value), (sp.Integer(0), sp.true))
    return value


def _truth(value: sp.Basic) -> Boolean:
    """Return a value as a truth: a number is true unless it is 0."""
    if isinstance(value, Boolean) and not isinstance(value, sp.Symbol):
        return value
    return sp.Ne(value, 0)


def _real(value: float, where: str) -> sp.Expr:
    if value != value or value in (float("inf"), float("-inf")):
        if value != value:
            return sp.nan
        return sp.oo if value > 0 else -sp.oo
    # Exact where the decimal is short: 0.1 stays the number that was written.
    return sp.Integer(int(value)) if value == int(value) and abs(value) < 2**53 else sp.Float(value)


def _quotient(a: sp.Expr, b: sp.Expr, where: str) -> sp.Expr:
    if b.is_zero and b.is_number:
        raise ImportFileError(f"{where} divides by zero.")
    return a / b


def _truncated(x: sp.Expr) -> sp.Expr:
    return sp.Piecewise((sp.floor(x), x >= 0), (-sp.floor(-x), True))


def _unary_table(lib: Any) -> dict[int, Callable[[sp.Expr], sp.Expr]]:
    return {
        lib.AST_FUNCTION_ABS: sp.Abs,
        lib.AST_FUNCTION_EXP: sp.exp,
        lib.AST_FUNCTION_LN: sp.log,
        lib.AST_FUNCTION_FLOOR: sp.floor,
        lib.AST_FUNCTION_CEILING: lambda x: -sp.floor(-x),
        lib.AST_FUNCTION_SIN: sp.sin,
        lib.AST_FUNCTION_COS: sp.cos,
        lib.AST_FUNCTION_TAN: sp.tan,
        lib.AST_FUNCTION_SEC: sp.sec,
        lib.AST_FUNCTION_CSC: sp.csc,
        lib.AST_FUNCTION_COT: sp.cot,
        lib.AST_FUNCTION_SINH: sp.sinh,
        lib.AST_FUNCTION_COSH: sp.cosh,
        lib.AST_FUNCTION_TANH: sp.tanh,
        lib.AST_FUNCTION_SECH: sp.sech,
        lib.AST_FUNCTION_CSCH: sp.csch,
        lib.AST_FUNCTION_COTH: sp.coth,
        lib.AST_FUNCTION_ARCSIN: sp.asin,
        lib.AST_FUNCTION_ARCCOS: sp.acos,
        lib.AST_FUNCTION_ARCTAN: sp.atan,
        lib.AST_FUNCTION_ARCSINH: sp.asinh,
        lib.AST_FUNCTION_ARCCOSH: sp.acosh,
        lib.AST_FUNCTION_ARCTANH: sp.atanh,
        # By the functions that kernels have.
        lib.AST_FUNCTION_ARCSEC: lambda x: sp.acos(1 / x),
        lib.AST_FUNCTION_ARCCSC: lambda x: sp.asin(1 / x),
        lib.AST_FUNCTION_ARCCOT: lambda x: sp.atan(1 / x),
        lib.AST_FUNCTION_ARCSECH: lambda x: sp.acosh(1 / x),
        lib.AST_FUNCTION_ARCCSCH: lambda x: sp.asinh(1 / x),
        lib.AST_FUNCTION_ARCCOTH: lambda x: sp.atanh(1 / x),
    }
