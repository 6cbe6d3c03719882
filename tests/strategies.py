"""Hypothesis strategies: models of any size, in functions that stay finite at every point."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sympy as sp
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from symode.symbolic.build import build
from symode.symbolic.derive import Field
from symode.symbolic.graph import Builder

TIME = sp.Symbol("t", real=True)


def examples(count: int) -> settings:
    """Return settings that do not depend on how busy the machine is."""
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Case:
    """A model in SymPy, and its field."""

    states: tuple[sp.Symbol, ...]
    parameters: tuple[sp.Symbol, ...]
    rhs: tuple[sp.Expr, ...]

    @cached_property
    def field(self) -> Field:
        return field_of(self.states, self.parameters, self.rhs)

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.states), len(self.parameters)

    def point(self, seed: int, low: float = 0.3, high: float = 1.9) -> tuple:
        """Return (t, z, theta, direction of states and parameters, weights)."""
        n, m = self.sizes
        rng = np.random.default_rng(seed)
        values = rng.uniform(low, high, 1 + n + m)
        return (
            values[0],
            values[1 : 1 + n],
            values[1 + n :],
            rng.normal(size=n + m),
            rng.normal(size=n),
        )


def field_of(states, parameters, rhs, time=TIME) -> Field:
    """Return the field of SymPy right-hand sides."""
    b = Builder()
    table = {time: b.input("t", 0)}
    table |= {s: b.input("z", i) for i, s in enumerate(states)}
    table |= {s: b.input("p", i) for i, s in enumerate(parameters)}
    return Field(
        b.freeze(build(b, list(map(sp.sympify, rhs)), table)), len(states), len(parameters)
    )


# Every function is bounded or of slow growth, so that nested ones stay within double range.
SMOOTH = (
    sp.sin,
    sp.cos,
    sp.tanh,
    sp.atan,
    sp.erf,
    sp.asinh,
    lambda u: sp.exp(-(u**2)),
    lambda u: sp.log(1 + u**2),
    lambda u: sp.sqrt(1 + u**2),
    lambda u: 1 / (1 + sp.exp(-u)),
    lambda u: sp.gamma(2 + sp.sin(u)),
    lambda u: sp.loggamma(2 + sp.cos(u)),
    lambda u: sp.asin(sp.sin(u) / 2),
    lambda u: sp.acos(sp.cos(u) / 2),
    lambda u: sp.tan(sp.sin(u)),
    lambda u: sp.sinh(sp.cos(u)),
    lambda u: sp.cosh(sp.sin(u)),
    lambda u: sp.atanh(sp.sin(u) / 2),
    lambda u: sp.acosh(2 + u**2),
    lambda u: sp.erfc(u / 3),
    lambda u: u**2 / (1 + u**2),
    lambda u: (2 + sp.cos(u)) ** sp.Rational(5, 2),
    lambda u: (1 + u**2) ** -2,
)
SMOOTH_PAIRS = (
    lambda u, v: u + v,
    lambda u, v: u - v,
    lambda u, v: u * v / (1 + u**2),
    lambda u, v: u / (2 + v**2),
    lambda u, v: (2 + sp.sin(u)) ** sp.cos(v),
    lambda u, v: sp.atan2(u, 2 + v**2),
    lambda u, v: sp.log(sp.exp(sp.sin(u)) + sp.exp(v / (1 + v**2))),
)
KINKED = (sp.Abs, sp.sign, sp.Heaviside, sp.floor, lambda u: sp.sqrt(sp.Abs(u)))
KINKED_PAIRS = (
    sp.Max,
    sp.Min,
    lambda u, v: sp.Piecewise((u, sp.Lt(u, v)), (v * u, True)),
    lambda u, v: sp.Piecewise((sp.log(u), u > 1), (sp.sqrt(1 - v), v < 1), (u * v, True)),
    lambda u, v: sp.Piecewise((u, (u > v) & (v > 0)), (v, sp.Or(u < 0, sp.Not(v > 1))), (1, True)),
)
ARITHMETIC_PAIRS = (
    lambda u, v: u + v,
    lambda u, v: u - v,
    lambda u, v: u * v,
    lambda u, v: u / v,
)


def expressions(symbols, unary, binary, size: int = 6) -> st.SearchStrategy[sp.Expr]:
    """Return expressions of a few operations in the given symbols."""
    numbers = st.sampled_from([sp.Integer(2), sp.Rational(1, 3), sp.Float(-0.75), sp.pi])
    leaves = st.one_of(st.sampled_from(list(symbols)), st.sampled_from(list(symbols)), numbers)

    def extend(children):
        options = [st.builds(lambda f, u, v: f(u, v), st.sampled_from(binary), children, children)]
        if unary:
            options.append(st.builds(lambda f, u: f(u), st.sampled_from(unary), children))
        return st.one_of(options)

    found = st.recursive(leaves, extend, max_leaves=size).map(sp.sympify)
    return found.filter(lambda e: not e.has(sp.zoo, sp.nan, sp.oo))


@st.composite
def models(draw, unary=SMOOTH, binary=SMOOTH_PAIRS, n=(1, 3), m=(0, 3), size: int = 6) -> Case:
    """Return models with n states and m parameters between the given bounds."""
    states = sp.symbols(f"x0:{draw(st.integers(*n))}", real=True)
    parameters = sp.symbols(f"k0:{draw(st.integers(*m))}", real=True)
    entries = expressions([*states, *parameters, TIME], unary, binary, size)
    rhs = draw(st.lists(entries, min_size=len(states), max_size=len(states)))
    return Case(tuple(states), tuple(parameters), tuple(rhs))


def smooth_models(**options) -> st.SearchStrategy[Case]:
    """Return models with derivatives of every order."""
    return models(**options)


def kinked_models(**options) -> st.SearchStrategy[Case]:
    """Return models with branches, absolute values and the like."""
    return models(unary=SMOOTH + KINKED, binary=SMOOTH_PAIRS + KINKED_PAIRS, **options)


def arithmetic_models(**options) -> st.SearchStrategy[Case]:
    """Return models of the four basic operations."""
    return models(unary=(), binary=ARITHMETIC_PAIRS, **options)


def seeds() -> st.SearchStrategy[int]:
    """Return seeds for `Case.point`."""
    return st.integers(0, 2**32 - 1)
