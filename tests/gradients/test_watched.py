"""Sensitivities that the solution itself does not show are still resolved."""

import numpy as np
import pytest
import sympy as sp

import symode
from symode.gradients.methods import METHODS
from symode.gradients.methods.watched import SEPARATE, mixture
from symode.solvers.methods import METHODS as SOLVER_NAMES
from symode.solvers.methods import get_method
from symode.solvers.segments import can_watch
from symode.solvers.tableau import ExplicitTableau

X, Y, K, Q, T = sp.symbols("x y k q t")
SOLVERS = ["auto", "rodas5p"]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
every_solver = pytest.mark.parametrize("solver", SOLVERS)


@every_solver
@every_method
def test_a_forcing_whose_amplitude_is_zero_is_resolved(method, solver):
    # x stays 1, so nothing but the tangent asks for more than one step.
    model = symode.Model({X: K * sp.sin(9 * T)}, parameters=[K], time=T, initial={X: 1})
    gradient = model.gradient(
        symode.Loss(terminal=X**2 + X), (0, 7), theta=[0.0], method=method, solver=solver
    )
    exact = 3 * (1 - np.cos(63)) / 9
    # The integral cancels to 1 % of its parts; 1e3 rtol is its condition times the steps.
    assert gradient.theta["k"] == pytest.approx(exact, rel=1e3 * 1e-8)


@every_solver
@every_method
def test_a_running_cost_whose_weight_is_zero_is_resolved(method, solver):
    model = symode.Model({X: -X}, parameters=[K], time=T, initial={X: 1})
    gradient = model.gradient(
        symode.Loss(running=K * sp.sin(9 * T) * X), (0, 7), theta=[0.0], method=method,
        solver=solver,
    )  # fmt: skip
    exact = (9 - np.exp(-7) * (9 * np.cos(63) + np.sin(63))) / 82
    assert gradient.theta["k"] == pytest.approx(exact, rel=1e-6)


@every_solver
@every_method
def test_a_cost_that_only_a_parameter_and_time_move_is_resolved(method, solver):
    # The adjoint of x is 0 throughout: it asks for no steps, the parameter's part does.
    model = symode.Model({X: -X}, parameters=[K], time=T, initial={X: 1})
    cost = sp.sin(K * T) / (1 + T**2)
    gradient = model.gradient(
        symode.Loss(running=cost), (0, 7), theta=[1.3], method=method, solver=solver
    )
    from scipy.integrate import quad

    exact = quad(lambda t: t * np.cos(1.3 * t) / (1 + t**2), 0, 7, epsabs=1e-13, limit=200)[0]
    assert gradient.theta["k"] == pytest.approx(exact, rel=1e-6)


@every_solver
@every_method
def test_an_absent_species_has_the_gradient_of_its_invasion(method, solver):
    # With y = 0 the solution does not move at all; y grows by exp((k x0 - q) t) when it appears.
    model = symode.Model({X: -K * X * Y, Y: K * X * Y - Q * Y}, parameters=[K, Q])
    gradient = model.gradient(
        symode.Loss(terminal=X + Y), (0, 3), theta=[0.8, 0.3], z0=[2.0, 0.0], method=method,
        solver=solver,
    )  # fmt: skip
    rate = 0.8 * 2.0 - 0.3
    grown = np.exp(3 * rate)
    exact = grown - 1.6 * (grown - 1) / rate
    assert gradient.z0["y"] == pytest.approx(exact, rel=1e-6)


def test_states_that_seem_to_rest_and_move_later_do_no_harm():
    # At t = 0 nothing moves y, and q = 0: y = a x0 Int s exp(-k s - q (T - s)) ds. w stays 0.
    w, a = sp.symbols("w a")
    model = symode.Model(
        {X: -K * X, Y: a * T * X - Q * Y, w: -w}, parameters=[K, Q, a], time=T,
        initial={X: 2, Y: 0, w: 0},
    )  # fmt: skip
    task = symode.Loss(terminal=Y + w)
    gradient = model.gradient(task, (0, 3), theta=[0.8, 0.0, 0.7], method="discrete", rtol=1e-10)
    own = model.gradient(
        task, (0, 3), theta=[0.8, 0.0, 0.7], z0=[2, 0, 0], method="discrete", rtol=1e-10
    )
    s = sp.Symbol("s")
    exact = sp.integrate(-1.4 * s * (3 - s) * sp.exp(-0.8 * s), (s, 0, 3))
    assert gradient.theta["q"] == pytest.approx(float(exact), rel=1e-7)
    assert own.theta["q"] == pytest.approx(float(exact), rel=1e-7)
    assert own.z0["w"] == pytest.approx(np.exp(-3), rel=1e-7)


AT_REST = [(method, "rodas5p") for method in METHODS] + [
    ("discrete", "auto"),
    ("discrete", "tsit5"),
]


@pytest.mark.parametrize(("method", "solver"), AT_REST, ids=str)
@pytest.mark.parametrize("away", [0.0, 1e-10])
def test_a_solution_at_rest_has_the_gradient_of_what_would_move_it(method, solver, away):
    # x = u / k throughout; dx(T)/du at fixed x0 is (1 - exp(-k T)) / k.
    model = symode.Model({X: Q - K * X}, parameters=[K, Q])
    gradient = model.gradient(
        symode.Loss(terminal=X), (0, 20), theta=[0.6, 0.6], z0=[1.0 + away], method=method,
        solver=solver, rtol=1e-8,
    )  # fmt: skip
    # Without care one step leads to the end, and some are wrong by a factor of hundreds.
    assert gradient.theta["q"] == pytest.approx((1 - np.exp(-12)) / 0.6, rel=1e-5)
    assert gradient.z0["x"] == pytest.approx(np.exp(-12), abs=1e-5)


@pytest.mark.parametrize(("method", "solver"), AT_REST, ids=str)
def test_a_state_at_rest_beside_one_that_moves_keeps_its_gradient(method, solver):
    # x = u / k throughout, while y = 1.3 exp(-t / 20) sets the pace.
    y, slow = sp.symbols("y slow")
    model = symode.Model({y: -slow * y, X: Q - K * X}, parameters=[K, Q, slow])
    gradient = model.gradient(
        symode.Loss(terminal=X + y), (0, 20), theta=[0.6, 0.6, 0.05], z0=[1.3, 1.0], method=method,
        solver=solver, rtol=1e-8,
    )  # fmt: skip
    # Some are wrong by a factor of hundreds where nothing watches x.
    assert gradient.theta["q"] == pytest.approx((1 - np.exp(-12)) / 0.6, rel=1e-5)
    assert gradient.z0["x"] == pytest.approx(np.exp(-12), abs=1e-5)
    assert gradient.theta["slow"] == pytest.approx(-20 * 1.3 * np.exp(-1), rel=1e-6)


@pytest.mark.parametrize("solver", ["auto", "tsit5", "rodas5p"])
@pytest.mark.parametrize("method", ["discrete", "checkpointed"])
def test_a_state_at_rest_up_to_a_dose_keeps_its_gradient(method, solver):
    # x rests for 20, is raised by 0.7 there, and relaxes: dx/dq = (1 - exp(-k t)) / k all along.
    dose = symode.Event(T > 20, {X: X + sp.Float(0.7)})
    model = symode.Model({X: Q - K * X}, parameters=[K, Q], events=[dose])
    gradient = model.gradient(
        symode.Loss(terminal=X), (0, 21), theta=[0.6, 0.6], z0=[1.0], method=method,
        solver=solver, rtol=1e-8,
    )  # fmt: skip
    assert gradient.theta["q"] == pytest.approx((1 - np.exp(-0.6 * 21)) / 0.6, rel=1e-5)
    # x - u / k = 0.7 exp(-k (t - 20)), and u / k^2 that the rest itself moves by.
    rest = -(1 - np.exp(-0.6 * 21)) / 0.6
    assert gradient.theta["k"] == pytest.approx(rest - 0.7 * np.exp(-0.6), rel=1e-5)


def test_many_zeros_are_watched_as_one_direction():
    ks = sp.symbols("k0:7")
    forcing = sum(k * sp.sin((3 + i) * T + i) for i, k in enumerate(ks))
    model = symode.Model({X: forcing}, parameters=ks, time=T, initial={X: 1})
    gradient = model.gradient(symode.Loss(terminal=X), (0, 7), theta=[0.0] * 7, method="discrete")
    exact = [(np.cos(i) - np.cos((3 + i) * 7 + i)) / (3 + i) for i in range(7)]
    assert np.asarray(gradient.theta) == pytest.approx(np.array(exact), abs=1e-7)
    assert mixture(tuple(range(7)), 9).shape == (1, 9)
    assert mixture(tuple(range(SEPARATE)), 9).shape == (SEPARATE, 9)


def test_a_batch_with_absent_species_equals_single_solves():
    model = symode.Model({X: -K * X * Y, Y: K * X * Y - Q * Y}, parameters=[K, Q])
    vg = model.value_and_grad(symode.Loss(terminal=X + Y), t0=0, t1=3.0)
    starts = np.array([[2.0, 0.0], [2.0, 0.1], [1.5, 0.0]])
    values, _, dz0 = vg.batch([0.8, 0.3], starts)
    for start, value, slope in zip(starts, values, dz0, strict=True):
        single, whole = vg(vg.pack(theta=[0.8, 0.3], z0=start))
        assert value == single
        assert np.array_equal(slope, whole[2:])


# -- explicit steps at the edge of stability -----------------------------------------------------

EXPLICIT = [
    name
    for name in SOLVER_NAMES
    if isinstance(get_method(name), ExplicitTableau) and can_watch(get_method(name))
]
P = sp.symbols("p1:4")
RATES, START = np.array([0.04, 1e4, 3e7]), np.array([1.0, 1e-5, 0.2])
STIFF_LOSS = symode.Loss(terminal=2 * X + 1e3 * Y + Q**2, observations=[(0.4, X * Q)])


def robertson():
    """Return Robertson's kinetics, whose steps stability holds at 1e-3 from t = 0.1 on."""
    a, b, c = P
    loss, back = a * X - b * Y * Q, c * Y**2
    return symode.Model({X: -loss, Y: loss - back, Q: back}, parameters=P)


def off(theta, z0, exact):
    """Return the error in the scaled norm."""
    scale = np.concatenate([RATES, START])
    found = np.concatenate([np.asarray(theta), np.asarray(z0)])
    expected = np.concatenate([np.asarray(exact.theta), np.asarray(exact.z0)])
    return np.linalg.norm((found - expected) * scale) / np.linalg.norm(expected * scale)


@pytest.fixture(scope="module")
def exact():
    return robertson().gradient(
        STIFF_LOSS, (0, 1.5), theta=RATES, z0=START, solver="radau9", rtol=1e-11, atol=1e-17,
        method="discrete",
    )  # fmt: skip


@pytest.mark.parametrize("method", [symode.DiscreteAdjoint(), symode.CheckpointedAdjoint()])
@pytest.mark.parametrize("solver", EXPLICIT)
def test_explicit_steps_at_the_edge_of_stability_do_not_amplify_derivatives(solver, method, exact):
    # With steps chosen for z alone: tsit5 0.1, dopri5 2 at 1e-8, and 1e11 over a longer span.
    for rtol in (1e-6, 1e-8):
        found = robertson().gradient(
            STIFF_LOSS, (0, 1.5), theta=RATES, z0=START, solver=solver, method=method, rtol=rtol,
            atol=1e-4 * rtol,
        )  # fmt: skip
        # The transient is as many tolerances wide as it has decades.
        assert off(found.theta, found.z0, exact) < 1e3 * rtol


def test_batches_and_jacobians_at_the_edge_of_stability(exact):
    options = {"solver": "tsit5", "rtol": 1e-7, "atol": 1e-11, "method": "discrete"}
    vg = robertson().value_and_grad(STIFF_LOSS, t0=0, t1=1.5, **options)
    starts = np.array([START, START * [1.0, 0.5, 2.0]])
    _, dtheta, dz0 = vg.batch(RATES, starts)
    assert off(dtheta[0], dz0[0], exact) < 1e3 * 1e-7
    rows = robertson().jacobian(
        symode.VectorLoss({"whole": STIFF_LOSS, "end": symode.Loss(terminal=Q)}), (0, 1.5),
        theta=RATES, z0=START, **options,
    )  # fmt: skip
    assert off(rows.theta[0], rows.z0[0], exact) < 1e3 * 1e-7
