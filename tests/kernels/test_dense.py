"""Interpolants and the search for a step, in both directions of time."""

import numba
import numpy as np
import pytest

from symode.codegen.compiled import CompiledModel
from symode.kernels import dense
from symode.kernels import types as kt
from symode.kernels.jit import OPTIONS
from symode.solvers.methods import METHODS, get_method
from symode.solvers.native import make_field, make_scratch, make_store, native_method

every_solver = pytest.mark.parametrize("solver", METHODS)


@numba.njit(**OPTIONS)
def find(t, times, n_steps, cursor):
    return dense.find_step(t, times, n_steps, cursor)


@numba.njit(**OPTIONS)
def weights_of(method, s, h, value_out):
    dense.interpolant_weights(method, s, h, value_out)


@numba.njit(**OPTIONS)
def along(t, system, scratch):
    step, s = dense.trajectory_at(t, system, scratch)
    dense.trajectory_slope(step, s, system, scratch)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["forwards", "backwards"])
def test_find_step_finds_the_step_from_any_cursor(sign):
    rng = np.random.default_rng(2)
    times = np.concatenate([[-3.0], -3.0 + np.cumsum(rng.uniform(0.01, 2.0, 40))])
    # More room than steps: what lies behind the last step is rubbish.
    stored = sign * np.concatenate([times, [np.nan, 0.0]])
    n_steps = times.size - 1
    for t in rng.uniform(times[0], times[-1], 200):
        expected = int(np.searchsorted(times, t)) - 1
        for cursor in (-5, 0, 7, n_steps - 1, n_steps + 30):
            assert find(sign * t, stored, n_steps, cursor) == expected


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["forwards", "backwards"])
def test_find_step_at_borders_and_outside(sign):
    times = sign * np.array([0.0, 1.0, 2.0, 4.0])
    # A border belongs to either neighbour, whichever the search meets first.
    assert find(sign * 1.0, times, 3, 0) == 0
    assert find(sign * 1.0, times, 3, 2) == 1
    assert find(sign * 0.0, times, 3, 2) == 0
    assert find(sign * 4.0, times, 3, 0) == 2
    assert find(-sign * 1.0, times, 3, 1) == 0
    assert find(sign * 9.0, times, 3, 1) == 2
    assert find(sign * 0.5, times[:2], 1, 0) == 0


@every_solver
def test_interpolants_start_at_the_old_state_and_end_at_the_new(solver):
    method = native_method(get_method(solver))
    for h in (0.3, -2.0):
        value = np.zeros(32)
        weights_of(method, 0.0, h, value)
        assert not value.any()
        weights_of(method, 1.0, h, value)
        if solver.startswith("radau"):
            # Its stages are increments, the last of them the whole step.
            expected = np.eye(method.n_dense)[-1]
        elif solver == "rock4":
            # The second of its rows is the mean slope.
            expected = h * np.array([0.0, 1.0, 0.0])
        else:
            expected = (1.0 if solver == "rodas5p" else h) * method.b
        # Sums of seven terms of up to 1e3, which cancel.
        assert np.allclose(value[: method.n_dense], expected, atol=1e-11)


@every_solver
def test_steps_as_polynomials_are_the_interpolant_with_its_derivative(solver):
    rng, n, method = np.random.default_rng(4), 11, native_method(get_method(solver))
    system = make_field(CompiledModel({}, 0), n, np.zeros(0))
    store = make_store(method, n, 3)
    store.t[:], store.h[:] = (2.0, 1.5, 1.4, 1.1), (-0.5, -0.1, -0.3)
    store.z[:], store.k[:] = rng.normal(size=store.z.shape), rng.normal(size=store.k.shape)
    stages = store.k.copy()
    rows = np.zeros((method.dense.shape[1], n))
    dense.as_polynomials(method, store, 3, np.zeros(32), rows)
    adjoint = kt.ADJOINT_OF[type(method)](*system, method, store, 3)
    scratch = make_scratch(method, system, n, 0)
    scratch.clock[kt.Z_AT] = np.nan
    weights = np.zeros(32)
    for i, s in ((0, 0.3), (2, 0.8), (1, 0.5), (1, 0.5)):
        t, h, e = store.t[i] + s * store.h[i], store.h[i], 1e-6
        weights_of(method, s, h, weights)
        value = store.z[i] + weights[: method.n_dense] @ stages[i]
        along(t, adjoint, scratch)
        # Sums of up to sixteen terms of up to 1e3.
        assert np.allclose(scratch.z, value, rtol=0, atol=1e-11)
        slope = scratch.zdot.copy()
        along(t + e, adjoint, scratch)
        later = scratch.z.copy()
        along(t - e, adjoint, scratch)
        assert np.allclose(slope, (later - scratch.z) / (2 * e), rtol=1e-5, atol=1e-4)
