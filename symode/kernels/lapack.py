"""LAPACK's dense LU behind addresses, for matrices of more rows than hand-written loops serve.

Kernels are compiled without them: the addresses of ``dgetrf`` and ``dgetrs`` come from SciPy,
which is imported (0.13 s) when the first implicit solve of a large model asks for them.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_INT = ir.IntType(32)
_CHAR = ir.IntType(8)


@lru_cache(maxsize=1)
def lapack_addresses() -> tuple[int, int]:
    """Return the addresses of dgetrf and dgetrs; zeros where SciPy's take other integers.

    Examples
    --------
    >>> all(lapack_addresses())
    True
    """
    from scipy.linalg import cython_lapack

    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    found = []
    for routine in ("dgetrf", "dgetrs"):
        capsule = cython_lapack.__pyx_capi__[routine]
        name = get_name(capsule)
        if b"int *, int *" not in name:
            return 0, 0
        found.append(int(get_pointer(capsule, name)))
    return found[0], found[1]


def _call(builder: Any, address: Any, arguments: list[Any]) -> None:
    kind = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
    builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)


def _kept(builder: Any, value: Any) -> Any:
    """Return the address of a value, as Fortran takes its arguments."""
    place = cgutils.alloca_once(builder, value.type)
    builder.store(value, place)
    return place


def _data(context: Any, builder: Any, kind: Any, array: Any, offset: Any = None) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return data if offset is None else builder.gep(data, [offset])


@intrinsic
def getrf(typingctx: Any, address: Any, n: Any, lu: Any, pivots: Any) -> Any:
    """Replace the first n rows and columns of a matrix by LU factors of its transpose.

    Returns LAPACK's info: 0 unless a pivot is exactly zero. ``pivots`` is int64 memory for n int32.
    """
    signature = types.int64(types.int64, types.int64, lu, pivots)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size = _kept(builder, builder.trunc(args[1], _INT))
        info = _kept(builder, ir.Constant(_INT, 0))
        pivot = builder.bitcast(
            _data(context, builder, signature.args[3], args[3]), _INT.as_pointer()
        )
        matrix = _data(context, builder, signature.args[2], args[2])
        _call(builder, args[0], [size, size, matrix, size, pivot, info])
        return builder.sext(builder.load(info), ir.IntType(64))

    return signature, codegen


@intrinsic
def getrs(
    typingctx: Any, address: Any, n: Any, lu: Any, pivots: Any, x: Any, offset: Any,
    transposed: Any,
) -> Any:  # fmt: skip
    """Solve with factors of `getrf`: A y = x, or Aᵀ y = x, in place from an offset of x on."""
    signature = types.void(types.int64, types.int64, lu, pivots, x, types.int64, types.boolean)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # The factors are those of the transpose: rows here are columns to LAPACK.
        letters = (ir.Constant(_CHAR, ord("N")), ir.Constant(_CHAR, ord("T")))
        trans = _kept(builder, builder.select(args[6], *letters))
        size = _kept(builder, builder.trunc(args[1], _INT))
        one = _kept(builder, ir.Constant(_INT, 1))
        info = _kept(builder, ir.Constant(_INT, 0))
        pivot = builder.bitcast(
            _data(context, builder, signature.args[3], args[3]), _INT.as_pointer()
        )
        matrix = _data(context, builder, signature.args[2], args[2])
        rhs = _data(context, builder, signature.args[4], args[4], args[5])
        _call(builder, args[0], [trans, size, one, matrix, size, pivot, rhs, size, info])
        return context.get_dummy_value()

    return signature, codegen
