"""Reactions as text: the right-hand side is the stoichiometric matrix times the rates."""

from __future__ import annotations

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

import symode
from symode.equations.reactions import parse_reactions
from symode.errors import ParseError

SPECIES = ("A", "B", "C", "E_1")
sides = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(SPECIES)), max_size=3)


@st.composite
def networks(draw) -> tuple[str, dict]:
    """A text, and the derivatives that its reactions stand for."""
    lines, found = [], {}
    for i in range(draw(st.integers(1, 5))):
        left, right = draw(sides.filter(bool)), draw(sides)
        both = draw(st.booleans())
        rates = [sp.Symbol(f"k{i}") * sp.Symbol(draw(st.sampled_from(SPECIES))) ** 2]
        if both:
            rates.append(sp.Symbol(f"q{i}") * sp.Symbol("B"))
        text = [
            " + ".join(f"{'' if n == 1 else n}{draw(st.sampled_from([' ', '*']))[: n > 1]}{s}"
                       for n, s in side)
            for side in (left, right)
        ]  # fmt: skip
        arrow = "<->" if both else "->"
        law = "; ".join(str(rate) for rate in rates)
        lines.append(f"{text[0]} {arrow} {text[1] or draw(st.sampled_from(['', '0', '∅']))}; {law}")
        net = rates[0] - (rates[1] if both else 0)
        for sign, side in ((-1, left), (1, right)):
            for n, s in side:
                found[s] = found.get(s, 0) + sign * n * net
    return draw(st.sampled_from(["\n", "; "])).join(lines), found


@given(networks())
def test_derivatives_sum_the_rates(network: tuple[str, dict]) -> None:
    text, expected = network
    equations = parse_reactions(text)
    assert set(equations.state_names) == set(expected)
    for name, value in zip(equations.state_names, equations.rhs, strict=True):
        assert sp.expand(value - expected[name]) == 0


def test_other_statements_stand_beside_reactions() -> None:
    model = symode.reactions(
        """
        time s; param k, q, S
        v = k*A*S                  # a definition
        use: S + A -> B; v
        turn: B <-> A; q*B; 3*A    # S keeps its value: it is a parameter
        C' = A - s
        A(0) = 2; B(0) = S; C(0) = 0
        obs all = A + B
        """
    )
    k, q, s, S, A, B = sp.symbols("k q s S A B")
    equations = model.equations
    assert dict(zip(equations.state_names, equations.rhs, strict=True)) == {
        "A": -k * A * S + q * B - 3 * A,
        "B": k * A * S - q * B + 3 * A,
        "C": A - s,
    }
    assert equations.initial is not None
    assert dict(zip(equations.state_names, equations.initial, strict=True)) == {
        "A": 2, "B": S, "C": 0,
    }  # fmt: skip
    assert dict(equations.observables) == {
        "all": A + B, "use": k * A * S, "turn": q * B - 3 * A,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A -> B", "line 1, column 3: this reaction has no rate"),
        ("A -> B\nB -> C; k", "line 1, column 3: this reaction has no rate"),
        ("A <-> B; k*A", "the way back has no rate"),
        ("-> ; k", "a species on one of its sides"),
        ("A -> B C; k", r"joined by \+, as in A \+ 2 B, not 'C'"),
        ("A -> 2; k", "a species, or a number and a species, is expected, not the end"),
        ("A - > B; k", "a statement is expected"),
        ("A -> B; k*A; 3", "line 1, column 14: a statement is expected"),
        ("x: A(0) = 1\nA -> B; k", "line 1, column 1: a name with a colon"),
        ("if -> B; k", "'if' is a word of the grammar"),
        ("A' = 3\nA -> B; k", "'A' is a state already"),
        ("1e400 A -> B; k", "outside the range of double precision"),
        ("__import__('os') -> B; k", r"joined by \+"),
        ("A -> B; A.__class__", "'.' is not part of the grammar"),
        ("A -> B; " + "(" * 3000 + "k", "this parenthesis is never closed|is expected"),
        (3, "a text is expected"),
    ],
)
def test_what_is_no_reaction_is_pointed_at(text, words: str) -> None:
    with pytest.raises(ParseError, match=words):
        symode.reactions(text)


def test_a_network_solves_and_has_gradients() -> None:
    model = symode.reactions("decay: 2 A -> B; k*A; A(0) = 3; B(0) = 1")
    gradient = model.gradient(symode.Loss(terminal=sp.Symbol("B")), (0, 2), theta={"k": 0.3})
    # A = 3 exp(-2 k t), B = 1 + (3 - A) / 2: dB/dk = 3 t exp(-2 k t).
    assert gradient.theta["k"] == pytest.approx(6 * sp.exp(-1.2).evalf(), rel=1e-6)
