r"""Digamma and its derivatives, which the C library lacks.

.. math:: \psi^{(n)}(x) = (-1)^{n+1} n! \sum_{k\ge0} (x+k)^{-n-1}

Arguments below 16 are raised by the recurrence, then the asymptotic series is used; negative
arguments are reflected. Source: NIST DLMF, 5.5.2, 5.5.4, 5.11.2, 5.15.5, 5.15.6 and 5.15.8.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

#: Bernoulli numbers B_2, B_4, ..., B_20.
BERNOULLI: Final = (
    1 / 6,
    -1 / 30,
    1 / 42,
    -1 / 30,
    5 / 66,
    -691 / 2730,
    7 / 6,
    -3617 / 510,
    43867 / 798,
    -174611 / 330,
)


def polygamma(n: int, x: float) -> float:
    r"""Return :math:`\psi^{(n)}(x)` for 0 ≤ n ≤ 5; NaN at the poles x = 0, -1, -2, ...

    Examples
    --------
    >>> round(polygamma(0, 1.0), 12)  # minus Euler's constant
    -0.577215664902
    """
    if x <= 0.0:
        if x == math.floor(x):
            return math.nan
        # (-1)^n psi_n(1 - x) - psi_n(x) = pi d^n/dx^n cot(pi x)
        reflected = _positive(n, 1.0 - x)
        return (-reflected if n % 2 else reflected) - _cotangent(n, x)
    return _positive(n, x)


def _positive(n: int, x: float) -> float:
    if n == 0:
        shift = 0.0
        while x < 16.0:
            shift -= 1.0 / x
            x += 1.0
        series = 0.0
        for k in range(len(BERNOULLI) - 1, -1, -1):
            series = (series + BERNOULLI[k] / (2 * k + 2)) / (x * x)
        return shift + math.log(x) - 0.5 / x - series
    factorial = 1.0
    for k in range(2, n + 1):
        factorial *= k
    sign = 1.0 if n % 2 else -1.0
    shift = 0.0
    while x < 16.0:
        shift += factorial / x ** (n + 1)
        x += 1.0
    # (n-1)!/x^n + n!/(2 x^(n+1)) + sum B_2k (2k+n-1)!/((2k)! x^(2k+n))
    series = 0.0
    for k in range(len(BERNOULLI) - 1, -1, -1):
        ratio = 1.0
        for j in range(1, n):
            ratio *= 2 * k + 2 + j
        series = (series + BERNOULLI[k] * ratio) / (x * x)
    lead = factorial / n
    return sign * (shift + (lead + 0.5 * factorial / x + series) / x**n)


def _cotangent(n: int, x: float) -> float:
    """Return pi times the n-th derivative of cot(pi x)."""
    c = 1.0 / math.tan(math.pi * x)
    s = 1.0 + c * c
    scale = math.pi ** (n + 1)
    if n == 0:
        return scale * c
    if n == 1:
        return -scale * s
    if n == 2:
        return scale * 2 * c * s
    if n == 3:
        return -scale * s * (2 * s + 4 * c * c)
    if n == 4:
        return scale * s * (16 * c * s + 8 * c**3)
    return -scale * s * (16 * s * s + 88 * c * c * s + 16 * c**4)


@lru_cache(maxsize=None)
def polygamma_address(n: int) -> int:
    """Return the native address of ``double polygamma_n(double)``."""
    return int(_callback(n).address)


@lru_cache(maxsize=None)
def _callback(n: int) -> Any:
    from numba import cfunc, njit

    positive, cotangent = njit(_positive), njit(_cotangent)

    @cfunc("float64(float64)")  # type: ignore[untyped-decorator]
    def native(x: float) -> float:
        if x <= 0.0:
            if x == math.floor(x):
                return math.nan
            reflected = positive(n, 1.0 - x)
            return (-reflected if n % 2 else reflected) - cotangent(n, x)
        return positive(n, x)

    return native
