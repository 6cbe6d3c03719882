"""A solve: accurate at its order, in both directions, everywhere; and honest when it fails."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from cases import CASES, MP

import symode
from symode.errors import OptionError, ParameterError, SolverError
from symode.gradients.methods.base import make_forward
from symode.gradients.setup import make_task
from symode.kernels import types as kt
from symode.solvers.methods import METHODS, get_method
from symode.solvers.native import make_observations
from symode.solvers.replay import Steps, run_steps
from symode.status import MAX_STEPS, PAUSED, SUCCESS

X, Y, K = sp.symbols("x y k")
DECAY = symode.Model({X: -K * X}, parameters=[K])
CIRCLE = symode.Model({X: Y, Y: -K * X}, parameters=[K])

every_solver = pytest.mark.parametrize("solver", METHODS)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def exact(case, t: float) -> np.ndarray:
    t0 = case.span[0]
    point = [[MP.mpf(v) for v in values] for values in (case.z0, case.theta)]
    return np.array([float(v) for v in case.flow(MP.mpf(t), MP.mpf(t0), *point)])


# -- accuracy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["forwards", "backwards"])
@every_case
@every_solver
def test_solution_and_interpolant_keep_the_tolerance(solver, case, way):
    case = case if way == "forwards" else case.reversed()
    solution = case.model.solve(
        case.span, theta=case.theta, z0=case.z0, solver=solver, rtol=1e-8, atol=1e-10
    )
    times = np.linspace(*case.span, 23)
    found = solution(times)
    known = np.array([exact(case, t) for t in times])
    # Local errors of 1e-8 add up over some dozens of steps; backwards, decay amplifies by e^2.
    limit = 1e-6 * np.max(np.abs(known))
    assert np.max(np.abs(found - known)) <= limit
    assert solution.t[0] == case.span[0]
    assert solution.t[-1] == case.span[1]
    assert np.array_equal(solution.z[0], case.z0)


@every_solver
def test_error_falls_with_rtol_as_the_controller_promises(solver):
    case = CASES[1]
    errors = []
    for rtol in (1e-4, 1e-6, 1e-8):
        solution = case.model.solve(
            case.span, theta=case.theta, z0=case.z0, solver=solver, rtol=rtol, atol=rtol / 100
        )
        errors.append(np.max(np.abs(solution.z[-1] - exact(case, case.span[1]))))
    # Proportional to the tolerance, give or take what one step size or another hits.
    # The highest orders are at rounding from the first tolerance on.
    assert errors[1] <= max(errors[0] / 10, 1e-11)
    assert errors[2] <= errors[1] / 10


@every_solver
def test_interpolant_has_its_order_on_frozen_steps(solver):
    # Uniform steps of the driven logistic equation, observed at irrational places inside them.
    case = CASES[2]
    tableau = get_method(solver)
    t0, t1 = case.span
    times = np.sort(t0 + (t1 - t0) * np.modf(np.arange(1, 40) * (math.sqrt(5) - 1) / 2)[0])
    known = np.array([exact(case, t) for t in times])
    loss = symode.Loss(terminal=case.states[0])
    task = make_task(case.model.equations, loss, case.span, from_initial=False, solver=solver)
    compiled = task.compile(["rhs", *task.options.jacobian_kernels()])
    system = task.bind(compiled, task.options.is_stiff)
    compiled.pack(np.array(case.theta), system.p)
    counts = np.array([8, 16, 32] if tableau.order >= 7 else [24, 48, 96])
    if tableau.order > 10:
        counts = counts // 2  # above rounding
    errors = []
    for count in counts:
        t = np.linspace(t0, t1, count + 1)
        observations = make_observations(times, 1)
        status, _ = run_steps(
            system, task.options, observations, compiled.work_size, np.array(case.z0),
            Steps(t, np.diff(t)),
        )  # fmt: skip
        assert status == SUCCESS
        errors.append(np.max(np.abs(observations.y[:, 0] - known[:, 0])))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    # Inside a step the interpolant adds its local error to the global one of the steps.
    assert slope >= min(tableau.order, tableau.dense_order + 1) - 0.35, errors


def test_tolerances_may_differ_by_state():
    pair = symode.Model({X: sp.cos(5 * Y), Y: 1}, parameters=[])
    loose = pair.solve((0, 10), z0=[0, 0], rtol=1e-14, atol={"x": 1e-3, "y": 1e-3})
    tight = pair.solve((0, 10), z0=[0, 0], rtol=1e-14, atol={"y": 1e-3, "x": 1e-11})
    error = [abs(s["x"][-1] - math.sin(50) / 5) for s in (loose, tight)]
    assert error[1] < 1e-8 < error[0]
    assert tight.stats.steps > 2 * loose.stats.steps
    with pytest.raises(OptionError, match="x, y"):
        pair.solve((0, 1), z0=[0, 0], atol={"x": 1e-3})


# -- times --------------------------------------------------------------------------------------


@pytest.mark.parametrize("span", [(0.0, 6.0), (6.0, 0.0)], ids=["forwards", "backwards"])
@every_solver
def test_observation_times_shorten_no_step(solver, span):
    ask = {"theta": [1.3], "z0": [1.0, 0.2], "solver": solver, "rtol": 1e-7}
    free = CIRCLE.solve(span, **ask)
    times = np.sort(np.concatenate([np.linspace(0, 6, 101), free.t[3:5], [2.0, 2.0]]))
    seen = CIRCLE.solve(span, times=times, **ask)
    assert seen.stats.steps == free.stats.steps
    assert seen.stats.rejected == free.stats.rejected
    expected = times if span[0] < span[1] else times[::-1]
    assert np.array_equal(seen.t, expected)
    # Both the interpolant of the kept steps, and at the ends the states themselves.
    assert np.allclose(seen.z, free(seen.t), rtol=0, atol=1e-12)
    assert np.array_equal(seen.z[-1], free.z[-1])
    assert np.array_equal(seen.z[0], free.z[0])
    without = CIRCLE.solve(span, times=times, dense_output=False, **ask)
    assert np.array_equal(without.z, seen.z)


def test_times_are_checked():
    with pytest.raises(OptionError, match="outside the span"):
        DECAY.solve((0, 1), theta=[1], z0=[1], times=[0.5, 1.5])
    with pytest.raises(OptionError, match="finite"):
        DECAY.solve((0, 1), theta=[1], z0=[1], times=[0.5, math.nan])
    with pytest.raises(OptionError, match="pair"):
        DECAY.solve((0, 1, 2), theta=[1], z0=[1])
    with pytest.raises(OptionError, match="outside"):
        DECAY.solve((0, 1), theta=[1], z0=[1])(1.5)
    with pytest.raises(OptionError, match="dense_output"):
        DECAY.solve((0, 1), theta=[1], z0=[1], times=[1.0], dense_output=False)(0.5)


def test_an_empty_span_returns_the_start():
    solution = DECAY.solve((1, 1), theta=[1], z0=[3])
    assert solution.t.tolist() == [1.0]
    assert solution.z.tolist() == [[3.0]]
    assert solution.success


@every_solver
def test_no_step_exceeds_h_max_and_times_far_from_zero_are_met(solver):
    span = (1e6, 1e6 + 3.0)
    solution = CIRCLE.solve(span, theta=[1], z0=[1, 0], solver=solver, h_max=0.05)
    assert np.max(np.diff(solution.t)) <= 0.05 * (1 + 1e-8)
    assert solution.t[-1] == span[1]
    assert solution.z[-1, 0] == pytest.approx(math.cos(3), abs=1e-7)


@every_solver
def test_units_of_time_do_not_matter(solver):
    # The same oscillation in units of time a trillion times smaller or larger.
    counts = []
    for unit in (1e-12, 1.0, 1e12):
        solution = CIRCLE.solve(
            (0, 5 * unit), theta=[unit**-2], z0=[1, 0], solver=solver, rtol=1e-6,
            atol=[1e-8, 1e-8 / unit],
        )  # fmt: skip
        assert solution.z[-1, 0] == pytest.approx(math.cos(5), abs=1e-4)
        counts.append(solution.stats.steps)
    # The first step of Hairer & Wanner knows a unit of time: twelve decades, a tenfold a step.
    assert max(counts) - min(counts) <= 13


@every_solver
def test_a_state_at_rest_takes_few_steps(solver):
    still = symode.Model({X: K - K}, parameters=[K])
    solution = still.solve((0, 1e6), theta=[1], z0=[2], solver=solver)
    assert solution.stats.steps < 40
    assert solution.z[-1, 0] == 2.0


# -- the loop -----------------------------------------------------------------------------------


@every_solver
def test_portions_of_any_size_give_the_same_bits(solver):
    from symode.kernels.loop import advance

    loss = symode.Loss(observations={1.0: X, 7.3: Y})
    task = make_task(CIRCLE.equations, loss, (0, 20), from_initial=False, solver=solver)
    compiled = task.compile(["rhs", *task.options.jacobian_kernels()])
    system = task.bind(compiled, task.options.is_stiff)
    compiled.pack(np.array([1.0]), system.p)
    results = []
    for budget in (10**9, 1, 7):
        forward = make_forward(task, compiled, system, keep=False, lazy=True)
        forward.reset(np.array([1.0, 0.0]), 0.0, 20.0)
        status = PAUSED
        while status == PAUSED:
            status = advance(
                forward.method, system, forward.control, forward.store, forward.observations,
                forward.scratch, budget,
            )  # fmt: skip
        assert status == SUCCESS
        results.append(np.concatenate([forward.scratch.y, forward.observations.y.ravel()]))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_a_store_that_grows_loses_nothing():
    solution = CIRCLE.solve((0, 200), theta=[1], z0=[1, 0], solver="bosh3", rtol=1e-6)
    assert solution.stats.steps > 2 * 256
    assert solution.t.size == solution.stats.steps + 1
    times = np.linspace(0, 200, 1001)
    # Errors of 1e-6 a step, some thousands of steps, no damping.
    assert np.max(np.abs(solution(times)[:, 0] - np.cos(times))) < 1e-2
    assert np.allclose(solution(solution.t), solution.z, rtol=0, atol=1e-11)


def test_statistics_count_what_was_done():
    stats = CIRCLE.solve((0, 20), theta=[1], z0=[1, 0], solver="tsit5", rtol=1e-6).stats
    tries = stats.steps + stats.rejected
    # Two evaluations choose the first step; six a try, the seventh stage being the next first.
    assert stats.nfev == 2 + 6 * tries
    assert (stats.njev, stats.nlu) == (0, 0)
    assert stats.solver == "Tsit5" or stats.solver.lower() == "tsit5"
    assert stats.seconds > 0
    stiff = CIRCLE.solve((0, 20), theta=[1], z0=[1, 0], solver="rodas5p", rtol=1e-6).stats
    tries = stiff.steps + stiff.rejected
    assert stiff.njev == tries
    assert stiff.nlu >= tries
    assert stiff.nfev == 2 + 8 * tries


@every_solver
def test_a_try_outside_the_domain_is_taken_back(solver):
    # x falls to 1, where log(x) = 0; a long first step would try negative x, where log is NaN.
    falls = symode.Model({X: -50 * sp.log(X)}, parameters=[])
    solution = falls.solve((0, 5), z0=[40.0], solver=solver, rtol=1e-2, atol=1e-3)
    assert np.isfinite(solution.z).all()
    assert solution.z[-1, 0] == pytest.approx(1.0, abs=1e-2)


@every_solver
def test_a_kink_costs_steps_and_no_digits(solver):
    kinked = symode.Model({X: sp.Piecewise((1, Y < 1), (-2, True)), Y: 1}, parameters=[])
    solution = kinked.solve((0, 3), z0=[0, 0], solver=solver, rtol=1e-8, atol=1e-10)
    assert solution.z[-1, 0] == pytest.approx(1 - 2 * 2, abs=1e-5)


# -- failures -----------------------------------------------------------------------------------


@every_solver
def test_blow_up_says_where(solver):
    grows = symode.Model({X: X**2}, parameters=[])
    with pytest.raises(SolverError) as caught:
        grows.solve((0, 2), z0=[1.0], solver=solver)
    error = caught.value
    assert error.t == pytest.approx(1.0, abs=1e-3)
    assert error.z[0] > 1e6
    assert 0 < error.h < 1e-4
    for part in ("t = ", "x = ", "step size", "blow-up", solver):
        assert part in str(error).lower()


def test_a_partial_solution_is_returned_where_asked():
    grows = symode.Model({X: X**2}, parameters=[])
    for times in (None, [0.25, 0.5, 1.5]):
        partial = grows.solve((0, 2), z0=[1.0], times=times, raise_on_failure=False)
        assert not partial.success
        assert "blow-up" in partial.message
        assert partial.t[-1] <= 1.0 + 1e-6
        assert np.allclose(partial.z[:5, 0], 1 / (1 - partial.t[:5]), rtol=1e-6)
    assert partial.t.tolist() == [0.25, 0.5]


def test_too_many_steps_names_the_limit_and_how_far_it_came():
    with pytest.raises(SolverError, match=r"max_steps=50 .* t = 1000") as caught:
        CIRCLE.solve((0, 1000), theta=[1], z0=[1, 0], max_steps=50)
    assert caught.value.status == MAX_STEPS
    assert 0 < caught.value.t < 1000
    assert "Raise max_steps" in str(caught.value)


@pytest.mark.parametrize("solver", ["bosh3", "dopri5", "tsit5", "dop853", "vern7"])
def test_stiffness_is_told_from_other_causes(solver):
    stiff = symode.Model({X: -K * (X - sp.cos(Y)), Y: 1}, parameters=[K])
    with pytest.raises(SolverError, match=r"stiff here.*solver='rodas5p'"):
        stiff.solve((0, 10), theta=[1e7], z0=[1, 0], solver=solver, max_steps=3000, rtol=1e-5)
    with pytest.raises(SolverError, match="max_steps") as caught:
        CIRCLE.solve((0, 1e5), theta=[1], z0=[1, 0], solver=solver, max_steps=3000, rtol=1e-5)
    assert "stiff" not in str(caught.value)
    assert stiff.solve((0, 10), theta=[1e7], z0=[1, 0], solver="rodas5p").success


def test_a_pole_in_the_right_hand_side_is_not_finite():
    pole = symode.Model({X: 1 / X}, parameters=[])
    with pytest.raises(SolverError, match=r"not finite.*division by zero") as caught:
        pole.solve((0, 1), z0=[0.0])
    assert caught.value.t == 0.0


def test_options_are_checked():
    for wrong, message in [
        ({"solver": "ode45"}, "tsit5"),
        ({"solver": 3}, "name"),
        ({"rtol": 0.5}, "rtol"),
        ({"rtol": -1e-6}, "rtol"),
        ({"atol": -1.0}, "atol"),
        ({"atol": [1e-6, 1e-6]}, "atol"),
        ({"max_steps": 0}, "max_steps"),
        ({"h_max": 0.0}, "h_max"),
    ]:
        with pytest.raises(OptionError, match=message):
            DECAY.solve((0, 1), theta=[1], z0=[1], **wrong)
    with pytest.raises(ParameterError, match="k"):
        DECAY.solve((0, 1), theta=[math.inf], z0=[1])


# -- Ctrl-C -------------------------------------------------------------------------------------

ENDLESS = """
import sys, sympy as sp, symode
x, y = sp.symbols("x y")
circle = symode.Model({x: y, y: -x}, parameters=[])
def ask(end, steps, members):
    if sys.argv[1] == "solve":
        circle.solve((0, end), z0=[1, 0], times=[end], dense_output=False, max_steps=steps)
    elif sys.argv[1] == "batch":
        vg = circle.value_and_grad(symode.Loss(terminal=x), t1=end, max_steps=steps, h_max=0.1)
        vg.batch([], [[1, 1]] * members)
    else:
        loss = symode.Loss(terminal=x)
        circle.gradient(loss, (0, end), z0=[1, 0], method=sys.argv[1], max_steps=steps)
ask(1.0, 1000, 2)
print("ready", flush=True)
try:
    ask(1e3 if sys.argv[1] == "batch" else 1e12, 10**15, 100_000)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(3)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("what", ["solve", "forward", "backsolve", "batch"])
def test_ctrl_c_ends_a_long_solve_within_a_second(what):
    root = Path(symode.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, what], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        time.sleep(0.7)
        asked = time.perf_counter()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert time.perf_counter() - asked < 1.0
        assert out == "interrupted\n", err
        assert process.returncode == 3
    finally:
        process.kill()


def test_kept_steps_hold_what_the_interpolant_needs():
    solution = CIRCLE.solve((0, 5), theta=[1], z0=[1, 0], solver="dop853")
    ((method, store, steps),) = solution.dense
    assert isinstance(method, kt.Erk)
    assert steps == solution.stats.steps
    assert np.array_equal(store.t[: steps + 1], solution.t)
    assert np.allclose(np.diff(solution.t), store.h[:steps], rtol=1e-13)


@pytest.mark.parametrize("unit", [1e-14, 1.0, 1e14])
@pytest.mark.parametrize("power", [2, 3, 5])
@pytest.mark.parametrize("method", METHODS)
def test_blow_up_is_called_so_in_any_unit(method, power, unit):
    # x' = a x**p from 1 ends at t = 1/(a (p - 1)).
    x, a = sp.symbols("x a")
    model = symode.Model({x: a * unit * (x / unit) ** power}, parameters=[a])
    with pytest.raises(SolverError, match="blow-up") as caught:
        model.solve((0, 2), [1 / (power - 1)], [unit], solver=method, rtol=1e-6, atol=1e-9 * unit)
    assert caught.value.t == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("unit", [1e-14, 1.0, 1e14])
@pytest.mark.parametrize("method", METHODS)
def test_a_solution_that_ends_without_growing_is_no_blow_up(method, unit):
    # x = sqrt(1 - t) in units of any size: its slope grows, it does not.
    x = sp.Symbol("x")
    model = symode.Model({x: -(unit**2) / (2 * x)})
    with pytest.raises(SolverError) as caught:
        model.solve((0, 2), z0=[unit], solver=method, rtol=1e-6, atol=1e-9 * unit)
    assert "blow-up" not in str(caught.value)


def test_treading_on_the_spot_is_told_from_a_long_way():
    # x' = -1/(2x) ends at 0; at a step of 1e-12 the rest of the span is 1e12 steps away.
    x = sp.Symbol("x")
    ends = symode.Model({x: -1 / (2 * x)})
    oscillates = symode.Model({x: sp.cos(50 * sp.Symbol("t"))})
    with pytest.raises(SolverError, match=r"limit on the number of steps.*may be singular"):
        ends.solve((0, 2), z0=[1.0], solver="tsit5", rtol=1e-6, atol=1e-6, max_steps=500)
    with pytest.raises(SolverError, match=r"limit on the number of steps.*Raise max_steps"):
        oscillates.solve((0, 100), z0=[1.0], solver="tsit5", max_steps=500)
