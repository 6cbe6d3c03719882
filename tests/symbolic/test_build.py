"""From SymPy to the graph: every function, exact numbers, stable shapes, depth."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import sympy as sp

from symode.codegen.reference import evaluate, mpmath_arithmetic
from symode.errors import UnsupportedFunctionError
from symode.symbolic.build import build
from symode.symbolic.graph import Builder, Graph

x, y = sp.symbols("x y", real=True)
PLAIN = sp.Symbol("u")


def graph_of(*expressions: sp.Basic) -> Graph:
    b = Builder()
    table = {x: b.input("z", 0), y: b.input("z", 1), PLAIN: b.input("z", 0)}
    return b.freeze(build(b, expressions, table))


def value(expression: sp.Basic, at: float, other: float = 0.7) -> float:
    return float(evaluate(graph_of(expression), 0.0, [at, other], [])[0])


def kinds(expression: sp.Basic) -> list[str]:
    return [op for op in graph_of(expression).ops if op not in ("const", "input")]


FUNCTIONS = [
    *(f(x) for f in (sp.exp, sp.sin, sp.cos, sp.tan, sp.asin, sp.acos, sp.atan, sp.sinh, sp.cosh)),
    *(f(x) for f in (sp.tanh, sp.asinh, sp.atanh, sp.erf, sp.erfc, sp.gamma, sp.loggamma)),
    *(
        f(x)
        for f in (sp.log, sp.sqrt, sp.Abs, sp.sign, sp.Heaviside, sp.floor, sp.ceiling, sp.frac)
    ),
    *(f(x) for f in (sp.cot, sp.sec, sp.csc, sp.coth, sp.sech, sp.csch, sp.digamma)),
    *(sp.acosh(1 + x), sp.trigamma(x), sp.polygamma(3, x), sp.factorial(x), sp.atan2(y, x)),
    *(x**y, 2**x, x**3, x**-4, x ** sp.Rational(5, 2), x ** sp.Rational(-3, 2), x**0.3),
    *(x ** sp.Rational(1, 3), x**-0.3, x**sp.pi, sp.Mod(7 * x, y), sp.Max(x, y, 0.2)),
    *(sp.Min(x, y, 0.6), sp.pi * x, sp.E**x, sp.Rational(1, 3) * x, x / 3 + sp.GoldenRatio),
    *(1 / (1 + sp.exp(-x)), sp.exp(x) / (1 + sp.exp(x)), (1 + sp.exp(x)) ** -3),
    sp.log(sp.exp(x) + 2 * sp.exp(y) + 1),
    sp.Piecewise((x, x < y), (y, True)),
    sp.Piecewise((1, sp.Eq(x, y)), (2, sp.Ne(x, y))),
    sp.Piecewise((x, (x < y) & (x > 0)), (y, (x >= 2) | ~(y <= 3)), (x * y, True)),
    sp.Piecewise((x, sp.ITE(x > 0, y > 1, y < 0)), (y, True)),
]


@pytest.mark.parametrize("expression", FUNCTIONS, ids=str)
@pytest.mark.parametrize("at", [0.37, 0.61])
def test_every_function_has_the_value_of_sympy(expression, at):
    expected = float(sp.N(expression.subs({x: sp.Rational(at), y: sp.Rational(0.7)}), 30))
    assert value(expression, at) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("expression", FUNCTIONS, ids=str)
def test_every_function_is_exact_in_any_precision(expression):
    mp = mpmath.MPContext()
    mp.dps = 50
    point = [mp.mpf(37) / 100, mp.mpf(7) / 10]
    (got,) = evaluate(graph_of(expression), 0, point, [], None, mpmath_arithmetic(mp))
    exact = {f: sp.Rational(f) for f in expression.atoms(sp.Float)}
    exact |= {x: sp.Rational(37, 100), y: sp.Rational(7, 10)}
    expected = mp.mpf(str(sp.N(expression.xreplace(exact), 55)))
    assert abs(got - expected) <= mp.mpf(10) ** -47


def test_symbols_without_assumptions_are_taken_as_real():
    assert value(PLAIN**2 + sp.Abs(PLAIN), -3.0) == 12.0


def test_floats_keep_their_exact_binary_value():
    graph = graph_of(sp.Float(0.1) * x)
    assert float(evaluate(graph, 0.0, [1.0, 0.0], [])[0]) == 0.1
    assert 0.1 in [
        float(p) for op, p in zip(graph.ops, graph.payloads, strict=True) if op == "const"
    ]
    assert value(sp.Float("0.1", 40) * x, 1.0) == 0.1


def test_a_float_exponent_with_an_integer_value_is_an_integer_power():
    assert kinds(x**3.0) == ["powi"]
    assert value(x**3.0, -2.0) == -8.0


def test_half_integer_powers_use_the_square_root():
    assert "pow" not in kinds(x ** sp.Rational(-7, 2))


def test_a_quotient_is_one_division():
    assert kinds(x / (y * (1 + x))).count("div") == 1
    assert kinds(sp.Rational(2, 3) * x / y).count("div") == 1


@pytest.mark.parametrize(
    ("expression", "at", "expected"),
    [
        (1 / (1 + sp.exp(-x)), -800.0, 0.0),
        (1 / (1 + sp.exp(-x)), 800.0, 1.0),
        (sp.exp(x) / (1 + sp.exp(x)), 800.0, 1.0),
        (y * sp.exp(x) / (1 + sp.exp(x)), 800.0, 0.7),
        (sp.log(sp.exp(x) + sp.exp(y)), 1000.0, 1000.0),
        (sp.log(1 + sp.exp(x)), 1000.0, 1000.0),
        (
            sp.log(3 * sp.exp(x) + 3 * sp.exp(x + y)),
            1000.0,
            1000.0 + math.log(3 * (1 + math.exp(0.7))),
        ),
        (sp.log(sp.exp(2 * x) + sp.exp(x) + 1), -1000.0, 0.0),
    ],
)
def test_exponentials_do_not_overflow_where_the_value_is_finite(expression, at, expected):
    assert value(expression, at) == pytest.approx(expected, rel=1e-15, abs=1e-300)


def test_no_branch_of_a_piecewise_is_undefined():
    assert math.isnan(value(sp.Piecewise((x, x > 0)), -1.0))
    assert math.isnan(value(sp.sign(x), math.nan))
    assert math.isnan(value(sp.Max(x, y), math.nan))


def test_steps_have_their_values_at_zero():
    assert value(sp.sign(x), 0.0) == 0.0
    assert value(sp.Heaviside(x), 0.0) == 0.5
    assert value(sp.Heaviside(x, 1), 0.0) == 1.0


def test_every_function_without_a_kernel_is_named_at_once():
    expression = sp.besselj(0, x) + sp.zeta(x) + sp.sin(x)
    with pytest.raises(
        UnsupportedFunctionError, match=r"(?s)besselj.*zeta|zeta.*besselj"
    ) as caught:
        graph_of(expression)
    assert len(caught.value.faults) == 2
    with pytest.raises(UnsupportedFunctionError, match="polygamma"):
        graph_of(sp.polygamma(9, x))
    with pytest.raises(UnsupportedFunctionError, match="not a finite real number"):
        graph_of(x + sp.I)
    with pytest.raises(UnsupportedFunctionError, match="symbol w"):
        graph_of(x + sp.Symbol("w"))


def deep(depth: int) -> sp.Expr:
    """Return sin(sin(... + x) + x) + x, made without SymPy's recursive evaluation."""
    e: sp.Expr = x
    for _ in range(depth):
        e = sp.Add(sp.sin(e, evaluate=False), x, evaluate=False)
    return e


def test_nesting_of_3000_and_more_is_no_obstacle():
    graph = graph_of(deep(3000))
    assert graph.n_operations == 6000
    expected = 0.1
    for _ in range(3000):
        expected = math.sin(expected) + 0.1
    assert float(evaluate(graph, 0.0, [0.1, 0.0], [])[0]) == pytest.approx(expected, rel=1e-12)


def test_nested_sigmoids_are_recognised_at_any_depth():
    e: sp.Expr = x
    for _ in range(3000):
        u = sp.exp(sp.Mul(-1, e, evaluate=False), evaluate=False)
        e = sp.Pow(sp.Add(1, u, evaluate=False), -1, evaluate=False)
    assert set(kinds(e)) == {"sigmoid"}


def test_equal_subtrees_in_distinct_objects_become_one_node():
    first = sp.sin(sp.Add(x, y, evaluate=False), evaluate=False)
    second = sp.sin(sp.Add(y, x, evaluate=False), evaluate=False)
    assert kinds(sp.Mul(first, second, evaluate=False)).count("sin") == 1


def test_values_are_those_of_numpy_on_arrays():
    points = np.linspace(0.1, 2.0, 7)
    z = np.stack([points, points[::-1]])
    got = evaluate(graph_of(sp.sin(x) * sp.exp(y), sp.Integer(3)), 0.0, z, [])
    np.testing.assert_allclose(got[0], np.sin(z[0]) * np.exp(z[1]), rtol=1e-15)
    np.testing.assert_array_equal(got[1], np.full(7, 3.0))
