"""Formulas of PEtab: the suite's expressions, their compiled code, and hostile texts."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from symode.bridges.petab.formulas import parse, value_of
from symode.codegen.backends import compile_kernels
from symode.codegen.reference import evaluate
from symode.errors import ImportFileError
from symode.symbolic.build import build
from symode.symbolic.graph import Builder

yaml = pytest.importorskip("yaml")

FILE = Path(__file__).parents[2].parent / "shared/data/petab/test_suite/v2.0.0/math/math_tests.yaml"
CASES = yaml.safe_load(FILE.read_text())["cases"] if FILE.is_file() else []
needs_data = pytest.mark.skipif(not CASES, reason="the data folder is not beside this checkout")
NUMBER = re.compile(r"(?<![A-Za-z_0-9.])\d+(\.\d+)?([eE][-+]?\d+)?")
#: Two functions at a time, each rounded: some units in the last place of numbers around 1.
CLOSE = {"rel": 1e-14, "abs": 1e-15}


def with_names(text: str) -> tuple[str, list[float]]:
    """Return a formula with p0, p1, ... in place of its numbers, and the numbers."""
    values: list[float] = []

    def name(match: re.Match[str]) -> str:
        values.append(float(match.group(0)))
        return f"p{len(values) - 1}"

    return NUMBER.sub(name, text), values


def both_ways(text: str, values: dict[str, float]) -> list[float]:
    """Return a formula's value by the plain graph, and in machine code."""
    b = Builder()
    table = {sp.Symbol(n): b.input("p", i) for i, n in enumerate(values)}
    graph = b.freeze(build(b, [parse(text, "here", sp.Symbol)], table))
    numbers = np.array(list(values.values()))
    native = compile_kernels({"rhs": ("field", graph)}, numbers.size)
    (compiled,) = native.call("rhs", 0.0, np.zeros(0), native.pack(numbers))
    (plain,) = evaluate(graph, 0.0, (), numbers)
    return [float(plain), float(compiled)]


@needs_data
def test_every_expression_of_the_suite_has_its_value() -> None:
    assert len(CASES) == 98
    for case in CASES:
        text, expected = str(case["expression"]), case["expected"]
        if isinstance(expected, str) and expected not in ("inf", "-inf"):
            found, wanted = (parse(e, "here", sp.Symbol) for e in (text, expected))
            assert sp.simplify(found - wanted) == 0, text
        else:
            assert value_of(text, "here") == pytest.approx(float(expected), **CLOSE), text


@needs_data
def test_every_expression_of_the_suite_has_its_value_in_compiled_code() -> None:
    # With names for numbers, or SymPy would fold every one of them to a constant.
    for case in CASES:
        text, values = with_names(str(case["expression"]))
        if not values:
            continue
        names = {f"p{i}": v for i, v in enumerate(values)}
        for found in both_ways(text, names):
            assert found == pytest.approx(float(case["expected"]), **CLOSE), (text, values)


@needs_data
def test_every_formula_of_the_suites_and_benchmarks_means_what_the_petab_library_reads() -> None:
    library = pytest.importorskip("petab.v1.math")
    formulas = set()
    for path in FILE.parents[3].rglob("*.tsv"):
        with path.open() as file:
            for row in csv.DictReader(file, delimiter="\t"):
                columns = ("observableFormula", "noiseFormula", "targetValue")
                formulas |= {row[column] for column in columns if row.get(column)}
    assert len(formulas) > 100
    for text in sorted(formulas):
        other = library.sympify_petab(text)
        names = sorted(symbol.name for symbol in other.free_symbols)
        values = dict(zip(names, np.linspace(0.3, 1.9, len(names)), strict=True))
        mine = parse(text, "here", sp.Symbol)
        assert {symbol.name for symbol in mine.free_symbols} == set(names)
        # Each evaluated as it stands: sums in another order differ in their last places.
        found = float(mine.xreplace({sp.Symbol(n): sp.Float(v) for n, v in values.items()}))
        wanted = float(other.xreplace({s: sp.Float(values[s.name]) for s in other.free_symbols}))
        assert found == pytest.approx(wanted, rel=1e-12), text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!a", 0.0),
        ("-!zero", -1.0),
        ("!!a + a", 3.0),
        ("(a < b) * 4 + (a > b)", 4.0),
        ("a < b == true", 1.0),
        ("zero || a && zero", 0.0),
        ("a || zero && zero", 0.0),
        ("-a^2", -4.0),
        ("b^-a^a", 3.0**-4),
        ("b - a - 1", 0.0),
        ("b / a / 2", 0.75),
        ("+a", 2.0),
        ("log(b, a)", math.log2(3)),
        ("arccot(-b)", math.atan(-1 / 3)),
        ("piecewise(1, zero, 2, a, 3)", 2.0),
        (".5e1 * a", 10.0),
    ],
)
def test_truth_and_numbers_stand_for_each_other(text, expected) -> None:
    for found in both_ways(text, {"a": 2.0, "b": 3.0, "zero": 0.0}):
        assert found == pytest.approx(expected, **CLOSE)


LEAVES = st.sampled_from(["a", "b", "2.5", "3"])
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.tuples(st.sampled_from("+-*/<"), inner, inner)
        | st.tuples(st.just("-"), inner)
        | st.tuples(st.just("&&"), inner, inner)
    ),
    max_leaves=9,
)
VALUES = {"a": 1.75, "b": -0.625}


def text_of(tree) -> str:
    """Return a tree as text, in parentheses throughout."""
    if isinstance(tree, str):
        return tree
    if len(tree) == 2:
        return f"(-{text_of(tree[1])})"
    return f"({text_of(tree[1])} {tree[0]} {text_of(tree[2])})"


def number_of(tree) -> float:
    if isinstance(tree, str):
        return VALUES[tree] if tree in VALUES else float(tree)
    left, *right = (number_of(part) for part in tree[1:])
    if not right:
        return -left
    if tree[0] == "/":
        return left / right[0] if right[0] else math.nan
    by_sign = {"+": left + right[0], "-": left - right[0], "*": left * right[0]}
    by_sign |= {"<": float(left < right[0]), "&&": float(bool(left) and bool(right[0]))}
    return by_sign[tree[0]]


@settings(max_examples=60, deadline=None)
@given(tree=TREES)
def test_random_formulas_mean_what_their_tree_says(tree) -> None:
    wanted = number_of(tree)
    if not math.isfinite(wanted):
        return
    b = Builder()
    table = {sp.Symbol(n): b.input("p", i) for i, n in enumerate(VALUES)}
    try:
        expression = parse(text_of(tree), "here", sp.Symbol)
    except ImportFileError as error:
        assert "divides by 0" in str(error)  # in a branch of no consequence
        return
    if expression.has(sp.zoo, sp.nan):
        return
    (found,) = evaluate(b.freeze(build(b, [expression], table)), 0.0, (), list(VALUES.values()))
    # Simplified sums are added in another order: rounding of their largest term.
    assert float(found) == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a.__class__", "'.' is not expected at position 1"),
        ("__import__('os')", "not expected"),
        ("open(a)", "open is no function"),
        ("a b", "'b' is not expected"),
        ("a = b", "'=' is not expected"),
        ("sin(a, b)", "2 arguments"),
        ("piecewise(a, b)", "piecewise does not take 2"),
        ("(a", r"'\)' is missing at the end"),
        ("a +", "ends too early"),
        ("", "ends too early"),
        ("NaN + 1", "reserved"),
        ("1 / 0", "divides by 0"),
        ("(-8)^0.5", "not real"),
        ("(" * 5000 + "a" + ")" * 5000, "nested"),
        ("2" + "^2" * 40_000, "nested"),
        ("a" * 200_000, "longer"),
    ],
)
def test_a_text_that_is_no_formula_is_refused_with_its_place(text, reason) -> None:
    with pytest.raises(ImportFileError, match=reason):
        parse(text, "here", sp.Symbol)


def test_hostile_numbers_end_quickly() -> None:
    assert value_of("-" * 90_001 + "1", "here") == -1.0
    assert value_of("9^9^9^9", "here") == math.inf
    assert parse("+".join(["a"] * 20_000), "here", sp.Symbol) == 20_000 * sp.Symbol("a")
