"""Formulas of PEtab tables: parsed by the library's own grammar, names replaced by meanings."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import sympy as sp
from sympy.logic.boolalg import Boolean

from symode.errors import ImportFileError

#: Characters of one formula, and nesting of its parentheses.
LONGEST: Final = 100_000
DEEPEST: Final = 60
_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*")

Meaning = Callable[[str], sp.Expr]


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
    if is_identifier(formula):
        return meaning(formula)
    check_size(formula, where)
    from petab.v1.math import sympify_petab

    try:
        parsed = sympify_petab(formula)
    except (ValueError, AssertionError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ImportFileError(f"{where}: {formula[:200]!r} is no formula: {reason}.") from None
    symbols = sorted(parsed.free_symbols, key=str)
    expression = parsed.xreplace({symbol: meaning(symbol.name) for symbol in symbols})
    if isinstance(expression, Boolean):
        return sp.Piecewise((sp.Integer(1), expression), (sp.Integer(0), True))
    return tidy(expression)


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


def tidy(expression: sp.Expr) -> sp.Expr:
    """Return an expression in which whole numbers are exact.

    The library reads every number as a decimal; ``x**2.0`` would be the power of a real exponent.
    """
    whole = {
        value: sp.Integer(int(value))
        for value in expression.atoms(sp.Float)
        if value == int(value) and abs(value) < 2**53
    }
    return expression.xreplace(whole) if whole else expression


def number(value: Any) -> sp.Expr:
    """Return a number as an expression, whole ones exactly."""
    value = float(value)
    if value == value and abs(value) < 2**53 and value == int(value):
        return sp.Integer(int(value))
    return sp.Float(value)


def _depth(formula: str) -> int:
    deepest = depth = 0
    for character in formula:
        if character in "([":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]":
            depth -= 1
    return deepest
