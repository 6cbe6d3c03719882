"""The model of a PEtab problem: an SBML model whose starts the tables can set.

What the tables set of a model becomes a parameter. A quantity that changes (a species, a parameter
with a rate rule) keeps its name as a state, and its start becomes the parameter ``NAME_init``:
the file gets an initial assignment to it, so that other assignments made of it see what the
table says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp

from symode.bridges.petab.formulas import number
from symode.bridges.sbml.read import SbmlModel, read_sbml
from symode.bridges.sbml.safety import check_xml, read_text
from symode.equations.event import Event
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
    stated
        {constant: its initial assignment}, of those that have become parameters.
    compartments
        {species: its compartment}, of those that formulas mean as concentrations.
    fresh
        A parameter that is positive where the model starts anew, and negative where it goes on from
        rest; None where no event asks for it.
    """

    model: SbmlModel
    starts: dict[str, str]
    defaults: dict[str, sp.Expr]
    stated: dict[str, sp.Expr] = field(default_factory=dict)
    compartments: dict[str, str] = field(default_factory=dict)
    fresh: str | None = None


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What decides how periods of experiments can change a model.

    Parameters
    ----------
    moving
        Ids that are not constant.
    assigned_from
        Names that initial assignments of constants contain.
    has_events
        Whether the model has events of its own.
    """

    moving: frozenset[str]
    assigned_from: frozenset[str]
    has_events: bool


def look_around(content: bytes, name: str) -> Surroundings:
    """Return what is needed of a model before it is known what must become a state."""
    import libsbml

    document, model, _ = open_model(content, name)
    # Starts that the tables may set need not be stated.
    for element in document.getListOfAllElements():
        if _has(model, element.getId()) and _changes(model, element.getId()):
            _is_unset(model, element.getId())
    plain = read_sbml(document_text(document, libsbml))
    varying = {*plain.equations.states, plain.equations.time}
    moving = {key for key, value in plain.values.items() if varying & value.free_symbols}
    names: set[str] = set()
    for i in range(model.getNumInitialAssignments()):
        assignment = model.getInitialAssignment(i)
        if assignment.getSymbol() in moving or not assignment.isSetMath():
            continue
        names |= _names_in(assignment.getMath())
    return Surroundings(frozenset(moving), frozenset(names), bool(plain.equations.events))


def _names_in(tree: Any) -> set[str]:
    """Return the names of a formula of SBML."""
    found, open_ = set(), [tree]
    while open_:
        node = open_.pop()
        if node.isName():
            found.add(node.getName())
        open_ += [node.getChild(i) for i in range(node.getNumChildren())]
    return found


def open_model(content: bytes, name: str) -> tuple[Any, Any, bytes]:
    """Return the document, its model, and the text, checked.

    Raises
    ------
    ImportFileError
        When it holds no model.
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
    return document, model, text


def prepare_model(
    content: bytes,
    name: str,
    targets: Iterable[str],
    kept: Iterable[str] = (),
    rests: bool = False,
) -> Prepared:
    """Return the model in which the targets that it has are parameters, or start at one.

    ``kept`` are those that change during an experiment: they become states, parameters that only
    the tables have included. ``rests`` says whether any experiment goes on from a steady state.

    Raises
    ------
    ImportFileError
        Naming a target that a rule assigns, and as `read_sbml`.
    """
    import libsbml

    document, model, text = open_model(content, name)
    taken = {element.getId() for element in document.getListOfAllElements()}
    original: SbmlModel | None = None
    starts: dict[str, str] = {}
    stated: dict[str, sp.Expr] = {}
    held = set(kept)
    unset: set[str] = set()
    changed = False
    for target in dict.fromkeys([*targets, *held]):
        if not _has(model, target):
            if target not in held:
                continue
            # Of the tables alone, and without a value but what they set.
            parameter = model.createParameter()
            parameter.setId(target)
            parameter.setConstant(False)
            changed = True
        if model.getAssignmentRule(target) is not None:
            raise ImportFileError(
                f"{name}: the tables set {target}, which an assignment rule of the model sets."
            )
        if target in held and not _moves(model, target):
            _hold(model, target, libsbml)
            changed = True
        if _changes(model, target):
            label = f"{target}_init"
            while label in taken:
                label += "_"
            taken.add(label)
            starts[target] = label
            if _is_unset(model, target):
                unset.add(target)
                changed = True
        elif model.getInitialAssignment(target) is not None:
            original = read_sbml(text) if original is None else original
            stated[target] = original.values[target]
            model.removeInitialAssignment(target)
            changed = True
    plain = read_sbml(document_text(document, libsbml) if changed else text)
    if not starts:
        found = Prepared(plain, {}, {})
    else:
        defaults = {
            label: sp.nan if t in unset else _default(plain, t, starts)
            for t, label in starts.items()
        }
        for target, label in starts.items():
            _start_at(model, target, label, libsbml)
        found = Prepared(read_sbml(document_text(document, libsbml)), starts, defaults)
    boxes = {
        species.getId(): species.getCompartment()
        for species in (model.getSpecies(i) for i in range(model.getNumSpecies()))
        if not species.getHasOnlySubstanceUnits()
    }
    found = replace(found, stated=stated, compartments=boxes)
    return _continuing(found, taken) if rests else found


def _continuing(prepared: Prepared, taken: set[str]) -> Prepared:
    """Make events that hold at the start fire there, but not where a simulation only goes on."""
    model = prepared.model
    if all(event.initial_value for event in model.equations.events):
        return prepared
    label = "starts_anew"
    while label in taken:
        label += "_"
    fresh = sp.Symbol(label)
    events: list[Event] = []
    for event in model.equations.events:
        if event.initial_value:
            events.append(event)
            continue
        here, there = sp.Gt(fresh, 0), sp.Lt(fresh, 0)
        events.append(replace(event, trigger=sp.And(event.trigger, here)))
        events.append(
            replace(
                event,
                trigger=sp.And(event.trigger, there),
                name=f"{event.name} (going on)",
                initial_value=True,
            )
        )
    equations = replace(
        model.equations, parameters=(*model.equations.parameters, fresh), events=tuple(events)
    )
    again = SbmlModel(
        equations, model.theta, model.values, model.concentrations, model.amounts, model.title
    )
    return replace(prepared, model=again, fresh=label)


def _hold(model: Any, target: str, library: Any) -> None:
    """Make something constant a state, which keeps its value until an event."""
    element = model.getElementBySId(target)
    element.setConstant(False)
    if model.getSpecies(target) is not None:
        element.setBoundaryCondition(True)
    rule = model.createRateRule()
    rule.setVariable(target)
    rule.setMath(library.parseL3Formula("0"))


def _moves(model: Any, target: str) -> bool:
    """Whether a rule, a reaction or an event changes a quantity already."""
    species = model.getSpecies(target)
    if species is None:
        return _changes(model, target)
    if model.getRateRule(target) is not None:
        return True
    for i in range(model.getNumEvents()):
        event = model.getEvent(i)
        if event.getEventAssignment(target) is not None:
            return True
    if species.getConstant() or species.getBoundaryCondition():
        return False
    for i in range(model.getNumReactions()):
        reaction = model.getReaction(i)
        if reaction.getReactant(target) is not None or reaction.getProduct(target) is not None:
            return True
    return False


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


def _is_unset(model: Any, target: str) -> bool:
    """Whether the file states no start of a quantity; it is given one that is not used."""
    if model.getInitialAssignment(target) is not None:
        return False
    species, box = model.getSpecies(target), model.getCompartment(target)
    if species is not None:
        if species.isSetInitialAmount() or species.isSetInitialConcentration():
            return False
        species.setInitialAmount(0.0)
        return True
    element = box if box is not None else model.getParameter(target)
    value = element.getSize() if box is not None else element.getValue()
    stated = element.isSetSize() if box is not None else element.isSetValue()
    if stated and value == value:
        return False
    if box is not None and model.getLevel() < 3:
        return False
    (element.setSize if box is not None else element.setValue)(0.0)
    return True


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
