"""An objective as a function of one vector: its order, its ends, its batches, its copies."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sympy as sp
from cases import CASES, DRIVEN, LOSSES, exact
from scipy import optimize

import symode
from symode.errors import InitialStateError, LossError, OptionError, ParameterError, SolverError
from symode.gradients.methods import METHODS

MODEL, LOSS, SPAN, THETA = DRIVEN
Z0 = [1.1, 0.7]

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)


def value_and_grad(wrt=("theta", "z0"), **options) -> symode.ValueAndGrad:
    return MODEL.value_and_grad(LOSS, wrt, t0=SPAN[0], t1=SPAN[1], **options)


@every_method
def test_it_is_the_gradient_in_the_order_of_wrt(method):
    gradient = MODEL.gradient(LOSS, SPAN, theta=THETA, z0=Z0, method=method)
    vg = value_and_grad(("t1", "z0", "theta", "t0"), method=method)
    assert vg.names == ("t1", "x(t0)", "y(t0)", "a", "b", "t0")
    value, slope = vg(vg.pack(theta=THETA, z0=Z0))
    assert value == gradient.value
    expected = [gradient.t1, *gradient.z0, *gradient.theta, gradient.t0]
    assert np.array_equal(slope, expected)


def test_pack_and_unpack_are_inverse_and_take_names():
    vg = value_and_grad(("z0", "theta", "t1"))
    a, b = MODEL.parameters
    point = vg.pack(theta={b: 2.0, a: 1.0}, z0={"y": 4.0, "x": 3.0}, t1=5.0)
    assert point.tolist() == [3.0, 4.0, 1.0, 2.0, 5.0]
    parts = vg.unpack(point)
    assert parts["theta"]["b"] == 2.0
    assert parts["z0"]["x"] == 3.0
    assert parts["t1"] == 5.0


def test_without_z0_the_gradient_goes_through_the_initial_values():
    vg = value_and_grad("theta")
    _, slope = vg(np.array(THETA))
    assert np.array_equal(slope, MODEL.gradient(LOSS, SPAN, theta=THETA).theta)
    fixed = value_and_grad("theta", z0=Z0)
    _, slope = fixed(np.array(THETA))
    assert np.array_equal(slope, MODEL.gradient(LOSS, SPAN, theta=THETA, z0=Z0).theta)


@pytest.mark.parametrize("name", ["terminal", "running", "mixed"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_ends_may_move_and_their_derivative_is_that_of_the_value(case, name):
    loss = symode.Loss(**LOSSES[name](case))
    vg = case.model.value_and_grad(
        loss, ("t0", "t1"), t0=case.span[0], t1=case.span[1], theta=case.theta, z0=case.z0
    )
    known = exact(case.name, name)
    value, slope = vg(np.array(case.span))
    assert value == pytest.approx(known.value, rel=1e-7)
    assert slope == pytest.approx([known.t0, known.t1], rel=1e-6, abs=1e-7)
    # Observations at t0 and t1 are attached to these ends, so they move along.
    h = 1e-4
    for i in range(2):
        shift = h * np.eye(2)[i]
        difference = (vg(case.span + shift)[0] - vg(case.span - shift)[0]) / (2 * h)
        assert slope[i] == pytest.approx(difference, rel=1e-5, abs=1e-5)


def test_the_first_sight_of_a_threshold_is_found_by_moving_the_end():
    # When does x = 2 exp(-0.7 t) reach 1? Minimise (x(t1) - 1)**2 over t1 alone.
    x, k = sp.symbols("x k")
    decay = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    vg = decay.value_and_grad(symode.Loss(terminal=(x - 1) ** 2), "t1", t0=0.0, t1=0.5, theta=[0.7])
    found = optimize.minimize(vg, np.array([0.5]), jac=True, tol=1e-12)
    assert found.x[0] == pytest.approx(np.log(2) / 0.7, rel=1e-5)


def test_scipy_minimises_it():
    x, k = sp.symbols("x k")
    decay = symode.Model({x: -k * x}, parameters=[k])
    times = np.array([0.5, 1.0, 2.0])
    vg = decay.value_and_grad(symode.LeastSquares(times, 3 * np.exp(-0.4 * times)))
    found = optimize.minimize(vg, vg.pack(theta=[1.0], z0=[1.0]), jac=True, tol=1e-12)
    assert found.x == pytest.approx([0.4, 3.0], rel=1e-5)


@pytest.mark.parametrize("method", [m for m in METHODS if m.name != "backsolve"] + [METHODS[2]],
                         ids=lambda m: m.name)  # fmt: skip
def test_a_batch_is_a_loop_of_singles_whatever_the_number_of_workers(method):
    rng = np.random.default_rng(0)
    z0 = rng.uniform(0.5, 1.5, (7, 2))
    vg = value_and_grad(method=method)
    singles = [vg(vg.pack(theta=THETA, z0=z)) for z in z0]
    values, dtheta, dz0 = vg.batch(THETA, z0, workers=1)
    assert np.array_equal(values, [value for value, _ in singles])
    assert np.array_equal(np.hstack([dtheta, dz0]), [slope for _, slope in singles])
    for workers in (2, 3, 16):
        for one, other in zip((values, dtheta, dz0), vg.batch(THETA, z0, workers), strict=True):
            assert np.array_equal(one, other)
    gradient = MODEL.gradient(LOSS, SPAN, theta=THETA, z0=z0, method=method)
    assert gradient.value == pytest.approx(values.sum(), rel=1e-14)
    assert np.allclose(gradient.theta, dtheta.sum(axis=0), rtol=1e-14)
    assert np.array_equal(gradient.z0, dz0)


def test_a_member_that_fails_fails_the_batch():
    x, k = sp.symbols("x k")
    grows = symode.Model({x: k * x**2}, parameters=[k])
    vg = grows.value_and_grad(symode.Loss(terminal=x), t0=0.0, t1=1.0)
    with pytest.raises(SolverError, match="blow-up"):
        vg.batch([1.0], [[0.1], [0.2], [3.0], [0.4]])
    values, _, _ = vg.batch([1.0], [[0.1], [0.2]])
    assert values == pytest.approx([0.1 / 0.9, 0.2 / 0.8], rel=1e-7)


@every_method
def test_model_and_function_survive_pickling(method):
    model = pickle.loads(pickle.dumps(MODEL))
    assert model.equations == MODEL.equations
    vg = value_and_grad(("theta", "z0", "t1"), method=method)
    point = vg.pack(theta=THETA, z0=Z0)
    before = vg(point)
    again = pickle.loads(pickle.dumps(vg))
    assert again.names == vg.names
    after = again(point)
    assert before[0] == after[0]
    assert np.array_equal(before[1], after[1])
    # ... also before the first call, and the copy leaves the original whole.
    assert np.array_equal(pickle.loads(pickle.dumps(value_and_grad()))(point[:-1])[1],
                          value_and_grad()(point[:-1])[1])  # fmt: skip
    assert np.array_equal(vg(point)[1], before[1])


def test_gradient_and_solution_survive_pickling():
    gradient = MODEL.gradient(LOSS, SPAN, theta=THETA, z0=Z0)
    again = pickle.loads(pickle.dumps(gradient))
    assert again.theta["a"] == gradient.theta["a"]
    solution = MODEL.solve(SPAN, theta=THETA)
    again = pickle.loads(pickle.dumps(solution))
    assert np.array_equal(again(1.0), solution(1.0))


def test_threads_may_call_one_function():
    vg = value_and_grad()
    points = [vg.pack(theta=THETA, z0=[1.0 + i / 10, 0.5]) for i in range(8)]
    expected = [vg(point) for point in points]
    found = [None] * len(points)

    def work(i: int) -> None:
        for _ in range(20):
            found[i] = vg(points[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(points))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (value, slope), (value_then, slope_then) in zip(found, expected, strict=True):
        assert value == value_then
        assert np.array_equal(slope, slope_then)


def test_threads_may_call_one_batch():
    vg = value_and_grad()
    sizes = 1.0 + np.arange(40) / 40
    points = [vg.pack(theta=size * np.array(THETA), z0=np.outer([size] * 20, Z0)) for size in sizes]
    expected = [vg(point) for point in points]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(vg, points * 2))
    for (value, slope), (value_then, slope_then) in zip(found, expected * 2, strict=True):
        assert value == value_then
        assert np.array_equal(slope, slope_then)


def test_wrong_requests_are_named():
    with pytest.raises(OptionError, match="wrt"):
        value_and_grad(("theta", "z1"))
    with pytest.raises(OptionError, match="each once"):
        value_and_grad(("theta", "theta"))
    vg = value_and_grad()
    with pytest.raises(OptionError, match=r"x\(t0\)"):
        vg(np.zeros(7))
    with pytest.raises(ParameterError, match="b"):
        vg(np.array([1.0, np.nan, 1.0, 1.0]))
    x, k = sp.symbols("x k")
    bare = symode.Model({x: -k * x}, parameters=[k])
    with pytest.raises(InitialStateError, match="z0"):
        bare.value_and_grad(symode.Loss(terminal=x), "theta", t1=1.0)
    with pytest.raises(LossError, match="t1"):
        bare.value_and_grad(symode.Loss(terminal=x))
    with pytest.raises(LossError, match="outside"):
        MODEL.gradient(LOSS, (0.5, 2.0), theta=THETA)
    with pytest.raises(LossError, match="different"):
        MODEL.gradient(symode.Loss(terminal=1), (1.0, 1.0), theta=THETA)
