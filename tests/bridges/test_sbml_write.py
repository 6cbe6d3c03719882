"""Writing SBML: what is read back has the same right-hand side, values and solution."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

pytest.importorskip("libsbml", reason="libSBML is not installed (extra sbml)")

from bridges.little import Little
from hypothesis import assume, given
from random_models import draw
from strategies import TIME, examples, kinked_models

import symode
from symode.codegen.reference import evaluate
from symode.errors import InitialStateError, ModelError, UnsupportedFunctionError
from symode.symbolic.lift import lift_expressions

x, y, k, q, t = sp.symbols("x y k q t")


def values(model: symode.Model, expressions, t, z, theta) -> np.ndarray:
    """Return expressions at points, one row each."""
    graph = lift_expressions(model.equations, list(expressions))
    rows = np.asarray(evaluate(graph, t, z, theta), dtype=object)
    return np.array([np.broadcast_to(np.asarray(r, float), t.shape) for r in rows])


def assert_same(model: symode.Model, again: symode.Model, seed: int = 0) -> None:
    """Compare everything that both models evaluate, at points that are not special."""
    one, two = model.equations, again.equations
    assert one.state_names == two.state_names
    assert one.parameter_names == two.parameter_names
    assert one.mass == two.mass
    rng = np.random.default_rng(seed)
    t = rng.uniform(-2, 2, 7)
    z = rng.uniform(-2, 2, (one.n_states, 7))
    theta = rng.uniform(0.2, 2, one.n_parameters)

    def everything(equations) -> list[sp.Expr]:
        return [*equations.rhs, *(v for _, v in equations.observables)]

    with np.errstate(all="ignore"):
        found = [values(m, everything(m.equations), t, z, theta) for m in (model, again)]
        starts = [
            values(m, m.equations.initial, np.zeros(1), z[:, :1], theta) for m in (model, again)
        ]
    # Rounding alone differs: sums and products may come in another order.
    np.testing.assert_allclose(found[1], found[0], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(starts[1], starts[0], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_random_models_come_back(seed: int) -> None:
    model, _, _, theta = draw(seed)
    again = symode.read_sbml(symode.write_sbml(model, theta=theta))
    assert_same(model, again, seed)
    # Every digit of what is stated.
    assert list(again.theta.values()) == [float(v) for v in theta]
    expected = model.solve((0, 1), theta=theta).z[-1]
    np.testing.assert_allclose(
        again.solve((0, 1), theta=again.theta).z[-1], expected, rtol=1e-9, atol=1e-9
    )


@examples(40)
@given(kinked_models(n=(1, 2)))
def test_models_with_kinks_come_back(case) -> None:
    assume(not any(e.has(sp.erf, sp.erfc, sp.loggamma) for e in case.rhs))
    rhs = dict(zip(case.states, case.rhs, strict=True))
    theta = [1.5] * len(case.parameters)
    start = dict.fromkeys(case.states, 0.25)
    model = symode.Model(rhs, parameters=case.parameters, time=TIME, initial=start)
    assert_same(model, symode.read_sbml(symode.write_sbml(model, theta=theta)))


FUNCTIONS = [
    sp.sin(x), sp.cos(x), sp.tan(x), sp.sec(x), sp.csc(x), sp.cot(x), sp.asin(x / 9),
    sp.acos(x / 9), sp.atan(x), sp.sinh(x), sp.cosh(x), sp.tanh(x), sp.sech(x), sp.csch(x),
    sp.coth(x), sp.asinh(x), sp.acosh(3 + x), sp.atanh(x / 9), sp.exp(x), sp.log(3 + x),
    sp.sqrt(3 + x), sp.Abs(x), sp.floor(x), sp.ceiling(x), sp.Min(x, y), sp.Max(x, y, k),
    sp.sign(x), sp.Heaviside(x), sp.gamma(3 + x), sp.atan2(x, y), sp.Mod(x, 3), sp.frac(x),
    x**3, (3 + x) ** k, 1 / x**2, y / (x * sp.sqrt(3 + k)), -x / y, x ** sp.Rational(-7, 3) * 0,
    sp.Rational(22, 7) * x, sp.Float(0.1) + sp.Float(0.2) + x, sp.Float(1 / 3 * 1e-7) * x,
    sp.Integer(2) ** 60 * x, sp.pi * x, sp.E + x, sp.EulerGamma * x, t * x,
    sp.Piecewise((1, x < y), (2, sp.And(x > 1, sp.Not(y >= k))), (k, True)),
    sp.Piecewise((x, sp.Or(sp.Eq(x, y), sp.Ne(y, k))), (3, True)),
]  # fmt: skip


def test_every_function_comes_back() -> None:
    observables = {f"f{i}": f + k - k * 1 if f == 0 else f for i, f in enumerate(FUNCTIONS)}
    model = symode.Model(
        {x: k * y, y: -x}, parameters=(k,), initial={x: k, y: 1}, observables=observables, time=t
    )
    again = symode.read_sbml(symode.write_sbml(model, theta=[0.7]))
    assert dict(again.equations.observables).keys() == observables.keys()
    assert_same(model, again)


def test_an_angle_has_its_values_on_the_axes() -> None:
    model = symode.Model({x: sp.atan2(x, y), y: 0}, initial={x: 0, y: 1}, parameters=())
    again = symode.read_sbml(symode.write_sbml(model))
    points = np.array([[0.0, 0.0, 1.0, -1.0, 0.0, -2.0], [1.0, -1.0, 0.0, 0.0, 0.0, -3.0]])
    found = values(again, again.equations.rhs[:1], np.zeros(6), points, np.zeros(0))
    np.testing.assert_allclose(found[0], np.arctan2(*points), rtol=1e-15)


def test_events_come_back() -> None:
    events = [
        symode.Event(x < 1, {x: x + q, y: y / 2}, name="dose", priority=k, persistent=False),
        symode.Event(sp.And(t > 1, y > 0), {y: y - 1}, initial_value=False, name="2nd step",
                     use_trigger_values=False),
        symode.Event(sp.sin(t) - q, {y: 2 * y}, name="rise", direction=1),
        symode.Event(sp.cos(t), {x: x + 1}, name="both"),
    ]  # fmt: skip
    model = symode.Model(
        {x: -k * x, y: -y / 3}, parameters=(k, q), initial={x: 2, y: 3}, events=events, time=t
    )
    theta = {"k": 0.7, "q": 0.9}
    again = symode.read_sbml(symode.write_sbml(model, theta=theta))
    assert [e.name for e in again.equations.events] == [
        "dose", "event_1", "rise", "both_up", "both_down",
    ]  # fmt: skip
    for one, two in zip(model.equations.events, again.equations.events, strict=False):
        assert (one.priority, one.persistent, one.initial_value, one.use_trigger_values) == (
            two.priority, two.persistent, two.initial_value, two.use_trigger_values,
        )  # fmt: skip
    solutions = [m.solve((0, 4), theta=theta, times=[1.3, 2.9, 4]) for m in (model, again)]
    assert len(solutions[0].events) > 3
    np.testing.assert_allclose(solutions[1].z, solutions[0].z, rtol=1e-6)


def test_algebraic_equations_come_back() -> None:
    model = symode.Model(
        {x: -k * y}, algebraic={y: y**2 - x}, parameters=(k,), initial={x: 4, y: 1.5}
    )
    again = symode.read_sbml(symode.write_sbml(model, theta=[0.5]))
    assert_same(model, again)
    solution = again.solve((0, 2), theta=again.theta)
    assert solution["y"][-1] == pytest.approx(2 - 0.5, rel=1e-6)
    scaled = symode.Model({x: -k * x}, mass={x: 2}, parameters=(k,), initial={x: 1})
    assert symode.read_sbml(symode.write_sbml(scaled)).equations.rhs == (-k * x / 2,)


def test_a_model_read_is_written_with_its_values(tmp_path) -> None:
    little = Little().compartment("C", 2.5).species("A", amount=3).parameter("k", 0.1 + 0.2)
    little.parameter("u").variable("w").assign("w", "u * A")
    model = symode.read_sbml(little.reaction("r", {"A": 1}, {}, "k * C * A").text())
    path = tmp_path / "model.xml"
    text = symode.write_sbml(model, path)
    assert path.read_text() == text
    again = symode.read_sbml(path)
    assert_same(model, again)
    np.testing.assert_equal(again.theta, model.theta)


SMALL = symode.Model({x: -k * x}, parameters=(k,), initial={x: 1})
REFUSED = {
    "name": (
        symode.Model({"a-b": 1}, initial={"a-b": 1}, parameters=()),
        {},
        ModelError,
        "rename 'a-b'",
    ),
    "function": (
        symode.Model({x: sp.erf(x)}, initial={x: 1}, parameters=()),
        {},
        UnsupportedFunctionError,
        r"dx/dt has erf\(x\)",
    ),
    "start": (symode.Model({x: -x}, parameters=()), {}, InitialStateError, r"give z0= \(x\)"),
    "jump": (
        symode.Model({x: -x}, initial={x: 1}, parameters=(),
                     events=[symode.Event(x - 1, {x: 2 * x}, name="kick")]),
        {},
        ModelError,
        "'kick' fires where x - 1 crosses zero",
    ),
    "terminal": (
        symode.Model({x: -x}, initial={x: 1}, parameters=(),
                     events=[symode.Event(x < 1, name="end", terminal=True)]),
        {},
        ModelError,
        "'end' ends the solve",
    ),
    "mass": (
        symode.Model({x: -x, y: 1}, initial={x: 1, y: 1}, parameters=(), mass=[[1, 1], [0, 1]]),
        {},
        ModelError,
        "mass matrix in the equations of x",
    ),
    "theta": (SMALL, {"theta": {"q": 1}}, symode.SymodeError, "q"),
}  # fmt: skip


@pytest.mark.parametrize("label", REFUSED)
def test_what_sbml_has_no_words_for_is_named(label: str) -> None:
    model, options, error, words = REFUSED[label]
    with pytest.raises(error, match=words):
        symode.write_sbml(model, **options)


def test_deep_expressions_are_refused_not_crashed_on() -> None:
    deep = x
    for _ in range(700):
        deep = sp.sin(deep, evaluate=False)
    model = symode.Model({x: deep}, initial={x: 1}, parameters=())
    with pytest.raises(ModelError, match="nested more than 600 deep"):
        symode.write_sbml(model)
