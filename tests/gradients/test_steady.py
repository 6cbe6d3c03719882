"""Steady states: closed forms, long simulations, and derivatives in many digits."""

from __future__ import annotations

import pickle

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import (
    InitialStateError,
    LossError,
    ModelError,
    OptionError,
    ParameterError,
    SolverError,
    UnsupportedCombinationError,
)

SWAP = "a' = k*b - j*a; b' = j*a - k*b; a(0) = a0 + 1; b(0) = 2; param k, j, a0"
ENZYME = (
    "s' = v - k1*e*s + k2*c; e' = (k2 + k3)*c - k1*e*s; c' = k1*e*s - (k2 + k3)*c;"
    "p' = k3*c - d*p; s(0) = 1; e(0) = e0; c(0) = 0.3; p(0) = 0;"
    "param v, k1, k2, k3, d, e0"
)
VALUES = {"v": 0.4, "k1": 3.0, "k2": 0.7, "k3": 1.1, "d": 0.25, "e0": 0.9}
#: A switch: x turns itself on. At rest near 0.05 or 2.5, with an unstable state between them.
SWITCH = "x' = b + v*x^4/(1 + x^4) - y; y' = d*x - y; param b, v, d"
SWITCHED = [0.05, 2.5, 1.0]


def closed_enzyme() -> dict[str, sp.Expr]:
    v, k1, k2, k3, d, e0 = sp.symbols("v k1 k2 k3 d e0")
    c = v / k3
    e = e0 + sp.Rational(3, 10) - c
    return {"s": (k2 + k3) * c / (k1 * e), "e": e, "c": c, "p": v / d}


def test_enzyme_kinetics_as_in_closed_form_with_all_derivatives() -> None:
    steady = symode.Model.from_text(ENZYME).steady_state(VALUES)
    for name, exact in closed_enzyme().items():
        assert steady[name] == pytest.approx(float(exact.subs(VALUES)), rel=1e-12)
        row = steady.dz_dtheta[steady.z.names.index(name)]
        for j, parameter in enumerate(VALUES):
            wanted = float(exact.diff(sp.Symbol(parameter)).subs(VALUES))
            assert row[j] == pytest.approx(wanted, rel=1e-10, abs=1e-12)
    assert steady.stable is True and steady.eigenvalues.size == 3
    assert {str(k): v for k, v in steady.totals.items()} == {"c + e": pytest.approx(1.2)}
    assert np.abs(steady.residual).max() < 1e-14


def test_a_start_moves_a_steady_state_through_its_totals_alone() -> None:
    # x* = k T/(k + j), y* = j T/(k + j) with T = a0 + b0.
    k, j = 1.7, 0.6
    steady = symode.Model.from_text(SWAP).steady_state([k, j, 4.0], z0={"a": 0.2, "b": 3.0})
    share = np.array([k, j]) / (k + j)
    np.testing.assert_allclose(steady.z, 3.2 * share, rtol=1e-13)
    np.testing.assert_allclose(steady.dz_dz0, share[:, None] * np.ones((1, 2)), rtol=1e-12)
    # With z0 given, a0 moves nothing; with the model's own start it does.
    np.testing.assert_allclose(steady.dz_dtheta["a0"], [0.0, 0.0], atol=1e-15)
    own = symode.Model.from_text(SWAP).steady_state([k, j, 4.0])
    np.testing.assert_allclose(own.dz_dtheta["a0"], share, rtol=1e-12)


def test_totals_in_parameters_carry_their_own_derivatives() -> None:
    # a decays into b and c: b* = k1 a0/(k1 + k2) + b0 = 1.5 k1/(k1 + k2) + 0.2.
    model = symode.Model.from_text(
        "a' = -(k1+k2)*a; b' = k1*a; c' = k2*a; a(0)=1.5; b(0)=.2; c(0)=0"
    )
    k1, k2 = 0.8, 2.1
    steady = model.steady_state([k1, k2])
    np.testing.assert_allclose(steady.z, [0, 1.5 * k1 / 2.9 + 0.2, 1.5 * k2 / 2.9], atol=1e-12)
    slope = 1.5 / 2.9**2 * np.array([[0, 0], [k2, -k1], [-k2, k1]])
    np.testing.assert_allclose(steady.dz_dtheta, slope, atol=1e-12)
    np.testing.assert_allclose(
        steady.dz_dz0, [[0, 0, 0], [k1 / 2.9, 1, 0], [k2 / 2.9, 0, 1]], atol=1e-12
    )


def test_a_gradient_is_the_row_times_the_slopes_and_agrees_with_differences_in_40_digits() -> None:
    # No closed form: cooperative binding in two compartments, with one total in v.
    text = (
        "x' = (k*y - j*x^2/(m + x))/v; y' = j*x^2/(m + x) - k*y + s*w - y*w*s; w' = y - w*x;"
        "x(0) = 1; y(0) = q^2; w(0) = 0.5; param k, j, m, v, q, s"
    )
    model, names = symode.Model.from_text(text), ["k", "j", "m", "v", "q", "s"]
    theta = [1.3, 0.7, 0.4, 2.0, 1.1, 0.0]
    symbols = {s.name: s for s in (*model.states, *model.parameters)}
    x, y, w, m = (symbols[n] for n in ("x", "y", "w", "m"))
    steady = model.steady_state(theta)
    assert {str(t) for t in steady.totals} == {"v*x + y"}
    loss = sp.sin(x) * y + w**2 * m
    gradient = steady.gradient(loss)
    value = float(loss.subs({**dict(zip(model.states, steady.z)), m: 0.4}))  # noqa: B905
    assert gradient.value == pytest.approx(value, rel=1e-14)
    by_rows = [float(loss.diff(s).subs({x: steady["x"], y: steady["y"], w: steady["w"], m: 0.4}))
               for s in (x, y, w)]  # fmt: skip
    np.testing.assert_allclose(gradient.z0, by_rows @ np.asarray(steady.dz_dz0), rtol=1e-12)

    def exact(values) -> mp.mpf:
        k, j, m_, v, q, _ = values

        def equations(x_, y_, w_):
            flow = j * x_**2 / (m_ + x_)
            return [k * y_ - flow, y_ - w_ * x_, v * x_ + y_ - v - q**2]

        found = mp.findroot(equations, [mp.mpf(float(c)) for c in steady.z], tol=1e-60)
        return mp.sin(found[0]) * found[1] + found[2] ** 2 * m_

    with mp.workdps(40):
        h = mp.mpf(10) ** -13
        # s stays 0: at other values y + v x is not conserved, and nothing has a derivative there.
        for i, name in enumerate(names[:5]):
            up, down = [[mp.mpf(t) for t in theta] for _ in range(2)]
            up[i] += h
            down[i] -= h
            difference = float((exact(up) - exact(down)) / (2 * h))
            assert gradient.theta[name] == pytest.approx(difference, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("start", "end"), [([0.2, 0.2], 0.05), ([1.5, 1.0], 2.5)])
def test_a_switch_goes_where_its_trajectory_goes(start, end) -> None:
    model = symode.Model.from_text(SWITCH)
    steady = model.steady_state(SWITCHED, z0=start)
    late = model.solve((0, 300), SWITCHED, start, solver="rodas5p", rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(steady.z, late.z[-1], rtol=1e-8)
    assert steady["x"] == pytest.approx(end, abs=0.1)
    assert steady.stable is True


def test_newtons_method_alone_finds_the_unstable_state_and_says_so() -> None:
    model = symode.Model.from_text(SWITCH)
    steady = model.steady_state(SWITCHED, z0=[0.75, 0.75], method="newton")
    assert 0.5 < steady["x"] < 1.2 and steady.stable is False
    assert steady.eigenvalues[0].real > 0
    assert "unstable" in repr(steady)


@pytest.mark.parametrize(("start", "end"), [(1 + 1e-5, 2.0), (1 - 1e-5, 0.5)])
def test_a_slow_passage_by_an_unstable_state_is_no_rest(start, end) -> None:
    # It leaves x = 1 after 1e4 units of time.
    model = symode.Model.from_text("x' = 0.001*k*(x - 1)*(2 - x)*(x - 0.5); x(0) = s")
    assert model.steady_state({"k": 1, "s": start})["x"] == pytest.approx(end, rel=1e-12)
    at = model.steady_state({"k": 1, "s": 1})
    assert at["x"] == 1 and at.stable is False


def test_slow_and_stiff_systems_come_to_rest() -> None:
    # Robertson's reaction: all of y1 becomes y3 in some 1e9 units of time.
    model = symode.Model.from_text(
        "x' = -a*x + b*y*z; y' = a*x - b*y*z - c*y^2 + d*z; z' = c*y^2 - d*z;"
        "x(0) = 1; y(0) = 0; z(0) = 0"
    )
    theta = {"a": 0.04, "b": 1e4, "c": 3e7, "d": 1e-3}
    steady = model.steady_state(theta)
    assert sum(steady.z) == pytest.approx(1.0, rel=1e-13)
    assert steady.stable is True
    np.testing.assert_allclose(steady.residual, 0, atol=1e-12)


def test_a_model_in_which_everything_dies_out_rests_at_zero() -> None:
    model = symode.Model.from_text("x' = -k*x; y' = x - 2*k*y; x(0) = 3; y(0) = 0")
    steady = model.steady_state([0.7])
    np.testing.assert_allclose(steady.z, 0, atol=1e-20)
    assert steady.stable is True and np.all(np.isfinite(steady.dz_dtheta))


def test_observables_pickles_and_losses_as_loss() -> None:
    x, y, k = sp.symbols("x y k")
    model = symode.Model(
        {x: 2 - k * x, y: x - y}, [k], initial={x: 0, y: 0}, observables={"h": x * y}
    )
    steady = model.steady_state([0.5])
    assert steady["h"] == pytest.approx(16.0, rel=1e-12)
    again = pickle.loads(pickle.dumps(model)).steady_state([0.5])
    np.testing.assert_array_equal(again.z, steady.z)
    # y* = 2/k.
    assert steady.gradient(symode.Loss(terminal=y)).theta["k"] == pytest.approx(-8.0, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "start", "says"),
    [
        ("x' = y; y' = 2*(1 - x^2)*y - x", [1.0, 0.0], r"oscillates: [xy] between -\d"),
        ("x' = 0.3*x; y' = -y", [1.0, 1.0], r"grows without bound"),
        ("x' = 0.5; y' = -y", [1.0, 1.0], r"does not come to rest.*x still changes at 0.5"),
        ("x' = x^2; y' = -y", [1.0, 1.0], r"grows without bound"),
        ("b' = -k*a*b; d' = -2*k*a*d; a' = -k*a*(b + 2*d)", [1.0, 1.0, 0.5], r"not isolated"),
    ],
)
def test_what_never_rests_says_what_it_does(text, start, says) -> None:
    model = symode.Model.from_text(text)
    with pytest.raises(SolverError, match=says):
        model.steady_state([1.0] * len(model.parameters), z0=start)


def test_what_has_no_steady_state_is_refused_in_the_users_symbols() -> None:
    x, k, t = sp.symbols("x k t")
    model = symode.Model({x: k - x}, [k])
    with pytest.raises(ModelError, match="x depends on time"):
        symode.Model({x: k - t * x}, [k], initial={x: 1}).steady_state([1])
    with pytest.raises(InitialStateError, match="z0="):
        model.steady_state([1])
    with pytest.raises(ParameterError, match="k"):
        model.steady_state(z0=[1])
    with pytest.raises(OptionError, match="'simulation'"):
        model.steady_state([1], z0=[1], method="simulation")
    with pytest.raises(OptionError, match="rtoll"):
        model.steady_state([1], z0=[1], rtoll=1)
    with pytest.raises(OptionError, match="tsit5 would need"):
        model.steady_state([1], z0=[1], solver="tsit5")
    with pytest.raises(UnsupportedCombinationError, match="events"):
        event = symode.Event(x > 2, {x: 0})
        symode.Model({x: k - x}, [k], events=[event]).steady_state([1], z0=[1])
    with pytest.raises(UnsupportedCombinationError, match="mass matrix"):
        symode.Model({x: k - x}, [k], mass=[[2]]).steady_state([1], z0=[1])
    with pytest.raises(SolverError, match="x = -2"):
        model.steady_state([-2], z0=[1], non_negative=True)
    with pytest.raises(LossError, match="time"):
        model.steady_state([1], z0=[1]).gradient(x * t)
    with pytest.raises(LossError, match="running"):
        model.steady_state([1], z0=[1]).gradient(symode.Loss(running=x))
    with pytest.raises(LossError, match="text"):
        model.steady_state([1], z0=[1]).gradient("x")
