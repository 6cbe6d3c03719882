"""The controller: what it accepts, how it grows, where it starts."""

import math

import numba
import numpy as np
import pytest

from symode.kernels import control as ct
from symode.kernels import types as kt
from symode.kernels.jit import OPTIONS
from symode.solvers import native
from symode.solvers.methods import get_method
from symode.solvers.options import make_options


@numba.njit(**OPTIONS)
def norm_of(method, control, h, scratch):
    return ct.error_norm(method, control, h, scratch)


@numba.njit(**OPTIONS)
def factor_of(method, error, log_previous):
    return ct.step_factor(method, error, log_previous)


def prepared(solver: str, n: int, rtol: float = 1e-6, atol: float = 1e-9):
    names = [f"x{i}" for i in range(n)]
    options = make_options(names, solver=solver, rtol=rtol, atol=atol)
    method = native.native_method(options.tableau)
    control = native.make_control(options, options.atol, np.zeros(n))
    address = np.zeros(kt.OBSERVE + 1, dtype=np.int64)
    system = kt.Field(n, 0, address, np.zeros(0), native.native_pattern(None))
    return method, control, native.make_scratch(method, system, n, 1)


@pytest.mark.parametrize("solver", ["bosh3", "tsit5", "vern7", "rodas5p"])
def test_error_norm_is_the_weighted_root_mean_square(solver):
    method, control, scratch = prepared(solver, 3)
    rng = np.random.default_rng(0)
    scratch.y[:], scratch.new[:] = rng.normal(size=(2, 3))
    scratch.k[:] = 1e-6 * rng.normal(size=scratch.k.shape)
    h = -0.3
    error = method.e[0] @ scratch.k[: method.e.shape[1]]
    if solver != "rodas5p":
        error *= h
    scale = 1e-9 + 1e-6 * np.maximum(np.abs(scratch.y), np.abs(scratch.new))
    expected = math.sqrt(np.mean((error / scale) ** 2))
    assert norm_of(method, control, h, scratch) == pytest.approx(expected, rel=1e-12)


def test_error_norm_of_dop853_combines_two_estimates():
    method, control, scratch = prepared("dop853", 2)
    rng = np.random.default_rng(0)
    scratch.y[:], scratch.new[:] = rng.normal(size=(2, 2))
    scratch.k[:] = 1e-6 * rng.normal(size=scratch.k.shape)
    scale = 1e-9 + 1e-6 * np.maximum(np.abs(scratch.y), np.abs(scratch.new))
    e5, e3 = (np.sum((row @ scratch.k[:-1] / scale) ** 2) for row in method.e)
    expected = 0.2 * e5 / math.sqrt((e5 + 0.01 * e3) * 2)
    assert norm_of(method, control, 0.2, scratch) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["new", "k"])
def test_no_step_with_a_value_that_is_not_finite_is_accepted(bad, place):
    method, control, scratch = prepared("tsit5", 3)
    scratch.y[:] = scratch.new[:] = 1.0
    assert norm_of(method, control, 0.1, scratch) == 0.0
    (scratch.new if place == "new" else scratch.k[3])[1] = bad
    error = norm_of(method, control, 0.1, scratch)
    assert not error <= 1.0


def test_components_with_an_infinite_tolerance_do_not_count():
    method, control, scratch = prepared("tsit5", 2)
    scratch.y[:] = scratch.new[:] = 1.0
    scratch.k[3, 1] = 1e3
    assert norm_of(method, control, 0.1, scratch) > 1.0
    control.atol[1] = math.inf
    assert norm_of(method, control, 0.1, scratch) == 0.0


def test_a_state_at_zero_with_no_absolute_tolerance_takes_no_error():
    method, control, scratch = prepared("tsit5", 1, atol=0.0)
    assert norm_of(method, control, 0.1, scratch) == 0.0
    scratch.k[2] = 1e-300
    assert norm_of(method, control, 0.1, scratch) == math.inf


@pytest.mark.parametrize("solver", ["bosh3", "tsit5", "dop853", "rodas5p"])
def test_step_factors_are_bounded_and_fall_with_the_error(solver):
    method = native.native_method(get_method(solver))
    errors = np.logspace(-12, 6, 60)
    factors = np.array([factor_of(method, error, math.log(1e-2)) for error in errors])
    assert factors.min() >= 0.2
    assert factors.max() <= 10.0
    assert (np.diff(factors) <= 0).all()
    assert factor_of(method, 0.0, math.log(1e-2)) == 10.0
    # At the tolerance the step shrinks a little: the next error should stay below.
    assert 0.5 < factor_of(method, 1.0, math.log(1e-2)) < 1.0
