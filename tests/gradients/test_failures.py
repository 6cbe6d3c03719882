"""A failed pass never returns a gradient, and says where and why."""

import warnings

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import DriftError, GradientError, SolverError, SymodeError
from symode.gradients.methods import METHODS

X, Y, K = sp.symbols("x y k")
END = symode.Loss(terminal=X)

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
every_kind = pytest.mark.parametrize("solver", ["tsit5", "dop853", "rodas5p", "radau9"])


@every_kind
@every_method
def test_blow_up_in_finite_time(method, solver):
    # z' = z**2 from 1 is 1/(1 - t): it ends at t = 1.
    grows = symode.Model({X: K * X**2}, parameters=[K])
    with pytest.raises(SolverError, match="blow-up") as caught:
        grows.gradient(END, (0, 2), theta=[1.0], z0=[1.0], method=method, solver=solver)
    assert caught.value.t == pytest.approx(1.0, abs=1e-3)
    assert caught.value.z[0] > 1e6
    assert caught.value.h < 1e-3
    assert "x = " in str(caught.value)


@every_kind
@every_method
def test_too_many_steps(method, solver):
    spins = symode.Model({X: Y, Y: -K * X}, parameters=[K])
    with pytest.raises(SolverError, match="max_steps=20") as caught:
        spins.gradient(
            END, (0, 100), theta=[1.0], z0=[1.0, 0.0], method=method, solver=solver, max_steps=20
        )
    assert 0.0 < caught.value.t < 100.0


@every_kind
@every_method
def test_a_logarithm_that_meets_negative_values(method, solver):
    # x falls to 0, where log(x) ends.
    falls = symode.Model({X: -K + sp.log(X) / 10}, parameters=[K])
    with pytest.raises(SolverError, match=r"not finite|step size fell") as caught:
        falls.gradient(END, (0, 5), theta=[1.0], z0=[1.0], method=method, solver=solver)
    assert 0.0 < caught.value.t < 5.0


@every_kind
@every_method
def test_a_right_hand_side_not_finite_at_the_start(method, solver):
    model = symode.Model({X: K / X}, parameters=[K])
    with pytest.raises(SolverError, match="not finite") as caught:
        model.gradient(END, (0, 1), theta=[1.0], z0=[0.0], method=method, solver=solver)
    assert caught.value.t == 0.0
    assert "division by zero" in str(caught.value)


@pytest.mark.parametrize("solver", ["tsit5", "dop853", "bosh3"])
@every_method
def test_a_stiff_problem_names_the_stiff_solver(method, solver):
    stiff = symode.Model({X: -K * (X - sp.cos(Y)), Y: 1}, parameters=[K])
    with pytest.raises(SolverError, match=r"stiff.*solver='rodas5p'"):
        stiff.gradient(
            END, (0, 10), theta=[1e6], z0=[1.0, 0.0], method=method, solver=solver, max_steps=5000
        )


@every_method
def test_a_loss_that_is_not_defined_on_the_trajectory(method):
    falls = symode.Model({X: -K}, parameters=[K])
    for loss in (
        symode.Loss(terminal=sp.log(X)),
        symode.Loss(observations={0.5: X, 2.0: sp.sqrt(X)}),
        symode.Loss(observations={0.0: sp.log(X - 5)}),
    ):
        with pytest.raises(SymodeError, match=r"not defined|not finite"):
            falls.gradient(loss, (0, 3), theta=[1.0], z0=[1.0], method=method)


@every_method
def test_a_running_cost_that_is_not_defined(method):
    falls = symode.Model({X: -K}, parameters=[K])
    with pytest.raises(SymodeError):
        falls.gradient(symode.Loss(running=sp.log(X)), (0, 3), theta=[1.0], z0=[1.0], method=method)


@every_method
def test_a_loss_with_an_infinite_slope(method):
    still = symode.Model({X: -K * X}, parameters=[K])
    with pytest.raises(GradientError, match="not finite"):
        still.gradient(
            symode.Loss(terminal=sp.sqrt(X)), (0, 1), theta=[1.0], z0=[0.0], method=method
        )


def test_drift_is_raised_or_warned_of():
    # Decay is forgotten forwards and blown up backwards: exp(40) times each rounding error.
    decays = symode.Model({X: -K * (X - 1)}, parameters=[K])
    ask = {"theta": [8.0], "z0": [3.0], "solver": "tsit5"}
    with pytest.raises(DriftError, match="times the tolerance") as caught:
        decays.gradient(END, (0, 5), method=symode.BacksolveAdjoint(), **ask)
    assert "DiscreteAdjoint" in str(caught.value)
    looking = symode.BacksolveAdjoint(on_drift="warn")
    with pytest.warns(RuntimeWarning, match="cannot be trusted"):
        gradient = decays.gradient(END, (0, 5), method=looking, **ask)
    assert gradient.stats["drift"] > 100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calm = decays.gradient(END, (0, 0.5), method=looking, **ask)
    assert calm.stats["drift"] <= 100


def test_no_warning_escapes_from_numpy(recwarn):
    for method in METHODS:
        gradient = symode.Model({X: -K * X}, parameters=[K]).gradient(
            symode.Loss(terminal=X**2, running=X, observations={0.5: X}), (0, 1), theta=[1.0],
            z0=[0.0], method=method,
        )  # fmt: skip
        assert np.isfinite(gradient.theta).all()
    assert not recwarn.list


def test_auto_where_it_stays_explicit_does_not_advise_itself():
    # Fuel that has burnt to 1e-20 tells no state of its rate of 1e6: only tangents feel it.
    heat, a, b, c = sp.symbols("T a b c")
    burning = X * sp.exp(20 * (1 - 1 / heat))
    model = symode.Model(
        {X: -a * burning, heat: b * burning - c * (heat - 1)}, parameters=[a, b, c]
    )
    with pytest.raises(SolverError, match=r"stiff here.* Use solver='rodas5p'\.$"):
        model.gradient(
            symode.Loss(terminal=heat), (0, 10), theta=[0.5, 2.0, 0.1], z0=[1.0, 1.0],
            method=symode.ForwardSensitivity(), rtol=1e-9, atol=1e-12, max_steps=2000,
        )  # fmt: skip
