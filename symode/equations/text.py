r"""Models written as text, read by a grammar of their own: nothing in the text is ever executed.

One statement a line, or several separated by semicolons; ``#`` starts a comment; a line may break
inside parentheses::

    time t                        # optional; t is the default
    param a, b, c, d              # optional; then every other name is an error
    growth = a*x                  # a definition, put in where the name is used below
    x' = growth - b*x*y           # or dx/dt = ...
    dy/dt = d*x*y - c*y
    alg w, v                      # states without a derivative, and one equation for each
    0 = w + v - x
    0 = w*v - growth
    x(0) = 10                     # value at the initial time; parameters and time may occur
    y(0) = y_0
    obs prey = x                  # an observable

Without ``param``, every name that is neither a state, time nor a definition is a parameter, and
parameters are sorted by name. States keep the order of their equations. Names are symbols without
assumptions, whatever SymPy means by them (``I``, ``E``, ``beta`` are ordinary names).

Numbers with a point or an exponent are floats, others exact integers. Expressions are made of

- ``+ - * / ^ **`` and parentheses,
- comparisons, which chain (``0 < x < 1``), ``and``, ``or``, ``not``,
- ``if(condition, a, b)`` and ``piecewise(a, condition, ..., otherwise)``,
- ``exp log ln log10 sqrt sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh abs min
  max erf erfc gamma loggamma sign heaviside floor`` and the constant ``pi``.

A name is a function only in front of a parenthesis, so a parameter may be called ``gamma``, but not
in a text that calls the function.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias

import sympy as sp

from symode.equations.equations import Equations
from symode.equations.expressions import RESERVED, parse_expression
from symode.equations.functions import FUNCTIONS
from symode.equations.inputs import from_mapping
from symode.equations.operands import Builder, Operand
from symode.equations.tokens import Source, Token
from symode.errors import ParseError

Role: TypeAlias = Literal[
    "time", "parameter", "state", "algebraic state", "algebraic equation", "definition",
    "initial value", "observable",
]  # fmt: skip
# Roles whose names share one namespace; the others name something that has a role already.
_OWNING: tuple[Role, ...] = ("time", "parameter", "state", "algebraic state", "definition")


@dataclass(frozen=True, slots=True)
class Statement:
    """A name that a statement is about, its expression, and the clock of a dx/dt."""

    role: Role
    name: Token
    expression: tuple[Token, ...] = ()
    clock: Token | None = None


def parse_model(text: str) -> Equations:
    """Return the checked Equations that a text states.

    Parameters
    ----------
    text
        Statements as the documentation of this module describes them.

    Raises
    ------
    ParseError
        With every statement that could not be read, each with line, column and a caret.
    ModelError
        When the statements can be read but do not form a model.

    Examples
    --------
    >>> equations = parse_model("x' = a*x - b*x*y; y' = b*x*y - y; x(0) = 10; y(0) = a")
    >>> equations.rhs, equations.initial
    ((a*x - b*x*y, b*x*y - y), (10, a))
    >>> parse_model("x' = a*x -* b")
    Traceback (most recent call last):
        ...
    symode.errors.ParseError: The text is not a model:
      - line 1, column 11: a number, a name or '(' is expected after '-', not '*'
            x' = a*x -* b
                      ^
    """
    if not isinstance(text, str):
        fault = f"The model is a {type(text).__name__}, and a text is expected."
        raise ParseError(fault, [fault])
    return Reading(Source(text)).equations()


class Reading:
    """One reading of a text: first the names its statements are about, then their expressions."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.faults: list[str] = []
        self.statements: list[Statement] = []
        self._collect()
        self.faults += source.faults
        self.clock = self._clock()
        self.owners = self._owners()
        self.parameters = [s.name.text for s in self.statements if s.role == "parameter"]
        self.definitions: dict[str, Operand] = {}
        self.used: dict[str, Token] = {}

    def _collect(self) -> None:
        """Take the statements of the source, and note those that cannot be read."""
        for tokens in self.source:
            try:
                self.statements += classified(tokens, self.source)
            except ParseError as error:
                self.faults += error.faults

    def equations(self) -> Equations:
        """Return the Equations, or raise everything that was found."""
        written: defaultdict[Role, dict[str, Any]] = defaultdict(dict)
        for statement in self.statements:
            if statement.expression:
                operand = self._operand(statement)
                written[statement.role][statement.name.text] = operand.parts[0]
                if statement.role == "definition":
                    self.definitions[statement.name.text] = operand
        self._note_confused_functions()
        algebraic = self._algebraic(list(written["algebraic equation"].values()))
        if self.faults:
            faults = sorted(dict.fromkeys(self.faults), key=_line_of)
            lines = "".join(f"\n  - {fault}" for fault in faults)
            raise ParseError(f"The text is not a model:{lines}", faults)
        return from_mapping(
            written["state"],
            self.parameters or None,
            self.clock,
            written["initial value"] or None,
            written["observable"],
            algebraic=algebraic or None,
        )

    def _algebraic(self, equations: Sequence[Any]) -> dict[str, Any]:
        """Return the algebraic states, each with an equation; note where their numbers differ."""
        states = [s.name for s in self.statements if s.role == "algebraic state"]
        if len(states) != len(equations):
            places = [s.name for s in self.statements if s.role == "algebraic equation"]
            self._note(
                (states or places)[-1],
                f"there are {len(states)} algebraic states and {len(equations)} equations 0 = ...; "
                "declare with alg as many states as there are equations",
            )
        return dict(zip((s.text for s in states), equations, strict=False))

    def _note(self, token: Token, complaint: str) -> None:
        self.faults.append(self.source.point(token, complaint))

    def _clock(self) -> str:
        """Return the name of time: that of its statement, of dx/dt, or t."""
        named = [s.name for s in self.statements if s.role == "time"]
        named += [s.clock for s in self.statements if s.clock is not None]
        for token in named[1:]:
            if token.text != named[0].text:
                self._note(token, f"time is {named[0].text!r} on line {named[0].line}")
        return named[0].text if named else "t"

    def _owners(self) -> dict[str, tuple[Role, Token]]:
        """Return what each name stands for; note names that are given two meanings."""
        owners: dict[str, tuple[Role, Token]] = {}
        seen: dict[tuple[Role, str], Token] = {}
        for statement in self.statements:
            role, token = statement.role, statement.name
            if role in _OWNING:
                before, at = owners.setdefault(token.text, (role, token))
            else:
                before, at = role, seen.setdefault((role, token.text), token)
            if at is not token:
                article = "an" if before[0] in "aeiou" else "a"
                self._note(
                    token, f"{token.text!r} is {article} {before} already, by line {at.line}"
                )
        for statement in self.statements:
            name = statement.name.text
            owner = owners.get(name)
            states = ("state", "algebraic state")
            if statement.role == "initial value" and (owner is None or owner[0] not in states):
                self._note(statement.name, f"{name!r} has no equation; write {name}' = ...")
        return owners

    def _operand(self, statement: Statement) -> Operand:
        """Return what an expression stands for; a faulty one is noted and stands for its name."""
        try:
            operand = parse_expression(statement.expression, self.source, self._resolve)
            if operand.is_condition:
                self.source.refuse(
                    statement.expression[0],
                    "a number is expected, not a condition; write if(condition, 1, 0)",
                )
            Builder(self.source).finished(operand)
        except ParseError as error:
            self.faults += error.faults
            return Operand([sp.Symbol(statement.name.text)], statement.name)
        return operand

    def _resolve(self, token: Token) -> Operand:
        """Return the definition or the symbol that a name stands for."""
        name = token.text
        role, owner = self.owners.get(name, (None, token))
        if role == "definition":
            if name not in self.definitions:
                self.source.refuse(
                    token,
                    f"{name!r} is used before its definition on line {owner.line} is complete",
                )
            defined = self.definitions[name]
            return replace(defined, token=token, parts=list(defined.parts))
        is_first = self.used.setdefault(name, token) is token
        if self.parameters and role is None and name != self.clock and is_first:
            close = get_close_matches(name, [*self.owners, self.clock], n=1)
            guess = f" (did you mean {close[0]}?)" if close else ""
            # Noted, not raised: the rest of the expression may hold other faults.
            self._note(token, f"unknown name {name!r}{guess}; declare it with: param {name}")
        return Operand([sp.Symbol(name)], token)

    def _note_confused_functions(self) -> None:
        """Note calls of a function whose name is a symbol elsewhere: a missing * reads like one."""
        for statement in self.statements:
            for token, after in zip(statement.expression, statement.expression[1:], strict=False):
                if after.text != "(" or token.text not in FUNCTIONS:
                    continue
                first = self.used.get(token.text) or self.owners.get(token.text, (None, None))[1]
                if first is not None:
                    self._note(
                        token,
                        f"{token.text!r} is a function here and a symbol on line {first.line}; "
                        f"write {token.text}*(...) for a product, or rename the symbol",
                    )


def classified(tokens: Sequence[Token], source: Source) -> Iterator[Statement]:
    """Yield the statements that the tokens of one line form, one per name."""
    shape = " ".join("x" if t.kind == "name" else t.text for t in tokens[:5])
    first = tokens[0]
    if first.text in ("param", "time", "obs", "alg") and tokens[1].kind == "name":
        yield from _declared(tokens, source)
    elif shape.startswith("x ' ="):
        yield _stated("state", first, tokens[3:], source)
    elif shape.startswith("x ' '"):
        source.refuse(tokens[2], "equations are of first order; write x' = v and v' = ...")
    elif shape.startswith("x / x =") and first.text[0] == tokens[2].text[0] == "d":
        state, clock = _without_d(first, source), _without_d(tokens[2], source)
        yield replace(_stated("state", state, tokens[4:], source), clock=clock)
    elif re.match(r"x \( \S+ \) =", shape):
        if tokens[2].text not in ("0", "t0"):
            complaint = "initial values are those at the start of a solve, written x(0) or x(t0)"
            source.refuse(tokens[2], complaint)
        yield _stated("initial value", first, tokens[5:], source)
    elif shape.startswith("0 ="):
        # Equations have no name: their place is one.
        place = replace(first, text=f"0 = (line {first.line}, column {first.column})")
        yield Statement("algebraic equation", place, tuple(tokens[2:]))
    elif shape.startswith("x ="):
        yield _stated("definition", first, tokens[2:], source)
    else:
        source.refuse(
            first,
            "a statement is expected: x' = ..., dx/dt = ..., x(0) = ..., obs u = ..., "
            "param a, b, time t, alg y with 0 = ..., or a definition u = ...",
        )


def _declared(tokens: Sequence[Token], source: Source) -> Iterator[Statement]:
    """Yield what the statements that start with a word declare."""
    word, *rest = tokens
    if word.text == "obs":
        if rest[1].text != "=":
            source.refuse(rest[1], "an observable is written obs u = ...")
        yield _stated("observable", rest[0], rest[2:], source)
        return
    roles: dict[str, Role] = {"time": "time", "alg": "algebraic state"}
    role: Role = roles.get(word.text, "parameter")
    for token in rest[:-1]:
        if token.text == "=":
            source.refuse(token, "values of parameters are passed to each solve, not written here")
        if token.text == "," and role != "time":
            continue
        if token.kind != "name" or (role == "time" and token is not rest[0]):
            wanted = "one name" if role == "time" else "names separated by commas"
            source.refuse(token, f"{word.text} is followed by {wanted}")
        yield _stated(role, token, (), source)


def _stated(role: Role, name: Token, expression: Sequence[Token], source: Source) -> Statement:
    if name.text in RESERVED:
        source.refuse(name, f"{name.text!r} is a word of the grammar; choose another name")
    return Statement(role, name, tuple(expression))


def _without_d(token: Token, source: Source) -> Token:
    """Return the token x of dx."""
    name = token.text[1:]
    if not name.isidentifier():
        source.refuse(token, "a derivative is written dx/dt, with the names of the state and time")
    return Token("name", name, token.line, token.column + 1)


def _line_of(fault: str) -> int:
    match = re.match(r"line (\d+)", fault)
    return int(match.group(1)) if match else 0
