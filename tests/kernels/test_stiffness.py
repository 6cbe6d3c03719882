"""What the tests of stiffness measure: |h| ρ(J), from two slopes and from the Jacobian."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symode.kernels import stiffness
from symode.kernels import types as kt
from symode.kernels.jit import OPTIONS
from symode.solvers import native
from symode.solvers.methods import METHODS, get_method
from symode.solvers.options import make_options
from symode.solvers.segments import can_watch

#: Those that need no call of f: its address is none here.
WATCHING = [
    m
    for m in METHODS
    if not get_method(m).implicit
    and can_watch(get_method(m))
    and get_method(m).c[get_method(m).n_stages - 2] == 1.0
]


@numba.njit(**OPTIONS)
def watch(method, system, control, h, scratch):
    return stiffness.watch(method, system, control, h, scratch)


@numba.njit(**OPTIONS)
def bound_of(system, control, enough, scratch):
    return stiffness.spectral_bound(system, control, enough, scratch)


def prepared(solver: str, n: int, limit: float, pattern=None):
    names = [f"x{i}" for i in range(n)]
    options = make_options(names, solver=solver, rtol=1e-6, atol=1e-9)
    method = native.native_method(options.tableau)
    control = native.make_control(options, options.atol, np.zeros(n), limit=limit, n_tested=n)
    address = np.zeros(kt.OBSERVE + 1, dtype=np.int64)
    system = kt.Field(n, 0, address, np.zeros(0), pattern or native.native_pattern(None))
    return method, system, control, native.make_scratch(method, system, n, 1)


def take_step(solver: str, matrix, h: float, limit: float):
    """Put a step of z' = A z into scratch; return what `watch` needs."""
    method, system, control, scratch = prepared(solver, len(matrix), limit)
    scratch.y[:] = np.linspace(1.0, 2.0, len(matrix))
    for s in range(method.n_stages):
        scratch.k[s] = matrix @ (scratch.y + h * method.a[s, :s] @ scratch.k[:s])
    scratch.new[:] = scratch.y + h * method.b[: method.n_stages] @ scratch.k[: method.n_stages]
    scratch.count[kt.PATIENCE] = 2
    scratch.count[kt.EVIDENCE] = 1
    return method, system, control, h, scratch


@pytest.mark.parametrize("solver", WATCHING)
@pytest.mark.parametrize("h", [0.02, -0.02])
def test_two_slopes_show_the_fastest_rate(solver, h):
    # z' = λ z has one rate, and the difference of any two stages shows it to rounding.
    rate = -150.0 * np.sign(h)
    arguments = take_step(solver, np.array([[rate]]), h, limit=2.9)
    assert watch(*arguments)
    assert arguments[-1].clock[kt.RHO] == pytest.approx(3.0, rel=1e-9)


@pytest.mark.parametrize("solver", WATCHING)
def test_the_fast_direction_shows_among_slow_ones(solver):
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(3, 3))
    matrix = basis @ np.diag([-200.0, -1.0, 0.3]) @ np.linalg.inv(basis)
    arguments = take_step(solver, matrix, 0.02, limit=1.0)
    assert watch(*arguments)
    # The slow parts of the difference are smaller by (1/200)^3 or more: stages agree to order 3.
    assert arguments[-1].clock[kt.RHO] == pytest.approx(4.0, rel=1e-3)


def test_evidence_is_cleared_by_six_steps_against_it():
    arguments = take_step("tsit5", np.array([[-1.0]]), 0.02, limit=3.0)
    count = arguments[-1].count
    for left in (1, 1, 1, 1, 1, 0):
        assert not watch(*arguments)
        assert count[kt.EVIDENCE] == left


def test_no_patience_means_no_look():
    arguments = take_step("tsit5", np.array([[-200.0]]), 0.02, limit=1.0)
    arguments[-1].count[kt.PATIENCE] = 0
    assert not watch(*arguments)
    assert arguments[-1].clock[kt.RHO] == 0.0


def test_an_unsuspicious_method_looks_at_every_eighth_step():
    arguments = take_step("tsit5", np.array([[-200.0]]), 0.02, limit=1.0)
    count = arguments[-1].count
    count[kt.EVIDENCE] = 0
    for _ in range(7):
        assert not watch(*arguments)
        assert count[kt.EVIDENCE] == 0
    watch(*arguments)
    assert count[kt.EVIDENCE] == 1


def test_quadratures_are_not_asked():
    # q' = 1e6 z has no rate of its own, but a large slope against z.
    matrix = np.array([[-1.0, 0.0], [1e6, 0.0]])
    method, system, control, h, scratch = take_step("tsit5", matrix, 0.02, limit=1.0)
    assert not watch(method, system, control._replace(n_tested=1), h, scratch)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 6), units=st.floats(0, 6))
def test_the_bound_is_never_below_the_spectral_radius(seed, n, units):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.6)
    rho = float(np.abs(np.linalg.eigvals(matrix)).max())
    # Rounding moves an eigenvalue of multiplicity n by its n-th root.
    rounding = 2 * 1e-15 ** (1 / n) * np.linalg.norm(matrix)
    scale = 10.0 ** (units * rng.uniform(-1, 1, n))
    matrix = scale[:, None] * matrix / scale
    rows, cols = np.nonzero(np.ones((n, n)))
    empty = native.native_pattern(None)
    pattern = empty._replace(rows=rows.astype(np.int64), cols=cols.astype(np.int64))
    _, system, control, scratch = prepared("rodas5p", n, 1.0, pattern)
    scratch.jac[: n * n] = matrix.ravel()
    found = bound_of(system, control, 0.0, scratch)
    assert found >= rho * (1 - 1e-12) - rounding
    # Any bound below what is enough may be returned early, and none that is larger.
    assert bound_of(system, control, 2.0 * found + 1e-300, scratch) <= 2.0 * found + 1e-300


def test_the_bound_does_not_depend_on_units_where_a_norm_does():
    # van der Pol in its fast phase: velocities of 1000 beside positions of 2.
    matrix = np.array([[0.0, 1.0], [-4e6, -3e3]])
    pattern = native.native_pattern(None)._replace(
        rows=np.array([0, 1, 1]), cols=np.array([1, 0, 1])
    )
    _, system, control, scratch = prepared("rodas5p", 2, 1.0, pattern)
    scratch.jac[:3] = matrix[[0, 1, 1], [1, 0, 1]]
    rho = np.abs(np.linalg.eigvals(matrix)).max()
    of_sizes = np.abs(np.linalg.eigvals(np.abs(matrix))).max()
    assert np.linalg.norm(matrix, 1) > 1000 * rho
    assert bound_of(system, control, 0.0, scratch) <= 1.1 * of_sizes
    assert of_sizes < 3 * rho
