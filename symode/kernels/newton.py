"""Newton's iteration for the stages of a collocation step, by the modes of its matrix."""

from __future__ import annotations

import math

from symode.kernels.block import factor_block, solve_block, stage_jacobians
from symode.kernels.jit import by_type, inline
from symode.kernels.modes import solve_modes
from symode.kernels.rosenbrock import slope
from symode.kernels.types import (
    ADJOINTS,
    CHECKED,
    ETA,
    H_FACTORED,
    NEWTON,
    RATE,
    Collocation,
    Control,
    Field,
    Scratch,
    System,
    Tangents,
)
from symode.status import NO_CONVERGENCE, NONFINITE, SINGULAR, SUCCESS

#: Error of the iteration, in units of the step's tolerance; rtol**0.5 where that is smaller.
LOOSE = 0.03
#: Least rate that is trusted for the first correction of a step.
TRUST = 1e-4
#: Corrections, in units of the tolerance, at which an iteration that stalls is at its rounding.
STALLED = 1e-2
#: The same relative to the state, in a replay.
REPLAY_ROUNDING, REPLAY_STALLED = 2e-16, 1e-9
#: Iterations of a replay, and of the exact iteration that serves where that fails.
REPLAY_LIMIT, EXACT_LIMIT = 60, 40


def _straight(system: System) -> bool:
    return False


def _transposed(system: System) -> bool:
    return True


@by_type(
    0,
    {
        Field: _straight,
        Tangents: _straight,
        **dict.fromkeys(ADJOINTS, _transposed),
    },
)
def is_transposed(system: System) -> bool:
    """Tell whether the matrix of the step holds the transpose of J."""
    raise NotImplementedError


@inline
def allowed(method: Collocation, control: Control, scratch: Scratch, j: int) -> float:
    """Return the unit in which corrections of component j are measured: its tolerance."""
    y, k = scratch.y[j], scratch.k
    size = max(abs(y), abs(y + k[method.n_stages - 1, j]))
    unit = size
    if not control.replay:
        peak = scratch.peak[j]
        if control.atol[j] == math.inf:
            unit = control.rtol * max(size, peak)
        else:
            unit = control.atol[j] + control.rtol * max(size, control.floor[j] * peak)
    if unit == 0.0:
        # A quadrature that starts at 0: relative to what it gains.
        for i in range(method.n_stages):
            unit = max(unit, abs(k[i, j]))
        unit = unit if control.replay else control.rtol * unit
    return unit if unit > 0.0 else 1.0


@inline
def correct(
    method: Collocation,
    system: System,
    control: Control,
    scratch: Scratch,
    offset: int,
    check: bool,
) -> float:
    """Solve for the residuals, add the corrections to Z; return their norm, -1 for singular.

    Components ``offset`` to ``offset + n`` of the state; residuals in the first n of their rows.
    """
    stages, n, k = method.n_stages, system.n, scratch.k
    r, w = 2 * stages + 2, 3 * stages + 2
    for i in range(stages):
        for j in range(n):
            total = 0.0
            for l in range(stages):  # noqa: E741
                total += method.into[i, l] * k[r + l, j]
            k[w + i, j] = total
    transposed = is_transposed(system)
    if not solve_modes(method, system, scratch, k, w, transposed, check):
        return -1.0
    total_norm = 0.0
    for j in range(n):
        top = 0.0
        for i in range(stages):
            total = 0.0
            for l in range(stages):  # noqa: E741
                total += method.back[i, l] * k[w + l, j]
            k[i, offset + j] += total
            top += total * total
        unit = allowed(method, control, scratch, offset + j)
        total_norm += top / (unit * unit)
    return math.sqrt(total_norm / (stages * n))


@inline
def target(control: Control) -> float:
    """Return the norm at which an iteration is done, in units of the step's tolerance."""
    rtol = control.rtol
    return max(1e-15 / rtol, min(LOOSE, math.sqrt(rtol)))


@inline
def solve_stages(
    method: Collocation, system: System, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    """Iterate from the increments in scratch.k; return a status."""
    clock, count, stages = scratch.clock, scratch.count, method.n_stages
    limit = REPLAY_LIMIT if control.replay else 7 + (5 * (stages - 3)) // 2
    tol = REPLAY_ROUNDING if control.replay else target(control)
    stalled = REPLAY_STALLED if control.replay else STALLED
    eta = max(clock[ETA], TRUST) ** 0.8
    before, rate, worst = 0.0, 0.0, 0.0
    status = NO_CONVERGENCE
    for iteration in range(limit):
        write_slopes(method, system, t, h, scratch)
        _residuals(method, system, h, scratch)
        norm = correct(method, system, control, scratch, 0, count[CHECKED] == 0)
        if norm == -1.0:
            return SINGULAR
        count[CHECKED] = 1
        if not (norm < 1e300):
            return NONFINITE
        if iteration > 0:
            rate = norm / before if before > 0.0 else 0.0
            if rate >= 0.9:
                if norm <= stalled or norm <= tol:
                    status = SUCCESS
                elif iteration < 2 or control.replay:
                    before = norm
                    continue
                break
            worst = max(worst, rate)
            eta = rate / (1.0 - rate)
            if not control.replay:
                ahead = norm * eta * rate ** (limit - 1 - iteration)
                if ahead > tol and norm > stalled:
                    break
        elif control.replay:
            eta = 1.0
        before = norm
        if eta * norm <= tol or norm == 0.0:
            status = SUCCESS
            count[NEWTON] = iteration + 1
            break
    clock[ETA] = eta
    clock[RATE] = worst
    if status != SUCCESS and control.replay:
        return solve_exactly(method, system, control, t, h, scratch)
    return status


@inline
def write_slopes(method: Collocation, system: System, t: float, h: float, scratch: Scratch) -> None:
    """Write the slopes at all stages; of tangents only those of the state."""
    stages, k = method.n_stages, scratch.k
    for i in range(stages):
        for j in range(system.n):
            scratch.stage[j] = scratch.y[j] + k[i, j]
        slope(system, t + method.c[i] * h, scratch, stages + 1 + i)


@inline
def _residuals(method: Collocation, system: System, h: float, scratch: Scratch) -> None:
    stages, k = method.n_stages, scratch.k
    for j in range(system.n):
        for i in range(stages):
            total = 0.0
            for l in range(stages):  # noqa: E741
                total += method.inverse[i, l] * k[l, j]
            k[2 * stages + 2 + i, j] = k[stages + 1 + i, j] - total / h


def _never(
    method: Collocation, system: System, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    return NO_CONVERGENCE


def _exactly(
    method: Collocation, system: System, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    stages, n, k = method.n_stages, system.n, scratch.k
    scratch.clock[H_FACTORED] = 0.0
    before = math.inf
    for i in range(stages):
        for j in range(n):
            k[i, j] = 0.0
    for _ in range(EXACT_LIMIT):
        write_slopes(method, system, t, h, scratch)
        _residuals(method, system, h, scratch)
        stage_jacobians(method, system, t, h, scratch)
        if not factor_block(method, system, h, scratch):
            return SINGULAR
        solve_block(method, system, scratch, 2 * stages + 2, False)
        norm = 0.0
        for j in range(n):
            for i in range(stages):
                k[i, j] += k[2 * stages + 2 + i, j]
            unit = allowed(method, control, scratch, j)
            for i in range(stages):
                norm = max(norm, abs(k[2 * stages + 2 + i, j]) / unit)
        if not (norm < 1e300):
            return NONFINITE
        if norm <= REPLAY_ROUNDING or (norm >= 0.3 * before and norm <= REPLAY_STALLED):
            return SUCCESS
        before = norm
    return NO_CONVERGENCE


@by_type(
    1,
    {
        Field: _exactly,
        Tangents: _exactly,
        **dict.fromkeys(ADJOINTS, _never),
    },
)
def solve_exactly(
    method: Collocation, system: System, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    """Iterate with the Jacobians of all stages, from zero; return a status."""
    raise NotImplementedError
