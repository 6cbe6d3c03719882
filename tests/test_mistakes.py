"""What a newcomer gets wrong: each mistake is refused by name, with the way out."""

import re
from itertools import pairwise

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import solve_ivp

import symode
from symode.errors import GradientError, LossError, SolverError

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
