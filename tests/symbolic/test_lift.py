"""From equations and losses to graphs: the order of inputs and outputs that kernels rely on."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from symode.codegen.reference import evaluate
from symode.equations.equations import Equations
from symode.equations.loss import LeastSquares, Loss
from symode.symbolic.derive import derive_vjp
from symode.symbolic.lift import (
    lift_expressions,
    lift_field,
    lift_initial,
    lift_observation,
    lift_terminal,
)

t, x, y, a, b, c = sp.symbols("t x y a b c")
EQUATIONS = Equations(
    states=(x, y),
    rhs=(a * x - b * x * y, c * x * y * t - y),
    parameters=(a, b, c),
    time=t,
    initial=(a**2, b + sp.sin(t)),
)
T, Z, THETA = 0.7, np.array([1.3, 0.6]), np.array([1.1, 0.4, 0.2])
SUBS = {t: T, x: Z[0], y: Z[1], a: THETA[0], b: THETA[1], c: THETA[2]}


def values(expressions) -> list[float]:
    return [float(sp.sympify(e).subs(SUBS)) for e in expressions]


def test_states_and_parameters_keep_the_order_given():
    field = lift_field(EQUATIONS)
    assert (field.n_states, field.n_parameters) == (2, 3)
    assert evaluate(field.graph, T, Z, THETA) == pytest.approx(values(EQUATIONS.rhs), rel=1e-14)


def test_a_running_cost_is_one_more_state_and_nothing_depends_on_it():
    running = x**2 * b + sp.cos(t)
    field = lift_field(EQUATIONS, [running])
    assert field.n_states == 3
    got = evaluate(field.graph, T, [*Z, 99.0], THETA)
    assert got == pytest.approx(values([*EQUATIONS.rhs, running]), rel=1e-14)
    # Its adjoint being 1, the cost enters the others' as Theorem 1 says.
    lam = np.array([0.3, -0.8])
    with_cost = evaluate(derive_vjp(field), T, [*Z, 99.0], THETA, [*lam, 1.0])
    plain = evaluate(derive_vjp(lift_field(EQUATIONS)), T, Z, THETA, lam)
    expected = [
        *(plain[:2] + values([sp.diff(running, s) for s in (x, y)])),
        0.0,
        *(plain[2:] + values([sp.diff(running, s) for s in (a, b, c)])),
    ]
    assert with_cost == pytest.approx(expected, rel=1e-13)


def test_the_terminal_loss_comes_with_all_its_derivatives():
    terminal = (x - y) ** 2 * a + t * c
    loss = Loss(terminal=terminal)
    graph = lift_terminal(EQUATIONS, loss, 2)
    expected = values([terminal, *(sp.diff(terminal, s) for s in (x, y, a, b, c, t))])
    assert evaluate(graph, T, Z, THETA) == pytest.approx(expected, rel=1e-13)


def test_the_integral_of_the_running_cost_joins_the_terminal_loss():
    graph = lift_terminal(EQUATIONS, Loss(running=x**2), 3)
    assert evaluate(graph, T, [*Z, 5.0], THETA).tolist() == [5.0, 0, 0, 1, 0, 0, 0, 0]
    graph = lift_terminal(EQUATIONS, Loss(terminal=y, running=x**2), 3)
    assert evaluate(graph, T, [*Z, 5.0], THETA).tolist() == [5.6, 0, 1, 1, 0, 0, 0, 0]


def test_without_terminal_and_running_cost_there_is_no_terminal_kernel():
    assert lift_terminal(EQUATIONS, Loss(observations={1.0: x}), 2) is None


def test_the_data_of_an_observation_are_its_input_v():
    loss = LeastSquares([1.0, 2.0], [[1.0, 2.0], [3.0, 4.0]]).resolve(EQUATIONS)
    (group,) = loss.groups
    graph = lift_observation(EQUATIONS, group, 2)
    for data in group.data:
        table = dict(zip(group.data_symbols, data, strict=True))
        loss_at = group.expression.subs(table)
        expected = values([loss_at, *(sp.diff(loss_at, s) for s in (x, y, a, b, c, t))])
        assert evaluate(graph, T, Z, THETA, data) == pytest.approx(expected, rel=1e-13, abs=1e-15)


def test_initial_values_and_their_products():
    start, products = lift_initial(EQUATIONS, 3)
    assert evaluate(start, T, [], THETA) == pytest.approx([1.21, 0.4 + np.sin(0.7), 0.0])
    weights = [0.5, -2.0]
    expected = [0.5 * 2 * 1.1, -2.0, 0.0, -2.0 * np.cos(0.7)]
    assert evaluate(products, T, [], THETA, weights) == pytest.approx(expected)


def test_assumptions_of_symbols_do_not_matter():
    positive = sp.Symbol("x", positive=True)
    equations = Equations((positive,), (sp.sqrt(positive**2) - positive,), (), t)
    assert evaluate(lift_field(equations).graph, 0.0, [-2.0], []).tolist() == [0.0]
    graph = lift_expressions(equations, [positive, t])
    assert evaluate(graph, 7.0, [-2.0], []).tolist() == [-2.0, 7.0]


def test_graphs_are_kept_as_long_as_their_model():
    import gc
    import pickle

    from symode.symbolic import lift

    x, k, t = sp.symbols("x k t")
    equations = Equations((x,), (-k * sp.sin(x),), (k,), t)
    field = lift_field(equations)
    assert lift_field(equations, asked=()).graph is field.graph
    assert lift_field(equations, asked=()).jacobian is field.jacobian
    costs = [x**n for n in range(1, 40)]
    assert [lift_field(equations, [c]).graph.outputs for c in costs] == [
        lift_field(Equations((x,), (-k * sp.sin(x),), (k,), t), [c]).graph.outputs for c in costs
    ]
    assert len(lift._lifted[id(equations)]) <= lift.KEPT + 1
    copy = pickle.loads(pickle.dumps(field.graph))
    assert copy == field.graph
    assert "jacobians" not in copy.__dict__
    key = id(equations)
    del equations
    gc.collect()
    assert key not in lift._lifted
