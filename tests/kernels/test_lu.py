"""Linear systems of implicit steps: pivoted, on the pattern, straight-line, transposed, checked."""

import subprocess
import sys

import numba
import numpy as np
import pytest
import sympy as sp

import symode
from symode.gradients.setup import make_task
from symode.kernels import lapack, linear, lu
from symode.kernels import types as kt
from symode.kernels.jit import OPTIONS
from symode.solvers import native
from symode.symbolic import derive, elimination

rng = np.random.default_rng(0)


@numba.njit(**OPTIONS)
def factor(matrix, pivots):
    return lu.factor(matrix, pivots, matrix.shape[0])


@numba.njit(**OPTIONS)
def solve(matrix, pivots, x, row, column, transposed):
    if transposed:
        lu.solve_transposed(matrix, pivots, matrix.shape[0], x, row, column)
    else:
        lu.solve(matrix, pivots, matrix.shape[0], x, row, column)


MATRICES = {
    "random": rng.normal(size=(9, 9)),
    "zero diagonal": rng.normal(size=(6, 6)) * (1 - np.eye(6)),
    "permutation": np.eye(7)[rng.permutation(7)],
    # Without exchanging rows the first pivot would wipe out all digits.
    "tiny pivot": np.array([[1e-20, 1.0], [1.0, 1.0]]),
    # Wilkinson's example of growth: the last column doubles at each pivot.
    "growth": np.hstack([(np.eye(8) - np.tril(np.ones((8, 8)), -1))[:, :7], np.ones((8, 1))]),
    "scales": np.diag(10.0 ** np.arange(-6, 6)) @ rng.normal(size=(12, 12)),
    "one": np.array([[-3.0]]),
}


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("name", MATRICES)
def test_pivoted_factors_solve_as_numpy_does(name, transposed):
    a = MATRICES[name]
    n = a.shape[0]
    pivots = np.zeros(n, dtype=np.int64)
    factors = a.copy()
    assert factor(factors, pivots)
    # A row inside a larger array, from some column on; the rest of it stays.
    x = rng.normal(size=(3, n + 4))
    before, rhs = x.copy(), x[1, 2 : n + 2].copy()
    solve(factors, pivots, x, 1, 2, transposed)
    found = x[1, 2 : n + 2].copy()
    matrix = a.T if transposed else a
    residual = np.abs(matrix @ found - rhs)
    # Backward stable: the residual is rounding next to the terms that cancel in it.
    assert np.all(residual <= 1e-13 * (np.abs(matrix) @ np.abs(found) + np.abs(rhs)) + 1e-300)
    assert np.allclose(found, np.linalg.solve(matrix, rhs), rtol=1e-9)
    x[1, 2 : n + 2] = before[1, 2 : n + 2]
    assert np.array_equal(x, before)


@numba.njit(**OPTIONS)
def lapack_factor(address, matrix, pivots):
    return lapack.getrf(address, matrix.shape[0], matrix, pivots)


@numba.njit(**OPTIONS)
def lapack_solve(address, matrix, pivots, x, offset, transposed):
    lapack.getrs(address, matrix.shape[0], matrix, pivots, x, offset, transposed)


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("name", MATRICES)
def test_lapack_by_address_solves_as_numpy_does(name, transposed):
    getrf, getrs = lapack.lapack_addresses()
    a = MATRICES[name]
    n = a.shape[0]
    factors, pivots = a.copy(), np.zeros(n, dtype=np.int64)
    assert lapack_factor(getrf, factors, pivots) == 0
    x = rng.normal(size=(3, n + 4))
    before = x.copy()
    lapack_solve(getrs, factors, pivots, x, n + 4 + 2, transposed)
    expected = np.linalg.solve(a.T if transposed else a, before[1, 2 : n + 2])
    assert np.allclose(x[1, 2 : n + 2], expected, rtol=1e-9)
    x[1, 2 : n + 2] = before[1, 2 : n + 2]
    assert np.array_equal(x, before)
    assert lapack_factor(getrf, np.ones((2, 2)), pivots) != 0 or n == 1


def test_singular_and_broken_matrices_are_refused():
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    for matrix in (singular, np.zeros((3, 3)), np.full((2, 2), np.nan), np.diag([1.0, np.inf])):
        assert not factor(matrix.copy(), np.zeros(len(matrix), dtype=np.int64))


# -- on the pattern of a model --------------------------------------------------------------------


@numba.njit(**OPTIONS)
def factor_and_solve(system, scratch, d, s, x, row, column, transposed, checked):
    if not linear.factor(system, d, s, scratch):
        return False
    if checked:
        return linear.solve_checked(system, scratch, x, row, column, transposed)
    linear.solve(system, scratch, x, row, column, transposed)
    return True


def prepared(a: np.ndarray, straight: bool) -> tuple[kt.Field, kt.Scratch, object]:
    """Return the system of z' = A z, scratch holding A as its Jacobian, and the code's owner."""
    n = a.shape[0]
    states = sp.symbols(f"x0:{n}")
    entries = sp.symbols(f"a0:{n * n}")
    pattern = [(i, j) for i in range(n) for j in range(n) if a[i, j] != 0.0]
    symbols = [entries[i * n + j] for i, j in pattern]
    rhs = {
        state: sp.Add(*(entries[i * n + j] * states[j] for j in range(n) if (i, j) in pattern))
        for i, state in enumerate(states)
    }
    model = symode.Model(rhs, parameters=symbols)
    loss = symode.Loss(terminal=states[0])
    task = make_task(model.equations, loss, (0.0, 1.0), from_initial=False, solver="rodas5p")
    compiled = task.compile(["rhs", "vjp", "jac", "second"])
    system = task.bind(compiled, True)
    compiled.pack(np.array([a[i, j] for i, j in pattern]), system.p)
    if not straight:
        address = system.address.copy()
        address[kt.LU_FACTOR] = 0
        system = system._replace(address=address)
    method = native.native_method(task.options.tableau)
    scratch = native.make_scratch(method, system, n, compiled.work_size)
    jacobian = compiled.call("jac", 0.0, np.ones(n), system.p)
    scratch.jac[: jacobian.size] = jacobian
    return system, scratch, compiled  # the machine code lives as long as its owner


def sparse(n: int, seed: int = 1) -> np.ndarray:
    """Return an arrow with a random tail: hub, chain, and some entries anywhere."""
    r = np.random.default_rng(seed)
    a = r.normal(size=(n, n)) * (r.uniform(size=(n, n)) < 0.2)
    a[0], a[:, 0] = r.normal(size=n), r.normal(size=n)
    return a + np.diag(r.normal(size=n)) + np.diag(r.normal(size=n - 1), 1)


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("straight", [True, False], ids=["generated", "loops"])
@pytest.mark.parametrize("n", [1, 2, 5, 17])
def test_factors_on_the_pattern_solve_as_numpy_does(n, straight, transposed):
    a = sparse(n) if n > 1 else np.array([[0.7]])
    system, scratch, _owner = prepared(a, straight)
    for d, s in ((40.0, -1.0), (-40.0, -1.0), (25.0, 1.0)):
        w = d * np.eye(n) + s * a
        x = rng.normal(size=(2, n + 3))
        rhs = x[1, 3:].copy()
        for checked in (False, True):
            x[1, 3:] = rhs
            assert factor_and_solve(system, scratch, d, s, x, 1, 3, transposed, checked)
            assert scratch.count[kt.PIVOTED] == 0
            expected = np.linalg.solve(w.T if transposed else w, rhs)
            assert np.allclose(x[1, 3:], expected, rtol=1e-11, atol=1e-13)


def grid(k: int, seed: int = 2) -> np.ndarray:
    """Return random entries on the pattern of two species that diffuse on a k x k grid."""
    r = np.random.default_rng(seed)
    line = np.eye(k) + np.eye(k, k=1) + np.eye(k, k=-1)
    plane = np.kron(line, np.eye(k)) + np.kron(np.eye(k), line) > 0
    return r.normal(size=(2 * k * k, 2 * k * k)) * np.kron(plane, np.ones((2, 2)))


def cliques(sizes: list[int], seed: int = 4) -> np.ndarray:
    """Return full blocks, each sharing one index with the next."""
    r = np.random.default_rng(seed)
    n = sum(sizes) - len(sizes) + 1
    a, at = np.zeros((n, n)), 0
    for size in sizes:
        a[at : at + size, at : at + size] = r.normal(size=(size, size))
        at += size - 1
    return a


# Wide nodes: one clique of every width around the unrolling, wide ones below a wider one, a grid.
WIDE = {f"dense {n}": cliques([n]) for n in (3, 4, 5, 6, 7, 8, 9, 23)}
WIDE |= {"cliques": cliques([9, 4, 12, 5, 7]), "grid": grid(5), "hub": sparse(40, seed=7)}


@pytest.mark.parametrize("name", WIDE)
def test_loops_over_wide_nodes_solve_as_numpy_does(name, monkeypatch):
    monkeypatch.setattr(elimination, "STRAIGHT_LINE", 0)
    monkeypatch.setattr(derive, "STRAIGHT_LINE", 0)
    a = WIDE[name]
    n = a.shape[0]
    system, scratch, _owner = prepared(a, straight=True)
    assert system.address[kt.LU_FACTOR] == 0
    w = 30.0 * np.eye(n) - a
    for transposed in (False, True):
        x = rng.normal(size=(1, n))
        rhs = x[0].copy()
        assert factor_and_solve(system, scratch, 30.0, -1.0, x, 0, 0, transposed, False)
        expected = np.linalg.solve(w.T if transposed else w, rhs)
        assert np.allclose(x[0], expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", ["cliques", "grid", "hub"])
def test_an_order_by_nodes_has_the_same_fill_and_wider_nodes(name, monkeypatch):
    rows, cols = (part.tolist() for part in np.nonzero(WIDE[name]))
    n = WIDE[name].shape[0]
    monkeypatch.setattr(elimination, "STRAIGHT_LINE", 10**9)
    plain = elimination.eliminate(rows, cols, n)
    monkeypatch.setattr(elimination, "STRAIGHT_LINE", 0)
    nodes = elimination.eliminate(rows, cols, n)
    assert nodes.n_operations == plain.n_operations
    assert len(nodes.column) == len(plain.column)
    assert len(set(nodes.node)) <= len(set(plain.node))
    assert max(end - k for k, end in enumerate(nodes.node)) >= 6
    # The pivots of a node reach the same columns beyond it.
    for k, end in enumerate(nodes.node):
        beyond = [c for c in nodes.column[nodes.diagonal[k] : nodes.start[k + 1]] if c >= end]
        assert beyond == list(nodes.column[nodes.diagonal[end - 1] + 1 : nodes.start[end]])


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
def test_a_full_matrix_is_dense_and_pivoted_from_the_start(transposed):
    a = cliques([36], seed=11)
    system, scratch, _owner = prepared(a, straight=True)
    assert system.address[kt.DENSE] == 1
    # Next to no diagonal: without pivoting the digits would be lost.
    w = 1e-18 * np.eye(36) - a * (1 - np.eye(36))
    scratch.jac[: 36 * 36] = (a * (1 - np.eye(36))).ravel()
    x = rng.normal(size=(2, 40))
    rhs = x[1, 3:39].copy()
    assert factor_and_solve(system, scratch, 1e-18, -1.0, x, 1, 3, transposed, True)
    assert scratch.count[kt.NLU] == 1
    assert np.allclose(x[1, 3:39], np.linalg.solve(w.T if transposed else w, rhs), rtol=1e-9)
    for bad in (0.0, np.nan):
        scratch.jac[: 36 * 36] = bad
        x[1, 3:39] = rhs
        assert not factor_and_solve(system, scratch, 0.0, -1.0, x, 1, 3, transposed, True)


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
def test_lapack_takes_over_where_a_large_sparse_matrix_needs_pivoting(transposed):
    a = sparse(60, seed=3) * (1 - np.eye(60))
    system, scratch, _owner = prepared(a, straight=True)
    assert system.address[kt.GETRF] != 0 and system.address[kt.DENSE] == 0
    w = 1e-18 * np.eye(60) - a
    x = rng.normal(size=(1, 60))
    rhs = x[0].copy()
    assert factor_and_solve(system, scratch, 1e-18, -1.0, x, 0, 0, transposed, True)
    assert scratch.count[kt.PIVOTED] == 1
    assert np.allclose(x[0], np.linalg.solve(w.T if transposed else w, rhs), rtol=1e-8)
    # Without memory for it the step is refused, and tried again with a smaller size.
    scratch = scratch._replace(lu=np.zeros((1, 1)))
    x[0] = rhs
    assert not factor_and_solve(system, scratch, 1e-18, -1.0, x, 0, 0, transposed, True)


def test_an_explicit_solve_does_not_import_lapack():
    script = (
        "import sys, symode; m = symode.Model.from_text("
        "'; '.join(f\"x{i}' = -k*x{i}; x{i}(0) = 1\" for i in range(40)));"
        "m.gradient(symode.Loss(terminal=m.states[0]), (0, 1), theta=[1.0]);"
        "sys.exit('scipy.linalg' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("straight", [True, False], ids=["generated", "loops"])
def test_a_bad_pivot_is_noticed_and_pivoting_takes_over(straight, transposed):
    # Next to no diagonal: elimination in the pattern's order divides by 1e-18.
    a = sparse(8, seed=3) * (1 - np.eye(8))
    system, scratch, _owner = prepared(a, straight)
    w = 1e-18 * np.eye(8) - a
    x = rng.normal(size=(1, 8))
    rhs = x[0].copy()
    before = scratch.count[kt.NLU]
    assert factor_and_solve(system, scratch, 1e-18, -1.0, x, 0, 0, transposed, True)
    assert scratch.count[kt.PIVOTED] == 1
    assert scratch.count[kt.NLU] == before + 2
    assert np.allclose(x[0], np.linalg.solve(w.T if transposed else w, rhs), rtol=1e-9)


@pytest.mark.parametrize("straight", [True, False], ids=["generated", "loops"])
def test_a_singular_matrix_of_a_step_is_refused(straight):
    a = np.array([[1.0, 2.0], [0.5, 1.0]])
    system, scratch, _owner = prepared(a, straight)
    # 2 I - A is singular.
    assert not factor_and_solve(
        system, scratch, 2.0, -1.0, np.array([[1.0, 3.0]]), 0, 0, False, True
    )


def test_a_step_through_a_bad_pivot_still_gives_the_gradient():
    # A strong rotation with a step of any size: J has no diagonal, W = I/(h gamma) - J has little.
    x, y, k = sp.symbols("x y k")
    model = symode.Model({x: k * y, y: -k * x}, parameters=[k])
    loss = symode.Loss(terminal=x)
    found = model.gradient(
        loss, (0, 1), theta=[1e3], z0=[1.0, 0.0], solver="rodas5p", rtol=1e-9, atol=1e-11
    )
    assert found.value == pytest.approx(np.cos(1e3), abs=1e-4)
    assert found.theta["k"] == pytest.approx(-np.sin(1e3), abs=1e-3)
