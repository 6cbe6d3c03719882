"""At an optimum, zero residuals included, a right gradient passes and a wrong one fails."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

import symode
from symode.gradients.methods.discrete import DiscreteRunner

X, K, L = sp.symbols("x k l")
MODEL = symode.Model({X: -K * X + L}, parameters=[K, L], initial={X: 2})
TIMES = np.array([0.5, 1.0, 2.0])
LOSS = symode.LeastSquares(TIMES, 2 * np.exp(-0.7 * TIMES) + (0.3 / 0.7) * -np.expm1(-0.7 * TIMES))
CHECKS = ["closed form", "tolerances", "taylor", "ends", "dot product", "methods"]


@pytest.mark.parametrize("method", ["discrete", "interpolating", "forward"])
def test_zero_residuals_pass_and_are_named(method):
    report = symode.verify(MODEL, LOSS, (0, 2), [0.7, 0.3], method=method, checks=CHECKS)
    assert report.passed, str(report)
    assert "vanishes here, as at an optimum" in report["tolerances"].summary


def test_a_wrong_gradient_fails_there_too(monkeypatch):
    original = DiscreteRunner.__call__

    def wrong(self, theta, z0):
        outcome = original(self, theta, z0)
        return replace(outcome, theta=outcome.theta + np.array([0.0, 1e-3]))

    monkeypatch.setattr(DiscreteRunner, "__call__", wrong)
    report = symode.verify(MODEL, LOSS, (0, 2), [0.7, 0.3], method="discrete", checks=CHECKS)
    assert not report["taylor"].passed
    assert "wrong in: l" in report["taylor"].details[-1]


def test_elsewhere_nothing_is_excused():
    report = symode.verify(MODEL, LOSS, (0, 2), [0.8, 0.3], checks=CHECKS)
    assert report.passed
    assert "vanishes" not in report["tolerances"].summary
