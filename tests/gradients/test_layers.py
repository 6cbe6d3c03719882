"""A layer of z next to t0, thin beside every step of lam, reaches lam(t0)."""

from __future__ import annotations

import pytest
import sympy as sp

import symode
from symode.solvers.methods import METHODS, get_method

IMPLICIT = [name for name in METHODS if get_method(name).implicit]


@pytest.mark.parametrize("method", ["gauss", "interpolating"])
@pytest.mark.parametrize("solver", IMPLICIT)
def test_the_gradient_in_a_start_off_the_slow_manifold(solver: str, method: str) -> None:
    x, fast, g = sp.symbols("x fast g")
    model = symode.Model({x: -fast * (x - g)}, parameters=[fast, g], initial={x: 2})
    loss, k, low = symode.Loss(running=x**3), 1e5, 0.3
    # x = g + d exp(-k t), so J = g**3 T + (3 g**2 d + 3 g d**2 / 2 + d**3 / 3) / k.
    d = 2 - low
    known = (3 * low**2 + 3 * low * d + d**2) / k
    found = model.gradient(loss, (0, 2), [k, low], method=method, solver=solver, wrt="z0",
                           rtol=1e-5, atol=1e-7)  # fmt: skip
    # Steps of radau over the whole layer gave 2.6 times this, that of a z which stays at z0.
    assert found.z0["x"] == pytest.approx(known, rel=1e-4)
