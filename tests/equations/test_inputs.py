"""The forms in which a model can be given all lead to the same Equations."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp

from symode.equations.inputs import as_expression, from_function, from_mapping
from symode.equations.namespace import SymbolNamespace
from symode.errors import ModelError

x, y, a, b, t = sp.symbols("x y a b t")
F, G = a * x - b * x * y, x * y * t
EXPECTED = from_mapping({x: F, y: G}, parameters=(b, a), time=t)


FORMS = {
    "names as keys": lambda: from_mapping({"x": F, "y": G}, ["b", "a"], "t"),
    "one text of names": lambda: from_mapping({x: F, y: G}, "b a"),
    "pairs": lambda: from_mapping([(x, F), (y, G)], (b, a), t),
    "list with states": lambda: from_mapping([F, G], (b, a), t, states=(x, y)),
    "column matrix": lambda: from_mapping(sp.Matrix([F, G]), (b, a), t, states="x, y"),
    "row matrix": lambda: from_mapping(sp.ImmutableMatrix([[F, G]]), (b, a), t, states=[x, y]),
    "mapping in another order": lambda: from_mapping({y: G, x: F}, (b, a), states=(x, y)),
    "generator of parameters": lambda: from_mapping({x: F, y: G}, (p for p in (b, a))),
    "function by attribute": lambda: from_function(
        lambda z, t, p: {"x": p.a * z.x - p.b * z.x * z.y, "y": z.x * z.y * t}, "x y", "b a"
    ),
    "function by index": lambda: from_function(
        lambda z, t, p: [p[1] * z[0] - p["b"] * z[0] * z[1], z[0] * z[1] * t], (x, y), (b, a)
    ),
    "function by unpacking": lambda: from_function(unpacking, ["x", "y"], ["b", "a"], t),
}


def unpacking(z, time, theta):
    x, y = z
    b, a = theta
    return sp.Matrix([a * x - b * x * y, x * y * time])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_equations(form):
    assert form() == EXPECTED


def test_parameters_are_found_and_sorted_by_name():
    equations = from_mapping({x: b * x}, initial=[a], observables={"u": sp.Symbol("c") * x * t})
    assert equations.parameter_names == ("a", "b", "c")
    assert equations.time == t


def test_time_is_the_t_of_the_expressions_with_its_assumptions():
    s = sp.Symbol("t", nonnegative=True)
    assert from_mapping({x: s * x}).time == s
    assert from_mapping({x: a * x}).time == sp.Symbol("t")
    assert from_mapping({x: a * x}, time="s").time == sp.Symbol("s")


def test_names_mean_the_symbols_of_the_expressions():
    p = sp.Symbol("p", positive=True)
    equations = from_mapping({"p": -a * p}, ["a"], initial={"p": 2})
    assert equations.states == (p,)
    assert equations.initial == (2,)


INITIAL = {
    "mapping": {y: a, x: 10},
    "mapping by name": {"x": 10, "y": a},
    "sequence": (10, a),
    "matrix": sp.Matrix([10, a]),
    "object array": np.array([10, a], dtype=object),
}


@pytest.mark.parametrize("initial", INITIAL.values(), ids=INITIAL)
def test_every_form_of_initial_values_gives_the_same(initial):
    assert from_mapping({x: F, y: G}, initial=initial).initial == (10, a)


def test_numbers_are_taken_at_their_value():
    values = [3, np.int32(3), Fraction(1, 3), 0.1, np.float64(0.1), np.float32(0.5), sp.pi]
    got = [as_expression(value) for value in values]
    assert got[:3] == [sp.Integer(3), sp.Integer(3), sp.Rational(1, 3)]
    assert [float(value) for value in got[3:6]] == [0.1, 0.1, 0.5]
    assert got[6] is sp.pi


class Foreign:
    def _sympy_(self):
        return x + 1


def test_objects_that_convert_themselves_are_accepted():
    assert from_mapping({x: Foreign()}).rhs == (x + 1,)


REFUSED = {
    "text": (lambda: from_mapping({x: "__import__('os')"}), "Model.from_text"),
    "none": (lambda: from_mapping({x: None}), "dx/dt is a NoneType"),
    "truth value": (lambda: from_mapping({x: True}), "dx/dt is True, a truth value"),
    "complex": (lambda: from_mapping({x: 1 + 2j}), "dx/dt is the complex number (1+2j)"),
    "array": (lambda: from_mapping({x: np.ones(2)}), "dx/dt is a ndarray"),
    "matrix in an equation": (
        lambda: from_mapping({x: sp.Matrix([x, y])}),
        "dx/dt is a matrix of shape (2, 1)",
    ),
    "vector without states": (lambda: from_mapping([F, G]), "states="),
    "whole model as text": (lambda: from_mapping("x' = a"), "Model.from_text(text) reads"),
    "one expression": (lambda: from_mapping(F), "The equations are a Add"),
    "state named t": (lambda: from_mapping({t: -t}), "a state and time: rename one, or pass"),
    "unordered parameters": (lambda: from_mapping({x: F, y: G}, {a, b}), "is a set"),
    "parameter values": (lambda: from_mapping({x: F, y: G}, {a: 1, b: 2}), "is a mapping"),
    "state without equation": (
        lambda: from_mapping({x: a * x}, states=(x, y)),
        "The state y has no equation",
    ),
    "equation without state": (
        lambda: from_mapping({x: F, y: G}, states=(x,)),
        "equation of y, which is not among states= (x)",
    ),
    "two equations of one state": (
        lambda: from_mapping([(x, F), ("x", G), (y, F)], states="x y"),
        "x has two equations",
    ),
    "state twice": (lambda: from_mapping([(x, F), ("x", G), (y, F)]), "x is used twice"),
    "initial of a stranger": (
        lambda: from_mapping({x: a}, initial={x: 1, "w": 2}),
        "value to w, which is not a state (x)",
    ),
    "initial value missing": (
        lambda: from_mapping({x: F, y: G}, initial={x: 1}),
        "no value for the state y",
    ),
    "initial as a number": (lambda: from_mapping({x: a}, initial=1), "initial= is a int"),
    "initial as text": (
        lambda: from_mapping({x: a}, initial={x: "a"}),
        "initial value of x is the",
    ),
    "observables without names": (
        lambda: from_mapping({x: a}, observables=[x]),
        "give a mapping {name: expression}",
    ),
    "namesake": (
        lambda: from_mapping({x: sp.Symbol("x", real=True)}),
        "Symbol('x', real=True) in dx/dt: the state of that name was declared as Symbol('x')",
    ),
    "function with math": (
        lambda: from_function(lambda z, t, p: [math.sin(z.x)], "x"),
        "sympy.sin, not math.sin",
    ),
    "function with numpy": (
        lambda: from_function(lambda z, t, p: [np.sin(z.x)], "x"),
        "sympy.sin, not math.sin or numpy.sin",
    ),
    "function with if": (
        lambda: from_function(lambda z, t, p: [1 if z.x > 0 else 0], "x"),
        "sympy.Piecewise in place of if",
    ),
    "function without result": (
        lambda: from_function(lambda z, t, p: None, "x"),
        "The equations are a NoneType",
    ),
}


@pytest.mark.parametrize("form, words", REFUSED.values(), ids=REFUSED)
def test_a_malformed_input_is_refused_with_the_way_out(form, words):
    with pytest.raises(ModelError) as caught:
        form()
    assert words in str(caught.value)


def test_faults_of_the_form_and_of_the_equations_are_told_together():
    with pytest.raises(ModelError) as caught:
        from_mapping({x: "a*x", y: sp.oo}, parameters=(a,), initial={"w": 1})
    for words in ("is the text 'a*x'", "constant oo", "w, which", "no value for the state x"):
        assert words in str(caught.value)


def test_an_error_of_the_users_function_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        from_function(lambda z, t, p: [1 / 0], "x")


def test_names_hide_the_methods_of_a_namespace():
    z = SymbolNamespace(sp.symbols("index count x"))
    assert (z.index, z.count) == sp.symbols("index count")
    assert z[1:] == sp.symbols("count x")
    with pytest.raises(AttributeError, match="'k' is not one of index, count, x"):
        _ = z.k
    with pytest.raises(KeyError):
        z["k"]
