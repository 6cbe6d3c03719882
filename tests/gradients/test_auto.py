"""Gradients over a solve that changes its method: every method follows the switch.

The judges: derivatives of 20 digits where there are any, the tangent of the same steps, Taylor
remainders, and the same problem by the stiff method alone.
"""

import numpy as np
import pytest
import sympy as sp
from gradients.reference import ENTRIES, needs_entries

import symode
from symode.errors import DriftError, GradientError, UnsupportedCombinationError
from symode.gradients.methods import METHODS, DiscreteAdjoint, ForwardSensitivity
from symode.gradients.residuals import Residuals
from symode.gradients.setup import make_task
from symode.gradients.verify.dot_product import dot_product_errors
from symode.gradients.verify.precise import precise_errors
from symode.gradients.verify.subject import Subject

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
T, X, Y, K, R, W = sp.symbols("t x y k r w")


def stretch(turns=1.0, backwards=False):
    """Return a nonlinear model that is stiff for a part of each turn, with a loss, and a span.

    x follows cos t, fast where k exp(...) is large; y feels x, and x a little of y. One turn is
    calm, stiff from 0.7 on, and calm again from 2.3 on: two switches.
    """
    bump = sp.exp(-(((sp.Mod(T, 3) if turns > 1 else T) - sp.Rational(3, 2)) ** 4) / W**4)
    pull = 1 + 10 ** k_of() * bump
    rhs = {X: -pull * (X - sp.cos(T) - Y**2 / 20), Y: -R * Y + X * sp.sin(2 * T)}
    initial = {X: 1 + R / 3, Y: sp.Rational(1, 2) + K / 40}
    sign = -1 if backwards else 1
    model = symode.Model(
        {z: sign * f.subs(T, sign * T) for z, f in rhs.items()},
        parameters=[K, R, W], time=T, initial=initial,
    )  # fmt: skip
    times = [0.0, 0.4, 1.1, 1.5, 1.9, 2.6, 3.0]
    loss = symode.Loss(
        terminal=X**2 + K * Y, running=X * Y + R * Y**2,
        observations={sign * t: (X - t / 3) ** 2 + Y * R for t in times},
    )  # fmt: skip
    return model, loss, (0.0, sign * 3.0), [5.0, 0.7, 0.5]


def k_of():
    return K


def gradient_of(case, method, solver="auto", rtol=1e-8, **more):
    model, loss, span, theta = case
    return model.gradient(
        loss, span, theta, method=method, solver=solver, rtol=rtol, atol=rtol * 1e-2, **more
    )


def difference(a, b, case):
    """Return the distance of two gradients, relative, each entry in the size of its variable."""
    scale = np.abs([*case[3], 1.0, 1.0])
    one, two = (np.concatenate([g.theta, g.z0]) * scale for g in (a, b))
    return float(np.linalg.norm(one - two) / np.linalg.norm(two))


def segments(gradient):
    return [part.solver for part in gradient.stats["forward"].segments]


@needs_entries
@pytest.mark.parametrize("entry", ENTRIES.values(), ids=lambda entry: entry.name)
@every_method
def test_gradients_of_the_classic_problems_to_six_digits(method, entry):
    try:
        found = entry.model.gradient(
            entry.loss, entry.span, theta=entry.theta, z0=entry.z0, method=method, solver="auto",
            rtol=1e-8, atol=1e-10,
        )  # fmt: skip
    except UnsupportedCombinationError as refused:
        pytest.skip(str(refused))
    except (DriftError, GradientError) as error:
        # Integrating z backwards fails aloud where it is unstable; no other method may fail.
        assert method.name == "backsolve", error
        pytest.skip(f"refused: {type(error).__name__}")
    assert found.value == pytest.approx(entry.value, rel=1e-6)
    assert entry.error(found) <= 1e-6
    forward = found.stats.get("forward")
    if forward is not None and method.name in ("discrete", "interpolating", "checkpointed"):
        assert forward.segments[0].solver == "vern7"
        assert (len(forward.segments) > 1) == entry.is_stiff


@pytest.mark.parametrize("backwards", [False, True])
@every_method
def test_methods_agree_over_a_stiff_stretch(method, backwards):
    case = stretch(backwards=backwards)
    alone = gradient_of(case, ForwardSensitivity(), "rodas5p", 1e-10)
    try:
        found = gradient_of(case, method)
    except UnsupportedCombinationError as refused:
        pytest.skip(str(refused))
    except GradientError:
        assert method.name == "backsolve"
        return
    assert segments(found)[:2] == ["vern7", "rodas5p"]
    assert found.value == pytest.approx(alone.value, rel=1e-6)
    assert difference(found, alone, case) <= 1e-6
    for name in ("t0", "t1"):
        assert getattr(found, name) == pytest.approx(getattr(alone, name), rel=1e-5, abs=1e-5)
    # (∂l/∂z) f at a time in the stiff stretch: f has 1e5 times the error of z.
    assert np.allclose(found.times, alone.times, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-9])
def test_the_discrete_adjoint_is_the_transpose_over_segments(rtol):
    model, loss, span, theta = stretch()
    task = make_task(
        model.equations, loss, span, from_initial=True, solver="auto", rtol=rtol, atol=rtol / 100
    )
    subject = Subject(task, DiscreteAdjoint(), np.array(theta), None)
    assert len(subject.steps(task).parts) >= 2
    assert dot_product_errors(subject).max() <= 1e-12
    if rtol > 1e-6:
        assert precise_errors(subject).max() <= 1e-12


@pytest.mark.parametrize("method", ["discrete", "forward", "interpolating"])
def test_verify_goes_over_segments(method):
    model, loss, span, theta = stretch()
    report = symode.verify(model, loss, span, theta=theta, method=method, rtol=1e-6)
    assert report.passed, str(report)
    assert {"taylor", "dot product", "ends"} <= {check.name for check in report.tests}


def test_three_segments_and_back():
    case = stretch()
    found = gradient_of(case, "discrete", rtol=1e-9)
    assert segments(found) == ["vern7", "rodas5p", "vern7"]
    backward = gradient_of(case, "interpolating", rtol=1e-9).stats["backward"]
    assert [part.solver for part in backward.segments] == ["vern7", "rodas5p", "vern7"]
    assert backward.segments[0].t0 == 3.0
    assert backward.segments[-1].t1 == 0.0


def test_a_result_does_not_depend_on_the_calls_before_it():
    model, loss, span, theta = stretch()
    vg = model.value_and_grad(loss, "theta", t0=span[0], t1=span[1], rtol=1e-6)
    stiff, calm = np.array(theta), np.array([-2.0, 0.7, 0.5])
    first = [vg(point) for point in (stiff, calm)]
    for point, known in ((calm, first[1]), (stiff, first[0]), (stiff, first[0]), (calm, first[1])):
        value, slope = vg(point)
        assert value == known[0]
        assert np.array_equal(slope, known[1])


def test_members_of_a_batch_switch_one_by_one():
    # y is the rate at which x follows cos t: the initial value decides on stiffness.
    model = symode.Model({X: -Y * (X - K * sp.cos(T)), Y: -R * Y}, parameters=[K, R], time=T)
    loss = symode.Loss(terminal=X**2, observations={1.0: X, 2.5: X * sp.log(Y)})
    theta = [0.8, 0.1]
    starts = np.array([[1.2, 0.5], [1.3, 1e5], [0.5, 3.0], [1.0, 1e6], [0.7, 1e4]])
    vg = model.value_and_grad(loss, t1=4.0, rtol=1e-7, atol=1e-9)
    counts = [
        len(vg.outcome(np.concatenate([theta, z0])).stats["forward"].segments) for z0 in starts
    ]
    assert counts == [1, 2, 1, 2, 2]
    values, dtheta, dz0 = vg.batch(theta, starts, workers=2)
    for i, z0 in enumerate(starts):
        value, slope = vg(np.concatenate([theta, z0]))
        assert values[i] == value
        assert np.array_equal(np.concatenate([dtheta[i], dz0[i]]), slope)


def test_zeros_are_watched_over_segments():
    # At w = 0 nothing shows what the drive would do but its tangent.
    model = symode.Model(
        {X: -(10**K) * (X - sp.cos(T)) + W * sp.sin(9 * T), Y: X - Y + W * sp.cos(7 * T)},
        parameters=[K, W], time=T, initial={X: 1, Y: 1},
    )  # fmt: skip
    case = model, symode.Loss(terminal=X + Y**2), (0.0, 4.0), [4.0, 0.0]
    found = gradient_of(case, "discrete")
    assert segments(found) == ["vern7", "rodas5p"]
    alone = gradient_of(case, "forward", "rodas5p", 1e-10)
    assert found.theta["w"] == pytest.approx(alone.theta["w"], rel=1e-6)


def test_residuals_follow_the_switch():
    model, _, span, theta = stretch()
    times = np.linspace(0.0, 3.0, 13)
    loss = symode.LeastSquares(times, np.zeros((13, 2)))
    rows = {}
    for solver, rtol in (("auto", 1e-8), ("rodas5p", 1e-10)):
        rows[solver] = Residuals(
            model.equations, loss, t0=span[0], solver=solver, rtol=rtol, atol=rtol * 1e-2
        )(theta)
    for found, exact in zip(*rows.values(), strict=True):
        assert np.linalg.norm(found - exact) <= 1e-6 * np.linalg.norm(exact)


def test_gradient_rtol_is_reached_over_segments():
    case = stretch()
    found = gradient_of(case, "discrete", rtol=1e-4, gradient_rtol=1e-7)
    exact = gradient_of(case, "forward", "rodas5p", 1e-11)
    assert found.stats["gradient_error_estimate"] <= 1e-7
    assert difference(found, exact, case) <= 1e-6
    assert "auto" in found.stats["forward"].reason


@pytest.mark.parametrize("memory", [40_000, 200_000])
def test_checkpoints_repeat_the_switches(memory):
    # The oscillator of van der Pol: four switches in each turn, some hundred steps between them.
    model = symode.Model.from_text("x' = v; v' = mu*(1 - x^2)*v - x; x(0) = 2; v(0) = 0")
    loss = symode.Loss(terminal=X**2, observations={300.0: X, 900.0: X**2, 1300.0: X}, running=X**2)
    kwargs = {"theta": [1e3], "rtol": 1e-7, "atol": 1e-9}
    full = model.gradient(loss, (0, 1500), method="discrete", **kwargs)
    few = model.gradient(
        loss, (0, 1500), method=symode.CheckpointedAdjoint(memory=memory), **kwargs
    )
    assert segments(few) == segments(full)
    assert len(segments(full)) >= 4
    assert few.stats["recomputed"] > 0
    # The same steps, transposed in the same order: to rounding.
    assert few.value == full.value
    assert few.theta["mu"] == pytest.approx(full.theta["mu"], rel=1e-11)
    assert np.allclose(few.times, full.times, rtol=1e-11)


@pytest.mark.parametrize("rtol", [1e-4, 1e-8])
def test_complex_steps_over_the_same_segments_agree_to_rounding(rtol):
    case = stretch()
    found, judge = (gradient_of(case, m, rtol=rtol) for m in ("discrete", symode.ComplexStep()))
    assert segments(found) == segments(judge)
    assert len(segments(found)) >= 2
    assert difference(found, judge, case) <= 1e-12
    # Differences along the same steps leave the cube of their size, extrapolated.
    third = gradient_of(case, symode.FiniteDifference(), rtol=rtol)
    assert difference(third, judge, case) <= 1e-8


def test_a_hessian_is_symmetric_over_segments():
    # Its products take the gradient's own steps and switches, whatever the direction: the
    # asymmetry is rounding. A bound of ρ that saw the tangents had left 6e-8.
    model, loss, span, theta = stretch()
    found = model.hessian(
        loss, span, theta=theta, solver="auto", rtol=1e-7, atol=1e-9, method="discrete"
    )
    assert found.stats["asymmetry"] <= 1e-12
