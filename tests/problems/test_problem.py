"""One objective, two routes to it, and derivatives that stand up to differences."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import symode
from symode.errors import DataError, InitialStateError, OptionError

X, Y, A, B, C, D, X0, S = sp.symbols("x y a b c d x0 s", positive=True)
T = sp.Symbol("t")
MODEL = symode.Model(
    {X: A * X - B * X * Y, Y: D * X * Y - C * Y},
    parameters=[A, B, C, D, X0, S],
    initial={X: X0, Y: X0 / 2},
)
THETA = {"a": 1.1, "b": 0.4, "c": 0.45, "d": 0.1, "x0": 8.0, "s": 0.2}
TIMES = np.array([0.0, 0.7, 1.3, 2.0, 2.0, 4.1])
VALUES = {
    "x": [8.2, 6.9, 5.0, 3.1, 3.3, None],
    "y": [4.4, None, 9.0, 11.0, 10.0, 8.0],
    "sum": [12.0, 14.0, 13.0, 14.5, 13.0, 9.0],
}
NOISES = {
    "fixed": {"x": symode.Normal(0.5), "y": symode.LogNormal(0.2), "sum": symode.Normal(1.0)},
    "estimated": {"x": symode.LogNormal(S), "y": symode.LogNormal(S), "sum": symode.Normal(4 * S)},
    "of the state": {
        "x": symode.Normal(S * X),
        "y": symode.Normal(S + Y / 9),
        "sum": symode.Normal(S * (1 + T)),
    },
}


def make(noise: str = "estimated", **options) -> symode.Problem:
    data = symode.Data(TIMES, VALUES, observables={"sum": X + Y})
    return symode.Problem(MODEL, data, NOISES[noise], scale="log10", **options)


@pytest.fixture(scope="module")
def problems() -> dict[str, symode.Problem]:
    return {name: make(name) for name in NOISES}


@pytest.mark.parametrize("noise", NOISES)
def test_adjoint_and_sensitivities_give_one_value_and_gradient(problems, noise: str) -> None:
    problem = problems[noise]
    x = problem.space.point(problem.parameters(THETA))
    value, gradient = problem.objective(x)
    scores = problem.scores(x)
    # Two solves on different meshes at rtol 1e-8; errors grow by the condition of a few periods.
    assert scores.value == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(scores.gradient, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("noise", NOISES)
def test_the_remainder_of_the_objective_falls_with_the_square(problems, noise: str) -> None:
    problem = make(noise, rtol=1e-11, atol=1e-12)
    x = problem.space.point(problem.parameters(THETA))
    direction = np.random.default_rng(1).standard_normal(x.size)
    value, gradient = problem.objective(x)
    steps = np.array([1e-2, 5e-3, 2.5e-3])
    remainders = [
        abs(problem.objective(x + h * direction)[0] - value - h * gradient @ direction)
        for h in steps
    ]
    slope = np.polyfit(np.log(steps), np.log(remainders), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("noise", NOISES)
def test_the_jacobian_of_residuals_is_their_derivative(problems, noise: str) -> None:
    problem = make(noise, rtol=1e-11, atol=1e-12)
    x = problem.space.point(problem.parameters(THETA))
    # Central differences: h^2 of smooth residuals and 1e-11 / h of the solver, both near 1e-6.
    h, jacobian = 1e-4, problem.scores(x).jacobian
    for j in range(x.size):
        step = h * np.eye(x.size)[j]
        quotient = (problem.scores(x + step).residuals - problem.scores(x - step).residuals) / (
            2 * h
        )
        np.testing.assert_allclose(jacobian[:, j], quotient, rtol=1e-5, atol=1e-4)


def test_the_information_is_the_expected_curvature() -> None:
    # For x = x0 (no motion) and noise Normal(s): F = diag(N, 2 N) / s^2, in closed form.
    model = symode.Model({X: 0 * X}, parameters=[X0, S], initial={X: X0})
    data = symode.Data([0, 1, 2], {"x": [1.0, 3.0, 2.5]})
    problem = symode.Problem(model, data, symode.Normal(S), bounds=(0.1, 10))
    root = problem.scores([2.0, 0.5]).information_root
    np.testing.assert_allclose(root.T @ root, np.diag([3, 6]) / 0.25, rtol=1e-12, atol=1e-12)


@given(order=st.permutations(range(6)))
@settings(max_examples=5, deadline=None)
def test_the_order_of_rows_does_not_matter(problems, order: list[int]) -> None:
    columns = {name: [column[i] for i in order] for name, column in VALUES.items()}
    data = symode.Data(TIMES[list(order)], columns, observables={"sum": X + Y})
    shuffled = symode.Problem(MODEL, data, NOISES["estimated"], scale="log10")
    # The sum is taken in another order at the two rows of one time.
    assert shuffled.value(THETA) == pytest.approx(problems["estimated"].value(THETA), rel=1e-12)


def test_missing_values_count_nothing(problems) -> None:
    long_form = [
        (time, name, value)
        for name, column in VALUES.items()
        for time, value in zip(TIMES, column, strict=True)
        if value is not None
    ]
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(long_form, columns=["time", "observable", "value"])
    data = symode.Data(frame, observables={"sum": X + Y})
    problem = symode.Problem(MODEL, data, NOISES["estimated"], scale="log10")
    assert problem.n_values == 16
    assert problem.value(THETA) == pytest.approx(problems["estimated"].value(THETA), rel=1e-12)


def test_fixed_parameters_leave_the_rest_as_it_was(problems) -> None:
    problem = make("estimated", fixed={"b": 0.4, C: 0.45})
    assert problem.space.names == ("a", "d", "x0", "s")
    x = problem.space.point(problem.parameters({"a": 1.1, "d": 0.1, "x0": 8.0, "s": 0.2}))
    value, gradient = problem.objective(x)
    whole = problems["estimated"]
    all_value, all_gradient = whole.objective(whole.space.point(whole.parameters(THETA)))
    assert value == pytest.approx(all_value, rel=1e-12)
    np.testing.assert_allclose(gradient, all_gradient[[0, 3, 4, 5]], rtol=1e-12)
    np.testing.assert_allclose(problem.scores(x).gradient, gradient, rtol=1e-5, atol=1e-6)


def test_a_parameter_that_is_a_sigma_alone_turns_no_tangent(problems) -> None:
    problem = problems["estimated"]
    problem.scores(problem.space.point(problem.parameters(THETA)))
    ((residuals, _),) = problem.parts[0]._prepared.values()
    runner = residuals._local.runner
    assert [problem.space.names[i] for i in runner.moving] == ["a", "b", "c", "d", "x0"]


def test_least_squares_are_chosen_where_they_say_it_all(problems) -> None:
    assert problems["fixed"].is_least_squares
    assert not problems["estimated"].is_least_squares
    assert not problems["of the state"].is_least_squares
    assert make("estimated", fixed={"s": 0.2}).is_least_squares


def test_predictions_are_the_observables_at_any_times(problems) -> None:
    times = np.array([3.0, 0.0, 1.0])
    courses = problems["fixed"].predict(THETA, times)
    solution = MODEL.solve((0, 4.1), THETA, times=np.sort(times))
    order = np.argsort(times)
    np.testing.assert_allclose(courses["x"][order], solution["x"], rtol=1e-6)
    np.testing.assert_allclose(courses["sum"], courses["x"] + courses["y"], rtol=1e-12)


def test_a_relaxed_problem_is_the_same_where_the_model_is_positive(problems) -> None:
    problem = problems["estimated"]
    x = problem.space.point(problem.parameters(THETA))
    value, gradient = problem.objective(x)
    relaxed_value, relaxed_gradient = problem.relaxed.objective(x)
    assert relaxed_value == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(relaxed_gradient, gradient, rtol=1e-12)
    normal = symode.Problem(MODEL, symode.Data([1], {"x": [5]}), symode.Normal(1.0), scale="log10")
    assert normal.relaxed is normal


def test_a_pickled_problem_computes_the_same_and_is_small(problems) -> None:
    problem = problems["estimated"]
    text = pickle.dumps(problem)
    assert len(text) < 5000
    assert pickle.loads(text).value(THETA) == problem.value(THETA)


def data_of(values=(1.0, 2.0), times=(0.0, 1.0)) -> symode.Data:
    return symode.Data(list(times), {"x": list(values)})


@pytest.mark.parametrize(
    ("data", "noise", "options", "error", "words"),
    [
        (data_of(times=(-1, 1)), symode.Normal(1.0), {}, DataError, "Row 0 of column 'x' (t = -1)"),
        (data_of(times=(3, 1)), symode.Normal(1.0), {"t0": 2.0}, DataError, "Row 1 of column 'x'"),
        (data_of((1, 0)), symode.LogNormal(1.0), {}, DataError, "Row 1 of column 'x' (t = 1)"),
        (data_of((1, -3)), symode.LogNormal(S), {}, DataError, "holds -3"),
        (data_of(times=(0, 0)), symode.Normal(1.0), {}, DataError, "All measurements were made"),
        (data_of(), {"z": symode.Normal(1.0)}, {}, OptionError, "missing: x; unknown: z"),
        (data_of(), 0.3, {}, OptionError, "must be Normal(sigma) or LogNormal(sigma)"),
        (data_of(), symode.Normal(S), {"bounds": {S: (0, 1)}, "scale": {"s": "lin"}}, OptionError,
         "no bounds"),
        (data_of(), symode.Normal(S), {"fixed": {S: -1}}, OptionError, "s is a sigma"),
        (data_of(), symode.Normal(1.0), {"rtol": 3.0}, OptionError, "rtol"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused_in_a_sentence(data, noise, options, error, words) -> None:
    with pytest.raises(error) as caught:
        symode.Problem(MODEL, data, noise, **{"scale": "log10", **options})
    assert words in str(caught.value)


def test_a_sigma_that_may_reach_zero_is_refused() -> None:
    bounds = {name: (0.1, 10) for name in "abcd"} | {"x0": (1, 20), "s": (0, 1)}
    with pytest.raises(OptionError, match="s is the sigma of x, so its bounds must be positive"):
        symode.Problem(MODEL, data_of(), symode.Normal(S), bounds=bounds)


def test_a_model_without_initial_values_is_refused_with_the_way_out() -> None:
    model = symode.Model({X: -A * X}, parameters=[A])
    with pytest.raises(InitialStateError, match=r"initial=\{x: x0\}"):
        symode.Problem(model, data_of(), symode.Normal(1.0), scale="log10")
