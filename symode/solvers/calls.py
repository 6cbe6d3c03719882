"""Native functions called from Python often: memory and addresses found once."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_POINTER = ctypes.c_void_p
_FIELD = ctypes.CFUNCTYPE(None, ctypes.c_double, *[_POINTER] * 4)
_PRODUCT = ctypes.CFUNCTYPE(None, ctypes.c_double, *[_POINTER] * 5)


@lru_cache(maxsize=4096)
def function(address: int, product: bool = False) -> Any:
    """Return the native function at an address, as ctypes calls it."""
    return (_PRODUCT if product else _FIELD)(address)


def pointer(array: Floats) -> int:
    """Return the address of an array's first number."""
    return int(array.__array_interface__["data"][0])


class CallMemory:
    """Arguments and results of calls that follow one another, in one place.

    Parameters
    ----------
    n, n_v, n_out
        Largest lengths of z, of v and of the result.
    p
        Parameters; read anew at each call.
    work
        Scratch, long enough.
    """

    __slots__ = ("field", "kept", "out", "product", "v", "z")

    def __init__(self, n: int, n_v: int, n_out: int, p: Floats, work: Floats) -> None:
        self.z, self.v, self.out = np.zeros(n + 1), np.zeros(n_v + 1), np.zeros(n_out + 1)
        z, v, out = pointer(self.z), pointer(self.v), pointer(self.out)
        self.field = (z, pointer(p), pointer(work), out)
        self.product = (z, self.field[1], v, self.field[2], out)
        self.kept = (p, work)


class NativeCall:
    """One native function with its parameters bound, over memory made before.

    Parameters
    ----------
    address
        Of the function.
    n_out
        Length of its result.
    memory
        Where arguments go; calls that share it must not overlap.
    product
        Whether it takes a v.

    Examples
    --------
    >>> from symode.codegen.compiled import CompiledModel
    >>> from symode.symbolic.graph import Builder
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> model = CompiledModel({"rhs": ("field", decay)}, n_parameters=1)
    >>> memory = CallMemory(1, 0, 1, model.pack([0.5]), np.empty(model.work_size + 1))
    >>> f = NativeCall(model.address["rhs"], 1, memory)
    >>> f(0.0, np.array([2.0])), f(0.0, np.array([4.0]))
    (array([-1.]), array([-2.]))
    """

    __slots__ = ("_addresses", "_call", "_memory", "_size")

    def __init__(self, address: int, n_out: int, memory: CallMemory, product: bool = False) -> None:
        self._call, self._size, self._memory = function(int(address), product), n_out, memory
        self._addresses = memory.product if product else memory.field

    def __call__(self, t: float, z: Floats, v: Floats | None = None) -> Floats:
        """Return the outputs, in an array of their own."""
        memory = self._memory
        memory.z[: z.size] = z
        if v is not None:
            memory.v[: v.size] = v
        self._call(t, *self._addresses)
        return memory.out[: self._size].copy()
