"""Several experiments are the sum of each alone, with parameters shared, local, set or computed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import DataError, OptionError, SolverError

X, Y, K, U, X0, S, Q = sp.symbols("x y k u x0 s q")
MODEL = symode.Model(
    {X: U - K * X, Y: K * X - Y / 3}, parameters=[K, U, X0, S], initial={X: X0, Y: X0 / 4}
)
TIMES = [0.5, 1.5, 4.0]
LOW = symode.Data(TIMES, {"x": [1.9, 1.4, 0.9], "y": [1.1, 1.6, None]})
HIGH = symode.Data([*TIMES, 6.0], {"x": [3.1, 3.4, 3.9, 4.1]})
NOISE = {"x": symode.Normal(S), "y": symode.LogNormal(0.2)}
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def make(**options) -> symode.Problem:
    given = {
        "conditions": {
            "low": symode.Condition({U: 0.3}),
            "high": symode.Condition({U: Q**2 + K}, initial={X: 2 * Q, Y: 0.5}, t0=-1.0),
        },
        "parameters": [Q],
        "scale": "log10",
        **TIGHT,
    } | options
    return symode.Problem(MODEL, {"low": LOW, "high": HIGH}, NOISE, **given)


THETA = {"k": 0.6, "x0": 2.1, "s": 0.3, "q": 1.2}


def alone(data: symode.Data, theta: dict, initial: dict, t0: float) -> float:
    model = symode.Model(
        {X: U - K * X, Y: K * X - Y / 3}, parameters=[K, U, X0, S], initial=initial
    )
    noise = {name: NOISE[name] for name in data.names}
    return symode.Problem(model, data, noise, scale="log10", t0=t0, **TIGHT).value(theta)


def test_the_objective_is_the_sum_of_the_conditions_alone() -> None:
    problem = make()
    assert problem.space.names == ("k", "x0", "s", "q")
    base = {"k": 0.6, "x0": 2.1, "s": 0.3}
    first = alone(LOW, base | {"u": 0.3}, {X: X0, Y: X0 / 4}, 0.0)
    second = alone(HIGH, base | {"u": 1.2**2 + 0.6}, {X: 2.4, Y: 0.5}, -1.0)
    assert problem.value(THETA) == pytest.approx(first + second, rel=1e-9)


def check_gradient(problem: symode.Problem, theta: dict) -> None:
    x = problem.space.point(problem.parameters(theta))
    gradient = problem.objective(x)[1]
    # Central differences: h^2 / 6 times third derivatives of order 1e3 against slopes of order 10.
    h = 1e-4
    quotient = [
        (problem.objective(x + e)[0] - problem.objective(x - e)[0]) / (2 * h)
        for e in h * np.eye(x.size)
    ]
    np.testing.assert_allclose(gradient, quotient, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(problem.scores(x).gradient, gradient, rtol=1e-6, atol=1e-6)


def test_gradient_and_scores_pass_through_the_conditions() -> None:
    check_gradient(make(), THETA)


def test_local_parameters_have_a_copy_for_each_condition() -> None:
    problem = make(local=[K], bounds={"k": (0.1, 5.0), "k[high]": (0.01, 9.0)})
    assert problem.space.names == ("k[low]", "k[high]", "x0", "s", "q")
    assert problem.space.upper[:2] == pytest.approx(np.log10([5.0, 9.0]))
    theta = {"k[low]": 0.6, "k[high]": 0.9, "x0": 2.1, "s": 0.3, "q": 1.2}
    check_gradient(problem, theta)
    # Within a condition its own copy is meant: u = q^2 + k[high].
    base = {"x0": 2.1, "s": 0.3}
    first = alone(LOW, base | {"k": 0.6, "u": 0.3}, {X: X0, Y: X0 / 4}, 0.0)
    second = alone(HIGH, base | {"k": 0.9, "u": 1.2**2 + 0.9}, {X: 2.4, Y: 0.5}, -1.0)
    assert problem.value(theta) == pytest.approx(first + second, rel=1e-9)


def test_priors_are_log_densities_of_the_parameter() -> None:
    from scipy import stats

    priors = {
        "k": symode.NormalPrior(np.log(0.5), 0.4, on="log"),
        "x0": symode.NormalPrior(2.0, 0.5),
        "q": symode.LaplacePrior(0.0, 0.3, on="log10"),
        "s": symode.UniformPrior(0.1, 2.0),
    }
    problem = make(priors=priors)
    judge = (
        stats.lognorm.logpdf(0.6, s=0.4, scale=0.5)
        + stats.norm.logpdf(2.1, 2.0, 0.5)
        + stats.loglaplace.logpdf(1.2, 1 / (0.3 * np.log(10)), scale=1.0)
        + stats.uniform.logpdf(0.3, 0.1, 1.9)
    )
    assert problem.value(THETA) - make().value(THETA) == pytest.approx(-judge, rel=1e-9)
    check_gradient(problem, THETA)
    assert not problem.is_least_squares


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    data = {f"c{i}": HIGH for i in range(7)}
    conditions = {f"c{i}": symode.Condition({U: 0.2 * i + 0.1}) for i in range(7)}
    results = []
    for workers in (1, 2, 5):
        problem = symode.Problem(
            MODEL, data, symode.Normal(S), conditions=conditions, scale="log10", workers=workers
        )
        problem._simulator._seconds = 1.0  # as if the work were long enough for threads
        x = problem.space.point(problem.parameters({"k": 0.6, "x0": 2.1, "s": 0.3}))
        problem.objective(x)
        problem._simulator._seconds = 1.0
        value, gradient = problem.objective(x)
        results.append((value, *gradient))
    assert results[0] == results[1] == results[2]


def test_all_conditions_share_their_kernels() -> None:
    problem = make()
    problem.value(THETA)
    first, second = problem.parts
    assert first.task._compiled is second.task._compiled
    assert len(first.task._compiled) == 1


def test_a_fit_finds_shared_and_local_parameters_again() -> None:
    truth = {"k[low]": 0.6, "k[high]": 0.9, "x0": 2.1, "q": 1.2}
    make_exact = {}
    for name, data in (("low", LOW), ("high", HIGH)):
        problem = make(local=[K], fixed={"s": 0.1})
        courses = problem.predict(truth, data.times, name)
        make_exact[name] = symode.Data(data.times, {n: courses[n] for n in data.names})
    problem = symode.Problem(
        MODEL, make_exact, {"x": symode.Normal(0.1), "y": symode.LogNormal(0.2)},
        conditions={
            "low": symode.Condition({U: 0.3}),
            "high": symode.Condition({U: Q**2 + K}, initial={X: 2 * Q, Y: 0.5}, t0=-1.0),
        },
        parameters=[Q], local=[K], scale="log10", bounds={n: (0.05, 20) for n in ("k", "x0", "q")},
        fixed={"s": 0.1},
    )  # fmt: skip
    assert problem.is_least_squares
    result = symode.fit(problem, starts=4, seed=2)
    for name, value in truth.items():
        assert result.theta[name] == pytest.approx(value, rel=1e-4)
    result.intervals()


def test_a_problem_of_conditions_pickles() -> None:
    problem = make(local=[K])
    again = pickle.loads(pickle.dumps(problem))
    theta = {"k[low]": 0.6, "k[high]": 0.9, "x0": 2.1, "s": 0.3, "q": 1.2}
    assert again.value(theta) == problem.value(theta)


def test_a_table_is_split_by_its_column() -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(
        {"time": [1, 2, 1, 3], "x": [1.0, 2.0, 3.0, 4.0], "dose": ["low", "low", "high", "high"]}
    )
    data = symode.Data.split(table, by="dose")
    assert list(data) == ["low", "high"]
    assert data["high"].times.tolist() == [1, 3]
    with pytest.raises(DataError, match="no column 'group'"):
        symode.Data.split(table, by="group")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"conditions": {"mid": symode.Condition()}}, "'mid' has no data"),
        (
            {"conditions": {"low": symode.Condition({"v": 1})}},
            "'low' sets v, which is no param",
        ),
        ({"conditions": {"low": symode.Condition(initial={"z": 1})}}, "sets z, which is no state"),
        ({"conditions": {"low": symode.Condition({U: "0.3"})}}, "the value of u is the text"),
        ({"conditions": {"low": symode.Condition({U: np.inf})}}, "must be finite"),
        ({"conditions": {"low": symode.Condition({U: sp.Symbol("w")})}}, "uses w"),
        ({"conditions": {"low": {U: 1}}}, r"must map names to symode.Condition"),
        ({"conditions": {"low": symode.Condition({K: 2 * U, U: 3 * K})}}, "through itself"),
        ({"local": ["kk"]}, "local= names kk"),
        ({"parameters": [K, Q]}, "parameters= names k"),
        ({"priors": {"k": 3}}, "The prior of k must be"),
    ],
)
def test_what_does_not_fit_is_named(options: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        make(**options)


def test_a_failing_condition_is_named() -> None:
    problem = make(max_steps=3)
    with pytest.raises(SolverError, match=r"Condition 'low': .*max_steps=3"):
        problem.value(THETA)
    with pytest.raises(OptionError, match="several conditions"):
        _ = problem.loss
    with pytest.raises(OptionError, match="must name one of 'low', 'high'; got None"):
        problem.predict(THETA, [1.0])


def test_a_condition_s_data_fault_names_it() -> None:
    with pytest.raises(DataError, match=r"Condition 'high': Row 0 .*before t0"):
        symode.Problem(
            MODEL, {"low": LOW, "high": symode.Data([-2.0, 1.0], {"x": [1, 2]})}, NOISE,
            scale="log10",
        )  # fmt: skip
