"""Three backends, one meaning: LLVM, Numba and the reference agree to rounding."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from small_kernels import oscillator_kernels
from strategies import (
    KINKED,
    KINKED_PAIRS,
    SMOOTH,
    SMOOTH_PAIRS,
    Case,
    examples,
    field_of,
    kinked_models,
    seeds,
)

from symode.codegen.compiled import CompiledModel
from symode.codegen.numba_source import NumbaModel, source
from symode.codegen.program import FIELD, PRODUCT, make_program
from symode.codegen.reference import (
    COMPLEX,
    FLOATS,
    ReferenceModel,
    evaluate,
    mpmath_arithmetic,
)
from symode.equations.pieces import TableFamily
from symode.equations.table import Table
from symode.symbolic.derive import FIELD_KERNELS
from symode.symbolic.graph import Builder, Graph
from symode.symbolic.rules import RULES

BACKENDS = (CompiledModel, NumbaModel, ReferenceModel)


def kernels_of(field) -> dict[str, tuple[str, Graph]]:
    return {name: (signature, derive(field)) for name, (signature, derive) in FIELD_KERNELS.items()}


def assert_agree(models, case: Case, seed: int) -> None:
    t, z, theta, v, lam = case.point(seed)
    rng = np.random.default_rng(seed)
    for name, signature in models[0].signature.items():
        if name == "hoist":
            continue
        vector = {"vjp": lam, "jvp": v, "djac": v}.get(name)
        if signature == "product" and vector is None:
            vector = rng.normal(size=len(case.field.jacobian.graph.outputs))
        packed = [model.pack(theta) for model in models]
        first, *others = [
            model.call(name, t, z, p, vector) for model, p in zip(models, packed, strict=True)
        ]
        # Each of a few dozen operations rounds once, on values of order one to a thousand.
        scale = np.nanmax(np.abs(first[np.isfinite(first)]), initial=1.0)
        for other in others:
            np.testing.assert_allclose(other, first, rtol=1e-11, atol=1e-12 * scale)


@examples(40)
@given(case=kinked_models(), seed=seeds())
def test_llvm_agrees_with_the_reference_on_generated_models(case, seed):
    kernels = kernels_of(case.field)
    m = case.sizes[1]
    assert_agree([CompiledModel(kernels, m), ReferenceModel(kernels, m)], case, seed)


def everything() -> Case:
    """Return a model that uses every function of the strategies."""
    x, y, z = states = sp.symbols("x y z", real=True)
    a, b = parameters = sp.symbols("a b", real=True)
    first = sp.Add(*(f(a * x) for f in (*SMOOTH, *KINKED)))
    second = sp.Add(*(f(x * b, y) for f in (*SMOOTH_PAIRS, *KINKED_PAIRS)))
    third = (
        x**a * y**3 / z**2 + sp.Abs(z) ** sp.Rational(1, 3) + 2**y + sp.gamma(b) * sp.loggamma(a)
    )
    return Case(states, parameters, (first, second, third))


def test_all_three_agree_on_every_function():
    case = everything()
    kernels = kernels_of(case.field)
    models = [CompiledModel(kernels, 2), ReferenceModel(kernels, 2)]
    # Numba needs a second per hundred operations.
    first_order = {name: kernels[name] for name in ("rhs", "vjp")}
    numba_models = [backend(first_order, 2) for backend in BACKENDS]
    for seed in range(5):
        assert_agree(models, case, seed)
        assert_agree(numba_models, case, seed)


# -- special values ---------------------------------------------------------------

BINARY = ("add", "sub", "mul", "mul0", "div", "div0", "pow", "atan2", "max", "min", "logaddexp")
EDGES = [
    0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    3.0,
    1e-308,
    -1e-308,
    1e308,
    -1e308,
    math.inf,
    -math.inf,
    math.nan,
]

TABLES = TableFamily(
    tuple(Table([-2, 0.1, 0.9, 3], row, kind).pieces
          for row, kind in (([1, 4, 2, 7], "cubic"), ([3, -1, 5, 0], "constant")))
)  # fmt: skip


def every_operation() -> tuple[Graph, list[str]]:
    b = Builder()
    x, y = b.input("z", 0), b.input("z", 1)
    nodes, names = [], []
    for op in RULES:
        if op in ("slope", "and", "or", "not"):
            continue
        if op in ("lt", "le", "eq", "ne"):
            node = b.select(b.node(op, (x, y)), b.const(1), b.const(0))
        elif op == "select":
            both = b.node("and", (b.compare("lt", x, b.const(1)), b.compare("ne", y, b.const(0))))
            node = b.select(b.node("or", (both, b.node("not", (both,)))), x, y)
        elif op == "powi":
            node = b.powi(x, 5)
        elif op == "table":
            node = b.node(op, (x, y), TABLES)
        elif op == "polygamma":
            node = b.unary(op, x, 1)
        else:
            node = b.node(op, (x, y) if op in BINARY else (x,))
        nodes.append(node)
        names.append(op)
    return b.freeze(nodes), names


def test_special_values_mean_the_same_everywhere():
    graph, names = every_operation()
    models = [backend({"f": (FIELD, graph)}, 0) for backend in BACKENDS]
    pairs = [(x, y) for x in EDGES for y in EDGES]
    values = np.array(
        [[model.call("f", 0.0, pair, np.empty(0)) for pair in pairs] for model in models]
    )
    for k, name in enumerate(names):
        for other in values[1:]:
            for pair, first, second in zip(pairs, values[0, :, k], other[:, k], strict=True):
                if name == "pow" and pair[0] == -math.inf:
                    continue  # NumPy's own deviates from C here on some processors
                agree = first == second or (math.isnan(first) and math.isnan(second))
                assert agree or math.isclose(first, second, rel_tol=1e-13), (name, *pair)


def test_an_exact_zero_wins_over_what_is_not_finite():
    b = Builder()
    x, y = b.input("z", 0), b.input("z", 1)
    graph = b.freeze([b.mul0(x, y), b.div0(x, y), b.mul(x, y), b.div(x, y)])
    for backend in BACKENDS:
        model = backend({"f": (FIELD, graph)}, 0)
        for other in (math.inf, math.nan, 0.0):
            got = model.call("f", 0.0, [0.0, other], np.empty(0))
            assert got[:2].tolist() == [0.0, 0.0]
            assert math.isnan(got[3]) or math.isinf(other)
        assert model.call("f", 0.0, [-0.0, math.inf], np.empty(0))[0] == 0.0
        assert math.isnan(model.call("f", 0.0, [1.0, math.nan], np.empty(0))[0])


# -- the reference backend ---------------------------------------------------------------


def test_the_reference_evaluates_many_points_at_once():
    case = everything()
    kernels = kernels_of(case.field)
    model = ReferenceModel(kernels, 2)
    points = [case.point(seed) for seed in range(4)]
    t, z, theta, _, lam = (np.array(part).T for part in zip(*points, strict=True))
    together = model.call("vjp", t, z, model.pack(theta), lam)
    for k, (t1, z1, theta1, _, lam1) in enumerate(points):
        single = model.call("vjp", t1, z1, model.pack(theta1), lam1)
        np.testing.assert_allclose(together[:, k], single, rtol=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_a_complex_step_gives_the_jvp_of_every_function(seed):
    case = everything()
    t, z, theta, v, _ = case.point(seed)
    kernels = kernels_of(case.field)
    product = ReferenceModel(kernels, 2).call(
        "jvp", t, z, ReferenceModel(kernels, 2).pack(theta), v
    )
    step = 1e-40
    model = ReferenceModel(kernels, 2, COMPLEX)
    stepped = model.call("rhs", t, z + 1j * step * v[:3], model.pack(theta + 1j * step * v[3:]))
    np.testing.assert_allclose(stepped.imag / step, product, rtol=1e-11)


def test_the_reference_computes_in_any_precision():
    case = everything()
    t, z, theta, _, lam = case.point(3)
    kernels = kernels_of(case.field)
    context = mpmath.MPContext()
    context.dps = 40
    exact = ReferenceModel(kernels, 2, mpmath_arithmetic(context))
    doubles = ReferenceModel(kernels, 2)
    got = exact.call("vjp", t, z, exact.pack(theta), lam)
    np.testing.assert_allclose(
        list(map(float, got)), doubles.call("vjp", t, z, doubles.pack(theta), lam), rtol=1e-11
    )


def test_graphs_and_programs_are_evaluated_alike():
    graph = everything().field.graph
    program = make_program("f", FIELD, graph)
    t, z, theta, *_ = everything().point(1)
    np.testing.assert_allclose(
        evaluate(program, t, z, theta), evaluate(graph, t, z, theta, None, FLOATS), rtol=1e-13
    )


# -- the Numba backend ---------------------------------------------------------------


def test_the_source_reads_like_the_equations():
    b = Builder()
    x, y = b.input("z", 0), b.input("z", 1)
    p = [b.input("p", i) for i in range(4)]
    meeting = b.mul(x, y)
    graph = b.freeze(
        [
            b.sub(b.mul(p[0], x), b.mul(p[1], meeting)),
            b.sub(b.mul(p[3], meeting), b.mul(p[2], y)),
        ]
    )
    names = {("z", 0): "x", ("z", 1): "y", ("p", 0): "a", ("p", 3): "d"}
    assert source(make_program("rhs", FIELD, graph), names).splitlines() == [
        "def rhs(t, z, p, out):",
        "    # z[0] = x",
        "    # z[1] = y",
        "    # p[0] = a",
        "    # p[3] = d",
        "    x0 = z[0] * z[1]",
        "    out[0] = z[0] * p[0] - p[1] * x0",
        "    out[1] = x0 * p[3] - z[1] * p[2]",
    ]


def test_parentheses_keep_the_order_of_operations():
    b = Builder()
    x, y = b.input("z", 0), b.input("z", 1)
    nodes = [
        b.sub(x, b.sub(y, b.unary("sin", x))),
        b.div(x, b.mul(y, b.add(x, y))),
        b.binary("pow", b.neg(x), b.neg(y)),
        b.neg(b.binary("pow", x, y)),
        b.binary("pow", b.binary("pow", x, y), y),
        b.binary("pow", x, b.binary("pow", y, x)),
        b.mul(b.const(-2), b.sub(x, y)),
        b.select(b.node("not", (b.compare("lt", x, y),)), x, b.select(b.compare("le", x, y), y, x)),
        b.select(
            b.node(
                "and",
                (
                    b.node("or", (b.compare("lt", x, y), b.compare("eq", x, y))),
                    b.node("not", (b.compare("ne", y, b.const(2)),)),
                ),
            ),
            x,
            y,
        ),
        b.sub(b.unary("abs", x), b.neg(b.select(b.compare("lt", x, y), x, y))),
    ]
    graph = b.freeze(nodes)
    models = [backend({"f": (FIELD, graph)}, 0) for backend in BACKENDS]
    for point in ([1.5, 2.0], [2.5, -1.0], [-2.0, 3.0], [2.0, 2.0]):
        first, *others = [model.call("f", 0.0, point, np.empty(0)) for model in models]
        for other in others:
            np.testing.assert_allclose(other, first, rtol=1e-14)


def test_no_text_of_the_user_enters_the_source():
    b = Builder()
    graph = b.freeze([b.mul(b.input("z", 0), b.input("p", 0))])
    names = {("z", 0): 'x"""\nimport os; os.abort() #', ("p", 0): "β'); exit("}
    text = source(make_program("f", PRODUCT, graph), names)
    lines = text.splitlines()
    assert lines == [
        "def f(t, z, p, v, out):",
        "    # z[0] = x____import_os__os_abort____",
        "    # p[0] = _____exit_",
        "    out[0] = z[0] * p[0]",
    ]
    compile(text, "generated", "exec")


def test_numba_kernels_can_be_called_by_address_like_native_ones():
    import numba

    from symode.kernels.call import call_field, call_product

    @numba.njit
    def both(rhs, vjp, z, p, v, work, f_out, g_out):
        call_field(rhs, 0.9, z, 0, p, 0, work, 0, f_out, 0)
        call_product(vjp, 0.9, z, 0, p, 0, v, 0, work, 0, g_out, 0)

    results = []
    for backend in (CompiledModel, NumbaModel):
        model = backend(oscillator_kernels(), 2)
        f, g = np.empty(2), np.empty(4)
        p = model.pack(np.array([1.7, 0.4]))
        z, v, work = np.array([0.3, -0.8]), np.array([1.1, 0.6]), np.empty(model.work_size)
        both(model.address["rhs"], model.address["vjp"], z, p, v, work, f, g)
        results.append([*f, *g])
    np.testing.assert_allclose(*results, rtol=1e-15)


def test_an_empty_model_has_empty_kernels():
    case = field_of(sp.symbols("x:1"), (), [0])
    for backend in BACKENDS:
        model = backend(kernels_of(case), 0)
        assert model.call("rhs", 0.0, [1.0], model.pack(np.empty(0))).tolist() == [0.0]
        assert model.call("jac", 0.0, [1.0], model.pack(np.empty(0))).tolist() == [0.0]
