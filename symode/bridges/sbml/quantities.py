"""The quantities of an SBML model: what each id is, and what changes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from symode.bridges.sbml.algebraic import pair_rules
from symode.errors import ImportFileError


@dataclass(eq=False)
class Quantity:
    """One id: a compartment, species, parameter or species reference.

    Parameters
    ----------
    key
        Its id.
    kind
        ``"compartment"``, ``"species"``, ``"parameter"`` or ``"reference"``.
    number
        Value the file states, if it does.
    """

    key: str
    kind: str
    number: sp.Expr | None = None
    initial_amount: sp.Expr | None = None
    initial_concentration: sp.Expr | None = None
    compartment: str = ""
    in_concentration: bool = False
    dimensionless: bool = False
    conversion: str = ""
    constant: bool = True
    rule: Any = None
    algebraic: Any = None
    rate: Any = None
    assignment: Any = None
    in_event: bool = False
    terms: list[tuple[str, int, Any]] = field(default_factory=list)
    compartment_varies: bool = False
    amount_name: str = ""
    # Whether its value in formulas is a number that may be set from outside.
    is_plain: bool = True

    @property
    def is_species(self) -> bool:
        """Whether it is a species."""
        return self.kind == "species"

    @property
    def has_compartment(self) -> bool:
        """Whether it lies in a compartment."""
        return bool(self.compartment)

    @property
    def is_ruled(self) -> bool:
        """Whether an assignment rule or an algebraic rule says what it is at all times."""
        return self.rule is not None or self.algebraic is not None

    @property
    def is_state(self) -> bool:
        """Whether it changes by a differential equation or by events."""
        changes = self.rate is not None or bool(self.terms) or self.in_event
        return changes and not self.is_ruled

    @property
    def is_amount_state(self) -> bool:
        """Whether its state is an amount though formulas mean its concentration."""
        return (
            self.is_species
            and self.is_state
            and self.rate is None
            and self.in_concentration
            and self.compartment_varies
        )

    @property
    def state_name(self) -> str:
        """Name of its state."""
        return self.amount_name if self.is_amount_state else self.key

    @property
    def is_parameter(self) -> bool:
        """Whether it is a constant that may be set from outside."""
        if self.is_state or self.is_ruled or self.assignment is not None:
            return False
        return self.is_plain

    def symbol_or_number(self) -> sp.Expr:
        """Return its symbol where it is a parameter, else its number."""
        if self.is_parameter:
            return sp.Symbol(self.key)
        return sp.nan if self.number is None else self.number


def refuse_unsupported(model: Any, name: str) -> None:
    """Raise for elements that change the meaning and have no counterpart.

    Raises
    ------
    ImportFileError
        Naming all of them.
    """
    faults = []
    for i in range(model.getNumReactions()):
        reaction = model.getReaction(i)
        if reaction.isSetFast() and reaction.getFast():
            faults.append(f"the fast reaction {reaction.getId()}")
    if faults:
        raise ImportFileError(f"{name} uses what is not supported: {', '.join(faults)}.")


def collect(model: Any, name: str) -> dict[str, Quantity]:
    """Return all quantities by id, with the rules and reactions that change them."""
    found: dict[str, Quantity] = {}
    for i in range(model.getNumCompartments()):
        _add(found, _compartment(model.getCompartment(i)), name)
    for i in range(model.getNumSpecies()):
        _add(found, _species(model.getSpecies(i), model), name)
    for i in range(model.getNumParameters()):
        parameter = model.getParameter(i)
        number = _number(parameter.getValue()) if parameter.isSetValue() else None
        q = Quantity(parameter.getId(), "parameter", number, constant=parameter.getConstant())
        _add(found, q, name)
    _references(model, found, name)
    _rules(model, found, name)
    pair_rules(model, found, name)
    for q in found.values():
        if q.is_species and q.compartment in found:
            container = found[q.compartment]
            q.compartment_varies = container.is_state or container.is_ruled
            q.amount_name = f"{q.key}_amount"
            while q.amount_name in found:
                q.amount_name += "_"
            _fix_value(q)
        elif q.kind == "compartment" and q.dimensionless and q.number is None:
            # A point has no size, and no formula can mean one.
            q.is_plain = False
        if q.number is not None and not q.number.is_finite:
            # No parameter: solvers take finite values only.
            q.is_plain = False
    return found


def _fix_value(q: Quantity) -> None:
    """Set the number that formulas see of a species nothing changes, where it is one."""
    direct, other = q.initial_amount, q.initial_concentration
    if q.in_concentration:
        direct, other = other, direct
    if (q.in_concentration and q.compartment_varies) or (direct is None and other is not None):
        # Its value depends on the size of its compartment.
        q.is_plain = False
    else:
        q.number = direct


def _compartment(element: Any) -> Quantity:
    number = _number(element.getSize()) if element.isSetSize() else None
    if number is None and element.getLevel() < 3:
        number = sp.Integer(1)
    q = Quantity(element.getId(), "compartment", number, constant=element.getConstant())
    q.dimensionless = element.getSpatialDimensions() == 0
    return q


def _species(element: Any, model: Any) -> Quantity:
    q = Quantity(element.getId(), "species", constant=element.getConstant())
    q.compartment = element.getCompartment()
    container = model.getCompartment(q.compartment)
    q.dimensionless = container is not None and container.getSpatialDimensions() == 0
    q.in_concentration = not element.getHasOnlySubstanceUnits() and not q.dimensionless
    if element.isSetInitialAmount():
        q.initial_amount = _number(element.getInitialAmount())
    if element.isSetInitialConcentration():
        q.initial_concentration = _number(element.getInitialConcentration())
    if element.isSetConversionFactor():
        q.conversion = element.getConversionFactor()
    return q


def _references(model: Any, found: dict[str, Quantity], name: str) -> None:
    """Add references with an id, and the terms of reactions to their species."""
    for i in range(model.getNumReactions()):
        reaction = model.getReaction(i)
        sides = (
            (-1, [reaction.getReactant(j) for j in range(reaction.getNumReactants())]),
            (1, [reaction.getProduct(j) for j in range(reaction.getNumProducts())]),
        )
        for sign, references in sides:
            for reference in references:
                species = model.getSpecies(reference.getSpecies())
                if species is None:
                    raise ImportFileError(
                        f"{name}: reaction {reaction.getId()} names the species "
                        f"{reference.getSpecies()!r}, which there is not."
                    )
                math = reference.getStoichiometryMath()
                if reference.isSetId() and not (math is not None and math.isSetMath()):
                    number = (
                        _number(reference.getStoichiometry())
                        if reference.isSetStoichiometry() or reference.getLevel() < 3
                        else None
                    )
                    fixed = reference.getLevel() < 3 or reference.getConstant()
                    _add(
                        found,
                        Quantity(reference.getId(), "reference", number, constant=fixed),
                        name,
                    )
                if not (species.getBoundaryCondition() or species.getConstant()):
                    term = (reaction.getId(), sign, reference)
                    found[species.getId()].terms.append(term)


def _rules(model: Any, found: dict[str, Quantity], name: str) -> None:
    for i in range(model.getNumRules()):
        rule = model.getRule(i)
        if rule.isAlgebraic() or not rule.isSetMath():
            continue
        q = _target(found, rule.getVariable(), name)
        if rule.isAssignment():
            q.rule = rule.getMath()
        else:
            q.rate = rule.getMath()
    for i in range(model.getNumInitialAssignments()):
        assignment = model.getInitialAssignment(i)
        if assignment.isSetMath():
            _target(found, assignment.getSymbol(), name).assignment = assignment.getMath()
    for i in range(model.getNumEvents()):
        event = model.getEvent(i)
        for j in range(event.getNumEventAssignments()):
            change = event.getEventAssignment(j)
            if change.isSetMath():
                _target(found, change.getVariable(), name).in_event = True


def _target(found: dict[str, Quantity], key: str, name: str) -> Quantity:
    if key not in found:
        raise ImportFileError(f"{name}: a rule or assignment names {key!r}, which there is not.")
    return found[key]


def _add(found: dict[str, Quantity], q: Quantity, name: str) -> None:
    if q.key in found:
        raise ImportFileError(f"{name} defines the id {q.key!r} twice.")
    found[q.key] = q


def _number(value: float) -> sp.Expr:
    if value != value:
        return sp.nan
    if abs(value) == float("inf"):
        return sp.oo if value > 0 else -sp.oo
    return sp.Integer(int(value)) if value == int(value) and abs(value) < 2**53 else sp.Float(value)
