"""gradient_rtol: two runs ten times apart agree, or the answer is that they do not."""

import numpy as np
import pytest
import sympy as sp
from gradients.reference import ENTRIES, needs_entries

import symode
from symode.errors import GradientError, OptionError, SolverError
from symode.gradients.methods import METHODS
from symode.gradients.tightened import TIGHTEST, tightened

X, Y, K = sp.symbols("x y k")
DECAY = symode.Model({X: -K * X}, parameters=[K])


@needs_entries
@pytest.mark.parametrize("asked", [1e-2, 1e-6, 1e-9])
@pytest.mark.parametrize("entry", list(ENTRIES.values()), ids=lambda e: e.name)
@pytest.mark.parametrize("method", ["auto", "forward"])
def test_the_gradient_is_as_good_as_asked(entry, method, asked):
    # The finer of two runs that agree is the better one; its error is below their distance.
    found = entry.model.gradient(
        entry.loss, entry.span, theta=entry.theta, z0=entry.z0, rtol=1e-3, atol=1e-6,
        gradient_rtol=asked, method=method, solver="rodas5p" if entry.is_stiff else "auto",
    )  # fmt: skip
    assert entry.error(found) <= asked
    assert found.stats["gradient_error_estimate"] <= asked
    assert found.stats["rtol"] <= asked * (1 + 1e-9)


LORENZ = symode.Model.from_text("x' = s*(y - x); y' = x*(r - z) - y; z' = x*y - b*z")


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m.name != "backsolve"], ids=lambda m: m.name
)
def test_a_long_chaotic_span_is_refused(method):
    # Errors grow e-fold in 1.1 time units: by 1e19 over 50, more than there are digits.
    theta = {"s": 10.0, "r": 28.0, "b": 8 / 3}
    with pytest.raises(GradientError, match=r"not reached.*differ by"):
        LORENZ.gradient(
            symode.Loss(terminal=LORENZ.states[2]), (0, 50), theta=theta, z0=[1.0, 1.0, 20.0],
            gradient_rtol=1e-3, rtol=1e-6, atol=1e-8, method=method,
        )  # fmt: skip


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1e12, 1e200])
def test_the_size_of_the_loss_does_not_matter(scale):
    found = DECAY.gradient(
        symode.Loss(terminal=scale * X**2), (0, 1), [0.7], [2.0], gradient_rtol=1e-8
    )
    exact = np.array([-8.0, 4.0]) * np.exp(-1.4) * scale
    assert [found.theta[0], found.z0[0]] == pytest.approx(exact, rel=1e-8)


def test_a_gradient_of_zero_is_zero():
    # The loss does not see what the parameter moves.
    model = symode.Model({X: -K * X, Y: sp.Integer(1)}, parameters=[K])
    found = model.gradient(
        symode.Loss(terminal=Y - Y), (0, 1), [0.7], [2.0, 0.0], gradient_rtol=1e-8
    )
    assert found.theta[0] == found.z0[0] == 0.0


def test_a_gradient_that_cancels_is_said_to():
    # At the bottom of a parabola whose value is not zero, derivatives are rounding.
    bottom = float(2 * np.exp(-0.7))
    model = symode.Model({X: -K * X}, parameters=[K])
    loss = symode.Loss(terminal=(X - bottom) ** 2 + 1)
    with pytest.raises(GradientError, match="nearly zero"):
        model.gradient(loss, (0, 1), [0.7], [2.0], gradient_rtol=1e-6)


@pytest.mark.parametrize("solver", ["tsit5", "vern7", "rodas5p"])
def test_a_solution_that_any_step_follows_is_no_failure(solver):
    # x' = k: every tolerance takes the same steps, so half of them are taken for comparison.
    found = symode.Model({X: K + X * 0}, parameters=[K]).gradient(
        symode.Loss(terminal=X**2), (0, 2), [3.0], [1.0], gradient_rtol=1e-8, solver=solver
    )
    assert found.theta[0] == pytest.approx(28.0, rel=1e-12)


def test_steps_limited_by_the_caller_are_halved_for_comparison():
    taken = []

    def compute(rtol, atol, h_max):
        taken.append(h_max)
        return DECAY.gradient(
            symode.Loss(terminal=X), (0, 1), [0.7], [2.0], rtol=rtol, atol=atol, h_max=h_max,
            solver="vern7",
        )  # fmt: skip

    found = tightened(compute, np.array([0.7, 2.0]), 1e-3, 1e-3, 1e-5, length=1.0, h_max=0.01)
    assert min(taken) <= 0.005
    assert found.theta[0] == pytest.approx(-2 * np.exp(-0.7), rel=1e-6)


def test_runs_are_ten_times_apart_and_never_below_the_tightest():
    asked = []

    def compute(rtol, atol, h_max):
        asked.append((rtol, dict(atol)))
        raise GradientError("drift")

    with pytest.raises(GradientError, match=r"no two runs.*drift"):
        tightened(compute, np.ones(2), 1e-6, 1e-4, {"y": 1e-7, "x": 1e-3}, length=1.0)
    rtols = np.array([rtol for rtol, _ in asked])
    assert rtols[0] == pytest.approx(1e-5)
    assert (rtols[:-1] / rtols[1:] > 9.99).all()
    assert rtols[-1] == pytest.approx(TIGHTEST)
    # Absolute tolerances keep their names and their ratio to rtol.
    assert all(a == pytest.approx({"y": r * 1e-3, "x": r * 10}) for r, a in asked)


def test_two_runs_are_made_even_from_the_tightest_tolerance():
    found = DECAY.gradient(
        symode.Loss(terminal=X), (0, 1), [0.7], [2.0], rtol=1e-14, atol=1e-16, gradient_rtol=1e-9
    )
    assert found.stats["rtol"] == pytest.approx(TIGHTEST)


def test_solves_that_fail_on_the_way_are_told_with_what_was_reached():
    model = symode.Model.from_text("x' = 50*cos(40*t) - k*x")

    def compute(rtol, atol, h_max):
        # The limit is one that the first run keeps and the next does not.
        return model.gradient(
            symode.Loss(terminal=model.states[0] ** 2), (0, 20), [0.1], [1.0], rtol=rtol, atol=atol,
            h_max=h_max, max_steps=100_000 if rtol > 1e-6 else 100, solver="tsit5",
        )  # fmt: skip

    with pytest.raises(GradientError, match=r"not reached.*limit on the number of steps"):
        tightened(compute, np.ones(2), 1e-6, 1e-2, 1e-4, length=20.0)
    with pytest.raises(SolverError, match="limit on the number of steps"):
        model.gradient(
            symode.Loss(terminal=model.states[0]), (0, 20), [0.1], [1.0], gradient_rtol=1e-6,
            max_steps=5,
        )  # fmt: skip


def test_what_is_asked_must_lie_between_zero_and_one():
    for wrong in (0.0, 1.0, -1e-3):
        with pytest.raises(OptionError, match="between 0 and 1"):
            DECAY.gradient(symode.Loss(terminal=X), (0, 1), [0.7], [2.0], gradient_rtol=wrong)
