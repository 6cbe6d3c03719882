"""The backends by name: which machine code serves a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from symode.codegen.compiled import CompiledModel, NativeModel
from symode.errors import OptionError
from symode.symbolic.graph import Graph

#: Backends whose kernels the compiled solvers can call.
BACKENDS: Final = ("llvm", "numba")


def compile_kernels(
    kernels: Mapping[str, tuple[str, Graph]], n_parameters: int, backend: str = "llvm"
) -> NativeModel:
    """Return kernels compiled by a backend: LLVM text (the default), or Numba source.

    Raises
    ------
    OptionError
        For a name that is none of ``BACKENDS``.
    """
    if backend == "llvm":
        return CompiledModel(kernels, n_parameters)
    if backend == "numba":
        from symode.codegen.numba_source import NumbaModel

        return NumbaModel(kernels, n_parameters)
    raise OptionError(
        f"There is no backend {backend!r}; choose {' or '.join(BACKENDS)}. (The plain Python "
        "backend, symode.codegen.reference, judges these two; compiled solvers cannot call it.)"
    )
