"""Operands of model text, combined into SymPy expressions with guards around SymPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import sympy as sp
from sympy.functions.elementary.piecewise import ExprCondPair

from symode.equations.functions import COMPARISONS, TextFunction
from symode.equations.tokens import Source, Token
from symode.equations.walk import symbols_in
from symode.errors import ParseError

# SymPy simplifies as it builds, by questions about signs and zeros that recurse through all of an
# expression and are asked again at every level: depth 200 overflows the stack, 18 nested maxima
# take a second, and Heaviside(a**170) of a symbol that may be complex expands the power. So sums,
# products and powers are simplified up to this depth and size, functions and comparisons only where
# they are constants; the rest stays as it was written.
_SIMPLIFIED_DEPTH = 12
_SIMPLIFIED_SIZE = 500
# Powers of exact numbers are exact: 9^9^9^9 must be refused, not computed.
_LARGEST_EXPONENT = 1024
_LARGEST_BITS = 2200
# Exact numbers above this, or with such a denominator, are handed to functions as floats.
_EXACT_NUMBERS = 2.0**53

# SymPy's classes that sort their arguments.
_SORTING = (sp.Min, sp.Max, sp.And, sp.Or)

Join = Literal["", "+", "*", "and", "or"]


@dataclass(slots=True)
class Operand:
    """A part of an expression that has been read.

    Attributes
    ----------
    parts, join
        The SymPy objects of a sum, product, conjunction or disjunction that may still grow: long
        ones are built at once, in linear time. One part with join "" is anything else.
    token
        Where it starts.
    is_condition
        True for comparisons and what is made of them.
    depth, size
        Nesting depth, and number of nodes as a tree.
    value
        The float it stands for when it has no symbols, else None.
    chain
        The right-hand side of a comparison, for ``a < b < c``.
    """

    parts: list[Any]
    token: Token
    join: Join = ""
    is_condition: bool = False
    depth: int = 1
    size: int = 1
    value: float | None = None
    chain: Operand | None = field(default=None)


class Builder:
    """Combines operands; every refusal points at the operator or function that caused it.

    Examples
    --------
    >>> import sympy as sp
    >>> here = Token("name", "x", 1, 0)
    >>> build = Builder(Source("x + 2"))
    >>> total = build.sum(Operand([sp.Symbol("x")], here), Operand([sp.Integer(2)], here), here)
    >>> build.finished(total)
    x + 2
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def finished(self, operand: Operand) -> Any:
        """Return the SymPy expression of an operand, and close it: it will not grow any more."""
        if operand.join:
            build = {"+": sp.Add, "*": sp.Mul, "and": sp.And, "or": sp.Or}[operand.join]
            simplify = operand.depth <= _SIMPLIFIED_DEPTH
            expression = self._call(operand.token, build, operand.parts, simplify)
            operand.parts, operand.join = [expression], ""
            self._note_constant(operand)
        return operand.parts[0]

    def sum(self, left: Operand, right: Operand, token: Token, *, minus: bool = False) -> Operand:
        """Return left + right, or left - right."""
        right = self.negative(right, token) if minus else right
        value = self._value(token, lambda x, y: x + y, (left, right))
        return self._joined("+", left, right, token, value)

    def product(self, left: Operand, right: Operand, token: Token) -> Operand:
        """Return left * right."""
        value = self._value(token, lambda x, y: x * y, (left, right))
        return self._joined("*", left, right, token, value)

    def quotient(self, left: Operand, right: Operand, token: Token) -> Operand:
        """Return left / right."""
        minus_one = Operand([sp.S.NegativeOne], token, value=-1.0)
        return self.product(left, self.power(right, minus_one, token), token)

    def negative(self, operand: Operand, token: Token) -> Operand:
        """Return -operand."""
        self._expect_number(operand, token)
        minus_one = Operand([sp.S.NegativeOne], token, value=-1.0)
        negated = self.product(minus_one, operand, token)
        negated.token = token
        return negated

    def positive(self, operand: Operand, token: Token) -> Operand:
        """Return +operand."""
        self._expect_number(operand, token)
        return operand

    def power(self, base: Operand, exponent: Operand, token: Token) -> Operand:
        """Return base ** exponent."""
        self.finished(exponent)
        is_float = self.finished(base).is_Float
        value = self._value(token, _power, (base, exponent))
        if exponent.value is not None and abs(exponent.value) > _LARGEST_EXPONENT and not is_float:
            self.source.refuse(
                exponent.token,
                f"the exponent is larger than {_LARGEST_EXPONENT}; write an exact base as a "
                "decimal number, or the power as exp(n*log(x))",
            )
        return self._applied(sp.Pow, (base, exponent), token, value, simplify=True)

    def comparison(self, left: Operand, right: Operand, token: Token) -> Operand:
        """Return the condition ``left ? right``; with a chain, ``left and last ? right``."""
        last = left if left.chain is None else left.chain
        for operand in (last, right):
            self._expect_number(operand, token)
        simplify = last.value is not None and right.value is not None
        arguments = (self._as_number(last), self._as_number(right))
        compared = self._call(token, COMPARISONS[token.text], arguments, simplify)
        if last.value is not None and right.value is None:
            # As SymPy has it: 0 < x is written x > 0.
            compared = compared.reversed
        relation = Operand(
            [compared],
            left.token,
            is_condition=True,
            depth=max(last.depth, right.depth) + 1,
            size=last.size + right.size + 1,
            chain=right,
        )
        if left.chain is None:
            return relation
        left.chain = None
        both = self.logic("and", left, relation, token)
        both.chain = right
        return both

    def logic(
        self, word: Literal["and", "or"], left: Operand, right: Operand, token: Token
    ) -> Operand:
        """Return the conjunction or disjunction of two conditions."""
        for operand in (left, right):
            self.expect_condition(operand, token)
        return self._joined(word, left, right, token, None, is_condition=True)

    def negation(self, operand: Operand, token: Token) -> Operand:
        """Return the condition ``not operand``."""
        self.expect_condition(operand, token)
        result = self._call(token, sp.Not, (self.finished(operand),), simplify=True)
        return replace(operand, parts=[result], token=token, depth=operand.depth + 1, chain=None)

    def function(self, name: TextFunction, arguments: Sequence[Operand], token: Token) -> Operand:
        """Return a function of numbers."""
        value = self._value(token, name.value, arguments)
        for argument in arguments:
            if not _is_exact(self.finished(argument), argument.value, name.exact_up_to):
                self._as_number(argument)
        simplify = value is not None
        return self._applied(name.build, arguments, token, value, simplify=simplify)

    def piecewise(self, pairs: Sequence[tuple[Operand, Operand | None]], token: Token) -> Operand:
        """Return the first value whose condition holds; the last one has no condition."""
        operands = [operand for pair in pairs for operand in pair if operand is not None]
        for value, condition in pairs:
            self._expect_number(value, token)
            if condition is not None:
                self.expect_condition(condition, token)
        branches: list[tuple[Any, Any]] = []
        for value, condition in pairs:
            holds = sp.true if condition is None else self.finished(condition)
            if holds == sp.true and not branches:
                return value
            if holds != sp.false:
                branches.append((self.finished(value), holds))
            if holds == sp.true:
                break
        return Operand(
            [_as_written(sp.Piecewise, branches)],
            token,
            depth=max(operand.depth for operand in operands) + 1,
            size=sum(operand.size for operand in operands) + 1,
        )

    def expect_condition(self, operand: Operand, token: Token) -> None:
        """Refuse a number where a condition belongs."""
        if not operand.is_condition:
            self.source.refuse(
                operand.token,
                f"a condition, such as x > 0, is expected next to {token.text!r}, not a number",
            )

    def _expect_number(self, operand: Operand, token: Token) -> None:
        if operand.is_condition:
            self.source.refuse(
                operand.token,
                f"a number is expected next to {token.text!r}, not a condition; write "
                "if(condition, 1, 0) to make one",
            )

    def _as_number(self, operand: Operand) -> Any:
        """Return the expression of an operand, with its float in place of an exact constant.

        Left exact, constants are compared by SymPy to as many digits as that takes: a billion to
        find that erf(10^5) is less than 1.
        """
        expression = self.finished(operand)
        if operand.value is not None and not _is_exact(expression, operand.value, _EXACT_NUMBERS):
            operand.parts = [sp.Float(operand.value)]
        return operand.parts[0]

    def _value(
        self, token: Token, function: Callable[..., Any], operands: Sequence[Operand]
    ) -> float | None:
        """Return the float a constant stands for, or refuse one that no float holds."""
        for operand in operands:
            self._expect_number(operand, token)
        values = [operand.value for operand in operands]
        if any(value is None for value in values):
            return None
        try:
            result = function(*values)
        except OverflowError:
            result = math.inf
        except ZeroDivisionError:
            self.source.refuse(token, "division by zero")
        except (TypeError, ValueError):
            result = math.nan
        if isinstance(result, complex) or math.isnan(result):
            self.source.refuse(token, "the constant that starts or is made here is not real")
        if math.isinf(result):
            self.source.refuse(token, "the constant that starts or is made here exceeds 1e308")
        return float(result)

    def _joined(
        self,
        join: Join,
        left: Operand,
        right: Operand,
        token: Token,
        value: float | None,
        *,
        is_condition: bool = False,
    ) -> Operand:
        """Return left with right appended, growing left when it is already of this kind."""
        part = self.finished(right)
        if left.join != join:
            left = Operand(
                [self.finished(left)], left.token, join, depth=left.depth + 1, size=left.size
            )
        left.parts.append(part)
        left.depth = max(left.depth, right.depth + 1)
        left.size += right.size + 1
        left.value, left.is_condition, left.chain = value, is_condition, None
        return left

    def _applied(
        self,
        build: Callable[..., Any],
        operands: Sequence[Operand],
        token: Token,
        value: float | None,
        *,
        simplify: bool,
    ) -> Operand:
        result = Operand(
            [],
            operands[0].token,
            depth=max(operand.depth for operand in operands) + 1,
            size=sum(operand.size for operand in operands) + 1,
            value=value,
        )
        arguments = [self.finished(operand) for operand in operands]
        if build in _SORTING and value is None:
            arguments = list(sp.ordered(arguments)) if _is_short(result) else arguments
            result.parts = [_as_written(build, arguments)]
        else:
            result.parts = [self._call(token, build, arguments, simplify and _is_short(result))]
        self._note_constant(result)
        return result

    def _note_constant(self, operand: Operand) -> None:
        """Give a value to what became a constant as it was simplified, such as ``x - x + 2``."""
        if operand.value is not None or operand.is_condition or not _is_short(operand):
            return
        expression = operand.parts[0]
        if expression.is_Number or not symbols_in([expression]):
            operand.value = self._value(operand.token, lambda: float(expression), ())

    def _call(
        self, token: Token, build: Callable[..., Any], arguments: Sequence[Any], simplify: bool
    ) -> Any:
        """Return what SymPy builds; whatever it cannot build becomes a message at this place."""
        try:
            if simplify:
                expression = build(*arguments)
                return self._with_modest_numbers(expression, token)
            if build in _SORTING:
                return _as_written(build, arguments)
            return build(*arguments, evaluate=False)
        except ParseError:
            raise
        except RecursionError:
            self.source.refuse(token, "this expression is nested too deeply for SymPy")
        except Exception as error:
            # Simplification is SymPy's: its failures, whatever their type, are told where they
            # arise, so that no text makes anything but a ParseError.
            self.source.refuse(token, f"SymPy cannot form this expression ({error})")

    def _with_modest_numbers(self, expression: Any, token: Token) -> Any:
        """Refuse exact numbers that grow without bound through repeated definitions."""
        numbers = [expression]
        if isinstance(expression, sp.Mul | sp.Add):
            numbers = [arg for arg in expression.args[:1]]
        for number in numbers:
            if isinstance(number, sp.Rational):
                if max(int(number.p).bit_length(), int(number.q).bit_length()) > _LARGEST_BITS:
                    self.source.refuse(
                        token, "an exact number has over 660 digits; write it as a decimal number"
                    )
            elif isinstance(number, sp.Float) and not math.isfinite(float(number)):
                self.source.refuse(token, "a number is larger than 1e308")
        return expression


def _as_written(kind: Any, arguments: Sequence[Any]) -> Any:
    """Return a SymPy object made without its constructor.

    The constructors of these classes sort their arguments or fold piecewise parts of them, even
    when asked not to evaluate. They visit shared parts again and again: definitions nested 30 deep
    would take hours.
    """
    if kind is sp.Piecewise:
        arguments = [sp.Basic.__new__(ExprCondPair, *pair) for pair in arguments]
        return sp.Basic.__new__(kind, *arguments)
    distinct = list(dict.fromkeys(arguments))
    if len(distinct) == 1:
        return distinct[0]
    made = sp.Basic.__new__(kind, *distinct)
    made._argset = frozenset(distinct)
    return made


def _is_short(operand: Operand) -> bool:
    return operand.depth <= _SIMPLIFIED_DEPTH and operand.size <= _SIMPLIFIED_SIZE


def _is_exact(expression: Any, value: float | None, limit: float) -> bool:
    """Return whether SymPy may be given this constant as it is: a float or a short number."""
    if value is None or expression.is_Float:
        return True
    number = expression / sp.pi if expression.has(sp.pi) and limit < _EXACT_NUMBERS else expression
    if not isinstance(number, sp.Rational) or abs(value) > limit:
        return False
    return max(abs(int(number.p)), int(number.q)) <= _EXACT_NUMBERS


def _power(base: float, exponent: float) -> Any:
    return base**exponent
