r"""ROCK4: explicit steps of order 4 whose stages stretch stability along the negative real axis.

The construction is Abdulle's; its coefficients are derived here for every number of stages s. The
stability polynomial is :math:`R = w P`: P of degree s - 4 is orthogonal on [-1, 1] with weight
:math:`w^2 / \sqrt{1 - x^2}`, so that R nearly equioscillates, and obeys a three-term recurrence;
w of degree 4 has two complex pairs of zeros near x = 1. Zeros and the point x that stands for
:math:`h\lambda = 0` were found for s from 5 to 130 as those of the longest interval with
:math:`|R| \le 0.95` and order 4; in units of 1/s² they are smooth in 1/s, and a polynomial
reproduces them closely enough: whatever P is, the four stages at the end are made to fit it, and
hold the order exactly.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from symode.solvers.chebyshev import ChebyshevTableau

Array = NDArray[np.float64]

#: Powers of 1/s in s² times (1 - Re, Im) of the first zero of w, of the second, and x(0) - 1.
SHAPE = np.array(
    [
        [14.0133, 7.5458, 1.4427, 20.5105, 0.3032],
        [-0.3021, -0.2091, 0.6885, -0.0245, -0.0982],
        [-22.2209, -9.3875, -36.666, -70.6439, -8.3321],
        [1663.2129, 1137.1819, 96.5568, 2975.5677, 282.5082],
        [-15781.2602, -11136.404, 525.0359, -27823.6375, -2757.8237],
        [69195.0327, 49852.0972, -2611.6378, 120865.741, 12116.9216],
        [-105701.846, -81444.5438, 8526.2963, -181306.163, -19430.4118],
    ]
)
#: Stages of the members: every number up to 20, then in steps of 8 %. The last four stages amplify
#: roundings of the state they start from, on the interval's far end by 4e10 at 63 stages; beyond,
#: more stages a step save nothing (measured, see docs/measurements.md).
SIZES = (*range(5, 21), *(round(20 * 1.08**i) for i in range(1, 16)))
#: Times of the second and third of the four stages, as shares of the time they span: the error of
#: order 5 is near its least there. The fourth follows from the order.
SECOND, THIRD = 0.15, 0.6
#: Error weights: the norm of their conditions of order 4.
ERROR_SIZE = 0.01

# Rooted trees with up to 4 vertices, as products of earlier ones: the elementary weights of the
# slope at a state follow from those of the state.
DENSITY = np.array([1.0, 2.0, 3.0, 6.0, 4.0, 8.0, 12.0, 24.0])
SYMMETRY = np.array([6.0, 1.0, 2.0, 1.0])


def _slope(g: Array) -> Array:
    return np.array([1.0, g[0], g[0] ** 2, g[1], g[0] ** 3, g[0] * g[1], g[2], g[3]])


def recurrence(s: int) -> tuple[Array, Array, float]:
    """Return p and m of the recurrence of s stages, and where the stability interval ends.

    Examples
    --------
    >>> p, m, end = recurrence(10)
    >>> len(p), round(end / 10**2, 3)
    (6, 0.323)
    """
    powers = np.array([float(s) ** -i for i in range(len(SHAPE))])
    u: Array = powers @ SHAPE / float(s * s)
    zeros, origin, n = (1 - u[0] + 1j * u[1], 1 - u[2] + 1j * u[3]), 1.0 + u[4], s - 4
    w = np.real(np.poly([*zeros, *np.conj(zeros)]))
    # Stieltjes' procedure, exact with these nodes; polynomials of leading coefficient 2**degree.
    x = np.cos((np.arange(n + 6) + 0.5) * np.pi / (n + 6))
    weight: Array = np.square(np.polyval(w, x))
    weight = weight / weight.sum()
    before, now, size = np.zeros_like(x), np.ones_like(x), 1.0
    # With them: the ratio of successive values at the origin, and the derivative's logarithm.
    ratio, slope, slope_before = 0.0, 0.0, 0.0
    p, m, b = np.empty(n), np.empty(n), 0.0
    for k in range(n):
        a = float(weight @ (x * now**2)) / size
        growth = 2.0 * (origin - a) - b * ratio
        p[k], m[k] = 2.0 * (origin - a) / growth, 2.0 / growth
        slope, slope_before = p[k] * slope + (1.0 - p[k]) * slope_before + m[k], slope
        before, now = now, 2.0 * (x - a) * now - b * before
        b = float(weight @ now**2) / size
        size *= b
        ratio = 1.0 / growth
    # R'(0) = 1 sets the scale between x and z.
    scale = slope + float(np.polyval(np.polyder(w), origin) / np.polyval(w, origin))
    return p, m / scale, float(scale * (1.0 + origin))


def weights_after(p: Array, m: Array) -> tuple[Array, Array]:
    """Return the elementary weights of the recurrence's end, and the times of its stages."""
    before = now = np.zeros(8)
    c = np.zeros(len(p))
    for j in range(len(p)):
        c[j] = now[0]
        before, now = now, p[j] * now + (1.0 - p[j]) * before + m[j] * _slope(now)
    return now, c


def finish(g: Array, share: float) -> tuple[Array, Array, Array]:
    """Return a, b and times of the four last stages, for the time of the fourth given.

    Three of the order conditions fix b, three are linear in a; the last, of the tall tree, is left
    to the choice of ``share``.
    """
    left = 1.0 - g[0]
    own = left * np.array([0.0, SECOND, THIRD, share])
    c: Array = g[0] + own
    goal: Array = 1.0 / DENSITY - g
    b = np.asarray(np.linalg.solve(np.vander(c, increasing=True).T, goal[[0, 1, 2, 4]]), float)
    d, q = c - c[0], c**2 - c[0] ** 2
    rows = np.array(
        [
            [b[2] * d[1], b[3] * d[1], b[3] * d[2]],
            [b[2] * c[2] * d[1], b[3] * c[3] * d[1], b[3] * c[3] * d[2]],
            [b[2] * q[1], b[3] * q[1], b[3] * q[2]],
        ]
    )
    sides = goal[[3, 5, 6]] - [
        b @ (g[1] + own * c[0]),
        (b * c) @ (g[1] + own * c[0]),
        b @ (g[2] + own * c[0] ** 2),
    ]
    a = np.zeros((4, 4))
    a[2, 1], a[3, 1], a[3, 2] = np.linalg.solve(rows, sides)
    a[:, 0] = own - a.sum(axis=1)
    return a, b, c


def _all_weights(g: Array, a: Array, b: Array) -> Array:
    """Return elementary weights of the four slopes and of the next step's first. Shape (5, 8)."""
    slopes = np.zeros((5, 8))
    for i in range(4):
        slopes[i] = _slope(g + a[i] @ slopes[:4])
    slopes[4] = _slope(g + b @ slopes[:4])
    return slopes


def _tall(g: Array, share: float) -> float:
    a, b, _ = finish(g, share)
    return float(g[7] + b @ _all_weights(g, a, b)[:4, 7] - 1.0 / DENSITY[7])


def _fourth(g: Array) -> float:
    """Return the time of the fourth stage, as a share, with which the order is 4."""
    x, y = 1.02, 1.03
    fx, fy = _tall(g, x), _tall(g, y)
    for _ in range(30):
        if abs(fy) < 1e-17 or fx == fy:
            break
        x, y, fx = y, y - fy * (y - x) / (fy - fx), fy
        fy = _tall(g, y)
    return y


def error_weights(g: Array, a: Array, b: Array) -> Array:
    """Return the weights of five slopes that vanish up to order 3. Shape ``(5,)``."""
    slopes = _all_weights(g, a, b)
    e = np.linalg.svd(slopes[:, :4].T)[2][-1]
    size = np.linalg.norm(e @ slopes[:, 4:] / SYMMETRY)
    return np.asarray(e * (np.sign(e[-1]) * ERROR_SIZE / size))


@lru_cache(maxsize=1)
def load() -> ChebyshevTableau:
    """Return the tableau of ROCK4.

    Examples
    --------
    >>> load()
    ChebyshevTableau('rock4', order 4(3), 5 to 63 stages)
    """
    flow, finals = [], []
    for s in SIZES:
        p, m, end = recurrence(s)
        g, c = weights_after(p, m)
        a, b, last = finish(g, _fourth(g))
        flow.append(np.column_stack([p, m, c]))
        finals.append((a, b, last, error_weights(g, a, b), end))
    a, b, c, e, limit = (np.array(part) for part in zip(*finals, strict=True))
    return ChebyshevTableau(
        name="rock4",
        order=4,
        embedded_order=3,
        sizes=np.array(SIZES, dtype=float),
        flow=np.vstack(flow),
        a=a,
        b=b,
        c=c,
        e=e,
        limit=limit,
        dense_order=3,
        source="A. Abdulle (2002), Fourth order Chebyshev methods with recurrence relation, "
        "SIAM Journal on Scientific Computing 23(6), 2041-2054; coefficients derived here",
    )
