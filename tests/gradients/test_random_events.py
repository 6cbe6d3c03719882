"""Random models with events, delays and switches: every carrier against differences of J."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import GradientError, SolverError

t = sp.Symbol("t")
Z = sp.symbols("z0:3")
P = sp.symbols("p0:5", positive=True)
METHODS = ["discrete", "forward", "interpolating", "gauss"]
TIGHT = {"rtol": 1e-11, "atol": 1e-13}


def random_model(rng: np.random.Generator) -> tuple[symode.Model, np.ndarray]:
    """Return a model of three states that rotate and decay, with two or three kinds of moments."""
    pick = lambda *choices: choices[rng.integers(len(choices))]  # noqa: E731
    a, b = rng.uniform(0.6, 1.6, 2).round(2)
    turn = [Z[1] * a - P[0] * Z[0], -Z[0] * a - P[1] * Z[1] * Z[2], b - P[2] * Z[2] + Z[0] ** 2 / 9]
    switches = (
        P[3] * sp.Max(0, Z[0] - P[4] / 9),
        sp.Piecewise((P[3] * Z[2], Z[1] > P[4] / 7), (-P[3] * Z[1], True)),
        P[3] * sp.Heaviside(sp.sin(t * P[4]) - sp.Rational(1, 5)),
        P[3] * sp.Abs(Z[0] - Z[1]),
        P[3] * sp.floor(t * P[4] / 2) / 5,
    )
    for place in rng.permutation(3)[: rng.integers(0, 3)]:
        turn[place] += pick(*switches)
    triggers = (
        t > P[4] * pick(1, 2),
        Z[0] < pick(-P[3] / 4, P[4] / 5),
        (Z[1] > P[3] / 3) & (t > 1),
        sp.Not(Z[2] < P[4] * sp.Rational(3, 4)),
        Z[0] * Z[1] - P[3] / 9,
    )
    sets = (
        {Z[0]: Z[0] / 2 + P[0] * Z[1], Z[2]: Z[2] + P[4] / 4},
        {Z[1]: -Z[1] * P[3]},
        {Z[2]: Z[2] * t / 5 + Z[0] ** 2, Z[0]: Z[1]},
    )
    events = [
        symode.Event(
            pick(*triggers), pick(*sets), name=f"e{i}", priority=pick(None, i, Z[0]),
            use_trigger_values=bool(rng.integers(2)),
            delay=pick(None, None, P[3] / 4, (P[0] + Z[2] ** 2) / 9),
        )
        for i in range(rng.integers(1, 4))
    ]  # fmt: skip
    start = {Z[0]: 1 + P[0] / 3, Z[1]: sp.Rational(1, 3), Z[2]: P[2] / 2}
    model = symode.Model(dict(zip(Z, turn, strict=True)), P, time=t, initial=start, events=events)
    return model, rng.uniform([0.2, 0.1, 0.3, 0.4, 0.8], [0.6, 0.4, 0.9, 1.1, 1.4]).round(3)


LOSS = symode.Loss(
    terminal=Z[0] * Z[1] + P[0], observations={0.9: Z[2] ** 2, 2.3: Z[0] * Z[2]},
    running=Z[1] ** 2 / 10,
)  # fmt: skip


def check(seed: int) -> str:
    """Return "right" where all carriers have the slope of J; "refused" where all refuse."""
    rng = np.random.default_rng(seed)
    model, theta = random_model(rng)
    theta = theta.astype(float)
    direction = rng.standard_normal(theta.size) * theta
    try:
        found = model.gradient(LOSS, (0, 4), theta, method="discrete", **TIGHT)
    except (GradientError, SolverError):
        return "refused"

    def value(shift: float) -> float:
        moved = theta + shift * direction
        return model.gradient(LOSS, (0, 4), moved, method="discrete", **TIGHT).value

    known = []
    for h in (2e-4, 1e-4):
        try:
            known.append((8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h))
        except (GradientError, SolverError):
            return "no judge"
    size = float(np.abs(found.theta * direction).sum()) + 1e-3
    if abs(known[0] - known[1]) > 1e-6 * size:
        # Within the differences the order of two moments changes: J is not smooth there.
        return "no judge"
    for method in METHODS:
        mine = model.gradient(LOSS, (0, 4), theta, method=method, **TIGHT)
        # The differences hold 1e-11 over h, and what chaos and short stretches make of it.
        error = abs(float(np.asarray(mine.theta) @ direction) - known[1])
        assert error < 5e-6 * size, (seed, method, error / size)
    return "right"


@pytest.mark.parametrize("seed", [1, 2, 5, 9, 11])
def test_random_models_have_the_slopes_of_j(seed: int) -> None:
    # Of 140 seeds 136 are right, 3 refused (moments that meet, or graze), 1 has no judge.
    assert check(seed) == "right"
