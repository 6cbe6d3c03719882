"""Several losses: their gradients row by row are those of each loss alone."""

import numpy as np
import pytest
import sympy as sp
from cases import CASES, DRIVEN, LOSSES, exact
from random_models import draw
from scipy import optimize

import symode
from symode.errors import GradientError, LossError, OptionError, SolverError, UnknownNameError
from symode.gradients.methods import METHODS

MODEL, LOSS, SPAN, THETA = DRIVEN
Z0 = [1.1, 0.7]
RTOL, ATOL, LIMIT = 1e-9, 1e-11, 1e-6

every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


#: Methods without a pass for all rows compute each as the gradient that test_conformance judges.
WAYS = [
    (method, solver)
    for method in METHODS
    for solver in ("tsit5", "rodas5p")
    if method.name in ("discrete", "forward") or solver == "tsit5"
]


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize(("method", "solver"), WAYS, ids=lambda w: getattr(w, "name", w))
@every_case
def test_rows_are_the_closed_form_ones(method, case, solver, initial):
    losses = {name: symode.Loss(**parts(case)) for name, parts in LOSSES.items()}
    found = case.model.jacobian(
        losses, case.span, theta=case.theta, z0=None if initial else case.z0, method=method,
        solver=solver, rtol=RTOL, atol=ATOL,
    )  # fmt: skip
    assert found.names == tuple(LOSSES)
    for i, name in enumerate(LOSSES):
        known = exact(case.name, name, from_initial=initial)
        row = np.hstack([known.theta, known.z0, known.t0, known.t1])
        got = np.hstack([found.theta[i], found.z0[i], found.t0[i], found.t1[i]])
        assert found.values[name] == pytest.approx(known.value, rel=LIMIT)
        assert np.allclose(got, row, rtol=LIMIT, atol=LIMIT * np.max(np.abs(row)))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("method", ["discrete", "forward"])
def test_rows_of_random_models_are_gradients(method, seed):
    model, loss, span, theta = draw(seed)
    parts = [
        symode.Loss(terminal=loss.terminal), symode.Loss(running=loss.running),
        symode.Loss(observations=loss.groups),
    ] if loss.terminal is not None and loss.running is not None and loss.groups else []  # fmt: skip
    losses = [*parts, loss, symode.Loss(terminal=model.states[0] ** 2)]
    solver = ("vern7", "rodas5p")[seed % 2]
    options = {"method": method, "solver": solver, "rtol": 1e-10, "atol": 1e-12}
    try:
        found = model.jacobian(losses, span, theta=theta, **options)
    except SolverError as error:
        assert "blow-up" in str(error)
        pytest.skip("its solution ends before t1")
    for i, one in enumerate(losses):
        g = model.gradient(one, span, theta=theta, **options)
        row = np.hstack([g.theta, g.z0, g.t0, g.t1])
        got = np.hstack([found.theta[i], found.z0[i], found.t0[i], found.t1[i]])
        # Quadratures of the other rows count in the error norm, so the steps differ.
        assert np.allclose(got, row, rtol=1e-6, atol=1e-7 * np.max(np.abs(row)))


@pytest.mark.parametrize("wrt", [["b"], ["y", "a"], ["t0"], ["b", "t0", "t1"], "z0", ["x", "t0"]])
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("method", ["discrete", "forward"])
def test_columns_are_what_is_asked_for(method, initial, wrt):
    z0 = None if initial else Z0
    losses = {"first": LOSS, "second": symode.Loss(observations={SPAN[0]: MODEL.states[0] ** 2})}
    options = {"theta": THETA, "z0": z0, "method": method, "rtol": 1e-9, "atol": 1e-11}
    whole = MODEL.jacobian(losses, SPAN, **options)
    part = MODEL.jacobian(losses, SPAN, wrt=wrt, **options)
    asked = [wrt] if isinstance(wrt, str) else wrt
    columns = {"theta": part.theta.names, "z0": part.z0.names}
    assert columns["theta"] == tuple(n for n in asked if n in "ab")
    assert columns["z0"] == (("x", "y") if wrt == "z0" else tuple(n for n in asked if n in "xy"))
    for kind, names in columns.items():
        for name in names:
            expected = getattr(whole, kind)[name]
            assert np.allclose(getattr(part, kind)[name], expected, rtol=1e-6, atol=1e-7)
    for end in ("t0", "t1"):
        got = np.asarray(getattr(part, end))
        if end in asked:
            assert np.allclose(got, np.asarray(getattr(whole, end)), rtol=1e-6, atol=1e-7)
        else:
            assert np.isnan(got).all()


def data_of(rows: int):
    x, y = MODEL.states
    times = np.linspace(SPAN[0], SPAN[1], rows)
    rng = np.random.default_rng(1)
    values = rng.uniform(0.5, 2.0, (rows, 2))
    values[1, 0] = np.nan
    weights = rng.uniform(0.5, 2.0, (rows, 2))
    return symode.LeastSquares(times, values, {"sum": x + y, "product": x * y}, weights)


@pytest.mark.parametrize("method", ["discrete", "forward", "auto"])
def test_residuals_are_rows_whose_squares_add_up(method):
    loss = data_of(7)
    rows = symode.VectorLoss.residuals(loss)
    found = MODEL.jacobian(rows, (SPAN[0], None), theta=THETA, z0=Z0, method=method)
    assert found.names[:3] == ("sum at 0.2", "product at 0.2", "product at 0.5")
    assert len(found.names) == 13
    gradient = MODEL.gradient(loss, SPAN, theta=THETA, z0=Z0)
    r = np.asarray(found.values)
    assert r @ r == pytest.approx(gradient.value, rel=1e-7)
    assert np.allclose(2 * r @ np.asarray(found.theta), gradient.theta, rtol=1e-6)
    assert np.allclose(2 * r @ np.asarray(found.z0), gradient.z0, rtol=1e-6)


def test_each_observation_may_be_a_row_in_the_order_given():
    x, y = MODEL.states
    given = [(1.4, x * y), (0.2, x), (0.9, x * y), (2.0, y), (0.9, x)]
    rows = symode.VectorLoss.each(symode.Loss(observations=given))
    found = MODEL.jacobian(rows, SPAN, theta=THETA, z0=Z0, method="discrete", wrt="theta")
    assert found.names == ("x*y at 1.4", "x at 0.2", "x*y at 0.9", "y at 2", "x at 0.9")
    for i, (t, e) in enumerate(given):
        one = MODEL.gradient(symode.Loss(observations={t: e}), SPAN, theta=THETA, z0=Z0)
        assert found.values[i] == pytest.approx(one.value, rel=1e-8)
        assert np.allclose(found.theta[i], one.theta, rtol=1e-7, atol=1e-10)


def test_the_cheaper_way_is_taken_and_said():
    x = MODEL.states[0]
    few = [symode.Loss(terminal=x)]
    many = symode.VectorLoss.residuals(data_of(9))
    for losses, way in [(few, "discrete"), (many, "forward")]:
        found = MODEL.jacobian(losses, SPAN, theta=THETA)
        assert found.stats["method"] == way
        assert "evaluations of f" in found.stats["reason"]
    # Seventeen rows, up to eight a pass.
    assert MODEL.jacobian(many, SPAN, theta=THETA, method="discrete").stats["backward_passes"] == 3
    assert MODEL.jacobian(few, SPAN, theta=THETA, method="backsolve").stats["forward_passes"] == 1


def test_one_forward_pass_serves_all_rows():
    losses = [symode.Loss(terminal=MODEL.states[i % 2] ** (i + 1)) for i in range(5)]
    rows = MODEL.jacobian(losses, SPAN, theta=THETA, method="discrete")
    one = MODEL.gradient(losses[0], SPAN, theta=THETA, method="discrete")
    assert rows.stats["forward"].nfev == one.stats["forward"].nfev


def test_a_row_is_found_by_name():
    found = MODEL.jacobian({"a": LOSS, "b": LOSS}, SPAN, theta=THETA, wrt=["b", "t1"])
    row = found["b"]
    assert set(row) == {"value", "theta", "t1"}
    assert row["theta"]["b"] == found.theta["b"][1] == found[1]["theta"][0]
    with pytest.raises(UnknownNameError, match="'c' is none of the losses a, b"):
        found["c"]
    assert "2 rows: a, b; columns: b" in repr(found)


def test_a_parameter_at_zero_is_watched():
    x, k = sp.symbols("x k")
    t = sp.Symbol("t")
    model = symode.Model({x: k * sp.sin(9 * t)}, parameters=[k], time=t, initial={x: 0})
    losses = [symode.Loss(terminal=x), symode.Loss(observations={1.0: 2 * x})]
    found = model.jacobian(losses, (0, 2), theta=[0.0], method="discrete")
    expected = [(1 - np.cos(18)) / 9, 2 * (1 - np.cos(9)) / 9]
    assert np.allclose(found.theta[:, 0], expected, rtol=1e-6)


def test_stiff_models_have_rows_over_their_segments():
    x, y, k = sp.symbols("x y k")
    model = symode.Model({x: -k * (x - sp.cos(y)), y: 1 / k**0 + 0 * x}, parameters=[k])
    losses = {"end": symode.Loss(terminal=x), "mid": symode.Loss(observations={0.5: x**2, 3.0: x})}
    for k0 in (2.0, 3000.0):
        found = {
            method: model.jacobian(
                losses, (0, 4), theta=[k0], z0=[2.0, 0.0], method=method, rtol=1e-8, atol=1e-10
            )
            for method in ("discrete", "forward")
        }
        a, b = (np.hstack([f.theta, f.z0, f.t0[:, None], f.t1[:, None]]) for f in found.values())
        assert np.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_what_is_no_set_of_losses_is_refused():
    for wrong, words in [
        (LOSS, r"VectorLoss\.each"),
        (data_of(5), r"VectorLoss\.residuals"),
        ([], "at least one"),
        ({}, "at least one"),
        (["x"], "A Loss or LeastSquares"),
    ]:
        with pytest.raises(LossError, match=words):
            MODEL.jacobian(wrong, SPAN, theta=THETA)
    with pytest.raises(LossError, match="rows are observations"):
        MODEL.jacobian(symode.VectorLoss.each(LOSS), SPAN, theta=THETA)
    with pytest.raises(LossError, match="those of a LeastSquares"):
        symode.VectorLoss.residuals(LOSS)
    with pytest.raises(OptionError, match="times"):
        MODEL.jacobian([LOSS], SPAN, theta=THETA, wrt=["times"])
    with pytest.raises(LossError, match="outside the span"):
        MODEL.jacobian([symode.Loss(observations={9.0: 1})], SPAN, theta=THETA)


@pytest.mark.parametrize("method", ["discrete", "forward"])
def test_a_row_that_is_not_finite_is_named(method):
    x = MODEL.states[0]
    losses = {"good": symode.Loss(terminal=x), "bad": symode.Loss(terminal=sp.log(-x))}
    with pytest.raises(GradientError, match="'bad'"):
        MODEL.jacobian(losses, SPAN, theta=THETA, method=method)


@pytest.mark.parametrize("wrt", [("theta", "z0"), ("y", "b", "x")])
def test_gauss_newton_is_the_hessian_where_the_residuals_vanish(wrt):
    # Data that the model fits exactly leave no curvature of residuals.
    x, y = MODEL.states
    times = np.linspace(0.4, 2.0, 6)
    z = MODEL.solve(SPAN, theta=THETA, z0=Z0, times=times, rtol=1e-12, atol=1e-14).z
    values = np.column_stack([z[:, 0] * z[:, 1], z[:, 0] + z[:, 1]])
    loss = symode.LeastSquares(times, values, [x * y, x + y], weights=[2.0, 0.5])
    vg = MODEL.value_and_grad(loss, wrt, theta=THETA, t0=SPAN[0], rtol=1e-10, atol=1e-12)
    point = vg.pack(theta=THETA, z0=Z0)
    hessian, near = vg.hessian(point), vg.gauss_newton(point)
    assert np.allclose(near, hessian, rtol=1e-6, atol=1e-6 * np.max(np.abs(hessian)))
    away = 1.3 * point
    assert not np.allclose(vg.gauss_newton(away), vg.hessian(away), rtol=1e-2)
    assert np.linalg.eigvalsh(vg.gauss_newton(away))[0] >= 0


def test_residuals_of_a_flat_vector_serve_least_squares():
    times = np.linspace(0.4, 2.0, 6)
    z = MODEL.solve(SPAN, theta=THETA, z0=Z0, times=times).z
    vg = MODEL.value_and_grad(symode.LeastSquares(times, z), ("b", "z0"), theta=THETA, t0=SPAN[0])
    start = vg.pack(theta=[0.5], z0=[1.0, 0.8])
    r, jacobian = vg.residuals(start)
    value, slope = vg(start)
    assert r @ r == pytest.approx(value, rel=1e-7)
    assert np.allclose(2 * r @ jacobian, slope, rtol=1e-6)
    found = optimize.least_squares(
        lambda p: vg.residuals(p)[0], start, jac=lambda p: vg.residuals(p)[1]
    )
    assert np.allclose(found.x, [0.6, *Z0], rtol=1e-6)


def test_gauss_newton_needs_squares():
    vg = MODEL.value_and_grad(LOSS, "theta", t0=SPAN[0], t1=SPAN[1])
    with pytest.raises(symode.SymodeError, match="the loss is a Loss"):
        vg.gauss_newton(THETA)


def test_models_with_a_mass_matrix_have_rows():
    x, y, k = sp.symbols("x y k")
    model = symode.Model(
        {x: -k * x + y, y: x + y - 3 * k}, parameters=[k], initial={x: 1, y: 2},
        mass=sp.diag(1, 0),
    )  # fmt: skip
    losses = {"end": symode.Loss(terminal=y**2), "mid": symode.Loss(observations={0.5: x * y})}
    found = model.jacobian(losses, (0, 1), theta=[0.7], wrt="theta")
    for i, loss in enumerate(losses.values()):
        one = model.gradient(loss, (0, 1), theta=[0.7])
        assert found.theta[i, 0] == pytest.approx(one.theta["k"], rel=1e-6)
    # y = 3 k - x: x obeys x' = 3 k - (k + 1) x.
    rate, end = 1.7, 3 * 0.7 / 1.7
    x1 = end + (1 - end) * np.exp(-rate)
    assert found.values["end"] == pytest.approx((2.1 - x1) ** 2, rel=1e-6)


@pytest.mark.parametrize("solver", ["tsit5", "vern7"])
@pytest.mark.parametrize("rows", [3, 5, 8, 11])
@pytest.mark.parametrize("initial", [False, True])
def test_rows_that_go_back_together_are_those_that_go_alone(solver, rows, initial, monkeypatch):
    x, y, a, b = sp.symbols("x y a b")
    start = {x: 1 + a, y: b**2} if initial else None
    model = symode.Model(
        {x: a * y - x * y / (1 + x), y: x / (1 + x) - b * y}, parameters=[a, b], initial=start
    )
    # Some at t0, some at t1, one time twice, and a row that ends early.
    losses = {
        f"row {i}": symode.Loss(
            observations=[(0.0, x * (i + 1)), (0.3 + 0.1 * i, x * y), (0.3 + 0.1 * i, y**2)],
            terminal=x * y + i * y if i % 2 else None,
            running=x**2 if i % 3 == 2 else None,
        )
        for i in range(rows)
    }
    ask = lambda: model.jacobian(  # noqa: E731
        losses, (0, 2), theta=[0.7, 0.4], z0=None if initial else [1.2, 0.3], solver=solver,
        method="discrete",
    )  # fmt: skip
    found = ask()
    assert found.stats["backward_passes"] == -(-rows // 8)
    monkeypatch.setattr("symode.gradients.rows.block_of", lambda field, rows: 0)
    alone = ask()
    assert alone.stats["backward_passes"] == rows
    # The same sums in another order.
    for part in ("values", "theta", "z0", "t0", "t1"):
        mine, other = (np.asarray(getattr(rows, part), dtype=float) for rows in (found, alone))
        assert np.allclose(mine, other, rtol=1e-12, atol=1e-13), part
