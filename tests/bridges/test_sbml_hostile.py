"""SBML made to cost time or memory without bounds: refused quickly, or read."""

from __future__ import annotations

import os
import time

import pytest

pytest.importorskip("libsbml", reason="libSBML is not installed (extra sbml)")

from bridges.test_sbml import DECAY, MATH, model_of, parameter

import symode
from symode.errors import ImportFileError


def many(count: int, form: str, between: str = "") -> str:
    return between.join(form.replace("#", str(i)) for i in range(count))


def with_attributes(tags: str, count: int, form: str) -> str:
    text = DECAY
    for tag in tags.split():
        text = text.replace(f"<{tag}", f"<{tag} {many(count, form, ' ')}", 1)
    return text


def rated(formula: str, more: str = "", rules: str = "") -> str:
    """A model in which x changes by a formula."""
    return model_of(
        f"<listOfParameters>{parameter('x', '1', 'false')}{more}</listOfParameters><listOfRules>"
        f'<rateRule variable="x">{MATH}{formula}</math></rateRule>{rules}</listOfRules>'
    )


def _chain(count: int, step: str) -> str:
    """Parameters of which each is made of the one before, written ``@``."""
    rules = "".join(
        f'<assignmentRule variable="a{i}">{MATH}{step.replace("@", f"<ci>{before}</ci>")}</math>'
        "</assignmentRule>"
        for i, before in enumerate(["x", *(f"a{i}" for i in range(count - 1))])
    )
    more = "".join(parameter(f"a{i}", "1", "false") for i in range(count))
    return rated(f"<ci>a{count - 1}</ci>", more, rules)


def piece(value: str, compared: str, other: str) -> str:
    return (
        f"<piecewise><piece><cn>{value}</cn><apply><lt/>{compared}</apply></piece>"
        f"<otherwise><cn>{other}</cn></otherwise></piecewise>"
    )


def _nested_pieces(depth: int) -> str:
    found = "<cn>0</cn>"
    for i in range(depth):
        found = piece(str(i), f"<apply><times/><ci>x</ci><cn>{i}</cn></apply>{found}", "2")
    return found


def _xor(count: int) -> str:
    parts = many(count, "<apply><lt/><ci>x</ci><cn>#</cn></apply>")
    return (
        f"<piecewise><piece><cn>1</cn><apply><xor/>{parts}</apply></piece><otherwise><cn>0</cn>"
        "</otherwise></piecewise>"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_chain(60, "<apply><power/>@@</apply>"), "an exponent that, written out"),
        (rated(_nested_pieces(60)), "a condition that, written out"),
        (rated(_xor(200)), "a condition that, written out"),
        (DECAY.replace("<model", f"<!--{'-a' * 2**20}--><model"), "a comment has more than"),
        (with_attributes("model", 501, 'a#=""'), "more than 500 attributes"),
        (with_attributes("model listOfParameters parameter", 400, 'xmlns:b#="u"'), "namespaces"),
    ],
    ids=["powers", "pieces", "xor", "comment", "attributes", "namespaces"],
)  # fmt: skip
def test_formulas_and_texts_of_exponential_cost_are_refused_quickly(text: str, words: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(ImportFileError, match=words):
        symode.read_sbml(text)
    # Unbounded, each takes minutes to years.
    assert time.perf_counter() - begun < 20


def test_pieces_within_conditions_and_xor_of_many_have_their_values() -> None:
    # x(t) = t: the innermost piece is 0, so 0 < 1 has no x, 1 * x < 2 holds before t = 2, ...
    model = symode.read_sbml(rated("<cn>1</cn>", parameter("y", "1", "false"), "").replace(
        "</listOfRules>", f'<rateRule variable="y">{MATH}{_xor(9)}</math></rateRule></listOfRules>'
    ))  # fmt: skip
    solution = model.solve((0, 6), theta=model.theta, rtol=1e-9, atol=1e-12)
    # x = 1 + t; x < i holds for 9 - ceil(x) of nine bounds, an odd number in every other second.
    assert solution["y"][-1] == pytest.approx(1 + 3, abs=1e-8)
    # 1 below 3 where x < 2, below 5 elsewhere; else one half.
    inner = piece("3", "<ci>x</ci><cn>2</cn>", "5")
    outer = piece("1", f"<ci>x</ci>{inner}", "0.5")
    model = symode.read_sbml(rated(outer))
    solution = model.solve((0, 6), theta=model.theta, rtol=1e-9, atol=1e-12)
    assert solution["x"][-1] == pytest.approx(5 + (6 - 4) / 2, abs=1e-8)


def test_a_pipe_is_no_file(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.xml")
    with pytest.raises(ImportFileError, match="it is no file"):
        symode.read_sbml(tmp_path / "pipe.xml")
