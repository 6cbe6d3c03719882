"""Mass matrices and algebraic equations: solutions, consistent starts, and what is refused."""

import re

import dae_cases
import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import InitialStateError, ModelError, OptionError
from symode.kernels import types as kt
from symode.solvers.mass import MassMatrix
from symode.symbolic.elimination import match_rows
from symode.symbolic.lift import lift_field

t, x, y, z, w, k = sp.symbols("t x y z w k")


def exact_course(case, times, t0, start):
    values = dict(zip(case.model.parameters, case.theta, strict=True))
    values |= {case.t0: t0, **dict(zip(case.given, start, strict=True))}
    return np.array([[float(e.subs(values | {t: s})) for e in case.solution] for s in times])


@pytest.mark.parametrize("span", [(0.3, 2.0), (2.0, 0.3)], ids=["forwards", "backwards"])
@pytest.mark.parametrize("name", dae_cases.CASES)
def test_the_solution_is_that_in_closed_form(name, span):
    case = dae_cases.CASES[name]()
    times = np.linspace(*span, 7)
    found = case.model.solve(span, theta=case.theta, z0=case.z0, times=times, rtol=1e-9, atol=1e-11)
    expected = exact_course(case, times, span[0], case.z0)
    # 100 rtol, next to the growth of exp(a b t) over the span backwards.
    assert np.abs(found.z - expected).max() <= 100 * 1e-9 * np.abs(expected).max()
    # The first row is the consistent start, not what was passed.
    assert np.abs(found.z[0] - case.z0).max() > 0.1


def test_the_error_falls_with_the_tolerance():
    # 0 = y**3 - x: nonlinear, and y' is not y's right-hand side.
    model = symode.Model({x: -(y**3) * x}, algebraic={y: y**3 - x}, initial={x: 2, y: 1})
    for rtol in (1e-4, 1e-6, 1e-8, 1e-10):
        end = model.solve((0, 3), rtol=rtol, atol=rtol * 1e-2, times=[1.0, 3.0]).z
        course = 2 / (1 + 2 * np.array([1.0, 3.0]))
        error = np.abs(end - np.stack([course, np.cbrt(course)], axis=1)).max()
        assert error <= 100 * rtol


def test_robertsons_conservation_law_holds_and_the_rest_is_the_ode():
    dae, ode, theta = dae_cases.robertson()
    times = [0.4, 40.0, 4e3, 4e5]
    options = {"times": times, "rtol": 1e-8, "atol": 1e-13}
    found = dae.solve((0, 4e5), theta, **options)
    # An algebraic equation that is linear holds at every step; the interpolant keeps it too.
    assert np.abs(found.z.sum(axis=1) - 1.0).max() <= 1e-12
    reference = ode.solve((0, 4e5), theta, solver="rodas5p", **{**options, "rtol": 1e-11})
    assert np.allclose(found.z, reference.z, rtol=1e-6)


@pytest.mark.parametrize("name, t1", [("akzo_nobel", 180.0), ("amplifier", 0.2)])
def test_published_end_values(name, t1):
    model, theta, end = getattr(dae_cases, name)()
    found = model.solve((0, t1), theta, times=[t1], rtol=1e-8, atol=1e-11).z[0]
    # 100 rtol; the amplifier's exponentials amplify errors some ten times.
    assert np.abs(found / end - 1.0).max() <= 1e-6


@pytest.mark.parametrize("singular", [False, True], ids=["regular", "singular"])
def test_a_mass_matrix_is_a_linear_map_of_the_derivatives(singular):
    r = np.random.default_rng(5)
    m, left = r.normal(size=(3, 3)).round(2), r.normal(size=(3, 3)).round(2)
    states = (x, y, z)
    f = sp.Matrix([-x + y * z / 5 + sp.sin(t), x - 2 * y, -z + x * t])
    if not singular:
        model = symode.Model(f, states=states, mass=m, time=t)
        plain = symode.Model(sp.Matrix(np.linalg.inv(m)) * f, states=states, time=t)
        options = {"rtol": 1e-9, "atol": 1e-11, "times": [0.5, 1.0]}
        found = model.solve((0, 1), z0=[1.0, 0.5, -0.2], **options)
        assert np.allclose(
            found.z, plain.solve((0, 1), z0=[1.0, 0.5, -0.2], **options).z, rtol=1e-7
        )
        return
    # A mixture of the equations of x' = ..., y' = ..., 0 = ... has the same solutions.
    g = sp.Matrix([-x + y * z / 5 + sp.sin(t), x - 2 * y, x + y - z**3 - z])
    model = symode.Model(sp.Matrix(left) * g, states=states, mass=left @ np.diag([1, 1, 0]), time=t)
    plain = symode.Model({x: g[0], y: g[1]}, algebraic={z: g[2]}, time=t)
    options = {"rtol": 1e-9, "atol": 1e-11, "times": [0.0, 0.5, 1.0]}
    found, expected = (mod.solve((0, 1), z0=[1.0, 0.5, 0.3], **options).z for mod in (model, plain))
    assert np.allclose(found, expected, rtol=1e-7)


def test_rows_are_exchanged_where_the_diagonal_is_zero():
    # The equation listed for y holds w, and the other way round; nothing on the diagonal.
    model = symode.Model({x: -y * w}, algebraic={y: w - x, w: y - x**2 - w * k}, initial=[1, 0, 0])
    options = {"rtol": 1e-9, "atol": 1e-11}
    found = model.solve((0, 1), [0.5], times=[1.0], **options)
    plain = symode.Model({x: -(x**2 + x * k) * x}, initial=[1])
    reference = plain.solve((0, 1), [0.5], times=[1.0], **options)
    assert found["x"] == pytest.approx(reference["x"], rel=1e-8)
    elimination = lift_field(model.equations).elimination
    assert elimination.order != elimination.row_order
    # One factorization a try: no pivoted fallback.
    assert found.stats.nlu == found.stats.steps + found.stats.rejected


def test_matching_finds_a_full_diagonal_or_says_where_there_is_none():
    r = np.random.default_rng(1)
    for _ in range(20):
        n = 12
        hidden = r.permutation(n)
        a = r.uniform(size=(n, n)) < 0.1
        a[hidden, np.arange(n)] = True
        rows, cols = np.nonzero(a)
        partner = match_rows(rows.tolist(), cols.tolist(), n)
        assert sorted(partner) == list(range(n))
        assert all(a[i, j] for j, i in enumerate(partner))
    assert -1 in match_rows([0, 1, 2], [0, 0, 2], 3)


def test_consistent_values_are_found_from_afar():
    model = symode.Model({x: -x}, algebraic={y: sp.exp(y) - x, z: z**3 + z - y}, initial=[3, 40, 9])
    start = model.solve((0, 1), times=[0.0]).z[0]
    assert start[0] == 3.0
    assert start[1] == pytest.approx(np.log(3.0), rel=1e-14)
    assert start[2] ** 3 + start[2] == pytest.approx(start[1], rel=1e-14)


def test_a_check_refuses_what_is_not_consistent_and_passes_what_is():
    model = symode.Model({x: -x * y}, algebraic={y: y**2 - x})
    assert model.solve((0, 1), z0=[4, 2], consistent="check").z[0].tolist() == [4.0, 2.0]
    with pytest.raises(InitialStateError, match=r'y = 1\.9 \(found 2\).*consistent="find"'):
        model.solve((0, 1), z0=[4, 1.9], consistent="check")
    with pytest.raises(OptionError, match='"find" or "check"; got \'maybe\''):
        model.solve((0, 1), z0=[4, 2], consistent="maybe")


def test_a_start_that_does_not_exist_is_refused_with_its_residual():
    model = symode.Model({x: -x}, algebraic={y: y**2 + x})
    with pytest.raises(InitialStateError) as error:
        model.solve((0, 1), z0=[4, 1])
    # y**2 + 4 is smallest, 4, at y = 0; the least that was met is told.
    told = re.search(r"residuals of ([\d.]+) in that of y", str(error.value))
    assert 4.0 <= float(told[1]) < 5.0
    assert "better guesses for y" in str(error.value)


INDEX_2 = symode.Model({x: y}, algebraic={y: x - sp.sin(t)}, time=t, initial=[0, 1])
VANISHING = symode.Model({x: 1}, algebraic={y: x * y - 1}, initial=[0, 1])


def test_higher_index_is_refused_before_the_first_step():
    with pytest.raises(ModelError, match=r"of y\) do not determine y at t = 0.*index 1"):
        INDEX_2.solve((0, 1))
    with pytest.raises(ModelError, match="do not determine y at t = 0"):
        VANISHING.solve((0, 1))


def test_a_pencil_that_is_singular_by_its_pattern_is_refused():
    model = symode.Model({x: -x}, algebraic={y: x**2 - k, z: y + x}, initial=[1, 1, 1])
    with pytest.raises(ModelError, match="do not determine z: the pencil"):
        model.solve((0, 1), [1.0])


def test_an_index_lost_on_the_way_ends_in_a_status():
    # y' = -1 / (2 y): y reaches 0 at t = 1, where y**2 - x no longer determines it.
    model = symode.Model({x: -1}, algebraic={y: y**2 - x}, initial=[1, 1])
    with pytest.raises(symode.errors.SolverError) as error:
        model.solve((0, 2))
    assert error.value.t == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("solver", ["tsit5", "dop853"])
def test_solvers_without_mass_matrices_say_who_takes_them(solver):
    with pytest.raises(OptionError, match=f"{solver} does not solve .* solver='rodas5p'"):
        dae_cases.coupled().model.solve((0, 1), [1, 1, 1], [1, 1], solver=solver)


def test_other_systems_refuse_with_a_way_out():
    model = dae_cases.coupled().model
    with pytest.raises(symode.errors.UnsupportedCombinationError, match=r"model\.solve"):
        model.as_scipy([1, 1, 1])
    with pytest.raises(symode.errors.UnsupportedCombinationError, match=r"model\.gradient"):
        model.adjoint_system()


def test_large_systems_take_loops_and_lapack():
    # A heat rod whose every other cell is algebraic; one full block of algebraic states.
    n = 80
    u = sp.symbols(f"u0:{n}")
    cell = {i: u[max(i - 1, 0)] - 2 * u[i] + u[min(i + 1, n - 1)] for i in range(n)}
    model = symode.Model(
        [(u[i], k * cell[i]) for i in range(n)],
        mass={u[i]: 0 for i in range(1, n, 2)},
        initial=[1 + i % 3 for i in range(n)],
    )
    found = model.solve((0, 1), [2.0], times=[0.0, 1.0], rtol=1e-8)
    middle = found.z[:, 1:-1:2] - (found.z[:, 0:-2:2] + found.z[:, 2::2]) / 2
    assert np.abs(middle).max() < 1e-12
    mass = MassMatrix(model.equations, lift_field(model.equations))
    assert mass.left.shape == (n // 2, n)
    assert kt.Pattern._fields[-1] == "mass"
