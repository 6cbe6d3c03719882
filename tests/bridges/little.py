"""Small models of SBML, written through libSBML's objects from formulas in its infix notation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import libsbml


class Little:
    """One model; every method adds an element and returns the model.

    Attributes that are not given are those that leave an element as plain as it can be.
    """

    def __init__(self, level: int = 3, version: int = 2) -> None:
        self.level, self.version = level, version
        self.document = libsbml.SBMLDocument(level, version)
        self.model = self.document.createModel()
        self.model.setId("m")

    def math(self, formula: str) -> Any:
        settings = libsbml.L3ParserSettings()
        settings.setParseAvogadroCsymbol(True)
        settings.setParseUnits(False)
        tree = libsbml.parseL3FormulaWithSettings(formula, settings)
        assert tree is not None, libsbml.getLastParseL3Error()
        return tree

    def compartment(self, key: str, size: float | None = 1, **more: Any) -> Little:
        element = self.model.createCompartment()
        element.setId(key)
        if size is not None:
            element.setSize(size)
        element.setConstant(more.pop("constant", True))
        element.setSpatialDimensions(more.pop("dimensions", 3))
        assert not more
        return self

    def species(
        self, key: str, compartment: str = "C", amount: float | None = None, **more: Any
    ) -> Little:
        element = self.model.createSpecies()
        element.setId(key)
        element.setCompartment(compartment)
        if amount is not None:
            element.setInitialAmount(amount)
        if (concentration := more.pop("concentration", None)) is not None:
            element.setInitialConcentration(concentration)
        element.setHasOnlySubstanceUnits(more.pop("only_substance", False))
        element.setBoundaryCondition(more.pop("boundary", False))
        element.setConstant(more.pop("constant", False))
        if (factor := more.pop("factor", None)) is not None:
            element.setConversionFactor(factor)
        assert not more
        return self

    def parameter(self, key: str, value: float | None = None, constant: bool = True) -> Little:
        element = self.model.createParameter()
        element.setId(key)
        if value is not None:
            element.setValue(value)
        element.setConstant(constant)
        return self

    def variable(self, key: str, value: float | None = None) -> Little:
        return self.parameter(key, value, constant=False)

    def function(self, key: str, formula: str | None) -> Little:
        element = self.model.createFunctionDefinition()
        element.setId(key)
        if formula is not None:
            assert element.setMath(self.math(formula)) == 0
        return self

    def _with_math(self, element: Any, formula: str | None) -> Little:
        if formula is not None:
            assert element.setMath(self.math(formula)) == 0
        return self

    def initial(self, key: str, formula: str | None) -> Little:
        element = self.model.createInitialAssignment()
        element.setSymbol(key)
        return self._with_math(element, formula)

    def assign(self, key: str, formula: str | None) -> Little:
        element = self.model.createAssignmentRule()
        element.setVariable(key)
        return self._with_math(element, formula)

    def rate(self, key: str, formula: str | None) -> Little:
        element = self.model.createRateRule()
        element.setVariable(key)
        return self._with_math(element, formula)

    def algebraic(self, formula: str | None) -> Little:
        return self._with_math(self.model.createAlgebraicRule(), formula)

    def reaction(
        self,
        key: str,
        reactants: Mapping[str, Any] | Sequence[tuple[str, Any]],
        products: Mapping[str, Any] | Sequence[tuple[str, Any]],
        law: str | None = None,
        *,
        modifiers: Sequence[str] = (),
        local: Mapping[str, float] | None = None,
        fast: bool = False,
    ) -> Little:
        """Stoichiometries are numbers, (id, number or None), or a formula of level 2."""
        element = self.model.createReaction()
        element.setId(key)
        element.setReversible(False)
        if (self.level, self.version) != (3, 2):
            element.setFast(fast)
        for create, side in (
            (element.createReactant, reactants),
            (element.createProduct, products),
        ):
            for species, given in side.items() if isinstance(side, Mapping) else side:
                reference = create()
                reference.setSpecies(species)
                if self.level > 2:
                    reference.setConstant(not isinstance(given, tuple))
                if isinstance(given, tuple):
                    reference.setId(given[0])
                    if given[1] is not None:
                        reference.setStoichiometry(given[1])
                elif isinstance(given, str):
                    math = reference.createStoichiometryMath()
                    assert math.setMath(self.math(given)) == 0
                else:
                    reference.setStoichiometry(given)
        for species in modifiers:
            element.createModifier().setSpecies(species)
        if law is not None:
            kinetic = element.createKineticLaw()
            for name, value in (local or {}).items():
                held = (
                    kinetic.createLocalParameter() if self.level > 2 else kinetic.createParameter()
                )
                held.setId(name)
                held.setValue(value)
            if law:
                assert kinetic.setMath(self.math(law)) == 0
        return self

    def event(
        self,
        key: str,
        trigger: str | None,
        changes: Mapping[str, str | None],
        *,
        delay: str | None = None,
        priority: str | None = None,
        persistent: bool = True,
        initial_value: bool = True,
        trigger_values: bool = True,
    ) -> Little:
        element = self.model.createEvent()
        element.setId(key)
        if self.level > 2 or self.version > 3:
            element.setUseValuesFromTriggerTime(trigger_values)
        held = element.createTrigger()
        if trigger is not None:
            assert held.setMath(self.math(trigger)) == 0
        if self.level > 2:
            held.setPersistent(persistent)
            held.setInitialValue(initial_value)
        if delay is not None:
            later = element.createDelay()
            if delay:
                assert later.setMath(self.math(delay)) == 0
        if priority is not None:
            rank = element.createPriority()
            if priority:
                assert rank.setMath(self.math(priority)) == 0
        for variable, formula in changes.items():
            change = element.createEventAssignment()
            change.setVariable(variable)
            if formula is not None:
                assert change.setMath(self.math(formula)) == 0
        return self

    def text(self) -> str:
        return libsbml.writeSBMLToString(self.document)
