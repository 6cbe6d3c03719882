"""SymPy expressions as libSBML's trees, node by node: the way back of `formulas`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import sympy as sp
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.logic.boolalg import BooleanAtom

from symode.equations.describe import brief
from symode.equations.walk import postorder
from symode.errors import UnsupportedFunctionError

#: Nodes of one tree, shared parts written out.
MOST_NODES: Final = 500_000
_MOST_INT: Final = 2**31 - 1


class Trees:
    """Turn expressions into trees.

    Parameters
    ----------
    library
        The module libsbml.
    names
        {symbol: id}.
    time
        The symbol of time.
    """

    def __init__(self, library: Any, names: Mapping[sp.Basic, str], time: sp.Symbol) -> None:
        self.library, self.names, self.time = library, names, time
        self._kinds = _kinds(library)

    def tree(self, expression: sp.Basic, where: str) -> Any:
        """Return the tree of an expression; ``where`` names it in messages.

        Raises
        ------
        UnsupportedFunctionError
            For a function that MathML does not have, naming it.
        """
        done: dict[int, Any] = {}
        sizes: dict[int, int] = {}
        for node in postorder(expression):
            sizes[id(node)] = 1 + sum(sizes[id(arg)] for arg in node.args)
            if sizes[id(node)] > MOST_NODES:
                raise UnsupportedFunctionError(
                    f"{where}, written out, has more than {MOST_NODES} operations; give its parts "
                    "names (observables)."
                )
            if not isinstance(node, ExprCondPair):
                done[id(node)] = self._node(node, done, where)
        return done[id(expression)]

    def _node(self, e: sp.Basic, done: Mapping[int, Any], where: str) -> Any:
        lib = self.library
        if isinstance(e, sp.Symbol):
            node = lib.ASTNode(lib.AST_NAME_TIME if e == self.time else lib.AST_NAME)
            node.setName(self.names[e])
            return node
        if isinstance(e, sp.Number | sp.NumberSymbol):
            return self._number(e)
        if isinstance(e, BooleanAtom):
            return lib.ASTNode(lib.AST_CONSTANT_TRUE if e else lib.AST_CONSTANT_FALSE)
        if isinstance(e, sp.Piecewise):
            parts = [arg for pair in e.args for arg in pair.args]
            if parts[-1] == sp.true:
                parts.pop()
            return self._apply(lib.AST_FUNCTION_PIECEWISE, *(done[id(p)] for p in parts))
        args = [done[id(arg)] for arg in e.args]
        name = type(e).__name__
        if isinstance(e, sp.Mul):
            return self._product(e, done)
        if isinstance(e, sp.Pow):
            return self._power(e, args)
        special: dict[str, Callable[[], Any]] = {
            "sign": lambda: self._pieces(args[0], -1, 0, 1),
            "Heaviside": lambda: self._pieces(args[0], 0, args[1], 1),
            "gamma": lambda: self._apply(
                lib.AST_FUNCTION_FACTORIAL, self._apply(lib.AST_MINUS, args[0], self._integer(1))
            ),
            "Mod": lambda: self._remainder(*args),
            "frac": lambda: self._remainder(args[0], self._integer(1)),
            "atan2": lambda: self._angle(*args),
            "ITE": lambda: self._chosen(*args),
        }
        if name in special:
            return special[name]()
        if name in self._kinds:
            return self._apply(self._kinds[name], *args)
        raise UnsupportedFunctionError(
            f"{where} has {brief(e)}: SBML has no function {name}. Write it with others, or "
            "approximate it.",
            faults=(f"the function {name}",),
        )

    def _apply(self, kind: int, *args: Any) -> Any:
        node = self.library.ASTNode(kind)
        for arg in args:
            node.addChild(arg.deepCopy())
        return node

    def _integer(self, value: int) -> Any:
        node = self.library.ASTNode(self.library.AST_INTEGER)
        node.setValue(value)
        return node

    def _number(self, e: sp.Expr) -> Any:
        lib = self.library
        if e is sp.pi or e is sp.E:
            return lib.ASTNode(lib.AST_CONSTANT_PI if e is sp.pi else lib.AST_CONSTANT_E)
        if isinstance(e, sp.Integer) and abs(e) <= _MOST_INT:
            return self._integer(int(e))
        if isinstance(e, sp.Rational) and max(abs(e.p), e.q) <= _MOST_INT:
            node = lib.ASTNode(lib.AST_RATIONAL)
            node.setValue(int(e.p), int(e.q))
            return node
        return self._float(float(e))

    def _float(self, value: float) -> Any:
        """Return a number: libSBML writes 15 digits, so some need a second one for the rest."""
        lib = self.library
        node, rest = lib.ASTNode(lib.AST_REAL), lib.ASTNode(lib.AST_REAL)
        written = float(f"{value:.14e}")
        node.setValue(written)
        if written == value:
            return node
        # Both are near each other, so the difference is exact; 15 digits of it are enough.
        rest.setValue(value - written)
        return self._apply(lib.AST_PLUS, node, rest)

    def _product(self, e: sp.Expr, done: Mapping[int, Any]) -> Any:
        """Return a product as a quotient where factors have negative powers."""
        lib = self.library
        above, below, is_negative = [], [], False
        for factor in e.args:
            exponent = factor.args[1] if isinstance(factor, sp.Pow) else sp.S.One
            if factor is sp.S.NegativeOne:
                is_negative = True
            elif isinstance(exponent, sp.Rational) and exponent < 0:
                below.append(self._raised(done[id(factor.args[0])], -exponent))
            else:
                above.append(done[id(factor)])
        found = self._times(above)
        if below:
            found = self._apply(lib.AST_DIVIDE, found, self._times(below))
        return self._apply(lib.AST_MINUS, found) if is_negative else found

    def _times(self, factors: list[Any]) -> Any:
        if len(factors) == 1:
            return factors[0]
        return self._apply(self.library.AST_TIMES, *factors) if factors else self._integer(1)

    def _power(self, e: sp.Pow, args: list[Any]) -> Any:
        exponent = e.args[1]
        if isinstance(exponent, sp.Rational) and exponent < 0:
            below = self._raised(args[0], -exponent)
            return self._apply(self.library.AST_DIVIDE, self._integer(1), below)
        if isinstance(exponent, sp.Rational):
            return self._raised(args[0], exponent)
        return self._apply(self.library.AST_POWER, *args)

    def _raised(self, base: Any, exponent: sp.Rational) -> Any:
        lib = self.library
        if exponent == 1:
            return base
        if exponent == sp.S.Half:
            return self._apply(lib.AST_FUNCTION_ROOT, self._integer(2), base)
        return self._apply(lib.AST_POWER, base, self._number(exponent))

    def _compared(self, kind: int, x: Any) -> Any:
        return self._apply(kind, x, self._integer(0))

    def _pieces(self, x: Any, *values: Any) -> Any:
        """Return the values where x is below, at and above zero."""
        lib = self.library
        below, at, above = (self._integer(v) if isinstance(v, int) else v for v in values)
        return self._apply(
            lib.AST_FUNCTION_PIECEWISE,
            below, self._compared(lib.AST_RELATIONAL_LT, x),
            above, self._compared(lib.AST_RELATIONAL_GT, x),
            at,
        )  # fmt: skip

    def _remainder(self, x: Any, divisor: Any) -> Any:
        """Return x - d floor(x / d), which has the sign of d."""
        lib = self.library
        whole = self._apply(lib.AST_FUNCTION_FLOOR, self._apply(lib.AST_DIVIDE, x, divisor))
        return self._apply(lib.AST_MINUS, x, self._apply(lib.AST_TIMES, divisor, whole))

    def _chosen(self, condition: Any, yes: Any, no: Any) -> Any:
        """Return the condition that is the first where one holds, else the second."""
        lib = self.library
        return self._apply(
            lib.AST_LOGICAL_OR,
            self._apply(lib.AST_LOGICAL_AND, condition, yes),
            self._apply(lib.AST_LOGICAL_AND, self._apply(lib.AST_LOGICAL_NOT, condition), no),
        )

    def _angle(self, y: Any, x: Any) -> Any:
        lib = self.library
        slope = self._apply(lib.AST_FUNCTION_ARCTAN, self._apply(lib.AST_DIVIDE, y, x))
        pi = lib.ASTNode(lib.AST_CONSTANT_PI)
        half = self._apply(lib.AST_DIVIDE, pi, self._integer(2))
        return self._apply(
            lib.AST_FUNCTION_PIECEWISE,
            slope, self._compared(lib.AST_RELATIONAL_GT, x),
            self._pieces(y, self._apply(lib.AST_MINUS, half), 0, half),
            self._compared(lib.AST_RELATIONAL_EQ, x),
            self._apply(lib.AST_MINUS, slope, pi), self._compared(lib.AST_RELATIONAL_LT, y),
            self._apply(lib.AST_PLUS, slope, pi),
        )  # fmt: skip


def _kinds(lib: Any) -> dict[str, int]:
    inverse = {
        "asin": "SIN", "acos": "COS", "atan": "TAN", "asec": "SEC", "acsc": "CSC", "acot": "COT",
        "asinh": "SINH", "acosh": "COSH", "atanh": "TANH", "asech": "SECH", "acsch": "CSCH",
        "acoth": "COTH",
    }  # fmt: skip
    direct = ("sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh", "sech", "csch",
              "coth", "exp", "floor")  # fmt: skip
    return {
        **{name: getattr(lib, f"AST_FUNCTION_{name.upper()}") for name in direct},
        **{name: getattr(lib, f"AST_FUNCTION_ARC{of}") for name, of in inverse.items()},
        "log": lib.AST_FUNCTION_LN,
        "Abs": lib.AST_FUNCTION_ABS,
        "ceiling": lib.AST_FUNCTION_CEILING,
        "Min": lib.AST_FUNCTION_MIN,
        "Max": lib.AST_FUNCTION_MAX,
        "Add": lib.AST_PLUS,
        "And": lib.AST_LOGICAL_AND,
        "Or": lib.AST_LOGICAL_OR,
        "Not": lib.AST_LOGICAL_NOT,
        "Xor": lib.AST_LOGICAL_XOR,
        "Equality": lib.AST_RELATIONAL_EQ,
        "Unequality": lib.AST_RELATIONAL_NEQ,
        "StrictLessThan": lib.AST_RELATIONAL_LT,
        "LessThan": lib.AST_RELATIONAL_LEQ,
        "StrictGreaterThan": lib.AST_RELATIONAL_GT,
        "GreaterThan": lib.AST_RELATIONAL_GEQ,
    }
