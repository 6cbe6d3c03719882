"""Observations: any order, repeats, both ends, and what is given is what is answered."""

import numpy as np
import sympy as sp

import symode
from symode.gradients.residuals import Residuals

X, K = sp.symbols("x k")
MODEL = symode.Model({X: -K * X}, parameters=[K], initial={X: 2})


def test_derivatives_in_times_come_in_the_order_the_observations_were_given() -> None:
    # Interleaved expressions, which are grouped inside: x(t) = 2 exp(-k t), dx/dt = -k x.
    given = [(1.5, X), (0.5, X**2), (1.0, X), (0.25, X**2)]
    gradient = MODEL.gradient(symode.Loss(observations=given), (0, 2), theta=[0.7])
    t = np.array([time for time, _ in given])
    x = 2 * np.exp(-0.7 * t)
    expected = np.array([-0.7 * x[0], -1.4 * x[1] ** 2, -0.7 * x[2], -1.4 * x[3] ** 2])
    assert np.allclose(gradient.times, expected, rtol=1e-6)


def test_residuals_come_in_the_order_the_observations_were_given() -> None:
    given = [(1.5, X), (0.5, X**2), (1.0, X), (0.25, X**2)]
    residuals = Residuals(MODEL.equations, symode.Loss(observations=given), t0=0.0, t1=2.0)
    values, _ = residuals(np.array([0.7]))
    x = 2 * np.exp(-0.7 * np.array([time for time, _ in given]))
    assert np.allclose(values, [x[0], x[1] ** 2, x[2], x[3] ** 2], rtol=1e-6)


def test_a_group_and_pairs_keep_their_places() -> None:
    group = symode.ObservationGroup(X, np.array([1.0, 0.5]))
    loss = symode.Loss(observations=[(0.75, X), group, (0.25, X**2), (0.9, X)])
    gradient = MODEL.gradient(loss, (0, 2), theta=[0.7])
    t = np.array([0.75, 1.0, 0.5, 0.25, 0.9])
    x = 2 * np.exp(-0.7 * t)
    expected = -0.7 * x * np.where(t == 0.25, 2 * x, 1.0)
    assert np.allclose(gradient.times, expected, rtol=1e-6)
