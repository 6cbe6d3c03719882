"""Expressions of model text: an operator-precedence parser with explicit stacks.

From loosest to tightest::

    or    and    not    < <= > >= == !=    + -    * /    unary -    ^ **

Comparisons chain (``0 < x < 1``), ``^`` and ``**`` group to the right and bind tighter than the
minus before them (``-x^2`` is ``-(x^2)``), and ``2^-x`` is allowed. Nesting costs no Python stack.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import sympy as sp

from symode.equations.functions import FUNCTIONS
from symode.equations.operands import Builder, Operand
from symode.equations.tokens import Source, Token

Resolver: TypeAlias = Callable[[Token], Operand]

RESERVED = frozenset({"and", "or", "not", "if", "piecewise", "pi"})
_BINARY = {
    "or": 1,
    "and": 2,
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), 4),
    **dict.fromkeys(("+", "-"), 5),
    **dict.fromkeys(("*", "/"), 6),
    **dict.fromkeys(("^", "**"), 8),
}
_PREFIX = {"not": 3, "-": 7, "+": 7}
_MAX_LITERAL = 400


@dataclass(slots=True)
class _Operator:
    token: Token
    precedence: int
    is_prefix: bool = False


@dataclass(slots=True)
class _Open:
    """An open parenthesis; that of a call collects arguments."""

    token: Token
    function: Token | None = None
    arguments: list[Operand] = field(default_factory=list)


def parse_expression(tokens: Sequence[Token], source: Source, resolve: Resolver) -> Operand:
    """Return the operand that tokens, closed by an "end", stand for.

    Parameters
    ----------
    tokens
        The expression and its end.
    source
        Where the tokens come from; refusals point into it.
    resolve
        Returns the operand of a name, or refuses it.

    Raises
    ------
    ParseError
        At the first token that does not fit.

    Examples
    --------
    >>> import sympy as sp
    >>> source = Source("2*x^2 - 1")
    >>> (tokens,) = source
    >>> result = parse_expression(tokens, source, lambda t: Operand([sp.Symbol(t.text)], t))
    >>> Builder(source).finished(result)
    2*x**2 - 1
    """
    return _Parser(tokens, source, resolve).run()


class _Parser:
    def __init__(self, tokens: Sequence[Token], source: Source, resolve: Resolver) -> None:
        self.tokens = tokens
        self.source = source
        self.resolve = resolve
        self.build = Builder(source)
        self.position = 0
        self.operands: list[Operand] = []
        self.stack: list[_Operator | _Open] = []

    def run(self) -> Operand:
        operand_is_next = True
        while True:
            token = self.tokens[self.position]
            self.position += 1
            if operand_is_next:
                operand_is_next = self._read_operand(token)
            elif token.kind == "end":
                return self._finish()
            else:
                operand_is_next = self._read_operator(token)

    def _read_operand(self, token: Token) -> bool:
        """Take one token where an operand may start; return whether one is still to come."""
        following = self.tokens[self.position] if token.kind != "end" else token
        if token.text in _PREFIX:
            self.stack.append(_Operator(token, _PREFIX[token.text], is_prefix=True))
            return True
        if token.text == "(":
            self.stack.append(_Open(token))
            return True
        if token.kind == "name" and following.text == "(":
            self._check_function(token)
            self.stack.append(_Open(following, token))
            self.position += 1
            return True
        if token.kind == "number":
            self.operands.append(self._number(token))
        elif token.text == "pi":
            self.operands.append(Operand([sp.pi], token, value=float(sp.pi)))
        elif token.kind == "name" and token.text not in RESERVED:
            self.operands.append(self.resolve(token))
        else:
            self._refuse_operand(token)
        return False

    def _read_operator(self, token: Token) -> bool:
        """Take one token after an operand; return whether an operand must follow."""
        if token.text in _BINARY:
            precedence = _BINARY[token.text]
            # Right association: an operator on the stack waits for one that binds as tightly.
            self._reduce(precedence + 1 if token.text in ("^", "**") else precedence)
            self.stack.append(_Operator(token, precedence))
            return True
        if token.text == ",":
            self._reduce(0)
            if not self.stack or self._innermost().function is None:
                self.source.refuse(token, "a comma stands only between the arguments of a function")
            self._take_argument(self._innermost())
            return True
        if token.text == ")":
            self._reduce(0)
            if not self.stack:
                self.source.refuse(token, "this parenthesis was never opened")
            self._close()
            return False
        self._refuse_operator(token)
        return False

    def _finish(self) -> Operand:
        self._reduce(0)
        if self.stack:
            self.source.refuse(self._innermost().token, "this parenthesis is never closed")
        (operand,) = self.operands
        return operand

    def _innermost(self) -> _Open:
        innermost = self.stack[-1]
        assert isinstance(innermost, _Open)
        return innermost

    def _reduce(self, precedence: int) -> None:
        """Apply the operators on the stack that bind at least this tightly."""
        while self.stack and isinstance(self.stack[-1], _Operator):
            operator = self.stack[-1]
            if operator.precedence < precedence:
                return
            self.stack.pop()
            right = self.operands.pop()
            if operator.is_prefix:
                self.operands.append(self._prefixed(operator.token, right))
            else:
                left = self.operands.pop()
                self.operands.append(self._combined(left, operator.token, right))

    def _prefixed(self, token: Token, operand: Operand) -> Operand:
        if token.text == "not":
            return self.build.negation(operand, token)
        if token.text == "+":
            return self.build.positive(operand, token)
        return self.build.negative(operand, token)

    def _combined(self, left: Operand, token: Token, right: Operand) -> Operand:
        match token.text:
            case "+" | "-":
                return self.build.sum(left, right, token, minus=token.text == "-")
            case "*":
                return self.build.product(left, right, token)
            case "/":
                return self.build.quotient(left, right, token)
            case "^" | "**":
                return self.build.power(left, right, token)
            case "and" | "or" as word:
                return self.build.logic(word, left, right, token)
            case _:
                return self.build.comparison(left, right, token)

    def _take_argument(self, opened: _Open) -> None:
        argument = self.operands.pop()
        self.build.finished(argument)
        argument.chain = None
        opened.arguments.append(argument)

    def _close(self) -> None:
        opened = self._innermost()
        self._take_argument(opened)
        self.stack.pop()
        if opened.function is None:
            (operand,) = opened.arguments
            operand.token = opened.token
            self.operands.append(operand)
        else:
            self.operands.append(self._called(opened.function, opened.arguments))

    def _called(self, token: Token, arguments: list[Operand]) -> Operand:
        count = len(arguments)
        if token.text == "if":
            if count != 3:
                self.source.refuse(token, f"if(condition, a, b) has 3 arguments, not {count}")
            condition, yes, no = arguments
            result = self.build.piecewise([(yes, condition), (no, None)], token)
        elif token.text == "piecewise":
            if count < 3 or count % 2 == 0:
                self.source.refuse(
                    token,
                    "piecewise(value, condition, ..., value otherwise) has an odd number of "
                    f"arguments, 3 or more, not {count}",
                )
            pairs = [*zip(arguments[0:-1:2], arguments[1::2], strict=True), (arguments[-1], None)]
            result = self.build.piecewise(pairs, token)
        else:
            function = FUNCTIONS[token.text]
            if not function.least <= count <= function.most:
                wanted = "at least 2" if function.most > function.least else function.least
                self.source.refuse(token, f"{token.text} has {wanted} arguments, not {count}")
            result = self.build.function(function, arguments, token)
        result.token = token
        return result

    def _number(self, token: Token) -> Operand:
        if len(token.text) > _MAX_LITERAL:
            self.source.refuse(token, f"a number has at most {_MAX_LITERAL} digits")
        value = float(token.text)
        mantissa = token.text.lower().split("e")[0]
        if value == float("inf") or (value == 0.0 and mantissa.strip("0.")):
            self.source.refuse(token, "this number is outside the range of double precision")
        exact = sp.Integer(int(token.text)) if token.text.isdecimal() else sp.Float(value)
        return Operand([exact], token, value=value)

    def _check_function(self, token: Token) -> None:
        known = [*FUNCTIONS, "if", "piecewise"]
        if token.text in known:
            return
        if token.text in RESERVED:
            self._refuse_operand(token)
        close = difflib.get_close_matches(token.text.lower(), known, n=1)
        guess = f" (did you mean {close[0]}?)" if close else f"; there are {', '.join(known)}"
        self.source.refuse(
            token,
            f"{token.text!r} is not a function{guess}. A product is written {token.text}*(...)",
        )

    def _refuse_operand(self, token: Token) -> None:
        found = "the end" if token.kind == "end" else repr(token.text)
        before = self.tokens[self.position - 2].text if self.position > 1 else ""
        after = f" after {before!r}" if before else ""
        self.source.refuse(token, f"a number, a name or '(' is expected{after}, not {found}")

    def _refuse_operator(self, token: Token) -> None:
        hint = "an operator is expected"
        if token.kind in ("name", "number") or token.text == "(":
            hint += "; a product is written with *"
        elif token.text == "=":
            hint += "; a comparison is written with =="
        elif token.text == "'":
            hint += "; a derivative stands only on the left of ="
        for opened in reversed(self.stack):
            if isinstance(opened, _Open):
                hint += f" (the parenthesis of line {opened.token.line}, column "
                hint += f"{opened.token.column + 1} is still open)"
                break
        self.source.refuse(token, f"{hint}, not {token.text!r}")
