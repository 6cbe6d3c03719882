"""Compiled searches say what the Python route says, and stop when they are told to."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest
import sympy as sp

import symode
import symode.problems.search as routes
from symode.gradients.residual_runners import CompiledRunner
from symode.problems.native_search import NativeSearch, covers, native_search
from symode.problems.search import run_start
from symode.problems.starts import starting_points

X, Y, K, U, X0, S, Q, D = sp.symbols("x y k u x0 s q d", positive=True)
T = sp.Symbol("t")
MODEL = symode.Model(
    {X: U - K * X, Y: K * X - Y / 3},
    parameters=[K, U, X0, S],
    time=T,
    initial={X: X0, Y: X0 / 4},
)
TIMES = [0.5, 1.5, 4.0]
LOW = symode.Data(TIMES, {"x": [1.9, 1.4, 0.9], "y": [1.1, 1.6, None]})
HIGH = symode.Data([0, *TIMES, 6.0], {"x": [2.7, 3.1, 3.4, 3.9, 4.1]})
CONDITIONS = {
    "low": symode.Condition({U: 0.3}),
    "high": symode.Condition({U: Q**2 + K}, initial={X: 2 * Q, Y: 0.5}, t0=-1.0),
}
TRUTH = {"k": 0.6, "x0": 2.1, "s": 0.3, "q": 1.2}

NOISE = {
    "normal": symode.Normal(S),
    "a number": symode.LogNormal(0.2),
    "log10": symode.Log10Normal(S),
    "relative": symode.Normal(S * X + 0.1),
    "laplace": symode.Laplace(S, on="log"),
    "student": symode.StudentT(S, df=3),
}
SCALES = {
    "log10": {"scale": "log10"},
    "mixed": {
        "scale": {
            "k": "softplus", "x0": symode.Affine(1.0, 3.0), "s": "log", "q": symode.Logit(0, 5),
        },
        "bounds": {"k": (1e-3, 9.0), "x0": (0.1, 9.0), "s": (0.01, 4.0), "q": (0.1, 4.9)},
    },
}  # fmt: skip
PRIORS = {
    "k": symode.NormalPrior(-0.3, 0.4, on="log10"),
    "x0": symode.LaplacePrior(1.7, 0.5),
    "s": symode.NormalPrior(-1.1, 0.7, on="log", of_scale=True),
    "q": symode.UniformPrior(0.1, 5.0, on="log10"),
}


def make(noise: str, **options) -> symode.Problem:
    # Steps far below the tolerance compared with would hide a tangent that is not controlled alike.
    given = {"conditions": CONDITIONS, "parameters": [Q], **SCALES["log10"], **options}
    kinds = {"x": NOISE[noise], "y": symode.LogNormal(0.2)}
    return symode.Problem(MODEL, {"low": LOW, "high": HIGH}, kinds, **given)


def same_point(problem: symode.Problem, x: np.ndarray) -> None:
    """Compare everything that both routes find at one point."""
    expected, search = problem.scores(x), NativeSearch(problem)
    found = search.run(x, 0, scores=False)
    root = search.root
    assert found.x == pytest.approx(x, rel=1e-15)
    # Same formulas on the same solves: they differ in the order of sums alone.
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.misfit == pytest.approx(expected.misfit, rel=1e-12)
    size = np.abs(expected.gradient).max()
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-10, atol=1e-11 * size)
    information = expected.information_root.T @ expected.information_root
    np.testing.assert_allclose(
        root.T @ root, information, rtol=1e-10, atol=1e-11 * np.abs(information).max()
    )


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("scale", SCALES)
def test_both_routes_see_the_same_point(noise: str, scale: str) -> None:
    problem = make(noise, **SCALES[scale])
    assert covers(problem)
    same_point(problem, problem.space.point(problem.parameters(TRUTH)))


def test_priors_fixed_values_and_local_parameters_count_alike() -> None:
    problem = make("normal", priors=PRIORS)
    same_point(problem, problem.space.point(problem.parameters(TRUTH)))
    problem = make("relative", priors=PRIORS, fixed={"x0": 2.1})
    same_point(problem, problem.space.point(problem.parameters(TRUTH)))
    problem = make("student", local=[K])
    theta = {"k[low]": 0.6, "k[high]": 0.9, "x0": 2.1, "s": 0.3, "q": 1.2}
    same_point(problem, problem.space.point(problem.parameters(theta)))


STIFF = symode.Model(
    {X: -K * X + Y, Y: U * (X / (1 + X) - Y)}, parameters=[K, U], initial={X: 2, Y: 0}
)
STIFF_DATA = symode.Data([0.2, 0.7, 2.0, 5.0], {"x": [1.8, 1.5, 0.9, 0.3]})


@pytest.mark.parametrize("solver", ["auto", "rodas5p"])
def test_stiff_points_go_on_with_the_other_method(solver: str, monkeypatch) -> None:
    switches: list[int] = []
    original = CompiledRunner.switched

    def switched(runner: CompiledRunner, table: int) -> object:
        switches.append(table)
        return original(runner, table)

    monkeypatch.setattr(CompiledRunner, "switched", switched)
    problem = symode.Problem(
        STIFF, STIFF_DATA, symode.Normal(0.1), scale="log10", bounds=(1e-3, 1e5), solver=solver
    )
    for theta in ([0.8, 3.0], [0.8, 9e4], [0.8, 3.0]):
        same_point(problem, problem.space.point(np.array(theta)))
    assert bool(switches) == (solver == "auto")


def both(problem: symode.Problem, monkeypatch, **options) -> tuple[symode.Fit, symode.Fit]:
    native = symode.fit(problem, seed=3, optimizer="scoring", workers=1, **options)
    with monkeypatch.context() as patch:
        patch.setattr(routes, "covers", lambda problem: False)
        python = symode.fit(problem, seed=3, optimizer="scoring", workers=1, **options)
    return native, python


@pytest.mark.parametrize("noise", ["normal", "a number", "student"])
def test_whole_searches_end_alike(noise: str, monkeypatch) -> None:
    native, python = both(make(noise), monkeypatch, starts=6)
    assert native.value == pytest.approx(python.value, rel=1e-9)
    a, b = (sorted(fit.starts, key=lambda s: s.index) for fit in (native, python))
    assert [s.status for s in a] == [s.status for s in b]
    for one, other in zip(a, b, strict=True):
        if one.status == "converged":
            # Paths of some dozens of steps: roundings are magnified, but not to another optimum.
            assert one.value == pytest.approx(other.value, rel=1e-7)
            assert one.at_bound == other.at_bound
            assert set(one.theta.as_dict()) == set(other.theta.as_dict())


def test_searches_that_cannot_begin_say_the_same(monkeypatch) -> None:
    blow_up = symode.Model({X: K * X**2}, parameters=[K], initial={X: 5})
    data = symode.Data([1.0], {"x": [5.1]})
    problem = symode.Problem(blow_up, data, symode.Normal(1.0), scale="log10")
    native, python = both(problem, monkeypatch, starts=[{"k": 50.0}, {"k": 1e-3}])
    failed, found = native.starts[-1], native.starts[0]
    assert failed.status == "failed" and found.status == "converged"
    assert failed.message == python.starts[-1].message
    assert "grows without bound" in failed.message
    assert (failed.evaluations, failed.lost) == (1, 1)


def test_screening_and_limits_of_iterations_hold(monkeypatch) -> None:
    native, python = both(make("normal"), monkeypatch, starts=6, screen=0.5)
    assert [s.message[:8] for s in native.starts] == [s.message[:8] for s in python.starts]
    native, python = both(make("normal"), monkeypatch, starts=3, max_iterations=1)
    assert [s.message for s in native.starts] == [s.message for s in python.starts]


def record(fit: symode.Fit) -> list:
    starts = sorted(fit.starts, key=lambda s: s.index)
    return [(s.index, s.value, s.theta.tolist(), s.evaluations, s.message) for s in starts]


def test_threads_give_the_same_digits(tmp_path) -> None:
    problem = symode.Problem(
        STIFF, STIFF_DATA, symode.Normal(0.1), scale="log10", bounds=(1e-3, 1e5)
    )
    alone = symode.fit(problem, starts=24, seed=1, workers=1)
    path = tmp_path / "fit.db"
    for workers in (2, 3, None):
        assert record(symode.fit(problem, starts=24, seed=1, workers=workers)) == record(alone)
    assert record(symode.fit(problem, starts=24, seed=1, workers=2, store=path)) == record(alone)
    again = symode.fit(problem, starts=24, seed=1, store=path)
    assert record(again) == record(alone)


WAVE = symode.Model({X: K * sp.cos(K * T)}, parameters=[K], time=T, initial={X: 0})


@pytest.mark.parametrize("optimizer", ["scoring", "l-bfgs-b"])
def test_hops_leave_local_optima_and_depend_on_nothing_but_the_seed(optimizer: str) -> None:
    # x = sin(k t): every frequency near an alias of the true one is a local optimum.
    times = np.linspace(0.3, 6.0, 20)
    data = symode.Data(times, {"x": np.sin(4.1 * times)})
    problem = symode.Problem(WAVE, data, symode.Normal(0.1), bounds={K: (0.2, 9.0)})
    plain = symode.fit(problem, starts=8, seed=2, optimizer=optimizer, workers=1)
    hopping = symode.fit(problem, starts=8, seed=2, optimizer=optimizer, workers=1, hops=12)
    assert plain.n_best < hopping.n_best
    assert hopping.theta["k"] == pytest.approx(4.1, rel=1e-6)
    assert any("after hop" in s.message for s in hopping.starts)
    pairs = zip(*(sorted(f.starts, key=lambda s: s.index) for f in (plain, hopping)), strict=True)
    assert all(b.value <= a.value and b.evaluations > a.evaluations for a, b in pairs)
    again = symode.fit(problem, starts=8, seed=2, optimizer=optimizer, workers=2, hops=12)
    assert record(again) == record(hopping)


@pytest.fixture
def slow() -> symode.Problem:
    """A problem whose one evaluation takes some 10 s."""
    model = symode.Model({X: U * sp.cos(U * T) - K * X}, parameters=[K, U], time=T, initial={X: 1})
    data = symode.Data([1.0, 4000.0], {"x": [0.4, 0.1]})
    return symode.Problem(
        model, data, symode.Normal(0.1), scale="log10", bounds=(1e-2, 1e3), max_steps=10**8,
        solver="tsit5",
    )  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_a_search_within_a_second(slow: symode.Problem, workers: int) -> None:
    # Compiled first: a signal waits for the compiler.
    with native_search(slow) as search:
        search.driver.stop = threading.Event()
        search.driver.stop.set()
        with pytest.raises(KeyboardInterrupt):
            search.run(slow.space.point(np.array([1.0, 500.0])), 5, scores=True)
    moments: list[float] = []

    def interrupt(*_: object) -> None:
        moments.append(time.perf_counter())
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            symode.fit(slow, [{"k": 1.0, "u": 500.0}, {"k": 2.0, "u": 400.0}], workers=workers)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
    assert time.perf_counter() - moments[0] < 1.0


def test_what_is_not_covered_goes_the_python_route() -> None:
    counts = symode.Problem(
        MODEL, symode.Data(TIMES, {"x": [2, 1, 1]}), symode.Poisson(), scale="log10",
        fixed={S: 1.0},
    )  # fmt: skip
    assert not covers(counts)
    fitted = symode.fit(counts, starts=2, seed=0, optimizer="scoring")
    assert fitted.best.status == "converged"
    stages = symode.Problem(STIFF, STIFF_DATA, symode.Normal(0.1), scale="log10", solver="radau5")
    assert not covers(stages)
    assert not covers(make("a number", hierarchical=[], solver="esdirk43"))


def test_a_queue_of_searches_leads_where_single_ones_do() -> None:
    problem = make("normal")
    rng = np.random.default_rng(3)
    begin = np.array([problem.parameters(TRUTH) * rng.uniform(0.3, 3.0, 4) for _ in range(6)])
    found = symode.fit(problem, begin, seed=3, optimizer="scoring", workers=2)
    for start in found.starts:
        x0 = problem.space.begin(begin[start.index])
        alone = run_start(problem, start.index, x0, "scoring")
        assert alone.value == start.value
        assert np.array_equal(alone.theta, start.theta)
        assert (alone.status, alone.message) == (start.status, start.message)
        assert (alone.evaluations, alone.lost) == (start.evaluations, start.lost)


def test_rows_of_starting_points_are_read_like_single_ones() -> None:
    problem = make("normal", **SCALES["mixed"])
    rows = np.array([problem.parameters(TRUTH) * factor for factor in (0.5, 1.0, 2.0)])
    assert np.array_equal(
        starting_points(problem, rows, 0), starting_points(problem, list(rows), 0)
    )
    rows[2, 0] = -1.0
    with pytest.raises(symode.errors.SymodeError, match="-1"):
        starting_points(problem, rows, 0)
