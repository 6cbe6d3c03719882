"""Inputs that differ between conditions: each takes its own table, all share one model."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import OptionError

x, k, a, u, s = sp.symbols("x k a u s")
MODEL = symode.Model({x: a * u - k * x}, [k, a, u], initial={x: 2 * a})
STEPS = symode.Table([0, 1.5, 4.0], [1.0, 0.2, 2.0], "constant")
RAMP = symode.Table([0, 2.0, 6.0], [0.0, 1.5, 0.5])
TIMES = np.array([1.0, 2.0, 3.0, 5.0])


def course(rate: float, size: float, table) -> np.ndarray:
    """Return x at the times, by a solve of the condition alone."""
    alone = symode.Model({x: a * u - k * x}, [k, a], initial={x: 2 * a}, inputs={u: table})
    return alone.solve((0, 5), [rate, size], times=TIMES, rtol=1e-11, atol=1e-13)["x"]


def problem(**options) -> symode.Problem:
    values = {
        "steps": course(0.7, 1.2, STEPS),
        "ramp": course(0.7, 1.2, RAMP),
        "still": course(0.7, 1.2, symode.Table([0], [0.4], "constant")),
    }
    data = {name: symode.Data(TIMES, {"x": v * 1.02}) for name, v in values.items()}
    conditions = {
        "steps": symode.Condition(inputs={u: STEPS}),
        "ramp": symode.Condition(inputs={"u": RAMP}),
        "still": symode.Condition({u: 0.4}),
    }
    return symode.Problem(
        MODEL, data, symode.Normal(0.1), conditions=conditions, rtol=1e-10, atol=1e-12,
        bounds={k: (0.1, 3), a: (0.1, 3)}, **options,
    )  # fmt: skip


def test_every_condition_has_its_own_input_and_the_gradient_is_exact() -> None:
    fitted = problem()
    assert fitted.space.names == ("k", "a")
    # At the truth every residual is 2 % of the value.
    truth = np.array([0.7, 1.2])
    wanted = sum(
        np.sum((0.02 * course(*truth, table) / 0.1) ** 2 / 2 + np.log(0.1 * np.sqrt(2 * np.pi)))
        for table in (STEPS, RAMP, symode.Table([0], [0.4], "constant"))
    )
    value, gradient = fitted.objective(truth)
    assert value == pytest.approx(wanted, rel=1e-8)
    for i, h in enumerate(np.eye(2) * 1e-5):
        slope = (fitted.objective(truth + h)[0] - fitted.objective(truth - h)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-6)
    np.testing.assert_allclose(fitted.scores(truth).gradient, gradient, rtol=1e-7)


def test_fits_with_tables_find_the_truth_and_problems_pickle() -> None:
    fitted = pickle.loads(pickle.dumps(problem()))
    fit = symode.fit(fitted, starts=2, seed=0, workers=1)
    # Data are 2 % too large in all: so is the amplitude.
    assert fit.theta["k"] == pytest.approx(0.7, rel=1e-5)
    assert fit.theta["a"] == pytest.approx(1.2 * 1.02, rel=1e-5)


def test_a_condition_may_rest_under_a_number_and_run_under_a_table() -> None:
    data = {"one": symode.Data(TIMES, {"x": [1.0, 1.1, 0.9, 1.3]})}
    rested = symode.Problem(
        MODEL, data, symode.Normal(0.1), bounds={k: (0.1, 3), a: (0.1, 3)}, rtol=1e-10, atol=1e-12,
        conditions={"one": symode.Condition(inputs={u: STEPS}, rest=symode.Condition({u: 0.5}))},
    )  # fmt: skip
    # It starts at a u/k.
    start = rested.parts[0].parameters.theta(np.array([0.7, 1.2]))
    assert pytest.approx(start[-1], rel=1e-12) == 1.2 * 0.5 / 0.7
    _, gradient = rested.objective([0.7, 1.2])
    for i, h in enumerate(np.eye(2) * 1e-5):
        point = np.array([0.7, 1.2])
        slope = (rested.objective(point + h)[0] - rested.objective(point - h)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        ({"steps": {"inputs": {u: STEPS}}, "ramp": {}}, "'ramp' needs one too (inputs=), or a num"),
        ({"steps": {"inputs": {"uu": STEPS}}}, "table of uu (did you mean u?), which is no"),
        ({"steps": {"inputs": {u: STEPS}, "values": {u: 1}}}, "both a table and a value of u"),
        ({"steps": {"inputs": {u: 3.0}}}, "u must be a symode.Table(times, values); got 3.0"),
        ({"steps": {"inputs": {u: symode.Table([0, 2], [1, 2])}}},
         "Condition 'steps': The table of u ends at t = 2, but the solve reaches t = 5"),
        ({"steps": {"rest": {"inputs": {u: STEPS}}, "inputs": {u: STEPS}}}, "no steady state"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_their_conditions_are_told(conditions, says) -> None:
    def made(settings):
        rest = settings.get("rest")
        return symode.Condition(
            **{**settings, "rest": None if rest is None else symode.Condition(**rest)}
        )

    data = {name: symode.Data(TIMES, {"x": [1, 2, 3, 4]}) for name in conditions}
    with pytest.raises(OptionError, match=re.escape(says)):
        symode.Problem(
            MODEL, data, symode.Normal(0.1),
            conditions={name: made(c) for name, c in conditions.items()},
            bounds={k: (0.1, 3), a: (0.1, 3)},
        )  # fmt: skip
