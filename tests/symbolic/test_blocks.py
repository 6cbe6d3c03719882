"""Blocks are exact, have the note's rows and columns, and exist at kinks."""

import random

import numpy as np
import pytest
import sympy as sp

from symode.equations.inputs import from_mapping
from symode.equations.text import parse_model
from symode.errors import ModelError, UnsupportedFunctionError
from symode.symbolic import differentiate
from symode.symbolic.blocks import dfdt, dfdtheta, dfdz, jacobian, sparsity
from symode.symbolic.build import build
from symode.symbolic.graph import Builder

x, y, z, a, b, t = sp.symbols("x y z a b t")
p = sp.Symbol("p", positive=True)


def test_rows_are_equations_and_columns_are_variables():
    # By hand, on a system without any symmetry: n = 2, m = 3.
    eq = from_mapping({x: p * x * y**2 + t**2, y: sp.sin(a * x) - b * t}, parameters=(b, p, a))
    assert dfdz(eq) == sp.Matrix([[p * y**2, 2 * p * x * y], [a * sp.cos(a * x), 0]])
    assert dfdt(eq) == sp.Matrix([2 * t, -b])
    assert dfdtheta(eq) == sp.Matrix([[0, x * y**2, 0], [-t, 0, x * sp.cos(a * x)]])


def test_a_model_without_parameters_has_an_empty_block():
    eq = from_mapping({x: -x, y: x})
    assert dfdtheta(eq).shape == (2, 0)
    assert sparsity(dfdtheta(eq)).shape == (2, 0)


def test_patterns_are_true_where_an_entry_is_not_zero():
    eq = from_mapping({x: y * a, y: 0.0 * x + t, z: x + z}, parameters=(a,))
    expected = [[False, True, False], [False, False, False], [True, False, True]]
    assert sparsity(dfdz(eq)).tolist() == expected
    assert sparsity(dfdtheta(eq)).tolist() == [[True], [False], [False]]


KINKS = {
    sp.Abs(x * y): y * sp.sign(x * y),
    sp.sign(x): 0,
    sp.Heaviside(x - a): 0,
    sp.floor(x) * x: sp.floor(x),
    sp.ceiling(x) + x: 1,
    sp.frac(x): 1,
    sp.Mod(x**2, y): 2 * x,
    sp.Max(x**2, y): sp.Piecewise((0, y >= x**2), (2 * x, True)),
    sp.Min(a, x): sp.Piecewise((0, a <= x), (1, True)),
    sp.Piecewise((x**2, x > y), (y, True)): sp.Piecewise((2 * x, x > y), (0, True)),
    sp.Piecewise((x + 1, x > y), (x, True)): 1,
    sp.Piecewise((1, x > 0), (2, True)): 0,
    sp.sqrt(sp.Abs(x)): sp.sign(x) / (2 * sp.sqrt(sp.Abs(x))),
    sp.Abs(sp.log(x)): sp.sign(sp.log(x)) / x,
}


@pytest.mark.parametrize("expression", KINKS, ids=str)
def test_kinks_have_their_derivative_almost_everywhere(expression):
    (entry,) = jacobian([expression], [x])
    assert entry == KINKS[expression]
    assert not entry.has(sp.Derivative, sp.DiracDelta, sp.Subs)


def test_a_tie_goes_to_the_first_argument_as_in_the_graph():
    largest = sp.Max(2 * x, x**2, evaluate=False)
    (entry,) = jacobian([largest], [x])
    first, second = largest.args
    assert entry.subs(x, 2) == first.diff(x).subs(x, 2) != second.diff(x).subs(x, 2)


def test_powers_are_finite_at_zero():
    n = sp.Symbol("n")
    of_base, of_exponent = jacobian([x**n], [x, n])
    assert of_base == n * x ** (n - 1)
    assert of_base.subs(n, 1).subs(x, 0) == 1
    assert of_exponent == x**n * sp.log(x)


SMOOTH = [
    x**3 * sp.exp(-a * x) / (1 + x**2),
    sp.log(x) ** a + sp.sqrt(x * y),
    sp.atan2(x * a, y + x**2),
    sp.sin(x) * sp.cos(x * y) * sp.tan(x / 3),
    sp.asin(x / 4) + sp.acos(x / 5) + sp.atan(x),
    sp.sinh(x) + sp.cosh(x * a) + sp.tanh(x) + sp.asinh(x) + sp.atanh(x / 9),
    sp.erf(x) + sp.erfc(a * x) + sp.gamma(x + 1) + sp.loggamma(x * y) + sp.polygamma(0, x),
    x**x,
    (x + y * a) ** (x - a),
    2.5**x + sp.log(sp.exp(x) + sp.exp(a * x)),
]


@pytest.mark.parametrize("expression", SMOOTH, ids=str)
def test_smooth_expressions_have_the_derivative_sympy_finds_to_fifty_digits(expression):
    rng = random.Random(0)
    for symbol, entry in zip((x, a), jacobian([expression], [x, a]), strict=True):
        for _ in range(5):
            at = {s: sp.Rational(rng.randint(20, 199), 100) for s in (x, y, a)}
            error = (entry - expression.diff(symbol)).subs(at).evalf(50, maxn=200, chop=True)
            assert abs(error) < sp.Float("1e-45")


def test_entries_are_equal_to_the_graphs():
    text = "x' = max(a*x, y)^2/(1 + abs(y)); y' = if(x > y, x*y, sqrt(x)) - b*log(1 + x*y)"
    eq = parse_model(text)
    builder = Builder()
    symbols = [*eq.states, *eq.parameters]
    nodes = {s: builder.input("z", i) for i, s in enumerate(symbols)}
    matrix = jacobian(eq.rhs, symbols)
    # Derivatives hold nothing the graph could not hold.
    assert len(build(builder, matrix.flat(), nodes)) == 8
    rng = np.random.default_rng(0)
    for _ in range(20):
        at = dict(zip(symbols, map(float, rng.uniform(0.5, 2.0, 4)), strict=True))
        for i, f in enumerate(eq.rhs):
            for j, symbol in enumerate(symbols):
                h = 1e-6
                up, down = ({**at, symbol: at[symbol] + s} for s in (h, -h))
                slope = (f.subs(up) - f.subs(down)) / (2 * h)
                # Central differences: truncation and rounding both of order 1e-9 here.
                assert float(matrix[i, j].subs(at)) == pytest.approx(float(slope), abs=1e-7)


def test_symbols_keep_their_assumptions_in_the_blocks():
    eq = from_mapping({p: sp.Abs(p - a)}, parameters=(a,))
    assert dfdz(eq).free_symbols == {p, a}


def test_a_function_without_derivative_is_named():
    g = sp.Function("g")
    with pytest.raises(UnsupportedFunctionError, match=r"g\(x\) in its argument 1 is not known"):
        jacobian([g(x) * y], [x])
    assert jacobian([g(x) * y], [y]) == sp.Matrix([[g(x)]])


def test_an_expression_too_deep_for_sympy_is_refused_with_its_depth(monkeypatch):
    def overflow(*_):
        raise RecursionError

    # Where SymPy overflows depends on the recursion limit, and finding out can take seconds.
    monkeypatch.setattr(differentiate, "_derivative", overflow)
    deep = parse_model("x' = " + "sin(1 + " * 1000 + "x" + ")" * 1000)
    with pytest.raises(ModelError, match=r"sin\(\.\.\.\) is nested 2001 deep"):
        dfdz(deep)
