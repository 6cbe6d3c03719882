"""The command line: results on stdout, progress on stderr, and a code for each way to end."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from symode.cli import verify
from symode.cli.codes import BAD_INPUT, FAILED, PASSED, SENTENCES, SOLVER_FAILED
from symode.cli.files import numbers
from symode.cli.main import COMMANDS, main
from symode.errors import OptionError

PROBLEM = """
import sympy as sp, symode
x, k = sp.symbols("x k")
model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
loss = symode.Loss(terminal=x**2)
other = symode.Loss(terminal=sp.sin(x))
span = (0, 1)
theta = {"k": 0.7}
print("hello from the file")
if __name__ == "__main__":
    raise SystemExit("not run as a script")
"""


@pytest.fixture
def problem(tmp_path):
    path = tmp_path / "problem.py"
    path.write_text(PROBLEM)
    return str(path)


def test_a_right_gradient_passes_with_a_table_on_stdout(problem, capsys):
    assert main(["verify", problem]) == PASSED
    out, err = capsys.readouterr()
    assert "Verdict: passed." in out
    assert "hello" not in out and "hello" in err and "running" in err


def test_json_is_json_and_html_a_page(problem, capsys, tmp_path):
    page = tmp_path / "out.html"
    arguments = ["--json", "--html", str(page), "--loss", "other", "--rtol", "1e-6"]
    assert main(["verify", problem, *arguments]) == PASSED
    result = json.loads(capsys.readouterr().out)
    assert result["passed"] and result["entries"][0]["name"] == "k"
    # sin(2 e^-0.7)
    assert result["value"] == pytest.approx(0.8376, abs=1e-3)
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_a_wrong_claim_fails_and_is_explained(problem, capsys):
    with open(problem, "a") as file:
        file.write("claimed = {'k': 1.9727757115328518}\n")
    assert main(["verify", problem, "--checks", "taylor"]) == FAILED
    assert "sign flipped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py"], "no file"),
        (["{file}", "--loss", "mine"], "defines no 'mine'"),
        (["{file}", "--span", "0"], "two times"),
        (["{file}", "--theta", "k=one"], "not a list of numbers"),
        (["{file}", "--theta", "q=1"], "q"),
        (["{file}", "--checks", "tailor"], "taylor"),
        (["{file}", "--solver", "rk9"], "rk9"),
        (["{file}", "--html", "/nowhere/out.html"], "could not be written"),
    ],
)  # fmt: skip
def test_bad_input_is_named(problem, capsys, arguments, words):
    arguments = [a.format(file=problem) for a in arguments]
    assert main(["verify", *arguments, "--digits", "0"]) == BAD_INPUT
    out, err = capsys.readouterr()
    assert words in err and not out


def test_a_file_that_raises_is_bad_input(tmp_path, capsys):
    path = tmp_path / "broken.py"
    path.write_text("1 / 0")
    assert main(["verify", str(path)]) == BAD_INPUT
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_failed_solve_has_a_code_of_its_own(tmp_path, capsys):
    path = tmp_path / "explodes.py"
    path.write_text(PROBLEM.replace("-k * x}", "k * x**2}"))
    assert main(["verify", str(path), "--span", "0,2"]) == SOLVER_FAILED
    assert "blow-up" in capsys.readouterr().err


def test_usage_errors_leave_with_2_and_help_names_the_codes(capsys):
    with pytest.raises(SystemExit) as end:
        main(["verify"])
    assert end.value.code == BAD_INPUT
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == PASSED
    out = capsys.readouterr().out
    assert all(sentence[:30] in out for sentence in SENTENCES.values())
    assert all(command.NAME in out for command in COMMANDS)


def test_every_option_and_code_is_on_the_reference_page():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text("utf-8")
    parser = argparse.ArgumentParser(add_help=False)
    verify.add_arguments(parser)
    options = [o for a in parser._actions for o in a.option_strings]
    assert options and all(f"`{option}" in page for option in options)
    assert all(f"| {code} | {sentence} |" in page for code, sentence in SENTENCES.items())


def test_the_module_runs_as_a_command():
    command = [sys.executable, "-m", "symode.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("symode ")


def test_numbers_are_read_without_evaluation():
    assert numbers("1,2") == [1.0, 2.0]
    with pytest.raises(OptionError):
        numbers("__import__('os')")
