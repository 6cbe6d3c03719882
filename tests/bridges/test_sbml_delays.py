"""Delayed events: executed when their moment comes, with the values and cancellations of SBML."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp

pytest.importorskip("libsbml", reason="libSBML is not installed (extra sbml)")

from bridges.little import Little

import symode
from symode.errors import ImportFileError, SolverError


def ticking() -> Little:
    """Let x be the time."""
    return Little().variable("x", 0).rate("x", "1").variable("s", 0).variable("q", 0)


def steps(*moments: float):
    return lambda t: sum(t >= moment for moment in moments)


ONE = {"s": "s + 1"}
SINE = "sin(6.283185307179586 * x) > 0"
MODELS = {
    "constant": (ticking().event("e", "x > 1", ONE, delay="0.7"), {"s": steps(1.7)}),
    "values at the trigger": (
        ticking().event("e", "x > 1", {"s": "x"}, delay="0.7"),
        {"s": steps(1.7)},
    ),
    "values at the execution": (
        ticking().event("e", "x > 1", {"s": "x"}, delay="0.7", trigger_values=False),
        {"s": lambda t: 1.7 * (t > 1.7)},
    ),
    "computed": (
        ticking().parameter("k", 0.1).event("e", "x > 1", ONE, delay="x * 0.6 + k"),
        {"s": steps(1.7)},
    ),
    "none": (ticking().parameter("d", 0).event("e", "x > 1", ONE, delay="d"), {"s": steps(1)}),
    "at the start": (
        ticking().event("e", "true", ONE, delay="1.3", initial_value=False),
        {"s": steps(1.3)},
    ),
    "several waiting": (
        ticking().event("e", SINE, ONE, delay="2.3", initial_value=False, trigger_values=False),
        {"s": steps(2.3, 3.3, 4.3)},
    ),
    "cancelled": (
        ticking().event("e", "x > 1 && x < 1.5", ONE, delay="0.7", persistent=False),
        {"s": 0},
    ),
    "not cancelled": (
        ticking().event("e", "x > 1 && x < 1.8", ONE, delay="0.7", persistent=False),
        {"s": steps(1.7)},
    ),
    "cancelled at its own moment": (
        ticking()
        .event("e", "x > 1", ONE, delay="1", persistent=False)
        .event("f", "x > 2", {"x": "0", "q": "1"}, priority="5"),
        {"s": 0, "q": steps(2)},
    ),
    "priority when executed": (
        ticking()
        .event("e", "x > 1", {"s": "q + 1"}, delay="1", priority="1", trigger_values=False)
        .event("f", "x > 2", {"q": "s + 10"}, priority="2", trigger_values=False),
        {"s": lambda t: 11 * (t > 2), "q": lambda t: 10 * (t > 2)},
    ),
    "names that are taken": (
        ticking()
        .variable("e_waits_1", 3)
        .rate("e_waits_1", "0")
        .event("e", "x > 1", ONE, delay="0.7")
        .event("e_triggers", "x > 9", ONE)
        .event("e_2", SINE + " && x > 9", ONE, delay="1"),
        {"s": steps(1.7), "e_waits_1": 3},
    ),
    "chain": (
        ticking()
        .event("e", "x > 1", ONE, delay="0.7")
        .event("f", "s > 0.5", ONE, delay="0.5")
        .event("g", "s > 1.5", {"s": "s * 2"}, delay="0.1"),
        {"s": lambda t: (t > 1.7) + (t > 2.2) + 2 * (t > 2.3)},
    ),
    "volumes": (
        ticking()
        .compartment("C", 1, constant=False)
        .species("A", concentration=3)
        .event("e", "x > 1", {"A": "A + 1"}, delay="1")
        .event("v", "x > 1.5", {"C": "2"}),
        {"A": lambda t: 3 if t < 1.5 else 1.5 if t < 2 else 4},
    ),
}


@pytest.mark.parametrize("label", MODELS)
def test_executions_come_when_their_moment_comes(label: str) -> None:
    little, expected = MODELS[label]
    model = symode.read_sbml(little.text())
    times = [0, 0.9, 1.2, 1.69, 1.71, 2.1, 2.25, 2.4, 3.4, 4.4]
    solution = model.solve((0, 4.4), theta=model.theta, times=times, rtol=1e-10, atol=1e-12)
    for key, value in expected.items():
        found = solution[key]
        wanted = [value(t) if callable(value) else value for t in times]
        np.testing.assert_allclose(found, wanted, rtol=1e-8, err_msg=key)


def test_gradients_follow_delays() -> None:
    # y decays; where x = t passes w, it is raised by q y(w) at w + d.
    little = (
        ticking()
        .variable("y", 2)
        .rate("y", "-k * y")
        .event("e", "x > w", {"y": "y + q2 * x"}, delay="d * w", trigger_values=False)
    )
    values = {"k": 0.6, "w": 0.8, "d": 0.75, "q2": 1.4}
    for key, value in values.items():
        little.parameter(key, value)
    model = symode.read_sbml(little.text())
    gradient = model.gradient(symode.Loss(terminal=sp.Symbol("y")), (0, 3), theta=model.theta)
    k, w, d, q2 = sp.symbols("k w d q2")
    moment = w + d * w
    exact = (2 * sp.exp(-k * moment) + q2 * moment) * sp.exp(-k * (3 - moment))
    assert gradient.value == pytest.approx(float(exact.subs(values)), rel=1e-7)
    for symbol in (k, w, d, q2):
        slope = float(sp.diff(exact, symbol).subs(values))
        assert gradient.theta[symbol.name] == pytest.approx(slope, rel=1e-6)


def test_gradients_follow_values_that_wait() -> None:
    little = ticking().variable("y", 2).rate("y", "-k * y").parameter("k", 0.6)
    little.parameter("w", 0.8).event("e", "x > w", {"y": "3 * y"}, delay="0.5")
    model = symode.read_sbml(little.text())
    gradient = model.gradient(symode.Loss(terminal=sp.Symbol("y")), (0, 3), theta=model.theta)
    # y(3) = 6 exp(-k w) exp(-k (3 - w - 1/2)) = 6 exp(-2.5 k)
    assert gradient.theta["k"] == pytest.approx(-2.5 * 6 * math.exp(-1.5), rel=1e-6)
    assert gradient.theta["w"] == pytest.approx(0, abs=1e-6)


def test_more_than_can_wait_end_the_solve_and_negative_delays_are_refused() -> None:
    model = symode.read_sbml(ticking().event("e", SINE, ONE, delay="12.3").text())
    with pytest.raises(SolverError, match="e_full = nan"):
        model.solve((0, 20), theta=model.theta)
    with pytest.raises(ImportFileError, match="the delay of e is negative"):
        symode.read_sbml(ticking().event("e", "x > 1", ONE, delay="-1").text())
