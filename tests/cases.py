"""Systems whose gradients are known: closed-form flows, losses, and their derivatives in 30 digits.

A flow is written in mpmath, so that J is an analytic function of everything it depends on, and one
complex step for each variable gives its derivative without cancellation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import mpmath
import numpy as np
import sympy as sp

import symode

T = sp.Symbol("t")
MP = mpmath.MPContext()
MP.dps = 40
STEP = MP.mpf(10) ** -30


@dataclass(frozen=True, eq=False)
class Case:
    """A model, a point, and the exact flow ``flow(t, t0, z0, theta) -> z(t)``."""

    name: str
    rhs: dict[sp.Symbol, sp.Expr]
    parameters: tuple[sp.Symbol, ...]
    initial: dict[sp.Symbol, sp.Expr]
    theta: tuple[float, ...]
    z0: tuple[float, ...]
    span: tuple[float, float]
    flow: Callable = field(repr=False)

    @property
    def states(self) -> tuple[sp.Symbol, ...]:
        return tuple(self.rhs)

    @property
    def model(self) -> symode.Model:
        return symode.Model(self.rhs, parameters=self.parameters, time=T, initial=self.initial)

    def reversed(self) -> Case:
        """Return the same case solved backwards in time."""
        return REVERSED[self.name]


def _decay() -> Case:
    x, k, s = sp.symbols("x k s")
    flow = lambda t, t0, z, p: [z[0] * MP.exp(-p[0] * (t - t0))]  # noqa: E731
    initial = {x: s * (2 + T / 3) + k}
    return Case("decay", {x: -k * x}, (k, s), initial, (0.7, 0.9), (2.1,), (0.3, 2.4), flow)


def _oscillator() -> Case:
    x, v, w, c = sp.symbols("x v omega zeta")

    def flow(t, t0, z, p):
        tau, w, c = t - t0, p[0], p[1]
        wd = w * MP.sqrt(1 - c * c)
        cos, sin, fade = MP.cos(wd * tau), MP.sin(wd * tau), MP.exp(-c * w * tau)
        slope = (z[1] + c * w * z[0]) / wd
        x = fade * (z[0] * cos + slope * sin)
        return [x, -c * w * x + fade * wd * (slope * cos - z[0] * sin)]

    rhs = {x: v, v: -(w**2) * x - 2 * c * w * v}
    initial = {x: w / 4 + T**2, v: sp.Rational(1, 2) - c * T}
    return Case("oscillator", rhs, (w, c), initial, (1.7, 0.15), (0.8, -0.4), (0.2, 2.0), flow)


def _logistic() -> Case:
    x, r, b, w, k = sp.symbols("x r b omega K")

    def flow(t, t0, z, p):
        # u = 1/x obeys u' = -rho(t) (u - 1/K).
        r, b, w, k = p
        grown = r * (t - t0) + r * b / w * (MP.sin(w * t) - MP.sin(w * t0))
        return [1 / (1 / k + (1 / z[0] - 1 / k) * MP.exp(-grown))]

    rhs = {x: r * (1 + b * sp.cos(w * T)) * x * (1 - x / k)}
    initial = {x: k / 8 + b * T}
    theta = (0.9, 0.4, 2.3, 1.6)
    return Case("logistic", rhs, (r, b, w, k), initial, theta, (0.3,), (0.5, 3.1), flow)


def _linear() -> Case:
    x, y, u, a, b, c = sp.symbols("x y u a b c")
    matrix = sp.Matrix([[-a, b, 0.25], [-2 * b, -c, a * b], [0.5 * c, -a, -0.125]])
    entries = sp.lambdify((a, b, c), matrix.tolist(), "mpmath")

    def flow(t, t0, z, p):
        return list(MP.expm(MP.matrix(entries(*p)) * (t - t0), method="taylor") * MP.matrix(z))

    states = (x, y, u)
    rhs = dict(zip(states, matrix * sp.Matrix(states), strict=True))
    initial = {x: a + T, y: b * c, u: 1 - T * c}
    theta, z0 = (0.6, 1.1, 0.35), (0.7, -0.5, 1.3)
    return Case("linear", rhs, (a, b, c), initial, theta, z0, (0.25, 1.85), flow)


CASES = (_decay(), _oscillator(), _logistic(), _linear())
REVERSED = {
    case.name: Case(
        case.name, case.rhs, case.parameters, case.initial, case.theta, case.z0, case.span[::-1],
        case.flow,
    )
    for case in CASES
}  # fmt: skip


# -- losses -------------------------------------------------------------------------------------


def _symbols(case: Case) -> tuple[sp.Symbol, sp.Symbol, sp.Symbol, sp.Symbol]:
    return case.states[0], case.states[-1], case.parameters[0], case.parameters[-1]


def _terminal(case: Case) -> sp.Expr:
    x, y, a, b = _symbols(case)
    return (x - 1) ** 2 + a * x * y + T * sp.sin(b) + T * y / 3


def _running(case: Case) -> sp.Expr:
    x, y, a, b = _symbols(case)
    return a * x**2 + T * y - sp.cos(b * T) / 4


def _at(case: Case, share: float) -> float:
    t0, t1 = case.span
    return t0 + share * (t1 - t0) if 0.0 < share < 1.0 else (t0, t1)[int(share)]


def _observed(case: Case, shares: tuple[float, ...]) -> list[tuple[float, sp.Expr]]:
    x, y, a, b = _symbols(case)
    expressions = (b * x**2 + T * y, (y - T) ** 2 / 2 + a * x)
    return [(_at(case, s), expressions[i % 2]) for i, s in enumerate(shares)]


#: Names to the parts of a loss. Observation times are neither sorted nor, in "repeated", distinct.
LOSSES: dict[str, Callable[[Case], dict]] = {
    "terminal": lambda case: {"terminal": _terminal(case)},
    "running": lambda case: {"running": _running(case)},
    "observations": lambda case: {"observations": _observed(case, (0.61, 0.0, 0.28, 1.0, 0.93))},
    "repeated": lambda case: {"observations": _observed(case, (0.47, 0.47, 1.0, 0.47, 1.0, 0.0))},
    "mixed": lambda case: {
        "terminal": _terminal(case),
        "running": _running(case),
        "observations": _observed(case, (0.0, 0.75, 0.35, 0.35, 1.0)),
    },
}


@dataclass(frozen=True)
class Exact:
    """J and its derivatives; ``theta`` and ``t0`` go through z0(theta, t0) where that counts."""

    value: float
    theta: np.ndarray
    z0: np.ndarray
    t0: float
    t1: float
    times: np.ndarray


@cache
def objective(name: str, loss: str, backwards: bool = False, from_initial: bool = False):
    """Return J in 40 digits as a function of (theta, z0, t0, t1, times), the point, m and n."""
    (case,) = (c for c in CASES if c.name == name)
    case = case.reversed() if backwards else case
    parts = LOSSES[loss](case)
    arguments = (*case.states, T, *case.parameters)
    lambdify = lambda e: sp.lambdify(arguments, e, "mpmath")  # noqa: E731
    start = [sp.lambdify((T, *case.parameters), e, "mpmath") for e in case.initial.values()]
    terminal = lambdify(parts["terminal"]) if "terminal" in parts else None
    running = lambdify(parts["running"]) if "running" in parts else None
    observed = [(t, lambdify(e)) for t, e in parts.get("observations", ())]
    m, n = len(case.theta), len(case.z0)
    point = [MP.mpf(v) for v in (*case.theta, *case.z0, *case.span, *(t for t, _ in observed))]

    def value(x):
        theta, z0, (t0, t1), times = x[:m], x[m : m + n], x[m + n : m + n + 2], x[m + n + 2 :]
        if from_initial:
            # z0 is then an offset: the derivative in it stays dJ/dz0.
            base = [s(t0, *theta) for s in start]
            z0 = [b + z - p for b, z, p in zip(base, z0, point[m : m + n], strict=True)]
        flow = lambda t: case.flow(t, t0, z0, theta)  # noqa: E731
        total = MP.mpf(0)
        if terminal:
            total += terminal(*flow(t1), t1, *theta)
        if running:
            along = lambda t: running(*flow(t), t, *theta)  # noqa: E731
            total += MP.quad(along, [t0, t1], method="gauss-legendre", maxdegree=3)
        for (at, term), t in zip(observed, times, strict=True):
            # Observations at the ends move with them.
            t = t0 if at == case.span[0] else t1 if at == case.span[1] else t
            total += term(*flow(t), t, *theta)
        return total

    return value, point, m, n


@cache
def exact(name: str, loss: str, backwards: bool = False, from_initial: bool = False) -> Exact:
    """Return the exact result of a case and a loss; z0 is the case's, or comes from its initial."""
    value, point, m, n = objective(name, loss, backwards, from_initial)
    slopes = []
    for i in range(len(point)):
        moved = [v + (1j * STEP if i == j else 0) for j, v in enumerate(point)]
        slopes.append(float(MP.im(value(moved)) / STEP))
    g = np.array(slopes)
    j = float(MP.re(value(point)))
    return Exact(j, g[:m], g[m : m + n], g[m + n], g[m + n + 1], g[m + n + 2 :])


@cache
def exact_hessian(
    name: str, loss: str, backwards: bool = False, from_initial: bool = False
) -> np.ndarray:
    """Return the second derivatives in (theta, z0), in theta alone where z0 comes from it.

    Central differences of complex steps.
    The difference is exact to the square of its step, 1e-24, in 40 digits.
    """
    value, point, m, n = objective(name, loss, backwards, from_initial)
    size, step = m if from_initial else m + n, MP.mpf(10) ** -12
    matrix = np.empty((size, size))
    for i in range(size):
        for j in range(i + 1):
            ends = []
            for sign in (1, -1):
                moved = list(point)
                moved[i] += sign * step
                moved[j] += 1j * STEP
                # SymPy's functions are those of mpmath's own context.
                with mpmath.workdps(MP.dps):
                    ends.append(MP.im(value(moved)) / STEP)
            matrix[i, j] = matrix[j, i] = float((ends[0] - ends[1]) / (2 * step))
    return matrix


# -- a system without a closed form ---------------------------------------------------------------


def _driven() -> tuple[symode.Model, symode.Loss, tuple[float, float], tuple[float, float]]:
    """Return model, loss, span and theta in which no term of a gradient is idle.

    Nonlinear, asymmetric, explicit in time, z0 in theta and t0, every kind of loss.
    """
    x, y, a, b = sp.symbols("x y a b")
    model = symode.Model(
        {x: a * x - b * x * y + sp.sin(T) / 5, y: x * y / 2 - a * y**2 + T / 10},
        parameters=[a, b], time=T, initial={x: 1 + a / 4 + T / 5, y: b + a * T / 3},
    )  # fmt: skip
    loss = symode.Loss(
        terminal=x * y + a**2 * x + T * b,
        running=b * x**2 + y / 3,
        observations={0.2: x**2 * a, 0.9: x * y + T * b * y, 1.4: y**2 - a * x, 2.0: x + T * y},
    )
    return model, loss, (0.2, 2.0), (0.8, 0.6)


DRIVEN = _driven()
