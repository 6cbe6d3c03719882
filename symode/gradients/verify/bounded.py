"""A time limit for SymPy, which may take forever on a harmless-looking expression."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


class TooSlowError(BaseException):
    """Raised inside the work whose time is up; not an `Exception`, which SymPy may catch."""


def within(seconds: float, work: Callable[[], Result], otherwise: Result) -> Result:
    """Return what the work returns, or ``otherwise`` when it fails or takes longer.

    It runs in a thread of its own, which is told to stop when the time is up: at its next step of
    Python, and SymPy is Python. A signal would do the same in the main thread of a POSIX system
    only, a second process would import SymPy again.

    Examples
    --------
    >>> within(5.0, lambda: 1, 0)
    1
    >>> def forever():
    ...     while True:
    ...         pass
    >>> within(0.05, forever, 0)
    0
    """
    found: list[Result] = []

    def run() -> None:
        with suppress(Exception, TooSlowError):
            found.append(work())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    finally:
        if thread.is_alive() and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(TooSlowError)
            )
            thread.join(0.5)
    return found[0] if found else otherwise
