"""symode fit and symode simulate: tables, JSON, files, pages, and codes for each way to end."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from symode.cli.codes import BAD_INPUT, FAILED, PASSED, SOLVER_FAILED
from symode.cli.main import main

FILE = """
import sympy as sp, symode
x, k, x0, s = sp.symbols("x k x0 s")
model = symode.Model({x: -k * x}, parameters=[k, x0, s], initial={x: x0})
data = symode.Data([0, 1, 2, 3], {"x": [2.1, 0.97, 0.51, 0.24]})
problem = symode.Problem(model, data, symode.LogNormal(s), scale="log10")
hopeless = symode.Problem(model, data, symode.Normal(1.0), scale="log10", max_steps=1)
span = (0, 2)
theta = {"k": 0.7, "x0": 2.0, "s": 1.0}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "decay.py"
    path.write_text(FILE)
    return str(path)


def test_estimates_come_as_a_table_or_as_json(file, capsys) -> None:
    arguments = ["fit", file, "--starts", "4", "--seed", "1", "--workers", "1"]
    assert main(arguments) == PASSED
    out, err = capsys.readouterr()
    assert "95 % interval" in out and "fitting" in err and "fitting" not in out
    assert main([*arguments, "--json", "--profiles", "--level", "0.9"]) == PASSED
    found = json.loads(capsys.readouterr().out)
    # The regression of logarithms, see tests/problems/test_fit.py.
    assert found["parameters"]["k"]["estimate"] == pytest.approx(0.715005, rel=1e-5)
    low, high = found["parameters"]["k"]["profile"]
    assert low < 0.715 < high and found["level"] == 0.9 and found["seed"] == 1


def test_a_fit_is_kept_and_resumed(file, tmp_path, capsys) -> None:
    out = str(tmp_path / "fit.db")
    arguments = ["fit", file, "--starts", "3", "--seed", "1", "--workers", "1", "--out", out]
    assert main([*arguments, "--resume"]) == BAD_INPUT
    assert "there is no file" in capsys.readouterr().err
    assert main([*arguments, "--json"]) == PASSED
    first = json.loads(capsys.readouterr().out)
    assert main(arguments) == BAD_INPUT
    assert "add --resume" in capsys.readouterr().err
    assert main([*arguments, "--resume", "--json"]) == PASSED
    assert json.loads(capsys.readouterr().out) == first


def test_what_fails_has_its_code_and_reason(file, tmp_path, capsys) -> None:
    assert main(["fit", file, "--problem", "hopeless", "--starts", "2"]) == FAILED
    assert "All 2 starts failed" in "".join(capsys.readouterr()).replace("all", "All")
    assert main(["fit", file, "--problem", "model"]) == BAD_INPUT
    assert "a symode.Problem is expected" in capsys.readouterr().err
    assert main(["fit", file, "--problem", "p"]) == BAD_INPUT
    assert "defines no 'p'" in capsys.readouterr().err
    assert main(["simulate", file, "--theta", "k=-900,x0=1,s=1"]) == SOLVER_FAILED


def test_a_course_is_a_table_that_reads_back(file, capsys) -> None:
    assert main(["simulate", file, "--points", "5"]) == PASSED
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    t = np.array([float(row["t"]) for row in rows])
    x = np.array([float(row["x"]) for row in rows])
    np.testing.assert_allclose(t, [0, 0.5, 1, 1.5, 2])
    # rtol 1e-8 over a short span.
    np.testing.assert_allclose(x, 2 * np.exp(-0.7 * t), rtol=1e-7)
    assert main(["simulate", file, "--times", "1", "--json", "--theta", "0.5,3,1"]) == PASSED
    found = json.loads(capsys.readouterr().out)
    assert found["x"] == pytest.approx([3 * np.exp(-0.5)], rel=1e-7)


def test_a_petab_problem_is_read_and_not_run(tmp_path, capsys) -> None:
    path = tmp_path / "problem.yaml"
    path.write_text("format_version: 9\n")
    from symode.cli.main import main

    assert main(["fit", str(path), "--starts", "1"]) == 2
    assert "version 1" in capsys.readouterr().err
