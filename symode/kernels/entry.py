"""The hot entry: one gradient behind a C address, its arguments in a table of words.

Numba unpacks some sixty arrays at each call of a kernel, 7 µs of the 40 that a Lotka-Volterra
gradient takes. Here the arrays are described once, by address and shape, in a table that the
compiled entry reads: a call then costs 0.5 µs.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from symode.kernels.gradient import discrete_member
from symode.kernels.jit import HELPER, OPTIONS, F, cache_folder
from symode.kernels.types import (
    Control,
    Erk,
    Field,
    Gradient,
    LossTable,
    Observations,
    Pattern,
    Scratch,
    Store,
)

Table = NDArray[np.int64]
#: The entry makes arrays, which Numba does with reference counts only; they own nothing.
ENTRY = {name: value for name, value in OPTIONS.items() if name not in ("nogil", "_nrt")}
READER = {name: value for name, value in HELPER.items() if name != "_nrt"}


def _reader(function: F) -> F:
    return numba.njit(**READER)(function)  # type: ignore[no-any-return]


@intrinsic
def _floats_at(typingctx: Any, address: Any) -> Any:
    """Return an address as a pointer to doubles."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(types.int64), codegen


@intrinsic
def _ints_at(typingctx: Any, address: Any) -> Any:
    """Return an address as a pointer to int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(types.int64), codegen


@intrinsic
def _as_float(typingctx: Any, word: Any) -> Any:
    """Return the double with these bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


# Readers: each takes the next words of the table and moves the cursor, its first word, past them.


@_reader
def _int(w: Table) -> int:
    w[0] += 1
    return w[w[0] - 1]  # type: ignore[no-any-return]


@_reader
def _float(w: Table) -> float:
    return _as_float(_int(w))  # type: ignore[no-any-return]


@_reader
def _bool(w: Table) -> bool:
    return _int(w) != 0


@_reader
def _ints(w: Table) -> Any:
    address, a = _int(w), _int(w)
    return carray(_ints_at(address), (a,))


@_reader
def _floats(w: Table) -> Any:
    address, a = _int(w), _int(w)
    return carray(_floats_at(address), (a,))


@_reader
def _matrix(w: Table) -> Any:
    address, a, b = _int(w), _int(w), _int(w)
    return carray(_floats_at(address), (a, b))


@_reader
def _cube(w: Table) -> Any:
    address, a, b, c = _int(w), _int(w), _int(w), _int(w)
    return carray(_floats_at(address), (a, b, c))


def _entry(address: int) -> int:
    w = carray(_ints_at(address), (1,))
    w[0] = 1
    budget = _int(w)
    # Each tuple in the order of its fields, see `symode.kernels.types`.
    method = Erk(
        _int(w), _int(w), _int(w), _bool(w),
        _matrix(w), _floats(w), _floats(w), _matrix(w), _matrix(w),
    )  # fmt: skip
    system = Field(
        _int(w), _int(w), _ints(w), _floats(w),
        Pattern(
            _ints(w), _ints(w), _ints(w), _ints(w), _ints(w), _ints(w), _ints(w), _ints(w),
            _ints(w), _ints(w), _ints(w), _ints(w), _ints(w), _floats(w),
        ),
    )  # fmt: skip
    control = Control(
        _float(w), _int(w), _float(w), _bool(w), _bool(w), _int(w), _float(w), _int(w),
        _floats(w), _floats(w), _floats(w),
    )  # fmt: skip
    store = Store(_bool(w), _floats(w), _floats(w), _matrix(w), _cube(w))
    observations = Observations(_floats(w), _matrix(w), _ints(w), _floats(w))
    loss = LossTable(
        _int(w), _ints(w), _matrix(w), _matrix(w), _floats(w), _ints(w), _floats(w), _floats(w),
    )  # fmt: skip
    scratch = Scratch(
        _floats(w), _ints(w), _floats(w), _floats(w), _floats(w), _matrix(w), _floats(w),
        _floats(w), _floats(w), _floats(w), _floats(w), _floats(w), _floats(w), _floats(w),
        _floats(w), _floats(w), _floats(w), _floats(w), _floats(w), _matrix(w), _ints(w),
        _matrix(w), _ints(w),
    )  # fmt: skip
    gradient = Gradient(_floats(w), _floats(w), _floats(w))
    z0, t0, t1, from_initial = _floats(w), _float(w), _float(w), _bool(w)
    return discrete_member(
        method, system, control, store, observations, loss, scratch, gradient, z0, t0, t1,
        from_initial, budget,
    )  # fmt: skip


class BoundGradient:
    """`discrete_gradient` of an explicit method with its arguments bound; called with a budget.

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
        self._call, self._owner = _compiled_entry()

    def __call__(self, budget: int) -> int:
        """Run, or go on after PAUSED or FULL; return a status."""
        self._words[1] = budget
        return int(self._call(self._address))


def words(arguments: Any) -> Table:
    """Return numbers and arrays, nested in tuples, as the table `_entry` reads.

    Examples
    --------
    >>> words((7, (True, 2.0))).tolist()[:3]
    [1, 7, 1]
    """
    out: list[int] = [1]
    stack = [arguments]
    while stack:
        part = stack.pop()
        if isinstance(part, tuple):
            stack.extend(reversed(part))
        elif isinstance(part, np.ndarray):
            out += [part.ctypes.data, *part.shape]
        elif isinstance(part, float):
            out.append(int(np.float64(part).view(np.int64)))
        else:
            out.append(int(part))
    return np.array(out, dtype=np.int64)


@lru_cache(maxsize=1)
def _compiled_entry() -> tuple[Any, Any]:
    """Compile the entry or find it cached; return a ctypes function (no GIL) and its owner."""
    with cache_folder():
        native = numba.cfunc("int64(int64)", cache=True, **ENTRY)(_entry)
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    # The address lives as long as the object beside it.
    return kind(native.address), native
