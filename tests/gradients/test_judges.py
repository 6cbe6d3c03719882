"""ComplexStep and FiniteDifference: independent of every derivative that symode makes itself."""

import numpy as np
import pytest
import sympy as sp
from cases import CASES, LOSSES, exact

import symode
from symode.errors import OptionError, SolverError
from symode.gradients.methods import JUDGES
from symode.symbolic.derive import FIELD_KERNELS

X, Y, K, Q, T = sp.symbols("x y k q t")


def flat(found: symode.Gradient) -> np.ndarray:
    return np.concatenate([[found.value, found.t0, found.t1], found.theta, found.z0, found.times])


def ask(case, loss, z0="given", **options) -> symode.Gradient:
    return case.model.gradient(
        symode.Loss(**LOSSES[loss](case)), case.span, theta=case.theta,
        z0=case.z0 if z0 == "given" else None, **{"rtol": 1e-9, "atol": 1e-11, **options},
    )  # fmt: skip


@pytest.mark.parametrize("solver", ["bosh3", "tsit5", "vern7", "dop853", "rodas5p"])
@pytest.mark.parametrize("loss", ["mixed", "repeated"])
@pytest.mark.parametrize("case", CASES[1:], ids=lambda case: case.name)
def test_the_complex_step_is_the_discrete_adjoint_to_rounding(case, loss, solver):
    for z0 in ("given", "model"):
        a, b = (
            flat(ask(case, loss, z0, method=m, solver=solver, rtol=1e-7, atol=1e-9))
            for m in ("complex_step", "discrete")
        )
        # Both differentiate the same computed numbers; some hundred operations round.
        assert np.max(np.abs(a - b)) <= 1e-12 * np.max(np.abs(b))


@pytest.mark.parametrize("method", JUDGES, ids=lambda method: method.name)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_judges_find_the_closed_form(case, loss, method):
    for z0 in ("given", "model"):
        known = exact(case.name, loss, from_initial=z0 == "model")
        found = flat(ask(case, loss, z0, method=method, solver="tsit5"))
        expected = flat(known)
        assert np.max(np.abs(found - expected)) <= 1e-6 * np.max(np.abs(expected))


@pytest.mark.parametrize("method", JUDGES, ids=lambda method: method.name)
def test_judges_go_backwards_in_time(method):
    case = CASES[2].reversed()
    known = flat(exact(case.name, "mixed", backwards=True))
    found = flat(ask(case, "mixed", method=method, solver="tsit5"))
    assert np.max(np.abs(found - known)) <= 1e-6 * np.max(np.abs(known))


@pytest.mark.parametrize("solver", ["tsit5", "rodas5p"])
@pytest.mark.parametrize("steps", ["frozen", "resolved"])
@pytest.mark.parametrize("order", [2, 4])
def test_the_reported_error_of_differences_holds(order, steps, solver):
    case = CASES[2]
    method = symode.FiniteDifference(order=order, steps=steps)
    found = ask(case, "mixed", method=method, solver=solver)
    if steps == "frozen":
        known = ask(case, "mixed", method="complex_step", solver=solver)
    else:
        known = exact(case.name, "mixed")
    gap = np.concatenate([found.theta - known.theta, found.z0 - known.z0])
    bound = found.stats["errors"]
    # Ten: of J's noise only samples are seen. The known integral of the running cost is good to
    # some 4e-9 (solves at rtol from 1e-10 to 1e-12 all differ from it by that).
    own = 5e-9 if steps == "resolved" else 0.0
    assert (np.abs(gap) <= 10 * bound + own).all()
    assert found.stats["error_estimate"] < (1e-6 if steps == "resolved" else 1e-7)


def test_a_higher_order_is_more_accurate():
    case = CASES[1]
    known = ask(case, "mixed", method="complex_step", solver="tsit5").theta
    gaps = [
        np.max(np.abs(ask(case, "mixed", solver="tsit5", method=method).theta - known))
        for method in (symode.FiniteDifference(2), symode.FiniteDifference(4))
    ]
    assert gaps[1] < gaps[0] / 3


def test_the_error_of_a_given_step_falls_at_the_order():
    case = CASES[1]
    known = np.asarray(ask(case, "terminal", method="complex_step", solver="tsit5").theta)
    for order in (2, 4):
        steps = np.array([0.08, 0.04, 0.02])
        gaps = [
            np.linalg.norm(
                ask(case, "terminal", solver="tsit5",
                    method=symode.FiniteDifference(order, step=u)).theta - known)
            for u in steps
        ]  # fmt: skip
        slope = np.polyfit(np.log(steps), np.log(gaps), 1)[0]
        assert slope == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("method", JUDGES, ids=lambda method: method.name)
def test_judges_see_what_is_zero(method):
    model = symode.Model({X: K * sp.sin(9 * T)}, parameters=[K], time=T)
    found = model.gradient(
        symode.Loss(terminal=X + X**2), (0, 2), theta=[0.0], z0=[0.0], method=method
    )
    assert found.theta["k"] == pytest.approx((1 - np.cos(18)) / 9, rel=1e-6)


@pytest.mark.parametrize("method", JUDGES, ids=lambda method: method.name)
def test_branches_are_kept(method):
    rhs = {X: -K * sp.Abs(X) + sp.Max(Y, Q), Y: sp.Piecewise((-Y, X > 0.2), (Q, True))}
    model = symode.Model(rhs, parameters=[K, Q])
    loss = symode.Loss(terminal=sp.Abs(X) + sp.erf(Y) + sp.Min(X, 3))
    options = {"theta": [0.7, 0.3], "z0": [1.5, 0.4], "solver": "tsit5"}
    found = model.gradient(loss, (0, 1), method=method, **options)
    # Judges replay steps, which do not end where f switches.
    known = model.gradient(loss, (0, 1), method="discrete", **options, switch_events=False)
    # J has a kink where a stage meets the edge of a branch: nowhere near here.
    assert np.allclose(found.theta, known.theta, rtol=1e-7)


@pytest.mark.parametrize("method", JUDGES, ids=lambda method: method.name)
def test_only_what_is_asked_for_is_moved(method):
    model = symode.Model({X: -K * X, Y: Q * X - Y}, parameters=[K, Q], initial={X: 1 + Q, Y: K})
    loss = symode.Loss(terminal=Y**2, observations=[(0.5, X)])
    found = model.gradient(loss, (0, 1), theta=[0.7, 0.3], method=method, wrt=["q"])
    known = model.gradient(loss, (0, 1), theta=[0.7, 0.3], method="discrete")
    assert found.theta["q"] == pytest.approx(known.theta["q"], rel=1e-8)


@pytest.mark.parametrize("name", ["vjp"])
def test_the_complex_step_judges_a_wrong_adjoint(name, monkeypatch):
    signature, derive = FIELD_KERNELS[name]

    def broken(field):
        from symode.symbolic.graph import Builder

        graph = derive(field)
        b = Builder(graph)
        return b.freeze([b.neg(graph.outputs[0]), *graph.outputs[1:]])

    monkeypatch.setitem(FIELD_KERNELS, name, (signature, broken))
    model = symode.Model({X: Q * X - X * Y, Y: -K * X * Y}, parameters=[Q, K])
    wrong, right = (
        model.gradient(
            symode.Loss(terminal=X * Y), (0, 1), theta=[0.7, 0.4], z0=[1.1, 0.6], method=method
        )
        for method in ("discrete", "complex_step")
    )
    assert abs(wrong.theta["q"] - right.theta["q"]) > 1e-3


def test_failures_of_a_solve_are_heard():
    model = symode.Model({X: K * X**2}, parameters=[K])
    for method in JUDGES:
        with pytest.raises(SolverError):
            model.gradient(symode.Loss(terminal=X), (0, 2), theta=[1.0], z0=[1.0], method=method)


def test_wrong_options_are_named():
    for wrong in ({"order": 3}, {"step": 0.0}, {"step": 2.0}, {"steps": "new"}):
        with pytest.raises(OptionError):
            symode.FiniteDifference(**wrong)


@pytest.mark.parametrize("solver", ["tsit5", "rodas5p"])
def test_what_depends_on_nothing_is_complex_too(solver):
    # Constant initial values, a constant Jacobian, and a state that only time moves.
    model = symode.Model({X: -X + K, Y: sp.Integer(2)}, parameters=[K], initial={X: 3, Y: 1})
    found = model.gradient(
        symode.Loss(terminal=X * Y), (0, 1), theta=[0.4], method="complex_step", solver=solver
    )
    assert found.theta["k"] == pytest.approx(3 * (1 - np.exp(-1)), rel=1e-7)
