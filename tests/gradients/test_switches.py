"""Gradients across switches of f: exact pieces, 30 digits, differences, and the other methods."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import symode
from symode.errors import GradientError
from symode.gradients.methods import DiscreteAdjoint, ForwardSensitivity

t, x, y, k, a, c, w = sp.symbols("t x y k a c w")
CARRIERS = [DiscreteAdjoint(), ForwardSensitivity()]
EXACT = pytest.mark.parametrize("method", CARRIERS, ids=lambda method: method.name)


def _oscillator(kappa, start, end):
    """Return x(t1) of x'' = -x + kappa max(0, x), x(0) = start, at rest: sines by turns."""
    root = mpmath.sqrt(1 - kappa)
    rise, fall = mpmath.pi / root, mpmath.pi
    phase = end + rise / 2
    phase -= (rise + fall) * mpmath.floor(phase / (rise + fall))
    # start is the amplitude where x > 0, root times it where x < 0.
    if phase < rise:
        return start * mpmath.sin(root * phase)
    return -start * root * mpmath.sin(phase - rise)


@EXACT
@pytest.mark.parametrize("rtol", [1e-6, 1e-9])
def test_a_hundred_crossings_of_max_leave_a_hundred_rtol(method, rtol: float) -> None:
    model = symode.Model({x: y, y: -x + k * sp.Max(0, x)}, [k, a], initial={x: a, y: 0})
    theta, end = [0.5, 1.1], 200.0
    found = model.gradient(symode.Loss(terminal=x), (0, end), theta, method=method, rtol=rtol,
                           atol=rtol / 100, wrt="theta")  # fmt: skip
    with mpmath.workdps(30):
        known = [
            float(mpmath.diff(lambda s: _oscillator(s, mpmath.mpf(1.1), end), 0.5)),
            float(mpmath.diff(lambda s: _oscillator(mpmath.mpf(0.5), s, end), 1.1)),
        ]
    scaled = np.array(theta) * (np.asarray(found.theta) - known)
    # 106 crossings over 33 periods, whose phase errors add up.
    assert np.linalg.norm(scaled) < 100 * rtol * np.linalg.norm(np.array(theta) * known)


CASES = {
    "pulse": ({x: sp.Piecewise((k, (t >= a) & (t < a + c)), (0, True)) - x / 10}, (k, a, c),
              {x: 0}, (x**2, {30.0: x, 34.0: x**2}), 50, (1000, 33.3, 0.01)),
    "kink": ({x: y, y: -x + sp.Max(0, x) * k}, (k, a), {x: a, y: 0.1},
             (x * y, {7.0: x}), 20, (0.5, 1.1)),
    "jump": ({x: sp.Piecewise((-k * x, x > a), (-2 * k * a + c * x, True))}, (k, a, c), {x: 2},
             (x**2, {0.5: x, 2.0: x}), 3, (1.0, 1.2, 0.1)),
    "periodic": ({x: sp.Piecewise((k, sp.Mod(t - a, c) < 1), (0, True)) - x / 10}, (k, a, c),
                 {x: 0}, (x**2, {20.0: x}), 50, (1.0, 0.3, 7.0)),
    "stairs": ({x: k + a * sp.floor(x)}, (k, a), {x: 0.2}, (x**2, {1.0: x}), 3, (1.0, 0.3)),
    "nested": ({x: y, y: -x + sp.Max(0, k * sp.Min(x, a) - c * sp.Heaviside(t - 2))}, (k, a, c),
               {x: 1, y: 0}, (x**2, {5.0: x * y}), 9, (0.5, 0.3, 0.1)),
    "together": ({x: k * sp.Heaviside(t - a) + a * sp.Heaviside(t - c) - x}, (k, a, c), {x: 1},
                 (x**2, {3.0: x}), 4, (0.7, 2.0, 2.0)),
}  # fmt: skip


def _case(name: str):
    rhs, parameters, initial, (terminal, observed), end, theta = CASES[name]
    model = symode.Model(rhs, parameters, time=t, initial=initial)
    loss = symode.Loss(terminal=terminal, observations=observed, running=x**2 / 100)
    return model, loss, (0, end), np.array(theta, dtype=float)


def _differences(model, loss, span, theta, **options):
    found = []
    for i in range(theta.size):
        step = np.zeros(theta.size)
        step[i] = 1e-4 * abs(theta[i])
        two, one, back, behind = (
            model.gradient(loss, span, theta + s * step, wrt="theta", **options).value
            for s in (2, 1, -1, -2)
        )
        found.append((8 * (one - back) - (two - behind)) / (12 * step[i]))
    return np.array(found)


@EXACT
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_slopes_of_j(name: str, method) -> None:
    model, loss, span, theta = _case(name)
    tight = {"rtol": 1e-11, "atol": 1e-13, "method": method}
    found = model.gradient(loss, span, theta, **tight)
    known = _differences(model, loss, span, theta, **tight)
    # Fourth order: h = 1e-4 leaves 1e-16 of truncation, and 1e-11/1e-4 of noise.
    assert np.allclose(found.theta, known, rtol=1e-6, atol=1e-6 * np.abs(known).max())


@pytest.mark.parametrize("solver", ["tsit5", "rodas5p", "radau5", "esdirk54"])
@pytest.mark.parametrize("name", ["pulse", "jump", "nested"])
def test_adjoint_and_forward_agree_for_every_kind_of_solver(name: str, solver: str) -> None:
    model, loss, span, theta = _case(name)
    found = [
        model.gradient(loss, span, theta, method=m, solver=solver, rtol=1e-9, atol=1e-11)
        for m in CARRIERS
    ]
    for part in ("theta", "z0", "times"):
        one, two = (np.asarray(getattr(g, part)) for g in found)
        assert np.allclose(one, two, rtol=1e-5, atol=1e-6 * max(1.0, np.abs(one).max())), part
    assert found[0].t0 == pytest.approx(found[1].t0, rel=1e-5, abs=1e-7)
    assert found[0].t1 == pytest.approx(found[1].t1, rel=1e-5, abs=1e-7)


def test_times_of_observations_see_the_f_of_their_own_piece() -> None:
    model, loss, span, theta = _case("pulse")
    found = model.gradient(loss, span, theta, rtol=1e-10, atol=1e-12)
    course = model.solve(span, theta, rtol=1e-10, atol=1e-12, times=[30.0, 34.0])
    # At t = 30 nothing has come in; at 34 there is decay: dJ/dt_i = l' f.
    after = course.z[1, 0]
    assert np.allclose(found.times, [0.0, 2 * after * (-after / 10)], rtol=1e-7)


def _exact(parameters, start, end):
    """Return x(t1) where f runs linearly from u_i to v_i on the i-th of three cells of x."""
    u, v, c1, c2 = parameters[:3], parameters[3:6], parameters[6], parameters[7]
    edges = [mpmath.mpf(start), c1, c2, c2 + 1]
    at, left = edges[0], mpmath.mpf(end)
    for i in range(3):
        width = edges[i + 1] - edges[i]
        slope = (v[i] - u[i]) / width
        full = mpmath.log(v[i] / u[i]) / slope if slope else width / u[i]
        if i == 2 or left <= full:
            grown = mpmath.expm1(slope * left) / slope if slope else left
            return at + u[i] * grown
        at, left = edges[i + 1], left - full
    raise AssertionError


@settings(max_examples=15, deadline=None)
@given(
    speeds=st.lists(st.integers(2, 12), min_size=6, max_size=6),
    c1=st.integers(2, 6), gap=st.integers(1, 5), end=st.integers(4, 14),
)  # fmt: skip
def test_random_pieces_match_their_exact_solution_and_gradient(speeds, c1, gap, end) -> None:
    names = sp.symbols("u0:3 v0:3 c1 c2")
    u, v, edges = names[:3], names[3:6], (0, *names[6:], names[7] + 1)
    pieces = [u[i] + (v[i] - u[i]) * (x - edges[i]) / (edges[i + 1] - edges[i]) for i in range(3)]
    # Where both ends of a cell are as fast, 0/0 in the closed form: keep them apart.
    theta = [s / 5 for s in speeds[:3]] + [s / 5 + 0.07 for s in speeds[3:]]
    theta += [c1 / 4, c1 / 4 + gap / 4]
    with mpmath.workdps(30):
        time = mpmath.mpf(end) / 5 + mpmath.mpf(1) / 70
        point = [mpmath.mpf(p) for p in theta]
        value = float(_exact(point, 0, time))
        known = [
            float(mpmath.diff(
                lambda s, j=j: _exact([*point[:j], s, *point[j + 1:]], 0, time), point[j]))
            for j in range(8)
        ]  # fmt: skip
    rhs = sp.Piecewise((pieces[0], x < edges[1]), (pieces[1], x < edges[2]), (pieces[2], True))
    model = symode.Model({x: rhs}, names, initial={x: 0})
    for method in CARRIERS:
        found = model.gradient(symode.Loss(terminal=x), (0, float(time)), theta, method=method,
                               rtol=1e-10, atol=1e-12)  # fmt: skip
        assert found.value == pytest.approx(value, rel=1e-8)
        assert np.allclose(found.theta, known, rtol=1e-7, atol=1e-7), method.name


def test_meetings_of_switches_that_do_not_commute_are_refused() -> None:
    rhs = sp.Heaviside(t - a) * sp.Heaviside(t - c) - x
    model = symode.Model({x: rhs}, [a, c], time=t, initial={x: 1})
    with pytest.raises(GradientError, match="meet by chance"):
        model.gradient(symode.Loss(terminal=x), (0, 4), [2.0, 2.0], method="discrete")
    # Apart they have one.
    model.gradient(symode.Loss(terminal=x), (0, 4), [2.0, 2.5], method="discrete")


EVERY = [*CARRIERS, symode.InterpolatingAdjoint(), symode.GaussAdjoint(), symode.BacksolveAdjoint()]


@pytest.mark.parametrize("method", EVERY, ids=lambda method: method.name)
def test_an_observation_at_a_switch_that_moves_has_the_derivative_of_one_side(method) -> None:
    model = symode.Model({x: k * sp.Heaviside(t - a)}, [a, k], time=t, initial={x: 1})
    loss = symode.Loss(observations={2.0: x**2, 3.0: x})
    found = model.gradient(loss, (0, 4), [2.0, 3.0], method=method)
    # x(2) = 1 + 3 max(0, 2 - a): where a is later than 2 it stays 1. x(3) = 1 + 3 (3 - a).
    assert found.value == pytest.approx(5.0, rel=1e-9)
    assert np.allclose(found.theta, [-3.0, 1.0], rtol=1e-6)
    (sentence,) = found.stats["one_sided"]
    assert "as the moment moves later" in sentence and "t = 2" in sentence
    # Nothing that moves is asked for, or they do not meet: no side, and nothing said.
    found = model.gradient(loss, (0, 4), [2.0, 3.0], method=method, wrt="z0")
    assert np.allclose(found.z0, [2 * 1.0 + 1]) and "one_sided" not in found.stats
    apart = model.gradient(loss, (0, 4), [1.9, 3.0], method=method)
    assert np.allclose(apart.theta, [-3.0 - 6.0 * 1.3, 1.1 + 0.2 * 1.3], rtol=1e-6)
    assert "one_sided" not in apart.stats


@EXACT
def test_grazing_a_kink_is_no_matter_and_grazing_a_jump_is_refused(method) -> None:
    rhs = {x: 1, y: sp.Max(0, (x - 1) ** 2 - c) + y / 5}
    model = symode.Model(rhs, [c], initial={x: 0, y: 1})
    found = model.gradient(symode.Loss(terminal=y), (0, 2), [1e-14], method=method)
    assert np.isfinite(found.theta).all()
    jump = symode.Model({x: 1, y: sp.Heaviside(c - (x - 1) ** 2)}, [c], initial={x: 0, y: 1})
    with pytest.raises(GradientError, match="grazes"):
        jump.gradient(symode.Loss(terminal=y), (0, 2), [1e-4], method=method, h_max=0.01,
                      rtol=1e-2, atol=1e-2)  # fmt: skip


@pytest.mark.parametrize("checkpoints, segment", [(1, 1), (2, 7)])
@pytest.mark.parametrize("name", CASES)
def test_checkpoints_give_the_discrete_adjoint_bit_by_bit(name, checkpoints, segment) -> None:
    model, loss, span, theta = _case(name)
    method = symode.CheckpointedAdjoint(checkpoints=checkpoints, segment=segment)
    one, two = (
        model.gradient(loss, span, theta, method=m, rtol=1e-7, atol=1e-9)
        for m in ("discrete", method)
    )
    for part in ("value", "theta", "z0", "t0", "t1", "times"):
        assert np.array_equal(getattr(one, part), getattr(two, part)), part


CONTINUOUS = [symode.InterpolatingAdjoint(), symode.GaussAdjoint(), symode.BacksolveAdjoint()]


@pytest.mark.parametrize("method", CONTINUOUS, ids=lambda method: method.name)
@pytest.mark.parametrize("name", CASES)
def test_continuous_adjoints_jump_alike(name: str, method) -> None:
    model, loss, span, theta = _case(name)
    tight = {"rtol": 1e-10, "atol": 1e-12}
    found = model.gradient(loss, span, theta, method=method, **tight)
    known = model.gradient(loss, span, theta, method="discrete", **tight)
    # Both hold rtol in the scaled norm of the gradient, times the number of pieces.
    size = np.abs(theta)
    error = np.linalg.norm((np.asarray(found.theta) - known.theta) * size)
    assert error < 1e-7 * np.linalg.norm(np.asarray(known.theta) * size)
    assert np.allclose(found.z0, known.z0, rtol=1e-5, atol=1e-6)
    assert found.t0 == pytest.approx(known.t0, rel=1e-6, abs=1e-7)
    assert found.t1 == pytest.approx(known.t1, rel=1e-6, abs=1e-7)
    assert np.allclose(found.times, known.times, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["discrete", "forward"])
def test_rows_and_residuals_jump_alike(method: str) -> None:
    rhs, parameters, initial, _, end, theta = CASES["jump"]
    model = symode.Model(rhs, parameters, time=t, initial=initial)
    tight = {"rtol": 1e-10, "atol": 1e-12}
    losses = [symode.Loss(observations={0.5: x}), symode.Loss(terminal=x**2, running=x)]
    found = model.jacobian(losses, (0, end), theta, method=method, **tight)
    for i, loss in enumerate(losses):
        known = model.gradient(loss, (0, end), theta, method="discrete", **tight)
        assert np.allclose(found.theta[i], known.theta, rtol=1e-7, atol=1e-8)
        assert np.allclose(found.z0[i], known.z0, rtol=1e-7, atol=1e-8)
