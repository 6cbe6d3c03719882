"""Stabilised explicit steps: coefficients, bound of the spectrum, and the problems they are for."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import SolverError, TableauError
from symode.solvers.methods import get_method

ROCK4 = get_method("rock4")
T = sp.Symbol("t")


def heat(cells, advection=0.0, reaction=0):
    """Return u' = D u_xx - v u_x + r(u), centred differences, zero at both ends, on (0, 1)."""
    u = sp.symbols(f"u0:{cells}")
    d, r = sp.symbols("D r", positive=True)
    at = (0, *u, 0)
    rhs = {}
    for i in range(cells):
        left, here, right = at[i : i + 3]
        rhs[u[i]] = (
            d * (cells + 1) ** 2 * (left - 2 * here + right)
            - advection * (cells + 1) / 2 * (right - left)
            + r * reaction * here * (1 - here)
        )
    x = np.arange(1, cells + 1) / (cells + 1)
    return symode.Model(rhs, parameters=(d, r), time=T), x


@pytest.mark.parametrize("i", range(len(ROCK4.sizes)))
def test_members_are_stable_on_their_interval_and_not_beyond(i):
    s, end = int(ROCK4.sizes[i]), ROCK4.limit[i]
    z = -end * np.linspace(0.0, 1.0, 5000)
    growth = np.abs(ROCK4.stability_function(i, z))
    assert growth.max() <= 1.0 + 1e-12
    assert growth[z < -min(4.0, end / 2)].max() <= 0.953
    assert abs(ROCK4.stability_function(i, np.array([-1.02 * end]))[0]) > 1.0
    # 0.35 s² is the reach of methods of order 4 (Abdulle 2002); fewer stages reach a little less.
    assert (0.23 if s < 8 else 0.30) * s**2 < end < 0.3525 * s**2


@pytest.mark.parametrize("i", [0, 1, 7, 20])
def test_stability_functions_are_those_of_the_runge_kutta_form(i):
    a, _, _ = ROCK4.runge_kutta(i)
    z = -np.array([0.1, 1.0, 0.3 * ROCK4.limit[i]])
    n = len(a)
    for value, found in zip(z, ROCK4.stability_function(i, z), strict=True):
        stages = np.linalg.solve(np.eye(n) - value * a, np.ones(n))
        # Either way the last stages amplify roundings, by 2e7 at 25 of them.
        assert found == pytest.approx(stages[-1], abs=1e-8)


@pytest.mark.parametrize("name", ["flow", "a", "b", "c", "e"])
def test_wrong_coefficients_are_refused(name):
    value = getattr(ROCK4, name)
    rng = np.random.default_rng(3)
    small = np.argwhere(np.abs(value) > 1e-3)
    for at in rng.choice(small, 4, replace=False):
        wrong = value.copy()
        wrong[tuple(at)] += 1e-6
        with pytest.raises(TableauError, match="rock4"):
            replace(ROCK4, **{name: wrong})


def test_a_longer_interval_cannot_be_claimed():
    with pytest.raises(TableauError, match="reaches"):
        replace(ROCK4, limit=1.02 * ROCK4.limit)


def test_fewer_calls_than_explicit_steps_and_the_exact_solution():
    model, x = heat(60)
    # The first two modes of the differences themselves decay by these rates, exactly.
    rates = [4 * 61**2 * np.sin(k * np.pi / 122) ** 2 for k in (1, 2)]
    shapes = [np.sin(k * np.pi * x) for k in (1, 2)]
    z0 = shapes[0] - 0.4 * shapes[1]
    times = [0.02, 0.07, 0.15]
    options = {"theta": [1.0, 0.3], "z0": z0, "times": times, "rtol": 1e-5, "atol": 1e-8}
    found = model.solve((0, 0.15), solver="rock4", **options)
    for t, z in zip(times, found.z, strict=True):
        exact = shapes[0] * np.exp(-rates[0] * t) - 0.4 * shapes[1] * np.exp(-rates[1] * t)
        assert z == pytest.approx(exact, abs=1e-5)
    explicit = model.solve((0, 0.15), solver="tsit5", **options)
    # ρ is 15,000: 5 h ρ / 3.5 calls of f against (h ρ / 0.35)**0.5.
    assert found.stats.nfev < 0.2 * explicit.stats.nfev
    assert found.stats.nlu == 0


def test_backwards_in_time_and_steps_at_the_largest_number_of_stages():
    model, x = heat(100)
    z0 = np.sin(np.pi * x)
    options = {"rtol": 1e-2, "atol": 1e-3, "solver": "rock4"}
    # h ρ beyond the reach of all members: the step size is held there.
    found = model.solve((0, 2.0), theta=[1.0, 1.0], z0=z0, **options)
    rho = 4 * 101**2
    assert np.diff(found.t).max() * rho > 0.5 * ROCK4.limit[-1]
    assert np.diff(found.t).max() * rho <= ROCK4.limit[-1]
    assert np.abs(found.z[-1]).max() < 1e-3
    # Its mirror image: u' = -D u_xx, from 2 to 0.
    u = sp.symbols("u0:100")
    at, d = (0, *u, 0), sp.Symbol("D")
    mirror = symode.Model(
        {u[i]: -d * 101**2 * (at[i] - 2 * at[i + 1] + at[i + 2]) for i in range(100)},
        parameters=[d], time=T,
    )  # fmt: skip
    back = mirror.solve((2.0, 0.0), theta=[1.0], z0=z0, **options)
    assert back.stats.nfev == found.stats.nfev
    assert back.z[-1] == pytest.approx(found.z[-1], rel=1e-6, abs=1e-9)


def test_the_bound_does_not_depend_on_units_and_leaves_quadratures_out():
    # x and y in units 1e6 apart: a norm of J would say 1e6 where ρ is 101.
    x, y, k = sp.symbols("x y k")
    rhs = {x: -k * x + 1e6 * y, y: 1e-6 * x - 100 * y}
    options = {"z0": [1.0, 1e-6], "solver": "rock4", "rtol": 1e-4, "atol": [1e-8, 1e-14]}
    model = symode.Model(rhs, parameters=[k], time=T)
    found = model.solve((0, 20), theta=[2.0], **options)
    same = symode.Model({x: -k * x + y, y: x - 100 * y}, parameters=[k], time=T)
    reference = same.solve((0, 20), theta=[2.0], **{**options, "z0": [1.0, 1.0], "atol": 1e-8})
    assert found.stats.nfev <= 1.2 * reference.stats.nfev
    loss = symode.Loss(terminal=x, running=1e6 * x)
    plain = model.gradient(symode.Loss(terminal=x), (0, 20), theta=[2.0], **options)
    grown = model.gradient(loss, (0, 20), theta=[2.0], **options)
    assert grown.stats["forward"].nfev < 2.5 * plain.stats["forward"].nfev


def test_oscillations_end_with_the_way_out():
    # Eigenvalues -5 ± 1000i: far from the axis that many stages serve.
    x, y, w = sp.symbols("x y omega")
    model = symode.Model({x: -5 * x - w * y, y: w * x - 5 * y}, parameters=[w], time=T)
    options = {"theta": [1000.0], "z0": [1.0, 0.0], "solver": "rock4", "rtol": 1e-3, "atol": 1e-9}
    with pytest.raises(SolverError, match=r"oscillat.*solver='rodas5p'") as caught:
        model.solve((0, 50), max_steps=2000, **options)
    assert "imaginary" in str(caught.value)


def test_what_is_stiff_beyond_all_stages_ends_with_the_way_out():
    x, y, k = sp.symbols("x y k")
    model = symode.Model({x: -k * (x - y), y: -y / 10 + sp.sin(T)}, parameters=[k], time=T)
    options = {"z0": [1.0, 1.0], "solver": "rock4", "rtol": 1e-3, "atol": 1e-6}
    with pytest.raises(SolverError, match=r"63 stages serve.*solver='rodas5p'"):
        model.solve((0, 50), theta=[1e8], max_steps=3000, **options)


def test_a_driven_fast_mode_that_costs_the_order_is_named():
    # x follows 30 cos: the local error of a stage is k h^2 x'', not h^5, until h resolves 1/k.
    x, k = sp.symbols("x k")
    model = symode.Model({x: -k * (x - sp.cos(30 * T))}, parameters=[k], time=T)
    options = {"z0": [1.0], "solver": "rock4", "rtol": 1e-9, "atol": 1e-12, "max_steps": 20_000}
    with pytest.raises(SolverError, match=r"decays within 1e-06.*lose order.*solver='rodas5p'"):
        model.solve((0, 5), theta=[1e6], **options)


@pytest.mark.parametrize("rtol", [1e-4, 1e-8])
def test_ends_of_the_domain_of_f_are_reached(rtol):
    # A stage lies up to 1.024 h from the step's start, where the root is not real: steps grow
    # shorter towards both ends, and z(1) = exp(-k pi/8), dz(1)/dk = -pi/8 z(1).
    x, k = sp.symbols("x k")
    model = symode.Model({x: -k * x * sp.sqrt(T * (1 - T))}, parameters=[k], time=T)
    options = {"theta": [2.0], "z0": [1.0], "solver": "rock4", "rtol": rtol, "atol": rtol / 1e3}
    exact = np.exp(-np.pi / 4)
    found = model.solve((0, 1), **options)
    assert found.z[-1, 0] == pytest.approx(exact, rel=10 * rtol)
    for method in (symode.DiscreteAdjoint(), symode.ForwardSensitivity()):
        gradient = model.gradient(symode.Loss(terminal=x), (0, 1), method=method, **options)
        assert gradient.theta["k"] == pytest.approx(-np.pi / 8 * exact, rel=30 * rtol)


def test_a_jump_of_a_table_just_after_the_steps_that_end_there():
    # Stages at 1.024 h see the other side; the error estimate shortens the last steps before it.
    x, k, u = sp.symbols("x k u")
    table = symode.Table([0.0, 0.5, 1.3, 2.0], [1.0, -2.0, 3.0, 3.0], "constant")
    model = symode.Model({x: -k * x + u}, parameters=[k, u], time=T, inputs={"u": table})
    for rtol in (1e-4, 1e-7):
        options = {"theta": [40.0], "z0": [1.0], "rtol": rtol, "atol": rtol / 1e3}
        found, sharp = (
            model.solve((0, 2), times=[0.5, 1.3, 1.31, 2.0], solver=solver, **options)
            for solver in ("rock4", "vern7")
        )
        assert np.allclose(found.z, sharp.z, rtol=30 * rtol, atol=0.0)


def test_gradients_of_a_heat_equation_are_exact():
    model, x = heat(25)
    u = list(model.states)
    rate = 4 * 26**2 * np.sin(np.pi / 52) ** 2
    loss = symode.Loss(terminal=u[12], observations={0.031: u[3] ** 2})
    z0, d, t = np.sin(np.pi * x), 0.7, 0.1
    middle, other = z0[12] * np.exp(-rate * d * t), z0[3] * np.exp(-rate * d * 0.031)
    exact = -rate * t * middle - 2 * rate * 0.031 * other**2
    for method in ("discrete", "forward", "interpolating", "gauss", "checkpointed"):
        found = model.gradient(
            loss, (0, t), theta=[d, 0.0], z0=z0, method=method, solver="rock4", rtol=1e-6,
            atol=1e-9,
        )  # fmt: skip
        assert found.theta["D"] == pytest.approx(exact, rel=1e-5), method
