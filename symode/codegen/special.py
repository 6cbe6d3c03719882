r"""Digamma and its derivatives, which the C library lacks, as graphs.

.. math:: \psi^{(n)}(x) = (-1)^{n+1} n! \sum_{k\ge0} (x+k)^{-n-1}

Arguments below 16 are raised by the recurrence, then the asymptotic series is used; negative
arguments are reflected. Source: NIST DLMF, 5.5.2, 5.5.4, 5.11.2, 5.15.5, 5.15.6 and 5.15.8.

As graphs, they reach every backend through the code that serves the models, without branches.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import factorial
from typing import Final

from symode.symbolic.graph import Builder, Graph

#: Highest order with a kernel.
MAX_ORDER: Final = 5
#: The recurrence raises arguments below this by as much; the series is then exact to rounding.
RAISED: Final = 16
#: Bernoulli numbers B_2, B_4, ..., B_20.
BERNOULLI: Final = (
    Fraction(1, 6),
    Fraction(-1, 30),
    Fraction(1, 42),
    Fraction(-1, 30),
    Fraction(5, 66),
    Fraction(-691, 2730),
    Fraction(7, 6),
    Fraction(-3617, 510),
    Fraction(43867, 798),
    Fraction(-174611, 330),
)
PI: Final = Fraction("3.14159265358979323846264338327950288419716939937510582097494")


@cache
def polygamma_graph(n: int) -> Graph:
    r"""Return the graph of :math:`\psi^{(n)}(x)` for 0 ≤ n ≤ 5; its one input has kind ``t``.

    NaN at the poles x = 0, -1, -2, ... The error is a few units in the last place of
    :math:`|\psi^{(n)}| + |x \psi^{(n+1)}|`.

    Examples
    --------
    >>> polygamma_graph(0)
    Graph(90 operations, 1 outputs)
    """
    b = Builder()
    x = b.input("t", 0)
    negative = b.compare("le", x, b.const(0))
    value = _positive(b, n, b.select(negative, b.sub(b.const(1), x), x))
    # (-1)^n psi_n(1 - x) - psi_n(x) = pi d^n/dx^n cot(pi x), of period 1.
    offset = b.sub(x, b.unary("floor", b.add(x, b.const(Fraction(1, 2)))))
    reflected = b.sub(b.neg(value) if n % 2 else value, _cotangent(b, n, offset))
    pole = b.compare("eq", offset, b.const(0))
    reflected = b.select(pole, b.node("nan"), reflected)
    return b.freeze([b.select(negative, reflected, value)])


def _positive(b: Builder, n: int, x: int) -> int:
    """Add psi_n(x) for x > 0."""
    sign = 1 if n % 2 else -1
    small = b.compare("lt", x, b.const(RAISED))
    # The smallest terms first, for their digits.
    steps = [
        b.powi(b.div(b.const(1), b.add(x, b.const(k))), n + 1) for k in reversed(range(RAISED))
    ]
    shift = b.mul(b.const(factorial(n)), b.total(steps))
    shift = b.select(small, shift, b.const(0))
    inverse = b.div(b.const(1), b.select(small, b.add(x, b.const(RAISED)), x))
    square = b.powi(inverse, 2)
    # Asymptotic: log x - 1/(2x) - sum B_2k / (2k x^2k) for n = 0, else
    # (n-1)!/x^n + n!/(2 x^(n+1)) + sum B_2k (2k+n-1)! / ((2k)! x^(2k+n)).
    series = b.const(0)
    for k in reversed(range(len(BERNOULLI))):
        order = 2 * k + 2
        term = BERNOULLI[k] * Fraction(factorial(order + n - 1), factorial(order))
        series = b.mul(b.add(series, b.const(term)), square)
    half = b.mul(b.const(Fraction(factorial(n), 2)), inverse)
    if n == 0:
        raised = b.unary("log", b.select(small, b.add(x, b.const(RAISED)), x))
        return b.sub(b.sub(b.sub(raised, half), series), shift)
    series = b.add(b.add(series, half), b.const(factorial(n - 1)))
    size = b.add(b.mul(series, b.powi(inverse, n)), shift)
    return size if sign > 0 else b.neg(size)


def _cotangent(b: Builder, n: int, x: int) -> int:
    r"""Add :math:`\pi` times the n-th derivative of :math:`\cot(\pi x)`.

    With c = cot: d/dx of a polynomial P(c) is -pi (1 + c^2) P'(c).
    """
    polynomial = [0, 1]
    for _ in range(n):
        slope = [k * a for k, a in enumerate(polynomial)][1:]
        polynomial = [
            -(low + high) for low, high in zip([*slope, 0, 0], [0, 0, *slope], strict=True)
        ]
    c = b.div(b.const(1), b.unary("tan", b.mul(b.const(PI), x)))
    value = b.const(0)
    for a in reversed(polynomial):
        value = b.add(b.mul(value, c), b.const(a))
    return b.mul(b.const(PI ** (n + 1)), value)
