"""Pictures show every observable, and say what to install when they cannot be drawn."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import MissingExtraError, OptionError

X, K, S = sp.symbols("x k s", positive=True)
MODEL = symode.Model({X: -K * X}, parameters=[K, S], initial={X: 2})


@pytest.fixture(scope="module")
def result() -> symode.Fit:
    times = np.array([0.0, 1.0, 2.0, 3.0])
    values = {"x": [2.1, 1.0, 0.4, 0.3], "double": [None, 2.2, 0.9, 0.5]}
    data = symode.Data(times, values, observables={"double": 2 * X})
    return symode.fit(symode.Problem(MODEL, data, symode.LogNormal(S), scale="log10"), 3, seed=0)


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def test_each_observable_has_a_panel_with_data_curve_and_band(result, pyplot) -> None:
    axes = result.plot()
    assert [panel.get_ylabel() for panel in axes] == ["x", "double"]
    curve, points = axes[1].get_lines()
    assert points.get_xydata().tolist() == [[1, 2.2], [2, 0.9], [3, 0.5]]
    expected = 4 * np.exp(-result.theta["k"] * curve.get_xdata())
    # The solver's tolerance, 1e-8, with room.
    np.testing.assert_allclose(curve.get_ydata(), expected, rtol=1e-6)
    assert len(axes[0].collections) == 1
    assert len(result.plot(level=0)[0].collections) == 0


def test_axes_may_be_given_and_must_suffice(result, pyplot) -> None:
    _, axes = pyplot.subplots(1, 2)
    assert list(result.plot(axes)) == list(axes)
    with pytest.raises(OptionError, match="2 observables to draw, but 1 axes"):
        result.plot(axes[0])
    with pytest.raises(OptionError, match="level"):
        result.plot(level=2)


def test_without_matplotlib_the_extra_is_named(result, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match=r"symode-adjoint\[fit\]"):
        result.plot()
