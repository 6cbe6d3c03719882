"""The hot entry: one gradient behind a C address, its arguments in a table of words.

Numba unpacks some sixty arrays at each call of a kernel, 7 µs of the 40 that a Lotka-Volterra
gradient takes; with a table (see `symode.kernels.words`) a call costs 0.5 µs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numba

from symode.kernels.gradient import discrete_member
from symode.kernels.jit import cache_folder
from symode.kernels.types import Chebyshev, Dirk, Erk, Field, Gradient, Method, Rosenbrock
from symode.kernels.words import (
    ENTRY,
    Table,
    get_bool,
    get_chebyshev,
    get_control,
    get_dirk,
    get_erk,
    get_float,
    get_floats,
    get_int,
    get_ints,
    get_loss,
    get_observations,
    get_pattern,
    get_rosenbrock,
    get_scratch,
    get_store,
    open_table,
    reader,
    words,
)


@reader
def _run(w: Table, method: Method, budget: int) -> int:
    """Run with the rest of the table's words."""
    system = Field(get_int(w), get_int(w), get_ints(w), get_floats(w), get_pattern(w))
    control, store = get_control(w), get_store(w)
    observations, loss, scratch = get_observations(w), get_loss(w), get_scratch(w)
    gradient = Gradient(get_floats(w), get_floats(w), get_floats(w))
    z0, t0, t1, from_initial = get_floats(w), get_float(w), get_float(w), get_bool(w)
    return discrete_member(
        method, system, control, store, observations, loss, scratch, gradient, z0, t0, t1,
        from_initial, budget,
    )  # fmt: skip


def _erk(address: int) -> int:
    w = open_table(address)
    budget = get_int(w)
    return _run(w, get_erk(w), budget)


def _rosenbrock(address: int) -> int:
    w = open_table(address)
    budget = get_int(w)
    return _run(w, get_rosenbrock(w), budget)


def _dirk(address: int) -> int:
    w = open_table(address)
    budget = get_int(w)
    return _run(w, get_dirk(w), budget)


def _chebyshev(address: int) -> int:
    w = open_table(address)
    budget = get_int(w)
    return _run(w, get_chebyshev(w), budget)


#: What has an entry; a call of the others takes so long that unpacking does not matter.
ENTRIES: Final[dict[type, Callable[[int], int]]] = {
    Erk: _erk,
    Rosenbrock: _rosenbrock,
    Dirk: _dirk,
    Chebyshev: _chebyshev,
}


class BoundGradient:
    """`discrete_gradient` of a method in ENTRIES with its arguments bound; called with a budget.

    Parameters
    ----------
    arguments
        Those of `symode.kernels.gradient.discrete_gradient` but the budget. They are kept alive,
        and read anew at each call: their content may change, their arrays may not be exchanged.
    """

    def __init__(self, *arguments: Any) -> None:
        self._kept = arguments
        self._words = words((0, *arguments))
        self._address = self._words.ctypes.data
        self._call, self._owner = _compiled_entry(type(arguments[0]).__name__)

    def __call__(self, budget: int) -> int:
        """Run, or go on after PAUSED or FULL; return a status."""
        self._words[1] = budget
        return int(self._call(self._address))


@cache
def _compiled_entry(method: str) -> tuple[Any, Any]:
    """Compile the entry or find it cached; return a ctypes function (no GIL) and its owner."""
    (function,) = (f for kind, f in ENTRIES.items() if kind.__name__ == method)
    with cache_folder():
        native = numba.cfunc("int64(int64)", cache=True, **ENTRY)(function)
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    # The address lives as long as the object beside it.
    return kind(native.address), native
