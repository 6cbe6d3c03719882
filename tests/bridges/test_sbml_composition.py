"""Composed models: flattened as their parts say, from no file outside the model's folder."""

from __future__ import annotations

from math import exp
from typing import Any

import pytest

pytest.importorskip("libsbml", reason="libSBML is not installed (extra sbml)")

import libsbml

import symode
from symode.errors import ImportFileError


def document() -> tuple[Any, Any]:
    found = libsbml.SBMLDocument(libsbml.SBMLNamespaces(3, 1, "comp", 1))
    found.setPackageRequired("comp", True)
    return found, found.getPlugin("comp")


def decay(model: Any) -> Any:
    for key, value, constant in (("k", 0.3, True), ("x", 1, False)):
        parameter = model.createParameter()
        parameter.setId(key)
        parameter.setValue(value)
        parameter.setConstant(constant)
    rule = model.createRateRule()
    rule.setVariable("x")
    rule.setMath(libsbml.parseL3Formula("-k*x"))
    return model


def submodel(model: Any, key: str, of: str) -> Any:
    part = model.getPlugin("comp").createSubmodel()
    part.setId(key)
    part.setModelRef(of)
    return part


def twice(source: str | None = None) -> Any:
    """Two decays: the first with the model's own rate, the second on a clock half as fast."""
    found, plugin = document()
    model = found.createModel()
    model.setId("top")
    if source is None:
        definition = plugin.createModelDefinition()
        decay(definition)
    else:
        definition = plugin.createExternalModelDefinition()
        definition.setSource(source)
    definition.setId("sub")
    submodel(model, "first", "sub")
    submodel(model, "second", "sub").setTimeConversionFactor("clock")
    for key, value in (("clock", 2), ("k", 0.7)):
        parameter = model.createParameter()
        parameter.setId(key)
        parameter.setValue(value)
        parameter.setConstant(True)
    replaced = parameter.getPlugin("comp").createReplacedElement()
    replaced.setSubmodelRef("first")
    replaced.setIdRef("k")
    return found


def assert_decays(source: Any) -> None:
    model = symode.read_sbml(source)
    solution = model.solve((0, 2), theta=model.theta, rtol=1e-10, atol=1e-12)
    # Well above the solver's error, well below any mistaken rate.
    assert solution["first__x"][-1] == pytest.approx(exp(-0.7 * 2), rel=1e-8)
    assert solution["second__x"][-1] == pytest.approx(exp(-0.3 * 2 / 2), rel=1e-8)


def test_submodels_are_flattened() -> None:
    assert_decays(libsbml.writeSBMLToString(twice()))


def test_files_come_from_the_folder_alone(tmp_path) -> None:
    folder = tmp_path / "models"
    (folder / "parts").mkdir(parents=True)
    part, _ = document()
    decay(part.createModel()).setId("sub")
    for place in (folder / "part.xml", folder / "parts" / "part.xml", tmp_path / "part.xml"):
        libsbml.writeSBMLToFile(part, str(place))
    (folder / "link.xml").symlink_to(tmp_path / "part.xml")
    top = folder / "top.xml"

    for source in ("part.xml", "parts/part.xml", "./part.xml"):
        libsbml.writeSBMLToFile(twice(source), str(top))
        assert_decays(top)
    outside = str(tmp_path / "part.xml")
    for source in ("../part.xml", outside, f"file://{outside}", "link.xml", "http://there/x.xml"):
        libsbml.writeSBMLToFile(twice(source), str(top))
        with pytest.raises(ImportFileError, match="only files in the folder of the model"):
            symode.read_sbml(top)
    libsbml.writeSBMLToFile(twice("none.xml"), str(top))
    with pytest.raises(ImportFileError, match=r"none\.xml cannot be read"):
        symode.read_sbml(top)
    with pytest.raises(ImportFileError, match="a text has no folder"):
        symode.read_sbml(libsbml.writeSBMLToString(twice("part.xml")))
    (folder / "bad.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    libsbml.writeSBMLToFile(twice("bad.xml"), str(top))
    with pytest.raises(ImportFileError, match=r"bad\.xml.*a document type is declared"):
        symode.read_sbml(top)
    libsbml.writeSBMLToFile(twice("top.xml"), str(top))
    with pytest.raises(ImportFileError, match="holds itself"):
        symode.read_sbml(top)


def nested(depth: int, width: int, loops: bool = False) -> str:
    found, plugin = document()
    model = found.createModel()
    model.setId("top")
    models = [model]
    for i in range(depth):
        definition = plugin.createModelDefinition()
        definition.setId(f"d{i}")
        models.append(definition)
    for i, holder in enumerate(models[: None if loops else -1]):
        for j in range(width):
            submodel(holder, f"s{j}", f"d{i % depth}")
    return libsbml.writeSBMLToString(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (nested(9, 10), "holds more than 5000 submodels"),
        (nested(3, 1, loops=True), "the model definition 'd0' holds itself"),
        (nested(30, 4, loops=True), "holds itself"),
    ],
    ids=["bomb", "loop", "wide loop"],
)
def test_bombs_of_submodels_are_refused(text: str, words: str) -> None:
    with pytest.raises(ImportFileError, match=words):
        symode.read_sbml(text)


def test_flux_balances_are_refused() -> None:
    found = libsbml.SBMLDocument(libsbml.SBMLNamespaces(3, 1, "fbc", 2))
    found.setPackageRequired("fbc", False)
    model = found.createModel()
    reaction = model.createReaction()
    reaction.setId("r")
    reaction.setReversible(False)
    reaction.setFast(False)
    plugin = model.getPlugin("fbc")
    plugin.setStrict(False)
    objective = plugin.createObjective()
    objective.setId("yield")
    objective.setType("maximize")
    plugin.setActiveObjectiveId("yield")
    with pytest.raises(ImportFileError, match="objective 'yield'"):
        symode.read_sbml(libsbml.writeSBMLToString(found))
