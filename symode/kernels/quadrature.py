r"""The parameters' part of a continuous adjoint by quadrature, not as states.

.. math:: a_{§3}(t_0) = a_{§3}(t_1) + \int_{t_0}^{t_1} a_{§1} \nabla_{§3} f \, dt

Panels lie inside the steps of the backward pass, where its interpolant is a polynomial. Each is
judged by the difference of a Gauss rule and of its Kronrod extension, and halved where that is
larger than the tolerance.
"""

from __future__ import annotations

import math

from symode.kernels.call import call_product
from symode.kernels.combine import add_stages
from symode.kernels.dense import interpolant_weights, trajectory_at
from symode.kernels.jit import inline, kernel
from symode.kernels.types import VJP, Adjoint, Field, Floats, Ints, Method, Scratch, Store
from symode.status import MAX_STEPS, NONFINITE, PAUSED, STEP_TOO_SMALL, SUCCESS

#: Places in ``place``.
STEP = 0  # stored step under way
DEPTH = 1  # panels of it still to do
PANELS = 2  # panels accepted
HALVED = 3  # panels halved
N_PLACE = 4

#: Panels that may wait at once: 32 at first, and one for each halving.
ROOM = 96
#: Share of the span no panel may exceed: a feature that neither z nor lam shows is still sampled.
LARGEST = 1.0 / 16.0
#: Share of its step below which a panel is not halved any more.
SMALLEST = 1e-9


@inline
def _panel(
    method: Method, past: Adjoint, whole: Field, steps: Store, i: int, a: float, b: float,
    rule: Floats, scratch: Scratch, lam: Floats, out: Floats, kronrod: Floats, gauss: Floats,
) -> None:  # fmt: skip
    """Write both rules' integrals over the fractions a to b of stored step i."""
    n, m, h = whole.n, whole.m, steps.h[i]
    for j in range(m):
        kronrod[j] = 0.0
        gauss[j] = 0.0
    for q in range(rule.shape[1]):
        s = a + (b - a) * rule[0, q]
        t = steps.t[i] + s * h
        interpolant_weights(method, s, h, scratch.weights)
        for j in range(n):
            lam[j] = steps.z[i, j]
        add_stages(scratch.weights, 1.0, method.n_dense, steps.k[i], n, lam)
        trajectory_at(t, past, scratch)
        call_product(
            whole.address[VJP], t, scratch.z, 0, whole.p, 0, lam, 0, scratch.work, 0, out, 0
        )
        # Backwards in time: the integral from the later end to the earlier has the sign of -h.
        w = -h * (b - a) * rule[1, q]
        for j in range(m):
            kronrod[j] += w * out[j]
        w = -h * (b - a) * rule[2, q]
        if w != 0.0:
            for j in range(m):
                gauss[j] += w * out[j]


@kernel
def integrate_products(
    method: Method,
    past: Adjoint,
    whole: Field,
    steps: Store,
    n_steps: int,
    rule: Floats,
    scratch: Scratch,
    memory: Floats,
    stack: Floats,
    place: Ints,
    weight: Floats,
    rtol: float,
    floor: float,
    span: float,
    most: int,
    budget: int,
    mu_out: Floats,
) -> int:
    r"""Add the integral over stored steps of the backward pass to mu; return a status.

    Parameters
    ----------
    method, past
        What made the steps, with the trajectory along which they were made.
    whole
        The model, its product that with :math:`\nabla_{§3} f`.
    steps, n_steps
        Steps of the adjoint, stages of the interpolant included.
    rule
        Nodes on (0, 1), weights of the Kronrod rule, weights of the Gauss rule. Shape ``(3, K)``.
    memory
        Shape ``(5, max(n, m))``. Four rows of scratch; the last gains the sizes of all panels.
    stack, place
        Panels that wait, shape ``(ROOM, 2)``, and how far the work is.
    weight, rtol, floor
        A panel's error, in the norm weighted by ``weight``, may be rtol times the largest of
        floor and of mu's norm so far.
    span, most
        Of the whole backward pass: its length in time, and the panels it may have.
    budget
        Panels before returning PAUSED.
    """
    m = whole.m
    lam, out, kronrod, gauss = memory[0], memory[1], memory[2], memory[3]
    for _ in range(budget):
        i = place[STEP]
        if i == n_steps:
            return SUCCESS
        if place[DEPTH] == 0:
            parts = int(min(32.0, max(1.0, math.ceil(abs(steps.h[i]) / (LARGEST * span) - 1e-9))))
            for q in range(parts):
                stack[q, 0] = q / parts
                stack[q, 1] = (q + 1) / parts
            place[DEPTH] = parts
        top = place[DEPTH] - 1
        a, b = stack[top, 0], stack[top, 1]
        _panel(
            method, past, whole, steps, i, a, b, rule, scratch, lam, out, kronrod, gauss
        )  # fmt: skip
        error, size = 0.0, 0.0
        for j in range(m):
            error += (weight[j] * (kronrod[j] - gauss[j])) ** 2
            size += (weight[j] * (mu_out[j] + kronrod[j])) ** 2
        error, size = math.sqrt(error), math.sqrt(size)
        if not (error < math.inf):
            return NONFINITE
        if error <= rtol * max(floor, size):
            for j in range(m):
                mu_out[j] += kronrod[j]
                memory[4, j] += abs(kronrod[j])
            place[PANELS] += 1
            place[DEPTH] = top
            if top == 0:
                place[STEP] = i + 1
            continue
        if place[HALVED] + place[PANELS] >= most:
            return MAX_STEPS
        if b - a < SMALLEST or top + 2 > ROOM:
            return STEP_TOO_SMALL
        place[HALVED] += 1
        middle = 0.5 * (a + b)
        stack[top, 1] = middle
        stack[top + 1, 0] = middle
        stack[top + 1, 1] = b
        place[DEPTH] = top + 2
    return PAUSED
