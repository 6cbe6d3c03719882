"""Formulas of PEtab tables: parsed by PEtab's grammar, names replaced by meanings."""

from __future__ import annotations

import re
from typing import Any, Final

import sympy as sp

from symode.bridges.petab.grammar import FormulaError, Meaning, expression_of, number
from symode.codegen.reference import evaluate
from symode.errors import ImportFileError
from symode.symbolic.build import build
from symode.symbolic.graph import Builder

__all__ = ["Meaning", "check_size", "is_identifier", "number", "parse", "value_of"]

#: Characters of one formula, and nesting of its parentheses.
LONGEST: Final = 100_000
DEEPEST: Final = 60
_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*")


def is_identifier(text: str) -> bool:
    """Whether a text is one name.

    Examples
    --------
    >>> is_identifier("k_1"), is_identifier("1e3")
    (True, False)
    """
    return _IDENTIFIER.fullmatch(text) is not None


def parse(text: Any, where: str, meaning: Meaning) -> sp.Expr:
    """Return a formula with each name replaced by what it means.

    Raises
    ------
    ImportFileError
        Naming the formula, when it is too long, too deep, or not of the grammar.
    """
    if isinstance(text, int | float):
        return number(text)
    formula = str(text)
    check_size(formula, where)
    try:
        return expression_of(formula, meaning)
    except RecursionError:
        raise ImportFileError(f"{where}: {formula[:200]!r} is nested too deep.") from None
    except FormulaError as error:
        raise ImportFileError(f"{where}: {formula[:200]!r} is no formula: {error}.") from None


def value_of(text: Any, where: str) -> float:
    """Return the number that a formula without names is; infinities are numbers.

    Raises
    ------
    ImportFileError
        As `parse`, and for a formula with names.

    Examples
    --------
    >>> value_of("log(100, 10) + true", "here"), value_of("-inf", "here")
    (3.0, -inf)
    """

    def refuse(name: str) -> sp.Expr:
        raise ImportFileError(f"{where}: {text!r} must be a number; it contains {name}.")

    expression = parse(text, where, refuse)
    if expression.is_infinite:
        return float(expression)
    b = Builder()
    (value,) = evaluate(b.freeze(build(b, [expression], {})), 0.0, (), ())
    return float(value)


def check_size(formula: str, where: str) -> None:
    """Raise for a formula that is too long, or nested too deep.

    Raises
    ------
    ImportFileError
        Saying where it is.
    """
    if len(formula) > LONGEST or _depth(formula) > DEEPEST:
        raise ImportFileError(
            f"{where} is longer than {LONGEST} characters, or nested more than {DEEPEST} deep."
        )


def _depth(formula: str) -> int:
    deepest = depth = 0
    for character in formula:
        if character in "([":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]":
            depth -= 1
    return deepest
