"""Models with mass matrices whose solutions, or references, are known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import sympy as sp

import symode

t = sp.Symbol("t")


@dataclass(frozen=True, eq=False)
class ExactDae:
    """A model with its solution in closed form.

    ``solution`` is z(t) in the parameters, t, t0 and ``given``: the symbols of z0 as passed.
    """

    model: symode.Model
    solution: tuple[sp.Expr, ...]
    given: tuple[sp.Symbol, ...]
    t0: sp.Symbol
    theta: np.ndarray
    z0: np.ndarray


def coupled() -> ExactDae:
    """x' = -a y with 0 = b x + c t - y: x is linear, y follows it."""
    x, y, a, b, c = sp.symbols("x y a b c")
    x0, y0, t0 = sp.symbols("x0 y0 t0")
    model = symode.Model(
        {x: -a * y}, algebraic={y: b * x + c * t - y}, parameters=(a, b, c),
        initial={x: 2 + a * t, y: 1},
    )  # fmt: skip
    # x' = -a b x - a c t has the particular solution (c / b) (1 / (a b) - t).
    particular = c / b * (1 / (a * b) - t)
    course = particular + (x0 - particular.subs(t, t0)) * sp.exp(-a * b * (t - t0))
    theta, z0 = np.array([0.7, 1.3, 0.4]), np.array([1.9, 0.3])
    return ExactDae(model, (course, b * course + c * t), (x0, y0), t0, theta, z0)


def divider() -> ExactDae:
    """A capacitor between two resistors: M = C (1, -1; -1, 1) has neither zero row nor column."""
    x, y, a, r, s = sp.symbols("x y a r s")
    x0, y0, t0 = sp.symbols("x0 y0 t0")
    half = sp.Rational(1, 2)
    model = symode.Model(
        {x: a - x / r, y: -y / s}, parameters=(a, r, s), mass=[[half, -half], [-half, half]],
        initial={x: a, y: t},
    )  # fmt: skip
    # The sum of both equations holds no derivative; x - y charges through both resistors.
    charge = r * a + (x0 - y0 - r * a) * sp.exp(-(t - t0) / (half * (r + s)))
    y_course = s * (r * a - charge) / (r + s)
    theta, z0 = np.array([0.8, 1.5, 0.6]), np.array([0.4, 0.9])
    return ExactDae(model, (charge + y_course, y_course), (x0, y0), t0, theta, z0)


CASES = {"coupled": coupled, "divider": divider}


@cache
def robertson() -> tuple[symode.Model, symode.Model, np.ndarray]:
    """Robertson's kinetics with a conservation law, as rates alone, and the rate constants."""
    y1, y2, y3, k1, k2, k3 = sp.symbols("y1 y2 y3 k1 k2 k3")
    rates = {y1: -k1 * y1 + k3 * y2 * y3, y2: k1 * y1 - k3 * y2 * y3 - k2 * y2**2}
    start = {y1: 1, y2: 0, y3: 0}
    theta = (k1, k2, k3)
    dae = symode.Model(rates, theta, initial=start, algebraic={y3: y1 + y2 + y3 - 1})
    ode = symode.Model({**rates, y3: k2 * y2**2}, theta, initial=start)
    return dae, ode, np.array([0.04, 3e7, 1e4])


@cache
def akzo_nobel() -> tuple[symode.Model, np.ndarray, np.ndarray]:
    """Chemical Akzo Nobel, its parameters, and z(180) as published.

    Test Set for IVP Solvers (Bari/CWI), II-3: formation of 2-benzothiazolesulfenamide.
    """
    y1, y2, y3, y4, y5, y6 = y = sp.symbols("y1:7")
    k1, k2, k3, k4, K, kla, ks, po2, H = theta = sp.symbols("k1 k2 k3 k4 K kla Ks pO2 H")
    r1, r2, r3 = k1 * y1**4 * sp.sqrt(y2), k2 * y3 * y4, k2 / K * y1 * y5
    r4, r5 = k3 * y1 * y4**2, k4 * y6**2 * sp.sqrt(y2)
    inflow = kla * (po2 / H - y2)
    half = sp.Rational(1, 2)
    model = symode.Model(
        {
            y1: -2 * r1 + r2 - r3 - r4,
            y2: -half * r1 - r4 - half * r5 + inflow,
            y3: r1 - r2 + r3,
            y4: -r2 + r3 - 2 * r4,
            y5: r2 - r3 + r5,
        },
        algebraic={y6: ks * y1 * y4 - y6},
        parameters=theta,
        initial=dict(zip(y, (0.444, 0.00123, 0, 0.007, 0, 0), strict=True)),
    )
    values = np.array([18.7, 0.58, 0.09, 0.42, 34.4, 3.3, 115.83, 0.9, 737.0])
    end = np.array([
        0.1150794920661702, 0.1203831471567715e-2, 0.1611562887407974, 0.3656156421249283e-3,
        0.1708010885264404e-1, 0.4873531310307455e-2,
    ])  # fmt: skip
    return model, values, end


@cache
def amplifier() -> tuple[symode.Model, np.ndarray, np.ndarray]:
    """The transistor amplifier, its parameters, and z(0.2) as published.

    Test Set for IVP Solvers (Bari/CWI), II-9: eight node voltages, five capacitors.
    """
    y = sp.symbols("y1:9")
    ub, uf, alpha, beta, r = theta = sp.symbols("Ub UF alpha beta R")
    r0 = 1000
    signal = sp.Rational(1, 10) * sp.sin(200 * sp.pi * t)

    def current(u):
        return beta * (sp.exp(u / uf) - 1)

    g1, g2 = current(y[1] - y[2]), current(y[4] - y[5])
    rhs = [
        -signal / r0 + y[0] / r0,
        -ub / r + 2 * y[1] / r - (alpha - 1) * g1,
        -g1 + y[2] / r,
        -ub / r + y[3] / r + alpha * g1,
        -ub / r + 2 * y[4] / r - (alpha - 1) * g2,
        -g2 + y[5] / r,
        -ub / r + y[6] / r + alpha * g2,
        y[7] / r,
    ]
    c1, c2, c3, c4, c5 = (sp.Rational(k, 10**6) for k in range(1, 6))
    mass = sp.zeros(8, 8)
    for i, j, c in ((0, 1, c1), (3, 4, c3), (6, 7, c5)):
        mass[i, i] = mass[j, j] = -c
        mass[i, j] = mass[j, i] = c
    mass[2, 2], mass[5, 5] = -c2, -c4
    start = [0, ub / 2, ub / 2, ub, ub / 2, ub / 2, ub, 0]
    model = symode.Model(
        dict(zip(y, rhs, strict=True)), parameters=theta, time=t, mass=mass, initial=start
    )
    values = np.array([6.0, 0.026, 0.99, 1e-6, 9000.0])
    end = np.array([
        -0.5562145012262709e-2, 0.3006522471903042e1, 0.2849958788608128e1, 0.2926422536206241e1,
        0.2704617865010554e1, 0.2761837778393145e1, 0.4770927631616772e1, 0.1236995868091548e1,
    ])  # fmt: skip
    return model, values, end
