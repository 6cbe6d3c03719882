"""Switches of a right-hand side: solved for in time, located in the state, or told to slide."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import OptionError, SolverError
from symode.solvers.methods import METHODS
from symode.status import CHATTERING
from symode.symbolic.freeze import freeze
from symode.symbolic.lift import lift_field

t, x, y, k, a, w = sp.symbols("t x y k a w")
PULSE = sp.Piecewise((k / w, (t >= a) & (t < a + w)), (0, True))


@pytest.mark.parametrize("solver", [*METHODS, "auto"])
def test_a_pulse_shorter_than_a_step_is_seen_by_every_method(solver: str) -> None:
    model = symode.Model({x: PULSE - x / 10}, parameters=(k, a, w), time=t, initial={x: 0})
    theta, width = (3.0, 33.3, 1e-3), 1e-3
    after = 3.0 / width * 10 * (1 - np.exp(-width / 10))
    known = after * np.exp(-(50 - 33.3 - width) / 10)
    tolerance = {"rtol": 1e-8, "atol": 1e-10, "solver": solver}
    found = model.solve((0, 50), theta=theta, **tolerance)
    # The error of a decay solved to rtol, ten tolerances for its steps.
    assert found.z[-1, 0] == pytest.approx(known, rel=1e-7)
    blind = model.solve((0, 50), theta=theta, **tolerance, switch_events=False)
    # The judge judges: without the stop times the pulse is lost, or nearly so.
    assert abs(blind.z[-1, 0] - known) > 1e-3 * known


@pytest.mark.parametrize(
    ("condition", "doses"),
    [
        (sp.Mod(t, 24) < a, [(24 * i, 24 * i + 2) for i in range(10)]),
        (sp.Mod(t - 1, 24) < a, [(24 * i + 1, 24 * i + 3) for i in range(10)]),
        (sp.floor(t / a) > 100, [(202, 240)]),
        (
            sp.cos(sp.pi * t / 12) > sp.cos(sp.pi * a / 24),
            [(24 * i - 1, 24 * i + 1) for i in range(11)],
        ),
        ((t > a) & (t < 2 * a) | (t**2 > 50000), [(2, 4), (np.sqrt(50000), 240)]),
    ],
)  # fmt: skip
def test_periodic_and_other_windows_are_exact(condition, doses) -> None:
    rhs = {x: sp.Piecewise((1, condition), (0, True)), y: x}
    model = symode.Model(rhs, parameters=[a], time=t, initial={x: 0, y: 0})
    doses = [(max(0, start), min(240, stop)) for start, stop in doses]
    total = sum(stop - start for start, stop in doses)
    area = sum((stop - start) ** 2 / 2 + (stop - start) * (240 - stop) for start, stop in doses)
    found = model.solve((0, 240), theta=[2.0])
    # x and y are polynomials of degrees 1 and 2 on each piece, which the method solves exactly.
    assert np.allclose(found.z[-1], [total, area], rtol=1e-11)


def test_a_state_switches_where_it_must() -> None:
    model = symode.Model({x: sp.floor(x) + 1}, initial={x: 0})
    # 1 to x = 1, then 2 to x = 2 at t = 3/2, then 3.
    assert model.solve((0, 11 / 6)).z[-1, 0] == pytest.approx(3.0, rel=1e-9)
    model = symode.Model({x: k * sp.Heaviside(x), y: sp.sign(x - 1)}, [k], initial={x: 0, y: 0})
    # It leaves 0 at once, as H(0) = 1/2 says, and y turns at x = 1, t = 1/2.
    assert np.allclose(model.solve((0, 2), theta=[2.0]).z[-1], [4, 1], rtol=1e-9)


def test_what_rests_on_its_switch_stays_there() -> None:
    model = symode.Model({x: -sp.sign(x), y: sp.Abs(x) + sp.Max(0, x) + 1}, initial={x: 0, y: 0})
    found = model.solve((0, 3))
    assert np.allclose(found.z[-1], [0, 3])
    # x leaves 0 with slope 0, and with it the switch.
    model = symode.Model({x: t, y: sp.Heaviside(x)}, time=t, initial={x: 0, y: 0})
    assert np.allclose(model.solve((0, 3)).z[-1], [4.5, 3.0])


@pytest.mark.parametrize("rhs", [-sp.sign(x), sp.Piecewise((-1, x > 0), (2, True))])
def test_sliding_ends_in_a_clear_status(rhs) -> None:
    model = symode.Model({x: rhs})
    with pytest.raises(SolverError, match="onto x = 0 from both sides") as caught:
        model.solve((0, 3), z0=[1.0])
    assert caught.value.status == CHATTERING and caught.value.t == pytest.approx(1.0)


def test_noise_about_a_kink_is_no_chattering() -> None:
    # x - y is zero but for rounding: its sign says nothing, step for step.
    rhs = {x: sp.cos(x * y) - x, y: sp.cos(y * x) - 3 * y / 3, a: sp.Max(x, y) - a}
    model = symode.Model(rhs, initial={x: 1.1, y: 1.1, a: 0})
    found = model.solve((0, 1000))
    assert found.status == 0 and found.z[-1, 2] == pytest.approx(found.z[-1, 0], rel=1e-6)


def test_steps_between_switches_are_those_of_a_smooth_model() -> None:
    model = symode.Model({x: y, y: -x + k * sp.Max(0, x)}, [k], initial={x: 1, y: 0})
    tight = {"theta": [0.5], "rtol": 1e-10, "atol": 1e-12}
    located = model.solve((0, 200), **tight)
    plain = model.solve((0, 200), **tight, switch_events=False)
    # Exact: sines of frequency sqrt(1/2) and 1 by turns.
    root = np.sqrt(0.5)
    phase = (200 + 0.5 * np.pi / root) % (np.pi / root + np.pi)
    late = phase - np.pi / root
    known = (np.sin(root * phase), root * np.cos(root * phase)) if late < 0 else (
        -root * np.sin(late), -root * np.cos(late))  # fmt: skip
    assert np.allclose(located.z[-1], known, rtol=0, atol=1e-8)
    # 106 switches, each ending a step, still take fewer steps than the smeared kinks.
    assert located.stats.steps < plain.stats.steps


def test_smooth_models_have_nothing_to_freeze() -> None:
    smooth = symode.Model({x: -k * x + sp.Max(k, 1) + sp.Abs(k)}, [k], time=t)
    assert freeze(lift_field(smooth.equations).graph, 1) is None


def test_the_option_is_checked() -> None:
    model = symode.Model({x: -sp.Abs(x)})
    with pytest.raises(OptionError, match="switch_events must be True or False"):
        model.solve((0, 1), z0=[1.0], switch_events="no")


def test_backwards_in_time_switches_are_met_by_error_control() -> None:
    model = symode.Model({x: sp.Max(0, x - 1) - x / 2}, initial={x: 2})
    there = model.solve((0, 1), rtol=1e-10)
    back = model.solve((1, 0), z0=there.z[-1], rtol=1e-10)
    assert back.z[-1, 0] == pytest.approx(2.0, rel=1e-7)
