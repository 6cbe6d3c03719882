"""Codes shared between compiled kernels and Python, each with its sentence."""

from __future__ import annotations

from typing import Final

SUCCESS: Final = 0
PAUSED: Final = 1  # out of step budget for this entry: the caller re-enters
FULL: Final = 2  # step store is full: the caller enlarges it and re-enters
SWITCH: Final = 3  # stiffness began or ended: the caller goes on with the other method
MAX_STEPS: Final = -1
STEP_TOO_SMALL: Final = -2
NONFINITE: Final = -3
SINGULAR: Final = -4
BLOW_UP: Final = -5
NO_CONVERGENCE: Final = -6
CHATTERING: Final = -7

SENTENCES: Final[dict[int, str]] = {
    SUCCESS: "the solve reached its end",
    PAUSED: "the solve was interrupted before its end",
    FULL: "the store of steps is full",
    SWITCH: "another method should go on here",
    MAX_STEPS: "the limit on the number of steps was reached",
    STEP_TOO_SMALL: "the step size fell below the resolution of time",
    NONFINITE: "the right-hand side is not finite here",
    SINGULAR: "the matrix of the implicit step is singular or not finite",
    NO_CONVERGENCE: "the equations of the implicit stages cannot be solved: Newton's iteration "
    "does not converge",
    CHATTERING: "events fire without end",
    BLOW_UP: "the solution grows without bound (finite-time blow-up)",
}
