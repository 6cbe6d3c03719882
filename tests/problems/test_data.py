"""Tables are read as people keep them, and every fault is named by row and column."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import symode
from symode.errors import DataError
from symode.problems.data import Data

X, Y, K = sp.symbols("x y k")
MODEL = symode.Model(
    {X: -K * X, Y: K * X}, parameters=[K], initial={X: 2, Y: 1}, observables={"total": X + Y}
)
NAN = float("nan")


def same(data: Data, times: list[float], **columns: list[float]) -> None:
    assert data.names == tuple(columns)
    np.testing.assert_array_equal(data.times, times)
    for j, column in enumerate(columns.values()):
        np.testing.assert_array_equal(data.values[:, j], column)


def test_a_dict_an_array_and_frames_tell_the_same_story() -> None:
    expected = {"x": [1.0, NAN, 0.25], "y": [2.0, 2.5, NAN]}
    wide = pd.DataFrame({"time": [0, 1, 2], "x": [1, None, 0.25], "y": [2, 2.5, None]})
    long = pd.DataFrame(
        {
            "time": [0, 2, 0, 1],
            "observable": ["x", "x", "y", "y"],
            "value": [1, 0.25, 2, 2.5],
        }
    )
    same(Data([0, 1, 2], {"x": [1, None, 0.25], "y": [2, 2.5, None]}), [0, 1, 2], **expected)
    array = np.array([[1, 2], [NAN, 2.5], [0.25, NAN]])
    same(Data([0, 1, 2], array, observables=[X, Y]), [0, 1, 2], **expected)
    same(Data(wide), [0, 1, 2], **expected)
    same(Data(wide.set_index("time")), [0, 1, 2], **expected)
    same(Data(wide.rename(columns={"time": "year"}), time="year"), [0, 1, 2], **expected)
    same(Data([0, 1, 2], wide[["x", "y"]]), [0, 1, 2], **expected)
    for one, other in zip(
        Data(long).series(MODEL.equations), Data(wide).series(MODEL.equations), strict=True
    ):
        assert one.name == other.name
        np.testing.assert_array_equal(one.times, other.times)
        np.testing.assert_array_equal(one.values, other.values)


def test_one_column_may_be_a_plain_vector() -> None:
    same(Data([0, 1], [3.0, 4.0], observables={"x": X}), [0, 1], x=[3.0, 4.0])


def test_nullable_columns_of_pandas_are_numbers_with_gaps() -> None:
    frame = pd.DataFrame({"t": [0, 1], "x": pd.array([None, 3], dtype="Int64")})
    same(Data(frame), [0, 1], x=[NAN, 3.0])


@given(order=st.permutations(range(6)))
@settings(max_examples=20)
def test_rows_are_sorted_by_time_and_remember_their_place(order: list[int]) -> None:
    times = np.array([0.0, 1.0, 1.5, 2.0, 3.0, 5.0])
    data = Data(times[order], {"x": 10.0 * times[order]})
    same(data, times.tolist(), x=(10 * times).tolist())
    np.testing.assert_array_equal(np.asarray(order)[data.rows], range(6))


def test_repeats_at_one_time_are_kept_in_their_order() -> None:
    same(Data([1, 0, 1], {"x": [3, 4, 5]}), [0, 1, 1], x=[4, 3, 5])


def test_columns_measure_states_observables_or_expressions() -> None:
    data = Data([1], {"x": [1], "total": [3], "twice": [2]}, observables={"twice": 2 * X})
    assert [series.expression for series in data.series(MODEL.equations)] == [X, X + Y, 2 * X]
    renamed = Data([1], {"prey": [1]}, observables={"prey": "x"})
    assert renamed.series(MODEL.equations)[0].expression == X


def test_missing_values_are_left_out_of_the_series() -> None:
    (series,) = Data([0, 1, 2], {"x": [1, None, 3]}).series(MODEL.equations)
    assert series.times.tolist() == [0, 2]
    assert series.values.tolist() == [1, 3]
    assert series.rows.tolist() == [0, 2]


FRAME = pd.DataFrame({"time": [0, 1], "x": [1, 2]})
LONG = pd.DataFrame({"time": [0, 1], "observable": ["x", None], "value": [1, 2]})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Data([0, NAN, 2], {"x": [1, 2, 3]}), ["Row 1", "time nan"]),
        (lambda: Data([0, 1], {"x": [1, 2, 3]}), ["'x'", "3 values for 2 times"]),
        (lambda: Data([0, 1], {"x": [1, "two"]}), ["Row 1", "column 'x'", "'two'"]),
        (lambda: Data([0, 1], {"x": [1, float("inf")]}), ["Row 1", "'x'", "t = 1", "inf"]),
        (lambda: Data([0, 1], {"x": [None, None]}), ["'x'", "no value at all"]),
        (lambda: Data([], {"x": []}), ["empty", "rows"]),
        (lambda: Data([0, 1], {}), ["empty", "columns"]),
        (lambda: Data([0, 1], [[1, 2], [3, 4]]), ["2 columns", "observables="]),
        (lambda: Data([0, 1], [[1, 2], [3]], observables=["x", "y"]), ["differ in length"]),
        (lambda: Data([0, 1]), ["No values"]),
        (lambda: Data(3.0, {"x": [1]}), ["times must be a sequence"]),
        (lambda: Data([0, 1], {"x": [1, 2]}, observables={"z": X}), ["'z'", "no such column"]),
        (lambda: Data([0, 1], {"x": [1, 2]}, observables={"x": 3}), ["observable x", "3"]),
        (lambda: Data(FRAME, {"x": [1]}), ["already holds the values"]),
        (lambda: Data(FRAME, time="year"), ["no column 'year'", "time, x"]),
        (lambda: Data(FRAME.rename(columns={"time": "year"})), ["no times", "year, x"]),
        (lambda: Data(FRAME.assign(t=1.0)), ["time and t", "time="]),
        (lambda: Data(FRAME.iloc[:0]), ["empty"]),
        (lambda: Data(LONG), ["Row 1", "column 'observable'"]),
        (lambda: Data(LONG.assign(dose=1)), ["long table", "dose"]),
        (lambda: Data(pd.concat([FRAME, FRAME], axis=1)), ["more than one", "time, x"]),
        (
            lambda: Data(FRAME.assign(time=pd.to_datetime(["2020-01-01", "2020-01-02"]))),
            ["Row 0", "column 'time'", "not a number"],
        ),
        (lambda: Data(FRAME.assign(x=[True, False])), ["Row 0", "column 'x'", "not a number"]),
    ],
)
def test_bad_tables_are_refused_by_row_and_column(make, words: list[str]) -> None:
    with pytest.raises(DataError) as error:
        make()
    for word in words:
        assert word in str(error.value)


def test_a_column_the_model_does_not_know_is_named_with_the_nearest_it_does() -> None:
    with pytest.raises(DataError, match=r"'totl' \(did you mean total\?\).*observables=.*drop"):
        Data([0], {"totl": [1]}).series(MODEL.equations)
