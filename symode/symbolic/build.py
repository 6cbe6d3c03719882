"""From SymPy expressions to graph nodes, iteratively, so that nesting depth does not matter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Final

import sympy as sp
from mpmath.libmp import to_rational
from sympy.core.relational import Relational
from sympy.logic.boolalg import BooleanAtom, BooleanFunction

from symode.equations.table import Tabulated
from symode.errors import UnsupportedFunctionError
from symode.symbolic.graph import Builder
from symode.symbolic.rules import MAX_POLYGAMMA

#: SymPy functions of one argument with a node of their own.
UNARY: Final[dict[str, str]] = {
    "exp": "exp",
    "log": "log",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "asin": "asin",
    "acos": "acos",
    "atan": "atan",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "asinh": "asinh",
    "acosh": "acosh",
    "atanh": "atanh",
    "erf": "erf",
    "erfc": "erfc",
    "gamma": "gamma",
    "loggamma": "loggamma",
    "Abs": "abs",
    "floor": "floor",
}
#: Functions written as the reciprocal of another.
RECIPROCAL: Final = {
    "cot": "tan",
    "sec": "cos",
    "csc": "sin",
    "coth": "tanh",
    "sech": "cosh",
    "csch": "sinh",
}
RELATIONS: Final = {
    "StrictLessThan": ("lt", False),
    "LessThan": ("le", False),
    "StrictGreaterThan": ("lt", True),
    "GreaterThan": ("le", True),
    "Equality": ("eq", False),
    "Unequality": ("ne", False),
}


def build(
    b: Builder, expressions: Sequence[sp.Basic], symbols: Mapping[sp.Basic, int]
) -> list[int]:
    """Add the nodes of SymPy expressions; return their ids.

    Parameters
    ----------
    b
        The builder that receives the nodes.
    expressions
        Real-valued expressions in the given symbols.
    symbols
        The node of each symbol.

    Raises
    ------
    UnsupportedFunctionError
        Naming every function without a kernel.

    Examples
    --------
    >>> import sympy as sp
    >>> x = sp.Symbol("x")
    >>> b = Builder()
    >>> y, = build(b, [x**2 + 1], {x: b.input("z", 0)})
    >>> b.freeze([y])
    Graph(2 operations, 1 outputs)
    """
    # Keyed by identity: comparing deep SymPy expressions recurses. Equal but distinct objects
    # are reunited by the graph's own hash-consing.
    done: dict[int, int] = {}
    unknown: dict[str, None] = {}
    for expression in expressions:
        stack = [(expression, False)]
        while stack:
            e, expanded = stack.pop()
            if id(e) in done:
                continue
            if e.is_Symbol:
                if e not in symbols:
                    unknown[f"symbol {e}"] = None
                done[id(e)] = symbols[e] if e in symbols else b.const(0)
            elif not e.args:
                done[id(e)] = _atom(b, e)
            elif not expanded:
                stack.append((e, True))
                stack.extend((a, False) for a in _children(e))
            else:
                done[id(e)] = _node(b, e, done, unknown)
    if unknown:
        raise UnsupportedFunctionError(
            f"No kernel exists for {', '.join(unknown)}. Write it with the functions symode "
            f"knows ({', '.join(sorted(UNARY))}, sqrt, atan2, Min, Max, Piecewise, Heaviside, sign)"
            ", or approximate it.",
            faults=tuple(unknown),
        )
    return [done[id(e)] for e in expressions]


def _children(e: sp.Basic) -> Sequence[sp.Basic]:
    if isinstance(e, sp.Piecewise):
        return [part for pair in e.args for part in pair.args]
    if isinstance(e, Tabulated):
        return tuple(e.args[:2])
    return tuple(e.args)


def _atom(b: Builder, e: sp.Basic) -> int:
    if isinstance(e, BooleanAtom):
        return b.compare("le" if e else "lt", b.const(0), b.const(0))
    if isinstance(e, sp.Rational):
        return b.const(Fraction(int(e.p), int(e.q)))
    if isinstance(e, sp.Float):
        # The exact value of its binary digits.
        return b.const(Fraction(*map(int, to_rational(e._mpf_))))
    if isinstance(e, sp.NumberSymbol):
        # 60 digits: exact to well below the 50 digits at which graphs are proved equal.
        return b.const(Fraction(str(e.evalf(60))))
    raise UnsupportedFunctionError(
        f"{e} is not a finite real number, so no equation can hold it. Replace it by a number."
    )


def _node(b: Builder, e: sp.Basic, done: Mapping[int, int], unknown: dict[str, None]) -> int:
    name = type(e).__name__
    args = [done[id(a)] for a in _children(e)]
    if e.is_Add:
        return b.total(args)
    if e.is_Mul:
        return _product(b, e, args, done)
    if e.is_Pow:
        return _power(b, e, args, done)
    if name == "exp_polar":
        unknown["exp_polar (complex)"] = None
        return b.const(0)
    if name == "log" and len(args) == 1:
        return _log(b, e, args[0], done)
    if name in UNARY and len(args) == 1:
        return b.unary(UNARY[name], args[0])
    if name in RECIPROCAL:
        return b.div(b.const(1), b.unary(RECIPROCAL[name], args[0]))
    if name in SPECIAL:
        return SPECIAL[name](b, e, args)
    if isinstance(e, Relational) and name in RELATIONS:
        op, swap = RELATIONS[name]
        left, right = reversed(args) if swap else args
        return b.compare(op, left, right)
    if isinstance(e, BooleanFunction) and name in ("And", "Or", "Not"):
        result = args[0]
        for other in args[1:]:
            result = b.node(name.lower(), (result, other))
        return b.node("not", (args[0],)) if name == "Not" else result
    unknown[f"the function {name}"] = None
    return b.const(0)


def _product(b: Builder, e: sp.Expr, args: Sequence[int], done: Mapping[int, int]) -> int:
    numerator, denominator = b.const(1), b.const(1)
    factors = list(zip(e.args, args, strict=True))
    for factor, node in _without_sigmoid(b, factors, done):
        if factor.is_Rational and not factor.is_Integer:
            numerator = b.mul(numerator, b.const(factor.p))
            denominator = b.mul(denominator, b.const(factor.q))
        elif b.ops[node] == "div" and b.value(b.args[node][0]) == 1:
            denominator = b.mul(denominator, b.args[node][1])
        else:
            numerator = b.mul(numerator, node)
    return b.div(numerator, denominator)


Factor = tuple[sp.Expr, int]


def _without_sigmoid(
    b: Builder, factors: list[Factor], done: Mapping[int, int]
) -> Sequence[Factor]:
    """Turn exp(u) / (1 + exp(u)), which overflows when taken literally, into a sigmoid.

    Nodes are compared, not SymPy expressions, whose comparison recurses.
    """
    nodes = [node for _, node in factors]
    for factor, reciprocal in factors:
        exponential = _one_plus_exp(factor.base) if factor.is_Pow and factor.exp == -1 else None
        if exponential is not None and done[id(exponential)] in nodes:
            power = done[id(exponential)]
            rest = [f for f in factors if f[1] not in (power, reciprocal)]
            return [*rest, (exponential, b.unary("sigmoid", done[id(exponential.args[0])]))]
    return factors


def _one_plus_exp(e: sp.Expr) -> sp.Expr | None:
    """Return exp(u) of 1 + exp(u), None for anything else."""
    if e.is_Add and len(e.args) == 2 and e.args[0] == 1 and isinstance(e.args[1], sp.exp):
        return e.args[1]
    return None


def _power(b: Builder, e: sp.Expr, args: Sequence[int], done: Mapping[int, int]) -> int:
    base, exponent = e.args
    x, y = args
    if base is sp.S.Exp1:
        return b.unary("exp", y)
    exponential = _one_plus_exp(base)
    if exponential is not None and exponent.is_Integer and -1024 <= exponent < 0:
        sigmoid = b.unary("sigmoid", b.neg(done[id(exponential.args[0])]))
        return b.powi(sigmoid, -int(exponent))
    # x**3.0 is x**3: the same values, also at x < 0, and a far cheaper kernel.
    value = b.value(y)
    if value is not None and value.denominator == 1 and abs(value) <= 1024:
        return b.powi(x, int(value))
    if value is not None and value.denominator == 2 and abs(value) <= 64:
        root = b.unary("sqrt", x)
        whole = math.floor(abs(value))
        power = b.mul(b.powi(x, whole), root)
        return power if value > 0 else b.div(b.const(1), power)
    if value is not None and value < 0:
        return b.div(b.const(1), b.binary("pow", x, b.const(-value)))
    return b.binary("pow", x, y)


def _log(b: Builder, e: sp.Expr, argument: int, done: Mapping[int, int]) -> int:
    """Add log; log of a sum of exponentials becomes logaddexp, which cannot overflow."""
    inside = e.args[0]
    if inside.is_Add:
        terms = [_exponent(b, term, done) for term in inside.args]
        if all(t is not None for t in terms) and any(_has_exp(term) for term in inside.args):
            result: int | None = None
            for t in terms:
                assert t is not None
                result = t if result is None else b.binary("logaddexp", result, t)
            assert result is not None
            return result
    return b.unary("log", argument)


def _has_exp(term: sp.Expr) -> bool:
    return isinstance(term, sp.exp) or (
        term.is_Mul and any(isinstance(f, sp.exp) for f in term.args)
    )


def _exponent(b: Builder, term: sp.Expr, done: Mapping[int, int]) -> int | None:
    """Return the node of log(term) for a positive number times exponentials, else None."""
    total = b.const(0)
    for factor in term.args if term.is_Mul else (term,):
        if isinstance(factor, sp.exp):
            total = b.add(total, done[id(factor.args[0])])
        elif factor.is_Number and factor.is_positive:
            total = b.add(total, b.unary("log", done[id(factor)]))
        else:
            return None
    return total


def _piecewise(b: Builder, e: sp.Expr, args: Sequence[int]) -> int:
    result = b.node("nan")
    for k in reversed(range(0, len(args), 2)):
        holds = e.args[k // 2].args[1]
        result = args[k] if holds == sp.true else b.select(args[k + 1], args[k], result)
    return result


def _sign(b: Builder, e: sp.Expr, args: Sequence[int]) -> int:
    return _step(b, args[0], b.const(-1), b.const(0), b.const(1))


def _heaviside(b: Builder, e: sp.Expr, args: Sequence[int]) -> int:
    middle = args[1] if len(args) > 1 else b.const(Fraction(1, 2))
    return _step(b, args[0], b.const(0), middle, b.const(1))


def _step(b: Builder, x: int, below: int, at: int, above: int) -> int:
    zero = b.const(0)
    # x - x lets a NaN through: comparisons alone would turn it into `at`.
    middle = b.select(b.compare("eq", x, zero), at, b.node("nan"))
    lower = b.select(b.compare("lt", x, zero), below, middle)
    return b.select(b.compare("lt", zero, x), above, lower)


def _either(b: Builder, condition: int, a: int, other: int) -> int:
    """Add the truth value that is a where the condition holds and the other elsewhere."""
    missed = b.node("and", (b.node("not", (condition,)), other))
    return b.node("or", (b.node("and", (condition, a)), missed))


def _fold(op: str) -> Callable[[Builder, sp.Expr, Sequence[int]], int]:
    def fold(b: Builder, e: sp.Expr, args: Sequence[int]) -> int:
        result = args[0]
        for other in args[1:]:
            result = b.binary(op, result, other)
        return result

    return fold


def _polygamma(b: Builder, e: sp.Expr, args: Sequence[int]) -> int:
    order = b.value(args[0])
    if order is None or order.denominator != 1 or not 0 <= order <= MAX_POLYGAMMA:
        raise UnsupportedFunctionError(
            f"No kernel exists for {e}: the order of polygamma must be an integer from 0 to "
            f"{MAX_POLYGAMMA}."
        )
    return b.unary("polygamma", args[1], int(order))


SPECIAL: Final[dict[str, Callable[[Builder, sp.Expr, Sequence[int]], int]]] = {
    "Piecewise": _piecewise,
    "ExprCondPair": lambda b, e, args: args[0],
    "sign": _sign,
    "Heaviside": _heaviside,
    "Max": _fold("max"),
    "Min": _fold("min"),
    "LogSumExp": _fold("logaddexp"),
    "atan2": lambda b, e, args: b.binary("atan2", args[0], args[1]),
    "polygamma": _polygamma,
    "Tabulated": lambda b, e, args: b.node("table", (args[0], args[1]), e.args[2].family),
    "digamma": lambda b, e, args: b.unary("polygamma", args[0], 0),
    "trigamma": lambda b, e, args: b.unary("polygamma", args[0], 1),
    "ceiling": lambda b, e, args: b.neg(b.unary("floor", b.neg(args[0]))),
    "frac": lambda b, e, args: b.sub(args[0], b.unary("floor", args[0])),
    "factorial": lambda b, e, args: b.unary("gamma", b.add(args[0], b.const(1))),
    "Mod": lambda b, e, args: b.sub(
        args[0], b.mul(args[1], b.unary("floor", b.div(args[0], args[1])))
    ),
    "ITE": lambda b, e, args: _either(b, *args),
}
