"""Examples keep the form of STYLE: a question, one screen, an asserted answer. CI runs them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_opens_with_a_question(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert doc is not None
    assert "?" in doc.split("\n\n")[0]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_asserts_its_answer(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def test_the_main_job_is_there() -> None:
    assert "lynx_hare" in [path.stem for path in EXAMPLES]
