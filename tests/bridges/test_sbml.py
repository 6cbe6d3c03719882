"""SBML: right numbers or a refusal that names the element; files from elsewhere are safe."""

from __future__ import annotations

import pickle
import time

import pytest
import sympy as sp

pytest.importorskip("libsbml", reason="libSBML is not installed (extra sbml)")

from bridges.little import Little
from bridges.suite import CASES, faults_of

import symode
from symode.errors import ImportFileError

NAMES = sorted(folder.name for folder in CASES.iterdir()) if CASES.is_dir() else []
CORE = "http://www.sbml.org/sbml/level3/version2/core"
HEAD = f'<sbml xmlns="{CORE}" level="3" version="2"><model id="m">'
MATH = '<math xmlns="http://www.w3.org/1998/Math/MathML">'


@pytest.mark.skipif(not NAMES, reason="the acceptance data are not there: ../shared/data/sbml")
@pytest.mark.parametrize("name", NAMES or [None])
def test_a_case_gives_its_results(name: str) -> None:
    assert not faults_of(CASES / name)


def model_of(body: str) -> str:
    return f"{HEAD}{body}</model></sbml>"


def parameter(key: str, value: str = "1", constant: str = "true") -> str:
    return f'<parameter id="{key}" value="{value}" constant="{constant}"/>'


DECAY = model_of(
    f"<listOfParameters>{parameter('k', '0.5')}{parameter('x', '2', 'false')}</listOfParameters>"
    f'<listOfRules><rateRule variable="x">{MATH}<apply><times/><cn>-1</cn><ci>k</ci><ci>x</ci>'
    "</apply></math></rateRule></listOfRules>"
)


def test_a_model_is_a_model_with_gradients() -> None:
    model = symode.read_sbml(DECAY)
    assert model.equations.state_names == ("x",) and model.theta == {"k": 0.5}
    x = model.states[0]
    gradient = model.gradient(symode.Loss(terminal=x), (0, 2), theta=model.theta)
    assert gradient.theta["k"] == pytest.approx(-4 * sp.exp(-1).evalf(), rel=1e-6)
    again = pickle.loads(pickle.dumps(model))
    assert again.equations == model.equations and again.theta == model.theta


def test_a_file_is_read_from_its_path(tmp_path) -> None:
    path = tmp_path / "decay.xml"
    path.write_text(DECAY)
    assert symode.read_sbml(path).title == "m"


BOMB = '<!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>' + DECAY.replace(
    "0.5", "&b;"
)
OUTSIDE = '<!DOCTYPE b [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + DECAY.replace("0.5", "&a;")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "a document type is declared"),
        (OUTSIDE, "a document type is declared"),
        ("<a>" * 5000 + "</a>" * 5000, "nested more than 600 deep"),
        ("<a><b></a>", "is not XML"),
        ("<html></html>", "is not valid SBML"),
        (
            DECAY.replace("<ci>k</ci>", "<ci>__import__('os')</ci>"),
            "does not define|not valid SBML",
        ),
        (DECAY.replace("<ci>k</ci>", "<ci>k.real</ci>"), "does not define|not valid"),
        (DECAY.replace("<cn>-1", '<cn type="integer">-2147483649'), "more than 32 bits"),
        (
            DECAY.replace("<cn>-1", '<cn type="rational">3<sep/>' + "9" * 5000),
            "more than 32 bits",
        ),
        (DECAY.replace("<cn>", '<cn type="integer" base="16">'), "not in base 10"),
        (DECAY.encode("utf-16"), "is not XML|not UTF-8"),
        (DECAY.replace('"m"', '"m" name="\xe4"').encode("latin-1"), "is not XML|not UTF-8"),
    ],
    ids=[
        "bomb",
        "outside",
        "deep",
        "broken",
        "html",
        "import",
        "attribute",
        "long integer",
        "long rational",
        "base",
        "utf-16",
        "latin",
    ],
)
def test_files_that_mean_harm_are_refused_quickly(text: str, words: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(ImportFileError, match=words):
        symode.read_sbml(text)
    # Quickly: a bomb or a deep tree would take minutes, or all memory.
    assert time.perf_counter() - begun < 20


def test_a_file_that_is_not_there_or_too_large_is_named(tmp_path) -> None:
    with pytest.raises(ImportFileError, match="cannot be read: No such file"):
        symode.read_sbml(tmp_path / "none.xml")
    big = tmp_path / "big.xml"
    with big.open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(ImportFileError, match="has 65 MB; at most 64"):
        symode.read_sbml(big)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            DECAY.replace(
                "</listOfRules>",
                f"<algebraicRule>{MATH}<ci>x</ci></math></algebraicRule></listOfRules>",
            ),
            "an algebraic rule",
        ),
        (
            DECAY.replace(
                "<ci>k</ci>",
                '<apply><csymbol encoding="text" definitionURL='
                '"http://www.sbml.org/sbml/symbols/delay">delay</csymbol><ci>x</ci><cn>1</cn>'
                "</apply>",
            ),
            "the rate rule of x uses delay",
        ),
        (
            model_of(
                f"<listOfParameters>{parameter('a', '1', 'false')}{parameter('b', '1', 'false')}"
                "</listOfParameters><listOfRules>"
                f'<assignmentRule variable="a">{MATH}<ci>b</ci></math></assignmentRule>'
                f'<assignmentRule variable="b">{MATH}<ci>a</ci></math></assignmentRule>'
                "</listOfRules>"
            ),
            "not valid SBML|through itself",
        ),
    ],
    ids=["algebraic", "delay", "cycle"],
)
def test_what_has_no_counterpart_is_named(text: str, words: str) -> None:
    with pytest.raises(ImportFileError, match=words):
        symode.read_sbml(text)


def test_events_keep_amounts_where_a_volume_jumps_and_have_gradients() -> None:
    model = symode.read_sbml(
        model_of(
            '<listOfCompartments><compartment id="C" size="2" spatialDimensions="3" '
            'constant="false"/></listOfCompartments><listOfSpecies><species id="S" '
            'compartment="C" initialConcentration="3" hasOnlySubstanceUnits="false" '
            'boundaryCondition="true" constant="false"/></listOfSpecies>'
            f"<listOfParameters>{parameter('k', '0.7')}{parameter('w', '1.5')}</listOfParameters>"
            f'<listOfRules><rateRule variable="S">{MATH}<ci>k</ci></math></rateRule></listOfRules>'
            "<listOfEvents><event id='shrink' useValuesFromTriggerTime='true'><trigger "
            f"initialValue='true' persistent='true'>{MATH}<apply><geq/><ci>S</ci><ci>w</ci>"
            "</apply></math></trigger><listOfEventAssignments><eventAssignment variable='C'>"
            f"{MATH}<cn>0.5</cn></math></eventAssignment></listOfEventAssignments></event>"
            "</listOfEvents>"
        )
    )
    theta = {**model.theta, "w": 3.35}
    # S reaches w at 0.5, and its amount 2 w goes into a quarter of the volume.
    solution = model.solve((0, 1), theta=theta)
    assert solution.events[0].t == pytest.approx(0.5, rel=1e-9)
    assert solution["S"][-1] == pytest.approx(4 * 3.35 + 0.7 * 0.5, rel=1e-9)
    found = model.gradient(symode.Loss(terminal=sp.Symbol("S")), (0, 1), theta=theta)
    # S(1) = 4 w + k (1 - (w - 3) / k)
    assert found.theta["w"] == pytest.approx(3, rel=1e-7)
    assert found.theta["k"] == pytest.approx(1, rel=1e-7)


def constant(formula: str) -> Little:
    return Little().variable("x", 1).rate("x", formula)


def chain(length: int, first: str, law: str, use: str = "assign") -> Little:
    """Return rules that each use the one before twice: written out, 2^length operations."""
    little = Little().variable("x", 1).rate("x", "-x").variable("r0").assign("r0", first)
    for i in range(1, length):
        little.variable(f"r{i}").assign(
            f"r{i}", law.replace("(r)", f"(r{i - 1})").replace("* r", f"* r{i - 1}")
        )
    getattr(little.variable("y"), use)("y", f"r{length - 1}")
    return little


BOMBS = {
    "power": (constant("9^9^9^9"), "outside the range of double precision"),
    "root": (constant("(1/3)^(10^9) + (3^(1/10^6))^(10^9)"), "outside the range"),
    "factorial": (constant("factorial(10^9)"), "outside the range"),
    "exponentials": (constant("floor(exp(exp(exp(exp(3)))))"), "outside the range"),
    "long products": (constant("*".join(["1e300"] * 30)), "outside the range"),
    "chain of rules": (chain(60, "x / 9", "cos(r) * r + 1"), None),
    "chain of constants": (chain(60, "0.3", "cos(r) * r"), None),
    "chain of initial values": (chain(40, "x / 9", "cos(r) * r", "initial"), None),
    "chain behind an algebraic rule": (chain(40, "x / 9", "cos(r) * r").variable("z")
                                       .algebraic("z + r39"), None),
    "far too long a chain": (chain(900, "x / 9", "cos(r) * r"), "nested too deeply"),
}  # fmt: skip


@pytest.mark.parametrize("label", BOMBS)
def test_formulas_that_explode_are_read_or_refused_quickly(label: str) -> None:
    little, words = BOMBS[label]
    text = little.text()
    begun = time.perf_counter()
    if words is None:
        symode.read_sbml(text)
    else:
        with pytest.raises(ImportFileError, match=words):
            symode.read_sbml(text)
    # Quickly: written out, or computed exactly, they would take years.
    assert time.perf_counter() - begun < 20
