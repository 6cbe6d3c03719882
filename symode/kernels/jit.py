"""The one set of Numba options for all kernels, and the stamp of their cache.

Numba's cache does not notice an edited helper in another file, so compiled kernels live in a
folder named after a hash of all kernel sources: an edit anywhere starts a fresh folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
import numba.extending
from numba.core import event
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


def _load_array_support() -> None:
    """Import Numba's array functions without SciPy's BLAS, which they only probe for.

    The probe imports scipy.linalg, 0.13 s of the 0.6 s from process start to a first gradient;
    no kernel here uses it, and code that does asks for it again when it is compiled.
    """
    if "numba.np.arraymath" in sys.modules:
        return
    import numba.np.linalg as linalg

    original = linalg.ensure_blas
    linalg.ensure_blas = lambda: None
    try:
        import numba.np.arraymath as arraymath

        arraymath.ensure_blas = original
    finally:
        linalg.ensure_blas = original


# Private names of Numba: where they have moved, the import is merely slower.
with contextlib.suppress(AttributeError, ImportError):
    _load_array_support()

F = TypeVar("F", bound=Callable[..., Any])


def _stamp() -> str:
    sha = hashlib.sha256(f"{numba.__version__}|{sys.version}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sha.update(path.read_bytes())
    return sha.hexdigest()[:16]


STAMP: Final = _stamp()


def _cache_folder() -> Path:
    # The store's rules (SYMODE_CACHE_DIR, then the user's cache folder), in its sister folder.
    from symode.codegen.store import store_folder

    return store_folder().parent / "solvers" / STAMP


#: Full fastmath accepted a NaN step in a test; contraction (fused multiply-add) does not. Kernels
#: allocate nothing, so they run without Numba's reference counts: 18 times faster at n = 2.
OPTIONS: Final[dict[str, Any]] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "_nrt": False,
}


class _Announcement(event.Listener):  # type: ignore[misc]
    """Say once, on stderr, that solvers are being compiled: it takes seconds, not for ever."""

    def __init__(self) -> None:
        self.kernels: set[int] = set()
        self.said = False

    def on_start(self, event: Any) -> None:
        if not self.said and id(event.data["dispatcher"]) in self.kernels:
            self.said = True
            print(
                "symode: compiling solvers for this machine, once after installation "
                "(some 10 s for each family) ...",
                file=sys.stderr,
                flush=True,
            )

    def on_end(self, event: Any) -> None:
        pass


# Numba triggers the event for what it compiles, not for what it finds in the cache.
_announcement = _Announcement()
event.register("numba:compile", _announcement)


def kernel(function: F) -> F:
    """Compile an entry point: cached on disk, GIL released, no fast-math that could hide a NaN."""
    jitted = numba.njit(**OPTIONS)(function)
    _enable_cache(jitted)
    return jitted  # type: ignore[no-any-return]


@register_pass(mutates_CFG=True, analysis_only=False)
class _HelperLowering(NativeLowering):  # type: ignore[misc]
    """Lower a function to be linked into its callers; make no machine code for it alone."""

    _name = "symode_helper_lowering"

    def run_pass(self, state: Any) -> bool:
        state.flags.no_compile = True
        changed = super().run_pass(state)

        # A builtin function of its own stands for the machine code: Numba asks for one as a key.
        placeholder: Any = [].append
        lowered = state["cr"]
        state.targetctx.insert_user_function(placeholder, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=placeholder)
        return bool(changed)


class _Helper(CompilerBase):  # type: ignore[misc]
    """Numba's pipeline for a function that only other kernels call."""

    def define_pipelines(self) -> list[Any]:
        state = self.state
        library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
        library._optimize_final_module = lambda: None
        library._finalize_final_module = lambda: setattr(library, "_finalized", True)
        state.library = library
        pipeline = DefaultPassBuilder.define_nopython_pipeline(state)
        pipeline.passes = [
            (_HelperLowering if kind is NativeLowering else kind, text)
            for kind, text in pipeline.passes
        ]
        pipeline._finalized = False
        pipeline.finalize()
        return [pipeline]


#: Helpers need no wrapper that unpacks Python objects, and no machine code of their own: the
#: solvers then compile in half the time (12.6 to 6.6 s of CPU for the default gradient).
HELPER: Final[dict[str, Any]] = {
    **OPTIONS,
    "forceinline": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
# Private names of Numba: without them helpers are compiled twice, and work the same.
if all(hasattr(CPUCodeLibrary, f"_{step}_final_module") for step in ("optimize", "finalize")):
    HELPER["pipeline_class"] = _Helper


def inline(function: F) -> F:
    """Compile a helper into the kernels that call it."""
    jitted = numba.njit(**HELPER)(function)
    _announcement.kernels.add(id(jitted))
    return jitted  # type: ignore[no-any-return]


def apart(function: F) -> F:
    """Compile a helper that its callers call: a hot loop that needs registers of its own."""
    jitted = numba.njit(**{key: value for key, value in HELPER.items() if key != "forceinline"})(
        function
    )
    _announcement.kernels.add(id(jitted))
    return jitted  # type: ignore[no-any-return]


def by_type(position: int, table: dict[type, Callable[..., Any]]) -> Callable[[F], F]:
    """Choose an implementation when compiling, by the type of one argument (a named tuple).

    The decorated function gives name, signature and docstring; each entry of the table has the
    same signature. What a kernel does not need is then not compiled into it. The decorated body is
    never compiled: it raises, for who calls it from Python.
    """

    def decorate(stub: F) -> F:
        def choose(*arguments: Any) -> Any:
            chosen = table[arguments[position].instance_class]
            return getattr(chosen, "py_func", chosen)

        # Numba compares signatures by name, so the chooser takes the stub's own.
        choose.__signature__ = inspect.signature(stub)  # type: ignore[attr-defined]
        numba.extending.overload(stub, strict=False, jit_options=HELPER)(choose)
        return stub

    return decorate


@contextlib.contextmanager
def cache_folder() -> Iterator[None]:
    """Let Numba cache what is decorated inside in the folder of these sources."""
    previous = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = os.fspath(_cache_folder())
    try:
        yield
    finally:
        numba.config.CACHE_DIR = previous


def _enable_cache(jitted: Any) -> None:
    _announcement.kernels.add(id(jitted))
    # No writable folder: the kernel is compiled in every process.
    with cache_folder(), contextlib.suppress(RuntimeError):
        jitted.enable_caching()
