"""A function of several losses: its gradient is the chain rule's, by every method and solver."""

import pickle

import numpy as np
import pytest
import sympy as sp
from cases import CASES, LOSSES, T, exact, exact_hessian

import symode
from symode import Composite, Loss
from symode.errors import GradientError, LossError
from symode.gradients.methods import JUDGES, METHODS

RTOL, ATOL = 1e-9, 1e-11
#: As in test_conformance: the local errors of some dozens of steps, times the weights dg/dv.
LIMIT = 1e3 * RTOL
#: Terminal losses, running costs, and observations, repeated and at both ends, in different parts.
PARTS = ("mixed", "repeated", "terminal")
M, R, E = sp.symbols("M R E")

every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
every_method = pytest.mark.parametrize("method", (*METHODS, *JUDGES), ids=lambda m: m.name)


def outer_of(case) -> sp.Expr:
    """Return a function of the parts in which no derivative, first or second, is idle."""
    a = case.parameters[0]
    return sp.log(1 + M**2) * sp.exp(R / 3) / (3 + E**2) + a * R * E


def composite_of(case, factor=1) -> Composite:
    parts = dict(zip((M, R, E), (Loss(**LOSSES[name](case)) for name in PARTS), strict=True))
    return Composite(factor * outer_of(case), parts)


class Chain:
    """g of exact values and gradients of the parts, in everything: (theta, z0, t0, t1, times)."""

    def __init__(self, case, backwards=False, from_initial=False):
        known = [exact(case.name, name, backwards, from_initial) for name in PARTS]
        g, symbols, m = outer_of(case), (M, R, E), len(case.theta)
        at = dict(zip(symbols, (k.value for k in known), strict=True))
        at |= dict(zip(case.parameters, case.theta, strict=True))
        number = lambda e: float(e.evalf(30, subs=at))  # noqa: E731
        self.value, n = number(g), len(case.z0)
        weights = [number(g.diff(s)) for s in symbols]
        explicit = np.array([number(g.diff(p)) for p in case.parameters])
        total = lambda name: sum(w * getattr(k, name) for w, k in zip(weights, known, strict=True))  # noqa: E731
        self.theta, self.z0 = total("theta") + explicit, total("z0")
        self.t0, self.t1 = total("t0"), total("t1")
        self.times = np.concatenate([w * k.times for w, k in zip(weights, known, strict=True)])
        # Second derivatives: of the parts, and of g in (parts, theta), pulled back.
        inner = np.zeros((3 + m, m + n))
        inner[:3] = [np.concatenate([k.theta, k.z0]) for k in known]
        inner[3:, :m] = np.eye(m)
        curvature = sp.hessian(g, [*symbols, *case.parameters]).applyfunc(number)
        self.curvature = inner.T @ np.array(curvature, dtype=float) @ inner
        self.weights = weights

    def hessian(self, case):
        parts = zip(self.weights, PARTS, strict=True)
        return sum(w * exact_hessian(case.name, name) for w, name in parts) + self.curvature


def flat(g) -> np.ndarray:
    return np.concatenate([g.theta, g.z0, [g.t0, g.t1], g.times])


def gap(found, known) -> float:
    return float(np.linalg.norm(flat(found) - flat(known)) / np.linalg.norm(flat(known)))


@every_case
@every_method
def test_gradient_is_the_chain_rule_of_exact_parts(method, case):
    for initial in (False, True):
        found = case.model.gradient(
            composite_of(case), case.span, theta=case.theta, z0=None if initial else case.z0,
            method=method, solver="tsit5", rtol=RTOL, atol=ATOL,
        )  # fmt: skip
        known = Chain(case, from_initial=initial)
        assert found.value == pytest.approx(known.value, rel=LIMIT)
        assert gap(found, known) <= LIMIT


@pytest.mark.parametrize("solver", ["rodas5p", "radau5", "esdirk54", "vern7"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_other_solvers_find_it(method, solver):
    case = CASES[1]
    found = case.model.gradient(
        composite_of(case), case.span, theta=case.theta, z0=case.z0,
        method=method, solver=solver, rtol=RTOL, atol=ATOL,
    )  # fmt: skip
    assert gap(found, Chain(case)) <= LIMIT


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_backwards_in_time(method):
    case = CASES[2].reversed()
    found = case.model.gradient(
        composite_of(case), case.span, theta=case.theta, z0=case.z0,
        method=method, solver="tsit5", rtol=RTOL, atol=ATOL,
    )  # fmt: skip
    assert gap(found, Chain(case, backwards=True)) <= LIMIT


@pytest.mark.parametrize("method", ["backsolve", "forward", "finite_difference", "complex_step"])
def test_a_black_box_solver_finds_it(method):
    case = CASES[3]

    def heun(fun, span, y0, t_eval):
        rows, t, y = [], span[0], np.asarray(y0)
        for end in t_eval:
            h = (end - t) / 400
            for _ in range(400):
                k = [fun(t, y)]
                k += [fun(t + h / 2, y + h / 2 * k[0])]
                k += [fun(t + h / 2, y + h / 2 * k[1])]
                k += [fun(t + h, y + h * k[2])]
                y, t = y + h / 6 * (k[0] + 2 * k[1] + 2 * k[2] + k[3]), t + h
            t = end
            rows.append(y)
        return np.array(rows)

    found = case.model.gradient(
        composite_of(case), case.span, theta=case.theta, z0=case.z0, method=method, solver=heun
    )
    # Steps of 1/5000 of the span: h**4 is 1e-15; differences keep some nine digits.
    assert gap(found, Chain(case)) <= (1e-7 if method == "finite_difference" else 1e-9)


@every_case
@pytest.mark.parametrize("method", ["discrete", "forward", "interpolating"])
def test_hessian_holds_the_curvature_of_the_function(case, method):
    vg = case.model.value_and_grad(
        composite_of(case), t0=case.span[0], t1=case.span[1], method=method, solver="tsit5",
        rtol=RTOL, atol=ATOL,
    )  # fmt: skip
    point = vg.pack(theta=case.theta, z0=case.z0)
    found, known = vg.hessian(point), Chain(case).hessian(case)
    assert np.linalg.norm(found - known) <= LIMIT * np.linalg.norm(known)
    v = np.cos(np.arange(point.size))
    assert vg.hvp(point, v) == pytest.approx(known @ v, rel=1e-4, abs=LIMIT * np.abs(known).max())


@pytest.mark.parametrize("method", ["discrete", "forward", "gauss"])
def test_composites_are_rows_of_a_jacobian_beside_other_losses(method):
    case = CASES[0]
    plain = Loss(**LOSSES["mixed"](case))
    found = case.model.jacobian(
        {"joint": composite_of(case), "mixed": plain}, case.span, theta=case.theta, z0=case.z0,
        method=method, solver="tsit5", rtol=RTOL, atol=ATOL, wrt=("theta", "z0", "t0", "t1"),
    )  # fmt: skip
    assert found.names == ("joint", "mixed")
    for name, known in (("joint", Chain(case)), ("mixed", exact(case.name, "mixed"))):
        row = found[name]
        size = np.linalg.norm([*known.theta, *known.z0, known.t0, known.t1])
        parts = (row["theta"] - known.theta, row["z0"] - known.z0,
                 [row["t0"] - known.t0, row["t1"] - known.t1])  # fmt: skip
        assert np.linalg.norm(np.concatenate(parts)) <= LIMIT * size
        assert row["value"] == pytest.approx(known.value, rel=LIMIT)


@pytest.mark.parametrize("factor", [1e12, 1e-12])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_scaling_keeps_the_digits(method, factor):
    case = CASES[1]
    run = lambda k: case.model.gradient(  # noqa: E731
        composite_of(case, k), case.span, theta=case.theta, z0=case.z0, method=method
    )
    plain, scaled = run(1), run(factor)
    assert flat(scaled) == pytest.approx(flat(plain) * factor, rel=1e-9)


def test_part_of_the_parameters_a_batch_and_a_copy():
    case = CASES[3]
    some = case.parameters[1]
    vg = case.model.value_and_grad(
        composite_of(case), [some, "z0"], theta=case.theta, t0=case.span[0], t1=case.span[1],
        rtol=RTOL, atol=ATOL,
    )  # fmt: skip
    known = Chain(case)
    point = vg.pack(theta={some: case.theta[1]}, z0=case.z0)
    for function in (vg, pickle.loads(pickle.dumps(vg))):
        value, slope = function(point)
        assert value == pytest.approx(known.value, rel=LIMIT)
        assert slope == pytest.approx([known.theta[1], *known.z0], rel=LIMIT)
    # The loss of a batch is the sum of the members' losses, not a function of summed parts.
    starts = np.array([case.z0, np.array(case.z0) * [1.1, 0.9, 1.2]])
    whole = case.model.gradient(
        composite_of(case), case.span, theta=case.theta, z0=starts, rtol=RTOL, atol=ATOL
    )
    each = [
        case.model.gradient(
            composite_of(case), case.span, theta=case.theta, z0=z, rtol=RTOL, atol=ATOL
        )
        for z in starts
    ]
    assert whole.value == pytest.approx(each[0].value + each[1].value, rel=1e-12)
    assert whole.theta == pytest.approx(each[0].theta + each[1].theta, rel=1e-9)


X, Y, K = sp.symbols("x y k")
DECAY = symode.Model({X: -K * X}, parameters=[K], time=T, initial={X: 2})


def test_times_move_their_part_alone():
    a, b = sp.symbols("a b")
    loss = Composite(a**2 / b, {a: [1.5, X], b: Loss(observations=[(2.5, X), (0.5, X)])})
    vg = DECAY.value_and_grad(loss, ("theta", "times"), t0=0.0, t1=3.0)
    k, times = 0.7, np.array([1.4, 2.6, 0.6])
    value, slope = vg(vg.pack(theta=[k], times=times))
    v = 2 * np.exp(-k * times)
    top, bottom = v[0], v[1] + v[2]
    weights = np.array([2 * top / bottom, *[-((top / bottom) ** 2)] * 2])
    assert value == pytest.approx(top**2 / bottom, rel=1e-6)
    assert slope == pytest.approx([-(weights * times) @ v, *(-k * weights * v)], rel=1e-5)


def test_the_largest_of_several_values_and_a_correlation():
    y = sp.symbols("y:5")
    times = [0.3, 0.9, 1.7, 2.2, 2.9]
    wave = symode.Model({X: Y, Y: -(K**2) * X}, parameters=[K], initial={X: 1, Y: 0})
    each = symode.VectorLoss.each(Loss(observations=[(t, X) for t in times]))
    k = 2.3
    peak = wave.gradient(Composite(sp.Max(*y), {y: each}), (0, 3), [k], rtol=1e-9, atol=1e-11)
    values = np.cos(k * np.array(times))
    largest = times[int(np.argmax(values))]
    assert peak.value == pytest.approx(values.max(), rel=1e-7)
    assert peak.theta["k"] == pytest.approx(-largest * np.sin(k * largest), rel=1e-6)

    data = np.array([0.7, -0.5, -0.6, 0.2, 0.9])
    mean = sp.Add(*y) / 5
    centred = [v - mean for v in y]
    d = data - data.mean()
    r = sum(di * c for di, c in zip(d, centred, strict=True)) / sp.sqrt(sum(c**2 for c in centred))
    found = wave.gradient(
        Composite(r / np.linalg.norm(d), {y: each}), (0, 3), [k], rtol=1e-9, atol=1e-11
    )
    correlation = lambda k: np.corrcoef(np.cos(k * np.array(times)), data)[0, 1]  # noqa: E731
    # Central differences with a step of the cube root of rounding: about ten digits.
    slope = (correlation(k + 1e-5) - correlation(k - 1e-5)) / 2e-5
    assert found.value == pytest.approx(correlation(k), rel=1e-7)
    assert found.theta["k"] == pytest.approx(slope, rel=1e-7)


def test_logarithm_of_a_sum_of_squares():
    s = sp.Symbol("S")
    data = symode.LeastSquares([0.5, 1.0, 2.0], [[1.5], [0.9], [0.8]])
    plain = DECAY.gradient(data, (0, 2), [0.7], rtol=1e-9, atol=1e-11)
    joint = DECAY.gradient(
        Composite(sp.Rational(3, 2) * sp.log(s), {"S": data}), (0, 2), [0.7], rtol=1e-9, atol=1e-11
    )
    assert joint.value == pytest.approx(1.5 * np.log(plain.value), rel=1e-12)
    assert joint.theta == pytest.approx(1.5 / plain.value * plain.theta, rel=1e-12)


@pytest.mark.parametrize("method", ["discrete", "forward"])
def test_with_a_mass_matrix(method):
    # x' = -k x, 0 = y - x**2: the flow is known.
    a, b, c = sp.symbols("a b c")
    model = symode.Model(
        {X: -K * X, Y: Y - X**2}, parameters=[K], time=T, initial={X: 1 + K, Y: 1},
        mass=[[1, 0], [0, 0]],
    )  # fmt: skip
    loss = Composite(
        a * b / c,
        {a: (0.5, Y), b: Loss(running=X * Y), c: Loss(terminal=Y + X, observations={0: X})},
    )
    found = model.gradient(loss, (0, 1.2), [0.6], method=method, rtol=1e-10, atol=1e-12)
    k = sp.Symbol("kk", positive=True)
    x = lambda t: (1 + k) * sp.exp(-k * t)  # noqa: E731
    end = sp.Symbol("end", positive=True)
    exact_loss = x(0.5) ** 2 * sp.integrate(x(T) ** 3, (T, 0, end)) / (x(end) ** 2 + x(end) + x(0))
    at = {k: 0.6, end: 1.2}
    assert found.value == pytest.approx(float(exact_loss.subs(at)), rel=1e-8)
    assert found.theta["k"] == pytest.approx(float(exact_loss.diff(k).subs(at)), rel=1e-7)
    assert found.t1 == pytest.approx(float(exact_loss.diff(end).subs(at)), rel=1e-7)


@pytest.mark.parametrize("method", ["discrete", "forward"])
def test_across_an_event(method):
    # At t = 1 the dose p is added: x(t) = 2 e^{-k t}, then + p e^{-k (t - 1)}.
    p, a, b = sp.symbols("p a b")
    model = symode.Model(
        {X: -K * X}, parameters=[K, p], time=T, initial={X: 2},
        events=[symode.Event(T - 1, {X: X + p})],
    )  # fmt: skip
    loss = Composite(a / b, {a: (0.5, X), b: (2.0, X)})
    k, dose = 0.7, 0.4
    found = model.gradient(loss, (0, 2), [k, dose], method=method, rtol=1e-10, atol=1e-12)
    top, bottom = 2 * np.exp(-k / 2), 2 * np.exp(-2 * k) + dose * np.exp(-k)
    dbottom = -4 * np.exp(-2 * k) - dose * np.exp(-k)
    assert found.value == pytest.approx(top / bottom, rel=1e-8)
    slope = -0.5 * top / bottom - top * dbottom / bottom**2
    assert found.theta == pytest.approx([slope, -top * np.exp(-k) / bottom**2], rel=1e-7)


def test_what_is_no_composite_is_refused():
    a, b = sp.symbols("a b")
    with pytest.raises(LossError, match="mapping"):
        Composite(a, [Loss(terminal=X)])
    with pytest.raises(LossError, match="part b is not in the expression"):
        Composite(a, {a: (1.0, X), b: (2.0, X)})
    with pytest.raises(LossError, match="other assumptions"):
        Composite(sp.Symbol("a", positive=True), {a: (1.0, X)})
    with pytest.raises(LossError, match="States and time belong"):
        DECAY.gradient(Composite(a * X, {a: (1.0, X)}), (0, 1), [0.7])
    with pytest.raises(LossError, match="symbol of a state"):
        DECAY.gradient(Composite(K, {K: (1.0, X)}), (0, 1), [0.7])
    with pytest.raises(LossError, match="not Composites"):
        DECAY.gradient(Composite(a, {a: Composite(b, {b: (1.0, X)})}), (0, 1), [0.7])
    with pytest.raises(LossError, match="3 losses stand for 2 symbols"):
        DECAY.gradient(Composite(a + b, {(a, b): [(1.0, X)] * 3}), (0, 1), [0.7])
    with pytest.raises(LossError, match="text"):
        Composite("a", {a: (1.0, X)})
    with pytest.raises(LossError, match="outside the span"):
        DECAY.gradient(Composite(a, {a: (3.0, X)}), (0, 1), [0.7])


def test_a_function_without_value_there_gives_no_gradient():
    a, b = sp.symbols("a b")
    undefined = Composite(sp.log(a - b), {a: (1.0, X), b: (0.5, X)})
    with pytest.raises(GradientError, match="not defined"):
        DECAY.gradient(undefined, (0, 1), [0.7])
    steep = Composite(sp.sqrt(a - b), {a: (1.0, X), b: (1.0, X)})
    for method in ("discrete", "forward", "gauss"):
        with pytest.raises(GradientError, match="not finite"):
            DECAY.gradient(steep, (0, 1), [0.7], method=method)
    with pytest.raises(GradientError, match="'log'"):
        DECAY.jacobian({"log": undefined}, (0, 1), [0.7])
