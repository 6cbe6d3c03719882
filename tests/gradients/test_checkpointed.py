"""CheckpointedAdjoint: the numbers of DiscreteAdjoint, memory and repetition in their bounds."""

import itertools
import tracemalloc

import numpy as np
import pytest
import sympy as sp
from cases import CASES, LOSSES

import symode
from symode.errors import GradientError, OptionError, SolverError
from symode.gradients.methods.checkpointed import CheckpointedRunner
from symode.gradients.rolling import RollingForward
from symode.gradients.schedule import Held, best_split, fewest_runs, reach, repetitions
from symode.gradients.value_and_grad import make_task
from symode.solvers.methods import METHODS as SOLVERS

X, Y = sp.symbols("x y")
A, B, C, D = sp.symbols("a b c d")
LOTKA_VOLTERRA = symode.Model({X: A * X - B * X * Y, Y: D * X * Y - C * Y}, parameters=[A, B, C, D])
THETA, Z0 = np.array([1.1, 0.4, 0.4, 0.1]), np.array([10.0, 5.0])


def flat(found: symode.Gradient) -> np.ndarray:
    return np.concatenate([[found.value, found.t0, found.t1], found.theta, found.z0, found.times])


@pytest.mark.parametrize("loss", ["mixed", "repeated"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("case", CASES[1:3], ids=lambda case: case.name)
def test_it_is_the_discrete_adjoint_bit_by_bit(case, loss, solver):
    options = {"theta": case.theta, "solver": solver, "rtol": 1e-9, "atol": 1e-11}
    for z0 in (case.z0, None):
        parts = symode.Loss(**LOSSES[loss](case))
        whole = case.model.gradient(parts, case.span, z0=z0, method="discrete", **options)
        for checkpoints, segment in [(1, 3), (3, 1), (2, 2)]:
            method = symode.CheckpointedAdjoint(checkpoints=checkpoints, segment=segment)
            found = case.model.gradient(parts, case.span, z0=z0, method=method, **options)
            assert found.stats["segments"] > 2
            assert found.stats["forward"].steps == whole.stats["forward"].steps
            assert np.array_equal(flat(found), flat(whole))


def test_what_is_zero_is_watched_as_in_the_discrete_adjoint():
    t, k = sp.Symbol("t"), sp.Symbol("k")
    model = symode.Model({X: k * sp.sin(9 * t)}, parameters=[k], time=t)
    loss = symode.Loss(terminal=X**2 + X)
    found = model.gradient(
        loss, (0, 2), theta=[0.0], z0=[0.0],
        method=symode.CheckpointedAdjoint(checkpoints=2, segment=3),
    )  # fmt: skip
    assert found.theta["k"] == pytest.approx((1 - np.cos(18)) / 9, rel=1e-6)


def work(checkpoints: int, units: int) -> list[int]:
    """Return how often each unit is run again, by the schedule alone."""
    held, runs = Held(checkpoints), [0] * units
    for unit in range(units):
        held.place(unit)
    assert len(held.units) <= checkpoints + 1
    for unit in range(units - 2, -1, -1):
        held.drop_from(unit + 1)
        at = held.units[-1]
        while at < unit:
            room = checkpoints - len(held.units) + 1
            stride = best_split(room, unit - at + 1) if room > 1 else unit - at
            for i in range(at, at + stride):
                runs[i] += 1
            at += stride
            if room > 1 and at < unit:
                held.insert(at)
        runs[unit] += 1
        assert len(held.units) <= checkpoints
    return runs


def fewest(checkpoints: int, units: int, known: dict) -> int:
    """Return the optimum by dynamic programming (Griewank & Walther 2000)."""
    if units <= 1 or checkpoints == 1:
        return units * (units - 1) // 2
    if (checkpoints, units) not in known:
        known[checkpoints, units] = min(
            m + fewest(checkpoints - 1, units - m, known) + fewest(checkpoints, m, known)
            for m in range(1, units)
        )
    return known[checkpoints, units]


def test_the_binomial_numbers_are_the_optimum():
    known: dict = {}
    for c, units in itertools.product(range(1, 6), range(1, 40)):
        assert fewest_runs(c, units) == fewest(c, units, known)


@pytest.mark.parametrize("checkpoints", [1, 2, 3, 5, 8])
def test_no_unit_is_run_more_often_than_the_bound(checkpoints):
    for units in range(1, 120):
        runs, most = work(checkpoints, units), repetitions(checkpoints, units)
        assert reach(checkpoints, most) >= units > reach(checkpoints, most - 1) or units == 1
        assert max(runs) <= most
        # The end is unknown on the way forward: some placements are not the best in hindsight.
        assert (
            fewest_runs(checkpoints, units) <= sum(runs) <= 1.35 * fewest_runs(checkpoints, units)
        )


def runner_of(steps: int, span: float = 50.0, **options) -> CheckpointedRunner:
    loss = symode.Loss(terminal=X, observations=[(span / 3, X * Y), (span / 2, Y)])
    task = make_task(
        LOTKA_VOLTERRA.equations, loss, (0.0, span), from_initial=False, solver="tsit5",
        h_max=span / steps, max_steps=2 * steps + 1000, rtol=1e-7, atol=1e-9,
    )  # fmt: skip
    return symode.CheckpointedAdjoint(**options).prepare(task)


def peak_of(steps: int, memory: int) -> tuple[int, dict]:
    """Return the bytes at the peak of a gradient, arrays included, and what it tells of itself."""
    tracemalloc.start()
    try:
        outcome = runner_of(steps, memory=memory)(THETA, Z0)
        return tracemalloc.get_traced_memory()[1], outcome.stats
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("memory", [50_000, 200_000])
def test_memory_stays_inside_the_budget(memory):
    # The interpreter keeps some 100 kB of calls of kernels, once a process: made here.
    runner_of(60_000, memory=memory)(THETA, Z0)
    # With no more than this a solve of some steps is made, the model's graphs included.
    few, _ = peak_of(20, 2_000)
    many, stats = peak_of(60_000, memory)
    assert stats["forward"].steps >= 60_000
    assert stats["bytes"] <= memory
    assert many - few <= memory
    assert stats["recomputed"] <= stats["repetitions"] * stats["forward"].steps


def test_one_more_pass_is_enough_where_the_memory_holds_the_root_of_the_steps():
    stats = runner_of(50_000, memory=250_000)(THETA, Z0).stats
    assert stats["repetitions"] == 1
    assert stats["recomputed"] == stats["fewest_recomputed"] < stats["forward"].steps


def test_short_solves_are_not_solved_again():
    stats = runner_of(500, memory=1e6)(THETA, Z0).stats
    assert stats["recomputed"] == 0 and stats["segments"] == 1


def test_too_little_memory_is_refused_with_what_is_needed():
    with pytest.raises(OptionError, match=r"Give at least (\d+)") as caught:
        runner_of(100, memory=200)
    least = int(str(caught.value).split("at least ")[1].rstrip("."))
    assert np.isfinite(runner_of(100, memory=least)(THETA, Z0).theta).all()


def test_options_exclude_each_other():
    for wrong in ({"memory": 1e6, "checkpoints": 3}, {"segment": 3}, {"checkpoints": 0},
                  {"memory": float("inf")}, {"checkpoints": 2.5}):  # fmt: skip
        with pytest.raises(OptionError):
            symode.CheckpointedAdjoint(**wrong)


def test_a_replay_that_does_not_meet_the_next_segment_is_an_error(monkeypatch):
    runner = runner_of(1000, checkpoints=3, segment=50)
    restore = RollingForward._restore

    def disturbed(self, start):
        restore(self, start)
        self.scratch.y[0] *= 1 + 1e-15

    monkeypatch.setattr(RollingForward, "_restore", disturbed)
    with pytest.raises(GradientError, match="not what it was"):
        runner(THETA, Z0)


def test_max_steps_counts_all_segments():
    for method in ("discrete", symode.CheckpointedAdjoint(checkpoints=2, segment=7)):
        with pytest.raises(SolverError, match="max_steps=20"):
            LOTKA_VOLTERRA.gradient(
                symode.Loss(terminal=X), (0, 50), theta=THETA, z0=Z0, method=method, max_steps=20
            )
