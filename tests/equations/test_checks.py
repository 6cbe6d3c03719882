"""Every fault of a model is found, at once, and named in the user's symbols."""

import time as clock

import pytest
import sympy as sp

from symode.equations.checks import find_faults, non_smooth_constructs
from symode.equations.equations import Equations
from symode.equations.inputs import from_mapping
from symode.errors import ModelError

x, y, a, b, t = sp.symbols("x y a b t")
INTEGRAL = sp.Integral(sp.sin(x), x)
FUNCTION = sp.Function("x")


def faults_of(first, **changes):
    pieces = {"states": (x, y), "rhs": (first, -y), "parameters": (a,), "time": t, **changes}
    with pytest.raises(ModelError) as caught:
        Equations(**pieces)
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return caught.value.faults


def test_a_sound_model_has_no_fault():
    assert find_faults((x, y), (a * x * t, -y), (a,), t, (a, t), (("total", x + y),)) == []


SINGLE = {
    "unknown symbol": (sp.Symbol("k") * x, ["Unknown symbol k in dx/dt", "parameters="]),
    "other case": (sp.Symbol("A") * x, ["Unknown symbol A", "did you mean a?"]),
    "other assumptions": (
        sp.Symbol("x", positive=True),
        [
            "Symbol('x', positive=True) in dx/dt",
            "declared as Symbol('x')",
            "Create the symbol once",
        ],
    ),
    "imaginary unit": (sp.I * x, ["imaginary unit I in dx/dt", "models are real"]),
    "conjugate": (sp.conjugate(x), ["complex construct conjugate(x) in dx/dt"]),
    "real part": (sp.re(x) + y, ["complex construct re(x)"]),
    "root of a negative number": (x * sp.cbrt(-2), ["complex number (-2)**(1/3)"]),
    "inverse sine outside its domain": (sp.asin(2) * x, ["complex number asin(2)"]),
    "infinity": (sp.Max(x, sp.oo, evaluate=False), ["constant oo in dx/dt", "finite"]),
    "complex infinity": (sp.zoo, ["constant zoo"]),
    "not a number": (sp.nan, ["constant nan in dx/dt"]),
    "infinite float": (sp.Float("inf"), ["constant oo"]),
    "derivative": (sp.Derivative(FUNCTION(t), t), ["unevaluated Derivative", ".doit()"]),
    "integral": (INTEGRAL, ["unevaluated Integral Integral(sin(x), x)", ".doit()"]),
    "matrix": (sp.ImmutableMatrix([[x]]), ["ImmutableDenseMatrix Matrix([[x]]) in dx/dt"]),
    "matrix symbol": (sp.MatrixSymbol("M", 2, 2)[0, 1], ["MatrixElement M[0, 1]"]),
    "indexed": (sp.IndexedBase("u")[1], ["Indexed u[1]"]),
    "set": (sp.Interval(0, 1), ["Interval Interval(0, 1) in dx/dt"]),
    "relational": (x > 0, ["condition x > 0 in dx/dt", "number is expected", "Piecewise"]),
    "truth value": (sp.true, ["condition True in dx/dt"]),
    "symbol as a condition": (
        sp.Piecewise((1, a), (0, True)),
        ["symbol a as a condition", "a > 0"],
    ),
    "set as a condition": (
        sp.Piecewise((1, sp.Contains(x, sp.S.Integers)), (0, True)),
        ["condition Contains(x, Integers) in dx/dt"],
    ),
    "delta": (sp.DiracDelta(x), ["DiracDelta DiracDelta(x) in dx/dt"]),
    "state as a function of time": (-FUNCTION(t), ["function x(t) in dx/dt", "write the symbol x"]),
    "not an expression": (3.5, ["3.5, a float, in dx/dt", "SymPy expression is expected"]),
}


@pytest.mark.parametrize("rhs, words", SINGLE.values(), ids=SINGLE)
def test_a_fault_of_a_right_hand_side_is_named(rhs, words):
    faults = faults_of(rhs)
    assert len(faults) == 1, faults
    assert all(word in faults[0] for word in words), faults[0]


DECLARED = {
    "no state": ({"states": (), "rhs": (), "parameters": ()}, "There is no state"),
    "too few right-hand sides": ({"rhs": (x,)}, "1 right-hand sides for 2 states (x, y)"),
    "too many right-hand sides": ({"rhs": (x, y, x)}, "3 right-hand sides for 2 states"),
    "too few initial values": ({"initial": (a,)}, "1 initial values for 2 states (x, y)"),
    "initial value with a state": (
        {"initial": (y, a)},
        "The state y in the initial value of x: initial values are",
    ),
    "initial value with an unknown": (
        {"initial": (b, a)},
        "Unknown symbol b in the initial value of x",
    ),
    "state twice": ({"states": (x, x), "rhs": (x, x)}, "The name x is used twice, for a state: "),
    "parameter twice": ({"parameters": (a, a)}, "a is used twice, for a parameter"),
    "state and parameter": ({"parameters": (a, x)}, "x is used twice, for a state and a parameter"),
    "state and time": ({"time": x}, "x is used twice, for a state and time"),
    "namesakes": (
        {"parameters": (a, sp.Symbol("y", real=True))},
        "(Symbol('y') and Symbol('y', real=True) are different symbols to SymPy",
    ),
    "state that is a function": (
        {"states": (FUNCTION(t), y)},
        "The state x(t) is a function: write Symbol('x') for it",
    ),
    "state that is an expression": (
        {"states": (x + y, y)},
        "The state x + y is a Add, and a Symbol",
    ),
    "time that is text": ({"time": "t"}, "Time 't' is a str, and a Symbol is expected"),
    "imaginary parameter": (
        {"parameters": (a, sp.Symbol("k", imaginary=True))},
        "Symbol('k', imaginary=True) is not real",
    ),
    "infinite parameter": (
        {"parameters": (a, sp.Symbol("k", infinite=True))},
        "Symbol('k', infinite=True) is infinite",
    ),
    "parameter that does not commute": (
        {"parameters": (a, sp.Symbol("k", commutative=False))},
        "does not commute",
    ),
    "observable twice": (
        {"observables": (("u", x), ("u", y))},
        "observable name 'u' is used twice",
    ),
    "observable named as a state": ({"observables": (("x", y),)}, "'x' is also that of a state"),
    "observable without a name": (
        {"observables": ((x, y),)},
        "observable x is not named by a text",
    ),
    "observable with an unknown": (
        {"observables": (("u", x + b),)},
        "Unknown symbol b in the observable 'u'",
    ),
}


@pytest.mark.parametrize("changes, words", DECLARED.values(), ids=DECLARED)
def test_a_fault_of_the_declarations_is_named(changes, words):
    assert any(words in fault for fault in faults_of(a * x, **changes))


def test_all_faults_are_found_at_once():
    faults = faults_of(
        sp.I * b + sp.oo * sp.Symbol("k", positive=True) ** 2,
        parameters=(a, x),
        initial=(y,),
        observables=(("t", x),),
    )
    for words in ("constant oo", "imaginary", "symbol b", "x is used twice", "1 initial", "'t'"):
        assert any(words in fault for fault in faults), words


def test_a_fault_in_many_equations_is_told_once():
    states = sp.symbols("z:9")
    k = sp.Symbol("k")
    with pytest.raises(ModelError) as caught:
        Equations(states, tuple(k * z for z in states), (), t)
    assert caught.value.faults == (
        "Unknown symbol k in dz0/dt, dz1/dt, dz2/dt, dz3/dt and 5 more: declare it in parameters=.",
    )


def test_conditions_of_piecewise_are_accepted_and_read():
    rhs = sp.Piecewise((x, sp.And(x > a, sp.Not(sp.Eq(t, 1)))), (0, True))
    assert find_faults((x,), (rhs,), (a,), t) == []
    assert "Unknown symbol a" in find_faults((x,), (rhs,), (), t)[0]


def test_unknown_functions_are_left_to_the_graph():
    assert find_faults((x,), (sp.Function("g")(x) + sp.zeta(x),), (), t) == []


def test_symbols_keep_the_assumptions_of_the_user():
    p = sp.Symbol("p", positive=True)
    equations = from_mapping({p: -p * a})
    assert equations.states == (p,)
    assert equations.parameters == (a,)


def nested(depth, leaf):
    node = leaf
    for _ in range(depth):
        node = sp.sin(sp.Add(node, a, evaluate=False), evaluate=False)
    return node


def test_depth_is_no_obstacle():
    expression = nested(3000, x)
    begin = clock.perf_counter()
    assert from_mapping({x: expression}).parameters == (a,)
    assert "Unknown symbol x" in find_faults((y,), (expression,), (a,), t)[0]
    # Two walks of 6,000 nodes: tens of milliseconds, stated loosely for slow machines.
    assert clock.perf_counter() - begin < 2.0


def test_shared_subtrees_are_visited_once():
    node = x
    for _ in range(200):  # as a tree, 2**200 nodes
        node = sp.Add(sp.sin(node, evaluate=False), sp.cos(node, evaluate=False), evaluate=False)
    assert find_faults((x,), (node,), (), t) == []


def test_kinks_are_stated():
    equations = from_mapping(
        {x: sp.Abs(x) + sp.Max(x, y), y: sp.Abs(x) * sp.Heaviside(t - a)},
        observables={"low": sp.floor(x)},
    )
    assert set(non_smooth_constructs(equations)) == {
        "Abs(x) in dx/dt, dy/dt",
        "Max(x, y) in dx/dt",
        "Heaviside(-a + t) in dy/dt",
        "floor(x) in the observable 'low'",
    }


def test_smooth_models_state_no_kink():
    assert non_smooth_constructs(from_mapping({x: sp.sqrt(x) * sp.atan2(x, a)})) == ()
