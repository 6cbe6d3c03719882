"""The doubled system: its graph is the directional derivative, by finite points and by SymPy."""

import numpy as np
import sympy as sp
from hypothesis import given
from strategies import examples, kinked_models, seeds, smooth_models

from symode.codegen.reference import evaluate
from symode.symbolic.derive import derive_jvp, derive_vjp
from symode.symbolic.doubled import double_field, double_initial, double_scalar
from symode.symbolic.graph import Builder
from symode.symbolic.switches import find_switches


@examples(60)
@given(case=smooth_models(), seed=seeds())
def test_the_second_half_is_the_jacobian_vector_product(case, seed):
    n, _ = case.sizes
    t, z, theta, v, _ = case.point(seed)
    doubled = double_field(case.field, n)
    found = evaluate(doubled.graph, t, [*z, *v[:n]], [*theta, *v[n:]])
    assert np.array_equal(found[:n], evaluate(case.field.graph, t, z, theta))
    expected = evaluate(derive_jvp(case.field), t, z, theta, v)
    assert np.allclose(found[n:], expected, rtol=1e-13, atol=1e-13 * np.max(np.abs(expected)))


@examples(60)
@given(case=smooth_models(), seed=seeds())
def test_its_vector_products_are_those_of_the_second_derivatives(case, seed):
    n, m = case.sizes
    t, z, theta, v, lam = case.point(seed)
    doubled = double_field(case.field, n)
    # lam on the tangents: the derivative of lam f along v, then in (z, theta): central differences
    # of the first-order product, exact to the square of their step.
    weights = [*np.zeros(n), *lam]
    got = evaluate(derive_vjp(doubled), t, [*z, *v[:n]], [*theta, *v[n:]], weights)
    h = 1e-5 / max(1.0, float(np.max(np.abs(v))))
    ends = [
        evaluate(derive_vjp(case.field), t, z + s * h * v[:n], theta + s * h * v[n:], lam)
        for s in (1, -1)
    ]
    expected = (ends[0] - ends[1]) / (2 * h)
    top = max(np.max(np.abs(ends[0])), np.max(np.abs(expected)))
    assert np.allclose(np.r_[got[:n], got[2 * n :]], expected, rtol=1e-4, atol=1e-5 * top)
    # The tangents' own part is the first-order product.
    first = evaluate(derive_vjp(case.field), t, z, theta, lam)[:n]
    assert np.allclose(got[n : 2 * n], first, rtol=1e-10, atol=1e-12 * max(top, 1e-300))
    assert len(got) == 2 * n + m


def graph_of(expressions, symbols):
    from symode.symbolic.build import build

    b = Builder()
    table = {s: b.input(kind, i) for s, (kind, i) in symbols.items()}
    return b.freeze(build(b, expressions, table))


def test_a_scalar_and_an_initial_value_with_their_derivatives():
    x, a, b, t = sp.symbols("x a b t", real=True)
    s, v = sp.symbols("s v", real=True)
    symbols = {x: ("z", 0), a: ("p", 0), b: ("p", 1), t: ("t", 0)}
    point = {x: 1.3, a: 0.7, b: -0.4, t: 0.9, s: 0.6, v: -1.1}
    values = lambda e: [float(i.subs(point)) for i in e]  # noqa: E731
    loss = x**3 * b + sp.sin(b * t) * x + a * b**2
    slope = loss.diff(x) * s + loss.diff(b) * v
    graph = double_scalar(graph_of([loss], symbols), 1, 2, 2, [1])
    found = evaluate(graph, point[t], [point[x], point[s]], [point[a], point[b], point[v]])
    assert np.allclose(found, values([slope, *(slope.diff(q) for q in (x, s, b, t))]))
    start = a * b**3 + t * b
    whole, pullback = double_initial(graph_of([start], symbols), 2, 2, [1])
    p = [point[a], point[b], point[v]]
    assert np.allclose(evaluate(whole, point[t], [], p), values([start, start.diff(b) * v]))
    weighted = 2 * start + 3 * start.diff(b) * v
    expected = values([weighted.diff(b), weighted.diff(t)])
    assert np.allclose(evaluate(pullback, point[t], [], p, [2.0, 3.0]), expected)


def test_a_quadrature_joins_the_terminal_loss():
    x, a = sp.symbols("x a", real=True)
    graph = graph_of([x**2], {x: ("z", 0), a: ("p", 0)})
    # States (z, s, q, tangent of q).
    found = evaluate(
        double_scalar(graph, 1, 4, 1, [0], quadrature=True), 0.0, [3, 5, 7, 11], [1, 1]
    )
    assert found.tolist() == [2 * 3 * 5 + 11, 2 * 5, 2 * 3, 0, 1, 0, 0]


@examples(40)
@given(case=kinked_models(), seed=seeds())
def test_between_switches_nothing_jumps(case, seed):
    # Along a short line on which no switch turns, f is differentiable: its slopes at both ends are
    # close. A kink that was overlooked would show as a finite change of slope.
    switches = find_switches(case.field.graph)
    t, z, theta, v, _ = case.point(seed)
    n, _ = case.sizes
    steps = np.linspace(0.0, 1e-6, 5)[:, None]
    points = np.array(z + steps * v[:n]).T
    if switches is not None:
        values = evaluate(switches.graph, t, points, theta)
        values = np.array([np.broadcast_to(row, 5) for row in values])
        signs, levels = np.split(values, [switches.n_signs])
        if (signs.max(axis=1) * signs.min(axis=1) <= 0).any() or np.ptp(levels, axis=1).any():
            return
    along = [
        evaluate(derive_jvp(case.field), t, z + s * v[:n], theta, [*v[:n], *np.zeros(len(theta))])
        for s in (0.0, 1e-6)
    ]
    if np.isfinite(along).all() and np.max(np.abs(along)) < 1e3:
        assert np.allclose(along[0], along[1], atol=1e-2 * (1 + np.max(np.abs(along))))
