"""Arrays of every make: read right, or refused; nothing is left out in silence."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import InitialStateError, LossError, OptionError, ParameterError

x, y, k, a = sp.symbols("x y k a")
MODEL = symode.Model({x: -k * x + y, y: -a * y}, parameters=[k, a], initial={x: 2, y: 1})
LOSS = symode.Loss(terminal=x**2)
PLAIN = [0.75, 1.5]


def _strided() -> np.ndarray:
    return np.array([0.75, 9, 1.5, 9])[::2]


def _frozen() -> np.ndarray:
    values = np.array(PLAIN)
    values.flags.writeable = False
    return values


RIGHT = {
    "float32": np.array(PLAIN, dtype=np.float32),
    "big-endian": np.array(PLAIN, dtype=">f8"),
    "objects": np.array(PLAIN, dtype=object),
    "strided": _strided(),
    "read-only": _frozen(),
    "SymPy": [sp.Rational(3, 4), sp.Float(1.5)],
    "no mask set": np.ma.masked_array(PLAIN, mask=[False, False]),
}
WRONG = {
    "complex": np.array([0.75 + 1j, 1.5]),
    "complex, all real": np.array(PLAIN, dtype=complex),
    "masked": np.ma.masked_array(PLAIN, mask=[False, True]),
    "dates": np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"),
}
right = pytest.mark.parametrize("name", RIGHT)
wrong = pytest.mark.parametrize("name", WRONG)


@right
def test_real_arrays_of_every_make_are_the_same_numbers(name: str) -> None:
    vg = MODEL.value_and_grad(LOSS, wrt="theta", t1=1)
    known = vg(np.array(PLAIN))[1]
    assert vg(RIGHT[name])[1] == pytest.approx(known, rel=1e-12)
    assert np.asarray(MODEL.gradient(LOSS, (0, 1), RIGHT[name]).theta) == pytest.approx(known)


@wrong
def test_what_is_no_real_number_is_refused_everywhere(name: str) -> None:
    bad = WRONG[name]
    vg = MODEL.value_and_grad(LOSS, wrt="theta", t1=1)
    with pytest.raises(ParameterError, match="must be real numbers"):
        MODEL.gradient(LOSS, (0, 1), bad)
    with pytest.raises(InitialStateError, match="must be real numbers"):
        MODEL.solve((0, 1), PLAIN, bad)
    with pytest.raises(OptionError, match="must be real numbers for k, a"):
        vg(bad)
    with pytest.raises(OptionError, match="times must be real numbers"):
        MODEL.solve((0, 1), PLAIN, times=bad)
    with pytest.raises(LossError, match="times must be real numbers"):
        symode.LeastSquares(bad, [[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(LossError, match="weights must be real numbers"):
        symode.LeastSquares([0.5, 1.0], [[1.0, 2.0], [3.0, 4.0]], weights=bad)


def test_a_series_is_read_by_its_labels() -> None:
    pd = pytest.importorskip("pandas")
    vg = MODEL.value_and_grad(LOSS, wrt="theta", t1=1)
    known = vg(np.array(PLAIN))[1]
    turned = pd.Series([1.5, 0.75], index=["a", "k"])
    assert np.asarray(MODEL.gradient(LOSS, (0, 1), turned).theta) == pytest.approx(known)
    assert vg(turned)[1] == pytest.approx(known)
    assert vg(pd.Series(PLAIN))[1] == pytest.approx(known)
    with pytest.raises(ParameterError, match="unknown: b"):
        MODEL.gradient(LOSS, (0, 1), pd.Series(PLAIN, index=["k", "b"]))
    with pytest.raises(OptionError, match="missing: a"):
        vg(pd.Series(PLAIN, index=["k", "b"]))


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ParameterError, match="give k twice"):
        MODEL.solve((0, 1), {k: 0.75, "k": 0.5, "a": 1.5})


def test_columns_of_measurements_are_read_by_name() -> None:
    pd = pytest.importorskip("pandas")
    times, rows = [0.5, 1.0], np.array([[3.0, 1.0], [4.0, 2.0]])
    known = MODEL.gradient(symode.LeastSquares(times, rows), (0, 1), PLAIN).value
    turned = pd.DataFrame({"y": rows[:, 1], "x": rows[:, 0]})
    found = MODEL.gradient(symode.LeastSquares(times, turned), (0, 1), PLAIN).value
    assert found == pytest.approx(known, rel=1e-12)


def test_a_masked_measurement_is_missing() -> None:
    rows = np.array([[3.0, 1.0], [4.0, 2.0]])
    hidden = np.array([[False, True], [False, False]])
    masked = symode.LeastSquares([0.5, 1.0], np.ma.masked_array(rows, mask=hidden))
    missing = symode.LeastSquares([0.5, 1.0], np.where(hidden, np.nan, rows))
    values = [MODEL.gradient(loss, (0, 1), PLAIN).value for loss in (masked, missing)]
    assert values[0] == values[1]


def test_measurements_that_are_no_numbers_are_named() -> None:
    with pytest.raises(LossError, match="values must be real numbers"):
        symode.LeastSquares([1.0], [[1j]])
    with pytest.raises(LossError, match="times must be real numbers"):
        symode.LeastSquares(["a"], [[1.0]])
    with pytest.raises(LossError, match="one row of values for each time"):
        symode.LeastSquares([1.0, 2.0], np.zeros((2, 2, 2)))
