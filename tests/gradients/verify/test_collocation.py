"""The reference of stiff models: 30 digits by collocation, where Taylor series take too long."""

from decimal import Decimal, localcontext

import mpmath
import numpy as np
import pytest
import sympy as sp
from gradients.reference import ENTRIES, needs_entries

import symode
from symode.gradients.setup import make_task
from symode.gradients.verify import reference as module
from symode.gradients.verify.radau import radau
from symode.gradients.verify.reference import make_reference
from symode.gradients.verify.reference_collocation import CollocationRun
from symode.gradients.verify.reference_run import GUARD, TooLongError
from symode.gradients.verify.series import NoSeriesError, precision

T = sp.Symbol("t")


def task_of(model, loss, span, from_initial=False):
    return make_task(model.equations, loss, span, from_initial=from_initial, rtol=1e-6, atol=1e-9)


def one_run(task, theta, z0, digits=30):
    with localcontext(precision(digits + GUARD)):
        return CollocationRun(task, np.array(theta), z0, digits).run(limit=float("inf"))


@pytest.mark.parametrize("stages", [2, 3, 7, 20])
def test_the_coefficients_are_those_of_collocation(stages):
    with localcontext(precision(50)):
        method = radau(stages, 50)
        assert method.c[-1] == 1
        for k in range(1, stages + 1):
            slope = method.inverse @ np.array([c**k for c in method.c], dtype=object)
            expected = [k * c ** (k - 1) for c in method.c]
            # D has entries up to the square of the stages; they cancel.
            assert max(abs(slope - expected)) < Decimal(10) ** -44
            inside = method.at(Decimal("0.3")) @ np.array([c**k for c in method.c], dtype=object)
            assert abs(inside - Decimal("0.3") ** k) < Decimal(10) ** -44
        if stages == 3:
            # Hairer & Wanner II, table IV.5.6.
            assert abs(method.c[0] - (4 - Decimal(6).sqrt()) / 10) < Decimal(10) ** -49
        legendre = [mpmath.legendre(k, 2 * mpmath.mpf(str(c)) - 1) for k in range(stages)
                    for c in method.c]  # fmt: skip
        last = method.tail @ np.array([Decimal(str(p)) for p in legendre[-stages:]], dtype=object)
        assert [float(v) for v in last] == pytest.approx([0.0, 1.0], abs=1e-13)


def forced(rate=1e6):
    """A stiff equation with a closed form: x = cos(b t) + (x0 - cos(b t0)) exp(-k (t - t0))."""
    x, k, b, u, v = sp.symbols("x k b u v")
    model = symode.Model(
        {x: -k * (x - sp.cos(b * T)) - b * sp.sin(b * T)}, parameters=[k, b], time=T,
        initial={x: b / 3 + T},
    )  # fmt: skip
    loss = symode.Composite(
        u / v + b * u,
        {u: symode.Loss(running=x * T, observations={1.7: x**2}), v: (0.4, x + T)},
    )
    return model, loss, (0.1, 1.7), (rate, 1.3)


def test_a_stiff_closed_form_is_met_to_all_digits():
    model, loss, (t0, t1), theta = forced()
    task = task_of(model, loss, (t0, t1), from_initial=True)
    found = make_reference(task, np.array(theta), None, digits=30, budget=60.0)
    assert found.kind == "Radau collocation" and found.digits >= 30
    mp = mpmath.MPContext()
    mp.dps = 60
    point = [mp.mpf(v) for v in (*theta, t0, t1, 0.4)]

    def value(p):
        k, b, t0, t1, inner = p
        gap = b / 3 + t0 - mp.cos(b * t0)
        x = lambda t: mp.cos(b * t) + gap * mp.exp(-k * (t - t0))  # noqa: E731
        # The integrals of t cos(b t) and of t exp(-k t), by parts.
        smooth = lambda t: t * mp.sin(b * t) / b + mp.cos(b * t) / b**2  # noqa: E731
        fast = lambda t: -(t / k + 1 / k**2) * mp.exp(-k * (t - t0))  # noqa: E731
        u = smooth(t1) - smooth(t0) + gap * (fast(t1) - fast(t0)) + x(t1) ** 2
        return u / (x(inner) + inner) + b * u

    slopes = []
    for i in range(5):
        moved = list(point)
        moved[i] = moved[i] + mp.mpc(0, mp.mpf(10) ** -45)
        slopes.append(mp.im(value(moved)) * mp.mpf(10) ** 45)
    pairs = [(found.value, value(point)), *zip(found.theta, slopes[:2], strict=True),
             (found.t0, slopes[2]), (found.t1, slopes[3]), (found.times[1], slopes[4])]  # fmt: skip
    scale = [1, *theta, 1, 1, 1]
    size = max(abs(s * exact) for s, (_, exact) in zip(scale, pairs, strict=True))
    for s, (own, exact) in zip(scale, pairs, strict=True):
        assert abs(mp.mpf(str(own)) - exact) * s < mp.mpf(10) ** -30 * size


@needs_entries
@pytest.mark.parametrize("name", ["robertson_t40", "robertson_t4e4"])
def test_references_of_others_agree(name):
    entry = ENTRIES[name]
    task = task_of(entry.model, entry.loss, entry.span)
    found = make_reference(task, entry.theta, entry.z0, digits=30, budget=60.0)
    assert found.kind == "Radau collocation" and found.digits >= 30
    g = np.array([float(v) for v in (*found.theta, *found.z0)])
    scale = np.where(entry.z0 == 0.0, 1.0, np.abs(entry.z0))
    scale = np.concatenate([np.abs(entry.theta), scale])
    # Theirs has 20 digits; of 0.04 a double keeps 16, times the condition of the problem.
    assert np.linalg.norm((g - entry.gradient) * scale) <= 1e-15 * np.linalg.norm(g * scale)


def test_a_relaxation_oscillation_agrees_at_other_orders_and_steps():
    x, y, mu = sp.symbols("x y mu")
    model = symode.Model({x: y, y: mu * (1 - x**2) * y - x}, parameters=[mu], time=T)
    task = task_of(model, symode.Loss(terminal=x**2 + y / 10), (0.0, 90.0))
    start = np.array([2.0, 0.1])
    loose, tight = (one_run(task, [100.0], start, digits) for digits in (24, 31))
    assert loose.order < tight.order and loose.steps != tight.steps
    gap = max(
        abs(a - b)
        for a, b in zip((*loose.theta, *loose.z0), (*tight.theta, *tight.z0), strict=True)
    )
    # 24 digits are asked for; the jump at t = 81 moves with mu, which costs some.
    assert gap <= Decimal(10) ** -19 * max(map(abs, tight.z0))


def test_taylor_series_and_collocation_agree_where_both_serve():
    x, y, a, b = sp.symbols("x y a b")
    model = symode.Model(
        {x: a * x - b * x * y, y: x * y / 2 - y}, parameters=[a, b], time=T,
        initial={x: 1 + a, y: 2 * b + T},
    )  # fmt: skip
    loss = symode.Loss(terminal=x * y, running=y**2 * a, observations=[(0.3, x), (1.0, b * y**2)])
    for span in ((0.3, 1.6), (1.6, 0.3)):
        task = task_of(model, loss, span, from_initial=True)
        theta = np.array([0.9, 0.7])
        series = make_reference(task, theta, None, digits=25)
        assert series.kind == "Taylor series"
        other = one_run(task, theta, None)
        names = ("theta", "z0", "times")
        pairs = [(series.t0, other.t0), (series.t1, other.t1), (series.value, other.value)]
        for name in names:
            pairs += zip(getattr(series, name), getattr(other, name), strict=True)
        assert max(abs(a - b) for a, b in pairs) < Decimal(10) ** -24


def test_what_takes_too_long_is_refused_with_a_forecast(monkeypatch):
    model, loss, span, theta = forced()
    monkeypatch.setattr(module, "STIFF_BUDGET", 0.01)
    task = task_of(model, loss, span, from_initial=True)
    with pytest.raises(TooLongError, match=r"about \d+ s of Radau collocation"):
        make_reference(task, np.array(theta), None, digits=30, budget=0.01)


def test_a_solution_that_blows_up_has_no_reference():
    x, k = sp.symbols("x k")
    model = symode.Model({x: k * x**2}, parameters=[k], time=T)
    task = task_of(model, symode.Loss(terminal=x), (0.0, 2.0))
    with pytest.raises(NoSeriesError):
        one_run(task, [1.0], np.array([1.0]))


def test_verify_uses_it_for_a_stiff_model_and_says_so():
    model, loss, span, theta = forced(1e4)
    report = symode.verify(
        model, loss, span, theta, rtol=1e-7, atol=1e-9, checks=["reference", "tolerances"]
    )
    assert report["reference"].passed and not report["reference"].skipped
    assert "Radau collocation of order" in report["reference"].summary
    assert "Radau collocation" in str(report)
