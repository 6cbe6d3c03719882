"""Derivatives of a function of one variable by extrapolated differences, with an error estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: Halvings of the step from each start.
LEVELS = 9
#: Largest steps tried, each where the ones before did not converge.
STARTS = (0.05, 1e-3, 2e-5)
#: Error, relative to the derivative, that ends the search.
ENOUGH = 1e-10
#: Spacing of the samples that measure rounding noise, relative to the variables.
WHISPER = 1e-14


@dataclass(frozen=True)
class Derivative:
    """A derivative at 0 and the size of its error, from truncation and from rounding."""

    value: float
    error: float


def rounding_noise(function: Callable[[float], float], at_zero: float) -> float:
    """Return how much a function jitters when its variable moves by next to nothing."""
    samples = [function(k * WHISPER) for k in (-2, -1, 1, 2)]
    spread = max((abs(s - at_zero) for s in samples if np.isfinite(s)), default=0.0)
    return max(spread, float(np.spacing(abs(at_zero))))


def derivative(function: Callable[[float], float], noise: float) -> Derivative:
    r"""Return f'(0) by Ridders' extrapolation of central differences.

    .. math:: D_{i,0} = \frac{f(h_i) - f(-h_i)}{2 h_i}, \qquad
              D_{i,j} = \frac{4^j D_{i,j-1} - D_{i-1,j-1}}{4^j - 1}, \qquad h_i = h_0 / 2^i

    Parameters
    ----------
    function
        Differentiable, in a variable of size 1; NaN where it is not defined.
    noise
        Rounding error of its values.

    References
    ----------
    Ridders (1982), *Accurate computation of F'(x) and F'(x)F''(x)*, Adv. Eng. Softw. 4, 75-76.
    """
    best = Derivative(float("nan"), float("inf"))
    for first in STARTS:
        found = _extrapolate(function, noise, first)
        if found.error < best.error:
            best = found
        if best.error <= ENOUGH * abs(best.value):
            break
    return best


def _extrapolate(function: Callable[[float], float], noise: float, first: float) -> Derivative:
    best = Derivative(float("nan"), float("inf"))
    previous: list[float] = []
    for level in range(LEVELS):
        h = first / 2**level
        row = [(function(h) - function(-h)) / (2.0 * h)]
        for j, left in enumerate(previous):
            power = 4.0 ** (j + 1)
            row.append((power * row[j] - left) / (power - 1.0))
        for j in range(1, len(row)):
            spread = max(abs(row[j] - row[j - 1]), abs(row[j] - previous[j - 1]))
            error = max(spread, noise / h)
            if error < best.error:
                best = Derivative(row[j], error)
        previous = row if np.isfinite(row[0]) else []
    return best
