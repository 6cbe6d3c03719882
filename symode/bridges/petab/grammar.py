r"""The grammar of PEtab's formulas: text becomes an expression, and nothing is executed.

From the binding of names down, as PEtab 2.0.0 has it (`&&` and `||` bind alike)::

    ^    - + !    * /    + -    < <= > >= == !=    && ||

Truth and numbers stand for each other: true is 1, and all but 0 is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import sympy as sp
from sympy.logic.boolalg import Boolean

Meaning = Callable[[str], sp.Expr]

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>&&|\|\||[<>=!]=|[-+*/^<>!(),]))",
    re.ASCII,
)
#: Names that are no identifiers, in any case of letters.
RESERVED: Final = ("true", "false", "inf", "nan")
_COMPARISONS: Final = {
    "<": sp.Lt, "<=": sp.Le, ">": sp.Gt, ">=": sp.Ge, "==": sp.Eq, "!=": sp.Ne,
}  # fmt: skip


def _log(x: sp.Expr) -> sp.Expr:
    # The format defines it; SymPy's own has no sign.
    return -sp.oo if x.is_zero else sp.log(x)


_FUNCTIONS: Final[dict[str, Callable[[sp.Expr], sp.Expr]]] = {
    "exp": sp.exp,
    "sqrt": sp.sqrt,
    "abs": sp.Abs,
    "sign": sp.sign,
    "ln": _log,
    "log2": lambda x: _log(x) / sp.log(2),
    "log10": lambda x: _log(x) / sp.log(10),
    **{name: getattr(sp, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{name: getattr(sp, name) for name in ("cot", "sec", "csc", "coth", "sech", "csch")},
    **{f"arc{name}": getattr(sp, f"a{name}") for name in ("sin", "cos", "tan")},
    **{f"arc{name}": getattr(sp, f"a{name}") for name in ("sinh", "cosh", "tanh")},
    "arccot": lambda x: sp.atan(1 / x),
    "arcsec": lambda x: sp.acos(1 / x),
    "arccsc": lambda x: sp.asin(1 / x),
    "arccoth": lambda x: sp.atanh(1 / x),
    "arcsech": lambda x: sp.acosh(1 / x),
    "arccsch": lambda x: sp.asinh(1 / x),
}


class FormulaError(ValueError):
    """A text that is no formula, with the reason."""


def expression_of(text: str, meaning: Meaning) -> sp.Expr:
    """Return a formula with each name replaced by what it means.

    Raises
    ------
    FormulaError
        With the place of what is wrong.

    Examples
    --------
    >>> expression_of("2 * !(a > 1) + b^-2", sp.Symbol)
    2*Piecewise((1, a <= 1), (0, True)) + b**(-2)
    """
    reader = _Reader(_tokens(text), meaning)
    found = _as_number(reader.junction())
    if reader.ahead:
        raise FormulaError(f"{reader.ahead!r} is not expected at position {reader.at}")
    return found


def number(value: float) -> sp.Expr:
    """Return a number as an expression, whole ones exactly."""
    value = float(value)
    if value == value and abs(value) < 2**53 and value == int(value):
        return sp.Integer(int(value))
    return sp.Float(value) if abs(value) != float("inf") else (sp.oo if value > 0 else -sp.oo)


def _tokens(text: str) -> list[tuple[str, str, int]]:
    """Return (kind, text, position) of each word and sign."""
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise FormulaError(f"{text[at:].lstrip()[:1]!r} is not expected at position {at}")
        kind = str(match.lastgroup)
        found.append((kind, match.group(kind), match.start(kind)))
        at = match.end()
    return found


def _as_number(value: sp.Basic) -> sp.Expr:
    if isinstance(value, Boolean) and not isinstance(value, sp.Symbol):
        if value in (sp.true, sp.false):
            return sp.Integer(int(value is sp.true))
        return sp.Piecewise((sp.Integer(1), value), (sp.Integer(0), True))
    return value


def _as_truth(value: sp.Basic) -> sp.Basic:
    if isinstance(value, Boolean) and not isinstance(value, sp.Symbol):
        return value
    return sp.Ne(value, 0)


def _power(base: sp.Expr, exponent: sp.Expr) -> sp.Expr:
    if base.is_Number and exponent.is_Number:
        # In floating point: exact powers of powers would fill the memory.
        try:
            result = float(base) ** float(exponent)
        except OverflowError:
            return sp.oo
        except ZeroDivisionError:
            raise FormulaError("0 has a negative exponent") from None
        if isinstance(result, complex):
            raise FormulaError(f"{base} to the power of {exponent} is not real")
        return number(result)
    return sp.Pow(base, exponent)


class _Reader:
    """Reads tokens from left to right, one method for each level of binding."""

    def __init__(self, tokens: list[tuple[str, str, int]], meaning: Meaning) -> None:
        self.tokens, self.meaning, self.place = tokens, meaning, 0

    @property
    def ahead(self) -> str:
        """The next word or sign; empty at the end."""
        return self.tokens[self.place][1] if self.place < len(self.tokens) else ""

    @property
    def at(self) -> int:
        """Its position."""
        return self.tokens[self.place][2] if self.place < len(self.tokens) else -1

    def take(self, *signs: str) -> str:
        """Return the next sign if it is one of these, and go on; else nothing."""
        found = self.ahead
        if found not in signs:
            return ""
        self.place += 1
        return found

    def need(self, sign: str) -> None:
        """Go past a sign that must come."""
        if not self.take(sign):
            raise FormulaError(
                f"{sign!r} is missing at " + (f"position {self.at}" if self.ahead else "the end")
            )

    def junction(self) -> sp.Basic:
        found = self.comparison()
        while sign := self.take("&&", "||"):
            join = sp.And if sign == "&&" else sp.Or
            found = join(_as_truth(found), _as_truth(self.comparison()))
        return found

    def comparison(self) -> sp.Basic:
        found = self.sum()
        while sign := self.take(*_COMPARISONS):
            found = _COMPARISONS[sign](_as_number(found), _as_number(self.sum()))
        return found

    def sum(self) -> sp.Basic:
        found = self.product()
        if self.ahead not in ("+", "-"):
            return found
        terms = [_as_number(found)]
        while sign := self.take("+", "-"):
            term = _as_number(self.product())
            terms.append(-term if sign == "-" else term)
        return sp.Add(*terms)

    def product(self) -> sp.Basic:
        found = self.signed()
        if self.ahead not in ("*", "/"):
            return found
        factors = [_as_number(found)]
        while sign := self.take("*", "/"):
            factor = _as_number(self.signed())
            if sign == "/" and factor.is_zero:
                raise FormulaError("it divides by 0")
            factors.append(factor if sign == "*" else 1 / factor)
        return sp.Mul(*factors)

    def signed(self) -> sp.Basic:
        signs = []
        while sign := self.take("-", "+", "!"):
            signs.append(sign)
        found = self.power()
        for sign in reversed(signs):
            if sign == "!":
                found = sp.Not(_as_truth(found))
            else:
                found = -_as_number(found) if sign == "-" else _as_number(found)
        return found

    def power(self) -> sp.Basic:
        found = self.atom()
        if not self.take("^"):
            return found
        return _power(_as_number(found), _as_number(self.signed()))

    def atom(self) -> sp.Basic:
        if self.place == len(self.tokens):
            raise FormulaError("it ends too early")
        kind, text, at = self.tokens[self.place]
        self.place += 1
        if kind == "number":
            return number(float(text))
        if kind == "name" and self.take("("):
            arguments = [self.junction()]
            while self.take(","):
                arguments.append(self.junction())
            self.need(")")
            return self.call(text, arguments)
        if kind == "name":
            if text.lower() not in RESERVED:
                return self.meaning(text)
            if text == "inf":
                return sp.oo
            if text in ("true", "false"):
                return sp.true if text == "true" else sp.false
            raise FormulaError(f"{text} is a reserved word")
        if text == "(":
            found = self.junction()
            self.need(")")
            return found
        raise FormulaError(f"{text!r} is not expected at position {at}")

    def call(self, name: str, given: list[sp.Basic]) -> sp.Expr:
        """Return a function of its arguments."""
        if name == "piecewise" and len(given) % 2:
            pairs = [
                (_as_number(value), _as_truth(condition))
                for value, condition in zip(given[:-1:2], given[1::2], strict=True)
            ]
            return sp.Piecewise(*pairs, (_as_number(given[-1]), True))
        numbers = [_as_number(value) for value in given]
        if name in _FUNCTIONS and len(given) == 1:
            return _FUNCTIONS[name](numbers[0])
        if name == "log" and len(given) in (1, 2):
            base = [_log(x) for x in numbers[1:]]
            return _log(numbers[0]) / base[0] if base else _log(numbers[0])
        if len(given) == 2 and name in ("pow", "min", "max"):
            if name == "pow":
                return _power(*numbers)
            return (sp.Min if name == "min" else sp.Max)(*numbers)
        if name in (*_FUNCTIONS, "log", "pow", "min", "max", "piecewise"):
            raise FormulaError(f"{name} does not take {len(given)} arguments")
        raise FormulaError(f"{name} is no function of PEtab")
