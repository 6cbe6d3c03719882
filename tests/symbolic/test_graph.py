"""The graph: hash-consing, exact simplification, freezing, and depth."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction

import pytest

from symode.symbolic.graph import Builder, Graph


@pytest.fixture
def b() -> Builder:
    return Builder()


@pytest.fixture
def x(b: Builder) -> int:
    return b.input("z", 0)


@pytest.fixture
def y(b: Builder) -> int:
    return b.input("z", 1)


def operations(b: Builder, *outputs: int) -> list[str]:
    graph = b.freeze(outputs)
    return [op for op in graph.ops if op not in ("const", "input")]


def test_equal_nodes_are_made_once(b, x, y):
    assert b.add(x, y) == b.add(y, x)
    assert b.mul(x, y) == b.mul(y, x)
    assert b.unary("sin", x) == b.unary("sin", x)
    assert b.div(x, y) != b.div(y, x)
    assert b.const(Fraction(1, 2)) == b.const(0.5)


def test_zero_and_one_cost_nothing(b, x):
    zero, one = b.const(0), b.const(1)
    assert b.add(x, zero) == b.sub(x, zero) == b.mul(x, one) == b.div(x, one) == b.powi(x, 1) == x
    assert b.mul(x, zero) == b.div(zero, x) == b.sub(x, x) == zero
    assert b.div(x, x) == b.powi(x, 0) == one
    assert b.sub(zero, x) == b.neg(x)
    assert b.neg(b.neg(x)) == x


def test_rational_constants_are_folded_exactly(b):
    third = b.const(Fraction(1, 3))
    assert b.value(b.add(third, b.const(Fraction(1, 6)))) == Fraction(1, 2)
    assert b.value(b.mul(third, b.const(3))) == 1
    assert b.value(b.div(b.const(2), third)) == 6
    assert b.value(b.powi(third, 3)) == Fraction(1, 27)


def test_constants_do_not_grow_without_bound(b):
    product = b.const(1)
    for k in range(1000):
        product = b.mul(product, b.const(Fraction(2 * k + 1, 2 * k + 3) + Fraction(1, 10**9)))
    sizes = [
        p.numerator.bit_length() for p, op in zip(b.payloads, b.ops, strict=True) if op == "const"
    ]
    assert max(sizes) < 4096
    assert b.ops[product] == "mul"


def test_signs_are_pulled_out_of_products(b, x, y):
    product = b.mul(x, y)
    assert b.mul(b.neg(x), b.neg(y)) == product
    assert b.mul(b.neg(x), y) == b.neg(product)
    assert b.add(x, b.neg(y)) == b.sub(x, y)
    assert b.mul(b.const(-3), x) == b.neg(b.mul(b.const(3), x))
    assert b.powi(b.neg(x), 3) == b.neg(b.powi(x, 3))
    assert b.powi(b.neg(x), 4) == b.powi(x, 4)


def test_a_difference_and_its_opposite_share_the_operation(b, x, y):
    assert b.sub(y, x) == b.neg(b.sub(x, y)) or b.sub(x, y) == b.neg(b.sub(y, x))
    assert operations(b, b.sub(x, y), b.sub(y, x)).count("sub") == 1


def test_dividing_by_a_power_of_two_is_an_exact_product(b, x):
    assert operations(b, b.div(x, b.const(4))) == ["mul"]
    assert operations(b, b.div(x, b.const(3))) == ["div"]


def test_a_guarded_factor_spreads_to_its_products(b, x, y):
    masked = b.mask(b.compare("lt", x, y), x)
    assert b.ops[b.mul(masked, y)] == "mul0"
    assert b.ops[b.div(masked, y)] == "div0"
    assert b.ops[b.mul(b.add(masked, x), y)] == "mul0"
    # A constant is neither infinite nor 0.
    assert b.ops[b.mul(masked, b.const(2))] == "mul"
    assert b.mul(masked, b.const(2)) in b.guarded


def test_freezing_keeps_only_what_the_outputs_need(b, x, y):
    b.unary("exp", y)
    graph = b.freeze([b.unary("sin", x)])
    assert graph.ops == ("input", "sin")
    assert graph.n_operations == 1


def test_arguments_come_before_their_users(b, x, y):
    e = b.add(b.mul(x, y), b.unary("sin", b.mul(x, y)))
    graph = b.freeze([b.mul(e, e), x])
    assert all(a < i for i, args in enumerate(graph.args) for a in args)


def test_a_builder_continues_a_frozen_graph(b, x, y):
    graph = b.freeze([b.mul(x, y)])
    again = Builder(graph)
    assert again.mul(again.input("z", 0), again.input("z", 1)) == graph.outputs[0]


def test_grafting_shares_equal_nodes(b, x, y):
    graph = b.freeze([b.mul(x, y), b.mask(b.compare("lt", x, y), y)])
    host = Builder(graph)
    before = len(host.ops)
    assert host.graft(graph) == graph.outputs
    assert len(host.ops) == before
    fresh = Builder()
    outputs = fresh.graft(graph)
    assert outputs[1] in fresh.guarded


def test_digest_names_the_content(b, x, y):
    graph = b.freeze([b.add(x, b.mul(y, y))])
    other = Builder()
    u, v = other.input("z", 0), other.input("z", 1)
    assert graph.digest == other.freeze([other.add(u, other.mul(v, v))]).digest
    assert graph.digest != other.freeze([other.add(v, other.mul(u, u))]).digest
    assert graph.digest != b.freeze([b.add(x, b.mul(y, y)), x]).digest


def test_graphs_are_values(b, x):
    graph = b.freeze([b.unary("sin", x)])
    assert pickle.loads(pickle.dumps(graph)) == copy.deepcopy(graph) == graph
    assert hash(graph) == hash(copy.copy(graph))
    assert repr(graph) == "Graph(1 operations, 1 outputs)"
    with pytest.raises(AttributeError):
        graph.ops = ()


def test_depth_is_no_obstacle(b, x):
    e = x
    for _ in range(50_000):
        e = b.add(b.unary("sin", e), x)
    graph = b.freeze([e])
    assert isinstance(graph, Graph)
    assert graph.n_operations == 100_000
    assert pickle.loads(pickle.dumps(graph)).digest == graph.digest
