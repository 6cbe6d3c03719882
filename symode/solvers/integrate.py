"""integrate: one forward solve, and the one place where a kernel's status becomes an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from symode.equations.values import real_array
from symode.errors import OptionError, SolverError
from symode.kernels import types as kt
from symode.solvers.chebyshev import ChebyshevTableau
from symode.solvers.forward import Forward as Forward
from symode.solvers.options import DEFAULT_STIFF
from symode.solvers.solution import Solution
from symode.solvers.tableau import ExplicitTableau
from symode.status import (
    BLOW_UP,
    CHATTERING,
    MAX_STEPS,
    NONFINITE,
    SENTENCES,
    STEP_TOO_SMALL,
    SUCCESS,
)

Floats = NDArray[np.float64]
#: Size of h ρ from which tiny steps tell of modes that are faster than the solution: one of order 4
#: that resolves all it follows has h ρ of about rtol**(1/4), 0.1 at a tolerance of 1e-4.
FORCED = 0.3
JacobianFunction = Callable[[float, Floats], Floats]


def check_times(times: Sequence[float] | Floats, t0: float, t1: float) -> Floats:
    """Return observation times as an array, sorted as the solve meets them.

    Raises
    ------
    OptionError
        When a time is not finite, or lies outside the span.
    """
    try:
        array = np.atleast_1d(real_array(times))
    except (TypeError, ValueError):
        raise OptionError(f"times must be real numbers; got {times!r}.") from None
    if array.ndim != 1 or not np.isfinite(array).all():
        raise OptionError("times must be a one-dimensional sequence of finite numbers.")
    outside = (array < min(t0, t1)) | (array > max(t0, t1))
    if outside.any():
        raise OptionError(f"t = {array[outside][0]:g} lies outside the span from {t0:g} to {t1:g}.")
    return np.sort(array) if t1 >= t0 else np.sort(array)[::-1]


def check_span(span: Sequence[float]) -> tuple[float, float]:
    """Return (t0, t1) as floats.

    Raises
    ------
    OptionError
        Unless it is a pair of finite numbers.
    """
    try:
        t0, t1 = (float(t) for t in span)
    except (TypeError, ValueError):
        raise OptionError(f"The time span must be a pair (t0, t1); got {span!r}.") from None
    if not (np.isfinite(t0) and np.isfinite(t1)):
        raise OptionError(f"The time span must be finite; got ({t0}, {t1}).")
    return t0, t1


def integrate(
    forward: Forward,
    y0: Floats,
    span: tuple[float, float],
    names: Sequence[str],
    *,
    at_steps: bool,
    raise_on_failure: bool = True,
    jacobian: JacobianFunction | None = None,
    dense_output: bool = True,
) -> Solution:
    """Solve from t0 to t1 and return the trajectory.

    Parameters
    ----------
    forward
        System, options and memory.
    y0
        State at t0.
    span
        (t0, t1).
    names
        Names of the states.
    at_steps
        Return the states at the solver's steps instead of the observation times.
    raise_on_failure
        Return the part that was solved, with its status, instead of raising.
    jacobian
        Evaluates ∂f/∂z, to tell stiffness from other causes of failure.
    dense_output
        Give the solution the kept steps.

    Raises
    ------
    SolverError
        With t, z, h and the likely cause.
    """
    forward.reset(y0, *span)
    status = forward.run()
    if status != SUCCESS and raise_on_failure:
        raise solver_error(status, names, forward, jacobian)
    n = len(names)
    dense = tuple(s.dense for s in forward.segments if s.steps) if forward.keep else ()
    if at_steps and forward.keep:
        # A segment starts where the one before it ended: one row for both, but for a jump.
        rows_t, rows_z, jumped = [np.array([span[0]])], [y0[None, :n]], False
        for s in forward.segments:
            if jumped:
                rows_t.append(np.array([s.t0]))
                rows_z.append(s.start[None, :n])
            rows_t.append(s.store.t[1 : s.steps + 1])
            rows_z.append(s.store.z[1 : s.steps + 1, :n])
            jumped = s.jump is not None
        t, z = np.concatenate(rows_t), np.concatenate(rows_z)
    else:
        reached = int(forward.scratch.count[kt.NEXT_OBS])
        t = forward.observations.t[:reached].copy()
        z = forward.observations.y[:reached, :n].copy()
    fired = () if forward.events is None else tuple(forward.events.fired)
    dense = dense if dense_output else ()
    return Solution(t, z, tuple(names), forward.stats, status, {}, dense, fired)


def solver_error(
    status: int, names: Sequence[str], forward: Forward, jacobian: JacobianFunction | None = None
) -> SolverError:
    """Return the error that says where a solve stopped, and why."""
    clock, scratch = forward.scratch.clock, forward.scratch
    t, h = float(clock[kt.T]), float(clock[kt.H_TRIED])
    z = scratch.y[: len(names)].copy()
    tableau = forward.stepper.tableau
    state = ", ".join(f"{name} = {value:.6g}" for name, value in zip(names, z, strict=True))
    parts = [
        f"{tableau.name} stopped at t = {t:.10g} with {state} and step size {h:.3g}: "
        f"{SENTENCES[status]}."
    ]
    if status == MAX_STEPS:
        parts.append(
            f"max_steps={forward.options.max_steps} were taken on the way to "
            f"t = {clock[kt.T_END]:.6g}."
        )
    stiff = isinstance(tableau, ExplicitTableau) and _is_stiff(tableau, jacobian, t, z, h)
    if stiff and status in (MAX_STEPS, STEP_TOO_SMALL):
        # "auto" itself may stay explicit where tangents hold its steps just below the edge.
        other = "" if forward.options.stiff else ", or 'auto', which switches by itself"
        parts.append(
            f"The problem is stiff here: the step size is held down by stability, not accuracy. "
            f"Use solver={DEFAULT_STIFF!r}{other}."
        )
    elif (
        status in (MAX_STEPS, STEP_TOO_SMALL)
        and isinstance(tableau, ChebyshevTableau)
        and (beyond := _beyond_stages(tableau, jacobian, t, z, h, _hopeless(forward, t, h)))
    ):
        parts.append(f"{beyond} Use solver={DEFAULT_STIFF!r}, or 'auto'.")
    elif status == MAX_STEPS and not _hopeless(forward, t, h):
        parts.append("Raise max_steps=, loosen rtol= and atol=, or shorten the span.")
    elif status in (MAX_STEPS, STEP_TOO_SMALL):
        parts.append(
            "The solution may be singular or discontinuous near this time, or the tolerances "
            "too tight for its rounding errors."
        )
    elif status == NONFINITE:
        parts.append(
            "A division by zero, or a function outside its domain (such as the logarithm or the "
            "root of a negative state), is the usual cause."
        )
    elif status == CHATTERING and forward.events is not None and forward.events.modes.sliding:
        parts.append(
            f"The right-hand side drives the state onto {forward.events.modes.sliding} = 0 from "
            "both sides: it slides along there, which no piece of f describes. Write the sliding "
            "motion, smooth the switch (tanh instead of sign), or solve with switch_events=False."
        )
    elif status == CHATTERING and forward.events is not None:
        parts.append(
            f"It was {forward.events.last_names}, at moments that pile up here. Let the state move "
            "away from the trigger, or end the span before this time (terminal=True)."
        )
    elif status == BLOW_UP:
        parts.append("Check the signs of the growth terms, or end the span before this time.")
    return SolverError(" ".join(parts), status=status, t=t, z=z.tolist(), h=h)


def _beyond_stages(
    tableau: ChebyshevTableau,
    jacobian: JacobianFunction | None,
    t: float,
    z: Floats,
    h: float,
    hopeless: bool,
) -> str:
    """Return why many stages do not serve the fastest modes; empty where they would."""
    if jacobian is None or not np.isfinite(h):
        return ""
    matrix = jacobian(t, z)
    if not np.isfinite(matrix).all():
        return ""
    modes = np.linalg.eigvals(matrix)
    largest = np.max(np.abs(modes), initial=0.0)
    fast = modes[np.abs(modes) >= 0.5 * largest]
    if np.any((np.abs(fast.imag) > 0.5 * np.abs(fast.real)) & (abs(h) * np.abs(fast) > 0.3)):
        return (
            "Its fastest modes oscillate: many stages serve modes that decay, with eigenvalues "
            "near the real axis, not those with large imaginary parts."
        )
    if abs(h) * largest > 0.3 * tableau.limit[-1]:
        return (
            f"The problem is stiff beyond what {int(tableau.sizes[-1])} stages serve: its fastest "
            f"mode decays within {1.0 / largest:.2g}."
        )
    if abs(h) * largest > FORCED and not hopeless:
        return (
            f"The problem is stiff, and its fastest mode, which decays within {1.0 / largest:.2g}, "
            "follows what drives it: there the stages of an explicit method lose order, and at "
            "this tolerance its steps stay as short as that mode."
        )
    return ""


def _hopeless(forward: Forward, t: float, h: float) -> bool:
    """Tell whether the rest, at this step size, is out of reach: the solution ends about here."""
    remaining = abs(float(forward.scratch.clock[kt.T_END]) - t)
    return remaining > 1e3 * forward.options.max_steps * abs(h)


def _is_stiff(
    tableau: ExplicitTableau, jacobian: JacobianFunction | None, t: float, z: Floats, h: float
) -> bool:
    """Tell whether the last step size lies at the edge of the method's stability."""
    if jacobian is None or not np.isfinite(h):
        return False
    matrix = jacobian(t, z)
    if not np.isfinite(matrix).all():
        return False
    # The most damped mode; in backward time, the one that grows in forward time.
    fastest = float(np.max(-np.sign(h) * np.linalg.eigvals(matrix).real, initial=0.0))
    return abs(h) * fastest > 0.3 * tableau.stability
