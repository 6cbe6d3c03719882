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


def scaled_partial(b: Builder, i: int, k: int, s: int) -> int:
    """Return the node of s times the derivative of node i in its k-th argument."""
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


def _div(b: Builder, i: int, k: int, s: int) -> int:
    over = b.div(s, _arg(b, i, 1))
    return b.neg(b.mul(over, i)) if k else over


def _powi(b: Builder, i: int, k: int, s: int) -> int:
    n = b.payloads[i]
    return b.mul(s, b.mul(b.const(n), b.powi(_arg(b, i), n - 1)))


def _pow(b: Builder, i: int, k: int, s: int) -> int:
    x, y = b.args[i]
    if k:
        # x**y * log|x|: 0 at x = 0 (y > 0). For x < 0 the power exists at integers y only; there
        # this is the real part of the complex derivative, continuous with 0 at x = 0.
        base = b.value(x)
        log = b.unary("log", x if base is not None else b.unary("abs", x))
        return b.mul(s, b.mul(i, log) if base is not None else b.mul0(i, log))
    exponent = b.value(y)
    if exponent is not None:
        # y*x**(y-1), with no second call of pow: x**y / x, 0/0 being 0 for y > 1 and for
        # y < 1 the infinite slope x**(y-1), which s = 0 overrides.
        if exponent > 1:
            return b.mul(s, b.mul(y, b.div0(i, x)))
        return b.div0(b.mul(s, y), b.binary("pow", x, b.const(1 - exponent)))
    zero, one = b.const(0), b.const(1)
    at_zero = b.select(
        b.compare("lt", one, y),
        zero,
        b.select(b.compare("eq", y, one), one, b.div(one, b.unary("abs", x))),
    )
    slope = b.select(b.compare("eq", x, zero), at_zero, b.div(i, x))
    b.guarded.add(slope)
    return b.mul(s, b.mul(y, slope))


def _sqrt(b: Builder, i: int, k: int, s: int) -> int:
    return b.div0(b.mul(s, b.const(Fraction(1, 2))), i)


def _exp(b: Builder, i: int, k: int, s: int) -> int:
    # A saturated factor such as 1/(1 + exp(u)) hands back s = 0 where exp(u) overflows.
    return b.mul0(s, i) if b.value(s) is None else b.mul(s, i)


def _log(b: Builder, i: int, k: int, s: int) -> int:
    return b.div0(s, _arg(b, i))


def _sin(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.unary("cos", _arg(b, i)))


def _cos(b: Builder, i: int, k: int, s: int) -> int:
    return b.neg(b.mul(s, b.unary("sin", _arg(b, i))))


def _tan(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.add(b.const(1), b.powi(i, 2)))


def _asin(b: Builder, i: int, k: int, s: int) -> int:
    return b.div0(s, b.unary("sqrt", b.sub(b.const(1), b.powi(_arg(b, i), 2))))


def _acos(b: Builder, i: int, k: int, s: int) -> int:
    return b.neg(_asin(b, i, k, s))


def _atan(b: Builder, i: int, k: int, s: int) -> int:
    return b.div(s, b.add(b.const(1), b.powi(_arg(b, i), 2)))


def _atan2(b: Builder, i: int, k: int, s: int) -> int:
    y, x = b.args[i]
    radius = b.add(b.powi(x, 2), b.powi(y, 2))
    slope = b.div0(b.mul(s, y if k else x), radius)
    return b.neg(slope) if k else slope


def _sinh(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.unary("cosh", _arg(b, i)))


def _cosh(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.unary("sinh", _arg(b, i)))


def _tanh(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.sub(b.const(1), b.powi(i, 2)))


def _asinh(b: Builder, i: int, k: int, s: int) -> int:
    return b.div(s, b.unary("sqrt", b.add(b.powi(_arg(b, i), 2), b.const(1))))


def _acosh(b: Builder, i: int, k: int, s: int) -> int:
    return b.div0(s, b.unary("sqrt", b.sub(b.powi(_arg(b, i), 2), b.const(1))))


def _atanh(b: Builder, i: int, k: int, s: int) -> int:
    return b.div(s, b.sub(b.const(1), b.powi(_arg(b, i), 2)))


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
    return b.mul(s, b.mul(i, b.unary("polygamma", _arg(b, i), 0)))


def _loggamma(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.unary("polygamma", _arg(b, i), 0))


def _polygamma(b: Builder, i: int, k: int, s: int) -> int:
    return b.mul(s, b.unary("polygamma", _arg(b, i), b.payloads[i] + 1))


def _abs(b: Builder, i: int, k: int, s: int) -> int:
    x, zero = _arg(b, i), b.const(0)
    below = b.select(b.compare("lt", x, zero), b.const(-1), zero)
    return b.mul(s, b.select(b.compare("lt", zero, x), b.const(1), below))


def _max(b: Builder, i: int, k: int, s: int) -> int:
    x, y = b.args[i]
    first = b.compare("le", y, x)
    return b.mask(b.node("not", (first,)) if k else first, s)


def _min(b: Builder, i: int, k: int, s: int) -> int:
    x, y = b.args[i]
    first = b.compare("le", x, y)
    return b.mask(b.node("not", (first,)) if k else first, s)


def _select(b: Builder, i: int, k: int, s: int) -> int:
    condition = _arg(b, i)
    if k == 0:
        return b.const(0)
    return b.mask(condition if k == 1 else b.node("not", (condition,)), s)


def _flat(b: Builder, i: int, k: int, s: int) -> int:
    return b.const(0)


RULES: Final[dict[str, Rule]] = {
    "add": _add,
    "sub": _sub,
    "neg": _neg,
    "mul": _mul,
    "mul0": _mul,
    "div": _div,
    "div0": _div,
    "powi": _powi,
    "pow": _pow,
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
