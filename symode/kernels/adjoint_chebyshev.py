r"""The transpose of stabilised explicit steps, size and number of stages frozen.

The states of a step are made again from the one at its start; then, with
:math:`\bar Y_j` the adjoint of the recurrence's states, the four last stages transposed first,

.. math:: \bar Y_j \mathrel{+}= p_j \bar Y_{j+1} + h m_j \bar Y_{j+1}^\top \nabla_{§1} f(Y_j),
          \qquad \bar Y_{j-1} \mathrel{+}= (1 - p_j) \bar Y_{j+1}

and the slope at a step's end is the first of the next, as in `symode.kernels.adjoint_erk`.
"""

from __future__ import annotations

from symode.kernels.adjoint_erk import pull
from symode.kernels.call import call_field
from symode.kernels.chebyshev import END, LAST, MEAN, RING, SLOPE, inner_stage, recur
from symode.kernels.jit import inline
from symode.kernels.seeds import seed_step
from symode.kernels.types import (
    LEFT,
    RHS,
    Chebyshev,
    Floats,
    Gradient,
    LossTable,
    Observations,
    Scratch,
    Store,
    System,
)
from symode.status import PAUSED, SUCCESS


@inline
def adjoint_chebyshev(
    method: Chebyshev,
    system: System,
    store: Store,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    gradient: Gradient,
    budget: int,
) -> int:
    """Carry lam from z_N back to z_0; count[LEFT] steps and count[NEXT_OBS] observations remain."""
    n, count = system.n, scratch.count
    lam, theta, bar = gradient.lam, gradient.theta, scratch.k
    shared = method.n_dense  # row for the adjoint of the slope shared with the step after
    base = scratch.z  # adjoint of z at the step's start
    for _ in range(budget):
        if count[LEFT] == 0:
            if pull(system, store.t[0], store.z, 0, shared, scratch, theta):
                for i in range(n):
                    lam[i] += scratch.out[i]
            return SUCCESS
        step = count[LEFT] - 1
        t, h = store.t[step], store.h[step]
        for i in range(n):
            bar[0, i] = 0.0
            bar[MEAN, i] = 0.0
            bar[END, i] = bar[shared, i]
            base[i] = 0.0
        seed_step(method, observations, loss, scratch, step, h, lam, base, bar)
        if pull(system, store.t[step + 1], store.z, (step + 1) * n, END, scratch, theta):
            for i in range(n):
                lam[i] += scratch.out[i]
        for i in range(n):
            lam[i] += bar[MEAN, i] / h
            base[i] -= bar[MEAN, i] / h
        _step_back(method, system, store, step, t, h, lam, base, scratch, theta)
        for i in range(n):
            bar[shared, i] = bar[0, i]
            lam[i] = base[i]
        count[LEFT] = step
    return PAUSED


@inline
def _step_back(
    method: Chebyshev, system: System, store: Store, step: int, t: float, h: float,
    lam: Floats, base: Floats, scratch: Scratch, theta: Floats,
) -> None:  # fmt: skip
    """Move the adjoint of the new state to the state and the slope at the step's start."""
    n, bar, states = system.n, scratch.k, scratch.block
    member = store.member[step]
    first, last = method.starts[member], method.starts[member + 1]
    _states_of(method, system, store, step, t, h, scratch)
    top = last - first
    a, b, c = method.a[member], method.b[member], method.c[member]
    final, older, fresh = bar[RING], bar[RING + 1], bar[RING + 2]
    for i in range(n):
        final[i] = lam[i]
        older[i] = 0.0
        for s in range(4):
            bar[LAST + s, i] = h * b[s] * lam[i]
    for s in range(3, -1, -1):
        if pull(system, t + c[s] * h, states, (top + s) * n, LAST + s, scratch, theta):
            for i in range(n):
                final[i] += scratch.out[i]
            for j in range(s):
                w = h * a[s, j]
                for i in range(n):
                    bar[LAST + j, i] += w * scratch.out[i]
    for j in range(last - 1, first, -1):
        p, m = method.flow[j, 0], h * method.flow[j, 1]
        q = 1.0 - p
        for i in range(n):
            bar[SLOPE, i] = m * final[i]
        at = t + method.flow[j, 2] * h
        if pull(system, at, states, (j - first) * n, SLOPE, scratch, theta):
            for i in range(n):
                fresh[i] = p * final[i] + older[i] + scratch.out[i]
        else:
            for i in range(n):
                fresh[i] = p * final[i] + older[i]
        for i in range(n):
            older[i] = q * final[i]
        final, fresh = fresh, final
    m = h * method.flow[first, 1]
    for i in range(n):
        base[i] += final[i] + older[i]
        bar[0, i] += m * final[i]


@inline
def _states_of(
    method: Chebyshev, system: System, store: Store, step: int, t: float, h: float,
    scratch: Scratch,
) -> None:  # fmt: skip
    """Write the arguments of all slopes of a step but the first into the rows of scratch.block.

    Row j holds Y_j; those of the four last slopes, the first of them the recurrence's end, follow.
    """
    n, k, states = system.n, scratch.k, scratch.block
    member = store.member[step]
    first, last = method.starts[member], method.starts[member + 1]
    z, slope = store.z[step], store.k[step, 0]
    m = h * method.flow[first, 1]
    for i in range(n):
        states[0, i] = z[i]
        states[1, i] = z[i] + m * slope[i]
    for j in range(first + 1, last):
        at = j - first
        _slope_again(system, t + method.flow[j, 2] * h, at, scratch, SLOPE)
        recur(method, j, h, states[at], states[at - 1], k[SLOPE], states[at + 1])
    top = last - first
    a, c = method.a[member], method.c[member]
    for s in range(1, 4):
        at = top + s - 1
        _slope_again(system, t + c[s - 1] * h, at, scratch, LAST + s - 1)
        inner_stage(h, a, s, states[top], k, states[at + 1], n)


@inline
def _slope_again(system: System, t: float, at: int, scratch: Scratch, row: int) -> None:
    """Write f at a row of scratch.block into one of scratch.k, uncounted: nothing is solved."""
    states, k = scratch.block, scratch.k
    call_field(
        system.address[RHS], t, states, at * states.shape[1], system.p, 0, scratch.work, 0,
        k, row * k.shape[1],
    )  # fmt: skip
