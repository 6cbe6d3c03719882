"""The classic problems, stiff ones included, pass every judge of numbers."""

import pytest
from gradients.reference import ENTRIES, needs_entries

import symode

pytestmark = needs_entries
CHECKS = ["proof", "tolerances", "taylor", "ends", "dot product", "methods", "stability"]


@pytest.mark.parametrize("name", ENTRIES)
def test_the_reference_problems_pass(name):
    entry = ENTRIES[name]
    report = symode.verify(
        entry.model, entry.loss, entry.span, entry.theta, entry.z0, rtol=1e-9, atol=1e-11,
        solver="rodas5p" if entry.is_stiff else "vern7", checks=CHECKS,
    )  # fmt: skip
    assert report.passed, str(report)
    assert report["dot product"].digits >= 12
    assert report["taylor"].digits >= 10
