"""From the elements of an SBML model to equations.

Every id stands for one quantity (compartment, species, parameter, species reference). What changes
it decides what it becomes: a state, an expression of others, or a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from symode.bridges.sbml.algebraic import guess, solve_rules
from symode.bridges.sbml.constants import tame
from symode.bridges.sbml.events import assignments, events_of, expressions_of
from symode.bridges.sbml.formulas import Formulas, is_finite
from symode.bridges.sbml.order import in_order
from symode.bridges.sbml.quantities import Quantity, collect, refuse_unsupported
from symode.equations.equations import Equations
from symode.equations.mass import Mass
from symode.equations.walk import substituted, symbols_in
from symode.errors import ImportFileError, ModelError
from symode.symbolic.differentiate import gradient


@dataclass(frozen=True, eq=False)
class Assembled:
    """What a model of SBML becomes."""

    equations: Equations
    theta: Mapping[str, float]
    values: Mapping[str, sp.Expr]
    concentrations: Mapping[str, sp.Expr]
    amounts: Mapping[str, sp.Expr]
    title: str


def assemble(model: Any, library: Any, name: str) -> Assembled:
    """Return the equations of a model whose local parameters have been promoted.

    Raises
    ------
    ImportFileError
        Naming the element that cannot be represented.
    """
    refuse_unsupported(model, name)
    return _Assembly(model, library, name).result()


@dataclass(eq=False)
class _Assembly:
    model: Any
    library: Any
    name: str
    quantities: dict[str, Quantity] = field(init=False)

    def __post_init__(self) -> None:
        model = self.model
        self.quantities = collect(model, self.name)
        taken = set(self.quantities)
        label = "t"
        while label in taken or f"{label}_amount" in taken:
            label += "_"
        self.time = sp.Symbol(label)
        functions = {}
        for i in range(model.getNumFunctionDefinitions()):
            definition = model.getFunctionDefinition(i)
            if definition.isSetMath():
                functions[definition.getId()] = definition.getMath()
        self.formulas = Formulas(self.library, functions, self.time, self.rate_of)
        self.reactions = {
            model.getReaction(i).getId(): model.getReaction(i)
            for i in range(model.getNumReactions())
        }
        self.hidden: dict[sp.Symbol, sp.Expr] = {}
        self._event_names = {model.getEvent(i).getId() for i in range(model.getNumEvents())}
        self.solved: dict[str, sp.Expr] = {}
        self.implicit: dict[str, sp.Expr] = {}
        self._values: dict[str, sp.Expr] = {}
        self._initials: dict[str, sp.Expr] = {}
        self._rates: dict[str, sp.Expr] = {}
        self._active: list[str] = []
        self._states = {sp.Symbol(q.state_name): q for q in self.quantities.values() if q.is_state}
        in_order(self, self.value)
        solve_rules(self)
        # What was built in unknowns is built again in what they are.
        self._values, self._initials, self._rates = {}, {}, {}
        in_order(self, self.value)
        in_order(self, self.initial)

    # -- what an id means at time t ----------------------------------------------------------

    def value(self, key: str) -> sp.Expr:
        """Return what an id means in formulas: species as the file means them."""
        found = self._values.get(key)
        if found is None:
            found = self._values[key] = self._guarded(key, self._value)
        return found

    def _value(self, key: str) -> sp.Expr:
        if key in self.reactions:
            return self.speed(key)
        q = self.known(key)
        if q.rule is not None:
            return self.formulas.expression(q.rule, self.value, f"the assignment rule of {key}")
        if q.algebraic is not None:
            return self.solved.get(key, sp.Symbol(key))
        if q.is_state:
            if q.is_amount_state:
                amount = sp.Symbol(q.state_name)
                return amount / self.value(q.compartment) if q.in_concentration else amount
            return sp.Symbol(q.state_name)
        if q.is_species and q.in_concentration and q.compartment_varies:
            # A fixed amount in a compartment that changes its size.
            return self._initial_amount(q) / self.value(q.compartment)
        return self.initial(key)

    def speed(self, key: str) -> sp.Expr:
        """Return the rate of a reaction, in amount per time; 0 where the file gives none."""
        law = self.reactions[key].getKineticLaw()
        if law is None or not law.isSetMath():
            return sp.Integer(0)
        return self.formulas.expression(law.getMath(), self.value, f"the kinetic law of {key}")

    # -- what an id means at the start -------------------------------------------------------

    def initial(self, key: str) -> sp.Expr:
        """Return the value of an id at time 0, in parameters alone."""
        found = self._initials.get(key)
        if found is None:
            found = self._initials[key] = self._guarded(f"{key} at the start", self._initial, key)
        return found

    def _initial(self, key: str) -> sp.Expr:
        if key in self.reactions:
            law = self.reactions[key].getKineticLaw()
            if law is None or not law.isSetMath():
                return sp.Integer(0)
            where = f"the kinetic law of {key}"
            return self._at_start(self.formulas.expression(law.getMath(), self.initial, where))
        q = self.known(key)
        tree = q.assignment if q.assignment is not None else q.rule
        if tree is not None:
            where = f"the initial assignment of {key}"
            return self._at_start(self.formulas.expression(tree, self.initial, where))
        if key in self.solved:
            return self._at_start(self.solved[key])
        if key in self.implicit:
            raise ImportFileError(
                f"{self.name}: an initial value depends on {key}, which an algebraic rule that is "
                "not linear determines; that is not supported."
            )
        if not q.is_species:
            return q.symbol_or_number()
        if q.is_parameter:
            return sp.Symbol(q.key)
        if q.in_concentration:
            if q.initial_concentration is not None:
                return q.initial_concentration
            amount = q.initial_amount
            return _nan() if amount is None else amount / self.initial(q.compartment)
        if q.initial_amount is not None:
            return q.initial_amount
        if q.initial_concentration is not None:
            return q.initial_concentration * self.initial(q.compartment)
        return _nan()

    def _initial_amount(self, q: Quantity) -> sp.Expr:
        value = self.initial(q.key)
        return value * self.initial(q.compartment) if q.in_concentration else value

    def _at_start(self, expression: sp.Expr) -> sp.Expr:
        """Return an expression at time 0: rateOf and algebraic rules bring states in."""
        known: dict[sp.Basic, sp.Basic] = {self.time: sp.Integer(0)}
        for symbol in list(symbols_in([expression])):
            q = self._states.get(symbol)
            if q is not None:
                known[symbol] = self._start(q)
            elif symbol.name in self.implicit:
                self.initial(symbol.name)
        return substituted(expression, known, lambda node: tame(node, "an initial value"))

    def _start(self, q: Quantity) -> sp.Expr:
        """Return the initial value of a state."""
        return self._initial_amount(q) if q.is_amount_state else self.initial(q.key)

    # -- how it changes ----------------------------------------------------------------------

    def rate(self, key: str) -> sp.Expr:
        """Return the rate of change of a state."""
        found = self._rates.get(key)
        if found is None:
            found = self._rates[key] = self._rate(self.known(key))
        return found

    def _rate(self, q: Quantity) -> sp.Expr:
        if q.rate is not None:
            return self.formulas.expression(q.rate, self.value, f"the rate rule of {q.key}")
        if not (q.is_species and q.terms):
            return sp.Integer(0)
        total = sp.Add(
            *(
                sign * self._stoichiometry(reference) * self.value(reaction)
                for reaction, sign, reference in q.terms
            )
        )
        factor = q.conversion or (
            self.model.getConversionFactor() if self.model.isSetConversionFactor() else ""
        )
        if factor:
            total = total * self.value(factor)
        return (
            total
            if q.is_amount_state or not q.in_concentration
            else (total / self.value(q.compartment))
        )

    def _stoichiometry(self, reference: Any) -> sp.Expr:
        if reference.isSetId() and reference.getId() in self.quantities:
            return self.value(reference.getId())
        math = reference.getStoichiometryMath()
        if math is not None and math.isSetMath():
            where = f"the stoichiometry of {reference.getSpecies()}"
            return self.formulas.expression(math.getMath(), self.value, where)
        value = reference.getStoichiometry()
        return sp.Integer(int(value)) if value == int(value) else sp.Float(value)

    def rate_of(self, key: str) -> sp.Expr:
        """Return rateOf: the rate of change of what an id means in formulas."""
        q = self.known(key)
        if q.is_ruled:
            return self._total(self.value(key), key)
        if q.is_species and q.in_concentration and self._varies(q.compartment) and (q.rate is None):
            volume = self.value(q.compartment)
            change = self.rate(key) if q.is_state else sp.Integer(0)
            shrink = self.value(key) * self.rate_of(q.compartment)
            return (change - shrink) / volume
        return self.rate(key) if q.is_state else sp.Integer(0)

    def _total(self, value: sp.Expr, key: str) -> sp.Expr:
        """Return the derivative of an expression in time, along the solution."""
        symbols = [s for s in symbols_in([value]) if s in self._states or s == self.time]
        implicit = [s.name for s in symbols_in([value]) if s.name in self.implicit]
        if implicit:
            raise ImportFileError(
                f"{self.name}: rateOf({key}) depends on {implicit[0]}, which an algebraic rule "
                "that is not linear determines; that is not supported."
            )
        slopes = gradient(value, symbols)
        return sp.Add(
            *(
                slope * (1 if s == self.time else self.rate(self._states[s].key))
                for s, slope in zip(symbols, slopes, strict=True)
            )
        )

    def is_steady(self, value: sp.Expr) -> bool:
        """Return whether an expression changes at events only."""
        return all(
            symbol != self.time
            and symbol.name not in self.implicit
            and (symbol not in self._states or self.rate(self._states[symbol].key).is_zero)
            for symbol in symbols_in([value])
        )

    # -- the whole ---------------------------------------------------------------------------

    def result(self) -> Assembled:
        """Return equations, values of parameters, and both readings of species."""
        chosen = [q for q in self.quantities.values() if q.is_state]
        states = tuple(sp.Symbol(q.state_name) for q in chosen)
        rhs = tuple(self.rate(q.key) for q in chosen)
        initial = tuple(self._start(q) for q in chosen)
        for q, value in zip(chosen, initial, strict=True):
            if not is_finite(value):
                state = "no initial value" if value is sp.nan else f"the initial value {value}"
                raise ImportFileError(
                    f"{self.name}: {q.key} has {state}, and it changes; give it a finite one."
                )
        events = events_of(self)
        states += tuple(self.hidden)
        rhs += tuple(sp.S.Zero for _ in self.hidden)
        initial += tuple(self.hidden.values())
        mass: Mass = None
        if self.implicit:
            mass = tuple((i, i, sp.Integer(1)) for i in range(len(states)))
            states += tuple(sp.Symbol(key) for key in self.implicit)
            rhs += tuple(self.implicit.values())
            initial += tuple(guess(self, key) for key in self.implicit)
        if not states:
            # A model of expressions in time alone: one state that stays 0 carries them.
            states, rhs, initial = (sp.Symbol(self.unused("still")),), (sp.S.Zero,), (sp.S.Zero,)
        observables = tuple(
            (q.key, self.value(q.key))
            for q in self.quantities.values()
            if (q.is_ruled or q.is_amount_state) and q.key not in {s.name for s in states}
        )
        observables += tuple((key, self.speed(key)) for key in self.reactions)
        observables += tuple(
            (q.key, self.value(q.key))
            for q in self.quantities.values()
            if not (q.is_ruled or q.is_state or q.is_parameter)
        )
        # What is not finite is no observable; `values` has it.
        observables = tuple(pair for pair in observables if is_finite(pair[1]))
        used = set(symbols_in([*rhs, *initial, *(value for _, value in observables)]))
        used |= set(symbols_in(expressions_of(events)))
        free = [
            q
            for q in self.quantities.values()
            if q.is_parameter and (q.number is not None or sp.Symbol(q.key) in used)
        ]
        parameters = tuple(sp.Symbol(q.key) for q in free)
        try:
            equations = Equations(
                states, rhs, parameters, self.time, initial, observables, mass, events
            )
        except ModelError as error:
            raise ImportFileError(f"{self.name}: {error}") from None
        concentrations, amounts = {}, {}
        for q in self.quantities.values():
            if not q.is_species:
                continue
            value = self.value(q.key)
            if not q.has_compartment or q.dimensionless:
                concentrations[q.key] = amounts[q.key] = value
                continue
            volume = self.value(q.compartment)
            concentrations[q.key] = value if q.in_concentration else value / volume
            amounts[q.key] = value * volume if q.in_concentration else value
        title = self.model.getName() or self.model.getId()
        theta = {q.key: float(q.number) if q.number is not None else float("nan") for q in free}
        settable = {q.key for q in free}
        unset = {
            sp.Symbol(q.key): sp.nan
            for q in self.quantities.values()
            if q.is_parameter and q.key not in settable
        }
        values = {}
        for key in (*self.quantities, *self.reactions):
            value = self.value(key)
            known = {s: unset[s] for s in symbols_in([value]) if s in unset} if unset else {}
            values[key] = substituted(value, known)
        return Assembled(equations, theta, values, concentrations, amounts, title)

    def unused(self, name: str) -> str:
        """Return a name that nothing has yet: this one, or it with underscores."""
        taken = {s.name for s in (*self._states, *self.hidden)}
        while name in self.quantities or name in self.reactions or name in taken:
            name += "_"
        return name

    def event_name(self, name: str) -> str:
        """Return a name that no event has yet, and take it."""
        while name in self._event_names:
            name += "_"
        self._event_names.add(name)
        return name

    def is_fixed(self, symbol: sp.Basic) -> bool:
        """Return whether a symbol keeps its value throughout a solve."""
        changes = symbol in self._states or symbol in self.hidden or symbol == self.time
        return not changes and str(symbol) not in self.implicit

    def assignments(self, values: Mapping[str, sp.Expr]) -> tuple[tuple[sp.Symbol, sp.Expr], ...]:
        """Return what an event that gives ids these values does to the states."""
        return tuple(assignments(self, values))

    def _varies(self, compartment: str) -> bool:
        q = self.known(compartment)
        return q.is_state or q.is_ruled

    def known(self, key: str) -> Quantity:
        if key not in self.quantities:
            raise ImportFileError(f"{self.name} uses the id {key!r}, which it does not define.")
        return self.quantities[key]

    def _guarded(self, label: str, function: Any, key: str | None = None) -> sp.Expr:
        if label in self._active:
            chain = " -> ".join([*self._active[self._active.index(label) :], label])
            raise ImportFileError(f"{self.name} defines a quantity through itself: {chain}.")
        self._active.append(label)
        try:
            found: sp.Expr = function(label if key is None else key)
            return found
        finally:
            self._active.pop()


def _nan() -> sp.Expr:
    return sp.nan
