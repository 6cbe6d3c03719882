"""A gradient from elsewhere is judged, and what is wrong in it is named."""

import numpy as np
import pytest
import sympy as sp
from cases import DRIVEN

import symode
from symode.errors import OptionError

MODEL, LOSS, SPAN, THETA = DRIVEN
X, Y = MODEL.states
A, B = MODEL.parameters
TRUE = MODEL.gradient(LOSS, SPAN, theta=THETA, rtol=1e-12, atol=1e-14)


def judged(claimed, loss=LOSS, **options) -> "symode.gradients.verify.Check":
    report = symode.verify(
        MODEL, loss, SPAN, THETA, claimed=claimed, checks=["reference"], **options
    )
    return report["claimed"]


def test_a_right_gradient_passes_however_it_is_given():
    theta = np.array(TRUE.theta)
    everything = {"theta": theta, "z0": np.array(TRUE.z0), "t0": TRUE.t0, "t1": TRUE.t1}
    for claimed in (
        TRUE, theta, np.concatenate([theta, TRUE.z0]), everything, {"b": theta[1]}, {A: theta[0]},
        {"x(t0)": TRUE.z0["x"]}, {X: TRUE.z0["x"], "theta": {"a": theta[0], "b": theta[1]}},
    ):  # fmt: skip
        check = judged(claimed)
        assert check.passed and check.digits > 8, str(check)


def test_usual_slips_are_named():
    theta = np.array(TRUE.theta)
    for claimed, words in [
        (-theta, "sign flipped"),
        (2 * theta, "factor 2 too many"),
        (theta / 2, "lacks a factor 2"),
        (theta / 4, "divided by the number of observations, 4"),
        (theta * THETA, "in ln of the parameters"),
        (theta * THETA * np.log(10), "in log10 of the parameters"),
        (theta[::-1], "exchanged"),
        ({"theta": theta, "t1": 0.0}, "dJ/dt1 is missing"),
        ({"theta": theta, "z0": -np.array(TRUE.z0)}, "initial values has its sign flipped"),
    ]:
        check = judged(claimed)
        assert not check.passed
        assert words in check.details[0], (words, str(check))


def test_a_forgotten_term_of_the_users_own_loss_is_named():
    # The user's code differentiates a loss that lacks a term of the one that is meant.
    parts = {"terminal": LOSS.terminal, "running": LOSS.running, "observations": list(LOSS.groups)}
    for gone, words in [("terminal", "terminal cost"), ("running", "running cost"),
                        ("observations", "all observations")]:  # fmt: skip
        other = symode.Loss(**{k: v for k, v in parts.items() if k != gone})
        claimed = MODEL.gradient(other, SPAN, theta=THETA, rtol=1e-11, atol=1e-13)
        check = judged(claimed)
        assert (
            f"the contribution of the {words} is dropped".replace("the all", "all")
            in (check.details[0])
        ), str(check)


def test_forgotten_dependence_of_z0_on_the_parameters_is_named():
    start = [float(e.subs({A: THETA[0], B: THETA[1], MODEL.time: SPAN[0]}))
             for e in MODEL.equations.initial]  # fmt: skip
    other = MODEL.gradient(LOSS, SPAN, theta=THETA, z0=start, rtol=1e-11, atol=1e-13)
    check = judged({"theta": np.array(other.theta)})
    assert "dependence of z0 on the parameters" in check.details[0], str(check)


def test_an_unexplained_error_says_so_and_lists_the_entries():
    report = symode.verify(MODEL, LOSS, SPAN, THETA, claimed=[1.234, 5.678], checks=["reference"])
    assert not report.passed
    assert "no single dropped or flipped term" in report.causes[0]
    assert "claimed 1.234" in " ".join(report["claimed"].details)


@pytest.mark.parametrize("claimed", [[1.0], {"q": 1.0}, {"theta": [1.0]}, [np.nan, 1.0]])
def test_claims_that_do_not_fit_are_refused(claimed):
    with pytest.raises(OptionError, match="claimed"):
        judged(claimed)


def test_a_claim_on_a_model_without_parameters():
    x = sp.Symbol("x")
    model = symode.Model({x: -x}, parameters=[], initial={x: 2})
    report = symode.verify(
        model, symode.Loss(terminal=x), (0, 1), claimed={"x": np.exp(-1)}, checks=["reference"]
    )
    assert report["claimed"].passed, str(report)


def test_a_solver_that_steps_the_wrong_way_is_told_from_its_gradient():
    x, k, t = sp.symbols("x k t")
    model = symode.Model({x: -k * x}, parameters=[k], time=t, initial={x: 2})

    def wrong_way(fun, span, y0, t_eval):
        rows, now, y = [], span[0], np.array(y0)
        for end in t_eval:
            h = (end - now) / 200
            for _ in range(200):
                y = y - h * fun(now + h / 2, y - h / 2 * fun(now, y))
                now += h
            rows.append(y)
        return np.array(rows)

    loss = symode.Loss(terminal=x**2)
    mine = model.gradient(loss, (0, 1), [0.7], method="forward", solver=wrong_way)
    report = symode.verify(model, loss, (0, 1), [0.7], claimed=mine, checks=["methods"])
    assert "steps the wrong way" in report.causes[0]


def test_a_kink_of_the_loss_is_named_before_the_tolerance():
    x, k = sp.symbols("x k")
    model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    end = float(model.solve((0, 1), theta=[0.7], rtol=1e-8, atol=1e-10).z[-1, 0])
    loss = symode.Loss(terminal=sp.Abs(x - sp.Float(end, 17)))
    report = symode.verify(
        model, loss, (0, 1), [0.7], checks=["tolerances", "complex step", "ends"]
    )
    assert not report.passed
    assert "terminal loss" in report.causes[0] and "non-smooth" in report.causes[0]
    assert not any("tolerance is too loose" in cause for cause in report.causes)


def test_products_along_a_chaotic_model_are_exact():
    x, y, z, s, r, b = sp.symbols("x y z s r b")
    lorenz = symode.Model(
        {x: s * (y - x), y: x * (r - z) - y, z: x * y - b * z}, parameters=[s, r, b],
        initial={x: 1, y: 1, z: 1},
    )  # fmt: skip
    report = symode.verify(
        lorenz, symode.Loss(terminal=z), (0, 20), [10.0, 28.0, 8 / 3],
        checks=["dot product", "stability"],
    )  # fmt: skip
    # Both sides go over the same numbers: a difference would grow ten thousand times and more.
    assert report["dot product"].passed and report["dot product"].digits > 12
