"""A time limit for SymPy, which may take forever on a harmless-looking expression."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

Result = TypeVar("Result")

#: Seconds between two attempts to stop the work, and attempts before it is left to itself: a call
#: into C, such as a product of very long integers, ends when it ends.
PAUSE, ATTEMPTS = 0.02, 50


class TooSlowError(BaseException):
    """Raised inside the work whose time is up; not an `Exception`, which SymPy may catch."""


def within(seconds: float, work: Callable[[], Result], otherwise: Result) -> Result:
    """Return what the work returns, or ``otherwise`` when it fails or takes longer.

    It runs in a thread of its own, which is told to stop when the time is up: at its next step of
    Python, and SymPy is Python. A signal would do the same in the main thread of a POSIX system
    only, a second process would import SymPy again. Where the step is one of a finalizer, Python
    drops the error and goes on: it is told again until it stops.

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
    over, lock = threading.Event(), threading.Lock()

    def run() -> None:
        with suppress(Exception, TooSlowError):
            found.append(work())
        # None is sent once this is known; one that was sent before is raised in the loop.
        while True:
            try:
                with lock:
                    over.set()
                for _ in range(64):
                    pass
                return
            except TooSlowError:
                continue

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    finally:
        if thread.is_alive() and thread.ident is not None:
            with _quiet_finalizers():
                for _ in range(ATTEMPTS):
                    with lock:
                        if over.is_set():
                            break
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(
                            ctypes.c_ulong(thread.ident), ctypes.py_object(TooSlowError)
                        )
                    thread.join(PAUSE)
                thread.join(PAUSE)
    return found[0] if found else otherwise


_hook_lock = threading.Lock()
_hook_users: list[Callable[[Any], Any]] = []


@contextmanager
def _quiet_finalizers() -> Iterator[None]:
    """Keep Python from printing that a finalizer was told to stop; all else is printed as ever."""
    with _hook_lock:
        before = _hook_users[0] if _hook_users else sys.unraisablehook
        _hook_users.append(before)

        def hook(unraisable: Any) -> None:
            if not isinstance(unraisable.exc_value, TooSlowError):
                before(unraisable)

        sys.unraisablehook = hook
    try:
        yield
    finally:
        with _hook_lock:
            _hook_users.pop()
            if not _hook_users:
                sys.unraisablehook = before
