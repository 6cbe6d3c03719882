"""lam backwards between its jumps, and the quadrature along it, in one call."""

from __future__ import annotations

import math

from symode.kernels.control import group_size
from symode.kernels.dense import as_polynomial
from symode.kernels.jit import inline, kernel
from symode.kernels.loop import advance
from symode.kernels.loss import evaluate_loss, finish
from symode.kernels.quadrature import integrate_products
from symode.kernels.types import (
    AT,
    BEFORE,
    BEGUN,
    EVALUATED,
    FIRST_OBS,
    FLOOR,
    FORMED,
    FSAL_READY,
    GROUP,
    GROUP_FLOOR,
    HALVED,
    JACOBIAN_OF,
    LEFT,
    LENGTH,
    OPENING,
    OPENING_LENGTH,
    PANELS,
    REACHED,
    REJECTED,
    SIZE,
    SLOPE_OF,
    STEPS,
    STORED,
    STRETCH,
    T_END,
    VALUE,
    Adjoint,
    Control,
    Field,
    Floats,
    Gradient,
    H,
    Ints,
    LossTable,
    Method,
    Observations,
    Scratch,
    Store,
    T,
)
from symode.status import FULL, NONFINITE, PAUSED, SUCCESS

#: Share of the loss, per unit of a state or parameter in its own size, below which an adjoint is
#: noise: lam starts from 0, where no error relative to itself can be small. Scale-free.
LOSS_FLOOR, ROUNDING_FLOOR = 1e-4, 1e-14


@inline
def reopen(control: Control, steps: Store, scratch: Scratch) -> None:
    """Set sizes and step after a jump of lam alone.

    What counts as the size of lam is its norm from here on, not before. A jump excites the fast
    modes again, so the first step is tried as long as the one that followed the last jump's first:
    its error has said how long that might have been.
    """
    clock, count = scratch.clock, scratch.count
    clock[GROUP] = max(clock[GROUP_FLOOR], group_size(control, scratch.y))
    opening = count[OPENING]
    # One of few steps may have been cut to meet the end of its span.
    if 0 <= opening < count[STEPS] - 3 and abs(steps.h[opening + 1]) < abs(clock[H]):
        clock[H] = steps.h[opening + 1]
    count[OPENING] = count[STEPS]


@inline
def finite_loss(loss: LossTable, gradient: Gradient) -> bool:
    """Tell whether a loss and its slopes in z are finite."""
    total = gradient.scalars[VALUE] * 0.0
    for i in range(gradient.lam.size):
        total += gradient.lam[i] * 0.0
        for k in range(loss.seeds.shape[0]):
            total += loss.seeds[k, i] * 0.0
    return bool(total == 0.0)


@inline
def set_scales(
    control: Control, scratch: Scratch, peak: Floats, z0: Floats, atol: Floats, rtol: float,
    gradient: Gradient, progress: Floats,
) -> None:  # fmt: skip
    """Set what counts as the size of lam, and the smallest norm of a gradient that does.

    An error e of lam moves the gradient by the product of e and of the tangents of z, so its
    components count in the size of the states, together. One whose state starts at 0 is dJ/dz0
    in units of 1, whatever the state does later: it is held to rtol of its own size too.
    """
    states, size = atol.size, gradient.scalars[SIZE]
    for i in range(states, gradient.lam.size):
        size += abs(gradient.lam[i]) * peak[i]
    floor = max(LOSS_FLOOR, ROUNDING_FLOOR / rtol) * size
    for i in range(states):
        unit = peak[i] + atol[i] / rtol
        if unit == 0.0:
            unit = 1.0
        control.weight[i] = unit
        control.atol[i] = rtol * floor / unit if z0[i] == 0.0 else math.inf
    scratch.clock[GROUP] = floor
    scratch.clock[GROUP_FLOOR] = floor
    progress[FLOOR] = floor


@inline
def lam_backward(
    method: Method,
    past: Adjoint,
    whole: Field,
    control: Control,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    steps: Store,
    rule: Floats,
    memory: Floats,
    rows: Floats,
    progress: Floats,
    place: Ints,
    peak: Floats,
    z0: Floats,
    atol: Floats,
    weight: Floats,
    rtol: float,
    span: float,
    most: int,
    t0: float,
    last: bool,
    from_initial: bool,
    gradient: Gradient,
    budget: int,
) -> int:
    r"""Integrate lam from clock[T] to t0 and a§3 along it; return a status.

    The observations from count[FIRST_OBS] to count[LEFT] - 1 lie between; lam jumps at each. What
    is integrated of lam, up to a jump or until ``steps`` is full, is followed by its panels. In the
    first segment the state is that at t1, and the loss is evaluated first; in the ``last`` one the
    gradient is closed at the end. NONFINITE with place[STRETCH] = -1: the loss is not finite.

    Parameters
    ----------
    method, past, control, scratch
        The adjoint equation of lam alone, and how to solve it.
    whole, rule, memory, progress, place, weight, rtol, span, most
        See `symode.kernels.quadrature.integrate_products`.
    steps, rows
        Room for steps of lam, and for the coefficients of one.
    peak, z0, atol, from_initial
        Largest values of the forward pass, its start, its tolerances, and whether its start is the
        model's own.
    budget
        Steps, and panels, to try before returning PAUSED.
    """
    n, clock, count, y = whole.n, scratch.clock, scratch.count, scratch.y
    left = budget
    if place[FORMED] == 0:
        if place[EVALUATED] == 0:
            evaluate_loss(whole, observations, loss, scratch, gradient)
            if not finite_loss(loss, gradient):
                place[STRETCH] = -1
                return NONFINITE
            set_scales(control, scratch, peak, z0, atol, rtol, gradient, progress)
            for i in range(n):
                y[i] = gradient.lam[i]
            place[EVALUATED] = 1
        for i in range(past.n_past):
            as_polynomial(past.past_method, past.past, i, scratch.weights, rows)
        place[FORMED] = 1
    while left > 0:
        if place[STRETCH] == 0:
            before = count[STEPS] + count[REJECTED]
            status = advance(method, past, control, steps, observations, scratch, left)
            left -= count[STEPS] + count[REJECTED] - before
            if status != SUCCESS and status != FULL:
                return status
            place[STRETCH] = 1 + status
            if whole.m > 0:
                for i in range(place[AT], count[STEPS]):
                    as_polynomial(method, steps, i, scratch.weights, rows)
        if whole.m > 0 and count[STEPS] > 0 and progress[REACHED] != clock[T]:
            before = place[PANELS] + place[HALVED]
            status = integrate_products(
                method, past, whole, steps, count[STEPS], rule, scratch, memory, progress, place,
                weight, rtol, progress[FLOOR], span, most, max(left, 1), gradient.theta,
            )  # fmt: skip
            left -= place[PANELS] + place[HALVED] - before
            if status != SUCCESS:
                return status
        full = place[STRETCH] == 1 + FULL
        place[STRETCH] = 0
        if full:
            # Room again. Counters that hold numbers of steps must not meet them a second time.
            count[BEFORE] += count[STEPS]
            count[STEPS] = 0
            count[STORED] = 0
            count[JACOBIAN_OF] = 0
            count[SLOPE_OF] = 0
            count[OPENING] = -1
            place[AT] = 0
            continue
        place[AT] = count[STEPS]
        o = count[LEFT] - 1
        if o < count[FIRST_OBS]:
            if last:
                for i in range(n):
                    gradient.lam[i] = y[i]
                finish(whole, loss, t0, z0, scratch, gradient, from_initial)
            return SUCCESS
        t = observations.t[o]
        while o >= count[FIRST_OBS] and observations.t[o] == t:
            for i in range(n):
                y[i] += loss.seeds[o, i]
            o -= 1
        count[LEFT] = o + 1
        count[FSAL_READY] = 0
        clock[T] = t
        reopen(control, steps, scratch)
        place[BEGUN] = 0
        if progress[OPENING_LENGTH] > 0.0:
            progress[LENGTH] = min(progress[LENGTH], progress[OPENING_LENGTH])
        clock[T_END] = observations.t[o] if o >= count[FIRST_OBS] else t0
    return PAUSED


@kernel
def gauss_backward(
    method: Method,
    past: Adjoint,
    whole: Field,
    control: Control,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    steps: Store,
    rule: Floats,
    memory: Floats,
    rows: Floats,
    progress: Floats,
    place: Ints,
    peak: Floats,
    z0: Floats,
    atol: Floats,
    weight: Floats,
    rtol: float,
    span: float,
    most: int,
    t0: float,
    last: bool,
    from_initial: bool,
    gradient: Gradient,
    budget: int,
) -> int:
    """Integrate lam over one segment of the forward pass, see `lam_backward`."""
    return lam_backward(
        method, past, whole, control, observations, loss, scratch, steps, rule, memory, rows,
        progress, place, peak, z0, atol, weight, rtol, span, most, t0, last, from_initial,
        gradient, budget,
    )  # fmt: skip
