"""Random small stiff systems with solutions known without the solvers they test.

Most families are scalar modes with closed-form flows, mixed by a unimodular matrix V (so that its
inverse is exact), scaled, forced, or bent by a nonlinear map: the right-hand side is then a full
nonlinear system, and its solution a formula. Mass action and relaxation oscillators are solved by
LSODA at two tight tolerances, whose difference estimates the error of the reference.

A structure (its equations) is compiled once and drawn from often: rates over eight decades, initial
values, span, direction of time, tolerance.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import sympy as sp
from scipy.integrate import odeint, solve_ivp

import symode
from symode.status import BLOW_UP, NO_CONVERGENCE, NONFINITE, STEP_TOO_SMALL

T = sp.Symbol("t")
Flow = Callable[[float, float, np.ndarray], np.ndarray]

#: Structures and their share of the cases.
FAMILIES = {
    "linear": 3, "forced": 2, "curve": 3, "logistic": 2, "bent": 3, "blow_up": 2, "pole": 1,
    "quench": 1, "mass_action": 3, "oscillator": 2,
}  # fmt: skip
#: What a failure may be called where the solution ends before the span does.
CAUSES = {
    "blow_up": {BLOW_UP},
    "pole": {BLOW_UP, STEP_TOO_SMALL, NONFINITE, NO_CONVERGENCE},
    "quench": {STEP_TOO_SMALL, NONFINITE, NO_CONVERGENCE},
}


# -- scalar modes: (right-hand side of symbols, flow of numbers) ----------------------------------


@dataclass(frozen=True)
class Mode:
    """e' = rhs(e, t, parameters) for one or two components, and its flow."""

    width: int
    names: tuple[str, ...]
    rhs: Callable
    flow: Callable  # (t0, t1, e0 of shape (k, width), parameters) -> (k, width)


def _damped(t0, t1, e, p):
    return e * math.exp(-min(p[0] * (t1 - t0), 745.0))


def _spiral(t0, t1, e, p):
    c, s = math.cos(p[1] * (t1 - t0)), math.sin(p[1] * (t1 - t0))
    fade = math.exp(-min(p[0] * (t1 - t0), 745.0))
    return fade * np.stack([c * e[:, 0] - s * e[:, 1], s * e[:, 0] + c * e[:, 1]], axis=1)


def _forced(t0, t1, e, p):
    rate, a, w, phase = p

    def settled(t):
        return a * (rate * math.cos(w * t + phase) + w * math.sin(w * t + phase)) / (rate**2 + w**2)

    return settled(t1) + (e - settled(t0)) * math.exp(-min(rate * (t1 - t0), 745.0))


def _bernoulli(t0, t1, e, p):
    fade = math.exp(-min(p[0] * (t1 - t0), 745.0))
    return e * fade / np.sqrt(1 + p[1] / p[0] * e**2 * (1 - fade**2))


def _logistic(t0, t1, e, p):
    return 1 / (1 + (1 / e - 1) * math.exp(-min(p[0] * (t1 - t0), 745.0)))


def _square(t0, t1, e, p):
    left = 1 - p[0] * e * (t1 - t0)
    return np.where(left > 0, e / left, np.nan)


def _pole(t0, t1, e, p):
    return e + p[0] / (p[1] - t1) - p[0] / (p[1] - t0) if t1 < p[1] else np.full_like(e, np.nan)


def _quench(t0, t1, e, p):
    return np.sqrt(e**2 - p[0] * (t1 - t0))


MODES = {
    "decay": Mode(1, ("r",), lambda e, t, p: [-p[0] * e[0]], _damped),
    "spiral": Mode(
        2, ("r", "w"),
        lambda e, t, p: [-p[0] * e[0] - p[1] * e[1], p[1] * e[0] - p[0] * e[1]], _spiral,
    ),
    "forced": Mode(
        1, ("r", "a", "w", "h"), lambda e, t, p: [-p[0] * e[0] + p[1] * sp.cos(p[2] * t + p[3])],
        _forced,
    ),
    "bernoulli": Mode(
        1, ("r", "c"), lambda e, t, p: [-p[0] * e[0] - p[1] * e[0] ** 3], _bernoulli
    ),
    "logistic": Mode(1, ("r",), lambda e, t, p: [p[0] * e[0] * (1 - e[0])], _logistic),
    "square": Mode(1, ("r",), lambda e, t, p: [p[0] * e[0] ** 2], _square),
    "pole": Mode(1, ("a", "s"), lambda e, t, p: [p[0] / (p[1] - t) ** 2], _pole),
    "quench": Mode(1, ("a",), lambda e, t, p: [-p[0] / (2 * e[0])], _quench),
}  # fmt: skip


# -- cases -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class StiffCase:
    """One initial value problem; the solution ends at ``t_end`` where that is before t1."""

    family: str
    structure: Structure
    theta: np.ndarray
    z0: np.ndarray
    span: tuple[float, float]
    rtol: float
    scale: np.ndarray  # the size of each state, for atol and for norms
    t_end: float = math.inf

    @property
    def atol(self) -> np.ndarray:
        return self.rtol * 1e-3 * self.scale

    @property
    def exists(self) -> bool:
        """Whether there is a solution up to t1."""
        return abs(self.span[1] - self.span[0]) < self.t_end

    @cached_property
    def reference(self) -> tuple[np.ndarray, float]:
        """The state at t1, and the relative error of this reference."""
        z, error = self.structure.solve(self.theta, self.z0[None], *self.span, self.rtol, self)
        return z[0], error

    def norm(self, z: np.ndarray) -> float:
        return float(np.linalg.norm(z / self.scale))

    def error(self, z: np.ndarray) -> float:
        """Return the error at t1 in tolerances: of the norm scaled by the sizes of the states."""
        exact, _ = self.reference
        return self.norm(z - exact) / self.tolerance(exact)

    def tolerance(self, z: np.ndarray) -> float:
        """Return rtol |z| + |atol| in the scaled norm."""
        return self.rtol * self.norm(z) + self.norm(self.atol)

    @cached_property
    def condition(self) -> float:
        """What errors of one tolerance, made at any one time, become at t1, in tolerances.

        The solution is disturbed by rtol |z_i| + atol_i in each component at several times, and
        followed to t1.
        """
        exact, _ = self.reference
        t0, t1 = self.span
        worst = 1.0
        for share in self.structure.times_of_disturbance:
            s = t0 + share * (t1 - t0)
            z, _ = self.structure.solve(self.theta, self.z0[None], t0, s, self.rtol, self)
            d = self.rtol * np.abs(z[0]) + self.atol
            moved = np.concatenate([z + np.diag(d), z - np.diag(d)])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found, _ = self.structure.solve(self.theta, moved, s, t1, self.rtol, self)
            gaps = np.abs(found - exact)
            if not np.isfinite(gaps).all():
                return math.inf
            total = np.maximum(gaps[: d.size], gaps[d.size :]).sum(axis=0)
            worst = max(worst, self.norm(total) / self.tolerance(exact))
        return worst


class Structure:
    """The equations of a family, compiled once."""

    family: str
    n: int
    model: symode.Model
    sign: float  # -1 where time runs backwards
    #: Shares of the span: most of what is fast happens at its beginning.
    times_of_disturbance = (0.0, 1e-6, 1e-4, 1e-2, 0.1, 0.3, 0.6, 0.9, 0.99)

    def solve(self, theta, z, t0, t1, rtol, case) -> tuple[np.ndarray, float]:
        """Return the states at t1 of solutions through rows of z at t0, and a relative error."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator) -> StiffCase:
        """Return a random case of this structure."""
        raise NotImplementedError


def unimodular(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an integer matrix of determinant 1 or -1, and its inverse."""
    lower = np.tril(rng.integers(-1, 2, (n, n)), -1) + np.eye(n, dtype=int)
    upper = np.triu(rng.integers(-1, 2, (n, n)), 1) + np.eye(n, dtype=int)
    v = (lower @ upper)[rng.permutation(n)]
    return v, np.rint(np.linalg.inv(v)).astype(int)


@dataclass(eq=False)
class Modal(Structure):
    """z = S (g(t) + V e), or S bent(e): modes with closed-form flows, mixed."""

    family: str
    n: int
    modes: list[str]
    v: np.ndarray
    inverse: np.ndarray
    scale: np.ndarray
    curved: bool  # z relaxes to S g(t)
    bend: str  # "" or the function h of z_i = e_i + q_i h(e_{i-1})
    sign: float
    model: symode.Model = field(init=False, repr=False)

    def __post_init__(self) -> None:
        z = sp.symbols(f"z1:{self.n + 1}")
        names = [f"{n}{i}" for i, m in enumerate(self.modes) for n in MODES[m].names]
        names += [f"q{i}" for i in range(self.n)] if self.bend else []
        names += [f"{c}{i}" for i in range(self.n) for c in "gwh"] if self.curved else []
        self.names = names
        p = dict(zip(names, sp.symbols(" ".join(names), seq=True), strict=True))
        t = self.sign * T if self.sign < 0 else T
        scaled = [s / sp.Float(c) if c != 1 else s for s, c in zip(z, self.scale, strict=True)]
        if self.bend:
            e = self._unbend(scaled, p)
        else:
            shift = self._curve(t, p)[0] if self.curved else [sp.S.Zero] * self.n
            gap = [s - g for s, g in zip(scaled, shift, strict=True)]
            e = [sum(int(c) * s for c, s in zip(row, gap, strict=True)) for row in self.inverse]
        slopes, at = [], 0
        for i, name in enumerate(self.modes):
            mode = MODES[name]
            values = [p[f"{n}{i}"] for n in mode.names]
            slopes += mode.rhs(e[at : at + mode.width], t, values)
            at += mode.width
        if self.bend:
            h = self._bends()[1]
            rates = [slopes[0]]
            for i in range(1, self.n):
                rates.append(slopes[i] + p[f"q{i}"] * h(e[i - 1], sp) * slopes[i - 1])
        else:
            rates = [sum(int(c) * s for c, s in zip(row, slopes, strict=True)) for row in self.v]
            if self.curved:
                rates = [r + g for r, g in zip(rates, self._curve(t, p)[1], strict=True)]
        rhs = {
            s: sp.Float(self.sign * c) * r if self.sign * c != 1 else r
            for s, c, r in zip(z, self.scale, rates, strict=True)
        }
        used = [p[name] for name in names]
        self.model = symode.Model(rhs, parameters=used, time=T)

    def _bends(self):
        return {
            "square": (lambda e, m: e**2, lambda e, m: 2 * e),
            "ratio": (lambda e, m: e / (1 + e**2), lambda e, m: (1 - e**2) / (1 + e**2) ** 2),
            "sine": (lambda e, m: m.sin(e), lambda e, m: m.cos(e)),
        }[self.bend]

    def _unbend(self, z, p):
        h, e = self._bends()[0], [z[0]]
        for i in range(1, self.n):
            e.append(z[i] - p[f"q{i}"] * h(e[-1], sp))
        return e

    def _curve(self, t, p):
        shift = [p[f"g{i}"] * sp.sin(p[f"w{i}"] * t + p[f"h{i}"]) for i in range(self.n)]
        slope = [
            p[f"g{i}"] * p[f"w{i}"] * sp.cos(p[f"w{i}"] * t + p[f"h{i}"]) for i in range(self.n)
        ]
        return shift, slope

    def solve(self, theta, z, t0, t1, rtol, case):
        p = dict(zip(self.names, theta, strict=True))
        u0, u1 = self.sign * t0, self.sign * t1

        def curve(u):
            return np.array(
                [p[f"g{i}"] * math.sin(p[f"w{i}"] * u + p[f"h{i}"]) for i in range(self.n)]
            )

        e = z / self.scale
        if self.bend:
            h = self._bends()[0]
            e = e.copy()
            for i in range(1, self.n):
                e[:, i] -= p[f"q{i}"] * h(e[:, i - 1], np)
        else:
            e = (e - (curve(u0) if self.curved else 0.0)) @ self.inverse.T
        moved, at = np.empty_like(e), 0
        for i, name in enumerate(self.modes):
            mode = MODES[name]
            values = [p[f"{n}{i}"] for n in mode.names]
            part = slice(at, at + mode.width)
            moved[:, part] = mode.flow(u0, u1, e[:, part], values)
            at += mode.width
        if self.bend:
            for i in range(self.n - 1, 0, -1):
                moved[:, i] += p[f"q{i}"] * h(moved[:, i - 1], np)
        else:
            moved = moved @ self.v.T + (curve(u1) if self.curved else 0.0)
        return moved * self.scale, 1e-14

    def draw(self, rng):
        duration = 10.0 ** rng.uniform(-2, 2)
        t0 = rng.choice([0.0, duration * rng.normal()])
        p: dict[str, float] = {}
        e = rng.uniform(0.3, 1.5, self.n) * rng.choice([-1, 1], self.n)
        t_end, at = math.inf, 0
        for i, name in enumerate(self.modes):
            # Eight decades of rates, from a hundredth of the span to a million to the span.
            rate = 10.0 ** rng.uniform(-2, 6) / duration
            values = {
                "decay": (rate,), "spiral": (rate, rng.uniform(-15, 15) / duration),
                "forced": (
                    rate, rate * rng.uniform(0.2, 2), rng.uniform(0.5, 12) / duration,
                    rng.uniform(0, 6),
                ),
                "bernoulli": (rate, rate * 10.0 ** rng.uniform(-2, 1)), "logistic": (rate,),
            }.get(name)  # fmt: skip
            if name == "decay" and self.family == "linear" and rng.random() < 0.2:
                values = (-rng.uniform(0.1, 5) / duration,)
            if name == "logistic":
                e[at] = rng.uniform(0.05, 2.0)
            if name in ("square", "pole", "quench"):
                # Half of the spans end before the solution does: at 20 to 95 per cent of it.
                e[at] = abs(e[at])
                share = rng.uniform(0.2, 0.95) if rng.random() < 0.5 else rng.uniform(1.05, 4)
                t_end = duration / share
                if name == "square":
                    values = (1 / (e[at] * t_end),)
                elif name == "pole":
                    values = (t_end * rng.uniform(0.2, 2), self.sign * t0 + t_end)
                else:
                    values = (e[at] ** 2 / t_end,)
            p |= {f"{n}{i}": v for n, v in zip(MODES[name].names, values, strict=True)}
            at += MODES[name].width
        for i in range(self.n):
            p[f"q{i}"] = rng.uniform(-2, 2)
            p |= {
                f"g{i}": rng.uniform(0.2, 2),
                f"w{i}": rng.uniform(0.5, 12) / duration,
                f"h{i}": rng.uniform(0, 6),
            }
        theta = np.array([p[name] for name in self.names])
        if self.bend:
            h = self._bends()[0]
            z0 = e.copy()
            for i in range(1, self.n):
                z0[i] += p[f"q{i}"] * h(e[i - 1], np)
        else:
            u = self.sign * t0
            z0 = self.v @ e
            if self.curved:
                z0 = z0 + [
                    p[f"g{i}"] * math.sin(p[f"w{i}"] * u + p[f"h{i}"]) for i in range(self.n)
                ]
        span = (t0, t0 + self.sign * duration)
        rtol = 10.0 ** rng.uniform(-9, -4)
        return StiffCase(
            self.family, self, theta, z0 * self.scale, span, rtol, self.scale.copy(), t_end
        )


def _modal(rng: np.random.Generator, family: str) -> Modal:
    n = int(rng.integers(1, 7))
    pool = {
        "linear": ("decay", "spiral"), "forced": ("forced", "decay"),
        "curve": ("bernoulli", "decay"), "logistic": ("logistic", "decay", "bernoulli"),
        "bent": ("decay", "forced", "logistic", "bernoulli"), "blow_up": ("decay", "bernoulli"),
        "pole": ("decay", "forced"), "quench": ("decay", "bernoulli"),
    }[family]  # fmt: skip
    first = {"blow_up": "square", "pole": "pole", "quench": "quench"}.get(family)
    modes: list[str] = [first] if first else []
    while (left := n - sum(MODES[m].width for m in modes)) > 0:
        name = str(rng.choice(pool))
        if MODES[name].width <= left:
            modes.append(name)
    v, inverse = unimodular(rng, n)
    if family in ("bent", "quench") or rng.random() < 0.15:
        v = inverse = np.eye(n, dtype=int)
    scale = 2.0 ** rng.integers(-12, 13, n) if rng.random() < 0.4 else np.ones(n)
    bend = str(rng.choice(["square", "ratio", "sine"])) if family == "bent" and n > 1 else ""
    sign = -1.0 if rng.random() < 0.25 else 1.0
    return Modal(family, n, modes, v, inverse, scale, family == "curve", bend, sign)


# -- families with a numerical reference -----------------------------------------------------------


@dataclass(eq=False)
class Numerical(Structure):
    """Equations solved by LSODA, twice; SciPy's Radau decides where these two disagree."""

    family: str
    rhs: dict[sp.Symbol, sp.Expr]
    parameters: tuple[sp.Symbol, ...]
    values: Callable  # rng -> (theta, z0, duration, sizes)
    sign: float
    times_of_disturbance = (0.0, 1e-5, 1e-2, 0.3, 0.8)

    def __post_init__(self) -> None:
        self.n = len(self.rhs)
        states = tuple(self.rhs)
        rows = [self.sign * e for e in self.rhs.values()]
        self.model = symode.Model(dict(zip(states, rows, strict=True)), parameters=self.parameters)
        f = sp.lambdify((states, self.parameters), rows, "math")
        jac = sp.lambdify(
            (states, self.parameters), sp.Matrix(rows).jacobian(states).tolist(), "math"
        )
        self.f, self.jac = f, jac

    def solve(self, theta, z, t0, t1, rtol, case):
        found, worst = [], 0.0
        for row in z:
            one, error = self._one(theta, row, t0, t1, rtol, case)
            found.append(one)
            worst = max(worst, error)
        return np.array(found), worst

    def _one(self, theta, z, t0, t1, rtol, case):
        if t0 == t1:
            return z, 0.0
        # LSODA integrates forward; the systems are autonomous.
        span, s = [0.0, abs(t1 - t0)], math.copysign(1.0, t1 - t0)
        f, jac, p = self.f, self.jac, tuple(theta)
        found = []
        for tight in (1e-13, 1e-11):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                y, info = odeint(
                    lambda y, t: [s * v for v in f(y, p)], z, span,
                    Dfun=lambda y, t: [[s * v for v in row] for row in jac(y, p)], rtol=tight,
                    atol=tight * 1e-6 * case.scale, mxstep=200_000, full_output=True,
                )  # fmt: skip
            ok = info["message"] == "Integration successful."
            found.append(y[1] if ok else np.full(self.n, np.nan))
        gap = case.norm(found[0] - found[1]) / max(case.norm(found[0]), 1e-300)
        if gap <= 10 * rtol:
            return found[0], gap
        # The tighter run is the better one, unless rounding stopped it: ask another method.
        other = solve_ivp(
            lambda t, y: [s * v for v in f(y, p)], span, z, method="Radau", rtol=1e-12,
            atol=1e-18 * case.scale, jac=lambda t, y: [[s * v for v in row] for row in jac(y, p)],
        )  # fmt: skip
        if not other.success:
            return np.full(self.n, np.nan), math.inf
        y = other.y[:, -1]
        gaps = [case.norm(y - f) / max(case.norm(y), 1e-300) for f in found]
        return y, float(np.nanmin([*gaps, math.inf]))

    def draw(self, rng):
        theta, z0, duration, scale = self.values(rng)
        span = (0.0, self.sign * duration)
        rtol = 10.0 ** rng.uniform(-9, -4)
        return StiffCase(self.family, self, np.array(theta), np.array(z0), span, rtol, scale)


def _mass_action(rng: np.random.Generator) -> Numerical:
    """Return a network of up to eight reactions of order two; none makes more than it takes."""
    n = int(rng.integers(2, 7))
    z = sp.symbols(f"z1:{n + 1}")
    count = int(rng.integers(2, 9))
    k = sp.symbols(f"k1:{count + 1}")
    rhs = dict.fromkeys(z, sp.S.Zero)
    inflow = []
    for j in range(count):
        order = int(rng.choice([0, 1, 1, 2, 2]))
        taken = [int(i) for i in rng.integers(0, n, order)]
        made = [int(i) for i in rng.integers(0, n, max(1, int(rng.integers(0, order + 1))))]
        if order == 0:
            made = made[:1]
            inflow.append(j)
        rate = k[j] * sp.Mul(*(z[i] for i in taken))
        for i in taken:
            rhs[z[i]] -= rate
        for i in made:
            rhs[z[i]] += rate

    def values(rng):
        duration = 10.0 ** rng.uniform(-1, 3)
        rates = 10.0 ** rng.uniform(-2, 6, count) / duration
        for j in inflow:
            rates[j] = 10.0 ** rng.uniform(-2, 0.5) / duration
        start = rng.uniform(0.1, 1.5, n) * (rng.random(n) < 0.7)
        return rates, start, duration, np.ones(n)

    sign = -1.0 if rng.random() < 0.15 else 1.0
    return Numerical("mass_action", rhs, k, values, sign)


def _oscillator(rng: np.random.Generator) -> Numerical:
    x, y, w, eps, a, b = sp.symbols("x y w eps a b")
    kind = str(rng.choice(["van_der_pol", "fitzhugh", "oregonator", "flame"]))
    one, two = np.ones(1), np.ones(2)
    if kind == "van_der_pol":
        rhs: dict = {x: y, y: ((1 - x**2) * y - x) / eps}
        parameters: tuple = (eps,)

        def values(rng):
            e = 10.0 ** rng.uniform(-7, 0)
            sizes = np.array([1.0, 1.0 / math.sqrt(e)])
            return [e], [rng.uniform(1.2, 2.2), rng.normal()], rng.uniform(0.1, 3), sizes
    elif kind == "fitzhugh":
        rhs = {x: (x - x**3 / 3 - y + a) / eps, y: x + b - y / 2}
        parameters = (eps, a, b)

        def values(rng):
            theta = [10.0 ** rng.uniform(-6, -1), rng.uniform(-0.5, 1), rng.uniform(0, 1)]
            return theta, rng.normal(size=2), rng.uniform(0.1, 5), two
    elif kind == "oregonator":
        rhs = {
            x: a * (y + x * (1 - b * x - y)), y: (w - (1 + x) * y) / a, w: eps * (x - w),
        }  # fmt: skip
        parameters = (a, b, eps)

        def values(rng):
            theta = [
                77.27 * rng.uniform(0.7, 1.3),
                8.375e-6 * rng.uniform(0.5, 2),
                rng.uniform(0.1, 0.3),
            ]
            sizes = np.array([1e2, 1.0, 1e2])
            return (
                theta,
                [rng.uniform(1, 3), rng.uniform(1, 3), rng.uniform(1, 3)],
                10.0 ** rng.uniform(0, 2),
                sizes,
            )
    else:
        rhs = {x: a * (x**2 - x**3)}
        parameters = (a,)

        def values(rng):
            delta = 10.0 ** rng.uniform(-5, -1)
            return [rng.uniform(0.5, 2)], [delta], rng.uniform(0.3, 3) / delta, one

    return Numerical("oscillator", rhs, parameters, values, 1.0)


def structure(family: str, seed: int) -> Structure:
    """Return the random equations of a family that belong to a seed."""
    rng = np.random.default_rng([seed, sorted(FAMILIES).index(family)])
    if family == "mass_action":
        return _mass_action(rng)
    if family == "oscillator":
        return _oscillator(rng)
    return _modal(rng, family)


def cases(count: int, seed: int, draws: int = 25):
    """Yield cases, ``draws`` in a row of each structure, the families in turn."""
    rng = np.random.default_rng(seed)
    turn = [family for family, share in FAMILIES.items() for _ in range(share)]
    made = 0
    for number in range(count):
        family = turn[number % len(turn)]
        equations = structure(family, int(rng.integers(2**31)))
        for _ in range(min(draws, count - made)):
            yield equations.draw(rng)
            made += 1
        if made >= count:
            return
