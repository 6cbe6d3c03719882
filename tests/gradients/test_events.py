"""Gradients through events: against closed forms, differences of J, and each other."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import GradientError, UnsupportedCombinationError
from symode.gradients.methods import JUDGES, METHODS
from symode.gradients.residuals import Residuals

t, x, v, y, g, e, k, tau, d, a = sp.symbols("t x v y g e k tau d a")
Event, Loss = symode.Event, symode.Loss
TIGHT = {"rtol": 1e-11, "atol": 1e-13}


def _ball():
    model = symode.Model(
        {x: v, v: -g - k * v}, parameters=(g, e, k), time=t, initial={x: 10 + g / 20, v: e},
        events=[Event(x < 0, {x: 0, v: -e * v}, name="bounce")],
    )  # fmt: skip
    parts = (x**2 + v * g, x * v + g * x, {2.0: x * v, 0.7: x, 0.0: x**2})
    return model, parts, (0, 4.5), (9.81, 0.8, 0.1)


def _dose():
    model = symode.Model(
        {x: -k * x, y: k * x - a * y * t}, parameters=(k, tau, d, a), time=t,
        initial={x: 1, y: 0.2 * d},
        events=[Event(t >= tau * k, {x: x + d * t, y: y / 2}, name="dose")],
    )  # fmt: skip
    return model, (x * y, x * y * y, {0.5: y, 2.0: x**2}), (0.1, 3), (0.7, 1.9, 1.3, 0.4)


def _switch():
    model = symode.Model(
        {x: -k * x * y + a * (1 - y), y: 0, v: x - v}, parameters=(k, a, d, e), time=t,
        initial={x: 2, y: 1, v: 0.1},
        events=[Event(x < d, {y: 0}, name="off"), Event(x > e, {y: 1}, name="on")],
    )  # fmt: skip
    return model, (x * x + v, None, {1.5: x, 2.6: v}), (0, 5), (1.1, 0.8, 0.6, 1.7)


def _cascade():
    events = [
        Event(x - 2 * y > 2, {x: 0.5 * x * k, y: y + d * t}, name="A"),
        Event(y > 1, {y: y**2 - 0.5 * a, x: x + 0.1}, name="B", use_trigger_values=False),
    ]
    model = symode.Model(
        {x: 1 + k * t, y: -a * y}, parameters=(k, a, d), time=t, initial={x: d, y: 0.3},
        events=events,
    )  # fmt: skip
    return model, (x * y, None, {1.5: x * y}), (0, 4), (0.7, 0.8, 0.9)


def _root():
    model = symode.Model(
        {x: y, y: -k * x}, parameters=(k, d), time=t, initial={x: 1 + d, y: 0.1},
        events=[Event(x - d / 3, {y: y * (1 + d / 10), x: x - 0.01 * t}, direction=-1)],
    )  # fmt: skip
    return model, (x * y, None, {1.5: x * y}), (0, 7), (1.7, 0.9)


def _start():
    model = symode.Model(
        {x: -k * x, y: x - y * t}, parameters=(k, d), time=t, initial={x: d + t, y: 0.1 * k},
        events=[Event(t >= 0, {x: x + d * y + t}, initial_value=False)],
    )  # fmt: skip
    return model, (x * y, None, {0.3: x * y, 0.7: y}), (0.3, 2), (1.7, 0.9)


CASES = {"ball": _ball, "dose": _dose, "switch": _switch, "cascade": _cascade, "root": _root,
         "start": _start}  # fmt: skip


def differences(f, h: float = 2e-4) -> float:
    """Return the derivative of f at 0 by differences of fourth order."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


@pytest.mark.parametrize("solver", ["vern7", "rodas5p"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_slopes_of_j(name: str, solver: str) -> None:
    model, (terminal, running, observations), span, theta = CASES[name]()
    theta, loss = np.array(theta), Loss(terminal, running, observations)

    def value(theta=theta, z0=None, t0=span[0], t1=span[1]) -> float:
        kept = {t0 if at == span[0] else at: part for at, part in observations.items()}
        moved = Loss(terminal, running, kept)
        found = model.gradient(moved, (t0, t1), theta, z0, method="discrete", wrt=["t1"], **TIGHT)
        return found.value

    found = model.gradient(loss, span, theta, method="discrete", solver=solver, **TIGHT)
    units = np.eye(theta.size)
    slopes = [differences(lambda s, u=u: value(theta + s * u)) for u in units]
    # Differences of fourth order with h = 2e-4 at rtol 1e-11: 1e-11 / 2e-4, and h**4.
    scale = 2e-6 * max(1.0, np.abs(slopes).max())
    assert np.array(found.theta) == pytest.approx(np.array(slopes), abs=scale)
    assert found.t0 == pytest.approx(differences(lambda s: value(t0=span[0] + s)), abs=scale)
    assert found.t1 == pytest.approx(differences(lambda s: value(t1=span[1] + s)), abs=scale)
    z0 = model.solve(span, theta, times=[span[0]], **TIGHT)
    start = z0.events[0].before if name == "start" else z0.z[0]
    apart = model.gradient(loss, span, theta, start, method="discrete", solver=solver, **TIGHT)
    slopes = [differences(lambda s, u=u: value(z0=start + s * u)) for u in np.eye(start.size)]
    assert np.array(apart.z0) == pytest.approx(np.array(slopes), abs=scale)


@pytest.mark.parametrize("solver", ["auto", "tsit5", "rodas5p"])
@pytest.mark.parametrize("name", [name for name in CASES if name != "start"])
def test_transposed_and_forward_agree(name: str, solver: str) -> None:
    model, parts, span, theta = CASES[name]()
    loss = Loss(*parts)
    a, b = (
        model.gradient(loss, span, theta, method=method, solver=solver, **TIGHT)
        for method in ("discrete", "forward")
    )
    for part in ("theta", "z0", "times"):
        one, other = np.array(getattr(a, part)), np.array(getattr(b, part))
        assert one == pytest.approx(other, rel=1e-8, abs=1e-8)
    assert (a.t0, a.t1) == pytest.approx((b.t0, b.t1), rel=1e-8)


def test_the_bounce_has_the_slopes_of_its_closed_form() -> None:
    # x(2.6): falls from 5 in s = sqrt(10 / g), then u = e g s upwards for 2.6 - s.
    model = symode.Model(
        {x: v, v: -g}, parameters=(g, e), time=t, initial={x: 5, v: 0},
        events=[Event(x < 0, {x: 0, v: -e * v})],
    )  # fmt: skip
    s = sp.sqrt(10 / g)
    exact = e * g * s * (sp.Rational(13, 5) - s) - g * (sp.Rational(13, 5) - s) ** 2 / 2
    at = {g: 11.0, e: 0.9}
    slopes = [float(exact.diff(p).subs(at)) for p in (g, e)]
    for method in ("auto", "forward"):
        found = model.gradient(Loss(terminal=x), (0, 2.6), [11.0, 0.9], method=method, **TIGHT)
        assert found.value == pytest.approx(float(exact.subs(at)), rel=1e-10)
        assert np.array(found.theta) == pytest.approx(np.array(slopes), rel=1e-9)


@pytest.mark.parametrize("checkpoints, segment", [(1, 1), (2, 3), (2, 7)])
@pytest.mark.parametrize("solver", ["tsit5", "rodas5p"])
@pytest.mark.parametrize("name", CASES)
def test_checkpoints_give_the_discrete_adjoint_bit_by_bit(name, solver, checkpoints, segment):
    model, parts, span, theta = CASES[name]()
    method = symode.CheckpointedAdjoint(checkpoints=checkpoints, segment=segment)
    one, two = (
        model.gradient(Loss(*parts), span, theta, method=m, solver=solver, rtol=1e-7, atol=1e-9)
        for m in ("discrete", method)
    )
    for part in ("value", "theta", "z0", "t0", "t1", "times"):
        assert np.array_equal(getattr(one, part), getattr(two, part)), part
    assert one.stats["forward"].steps == two.stats["forward"].steps > segment
    # A unit is solved again at most so often; those before moments start from these.
    assert two.stats["recomputed"] <= two.stats["repetitions"] * two.stats["forward"].steps


@pytest.mark.parametrize("method", [*METHODS, *JUDGES], ids=lambda method: method.name)
def test_every_method_is_right_or_refuses(method) -> None:
    model, parts, span, theta = _dose()
    loss = Loss(*parts)
    right = model.gradient(loss, span, theta, method="discrete", **TIGHT)
    try:
        found = model.gradient(loss, span, theta, method=method, **TIGHT)
    except UnsupportedCombinationError as error:
        assert "does not take events" in str(error)
        return
    assert np.array(found.theta) == pytest.approx(np.array(right.theta), rel=1e-7)


def test_grazing_is_refused() -> None:
    # The apex of the throw is 1 / (2 g): at d exactly there it is touched, not crossed.
    events = [Event(x > d, {y: 1})]
    model = symode.Model(
        {x: v, v: -g, y: 0},
        parameters=(g, d),
        time=t,
        initial={x: t - t**2 / 2, v: 1 - t, y: 0},
        events=events,
    )
    loss = Loss(terminal=y * x)
    for method in ("discrete", "forward"):
        with pytest.raises(GradientError, match="grazes"):
            # Steps short enough to see the 9e-5 for which it is above.
            model.gradient(loss, (0.9, 1.1), [1.0, 0.5 - 1e-9], method=method, h_max=2e-5)
        model.gradient(loss, (0, 1.5), [1.0, 0.3], method=method)


def test_meetings_by_chance_and_ends_that_move_are_refused() -> None:
    two = [Event(t > k, {x: 2 * x}), Event(t > d, {x: x + 1}, use_trigger_values=False)]
    model = symode.Model({x: -x}, parameters=(k, d), time=t, initial={x: 1}, events=two)
    loss = Loss(terminal=x)
    with pytest.raises(GradientError, match="by chance"):
        model.gradient(loss, (0, 2), [1.0, 1.0])
    model.gradient(loss, (0, 2), [1.0, 1.1])
    with pytest.raises(GradientError, match="at the end of the span"):
        model.gradient(loss, (0, 1.1), [1.0, 1.1])
    with pytest.raises(GradientError, match="time of an observation"):
        model.gradient(Loss(observations={1.0: x}), (0, 2), [1.0, 1.1])


@pytest.mark.parametrize("method", ["discrete", "forward", "interpolating", "gauss", "backsolve"])
def test_what_a_dose_at_an_observation_leaves_alone_has_the_derivative_of_one_side(method) -> None:
    model = symode.Model({x: -k * x, y: k * x}, [k, tau, d], time=t, initial={x: 1, y: 0},
                         events=[Event(t >= tau, {x: x + d}, name="dose")])  # fmt: skip
    theta, loss = [0.7, 1.5, 1.2], Loss(observations={1.5: y})
    found = model.gradient(loss, (0, 2), theta, method=method, wrt="theta", **TIGHT)
    # y(1.5) = 1 - exp(-1.5 k) + d (1 - exp(-k (1.5 - tau))) where tau is earlier.
    known = [1.5 * np.exp(-1.5 * 0.7), -1.2 * 0.7, 0.0]
    assert np.allclose(found.theta, known, rtol=1e-8, atol=1e-8)
    assert "moves earlier" in found.stats["one_sided"][0]
    with pytest.raises(GradientError, match="time of an observation"):
        model.gradient(Loss(observations={1.5: x}), (0, 2), theta, method=method)


def test_a_problem_has_a_value_where_a_dose_jumps_at_a_measurement() -> None:
    model = symode.Model({x: -k * x}, [k, tau], time=t, initial={x: 1},
                         events=[Event(t >= tau, {x: x + 1}, name="dose")])  # fmt: skip
    data = symode.Data([1.0, 2.0], [[1.0], [1.5]], observables={"x": x})
    problem = symode.Problem(model, data, symode.Normal(1), rtol=1e-10, atol=1e-12,
                             bounds={k: (0.1, 2), tau: (0.5, 3)}, scale="lin")  # fmt: skip
    with pytest.raises(GradientError, match="time of an observation"):
        problem.objective([0.7, 1.0])
    # At the moment itself the state is that after the dose.
    course = np.array([np.exp(-0.7) + 1, (np.exp(-0.7) + 1) * np.exp(-0.7)])
    known = 0.5 * np.sum((course - [1.0, 1.5]) ** 2) + np.log(2 * np.pi)
    assert problem.value([0.7, 1.0]) == pytest.approx(known, rel=1e-8)


def test_a_batch_and_a_repeated_call_give_the_same() -> None:
    model, parts, span, theta = _switch()
    loss = Loss(*parts)
    vg = symode.Model(model.equations).value_and_grad(loss, t0=span[0], t1=span[1], **TIGHT)
    members = np.array([[2, 1, 0.1], [2.5, 1, 0.3], [1.9, 1, 0.0]])
    values, dtheta, dz0 = vg.batch(theta, members)
    for _ in range(2):
        for i, z0 in enumerate(members):
            one = model.gradient(loss, span, theta, z0, **TIGHT)
            assert values[i] == pytest.approx(one.value, rel=1e-12)
            assert dtheta[i] == pytest.approx(np.array(one.theta), rel=1e-10)
            assert dz0[i] == pytest.approx(np.array(one.z0), rel=1e-10)
            value, slope = vg(vg.pack(theta=theta, z0=z0))
            assert value == pytest.approx(one.value, rel=1e-12)
            assert slope == pytest.approx(np.concatenate([one.theta, one.z0]), rel=1e-10)


def test_residuals_have_the_slopes_of_the_trajectory() -> None:
    model = symode.Model(
        {x: -k * x}, parameters=[k, d, tau], time=t, initial={x: 1},
        events=[Event(t > tau, {x: x + d}, name="dose")],
    )  # fmt: skip
    true, times = np.array([0.7, 1.3, 1.57]), [0.3, 1.5, 1.7, 4.0]
    loss = Loss(observations={at: x for at in times})
    _, slopes = Residuals(model.equations, loss, **TIGHT)(true)
    for j, unit in enumerate(np.eye(3)):
        ends = [
            model.solve((0, 4), theta=true + h * unit, times=times, **TIGHT)["x"]
            for h in (1e-4, -1e-4)
        ]
        # Central differences: h**2 of the third derivative.
        assert slopes[:, j] == pytest.approx((ends[0] - ends[1]) / 2e-4, abs=1e-7)


def test_a_fit_finds_the_time_of_a_dose() -> None:
    model = symode.Model(
        {x: -k * x}, parameters=[k, d, tau], time=t, initial={x: 1},
        events=[Event(t > tau, {x: x + d}, name="dose")],
    )  # fmt: skip
    true, times = [0.7, 1.3, 1.57], np.linspace(0.3, 4, 12)
    data = symode.Data(times, {"x": model.solve((0, 4), theta=true, times=times)["x"]})
    # Between two observations: J jumps where a dose crosses one. After it data tell d e^(k tau)
    # alone, so that the dose is known.
    bounds = {tau: (1.4, 1.6), k: (0.1, 2)}
    problem = symode.Problem(model, data, symode.Normal(0.05), bounds=bounds, fixed={d: 1.3})
    best = symode.fit(problem, starts=3, seed=0).best
    assert [best.theta[n] for n in ("k", "tau")] == pytest.approx([0.7, 1.57], rel=1e-3)


ADJOINTS = [
    symode.DiscreteAdjoint(),
    symode.CheckpointedAdjoint(checkpoints=2, segment=3),
    symode.InterpolatingAdjoint(),
    symode.GaussAdjoint(),
    symode.BacksolveAdjoint(),
]


@pytest.mark.parametrize("method", ADJOINTS, ids=lambda method: method.name)
def test_a_loss_at_a_terminal_event_moves_with_its_time(method) -> None:
    model = symode.Model(
        {x: v, v: -g, y: k * x}, parameters=(g, k, e), time=t, initial={x: e, v: 3, y: 0},
        events=[Event(x < 0, {v: -k * v}, name="ground", terminal=True)],
    )  # fmt: skip
    gravity, factor, height = sp.symbols("gravity factor height", positive=True)
    flight = (3 + sp.sqrt(9 + 2 * gravity * height)) / gravity
    area = factor * (height * flight + 3 * flight**2 / 2 - gravity * flight**3 / 6)
    exact = flight**2 + factor * (gravity * flight - 3) + area
    at = {gravity: 9.81, factor: 0.7, height: 1.3}
    found = model.gradient(Loss(terminal=t**2 + v + y), (0, 9), (9.81, 0.7, 1.3), method=method,
                           **TIGHT)  # fmt: skip
    known = [float(sp.diff(exact, s).subs(at)) for s in (gravity, factor, height)]
    assert found.value == pytest.approx(float(exact.subs(at)), rel=1e-9)
    assert np.array(found.theta) == pytest.approx(np.array(known), rel=1e-8)
    assert found.t1 == 0.0
    # Without explicit time in the model, only t itself in the loss knows when it began.
    assert found.t0 == pytest.approx(2 * float(flight.subs(at)), rel=1e-8)


def test_what_lies_beyond_a_terminal_event_is_refused() -> None:
    model = symode.Model({x: -k}, (k,), events=[Event(x < 0, name="dry", terminal=True)])
    with pytest.raises(GradientError, match="before the observation at t = 3"):
        model.gradient(Loss(observations={3.0: x}), (0, 4), [1.0], z0=[2.0])
    with pytest.raises(GradientError, match="only adjoints"):
        model.gradient(Loss(terminal=x), (0, 4), [1.0], z0=[2.0], method="forward")
