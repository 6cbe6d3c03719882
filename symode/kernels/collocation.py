r"""One step of a collocation method (Radau IIA), by simplified Newton iteration.

.. math:: F_i = f(t + c_i h, y + Z_i), \qquad
          \bigl(h^{-1} A^{-1} \otimes I - I \otimes J\bigr)\,\Delta
          = F - h^{-1} (A^{-1} \otimes I) Z, \qquad y^+ = y + Z_S

J and its factors, separated by the modes of :math:`A^{-1}`, are those at the start of the step or,
while the iteration converges fast and h stays, of a step before. Hairer & Wanner (1996), *Solving
ODEs II*, section IV.8. Tangents follow with the Jacobians of their stages; the adjoint equation is
linear, and its parameters' part is a quadrature.

Rows of scratch.k, for S stages: increments Z; the error; slopes F, later tangents' right-hand
sides; f at the start; residuals and corrections; their modes; the increments of the last accepted
step; its end.
"""

from __future__ import annotations

import math

from symode.kernels import linear
from symode.kernels.call import call_product
from symode.kernels.control import REUSE, error_norm
from symode.kernels.dense import interpolant_weights, trajectory_at
from symode.kernels.jit import by_type, inline
from symode.kernels.modes import factor_modes
from symode.kernels.newton import solve_stages, write_slopes
from symode.kernels.rhs import evaluate
from symode.kernels.rosenbrock import evaluate_jacobian
from symode.kernels.stage_tangents import tangent_increments
from symode.kernels.types import (
    ADJOINTS,
    BEFORE,
    CAUSE,
    CHECKED,
    ETA,
    FACTORED,
    H_FACTORED,
    H_PAST,
    H_STEP,
    JACOBIAN_OF,
    JUST_REJECTED,
    PAST,
    RATE,
    SEEN,
    SLOPE_OF,
    STEPS,
    VJP,
    Adjoint,
    Collocation,
    Control,
    Field,
    Scratch,
    System,
    Tangents,
)
from symode.status import SINGULAR, SUCCESS

#: Growth of h up to which the last step's polynomial predicts the increments.
REACH = 4.0


@inline
def step_collocation(
    method: Collocation, system: System, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    """Solve the stages, make the new state and its error; return a status."""
    stages, count, clock = method.n_stages, scratch.count, scratch.clock
    y, k = scratch.y, scratch.k
    # Not the place in the store: that starts anew when a segment is solved again.
    here = count[BEFORE] + count[STEPS] + 1
    if count[SEEN] != here:
        _look_back(method, scratch)
    count[SEEN] = here
    clock[H_STEP] = h
    reused = count[FACTORED] != 0 and clock[H_FACTORED] == h and clock[RATE] <= REUSE
    status = SUCCESS
    # Loops, here and below, so that what is inlined is compiled once.
    for attempt in range(2):
        _predict(method, h, scratch)
        if (attempt == 1 or not reused) and not _factor(method, system, t, h, scratch):
            status = SINGULAR
            break
        status = solve_stages(method, system, control, t, h, scratch)
        if status == SUCCESS or not reused:
            break
    if status == SUCCESS:
        status = follow(method, system, control, t, h, scratch)
    if status != SUCCESS:
        count[FACTORED] = 0
        return status
    for j in range(y.size):
        scratch.new[j] = y[j] + k[stages - 1, j]
        k[5 * stages + 2, j] = scratch.new[j]
    for again in range(2):
        if control.replay:
            break
        row = (2 + again) * stages + 1 + again
        if again == 1 or count[SLOPE_OF] != here:
            for j in range(y.size):
                scratch.stage[j] = y[j] + k[stages, j] if again == 1 else y[j]
            evaluate(system, t, scratch.stage, scratch, k, row)
            count[SLOPE_OF] = here
        _estimate(method, system, t, h, scratch, row)
        if here > 1 and count[JUST_REJECTED] == 0 and count[CAUSE] == 0:
            break
        error = error_norm(method, control, h, scratch)
        if not (1.0 <= error < math.inf):
            break
        # The estimate may be the slope of a fast mode, not its error: filter it once more.
    return SUCCESS


@inline
def _look_back(method: Collocation, scratch: Scratch) -> None:
    """Keep the increments of the step before as a predictor, if this one begins at its end."""
    stages, count, clock, k = method.n_stages, scratch.count, scratch.clock, scratch.k
    continues = count[SEEN] > 0
    if continues:
        for j in range(scratch.y.size):
            if scratch.y[j] != k[5 * stages + 2, j]:
                continues = False
    if not continues:
        count[PAST] = 0
        count[FACTORED] = 0
        count[JACOBIAN_OF] = 0
        count[SLOPE_OF] = 0
        clock[H_PAST] = 0.0
        clock[ETA] = 1.0
        return
    for i in range(stages):
        for j in range(scratch.y.size):
            k[4 * stages + 2 + i, j] = k[i, j]
    count[PAST] = 1
    clock[H_PAST] = clock[H_STEP]


@inline
def _predict(method: Collocation, h: float, scratch: Scratch) -> None:
    """Write the first guess of the increments: the last step's polynomial, or zero."""
    stages, k, w = method.n_stages, scratch.k, scratch.weights
    past = scratch.clock[H_PAST]
    if scratch.count[PAST] == 0 or not (0.0 < h / past <= REACH):
        for i in range(stages):
            for j in range(scratch.y.size):
                k[i, j] = 0.0
        return
    first = 4 * stages + 2
    for i in range(stages):
        interpolant_weights(method, 1.0 + method.c[i] * h / past, past, w)
        w[stages - 1] -= 1.0
        for j in range(scratch.y.size):
            total = 0.0
            for l in range(stages):  # noqa: E741
                total += w[l] * k[first + l, j]
            k[i, j] = total


def _jacobian_field(system: System, t: float, scratch: Scratch) -> float:
    evaluate_jacobian(system, t, scratch.y, scratch)
    return -1.0


def _jacobian_adjoint(system: Adjoint, t: float, scratch: Scratch) -> float:
    trajectory_at(t, system, scratch)
    evaluate_jacobian(system, t, scratch.z, scratch)
    # The equation's own Jacobian is -Jᵀ.
    return 1.0


@by_type(
    0,
    {
        Field: _jacobian_field,
        Tangents: _jacobian_field,
        **dict.fromkeys(ADJOINTS, _jacobian_adjoint),
    },
)
def write_jacobian(system: System, t: float, scratch: Scratch) -> float:
    """Write J at the start of the step; return its sign in the matrix of the step."""
    raise NotImplementedError


@inline
def _factor(method: Collocation, system: System, t: float, h: float, scratch: Scratch) -> bool:
    count = scratch.count
    sign = scratch.shift[1]
    here = count[BEFORE] + count[STEPS] + 1
    if count[JACOBIAN_OF] != here:
        sign = write_jacobian(system, t, scratch)
        count[JACOBIAN_OF] = here
    regular = factor_modes(method, system, h, sign, scratch)
    count[FACTORED] = 1
    count[CHECKED] = 0
    scratch.clock[H_FACTORED] = h
    return regular


def _follow_none(
    method: Collocation, system: Field, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    return SUCCESS


def _follow_adjoint(
    method: Collocation, system: Adjoint, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    # The iteration's last slopes are those before its last correction.
    write_slopes(method, system, t, h, scratch)
    n, stages, k = system.n, method.n_stages, scratch.k
    for i in range(stages):
        for j in range(n, n + system.m):
            total = 0.0
            for l in range(stages):  # noqa: E741
                total += method.a[i, l] * k[stages + 1 + l, j]
            k[i, j] = h * total
    return SUCCESS


@by_type(
    1,
    {
        Field: _follow_none,
        Tangents: tangent_increments,
        **dict.fromkeys(ADJOINTS, _follow_adjoint),
    },
)
def follow(
    method: Collocation, system: System, control: Control, t: float, h: float, scratch: Scratch
) -> int:
    """Make the increments of what depends linearly on the part that was iterated."""
    raise NotImplementedError


@inline
def _estimate(
    method: Collocation, system: System, t: float, h: float, scratch: Scratch, row: int
) -> None:
    r"""Write :math:`(I - h \gamma_0 J)^{-1} (h \gamma_0 f + \sum_i e_i Z_i)`, f being in a row."""
    stages, stored = method.n_stages, scratch.k
    w = method.eigenvalues[0, 0] / h
    for j in range(scratch.y.size):
        total = 0.0
        for i in range(stages):
            total += method.e[0, i] * stored[i, j]
        stored[stages, j] = stored[row, j] + w * total
    smooth(system, t, w, scratch, stages)


def _smooth_field(system: Field, t: float, w: float, scratch: Scratch, row: int) -> None:
    linear.solve(system, scratch, scratch.k, row, 0, False)


def _smooth_tangents(system: Tangents, t: float, w: float, scratch: Scratch, row: int) -> None:
    for d in range(system.directions.shape[0] + 1):
        linear.solve(system, scratch, scratch.k, row, d * system.n, False)


def _smooth_adjoint(system: Adjoint, t: float, w: float, scratch: Scratch, row: int) -> None:
    n, k = system.n, scratch.k
    linear.solve(system, scratch, k, row, 0, True)
    trajectory_at(t, system, scratch)
    call_product(
        system.address[VJP],
        t,
        scratch.z,
        0,
        system.p,
        0,
        k,
        row * k.shape[1],
        scratch.work,
        0,
        scratch.out,
        0,
    )
    for j in range(n, n + system.m):
        k[row, j] = (k[row, j] - scratch.out[j]) / w


@by_type(
    0,
    {
        Field: _smooth_field,
        Tangents: _smooth_tangents,
        **dict.fromkeys(ADJOINTS, _smooth_adjoint),
    },
)
def smooth(system: System, t: float, w: float, scratch: Scratch, row: int) -> None:
    """Apply the inverse of the real mode's matrix to one row."""
    raise NotImplementedError
