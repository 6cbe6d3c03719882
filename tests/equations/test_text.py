"""Model text is read by a grammar of its own, and any text gives a model or a ParseError."""

import builtins
import math
import re
import time as clock

import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy.parsing import sympy_parser

from symode.equations.inputs import from_mapping
from symode.equations.text import parse_model
from symode.errors import ModelError, ParseError

x, y, a, b, c, d, t = sp.symbols("x y a b c d t")
LOTKA_VOLTERRA = """
# Lotka and Volterra
param a, b c
param d
growth = a*x            # put in below
x' = growth - b*x*y
dy/dt = d*x*y \
 - c*y; x(0) = 10
y(t0) = (
    a
    + 1/2)
obs prey = 1e3*x; obs growth = growth
""".replace("\\\n", "")


def rhs_of(expression):
    return parse_model(f"x' = {expression}").rhs[0]


def faults_of(text):
    with pytest.raises(ParseError) as caught:
        parse_model(text)
    assert caught.value.faults
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return caught.value.faults


def test_a_text_gives_the_equations_it_states():
    assert parse_model(LOTKA_VOLTERRA) == from_mapping(
        {x: a * x - b * x * y, y: d * x * y - c * y},
        parameters=(a, b, c, d),
        time=t,
        initial=(10, a + sp.Rational(1, 2)),
        observables={"prey": 1000.0 * x, "growth": a * x},
    )


def test_without_param_the_parameters_are_sorted_by_name():
    assert parse_model("x' = k2*x + K1*t - alpha").parameter_names == ("K1", "alpha", "k2")


@pytest.mark.parametrize(
    "text", ["dx/ds = s*x", "time s; x' = s*x", "x' = s*x; y' = s; time s", "dx/ds = x*s; z' = x"]
)
def test_time_has_the_name_it_is_given(text):
    equations = parse_model(text)
    assert equations.time == sp.Symbol("s")
    assert not equations.parameters


def test_names_are_plain_symbols_whatever_sympy_means_by_them():
    equations = parse_model("S' = -beta*I*S*E^N; I' = Q + gamma + lambda - zoo")
    assert equations.states == sp.symbols("S I")
    names = ("E", "N", "Q", "beta", "gamma", "lambda", "zoo")
    assert equations.parameters == tuple(map(sp.Symbol, names))


def test_names_may_be_greek_and_end_in_digits():
    assert parse_model("θ_1' = −ω·θ_1").rhs == (-sp.Symbol("ω") * sp.Symbol("θ_1"),)


EXPRESSIONS = {
    "2*x - -3": 2 * x + 3,
    "-x^2": -(x**2),
    "2^-x": 2 ** (-x),
    "2^3^x": 2 ** (3**x),
    "x**2**-1": sp.sqrt(x),
    "x - y - 3 + a": x - y - 3 + a,
    "x/y/a*b": x * b / (y * a),
    "x/(y/a)": x * a / y,
    "+x": x,
    "- - +x": x,
    "1/3": sp.Rational(1, 3),
    ".5e1 + 2.": sp.Float(7.0),
    "exp(x) * ln(y) + log10(10)": sp.exp(x) * sp.log(y) + 1,
    "sqrt(x) + abs(y)": sp.sqrt(x) + sp.Abs(y),
    "atan2(x, y) + erf(a)": sp.atan2(x, y) + sp.erf(a),
    "max(x, y, 0) - min(x, 1)": sp.Max(x, y, 0) - sp.Min(x, 1),
    "sign(x) * heaviside(y)": sp.sign(x) * sp.Heaviside(y),
    "gamma(x) + loggamma(y)": sp.gamma(x) + sp.loggamma(y),
    "asin(x) + acos(x) + atan(x)": sp.asin(x) + sp.acos(x) + sp.atan(x),
    "sin(x) + cos(x) + tan(pi/4)": sp.sin(x) + sp.cos(x) + 1,
    "sinh(x) + cosh(x) + tanh(x)": sp.sinh(x) + sp.cosh(x) + sp.tanh(x),
    "asinh(x) + acosh(x) - atanh(x)": sp.asinh(x) + sp.acosh(x) - sp.atanh(x),
    "erfc(x) + floor(y) + floor(2.5)": sp.erfc(x) + sp.floor(y) + 2,
    "if(x > 0, x, 0)": sp.Piecewise((x, x > 0), (0, True)),
    "if(not x <= 0, 1, 2)": sp.Piecewise((1, x > 0), (2, True)),
    "if(0 < x < 1, 1, 2)": sp.Piecewise((1, sp.And(x > 0, x < 1)), (2, True)),
    "if(1 < 2, x, y) + if(pi < 3, x, y)": x + y,
    "sin(-x)": sp.sin(-x, evaluate=False),
    "erf(10^300) + tanh(pi)": 1.0 + sp.tanh(sp.pi),
    "if(x > 0 and y > 0 or a == b, 1, 2)": sp.Piecewise(
        (1, sp.Or(sp.And(x > 0, y > 0), sp.Eq(a, b))), (2, True)
    ),
    "piecewise(1, x < 0, 2, x != 1, 3)": sp.Piecewise((1, x < 0), (2, sp.Ne(x, 1)), (3, True)),
    "(x + 1) * (\n  y - 1\n)": (x + 1) * (y - 1),
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_is_read_as_mathematics_writes_it(expression):
    assert rhs_of(expression) == EXPRESSIONS[expression]


def test_integers_are_exact_and_decimals_have_the_value_python_gives_them():
    assert isinstance(rhs_of("3"), sp.Integer)
    for text in ("0.1", "1e-3", "6.02214076e23", "123456789.123456789"):
        assert float(rhs_of(text)) == float(text)
    assert str(rhs_of("0.1*x")) == "0.1*x"


MALFORMED = {
    "x' = 2 x": ["line 1, column 8", "an operator is expected; a product is written with *"],
    "x' = x +": ["line 1, column 9", "expected after '+', not the end"],
    "y = 1\nx' = y*(x": ["line 2, column 8", "parenthesis is never closed"],
    "x' = x)": ["column 7", "never opened"],
    "x' = (x, 1)": ["column 8", "a comma stands only between the arguments"],
    "x' = ()": ["column 7", "a number, a name or '(' is expected after '('"],
    "x' = a*(x\ny' = 1": ["line 2, column 1", "parenthesis of line 1, column 8 is still open"],
    "x' = sim(x)": ["'sim' is not a function (did you mean sin?)", "sim*(...)"],
    "x' = sin(x, y)": ["sin has 1 arguments, not 2"],
    "x' = max(x)": ["max has at least 2 arguments, not 1"],
    "x' = if(x > 0, 1)": ["if(condition, a, b) has 3 arguments, not 2"],
    "x' = piecewise(1, x > 0)": ["odd number of arguments, 3 or more, not 2"],
    "x' = x > 0": ["column 6", "a number is expected, not a condition"],
    "x' = 1 + (x > 0)": ["a number is expected next to '+'", "if(condition, 1, 0)"],
    "x' = if(x, 1, 2)": ["column 9", "a condition, such as x > 0, is expected"],
    "x' = if(x and y > 0, 1, 2)": ["expected next to 'and', not a number"],
    "x' = x = 1": ["a comparison is written with =="],
    "x' = y'": ["a derivative stands only on the left of ="],
    "x' = x²": ["'x²' is not a name", "x^2"],
    "x' = [x]": ["'[' is not part of the grammar; group with parentheses"],
    "x' = 1_000": ["column 7", "not '_000'"],
    "x' = and": ["column 6", "not 'and'"],
    "x' = 1e400": ["outside the range of double precision"],
    "x' = 1e-400*x": ["outside the range of double precision"],
    "x' = 9^9^9^9": ["exceeds 1e308"],
    "x' = exp(1000)": ["column 6", "constant", "exceeds 1e308"],
    "x' = x^2000": ["column 8", "the exponent is larger than 1024"],
    "x' = x/(1 - 1)": ["column 7", "division by zero"],
    "x' = log(-1)": ["column 6", "constant", "is not real"],
    "x' = (-8)^(1/3)": ["column 10", "constant", "is not real"],
    "x'' = 1": ["first order", "x' = v"],
    "x' = 1; x' = 2": ["column 9", "'x' is a state already, by line 1"],
    "x' = 1; x = 2": ["'x' is a state already"],
    "param a, a; x' = 1": ["column 10", "'a' is a parameter already"],
    "x' = 1; x(0) = 1; x(0) = 2": ["'x' is an initial value already"],
    "x' = 1; obs u = 1; obs u = x": ["'u' is an observable already"],
    "x' = 1; y(0) = 1": ["'y' has no equation; write y' = ..."],
    "x' = 1; x(1) = 1": ["initial values are those at the start", "x(0)"],
    "x' = u; u = 1": ["'u' is used before its definition on line 1 is complete"],
    "x' = 1; u = u + 1": ["'u' is used before its definition"],
    "time s; dx/dt = 1": ["time is 's' on line 1"],
    "time s, u; x' = 1": ["time is followed by one name"],
    "param a = 1; x' = a": ["values of parameters are passed to each solve"],
    "param 3; x' = 1": ["a statement is expected"],
    "param k; x' = k*x + ck": ["unknown name 'ck' (did you mean k?)", "param ck"],
    "obs u; x' = 1": ["an observable is written obs u = ..."],
    "d/dt = 1": ["a derivative is written dx/dt"],
    "pi' = 1": ["'pi' is a word of the grammar"],
    "x + 1": ["a statement is expected: x' = ..."],
    "x' = gamma*gamma(x)": ["'gamma' is a function here and a symbol on line 1", "rename"],
    "x' = ": ["expected"],
}


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_text_is_refused_at_the_place(text):
    faults = faults_of(text)
    assert len(faults) == 1, faults
    for word in MALFORMED[text]:
        assert word in faults[0]


def test_the_caret_points_at_the_token_also_in_a_long_line():
    text = "x' = " + "x + " * 100 + "* y" + " + x" * 100
    _, shown, caret = faults_of(text)[0].split("\n")
    assert shown[caret.index("^")] == "*"
    assert len(shown) < 100


def test_all_malformed_statements_are_told_at_once_in_order():
    lines = [fault.split(",")[0] for fault in faults_of("x' = +\ny' = 3]\nx' = 4\nz(0) = 1\nu")]
    assert lines == ["line 1", "line 2", "line 3", "line 4", "line 5"]


def test_faults_of_meaning_are_those_of_every_model():
    with pytest.raises(ModelError, match="The state y in the initial value of x"):
        parse_model("x' = 1; y' = 1; x(0) = y")
    with pytest.raises(ModelError, match="There is no state"):
        parse_model("# nothing")
    with pytest.raises(ParseError, match="a text is expected"):
        parse_model(b"x' = 1")


@pytest.mark.parametrize(
    "text",
    ["x' = __import__('os').system('true')", "x' = x.__class__", "x' = eval(x)", "x' = lambda: 1"],
)
def test_nothing_in_a_text_is_executed(text, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("text was executed")

    for module, name in ((sympy_parser, "eval_expr"), (builtins, "eval"), (builtins, "exec")):
        monkeypatch.setattr(module, name, forbidden)
    with pytest.raises(ParseError):
        parse_model(text)


DEEP = {
    "parentheses": "(" * 3000 + "x" + ")" * 3000,
    "functions": "sin(1 + " * 3000 + "x" + ")" * 3000,
    "powers": "2^" * 3000 + "x",
    "signs": "-" * 3000 + "x",
    "conditions": "if(x < 1, 2*x, " * 3000 + "x" + ")" * 3000,
    "maxima": "max(x + 1, " * 3000 + "x" + ")" * 3000,
    "long sum": " + ".join(f"a{i}*x" for i in range(3000)),
}


@pytest.mark.parametrize("expression", DEEP.values(), ids=DEEP)
def test_depth_and_length_cost_linear_time(expression):
    begin = clock.perf_counter()
    parse_model(f"x' = {expression}")
    assert clock.perf_counter() - begin < 5.0  # measured: 0.03 to 0.6 s


STEPS = ["sin(d)*cos(d)", "max(d + 1, x*d)", "2*d + d^2/7", "if(d < 1 and d > x, d, 2*d)", "d^d"]


@pytest.mark.parametrize("step", STEPS)
def test_definitions_may_double_two_hundred_times(step):
    lines = ["d0 = x + 1/3"]
    for i in range(200):
        words = [f"d{i}" if word == "d" else word for word in _words(step)]
        lines.append(f"d{i + 1} = {' '.join(words)}")
    begin = clock.perf_counter()
    parse_model("\n".join([*lines, "x' = d200"]))
    assert clock.perf_counter() - begin < 5.0  # as a tree: 2**200 nodes


def _words(text):
    for mark in "()*+/<>^,":
        text = text.replace(mark, f" {mark} ")
    return text.split()


numbers = st.sampled_from(["0", "1", "2", "3", "0.5", "1.5e0", "x", "y"])
VALUES = {"x": 0.75, "y": -1.25}


@st.composite
def arithmetic(draw):
    """Arithmetic that Python reads by the same precedences."""
    words = [draw(numbers)]
    for _ in range(draw(st.integers(0, 6))):
        words.append(draw(st.sampled_from(["+", "-", "*", "/", "**", "+ -", "* -", "** -"])))
        words.append(draw(numbers))
    if draw(st.booleans()):
        start = draw(st.integers(0, len(words) // 2)) * 2
        words[start] = f"(-{words[start]}"
        words[-1] += ")"
    return " ".join(words)


@settings(deadline=None, max_examples=300)
@given(arithmetic())
def test_precedences_are_those_of_python(text):
    # With whole numbers Python would compute 3**3**3**3 to all its 3e12 digits.
    floats = re.sub(r"(?<![\w.])(\d)(?![\w.])", r"\1.0", text)
    try:
        expected = eval(floats, {}, VALUES)
    except (ZeroDivisionError, OverflowError):
        return
    try:
        got = rhs_of(text)
    except ModelError as error:
        # A constant subexpression that is not a real number of double precision.
        assert any(w in str(error) for w in ("not real", "1e308", "zero", "1024", "constant zoo"))
        return
    got = complex(got.subs({sp.Symbol(name): value for name, value in VALUES.items()}))
    assert got == pytest.approx(complex(expected), rel=1e-9, abs=1e-12) or math.isnan(abs(got))


WORDS = """
x' = dx/dt y(0) a + - * / ^ ** ( ) , < <= == != > and or not if piecewise pi param time obs sin(
max( gamma( log( sqrt( abs( 1 2.5 1e3 0 9 170 ; # _ . __import__ lambda x.y [ ] { } ' " \\ @ é ² ∞
"""
pieces = st.sampled_from([*WORDS.split(), "\n"])


def reads_or_refuses(text):
    begin = clock.perf_counter()
    try:
        equations = parse_model(text)
    except ModelError as error:
        assert str(error)
    else:
        assert equations.n_states
    assert clock.perf_counter() - begin < 5.0


@settings(deadline=None, max_examples=300)
@given(st.lists(pieces, max_size=25).map(" ".join))
def test_any_row_of_tokens_is_read_or_refused(text):
    reads_or_refuses(text)
    reads_or_refuses(f"x' = {text}")


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    reads_or_refuses(text)
    reads_or_refuses(f"x' = x + {text}")


CALLS = """
sin({}) exp({}) log({}) sqrt({}) gamma({}) loggamma({}) abs({}) ({})^{} max({},{}) min({},{})
{}+{} ({})*({}) ({})/({}) -({}) tan({}) if({}<{},{},{}) heaviside({}) sign({}) asin({})
atan2({},{}) erf({})
"""
calls = st.sampled_from(CALLS.split())
leaves = st.sampled_from(["x", "a", "0", "1", "2", "170", "1e300", "0.5", "pi", "1/3", "10^300"])


@st.composite
def nested_calls(draw, depth=4):
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return draw(leaves)
    call = draw(calls)
    parts = [draw(nested_calls(depth=depth - 1)) for _ in range(call.count("{}"))]
    return call.format(*parts)


@settings(deadline=None, max_examples=300)
@given(nested_calls())
def test_any_well_formed_expression_is_read_or_refused(expression):
    reads_or_refuses(f"x' = {expression}")
