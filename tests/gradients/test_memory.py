"""Memory: flat in the number of steps where promised, as stated where not."""

import tracemalloc

import numpy as np
import pytest
import sympy as sp

import symode
from symode.gradients.methods import METHODS
from symode.gradients.setup import make_task

X, Y, K = sp.symbols("x y k")
CIRCLE = symode.Model({X: Y, Y: -K * X}, parameters=[K])
SPAN = 10.0


def runner_of(method, steps: int):
    task = make_task(
        CIRCLE.equations, symode.Loss(terminal=X), (0.0, SPAN), from_initial=False,
        solver="tsit5", h_max=SPAN / steps, max_steps=2 * steps + 1000, rtol=1e-9, atol=1e-11,
    )  # fmt: skip
    return method.prepare(task)


def peak_of(method, steps: int) -> tuple[int, int]:
    """Return the bytes at the peak of a gradient, arrays included, and its steps."""
    theta, z0 = np.array([1.0]), np.array([1.0, 0.0])
    runner_of(method, 200)(theta, z0)
    tracemalloc.start()
    try:
        outcome = runner_of(method, steps)(theta, z0)
        return tracemalloc.get_traced_memory()[1], outcome.stats["forward"].steps
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_memory_grows_with_steps_as_the_method_says(method):
    small, few = peak_of(method, 1_000)
    large, many = peak_of(method, 100_000)
    assert many > 90 * few
    growth = (large - small) / (many - few)
    if method.name in ("backsolve", "forward"):
        assert large - small < 50_000
    else:
        # 8 (S + 1) n + 16 bytes for S = 7 stages, n = 2; a store that doubles holds up to twice
        # that, and three times while it is copied.
        assert 144 <= growth <= 3.1 * 144
