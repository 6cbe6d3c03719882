"""Replayed steps give the same bits, whatever moves where they move it."""

import numpy as np
import pytest
from cases import DRIVEN

from symode.gradients.methods import DiscreteAdjoint
from symode.gradients.setup import make_task
from symode.gradients.verify.frozen import base_solve
from symode.solvers.methods import METHODS
from symode.solvers.native import make_observations
from symode.solvers.replay import Steps, run_steps, steps_of
from symode.status import NONFINITE, SINGULAR, SUCCESS

MODEL, LOSS, SPAN, THETA = DRIVEN
Z0 = np.array([1.1, 0.7])


def solved(solver: str, span=SPAN):
    task = make_task(MODEL.equations, LOSS, span, from_initial=False, solver=solver)
    return task, base_solve(task, DiscreteAdjoint(), np.array(THETA), Z0)


def replayed(task, forward, steps, y0):
    observations = make_observations(task.times, task.n)
    status, again = run_steps(
        forward.system, task.options, observations, forward.work_size, y0, steps
    )
    return status, again.scratch.y, observations.y


@pytest.mark.parametrize("span", [SPAN, SPAN[::-1]], ids=["forwards", "backwards"])
@pytest.mark.parametrize("solver", METHODS)
def test_a_replay_is_bitwise_the_solve(solver, span):
    task, forward = solved(solver, span)
    steps = steps_of(forward)
    assert steps.t[0] == span[0]
    assert steps.t[-1] == span[1]
    status, y, seen = replayed(task, forward, steps, task.start(Z0))
    assert status == SUCCESS
    if task.options.tableau.iterative:
        # The solve stops iterating at a hundredth of the tolerance in each step, the replay does
        # not; some 50 steps.
        assert y == pytest.approx(forward.scratch.y, rel=1e-8)
        assert seen == pytest.approx(forward.observations.y, rel=1e-8)
        return
    assert np.array_equal(y, forward.scratch.y)
    assert np.array_equal(seen, forward.observations.y)


def test_a_replay_is_smooth_where_an_adaptive_solve_is_not():
    task, forward = solved("tsit5")
    steps = steps_of(forward)
    shift = np.array([1e-5, 0.0, 0.0])
    ends = [replayed(task, forward, steps, task.start(Z0) + i * shift)[1] for i in (-1, 0, 1)]
    second = ends[0] - 2 * ends[1] + ends[2]
    # Second differences of size h**2, not of the tolerance's.
    assert np.max(np.abs(second)) < 1e-9


def test_stretched_steps_meet_the_new_end_and_leave_the_others():
    steps = Steps(np.array([0.0, 1.0, 3.0, 4.0]), np.array([1.0, 2.0, 1.0]))
    moved = steps.with_start(0.5, 2)
    assert moved.t.tolist() == pytest.approx([0.5, 0.5 + 2.5 / 3, 3.0, 4.0])
    assert moved.h.tolist() == pytest.approx([2.5 / 3, 5 / 3, 1.0])
    moved = steps.with_end(5.0, 2)
    assert moved.t.tolist() == [0.0, 1.0, 3.0, 5.0]
    assert moved.h.tolist() == [1.0, 2.0, 2.0]
    assert steps.t.tolist() == [0.0, 1.0, 3.0, 4.0]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_time_belongs_to_the_step_that_it_ends(sign):
    steps = Steps(sign * np.array([0.0, 1.0, 3.0]), sign * np.array([1.0, 2.0]))
    times = sign * np.array([0.0, 0.5, 1.0, 1.5, 3.0])
    assert steps.step_of(times).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("solver", ["tsit5", "rodas5p"])
def test_a_replay_that_leaves_the_numbers_says_so(solver):
    task, forward = solved(solver)
    wild = task.start(np.array([1e200, 1e200]))
    status, _, _ = replayed(task, forward, steps_of(forward), wild)
    assert status in (NONFINITE, SINGULAR)
