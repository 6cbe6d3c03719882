"""Moments found inside steps: pairs of roots in one step, and what only touches zero."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
from symode.solvers.methods import METHODS

t, x, y, c, w = sp.symbols("t x y c w")
EVENTS = [symode.Event(x < w**2, {y: y + 1}, name="in"), symode.Event(x > w**2, name="out")]
#: x = (t - c)**2 is solved exactly, in few steps: both roots c - w, c + w lie in one of them.
PARABOLA = symode.Model({x: 2 * (t - c), y: 0}, [c, w], time=t, initial={x: c**2, y: 0},
                        events=EVENTS)  # fmt: skip


@pytest.mark.parametrize("solver", METHODS)
def test_a_pair_of_roots_within_a_step_is_found_however_close(solver: str) -> None:
    rng = np.random.default_rng(5)
    for width in (1.0, 0.1, 1e-2, 1e-3):
        for centre in rng.uniform(2.0, 8.0, 4):
            found = PARABOLA.solve((0, 10), theta=[centre, width], solver=solver)
            assert [event.name for event in found.events] == ["in", "out"], (centre, width)
            # The root's slope is 2 w: rounding and the tolerance of x over it.
            near = 1e-5 / width
            assert np.allclose([e.t for e in found.events], [centre - width, centre + width],
                               rtol=0, atol=near)  # fmt: skip


@pytest.mark.parametrize("solver", ["tsit5", "vern7", "rodas5p", "radau5"])
def test_what_stays_on_one_side_is_not_taken_for_a_pair(solver: str) -> None:
    # x touches no nearer than half a width: the parabola's dip is looked at, and left alone.
    away = symode.Model({x: 2 * (t - c), y: 0}, [c, w], time=t, initial={x: c**2 + 2 * w**2, y: 0},
                        events=EVENTS)  # fmt: skip
    for centre in (2.3, 5.1, 7.7):
        for width in (0.3, 1e-2):
            assert not away.solve((0, 10), theta=[centre, width], solver=solver).events


@pytest.mark.parametrize("solver", ["tsit5", "dopri5", "rodas5p", "radau5", "esdirk54"])
def test_grazing_pulses_of_an_oscillation_are_all_counted(solver: str) -> None:
    # x = sin t reaches over 1 - depth once a period, for 2 acos(1 - depth).
    count = sp.Symbol("count")
    for depth in (0.1, 1e-3, 1e-5):
        model = symode.Model({x: y, y: -x, count: 0}, initial={x: 0, y: 1, count: 0},
                             events=[symode.Event(x > 1 - depth, {count: count + 1})])  # fmt: skip
        found = model.solve((0, 60), solver=solver, rtol=1e-9, atol=1e-11)
        assert found["count"][-1] == 10, depth
        half = np.arccos(1 - depth)
        moments = [np.pi / 2 + 2 * np.pi * i - half for i in range(10)]
        assert np.allclose([e.t for e in found.events], moments, atol=1e-6 / half)


def test_kinks_crossed_twice_within_a_step_are_turned_at() -> None:
    # y' = max(0, w^2 - (s - c)^2) over s' = 1: the area of the cap, 4 w^3 / 3.
    model = symode.Model({x: 1, y: sp.Max(0, w**2 - (x - c) ** 2)}, [c, w],
                         initial={x: 0, y: 0})  # fmt: skip
    for width in (0.5, 0.1, 0.02):
        for centre in (3.3, 6.1):
            found = model.solve((0, 10), theta=[centre, width], rtol=1e-9, atol=1e-13)
            assert found.z[-1, 1] == pytest.approx(4 * width**3 / 3, rel=1e-8)
