"""What a newcomer gets wrong: each mistake is refused by name, with the way out."""

import re
from itertools import pairwise

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import solve_ivp

import symode
from symode.errors import GradientError, LossError, OptionError, SolverError
from symode.gradients.methods import METHODS
from symode.solvers.methods import METHODS as SOLVERS

x, y, k, t = sp.symbols("x y k t")
MODEL = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
LOSS = symode.Loss(terminal=x**2)
SPAN, THETA = (0.0, 1.0), [0.7]


def refuses(call, error, *words):
    """Check that a call raises this error, and that its message holds the words."""
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert re.search(re.escape(word), str(caught.value)), (word, str(caught.value))
    return caught.value


NO_NUMBER = [
    (x > 0, "The condition x > 0", "Piecewise"),
    (sp.And(x > 0, x < 1), "The condition", "a number is expected"),
    (sp.true, "The condition True", "Piecewise"),
    (sp.I * x, "imaginary unit I", "real"),
    (x + sp.zoo, "zoo", "finite"),
    (sp.oo, "oo", "finite"),
    (sp.nan, "nan", "finite"),
    (sp.Integral(x, x), "unevaluated Integral", ".doit()"),
    (sp.Derivative(sp.sin(x), x), "unevaluated Derivative", ".doit()"),
    (sp.Matrix([[x]]), "matrix of shape (1, 1)"),
    (sp.MatrixSymbol("A", 1, 1), "MatrixSymbol A"),
    ("x**2", "the text 'x**2'", "write it with SymPy symbols"),
]


@pytest.mark.parametrize("given", NO_NUMBER, ids=lambda given: str(given[0]))
def test_a_loss_holds_numbers(given):
    """Terminal, running and observed expressions, and observables of LeastSquares."""
    value, *words = given
    refuses(lambda: symode.Loss(terminal=value), LossError, "terminal", *words)
    refuses(lambda: symode.Loss(running=value), LossError, "running", *words)
    refuses(lambda: symode.Loss(observations={1.0: value}), LossError, "observation", *words)
    if not isinstance(value, str):
        loss = symode.LeastSquares([1.0], [[1.0]], [value])
        refuses(lambda: MODEL.gradient(loss, SPAN, THETA), LossError, "observable", *words)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (x**2, ("the expression x**2", "symode.Loss(terminal=...)")),
        (None, ("NoneType", "symode.Loss")),
        (symode.Loss, ("the class Loss",)),
        (symode.Data([0.0, 1.0], {"x": [1.0, 2.0]}), ("Data", "symode.LeastSquares")),
    ],
)
def test_what_is_no_loss(loss, words):
    """The message says how to make a loss of it."""
    refuses(lambda: MODEL.gradient(loss, SPAN, THETA), LossError, *words)
    refuses(lambda: MODEL.gradient(loss, SPAN, THETA, solver="scipy:RK45"), LossError, *words)
    refuses(lambda: MODEL.value_and_grad(loss, t1=1.0), LossError, *words)
    refuses(lambda: symode.verify(MODEL, loss, SPAN, THETA), LossError, *words)
    if loss is not None:
        refuses(lambda: MODEL.adjoint_system(loss), LossError, *words)


def raising(error, backwards):
    """Return a solver that raises in one of the passes."""

    def solve(fun, span, y0, t_eval):
        if (span[1] < span[0]) is backwards:
            raise error
        return solve_ivp(fun, span, y0, t_eval=t_eval, rtol=1e-10, atol=1e-12).y.T

    return solve


@pytest.mark.parametrize(
    "error", [ValueError("not finite."), FloatingPointError(), SolverError("no")]
)
def test_a_given_solver_that_raises(error):
    """The error says which pass failed, why, and what to do; the cause is kept."""
    name = "" if isinstance(error, SolverError) else type(error).__name__
    call = lambda s: MODEL.gradient(LOSS, SPAN, THETA, solver=s)  # noqa: E731
    raised = refuses(lambda: call(raising(error, False)), SolverError, name, str(error))
    assert error in (raised, raised.__cause__)
    raised = refuses(
        lambda: call(raising(error, True)), GradientError, "from t=1 to t=0", name,
        "method='forward'", "symode's solvers",
    )  # fmt: skip
    assert raised.__cause__ is error


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda r: r, ("OdeResult", "return result.y.T")),
        (lambda r: r.y, ("shape", "Return y.T")),
        (lambda r: None, ("None", "one row per time")),
        (lambda r: "abc", ("a str", "one row per time")),
        (lambda r: r.y.T * np.nan, ("not finite",)),
    ],
)
def test_a_given_solver_that_returns_something_else(result, words):
    """The message says what is expected."""

    def solver(fun, span, y0, t_eval):
        return result(solve_ivp(fun, span, y0, t_eval=t_eval))

    loss = symode.Loss(terminal=x**2, observations={0.5: x})
    refuses(lambda: MODEL.gradient(loss, SPAN, THETA, solver=solver), GradientError, *words)


@pytest.mark.filterwarnings("error")
def test_a_backward_pass_that_explodes():
    """Backwards, decay is growth without end: no warning, one error."""
    model = symode.Model({x: -k * (x - sp.cos(t))}, parameters=[k], initial={x: 2})

    def euler(fun, span, y0, t_eval):
        times = np.linspace(*span, 2000)
        y = y0
        for a, b in pairwise(times):
            y = y + (b - a) * np.asarray(fun(a, y))
        return y[None]

    refuses(
        lambda: model.gradient(LOSS, (0, 50), [20.0], solver=euler),
        GradientError, "backward pass", "not finite", "method='forward'",
    )  # fmt: skip


DATA = symode.Data([1.0, 2.0, 3.0], {"x": [1.0, 0.5, 0.25]})
PROBLEM = symode.Problem(MODEL, DATA, symode.Normal(0.1), bounds=(0.1, 10), scale="log10")
SQUARES = symode.LeastSquares([1.0], [[1.0]])


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda **o: MODEL.solve(SPAN, THETA, **o), "solve()"),
        (lambda **o: MODEL.gradient(LOSS, SPAN, THETA, **o), "gradient()"),
        (lambda **o: MODEL.gradient(LOSS, SPAN, THETA, gradient_rtol=1e-6, **o), "gradient()"),
        (lambda **o: MODEL.gradient(LOSS, SPAN, THETA, solver="scipy:RK45", **o), "gradient()"),
        (lambda **o: MODEL.value_and_grad(SQUARES, **o), "value_and_grad()"),
        (lambda **o: symode.verify(MODEL, LOSS, SPAN, THETA, **o), "verify()"),
        (
            lambda **o: symode.Problem(MODEL, DATA, symode.Normal(1), bounds=(0, 1), **o),
            "Problem()",
        ),
    ],
)
def test_a_mistyped_option(call, what):
    """The name that was meant is offered, and all names are listed."""
    refuses(lambda: call(rto=1e-3), OptionError, what, "rto (did you mean rtol?)", "max_steps")
    refuses(lambda: call(names=["x"]), OptionError, what, "no option names")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: symode.Problem(DATA, MODEL, symode.Normal(1)), OptionError,
         ("a Model, then Data", "got a Data, then a Model", "Swap")),
        (lambda: symode.Problem(MODEL, [1.0], symode.Normal(1)), OptionError, ("then a list",)),
        (lambda: symode.verify(PROBLEM, LOSS, SPAN, THETA), OptionError,
         ("got a Problem", "problem.model, problem.loss")),
        (lambda: symode.verify(MODEL, LOSS, 3.0, THETA), OptionError, ("pair (t0, t1)",)),
        (lambda: symode.fit(MODEL), OptionError, ("got a Model", "symode.Problem(")),
        (lambda: MODEL.gradient(LOSS, SPAN, THETA, method=symode.DiscreteAdjoint), OptionError,
         ("add ()", "DiscreteAdjoint()")),
        (lambda: MODEL.gradient(LOSS, SPAN, THETA, method="discreet"), OptionError,
         ("did you mean discrete?", "backsolve", "forward")),
        (lambda: PROBLEM.objective([1.0, 2.0]), OptionError, ("(log10(k))", "(2,)")),
        (lambda: PROBLEM.scores([]), OptionError, ("(log10(k))", "(0,)")),
        (lambda: symode.fit(PROBLEM, rtol=1e-6), OptionError, ("rtol= belongs", "Problem(")),
        (lambda: symode.fit(PROBLEM, sead=1), OptionError, ("did you mean seed?", "optimizer")),
        (lambda: symode.fit(PROBLEM, 1, seed=-1), OptionError, ("seed", "-1")),
        (lambda: symode.fit(PROBLEM, 1, seed="a"), OptionError, ("seed", "'a'")),
        (lambda: symode.fit(PROBLEM, [[11.0]]), OptionError, ("k = 11", "(0.1, 10)")),
        (lambda: symode.fit(PROBLEM, {"k": 0.01}), OptionError, ("k = 0.01", "(0.1, 10)")),
        (lambda: MODEL.solve(SPAN, THETA, solver="scipy:Radau"), OptionError,
         ("Model.gradient()", "as_scipy", "rodas5p")),
        (lambda: MODEL.solve(SPAN, THETA, solver="rodas"), OptionError,
         ("did you mean rodas5p?", "stiff", "tsit5")),
        (lambda: MODEL.gradient(LOSS, SPAN, THETA, solver=None), OptionError, ("solver", "None")),
        (lambda: MODEL.gradient(LOSS, SPAN, THETA).theta["kk"], OptionError,
         ("kk is none of k (did you mean k?)",)),
        (lambda: MODEL.gradient(LOSS, SPAN, THETA).theta["kk"], KeyError, ("kk is none of k",)),
    ],
)  # fmt: skip
def test_a_wrong_object_or_name(call, error, words):
    """What was expected is named, and the way out."""
    refuses(call, error, *words)


SPREAD = {"t0": 0.0, "t1": 1.0}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: MODEL.gradient(LOSS, SPAN, THETA, wrt=3), OptionError, ("3", "theta, z0", "x")),
        (lambda: MODEL.gradient(LOSS, SPAN, THETA, wrt={"k", "t0"}), OptionError, ("no order",)),
        (lambda: MODEL.solve(SPAN, THETA, max_steps="many"), OptionError, ("max_steps", "many")),
        (lambda: MODEL.solve(SPAN, THETA, max_steps=np.inf), OptionError, ("whole number", "inf")),
        (lambda: MODEL.solve(SPAN, THETA, h_max="x"), OptionError, ("h_max", "'x'")),
        (lambda: MODEL.solve(SPAN, THETA, atol="x"), OptionError, ("atol", "numbers", "'x'")),
        (lambda: MODEL.gradient(LOSS, SPAN, THETA, gradient_rtol="x"), OptionError, ("'x'",)),
        (lambda: MODEL.value_and_grad(LOSS, **SPREAD)("ab"), OptionError, ("'ab'", "k, x(t0)")),
        (lambda: symode.VectorLoss(LOSS), LossError, ("several losses", "{name: loss}")),
        (
            lambda: MODEL.gradient(symode.VectorLoss({"a": LOSS}), SPAN, THETA),
            LossError,
            ("VectorLoss(a)", "model.jacobian"),
        ),
        (lambda: symode.fit(PROBLEM, 1, store=3), OptionError, ("path", "3")),
        (lambda: symode.read_sbml(3), symode.ImportFileError, ("path", "3")),
        (lambda: symode.Model({x: -k * x}, parameters=3), symode.ModelError, ("parameters=", "3")),
    ],
)
def test_a_wrong_kind_of_value(call, error, words):
    """No TypeError of Python's comes through."""
    refuses(call, error, *words)


def test_axes_that_are_none():
    """Also: bounds of one parameter as one pair, and starts at a bound, are accepted."""
    pytest.importorskip("matplotlib").use("agg")
    result = symode.fit(PROBLEM, [[0.1], [10.0]])
    assert abs(result.theta["k"] - np.log(2)) < 0.05
    refuses(lambda: result.plot("X"), OptionError, "Matplotlib axes", "'X'")


def test_what_is_shown():
    """A compiled objective shows what it is a function of; the package its public names."""
    shown = repr(MODEL.value_and_grad(SQUARES))
    assert "k, x(t0)" in shown and "(0, 1)" in shown and "vern7" in shown
    assert {"Model", "fit", "verify"} <= set(dir(symode)) <= {*symode.__all__, "__version__"}


def test_the_help_of_gradient_names_what_there_is():
    """Methods, solvers and defaults, as they are."""
    for text in (symode.Model.gradient.__doc__, symode.Model.solve.__doc__):
        for name in (*SOLVERS, "1e-8", "1e-10", "100,000"):
            assert name in text
    for method in METHODS:
        assert f'"{method.name}"' in symode.Model.gradient.__doc__
