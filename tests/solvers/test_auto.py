"""solver="auto": explicit while calm, implicit while stiff, and all of it one solution."""

import math

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import SolverError
from symode.gradients.methods.base import make_forward
from symode.gradients.setup import make_task
from symode.kernels import types as kt
from symode.solvers.methods import METHODS, get_method
from symode.solvers.options import TIGHT, choose_solvers, make_options
from symode.solvers.segments import SHORT, can_watch
from symode.status import MAX_STEPS, PAUSED, SUCCESS, SWITCH


def van_der_pol(mu):
    model = symode.Model.from_text("x' = v; v' = mu*(1 - x^2)*v - x; x(0) = 2; v(0) = 0")
    return model, {"mu": mu}


def lorenz():
    text = "x' = s*(y - x); y' = x*(r - z) - y; z' = x*y - b*z; x(0) = 1; y(0) = 1; z(0) = 1"
    return symode.Model.from_text(text), {"s": 10, "r": 28, "b": 8 / 3}


def prey():
    text = "x' = a*x - b*x*y; y' = d*x*y - c*y; x(0) = 10; y(0) = 5"
    return symode.Model.from_text(text), {"a": 1.1, "b": 0.4, "c": 0.4, "d": 0.1}


def satellite():
    text = (
        "x' = u; y' = v; u' = x + 2*v - n*(x + m)/((x + m)^2 + y^2)^(3/2) "
        "- m*(x - n)/((x - n)^2 + y^2)^(3/2); v' = y - 2*u - n*y/((x + m)^2 + y^2)^(3/2) "
        "- m*y/((x - n)^2 + y^2)^(3/2); x(0) = 0.994; y(0) = 0; u(0) = 0; "
        "v(0) = -2.0015851063790825"
    )
    return symode.Model.from_text(text), {"m": 0.012277471, "n": 1 - 0.012277471}


def robertson():
    text = "x' = -a*x + c*y*w; y' = a*x - c*y*w - b*y^2; w' = b*y^2; x(0) = 1; y(0) = 0; w(0) = 0"
    return symode.Model.from_text(text), {"a": 0.04, "b": 3e7, "c": 1e4}


def brusselator(cells=40):
    """Return the diffusion Brusselator: stiff by the square of the number of cells."""
    u, v = sp.symbols(f"u1:{cells + 1}"), sp.symbols(f"v1:{cells + 1}")
    a, b, alpha = sp.symbols("A B alpha")
    rhs, start = {}, {}
    for i, (p, q) in enumerate(zip(u, v, strict=True)):
        west = (u[i - 1], v[i - 1]) if i else (1, 3)
        east = (u[i + 1], v[i + 1]) if i < cells - 1 else (1, 3)
        flow = alpha * (cells + 1) ** 2
        rhs[p] = a + p**2 * q - (b + 1) * p + flow * (west[0] - 2 * p + east[0])
        rhs[q] = b * p - p**2 * q + flow * (west[1] - 2 * q + east[1])
        start[p], start[q] = 1 + math.sin(2 * math.pi * (i + 1) / (cells + 1)), 3
    model = symode.Model(rhs, parameters=(a, b, alpha), initial=start)
    return model, {"A": 1.0, "B": 3.0, "alpha": 1 / 50}


def guided(middle=2.0, width=0.4, rate=1e6):
    """Return x drawn to cos t at a rate that is large for a part of the span only."""
    t, x, k = sp.symbols("t x k")
    pull = 1 + k * sp.exp(-(((t - middle) / width) ** 4))
    return symode.Model({x: -pull * (x - sp.cos(t))}, parameters=[k], time=t), {"k": rate}


def solvers(solution):
    return [segment.solver for segment in solution.stats.segments]


def scaled_error(found, exact):
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


CALM = {
    "prey": (prey(), (0, 20)),
    "lorenz": (lorenz(), (0, 5)),
    "satellite": (satellite(), (0, 17)),
    "van_der_pol_mu1": (van_der_pol(1.0), (0, 20)),
}
#: Each with the steps that the explicit method may take before it is found out.
STIFF = {
    "robertson": (robertson(), (0, 4e5), 100),
    "van_der_pol_mu1e3": (van_der_pol(1e3), (0, 300), 100),
    "brusselator_40": (brusselator(), (0, 10), 100),
}


@pytest.mark.parametrize("rtol", [1e-2, 1e-4, 1e-6, 1e-9])
@pytest.mark.parametrize("name", CALM)
def test_calm_problems_never_switch(name, rtol):
    (model, theta), span = CALM[name]
    stats = model.solve(span, theta, rtol=rtol, atol=rtol * 1e-2).stats
    assert [part.solver for part in stats.segments] == [choose_solvers(rtol, 2)[0]]
    assert stats.nlu == 0


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("name", STIFF)
def test_stiff_problems_are_found_out_early_and_solved(name, rtol):
    (model, theta), span, early = STIFF[name]
    found = model.solve(span, theta, rtol=rtol, atol=rtol * 1e-4)
    alone = model.solve(span, theta, rtol=1e-10, atol=1e-14, solver="rodas5p")
    first, second = found.stats.segments[:2]
    assert (first.solver, second.solver) == choose_solvers(rtol, 3)[:2]
    assert first.steps <= early
    assert first.reason.startswith("stiff: |h|·ρ at ")
    # A hundred tolerances over the whole span, as for each method alone.
    assert scaled_error(found.z[-1], alone.z[-1]) <= 100 * rtol


def test_no_more_work_than_the_stiff_method_alone():
    for (model, theta), span, _ in STIFF.values():
        found, alone = (
            model.solve(span, theta, rtol=1e-6, atol=1e-10, solver=solver)
            for solver in ("auto", "rodas5p")
        )
        stiff = sum(part.steps for part in found.stats.segments if part.solver == "rodas5p")
        assert stiff <= alone.stats.steps
        assert found.stats.nlu <= alone.stats.nlu


@pytest.mark.parametrize(("rtol", "length"), [(1e-4, 30.0), (1e-7, 4.0)])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_stiff_stretch_is_entered_and_left(rtol, length, backwards):
    model, theta = guided()
    if backwards:
        # In falling time the same pull is felt with the other sign.
        t, x = sp.symbols("t x")
        k = model.parameters[0]
        model = symode.Model({x: -model.equations.rhs[0]}, parameters=[k], time=t)
    span = (4.0, 4.0 - length) if backwards else (0.0, length)
    start = [math.cos(span[0]) + 0.3]
    found = model.solve(span, theta, z0=start, rtol=rtol, atol=rtol * 1e-2)
    explicit, stiff, _ = choose_solvers(rtol, 1)
    assert solvers(found) == [explicit, stiff, explicit]
    into, out = found.stats.segments[:2]
    assert into.reason.startswith("stiff")
    assert out.reason.startswith("no longer stiff: |h|·ρ at most ")
    # The pull is above 100 where exp(-((t - 2) / 0.4)^4) > 1e-4: 0.7 to both sides of 2.
    sign = -1.0 if backwards else 1.0
    assert 0.0 < sign * (2.0 - into.t1) < 1.0
    assert sign * (out.t1 - 2.0) > 0.5
    exact = model.solve(span, theta, z0=start, rtol=1e-12, atol=1e-13, solver="rodas5p")
    assert scaled_error(found.z[-1], exact.z[-1]) <= 100 * rtol


def test_segments_are_one_solution():
    model, theta = van_der_pol(1e3)
    times = np.linspace(0, 2000, 41)
    found = model.solve((0, 2000), theta, times=times, rtol=1e-6, atol=1e-8)
    parts = found.stats.segments
    assert len(parts) >= 4
    assert [a.t1 for a in parts[:-1]] == [b.t0 for b in parts[1:]]
    assert (parts[0].t0, parts[-1].t1) == (0.0, 2000.0)
    for name in ("steps", "rejected", "nfev", "njev", "nlu"):
        assert getattr(found.stats, name) == sum(getattr(part, name) for part in parts)
    # The interpolant of each segment gives what its observations got.
    assert np.allclose(found(times), found.z, rtol=1e-13, atol=1e-15)
    for border in (part.t1 for part in parts[:-1]):
        sides = found(np.array([border * (1 - 1e-13), border, border * (1 + 1e-13)]))
        assert np.allclose(sides[0], sides[2], rtol=1e-6, atol=1e-6)
    steps = model.solve((0, 2000), theta, rtol=1e-6, atol=1e-8)
    assert steps.t.size == found.stats.steps + 1
    assert (np.diff(steps.t) > 0).all()
    # Times near 1200 are rounded by 1e-13, in which the fast phase moves v by 1e6 times that.
    assert np.allclose(steps(steps.t), steps.z, rtol=1e-6, atol=1e-6)


def test_rates_that_rise_and_fall_do_not_chatter():
    # Stiff for a hundredth of the span, calm for the next: 100 turns.
    t, x, k = sp.symbols("t x k")
    pull = sp.exp(k * sp.sin(50 * sp.pi * t))
    model = symode.Model({x: -pull * (x - sp.cos(t))}, parameters=[k], time=t)
    found, alone = (
        model.solve((0, 2), [12.0], z0=[1.0], rtol=1e-6, atol=1e-8, solver=solver)
        for solver in ("auto", "rodas5p")
    )
    assert scaled_error(found.z[-1], alone.z[-1]) <= 1e-4
    explicit = [p for p in found.stats.segments[1:-1] if p.solver != "rodas5p"]
    short = [p for p in explicit if p.steps < SHORT]
    # Each mistake makes the next wait four times longer: 20, 80, 320 steps of the implicit method.
    assert len(short) <= 4
    assert found.stats.steps <= 2 * alone.stats.steps


def test_the_limit_on_steps_counts_all_segments():
    model, theta = van_der_pol(1e3)
    needed = model.solve((0, 2000), theta, rtol=1e-6).stats
    enough = model.solve((0, 2000), theta, rtol=1e-6, max_steps=needed.steps)
    assert enough.success
    for less in (needed.steps - 1, needed.segments[0].steps + needed.segments[1].steps + 5):
        partial = model.solve((0, 2000), theta, rtol=1e-6, max_steps=less, raise_on_failure=False)
        assert partial.status == MAX_STEPS
        assert partial.stats.steps == less
        assert partial(0.5 * partial.t[-1]).shape == (2,)
    with pytest.raises(SolverError, match=r"max_steps="):
        model.solve((0, 2000), theta, rtol=1e-6, max_steps=needed.steps - 1)


def test_a_failure_in_a_later_segment_names_its_method():
    t, x, k = sp.symbols("t x k")
    model = symode.Model({x: -k * (x - sp.log(5 - t))}, parameters=[k], time=t)
    # Stiff at first; near the end the logarithm holds the steps down, and the stiffness is over.
    partial = model.solve((0, 6), [1e5], z0=[1.0], rtol=1e-5, raise_on_failure=False)
    assert solvers(partial) == ["tsit5", "rodas5p", "tsit5"]
    with pytest.raises(SolverError, match=r"^tsit5 stopped at t = 5 "):
        model.solve((0, 6), [1e5], z0=[1.0], rtol=1e-5)
    stuck = symode.Model({x: -k * (x - sp.log(5 - t)) / (5 - t)}, parameters=[k], time=t)
    with pytest.raises(SolverError, match=r"^rodas5p stopped at t = 5 "):
        stuck.solve((0, 6), [1e5], z0=[1.0], rtol=1e-5)


def test_stats_are_printed_in_a_table():
    model, theta = robertson()
    stats = model.solve((0, 40), theta, rtol=1e-6, atol=1e-10).stats
    lines = str(stats).splitlines()
    assert stats.solver == "vern7, rodas5p"
    assert stats.reason in lines[0]
    assert "auto" in stats.reason
    assert "below 1e-05" in stats.reason
    assert len(lines) == 3
    assert "vern7" in lines[1] and "stiff: |h|·ρ at" in lines[1] and "for 15 steps" in lines[1]
    assert "rodas5p" in lines[2] and lines[2].endswith("the end of the span")
    chosen = model.solve((0, 40), theta, solver="rodas5p").stats
    assert chosen.reason == "chosen by the caller"
    assert [part.solver for part in chosen.segments] == ["rodas5p"]


@pytest.mark.parametrize("rtol", [TIGHT, 0.99 * TIGHT])
def test_auto_is_a_pair_of_methods(rtol):
    options = make_options(["x"], solver="auto", rtol=rtol)
    explicit, stiff, reason = choose_solvers(rtol, 1)
    assert options.tableau.name == explicit
    assert options.stiff == stiff
    assert not get_method(explicit).implicit
    assert get_method(stiff).implicit
    assert can_watch(get_method(explicit))
    assert explicit in reason
    assert stiff in reason
    assert make_options(["x"], solver="rodas5p", rtol=rtol).stiff == ""


# -- the solve in progress ------------------------------------------------------------------------


def forward_of(model, theta, span, z0, solver="auto", rtol=1e-6, keep=True):
    """Return a solve at its start."""
    symbols = model.states
    loss = symode.Loss(observations={span[1] / 3: symbols[0] ** 2, span[1] / 2: symbols[0]})
    task = make_task(
        model.equations, loss, span, from_initial=False, solver=solver, rtol=rtol, atol=rtol / 100
    )

    def build(options):
        compiled = task.compile(["rhs", *options.jacobian_kernels()])
        return compiled, task.bind(compiled, options.is_stiff)

    compiled, system = build(task.options)
    forward = make_forward(task, compiled, system, keep=keep, lazy=True, build=build)
    compiled.pack(np.array(list(theta.values())), system.p)
    forward.reset(np.asarray(z0, dtype=float), *span)
    return forward


def advance(forward, budget):
    from symode.kernels.loop import advance as enter

    return enter(
        forward.method, forward.stepper.system, forward.control, forward.store,
        forward.observations, forward.scratch, budget,
    )  # fmt: skip


def test_the_stiff_method_is_made_when_first_needed():
    model, theta = prey()
    calm = forward_of(model, theta, (0.0, 20.0), [10.0, 5.0])
    assert calm.run() == SUCCESS
    assert len(calm.steppers) == 1
    model, theta = robertson()
    stiff = forward_of(model, theta, (0.0, 40.0), [1.0, 0.0, 0.0])
    assert stiff.run() == SUCCESS
    assert [s.tableau.name for s in stiff.steppers] == ["vern7", "rodas5p"]


def test_a_solve_does_not_depend_on_the_one_before_it():
    model, theta = van_der_pol(1e3)
    forward = forward_of(model, theta, (0.0, 2000.0), [2.0, 0.0])
    assert forward.run() == SUCCESS
    first = forward.scratch.y.copy(), forward.stats.segments
    assert len(first[1]) >= 4
    for _ in range(2):
        forward.reset(np.array([2.0, 0.0]), 0.0, 2000.0)
        assert forward.run() == SUCCESS
        assert np.array_equal(forward.scratch.y, first[0])
        assert forward.stats.segments == first[1]


def test_observations_belong_to_the_segment_that_holds_them():
    model, theta = van_der_pol(1e3)
    forward = forward_of(model, theta, (0.0, 2000.0), [2.0, 0.0])
    forward.run()
    segments, times = forward.end(), forward.observations.t
    assert (segments[0].first, segments[-1].stop) == (0, times.size)
    assert [a.stop for a in segments[:-1]] == [b.first for b in segments[1:]]
    for segment in segments:
        inside = times[segment.first : segment.stop]
        assert ((inside > segment.t0) & (inside <= segment.t1)).all()
    assert forward.end() is segments


@pytest.mark.parametrize("solver", [*METHODS, "auto"])
@pytest.mark.parametrize("after", [0, 7, 40, 100])
def test_going_on_from_a_checkpoint_repeats_every_bit(solver, after):
    # At 40 steps the explicit method of auto is under suspicion; at 100 it has been left.
    model, theta = van_der_pol(1e3 if solver == "auto" else 3.0)
    span = (0.0, 1200.0 if solver == "auto" else 8.0)
    forward = forward_of(model, theta, span, [2.0, 0.0], solver, rtol=1e-5)
    for _ in range(after):
        status = advance(forward, 1)
        if status == SWITCH:
            forward.switch()
        else:
            assert status in (PAUSED, SUCCESS)
    checkpoint = forward.take()
    assert checkpoint.t == forward.t
    assert np.array_equal(checkpoint.y, forward.scratch.y)
    ends = []
    for _ in range(2):
        assert forward.run() == SUCCESS
        steps = int(forward.scratch.count[kt.BEFORE] + forward.scratch.count[kt.STEPS])
        ends.append(
            (forward.scratch.y.copy(), steps, forward.observations.y.copy(), forward.method)
        )
        forward.restore(checkpoint)
        assert forward.t == checkpoint.t
    for a, b in zip(ends[0][:3], ends[1][:3], strict=True):
        assert np.array_equal(a, b)
    assert ends[0][3] is ends[1][3]


def test_a_checkpoint_does_not_grow_with_the_steps():
    model, theta = prey()
    sizes = []
    for end in (2.0, 200.0):
        forward = forward_of(model, theta, (0.0, end), [10.0, 5.0])
        forward.run()
        sizes.append(forward.take().nbytes)
    assert sizes[0] == sizes[1] < 1000


class Doubled:
    """The state times two: a jump with a transpose."""

    def apply(self, t, z, theta):
        assert theta.tolist() == [0.7]
        return 2.0 * z

    def transpose(self, t, z, theta, lam, dtheta_out):
        return 2.0 * lam


@pytest.mark.parametrize("solver", ["tsit5", "rodas5p", "auto"])
def test_a_jump_starts_a_segment(solver):
    model, theta = symode.Model.from_text("x' = -k*x"), {"k": 0.7}
    forward = forward_of(model, theta, (0.0, 1.0), [3.0], solver, rtol=1e-8)
    assert forward.run() == SUCCESS
    forward.split("a dose", Doubled())
    forward.aim(2.0)
    assert forward.run() == SUCCESS
    before, after = forward.end()
    assert before.reason == "a dose"
    assert isinstance(before.jump, Doubled)
    assert after.jump is None
    assert (before.t1, after.t0, after.t1) == (1.0, 1.0, 2.0)
    # Local errors of 1e-8 relative to the state; the flow damps them.
    assert after.start[0] == pytest.approx(6 * math.exp(-0.7), rel=1e-6)
    assert forward.scratch.y[0] == pytest.approx(6 * math.exp(-1.4), rel=1e-6)
    assert forward.stats.steps == before.steps + after.steps


def test_a_jump_of_the_state_resets_what_knew_its_past():
    model, theta = symode.Model.from_text("x' = -k*x"), {"k": 0.7}
    forward = forward_of(model, theta, (0.0, 1.0), [3.0], "tsit5")
    forward.run()
    h = forward.scratch.clock[kt.H]
    forward.split("a dose", Doubled())
    assert forward.scratch.count[kt.FSAL_READY] == 0
    assert forward.scratch.clock[kt.H] == h
