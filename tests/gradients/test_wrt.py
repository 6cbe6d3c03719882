"""Derivatives of what was asked for, in the order asked, by name; the rest costs nothing."""

import numpy as np
import pytest
import sympy as sp
from cases import CASES, DRIVEN, LOSSES, exact

import symode
from symode.errors import LossError, OptionError, ParameterError, UnknownNameError
from symode.gradients.choose import choose_method
from symode.gradients.methods import METHODS
from symode.gradients.methods.sensitivity import SensitivityRunner
from symode.gradients.pack import Layout
from symode.gradients.setup import make_task
from symode.gradients.task import Asked
from symode.symbolic.derive import derive_dfdtheta, derive_jvp, derive_second, derive_vjp
from symode.symbolic.graph import Graph
from symode.symbolic.lift import lift_field

MODEL, LOSS, SPAN, THETA = DRIVEN
Z0 = [1.1, 0.7]
#: As in test_conformance: local errors held to rtol, added up over some dozens of steps.
RTOL, ATOL, LIMIT = 1e-9, 1e-11, 1e-6

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
every_solver = pytest.mark.parametrize("solver", ["tsit5", "rodas5p"])


def known(case, loss, initial):
    """Return the closed-form derivatives by name."""
    found = exact(case.name, loss, from_initial=initial)
    names = [s.name for s in case.parameters]
    result = dict(zip(names, found.theta, strict=True))
    result |= {s.name: v for s, v in zip(case.states, found.z0, strict=True)}
    return result | {"t0": found.t0, "t1": found.t1, "times": found.times}


#: For each case some of everything, out of order: names, symbols and groups.
SUBSETS = [
    lambda case: [case.parameters[-1]],
    lambda case: [case.states[-1].name, case.parameters[0], "t0"],
    lambda case: ["t1", case.parameters[-1].name, "times"],
    lambda case: ["t0"],
    lambda case: ["z0", case.parameters[0]],
    lambda case: [case.parameters[-1], "t0", case.parameters[0]],
]


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("case", CASES[1:], ids=lambda c: c.name)
@every_solver
@every_method
def test_what_is_asked_for_is_the_closed_form(method, solver, case, subset, initial):
    wrt = subset(case)
    z0 = None if initial else case.z0
    found = case.model.gradient(
        symode.Loss(**LOSSES["mixed"](case)), case.span, theta=case.theta, z0=z0, wrt=wrt,
        method=method, solver=solver, rtol=RTOL, atol=ATOL,
    )  # fmt: skip
    truth = known(case, "mixed", initial)
    size = max(np.abs(np.hstack(list(truth.values()))))
    for entry in wrt:
        name = str(entry)
        got = {
            "z0": found.z0, "t0": found.t0, "t1": found.t1, "times": found.times
        }.get(name)  # fmt: skip
        truth["z0"] = [truth[s.name] for s in case.states]
        expected = truth[name]
        if got is None:
            got = (found.theta if name in found.theta.names else found.z0)[name]
        assert np.allclose(got, expected, rtol=LIMIT, atol=LIMIT * size), name
    asked = {str(entry) for entry in wrt}
    names = [str(s) for s in wrt if str(s) in [p.name for p in case.parameters]]
    assert found.theta.names == tuple(names)
    for name in {"t0", "t1"} - asked:
        assert np.isnan(getattr(found, name))
    assert found.times.size == (len(truth["times"]) if "times" in asked else 0)


@every_method
def test_a_flat_vector_holds_single_parameters_states_and_times_in_any_order(method):
    wrt = ["y", "t1", "b", "times", "x", "a", "t0"]
    vg = MODEL.value_and_grad(LOSS, wrt, t0=SPAN[0], t1=SPAN[1], method=method)
    assert vg.names == ("y(t0)", "t1", "b", "times[1]", "times[2]", "x(t0)", "a", "t0")
    point = vg.pack(theta=THETA, z0=Z0)
    assert point.tolist() == [0.7, 2.0, 0.6, 0.9, 1.4, 1.1, 0.8, 0.2]
    value, slope = vg(point)
    g = MODEL.gradient(LOSS, SPAN, theta=THETA, z0=Z0, method=method)
    assert value == pytest.approx(g.value, rel=1e-12)
    expected = [g.z0["y"], g.t1, g.theta["b"], g.times[1], g.times[2], g.z0["x"], g.theta["a"]]
    assert np.allclose(slope, [*expected, g.t0], rtol=1e-9)
    parts = vg.unpack(slope)
    assert parts["theta"].names == ("b", "a")
    assert parts["theta"]["a"] == slope[6]
    assert parts["z0"]["y"] == slope[0]
    assert parts["times"].tolist() == slope[3:5].tolist()


def test_observation_times_move_with_the_vector():
    x, k = sp.symbols("x k")
    t = sp.Symbol("t")
    model = symode.Model({x: -k * x}, parameters=[k], time=t)
    # Two observations at one time are two variables; unsorted; one at each end has none.
    loss = symode.Loss(observations=[(0.9, x**2), (0.0, x), (0.4, t * x), (0.9, x * t), (2.0, x)])
    vg = model.value_and_grad(loss, ("times", "theta"), z0=[1.5], t0=0.0, rtol=1e-10, atol=1e-12)
    assert vg.names == ("times[0]", "times[2]", "times[3]", "k")
    assert vg.pack(theta=[0.7]).tolist() == [0.9, 0.4, 0.9, 0.7]
    at = lambda s, k: 1.5 * np.exp(-k * s)  # noqa: E731

    def closed(p):
        r, s, u, k = p
        return at(r, k) ** 2 + 1.5 + s * at(s, k) + u * at(u, k) + at(2.0, k)

    point = np.array([1.1, 0.3, 0.8, 0.6])
    value, slope = vg(point)
    assert value == pytest.approx(closed(point), rel=1e-9)
    r, s, u, k = point
    expected = [
        -2 * k * at(r, k) ** 2,
        at(s, k) * (1 - k * s),
        at(u, k) * (1 - k * u),
        -2 * r * at(r, k) ** 2 - s**2 * at(s, k) - u**2 * at(u, k) - 2.0 * at(2.0, k),
    ]
    assert np.allclose(slope, expected, rtol=1e-8)
    with pytest.raises(LossError, match="attached"):
        vg(np.array([2.0, 0.3, 0.8, 0.6]))
    with pytest.raises(LossError, match="left the span"):
        vg(np.array([1.0, -0.3, 0.8, 0.6]))


def operations(graph: Graph) -> int:
    return sum(op not in ("input", "const") for op in graph.ops)


def test_kernels_are_derived_for_what_is_asked_alone():
    states, k = sp.symbols("x0:4"), sp.symbols("k0:12")
    rhs = [sum(k[3 * i + j] * states[(i + j) % 4] ** 2 for j in range(3)) for i in range(4)]
    model = symode.Model(dict(zip(states, rhs, strict=True)), parameters=k)
    whole = lift_field(model.equations)
    for asked in ((), (7,), (11, 0)):
        part = lift_field(model.equations, (), asked)
        for derive in (derive_vjp, derive_jvp, derive_second):
            assert operations(derive(part)) < operations(derive(whole))
        assert len(derive_vjp(part).outputs) == 4 + len(asked)
        assert len(derive_dfdtheta(part).outputs) == 4 * len(asked)
    # Each parameter has one term of its own: a product in the VJP and no more.
    assert operations(derive_vjp(whole)) - operations(derive_vjp(part)) >= 10


@pytest.mark.parametrize(
    ("wrt", "directions"),
    [("theta", 2), (["a"], 1), (["b", "y"], 2), (["a", "t0"], 2), (["t1", "times"], 0),
     (["z0", "t0"], 2), (["theta", "z0", "t0"], 4)],
)  # fmt: skip
def test_forward_sensitivities_integrate_the_directions_asked_for(wrt, directions):
    layout = Layout(MODEL.equations, wrt, 4, (1, 2))
    for initial in (True, False):
        task = make_task(MODEL.equations, LOSS, SPAN, from_initial=initial, asked=layout.asked)
        assert task.n_directions == directions
        runner = SensitivityRunner(task)
        assert runner.forward.scratch.y.size == task.n * (1 + directions)
        assert f"{directions} directions" in choose_method(task)[1]


def test_unknown_and_repeated_names_are_refused():
    for wrt, words in [
        (["c"], "holds 'c'"),
        (["thet"], "did you mean theta"),
        (["a", "theta"], "asks for a twice"),
        (["x", "z0"], r"x\(t0\) twice"),
        ([], "empty"),
    ]:
        with pytest.raises(OptionError, match=words):
            MODEL.gradient(LOSS, SPAN, theta=THETA, wrt=wrt)
    with pytest.raises(ParameterError, match="b are not in wrt"):
        MODEL.value_and_grad(LOSS, ["a"], t0=SPAN[0], t1=SPAN[1])
    with pytest.raises(symode.SymodeError, match="y are not in wrt"):
        MODEL.value_and_grad(LOSS, ["x"], theta=THETA, t0=SPAN[0], t1=SPAN[1])


def test_what_was_not_asked_for_has_no_name():
    found = MODEL.gradient(LOSS, SPAN, theta=THETA, wrt="b")
    with pytest.raises(UnknownNameError, match="a is none of b"):
        found.theta["a"]


def test_values_are_given_for_all_or_for_what_is_asked():
    vg = MODEL.value_and_grad(LOSS, ["b"], theta={"a": 0.8}, z0=Z0, t0=SPAN[0], t1=SPAN[1])
    for given in ([0.6], {"b": 0.6}, {"a": 5.0, "b": 0.6}, [5.0, 0.6]):
        assert vg.pack(theta=given).tolist() == [0.6]
    _, slope = vg(np.array([0.6]))
    whole = MODEL.gradient(LOSS, SPAN, theta=THETA, z0=Z0)
    assert slope[0] == pytest.approx(whole.theta["b"], rel=1e-7)


def test_a_parameter_may_be_called_like_a_group():
    x, t0, theta = sp.symbols("x t0 theta")
    model = symode.Model({x: -t0 * x + theta}, parameters=[t0, theta], initial={x: 2})
    loss = symode.Loss(terminal=x**2)
    by_symbol = model.gradient(loss, (0, 1), theta=[0.7, 0.2], wrt=[t0])
    assert by_symbol.theta.names == ("t0",)
    by_word = model.gradient(loss, (0, 1), theta=[0.7, 0.2], wrt=["t0"])
    assert by_word.theta.size == 0
    whole = model.gradient(loss, (0, 1), theta=[0.7, 0.2])
    assert by_word.t0 == pytest.approx(whole.t0, rel=1e-7)
    assert Asked((1, 0), (), False) == Layout(model.equations, [theta, t0]).asked


def test_gradient_rtol_serves_a_subset():
    whole = MODEL.gradient(LOSS, SPAN, theta=THETA, rtol=1e-10, atol=1e-12)
    for wrt in (["b"], ["x"], ["t0"]):
        found = MODEL.gradient(LOSS, SPAN, theta=THETA, wrt=wrt, gradient_rtol=1e-5)
        got = {"b": found.theta, "x": found.z0, "t0": [found.t0]}[wrt[0]]
        expected = {"b": whole.theta["b"], "x": whole.z0["x"], "t0": whole.t0}[wrt[0]]
        assert got[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("solver", ["scipy:RK45"])
@pytest.mark.parametrize("method", ["backsolve", "forward"])
def test_a_black_box_serves_a_subset(method, solver):
    whole = MODEL.gradient(LOSS, SPAN, theta=THETA, rtol=1e-9, atol=1e-11)
    found = MODEL.gradient(
        LOSS, SPAN, theta=THETA, wrt=["b", "t0"], method=method, solver=solver, rtol=1e-9,
        atol=1e-11,
    )  # fmt: skip
    assert found.theta.names == ("b",)
    assert found.theta["b"] == pytest.approx(whole.theta["b"], rel=1e-6)
    assert found.t0 == pytest.approx(whole.t0, rel=1e-6)
