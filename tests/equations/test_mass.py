"""Mass matrices and algebraic equations as users write them."""

import pickle
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from scipy.sparse import csr_array

import symode
from symode.equations.mass import mass_values, read_mass
from symode.errors import ModelError, ParseError

x, y, k, t = sp.symbols("x y k t")
WRITTEN = {
    "matrix": sp.Matrix([[1, 0], [0, 0]]),
    "lists": [[1, 0], [0, 0]],
    "array": np.diag([1.0, 0.0]),
    "sparse": csr_array(np.diag([1, 0])),
    "diagonal": {y: 0},
    "names": {"x": 1, "y": 0},
}


@pytest.mark.parametrize("form", WRITTEN)
def test_every_form_gives_the_same_matrix(form):
    model = symode.Model({x: -k * x, y: x - y}, mass=WRITTEN[form])
    assert [(i, j, float(v)) for i, j, v in model.equations.mass] == [(0, 0, 1.0)]
    assert model.equations.algebraic == ((1,), (1,))


def test_algebraic_equations_follow_the_others():
    model = symode.Model({x: -k * x}, algebraic={y: x - y})
    assert model.equations.state_names == ("x", "y")
    assert model.equations == symode.Model({x: -k * x, y: x - y}, mass={y: 0}).equations
    turned = symode.Model({x: -k * x}, algebraic={y: x - y}, states=(y, x))
    assert turned.equations.mass == ((1, 1, 1),)
    assert pickle.loads(pickle.dumps(model)).equations == model.equations


def test_the_identity_is_no_mass_matrix():
    for form in ([[1, 0], [0, 1]], np.eye(2), {x: 1}):
        assert symode.Model({x: -x, y: -y}, mass=form).equations.mass is None


def test_numbers_stay_exact():
    assert read_mass([[sp.Rational(1, 3), Fraction(2, 7)], [0, sp.sqrt(4)]], (x, y)) == (
        (0, 0, sp.Rational(1, 3)), (0, 1, sp.Rational(2, 7)), (1, 1, 2),
    )  # fmt: skip
    (entry,) = mass_values(read_mass([[sp.Rational(1, 3), 0], [0, 0]], (x, y)), 0, 2)
    assert entry == (0, 0, Fraction(1, 3))


@pytest.mark.parametrize(
    "mass, complaint",
    [
        ([[1, 0, 0], [0, 1, 0]], r"has the shape \(2, 3\).*2 states \(x, y\)"),
        ([1, 0], "is not a matrix"),
        ("identity", "is not a matrix"),
        (3, "is not a matrix"),
        ([[k, 0], [0, 1]], "holds k in the row of x and the column of x.*constant"),
        ([[1, 0], [0, np.nan]], "in the row of y and the column of y"),
        ([[1, 0], [0, sp.I]], "in the row of y"),
        ({"z": 0}, "mass= names z, and the states are x, y"),
    ],
)
def test_what_is_not_a_constant_matrix_is_refused(mass, complaint):
    with pytest.raises(ModelError, match=complaint):
        symode.Model({x: -k * x, y: x - y}, mass=mass)


def test_two_ways_at_once_are_refused():
    with pytest.raises(ModelError, match="not both"):
        symode.Model({x: -x}, algebraic={y: x - y}, mass={x: 2})
    with pytest.raises(ModelError, match="algebraic= is a list"):
        symode.Model({x: -x}, algebraic=[x - y])
    with pytest.raises(ModelError, match="equations that name their states"):
        symode.Model([-x], algebraic={y: x - y}, states=(x, y))


TEXT = """
x' = -k*x*v
alg y, v
0 = y - x**2
x(0) = 2
0 = v + y - 3
y(0) = 1; v(0) = 0
"""


def test_text_states_algebraic_equations():
    model = symode.Model.from_text(TEXT)
    v = sp.Symbol("v")
    assert model.equations.state_names == ("x", "y", "v")
    assert model.equations.rhs == (-k * x * v, -(x**2) + y, v + y - 3)
    assert model.equations.algebraic == ((1, 2), (1, 2))
    assert model.equations.parameter_names == ("k",)
    start = model.solve((0, 1), [0.0], times=[0.0]).z[0]
    assert start.tolist() == [2.0, 4.0, -1.0]


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("x' = -x; alg y", r"there are 1 algebraic states and 0 equations 0 = "),
        ("x' = -x; 0 = x", r"there are 0 algebraic states and 1 equations 0 = "),
        ("x' = -x; alg x; 0 = x", "'x' is a state already"),
        ("x' = -x; alg y; 0 = y -* x", "is expected after '-'"),
    ],
)
def test_text_says_what_does_not_fit(text, complaint):
    with pytest.raises(ParseError, match=complaint):
        symode.Model.from_text(text)


def test_latex_shows_the_left_sides():
    model = symode.Model(
        {x: -x, y: -k * y}, mass=[[2, -1], [0, 0]], parameters=(k,), initial=[1, 0]
    )
    assert model.latex().splitlines()[1:3] == [
        r"2 \frac{d x}{d t} - \frac{d y}{d t} &= - x \\",
        r"0 &= - k y \\",
    ]
