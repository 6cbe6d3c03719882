"""Rodas5P with whole steps in one kernel gives what the general kernels give."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
from symode.symbolic import fused_step

x, y, z, k, q, t = sp.symbols("x y z k q t")


def robertson():
    slow, fast, middle = k * x, 3e7 * y**2, q * y * z
    model = symode.Model(
        {x: -slow + middle, y: slow - fast - middle, z: fast}, parameters=[k, q], time=t
    )
    loss = symode.Loss(
        terminal=x**2 + k * z, running=x * z, observations={0.3: 1e4 * y, 4.0: x**2, 25.0: z}
    )
    return model, loss, (0, 40), [0.04, 1e4], [1.0, 1e-5, 0.1]


def forced():
    # Not autonomous, with a switch; from the model's own initial values, which depend on k.
    model = symode.Model(
        {
            x: -50 * (x - sp.cos(3 * t)) + q * sp.Max(y, 0.2),
            y: -k * y + sp.Piecewise((sp.sin(t), t < 1), (sp.exp(-x), True)),
        },
        parameters=[k, q],
        time=t,
        initial={x: k, y: 1 + k * q},
    )
    loss = symode.Loss(terminal=x * y, observations={0.7: x**2 * k, 1.5: sp.exp(y)})
    return model, loss, (0, 2), [0.8, 1.7], None


def backwards():
    model = symode.Model({x: 30 * x - k * x * y, y: q * x + y}, parameters=[k, q], time=t)
    return model, symode.Loss(terminal=x + y**2), (1, 0), [0.8, 1.7], [2.0, 1.0]


CASES = {"robertson": robertson, "forced": forced, "backwards": backwards}


def gradient_of(case):
    model, loss, span, theta, z0 = CASES[case]()
    found = model.gradient(
        loss, span, theta=theta, z0=z0, solver="rodas5p", method=symode.DiscreteAdjoint(),
        rtol=1e-7, atol=1e-10,
    )  # fmt: skip
    parts = [found.theta, found.z0]
    values = [found.value, found.t0, found.t1, *(v for p in parts for v in np.asarray(p))]
    stats = found.stats["forward"]
    return np.array(values, dtype=float), (stats.steps, stats.rejected)


@pytest.fixture(params=["none", "refused"])
def general(request, monkeypatch):
    """Return what leaves all steps to the general kernels: none are fused, or all fail."""

    def leave():
        if request.param == "none":
            monkeypatch.setattr(fused_step, "FUSED", 0)
        else:
            monkeypatch.setattr(fused_step, "BACKWARD_ERROR", -1)
            monkeypatch.setattr(fused_step, "UNDERFLOW", -1)

    return leave


@pytest.mark.parametrize("case", CASES)
def test_whole_steps_agree_with_general_ones(case, general):
    whole, stats = gradient_of(case)
    general()
    expected, general_stats = gradient_of(case)
    # Step sizes follow from errors that differ by rounding; the counts tell that steps are alike.
    np.testing.assert_allclose(whole, expected, rtol=1e-7, atol=1e-9)
    assert stats == general_stats
