r"""Networks of reactions written as text, read by the grammar of models in text.

A reaction is an arrow between two sides and, after a semicolon, its rate; both rates, that of the
way back second, where the arrow has two heads::

    A + B -> C; k*A*B                 # rates are what is written: nothing is multiplied to them
    C <-> 2 D; kf*C; kb*D^2
    -> A; supply                      # an empty side; 0 and ∅ say the same
    loss: D -> 0; d*D                 # named: the rate is an observable

Every species is a state whose derivative sums the rates, each times what the reaction makes of it,

.. math:: \dot z_i = \sum_j (\nu^+_{ij} - \nu^-_{ij}) \, v_j(z, t, \theta).

All other statements of `symode.equations.text` may stand beside reactions: ``A(0) = 2``, ``obs``,
``param``, definitions, derivatives of further states. A species that ``param`` declares keeps its
value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from symode.equations.equations import Equations
from symode.equations.expressions import RESERVED
from symode.equations.text import Reading, Statement, classified
from symode.equations.tokens import Source, Token
from symode.errors import ParseError

_LABEL = re.compile(r"(?:(?<=^)|(?<=;))(\s*)([^\W\d]\w*)(\s*):(?!=)")
_EMPTY = ("0", "")


def parse_reactions(text: str) -> Equations:
    """Return the checked Equations of a network of reactions.

    Raises
    ------
    ParseError
        With every statement that could not be read, each with line, column and a caret.
    ModelError
        When the statements can be read but do not form a model.

    Examples
    --------
    >>> equations = parse_reactions("2 A + B -> C; k*A^2*B")
    >>> equations.state_names, equations.rhs
    (('A', 'B', 'C'), (-2*A**2*B*k, -A**2*B*k, A**2*B*k))
    >>> parse_reactions("A -> B")
    Traceback (most recent call last):
        ...
    symode.errors.ParseError: The text is not a model:
      - line 1, column 3: this reaction has no rate; write it after a semicolon, as in A -> B; k*A
            A -> B
              ^
    """
    if not isinstance(text, str):
        fault = f"The reactions are a {type(text).__name__}, and a text is expected."
        raise ParseError(fault, [fault])
    return _Network(text).equations()


@dataclass(frozen=True, slots=True)
class _Term:
    species: Token
    coefficient: Token | None


class _Network(Reading):
    """One reading of reactions, which become definitions of rates and equations of states."""

    def __init__(self, text: str) -> None:
        self.labels: dict[int, list[Token]] = {}
        self.changes: dict[str, list[tuple[str, Token, Token | None]]] = {}
        self.species: dict[str, Token] = {}
        self.rates: list[Statement] = []
        source = Source(self._without_labels(text))
        # Messages show what was written.
        self.shown = Source(text).lines
        super().__init__(source)

    def _without_labels(self, text: str) -> str:
        """Blank ``name:`` before reactions, at the places where statements begin."""
        lines = []
        for number, line in enumerate(Source(text).lines, start=1):
            for match in _LABEL.finditer(line.split("#")[0]):
                place = match.start(2)
                label = Token("name", match.group(2), number, place)
                self.labels.setdefault(number, []).append(label)
                line = line[:place] + " " * (match.end() - place) + line[match.end() :]
            lines.append(line.replace("∅", "0"))
        return "\n".join(lines)

    def _collect(self) -> None:
        statements = list(self.source)
        self.source.lines = self.shown
        waiting: list[tuple[Token, str]] = []
        faulty_line = number = 0
        for tokens in statements:
            arrow, first = _arrow(tokens), tokens[0]
            try:
                label = self._label_of(first)
                if label is not None and (arrow is None or waiting):
                    self.source.refuse(label, "a name with a colon stands before a reaction")
                if waiting and arrow is None:
                    place, name = waiting.pop(0)
                    rate = Statement("definition", replace(place, text=name), tuple(tokens))
                    self.statements.append(rate)
                    continue
                self._note_missing(waiting)
                waiting = []
                if arrow is not None:
                    number += 1
                    waiting = self._reaction(tokens, arrow, label, number)
                elif first.line != faulty_line:
                    # What follows a faulty reaction on its line is its rate.
                    self.statements += classified(tokens, self.source)
            except ParseError as error:
                self.faults += error.faults
                faulty_line = first.line
        self._note_missing(waiting)
        held = {s.name.text for s in self.statements if s.role == "parameter"}
        for name, token in self.species.items():
            if name not in held:
                expression = self._sum(self.changes[name], token)
                self.statements.append(Statement("state", token, expression))
        self.statements += self.rates

    def _note_missing(self, waiting: Sequence[tuple[Token, str]]) -> None:
        """Note a reaction whose rate does not come, unless it was unreadable."""
        lines = [fault.split(",")[0] for fault in self.source.faults]
        for place, name in waiting[:1]:
            if f"line {place.line}" not in lines:
                is_back = name.endswith("back")
                self.faults.append(self.source.point(place, _NO_WAY_BACK if is_back else _NO_RATE))

    def _reaction(
        self, tokens: Sequence[Token], arrow: tuple[int, int], label: Token | None, number: int
    ) -> list[tuple[Token, str]]:
        """Note the changes of species; return the places and names of the rates to come."""
        first, last = arrow
        head = tokens[first]
        left = self._side([*tokens[:first], replace(head, kind="end", text="")])
        right = self._side(tokens[last + 1 :])
        if not left and not right:
            self.source.refuse(head, "a reaction has a species on one of its sides")
        # Names that no text can hold: those of definitions are put in where they stand.
        names = [f"rate {number}"]
        if tokens[first].text == "<":
            names.append(f"rate {number} back")
        signs = ("-", "+")
        for name, swap in zip(names, (False, True), strict=False):
            for sign, side in zip(reversed(signs) if swap else signs, (left, right), strict=True):
                for term in side:
                    self.species.setdefault(term.species.text, term.species)
                    self.changes.setdefault(term.species.text, []).append(
                        (sign, replace(head, kind="name", text=name), term.coefficient)
                    )
        if label is not None:
            total = [replace(label, text=names[0])]
            if len(names) > 1:
                total += [Token("symbol", "-", label.line, label.column)]
                total += [replace(label, text=names[1])]
            end = Token("end", "", label.line, label.column)
            self.rates.append(Statement("observable", label, (*total, end)))
        return [(head, name) for name in names]

    def _label_of(self, start: Token) -> Token | None:
        """Return the label that stands before a token on its line, and take it."""
        labels = self.labels.get(start.line, [])
        before = [label for label in labels if label.column < start.column]
        if not before:
            return None
        labels.remove(before[-1])
        return before[-1]

    def _side(self, tokens: Sequence[Token]) -> list[_Term]:
        """Return the terms of one side: ``2 A + 0.5*B``."""
        if len(tokens) == 1 or (len(tokens) == 2 and tokens[0].text in _EMPTY):
            return []
        terms: list[_Term] = []
        position = 0
        while True:
            token, coefficient = tokens[position], None
            if token.kind == "number":
                coefficient = token
                position += 2 if tokens[position + 1].text == "*" else 1
                token = tokens[position]
            if token.kind != "name":
                found = "the end" if token.kind == "end" else repr(token.text)
                self.source.refuse(
                    token, f"a species, or a number and a species, is expected, not {found}"
                )
            if token.text in RESERVED:
                self.source.refuse(token, f"{token.text!r} is a word of the grammar")
            terms.append(_Term(token, coefficient))
            after = tokens[position + 1]
            if after.kind == "end":
                return terms
            if after.text != "+":
                self.source.refuse(
                    after, f"species of a side are joined by +, as in A + 2 B, not {after.text!r}"
                )
            position += 2

    def _sum(
        self, changes: Sequence[tuple[str, Token, Token | None]], species: Token
    ) -> tuple[Token, ...]:
        tokens: list[Token] = []
        for sign, rate, coefficient in changes:
            tokens.append(Token("symbol", sign, rate.line, rate.column))
            if coefficient is not None:
                tokens += [coefficient, Token("symbol", "*", rate.line, rate.column)]
            tokens.append(rate)
        return (*tokens, Token("end", "", species.line, species.column))


_NO_WAY_BACK = "the way back has no rate; write both, as in A <-> B; kf*A; kb*B"
_NO_RATE = "this reaction has no rate; write it after a semicolon, as in A -> B; k*A"


def _arrow(tokens: Sequence[Token]) -> tuple[int, int] | None:
    """Return the places of the first and the last token of an arrow, if there is one.

    An arrow's signs touch: ``->`` or ``<->``.
    """
    for i, (token, after) in enumerate(pairwise(tokens)):
        touches = (after.line, after.column) == (token.line, token.column + 1)
        if token.text == "-" and after.text in (">", ">=") and touches:
            before = tokens[i - 1] if i else token
            is_double = before.text == "<" and before.column == token.column - 1
            return (i - 1 if is_double else i), i + 1
    return None
