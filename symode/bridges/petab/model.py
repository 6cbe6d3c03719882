"""The model of a PEtab problem: an SBML model whose starts the tables can set.

What the tables set of a model becomes a parameter. A quantity that changes (a species, a parameter
with a rate rule) keeps its name as a state, and its start becomes the parameter ``NAME_init``:
the file gets an initial assignment to it, so that other assignments made of it see what the
table says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sympy as sp

from symode.bridges.petab.formulas import number
from symode.bridges.sbml.read import SbmlModel, read_sbml
from symode.bridges.sbml.safety import check_xml, read_text
from symode.errors import ImportFileError, MissingExtraError


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model ready for the tables.

    Parameters
    ----------
    model
        As changed.
    starts
        {quantity: the parameter that is its start}, of what changes.
    defaults
        {such a parameter: the start the file states}, as an expression in parameters.
    """

    model: SbmlModel
    starts: dict[str, str]
    defaults: dict[str, sp.Expr]


def prepare_model(content: bytes, name: str, targets: Iterable[str]) -> Prepared:
    """Return the model in which the targets that it has are parameters, or start at one.

    Raises
    ------
    ImportFileError
        Naming a target that a rule assigns, and as `read_sbml`.
    """
    try:
        import libsbml
    except ImportError as error:
        raise MissingExtraError(
            "Reading PEtab needs libSBML: install the extra, symode-adjoint[petab]."
        ) from error
    text, _ = read_text(content)
    check_xml(text, name)
    document = libsbml.readSBMLFromString(text.decode("utf-8", errors="strict"))
    model = document.getModel()
    if model is None:
        raise ImportFileError(f"{name} holds no SBML model.")
    taken = {element.getId() for element in document.getListOfAllElements()}
    starts: dict[str, str] = {}
    changed = False
    for target in targets:
        if not _has(model, target):
            continue
        if model.getAssignmentRule(target) is not None:
            raise ImportFileError(
                f"{name}: the tables set {target}, which an assignment rule of the model sets."
            )
        if _changes(model, target):
            label = f"{target}_init"
            while label in taken:
                label += "_"
            taken.add(label)
            starts[target] = label
        elif model.getInitialAssignment(target) is not None:
            model.removeInitialAssignment(target)
            changed = True
    plain = read_sbml(document_text(document, libsbml) if changed else text)
    if not starts:
        return Prepared(plain, {}, {})
    defaults = {label: _default(plain, target, starts) for target, label in starts.items()}
    for target, label in starts.items():
        _start_at(model, target, label, libsbml)
    return Prepared(read_sbml(document_text(document, libsbml)), starts, defaults)


def document_text(document: Any, library: Any) -> bytes:
    """Return the text of a document."""
    return str(library.writeSBMLToString(document)).encode()


def _has(model: Any, target: str) -> bool:
    return (
        model.getParameter(target) is not None
        or model.getSpecies(target) is not None
        or model.getCompartment(target) is not None
    )


def _changes(model: Any, target: str) -> bool:
    """Whether something changes a quantity in the course of time, or it is a species."""
    if model.getSpecies(target) is not None or model.getRateRule(target) is not None:
        return True
    for i in range(model.getNumEvents()):
        event = model.getEvent(i)
        for j in range(event.getNumEventAssignments()):
            if event.getEventAssignment(j).getVariable() == target:
                return True
    return False


def _start_at(model: Any, target: str, label: str, library: Any) -> None:
    """Make a parameter, and assign it to the start of a quantity."""
    parameter = model.createParameter()
    parameter.setId(label)
    parameter.setConstant(True)
    parameter.setValue(0.0)
    assignment = model.getInitialAssignment(target)
    if assignment is None:
        assignment = model.createInitialAssignment()
        assignment.setSymbol(target)
    node = library.ASTNode(library.AST_NAME)
    node.setName(label)
    assignment.setMath(node)


def _default(plain: SbmlModel, target: str, targets: Iterable[str]) -> sp.Expr:
    """Return the start of a quantity as the file states it, as formulas mean it."""
    equations = plain.equations
    assert equations.initial is not None
    start = dict(zip(equations.states, equations.initial, strict=True))
    value = plain.values[target].xreplace(start)
    # A species that nothing changes was a parameter, and is none any more.
    fixed = {sp.Symbol(t): number(plain.theta[t]) for t in targets if t in plain.theta}
    return value.xreplace({equations.time: sp.Integer(0), **fixed})
