"""Every derivative rule against differences in 60 digits, and its behaviour where slopes end."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import sympy as sp
from strategies import field_of

from symode.codegen.reference import FLOATS, evaluate, mpmath_arithmetic
from symode.equations.pieces import TableFamily
from symode.equations.table import Table
from symode.symbolic.adjoint import adjoint_sweep
from symode.symbolic.derive import derive_jvp, derive_scalar, derive_second, derive_vjp
from symode.symbolic.graph import LEAVES, Builder, Graph
from symode.symbolic.rules import MAX_POLYGAMMA, OPERATIONS, RULES
from symode.symbolic.tangent import tangent_sweep

BINARY = ("add", "sub", "mul", "mul0", "div", "div0", "pow", "atan2", "logaddexp", "max", "min")
LOGIC = ("lt", "le", "eq", "ne", "and", "or", "not")

#: Arguments at which no symmetry hides a wrong sign or factor.
POINTS = {
    "asin": [(0.37,), (-0.81,)],
    "acos": [(0.37,), (-0.81,)],
    "atanh": [(0.37,), (-0.81,)],
    "acosh": [(1.37,), (7.1,)],
    "sqrt": [(0.37,), (7.1,)],
    "log": [(0.37,), (7.1,)],
    "gamma": [(0.37,), (7.1,), (-1.3,)],
    "loggamma": [(0.37,), (7.1,), (-1.3,)],
    "polygamma": [(0.37,), (7.1,), (-1.3,)],
    "pow": [(0.37, 1.9), (2.3, -0.7)],
    "slope": [(0.37, 1.9), (2.3, -0.7)],
    "select": [(0.37, 1.9), (1.9, 0.37)],
}
TABLES = TableFamily(
    tuple(Table([-2, 0.1, 0.9, 3], row, "cubic").pieces for row in ([1, 4, 2, 7], [3, -1, 5, 0]))
)
DEFAULT_POINTS = {1: [(0.37,), (-1.3,)], 2: [(0.37, 1.9), (-1.3, 0.6), (2.3, -0.7)]}


def single(op: str, payload: int | None = None) -> Graph:
    """Return the graph of one operation on inputs z[0], z[1]."""
    b = Builder()
    x, y = b.input("z", 0), b.input("z", 1)
    if op == "powi":
        node = b.powi(x, payload or 5)
    elif op == "polygamma":
        node = b.unary(op, x, payload or 0)
    elif op == "table":
        node = b.node(op, (x, y), TABLES)
    elif op == "select":
        node = b.select(b.compare("lt", x, y), b.input("z", 0), b.input("z", 1))
    elif op == "slope":
        node = b.slope(b.binary("pow", x, y), x, y)
    elif op in LOGIC:
        conditions = [b.compare("lt", x, y), b.compare("le", x, b.const(1))]
        node = b.node(op, {"not": (conditions[0],), "and": tuple(conditions)}.get(op, (x, y)))
        if op == "or":
            node = b.node(op, tuple(conditions))
        node = b.select(node, b.const(2), b.const(3))
    else:
        node = b.node(op, (x, y) if op in BINARY else (x,))
    return b.freeze([node])


CASES = [(op, None) for op in RULES if op != "polygamma"]
CASES += [("powi", n) for n in (2, 3, 6)] + [("polygamma", n) for n in range(MAX_POLYGAMMA + 1)]


@pytest.fixture
def mp():
    context = mpmath.MPContext()
    context.dps = 60
    return context


def points_of(op: str) -> list[tuple[float, ...]]:
    return POINTS.get(op) or DEFAULT_POINTS[2 if op in BINARY or op in LOGIC else 1]


def at(graph: Graph, point, mp):
    z = [mp.mpf(x) for x in point] + [mp.mpf(0)] * (2 - len(point))
    return evaluate(graph, 0, z, [], [mp.mpf(1)] * 8, mpmath_arithmetic(mp))


def partial(graph: Graph, point, k: int, mp, output: int = 0):
    """Return a derivative by central differences: error below 1e-36 at 60 digits."""
    h = mp.mpf(10) ** -20
    high, low = ([mp.mpf(x) for x in point] for _ in range(2))
    high[k] += h
    low[k] -= h
    return (at(graph, high, mp)[output] - at(graph, low, mp)[output]) / (2 * h)


@pytest.mark.parametrize(("op", "payload"), CASES, ids=lambda x: str(x))
def test_every_rule_is_the_derivative(op, payload, mp):
    graph = single(op, payload)
    gradient = derive_scalar(graph, 2, 0)
    for point in points_of(op):
        values = at(gradient, point, mp)
        doubles = evaluate(gradient, 0.0, [*point, 0.0][:2], [], [], FLOATS)
        for k in range(len(point)):
            expected = partial(graph, point, k, mp)
            assert abs(values[1 + k] - expected) <= mp.mpf(10) ** -34 * (1 + abs(expected))
            assert doubles[1 + k] == pytest.approx(float(expected), rel=2e-13, abs=1e-15)


@pytest.mark.parametrize(("op", "payload"), CASES, ids=lambda x: str(x))
def test_rules_can_be_differentiated_again(op, payload, mp):
    if op == "polygamma" and payload == MAX_POLYGAMMA:
        pytest.skip("the highest order has one derivative")
    graph = single(op, payload)
    gradient = derive_scalar(graph, 2, 0)
    for output in range(3):
        b = Builder(gradient)
        entry = b.freeze([gradient.outputs[output]])
        hessian = derive_scalar(entry, 2, 0)
        for point in points_of(op):
            values = at(hessian, point, mp)
            for k in range(len(point)):
                expected = partial(entry, point, k, mp)
                assert abs(values[1 + k] - expected) <= mp.mpf(10) ** -34 * (1 + abs(expected))


@pytest.mark.parametrize(("op", "payload"), CASES, ids=lambda x: str(x))
def test_the_tangent_sweep_uses_the_same_rules(op, payload, mp):
    graph = single(op, payload)
    gradient = derive_scalar(graph, 2, 0)
    b = Builder(graph)
    moved = {b.input("z", 0): b.input("v", 0), b.input("z", 1): b.input("v", 1)}
    tangent = b.freeze(tangent_sweep(b, graph.outputs, moved))
    for point in points_of(op):
        z = [mp.mpf(x) for x in (*point, 0.0)[:2]]
        dz = [mp.mpf("0.7"), mp.mpf("-1.9")]
        (got,) = evaluate(tangent, 0, z, [], dz, mpmath_arithmetic(mp))
        values = at(gradient, point, mp)
        expected = sum(values[1 + k] * dz[k] for k in range(len(point)))
        assert abs(got - expected) <= mp.mpf(10) ** -50 * (1 + abs(expected))


@pytest.mark.parametrize("op", RULES)
def test_every_rule_costs_no_more_than_stated(op):
    graph = single(op)
    b = Builder(graph)
    inputs = [b.input("z", 0), b.input("z", 1)]
    products = adjoint_sweep(b, graph.outputs, [b.input("v", 0)], inputs)
    added = b.freeze([*graph.outputs, *products]).n_operations - graph.n_operations
    # One addition per argument at most joins what reaches the same input.
    n_arguments = sum(len(a) for a, o in zip(graph.args, graph.ops, strict=True) if o not in LEAVES)
    assert added <= sum(OPERATIONS[o] for o in graph.ops if o not in LEAVES) + n_arguments
    if op not in (*LOGIC, "select", "slope"):
        assert added == OPERATIONS[op]


def test_rules_exist_for_what_the_bound_covers():
    assert set(RULES) == set(OPERATIONS)


# -- where slopes end: no NaN where the true derivative is finite ----------------------------------

x, y, n = sp.symbols("x y n", real=True)
POSITIVE = sp.Symbol("c", positive=True)
PIECES = sp.Piecewise((sp.log(x), x > 0), (x**2 * y, True))
ROOTS = sp.Piecewise((sp.sqrt(x - 1) * y, x > 1), (sp.Rational(5, 2) * y, True))

#: (expression, (x, y), its derivatives in x and y). Infinite ones are written as such.
EDGES = [
    # d/dn x**n = x**n log x tends to 0 at x = 0.
    (x**y, (0.0, 2.0), (0.0, 0.0)),
    (x**y, (0.0, 1.0), (1.0, 0.0)),
    (x**y, (0.0, 2.5), (0.0, 0.0)),
    (x**y, (0.0, 0.5), (math.inf, 0.0)),
    (x**y, (-2.0, 3.0), (12.0, -8.0 * math.log(2.0))),
    (2**x, (0.0, 1.0), (math.log(2.0), 0.0)),
    (x**2.25, (0.0, 1.0), (0.0, 0.0)),
    (x ** sp.Rational(1, 3) * y, (0.0, 0.0), (0.0, 0.0)),
    (x**3 / (y**3 + x**3), (0.0, 2.0), (0.0, 0.0)),
    (x**y / (1 + x**y), (0.0, 2.0), (0.0, 0.0)),
    # The square root at 0, times something that is 0.
    (x * sp.sqrt(x), (0.0, 1.0), (0.0, 0.0)),
    (y * sp.sqrt(x), (0.0, 0.0), (0.0, 0.0)),
    (x ** sp.Rational(5, 2), (0.0, 1.0), (0.0, 0.0)),
    (sp.sqrt(x**2 + y**2), (0.0, 0.0), (0.0, 0.0)),
    (sp.sqrt(x), (0.0, 1.0), (math.inf, 0.0)),
    (y * sp.asin(x), (1.0, 0.0), (0.0, math.pi / 2)),
    (y * sp.acosh(x), (1.0, 0.0), (0.0, 0.0)),
    (sp.atan2(x, y) * (x**2 + y**2), (0.0, 0.0), (0.0, 0.0)),
    # Branches not taken, whose value or slope does not exist.
    (PIECES, (-1.5, 2.0), (-6.0, 2.25)),
    (PIECES, (0.0, 2.0), (0.0, 0.0)),
    (ROOTS, (0.5, 2.0), (0.0, 2.5)),
    (ROOTS, (1.0, 2.0), (0.0, 2.5)),
    (sp.Piecewise((y / x, sp.Ne(x, 0)), (y, True)), (0.0, 2.0), (0.0, 1.0)),
    (sp.Piecewise((sp.log(sp.sqrt(x) + y), x > 0), (y, True)), (-1.0, 2.0), (0.0, 1.0)),
    (sp.Max(sp.sqrt(x), y), (0.0, 1.0), (0.0, 1.0)),
    (sp.Min(sp.log(x), y), (1.0, -1.0), (0.0, 1.0)),
    (sp.Min(1 / x, y), (0.0, 3.0), (0.0, 1.0)),
    # Kinks: the derivative almost everywhere.
    (sp.Abs(x) * y, (0.0, 2.0), (0.0, 0.0)),
    (sp.Abs(x) * y, (-3.0, 2.0), (-2.0, 3.0)),
    (sp.sign(x) * y, (-3.0, 2.0), (0.0, -1.0)),
    (sp.sign(x) * y, (0.0, 2.0), (0.0, 0.0)),
    (sp.Heaviside(x) * y, (3.0, 2.0), (0.0, 1.0)),
    (sp.Heaviside(x) * y, (0.0, 2.0), (0.0, 0.5)),
    (sp.Heaviside(x - 1) * sp.sqrt(x - 1), (2.0, 2.0), (0.5, 0.0)),
    (sp.floor(x) * y, (2.5, 2.0), (0.0, 2.0)),
    (sp.Max(x, y), (3.0, 2.0), (1.0, 0.0)),
    (sp.Min(x, y, 1), (0.5, 2.0), (1.0, 0.0)),
    # Saturation: an exponential overflows next to an exact 0.
    (y / (1 + sp.exp(-x)), (-800.0, 2.0), (0.0, 0.0)),
    (y / (1 + sp.exp(-x)), (800.0, 2.0), (0.0, 1.0)),
    (y * (1 + sp.exp(-x)) ** -2, (-800.0, 2.0), (0.0, 0.0)),
    (y * sp.exp(x) / (1 + sp.exp(x)), (800.0, 2.0), (0.0, 1.0)),
    (y / (3 + sp.exp(-x)), (-800.0, 2.0), (0.0, 0.0)),
    (y / sp.cosh(x), (800.0, 2.0), (0.0, 0.0)),
    (y / sp.sinh(x), (-800.0, 2.0), (0.0, 0.0)),
    (y * sp.tanh(x), (800.0, 2.0), (0.0, 1.0)),
    (y / sp.gamma(x), (200.0, 2.0), (0.0, 0.0)),
    (y * sp.exp(-(x**2)), (1e200, 2.0), (0.0, 0.0)),
    (sp.log(1 + sp.exp(x)) * y, (800.0, 2.0), (2.0, 800.0)),
    (sp.log(1 + sp.exp(x)) * y, (-800.0, 2.0), (0.0, 0.0)),
    (sp.log(sp.exp(x) + sp.exp(y)), (1000.0, 1000.0), (0.5, 0.5)),
    (sp.log(sp.exp(x) + 2 * sp.exp(y) + 1), (1000.0, 3.0), (1.0, 0.0)),
    (sp.log(sp.exp(-x) + sp.exp(-y)), (1000.0, 1000.0), (-0.5, -0.5)),
]


def same(got, expected):
    for g, e in zip(got, expected, strict=True):
        assert g == pytest.approx(e, rel=1e-13, abs=1e-300)


@pytest.mark.parametrize(("expression", "point", "expected"), EDGES, ids=str)
def test_no_nan_where_the_derivative_exists(expression, point, expected):
    field = field_of((x, y), (), [expression, 0 * x])
    same(evaluate(derive_vjp(field), 0.0, point, [], [1.0, 0.0]), expected)
    same(evaluate(field.jacobian.graph, 0.0, point, [], []), _nonzero(field, expected))
    if all(map(math.isfinite, expected)):
        for direction in ([1.0, 0.0], [0.0, 1.0], [0.5, -2.0]):
            got = evaluate(derive_jvp(field), 0.0, point, [], direction)
            same(got, [np.dot(direction, expected), 0.0])


def _nonzero(field, expected):
    return [*(expected[j] for j in field.jacobian.cols), 0.0, 0.0]


@pytest.mark.parametrize(("expression", "point", "expected"), EDGES, ids=str)
def test_an_exact_zero_weight_gives_exact_zeros(expression, point, expected):
    vjp = derive_vjp(field_of((x, y), (), [expression, 0 * x]))
    same(evaluate(vjp, 0.0, point, [], [0.0, 0.0]), [0.0, 0.0])


@pytest.mark.parametrize(
    ("expression", "point", "expected"),
    [
        (x**y, (0.0, 3.0), (0.0, 0.0)),
        (x**y, (0.0, 2.0), (2.0, 0.0)),
        (x**y, (0.0, 2.5), (0.0, 0.0)),
        (x**y, (0.0, 1.0), (0.0, None)),
        (x ** sp.Float(2.25), (0.0, 1.0), (0.0, 0.0)),
        (x**2 * sp.sqrt(x), (0.0, 1.0), (0.0, 0.0)),
        (PIECES, (-1.5, 2.0), (4.0, -3.0)),
        (PIECES, (2.0, 2.0), (-0.25, 0.0)),
        (ROOTS, (0.5, 2.0), (0.0, 0.0)),
        (sp.Abs(x) ** 3, (-2.0, 1.0), (12.0, 0.0)),
        (y / (1 + sp.exp(-x)), (-800.0, 2.0), (0.0, 0.0)),
        (y / (3 + sp.exp(-x)), (-800.0, 2.0), (0.0, 0.0)),
        (y / sp.cosh(x), (800.0, 2.0), (0.0, 0.0)),
        (sp.log(1 + sp.exp(x)) * y, (800.0, 2.0), (0.0, 1.0)),
    ],
    ids=str,
)
def test_second_derivatives_exist_where_they_should(expression, point, expected):
    """Row (d2/dx2, d2/dxdy) of the Hessian, by the contraction a Rosenbrock adjoint uses."""
    field = field_of((x, y), (), [expression, 0 * x])
    weights = [1.0 if j == 0 else 0.0 for j in field.jacobian.cols] + [0.0, 0.0]
    got = evaluate(derive_second(field), 0.0, point, [], weights)
    for g, e in zip(got, expected, strict=True):
        if e is not None:
            assert g == pytest.approx(e, rel=1e-13, abs=1e-300)


def test_a_positive_symbol_needs_no_guard_on_its_logarithm():
    field = field_of((POSITIVE, n), (), [POSITIVE**n, 0 * n])
    same(evaluate(derive_vjp(field), 0.0, [2.0, 3.0], [], [1.0, 0.0]), [12.0, 8.0 * math.log(2.0)])
