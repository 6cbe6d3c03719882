"""Compiled kernels: machine code behind addresses, kept alive by the object that owns it."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from symode.codegen.llvm import emit_module, symbol
from symode.codegen.program import make_bundle
from symode.codegen.store import Entry, load_entry, save_entry
from symode.symbolic.graph import Graph

Floats = NDArray[np.float64]

#: Functions LLVM itself may call: pow(2, x) becomes exp2(x), sin(x) with cos(x) becomes sincos.
IMPLIED: Final = (
    "exp2",
    "exp10",
    "__exp10",
    "ldexp",
    "sincos",
    "__sincos_stret",
    "floor",
)


class NativeModel:
    """Kernels of one model behind native addresses, whatever compiled them.

    Attributes
    ----------
    address
        Native address of each kernel. Valid as long as this object lives.
    signature
        ``"field"`` or ``"product"``, of each kernel.
    n_outputs
        Number of doubles each kernel writes.
    work_size
        Doubles of scratch a call needs.
    n_parameters
        m.
    n_p
        Length of p: m parameters, then hoisted values.
    """

    address: dict[str, int]
    signature: dict[str, str]
    n_outputs: dict[str, int]
    work_size: int
    n_parameters: int
    n_p: int

    def pack(self, theta: Floats, p_out: Floats | None = None) -> Floats:
        """Return p = (theta, hoisted values): what every kernel of this model reads.

        Modes of frozen switches stand behind theta; where they are not given, they stay.
        """
        p = np.zeros(self.n_p) if p_out is None else p_out
        p[: len(theta)] = theta
        self.hoist(p, np.empty(self.work_size))
        return p

    def hoist(self, p: Floats, work: Floats) -> None:
        """Compute the hoisted values of p anew."""
        if self.n_p > self.n_parameters:
            hoisted = p[self.n_parameters :]
            _FIELD(self.address["hoist"])(
                0.0, None, p.ctypes.data, work.ctypes.data, hoisted.ctypes.data
            )

    def call(self, name: str, t: float, z: Any, p: Floats, v: Any = None) -> Floats:
        """Return the outputs of one kernel: the slow, convenient way, for tests and set-up."""
        out = np.empty(self.n_outputs[name])
        work = np.empty(self.work_size)
        arrays = [np.ascontiguousarray(z, dtype=float), np.ascontiguousarray(p, dtype=float)]
        kind = _FIELD
        if self.signature[name] == "product":
            arrays.append(np.ascontiguousarray(v, dtype=float))
            kind = _PRODUCT
        # Twice as quick as `a.ctypes.data`, which makes an object each time.
        pointers = [a.__array_interface__["data"][0] for a in (*arrays, work, out)]
        kind(self.address[name])(t, *pointers)
        return out

    def rows(self, name: str, t: float, z: Floats, p: Floats, v: Floats) -> Floats:
        """Return the outputs of a product kernel for each row of ``v``, C-contiguous floats all."""
        out, work = np.empty((len(v), self.n_outputs[name])), np.empty(self.work_size)
        kernel, row, line = _PRODUCT(self.address[name]), v.strides[0], out.strides[0]
        at_z, at_p, at_v, at_work, at_out = (a.ctypes.data for a in (z, p, v, work, out))
        for i in range(len(v)):
            kernel(t, at_z, at_p, at_v + i * row, at_work, at_out + i * line)
        return out


class CompiledModel(NativeModel):
    """Kernels of one model, compiled together by LLVM or found in the store.

    Parameters
    ----------
    kernels
        For each name its signature (``"field"`` or ``"product"``) and graph.
    n_parameters
        m.

    Attributes
    ----------
    from_store
        Whether the machine code was found on disk.

    Examples
    --------
    >>> from symode.symbolic.graph import Builder
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> model = CompiledModel({"rhs": ("field", decay)}, n_parameters=1)
    >>> model.call("rhs", 0.0, [2.0], model.pack([0.5]))
    array([-1.])
    """

    def __init__(self, kernels: Mapping[str, tuple[str, Graph]], n_parameters: int) -> None:
        self.signature = {name: signature for name, (signature, _) in kernels.items()}
        key = _key(kernels, n_parameters)
        entry = load_entry(key)
        self.from_store = entry is not None
        if entry is None:
            entry = _compile(kernels, n_parameters)
            save_entry(key, entry)
        self._engine = _load(entry)
        self.n_parameters = n_parameters
        self.n_p = n_parameters + entry.n_hoisted
        self.n_outputs = dict(entry.n_outputs)
        self.work_size = entry.work_size
        self.address = {
            name: self._engine.get_function_address(symbol(name)) for name in entry.n_outputs
        }


_POINTER = ctypes.c_void_p
_FIELD = ctypes.CFUNCTYPE(None, ctypes.c_double, *[_POINTER] * 4)
_PRODUCT = ctypes.CFUNCTYPE(None, ctypes.c_double, *[_POINTER] * 5)


@lru_cache(maxsize=1)
def _target() -> tuple[Any, str]:
    """Return LLVM's target machine and the text that identifies it in store keys."""
    import llvmlite
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=1, codemodel="jitdefault", jit=True
    )
    identity = f"{llvmlite.__version__}|{llvm.llvm_version_info}|{machine.triple}|{cpu}|{features}"
    return machine, identity


@lru_cache(maxsize=1)
def _emitter() -> str:
    """Return a hash of the sources that turn graphs into machine code.

    A version number would have to be raised by hand with every change of the emitted text.
    """
    sha = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sha.update(path.read_bytes())
    return sha.hexdigest()


def _key(kernels: Mapping[str, tuple[str, Graph]], n_parameters: int) -> str:
    sha = hashlib.sha256(f"{_emitter()}|{_target()[1]}|{n_parameters}".encode())
    for name, (signature, graph) in kernels.items():
        sha.update(f"|{name}|{signature}|{graph.digest}".encode())
    return sha.hexdigest()


def _compile(kernels: Mapping[str, tuple[str, Graph]], n_parameters: int) -> Entry:
    import llvmlite.binding as llvm

    bundle = make_bundle(kernels, n_parameters)
    text, work_size, externals = emit_module(bundle.programs)
    # No passes over the text: the graph has shared and simplified what there is. LLVM's own O1
    # pipeline takes 0.6 times as long as writing machine code, and no kernel ran faster for it.
    module = llvm.parse_assembly(text)
    return Entry(
        object_code=_target()[0].emit_object(module),
        work_size=work_size,
        n_hoisted=bundle.n_hoisted,
        n_outputs={p.name: len(p.outputs) for p in bundle.programs},
        externals=externals,
    )


def _load(entry: Entry) -> Any:
    """Return an execution engine holding the object code; its addresses live as long as it."""
    import llvmlite.binding as llvm

    machine, _ = _target()
    for name in (*entry.externals, *IMPLIED):
        _register(name)
    empty = llvm.parse_assembly("")
    engine = llvm.create_mcjit_compiler(empty, _fresh_machine(machine))
    engine.add_object_file(llvm.ObjectFileRef.from_data(entry.object_code))
    engine.finalize_object()
    return engine


def _fresh_machine(machine: Any) -> Any:
    """Return a target machine the engine may own: it destroys the one it is given."""
    import llvmlite.binding as llvm

    return llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=llvm.get_host_cpu_name(), opt=1, codemodel="jitdefault", jit=True
    )


@cache
def _register(name: str) -> None:
    """Tell LLVM's linker where a function of the C library lives."""
    import llvmlite.binding as llvm

    function = getattr(_libm(), name, None)
    if function is not None:
        llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value or 0)


@lru_cache(maxsize=1)
def _libm() -> Any:
    import os

    return ctypes.CDLL("ucrtbase" if os.name == "nt" else None)
