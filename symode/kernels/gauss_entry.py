"""The whole of a `GaussAdjoint` behind a C address, for one explicit method.

Unpacking two hundred arrays, twice, is a fifth of a gradient of some 200 µs: see
`symode.kernels.words`.
"""

from __future__ import annotations

import ctypes
import math
from functools import lru_cache
from typing import Any

import numba

from symode.kernels.gauss import lam_backward
from symode.kernels.gradient import begin
from symode.kernels.jit import cache_folder, inline
from symode.kernels.loop import advance
from symode.kernels.types import (
    BACKWARD,
    FIRST_OBS,
    FORWARD,
    LEFT,
    N_COUNT,
    NEXT_OBS,
    PATIENCE,
    PHASE,
    REACHED,
    STEPS,
    T_END,
    WORST,
    Z_AT,
    Control,
    Erk,
    ErkAdjoint,
    Field,
    Floats,
    Gradient,
    Ints,
    LossTable,
    Observations,
    Scratch,
    Store,
    T,
)
from symode.kernels.words import (
    ENTRY,
    get_bool,
    get_control,
    get_erk,
    get_float,
    get_floats,
    get_int,
    get_ints,
    get_loss,
    get_matrix,
    get_observations,
    get_pattern,
    get_scratch,
    get_store,
    open_table,
    words,
)
from symode.status import SUCCESS


@inline
def _turn(
    observations: Observations, forward: Scratch, along: Scratch, memory: Floats,
    progress: Floats, place: Ints, t0: float,
) -> None:  # fmt: skip
    """Set the backward pass to the end of the forward pass."""
    clock, count = along.clock, along.count
    for i in range(N_COUNT):
        count[i] = 0
    for i in range(along.y.size):
        along.y[i] = forward.y[i]
    place[:] = 0
    progress[:] = 0.0
    memory[4, :] = 0.0
    first, stop = forward.count[FIRST_OBS], forward.count[NEXT_OBS]
    count[FIRST_OBS], count[LEFT] = first, stop
    # Nothing is recorded on the way back.
    count[NEXT_OBS] = observations.t.size
    clock[T] = forward.clock[T]
    clock[T_END] = observations.t[stop - 1] if stop > first else t0
    clock[Z_AT], clock[WORST] = math.nan, 0.0
    progress[REACHED] = clock[T]


@inline
def _gauss_member(
    method: Erk, system: Field, whole: Field, lam: Field, control: Control, lam_control: Control,
    store: Store, chunk: Store, observations: Observations, loss: LossTable, forward: Scratch,
    along: Scratch, gradient: Gradient, rule: Floats, memory: Floats, rows: Floats,
    progress: Floats, place: Ints, weight: Floats, z0: Floats, atol: Floats, rtol: float,
    most: int, t0: float, t1: float, from_initial: bool, budget: int,
) -> int:  # fmt: skip
    """Run the forward pass; entered once more, the backward pass. Return a status.

    The forward pass may end with SWITCH; another method then makes the segments that follow.
    """
    count = forward.count
    if count[PHASE] == 0:
        begin(system, loss, observations, forward, z0, t0, t1, from_initial)
        count[PATIENCE] = control.patience
        count[PHASE] = FORWARD
    if count[PHASE] == FORWARD:
        status = advance(method, system, control, store, observations, forward, budget)
        if status == SUCCESS:
            _turn(observations, forward, along, memory, progress, place, t0)
            count[PHASE] = BACKWARD
        return status
    past = ErkAdjoint(lam.n, 0, lam.address, lam.p, lam.pattern, method, store, count[STEPS])
    return lam_backward(
        method, past, whole, lam_control, observations, loss, along, chunk, rule, memory, rows,
        progress, place, forward.peak, z0, atol, weight, rtol, abs(t1 - t0), most, t0, True,
        from_initial, gradient, budget,
    )  # fmt: skip


def _entry(address: int) -> int:
    w = open_table(address)
    budget = get_int(w)
    method = get_erk(w)
    system = Field(get_int(w), get_int(w), get_ints(w), get_floats(w), get_pattern(w))
    whole = Field(get_int(w), get_int(w), get_ints(w), get_floats(w), get_pattern(w))
    lam = Field(get_int(w), get_int(w), get_ints(w), get_floats(w), get_pattern(w))
    control, lam_control = get_control(w), get_control(w)
    store, chunk = get_store(w), get_store(w)
    observations, loss = get_observations(w), get_loss(w)
    forward, along = get_scratch(w), get_scratch(w)
    gradient = Gradient(get_floats(w), get_floats(w), get_floats(w))
    rule, memory, rows = get_matrix(w), get_matrix(w), get_matrix(w)
    progress, place, weight = get_floats(w), get_ints(w), get_floats(w)
    z0, atol, rtol, most = get_floats(w), get_floats(w), get_float(w), get_int(w)
    t0, t1, from_initial = get_float(w), get_float(w), get_bool(w)
    return _gauss_member(
        method, system, whole, lam, control, lam_control, store, chunk, observations, loss,
        forward, along, gradient, rule, memory, rows, progress, place, weight, z0, atol, rtol,
        most, t0, t1, from_initial, budget,
    )  # fmt: skip


class BoundGauss:
    """Both passes of an explicit method with their arguments bound; called with a budget.

    Parameters
    ----------
    arguments
        Those of the entry above but the budget. They are kept alive, and read anew at each call:
        their content may change, their arrays may not be exchanged.
    """

    def __init__(self, *arguments: Any) -> None:
        self._kept = arguments
        self._words = words((0, *arguments))
        self._address = self._words.ctypes.data
        self._call, self._owner = _compiled_entry()

    def __call__(self, budget: int) -> int:
        """Run, or go on; return a status."""
        self._words[1] = budget
        return int(self._call(self._address))


@lru_cache(maxsize=1)
def _compiled_entry() -> tuple[Any, Any]:
    """Compile the entry or find it cached; return a ctypes function (no GIL) and its owner."""
    with cache_folder():
        native = numba.cfunc("int64(int64)", cache=True, **ENTRY)(_entry)
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    # The address lives as long as the object beside it.
    return kind(native.address), native
