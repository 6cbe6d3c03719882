"""The functions and operations of model text: how each is built, and its value on numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import sympy as sp

_UNLIMITED = 1000
_EXACT = 2.0**53


@dataclass(frozen=True)
class TextFunction:
    """A function of model text.

    Attributes
    ----------
    build
        The SymPy function, called with the arguments and ``evaluate=``.
    value
        The same function on floats; it raises where it is not a real number. Constants are first
        computed with it, so that SymPy is never asked for a number outside double precision.
    least, most
        How many arguments it takes.
    exact_up_to
        Constants above this are given to SymPy as floats: exact values would cost too much
        (loggamma(10^7) is computed from a factorial) or be too near another (erf(100) to 1).

    Examples
    --------
    >>> FUNCTIONS["exp"].value(0.0)
    1.0
    """

    build: Callable[..., sp.Expr]
    value: Callable[..., float]
    least: int = 1
    most: int = 1
    exact_up_to: float = 20.0


def _sign(x: float) -> float:
    return float((x > 0) - (x < 0))


def _real_loggamma(x: float) -> float:
    if x <= 0:
        raise ValueError("loggamma is real on positive numbers only")
    return math.lgamma(x)


def _log10(x: sp.Expr, evaluate: bool = True) -> sp.Expr:
    return sp.log(x, evaluate=evaluate) / sp.log(10)


def _sqrt(x: sp.Expr, evaluate: bool = True) -> sp.Expr:
    return sp.Pow(x, sp.S.Half, evaluate=evaluate)


FUNCTIONS: Mapping[str, TextFunction] = MappingProxyType(
    {
        "exp": TextFunction(sp.exp, math.exp),
        "log": TextFunction(sp.log, math.log, exact_up_to=_EXACT),
        "ln": TextFunction(sp.log, math.log, exact_up_to=_EXACT),
        "log10": TextFunction(_log10, math.log10, exact_up_to=_EXACT),
        "sqrt": TextFunction(_sqrt, math.sqrt, exact_up_to=_EXACT),
        "sin": TextFunction(sp.sin, math.sin),
        "cos": TextFunction(sp.cos, math.cos),
        "tan": TextFunction(sp.tan, math.tan),
        "asin": TextFunction(sp.asin, math.asin),
        "acos": TextFunction(sp.acos, math.acos),
        "atan": TextFunction(sp.atan, math.atan),
        "atan2": TextFunction(sp.atan2, math.atan2, 2, 2),
        "sinh": TextFunction(sp.sinh, math.sinh),
        "cosh": TextFunction(sp.cosh, math.cosh),
        "tanh": TextFunction(sp.tanh, math.tanh),
        "asinh": TextFunction(sp.asinh, math.asinh),
        "acosh": TextFunction(sp.acosh, math.acosh),
        "atanh": TextFunction(sp.atanh, math.atanh),
        "floor": TextFunction(sp.floor, lambda x: float(math.floor(x)), exact_up_to=_EXACT),
        "abs": TextFunction(sp.Abs, abs, exact_up_to=_EXACT),
        "min": TextFunction(sp.Min, min, 2, _UNLIMITED, exact_up_to=_EXACT),
        "max": TextFunction(sp.Max, max, 2, _UNLIMITED, exact_up_to=_EXACT),
        "erf": TextFunction(sp.erf, math.erf),
        "erfc": TextFunction(sp.erfc, math.erfc),
        "gamma": TextFunction(sp.gamma, math.gamma),
        "loggamma": TextFunction(sp.loggamma, _real_loggamma),
        "sign": TextFunction(sp.sign, _sign),
        "heaviside": TextFunction(sp.Heaviside, lambda x: 0.5 * (_sign(x) + 1.0)),
    }
)

COMPARISONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"<": sp.Lt, "<=": sp.Le, ">": sp.Gt, ">=": sp.Ge, "==": sp.Eq, "!=": sp.Ne}
)
