"""Model text cut into tokens and statements, each of which knows its line and column."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias

from symode.errors import ParseError

Kind: TypeAlias = Literal["number", "name", "symbol", "unreadable", "end"]

# Signs that come with text pasted from papers and word processors.
_TYPESET = str.maketrans({"−": "-", "·": "*", "×": "*", "′": "'", "’": "'"})
_NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NAME = re.compile(r"[^\W\d]\w*")
_SYMBOL = re.compile(r"\*\*|<=|>=|==|!=|[-+*/^()<>=,;']")
_SHOWN_COLUMNS = 76


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text and where it stands; ``column`` counts from zero.

    Examples
    --------
    >>> Token("name", "x", 1, 0)
    Token(kind='name', text='x', line=1, column=0)
    """

    kind: Kind
    text: str
    line: int
    column: int


class Source:
    """Text with its lines, from which tokens are cut and to which messages point.

    Examples
    --------
    >>> [[token.text for token in statement] for statement in Source("x' = 1; y' = x # rest")]
    [['x', "'", '=', '1', ''], ['y', "'", '=', 'x', '']]
    """

    def __init__(self, text: str) -> None:
        self.lines = re.split(r"\r\n|\r|\n", text)
        self.faults: list[str] = []

    def __iter__(self) -> Iterator[list[Token]]:
        """Yield statements: tokens closed by one of kind "end". Unreadable ones are noted.

        A line end or a semicolon ends a statement; inside parentheses a line end does not.
        """
        statement: list[Token] = []
        faults: list[str] = []
        open_parentheses = 0
        for number, line in enumerate(self.lines, start=1):
            for token in _tokens_of(line, number):
                complaint = _complaint(token, line)
                if complaint:
                    faults.append(self.point(token, complaint))
                open_parentheses += {"(": 1, ")": -1}.get(token.text, 0)
                if token.text == ";" or (token.kind == "end" and open_parentheses <= 0):
                    end = Token("end", "", token.line, token.column)
                    yield from self._statement([*statement, end], faults)
                    statement, faults, open_parentheses = [], [], 0
                elif token.kind != "end":
                    statement.append(token)
        end = Token("end", "", len(self.lines), len(self.lines[-1]))
        yield from self._statement([*statement, end], faults)

    def _statement(self, tokens: list[Token], faults: list[str]) -> Iterator[list[Token]]:
        # One fault is enough to look at a statement again; the others may follow from it.
        self.faults += faults[:1]
        if len(tokens) > 1 and not faults:
            yield tokens

    def refuse(self, token: Token, complaint: str) -> NoReturn:
        """Raise a `ParseError` that points at a token."""
        fault = self.point(token, complaint)
        raise ParseError(fault, [fault])

    def point(self, token: Token, complaint: str) -> str:
        """Return a complaint with line, column, the line itself and a caret below the token."""
        line = re.sub(r"\s", " ", self.lines[token.line - 1])
        start = max(0, min(token.column - _SHOWN_COLUMNS // 2, len(line) - _SHOWN_COLUMNS))
        shown = line[start : start + _SHOWN_COLUMNS]
        caret = " " * (token.column - start) + "^"
        return (
            f"line {token.line}, column {token.column + 1}: {complaint}\n"
            f"        {shown}\n        {caret}"
        )


def _tokens_of(line: str, number: int) -> Iterator[Token]:
    """Yield the tokens of a line and its end; an unreadable character is a token of its own."""
    text = line.translate(_TYPESET)
    position = 0
    while position < len(text) and text[position] != "#":
        if text[position].isspace():
            position += 1
            continue
        token = Token("unreadable", text[position], number, position)
        for kind, pattern in _PATTERNS:
            match = pattern.match(text, position)
            if match:
                token = Token(kind, match.group(), number, position)
                break
        yield token
        position += len(token.text)
    yield Token("end", "", number, len(line))


def _complaint(token: Token, line: str) -> str:
    # \w also matches superscripts and the like: "x²" must not pass for a name.
    if token.kind == "name" and not token.text.isidentifier():
        return f"{token.text!r} is not a name; a power is written with ^, as in x^2"
    return _unreadable(line[token.column]) if token.kind == "unreadable" else ""


_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("number", _NUMBER),
    ("name", _NAME),
    ("symbol", _SYMBOL),
)


def _unreadable(character: str) -> str:
    hints = {
        "[": "; group with parentheses",
        "{": "; group with parentheses",
        "|": "; write abs(x) for |x|, or for conditions",
        "&": "; write and",
        "!": "; write not, or != to compare",
        '"': "; names are written without quotes",
        "²": "; write ^2",
        "³": "; write ^3",
    }
    return f"{character!r} is not part of the grammar{hints.get(character, '')}"
