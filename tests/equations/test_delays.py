"""Delayed events of the core model: against closed forms, with their derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import GradientError, ModelError, SolverError

t, x, y, k, c, a, d, e = sp.symbols("t x y k c a d e", positive=True)
TIGHT = {"rtol": 1e-11, "atol": 1e-13}


def _model(hold: bool) -> symode.Model:
    """x decays, y = a t; where x falls to c, y/2 + d later, x is raised by e y."""
    event = symode.Event(x < c, {x: x + e * y}, name="late", delay=d + y / 2,
                         use_trigger_values=hold)  # fmt: skip
    return symode.Model({x: -k * x, y: a}, [k, c, a, d, e], time=t, initial={x: 1, y: 0},
                        events=[event])  # fmt: skip


def _known(hold: bool):
    """Return x(3) in the parameters: the trigger at ln(1/c)/k, the execution after its delay."""
    at = sp.log(1 / c) / k
    due = at + d + a * at / 2
    # The values of the trigger are those of all of them: x(t*) + e y(t*) replaces x(due).
    raised = c + e * a * at if hold else sp.exp(-k * due) + e * a * due
    return raised * sp.exp(-k * (3 - due))


THETA = {k: 0.7, c: 0.6, a: 1.3, d: 0.4, e: 0.9}
METHODS = ["discrete", "forward", "interpolating", "gauss", "backsolve"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hold", [True, False], ids=["of the trigger", "of the execution"])
def test_values_and_gradients_are_those_of_the_closed_form(hold: bool, method: str) -> None:
    model, known = _model(hold), _known(hold)
    found = model.gradient(symode.Loss(terminal=x), (0, 3), THETA, method=method, **TIGHT)
    assert found.value == pytest.approx(float(known.subs(THETA)), rel=1e-9)
    for symbol in THETA:
        wanted = float(sp.diff(known, symbol).subs(THETA))
        # Adjoints integrated at 1e-11 hold some hundreds of it through three jumps.
        assert found.theta[symbol.name] == pytest.approx(wanted, rel=1e-7, abs=1e-8), symbol


def test_initial_values_may_leave_out_what_waits() -> None:
    model, loss = _model(True), symode.Loss(terminal=x)
    known = model.gradient(loss, (0, 3), THETA).value
    for z0 in ([1.0, 0.0], {x: 1.0, "y": 0.0}):
        assert model.gradient(loss, (0, 3), THETA, z0=z0).value == pytest.approx(known, rel=1e-9)
        assert model.solve((0, 3), THETA, z0=z0)["x"][-1] == pytest.approx(known, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_two_of_one_trigger_and_delay_come_together_and_have_a_gradient(method: str) -> None:
    late = {"delay": d + x**2, "use_trigger_values": False}
    events = [symode.Event(x < c, {x: x + e}, name="add", priority=1, **late),
              symode.Event(x < c, {y: y + x}, name="copy", **late)]  # fmt: skip
    model = symode.Model({x: -k * x, y: 0}, [k, c, d, e], time=t, initial={x: 1, y: 0},
                         events=events)  # fmt: skip
    theta = {key: THETA[key] for key in (k, c, d, e)}
    found = model.gradient(symode.Loss(terminal=x * y), (0, 3), theta, method=method, **TIGHT)
    due = sp.log(1 / c) / k + d + c**2
    raised = sp.exp(-k * due) + e
    known = raised**2 * sp.exp(-k * (3 - due))
    assert found.value == pytest.approx(float(known.subs(theta)), rel=1e-9)
    for symbol in theta:
        wanted = float(sp.diff(known, symbol).subs(theta))
        assert found.theta[symbol.name] == pytest.approx(wanted, rel=1e-7, abs=1e-8), symbol
    apart = symode.Event(x < c, {y: 1}, name="apart", delay=d + c * x)
    with pytest.raises(GradientError, match="meet at t"):
        # The same moment by another expression is a meeting by chance.
        symode.Model({x: -k * x, y: 0}, [k, c, d, e], time=t, initial={x: 1, y: 0},
                     events=[events[0], apart]).gradient(
            symode.Loss(terminal=x * y), (0, 3), theta, method=method, **TIGHT)  # fmt: skip


def test_one_that_does_not_persist_is_withdrawn_and_others_wait_side_by_side() -> None:
    sine = sp.sin(2 * sp.pi * t)
    pulses = symode.Event(sine > 0, {x: x + 1}, delay=sp.Rational(13, 5), initial_value=False,
                          use_trigger_values=False, name="pulse 1")  # fmt: skip
    gone = symode.Event((t > 1) & (t < sp.Rational(3, 2)), {y: 5}, delay=1, persistent=False)
    model = symode.Model({x: 0, y: 0}, time=t, initial={x: 0, y: 0}, events=[pulses, gone])
    found = model.solve((0, 5), times=[2.5, 2.7, 3.7, 4.7])
    assert found["x"].tolist() == [0, 1, 2, 3] and not found["y"].any()
    crossing = symode.Event(sine, {x: x + 1}, direction=-1, delay=0.25, use_trigger_values=False)
    model = symode.Model({x: 0}, time=t, initial={x: 0}, events=[crossing])
    assert model.solve((0, 3), times=[0.7, 0.8, 1.8, 2.8])["x"].tolist() == [0, 1, 2, 3]


def test_terminal_executions_end_the_solve_and_too_many_are_told() -> None:
    last = symode.Event(t > 1, {x: 0}, delay=c, terminal=True)
    found = symode.Model({x: 1}, [c], time=t, initial={x: 0}, events=[last]).solve((0, 4), [0.5])
    assert found.t[-1] == pytest.approx(1.5) and found["x"][-1] == 0
    many = symode.Event(sp.sin(20 * t) > 0, {x: x + 1}, delay=100, use_trigger_values=False)
    with pytest.raises(SolverError):
        symode.Model({x: 0}, time=t, initial={x: 0}, events=[many]).solve((0, 10))


def test_delays_that_cannot_be_are_refused() -> None:
    with pytest.raises(ModelError, match="delay -1 is no number of 0 or more"):
        symode.Event(t > 1, {x: 1}, delay=-1)
    with pytest.raises(ModelError, match="is a text"):
        symode.Event(t > 1, {x: 1}, delay="1")
    with pytest.raises(ModelError, match="Unknown symbol e in the event 'late'"):
        symode.Model({x: 1}, time=t, events=[symode.Event(t > 1, {x: 1}, name="late", delay=e)])
    assert symode.Event(t > 1, {x: 1}, delay=0).delay is None


def test_a_delay_of_zero_is_at_once() -> None:
    model = _model(False)
    found = model.solve((0, 3), {**THETA, d: 0.0, a: 0.0}, **TIGHT)
    fired = [event for event in found.events if event.name == "late"]
    assert np.allclose([event.t for event in fired], [np.log(1 / 0.6) / 0.7], rtol=1e-9)
