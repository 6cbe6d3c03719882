"""verify passes right gradients, fails every wrong one, and says what its digits mean."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from cases import CASES, DRIVEN, LOSSES
from gradients.mutation import evaluate, mutants

import symode
import symode.gradients.task as task_module
from symode.errors import GradientError, SolverError, UnsupportedCombinationError
from symode.gradients.methods import METHODS
from symode.gradients.methods.discrete import DiscreteRunner
from symode.solvers.methods import get_method
from symode.symbolic.derive import FIELD_KERNELS
from symode.symbolic.fused_step import derive_step_transposed, fused_kernels
from symode.symbolic.lift import lift_field

MODEL, LOSS, SPAN, THETA = DRIVEN
#: The judges of numbers that differentiate nothing by hand: they must see every mutant.
JUDGES = ("tolerances", "taylor", "ends", "dot product", "methods")


@pytest.fixture
def scratch_store(monkeypatch, tmp_path) -> None:
    """Keep the kernels of mutants out of the user's store."""
    import symode.kernels.gradient  # noqa: F401, the solvers' cache stays where it is

    monkeypatch.setenv("SYMODE_CACHE_DIR", str(tmp_path))
    # The search for the wrong term derives each term of the loss alone: not what is tested here.
    monkeypatch.setattr("symode.gradients.verify.likely_causes", lambda subject, tests: ())


def verify(**options) -> "symode.gradients.verify.Report":
    return symode.verify(MODEL, LOSS, SPAN, THETA, **{"checks": JUDGES, **options})


@pytest.mark.parametrize("solver", ["tsit5", "vern7", "rodas5p", "radau9"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_right_gradients_pass(method, solver):
    report = verify(method=method, solver=solver)
    assert report.passed, str(report)
    assert report["dot product"].digits >= 12
    if method.name in ("discrete", "checkpointed", "forward"):
        assert report["taylor"].digits >= 10
    else:
        # A continuous adjoint plateaus at its tolerance, and the report says so.
        assert report["taylor"].digits < 10
        assert "tolerance" in report["taylor"].summary


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_known_gradients_pass_in_both_directions_of_time(case):
    for way in (case, case.reversed()):
        loss = symode.Loss(**LOSSES["mixed"](way))
        report = symode.verify(way.model, loss, way.span, theta=way.theta, z0=way.z0)
        assert report.passed, str(report)


def test_remainders_fall_with_slope_two():
    report = verify()
    slopes = [line for line in report["taylor"].details if "slope" in line]
    assert len(slopes) >= 3
    assert all(1.9 <= float(line.split("slope ")[1].split()[0]) <= 2.1 for line in slopes)


def test_consistency_is_not_sold_as_accuracy():
    # At a loose tolerance the discrete adjoint is still exact for what was computed.
    report = verify(method="discrete", solver="bosh3", rtol=1e-3, atol=1e-5)
    assert report["taylor"].digits >= 10
    assert report["dot product"].digits >= 12
    assert report["tolerances"].digits < 5
    assert report["taylor"].evidence == report["dot product"].evidence == "consistency"
    assert report["tolerances"].evidence == "accuracy"
    text = str(report)
    assert text.index("Accuracy") < text.index("tolerances") < text.index("Consistency")


def test_the_digits_of_the_tolerances_are_those_of_the_true_error():
    reference = MODEL.gradient(LOSS, SPAN, theta=THETA, solver="dop853", rtol=1e-13, atol=1e-15)
    found = MODEL.gradient(LOSS, SPAN, theta=THETA, solver="bosh3", rtol=1e-5, atol=1e-7)
    error = np.linalg.norm(found.theta - reference.theta) / np.linalg.norm(reference.theta)
    digits = verify(solver="bosh3", rtol=1e-5, atol=1e-7)["tolerances"].digits
    assert digits == pytest.approx(-np.log10(error), abs=1.0)


# -- wrong gradients ----------------------------------------------------------------------------

FIELD = lift_field(MODEL.equations, [LOSS.running])
#: Kernels: how many mutants to try, and the methods and solvers that use each.
USERS = {
    "vjp": (16, [("discrete", "tsit5"), ("interpolating", "tsit5")]),
    "jvp": (8, [("forward", "tsit5")]),
    "second": (12, [("discrete", "rodas5p")]),
    # A wrong tangent in the error norm takes many small steps.
    "djac": (5, [("forward", "rodas5p")]),
}


def kernel_mutants(name: str) -> list:
    found = list(mutants(FIELD_KERNELS[name][1](FIELD)))
    picks = np.random.default_rng(1).permutation(len(found))[: USERS[name][0]]
    return [pytest.param(name, found[i][1], id=f"{name}-{found[i][0]}") for i in sorted(picks)]


@pytest.mark.parametrize(
    ("name", "graph"), [param for name in USERS for param in kernel_mutants(name)]
)
def test_every_term_of_a_derived_product_counts(name, graph, monkeypatch, scratch_store):
    signature, _ = FIELD_KERNELS[name]
    monkeypatch.setitem(FIELD_KERNELS, name, (signature, lambda field: graph))
    # Whole steps use other kernels: the next test's.
    monkeypatch.setattr(task_module, "fused_kernels", lambda *_, **__: {})
    for method, solver in USERS[name][1]:
        assert not verify(method=method, solver=solver).passed


RODAS5P = get_method("rodas5p")
WHOLE_STEP = derive_step_transposed(FIELD, RODAS5P)


def whole_step_mutants() -> list:
    # The last output is no derivative: it sends bad solutions to the kernels above, those of a
    # mutated elimination among them, which end in no gradient.
    found = list(mutants(WHOLE_STEP, stop=len(WHOLE_STEP.outputs) - 1))
    t, z, p, v = np.random.default_rng(2).uniform(0.3, 1.7, (4, 64))
    found = [(what, graph) for what, graph in found if evaluate(graph, t[0], z, p, v)[-1] == 0]
    picks = np.random.default_rng(1).permutation(len(found))[:10]
    return [pytest.param(found[i][1], id=found[i][0]) for i in sorted(picks)]


@pytest.mark.parametrize("graph", whole_step_mutants())
def test_every_term_of_a_whole_step_counts(graph, monkeypatch, scratch_store):
    kernels = fused_kernels(FIELD, RODAS5P, transposed=True)
    kernels["lu_step_t"] = (kernels["lu_step_t"][0], graph)
    monkeypatch.setattr(task_module, "fused_kernels", lambda *_, **__: kernels)
    assert not verify(method="discrete", solver="rodas5p").passed


AUGMENTED = list(mutants(task_module.augmented(FIELD).graph, first=FIELD.n_states))[::4]


@pytest.mark.parametrize("graph", [g for _, g in AUGMENTED], ids=[name for name, _ in AUGMENTED])
def test_every_term_of_the_augmented_system_counts(graph, monkeypatch, scratch_store):
    whole = task_module.augmented(FIELD)
    monkeypatch.setattr(task_module, "augmented", lambda field: replace(whole, graph=graph))
    assert not verify(method="backsolve").passed


PARTS = ["lift_terminal", "lift_observation", "lift_initial"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("solver", ["tsit5", "rodas5p"])
def test_every_derivative_of_a_loss_and_of_z0_counts(part, solver, monkeypatch, scratch_store):
    original = getattr(task_module, part)
    count = 3 + len(THETA) if part == "lift_initial" else 2 + FIELD.n_states + len(THETA)
    broken = 0
    for place in range(count):

        def wrong(*args, place=place):
            nonlocal broken
            graphs = original(*args)
            whole = graphs[1] if part == "lift_initial" else graphs
            # The value of a loss is no derivative; z0(theta, t0) has none among its outputs.
            first = 0 if part == "lift_initial" else 1
            changed = [
                graph for name, graph in mutants(whole, first, inner=False)
                if name == f"flip output {place}"
            ]  # fmt: skip
            broken += len(changed)
            whole = changed[0] if changed else whole
            return (graphs[0], whole) if part == "lift_initial" else whole

        before = broken
        monkeypatch.setattr(task_module, part, wrong)
        passed = verify(solver=solver).passed
        # Where no mutant exists the derivative is zero, and the gradient is still right.
        assert passed == (broken == before), f"output {place}"
    assert broken


def entries(outcome) -> list[tuple[str, int]]:
    sizes = {"theta": 2, "z0": 2, "times": outcome.times.size}
    found = [(name, i) for name, size in sizes.items() for i in range(size)]
    # Observations at the ends are attached to them: their own derivative is 0.
    return [e for e in found if e not in (("times", 0), ("times", 3))] + [("t0", -1), ("t1", -1)]


@pytest.mark.parametrize("change", [lambda v: -v, lambda v: 0.0, lambda v: v * (1 + 1e-3)])
def test_every_entry_of_a_result_counts(change, monkeypatch):
    original = DiscreteRunner.__call__
    seen = []

    def wrong(self, theta, z0, entry=None):
        outcome = original(self, theta, z0)
        seen[:] = entries(outcome)
        if entry is None:
            return outcome
        name, i = entry
        if i < 0:
            return replace(outcome, **{name: change(getattr(outcome, name))})
        values = getattr(outcome, name).copy()
        values[i] = change(values[i])
        return replace(outcome, **{name: values})

    monkeypatch.setattr(DiscreteRunner, "__call__", wrong)
    assert verify(method="discrete").passed
    for entry in list(seen):
        monkeypatch.setattr(
            DiscreteRunner, "__call__", lambda s, t, z, entry=entry: wrong(s, t, z, entry)
        )
        assert not verify(method="discrete").passed, entry


def test_an_error_of_one_in_ten_million_is_seen_and_named(monkeypatch):
    original = DiscreteRunner.__call__

    def wrong(self, theta, z0):
        outcome = original(self, theta, z0)
        values = outcome.theta.copy()
        values[1] *= 1 + 1e-7
        return replace(outcome, theta=values)

    monkeypatch.setattr(DiscreteRunner, "__call__", wrong)
    report = verify(method="discrete")
    assert not report["taylor"].passed
    assert "wrong in: b" in report["taylor"].details[-1]


# -- refusals -----------------------------------------------------------------------------------


def test_a_refused_gradient_is_a_failed_report():
    x, y, mu = sp.symbols("x y mu")
    oscillator = symode.Model({x: y, y: mu * (1 - x**2) * y - x}, parameters=[mu])
    loss = symode.Loss(terminal=x**2 + y**2)
    report = symode.verify(oscillator, loss, (0, 20), [5.0], [2.0, 0.0], method="backsolve")
    assert not report.passed
    assert "Error" in report["gradient"].summary
    # Other methods verify, and list the one that refuses with its reason.
    report = symode.verify(oscillator, loss, (0, 20), [5.0], [2.0, 0.0], method="discrete")
    assert report.passed, str(report)
    (line,) = [line for line in report["methods"].details if "BacksolveAdjoint" in line]
    assert "refused" in line


def test_a_failed_solve_raises():
    x, k = sp.symbols("x k")
    grows = symode.Model({x: k * x**2}, parameters=[k])
    with pytest.raises(SolverError, match="blow-up"):
        symode.verify(grows, symode.Loss(terminal=x), (0, 2), [1.0], [1.0])


def test_a_gradient_that_hangs_on_the_tolerance_fails():
    # Lorenz to t = 30: the tangent grows by e^27, far beyond what 1e-8 can carry.
    x, y, z, s, r, b = sp.symbols("x y z s r b")
    lorenz = symode.Model({x: s * (y - x), y: x * (r - z) - y, z: x * y - b * z}, [s, r, b])
    report = symode.verify(lorenz, symode.Loss(terminal=z), (0, 30), [10, 28, 8 / 3], [1, 1, 1])
    assert not report["tolerances"].passed
    assert "tolerance" in report["tolerances"].summary


def test_black_boxes_are_refused():
    with pytest.raises(UnsupportedCombinationError, match="black-box"):
        verify(solver="scipy:Radau")


def test_a_loss_whose_slope_is_infinite_raises_no_gradient():
    x, k = sp.symbols("x k")
    model = symode.Model({x: -k * x}, parameters=[k])
    loss = symode.Loss(terminal=sp.sqrt(x))
    with pytest.raises(GradientError):
        model.gradient(loss, (0, 1), theta=[1.0], z0=[0.0])
    report = symode.verify(model, loss, (0, 1), [1.0], [0.0])
    assert not report.passed


def test_a_gradient_below_the_rounding_of_its_loss_passes():
    x, k = sp.symbols("x k")
    model = symode.Model({x: -k * x}, parameters=[k])
    report = symode.verify(model, symode.Loss(terminal=sp.tanh(x)), (0, 1), [1.0], [1e3])
    assert report.passed, str(report)
    assert "rounding" in report["taylor"].summary


def test_report_is_text_with_a_verdict():
    report = verify()
    assert repr(report) == str(report)
    assert str(report).endswith("Verdict: passed.")
    assert set(report.digits) == set(JUDGES)
    with pytest.raises(KeyError, match="taylor"):
        report["tailor"]
