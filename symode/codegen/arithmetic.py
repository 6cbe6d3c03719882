"""Arithmetics of the reference backend: what numbers are, and what each operation does to them.

`FLOATS` has the semantics of the compiled kernels (IEEE 754 doubles), elementwise on arrays;
`COMPLEX` extends them for complex steps; `mpmath_arithmetic` computes in any precision.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
from scipy import special

from symode.codegen.program import to_float

Operation = Callable[..., Any]


@dataclass(frozen=True)
class Arithmetic:
    """The meaning of numbers and operations for `symode.codegen.reference.evaluate`.

    Parameters
    ----------
    name
        For messages.
    number
        Turns an exact rational constant, or an input, into a number.
    nan
        The value of an undefined result.
    operations
        One function per operation of a graph; ``powi``, ``polygamma`` and ``table`` take
        their payload first. Without ``polygamma`` its graph is evaluated.
    collect
        Turns the list of outputs into the result.

    Examples
    --------
    >>> FLOATS.operations["mul0"](0.0, np.inf)
    array(0.)
    """

    name: str
    number: Callable[[Any], Any]
    nan: Any
    operations: Mapping[str, Operation]
    collect: Callable[[list[Any]], Any]


# -- doubles --------------------------------------------------------------------------------


def _mul0(a: Any, b: Any) -> Any:
    return np.where((a == 0) | (b == 0), 0.0, a * b)


def _div0(a: Any, b: Any) -> Any:
    return np.where(a == 0, 0.0, np.divide(a, b))


def _gamma(x: Any) -> Any:
    # The C library has NaN at the negative integers, where the sign of the pole is undefined.
    return np.where((x < 0) & (x == np.floor(x)), np.nan, special.gamma(x))


_FLOAT_OPERATIONS: Final[dict[str, Operation]] = {
    "add": operator.add,
    "sub": operator.sub,
    "neg": operator.neg,
    "mul": operator.mul,
    "div": np.divide,
    "mul0": _mul0,
    "div0": _div0,
    "powi": lambda n, x: np.power(x, float(n)),
    "pow": np.power,
    "slope": lambda power, x, y: np.power(x, y - 1),
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "sigmoid": special.expit,
    "logaddexp": np.logaddexp,
    "erf": special.erf,
    "erfc": special.erfc,
    "gamma": _gamma,
    # As in C, whose limit at minus infinity differs from SciPy's.
    "loggamma": lambda x: np.where(np.isinf(x), np.inf, special.gammaln(x)),
    "table": lambda family, x, k: family(x, k),
    "abs": np.abs,
    "floor": np.floor,
    "max": np.maximum,
    "min": np.minimum,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "select": np.where,
}


def _double(value: Any) -> Any:
    if isinstance(value, Fraction):
        return np.float64(to_float(value))
    return np.asarray(value, dtype=float)[()]


def _stack(values: list[Any]) -> Any:
    return np.stack(np.broadcast_arrays(*values)) if values else np.empty(0)


FLOATS: Final = Arithmetic("floats", _double, np.float64(np.nan), _FLOAT_OPERATIONS, _stack)


# -- complex numbers, for complex steps ---------------------------------------------------------


def _where_real(function: Operation, defined: Operation) -> Operation:
    """Return a function that is NaN outside the real domain, whose branch no kernel takes."""

    def restricted(*args: Any) -> Any:
        return np.where(defined(*(a.real for a in args)), function(*args), np.nan)

    return restricted


def _first_order(value: Operation, slope: Operation) -> Operation:
    """Return f(x + i h) = f(x) + i h f'(x): exact to rounding for the steps meant here."""

    def extended(x: Any) -> Any:
        return value(x.real) + 1j * (x.imag * slope(x.real))

    return extended


def _complex_exp(x: Any) -> Any:
    # An overflow times the phase would be inf + inf*i, whose reciprocal is NaN in NumPy.
    size = np.exp(x.real)
    return np.where(np.isinf(size), size + 0j, np.exp(x))


def _complex_pow(x: Any, y: Any) -> Any:
    integer = y.real == np.floor(y.real)
    defined = (x.real > 0) | ((x.real == 0) & (y.real >= 0)) | ((x.real < 0) & integer)
    return np.where(defined, np.power(x, y), np.nan)


def _complex_atan2(y: Any, x: Any) -> Any:
    slope = (x.real * y.imag - y.real * x.imag) / (x.real**2 + y.real**2)
    return np.arctan2(y.real, x.real) + 1j * slope


def _on_real(function: Operation) -> Operation:
    return lambda *args: function(*(a.real for a in args))


def _complex_max(a: Any, b: Any) -> Any:
    return np.where((a.real > b.real) | np.isnan(a.real), a, b)


def _complex_min(a: Any, b: Any) -> Any:
    return np.where((a.real < b.real) | np.isnan(a.real), a, b)


_TWO_OVER_SQRT_PI: Final = 2.0 / np.sqrt(np.pi)

_COMPLEX_OPERATIONS: Final[dict[str, Operation]] = {
    **_FLOAT_OPERATIONS,
    "powi": lambda n, x: np.power(x, n),
    "pow": _complex_pow,
    "slope": lambda power, x, y: _complex_pow(x, y - 1),
    "sqrt": _where_real(np.sqrt, lambda x: x >= 0),
    "exp": _complex_exp,
    "log": _where_real(np.log, lambda x: x >= 0),
    "log1p": _where_real(np.log1p, lambda x: x >= -1),
    "asin": _where_real(np.arcsin, lambda x: np.abs(x) <= 1),
    "acos": _where_real(np.arccos, lambda x: np.abs(x) <= 1),
    "acosh": _where_real(np.arccosh, lambda x: x >= 1),
    "atanh": _where_real(np.arctanh, lambda x: np.abs(x) <= 1),
    "atan2": _complex_atan2,
    "sigmoid": _first_order(special.expit, lambda x: special.expit(x) * special.expit(-x)),
    "logaddexp": lambda a, b: (
        _complex_max(a, b) + np.log1p(np.exp(_complex_min(a, b) - _complex_max(a, b)))
    ),
    "erf": _first_order(special.erf, lambda x: _TWO_OVER_SQRT_PI * np.exp(-x * x)),
    "erfc": _first_order(special.erfc, lambda x: -_TWO_OVER_SQRT_PI * np.exp(-x * x)),
    "gamma": _first_order(_gamma, lambda x: _gamma(x) * special.digamma(x)),
    "loggamma": _first_order(special.gammaln, lambda x: special.digamma(x)),
    "abs": lambda x: np.where(x.real < 0, -x, x),
    "floor": lambda x: np.floor(x.real) + 0j,
    "table": lambda family, x, k: family(x, np.real(k)),
    "max": _complex_max,
    "min": _complex_min,
    "lt": _on_real(operator.lt),
    "le": _on_real(operator.le),
    "eq": _on_real(operator.eq),
    "ne": _on_real(operator.ne),
}


def _complex(value: Any) -> Any:
    if isinstance(value, Fraction):
        return np.complex128(to_float(value))
    return np.asarray(value, dtype=complex)[()]


COMPLEX: Final = Arithmetic("complex", _complex, np.complex128(np.nan), _COMPLEX_OPERATIONS, _stack)


# -- any precision ------------------------------------------------------------------------------


def mpmath_arithmetic(mp: Any) -> Arithmetic:
    """Return real arithmetic in the precision of an mpmath context.

    Parameters
    ----------
    mp
        ``mpmath.mp`` or an ``mpmath.MPContext()`` of one's own, at its current precision.

    Examples
    --------
    >>> import mpmath
    >>> half = mpmath_arithmetic(mpmath.mp).number(Fraction(1, 2))
    >>> half, mpmath_arithmetic(mpmath.mp).operations["log"](-half)
    (mpf('0.5'), mpf('nan'))
    """
    nan, zero, one = mp.nan, mp.mpf(0), mp.mpf(1)
    # Larger exponents than this overflow in doubles and only cost time here.
    most = mp.mpf(10) ** 9

    def number(value: Any) -> Any:
        if isinstance(value, Fraction):
            return mp.mpf(value.numerator) / value.denominator
        # Numbers of other contexts keep all their digits.
        return mp.make_mpf(value._mpf_) if hasattr(value, "_mpf_") else mp.mpf(float(value))

    def div(a: Any, b: Any) -> Any:
        if b == 0:
            return nan if a == 0 or mp.isnan(a) else a * mp.inf
        return a / b

    def exp(x: Any) -> Any:
        if mp.isnan(x):
            return nan
        return (mp.inf if x > 0 else zero) if abs(x) > most else mp.exp(x)

    def power(x: Any, y: Any) -> Any:
        if mp.isnan(x) or mp.isnan(y):
            return nan
        if x == 0:
            return one if y == 0 else zero if y > 0 else mp.inf
        if x < 0 and not mp.isint(y):
            return nan
        size = exp(y * mp.log(abs(x)))
        return -size if x < 0 and int(y) % 2 else size

    def real(function: Operation, defined: Operation = lambda x: True) -> Operation:
        def restricted(x: Any) -> Any:
            return function(x) if not mp.isnan(x) and defined(x) else nan

        return restricted

    def is_pole(x: Any) -> bool:
        return bool(x <= 0 and mp.isint(x))

    def pick(a: Any, b: Any, first: Operation) -> Any:
        return a if mp.isnan(a) or (not mp.isnan(b) and first(a, b)) else b

    def log(x: Any) -> Any:
        return -mp.inf if x == 0 else mp.log(x)

    operations: dict[str, Operation] = {
        "add": operator.add,
        "sub": operator.sub,
        "neg": operator.neg,
        "mul": operator.mul,
        "div": div,
        "mul0": lambda a, b: zero if a == 0 or b == 0 else a * b,
        "div0": lambda a, b: zero if a == 0 else div(a, b),
        "powi": lambda n, x: x**n,
        "pow": power,
        "slope": lambda whole, x, y: power(x, y - 1),
        "sqrt": real(mp.sqrt, lambda x: x >= 0),
        "exp": exp,
        "log": real(log, lambda x: x >= 0),
        "log1p": real(lambda x: log(1 + x), lambda x: x >= -1),
        "sin": real(mp.sin, mp.isfinite),
        "cos": real(mp.cos, mp.isfinite),
        "tan": real(mp.tan, mp.isfinite),
        "asin": real(mp.asin, lambda x: abs(x) <= 1),
        "acos": real(mp.acos, lambda x: abs(x) <= 1),
        "atan": real(mp.atan),
        "atan2": lambda y, x: nan if mp.isnan(x) or mp.isnan(y) else mp.atan2(y, x),
        "sinh": lambda x: (exp(x) - exp(-x)) / 2,
        "cosh": lambda x: (exp(x) + exp(-x)) / 2,
        "tanh": real(mp.tanh),
        "asinh": real(mp.asinh),
        "acosh": real(mp.acosh, lambda x: x >= 1),
        "atanh": real(mp.atanh, lambda x: abs(x) < 1),
        "sigmoid": lambda x: div(one, 1 + exp(-x)),
        "logaddexp": lambda a, b: log(exp(a) + exp(b)),
        "erf": real(mp.erf),
        "erfc": real(mp.erfc),
        "gamma": real(mp.gamma, lambda x: not is_pole(x)),
        "loggamma": real(lambda x: mp.re(mp.loggamma(x)), lambda x: not is_pole(x)),
        "polygamma": lambda n, x: nan if mp.isnan(x) or is_pole(x) else mp.polygamma(n, x),
        "table": lambda family, x, k: family(x, k, mp.mpf) if mp.isfinite(x) else nan,
        "abs": abs,
        "floor": real(mp.floor, mp.isfinite),
        "max": lambda a, b: pick(a, b, operator.gt),
        "min": lambda a, b: pick(a, b, operator.lt),
        "lt": operator.lt,
        "le": operator.le,
        "eq": operator.eq,
        "ne": operator.ne,
        "and": lambda a, b: a and b,
        "or": lambda a, b: a or b,
        "not": operator.not_,
        "select": lambda c, a, b: a if c else b,
    }
    return Arithmetic(f"mpmath {mp.dps} digits", number, nan, operations, list)
