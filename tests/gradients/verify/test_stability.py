"""Growth and drift are measured, and the report says what to use instead."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import sympy as sp

import symode
from symode.gradients.methods import DiscreteAdjoint
from symode.gradients.value_and_grad import make_task
from symode.gradients.verify.stability import measure
from symode.gradients.verify.subject import Subject

X, Y, Z, K, S, R, B, T = sp.symbols("x y z k s r b t")


def measured(model, loss, span, theta, z0, **options):
    task = make_task(model.equations, loss, span, from_initial=False, **options)
    return measure(Subject(task, DiscreteAdjoint(), np.array(theta), np.array(z0)))


def test_growth_of_a_linear_problem_is_its_exponential():
    # A perturbation grows by e^(k t), against the solution's peak, which grows as much.
    model = symode.Model({X: K * X, Y: -Y}, parameters=[K])
    found = measured(model, symode.Loss(terminal=X + Y), (0, 3), [1.0], [1e-9, 1.0])
    alone = measured(
        symode.Model({X: K * (X - 5)}, parameters=[K]), symode.Loss(terminal=X), (0, 3), [1.0],
        [5.0],
    )  # fmt: skip
    # Steps are chosen for z, which rests, and not for its tangent.
    assert alone.growth == pytest.approx(np.exp(3), rel=1e-2)
    assert found.decay == pytest.approx(3.0, rel=1e-6)


def test_drift_backwards_grows_as_the_decay_and_backsolve_is_ruled_out():
    model = symode.Model({X: -K * (X - sp.cos(T))}, parameters=[K], time=T)
    loss = symode.Loss(terminal=X**2)
    calm = measured(model, loss, (0, 1), [1.0], [0.3])
    wild = measured(model, loss, (0, 6), [5.0], [0.3])
    assert calm.drift < 30 < 1e6 < wild.drift
    # The factor by which its gradient is off: here the adjoint decays as fast as z drifts.
    assert calm.backsolve_error < 1e-6
    assert np.isfinite(wild.backsolve_error)
    report = symode.verify(model, loss, (0, 6), [5.0], [0.3], checks=["stability"])
    text = " ".join(report["stability"].details)
    assert "drifts" in text and "DiscreteAdjoint or InterpolatingAdjoint" in text


def test_a_stiff_problem_is_told_what_to_use():
    model = symode.Model({X: -K * (X - sp.cos(T))}, parameters=[K], time=T)
    loss = symode.Loss(terminal=X**2)
    report = symode.verify(
        model, loss, (0, 10), [2000.0], [0.3], solver="tsit5", rtol=1e-5, checks=["stability"]
    )
    assert "solver='rodas5p'" in " ".join(report["stability"].details)


def test_chaos_fails_with_its_cause():
    lorenz = symode.Model({X: S * (Y - X), Y: X * (R - Z) - Y, Z: X * Y - B * Z}, [S, R, B])
    report = symode.verify(
        lorenz, symode.Loss(terminal=Z), (0, 30), [10, 28, 8 / 3], [1, 1, 1],
        checks=["tolerances", "stability"], solver="vern7",
    )  # fmt: skip
    assert not report.passed
    assert "multiple shooting" in " ".join(report["stability"].details)
    assert any(cause.startswith("chaos") for cause in report.causes)


def test_a_tolerance_that_is_too_loose_is_said_to_be():
    wave = symode.Model({X: Y, Y: -(K**2) * X}, parameters=[K])
    report = symode.verify(
        wave, symode.Loss(terminal=X), (0, 60), [3.0], [1.0, 0.2], solver="bosh3", rtol=1e-2,
        atol=1e-3, checks=["tolerances", "taylor", "stability"], max_steps=10**6,
    )  # fmt: skip
    assert not report["tolerances"].passed
    assert any("too loose" in cause for cause in report.causes), str(report)


def test_a_refused_backsolve_gets_the_diagnosis():
    model = symode.Model({X: -K * (X - sp.cos(T))}, parameters=[K], time=T)
    report = symode.verify(
        model, symode.Loss(terminal=X**2), (0, 6), [5.0], [0.3], method="backsolve"
    )
    assert not report.passed
    assert "stability" in report.digits and "refused" in report.causes[-1]


def lorenz_checks(end, *, scale=0.0, **options):
    lorenz = symode.Model({X: S * (Y - X), Y: X * (R - Z) - Y, Z: X * Y - B * Z}, [S, R, B])
    return symode.verify(
        lorenz, symode.Loss(terminal=X**2 + Z), (0, end), [10, 28, 8 / 3], [1, 1, 1],
        method=Scaled(scale), reference_digits=0,
        checks=["taylor", "second order", "dot product", "stability"], **options,
    )  # fmt: skip


@dataclass(frozen=True)
class Scaled(DiscreteAdjoint):
    """A gradient that is wrong by a share of its first entry."""

    by: float = 0.0

    def prepare(self, task):
        runner = super().prepare(task)

        def wrong(theta, z0):
            found = runner(theta, z0)
            return replace(found, theta=found.theta * (1 + self.by * (np.arange(3) == 0)))

        return wrong


def test_limits_follow_what_rounding_may_grow_to():
    # What is compared may differ by rounding that grows by 4e4, and by 2e9.
    early, late = lorenz_checks(20), lorenz_checks(30, rtol=1e-12, atol=1e-14)
    assert early.passed
    assert early["dot product"].digits > 10
    assert late.passed and late["taylor"].skipped and not late["dot product"].skipped
    # What differences can tell, they tell.
    assert not lorenz_checks(20, scale=1e-4)["taylor"].passed


@pytest.mark.parametrize("solver", ["tsit5", "bosh3"])
def test_explicit_steps_on_a_stiff_model_are_those_of_the_gradients_own_run(solver):
    # Along steps chosen for z alone J has any slope: the check failed a right gradient.
    a, b, c = sp.symbols("p1:4")
    loss, back = a * X - b * Y * Z, c * Y**2
    model = symode.Model({X: -loss, Y: loss - back, Z: back}, parameters=[a, b, c])
    wanted = symode.Loss(terminal=2 * X + 1e3 * Y + Z**2, observations=[(0.4, X * Z)])
    checks = ["taylor", "second order", "dot product"]
    for method, passes in ((DiscreteAdjoint(), True), (Scaled(1e-6), False)):
        report = symode.verify(
            model, wanted, (0, 1.5), [0.04, 1e4, 3e7], [1.0, 1e-5, 0.2], method=method,
            solver=solver, rtol=1e-6, atol=1e-10, checks=checks,
        )  # fmt: skip
        assert report["taylor"].passed == passes
        assert report["second order"].passed and report["dot product"].passed
    assert "derivative of the computed J" in report["taylor"].summary
