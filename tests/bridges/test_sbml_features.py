"""Features of SBML one at a time, in small models whose solutions are known in closed form.

Tolerances: solves at rtol 1e-10, compared at 1e-7, which no wrong reading of a feature meets.
"""

from __future__ import annotations

import math
from math import exp

import numpy as np
import pytest
import sympy as sp

pytest.importorskip("libsbml", reason="libSBML is not installed (extra sbml)")

from bridges.little import Little
from bridges.suite import course

import symode
from symode.errors import ImportFileError

A, B, K = 0.7, 2.3, 0.7


def assert_gives(little: Little, expected: dict, times=(0.0, 0.5, 2.0), amounts=()) -> None:
    model = symode.read_sbml(little.text())
    solution = model.solve(
        (times[0], times[-1]), theta=model.theta, times=times, rtol=1e-10, atol=1e-13
    )
    for key, value in expected.items():
        found = course(model, key, set(amounts), set(), solution)
        wanted = [value(t) if callable(value) else value for t in times]
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9, err_msg=key)


FORMULAS = {
    "rem(b, a)": math.fmod(B, A), "rem(-b, a)": math.fmod(-B, A), "quotient(b, a)": 3,
    "quotient(-b, a)": -3, "min(a, b)": A, "max(a, b, 5)": 5, "min(a)": A, "5 % 3": 2,
    "factorial(4)": 24, "factorial(ceil(b))": 6, "ceil(-b)": -2, "floor(-b)": -3, "factorial(0)": 1,
    "sec(a)": 1 / math.cos(A), "csc(a)": 1 / math.sin(A), "cot(a)": 1 / math.tan(A),
    "sech(a)": 1 / math.cosh(A), "csch(a)": 1 / math.sinh(A), "coth(a)": 1 / math.tanh(A),
    "arcsec(-b)": math.acos(-1 / B), "arccsc(b)": math.asin(1 / B), "arccot(a)": math.atan(1 / A),
    "arccot(-a)": math.atan(-1 / A), "arcsech(a)": math.acosh(1 / A),
    "arccsch(a)": math.asinh(1 / A), "arccoth(-b)": math.atanh(-1 / B),
    "arcsinh(a)": math.asinh(A), "arccosh(b)": math.acosh(B), "arctanh(a)": math.atanh(A),
    "log10(b)": math.log10(B), "log(2, b)": math.log2(B), "root(3, b)": B ** (1 / 3),
    "piecewise(1, xor(a < b, true), 2)": 2, "piecewise(1, implies(a < b, false), 2)": 2,
    "piecewise(1, a < b < 5, 2)": 1, "piecewise(1, a < b < 1, 2)": 2, "gt(3, 2, 2)": 0,
    "eq(1, 1, 1)": 1, "piecewise(1, xor(true, true, true), 2)": 1, "piecewise(1, and(), 2)": 1,
    "piecewise(1, or(), 2)": 2, "plus() + 1": 1, "times() + 1": 2, "plus(a)": A,
    "(a < b) + 1": 2, "piecewise(3, a, 4)": 3, "!(a > b)": 1, "not(a)": 0, "-2^2": -4,
    "piecewise(true, a < b, false) + 1": 2, "eq((a < b), true)": 1, "max(a < b, 0.5)": 1,
    "piecewise(4, piecewise(true, a < b, false), 5)": 4, "avogadro * 1e-23": 6.02214179,
    "exponentiale + pi": math.e + math.pi, "neq(a, b)": 1, "twice(a, b)": 2 * A - B,
}  # fmt: skip


@pytest.mark.parametrize("how", ["assign", "rate", "initial"])
def test_every_function_of_the_language_has_its_value(how: str) -> None:
    little = Little().parameter("a", A).parameter("b", B)
    little.function("twice", "lambda(x, y, 2 * x - once(y))").function("once", "lambda(a, a)")
    expected = {}
    for i, (formula, value) in enumerate(FORMULAS.items()):
        key = f"y{i}"
        little.variable(key, 0)
        getattr(little, how)(key, formula)
        expected[key] = (lambda t, v=value: v * t) if how == "rate" else value
    assert_gives(little, expected)


def cell(little: Little, size=1, **more) -> Little:
    return little.compartment("C", size, **more)


def decaying(level: int, version: int) -> Little:
    little = cell(Little(level, version), 2).species("A", amount=3).species("B", concentration=0.5)
    return little.parameter("k", K).reaction("r", {"A": 1}, {"B": 2}, "C*k*A")


VERSIONS = [(2, 1), (2, 2), (2, 3), (2, 4), (2, 5), (3, 1), (3, 2)]


@pytest.mark.parametrize(("level", "version"), VERSIONS)
def test_every_version_is_read(level: int, version: int) -> None:
    little = decaying(level, version)
    little.species("D", amount=3).parameter("q", 5)
    little.reaction("s", {"D": 1}, {}, "q*C*D", local={"q": 0.4})
    assert_gives(
        little,
        {
            "A": lambda t: 1.5 * exp(-K * t),
            "B": lambda t: 0.5 + 3 * (1 - exp(-K * t)),
            "r": lambda t: 2 * K * 1.5 * exp(-K * t),
            "D": lambda t: 1.5 * exp(-0.4 * t),
            "q": 5,
        },
    )
    if level == 2:
        little = cell(Little(level, version), 2).species("A", amount=3).species("B", amount=1)
        little.parameter("n", 2).reaction("r", {"A": 1}, {"B": "n + 1"}, "C*0.7*A")
        assert_gives(little, {"B": lambda t: 0.5 + 4.5 * (1 - exp(-K * t))})
        little = Little(level, version).variable("x", 1).variable("s", 1).rate("x", "-x")
        little.event("e", "x < 0.5", {"s": "2*x", "x": "1"})
        assert_gives(little, {"x": lambda t: exp(-(t % math.log(2)))}, (0, 0.5, 1, 1.3))


def growing(**more) -> Little:
    """A compartment of size 1 + t / 2."""
    return cell(Little(), constant=False).rate("C", "0.5")


def source(side: dict, law: str = "1", **more) -> Little:
    little = cell(Little()).species("A", amount=3, boundary=True).species("B", amount=1)
    return little.reaction("r", {"A": 1}, side, law)


def after(moment: float, then: float, before: float = 0):
    return lambda t: then if t > moment else before


def ticking() -> Little:
    """Let x be the time."""
    return Little().variable("x", 0).rate("x", "1").variable("s", 0)


def fired(trigger: str, **more) -> Little:
    return ticking().event("e", trigger, {"s": "s + 1"}, **more)


MODELS = {
    "point": (
        cell(Little(), None, dimensions=0)
        .species("A", amount=3)
        .reaction("r", {"A": 1}, {}, "0.7*A"),
        {"A": lambda t: 3 * exp(-K * t)},
    ),
    "initial size": (
        cell(Little(), 4)
        .initial("C", "p * 2")
        .parameter("p", 1.5)
        .species("A", amount=3)
        .reaction("r", {"A": 1}, {}, "0.7*A*C"),
        {"A": lambda t: exp(-K * t), "C": 3},
    ),
    "amounts in a growing compartment": (
        growing()
        .species("A", amount=3, only_substance=True)
        .species("B", amount=2)
        .reaction("r", {"A": 1}, {"B": 1}, "0.7*A"),
        {
            "A": lambda t: 3 * exp(-K * t),
            "B": lambda t: (2 + 3 * (1 - exp(-K * t))) / (1 + t / 2),
        },
    ),
    "fixed amounts in an assigned compartment": (
        cell(Little(), constant=False)
        .assign("C", "1 + time")
        .species("D", concentration=2, constant=True)
        .species("E", concentration=2, boundary=True),
        {"D": lambda t: 2 / (1 + t), "E": lambda t: 2 / (1 + t)},
    ),
    "boundary species with a rate": (
        cell(Little(), 2)
        .species("A", concentration=3, boundary=True)
        .species("B", amount=1)
        .reaction("r", {"A": 1}, {"B": 1}, "0.7*A*C")
        .rate("A", "-A"),
        {"A": lambda t: 3 * exp(-t), "B": lambda t: 0.5 + 2.1 * (1 - exp(-t))},
    ),
    "constant species in a reaction": (
        cell(Little())
        .species("A", amount=3, constant=True)
        .species("B", amount=1)
        .reaction("r", {"B": 1}, {"A": 1}, "0.7*B"),
        {"A": 3, "B": lambda t: exp(-K * t)},
    ),
    "no law": (
        cell(Little(), 2).species("A", amount=3).reaction("r", {"A": 1}, {})
        .reaction("q", {"A": 1}, {}, "").variable("y").assign("y", "r + 1"),
        {"A": 1.5, "y": 1},
    ),
    "both sides": (
        cell(Little()).species("A", amount=3).reaction("r", {"A": 1}, {"A": 2}, "A*0.5"),
        {"A": lambda t: 3 * exp(0.5 * t)},
    ),
    "species twice": (
        source([("B", ("n", 1)), ("B", 2)]), {"B": lambda t: 1 + 3 * t}
    ),
    "assigned stoichiometry": (
        source({"B": ("n", None)}).assign("n", "1 + time"),
        {"B": lambda t: 1 + t + t * t / 2},
    ),
    "changing stoichiometry": (
        source({"B": ("n", 1)}).rate("n", "2"),
        {"B": lambda t: 1 + t + t * t, "n": lambda t: 1 + 2 * t},
    ),
    "initial stoichiometry": (
        source({"B": ("n", None)}).initial("n", "2 + q").parameter("q", 0.5),
        {"B": lambda t: 1 + 2.5 * t},
    ),
    "stoichiometry set by an event": (
        source({"B": ("n", 1)}).event("e", "time >= 1", {"n": "4"}),
        {"B": lambda t: 1 + min(t, 1) + 4 * max(t - 1, 0)},
    ),
    "empty mathematics": (
        Little().variable("x", 1).variable("y", 2).variable("z", 3).rate("x", None)
        .assign("y", None).initial("z", None).event("e", None, {"x": "2"}).function("f", None)
        .event("g", "time > 1", {"x": None, "y": "3"}, delay="", priority="").algebraic(None),
        {"x": 1, "y": after(1, 3, 2), "z": 3},
    ),
    "functions of time and of nothing": (
        Little().variable("x", 1).function("f", "lambda(a, a * time)").rate("x", "f(2) + g()")
        .function("g", "lambda(3)"),
        {"x": lambda t: 1 + t * t + 3 * t},
    ),
    "rules in any order": (
        Little().variable("x", 1).rate("x", "-x").variable("y").variable("z").assign("y", "z + 1")
        .assign("z", "2 * x"),
        {"y": lambda t: 1 + 2 * exp(-t)},
    ),
    "no state": (Little().variable("y").assign("y", "sin(time)"), {"y": math.sin}),
    "nothing": (Little().parameter("u", 1), {"u": 1}),
    "what is not finite": (
        Little().parameter("p", math.inf).parameter("n", math.nan).variable("y").variable("z")
        .assign("y", "-p").assign("z", "notanumber + 1").variable("x", 1).rate("x", "1"),
        {"p": math.inf, "n": math.nan, "y": -math.inf, "z": math.nan, "x": lambda t: 1 + t},
    ),
    "unset": (
        cell(Little()).species("A").parameter("u").variable("x").rate("x", "1").initial("x", "2"),
        {"A": math.nan, "u": math.nan, "x": lambda t: 2 + t},
    ),
    "piecewise without otherwise": (
        Little().variable("x", 1).rate("x", "piecewise(1, time < 5)").variable("y")
        .assign("y", "piecewise(1, time < 1, 4, time >= 2)"),
        {"x": lambda t: 1 + t, "y": lambda t: 4 if t >= 2 else 1},
    ),
    "rateOf": (
        decaying(3, 2).variable("y").assign("y", "rateOf(A)").variable("z")
        .assign("z", "rateOf(k) + rateOf(C)").variable("w").initial("w", "rateOf(A) * 2"),
        {"y": lambda t: -K * 1.5 * exp(-K * t), "z": 0, "w": -2 * K * 1.5},
    ),
    "rateOf in a growing compartment": (
        growing().species("B", amount=2).variable("y").assign("y", "rateOf(B)"),
        {"y": lambda t: -1 / (1 + t / 2) ** 2},
    ),
    "rateOf in an assigned compartment": (
        cell(Little(), constant=False).assign("C", "1 + time").species("B", amount=2)
        .variable("y").assign("y", "rateOf(B)"),
        {"y": lambda t: -2 / (1 + t) ** 2},
    ),
    "rateOf what is assigned": (
        Little().variable("x", 1).rate("x", "-2 * x").variable("s").assign("s", "x^2 + time")
        .variable("y").assign("y", "rateOf(s)"),
        {"y": lambda t: 1 - 4 * exp(-4 * t)},
    ),
    "floor of time": (
        Little().variable("x", 0).rate("x", "factorial(floor(time))"),
        {"x": lambda t: (t if t < 2 else 2 + 2 * (t - 2))},
    ),
    "trigger of numbers": (fired("piecewise(0, x < 1, 1)"), {"s": after(1, 1)}),
    "trigger by xor": (fired("xor(x > 1, x > 3)"), {"s": after(1, 1)}),
    "trigger by implies": (fired("implies(x < 1, x > 2)"), {"s": after(1, 1)}),
    "trigger by a function": (
        fired("f(x, 1)").function("f", "lambda(a, b, a > b)"), {"s": after(1, 1)}
    ),
    "trigger by a rule": (
        fired("2 * w > 1").variable("w").assign("w", "x > 1"), {"s": after(1, 1)}
    ),
    "trigger by floor": (fired("floor(x) == 1"), {"s": after(1, 1)}),
    "trigger by equality": (
        fired("q == 1").variable("q", 0).variable("u", 0)
        .event("on", "x > 1", {"q": "1"}).event("u", "q != 0", {"u": "u + 1"})
        .event("off", "x > 1.2", {"q": "0"}).event("again", "x > 1.4", {"q": "1"}),
        {"s": after(1, 2), "u": after(1, 2)},
    ),
    "at the start": (fired("true", initial_value=False), {"s": 1}),
    "not at the start": (fired("true"), {"s": 0}),
    "priorities": (
        ticking().variable("a", 0)
        .event("e", "x > 1", {"a": "s + 1"}, priority="1", trigger_values=False)
        .event("f", "x > 1", {"s": "a + 5"}, priority="2 * x", trigger_values=False)
        .event("g", "x > 1 && s < 1", {"a": "100"}, priority="0", persistent=False),
        {"s": after(1, 5), "a": after(1, 6)},
    ),
    "a volume that jumps": (
        cell(Little(), constant=False).species("A", concentration=3)
        .species("D", concentration=4, boundary=True)
        .event("e", "time >= 1", {"C": "2", "A": "A + 1"}),
        {"A": after(1, 4, 3), "D": after(1, 2, 4)},
    ),
    # Names.
    "names that are taken": (
        growing().species("S", amount=2).parameter("S_amount", 3).parameter("r_k", 5)
        .reaction("r", {"S": 1}, {}, "k*S*C*S_amount/3", local={"k": 0.7}),
        {"S": lambda t: 2 * exp(-K * t) / (1 + t / 2), "r_k": 5},
    ),
    "names that mean something elsewhere": (
        Little().variable("t", 1).rate("t", "-t").variable("E", 0).rate("E", "time").variable("I")
        .assign("I", "zoo + None + lambda").parameter("zoo", 1).parameter("None", 2)
        .parameter("lambda", 3),
        {"t": lambda t: exp(-t), "E": lambda t: t * t / 2, "I": 6},
    ),
    "no delay": (Little().variable("x", 1).rate("x", "-delay(x, 0)"), {"x": lambda t: exp(-t)}),
    # Algebraic rules.
    "algebraic chain": (
        Little().variable("x", 1).rate("x", "-x").variable("y").variable("z")
        .algebraic("y * 2 - z + x").algebraic("x + y - 3").variable("w").assign("w", "rateOf(y)")
        .variable("v").initial("v", "2 * y"),
        {
            "y": lambda t: 3 - exp(-t), "z": lambda t: 6 - exp(-t), "w": lambda t: exp(-t),
            "v": 4,
        },
    ),
    "algebraic block": (
        Little().variable("x", 1).rate("x", "-x").variable("y").variable("z")
        .algebraic("x + y - 3 * z").algebraic("y * 2 - z + x"),
        {"y": lambda t: -0.4 * exp(-t), "z": lambda t: 0.2 * exp(-t)},
    ),
    "algebraic square": (
        Little().variable("x", 4).variable("y", 1.5).rate("x", "-y").algebraic("y^2 - x"),
        {"x": lambda t: (2 - t / 2) ** 2, "y": lambda t: 2 - t / 2},
    ),
    "algebraic species": (
        decaying(3, 2).species("S", amount=9, only_substance=True).algebraic("S - A - 2 * B"),
        {"S": lambda t: 1 + 1.5 * exp(-K * t) + 6 * (1 - exp(-K * t))},
    ),
    "algebraic compartment": (
        cell(Little(), constant=False).algebraic("C - (1 + time)").species("A", amount=3)
        .reaction("r", {"A": 1}, {}, "0.7 * A * C"),
        {"A": lambda t: 3 * exp(-K * t) / (1 + t), "C": lambda t: 1 + t},
    ),
    "algebraic stoichiometry": (
        source({"B": ("n", None)}).algebraic("n - (1 + time)"),
        {"B": lambda t: 1 + t + t * t / 2},
    ),
    "algebraic behind a rule": (
        Little().variable("x", 1).rate("x", "-x").variable("y").assign("y", "2 * x + z")
        .variable("z").algebraic("y - 5"),
        {"z": lambda t: 5 - 2 * exp(-t), "y": 5},
    ),
    "algebraic and an event": (
        Little().variable("x", 1).variable("y").algebraic("y - x")
        .event("e", "time >= 1", {"x": "5"}),
        {"y": after(1, 5, 1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("label", MODELS)
def test_a_feature_means_what_the_specification_says(label: str) -> None:
    assert_gives(*MODELS[label])


def test_conversion_factors_are_those_of_species_before_the_model() -> None:
    little = cell(Little(), 2).species("A", amount=3, factor="f").species("B", amount=1)
    little.parameter("f", 2).parameter("g", 3).reaction("r", {"A": 1}, {"B": 1}, "0.7*A*C")
    little.model.setConversionFactor("g")
    expected = {
        "A": lambda t: 3 * exp(-2 * K * t),
        "B": lambda t: 1 + 3 * 3 / 2 * (1 - exp(-2 * K * t)),
    }
    assert_gives(little, expected, amounts=("A", "B"))


def test_an_undefined_piece_ends_a_solve() -> None:
    little = Little().variable("x", 1).rate("x", "piecewise(1, time < 1)")
    model = symode.read_sbml(little.text())
    with pytest.raises(symode.SolverError):
        model.solve((0, 2), theta=model.theta)


def test_gradients_follow_an_algebraic_equation() -> None:
    # x' = -k y with y = sqrt(x): sqrt(x) = 2 - k t / 2.
    little = Little().variable("x", 4).variable("y", 1.5).parameter("k", 1.0)
    little.rate("x", "-k * y").algebraic("y^2 - x")
    model = symode.read_sbml(little.text())
    gradient = model.gradient(symode.Loss(terminal=sp.Symbol("x")), (0, 2), theta=model.theta)
    assert gradient.theta["k"] == pytest.approx(-2 * (2 - 1), rel=1e-6)


REFUSED = {
    "over-determined": (
        Little().variable("x", 1).variable("y", 1).rate("x", "-y").rate("y", "-x")
        .algebraic("y - x"),
        "algebraic rule of y, x determines nothing",
    ),
    "open": (
        Little().variable("x", 1).variable("y", 1).algebraic("y - x"),
        "may determine y or x|may determine x or y",
    ),
    "without a guess": (
        Little().variable("x", 1).variable("y").rate("x", "-y").algebraic("y^2 - x"),
        "give it an initial value near its solution",
    ),
    "set by an event": (
        Little().parameter("x", 1).variable("y").algebraic("y - x")
        .event("e", "time > 1", {"y": "2"}),
        "an event sets y",
    ),
    "equality in passing": (fired("x == 1"), "holds at single moments"),
    "a start without a value": (
        Little().variable("x").event("e", "time > 1", {"x": "2"}), "x has no initial value"
    ),
    "fast": (
        cell(Little(3, 1)).species("A", amount=1)
        .reaction("r", {"A": 1}, {}, "A", fast=True),
        "the fast reaction r",
    ),
}  # fmt: skip


@pytest.mark.parametrize("label", REFUSED)
def test_what_cannot_be_right_is_refused_by_name(label: str) -> None:
    little, words = REFUSED[label]
    with pytest.raises(ImportFileError, match=words):
        symode.read_sbml(little.text())
