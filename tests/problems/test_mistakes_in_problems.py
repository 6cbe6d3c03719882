"""What is given to a problem, a condition or a sensitivity by mistake is refused by name."""

from __future__ import annotations

import re

import numpy as np
import pytest
import sympy as sp

import symode
from symode.errors import OptionError, SolverError

x, k, s = sp.symbols("x k s")
MODEL = symode.Model({x: -k * x}, parameters=[k, s], initial={x: 2})
DATA = symode.Data([1, 2], {"x": [1.0, 0.5]})


def problem(**options) -> symode.Problem:
    return symode.Problem(MODEL, DATA, symode.LogNormal(s), scale="log10", **options)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda: symode.Condition(t0="now"),
            OptionError,
            "t0= of a Condition must be a finite number; got 'now'",
        ),
        (lambda: symode.Condition(t0=[1]), OptionError, "finite number; got [1]"),
        (lambda: symode.Condition(t0=True), OptionError, "finite number; got True"),
        (lambda: problem(local=[k]), OptionError, "its own k, but these data have one condition"),
        (lambda: problem(local=["kk"]), OptionError, "local= names kk (did you mean k?)"),
        (lambda: problem(t0="start"), OptionError, "t0= must be a finite number; got 'start'"),
        (lambda: problem(t0=np.nan), OptionError, "t0= must be a finite number; got nan"),
        (
            lambda: problem(workers="all"),
            OptionError,
            "workers must be a whole number, 1 or more; got 'all'",
        ),
        (lambda: problem(workers=0), OptionError, "got 0"),
        (lambda: problem(method="adjoint"), OptionError, "no gradient method 'adjoint'"),
        (
            lambda: problem(conditions=[symode.Condition()]),
            OptionError,
            "conditions= must map names",
        ),
        (
            lambda: problem().objective([np.nan, 0]),
            SolverError,
            "A point must be finite; log10(k) is not",
        ),
        (
            lambda: problem().objective("ab"),
            OptionError,
            "one for each of log10(k), log10(s); got 'ab'",
        ),
        (lambda: problem().scores([0, np.inf]), SolverError, "log10(s) is not"),
        (
            lambda: symode.local_sensitivity(MODEL, "x"),
            OptionError,
            "finite numbers; got 'x'. The order is (model, times",
        ),
        (lambda: symode.local_sensitivity("M", [1]), OptionError, "a Model first; got 'M'"),
        (lambda: problem(solver="scipy:BDF"), OptionError, "(its like here is rodas5p)"),
        (lambda: problem(solver="ode45"), OptionError, "(its like here is tsit5)"),
        (lambda: problem(solver="LSODA"), OptionError, "(its like here is rodas5p)"),
        (lambda: symode.sample(problem()), OptionError, "start= is missing"),
        (lambda: symode.sample(MODEL), OptionError, "expects a Problem; got a Model"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(call, error, says) -> None:
    with pytest.raises(error, match=re.escape(says)):
        call()


def test_a_density_far_out_is_zero_and_not_an_error() -> None:
    # On a scale with one bound the coordinate is a logarithm: far out it overflows.
    half = symode.Problem(
        MODEL, DATA, symode.LogNormal(s), bounds={k: (0, np.inf), s: (0.1, 2)}, fixed={}
    )
    value, gradient = half.log_density()(np.array([800.0, 0.0]))
    assert value == -np.inf and not gradient.any()
