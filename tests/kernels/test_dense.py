"""Interpolants and the search for a step, in both directions of time."""

import numba
import numpy as np
import pytest

from symode.kernels import dense
from symode.kernels.jit import OPTIONS
from symode.solvers.methods import METHODS, get_method
from symode.solvers.native import native_method

every_solver = pytest.mark.parametrize("solver", METHODS)


@numba.njit(**OPTIONS)
def find(t, times, n_steps, cursor):
    return dense.find_step(t, times, n_steps, cursor)


@numba.njit(**OPTIONS)
def weights_of(method, s, h, value_out, slope_out):
    dense.interpolant_weights(method, s, h, value_out)
    dense.derivative_weights(method, s, h, slope_out)


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
        value, slope = np.zeros((2, 32))
        weights_of(method, 0.0, h, value, slope)
        assert not value.any()
        weights_of(method, 1.0, h, value, slope)
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
def test_derivative_weights_are_the_derivative_of_the_weights(solver):
    method = native_method(get_method(solver))
    h, e = -0.7, 1e-6
    for s in (0.1, 0.5, 0.93):
        value, slope, up, down, unused = np.zeros((5, 32))
        weights_of(method, s, h, value, slope)
        weights_of(method, s + e, h, up, unused)
        weights_of(method, s - e, h, down, unused)
        assert np.allclose(slope, (up - down) / (2 * e * h), rtol=1e-6, atol=1e-7)
