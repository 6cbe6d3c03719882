r"""One derivative rule per operation.

A rule returns :math:`s \,\partial y / \partial x_k` for the node ``y = op(x_1, x_2, ...)``: the
adjoint sweep calls it with s the adjoint of y, the tangent sweep with s the tangent of
:math:`x_k`. A rule keeps s inside the quotient, ``div0(s, 2*y)`` for the square root, so that an
exact zero of s wins over an infinite slope: no NaN appears where the true derivative is finite.

At kinks the rules take the almost-everywhere derivative: that of ``abs``, ``sign``, ``heaviside``
and ``floor`` is 0 at the kink itself, ``max`` and ``min`` follow their first argument in a tie.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final

from symode.symbolic.graph import Builder

Rule = Callable[[Builder, int, int, int], int]

TWO_OVER_SQRT_PI: Final = Fraction(
    "1.12837916709551257389615890312154517168810125865799771368817144342"
)
#: Highest derivative of digamma for which a kernel exists.
MAX_POLYGAMMA: Final = 4

#: Functions that overflow at moderate arguments, so that a reciprocal of them is an exact 0.
OVERFLOWING: Final = frozenset({"exp", "sinh", "cosh", "gamma"})


def scaled_partial(b: Builder, i: int, k: int, s: int) -> int:
    """Return the node of s times the derivative of node i in its k-th argument.

    Examples
    --------
    >>> b = Builder()
    >>> x, s = b.input("z", 0), b.input("v", 0)
    >>> b.freeze([scaled_partial(b, b.unary("sin", x), 0, s)]).ops
    ('input', 'input', 'cos', 'mul')
    """
    if b.value(s) == 0:
        return s
    return RULES[b.ops[i]](b, i, k, s)


def _arg(b: Builder, i: int, k: int = 0) -> int:
    return b.args[i][k]


def _add(b: Builder, i: int, k: int, s: int) -> int:
    return s


def _sub(b: Builder, i: int, k: int, s: int) -> int:
    return b.neg(s) if k else s


def _neg(b: Builder, i: int, k: int, s: int) -> int:
    return b.neg(s)


def _mul(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, _arg(b, i, 1 - k))


def _mul0(b: Builder, i: int, k: int, s: int) -> int:
    # The other factor may be infinite, and further down the path another exact 0 may meet it.
    return b.guard(b.mul0(s, _arg(b, i, 1 - k)))


def _div(b: Builder, i: int, k: int, s: int) -> int:
    over = b.div(s, _arg(b, i, 1))
    return b.neg(b.mul(over, i)) if k else over


def _div0(b: Builder, i: int, k: int, s: int) -> int:
    over = b.div0(s, _arg(b, i, 1))
    return b.neg(b.mul0(over, i)) if k else over


def _powi(b: Builder, i: int, k: int, s: int) -> int:
    n = b.payloads[i]
    return b.mul(s, b.mul(b.const(n), b.powi(_arg(b, i), n - 1)))


def _pow(b: Builder, i: int, k: int, s: int) -> int:
    x, y = b.args[i]
    if k:
        return _power_log(b, i, x, s)
    return b.mul(s, b.mul(y, b.slope(i, x, y)))


def _slope(b: Builder, i: int, k: int, s: int) -> int:
    # x**(y-1), formed from x**y in the first argument: its partial derivatives in x and y are
    # those of the power, and the first argument has none of its own.
    _, x, y = b.args[i]
    if k == 0:
        return b.const(0)
    if k == 2:
        return _power_log(b, i, x, s)
    lower = b.sub(y, b.const(1))
    return b.mul(s, b.mul(lower, b.slope(i, x, lower)))


def _power_log(b: Builder, i: int, x: int, s: int) -> int:
    """Add s * i * log|x|, i being a power of x.

    An exact 0 at x = 0 for a positive exponent. For x < 0 the power exists at integer exponents
    only; there this is the real part of the complex derivative, continuous with 0 at x = 0.
    """
    base = b.value(x)
    if base is not None and base > 0:
        return b.mul(s, b.mul(i, b.unary("log", x)))
    return b.mul(s, b.mul0(i, b.unary("log", b.unary("abs", x))))


def _sqrt(b: Builder, i: int, k: int, s: int) -> int:
    return b.div0(b.mul(s, b.const(Fraction(1, 2))), i)


def _exp(b: Builder, i: int, k: int, s: int) -> int:
    # A saturated factor such as 1/(1 + exp(u)) hands back s = 0 where exp(u) overflows.
    return b.mul0(s, i)


def _log(b: Builder, i: int, k: int, s: int) -> int:
    return b.div0(s, _arg(b, i))


def _sin(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.unary("cos", _arg(b, i)))


def _cos(b: Builder, i: int, k: int, s: int) -> int:
    return b.neg(b.mul(s, b.unary("sin", _arg(b, i))))


def _tan(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.add(b.const(1), b.powi(i, 2)))


def _asin(b: Builder, i: int, k: int, s: int) -> int:
    return b.div0(s, b.unary("sqrt", _one_minus_square(b, _arg(b, i))))


def _one_minus_square(b: Builder, x: int) -> int:
    # As a product, because 1 - x*x loses all digits near x = 1.
    one = b.const(1)
    return b.mul(b.sub(one, x), b.add(one, x))


def _acos(b: Builder, i: int, k: int, s: int) -> int:
    return b.neg(_asin(b, i, k, s))


def _atan(b: Builder, i: int, k: int, s: int) -> int:
    return b.div(s, b.add(b.const(1), b.powi(_arg(b, i), 2)))


def _atan2(b: Builder, i: int, k: int, s: int) -> int:
    y, x = b.args[i]
    radius = b.add(b.powi(x, 2), b.powi(y, 2))
    over = b.div0(s, radius)
    return b.neg(b.mul(over, y)) if k else b.mul(over, x)


def _sinh(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul0(s, b.unary("cosh", _arg(b, i)))


def _cosh(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul0(s, b.unary("sinh", _arg(b, i)))


def _tanh(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.sub(b.const(1), b.powi(i, 2)))


def _asinh(b: Builder, i: int, k: int, s: int) -> int:
    return b.div(s, b.unary("sqrt", b.add(b.powi(_arg(b, i), 2), b.const(1))))


def _acosh(b: Builder, i: int, k: int, s: int) -> int:
    x, one = _arg(b, i), b.const(1)
    return b.div0(s, b.unary("sqrt", b.mul(b.sub(x, one), b.add(x, one))))


def _atanh(b: Builder, i: int, k: int, s: int) -> int:
    return b.div(s, _one_minus_square(b, _arg(b, i)))


def _sigmoid(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.mul(i, b.sub(b.const(1), i)))


def _logaddexp(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.unary("exp", b.sub(_arg(b, i, k), i)))


def _erf(b: Builder, i: int, k: int, s: int) -> int:
    gauss = b.unary("exp", b.neg(b.powi(_arg(b, i), 2)))
    return b.mul(s, b.mul(b.const(TWO_OVER_SQRT_PI), gauss))


def _erfc(b: Builder, i: int, k: int, s: int) -> int:
    return b.neg(_erf(b, i, k, s))


def _gamma(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul0(s, b.mul(i, b.unary("polygamma", _arg(b, i), 0)))


def _loggamma(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.unary("polygamma", _arg(b, i), 0))


def _polygamma(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.unary("polygamma", _arg(b, i), b.payloads[i] + 1))


def _table(b: Builder, i: int, k: int, s: int) -> int:
    slopes = b.payloads[i].slope
    if k == 1 or slopes.is_zero:
        return b.const(0)
    return b.mul(s, b.node("table", b.args[i], slopes))


def _abs(b: Builder, i: int, k: int, s: int) -> int:
    x, zero = _arg(b, i), b.const(0)
    below = b.select(b.compare("lt", x, zero), b.const(-1), zero)
    return b.mul(s, b.select(b.compare("lt", zero, x), b.const(1), below))


def _max(b: Builder, i: int, k: int, s: int) -> int:
    x, y = b.args[i]
    return b.mask(b.compare("le", y, x), s, holds=k == 0)


def _min(b: Builder, i: int, k: int, s: int) -> int:
    x, y = b.args[i]
    return b.mask(b.compare("le", x, y), s, holds=k == 0)


def _select(b: Builder, i: int, k: int, s: int) -> int:
    if k == 0:
        return b.const(0)
    return b.mask(_arg(b, i), s, holds=k == 1)


def _flat(b: Builder, i: int, k: int, s: int) -> int:
    return b.const(0)


RULES: Final[dict[str, Rule]] = {
    "add": _add,
    "sub": _sub,
    "neg": _neg,
    "mul": _mul,
    "mul0": _mul0,
    "div": _div,
    "div0": _div0,
    "powi": _powi,
    "pow": _pow,
    "slope": _slope,
    "sqrt": _sqrt,
    "exp": _exp,
    "log": _log,
    "sin": _sin,
    "cos": _cos,
    "tan": _tan,
    "asin": _asin,
    "acos": _acos,
    "atan": _atan,
    "atan2": _atan2,
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": _tanh,
    "asinh": _asinh,
    "acosh": _acosh,
    "atanh": _atanh,
    "sigmoid": _sigmoid,
    "logaddexp": _logaddexp,
    "erf": _erf,
    "erfc": _erfc,
    "gamma": _gamma,
    "loggamma": _loggamma,
    "polygamma": _polygamma,
    "table": _table,
    "abs": _abs,
    "max": _max,
    "min": _min,
    "select": _select,
    "floor": _flat,
    "lt": _flat,
    "le": _flat,
    "eq": _flat,
    "ne": _flat,
    "and": _flat,
    "or": _flat,
    "not": _flat,
}

#: Operations the adjoint sweep adds for one node at most, beside one addition per argument: the
#: bound on the cost of a vector-Jacobian product, whatever the number of inputs.
OPERATIONS: Final[dict[str, int]] = {
    **dict.fromkeys(("add", "floor", "lt", "le", "eq", "ne", "and", "or", "not"), 0),
    **dict.fromkeys(("sub", "neg", "exp", "log"), 1),
    **dict.fromkeys(("mul", "mul0", "sqrt", "sin", "sinh", "cosh", "loggamma", "polygamma"), 2),
    "table": 2,
    **dict.fromkeys(("select",), 2),
    **dict.fromkeys(("div", "div0", "powi", "cos", "tan", "atan", "tanh", "sigmoid", "gamma"), 3),
    **dict.fromkeys(("max", "min"), 3),
    **dict.fromkeys(("asinh", "atanh"), 4),
    **dict.fromkeys(("asin", "acosh", "erf", "abs"), 5),
    **dict.fromkeys(("acos", "erfc", "logaddexp"), 6),
    **dict.fromkeys(("pow", "atan2"), 7),
    "slope": 8,
}
