"""Gradients of models with mass matrices: closed forms, frozen steps, other formulations."""

from functools import cache

import dae_cases
import mpmath
import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import UnsupportedCombinationError
from symode.gradients.methods import METHODS
from symode.gradients.methods.base import begin
from symode.gradients.residuals import Residuals
from symode.gradients.setup import make_task
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.replay import run_steps, steps_of

t = sp.Symbol("t")
TIGHT = {"rtol": 1e-10, "atol": 1e-12}
METHOD_NAMES = ("discrete", "forward")
every_method = pytest.mark.parametrize("method", METHOD_NAMES)


def whole_loss(case, t0, t1):
    """Return a loss with every kind of term, its expression, and the inner times."""
    first, second = case.model.states
    a = case.model.parameters[0]
    inner = [t0 + 0.3 * (t1 - t0), t0 + 0.8 * (t1 - t0)]
    terms = {
        t0: first * second + t**2 * second,
        inner[0]: second**2 + first * t,
        inner[1]: first * a - second * t**2,
        t1: second**3 * t,
    }
    terminal, running = first**2 * second + a * t, second**2 + first * t
    loss = symode.Loss(terminal=terminal, running=running, observations=terms)
    return loss, terminal, running, terms, inner


@cache
def exact(name, from_initial, backwards):
    """Return J and its derivatives from the closed form, by quadrature in 40 digits."""
    case = dae_cases.CASES[name]()
    ends = (2.0, 0.3) if backwards else (0.3, 2.0)
    _, terminal, running, terms, inner = whole_loss(case, *ends)
    model = case.model
    course = dict(zip(model.states, case.solution, strict=True))
    everything = (t, *model.parameters, *case.given, case.t0)
    along = {
        e: sp.lambdify(everything, e.subs(course), "mpmath")
        for e in (terminal, running, *terms.values())
    }
    starts = [sp.lambdify((t, *model.parameters), e, "mpmath") for e in model.equations.initial]
    m, n = len(model.parameters), len(case.given)

    def objective(*point):
        theta, given, times = point[:m], point[m : m + n], point[m + n :]
        if from_initial:
            given = [start(times[0], *theta) for start in starts]
        rest = (*theta, *given, times[0])
        total = along[terminal](times[-1], *rest)
        total += mpmath.quad(lambda at: along[running](at, *rest), [times[0], times[-1]])
        for term, at in zip(terms.values(), times, strict=True):
            total += along[term](at, *rest)
        return total

    with mpmath.workdps(40):
        point = [mpmath.mpf(float(v)) for v in (*case.theta, *case.z0, ends[0], *inner, ends[1])]
        slopes = []
        for j, at in enumerate(point):
            step = mpmath.mpf(10) ** -12 * max(abs(at), 1)
            sides = [objective(*point[:j], at + s * step, *point[j + 1 :]) for s in (1, -1)]
            slopes.append(float((sides[0] - sides[1]) / (2 * step)))  # error: 1e-24 J'''
        value = float(objective(*point))
    ends_at = m + n
    return {
        "value": value,
        "theta": slopes[:m],
        "z0": slopes[m:ends_at],
        "t0": slopes[ends_at],
        "t1": slopes[-1],
        "times": [0.0, *slopes[ends_at + 1 : -1], 0.0],
    }


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("from_initial", [False, True], ids=["given", "initial"])
@pytest.mark.parametrize("name", dae_cases.CASES)
@every_method
def test_the_gradient_is_that_of_the_closed_form(method, name, from_initial, backwards):
    case = dae_cases.CASES[name]()
    ends = (2.0, 0.3) if backwards else (0.3, 2.0)
    loss = whole_loss(case, *ends)[0]
    found = case.model.gradient(
        loss, ends, case.theta, None if from_initial else case.z0, method=method, **TIGHT
    )
    expected = exact(name, from_initial, backwards)
    assert found.value == pytest.approx(expected["value"], rel=1e-8)
    scale = max(map(abs, expected["theta"]))
    assert np.allclose(found.theta, expected["theta"], rtol=1e-7, atol=1e-8 * scale)
    if not from_initial:
        assert np.allclose(found.z0, expected["z0"], rtol=1e-7, atol=1e-12)
    for end in ("t0", "t1"):
        assert getattr(found, end) == pytest.approx(expected[end], rel=1e-7)
    assert np.allclose(found.times, expected["times"], rtol=1e-6)


@every_method
def test_a_found_state_has_no_derivative_in_its_guess(method):
    case = dae_cases.coupled()
    loss = symode.Loss(terminal=case.model.states[1] ** 2)
    found = [
        case.model.gradient(loss, (0.3, 2.0), case.theta, [1.9, guess], method=method, **TIGHT)
        for guess in (0.3, -7.0)
    ]
    assert found[0].z0["y"] == found[1].z0["y"] == 0.0
    assert np.allclose(found[0].theta, found[1].theta, rtol=1e-12)


def test_asking_for_less_gives_the_same_numbers():
    case = dae_cases.coupled()
    ends = (0.3, 2.0)
    loss = whole_loss(case, *ends)[0]
    expected = exact("coupled", True, False)
    for wrt in (("theta", "t0"), ("c", "t0"), ("a",)):
        for method in METHOD_NAMES:
            found = case.model.gradient(loss, ends, case.theta, method=method, wrt=wrt, **TIGHT)
            every = dict(zip("abc", expected["theta"], strict=True))
            for name in found.theta.names:
                assert found.theta[name] == pytest.approx(every[name], rel=1e-7)
            if "t0" in wrt:
                assert found.t0 == pytest.approx(expected["t0"], rel=1e-7)


# -- the derivative of the computed numbers -------------------------------------------------------


def frozen(name):
    """Return a task with its forward pass made, its steps, and J over them at any point."""
    if name == "robertson":
        model, _, theta = dae_cases.robertson()
        loss, ends = symode.Loss(terminal=model.states[2] * model.states[0]), (0.0, 40.0)
        z0 = np.array([0.9, 1e-5, 0.0])
    else:
        case = dae_cases.CASES[name]()
        model, theta, z0, ends = case.model, case.theta, case.z0, (0.3, 2.0)
        first, second = model.states
        loss = symode.Loss(terminal=first**2 * second, observations={1.1: second**2 * first})
    options = {"rtol": 1e-4, "atol": 1e-8}
    task = make_task(model.equations, loss, ends, from_initial=False, solver="auto", **options)
    gradient = symode.DiscreteAdjoint().prepare(task)
    outcome = gradient(theta, z0)
    return task, gradient, outcome, theta, z0


@pytest.mark.parametrize("name", ["coupled", "divider", "robertson"])
def test_the_discrete_adjoint_is_the_transpose_of_the_steps_tangents(name):
    task, runner, outcome, theta, z0 = frozen(name)
    steps = steps_of(runner.forward)
    compiled = task.compile(["rhs", "jvp", "jac", "djac"])
    system = task.bind(compiled, True)
    r = np.random.default_rng(3)
    along = r.normal(size=task.m) * np.abs(theta)
    moved = r.normal(size=z0.size) * np.abs(z0)
    forward = runner.forward
    y0 = begin(task, forward, compiled, theta, z0)
    system.p[:] = compiled.pack(theta)
    push = compiled.call("jvp", task.t0, y0, system.p, np.concatenate([np.zeros(task.n), along]))
    tangent = forward.start.push(moved, push)
    tangents = kt.Tangents(*system, along[None, :])
    observations = native.make_observations(task.times, 2 * task.n)
    status, replayed = run_steps(
        tangents, task.options, observations, compiled.work_size,
        np.concatenate([y0, tangent]), steps,
    )  # fmt: skip
    assert status == 0
    final = replayed.scratch.y.reshape(2, task.n)
    terminal = task.compile(["rhs", "vjp", "jac", "second"]).call(
        "terminal", task.t1, final[0], system.p
    )
    total = terminal[1 : 1 + task.n] @ final[1] + terminal[1 + task.n :][: task.m] @ along
    for k, y in enumerate(observations.y.reshape(-1, 2, task.n)):
        total += runner.table.seeds[k] @ y[1]
    # The transposed steps and the tangents are one matrix: equal to rounding, at a loose tolerance.
    assert outcome.theta @ along + outcome.z0 @ moved == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("name", ["coupled", "divider", "robertson"])
def test_the_taylor_remainder_over_frozen_steps_falls_quadratically(name):
    task, runner, outcome, theta, z0 = frozen(name)
    steps = steps_of(runner.forward)
    r = np.random.default_rng(4)
    along, moved = r.normal(size=task.m) * theta, r.normal(size=z0.size) * np.abs(z0)

    def value(size):
        compiled = runner.compiled
        y0 = begin(task, runner.forward, compiled, theta + size * along, z0 + size * moved)
        system = task.bind(compiled, True)
        system.p[:] = runner.forward.system.p
        observations = native.make_observations(task.times, task.n)
        status, solved = run_steps(
            system, task.options, observations, compiled.work_size, y0, steps
        )
        assert status == 0
        total = compiled.call("terminal", task.t1, solved.scratch.y, system.p)[0]
        for row in observations.y:
            total += compiled.call("observe0", 1.1, row, system.p, np.zeros(1))[0]
        return total

    slope = outcome.theta @ along + outcome.z0 @ moved
    sizes = np.array([4e-3, 2e-3, 1e-3, 5e-4])
    rest = [abs(value(s) - value(0.0) - s * slope) for s in sizes]
    order = np.polyfit(np.log(sizes), np.log(rest), 1)[0]
    assert order == pytest.approx(2.0, abs=0.15)


# -- other formulations of the same problem -------------------------------------------------------


@every_method
def test_robertson_as_a_dae_has_the_gradient_of_the_ode(method):
    dae, ode, theta = dae_cases.robertson()
    losses = [
        symode.Loss(observations={time: m.states[2] ** 2 + 1e4 * m.states[1] for time in (4, 4e3)})
        for m in (dae, ode)
    ]
    options = {"rtol": 1e-9, "atol": 1e-14}
    found = dae.gradient(losses[0], (0, 4e3), theta, method=method, **options)
    expected = ode.gradient(losses[1], (0, 4e3), theta, solver="rodas5p", **options)
    assert found.value == pytest.approx(expected.value, rel=1e-8)
    assert np.allclose(found.theta, expected.theta, rtol=1e-6)


def test_a_regular_mass_matrix_has_the_gradient_of_its_inverse():
    a, b, x, y = sp.symbols("a b x y")
    mass = sp.Matrix([[2, 1], [sp.Rational(1, 3), -1]])
    f = sp.Matrix([-a * x + y, b * x * y - y + sp.sin(t)])
    models = [
        symode.Model(f, states=(x, y), parameters=(a, b), mass=mass),
        symode.Model(mass.inv() * f, states=(x, y), parameters=(a, b)),
    ]
    loss = symode.Loss(terminal=x * y, running=x**2, observations={0.5: x + y**2})
    found, expected = (
        m.gradient(loss, (0, 1), [0.5, 0.3], [1.0, 2.0], solver="rodas5p", **TIGHT) for m in models
    )
    for part in ("theta", "z0", "t0", "t1", "times"):
        assert np.allclose(getattr(found, part), getattr(expected, part), rtol=1e-7), part


@pytest.mark.parametrize("mixing", ["none", "permuted", "mixed"])
def test_random_models_agree_with_their_reduced_odes(mixing):
    r = np.random.default_rng({"none": 1, "permuted": 2, "mixed": 3}[mixing])
    x, y, p = sp.symbols("x0:2"), sp.symbols("y0:3"), sp.symbols("p0:2")

    def term(pool):
        u, v = (pool[i] for i in r.integers(len(pool), size=2))
        forms = (u, u * v / 3, sp.sin(u), u**2 / (1 + v**2), sp.cos(t) * u)
        return forms[r.integers(len(forms))] * sp.Rational(int(r.integers(-9, 10)), 10)

    g = [u + u**3 / 5 - term([*x, *y[:i], *p]) - term([*x, *p]) for i, u in enumerate(y)]
    f = [-2 * u + term([*x, *y, *p]) + term([*x, *y, *p]) for u in x]
    rows = {
        "none": np.eye(5),
        "permuted": np.eye(5)[r.permutation(5)],
        "mixed": r.normal(size=(5, 5)).round(2),
    }[mixing]
    model = symode.Model(
        sp.Matrix(rows) * sp.Matrix([*f, *g]), states=(*x, *y), parameters=p, time=t,
        mass=rows @ np.diag([1, 1, 0, 0, 0]),
    )  # fmt: skip
    # The same course without algebraic equations: y' from the differentiated ones.
    constraint = sp.Matrix(g)
    along = constraint.jacobian(x) * sp.Matrix(f) + constraint.diff(t)
    slopes = -constraint.jacobian(y).LUsolve(along)
    plain = symode.Model([*zip((*x, *y), [*f, *slopes], strict=True)], parameters=p, time=t)
    loss = symode.Loss(
        terminal=sum(s**2 for s in (*x, *y)), observations={0.4: x[0] * y[2], 1.0: y[1] ** 2}
    )
    theta, z0 = r.normal(size=2), np.array([*r.normal(size=2), 0.0, 0.0, 0.0])
    options = {"rtol": 1e-8, "atol": 1e-10}
    discrete, forward = (
        model.gradient(loss, (0, 1.5), theta, z0, method=m, **options) for m in METHOD_NAMES
    )
    start = model.solve((0, 1), theta, z0, times=[0.0], **options).z[0]
    reference = plain.gradient(loss, (0, 1.5), theta, start, **options)
    assert discrete.value == pytest.approx(reference.value, rel=1e-6)
    assert discrete.t1 == pytest.approx(reference.t1, rel=1e-5)
    assert np.allclose(discrete.times, reference.times, rtol=1e-5, atol=1e-7)
    for part in ("theta", "z0", "t0"):
        found, other = getattr(discrete, part), getattr(forward, part)
        assert np.allclose(found, other, rtol=1e-5, atol=1e-6), part


def test_the_amplifier_agrees_with_its_own_differences():
    model, theta, _ = dae_cases.amplifier()
    out = model.states[7]
    loss = symode.Loss(terminal=out**2, observations={0.005: out * model.states[1]})
    options = {"rtol": 1e-9, "atol": 1e-11}
    found = model.gradient(loss, (0, 0.01), theta, **options)
    other = model.gradient(loss, (0, 0.01), theta, method="forward", **options)
    assert np.allclose(found.theta * theta, other.theta * theta, rtol=1e-6, atol=1e-8)
    value_of = model.value_and_grad(loss, wrt="theta", t1=0.01, **options)
    for j in (0, 2, 4):
        step = np.eye(theta.size)[j] * theta[j] * 1e-4
        slope = (value_of(theta + step)[0] - value_of(theta - step)[0]) / (2 * step[j])
        assert found.theta[j] == pytest.approx(slope, rel=1e-5)


def test_residuals_of_algebraic_states_have_their_jacobian():
    case = dae_cases.coupled()
    x, y = case.model.states
    loss = symode.Loss(observations={0.3: y, 1.0: y * x, 1.5: y**2})
    values, jacobian = Residuals(case.model.equations, loss, t0=0.3, **TIGHT)(case.theta)
    for k, (time, term) in enumerate({0.3: y, 1.0: y * x, 1.5: y**2}.items()):
        alone = symode.Loss(observations={time: term})
        found = case.model.gradient(alone, (0.3, 1.6), case.theta, **TIGHT)
        assert values[k] == pytest.approx(found.value, rel=1e-8)
        assert np.allclose(jacobian[k], found.theta, rtol=1e-7)


def test_a_parameter_at_zero_is_watched():
    a, c, x, y = sp.symbols("a c x y")
    model = symode.Model(
        {x: -a * x + c * sp.sin(9 * t)}, algebraic={y: y - x - c * sp.cos(t)},
        parameters=(a, c), initial={x: 1, y: 0},
    )  # fmt: skip
    loss = symode.Loss(terminal=y)
    found = model.gradient(loss, (0, 3), [0.0, 0.0], rtol=1e-7, atol=1e-9)
    # At a = c = 0: dx/dc is the integral of sin(9 s), dx/da = -t.
    assert found.theta["c"] == pytest.approx((1 - np.cos(27)) / 9 + np.cos(3), rel=1e-5)
    assert found.theta["a"] == pytest.approx(-3.0, rel=1e-5)


def test_a_batch_and_the_flat_vector_take_mass_matrices():
    case = dae_cases.divider()
    x, y = case.model.states
    loss = symode.Loss(terminal=x * y)
    rows = np.array([[0.4, 0.9], [1.1, -0.2], [0.5, 0.5]])
    batch = case.model.gradient(loss, (0.3, 2.0), case.theta, rows, **TIGHT)
    alone = [case.model.gradient(loss, (0.3, 2.0), case.theta, row, **TIGHT) for row in rows]
    assert np.allclose(batch.theta, sum(np.asarray(g.theta) for g in alone), rtol=1e-9)
    assert np.allclose(batch.z0, [np.asarray(g.z0) for g in alone], rtol=1e-9)


def test_a_fit_finds_the_parameters_of_a_dae():
    case = dae_cases.coupled()
    times = np.linspace(0.1, 3.0, 12)
    data = symode.Data(times, {"y": case.model.solve((0, 3), case.theta, times=times)["y"]})
    problem = symode.Problem(case.model, data, noise=symode.Normal(0.01), scale="log10")
    fit = symode.fit(problem, starts=3, seed=0)
    assert np.allclose(fit.theta, case.theta, rtol=1e-4)


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m.name not in METHOD_NAMES], ids=lambda m: m.name
)
def test_methods_without_mass_matrices_say_which_take_them(method):
    case = dae_cases.coupled()
    loss = symode.Loss(terminal=case.model.states[0])
    with pytest.raises(UnsupportedCombinationError, match="DiscreteAdjoint and ForwardSensitivity"):
        case.model.gradient(loss, (0, 1), case.theta, case.z0, method=method)


def test_black_boxes_second_derivatives_and_verify_refuse():
    case = dae_cases.coupled()
    loss, rest = symode.Loss(terminal=case.model.states[0]), ((0, 1), case.theta, case.z0)
    with pytest.raises(UnsupportedCombinationError, match="mass matrix"):
        case.model.gradient(loss, *rest, solver="scipy:Radau")
    with pytest.raises(UnsupportedCombinationError, match="mass matrix"):
        case.model.hessian(loss, *rest)
    with pytest.raises(UnsupportedCombinationError, match="mass matrix"):
        symode.verify(case.model, loss, *rest)
