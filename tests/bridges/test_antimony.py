"""Antimony: what a text says, read and written; no other file, and bounded time and memory."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest
import sympy as sp

pytest.importorskip("libsbml", reason="libSBML is not installed (extra sbml)")
pytest.importorskip("antimony", reason="libAntimony is not installed (extra antimony)")

import symode
from symode.bridges import antimony
from symode.errors import ImportFileError, ModelError

x, y, k, q, t = sp.symbols("x y k q t")

TEXT = """
model chain()
  compartment cell = 2;
  species A in cell, B in cell;
  A = 3; B = 0.5;
  r: A -> 2 B; cell*k*A;      # a comment about an import of "things"
  k = 0.7;
  at (time > 1): B = B + 1;
end
"""


def test_a_text_and_a_file_are_read(tmp_path) -> None:
    path = tmp_path / "chain.ant"
    path.write_text(TEXT)
    for source in (TEXT, path, str(path)):
        model = symode.read_antimony(source)
        solution = model.solve((0, 2), theta=model.theta, rtol=1e-10, atol=1e-12)
        assert solution["A"][-1] == pytest.approx(3 * exp(-1.4), rel=1e-8)
        assert solution["B"][-1] == pytest.approx(1.5 + 6 * (1 - exp(-1.4)), rel=1e-8)


def test_a_model_is_written_and_comes_back(tmp_path) -> None:
    events = [
        symode.Event(x < 1, {x: x + q, y: y / 2}, name="dose", priority=k, persistent=False),
        symode.Event(sp.And(t > 1, y > 0), {y: y - 1}, initial_value=False, name="2nd step",
                     use_trigger_values=False),
    ]  # fmt: skip
    model = symode.Model(
        {x: -k * x * sp.Float(0.1 + 0.2) + sp.Piecewise((1, x < y), (2, True)),
         y: x - sp.Rational(1, 3) * sp.sqrt(1 + y**2)},
        initial={x: 2, y: sp.Float(1 / 3)}, parameters=(k, q), time=t, events=events,
        observables={"w": x * y + q},
    )  # fmt: skip
    theta = {"k": 0.1 + 0.2, "q": 1e-7 / 3}
    path = tmp_path / "model.ant"
    text = symode.write_antimony(model, path, theta=theta)
    assert path.read_text() == text
    again = symode.read_antimony(path)
    # libAntimony keeps 15 digits.
    assert again.theta == pytest.approx(theta, rel=1e-14)
    solutions = [m.solve((0, 3), theta=theta, times=[0.7, 3]) for m in (model, again)]
    np.testing.assert_allclose(solutions[1].z, solutions[0].z, rtol=1e-6)


def test_an_algebraic_equation_is_written() -> None:
    model = symode.Model(
        {x: -k * y}, algebraic={y: y**2 - x}, parameters=(k,), initial={x: 4, y: 1.5}
    )
    again = symode.read_antimony(symode.write_antimony(model, theta=[0.5]))
    assert again.solve((0, 2), theta=[0.5])["y"][-1] == pytest.approx(1.5, rel=1e-6)


@pytest.mark.parametrize("names", ["species compartment", "at import", "exp time"])
def test_names_that_are_words_of_antimony_are_refused(names: str) -> None:
    one, two = sp.symbols(names)
    model = symode.Model({one: -two}, parameters=(two,), initial={one: 1})
    with pytest.raises(ModelError, match="Antimony has no words"):
        symode.write_antimony(model)


def test_other_files_are_never_read(tmp_path) -> None:
    other = tmp_path / "other.ant"
    other.write_text("model other()\n z = 3\nend\n")
    for text in (
        f'import "{other}"\nA -> B; k*A;',
        f'x = 1; import "{other}"',
        f'import /* c */ "{other}"\n',
        f'y is "open\nimport "{other}"\n',
        f'y is "open\nimport /* " */ "{other}"\n',
        f'// "\nimport "{other}"\n',
    ):
        with pytest.raises(ImportFileError, match="imports another file"):
            symode.read_antimony(text)
    # The word alone is no import.
    symode.read_antimony('x = 1; // import this\ny is "an import of 3";')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A -> ; k*(", "not what libAntimony reads"),
        ("x = 1;\0 y = 2;", "a zero byte"),
        ("x = " + "(" * 100_000 + "1;", "not what libAntimony reads|ended libAntimony"),
        ("x = 1; " + "#" * (5 * 2**20), "larger than 4 MB"),
        ("x = " + "sin(" * 900 + "1" + ")" * 900 + ";", "nested more than 600 deep"),
        ("none.ant", "cannot be read"),
        (3, "takes a text or the path"),
    ],
    ids=["broken", "zero", "deep", "large", "nested", "no file", "number"],
)
def test_what_is_no_antimony_is_refused(text, words: str) -> None:
    with pytest.raises(ImportFileError, match=words):
        symode.read_antimony(text)


def test_modules_that_multiply_are_given_up(monkeypatch) -> None:
    monkeypatch.setattr(antimony, "SECONDS", 2)
    text = "model m0()\n x = 1\nend\n"
    for i in range(1, 9):
        parts = "".join(f" s{j}: m{i - 1}();" for j in range(8))
        text += f"model m{i}()\n{parts}\nend\n"
    with pytest.raises(ImportFileError, match="more than 2 seconds"):
        symode.read_antimony(text)
