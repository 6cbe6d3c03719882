r"""The parameters' part of a continuous adjoint by quadrature, not as states.

.. math:: a_{§3}(t_0) = a_{§3}(t_1) + \int_{t_0}^{t_1} a_{§1} \nabla_{§3} f \, dt

Panels lie between the jumps of lam, along its stored steps. Each is judged by the difference of a
Gauss rule and of its Kronrod extension, which also gives the length of the next.
"""

from __future__ import annotations

import math

from symode.kernels.call import call_product
from symode.kernels.control import weighted_square
from symode.kernels.dense import find_step, polynomial_at
from symode.kernels.jit import apart, inline
from symode.kernels.types import (
    AT,
    BEGUN,
    CURSOR,
    HALVED,
    LENGTH,
    OPENING_LENGTH,
    PANELS,
    REACHED,
    VJP,
    Z_AT,
    Adjoint,
    Field,
    Floats,
    Ints,
    Method,
    Scratch,
    Store,
)
from symode.status import MAX_STEPS, NONFINITE, PAUSED, STEP_TOO_SMALL, SUCCESS

#: Share of the span no panel may exceed: a feature that neither z nor lam shows is still sampled.
LARGEST = 1.0 / 16.0
#: Steps of lam, in the length of the shortest, that a panel may cover: whatever excites lam makes
#: its steps short, and a layer behind a jump must not fall between the nodes.
COVERED = 4.0
#: Share of what is left below which no panel is halved any more.
SMALLEST = 1e-11
#: Growth of a panel's length from one to the next.
SAFETY, SHRINK, GROW = 0.9, 0.2, 4.0


@inline
def _reach(steps: Store, n_steps: int, i: int, t: float, longest: float) -> float:
    """Return how long a panel from t, in step i, may be."""
    longest = min(longest, COVERED * abs(steps.h[i]))
    for l in range(i + 1, n_steps):  # noqa: E741
        before = abs(steps.t[l] - t)
        if before >= longest:
            break
        longest = min(longest, max(before, COVERED * abs(steps.h[l])))
    return longest


@apart
def _panel(
    a: float, width: float, rule: Floats, address: int, p: Floats, work: Floats, past_t: Floats,
    past_h: Floats, past_z: Floats, past_k: Floats, n_past: int, past_degree: int, t: Floats,
    h: Floats, z: Floats, k: Floats, n_steps: int, degree: int, state: Floats, count: Ints,
    place: Ints, lam: Floats, out: Floats, kronrod: Floats, gauss: Floats, n: int, m: int,
) -> None:  # fmt: skip
    """Write both rules' integrals from a over a width, which has the sign of the time.

    A function apart, see `symode.kernels.along`: the trajectory, the steps of lam, the rest.
    """
    for j in range(m):
        kronrod[j] = 0.0
        gauss[j] = 0.0
    for q in range(rule.shape[1]):
        at = a + width * rule[0, q]
        i = find_step(at, t, n_steps, place[AT])
        place[AT] = i
        polynomial_at(z[i], k[i], (at - t[i]) / h[i], degree, n, lam)
        i = find_step(at, past_t, n_past, count[CURSOR])
        count[CURSOR] = i
        polynomial_at(past_z[i], past_k[i], (at - past_t[i]) / past_h[i], past_degree, n, state)
        call_product(address, at, state, 0, p, 0, lam, 0, work, 0, out, 0)
        # Backwards in time: the integral from the later end to the earlier has the opposite sign.
        w, v = -width * rule[1, q], -width * rule[2, q]
        if v == 0.0:
            for j in range(m):
                kronrod[j] += w * out[j]
        else:
            for j in range(m):
                kronrod[j] += w * out[j]
                gauss[j] += v * out[j]


@inline
def integrate_products(
    method: Method,
    past: Adjoint,
    whole: Field,
    steps: Store,
    n_steps: int,
    rule: Floats,
    scratch: Scratch,
    memory: Floats,
    progress: Floats,
    place: Ints,
    weight: Floats,
    rtol: float,
    floor: float,
    span: float,
    most: int,
    budget: int,
    mu_out: Floats,
) -> int:
    r"""Add the integral from progress[REACHED] over stored steps of lam to mu; return a status.

    Parameters
    ----------
    method, past
        What made the steps, with the trajectory along which they were made.
    whole
        The model, its product that with :math:`\nabla_{§3} f`.
    steps, n_steps
        Steps of the adjoint as polynomials, see `symode.kernels.dense.as_polynomials`.
    rule
        Nodes on (0, 1), weights of the Kronrod rule, weights of the Gauss rule. Shape ``(3, K)``.
    memory
        Shape ``(5, max(n, m))``. Four rows of scratch; the last gains the sizes of all panels.
    progress, place
        How far the work is, see above.
    weight, rtol, floor
        A panel's error, in the norm weighted by ``weight``, may be rtol times the largest of
        floor and of mu's norm so far.
    span, most
        Of the whole backward pass: its length in time, and the panels it may have.
    budget
        Panels before returning PAUSED.
    """
    m, exponent = whole.m, 1.0 / rule.shape[1]
    lam, out, kronrod, gauss = memory[0], memory[1], memory[2], memory[3]
    end = steps.t[n_steps]
    for _ in range(budget):
        t = progress[REACHED]
        if t == end:
            return SUCCESS
        remaining = abs(end - t)
        direction = 1.0 if end > t else -1.0
        place[AT] = find_step(t, steps.t, n_steps, place[AT])
        if place[AT] < n_steps - 1 and t == steps.t[place[AT] + 1]:
            place[AT] += 1
        longest = _reach(steps, n_steps, place[AT], t, LARGEST * span)
        length = min(progress[LENGTH], longest) if progress[LENGTH] > 0.0 else longest
        cut = length
        if length >= remaining * (1.0 - 1e-12):
            length = remaining
        elif length > 0.5 * remaining:
            length = 0.5 * remaining
        _panel(
            t, direction * length, rule, whole.address[VJP], whole.p, scratch.work, past.past.t,
            past.past.h, past.past.z, past.past.k, past.n_past,
            past.past_method.dense.shape[1], steps.t, steps.h, steps.z, steps.k, n_steps,
            method.dense.shape[1], scratch.z, scratch.count, place, lam, out, kronrod, gauss,
            whole.n, m,
        )  # fmt: skip
        scratch.clock[Z_AT] = math.nan
        for j in range(m):
            gauss[j] = kronrod[j] - gauss[j]
            out[j] = mu_out[j] + kronrod[j]
        error = math.sqrt(weighted_square(weight, gauss, m))
        size = math.sqrt(weighted_square(weight, out, m))
        if not (error < math.inf):
            return NONFINITE
        allowed = rtol * max(floor, size)
        factor = GROW
        if error > 0.0:
            factor = max(min(SAFETY * (allowed / error) ** exponent, GROW), SHRINK)
        if error <= allowed:
            for j in range(m):
                mu_out[j] += kronrod[j]
                memory[4, j] += abs(kronrod[j])
            place[PANELS] += 1
            progress[REACHED] = end if length == remaining else t + direction * length
            # A panel that was cut short says nothing against the length before it.
            progress[LENGTH] = max(length * factor, cut if factor >= 1.0 else 0.0)
            if place[BEGUN] == 0:
                place[BEGUN] = 1
                progress[OPENING_LENGTH] = progress[LENGTH]
            continue
        if place[HALVED] + place[PANELS] >= most:
            return MAX_STEPS
        if length < SMALLEST * span or t + direction * length * rule[0, 0] == t:
            return STEP_TOO_SMALL
        place[HALVED] += 1
        progress[LENGTH] = length * min(factor, 0.5)
    return PAUSED
