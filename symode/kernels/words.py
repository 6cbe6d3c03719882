"""Tables of words: the arguments of a compiled entry, described once and read anew at each call.

Numba unpacks some sixty arrays at each call of a kernel, 7 µs. An entry behind a C address takes
one number instead: the address of a table that holds numbers, and addresses and shapes of arrays.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from symode.kernels.jit import HELPER, OPTIONS, F
from symode.kernels.types import (
    Chebyshev,
    Control,
    Dirk,
    Erk,
    LossTable,
    Observations,
    Pattern,
    Rosenbrock,
    Scratch,
    Store,
)

Table = NDArray[np.int64]
#: Entries make arrays, which Numba does with reference counts only; they own nothing.
ENTRY = {name: value for name, value in OPTIONS.items() if name not in ("nogil", "_nrt")}
READER = {name: value for name, value in HELPER.items() if name != "_nrt"}


def reader(function: F) -> F:
    """Compile a function that reads the next words of a table into the entries that call it."""
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


@reader
def open_table(address: int) -> Any:
    """Return the table at an address, its cursor (the first word) at its first entry."""
    w = carray(_ints_at(address), (1,))
    w[0] = 1
    return w


# Each reader takes the next words of the table and moves the cursor past them.


@reader
def get_int(w: Table) -> int:
    """Return an integer."""
    w[0] += 1
    return w[w[0] - 1]  # type: ignore[no-any-return]


@reader
def get_float(w: Table) -> float:
    """Return a double."""
    return _as_float(get_int(w))  # type: ignore[no-any-return]


@reader
def get_bool(w: Table) -> bool:
    """Return a truth value."""
    return get_int(w) != 0


@reader
def get_ints(w: Table) -> Any:
    """Return a vector of int64."""
    address, a = get_int(w), get_int(w)
    return carray(_ints_at(address), (a,))


@reader
def get_floats(w: Table) -> Any:
    """Return a vector of doubles."""
    address, a = get_int(w), get_int(w)
    return carray(_floats_at(address), (a,))


@reader
def get_matrix(w: Table) -> Any:
    """Return a matrix of doubles."""
    address, a, b = get_int(w), get_int(w), get_int(w)
    return carray(_floats_at(address), (a, b))


@reader
def get_cube(w: Table) -> Any:
    """Return a three-dimensional array of doubles."""
    address, a, b, c = get_int(w), get_int(w), get_int(w), get_int(w)
    return carray(_floats_at(address), (a, b, c))


# Tuples in the order of their fields, see `symode.kernels.types`.


@reader
def get_erk(w: Table) -> Erk:
    """Return an explicit method."""
    return Erk(
        get_int(w), get_int(w), get_int(w), get_bool(w),
        get_matrix(w), get_floats(w), get_floats(w), get_matrix(w), get_matrix(w),
    )  # fmt: skip


@reader
def get_rosenbrock(w: Table) -> Rosenbrock:
    """Return a Rosenbrock method."""
    return Rosenbrock(
        get_int(w), get_int(w), get_int(w), get_bool(w),
        get_matrix(w), get_floats(w), get_floats(w), get_matrix(w), get_matrix(w),
        get_float(w), get_matrix(w), get_floats(w),
    )  # fmt: skip


@reader
def get_dirk(w: Table) -> Dirk:
    """Return a diagonally implicit method."""
    return Dirk(
        get_int(w), get_int(w), get_int(w), get_bool(w),
        get_matrix(w), get_floats(w), get_floats(w), get_matrix(w), get_matrix(w),
        get_float(w), get_matrix(w),
    )  # fmt: skip


@reader
def get_chebyshev(w: Table) -> Chebyshev:
    """Return a stabilised family."""
    return Chebyshev(
        get_int(w), get_int(w), get_int(w), get_bool(w), get_ints(w),
        get_matrix(w), get_cube(w), get_matrix(w), get_matrix(w), get_matrix(w), get_matrix(w),
        get_floats(w), get_matrix(w),
    )  # fmt: skip


@reader
def get_pattern(w: Table) -> Pattern:
    """Return the pattern of a Jacobian."""
    return Pattern(
        get_ints(w), get_ints(w), get_ints(w), get_ints(w), get_ints(w), get_ints(w), get_ints(w),
        get_ints(w), get_ints(w), get_ints(w), get_ints(w), get_ints(w), get_ints(w), get_floats(w),
    )  # fmt: skip


@reader
def get_control(w: Table) -> Control:
    """Return the step control."""
    return Control(
        get_float(w), get_int(w), get_float(w), get_bool(w), get_bool(w), get_int(w), get_float(w),
        get_int(w), get_floats(w), get_floats(w), get_floats(w),
    )  # fmt: skip


@reader
def get_store(w: Table) -> Store:
    """Return the store of steps."""
    return Store(
        get_bool(w), get_floats(w), get_floats(w), get_matrix(w), get_cube(w), get_ints(w)
    )  # fmt: skip


@reader
def get_observations(w: Table) -> Observations:
    """Return the observations."""
    return Observations(get_floats(w), get_matrix(w), get_ints(w), get_floats(w))


@reader
def get_loss(w: Table) -> LossTable:
    """Return the table of a loss."""
    return LossTable(
        get_int(w), get_ints(w), get_matrix(w), get_matrix(w), get_floats(w), get_ints(w),
        get_floats(w), get_floats(w),
    )  # fmt: skip


@reader
def get_scratch(w: Table) -> Scratch:
    """Return the memory of a solve."""
    return Scratch(
        get_floats(w), get_ints(w), get_floats(w), get_floats(w), get_floats(w), get_matrix(w),
        get_floats(w), get_floats(w), get_floats(w), get_floats(w), get_floats(w), get_floats(w),
        get_floats(w), get_floats(w), get_floats(w), get_floats(w), get_floats(w), get_floats(w),
        get_floats(w), get_matrix(w), get_ints(w), get_matrix(w), get_ints(w),
    )  # fmt: skip


def words(arguments: Any) -> Table:
    """Return numbers and arrays, nested in tuples, as a table; its first word is the cursor.

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
