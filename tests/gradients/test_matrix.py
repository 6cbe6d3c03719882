"""The matrix of combinations, thinned: each pair of values occurs, each cell faces the judges."""

import itertools

import pytest

from benchmarks.matrix import LOSSES, METHODS, PROBLEMS, SOLVERS, Verdict, judge, page, pairwise

CELLS = pairwise()


def test_every_pair_of_values_occurs():
    found = {
        pair
        for c in CELLS
        for pair in itertools.combinations((c.method, c.solver, c.loss, c.problem), 2)
    }
    lists = (METHODS, SOLVERS, LOSSES, PROBLEMS)
    for a, b in itertools.combinations(lists, 2):
        assert set(itertools.product(a, b)) <= found


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_cell_passes_its_judges_or_is_refused_with_a_reason(cell):
    verdict = judge(cell)
    assert not verdict.failures, verdict.failures
    assert verdict.digits or len(verdict.refusal) > 30
    if verdict.refusal:
        # Integrating z backwards is what may be refused; every other method must serve.
        assert cell.method.name == "backsolve" or "Unsupported" in verdict.refusal


def test_a_failed_judge_shows_on_the_page():
    text = page({CELLS[0]: Verdict({"theta": 1.0}, ("off by 0.1",))})
    assert "✗" in text and "off by 0.1" in text
