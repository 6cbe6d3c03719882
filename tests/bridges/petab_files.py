"""Small PEtab problems of version 2, written to a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

PARAMETERS = "parameterId lowerBound upperBound nominalValue estimate"
CONDITIONS = "conditionId targetId targetValue"
EXPERIMENTS = "experimentId time conditionId"
MEASUREMENTS = "observableId experimentId time measurement"
OBSERVABLES = "observableId observableFormula noiseFormula"
YAML = """format_version: 2.0.0
parameter_files: [parameters.tsv]
model_files: {model: {language: sbml, location: model.xml}}
measurement_files: [measurements.tsv]
condition_files: [conditions.tsv]
experiment_files: [experiments.tsv]
observable_files: [observables.tsv]
mapping_files: [mapping.tsv]
"""


def sbml(
    parameters: Mapping[str, float | None],
    rates: Mapping[str, str] | None = None,
    starts: Mapping[str, str] | None = None,
    rules: Mapping[str, str] | None = None,
    volume: float | None = None,
    species: Mapping[str, float] | None = None,
    reactions: Sequence[tuple[str, str, str]] = (),
    events: Sequence[tuple[str, Mapping[str, str]]] = (),
) -> str:
    """Return a model; reactions are (from, to, rate), events (trigger, assignments)."""
    import libsbml

    document = libsbml.SBMLDocument(3, 2)
    model = document.createModel()
    model.setId("small")
    rates, starts, rules = dict(rates or {}), dict(starts or {}), dict(rules or {})
    for name, value in parameters.items():
        element = model.createParameter()
        element.setId(name)
        element.setConstant(name not in rates and name not in rules)
        if value is not None:
            element.setValue(value)
    if volume is not None:
        box = model.createCompartment()
        box.setId("box")
        box.setSize(volume)
        box.setConstant(True)
        box.setSpatialDimensions(3)
    for name, value in (species or {}).items():
        element = model.createSpecies()
        element.setId(name)
        element.setCompartment("box")
        element.setInitialConcentration(value)
        element.setHasOnlySubstanceUnits(False)
        element.setBoundaryCondition(False)
        element.setConstant(False)
    for name, formula in rates.items():
        rule = model.createRateRule()
        rule.setVariable(name)
        rule.setMath(libsbml.parseL3Formula(formula))
    for name, formula in rules.items():
        rule = model.createAssignmentRule()
        rule.setVariable(name)
        rule.setMath(libsbml.parseL3Formula(formula))
    for name, formula in starts.items():
        assignment = model.createInitialAssignment()
        assignment.setSymbol(name)
        assignment.setMath(libsbml.parseL3Formula(formula))
    for i, (left, right, rate) in enumerate(reactions):
        reaction = model.createReaction()
        reaction.setId(f"r{i}")
        reaction.setReversible(False)
        for side, make in ((left, reaction.createReactant), (right, reaction.createProduct)):
            if side:
                reference = make()
                reference.setSpecies(side)
                reference.setStoichiometry(1)
                reference.setConstant(True)
        law = reaction.createKineticLaw()
        law.setMath(libsbml.parseL3Formula(rate))
    for i, (trigger, assignments) in enumerate(events):
        event = model.createEvent()
        event.setId(f"e{i}")
        event.setUseValuesFromTriggerTime(False)
        cause = event.createTrigger()
        cause.setInitialValue(False)
        cause.setPersistent(True)
        cause.setMath(libsbml.parseL3Formula(trigger))
        for name, formula in assignments.items():
            change = event.createEventAssignment()
            change.setVariable(name)
            change.setMath(libsbml.parseL3Formula(formula))
    return libsbml.writeSBMLToString(document)


def write(folder: Path, model: str, yaml: str = YAML, **tables: str) -> Path:
    """Write a problem; cells of its tables are parted by spaces, `-` is an empty one.

    A table may begin with more column names after `+`.
    """
    heads = {
        "parameters": PARAMETERS,
        "conditions": CONDITIONS,
        "experiments": EXPERIMENTS,
        "measurements": MEASUREMENTS,
        "observables": OBSERVABLES,
        "mapping": "petabEntityId modelEntityId",
    }
    for name, head in heads.items():
        lines = [line.split() for line in tables.get(name, "").strip().splitlines()]
        more = lines.pop(0)[1:] if lines and lines[0][0] == "+" else []
        rows = [[*head.split(), *more], *lines]
        cells = ["\t".join("" if cell == "-" else cell for cell in row) for row in rows]
        (folder / f"{name}.tsv").write_text("\n".join(cells) + "\n")
    (folder / "model.xml").write_text(model)
    (folder / "problem.yaml").write_text(yaml)
    return folder / "problem.yaml"
