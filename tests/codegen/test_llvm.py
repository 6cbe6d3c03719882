"""The LLVM backend: chunks, scratch, constants, and the functions it may call."""

from __future__ import annotations

import ctypes
import math
import subprocess
import sys

import numpy as np
import pytest
from small_kernels import oscillator_kernels

from benchmarks.systems import mlp, network, with_products
from symode.codegen import llvm
from symode.codegen.compiled import CompiledModel
from symode.codegen.llvm import emit_module, hexadecimal
from symode.codegen.program import FIELD, make_bundle, make_program
from symode.codegen.reference import ReferenceModel, evaluate
from symode.symbolic.derive import Field, derive_jac
from symode.symbolic.graph import Builder, Graph


def compiled_value(graph: Graph, t: float = 0.0, z=(), p=()) -> np.ndarray:
    model = CompiledModel({"f": ("field", graph)}, len(p))
    return model.call("f", t, np.asarray(z, float), model.pack(np.asarray(p, float)))


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, -1e-310, math.inf, math.pi, 2.0**-1074])
def test_constants_are_written_exactly(value):
    bits = int(hexadecimal(value), 16)
    assert np.array([bits], dtype=np.uint64).view(float)[0] == value


def test_constants_beyond_the_range_become_infinite():
    b = Builder()
    graph = b.freeze([b.mul(b.const(10**400), b.input("z", 0)), b.const(-(10**400))])
    assert compiled_value(graph, z=[2.0]).tolist() == [math.inf, -math.inf]


def test_outputs_may_be_inputs_constants_or_repeated():
    b = Builder()
    t, x, p = b.input("t", 0), b.input("z", 1), b.input("p", 0)
    s = b.add(x, p)
    graph = b.freeze([t, x, p, b.const(3), b.node("nan"), s, s, t])
    got = compiled_value(graph, 0.5, [9.0, 2.0], [7.0])
    np.testing.assert_array_equal(got, [0.5, 2.0, 7.0, 3.0, math.nan, 9.0, 9.0, 0.5])


def test_a_kernel_may_have_no_output():
    assert compiled_value(Builder().freeze([])).size == 0


def test_values_of_parameters_alone_are_computed_once_a_solve():
    kernels = oscillator_kernels()
    bundle = make_bundle(kernels, 2)
    hoist, rhs, _ = bundle.programs
    # exp(-c), for f and for its derivative.
    assert bundle.n_hoisted == 1 and hoist.n_operations == 2
    assert "exp" not in rhs.ops
    model = CompiledModel(kernels, 2)
    assert model.pack(np.array([2.0, 0.5])).tolist() == [2.0, 0.5, math.exp(-0.5)]


def test_a_truth_value_of_parameters_is_not_hoisted_but_what_it_rests_on_is():
    b = Builder()
    x, p, q = b.input("z", 0), b.input("p", 0), b.input("p", 1)
    condition = b.compare("lt", b.unary("sin", p), q)
    graph = b.freeze([b.select(condition, b.mul(x, x), b.neg(x))])
    bundle = make_bundle({"f": (FIELD, graph)}, 2)
    assert bundle.n_hoisted == 1
    assert compiled_value(graph, z=[3.0], p=[1.0, 0.9]).tolist() == [9.0]
    assert compiled_value(graph, z=[3.0], p=[1.0, 0.8]).tolist() == [-3.0]


def branching(depth: int) -> Graph:
    """Return a graph whose values, and truth values, are used far from where they are made."""
    b = Builder()
    x, y, p = b.input("z", 0), b.input("z", 1), b.input("p", 0)
    values, conditions = [x, y], []
    for k in range(depth):
        value = b.unary("sin", b.add(values[-1], b.mul(p, values[k // 2])))
        conditions.append(b.compare("lt", value, b.mul(x, values[k // 3])))
        if k % 3 == 2:
            value = b.select(b.node("or", (conditions[k // 2], conditions[-1])), value, y)
        values.append(value)
    return b.freeze([*values[::7], x, values[3], values[-1]])


@pytest.mark.parametrize("chunk", [1, 2, 7, 50])
def test_chunks_compute_what_the_whole_does(chunk, monkeypatch):
    graph = branching(200)
    expected = evaluate(graph, 0.0, [0.3, 0.9], [0.4])
    monkeypatch.setattr(llvm, "CHUNK", chunk)
    model = CompiledModel({"f": ("field", graph)}, 1)
    assert model.work_size > 0
    got = model.call("f", 0.0, [0.3, 0.9], model.pack(np.array([0.4])))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_places_in_scratch_are_reused(monkeypatch):
    monkeypatch.setattr(llvm, "CHUNK", 4)
    b = Builder()
    value = b.input("z", 0)
    for _ in range(1000):
        value = b.add(b.unary("sin", value), b.input("z", 1))
    text, work_size, externals = emit_module([make_program("f", FIELD, b.freeze([value]))])
    assert work_size <= 2
    assert externals == ("sin",)
    assert text.count("define") == 501


@pytest.mark.parametrize("system", [network(120, 300), mlp(2, 40, 40, 2)], ids=lambda s: s.title)
def test_large_kernels_agree_with_the_reference(system):
    field: Field = system.field()
    graph = with_products(field)
    assert graph.n_operations > 2 * llvm.CHUNK
    kernels = {"both": ("product", graph), "jac": ("field", derive_jac(field))}
    n, m = field.n_states, field.n_parameters
    rng = np.random.default_rng(0)
    z, theta, lam = rng.uniform(0.2, 1.5, n), rng.uniform(0.2, 1.5, m) / n, rng.normal(size=n)
    model, reference = CompiledModel(kernels, m), ReferenceModel(kernels, m)
    p = model.pack(theta)
    np.testing.assert_allclose(p, reference.pack(theta), rtol=1e-14)
    for name in kernels:
        got = model.call(name, 0.0, z, p, lam)
        np.testing.assert_allclose(
            got, reference.call(name, 0.0, z, p, lam), rtol=1e-11, atol=1e-12
        )


def test_kernels_write_their_outputs_and_scratch_only():
    field = network(120, 300).field()
    model = CompiledModel({"both": ("product", with_products(field))}, 300)
    n_out = model.n_outputs["both"]
    z, lam = np.ones(120), np.ones(120)
    p = model.pack(np.full(300, 0.5))
    fence = 123.456
    out, work = np.full(n_out + 16, fence), np.full(model.work_size + 16, fence)
    pointer = ctypes.c_void_p
    function = ctypes.CFUNCTYPE(None, ctypes.c_double, *[pointer] * 5)(model.address["both"])
    function(0.0, *(a.ctypes.data for a in (z, p, lam, work[8:], out[8:])))
    for array in (out, work):
        assert (array[:8] == fence).all() and (array[-8:] == fence).all()
    assert not (out[8:-8] == fence).any()
    assert (z == 1).all() and (lam == 1).all()


FRESH = """
import numpy as np
from symode.codegen.compiled import CompiledModel
from symode.symbolic.graph import Builder
b = Builder()
x, y = b.input("z", 0), b.input("z", 1)
nodes = [b.unary(op, x) for op in ("sin", "cos", "exp", "floor", "loggamma", "erf", "tanh")]
nodes += [b.binary("pow", b.const(2), x), b.binary("pow", x, y), b.unary("polygamma", x, 1)]
nodes += [b.binary("pow", b.const(10), x), b.binary("atan2", x, y), b.unary("gamma", x)]
model = CompiledModel({"f": ("field", b.freeze(nodes))}, 0)
print(model.call("f", 0.0, [1.3, 0.7], model.pack(np.empty(0)))[7], model.from_store)
import sys
assert "numba" not in sys.modules and "sympy" not in sys.modules and "scipy" not in sys.modules
"""


def test_a_fresh_process_finds_every_function_without_numba_or_sympy():
    """Also what LLVM makes of calls: 2**x becomes exp2, a sine with its cosine sincos."""
    for stored in ("False", "True"):
        run = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True)
        assert run.stderr == ""
        value, from_store = run.stdout.split()
        assert float(value) == pytest.approx(2**1.3)
        assert from_store == stored


def test_addresses_live_as_long_as_the_model():
    models = [CompiledModel(oscillator_kernels(), 2) for _ in range(20)]
    kept = models[7]
    del models
    assert kept.call("rhs", 0.0, [1.0, 2.0], kept.pack(np.zeros(2))).tolist() == [2.0, -1.0]


def test_nesting_of_3000_compiles():
    b = Builder()
    e = state = b.input("z", 0)
    for _ in range(3000):
        e = b.add(b.mul(b.input("p", 0), b.unary("sin", e)), state)
    field = Field(b.freeze([e]), 1, 1)
    kernels = {"both": ("product", with_products(field))}
    model, reference = CompiledModel(kernels, 1), ReferenceModel(kernels, 1)
    arguments = (0.0, [0.3], np.array([0.4]), [1.0])
    np.testing.assert_allclose(
        model.call("both", *arguments), reference.call("both", *arguments), rtol=1e-12
    )
