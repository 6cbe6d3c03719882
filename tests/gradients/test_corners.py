"""Corners: nothing to differentiate, zeros, kinks, many states, odd spans, both backends."""

import numpy as np
import pytest
import sympy as sp
from scipy.linalg import expm

import symode
from symode.errors import DriftError
from symode.gradients.methods import METHODS

X, Y, A, B, T = sp.symbols("x y a b t")

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
every_kind = pytest.mark.parametrize("solver", ["tsit5", "vern7", "rodas5p"])


@every_kind
@every_method
def test_a_model_without_parameters(method, solver):
    model = symode.Model({X: -X + T}, parameters=[], time=T)
    loss = symode.Loss(terminal=X**2, running=X, observations={0.5: X})
    # x = t - 1 + (x0 + 1) exp(-t), so dJ/dx0 = 2 x(1) e^-1 + (1 - e^-1) + e^-1/2.
    found = model.gradient(loss, (0, 1), z0=[0.5], method=method, solver=solver)
    e = np.exp(-1)
    assert found.theta.size == 0
    expected = 2 * 1.5 * e * e + (1 - e) + np.exp(-0.5)
    assert found.z0["x"] == pytest.approx(expected, rel=1e-6)


@every_kind
@every_method
def test_a_loss_of_parameters_or_of_nothing(method, solver):
    model = symode.Model({X: -A * X}, parameters=[A, B])
    ask = {"theta": [0.7, 2.0], "z0": [1.0], "method": method, "solver": solver}
    found = model.gradient(symode.Loss(terminal=A * B**2), (0, 1), **ask)
    assert found.theta.tolist() == [4.0, pytest.approx(2.8)]
    assert found.z0.tolist() == [0.0]
    found = model.gradient(symode.Loss(terminal=3), (0, 1), **ask)
    assert found.value == 3.0
    assert found.theta.tolist() == [0.0, 0.0]
    found = model.gradient(symode.Loss(running=B, observations={0.3: A}), (0, 1), **ask)
    assert found.value == pytest.approx(2.7, rel=1e-12)
    assert found.theta == pytest.approx([1.0, 1.0], rel=1e-12)
    assert found.t1 == pytest.approx(2.0, rel=1e-12)


@every_kind
@every_method
def test_zeros_of_parameters_and_states(method, solver):
    # x stays at 0 while its derivative does not: J = x(1) = x0 e^a + b (e^a - 1)/a -> x0 + b.
    model = symode.Model({X: A * X + B}, parameters=[A, B])
    found = model.gradient(
        symode.Loss(terminal=X), (0, 1), theta=[0.0, 0.0], z0=[0.0], method=method, solver=solver
    )
    assert found.value == 0.0
    assert found.theta == pytest.approx([0.0, 1.0], abs=1e-9)
    assert found.z0 == pytest.approx([1.0], rel=1e-9)
    # A quadratic start: x' = a x**2 from 0 has no derivative in a but one in x0.
    model = symode.Model({X: A * X**2 + Y, Y: B * Y}, parameters=[A, B])
    found = model.gradient(
        symode.Loss(terminal=X), (0, 1), theta=[1.0, 1.0], z0=[0.0, 0.0], method=method,
        solver=solver,
    )  # fmt: skip
    assert found.theta == pytest.approx([0.0, 0.0], abs=1e-12)
    assert found.z0 == pytest.approx([1.0, np.e - 1], rel=1e-7)


@every_kind
@every_method
def test_powers_roots_and_kinks_at_zero_give_numbers(method, solver):
    model = symode.Model(
        {X: -A * X**3 + sp.Abs(X) * B, Y: sp.Max(X, 0) - sp.sqrt(Y**2 + 1)}, parameters=[A, B]
    )
    found = model.gradient(
        symode.Loss(terminal=X**2 + Y, running=sp.Abs(X)), (0, 1), theta=[1.0, 0.5], z0=[0.0, 0.0],
        method=method, solver=solver,
    )  # fmt: skip
    assert np.isfinite([*found.theta, *found.z0]).all()


@every_kind
@every_method
def test_a_switch_in_the_right_hand_side(method, solver):
    # x' = a until t = 1, then b: x(2) = x0 + a + b, whatever steps the switch costs.
    model = symode.Model({X: sp.Piecewise((A, T < 1), (B, True))}, parameters=[A, B], time=T)
    found = model.gradient(
        symode.Loss(terminal=X**2), (0, 2), theta=[1.5, -0.4], z0=[0.2], method=method,
        solver=solver,
    )  # fmt: skip
    assert found.theta == pytest.approx([2.6, 2.6], rel=1e-5)


@pytest.mark.parametrize("solver", ["tsit5", "rock4", "rodas5p", "esdirk54", "radau5"])
@every_method
def test_a_right_hand_side_without_states(method, solver):
    # f has no Jacobian, the augmented system has one: a§3' = -a§1 t^2.
    model = symode.Model({X: A * T**2, Y: B}, parameters=[A, B], time=T)
    found = model.gradient(
        symode.Loss(terminal=X**2 * Y), (0, 2), theta=[1.5, -0.4], z0=[0.2, 0.3], method=method,
        solver=solver,
    )  # fmt: skip
    x, y = 0.2 + 1.5 * 8 / 3, 0.3 - 0.4 * 2
    assert found.theta == pytest.approx([2 * x * y * 8 / 3, 2 * x**2], rel=1e-7)
    assert found.z0 == pytest.approx([2 * x * y, x**2], rel=1e-7)


@pytest.mark.parametrize("span", [(-1.0, 1.5), (1e5, 1e5 + 2.5), (0.7, -1.8), (0.0, 1e-9)])
@every_method
def test_spans_of_all_sorts(method, span):
    model = symode.Model({X: Y, Y: -(A**2) * X}, parameters=[A])
    found = model.gradient(
        symode.Loss(terminal=X, observations=[(span[0], Y), (span[1], X * Y)]), span, theta=[1.3],
        z0=[0.4, -0.2], method=method,
    )  # fmt: skip
    a, d = 1.3, span[1] - span[0]
    c, s = np.cos(a * d), np.sin(a * d)
    flow = np.array([[c, s / a], [-a * s, c]])
    x, y = flow @ [0.4, -0.2]
    # dt1: x' + (x y)' ; dt0 = -dt1 + nothing, since an observation at t0 does not see t0.
    rate = y + y * y - a * a * x * x
    assert found.value == pytest.approx(x - 0.2 + x * y, rel=1e-6)
    assert found.t1 == pytest.approx(rate, rel=1e-6)
    assert found.t0 == pytest.approx(-rate, rel=1e-6)
    expected = np.array([1.0 + y, x]) @ flow + [0.0, 1.0]
    assert found.z0 == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n", [30, 90])
@pytest.mark.parametrize("solver", ["auto", "rodas5p"])
@pytest.mark.parametrize(
    "method", [m for m in METHODS if m.name != "backsolve"], ids=lambda m: m.name
)
def test_many_states(method, solver, n):
    if method.name == "forward" and n > 30:
        pytest.skip("one tangent for each state: the adjoints are for this")
    states = sp.symbols(f"x0:{n}")
    # Diffusion along a chain with a drift, and one source: linear, so expm knows everything.
    ahead = {states[i]: states[i + 1] for i in range(n - 1)}
    behind = {states[i + 1]: states[i] for i in range(n - 1)}
    rhs = {z: A * (ahead.get(z, 0) + behind.get(z, 0) - 2 * z) + B * behind.get(z, 0)
           for z in states}  # fmt: skip
    model = symode.Model(rhs, parameters=[A, B])
    z0 = np.cos(np.arange(n))
    weights = np.sin(1 + np.arange(n))
    loss = symode.Loss(terminal=sum(float(w) * z for w, z in zip(weights, states, strict=True)))
    found = model.gradient(loss, (0, 1), theta=[2.0, 0.7], z0=z0, method=method, solver=solver)
    second = np.eye(n, k=1) + np.eye(n, k=-1) - 2 * np.eye(n)
    matrix = 2.0 * second + 0.7 * np.eye(n, k=-1)
    assert found.z0 == pytest.approx(weights @ expm(matrix), rel=1e-5, abs=1e-6)
    # d expm(M)[E]: the corner of the exponential of (M, E; 0, M).
    for entry, direction in (("a", second), ("b", np.eye(n, k=-1))):
        block = expm(np.block([[matrix, direction], [np.zeros((n, n)), matrix]]))[:n, n:]
        assert found.theta[entry] == pytest.approx(weights @ block @ z0, rel=1e-5)


@every_method
def test_backends_agree(method):
    model = symode.Model({X: A * X * sp.exp(-Y), Y: sp.tanh(B * X) - Y}, parameters=[A, B])
    loss = symode.Loss(terminal=X * Y, running=sp.log(1 + X**2), observations={0.4: X})
    ask = {"theta": [0.5, 1.2], "z0": [1.0, 0.1], "method": method}
    one, other = (model.gradient(loss, (0, 1), backend=b, **ask) for b in ("llvm", "numba"))
    assert one.value == pytest.approx(other.value, rel=1e-9)
    assert np.allclose(one.theta, other.theta, rtol=1e-7)
    assert np.allclose(one.z0, other.z0, rtol=1e-7)


@every_kind
@every_method
def test_many_observations_within_one_step(method, solver):
    model = symode.Model({X: -A * X}, parameters=[A])
    # Equal, a rounding apart, a billionth apart, and far apart.
    close = [np.nextafter(0.3, 1.0), 0.3 - 3e-16, 0.1 + 0.2]
    times = np.concatenate(
        [np.full(5, 0.3), close, 0.3 + 1e-9 * np.arange(20), np.linspace(0, 1, 41)]
    )
    loss = symode.LeastSquares(times, np.zeros(times.size))
    found = model.gradient(loss, (0, 1), theta=[0.8], z0=[1.5], method=method, solver=solver)
    x = 1.5 * np.exp(-0.8 * times)
    assert found.value == pytest.approx(np.sum(x**2), rel=1e-7)
    assert found.theta["a"] == pytest.approx(np.sum(-2 * times * x**2), rel=1e-6)
    inner = (times > 0) & (times < 1)
    assert np.allclose(found.times, np.where(inner, -1.6 * x**2, 0.0), rtol=1e-5)


@every_method
def test_missing_values_weigh_nothing(method):
    model = symode.Model({X: -A * X, Y: A * X}, parameters=[A])
    values = np.array([[0.5, np.nan], [np.nan, 0.3], [0.2, 0.1]])
    loss = symode.LeastSquares([0.2, 0.5, 1.0], values, weights=[2.0, 3.0])
    found = model.gradient(loss, (0, 1), theta=[0.8], z0=[1.0, 0.0], method=method)
    x = np.exp(-0.8 * np.array([0.2, 0.5, 1.0]))
    slope = -np.array([0.2, 0.5, 1.0]) * x
    gaps = np.nan_to_num(np.array([x, 1 - x]).T - values) * [2.0, 3.0]
    assert found.theta["a"] == pytest.approx(
        2 * np.sum(gaps * np.array([slope, -slope]).T), rel=1e-6
    )


@every_method
def test_statistics_say_what_was_done(method):
    model = symode.Model({X: -A * X}, parameters=[A])
    found = model.gradient(symode.Loss(terminal=X), (0, 1), theta=[1.0], z0=[1.0], method=method)
    assert found.stats["method"] == method.name
    assert found.stats["forward"].steps > 0
    assert found.stats["reason"] == "chosen by the caller"
    auto = model.gradient(symode.Loss(terminal=X), (0, 1), theta=[1.0], z0=[1.0])
    assert "cost" in auto.stats["reason"]


def test_backsolve_restarts_from_known_states_at_observations():
    # Over the whole span z cannot be integrated backwards; from one observation to the next it can.
    model = symode.Model({X: -A * (X - sp.sin(T))}, parameters=[A], time=T)
    ask = {"theta": [12.0], "z0": [0.3], "method": "backsolve", "solver": "dopri5"}
    with pytest.raises(DriftError):
        model.gradient(symode.Loss(terminal=X), (0, 4), **ask)
    times = np.linspace(0.1, 4, 40)
    loss = symode.LeastSquares(times, np.zeros(40))
    found = model.gradient(loss, (0, 4), **ask)
    ask["method"] = "discrete"
    assert found.theta["a"] == pytest.approx(
        model.gradient(loss, (0, 4), **ask).theta["a"], rel=1e-5
    )
