"""Several tangents a call are the same numbers as one a call."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
import symode.gradients.tangents as tangents
from symode.gradients.setup import make_task
from symode.symbolic.block_tangent import block_width

SOLVERS = ["tsit5", "rodas5p", "esdirk43", "radau5"]
x, y, w, t = sp.symbols("x y w t")


def prepared(
    n_parameters: int, solver: str, *, quadrature: bool
) -> symode.gradients.methods.base.Runner:
    """Return a runner of a model whose last parameter moves only y's slope at z = 0."""
    p = sp.symbols(f"p0:{n_parameters}")
    rhs = {
        x: p[0] * y - x * sp.exp(-p[1] * t),
        y: -sum((k + 1) * q for k, q in enumerate(p)) * sp.sin(x) / 3 - w,
        w: p[-1] * x * y - 2 * w,
    }
    model = symode.Model(rhs, parameters=p, time=t)
    loss = symode.Loss(
        terminal=x**2 + y * p[0], running=w**2 if quadrature else 0, observations={0.7: x * y}
    )
    task = make_task(
        model.equations, loss, (0.1, 1.3), from_initial=False, solver=solver, rtol=1e-7, atol=1e-10
    )  # fmt: skip
    return symode.ForwardSensitivity().prepare(task)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n_parameters", [2, 4, 9])
def test_blocks_give_the_numbers_of_single_calls(solver, n_parameters, monkeypatch):
    theta, z0 = np.linspace(0.4, 1.1, n_parameters), np.array([0.8, -0.3, 0.2])
    found = []
    for width in (None, lambda field, directions: 0):
        if width is not None:
            monkeypatch.setattr(tangents, "block_width", width)
        runner = prepared(n_parameters, solver, quadrature=n_parameters == 4)
        assert (runner.forward.system.width == 0) is (width is not None)
        runner.compute(theta, z0)
        found.append(np.concatenate([runner.gradient.theta, runner.gradient.lam]))
    # The same sums in another order: rounding, carried through some 30 steps.
    assert found[0] == pytest.approx(found[1], rel=1e-10, abs=1e-13)


def test_each_tangent_has_its_place_whatever_the_width():
    # 5 to 12 directions: every remainder of 4 and of 8.
    for n_parameters in range(2, 10):
        runner = prepared(n_parameters, "tsit5", quadrature=False)
        theta, z0 = np.linspace(0.4, 1.1, n_parameters), np.array([0.8, -0.3, 0.2])
        runner.compute(theta, z0)
        other = symode.DiscreteAdjoint().prepare(runner.task)
        other.compute(theta, z0)
        # Both at rtol 1e-7, by different meshes.
        assert runner.gradient.theta == pytest.approx(other.gradient.theta, rel=1e-5, abs=1e-7)
        assert runner.gradient.lam == pytest.approx(other.gradient.lam, rel=1e-5, abs=1e-7)


def test_a_large_right_hand_side_is_not_multiplied():
    p, z = sp.symbols("p"), sp.symbols("z0:40")
    rhs = {v: sum(sp.sin(p * u + k) for k, u in enumerate(z)) / (i + 2) for i, v in enumerate(z)}
    model = symode.Model(rhs, parameters=[p])
    task = make_task(
        model.equations, symode.Loss(terminal=z[0]), (0, 1), from_initial=False, solver="tsit5"
    )
    operations = task.field.graph.n_operations
    width = block_width(task.field, 41)
    assert 2 * width * operations <= 6000
