"""Residuals and their Jacobian against closed forms, for every solver."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import sympy as sp

import symode
from symode.equations.loss import Loss, ObservationGroup
from symode.errors import GradientError, LossError, SolverError
from symode.gradients.residuals import Residuals
from symode.solvers.methods import METHODS

X, K, C, S = sp.symbols("x k c s")
T = sp.Symbol("t")
# x = (c k + t0) exp(-k (t - t0)): k moves the trajectory and its start.
MODEL = symode.Model({X: -K * X}, parameters=[K, C, S], initial={X: C * K + T})
THETA = {"k": 0.7, "c": 2.0, "s": 0.3}
T0 = 0.5


def closed(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    k, c = THETA["k"], THETA["c"]
    x0, decay, age = c * k + T0, np.exp(-k * (t - T0)), t - T0
    return x0 * decay, np.column_stack([(c - x0 * age) * decay, k * decay, 0 * t])


@pytest.mark.parametrize("solver", METHODS)
def test_values_and_jacobian_are_those_of_the_closed_form(solver: str) -> None:
    times = np.array([2.0, 0.5, 1.1, 2.0, 3.0])
    d = sp.Symbol("d")
    groups = [
        ObservationGroup(X - d, times, (d,), np.arange(5.0)[:, None]),
        ObservationGroup(S * X, np.array([1.0])),
    ]
    residuals = Residuals(
        MODEL.equations, Loss(observations=groups), t0=T0, solver=solver, rtol=1e-8, atol=1e-10
    )
    values, jacobian = residuals(THETA)
    x, dx = closed(times)
    x1, dx1 = closed(np.array([1.0]))
    # Global error of a contracting scalar equation: a small multiple of rtol.
    np.testing.assert_allclose(values, [*(x - np.arange(5)), 0.3 * x1[0]], rtol=1e-6, atol=1e-7)
    expected = np.vstack([dx, 0.3 * dx1 + [0, 0, x1[0]]])
    np.testing.assert_allclose(jacobian, expected, rtol=1e-6, atol=1e-7)


def test_rows_sum_to_the_gradient_of_the_loss() -> None:
    times = [0.5, 1.0, 2.5]
    loss = Loss(observations={t: (X - K) ** 2 * S for t in times})
    residuals = Residuals(MODEL.equations, loss, t0=T0)
    values, jacobian = residuals(THETA)
    gradient = MODEL.gradient(loss, (T0, 2.5), THETA)
    # Two meshes at rtol 1e-8.
    assert values.sum() == pytest.approx(gradient.value, rel=1e-6)
    np.testing.assert_allclose(jacobian.sum(axis=0), gradient.theta, rtol=1e-6)


def test_columns_are_those_asked_for_and_survive_pickling() -> None:
    loss = Loss(observations={1.0: S * X, 2.0: X})
    every = Residuals(MODEL.equations, loss, t0=T0)
    some = pickle.loads(pickle.dumps(Residuals(MODEL.equations, loss, ["s", "k"], t0=T0)))
    np.testing.assert_allclose(some(THETA)[1], every(THETA)[1][:, [2, 0]], rtol=1e-6)
    only = Residuals(MODEL.equations, loss, ["s"], t0=T0)
    np.testing.assert_allclose(only(THETA)[1], every(THETA)[1][:, [2]], rtol=1e-6)


def test_other_terms_than_observations_are_refused() -> None:
    with pytest.raises(LossError, match="terminal="):
        Residuals(MODEL.equations, Loss(terminal=X, observations={1.0: X}), t0=T0, t1=1.0)


def test_a_failed_solve_and_an_undefined_observation_raise() -> None:
    model = symode.Model({X: K * X**2}, parameters=[K], initial={X: 1})
    residuals = Residuals(model.equations, Loss(observations={2.0: X}))
    with pytest.raises(SolverError):
        residuals([1.0])
    undefined = Residuals(model.equations, Loss(observations={1.0: sp.log(X - 5)}))
    with pytest.raises(GradientError, match=r"log\(x - 5\) at t = 1"):
        undefined([0.1])
