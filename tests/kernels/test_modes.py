"""The real and complex systems of a collocation step, solved as one block would be."""

import numba
import numpy as np
import pytest
import sympy as sp
from kernels.test_lu import sparse

import symode
from symode.gradients.setup import make_task
from symode.kernels import block, complex_lu, modes
from symode.kernels import types as kt
from symode.kernels.jit import OPTIONS
from symode.solvers import native

rng = np.random.default_rng(5)


@numba.njit(**OPTIONS)
def factor_and_solve(method, system, scratch, h, s, x, row, transposed, checked):
    if not modes.factor_modes(method, system, h, s, scratch):
        return False
    return modes.solve_modes(method, system, scratch, x, row, transposed, checked)


def prepared(a: np.ndarray, solver: str, straight: bool):
    """Return method, system and scratch of z' = A z, A in place as Jacobian, and the code's owner.

    The entries of A are parameters, so that its pattern alone is known to the code.
    """
    n = a.shape[0]
    states = sp.symbols(f"x0:{n}")
    places = list(zip(*np.nonzero(a), strict=True))
    entries = sp.symbols(f"a0:{len(places)}")
    rhs = dict.fromkeys(states, sp.Integer(0))
    for (i, j), entry in zip(places, entries, strict=True):
        rhs[states[i]] += entry * states[j]
    model = symode.Model(rhs, parameters=entries)
    loss = symode.Loss(terminal=states[0])
    task = make_task(model.equations, loss, (0.0, 1.0), from_initial=False, solver=solver)
    compiled = task.compile(["rhs", "vjp", "jac"])
    system = task.bind(compiled, True)
    compiled.pack(np.array([a[i, j] for i, j in places]), system.p)
    if not straight:
        address = system.address.copy()
        address[[kt.LU_FACTOR, kt.COMPLEX_FACTOR]] = 0
        system = system._replace(address=address)
    method = native.native_method(task.options.tableau)
    scratch = native.make_scratch(method, system, n, compiled.work_size)
    jacobian = compiled.call("jac", 0.0, np.ones(n), system.p)
    scratch.jac[: jacobian.size] = jacobian
    return method, system, scratch, compiled


def solved(method, h, s, a, rhs, transposed):
    """Return the solutions of all modes by NumPy, stacked as kernels stack them."""
    n, found = a.shape[0], np.empty_like(rhs)
    matrix = a.T if transposed else a
    real = method.eigenvalues[0, 0]
    found[0] = np.linalg.solve(real / h * np.eye(n) + s * matrix, rhs[0])
    for k, (x, y) in enumerate(method.eigenvalues[1:]):
        pair = rhs[1 + 2 * k] + 1j * rhs[2 + 2 * k]
        z = np.linalg.solve((x + 1j * y) / h * np.eye(n) + s * matrix, pair)
        found[1 + 2 * k], found[2 + 2 * k] = z.real, z.imag
    return found


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("straight", [True, False], ids=["generated", "loops"])
@pytest.mark.parametrize(("n", "solver"), [(1, "radau5"), (3, "radau9"), (14, "radau13")])
def test_modes_solve_as_numpy_does(n, solver, straight, transposed):
    a = sparse(n) if n > 1 else np.array([[0.7]])
    method, system, scratch, _owner = prepared(a, solver, straight)
    assert (system.address[kt.COMPLEX_FACTOR] != 0) == straight
    for h, s in ((0.05, -1.0), (-0.05, -1.0), (0.1, 1.0)):
        for checked in (False, True):
            x = rng.normal(size=(method.n_stages + 2, n))
            expected = solved(method, h, s, a, x[1:-1], transposed)
            first, last = x[0].copy(), x[-1].copy()
            assert factor_and_solve(method, system, scratch, h, s, x, 1, transposed, checked)
            assert np.allclose(x[1:-1], expected, rtol=1e-10, atol=1e-13)
            assert np.array_equal(x[[0, -1]], [first, last])
            assert scratch.count[kt.PIVOTED] == scratch.count[kt.PIVOTED_MODES] == 0


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("straight", [True, False], ids=["generated", "loops"])
def test_what_needs_pivoting_is_pivoted(straight, transposed):
    # A step of 1e20 leaves next to nothing on the diagonal.
    a = np.array([[0.0, 2.0, 1.0], [1.0, 0.0, -3.0], [0.5, 1.0, 0.0]])
    method, system, scratch, _owner = prepared(a, "radau9", straight)
    x = rng.normal(size=(5, 3))
    expected = solved(method, 1e20, -1.0, a, x, transposed)
    assert factor_and_solve(method, system, scratch, 1e20, -1.0, x, 0, transposed, True)
    assert scratch.count[kt.PIVOTED] == 1
    assert scratch.count[kt.PIVOTED_MODES] == 0b11
    assert np.allclose(x, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("straight", [True, False], ids=["generated", "loops"])
def test_what_is_not_finite_is_refused(straight):
    method, system, scratch, _owner = prepared(sparse(3), "radau5", straight)
    for bad in (np.nan, np.inf):
        scratch.jac[0] = bad
        rhs = rng.normal(size=(3, 3))
        assert not factor_and_solve(method, system, scratch, 0.5, -1.0, rhs, 0, False, True)


@numba.njit(**OPTIONS)
def dense_factor(lu, pivots, n, top):
    return complex_lu.factor(lu, pivots, n, top)


@numba.njit(**OPTIONS)
def dense_solve(lu, pivots, n, top, b, x, transposed):
    complex_lu.solve(lu, pivots, n, top, b, x, transposed)


COMPLEX = {
    "random": rng.normal(size=(9, 9)) + 1j * rng.normal(size=(9, 9)),
    "zero diagonal": (rng.normal(size=(6, 6)) + 1j) * (1 - np.eye(6)),
    "tiny pivot": np.array([[1e-20 + 1e-20j, 1.0], [1.0, 1.0j]]),
    "small and large": np.diag(10.0 ** np.arange(-120, 121, 40)) * (1 + 2j) + 0j,
    "one": np.array([[-3.0 + 0.5j]]),
}


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("name", COMPLEX)
def test_complex_factors_solve_as_numpy_does(name, transposed):
    a = COMPLEX[name]
    n, top = a.shape[0], 3
    lu = rng.normal(size=(top + 2 * n + 1, n))
    lu[top : top + n], lu[top + n : top + 2 * n] = a.real, a.imag
    pivots = np.zeros(top + n, dtype=np.int64)
    edge = lu[[0, -1]].copy()
    assert dense_factor(lu, pivots, n, top)
    b = rng.normal(size=2 * n)
    x = np.empty(2 * n)
    dense_solve(lu, pivots, n, top, b, x, transposed)
    expected = np.linalg.solve(a.T if transposed else a, b[:n] + 1j * b[n:])
    assert np.allclose(x[:n] + 1j * x[n:], expected, rtol=1e-9, atol=0.0)
    assert np.array_equal(lu[[0, -1]], edge)


def test_singular_and_broken_complex_matrices_are_refused():
    for a in (np.zeros((2, 2)), np.ones((2, 2)), np.full((2, 2), np.nan)):
        lu = np.vstack([a, a])
        assert not dense_factor(lu, np.zeros(2, dtype=np.int64), 2, 0)


@numba.njit(**OPTIONS)
def solve_whole(method, system, scratch, h, row, transposed):
    if not block.factor_block(method, system, h, scratch):
        return False
    block.solve_block(method, system, scratch, row, transposed)
    return True


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("n", [3, 40])
def test_the_whole_block_is_solved_with_the_jacobian_of_each_stage(n, transposed):
    # 120 rows go through LAPACK.
    a = sparse(n, seed=n)
    method, system, scratch, _owner = prepared(a, "radau5", True)
    nnz, stages, h = system.pattern.rows.size, method.n_stages, 0.3
    whole = np.kron(method.inverse / h, np.eye(n))
    for i in range(stages):
        values = rng.normal(size=nnz)
        scratch.jac[(i + 1) * (nnz + n) :][:nnz] = values
        at = slice(i * n, (i + 1) * n)
        stage = np.zeros((n, n))
        stage[system.pattern.rows, system.pattern.cols] = values
        whole[at, at] -= stage
    rhs = rng.normal(size=(stages, n))
    scratch.k[2 : 2 + stages] = rhs
    assert solve_whole(method, system, scratch, h, 2, transposed)
    expected = np.linalg.solve(whole.T if transposed else whole, rhs.ravel())
    assert np.allclose(scratch.k[2 : 2 + stages].ravel(), expected, rtol=1e-8, atol=1e-11)
