"""Hessians and their products with vectors, against closed forms, differences and symmetry."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from cases import CASES, DRIVEN, LOSSES, exact_hessian
from random_models import draw
from scipy import optimize

import symode
from symode.errors import OptionError, UnsupportedCombinationError
from symode.gradients.methods import METHODS, DiscreteAdjoint
from symode.gradients.second_order import asymmetry_of
from symode.solvers.methods import METHODS as SOLVERS

MODEL, LOSS, SPAN, THETA = DRIVEN
Z0 = [1.1, 0.7]
RTOL, ATOL = 1e-9, 1e-11
#: Second derivatives see the error of a step amplified twice by these problems, so a digit more
#: than the limit of gradients in test_conformance.
LIMIT = 1e4 * RTOL

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def error_of(found: np.ndarray, known: np.ndarray, point: np.ndarray) -> float:
    """Return the error in the scaled norm, each entry times the sizes of its two variables."""
    size = np.outer(np.abs(point), np.abs(point))
    return float(np.linalg.norm((found - known) * size) / np.linalg.norm(known * size))


def closed(case, loss, initial):
    return exact_hessian(case.name, loss, from_initial=initial)


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@every_case
@every_method
def test_hessian_is_the_closed_form_one(method, case, loss, initial):
    if (case.name, loss) == ("linear", "running"):
        pytest.skip("7 seconds for a part of 'mixed'")
    found = case.model.hessian(
        symode.Loss(**LOSSES[loss](case)), case.span, theta=case.theta,
        z0=None if initial else case.z0, method=method, solver="tsit5", rtol=RTOL, atol=ATOL,
    )  # fmt: skip
    point = np.array(case.theta if initial else [*case.theta, *case.z0])
    assert error_of(found.matrix, closed(case, loss, initial), point) <= LIMIT
    assert found.stats["asymmetry"] <= LIMIT
    assert found.stats["method"] == method.name


@pytest.mark.parametrize("initial", [False, True])
@every_case
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_gives_the_hessian(solver, case, initial):
    found = case.model.hessian(
        symode.Loss(**LOSSES["mixed"](case)), case.span, theta=case.theta,
        z0=None if initial else case.z0, solver=solver, rtol=RTOL, atol=ATOL,
    )  # fmt: skip
    point = np.array(case.theta if initial else [*case.theta, *case.z0])
    assert error_of(found.matrix, closed(case, "mixed", initial), point) <= LIMIT


@pytest.mark.parametrize("solver", ["tsit5", "vern7", "rodas5p"])
@pytest.mark.parametrize("loss", ["mixed", "repeated"])
@every_case
def test_along_frozen_steps_it_is_symmetric_to_rounding(case, loss, solver):
    # At a loose tolerance, too: it is the second derivative of the computed J. The step map's
    # rounding errors, some 1e-16 each, add up over stages and steps.
    vg = case.model.value_and_grad(
        symode.Loss(**LOSSES[loss](case)), t0=case.span[0], t1=case.span[1], solver=solver,
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip
    point = vg.pack(theta=case.theta, z0=case.z0)
    assert asymmetry_of(vg.columns(point), point) <= 1e-12


def test_it_goes_over_the_segments_of_a_solve_that_turns_stiff():
    x, y, mu = sp.symbols("x y mu")
    model = symode.Model({x: y, y: mu * (1 - x**2) * y - x}, parameters=[mu])
    loss = symode.Loss(terminal=x**2, observations={5.0: x * y})
    point = np.array([300.0, 2.0, 0.01])
    found = [
        model.value_and_grad(loss, t1=30.0, solver=solver).columns(point)
        for solver in ("auto", "rodas5p")
    ]
    vg = model.value_and_grad(loss, t1=30.0)
    assert len(vg.outcome(point).stats["forward"].segments) > 1
    assert asymmetry_of(found[0], point) <= 1e-10
    assert error_of(*found, point) <= 1e-6


def test_it_is_the_derivative_of_the_computed_gradient():
    # Steps of a method without error control do not depend on the point: with h_max small and
    # tolerances loose, every step has the same size at neighbouring points.
    vg = MODEL.value_and_grad(
        LOSS, t0=SPAN[0], t1=SPAN[1], solver="bosh3", rtol=0.1, atol=1e3, h_max=0.2,
        method=DiscreteAdjoint(),
    )  # fmt: skip
    point = vg.pack(theta=THETA, z0=Z0)
    h = 1e-5
    moved = [vg(point + s * h * v)[1] for v in np.eye(4) for s in (1, -1)]
    differences = np.array(moved[::2]) - np.array(moved[1::2])
    # Far from the true Hessian, but exact for these steps: h**2, and rounding over h.
    coarse = vg.hessian(point)
    fine = MODEL.hessian(LOSS, SPAN, theta=THETA, z0=Z0).matrix
    assert np.allclose(coarse, differences / (2 * h), rtol=1e-7, atol=1e-7)
    assert not np.allclose(coarse, fine, rtol=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_hessians_of_random_models_are_differences_of_gradients(seed):
    model, loss, span, theta = draw(seed)
    solver = ("vern7", "rodas5p", "tsit5", "dop853")[seed % 4]
    options = {"solver": solver, "rtol": 1e-11, "atol": 1e-13}
    vg = model.value_and_grad(loss, "theta", t0=span[0], t1=span[1], **options)
    try:
        found = vg.columns(theta)
    except symode.SolverError as error:
        assert "blow-up" in str(error)
        pytest.skip("its solution ends before t1")
    h = 1e-3 * theta
    columns = []
    for i, v in enumerate(np.diag(h)):
        d = [vg(theta + s * v)[1] for s in (2, 1, -1, -2)]
        # Fourth order in h; what rounding and tolerance leave is divided by h.
        columns.append((-d[0] + 8 * d[1] - 8 * d[2] + d[3]) / (12 * h[i]))
    size = np.outer(theta, theta)
    top = np.max(np.abs(found * size))
    gap = np.max(np.abs(found - np.array(columns).T) * size)
    assert gap <= 1e-6 * top + 1e-7 * np.max(np.abs(vg(theta)[1] * theta))
    assert asymmetry_of(found, theta) <= 1e-10


@pytest.mark.parametrize("loss", ["running", "mixed"])
@every_case
def test_the_taylor_remainder_with_the_hessian_is_of_third_order(case, loss):
    vg = case.model.value_and_grad(
        symode.Loss(**LOSSES[loss](case)), t0=case.span[0], t1=case.span[1], solver="dop853",
        rtol=1e-13, atol=1e-15,
    )  # fmt: skip
    x = vg.pack(theta=case.theta, z0=case.z0)
    v = x * np.where(np.arange(x.size) % 2, -0.8, 1.1)
    value, slope = vg(x)
    curvature = vg.hvp(x, v) @ v
    h = np.array([0.02, 0.01, 0.005])
    rest = [abs(vg(x + s * v)[0] - value - s * slope @ v - s**2 / 2 * curvature) for s in h]
    assert np.polyfit(np.log(h), np.log(rest), 1)[0] == pytest.approx(3, abs=0.25)


def test_products_are_linear_and_are_those_of_the_matrix():
    vg = MODEL.value_and_grad(LOSS, ("y", "theta", "x"), t0=SPAN[0], t1=SPAN[1])
    point = vg.pack(theta=THETA, z0=Z0)
    matrix = vg.hessian(point)
    rng = np.random.default_rng(0)
    for scale in (1.0, 1e9, 1e-9):
        v = rng.normal(size=4) * scale
        assert np.allclose(vg.hvp(point, v), matrix @ v, rtol=1e-10, atol=1e-10 * scale)
    assert vg.hvp(point, np.zeros(4)).tolist() == [0.0] * 4
    both = MODEL.hessian(LOSS, SPAN, theta=THETA, z0=Z0, wrt=("y", "theta", "x"))
    assert both.names == ("y(t0)", "a", "b", "x(t0)")
    assert np.array_equal(both.matrix, matrix)
    assert both["b", "y"] == both["y(t0)", MODEL.parameters[1]] == matrix[2, 0]
    assert "y(t0)" in repr(both)
    again = pickle.loads(pickle.dumps(both))
    assert np.array_equal(again.matrix, matrix)


def test_a_subset_gives_the_block():
    whole = MODEL.hessian(LOSS, SPAN, theta=THETA, z0=Z0)
    part = MODEL.hessian(LOSS, SPAN, theta=THETA, z0=Z0, wrt=["x", "b"])
    expected = whole.matrix[np.ix_([2, 1], [2, 1])]
    assert np.allclose(part.matrix, expected, rtol=1e-9)


def test_kernels_are_made_once_and_copies_start_afresh():
    vg = MODEL.value_and_grad(LOSS, "theta", t0=SPAN[0], t1=SPAN[1])
    a = vg.hvp(THETA, [1.0, 0.5])
    product = vg._local.product
    assert np.array_equal(vg.hvp(THETA, [1.0, 0.5]), a)
    assert vg._local.product is product
    assert np.array_equal(pickle.loads(pickle.dumps(vg)).hvp(THETA, [1.0, 0.5]), a)


@pytest.mark.parametrize("factor", [1e12, 1e-12])
@every_method
def test_scaling_the_loss_keeps_the_digits(method, factor):
    case = CASES[2]
    parts = LOSSES["mixed"](case)
    scaled = symode.Loss(
        terminal=factor * parts["terminal"],
        running=factor * parts["running"],
        observations=[(t, factor * e) for t, e in parts["observations"]],
    )
    plain, large = (
        case.model.hessian(loss, case.span, theta=case.theta, z0=case.z0, method=method).matrix
        for loss in (symode.Loss(**parts), scaled)
    )
    # The backward steps may differ by rounding in the error norm, and nothing else.
    assert np.allclose(large, plain * factor, rtol=1e-9, atol=1e-9 * factor)


@pytest.mark.parametrize("method", ["Newton-CG", "trust-exact", "trust-ncg", "trust-constr"])
def test_scipy_optimizers_use_it(method):
    x, y = sp.symbols("x y")
    p = sp.symbols("a b c d", positive=True)
    a, b, c, d = p
    lv = symode.Model({x: a * x - b * x * y, y: d * x * y - c * y}, parameters=p)
    times = np.linspace(1, 15, 15)
    truth = np.array([1.1, 0.4, 0.4, 0.1])
    values = lv.solve((0, 15), theta=truth, z0=[10, 5], times=times, rtol=1e-10, atol=1e-12).z
    vg = lv.value_and_grad(symode.LeastSquares(times, values), "theta", z0=[10, 5])
    second = {"hess": vg.hessian} if method == "trust-exact" else {"hessp": vg.hvp}
    options = {"gtol": 1e-6} if "trust" in method else {"xtol": 1e-10}
    found = optimize.minimize(
        vg, truth * [0.97, 1.04, 1.02, 0.98], jac=True, method=method, options=options, **second
    )
    # The minimum is known to the accuracy of the data.
    assert np.allclose(found.x, truth, rtol=1e-7)
    assert found.nit < 60


def test_times_and_batches_are_refused():
    vg = MODEL.value_and_grad(LOSS, ("theta", "t1", "times"), t0=SPAN[0], t1=SPAN[1])
    with pytest.raises(UnsupportedCombinationError, match="also holds t1, times"):
        vg.hvp(vg.pack(theta=THETA), np.zeros(5))
    vg = MODEL.value_and_grad(LOSS, t0=SPAN[0], t1=SPAN[1])
    with pytest.raises(UnsupportedCombinationError, match="batch"):
        vg.hessian(vg.pack(theta=THETA, z0=[Z0, Z0]))
    with pytest.raises(OptionError, match="a, b, x"):
        vg.hvp(vg.pack(theta=THETA, z0=Z0), [1.0])


@every_method
def test_zeros_do_not_hide_second_derivatives(method):
    # f = k sin(9 t) at k = 0 is solved in one step, and so is its tangent in c.
    x, k, c = sp.symbols("x k c")
    t = sp.Symbol("t")
    model = symode.Model({x: k * sp.sin(9 * t) + c}, parameters=[k, c], time=t, initial={x: 0})
    found = model.hessian(symode.Loss(terminal=x**2), (0, 2), theta=[0.0, 0.0], method=method)
    part = (1 - np.cos(18)) / 9
    expected = 2 * np.outer([part, 2.0], [part, 2.0])
    assert np.allclose(found.matrix, expected, rtol=1e-6, atol=1e-6)


@every_method
def test_a_kink_that_is_crossed_is_refused_and_others_do_no_harm(method):
    x, k = sp.symbols("x k")
    t = sp.Symbol("t")
    # A valve: k above 1, and 1 below; it closes where x = 1, at a time that k moves.
    valve = symode.Model({x: -k * sp.Max(x, 1)}, parameters=[k], time=t, initial={x: 2})
    loss = symode.Loss(terminal=x**2)
    above = valve.hessian(loss, (0, 0.8), theta=[0.7], method=method)
    # z = 2 exp(-k t): d2/dk2 of z**2 is 4 t**2 z**2.
    assert above["k", "k"] == pytest.approx(4 * 0.8**2 * 4 * np.exp(-2 * 0.7 * 0.8), rel=1e-6)
    with pytest.raises(symode.GradientError, match=r"crosses a kink .* Max\(1, x\)"):
        valve.hessian(loss, (0, 2), theta=[0.7], method=method)
    with pytest.raises(symode.GradientError, match="crosses"):
        loss = symode.Loss(running=sp.Abs(x - 1))
        valve.hessian(loss, (0, 2), theta=[0.7], method=method)


def test_steps_of_a_state_are_jumps_and_those_of_time_are_not():
    x, k = sp.symbols("x k")
    t = sp.Symbol("t")
    stair = symode.Model({x: -k * sp.floor(x + 2)}, parameters=[k], time=t, initial={x: 1.5})
    assert stair.hessian(symode.Loss(terminal=x**2), (0, 0.2), theta=[0.7]).matrix[0, 0] > 0
    with pytest.raises(symode.GradientError, match="crosses"):
        stair.hessian(symode.Loss(terminal=x**2), (0, 1), theta=[0.7])
    pulse = symode.Model(
        {x: -k * x * sp.Heaviside(t - 1, 1)}, parameters=[k], time=t, initial={x: 2}
    )
    found = pulse.hessian(symode.Loss(terminal=x), (0, 3), theta=[0.7], h_max=0.01)
    assert found["k", "k"] == pytest.approx(4 * 2 * np.exp(-1.4), rel=1e-4)


def test_kinks_of_losses_have_the_derivative_of_their_side():
    x, k = sp.symbols("x k")
    model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    loss = symode.Loss(terminal=sp.Abs(x - 3), observations={0.5: sp.Max(x, 0) ** 2})
    found = model.hessian(loss, (0, 1), theta=[0.7])
    expected = -2 * np.exp(-0.7) + 4 * 0.25 * 4 * np.exp(-0.7)
    assert found["k", "k"] == pytest.approx(expected, rel=1e-6)


DATA = Path(__file__).parents[2].parent / "shared" / "data" / "sundials" / "examples.json"


@pytest.mark.skipif(not DATA.exists(), reason="shared/data/sundials is not here")
@every_method
def test_the_hessian_example_of_sundials(method):
    entries = json.loads(DATA.read_text("utf-8"))["examples"]
    (entry,) = (e for e in entries if "Hessian" in e.get("printed", {}))
    text = "; ".join(f"{s}' = {r}" for s, r in zip(entry["states"], entry["rhs"], strict=True))
    model = symode.Model.from_text(text)
    loss = symode.Loss(running=sum(s**2 for s in model.states) / 2)
    theta = {name: float(v) for name, v in entry["parameters"].items()}
    z0 = [float(v) for v in entry["z0"]]
    found = model.hessian(
        loss, [float(t) for t in entry["t"]], theta=theta, z0=z0, wrt="theta", method=method,
        rtol=1e-11, atol=1e-13,
    )  # fmt: skip
    printed = np.array(entry["printed"]["Hessian"], dtype=float)
    # CVODES printed it at rtol 1e-6: 5 figures.
    assert np.allclose(found.matrix, printed, rtol=3e-4)
    assert np.allclose(found.gradient, np.array(entry["true"]["dG_dp"], dtype=float), rtol=1e-9)
    assert np.allclose(found.matrix, SUNDIALS, rtol=1e-8)


#: By mpmath: the variational equations of first and second order as one Taylor-series solve
#: (`mpmath.odefun`, 30 digits).
SUNDIALS = np.array(
    [
        [0.15628043082054061742, -0.078677806597541068901],
        [-0.078677806597541068901, 0.089814343629197325292],
    ]
)


@pytest.mark.parametrize("solver", ["tsit5", "dopri5"])
def test_steps_at_the_edge_of_stability_do_not_amplify_the_tangent(solver):
    x, y, z, a, b, c = sp.symbols("x y z a b c")
    robertson = symode.Model(
        {x: -a * x + c * y * z, y: a * x - c * y * z - b * y**2, z: b * y**2},
        parameters=[a, b, c],
    )  # fmt: skip
    loss = symode.Loss(terminal=x**2 + 1e4 * y + z)
    theta, z0 = np.array([0.04, 3e7, 1e4]), [1.0, 0.0, 0.0]
    v = np.concatenate([theta * [1.0, -0.5, 0.3], [0.2, 0.0, 0.0]])

    def product(solver, rtol):
        vg = robertson.value_and_grad(
            loss, t1=1.0, solver=solver, rtol=rtol, atol=rtol * 1e-6, method="discrete"
        )
        return vg.hvp(vg.pack(theta=theta, z0=z0), v)

    size = np.array([*theta, 1.0, 1.0, 1.0])
    known, found = product("rodas5p", 1e-10) * size, product(solver, 1e-6) * size
    # A hundred times rtol; 23 and 217 where the tangent did not count in the error norm.
    assert np.linalg.norm(found - known) <= 1e-4 * np.linalg.norm(known)
