r"""One step of a stabilised explicit method, and the bound of ρ(J) that chooses its stages.

See `symode.solvers.chebyshev` for the formulas. Rows of ``scratch.k``: the slope at the start, the
mean slope, the slope at the end (the three that the interpolant needs), the error estimate, the
four slopes at the end of the recurrence, its slope, and three states in turn.

The number of stages is the least with :math:`|h|\rho \le l_s`. Power iteration on \|J\| bounds ρ
from above, as in `symode.kernels.stiffness`, and goes on from step to step: one pass over the
pattern then keeps it sharp. States that no equation reads (quadratures, and adjoints of parameters)
have no part in the spectrum and are left out.
"""

from __future__ import annotations

import math

from symode.kernels.call import call_field
from symode.kernels.dense import trajectory_at
from symode.kernels.jit import by_type, inline
from symode.kernels.rhs import evaluate
from symode.kernels.types import (
    ADJOINT_OF,
    ADJOINTS,
    BOUND_AGE,
    CAUSE,
    FSAL_READY,
    JAC,
    JUST_REJECTED,
    MEMBER,
    NJEV,
    RADIUS,
    STEPS,
    Adjoint,
    Chebyshev,
    Control,
    Field,
    Floats,
    H,
    Method,
    Scratch,
    Store,
    System,
    T,
    Tangents,
)
from symode.status import SUCCESS

#: Rows of scratch.k, 3 of them the ring.
MEAN, END, ERROR, LAST, SLOPE, RING = 1, 2, 3, 4, 8, 9
#: Steps for which a bound serves, and what it may grow by in them.
REUSED, GROWTH = 5, 1.05
#: Iterations of a new bound, and of one that goes on.
FIRST, AGAIN = 12, 1


def _jacobian_here(system: System, t: float, scratch: Scratch) -> None:
    scratch.count[NJEV] += 1
    call_field(
        system.address[JAC], t, scratch.y, 0, system.p, 0, scratch.work, 0, scratch.jac, 0
    )  # fmt: skip


def _jacobian_along(system: Adjoint, t: float, scratch: Scratch) -> None:
    scratch.count[NJEV] += 1
    trajectory_at(t, system, scratch)
    call_field(
        system.address[JAC], t, scratch.z, 0, system.p, 0, scratch.work, 0, scratch.jac, 0
    )  # fmt: skip


@by_type(
    0,
    {
        Field: _jacobian_here,
        Tangents: _jacobian_here,
        **dict.fromkeys(ADJOINTS, _jacobian_along),
    },
)
def jacobian_at(system: System, t: float, scratch: Scratch) -> None:
    """Write the Jacobian's values at the current state into scratch.jac."""
    raise NotImplementedError


@inline
def bound_radius(system: System, scratch: Scratch, iterations: int, fresh: bool) -> float:
    """Return a bound of ρ of the Jacobian in scratch.jac; infinite where that is not finite.

    The vector of the iteration stays in scratch.row, unless ``fresh``.
    """
    rows, cols, n = system.pattern.rows, system.pattern.cols, system.n
    x, y, jac = scratch.row, scratch.size, scratch.jac
    for i in range(n):
        y[n + i] = 0.0
        if fresh:
            x[i] = 1.0
    for e in range(rows.size):
        if rows[e] != cols[e]:
            y[n + cols[e]] = 1.0
    best = math.inf
    for _ in range(iterations):
        for i in range(n):
            y[i] = 0.0
        bound, top = 0.0, 0.0
        for e in range(rows.size):
            i = rows[e]
            if y[n + i] != 0.0:
                y[i] += abs(jac[e]) * x[cols[e]]
            elif i == cols[e]:
                # No other state reads this one: its entry is an eigenvalue.
                bound = max(bound, abs(jac[e]))
            if not (abs(jac[e]) < math.inf):
                return math.inf
        for i in range(n):
            if y[n + i] != 0.0:
                bound = max(bound, y[i] / x[i])
                top = max(top, y[i])
        best = min(best, bound)
        if top == 0.0:
            return best
        # A share of the old vector keeps the new one positive.
        for i in range(n):
            x[i] = max((y[i] + 0.05 * bound * x[i]) / top, 1e-30)
    return best


def _prepare_none(
    method: Method, system: System, control: Control, store: Store, scratch: Scratch
) -> None:
    pass


def _prepare_chebyshev(
    method: Chebyshev, system: System, control: Control, store: Store, scratch: Scratch
) -> None:
    clock, count = scratch.clock, scratch.count
    count[MEMBER] = -1
    if control.replay and count[STEPS] < store.member.size:
        count[MEMBER] = store.member[count[STEPS]]
        return
    age, rejected = count[BOUND_AGE], count[JUST_REJECTED] != 0 or count[CAUSE] != SUCCESS
    if age % REUSED == 0 or rejected:
        jacobian_at(system, clock[T], scratch)
        found = bound_radius(system, scratch, FIRST if age == 0 else AGAIN, age == 0)
        # Where the Jacobian is not finite, though f may be, the error estimate is left to decide.
        if found < math.inf:
            clock[RADIUS] = GROWTH * found
        elif age == 0:
            clock[RADIUS] = 0.0
    count[BOUND_AGE] = age + 1
    largest = method.limit[method.limit.size - 1]
    if not control.replay and abs(clock[H]) * clock[RADIUS] > largest:
        clock[H] = math.copysign(largest / clock[RADIUS], clock[H])


@by_type(
    0,
    {kind: _prepare_none for kind in ADJOINT_OF} | {Chebyshev: _prepare_chebyshev},
)
def prepare_step(
    method: Method, system: System, control: Control, store: Store, scratch: Scratch
) -> None:
    """Make ready what the choice of the step size, or a replay's number of stages, depends on."""
    raise NotImplementedError


def _keep_none(method: Method, store: Store, i: int, scratch: Scratch) -> None:
    pass


def _keep_member(method: Chebyshev, store: Store, i: int, scratch: Scratch) -> None:
    store.member[i] = scratch.count[MEMBER]


@by_type(0, {kind: _keep_none for kind in ADJOINT_OF} | {Chebyshev: _keep_member})
def keep_member(method: Method, store: Store, i: int, scratch: Scratch) -> None:
    """Keep the number of stages of step i."""
    raise NotImplementedError


@inline
def recur(
    method: Chebyshev, j: int, h: float, y: Floats, before: Floats, slope: Floats, out: Floats
) -> None:
    """Write p y + (1 - p) before + h m slope into out, by row j of ``flow``."""
    p, m = method.flow[j, 0], h * method.flow[j, 1]
    q = 1.0 - p
    for i in range(y.size):
        out[i] = p * y[i] + q * before[i] + m * slope[i]


@inline
def step_chebyshev(
    method: Chebyshev, system: System, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    """Make the new state, the interpolant's rows and the error estimate; return SUCCESS."""
    count, y, k = scratch.count, scratch.y, scratch.k
    size = y.size
    if count[FSAL_READY] == 0:
        evaluate(system, t, y, scratch, k, 0)
        count[FSAL_READY] = 1
    if count[MEMBER] < 0:
        need, member = abs(h) * scratch.clock[RADIUS], 0
        while member < method.limit.size - 1 and method.limit[member] < need:
            member += 1
        count[MEMBER] = member
    member = count[MEMBER]
    first, last = method.starts[member], method.starts[member + 1]
    before, now = y, k[RING]
    m = h * method.flow[first, 1]
    for i in range(size):
        now[i] = y[i] + m * k[0, i]
    ring = 0
    for j in range(first + 1, last):
        evaluate(system, t + method.flow[j, 2] * h, now, scratch, k, SLOPE)
        ring = ring + 1 if ring < 2 else 0
        out = k[RING + ring]
        recur(method, j, h, now, before, k[SLOPE], out)
        before, now = now, out
    evaluate(system, t + method.c[member, 0] * h, now, scratch, k, LAST)
    stage, new = scratch.stage, scratch.new
    a, b, e = method.a[member], method.b[member], method.error[member]
    for s in range(1, 4):
        inner_stage(h, a, s, now, k, stage, size)
        evaluate(system, t + method.c[member, s] * h, stage, scratch, k, LAST + s)
    b0, b1, b2, b3 = h * b[0], h * b[1], h * b[2], h * b[3]
    for i in range(size):
        step = b0 * k[LAST, i] + b1 * k[LAST + 1, i] + b2 * k[LAST + 2, i] + b3 * k[LAST + 3, i]
        new[i] = now[i] + step
    evaluate(system, t + h, new, scratch, k, END)
    for i in range(size):
        k[MEAN, i] = (new[i] - y[i]) / h
        total = e[0] * k[LAST, i] + e[1] * k[LAST + 1, i] + e[2] * k[LAST + 2, i]
        k[ERROR, i] = total + e[3] * k[LAST + 3, i] + e[4] * k[END, i]
    return SUCCESS


@inline
def inner_stage(
    h: float, a: Floats, s: int, start: Floats, k: Floats, out: Floats, size: int
) -> None:
    """Write the argument of the slope s of the last four into out."""
    a0, a1, a2 = h * a[s, 0], h * a[s, 1], h * a[s, 2]
    if s == 1:
        for i in range(size):
            out[i] = start[i] + a0 * k[LAST, i]
    elif s == 2:
        for i in range(size):
            out[i] = start[i] + a0 * k[LAST, i] + a1 * k[LAST + 1, i]
    else:
        for i in range(size):
            step = a0 * k[LAST, i] + a1 * k[LAST + 1, i] + a2 * k[LAST + 2, i]
            out[i] = start[i] + step
