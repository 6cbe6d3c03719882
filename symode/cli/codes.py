"""Exit codes of every command, each with its sentence."""

from __future__ import annotations

from typing import Final

PASSED: Final = 0
FAILED: Final = 1
BAD_INPUT: Final = 2
SOLVER_FAILED: Final = 3
INTERRUPTED: Final = 130

SENTENCES: Final[dict[int, str]] = {
    PASSED: "the command did what it was asked, and every check passed",
    FAILED: "a verification failed, a fit did not converge, or a gradient was refused",
    BAD_INPUT: "wrong usage, or a file, model, loss or value that does not fit",
    SOLVER_FAILED: "the solve failed",
    INTERRUPTED: "interrupted (Ctrl-C)",
}
