"""Random models: every method's gradient verifies, or the method refuses aloud."""

import warnings

import pytest
from random_models import draw

import symode
from symode.errors import SolverError
from symode.gradients.methods import METHODS


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_gradients_of_random_models_verify(method, seed):
    model, loss, span, theta = draw(seed)
    solver = ("auto", "rodas5p", "tsit5", "esdirk54", "dop853")[seed % 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            report = symode.verify(model, loss, span, theta, method=method, solver=solver)
        except SolverError as error:
            assert "blow-up" in str(error)
            pytest.skip("its solution ends before t1")
    if not report.passed and method.name == "backsolve":
        assert [check.name for check in report] == ["gradient"]
        pytest.skip("refused: it cannot be integrated backwards")
    assert report.passed, str(report)
