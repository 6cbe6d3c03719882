"""The closed form: J and its gradient from an exact solution of the equations, in 30 digits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mpmath
import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.gradients.task import Task
from symode.gradients.verify.bounded import within
from symode.gradients.verify.claims import names_of, whole
from symode.gradients.verify.report import Check, digits_of
from symode.gradients.verify.solutions import (
    Flow,
    NoSolutionError,
    Solution,
    names_in,
    solve_equations,
)
from symode.gradients.verify.subject import Subject

Floats = NDArray[np.float64]

#: Seconds for SymPy's solution, and for the numbers.
BUDGET = 2.0
#: Digits computed, and those that must agree when a solution is put into its equation.
DIGITS, RESIDUAL = 45, 25
#: Decimal exponent of the imaginary step: its square is below the last digit.
STEP = -40
#: Characters of a formula that are shown.
SHOWN = 160
#: Relative error of a gradient above which nothing is known.
UNKNOWN = 1e-2


def check_closed_form(subject: Subject) -> Check:
    """Return the check against the exact gradient, where the equations have a closed form."""
    task = subject.task
    failure: list[str] = []

    def solve() -> Solution | None:
        try:
            return solve_equations(task.equations)
        except NoSolutionError as error:
            failure.append(str(error))
            return None

    solution = within(BUDGET, solve, None)
    if solution is None:
        why = failure[0] if failure else f"SymPy finds no solution within {BUDGET:g} s"
        return Check.skip("closed form", "accuracy", why)
    try:
        value, gradient = exact_gradient(task, solution, subject.theta, subject.z0)
    except NoSolutionError as why_not:
        return Check.skip("closed form", "accuracy", str(why_not))
    own = whole(subject.outcome(subject.method, task))
    span = abs(task.t1 - task.t0)
    scale = np.concatenate([subject.scale, [span, span]])
    size = max(float(np.linalg.norm(gradient * scale)), subject.floor) or 1.0
    gaps = np.abs(own - gradient) * scale / size
    error = float(np.linalg.norm(gaps))
    of_value = abs(subject.outcome(subject.method, task).value - value)
    of_value /= max(abs(value), subject.floor, 1e-300)
    summary = (
        f"{solution.kind}: error {error:.1e} (of J: {of_value:.1e}) against the exact gradient"
    )
    names = names_of(task.equations)
    details = (
        *(line if len(line) <= SHOWN else f"{line[:SHOWN]} ..." for line in solution.formulas),
        *(f"{names[i]}: error {gaps[i]:.1e}" for i in np.flatnonzero(gaps > UNKNOWN)),
    )
    return Check("closed form", error <= UNKNOWN, digits_of(error), "accuracy", summary, details)


def exact_gradient(
    task: Task, solution: Solution, theta: Floats, z0: Floats | None
) -> tuple[float, Floats]:
    """Return J and its derivatives in (theta, z0, t0, t1) from a closed-form flow.

    J is an analytic function of everything it depends on: one imaginary step for each gives its
    derivative without cancellation.

    Raises
    ------
    NoSolutionError
        When the flow does not solve the equations at this point, the loss is not analytic, or the
        numbers take too long.
    """
    mp = _context()
    flow = solution.make_flow(mp)
    objective = _Objective(task, flow, mp)
    m, n = task.m, task.equations.n_states
    start = [mp.mpf(v) for v in z0] if z0 is not None else objective.initial(theta, task.t0)
    point = [*(mp.mpf(v) for v in theta), *start, mp.mpf(task.t0), mp.mpf(task.t1)]
    _check_flow(task, flow, mp, point)
    offset = z0 is None
    deadline = time.perf_counter() + BUDGET
    slopes, step = [], mp.mpf(10) ** STEP
    value = mp.mpf(0)
    for i in range(m + n + 2):
        moved = list(point)
        moved[i] = point[i] + mp.mpc(0, step)
        if offset:
            # z0 is then an offset to the model's own initial values.
            fresh = objective.initial(moved[:m], moved[m + n])
            moved[m : m + n] = [
                f + z - s for f, z, s in zip(fresh, moved[m : m + n], start, strict=True)
            ]
        found = objective(moved, deadline)
        value = mp.re(found)
        slopes.append(float(mp.im(found) / step))
    return float(value), np.array(slopes)


@cache
def _context() -> Any:
    """Return the arithmetic; one for all calls, since it keeps the nodes of its quadrature."""
    mp = mpmath.MPContext()
    mp.dps = DIGITS
    return mp


class _Objective:
    """J of a flow, in complex numbers of many digits."""

    def __init__(self, task: Task, flow: Flow, mp: Any) -> None:
        self.task, self.flow, self.mp = task, flow, mp
        equations, loss = task.equations, task.loss
        arguments = (*equations.states, equations.time, *equations.parameters)
        self.terminals = [(k, self._function(arguments, e)) for k, e in loss.terminals]
        self.runnings = [(k, self._function(arguments, e)) for k, e in loss.runnings]
        self.outer = self._function((*loss.symbols, *equations.parameters), loss.outer)
        self.observed: list[tuple[float, Callable[..., Any], Sequence[float]]] = []
        for group in loss.groups:
            term = self._function((*arguments, *group.data_symbols), group.expression)
            assert term is not None
            self.observed += [
                (float(t), term, row) for t, row in zip(group.times, group.data, strict=True)
            ]
        self.start = [
            self._function((equations.time, *equations.parameters), e)
            for e in equations.initial or ()
        ]

    def _function(self, arguments: Any, expression: Any) -> Any:
        if expression is None:
            return None
        kinks = (sp.Abs, sp.Max, sp.Min, sp.Piecewise, sp.Heaviside, sp.sign, sp.floor, sp.Mod)
        if sp.sympify(expression).has(*kinks):
            raise NoSolutionError("the loss has a kink or a jump")
        return sp.lambdify(arguments, expression, [names_in(self.mp)])

    def initial(self, theta: Sequence[Any] | Floats, t0: Any) -> list[Any]:
        """Return z0(theta, t0)."""
        exact = [v if hasattr(v, "_mpf_") or hasattr(v, "_mpc_") else self.mp.mpf(v) for v in theta]
        return [self.mp.mpc(f(self.mp.mpc(t0), *exact)) for f in self.start]

    def __call__(self, x: Sequence[Any], deadline: float) -> Any:
        """Return J at (theta, z0, t0, t1)."""
        task, mp, m = self.task, self.mp, self.task.m
        n = task.equations.n_states
        theta, z0, t0, t1 = x[:m], x[m : m + n], x[m + n], x[m + n + 1]

        def along(t: Any) -> list[Any]:
            if time.perf_counter() > deadline:
                raise NoSolutionError(f"the exact gradient's numbers take more than {BUDGET:g} s")
            return self.flow(t, t0, z0, theta)

        parts = [mp.mpc(0)] * task.loss.n_parts
        for k, terminal in self.terminals:
            parts[k] += terminal(*along(t1), t1, *theta)
        for k, running in self.runnings:
            # On a straight line in the complex plane.
            def cost(s: Any, c: Callable[..., Any] = running) -> Any:
                t = t0 + s * (t1 - t0)
                return c(*along(t), t, *theta)

            found, error = mp.quad(cost, [0, 1], method="gauss-legendre", error=True)
            if error > mp.mpf(10) ** -20 * (1 + abs(found)):
                raise NoSolutionError("the integral of the running cost does not converge")
            parts[k] += found * (t1 - t0)
        for k, (at, term, data) in zip(task.loss.row, self.observed, strict=True):
            t = t0 if at == task.t0 else t1 if at == task.t1 else mp.mpf(at)
            parts[k] += term(*along(t), t, *theta, *(mp.mpf(float(d)) for d in data))
        return self.outer(*parts, *theta) if self.outer else parts[0]


def _check_flow(task: Task, flow: Flow, mp: Any, point: Sequence[Any]) -> None:
    """Pass if the flow starts at z0 and solves the equations along the span, to many digits."""
    equations, m, n = task.equations, task.m, task.equations.n_states
    theta, z0, t0, t1 = point[:m], point[m : m + n], point[m + n], point[m + n + 1]
    arguments = (*equations.states, equations.time, *equations.parameters)
    rhs = sp.lambdify(arguments, list(equations.rhs), [names_in(mp)])
    small = mp.mpf(10) ** -RESIDUAL
    try:
        begun = flow(t0, t0, z0, theta)
        ok = all(abs(a - b) <= small * (1 + abs(b)) for a, b in zip(begun, z0, strict=True))
        for share in (0.31, 0.77, 1.0):
            t = t0 + mp.mpf(share) * (t1 - t0)
            h = mp.mpf(10) ** STEP
            z = flow(t, t0, z0, theta)
            rate = [mp.im(v) / h for v in flow(t + mp.mpc(0, h), t0, [mp.re(v) for v in z0], theta)]
            f = rhs(*z, t, *theta)
            ok &= all(
                abs(a - b) <= small * (1 + abs(b) + abs(v))
                for a, b, v in zip(rate, f, z, strict=True)
            )
    except (ZeroDivisionError, ValueError, TypeError, OverflowError, mpmath.NoConvergence) as error:
        raise NoSolutionError(f"the closed form has no value here ({error})") from None
    if not ok:
        raise NoSolutionError("SymPy's solution does not solve the equations at this point")
