"""The sweeps: transposes of each other, equal to SymPy's derivatives, and of bounded cost."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from strategies import (
    TIME,
    Case,
    arithmetic_models,
    examples,
    field_of,
    kinked_models,
    seeds,
    smooth_models,
)

from benchmarks.systems import TABLE, brusselator, mlp, network, with_products
from symode.codegen.reference import COMPLEX, FLOATS, Arithmetic, evaluate, mpmath_arithmetic
from symode.symbolic.derive import (
    FIELD_KERNELS,
    Field,
    augmented,
    derive_dense,
    derive_dfdtheta,
    derive_djac,
    derive_jvp,
    derive_second,
    derive_vjp,
)
from symode.symbolic.graph import LEAVES, Builder
from symode.symbolic.rules import OPERATIONS

DIGITS = 50


@pytest.fixture(scope="module")
def exact() -> Arithmetic:
    context = mpmath.MPContext()
    context.dps = DIGITS
    return mpmath_arithmetic(context)


# -- transposition --------------------------------------------------------------------------------


def dot(a, b):
    """Return the inner product and the sum of the magnitudes of its terms."""
    terms = np.asarray(a, dtype=float) * np.asarray(b, dtype=float)
    return terms.sum(), np.abs(terms).sum()


@examples(60)
@given(case=kinked_models(), seed=seeds())
def test_vjp_is_the_transpose_of_jvp(case, seed):
    t, z, theta, v, lam = case.point(seed)
    left, size_left = dot(lam, evaluate(derive_jvp(case.field), t, z, theta, v))
    right, size_right = dot(v, evaluate(derive_vjp(case.field), t, z, theta, lam))
    if math.isfinite(left) and math.isfinite(right):
        # Rounding only: both products sum the same terms, each good to a few dozen roundings.
        assert left == pytest.approx(right, abs=1e-13 * (size_left + size_right) + 1e-300)


@examples(40)
@given(case=smooth_models(), seed=seeds())
def test_second_is_the_transpose_of_djac(case, seed):
    t, z, theta, v, _ = case.point(seed)
    weights = np.random.default_rng(seed).normal(size=len(case.field.jacobian.graph.outputs))
    left, size_left = dot(weights, evaluate(derive_djac(case.field), t, z, theta, v))
    right, size_right = dot(v, evaluate(derive_second(case.field), t, z, theta, weights))
    assert left == pytest.approx(right, abs=1e-11 * (size_left + size_right) + 1e-300)


@examples(40)
@given(case=smooth_models(), seed=seeds())
def test_a_complex_step_through_f_is_the_jvp(case, seed):
    t, z, theta, v, _ = case.point(seed)
    n = len(z)
    h = 1e-30
    stepped = evaluate(
        case.field.graph, t, z + 1j * h * v[:n], theta + 1j * h * v[n:], None, COMPLEX
    )
    product = evaluate(derive_jvp(case.field), t, z, theta, v)
    np.testing.assert_allclose(stepped.imag / h, product, rtol=1e-10, atol=1e-11)


# -- equal to SymPy -------------------------------------------------------------------------------


def in_sympy() -> Arithmetic:
    """Return arithmetic on SymPy expressions, to read a graph back."""
    binary = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "mul0": lambda a, b: a * b,
        "div": lambda a, b: a / b,
        "div0": lambda a, b: a / b,
        "pow": lambda a, b: a**b,
        "slope": lambda power, a, b: a ** (b - 1),
        "powi": lambda n, a: a**n,
        "neg": lambda a: -a,
    }
    names = ("exp", "log", "sin", "cos", "tan", "atan", "sinh", "cosh", "tanh", "sqrt")
    functions = {name: getattr(sp, name) for name in names}
    functions["abs"] = sp.Abs
    return Arithmetic("sympy", sp.sympify, sp.nan, {**binary, **functions}, list)


x, y, k, c = sp.symbols("x y k c", positive=True)
READABLE = [
    (x * k - x * y, x * y - c * y),
    (k * x**2 / (c**2 + x**2), -y / (1 + x)),
    (c * x**k, y ** (k - 1) * sp.log(x)),
    (sp.exp(-k * x) * sp.sin(c * TIME), sp.sqrt(x * y)),
    (sp.tanh(k * x + c), sp.cos(TIME) * sp.atan(x / y)),
    (sp.cosh(k * x) / y, x ** sp.Rational(5, 2) * y**-3),
]


@pytest.mark.parametrize("rhs", READABLE, ids=str)
def test_blocks_equal_those_of_sympy_symbolically(rhs):
    field = field_of((x, y), (k, c), rhs)
    got = evaluate(derive_dense(field.graph, 2, 2), TIME, [x, y], [k, c], None, in_sympy())
    symbols = [x, y, k, c, TIME]
    expected = [e for f in rhs for e in (f, *(sp.diff(f, s) for s in symbols))]
    for g, e in zip(got, expected, strict=True):
        assert sp.simplify(g - e) == 0


def assert_blocks_equal_sympy(case: Case, n_points: int, seed: int, exact: Arithmetic) -> None:
    """Compare f and every entry of SymPy's Jacobian at random points in 50 digits."""
    n, m = case.sizes
    symbols = [*case.states, *case.parameters, TIME]
    # SymPy would multiply Floats in their own 15 digits; the graph keeps them exact.
    floats = {x: sp.Rational(x) for f in case.rhs for x in f.atoms(sp.Float)}
    rhs = [f.xreplace(floats) for f in case.rhs]
    blocks = [e for f in rhs for e in (f, *(sp.diff(f, s) for s in symbols))]
    expected_at = sp.lambdify(symbols, blocks, "mpmath")
    graph = derive_dense(case.field.graph, n, m)
    rng = np.random.default_rng(seed)
    for point in rng.uniform(0.3, 1.9, (n_points, len(symbols))):
        values = evaluate(graph, point[-1], point[:n], point[n:-1], None, exact)
        with mpmath.workdps(DIGITS + 5):
            expected = [exact.number(mpmath.mpf(e)) for e in expected_at(*map(mpmath.mpf, point))]
        for value, e in zip(values, expected, strict=True):
            assert abs(value - e) <= 1e-44 * (1 + abs(e))


@examples(40)
@given(case=smooth_models(size=4), seed=seeds())
def test_blocks_equal_those_of_sympy_in_50_digits(exact, case, seed):
    assert_blocks_equal_sympy(case, 1, seed, exact)


@pytest.mark.parametrize(
    "system",
    [network(5, 14), mlp(2, 4, 3, 2), brusselator(3)],
    ids=lambda system: system.title,
)
def test_blocks_of_systems_equal_those_of_sympy_at_20_points(system, exact):
    case = Case(system.states, system.parameters, system.rhs)
    assert_blocks_equal_sympy(case, 20, 1, exact)


@examples(40)
@given(case=kinked_models(size=5), seed=seeds())
def test_with_kinks_the_jvp_is_the_difference_quotient(exact, case, seed):
    t, z, theta, v, _ = case.point(seed)
    n = len(z)
    numbers = [list(map(exact.number, part)) for part in (z, theta, v)]
    zz, pp, vv = numbers
    h = exact.number(0.5) ** 70
    sides = [
        evaluate(
            case.field.graph,
            t,
            [a + s * h * d for a, d in zip(zz, vv[:n], strict=True)],
            [a + s * h * d for a, d in zip(pp, vv[n:], strict=True)],
            None,
            exact,
        )
        for s in (1, -1)
    ]
    got = evaluate(derive_jvp(case.field), t, zz, pp, vv, exact)
    for g, high, low in zip(got, *sides, strict=True):
        quotient = (high - low) / (2 * h)
        if quotient == quotient and abs(quotient) < 1e15:  # undefined, or across a jump
            assert abs(g - quotient) <= 1e-20 * (1 + abs(quotient))


# -- derived kernels agree ------------------------------------------------------------------------


@examples(30)
@given(case=smooth_models(), seed=seeds())
def test_all_kernels_hold_the_same_derivatives(case, seed):
    t, z, theta, v, lam = case.point(seed)
    n, m = case.sizes
    field = case.field
    jac = field.jacobian
    values = evaluate(jac.graph, t, z, theta)
    dfdz = np.zeros((n, n))
    dfdz[jac.rows, jac.cols] = values[: len(jac.rows)]
    dfdtheta = evaluate(derive_dfdtheta(field), t, z, theta).reshape(n, m)
    f = evaluate(field.graph, t, z, theta)
    vjp = evaluate(derive_vjp(field), t, z, theta, lam)
    close = {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(vjp, [*(lam @ dfdz), *(lam @ dfdtheta)], **close)
    jvp = evaluate(derive_jvp(field), t, z, theta, v)
    np.testing.assert_allclose(jvp, dfdz @ v[:n] + dfdtheta @ v[n:], **close)
    dense = evaluate(derive_dense(field.graph, n, m), t, z, theta).reshape(n, 2 + n + m)
    blocks = np.column_stack([f, dfdz, dfdtheta, values[len(jac.rows) :]])
    np.testing.assert_allclose(dense, blocks, **close)
    q = np.concatenate([z, lam, theta * 0])
    expected = np.concatenate([f, -vjp])
    np.testing.assert_allclose(evaluate(augmented(field).graph, t, q, theta), expected, **close)


# -- cost -----------------------------------------------------------------------------------------


def stated_bound(field: Field) -> int:
    """Return the operations f and its vector-Jacobian products may need.

    Per node of the graph: itself, what its rule adds, and one addition per argument; and one
    addition per output, where outputs share a node.
    """
    graph = field.graph
    nodes = [(op, args) for op, args in zip(graph.ops, graph.args, strict=True) if op not in LEAVES]
    sweep = sum(OPERATIONS[op] + len(args) for op, args in nodes)
    return graph.n_operations + sweep + field.n_states


@examples(100)
@given(case=kinked_models(size=12))
def test_the_cost_of_the_vjp_is_bounded_per_operation(case):
    assert with_products(case.field).n_operations <= stated_bound(case.field)


@examples(100)
@given(case=arithmetic_models(size=15, n=(1, 4), m=(0, 4)))
def test_arithmetic_costs_at_most_five_times_f(case):
    # A product costs two products and two additions more, a quotient a quotient, a product, two
    # additions and a sign, which the addition absorbs unless it is the last.
    n, m = case.sizes
    cost = case.field.graph.n_operations
    assert with_products(case.field).n_operations <= 5 * cost + n + m


@pytest.mark.parametrize("make", TABLE, ids=lambda make: make().title)
def test_on_whole_systems_f_and_both_products_cost_at_most_three_times_f(make):
    field = make().field()
    assert with_products(field).n_operations <= 3.0 * field.graph.n_operations


@pytest.mark.parametrize("n", [20, 40, 80, 160])
def test_the_cost_does_not_grow_with_the_number_of_parameters(n):
    few, many = network(n, 2 * n + 1).field(), network(n, 6 * n).field()
    ratio = [with_products(f).n_operations / f.graph.n_operations for f in (few, many)]
    assert max(ratio) <= 3.2


# -- depth ----------------------------------------------------------------------------------------


def test_sweeps_pass_through_nesting_of_3000():
    b = Builder()
    e = state = b.input("z", 0)
    theta = b.input("p", 0)
    for _ in range(3000):
        e = b.add(b.mul(theta, b.unary("sin", e)), state)
    field = Field(b.freeze([e]), 1, 1)
    graphs = {name: derive(field) for name, (_, derive) in FIELD_KERNELS.items()}
    z, p = [0.3], [0.4]
    v = [0.7, -0.2]
    assert evaluate(graphs["jvp"], 0.0, z, p, v, FLOATS)[0] == pytest.approx(
        np.dot(v, evaluate(graphs["vjp"], 0.0, z, p, [1.0])), rel=1e-12
    )
    # The recurrence by hand: e' = theta sin(e) + z.
    value, slope = z[0], 1.0
    for _ in range(3000):
        value, slope = p[0] * math.sin(value) + z[0], p[0] * math.cos(value) * slope + 1.0
    assert evaluate(graphs["jac"], 0.0, z, p)[0] == pytest.approx(slope, rel=1e-12)
