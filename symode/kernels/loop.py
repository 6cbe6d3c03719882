"""The adaptive loop: one for all methods, all kinds of state, both directions of time.

It runs until the end, a failure, a full store, or the end of its step budget (PAUSED); all it
knows lives in its arguments, so the caller may look, enlarge the store, and enter again.
"""

from __future__ import annotations

import math

from symode.kernels.along import step_along
from symode.kernels.chebyshev import keep_member, prepare_step, step_chebyshev
from symode.kernels.collocation import step_collocation
from symode.kernels.control import error_norm, first_step, group_size, next_factor, rough_step
from symode.kernels.dense import interpolant_weights
from symode.kernels.dirk import step_dirk
from symode.kernels.erk import complete_stages, step_erk
from symode.kernels.fused_step import step_whole
from symode.kernels.jit import by_type, inline, kernel
from symode.kernels.reach import limit_reach
from symode.kernels.rhs import evaluate
from symode.kernels.stiffness import watch
from symode.kernels.types import (
    BEFORE,
    CAUSE,
    ERR,
    FSAL_READY,
    GROUP,
    H_TRIED,
    JUST_REJECTED,
    NEXT_OBS,
    REJECTED,
    STARTED,
    STEPS,
    STORED,
    T_END,
    WORST,
    Chebyshev,
    Collocation,
    Control,
    Dirk,
    Erk,
    ErkAdjoint,
    Field,
    H,
    Method,
    Observations,
    Rosenbrock,
    Scratch,
    Store,
    System,
    T,
    Tangents,
)
from symode.kernels.vector import sum_stages
from symode.status import (
    BLOW_UP,
    FULL,
    MAX_STEPS,
    NO_CONVERGENCE,
    NONFINITE,
    PAUSED,
    SINGULAR,
    STEP_TOO_SMALL,
    SUCCESS,
    SWITCH,
)

#: Logarithm of 1e-4, the smallest error the controller remembers.
LOG_SMALL_ERROR = -9.210340371976182
#: A value called a blow-up whatever its rate: it overflows in the next products.
BLOW_UP_SIZE = 1e100
#: A component that outgrows all its past by this factor within one step has leapt ...
LEAP = 3.0
#: ... and such a step may use up this part of the tolerance. A step across a pole meets the error
#: estimate by chance about once in 10,000 singular solves; loose solves of HIRES pay 10 tries.
LEAP_ERROR = 0.01


def _step_directly(method: Erk, system: System, t: float, h: float, scratch: Scratch) -> None:
    if scratch.count[FSAL_READY] == 0:
        evaluate(system, t, scratch.y, scratch, scratch.k, 0)
        scratch.count[FSAL_READY] = 1
    step_erk(method, system, t, h, scratch)


@by_type(1, {Field: _step_directly, Tangents: _step_directly, ErkAdjoint: step_along})
def _step_explicitly(method: Erk, system: System, t: float, h: float, scratch: Scratch) -> None:
    raise NotImplementedError


def _take_erk(
    method: Erk, system: System, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    _step_explicitly(method, system, t, h, scratch)
    return SUCCESS


def _take_rosenbrock(
    method: Rosenbrock, system: System, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    return SUCCESS if step_whole(method, system, t, h, scratch) else SINGULAR


@by_type(
    0,
    {
        Erk: _take_erk,
        Rosenbrock: _take_rosenbrock,
        Collocation: step_collocation,
        Dirk: step_dirk,
        Chebyshev: step_chebyshev,
    },
)
def take_step(
    method: Method, system: System, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    """Try one step of size h: stages and scratch.new; return a status.

    SUCCESS leaves an error to judge; SINGULAR and NO_CONVERGENCE ask for a smaller step.
    """
    raise NotImplementedError


def _complete_none(method: Method, system: System, t: float, h: float, scratch: Scratch) -> None:
    pass


@by_type(
    0,
    {
        Erk: complete_stages,
        Rosenbrock: _complete_none,
        Collocation: _complete_none,
        Dirk: _complete_none,
        Chebyshev: _complete_none,
    },
)
def complete_step(method: Method, system: System, t: float, h: float, scratch: Scratch) -> None:
    """Make the stages that only the interpolant needs."""
    raise NotImplementedError


@inline
def start(
    method: Method,
    system: System,
    control: Control,
    scratch: Scratch,
) -> int:
    """Evaluate f at the start and choose the first step; return a status."""
    clock, count = scratch.clock, scratch.count
    t, end = clock[T], clock[T_END]
    span = abs(end - t)
    direction = 1.0 if end >= t else -1.0
    n = scratch.y.size
    for i in range(n):
        scratch.peak[i] = abs(scratch.y[i])
    clock[GROUP] = max(clock[GROUP], group_size(control, scratch.y))
    evaluate(system, t, scratch.y, scratch, scratch.k, 0)
    for i in range(n):
        if not (abs(scratch.k[0, i]) < math.inf):
            return NONFINITE
    h0 = rough_step(control, span, scratch.k[0], scratch)
    for _ in range(30):
        for i in range(n):
            scratch.stage[i] = scratch.y[i] + direction * h0 * scratch.k[0, i]
        evaluate(system, t + direction * h0, scratch.stage, scratch, scratch.k, 1)
        finite = True
        for i in range(n):
            finite = finite and abs(scratch.k[1, i]) < math.inf
        if finite:
            break
        h0 *= 0.1
    h = first_step(method, control, span, scratch.k[0], scratch.k[1], scratch, h0)
    clock[H] = direction * min(h, control.h_max)
    clock[ERR] = LOG_SMALL_ERROR
    count[STARTED] = 1
    count[FSAL_READY] = 1
    return SUCCESS


@inline
def failure(system: System, scratch: Scratch, cause: int) -> int:
    """Return BLOW_UP where a component multiplies in no time at all, else the cause given.

    Near a pole (t* - t)**-p it grows by a factor e in (t* - t)/p, which is nothing against what
    remains of the span or against t itself. The test does not depend on the units of the state,
    and leaves tangents out, which grow at any singularity.
    """
    t, end = scratch.clock[T], scratch.clock[T_END]
    direction = 1.0 if end > t else -1.0
    instant = max(1e-12 * abs(t), 1e-9 * abs(end - t))
    evaluate(system, t, scratch.y, scratch, scratch.k, 0)
    scratch.count[FSAL_READY] = 0
    for i in range(system.n):
        y, slope = scratch.y[i], direction * scratch.k[0, i]
        if abs(y) > BLOW_UP_SIZE or (y * slope > 0.0 and abs(y) < instant * abs(slope)):
            return BLOW_UP
    return cause


@inline
def leaps(control: Control, scratch: Scratch) -> bool:
    """Tell whether a component that counts has outgrown all its past within this step."""
    for i in range(scratch.y.size):
        peak = scratch.peak[i]
        if abs(scratch.new[i]) > LEAP * peak and control.rtol * peak > control.atol[i]:
            return True
    return False


@inline
def observe(
    method: Method,
    system: System,
    observations: Observations,
    t: float,
    h: float,
    t_new: float,
    scratch: Scratch,
    complete: bool,
) -> bool:
    """Record the observations inside the accepted step; return whether all stages were made."""
    count = scratch.count
    i = first = count[NEXT_OBS]
    direction = 1.0 if h > 0.0 else -1.0
    while i < observations.t.size and direction * (observations.t[i] - t_new) <= 0.0:
        observations.step[i] = count[STEPS]
        if observations.t[i] == t_new:
            observations.s[i] = 1.0
            for j in range(scratch.y.size):
                observations.y[i, j] = scratch.new[j]
        elif i > first and observations.t[i] == observations.t[i - 1]:
            # Several quantities are often measured at one time.
            observations.s[i] = observations.s[i - 1]
            for j in range(scratch.y.size):
                observations.y[i, j] = observations.y[i - 1, j]
        else:
            if not complete:
                complete_step(method, system, t, h, scratch)
                complete = True
            s = (observations.t[i] - t) / h
            observations.s[i] = s
            interpolant_weights(method, s, h, scratch.weights)
            sum_stages(
                observations.y[i], scratch.y, 1.0, scratch.weights, 0, method.n_dense, scratch.k,
                scratch.y.size,
            )  # fmt: skip
        i += 1
    count[NEXT_OBS] = i
    return complete


@kernel
def advance(
    method: Method,
    system: System,
    control: Control,
    store: Store,
    observations: Observations,
    scratch: Scratch,
    budget: int,
) -> int:
    """Integrate from clock[T] to clock[T_END]; return a status.

    Parameters
    ----------
    method, system, control
        What to solve, by what, how closely.
    store
        Receives the accepted steps where ``store.keep``; with ``control.replay`` its step sizes
        are taken instead of chosen.
    observations
        Receives the state at given times.
    scratch
        State and memory; the state at the end is ``scratch.y``.
    budget
        Steps to try before returning PAUSED.

    Where count[PATIENCE] is not 0, SWITCH is returned after a step when another method should go
    on, see `symode.kernels.stiffness`.
    """
    clock, count = scratch.clock, scratch.count
    if clock[T] == clock[T_END]:
        return SUCCESS
    if count[STARTED] == 0:
        status = start(method, system, control, scratch)
        if status != SUCCESS:
            return status
    size = scratch.y.size
    for _ in range(budget):
        t, end = clock[T], clock[T_END]
        direction = 1.0 if end > t else -1.0
        remaining = end - t
        if store.keep and not control.replay and count[STEPS] >= store.h.size:
            return FULL
        if count[STEPS] + count[BEFORE] >= control.max_steps:
            return failure(system, scratch, MAX_STEPS)
        prepare_step(method, system, control, store, scratch)
        limit_reach(system, scratch)
        h = store.h[count[STEPS]] if control.replay else clock[H]
        last = abs(h) >= abs(remaining) * (1.0 - 1e-12)
        if control.replay:
            last = count[STEPS] == store.h.size - 1
        elif last:
            h = remaining
        elif abs(h) > 0.5 * abs(remaining):
            # Two equal steps, not a full one and a sliver.
            h = 0.5 * remaining
        clock[H_TRIED] = h
        if not control.replay and not (abs(h) > 4e-16 * max(abs(t), abs(end) * 1e-300)):
            # Observation times may be one rounding apart; a first try crosses such a gap.
            if count[JUST_REJECTED] or count[CAUSE] or abs(remaining) > 1e-14 * abs(t):
                # Where f is smooth, an iteration converges at some step size.
                cause = count[CAUSE]
                if cause in (SUCCESS, NO_CONVERGENCE):
                    cause = STEP_TOO_SMALL
                return failure(system, scratch, cause)
            h, last = remaining, True
        status = take_step(method, system, control, t, h, scratch)
        if status != SUCCESS:
            if control.replay:
                return status
            count[REJECTED] += 1
            count[CAUSE] = NONFINITE if status == SINGULAR else status
            clock[H] = 0.25 * h
            # Iterations converge once h is small enough, however long the span that remains.
            if status == SINGULAR and abs(h) < 1e-14 * abs(remaining):
                return failure(system, scratch, status)
            continue
        error = error_norm(method, control, h, scratch)
        if LEAP_ERROR < error <= 1.0 and leaps(control, scratch):
            error /= LEAP_ERROR
        if control.replay:
            if error == math.inf:
                return NONFINITE
        elif not (error <= 1.0):
            count[REJECTED] += 1
            count[JUST_REJECTED] = 1
            if error < math.inf:
                count[CAUSE] = SUCCESS
                exponent = -1.0 / method.order
                clock[H] = h * max(0.2, 0.9 * math.exp(exponent * math.log(error)))
            else:
                count[CAUSE] = NONFINITE
                clock[H] = 0.2 * h
            continue
        t_new = end if last else t + h
        complete = method.n_dense == method.n_stages
        if store.keep and not control.lazy and not complete:
            complete_step(method, system, t, h, scratch)
            complete = True
        complete = observe(method, system, observations, t, h, t_new, scratch, complete)
        if store.keep:
            keep_step(method, system, store, scratch, t, h, t_new, complete)
        # Before stage 0 and y are overwritten: the test compares stages of this step.
        switch = watch(method, system, control, h, scratch)
        count[STEPS] += 1
        count[CAUSE] = SUCCESS
        clock[T] = t_new
        for i in range(size):
            scratch.y[i] = scratch.new[i]
            scratch.peak[i] = max(scratch.peak[i], abs(scratch.new[i]))
        if control.weight.size > 0:
            clock[GROUP] = max(clock[GROUP], group_size(control, scratch.new))
        if method.fsal:
            last_stage = method.n_stages - 1
            for i in range(size):
                scratch.k[0, i] = scratch.k[last_stage, i]
        else:
            count[FSAL_READY] = 0
        if not control.replay:
            factor = next_factor(method, error, scratch)
            if count[JUST_REJECTED]:
                factor = min(factor, 1.0)
            clock[ERR] = math.log(error) if error > 1e-4 else LOG_SMALL_ERROR
            clock[WORST] = max(clock[WORST], error)
            grown = h * factor
            # A step shortened to meet the end says nothing against the size before it.
            if abs(h) < abs(clock[H]) and factor >= 1.0:
                grown = direction * max(abs(grown), abs(clock[H]))
            clock[H] = direction * min(abs(grown), control.h_max)
        count[JUST_REJECTED] = 0
        if last:
            return SUCCESS
        if switch:
            return SWITCH
    return PAUSED


@inline
def keep_step(
    method: Method,
    system: System,
    store: Store,
    scratch: Scratch,
    t: float,
    h: float,
    t_new: float,
    complete: bool,
) -> None:
    """Append the accepted step to the store, with the interpolant's stages where they were made."""
    i = scratch.count[STEPS]
    n = system.n
    store.t[i] = t
    store.t[i + 1] = t_new
    store.h[i] = h
    for j in range(n):
        store.z[i, j] = scratch.y[j]
        store.z[i + 1, j] = scratch.new[j]
    for l in range(method.n_dense if complete else method.n_stages):  # noqa: E741
        for j in range(n):
            store.k[i, l, j] = scratch.k[l, j]
    keep_member(method, store, i, scratch)
    scratch.count[STORED] = i + 1
