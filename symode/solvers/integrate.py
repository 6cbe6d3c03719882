"""integrate: one forward solve, and the one place where a kernel's status becomes an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symode.errors import OptionError, SolverError
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.options import DEFAULT_STIFF, SolverOptions
from symode.solvers.solution import Solution, Stats
from symode.solvers.tableau import ExplicitTableau
from symode.status import BLOW_UP, MAX_STEPS, NONFINITE, SENTENCES, STEP_TOO_SMALL, SUCCESS

Floats = NDArray[np.float64]
JacobianFunction = Callable[[float, Floats], Floats]

#: Steps the store holds before it first grows.
CAPACITY = 256


@dataclass
class Forward:
    """A forward solve in progress: what kernels need, kept together and reused.

    Parameters
    ----------
    system, options
        What to solve and how.
    observations
        Times to record, in the order of the solve.
    n_controlled
        Leading components under absolute tolerance; those after it, up to n, are quadratures,
        held to rtol of their own largest value; tangents follow with ``tangent_atol``.
    weight
        Weights of components judged together (tangents of quadratures).
    """

    system: kt.System
    options: SolverOptions
    observations: kt.Observations
    n_controlled: int
    work_size: int
    keep: bool = True
    lazy: bool = False
    tangent_atol: Floats | None = None
    weight: Floats | None = None

    def __post_init__(self) -> None:
        n = self.system.n
        self.method = native.native_method(self.options.tableau)
        extra = np.empty(0) if self.tangent_atol is None else self.tangent_atol
        atol = np.concatenate([self.options.atol, np.zeros(n - self.n_controlled), extra])
        floor = np.zeros(atol.size)
        floor[self.n_controlled : n] = 1.0
        self.control = native.make_control(
            self.options, atol, floor, weight=self.weight, lazy=self.lazy
        )
        self.scratch = native.make_scratch(self.method, self.system, atol.size, self.work_size)
        self.store = native.make_store(self.method, n, CAPACITY if self.keep else 0, self.keep)
        self.driver = native.Driver(self.enlarge)

    def enlarge(self) -> None:
        """Double the store."""
        self.store = native.enlarged(self.store)

    def reset(self, y0: Floats, t0: float, t1: float) -> None:
        """Go to the start."""
        scratch = self.scratch
        scratch.count[:] = 0
        scratch.y[:] = y0
        scratch.clock[kt.T], scratch.clock[kt.T_END] = t0, t1
        scratch.clock[kt.H_TRIED] = np.nan
        scratch.clock[kt.GROUP] = 0.0
        at_start = self.observations.t == t0
        self.observations.y[at_start] = y0
        scratch.count[kt.NEXT_OBS] = np.count_nonzero(at_start)

    def run(self) -> int:
        """Advance to the end; return the status."""
        from symode.kernels.loop import advance

        return self.driver.run(
            lambda budget: advance(
                self.method,
                self.system,
                self.control,
                self.store,
                self.observations,
                self.scratch,
                budget,
            )
        )

    @property
    def stats(self) -> Stats:
        """What the solve cost so far."""
        return Stats.of(self.options.tableau.name, self.scratch.count, self.driver.seconds)


def check_times(times: Sequence[float] | Floats, t0: float, t1: float) -> Floats:
    """Return observation times as an array, sorted as the solve meets them.

    Raises
    ------
    OptionError
        When a time is not finite, or lies outside the span.
    """
    array = np.atleast_1d(np.asarray(times, dtype=float))
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

    Raises
    ------
    SolverError
        With t, z, h and the likely cause.
    """
    forward.reset(y0, *span)
    status = forward.run()
    if status != SUCCESS and raise_on_failure:
        raise solver_error(status, names, forward, jacobian)
    count, store = forward.scratch.count, forward.store
    n, steps = len(names), int(count[kt.STEPS])
    dense = None
    if forward.keep and steps:
        dense = (forward.method, store, steps)
    if at_steps and forward.keep:
        t, z = store.t[: steps + 1].copy(), store.z[: steps + 1, :n].copy()
        if not steps:
            t, z = np.array([span[0]]), np.array([y0[:n]])
    else:
        reached = int(count[kt.NEXT_OBS])
        t = forward.observations.t[:reached].copy()
        z = forward.observations.y[:reached, :n].copy()
    return Solution(t, z, tuple(names), forward.stats, status, {}, dense)


def solver_error(
    status: int, names: Sequence[str], forward: Forward, jacobian: JacobianFunction | None = None
) -> SolverError:
    """Return the error that says where a solve stopped, and why."""
    clock, scratch = forward.scratch.clock, forward.scratch
    t, h = float(clock[kt.T]), float(clock[kt.H_TRIED])
    z = scratch.y[: len(names)].copy()
    tableau = forward.options.tableau
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
        parts.append(
            f"The problem is stiff here: the step size is held down by stability, not accuracy. "
            f"Use solver={DEFAULT_STIFF!r}."
        )
    elif status == MAX_STEPS:
        parts.append("Raise max_steps=, loosen rtol= and atol=, or shorten the span.")
    elif status == STEP_TOO_SMALL:
        parts.append(
            "The solution may be singular or discontinuous near this time, or the tolerances "
            "too tight for its rounding errors."
        )
    elif status == NONFINITE:
        parts.append(
            "A division by zero, or a function outside its domain (such as the logarithm or the "
            "root of a negative state), is the usual cause."
        )
    elif status == BLOW_UP:
        parts.append("Check the signs of the growth terms, or end the span before this time.")
    return SolverError(" ".join(parts), status=status, t=t, z=z.tolist(), h=h)


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
