"""Every term of Theorem 1, dropped or flipped in turn, is caught, whatever the method."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from cases import DRIVEN

import symode
from symode.gradients.methods import METHODS, DiscreteAdjoint, GradientMethod
from symode.gradients.value_and_grad import make_task
from symode.gradients.verify.claims import parts_of
from symode.gradients.verify.subject import Subject

MODEL, LOSS, SPAN, THETA = DRIVEN


def subject() -> Subject:
    task = make_task(MODEL.equations, LOSS, SPAN, from_initial=True)
    return Subject(task, DiscreteAdjoint(), np.array(THETA), None)


PARTS = parts_of(subject())


@dataclass(frozen=True)
class Broken:
    """A method whose result lacks a part (factor 1), or has it with the wrong sign (factor 2)."""

    inner: GradientMethod
    part: str
    factor: float
    known: dict = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return "broken"

    def prepare(self, task, *rest):
        runner = self.inner.prepare(task, *rest)
        key = (type(self.inner), task.options.rtol)
        part = self.factor * PARTS[self.part]
        m, n = task.m, task.equations.n_states

        def wrong(theta, z0):
            right = self.known[key] = self.known.get(key) or runner(theta, z0)
            return replace(
                right, theta=right.theta - part[:m], z0=right.z0 - part[m : m + n],
                t0=right.t0 - part[m + n], t1=right.t1 - part[m + n + 1],
            )  # fmt: skip

        return wrong


def test_no_term_of_the_theorem_is_missing_from_the_list():
    words = " ".join(PARTS)
    for word in (
        "terminal", "running", "observation at t0", "observation at t1", "observation at t = 0.9",
        "z0 on the parameters", "explicit", "in dJ/dt0", "in dJ/dt1",
    ):  # fmt: skip
        assert word in words


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_wrong_term_fails_for_every_method(method, monkeypatch):
    # The search for the cause is tested below, once.
    monkeypatch.setattr("symode.gradients.verify.likely_causes", lambda subject, tests: ())
    right = {}
    for i, (part, change) in enumerate(PARTS.items()):
        # Dropped with one method, flipped with the next.
        broken = Broken(method, part, 1.0 + (i + METHODS.index(method)) % 2, right)
        checks = ["taylor"] if np.any(change[:-2]) else ["ends"]
        report = symode.verify(
            MODEL, LOSS, SPAN, THETA, method=broken, checks=checks, reference_digits=0
        )
        assert not report.passed, part


@pytest.mark.parametrize("part", PARTS)
def test_the_report_names_the_term(part):
    broken = Broken(DiscreteAdjoint(), part, 1.0)
    report = symode.verify(MODEL, LOSS, SPAN, THETA, method=broken, checks=["reference"])
    words = [f"{part} is dropped" in cause for cause in report.causes]
    # Two parts may be the same numbers; the text names one of them.
    same = [p for p, v in PARTS.items() if np.allclose(v, PARTS[part], rtol=1e-6)]
    assert any(words) or any(f"{p} is dropped" in c for p in same for c in report.causes)
