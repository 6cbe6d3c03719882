"""Constants of formulas, kept within double precision: SymPy computes others exactly, at any cost.

``9^9^9`` has 369 million digits, and a file may say so. Every constant is looked at as it is
formed, before it enters the next operation.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Final, NoReturn

import sympy as sp
from sympy.core.evalf import PrecisionExhausted

from symode.equations.walk import distinct_nodes, symbols_in, written_size
from symode.errors import ImportFileError

#: Bits of exact numbers: a little more than doubles reach.
MOST_BITS: Final = 1100
#: Exponents that stay whole numbers; beyond, powers are computed as those of floats.
MOST_EXPONENT: Final = 1000
#: Nodes, written out, of an exponent: SymPy looks for logarithms in each of them.
MOST_WRITTEN: Final = 10_000
#: Nodes of a constant that stays symbolic.
MOST_NODES: Final = 8


def power(base: sp.Expr, exponent: sp.Expr, where: str) -> sp.Expr:
    """Return a power, exactly where that costs little.

    Raises
    ------
    ImportFileError
        For a constant outside double precision.

    Examples
    --------
    >>> power(sp.Integer(2), sp.Rational(1, 2), "a rate"), power(sp.Integer(2), sp.Integer(9), "")
    (sqrt(2), 512)
    """
    if not isinstance(exponent, sp.Number) or not exponent.is_finite:
        if written_size(exponent) > MOST_WRITTEN:
            raise ImportFileError(
                f"{where} has an exponent that, written out, has more than {MOST_WRITTEN} "
                "operations; make a quantity in it a state."
            )
        return base**exponent
    if not isinstance(base, sp.Number) or not base.is_finite:
        is_long = exponent.is_Integer and abs(exponent) > MOST_EXPONENT
        return base ** (sp.Float(exponent) if is_long else exponent)
    if base.is_zero or base == 1:
        return base**exponent
    size = float(exponent) * math.log2(abs(float(base)))
    if size > MOST_BITS:
        refuse(where)
    bits = base.p.bit_length() + base.q.bit_length() if isinstance(base, sp.Rational) else 0
    is_short = isinstance(exponent, sp.Rational) and exponent.q <= MOST_EXPONENT and bits <= 64
    if abs(size) > MOST_BITS or abs(float(exponent)) * bits > 4 * MOST_BITS or not is_short:
        return sp.Float(base) ** sp.Float(exponent) if size > -MOST_BITS else sp.Float(0)
    return base**exponent


def factorial(x: sp.Expr, where: str) -> sp.Expr:
    """Return the factorial, as a gamma function.

    Examples
    --------
    >>> factorial(sp.Integer(4), ""), factorial(sp.Symbol("n"), "")
    (24, gamma(n + 1))
    """
    if isinstance(x, sp.Number) and x > 170:
        refuse(where)
    return sp.gamma(x + 1)


def tame(value: sp.Basic, where: str) -> sp.Basic:
    """Return a value, unless it is a constant outside double precision.

    Raises
    ------
    ImportFileError
        When it is.
    """
    if isinstance(value, sp.Rational):
        if max(abs(value.p).bit_length(), value.q.bit_length()) > 2 * MOST_BITS:
            refuse(where)
        size: sp.Basic = value
    elif isinstance(value, sp.Float):
        size = value
    elif isinstance(value, sp.Expr) and value.args and _is_constant(value):
        try:
            size = value.evalf(17)
        except PrecisionExhausted:
            return value
        if len(_first(value)) > MOST_NODES and isinstance(size, sp.Float):
            # A number from here on: what SymPy asks of constants, it asks of all their parts.
            value = sp.Float(size)
    else:
        return value
    if isinstance(size, sp.Number) and size.is_finite and abs(size) > sp.Float("1.8e308"):
        refuse(where)
    return value


def _first(value: sp.Basic) -> list[sp.Basic]:
    return list(islice(distinct_nodes([value]), MOST_NODES + 1))


def _is_constant(value: sp.Basic) -> bool:
    nodes = _first(value)
    if any(isinstance(node, sp.Symbol) for node in nodes):
        return False
    return len(nodes) <= MOST_NODES or not symbols_in([value])


def refuse(where: str) -> NoReturn:
    """Raise for a constant outside double precision."""
    raise ImportFileError(f"{where} has a constant outside the range of double precision.")
