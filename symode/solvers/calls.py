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


class NativeCall:
    """One native function with its parameters bound and memory of its own.

    Parameters
    ----------
    address
        Of a field, or of a product where ``n_v`` is not None.
    n, n_out, n_v
        Lengths of z, of the result and of v.
    p
        Parameters; read anew at each call.
    work
        Scratch, long enough.

    Examples
    --------
    >>> from symode.codegen.compiled import CompiledModel
    >>> from symode.symbolic.graph import Builder
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> model = CompiledModel({"rhs": ("field", decay)}, n_parameters=1)
    >>> p = model.pack([0.5])
    >>> f = NativeCall(model.address["rhs"], 1, 1, p, np.empty(model.work_size + 1))
    >>> f(0.0, np.array([2.0])), f(0.0, np.array([4.0]))
    (array([-1.]), array([-2.]))
    """

    __slots__ = ("_address", "_call", "_kept", "_size", "_v", "_z")

    def __init__(
        self, address: int, n: int, n_out: int, p: Floats, work: Floats, n_v: int | None = None
    ) -> None:
        self._size = n_out
        self._z, self._v = np.zeros(max(n, 1)), np.zeros(max(n_v or 0, 1))
        self._call = function(int(address), n_v is not None)
        product = () if n_v is None else (pointer(self._v),)
        self._address = (pointer(self._z), pointer(p), *product, pointer(work))
        self._kept = (p, work)

    def __call__(self, t: float, z: Floats, v: Floats | None = None) -> Floats:
        """Return the outputs, in an array of their own."""
        self._z[: z.size] = z
        if v is not None:
            self._v[: v.size] = v
        out = np.empty(self._size)
        self._call(t, *self._address, pointer(out))
        return out
