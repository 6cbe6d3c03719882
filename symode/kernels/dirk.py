r"""One step of a diagonally implicit method: stages solved one after another by Newton's iteration.

.. math::
    Z_i = \psi_i + h\gamma f(t + c_i h, Z_i), \quad
    \psi_i = y + h \sum_{j<i} a_{ij} k_j, \quad k_i = (Z_i - \psi_i) / (h\gamma)

Iterates solve :math:`W \delta = f(Z) - (Z - \psi)/(h\gamma)` with one factorization of
:math:`W = I/(h\gamma) - J` for all stages, and for the steps after it as long as h stays and the
iteration converges fast. Slopes come from the stage equation, not from f: an error in Z of the size
of the tolerance is then no error times J in the slope.

Tangents and the adjoint equation are linear in their unknowns: their stages are solved once, with
the exact Jacobian of the stage. Hairer & Wanner (1996), *Solving ODEs II*, section IV.8.
"""

from __future__ import annotations

import math

from symode.kernels import linear
from symode.kernels.call import call_product
from symode.kernels.combine import add_stages
from symode.kernels.control import scale_of
from symode.kernels.dense import trajectory_at
from symode.kernels.jit import by_type, inline
from symode.kernels.rhs import evaluate, evaluate_field, push_all
from symode.kernels.rosenbrock import evaluate_jacobian
from symode.kernels.types import (
    ADJOINTS,
    CHECKED,
    FACTORED,
    FSAL_READY,
    H_FACTORED,
    JAC_READY,
    RATE,
    T_JAC,
    VJP,
    Adjoint,
    Control,
    Dirk,
    Field,
    Scratch,
    System,
    Tangents,
)
from symode.status import NO_CONVERGENCE, NONFINITE, SINGULAR, SUCCESS

#: Iterates of a stage.
MAX_ITERATES = 10
#: Relative displacement that is rounding: it does not shrink, and moves nothing.
ROUNDING = 2e-15
#: Error of an iterate, in multiples of the tolerance, at which it is the solution. A gradient is
#: that of the exact stages, so it inherits this error: see docs/measurements.md.
CLOSE = 1e-2
#: Rate of convergence above which the Jacobian is evaluated again, at the iterate: that costs
#: about as much as an iterate, and less than a smaller step.
SLOW_RATE = 0.2
#: Rate that no measurement goes below: one lucky iterate must not vouch for the next stage.
FASTEST = 1e-3
#: Iterates, and the relative displacement they must get below, where a replay solves stages fully.
FULL_ITERATES, FULL = 50, 1e-10


@inline
def _factor(method: Dirk, system: System, h: float, scratch: Scratch) -> bool:
    """Factor W for this step size; the first solve with it is checked."""
    scratch.count[FACTORED] = 1
    scratch.count[CHECKED] = 0
    scratch.clock[H_FACTORED] = h
    return linear.factor(system, 1.0 / (h * method.gamma), -1.0, scratch)


@inline
def _solve(system: System, scratch: Scratch, i: int, c: int) -> bool:
    """Solve W x = row i of the stages from column c; False for a singular matrix."""
    if scratch.count[CHECKED] == 0:
        scratch.count[CHECKED] = 1
        return linear.solve_checked(system, scratch, scratch.k, i, c, False)
    linear.solve(system, scratch, scratch.k, i, c, False)
    return True


# -- before the stages ---------------------------------------------------------------------------


def _open_field(method: Dirk, system: System, t: float, h: float, scratch: Scratch) -> bool:
    count, clock = scratch.count, scratch.clock
    _refresh(system, t, scratch)
    if count[FACTORED] == 0 or clock[H_FACTORED] != h:
        return _factor(method, system, h, scratch)
    return True


@inline
def _refresh(system: System, t: float, scratch: Scratch) -> None:
    """Evaluate the Jacobian at the step's start, unless it is that already.

    That of an earlier step would do while the iteration is fast, but a rate does not tell: it is
    that of the components which moved most, and one that has become slow may hide behind them.
    """
    count, clock = scratch.count, scratch.clock
    if count[JAC_READY] and clock[T_JAC] == t:
        return
    evaluate_jacobian(system, t, scratch.y, scratch)
    count[JAC_READY] = 1
    count[FACTORED] = 0
    clock[T_JAC] = t
    clock[RATE] = 1.0


def _open_adjoint(method: Dirk, system: Adjoint, t: float, h: float, scratch: Scratch) -> bool:
    return True


@by_type(1, {Field: _open_field, Tangents: _open_field, **dict.fromkeys(ADJOINTS, _open_adjoint)})
def open_step(method: Dirk, system: System, t: float, h: float, scratch: Scratch) -> bool:
    """Make W ready for the iterations of this step; return whether it can be used."""
    raise NotImplementedError


# -- one stage -----------------------------------------------------------------------------------


@inline
def _displacement(system: System, control: Control, scratch: Scratch, i: int) -> float:
    """Return the size of the displacement in row i, in multiples of the tolerance.

    In a replay, which has no tolerance, it is the largest one relative to the state.
    """
    k, stage = scratch.k, scratch.stage
    total, counted, worst = 0.0, 0, 0.0
    for j in range(system.n):
        d = abs(k[i, j])
        if not (d < 1e300):
            return math.inf
        if control.replay:
            size = max(abs(stage[j]), 1e-3 * scratch.peak[j])
            if d > 0.0:
                worst = max(worst, d / max(size, 1e-290))
        elif control.atol[j] < math.inf:
            scale = scale_of(control, j, abs(scratch.y[j]), scratch.peak[j])
            counted += 1
            if scale > 0.0 and d > ROUNDING * abs(stage[j]):
                total += (d / scale) ** 2
    if control.replay:
        return worst
    return math.sqrt(total / counted) if counted else 0.0


@inline
def newton(
    method: Dirk, system: System, control: Control, t: float, h: float, scratch: Scratch, i: int
) -> int:
    r"""Solve stage i from the guess in scratch.stage, psi being in scratch.new; return a status.

    With the rate :math:`\Theta = |\delta_m| / |\delta_{m-1}|`, the error after the m-th iterate is
    at most :math:`\Theta / (1 - \Theta) |\delta_m|` (Hairer & Wanner 1996, eqs. IV.8.9 ff.). A
    first iterate is judged by the slowest rate of the stage before, but in the first stage of a
    step: where errors pass along a chain of states, the last iterate meets none and would tell
    that there was no hurry.
    """
    n, k, stage, psi = system.n, scratch.k, scratch.stage, scratch.new
    clock = scratch.clock
    inverse = 1.0 / (h * method.gamma)
    last, slowest = 0.0, 0.0
    close = max(CLOSE, ROUNDING / control.rtol)
    most = FULL_ITERATES if control.replay else MAX_ITERATES
    for m in range(most):
        evaluate_field(system, t, stage, scratch, k, i)
        for j in range(n):
            k[i, j] -= (stage[j] - psi[j]) * inverse
            if not (abs(k[i, j]) < math.inf):
                return NONFINITE
        if not _solve(system, scratch, i, 0):
            return SINGULAR
        size = _displacement(system, control, scratch, i)
        if not (size < math.inf):
            return NONFINITE
        for j in range(n):
            stage[j] += k[i, j]
        if m > 0:
            rate = max(size / last, FASTEST)
        elif i > 1:
            # Trusted less and less until it is measured again: at least once in each step.
            rate = clock[RATE] ** 0.8
        else:
            rate = 1.0
        slowest = max(rate, slowest) if m > 1 else rate
        clock[RATE] = slowest
        if control.replay:
            # Until rounding ends the progress.
            if size == 0.0 or (size < FULL and m > 0 and rate >= 0.5):
                return SUCCESS
        elif size == 0.0 or size * rate <= close * (1.0 - rate):
            return SUCCESS
        if m > 0 and rate > SLOW_RATE:
            # One that grows may end at another solution of the stage, beyond a singularity.
            if rate >= 1.0 and not control.replay:
                return NO_CONVERGENCE
            # At the iterate itself: it then converges quadratically.
            evaluate_jacobian(system, t, stage, scratch)
            clock[T_JAC] = t
            if not _factor(method, system, h, scratch):
                return SINGULAR
        last = size
    return NO_CONVERGENCE


@inline
def _slopes(method: Dirk, size: int, h: float, scratch: Scratch, i: int) -> None:
    """Turn the solved stage into its slope."""
    inverse = 1.0 / (h * method.gamma)
    for j in range(size):
        scratch.k[i, j] = (scratch.stage[j] - scratch.new[j]) * inverse


@inline
def _stage_field(
    method: Dirk, system: System, control: Control, t: float, h: float, scratch: Scratch, i: int
) -> int:
    for j in range(system.n):
        scratch.stage[j] = scratch.y[j]
    add_stages(method.guess[i], h, i, scratch.k, system.n, scratch.stage)
    status = SUCCESS
    for _ in range(2):
        status = newton(method, system, control, t, h, scratch, i)
        if status != NONFINITE:
            break
        # A guess may lie where f is not defined; the state itself does not.
        for j in range(system.n):
            scratch.stage[j] = scratch.y[j]
    if status == SUCCESS:
        _slopes(method, system.n, h, scratch, i)
    return status


def _stage_tangents(
    method: Dirk, system: Tangents, control: Control, t: float, h: float, scratch: Scratch, i: int
) -> int:
    r"""Solve :math:`W_i K = (J_i \psi + \nabla_{§3} f\, d)/(h\gamma)` for each direction d."""
    status = _stage_field(method, system, control, t, h, scratch, i)
    if status != SUCCESS:
        return status
    n, k = system.n, scratch.k
    evaluate_jacobian(system, t, scratch.stage, scratch)
    scratch.clock[T_JAC] = t
    if not _factor(method, system, h, scratch):
        return SINGULAR
    inverse = 1.0 / (h * method.gamma)
    push_all(system, t, scratch.stage, scratch.new, scratch, k, i)
    for d in range(system.directions.shape[0]):
        o = n * (d + 1)
        for j in range(n):
            k[i, o + j] *= inverse
        if not _solve(system, scratch, i, o):
            return SINGULAR
    return SUCCESS


def _stage_adjoint(
    method: Dirk, system: Adjoint, control: Control, t: float, h: float, scratch: Scratch, i: int
) -> int:
    r"""Solve :math:`(I/(h\gamma) + J_i^\top)\,\Lambda = \psi/(h\gamma)`; the rows of mu follow."""
    n, m, k = system.n, system.m, scratch.k
    trajectory_at(t, system, scratch)
    evaluate_jacobian(system, t, scratch.z, scratch)
    inverse = 1.0 / (h * method.gamma)
    linear.factor(system, inverse, 1.0, scratch)
    for j in range(n):
        k[i, j] = scratch.new[j] * inverse
    if not linear.solve_checked(system, scratch, k, i, 0, True):
        return SINGULAR
    if m > 0:
        call_product(
            system.address[VJP], t, scratch.z, 0, system.p, 0, k, i * k.shape[1],
            scratch.work, 0, scratch.out, 0,
        )  # fmt: skip
        for j in range(m):
            k[i, n + j] = -scratch.out[n + j]
    for j in range(n):
        scratch.stage[j] = k[i, j]
    _slopes(method, n, h, scratch, i)
    return SUCCESS


@by_type(
    1,
    {
        Field: _stage_field,
        Tangents: _stage_tangents,
        **dict.fromkeys(ADJOINTS, _stage_adjoint),
    },
)
def solve_stage(
    method: Dirk, system: System, control: Control, t: float, h: float, scratch: Scratch, i: int
) -> int:
    """Make row i of the stages; return a status."""
    raise NotImplementedError


# -- the step ------------------------------------------------------------------------------------


@inline
def _stages(
    method: Dirk, system: System, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    y, k, psi = scratch.y, scratch.k, scratch.new
    for i in range(1, method.n_stages):
        for j in range(y.size):
            psi[j] = y[j]
        add_stages(method.a[i], h, i, k, y.size, psi)
        status = solve_stage(method, system, control, t + method.c[i] * h, h, scratch, i)
        if status != SUCCESS:
            return status
    return SUCCESS


@inline
def step_dirk(
    method: Dirk, system: System, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    """Make all stages and the new state; return a status.

    Where the iteration does not converge, once more with the Jacobian of the step's start.
    """
    y, k, count = scratch.y, scratch.k, scratch.count
    if count[FSAL_READY] == 0:
        evaluate(system, t, y, scratch, k, 0)
        count[FSAL_READY] = 1
    status = NO_CONVERGENCE
    for _ in range(2):
        if not open_step(method, system, t, h, scratch):
            return SINGULAR
        status = _stages(method, system, control, t, h, scratch)
        if status == SUCCESS or scratch.clock[T_JAC] == t:
            break
    if status != SUCCESS:
        count[FACTORED] = 0
        return status
    last, w = method.n_stages - 1, h * method.gamma
    for j in range(y.size):
        # psi of the last stage, whose value is the new state.
        scratch.new[j] += w * k[last, j]
    return SUCCESS
