"""Events in forward solves, against closed forms and published semantics."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import ModelError, SolverError, UnsupportedCombinationError
from symode.problems.fingerprint import fingerprint
from symode.solvers.methods import METHODS

t, x, y, v, k, tau = sp.symbols("t x y v k tau")
Event = symode.Event
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def ball(**options) -> symode.Model:
    bounce = Event(x < 0, {x: 0, v: -k * v}, name="bounce", **options)
    return symode.Model(
        {x: v, v: -10}, parameters=[k], time=t, initial={x: 5, v: 0}, events=[bounce]
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_ball_bounces_where_the_closed_form_does_by_every_method(method: str) -> None:
    solution = ball().solve((0, 4), theta=[0.8], times=[0.5, 1.0, 2.0], solver=method, **TIGHT)
    # Falls from 5 in 1 s, then flies 2 * 0.8**i s.
    moments = np.cumsum([1.0, 1.6, 1.28])
    # Fall and flight are quadratic in t: every method is exact up to rounding of its stages.
    assert [fired.t for fired in solution.events] == pytest.approx(moments, rel=1e-9)
    assert solution.events[0].before[1] == pytest.approx(-10, rel=1e-9)
    assert solution.events[0].after == pytest.approx([0, 8], rel=1e-9)
    # At the moment itself the state is the one after it; the interpolant agrees.
    assert solution["x"] == pytest.approx([3.75, 0.0, 8 - 5], abs=1e-8)
    assert solution(2.0)[0] == pytest.approx(3.0, abs=1e-8)
    assert solution(1.0 + 1e-9)[1] > 7 and solution(1.0 - 1e-9)[1] < -9


def test_all_steps_hold_both_sides_of_a_jump() -> None:
    solution = ball().solve((0, 1.9), theta=[0.5])
    (moment,) = (fired.t for fired in solution.events)
    rows = solution.z[solution.t == moment]
    assert rows[:, 1] == pytest.approx([-10, 5], rel=1e-7)


def test_bounces_without_end_are_named() -> None:
    # The flights sum up: 1 + 2 (1/2 + 1/4 + ...) = 3.
    with pytest.raises(SolverError, match=r"t = (3|2\.99999\d*) .*events fire without end.*bounce"):
        ball().solve((0, 5), theta=[0.5])
    partial = ball().solve((0, 5), theta=[0.5], raise_on_failure=False)
    assert partial.status == symode.status.CHATTERING and len(partial.events) > 20


def test_a_pulse_between_two_steps_is_not_missed() -> None:
    # Steps of the quiet model are far longer than the 1e-3 between the two switches.
    events = [Event(t >= tau, {v: 1}), Event(t >= tau + sp.Rational(1, 1000), {v: 0})]
    model = symode.Model(
        {x: v, v: 0}, parameters=[tau], time=t, initial={x: 0, v: 0}, events=events
    )
    solution = model.solve((0, 1000), theta=[333.3], **TIGHT)
    assert solution["x"][-1] == pytest.approx(1e-3, rel=1e-9)
    assert [f.t for f in solution.events] == [333.3, pytest.approx(333.301)]


def test_a_double_root_inside_a_step_is_found() -> None:
    # x falls below 0.05 only for |t - 1| < sqrt(0.05), inside one step of an exact method.
    low = Event(x < sp.Rational(1, 20), {y: y + 1})
    model = symode.Model(
        {x: 2 * (t - 1), y: 0}, time=t, initial={x: 1, y: 0}, events=[low], parameters=[]
    )
    solution = model.solve((0, 2), solver="vern7")
    (fired,) = solution.events
    assert fired.t == pytest.approx(1 - 0.05**0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("direction", "times"), [(1, [1.5]), (-1, [0.5, 2.5]), (0, [0.5, 1.5, 2.5])]
)
def test_an_expression_fires_in_its_direction(direction: int, times: list[float]) -> None:
    # x = cos(pi t)
    model = symode.Model(
        {x: -sp.pi * y, y: sp.pi * x}, time=t, initial={x: 1, y: 0}, parameters=[],
        events=[Event(x, {}, direction=direction)],
    )  # fmt: skip
    solution = model.solve((0, 3), **TIGHT)
    assert [f.t for f in solution.events] == pytest.approx(times, rel=1e-9)


def test_a_condition_at_the_start_fires_as_its_initial_value_says() -> None:
    def count(initial_value: bool, condition) -> int:
        events = [Event(condition, {y: y + 1}, initial_value=initial_value)]
        model = symode.Model(
            {x: 1, y: 0}, time=t, initial={x: 0, y: 0}, parameters=[], events=events
        )
        return int(model.solve((0, 1))["y"][-1])

    assert count(True, x >= 0) == 0 and count(False, x >= 0) == 1
    # False at the start itself, true at once.
    assert count(True, x > 0) == 1
    assert count(True, x > 2) == 0 and count(False, (x < 2) & (y < 5)) == 1


def test_priorities_persistence_and_values_decide_between_events_at_one_moment() -> None:
    def end(*events) -> list[float]:
        model = symode.Model(
            {x: 0, y: 0}, time=t, initial={x: 1, y: 2}, parameters=[], events=events
        )
        return model.solve((0, 2))([1.5]).ravel().tolist()

    double, add = {x: 2 * x}, {x: x + 3}
    assert end(Event(t > 1, double, use_trigger_values=False), Event(t > 1, add)) == [4, 2]
    late = {"use_trigger_values": False}
    assert end(Event(t > 1, double, **late), Event(t > 1, add, **late)) == [5, 2]
    assert end(Event(t > 1, double, **late), Event(t > 1, add, priority=y, **late)) == [8, 2]
    # With values of the trigger, the second overwrites the first.
    assert end(Event(t > 1, add, priority=2), Event(t > 1, double, priority=1)) == [2, 2]
    # The first makes the second's condition false before its turn.
    first, second = Event(t > 1, {y: 0}, priority=1), Event((t > 1) & (y > 1), {x: 9})
    assert end(first, second) == [9, 0]
    gone = Event((t > 1) & (y > 1), {x: 9}, persistent=False)
    assert end(first, gone) == [1, 0]


def test_a_jump_may_fire_other_events_at_once() -> None:
    events = [Event(t > 1, {x: 5}, name="a"), Event(x > 4, {y: x}, name="b")]
    events += [Event(y >= 5, {x: 0}, name="c")]
    model = symode.Model({x: 0, y: 0}, time=t, initial={x: 1, y: 2}, parameters=[], events=events)
    solution = model.solve((0, 2))
    assert [(f.t, f.name) for f in solution.events] == [(1, "a"), (1, "b"), (1, "c")]
    assert solution.z[-1].tolist() == [0, 5]
    ping = [Event(t > 1, {x: 2}), Event(x > 1, {x: 0}, name="p"), Event(x < 1, {x: 2}, name="q")]
    endless = symode.Model({x: 0, y: 0}, time=t, initial={x: 1, y: 2}, parameters=[], events=ping)
    with pytest.raises(SolverError, match=r"fire without end.*p, q"):
        endless.solve((0, 2))


def test_a_terminal_event_ends_the_solve() -> None:
    solution = ball(terminal=True).solve((0, 4), theta=[0.8], times=[0.5, 3.0])
    assert solution.success and solution.t.tolist() == [0.5]
    assert solution.events[-1].t == pytest.approx(1.0, rel=1e-7)
    # All steps: the last is the state after the event.
    assert ball(terminal=True).solve((0, 4), theta=[0.8]).t[-1] == pytest.approx(1.0, rel=1e-7)


def test_an_event_at_the_end_and_one_at_the_start_show_in_observations() -> None:
    events = [Event(t >= 2, {x: 7}), Event(t >= 0, {x: 3}, initial_value=False)]
    model = symode.Model({x: 0}, time=t, initial={x: 1}, parameters=[], events=events)
    assert model.solve((0, 2), times=[0, 1, 2])["x"].tolist() == [3, 3, 7]


def test_stiff_segments_and_events_go_together() -> None:
    # Robertson's first two lines with a refill: the stiff method takes over between events.
    a, b = sp.symbols("a b")
    refill = Event(a < sp.Rational(1, 2), {a: 1, y: y + 1}, name="refill")
    model = symode.Model(
        {a: -k * a + b, b: -1e5 * (b - a / 10), y: 0}, parameters=[k], time=t,
        initial={a: 1, b: 0, y: 0}, events=[refill],
    )  # fmt: skip
    found = [model.solve((0, 20), theta=[0.4], solver=s) for s in ("auto", "rodas5p", "radau5")]
    assert len(found[0].events) > 5
    times = [[f.t for f in solution.events] for solution in found]
    assert times[0] == pytest.approx(times[1], rel=1e-6)
    assert times[2] == pytest.approx(times[1], rel=1e-6)


def test_faults_of_events_are_found_at_once() -> None:
    other = sp.Symbol("other")
    events = [
        Event(sp.Eq(x, 1), {k: 2}, name="a"),
        Event(x > other, {sp.Symbol("w"): 1}, name="b"),
        Event(t > 1, {x: sp.I}, name="b"),
    ]
    with pytest.raises(ModelError) as caught:
        symode.Model({x: -k * x}, parameters=[k], time=t, events=events)
    text = str(caught.value)
    for words in ("an equality holds", "k is a parameter", "Unknown symbol other", "w is set",
                  "two events are called 'b'", "imaginary unit"):  # fmt: skip
        assert words.lower() in text.lower()


def test_a_number_is_no_trigger() -> None:
    # It would never fire, without a word; a time was meant.
    with pytest.raises(ModelError, match=r"trigger 20 is a number.*t > 20"):
        Event(20, {x: x + 1})


def test_events_are_part_of_what_a_model_is() -> None:
    with_events = ball()
    again = pickle.loads(pickle.dumps(with_events))
    assert again.equations == with_events.equations and again.equations.events[0].name == "bounce"
    one = again.solve((0, 2), theta=[0.5])
    assert one.events[0].t == pytest.approx(1.0)
    data = symode.Data([1, 2], {"x": [1.0, 0.5]})

    def mark(model: symode.Model) -> str:
        return fingerprint(symode.Problem(model, data, symode.Normal(0.1), scale="log10"))["model"]

    other = ball(terminal=True)
    plain = symode.Model({x: v, v: -10}, parameters=[k], time=t, initial={x: 5, v: 0})
    assert len({mark(with_events), mark(other), mark(plain)}) == 3
    assert mark(with_events) == mark(again)


def test_what_does_not_take_events_says_so() -> None:
    model, loss = ball(), symode.Loss(terminal=x)
    with pytest.raises(UnsupportedCombinationError, match="forwards"):
        model.solve((2, 0), theta=[0.5])
    with pytest.raises(UnsupportedCombinationError, match="events"):
        model.as_scipy([0.5])
    with pytest.raises(UnsupportedCombinationError, match="events"):
        model.adjoint_system()
    with pytest.raises(UnsupportedCombinationError, match="events"):
        symode.verify(model, loss, (0, 2), theta=[0.5])
    with pytest.raises(UnsupportedCombinationError, match="events"):
        model.gradient(loss, (0, 2), theta=[0.5], solver="scipy:RK45")
