"""Linear algebra on one thread while a search runs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS uses one thread, where threadpoolctl is installed.

    A search works on matrices of some dozens of rows. Waking BLAS's threads for them takes longer
    than the work: 40 L-BFGS-B searches for Lotka-Volterra on two cores that others used, too, took
    12.6 s, of which 11.9 s inside L-BFGS-B's linear algebra; with one thread 0.5 s.
    """
    controller = _controller()
    return nullcontext() if controller is None else controller.limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _controller() -> Any:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    # SciPy brings its own BLAS, loaded with its linear algebra: only then can it be found.
    import scipy.linalg
    import scipy.optimize  # noqa: F401

    return ThreadpoolController()
