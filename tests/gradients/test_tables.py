"""Inputs given as tables: exact integrals, and gradients through jumps of the right-hand side."""

from __future__ import annotations

import copy
import pickle

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from scipy.interpolate import CubicSpline, PchipInterpolator

import symode
from symode.codegen.backends import compile_kernels
from symode.codegen.reference import COMPLEX, evaluate, mpmath_arithmetic
from symode.equations.pieces import TableFamily
from symode.equations.table import KINDS, Table, TableData, Tabulated
from symode.errors import DataError, ModelError, OptionError
from symode.gradients.methods import METHODS
from symode.symbolic.graph import Builder

x, y, k, a, u, t = sp.symbols("x y k a u t")
TIMES = np.array([0.0, 0.4, 1.1, 1.7, 2.9, 3.5])
VALUES = np.array([1.0, 3.0, -0.5, 2.0, 0.7, 1.9])


def interpolant(kind: str):
    """Return SciPy's, or NumPy's, function of the same table."""
    if kind == "constant":
        return lambda s: VALUES[np.searchsorted(TIMES, s, side="right") - 1]
    if kind == "linear":
        return lambda s: np.interp(s, TIMES, VALUES)
    return {"cubic": CubicSpline, "pchip": PchipInterpolator}[kind](TIMES, VALUES)


def decay_exactly(rate, size, start, end, kind: str):
    """Return x(end) of x' = size u - rate x, piece by piece, in numbers of any kind."""
    exp = mp.exp if isinstance(rate, mp.mpf) else np.exp
    value = start
    for i in range(TIMES.size):
        low, high = TIMES[i], min(end, TIMES[i + 1] if i + 1 < TIMES.size else np.inf)
        if not low < high:
            break
        h, level = high - low, size * VALUES[i]
        slope = 0.0
        if kind == "linear":
            slope = size * (VALUES[i + 1] - VALUES[i]) / (TIMES[i + 1] - TIMES[i])
        # Particular solution of x' = level + slope s - rate x: (level - slope/rate + slope s)/rate.
        at = lambda s, level=level, slope=slope: (level - slope / rate + slope * s) / rate  # noqa: E731
        value = (value - at(0.0)) * exp(-rate * h) + at(h)
    return value


def forced(kind: str, **options) -> symode.Model:
    table = Table(TIMES, VALUES, kind, **options)
    return symode.Model({x: a * u - k * x}, [k, a], initial={x: 2 * a}, inputs={u: table})


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_has_the_values_of_its_interpolant_in_every_arithmetic(kind: str) -> None:
    family = TableFamily((Table([0, 1], [5.0, 6.0]).pieces, Table(TIMES, VALUES, kind).pieces))
    b = Builder()
    graph = b.freeze([b.node("table", (b.input("t", 0), b.input("p", 0)), family)])
    times = np.concatenate([np.linspace(0, 3.5, 60)[1:-1], TIMES[1:-1] + 1e-9])
    wanted = interpolant(kind)(times)
    found = evaluate(graph, times, (), [np.full(times.size, 1.0)])[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-14)
    models = [compile_kernels({"u": ("field", graph)}, 1, b_) for b_ in ("llvm", "numba")]
    for model in models:
        p = model.pack(np.array([1.0]))
        values = [model.call("u", s, np.zeros(1), p)[0] for s in times]
        np.testing.assert_allclose(values, wanted, rtol=1e-13, atol=1e-14)
        # Outside, the ends hold; what is no number stays none; other indices are clipped.
        assert model.call("u", -1.0, np.zeros(1), p)[0] == VALUES[0]
        assert model.call("u", 9.0, np.zeros(1), p)[0] == pytest.approx(VALUES[-1], rel=1e-15)
        assert np.isnan(model.call("u", np.nan, np.zeros(1), p)[0])
        for index, same in ((-3.0, 0), (7.0, 1), (np.nan, 0)):
            p = model.pack(np.array([index]))
            value = model.call("u", 0.77, np.zeros(1), p)[0]
            assert value == pytest.approx(float(family(0.77, same)), rel=1e-15)
    with mp.workdps(30):
        exact = evaluate(graph, mp.mpf("0.77"), (), [mp.mpf(1)], None, mpmath_arithmetic(mp.mp))[0]
    assert float(exact) == pytest.approx(float(interpolant(kind)(0.77)), rel=1e-13)
    step = evaluate(graph, 0.77 + 1e-30j, (), [1.0], None, COMPLEX)[0].imag / 1e-30
    slope = float(TableFamily((Table(TIMES, VALUES, kind).pieces.derivative(),))(0.77, 0))
    assert step == pytest.approx(slope, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", ["tsit5", "dop853", "rodas5p", "auto"])
def test_the_integral_of_a_table_is_exact(kind: str, solver: str) -> None:
    model = symode.Model({x: u}, initial={x: 0.3}, inputs={u: Table(TIMES, VALUES, kind)})
    solution = model.solve((0, 3.5), times=[1.1, 2.0, 3.5], solver=solver, rtol=1e-10, atol=1e-12)
    area = {
        "constant": lambda s: np.diff([*TIMES[s > TIMES], s]) @ VALUES[s > TIMES],
        "linear": _area_below_lines,
    }.get(kind, lambda s: interpolant(kind).integrate(0, s))
    # Polynomials between corners: exact by any of these methods; a spline's knots cost tolerance.
    tolerance = 1e-13 if kind in ("constant", "linear") else 1e-8
    for s, value in zip(solution.t, solution["x"], strict=True):
        assert value == pytest.approx(0.3 + area(s), rel=tolerance, abs=tolerance)


def _area_below_lines(end: float) -> float:
    ends = np.array([*TIMES[end > TIMES], end])
    heights = np.interp(ends, TIMES, VALUES)
    return float(np.diff(ends) @ (heights[1:] + heights[:-1]) / 2)


@pytest.mark.parametrize("kind", ["constant", "linear"])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_through_corners_agree_with_the_closed_form(method: str, kind: str) -> None:
    model, end = forced(kind), 3.2
    theta = {"k": 0.8, "a": 1.3}
    loss = symode.Loss(terminal=x**2, observations={1.7: x, 2.0: 3 * x})

    def value(rate, size):
        at = [decay_exactly(rate, size, 2 * size, s, kind) for s in (1.7, 2.0, end)]
        return at[0] + 3 * at[1] + at[2] ** 2

    found = model.gradient(loss, (0, end), theta, method=method, rtol=1e-10, atol=1e-12)
    with mp.workdps(40):
        rate, size, h = mp.mpf(0.8), mp.mpf(1.3), mp.mpf(10) ** -15
        exact = float(value(rate, size))
        slopes = [float((value(rate + h, size) - value(rate - h, size)) / (2 * h)),
                  float((value(rate, size + h) - value(rate, size - h)) / (2 * h))]  # fmt: skip
    assert found.value == pytest.approx(exact, rel=1e-8)
    # Differences of solves lose digits; what integrates an adjoint crosses corners by its errors.
    tolerance = 1e-5 if method == "finite_difference" else 1e-7
    np.testing.assert_allclose(found.theta, slopes, rtol=tolerance)


def test_discrete_gradients_through_corners_are_those_of_the_computed_numbers() -> None:
    # At a loose tolerance the adjoint still agrees with tangents of the same steps.
    model = forced("constant")
    loss = symode.Loss(terminal=x**2, observations={1.7: x})
    for solver in ("tsit5", "rodas5p"):
        # Zeros are watched: their directions count in the error norm.
        zeros = [([0.8, 0.0], [0.0])] if solver == "tsit5" else []
        for theta, z0 in [([0.8, 1.3], None), *zeros]:
            options = dict(rtol=1e-4, atol=1e-6, solver=solver)
            one = model.gradient(loss, (0, 3.2), theta, z0, method="discrete", **options)
            exact = model.gradient(loss, (0, 3.2), theta, z0, method="discrete", solver="dop853",
                                   rtol=1e-12, atol=1e-13)  # fmt: skip
            np.testing.assert_allclose(one.theta, exact.theta, rtol=2e-2, atol=1e-4)
            assert one.value == pytest.approx(exact.value, rel=1e-3, abs=1e-5)


def test_checkpoints_stop_at_corners_as_the_discrete_adjoint_does() -> None:
    model = forced("constant")
    loss = symode.Loss(terminal=x**2, observations={1.7: x, 2.0: 3 * x})
    for theta in ([0.8, 1.3], [0.8, 0.0]):
        one, two = (
            model.gradient(loss, (0, 3.2), theta, method=method, rtol=1e-6, atol=1e-8)
            for method in ("discrete", symode.CheckpointedAdjoint(checkpoints=1, segment=2))
        )
        assert np.array_equal(one.theta, two.theta) and one.value == two.value


def test_a_short_pulse_is_not_missed_forwards_or_backwards() -> None:
    pulse = Table([0, 731.0, 731.001], [0.0, 1000.0, 0.0], "constant")
    model = symode.Model({x: u}, initial={x: 0}, inputs={u: pulse})
    assert model.solve((0, 1000))["x"][-1] == pytest.approx(1.0, rel=1e-9)
    assert model.solve((1000, 0), z0=[1.0])["x"][-1] == pytest.approx(0.0, abs=1e-9)
    # From the middle of it, and from a corner itself.
    assert model.solve((731.0, 1000), z0=[0.0])["x"][-1] == pytest.approx(1.0, rel=1e-9)
    assert model.solve((0, 731.0))["x"][-1] == 0.0


def test_second_derivatives_and_every_check_of_verify_go_through_corners() -> None:
    table = Table(TIMES, VALUES, "constant")
    model = symode.Model({x: a * u - k * x**2}, [k, a], initial={x: 2 * a}, inputs={u: table})
    # Not at a corner, where the derivative in the time of an observation has two values.
    loss = symode.Loss(terminal=x**2, observations={1.6: x, 2.0: 3 * x})
    assert symode.verify(model, loss, (0, 3.2), theta=[0.8, 1.3]).passed
    tight = {"rtol": 1e-11, "atol": 1e-13}
    hessian = model.hessian(loss, (0, 3.2), [0.8, 1.3], **tight)
    for i, h in enumerate(np.eye(2) * 1e-5):
        moved = np.array([0.8, 1.3]) + h, np.array([0.8, 1.3]) - h
        up, down = (model.gradient(loss, (0, 3.2), point, **tight).theta for point in moved)
        row = (np.asarray(up) - np.asarray(down)) / 2e-5
        np.testing.assert_allclose(np.asarray(hessian.matrix)[i], row, rtol=1e-6)


@pytest.mark.parametrize("moment", [0.9, 1.1])
def test_events_between_and_at_corners_leave_both_in_place(moment: float) -> None:
    table = Table(TIMES, VALUES, "constant")
    plain = symode.Model({x: a * u - k * x}, [k, a], initial={x: 2 * a}, inputs={u: table})
    halved = symode.Model({x: a * u - k * x}, [k, a], initial={x: 2 * a}, inputs={u: table},
                          events=[symode.Event(t >= moment, {x: x / 2})])  # fmt: skip
    theta, tight = [0.8, 1.3], {"rtol": 1e-11, "atol": 1e-13}
    middle = plain.solve((0, moment), theta, **tight)["x"][-1]
    end = plain.solve((moment, 3.2), theta, z0=[middle / 2], **tight)["x"][-1]
    assert halved.solve((0, 3.2), theta, **tight)["x"][-1] == pytest.approx(end, rel=1e-10)
    # x(3.2) is half the size of what was there at the moment, for ever after.
    loss = symode.Loss(terminal=x)
    whole = plain.gradient(loss, (0, 3.2), theta, **tight)
    lost = 0.5 * middle * np.exp(-0.8 * (3.2 - moment))
    for method in ("discrete", "forward"):
        found = halved.gradient(loss, (0, 3.2), theta, method=method, **tight)
        assert found.value == pytest.approx(whole.value - lost, rel=1e-9)
        assert found.theta["a"] == pytest.approx(found.value / 1.3, rel=1e-9)


def test_time_derivatives_of_tables_reach_the_methods_that_need_them() -> None:
    # Rosenbrock methods lose their order without f_t.
    model = forced("cubic")
    ends = [model.solve((0, 3.2), [0.8, 1.3], solver=s, rtol=1e-9, atol=1e-11)["x"][-1]
            for s in ("rodas5p", "dop853")]  # fmt: skip
    assert ends[0] == pytest.approx(ends[1], rel=1e-8)
    derivative = Tabulated(
        t, 0, TableData("u", TableFamily((Table(TIMES, VALUES, "cubic").pieces,)))
    )
    slope = float(derivative.diff(t).subs(t, 0.9).evalf(20))
    assert slope == pytest.approx(float(CubicSpline(TIMES, VALUES)(0.9, 1)), rel=1e-13)
    # The index chooses: there is no derivative in it.
    assert Tabulated(t, k, derivative.args[2]).diff(k) == 0


def test_large_tables_are_looked_up_not_unrolled() -> None:
    rng = np.random.default_rng(3)
    times, values = np.linspace(0, 10, 1001), rng.uniform(0, 2, 1001)
    model = symode.Model({x: a * u - k * x}, [k, a], initial={x: 1},
                         inputs={u: Table(times, values, "cubic")})  # fmt: skip
    small = symode.Model({x: a * u - k * x}, [k, a], initial={x: 1},
                         inputs={u: Table(times[::100], values[::100], "cubic")})  # fmt: skip
    # The same operations, whatever the number of rows.
    assert model.source("rhs").count("\n") == small.source("rhs").count("\n")
    spline = CubicSpline(times, values)
    exact = np.exp(-5.0) + sum(
        np.polynomial.legendre.leggauss(8)[1] * 0.005
        @ (spline(m + 0.005 * g) * np.exp(-0.5 * (10 - m - 0.005 * g)))
        for m in times[:-1] + 0.005 for g in [np.polynomial.legendre.leggauss(8)[0]]
    )  # fmt: skip
    found = model.gradient(symode.Loss(terminal=x), (0, 10), [0.5, 1.0], rtol=1e-9, atol=1e-11)
    assert found.value == pytest.approx(exact, rel=1e-6)
    assert found.theta["a"] == pytest.approx(exact - np.exp(-5.0), rel=1e-6)


def test_a_table_is_shown_by_its_name_and_survives_copies() -> None:
    model = forced("linear")
    assert "u(t)" in str(model.equations.rhs[0]) and "u" not in map(str, model.parameters)
    assert r"u\left(t\right)" in model.latex()
    again = pickle.loads(pickle.dumps(model))
    end = model.solve((0, 3), [1, 1])["x"][-1]
    assert again.solve((0, 3), [1, 1])["x"][-1] == end
    assert copy.deepcopy(model).solve((0, 3), [1, 1])["x"][-1] == end
    # Explicit parameters need not name the input, and text models take tables too.
    read = symode.Model.from_text("x' = a*u - k*x; x(0) = 2*a; param k, a, u").equations
    text = symode.Model(read, inputs={"u": Table(TIMES, VALUES)})
    assert text.solve((0, 3), [1, 1])["x"][-1] == end


def test_a_frame_gives_each_of_its_columns() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"time": TIMES, "u": VALUES, "v": [0.0, None, 1.0, None, None, 2.0]})
    v = sp.Symbol("v")
    both = symode.Model({x: u + v}, initial={x: 0}, inputs=frame)
    single = symode.Model({x: u}, initial={x: 0}, inputs={u: Table(frame[["time", "u"]])})
    found = both.solve((0, 3.5))["x"][-1] - single.solve((0, 3.5))["x"][-1]
    assert found == pytest.approx(0.5 * 1.0 * 1.1 + 1.5 * 2.4, rel=1e-12)
    assert repr(Table.read(frame)["v"]) == "Table(3 rows, t = 0 to 3.5, linear)"
    with pytest.raises(DataError, match=r"Table\.read"):
        Table(frame)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: Table([0, 1, np.nan], [1, 2, 3]), DataError, "Row 2 of the times holds nan"),
        (lambda: Table([0, 1], [1, np.inf]), DataError, "Row 1 of the values holds inf"),
        (lambda: Table([0, 1], [1, "two"]), DataError, "Row 1 of the values holds 'two'"),
        (lambda: Table([0, 2, 1], [1, 2, 3]), DataError, "Row 2 of the table is at t = 1, not la"),
        (lambda: Table([0, 1, 1], [1, 2, 3]), DataError, "for a jump use kind='constant'"),
        (lambda: Table([0, 1], [1]), DataError, "2 times but 1 values"),
        (lambda: Table([0], [1]), OptionError, "at least 2 rows; got 1"),
        (lambda: Table([0, 1]), DataError, "No values"),
        (lambda: Table([0, 1], [1, 2], "spline"), OptionError, "constant, linear, cubic, pchip"),
        (lambda: Table([0, 1], [1, 2], outside="zero"), OptionError, "refuse, hold; got 'zero'"),
        (lambda: forced("linear").solve((0, 4), [1, 1]), OptionError, "u ends at t = 3.5, but the"),
        (lambda: forced("constant").solve((-1, 2), [1, 1]), OptionError, "u starts at t = 0, but"),
        (lambda: forced("linear").gradient(symode.Loss(terminal=x), (0, 4), [1, 1]), OptionError,
         "reaches t = 4"),
        (lambda: symode.Model({x: -x}, inputs={u: Table([0, 1], [1, 2])}), OptionError, "names u"),
        (lambda: symode.Model({x: u - x}, inputs={u: 3}), OptionError, "constant input is a param"),
        (lambda: symode.Model({x: u - x}, inputs=[1]), OptionError, "must map names"),
        (lambda: forced("linear").steady_state([1, 1]), ModelError, "depends on time"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_told(call, error, says) -> None:
    import re

    with pytest.raises(error, match=re.escape(says)):
        call()


def test_ends_hold_where_asked_to() -> None:
    held = forced("linear", outside="hold").solve((0, 5), [0.8, 1.3])["x"][-1]
    at = decay_exactly(0.8, 1.3, 2.6, 3.5, "linear")
    level = 1.3 * VALUES[-1] / 0.8
    assert held == pytest.approx(level + (at - level) * np.exp(-0.8 * 1.5), rel=1e-8)
