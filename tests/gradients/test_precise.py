"""Compiled tangents and adjoints are the derivatives of the same steps in arbitrary precision."""

import numpy as np
import pytest
from cases import DRIVEN
from gradients.reference import ENTRIES, needs_entries

import symode
from symode.gradients.methods import DiscreteAdjoint
from symode.gradients.setup import make_task
from symode.gradients.verify.frozen import FrozenLoss, base_solve
from symode.gradients.verify.precise import PreciseLoss, precise_errors
from symode.gradients.verify.subject import Subject, vector_of
from symode.solvers.methods import METHODS as SOLVERS
from symode.solvers.replay import steps_of

MODEL, LOSS, SPAN, THETA = DRIVEN


def subject_of(equations, loss, span, theta, z0, solver, **options) -> Subject:
    task = make_task(equations, loss, span, from_initial=z0 is None, solver=solver, **options)
    return Subject(task, DiscreteAdjoint(), np.array(theta), z0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_tangents_of_frozen_steps_agree_with_40_digits(solver):
    subject = subject_of(MODEL.equations, LOSS, SPAN, THETA, None, solver)
    # Rounding of some dozens of steps; measured 2e-15.
    assert np.max(precise_errors(subject)) <= 1e-13


@pytest.mark.parametrize("solver", ["dopri5", "rodas5p"])
def test_value_and_adjoint_agree_with_40_digits_through_z0_of_theta(solver):
    subject = subject_of(MODEL.equations, LOSS, SPAN, THETA, None, solver)
    steps = subject.steps(subject.task)
    precise = PreciseLoss(subject.task, steps)
    outcome = subject.outcome(DiscreteAdjoint(), subject.task)
    assert outcome.value == pytest.approx(float(precise(THETA, None, [])), rel=1e-14)
    for direction in subject.directions(2):
        exact = precise.derivative(subject.theta, None, direction)
        assert vector_of(outcome) @ direction == pytest.approx(exact, rel=1e-12)


@needs_entries
@pytest.mark.parametrize(
    ("name", "solver"),
    [("lotka_volterra", "tsit5"), ("lotka_volterra_10_times", "dop853"),
     ("robertson_t40", "rodas5p"), ("robertson_integral_t40", "rodas5p"),
     ("robertson_t40", "radau9")],
)  # fmt: skip
def test_reference_problems_agree_with_40_digits(name, solver):
    entry = ENTRIES[name]
    subject = subject_of(
        entry.model.equations, entry.loss, entry.span, entry.theta, entry.z0, solver, rtol=1e-6,
        atol=1e-8,
    )  # fmt: skip
    assert np.max(precise_errors(subject)) <= 1e-12


def test_frozen_loss_is_the_loss_of_the_solve_bit_for_bit():
    subject = subject_of(MODEL.equations, LOSS, SPAN, THETA, None, "tsit5")
    task = subject.task
    frozen = FrozenLoss(task, steps_of(base_solve(task, DiscreteAdjoint(), subject.theta, None)))
    value = frozen(subject.theta, None)
    assert value == pytest.approx(subject.outcome(DiscreteAdjoint(), task).value, rel=1e-15)
    assert value == frozen(subject.theta, subject.start)


def test_verify_includes_the_precise_replay_where_asked():
    report = symode.verify(MODEL, LOSS, SPAN, THETA, precise=True)
    assert report["precise"].passed
    assert report["precise"].digits >= 13
