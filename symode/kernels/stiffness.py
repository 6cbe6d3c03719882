r"""Is the step size held down by stability? The tests that make `advance` return SWITCH.

An explicit method leaves where :math:`|h|\rho(J)` stays at the edge of its stability region; its
last two slopes at t + h tell, for the cost of one stage's combination and no call of f. A method
with one slope there (Bosh3) evaluates f in its embedded solution, each time it is looked at. An
implicit method leaves where :math:`|h|\rho(J)` would be comfortable for the explicit one; a bound
of :math:`\rho` from the Jacobian at hand tells, so that it never returns too early.

Hairer & Wanner (1996), *Solving ODEs II*, section IV.2, eqs. 2.26 to 2.28.
"""

from __future__ import annotations

import math

from symode.kernels.control import scale_of
from symode.kernels.jit import by_type, inline
from symode.kernels.rhs import evaluate
from symode.kernels.types import (
    ADJOINT_OF,
    AGAINST,
    EVIDENCE,
    PATIENCE,
    RHO,
    WATCHED,
    Control,
    Erk,
    Method,
    Scratch,
    System,
    T,
)

#: Accepted steps between two looks of an unsuspicious explicit, and implicit, method.
RARELY, SELDOM = 8, 4
#: Steps in a row without a sign of stiffness that clear an explicit method of the suspicion.
CLEARED = 6
#: Two states closer than this many roundings tell nothing of the slope between them.
ROUNDING = 2e-14
#: Iterations of the bound of ρ; each is a bound by itself.
ITERATIONS = 6


def _watch_explicit(
    method: Erk, system: System, control: Control, h: float, scratch: Scratch
) -> bool:
    count = scratch.count
    if count[PATIENCE] == 0:
        return False
    count[WATCHED] += 1
    if count[EVIDENCE] == 0 and count[WATCHED] % RARELY != 0:
        return False
    last, other = method.n_stages - 1, method.n_stages - 2
    paired = abs(method.c[other] - 1.0) < 1e-14
    if not paired:
        _evaluate_embedded(method, system, h, scratch)
    dz, df = 0.0, 0.0
    for i in range(control.n_tested):
        size = max(abs(scratch.y[i]), abs(scratch.new[i]))
        scale = scale_of(control, i, size, scratch.peak[i])
        if not (0.0 < scale < math.inf):
            continue
        total, slope = 0.0, scratch.k[method.n_dense, i]
        if paired:
            slope = scratch.k[other, i]
            for s in range(last):
                total += (method.a[last, s] - method.a[other, s]) * scratch.k[s, i]
        else:
            for s in range(method.n_stages):
                total += method.e[0, s] * scratch.k[s, i]
        dz += (total / scale) ** 2
        df += ((scratch.k[last, i] - slope) / scale) ** 2
    if abs(h) * math.sqrt(dz) > ROUNDING / control.rtol and df > control.limit**2 * dz:
        count[EVIDENCE] += 1
        count[AGAINST] = 0
        # The states differ by h times the total, so h cancels.
        scratch.clock[RHO] = math.sqrt(df / dz)
        return bool(count[EVIDENCE] >= count[PATIENCE])
    if count[EVIDENCE] > 0:
        count[AGAINST] += 1
        if count[AGAINST] == CLEARED:
            count[EVIDENCE] = 0
            count[AGAINST] = 0
    return False


def _watch_implicit(
    method: Method, system: System, control: Control, h: float, scratch: Scratch
) -> bool:
    count = scratch.count
    if count[PATIENCE] == 0:
        return False
    count[WATCHED] += 1
    if count[EVIDENCE] == 0 and count[WATCHED] % SELDOM != 0:
        return False
    rho = abs(h) * spectral_bound(system, control, control.limit / abs(h), scratch)
    if rho < control.limit:
        count[EVIDENCE] += 1
        scratch.clock[RHO] = rho
        return bool(count[EVIDENCE] >= count[PATIENCE])
    count[EVIDENCE] = 0
    return False


@inline
def _evaluate_embedded(method: Erk, system: System, h: float, scratch: Scratch) -> None:
    """Evaluate f at t + h in the solution of lower order: the second slope there.

    Into the row that only the way back uses, from a state that the next step overwrites.
    """
    for i in range(scratch.y.size):
        total = 0.0
        for s in range(method.n_stages):
            total += method.e[0, s] * scratch.k[s, i]
        scratch.stage[i] = scratch.new[i] - h * total
    evaluate(system, scratch.clock[T] + h, scratch.stage, scratch, scratch.k, method.n_dense)


@by_type(0, {kind: _watch_implicit for kind in ADJOINT_OF} | {Erk: _watch_explicit})
def watch(method: Method, system: System, control: Control, h: float, scratch: Scratch) -> bool:
    """Look at an accepted step, y and all stages in place; return whether to switch now."""
    raise NotImplementedError


@inline
def spectral_bound(system: System, control: Control, enough: float, scratch: Scratch) -> float:
    r"""Return a bound of ρ(J) over the tested components, or any bound below ``enough``.

    For every positive vector x, :math:`\rho(J) \le \rho(|J|) \le \max_i (|J|x)_i/x_i` (Collatz and
    Wielandt; Horn & Johnson 2013, *Matrix Analysis*, theorems 8.1.18 and 8.1.26). Power iteration
    on \|J\| makes it sharp whatever the units of the states, which a norm of J is not.
    """
    rows, cols, n = system.pattern.rows, system.pattern.cols, control.n_tested
    x, y = scratch.row, scratch.size
    for i in range(n):
        x[i] = 1.0
    best = math.inf
    for _ in range(ITERATIONS):
        for i in range(n):
            y[i] = 0.0
        for e in range(rows.size):
            i, j = rows[e], cols[e]
            # Components outside the error norm, such as the tangents of a product with the
            # Hessian, must not move a switch.
            if i < n and j < n and control.atol[i] < math.inf and control.atol[j] < math.inf:
                y[i] += abs(scratch.jac[e]) * x[j]
        bound, top = 0.0, 0.0
        for i in range(n):
            bound = max(bound, y[i] / x[i])
            top = max(top, y[i])
        if not (bound < math.inf):
            return best
        best = min(best, bound)
        if best < enough or top == 0.0:
            return best
        # A share of the old vector keeps the new one positive where a row of J is small or 0.
        for i in range(n):
            x[i] = (y[i] + 0.05 * bound * x[i]) / top
    return best
