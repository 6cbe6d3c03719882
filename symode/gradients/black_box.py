"""A whole gradient through a solver that symode knows nothing about."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.errors import (
    DriftError,
    GradientError,
    OptionError,
    SolverError,
    SymodeError,
    UnsupportedCombinationError,
)
from symode.gradients.methods import (
    BacksolveAdjoint,
    ComplexStep,
    FiniteDifference,
    ForwardSensitivity,
    GradientMethod,
)
from symode.gradients.methods.backsolve import DRIFT_LIMIT
from symode.gradients.methods.base import check_finite, check_loss
from symode.gradients.task import Outcome, Task, outcome
from symode.gradients.unlocated import Jumps
from symode.kernels import types as kt
from symode.solvers import native

Floats = NDArray[np.float64]
#: ``callable(fun, t_span, y0, t_eval) -> y``, one row of y per time in t_eval.
BlackBox = Callable[[Callable[[float, Floats], Floats], tuple[float, float], Floats, Floats], Any]


#: Methods of ``scipy.integrate.solve_ivp``.
SCIPY_METHODS = ("RK45", "RK23", "DOP853", "Radau", "BDF", "LSODA")


def scipy_solver(name: str, rtol: float, atol: Any) -> BlackBox:
    """Return SciPy's ``solve_ivp`` with this method as a black box.

    Raises
    ------
    OptionError
        Listing SciPy's methods.
    """
    if name not in SCIPY_METHODS:
        raise OptionError(
            f"SciPy has no method {name!r}. Choose one of {', '.join(SCIPY_METHODS)}, as in "
            f"solver='scipy:{SCIPY_METHODS[0]}'."
        )

    def solve(
        fun: Callable[[float, Floats], Floats],
        span: tuple[float, float],
        y0: Floats,
        t_eval: Floats,
    ) -> Any:
        from scipy.integrate import solve_ivp

        # atol belongs to the states; the adjoint behind them is scaled by its own size.
        result = solve_ivp(fun, span, y0, method=name, t_eval=t_eval, rtol=rtol, atol=np.min(atol))
        if not result.success:
            raise SolverError(
                f"scipy's {name} stopped at t = {result.t[-1] if len(result.t) else span[0]:g}: "
                f"{result.message}"
            )
        return result.y.T

    return solve


def black_box_gradient(
    task: Task, solver: BlackBox, method: GradientMethod, theta: Floats, z0: Floats | None
) -> Outcome:
    """Return the gradient with forward and backward passes run by ``solver``.

    Parameters
    ----------
    task
        Model, loss and span; its tolerances judge the drift.
    solver
        ``callable(fun, t_span, y0, t_eval) -> y`` with one row of y per time.
    method
        BacksolveAdjoint, ForwardSensitivity, ComplexStep or FiniteDifference: the methods that
        need no more than this.

    Raises
    ------
    UnsupportedCombinationError
        For another method.
    SolverError
        When the solver raises in the forward pass; what it raised is the cause.
    GradientError
        When it returns the wrong shape or values that are not finite, or fails in the backward
        pass.
    DriftError
        When z integrated backwards leaves the forward solution.
    """
    if isinstance(method, ComplexStep | FiniteDifference):
        from symode.gradients.black_box_directions import direction_gradient

        return direction_gradient(task, solver, method, theta, z0)
    if not isinstance(method, BacksolveAdjoint | ForwardSensitivity):
        raise UnsupportedCombinationError(
            f"{type(method).__name__} needs the steps of the solver, which a black box does not "
            "show. Use BacksolveAdjoint() or ForwardSensitivity(), as judges ComplexStep() or "
            "FiniteDifference(), or one of symode's solvers."
        )
    backwards = method if isinstance(method, BacksolveAdjoint) else None
    compiled = task.compile(["rhs"], ["rhs"]) if backwards else task.compile(["rhs", "jvp"])
    system = task.bind(compiled, False)
    p = compiled.pack(theta, system.p)
    y0 = compiled.call("initial", task.t0, np.zeros(task.n), p) if z0 is None else task.start(z0)
    table, gradient = task.loss_table(), task.gradient_arrays()
    if backwards:
        states = solve_box(solver, lambda t, y: compiled.call("rhs", t, y, p), task, y0)
    else:
        states = _forward_with_tangents(task, solver, compiled, p, y0)
    refuse_seen_jumps(task, theta, y0, states)
    observations = native.make_observations(task.times, task.n)
    observations.y[:] = states[: task.times.size, : task.n]
    scratch = native.make_scratch(
        native.native_method(task.options.tableau), system, task.n, compiled.work_size
    )
    scratch.y[:] = states[-1, : task.n]
    scratch.clock[kt.T] = task.t1
    _close(task, system, observations, table, scratch, gradient, None)
    check_loss(task, gradient, table)
    stats: dict[str, object] = {"method": method.name, "solver": "black box"}
    if backwards is None:
        _contract(task, states, table, gradient)
    else:
        drift = _backward(task, solver, compiled, p, states, y0, table, gradient)
        stats["drift"] = drift
        if not drift <= DRIFT_LIMIT:
            message = (
                f"The state integrated backwards by this solver differs from its forward solution "
                f"by {drift:.3g} times the tolerance (rtol={task.options.rtol:g}; limit "
                f"{DRIFT_LIMIT:g}), so the gradient cannot be trusted. Tighten the solver's own "
                "tolerances, state looser ones in rtol= and atol=, or use ForwardSensitivity()."
            )
            if backwards.on_drift == "raise":
                raise DriftError(message)
            warnings.warn(message, RuntimeWarning, stacklevel=2)
    _close(task, system, observations, table, scratch, gradient, (y0, z0 is None))
    check_finite(task, gradient)
    return outcome(task, gradient, table, stats)


def _close(
    task: Task,
    system: kt.Field,
    observations: kt.Observations,
    table: kt.LossTable,
    scratch: kt.Scratch,
    gradient: kt.Gradient,
    end: tuple[Floats, bool] | None,
) -> None:
    from symode.kernels.gradient import close_gradient, loss_value

    if end is None:
        loss_value(system, observations, table, scratch, gradient)
    else:
        close_gradient(system, table, task.t0, end[0], scratch, gradient, end[1])


def solve_box(
    solver: BlackBox,
    fun: Callable[[float, Floats], Floats],
    task: Task,
    y0: Floats,
) -> Floats:
    """Return the states at all observations, and at t1 in the last row."""
    try:
        states = _call(solver, fun, (task.t0, task.t1), y0, task.times)
    except SymodeError:
        raise
    except Exception as error:
        raise SolverError(
            f"The given solver failed between t={task.t0:g} and t={task.t1:g}: {cause_of(error)} "
            "It is called as solver(fun, t_span, y0, t_eval)."
        ) from error
    if not np.isfinite(states).all():
        raise GradientError("The solver returned values that are not finite.")
    return states


def refuse_seen_jumps(task: Task, theta: Floats, y0: Floats, states: Floats) -> None:
    """Pass unless f jumps between two of the states that a black box returned."""
    jumps = Jumps.of(task)
    if jumps is not None:
        t = np.concatenate([[task.t0], task.times, [task.t1]])
        jumps.look(t, np.vstack([y0, states[:, : task.n]]), theta)


def _call(
    solver: BlackBox,
    fun: Callable[[float, Floats], Floats],
    span: tuple[float, float],
    y0: Floats,
    times: Floats,
) -> Floats:
    t_eval = np.unique(np.append(times, span[1]))
    if span[1] < span[0]:
        t_eval = t_eval[::-1]
    inner = t_eval[t_eval != span[0]]
    # Overflow of a diverging pass is reported by what comes of it, below.
    with np.errstate(all="ignore"):
        y = as_rows(solver(fun, span, y0.copy(), inner.copy()), inner.size, y0.size)
    found = {float(t): row for t, row in zip(inner, y, strict=True)} | {float(span[0]): y0}
    return np.array([found[float(t)] for t in [*times, span[1]]])


def cause_of(error: Exception) -> str:
    """Return an exception as the end of a sentence."""
    text = str(error).rstrip(".")
    if isinstance(error, SymodeError):
        return f"{text}."
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."


def as_rows(result: Any, count: int, size: int, kind_of: type = float) -> Any:
    """Return what a solver returned as an array, one row for each time."""
    expected = f"The solver must return y, one row per time in t_eval: expected ({count}, {size})"
    kind = type(result).__name__
    if hasattr(result, "y") and hasattr(result, "t"):
        raise GradientError(f"{expected}; got an {kind}: return result.y.T.")
    if result is None:
        raise GradientError(f"{expected}; got None: is its return statement missing?")
    try:
        y: NDArray[Any] = np.asarray(result, dtype=kind_of)
    except (TypeError, ValueError):
        raise GradientError(f"{expected}; got a {kind} that is no array of numbers.") from None
    if y.shape != (count, size):
        hint = " Return y.T." if y.shape == (size, count) else ""
        raise GradientError(f"{expected}; got shape {y.shape}.{hint}")
    return y


def _forward_with_tangents(
    task: Task, solver: BlackBox, compiled: Any, p: Floats, y0: Floats
) -> Floats:
    n, m, states = task.n, task.m, task.equations.n_states
    directions = np.vstack([np.eye(m), np.zeros((states, m))])
    start = np.zeros((m + states, n))
    start[m:, :states] = np.eye(states)

    def fun(t: float, y: Floats) -> Floats:
        z, tangents = y[:n], y[n:].reshape(-1, n)
        rows = [
            compiled.call("jvp", t, z, p, np.concatenate([s, d]))
            for s, d in zip(tangents, directions, strict=True)
        ]
        return np.concatenate([compiled.call("rhs", t, z, p), *rows])

    return solve_box(solver, fun, task, np.concatenate([y0, start.ravel()]))


def _contract(task: Task, states: Floats, table: kt.LossTable, gradient: kt.Gradient) -> None:
    tangents = states[:, task.n :].reshape(states.shape[0], -1, task.n)
    total = tangents[-1] @ gradient.lam
    after = slice(table.n_start, task.times.size)
    total += np.einsum("kqn,kn->q", tangents[after], table.seeds[after])
    gradient.theta[:] += total[: task.m]
    gradient.lam[: task.equations.n_states] = total[task.m :]


def _backward(
    task: Task,
    solver: BlackBox,
    compiled: Any,
    p: Floats,
    states: Floats,
    y0: Floats,
    table: kt.LossTable,
    gradient: kt.Gradient,
) -> float:
    """Integrate the augmented system segment by segment; return the largest drift."""
    n = task.n
    size = np.max(np.abs(np.vstack([states[:, :n], y0])), axis=0)
    allowed = task.options.rtol * size
    allowed[: task.equations.n_states] += task.options.atol
    allowed[task.equations.n_states :] = np.inf
    lam, mu, drift = gradient.lam.copy(), np.zeros(task.m), 0.0
    t, z = task.t1, states[-1, :n]
    o = task.times.size - 1
    while True:
        target = task.times[o] if o >= table.n_start else task.t0
        if target != t:
            q = np.concatenate([z, lam, mu])
            fun = lambda s, y: compiled.call("augmented_rhs", s, y, p)  # noqa: E731
            try:
                q = _call(solver, fun, (t, float(target)), q, np.empty(0))[-1]
                if not np.isfinite(q).all():
                    raise ArithmeticError("it returned values that are not finite")
            except GradientError:
                raise
            except Exception as error:
                raise GradientError(
                    f"The backward pass from t={t:g} to t={target:g} failed in the given solver: "
                    f"{cause_of(error)} Integrating z backwards may be unstable here; use "
                    "method='forward' (ForwardSensitivity), or one of symode's solvers."
                ) from error
            known = states[o, :n] if o >= table.n_start else y0
            drift = max(drift, float(np.max(np.abs(q[:n] - known) / allowed)))
            z, lam, mu, t = known, q[n : 2 * n], q[2 * n :], float(target)
        if o < table.n_start:
            break
        lam = lam + table.seeds[o]
        o -= 1
    gradient.lam[:] = lam
    gradient.theta[:] += mu
    return drift
