"""Conserved totals are those of the equations: all of them, and exactly."""

from __future__ import annotations

import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from symode.equations.equations import Equations
from symode.equations.text import parse_model
from symode.symbolic.conservation import conserved_totals
from symode.symbolic.lift import lift_field


def totals_of(equations: Equations, zeros=()) -> list[sp.Expr]:
    found = conserved_totals(lift_field(equations), equations.parameters, zeros)
    return [
        sp.Add(*(c * equations.states[i] for i, c in total.items())) for total in found.coefficients
    ]


def moves(total: sp.Expr, equations: Equations) -> sp.Expr:
    """Return d/dt of a total, simplified."""
    rates = zip(equations.states, equations.rhs, strict=True)
    return sp.simplify(sum(total.diff(s) * f for s, f in rates))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("s' = k2*c - k1*e*s; e' = (k2+k3)*c - k1*e*s; c' = k1*e*s - (k2+k3)*c; p' = k3*c",
         {"c + e", "c + p + s"}),
        ("a' = (k*b - j*a)/v; b' = (j*a - k*b)/w", {"a*v + b*w"}),
        ("a' = -(k1+k2)*a; b' = k1*a; c' = k2*a", {"a*k1 + b*(k1 + k2)", "a*k2 + c*(k1 + k2)"}),
        ("a' = -2*k*a^2; b' = k*a^2; c' = 0", {"a + 2*b", "c"}),
        ("a' = v*b/(K+b) - w*a; b' = w*a - v*b/(K+b)", {"a + b"}),
        ("a' = -k*a; b' = k*a - d*b", set()),
        ("x' = y; y' = -x", set()),
    ],
)  # fmt: skip
def test_totals_of_known_networks(text: str, wanted: set[str]) -> None:
    equations = parse_model(text)
    found = totals_of(equations)
    symbols = {s.name: s for s in (*equations.states, *equations.parameters)}
    expected = {sp.parse_expr(w, symbols) for w in wanted}
    assert {sp.expand(t) for t in found} == {sp.expand(t) for t in expected}


def test_parameters_that_are_zero_conserve_more() -> None:
    equations = parse_model("a' = s - k*a + j*b; b' = k*a - j*b; param k, j, s")
    assert not totals_of(equations)
    assert [str(t) for t in totals_of(equations, zeros=[2])] == ["a + b"]


complexes = st.lists(st.integers(0, 2), min_size=4, max_size=4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(complexes, complexes), min_size=1, max_size=4), st.booleans())
def test_a_mass_action_network_conserves_its_left_null_space(reactions, volumes) -> None:
    z = sp.symbols("z0:4")
    k = sp.symbols(f"k0:{len(reactions)}")
    v = sp.symbols("v0:4") if volumes else (1,) * 4
    columns = [[b - a for a, b in zip(*r, strict=True)] for r in reactions]
    rates = [rate * sp.Mul(*(s**a for s, a in zip(z, r[0], strict=True)))
             for rate, r in zip(k, reactions, strict=True)]  # fmt: skip
    rhs = [sum(column[i] * rate for column, rate in zip(columns, rates, strict=True)) / v[i]
           for i in range(4)]  # fmt: skip
    parameters = (*k, *(v if volumes else ()))
    equations = Equations(z, tuple(map(sp.sympify, rhs)), parameters, sp.Symbol("t"))
    found = totals_of(equations)
    # Reactions of one complex share their rate law: the species see one column for each.
    joint: dict[tuple[int, ...], sp.Matrix] = {}
    for rate, (complex_, _), column in zip(k, reactions, columns, strict=True):
        key = tuple(complex_)
        joint[key] = joint.get(key, sp.zeros(4, 1)) + rate * sp.Matrix(column)
    matrix = sp.Matrix.hstack(*joint.values()).applyfunc(sp.expand)
    assert len(found) == 4 - matrix.rank(simplify=True)
    for total in found:
        assert moves(total, equations) == 0
