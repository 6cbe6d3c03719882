"""The proof holds for right graphs, falls for every mutant, and labels what is no proof."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from cases import CASES, DRIVEN, LOSSES
from gradients.mutation import mutants

import symode
import symode.gradients.task as task_module
import symode.gradients.verify.proof as proof
import symode.gradients.verify.theorem as theorem
from symode.gradients.value_and_grad import make_task
from symode.symbolic.derive import FIELD_KERNELS
from symode.symbolic.lift import lift_field, lift_initial, lift_observation, lift_terminal

MODEL, LOSS, SPAN, THETA = DRIVEN
FIELD = lift_field(MODEL.equations, [LOSS.running])


def task_of(solver="rodas5p", model=MODEL, loss=LOSS, span=SPAN):
    return make_task(model.equations, loss, span, from_initial=True, solver=solver)


def hows(task) -> dict[str, str]:
    return {s.name: s.how for s in proof.prove(task)}


def test_the_invariants_and_every_product_are_proved():
    found = hows(task_of())
    assert set(found.values()) == {"symbolically"}
    for words in ("d/dt(a§1 ∂z/∂z0)", "a§2 = -(a§1 f + c) solves", "across observations",
                  "end conditions", "jumps", "∂z0", "da_x/dt", "da_b/dt"):  # fmt: skip
        assert any(words in name for name in found), words


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_known_models_are_proved(case):
    loss = symode.Loss(**LOSSES["mixed"](case))
    assert set(hows(task_of("tsit5", case.model, loss, case.span)).values()) == {"symbolically"}


@pytest.mark.parametrize("name", ["vjp", "jvp", "jac"])
def test_a_mutant_of_a_product_is_false(name, monkeypatch):
    signature, derive = FIELD_KERNELS[name]
    for what, graph in list(mutants(derive(FIELD)))[::3]:
        if name == "jac":
            jacobian = replace(FIELD.jacobian, graph=graph)
            task = task_of()
            task.field.__dict__["jacobian"] = jacobian
        else:
            monkeypatch.setitem(FIELD_KERNELS, name, (signature, lambda field, graph=graph: graph))
            task = task_of()
        assert "false" in hows(task).values(), what


def test_a_mutant_of_the_augmented_system_breaks_an_invariant(monkeypatch):
    whole = task_module.augmented(FIELD)
    for what, graph in mutants(whole.graph, first=FIELD.n_states, inner=False):
        broken = replace(whole, graph=graph)
        monkeypatch.setattr(task_module, "augmented", lambda field, broken=broken: broken)
        found = hows(task_of())
        wrong = [name for name, how in found.items() if how == "false"]
        assert any(name.startswith("da_") for name in wrong), what
        assert any(name.startswith("d/dt(") for name in wrong), what


@pytest.mark.parametrize("lift", [lift_terminal, lift_observation, lift_initial])
def test_a_mutant_of_a_loss_or_of_z0_is_false(lift, monkeypatch):
    first = 0 if lift is lift_initial else 1

    def broken(change, *arguments):
        graphs = lift(*arguments)
        whole = graphs[1] if lift is lift_initial else graphs
        found = list(mutants(whole, first, inner=False))
        whole = found[change % len(found)][1]
        return (graphs[0], whole) if lift is lift_initial else whole

    for change in range(6):
        monkeypatch.setattr(theorem, lift.__name__, lambda *a, change=change: broken(change, *a))
        assert "false" in hows(task_of()).values(), change


def test_what_sympy_cannot_decide_is_compared_in_numbers_and_labelled_so():
    x, k = sp.symbols("x k")
    model = symode.Model({x: sp.Max(x, k) * sp.erf(x)}, parameters=[k], initial={x: 1})
    report = symode.verify(model, symode.Loss(terminal=x), (0, 0.5), [0.4], checks=["proof"])
    assert report["proof"].passed
    assert "no proof" in report["proof"].summary
    assert any("no proof" in line for line in report.derivation.proofs())


def test_a_slow_sympy_is_given_up(monkeypatch):
    monkeypatch.setattr(proof, "_vanishes", lambda difference: all(True for _ in iter(int, 1)))
    monkeypatch.setattr(proof, "BUDGET", 0.2)
    assert "numerically" in hows(task_of("tsit5")).values()


def test_a_large_model_is_left_out_with_the_reason(monkeypatch):
    monkeypatch.setattr(proof, "TOO_LARGE", 5)
    report = symode.verify(MODEL, LOSS, SPAN, THETA, checks=["proof"])
    assert report["proof"].skipped and "operations" in report["proof"].summary
    assert report.derivation is None


def test_the_derivation_is_latex_in_the_models_own_symbols():
    report = symode.verify(MODEL, LOSS, SPAN, THETA, checks=["proof"])
    text = report.derivation.latex()
    for words in (
        r"\frac{d a_{x}}{d t}", r"\nabla_{\S1} f", r"\int_{t_{0}}^{t_{1}}", r"\Delta a_{y}",
        r"a_{b}(t_{1})", r"dJ/da",
    ):  # fmt: skip
        assert words in text, words
    assert report.derivation._repr_latex_().startswith("$")
    # Balanced, so that a renderer takes it.
    assert text.count("{") == text.count("}")
    assert text.count(r"\left") == text.count(r"\right")
    assert np.all([text.count(rf"\begin{{{e}}}") == text.count(rf"\end{{{e}}}")
                   for e in ("aligned", "matrix")])  # fmt: skip
