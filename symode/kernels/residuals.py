"""Residuals behind a C address: one solve with tangents, its observations, and their Jacobian.

Like `symode.kernels.entry`, the entries read their arguments from a table of words. What calls them
knows an address and a table, nothing of the method or the sizes: compiled searches (see
`symode.kernels.search`) call many of them, Python calls one.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numba

from symode.kernels.call import call_field, call_product
from symode.kernels.jit import cache_folder, inline
from symode.kernels.loop import advance
from symode.kernels.types import (
    BEFORE,
    FIRST_OBS,
    FORWARD,
    GROUP,
    H_TRIED,
    HOIST,
    HOIST_AT,
    INITIAL,
    INITIAL_VJP,
    N_COUNT,
    NEXT_OBS,
    OBSERVE,
    PATIENCE,
    PHASE,
    REJECTED,
    STEPS,
    T_END,
    Control,
    Erk,
    Floats,
    Ints,
    LossTable,
    Method,
    Observations,
    Rosenbrock,
    Scratch,
    Store,
    T,
    Tangents,
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
    get_rosenbrock,
    get_scratch,
    get_store,
    open_table,
    reader,
    words,
)
from symode.status import SUCCESS

#: Status of observations, or derivatives, that are not finite.
NOT_DEFINED: Final = -100


class Residuals(NamedTuple):
    """What a solve takes and gives, besides the solve itself."""

    t0: float
    t1: float
    start_depends: bool  # whether the initial values depend on the parameters
    theta: Floats  # (n_parameters,)
    columns: Ints  # (w,) parameters of the Jacobian's columns
    moving: Ints  # (q,) columns with a tangent
    atol: Floats  # (n,) of the states
    places: Ints  # (K,) row of each observation
    values: Floats  # (K,)
    jacobian: Floats  # (K, w)
    tries: Ints  # (1,) steps accepted or not


@inline
def begin(
    system: Tangents,
    control: Control,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    task: Residuals,
) -> None:
    """Go to t0: parameters, initial values and their tangents, tolerances, counters."""
    n, p, y = system.n, system.p, scratch.y
    for i in range(task.theta.size):
        p[i] = task.theta[i]
    if system.address[HOIST] != 0:
        at = system.address[HOIST_AT]
        call_field(system.address[HOIST], 0.0, y, 0, p, 0, scratch.work, 0, p, at)
    call_field(system.address[INITIAL], task.t0, y, 0, p, 0, scratch.work, 0, scratch.new, 0)
    for i in range(n):
        y[i] = scratch.new[i]
    for i in range(n, y.size):
        y[i] = 0.0
    count = task.moving.size
    if task.start_depends:
        for i in range(n):
            scratch.v[i] = 0.0
        for i in range(n):
            scratch.v[i] = 1.0
            call_product(
                system.address[INITIAL_VJP], task.t0, y, 0, p, 0, scratch.v, 0, scratch.work, 0,
                scratch.out, 0,
            )  # fmt: skip
            scratch.v[i] = 0.0
            for q in range(count):
                y[n * (q + 1) + i] = scratch.out[task.columns[task.moving[q]]]
    for q in range(count):
        size = abs(task.theta[task.columns[task.moving[q]]])
        if size == 0.0:
            size = 1.0
        for i in range(n):
            control.atol[n * (q + 1) + i] = task.atol[i] / size
    for i in range(N_COUNT):
        scratch.count[i] = 0
    for k in range(loss.n_start):
        for i in range(y.size):
            observations.y[k, i] = y[i]
    scratch.count[NEXT_OBS] = loss.n_start
    scratch.count[FIRST_OBS] = loss.n_start
    scratch.count[PATIENCE] = control.patience
    scratch.clock[T] = task.t0
    scratch.clock[T_END] = task.t1
    scratch.clock[H_TRIED] = math.nan
    scratch.clock[GROUP] = 0.0


@inline
def collect(
    system: Tangents,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    task: Residuals,
) -> int:
    """Evaluate the observations and their derivatives in theta; return a status."""
    n, out, y = system.n, scratch.out, observations.y
    check = 0.0
    for k in range(observations.t.size):
        row = k * y.shape[1]
        call_product(
            system.address[OBSERVE + loss.group[k]], observations.t[k], y, row, system.p, 0,
            loss.data, k * loss.data.shape[1], scratch.work, 0, out, 0,
        )  # fmt: skip
        at = task.places[k]
        task.values[at] = out[0]
        check += 0.0 * out[0]
        for w in range(task.columns.size):
            task.jacobian[at, w] = out[1 + n + task.columns[w]]
        for q in range(task.moving.size):
            total = 0.0
            for i in range(n):
                total += y[k, n * (q + 1) + i] * out[1 + i]
            task.jacobian[at, task.moving[q]] += total
        for w in range(task.columns.size):
            check += 0.0 * task.jacobian[at, w]
    return SUCCESS if check == 0.0 else NOT_DEFINED


#: The loop as a helper: compiled into the entries, not for itself as well.
_advance = inline(advance.py_func)  # type: ignore[attr-defined]


@inline
def residuals(
    method: Method,
    system: Tangents,
    control: Control,
    store: Store,
    observations: Observations,
    loss: LossTable,
    scratch: Scratch,
    task: Residuals,
    budget: int,
    fresh: int,
) -> int:
    """Begin where ``fresh``, else go on; return a status.

    On SWITCH the caller goes on with the other method's entry; values and Jacobian are complete on
    SUCCESS.
    """
    count = scratch.count
    if fresh != 0:
        begin(system, control, observations, loss, scratch, task)
        count[PHASE] = FORWARD
    status = _advance(method, system, control, store, observations, scratch, budget)
    task.tries[0] = count[STEPS] + count[REJECTED] + count[BEFORE]
    if status != SUCCESS:
        return int(status)
    return collect(system, observations, loss, scratch, task)


def _with(method: Any, w: Any, budget: int, fresh: int) -> Any:
    system = Tangents(
        get_int(w), get_int(w), get_ints(w), get_floats(w), get_pattern(w),
        get_matrix(w), get_int(w), get_ints(w), get_ints(w),
    )  # fmt: skip
    control, store = get_control(w), get_store(w)
    observations, loss, scratch = get_observations(w), get_loss(w), get_scratch(w)
    task = Residuals(
        get_float(w), get_float(w), get_bool(w), get_floats(w), get_ints(w), get_ints(w),
        get_floats(w), get_ints(w), get_floats(w), get_matrix(w), get_ints(w),
    )  # fmt: skip
    return residuals(
        method, system, control, store, observations, loss, scratch, task, budget, fresh
    )


_read_and_run = reader(_with)


def _erk(address: int, budget: int, fresh: int) -> int:
    w = open_table(address)
    return _read_and_run(get_erk(w), w, budget, fresh)  # type: ignore[no-any-return]


def _rosenbrock(address: int, budget: int, fresh: int) -> int:
    w = open_table(address)
    return _read_and_run(get_rosenbrock(w), w, budget, fresh)  # type: ignore[no-any-return]


#: Methods that have an entry.
ENTRIES: Final[dict[str, Callable[[int, int, int], int]]] = {
    Erk.__name__: _erk,
    Rosenbrock.__name__: _rosenbrock,
}


class BoundResiduals:
    """`residuals` with its arguments bound, for Python and for compiled callers.

    Parameters
    ----------
    arguments
        Those of `residuals` but the last two. They are kept alive, and read anew at each call:
        their content may change, their arrays may not be exchanged.

    Attributes
    ----------
    entry, table
        Addresses: ``int64 entry(int64 table, int64 budget, int64 fresh)``.
    """

    def __init__(self, *arguments: Any) -> None:
        self._kept = arguments
        self._words = words(arguments)
        self.table = int(self._words.ctypes.data)
        self._call, self._owner = _compiled(type(arguments[0]).__name__)
        self.entry = int(self._owner.address)

    def __call__(self, budget: int, fresh: int) -> int:
        """Begin, or go on after PAUSED or SWITCH; return a status."""
        return int(self._call(self.table, budget, fresh))


@lru_cache(maxsize=4)
def _compiled(method: str) -> tuple[Any, Any]:
    """Compile an entry or find it cached; return a ctypes function (no GIL) and its owner."""
    with cache_folder():
        native = numba.cfunc("int64(int64, int64, int64)", cache=True, **ENTRY)(ENTRIES[method])
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    # The address lives as long as the object beside it.
    return kind(native.address), native
