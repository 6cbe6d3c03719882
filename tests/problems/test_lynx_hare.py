"""The numbers typed into the example are those of the file that the README reads."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_example_and_file_hold_the_same_counts() -> None:
    tree = ast.parse((EXAMPLES / "lynx_hare.py").read_text("utf-8"))
    typed = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
    }
    year, hare, lynx = np.loadtxt(EXAMPLES / "data" / "lynx_hare.csv", delimiter=",", skiprows=4).T
    assert year.tolist() == list(range(1900, 1921))
    assert hare.tolist() == typed["HARES"]
    assert lynx.tolist() == typed["LYNXES"]
