"""The one set of Numba options for all kernels, and the stamp of their cache.

Numba's cache does not notice an edited helper in another file, so compiled kernels live in a
folder named after a hash of all kernel sources: an edit anywhere starts a fresh folder.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numba

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


def cache_is_warm() -> bool:
    """Tell whether solvers compiled from these very sources are already on disk."""
    try:
        return any(_cache_folder().iterdir())
    except OSError:
        return False


def kernel(function: F) -> F:
    """Compile a kernel: cached on disk, GIL released, no fast-math that could hide a NaN."""
    # Full fastmath accepted a NaN step in a test; contraction (fused multiply-add) does not.
    jitted = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)
    _enable_cache(jitted)
    return jitted  # type: ignore[no-any-return]


def inline(function: F) -> F:
    """Compile a helper that only other kernels call: it is cached as part of its callers."""
    return numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)  # type: ignore[no-any-return]


def _enable_cache(jitted: Any) -> None:
    previous = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = os.fspath(_cache_folder())
    try:
        jitted.enable_caching()
    except RuntimeError:
        # No writable folder: the kernel is compiled in every process.
        pass
    finally:
        numba.config.CACHE_DIR = previous
