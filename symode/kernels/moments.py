"""Moments: where root functions cross zero inside steps, on dense output, without Python.

At the end of each step, and at as many points inside as the interpolant has degrees, the signs are
compared with those that hold. Between three such points of one sign the parabola through them says
whether the function may dip to the other side and come back; its lowest point is then looked at
too.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from symode.kernels.call import call_field
from symode.kernels.jit import inline, kernel
from symode.kernels.types import Floats, Ints, Store

#: Places of what is found of one root function: ends of the bracket, the sign beyond (0: does not
#: cross), whether it starts at its zero.
LOW: Final = 0
HIGH: Final = 1
SIGN: Final = 2
AT_ZERO: Final = 3
N_FOUND: Final = 4

#: Evaluations that look for the bottom of a dip.
TRIES: Final = 8
#: Share of the values beside it from which a dip is more than rounding.
DEEP: Final = 1e-13
#: Iterations of a root on dense output; Brent's method takes some ten.
ITERATIONS: Final = 200


class Course(NamedTuple):
    """Root functions along the steps of one method."""

    address: int
    n: int  # states the root functions see
    n_dense: int
    scaled: bool  # whether stages are slopes, to be taken h times
    p: Floats
    work: Floats
    dense: Floats  # (S, degree)
    z: Floats  # (n,)
    value: Floats  # (R,)
    grid: Floats  # (degree + 1, R)


@inline
def evaluate_roots(course: Course, store: Store, step: int, s: float) -> None:
    """Write the root functions at a fraction of a step."""
    h = store.h[step]
    if s == 1.0:
        t = store.t[step + 1]
        for i in range(course.n):
            course.z[i] = store.z[step + 1, i]
    else:
        t = store.t[step] + s * h
        for i in range(course.n):
            course.z[i] = store.z[step, i]
        if s != 0.0:
            scale = h if course.scaled else 1.0
            for l in range(course.n_dense):  # noqa: E741
                weight = 0.0
                for j in range(course.dense.shape[1] - 1, -1, -1):
                    weight = (weight + course.dense[l, j]) * s
                for i in range(course.n):
                    course.z[i] += scale * weight * store.k[step, l, i]
    call_field(course.address, t, course.z, 0, course.p, 0, course.work, 0, course.value, 0)


@inline
def sign_of(value: float) -> int:
    """Return the sign; 0 for NaN."""
    if value > 0.0:
        return 1
    return -1 if value < 0.0 else 0


@kernel
def first_crossing(
    course: Course,
    store: Store,
    first: int,
    last: int,
    signs: Ints,
    looked: Ints,
    fresh: int,
    released: Ints,
    found_out: Floats,
) -> int:
    """Return the first of the steps from ``first`` to ``last - 1`` in which a sign turns, or -1.

    Parameters
    ----------
    course, store
        Root functions and steps.
    signs
        Those that hold. Shape ``(R,)``.
    looked
        Which root functions count.
    fresh, released
        Step that begins at a moment, and the root functions that are zero there.
    found_out
        What is found of each, see `LOW`; of those that cross and do not start at their zero, the
        fraction of the step at which they do stands in both ends. Shape ``(R, 4)``.
    """
    degree, grid, count = course.dense.shape[1], course.grid, signs.size
    for step in range(first, last):
        for j in range(1 if step > first else 0, degree + 1):
            evaluate_roots(course, store, step, j / degree)
            for r in range(count):
                grid[j, r] = course.value[r]
        crosses = False
        for r in range(count):
            found_out[r, SIGN] = 0.0
            if looked[r] == 0:
                continue
            hit = 0
            for j in range(1, degree + 1):
                sign = sign_of(grid[j, r])
                if sign != 0 and sign != signs[r]:
                    hit = j
                    found_out[r, SIGN] = sign
                    break
            low, high = (hit - 1) / degree, hit / degree
            if signs[r] != 0:
                stop = hit - 1 if hit > 0 else degree
                low_of_dip, dip = find_dip(course, store, step, r, signs[r], stop)
                if dip > 0.0:
                    hit, low, high = 1, low_of_dip, dip
                    found_out[r, SIGN] = -signs[r]
            if hit > 0:
                crosses = True
                found_out[r, LOW], found_out[r, HIGH] = low, high
                found_out[r, AT_ZERO] = 0.0
                if low == 0.0 and step == fresh and released[r] != 0:
                    found_out[r, AT_ZERO] = 1.0
        if crosses:
            for r in range(count):
                if found_out[r, SIGN] != 0.0 and found_out[r, AT_ZERO] == 0.0:
                    low, high = found_out[r, LOW], found_out[r, HIGH]
                    evaluate_roots(course, store, step, low)
                    at_low = course.value[r]
                    if at_low == 0.0 or sign_of(at_low) != signs[r]:
                        found_out[r, HIGH] = low
                        continue
                    s = root_between(course, store, step, r, low, high, 0.0, 0.0)
                    found_out[r, LOW] = s
                    found_out[r, HIGH] = s
            return step
        for r in range(count):
            grid[0, r] = grid[degree, r]
    return -1


@kernel
def root_after_zero(
    course: Course, store: Store, step: int, r: int, high: float, rate: float
) -> float:
    """Return where a root function that starts at zero with this slope in s returns to it.

    What is left of it after dividing by s has a sign at 0.
    """
    evaluate_roots(course, store, step, 0.0)
    return root_between(course, store, step, r, 0.0, high, course.value[r], rate)


@inline
def find_dip(
    course: Course, store: Store, step: int, r: int, sign: int, stop: int
) -> tuple[float, float]:
    """Return a fraction at which the other sign is met between points of one, and one before it.

    (0, 0) where none is found among the points up to ``stop``.
    """
    degree, grid = course.dense.shape[1], course.grid
    for i in range(1, stop):
        a, b, c = (i - 1) / degree, i / degree, (i + 1) / degree
        u_a, u_b, u_c = sign * grid[i - 1, r], sign * grid[i, r], sign * grid[i + 1, r]
        largest = max(u_a, u_c)
        # What starts at its zero, or ends there, is no dip.
        if not (min(u_a, u_c) > 1e-9 * largest and u_b > 0.0):
            continue
        for _ in range(TRIES):
            left, right = (u_b - u_a) / (b - a), (u_c - u_b) / (c - b)
            curvature = (right - left) / (c - a)
            if not curvature > 0.0:
                break
            s = 0.5 * (a + b - left / curvature)
            lowest = u_b + (s - b) * (left + (s - a) * curvature)
            smallest = min(u_a, u_b, u_c)
            if not (a < s < c and s != b and lowest < 0.5 * smallest):
                break
            evaluate_roots(course, store, step, s)
            u = sign * course.value[r]
            if u < -DEEP * largest:
                return (b if b < s else a), s
            if not u < 0.95 * smallest:
                break
            if s < b:
                if u < u_b:
                    b, c, u_b, u_c = s, b, u, u_b
                else:
                    a, u_a = s, u
            elif u < u_b:
                a, b, u_a, u_b = b, s, u_b, u
            else:
                c, u_c = s, u
    return 0.0, 0.0


@inline
def _value(
    course: Course, store: Store, step: int, r: int, s: float, start: float, rate: float
) -> float:
    """Return a root function; with ``rate``, (r(s) - start) / s, whose limit at 0 is the rate."""
    if rate != 0.0 and s == 0.0:
        return rate
    evaluate_roots(course, store, step, s)
    value: float = course.value[r]
    return (value - start) / s if rate != 0.0 else value


@inline
def root_between(
    course: Course,
    store: Store,
    step: int,
    r: int,
    low: float,
    high: float,
    start: float,
    rate: float,
) -> float:
    """Return a root by Brent's method (1973, *Algorithms for Minimization without Derivatives*)."""
    a, b = low, high
    f_a = _value(course, store, step, r, a, start, rate)
    f_b = _value(course, store, step, r, b, start, rate)
    c, f_c = a, f_a
    d = e = b - a
    for _ in range(ITERATIONS):
        if (f_b > 0.0) == (f_c > 0.0):
            c, f_c = a, f_a
            d = e = b - a
        if abs(f_c) < abs(f_b):
            a, b, c = b, c, b
            f_a, f_b, f_c = f_b, f_c, f_b
        tolerance = 1e-14 * abs(b) + 1e-300
        middle = 0.5 * (c - b)
        if f_b == 0.0 or abs(middle) <= tolerance:
            break
        if abs(e) >= tolerance and abs(f_a) > abs(f_b):
            ratio = f_b / f_a
            if a == c:
                p, q = 2.0 * middle * ratio, 1.0 - ratio
            else:
                q, back = f_a / f_c, f_b / f_c
                p = ratio * (2.0 * middle * q * (q - back) - (b - a) * (back - 1.0))
                q = (q - 1.0) * (back - 1.0) * (ratio - 1.0)
            if p > 0.0:
                q = -q
            p = abs(p)
            if 2.0 * p < min(3.0 * middle * q - abs(tolerance * q), abs(e * q)):
                e, d = d, p / q
            else:
                d = e = middle
        else:
            d = e = middle
        a, f_a = b, f_b
        b += d if abs(d) > tolerance else (tolerance if middle > 0.0 else -tolerance)
        f_b = _value(course, store, step, r, b, start, rate)
    return b
