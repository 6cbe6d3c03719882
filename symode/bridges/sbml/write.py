"""write_sbml: a Model as SBML level 3 version 2, in rate rules."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sympy as sp

from symode.bridges.sbml.mathml import Trees
from symode.bridges.sbml.safety import DEEPEST, check_xml
from symode.equations.describe import brief
from symode.equations.equations import Equations
from symode.equations.event import Event
from symode.equations.values import vector
from symode.equations.walk import symbols_in
from symode.errors import (
    ImportFileError,
    InitialStateError,
    MissingExtraError,
    ModelError,
    ParameterError,
)
from symode.interface.model import Model

_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def write_sbml(
    model: Model,
    path: str | os.PathLike[str] | None = None,
    *,
    theta: Any = None,
    z0: Any = None,
    name: str = "model",
) -> str:
    r"""Return a model as the text of an SBML file, and write it to a path if one is given.

    States become parameters with rate rules :math:`\dot z_i = f_i`, algebraic equations algebraic
    rules, initial values initial assignments, observables assignment rules, and events events;
    `read_sbml` gives back the same equations, but for parameters that have no value and stand
    nowhere. Time begins at 0, as everywhere in SBML.

    Parameters
    ----------
    model
        Any model; names are to be identifiers of letters, digits and underscores.
    path
        Where to write.
    theta
        Values of parameters; those of a model read from SBML by default, else none are stated.
    z0
        Initial values, instead of the model's own.
    name
        Id of the model in the file.

    Raises
    ------
    ModelError
        For what SBML has no words for: names that are no identifiers, terminal events, triggers
        that cross zero and that events make jump, masses between states.
        `UnsupportedFunctionError` for functions, such as erf.
    InitialStateError
        When neither the model nor ``z0`` gives initial values.
    MissingExtraError
        Without libSBML, which the extra ``sbml`` installs.

    Examples
    --------
    >>> import pytest
    >>> libsbml = pytest.importorskip("libsbml")
    >>> import symode
    >>> model = symode.reactions("A -> B; k*A; A(0) = 2; B(0) = 0")
    >>> again = symode.read_sbml(symode.write_sbml(model, theta={"k": 0.5}))
    >>> again.equations.rhs, again.theta
    ((-A*k, A*k), {'k': 0.5})
    """
    try:
        import libsbml
    except ImportError as error:
        raise MissingExtraError(
            "Writing SBML needs libSBML: install the extra, symode-adjoint[sbml]."
        ) from error
    text = _Writing(libsbml, model, theta, z0, name).text()
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


@dataclass(frozen=True)
class _Rule:
    """An event as SBML knows it: a condition that turns true."""

    key: str
    condition: sp.Basic
    event: Event


class _Writing:
    def __init__(self, library: Any, model: Model, theta: Any, z0: Any, name: str) -> None:
        self.library, self.equations = library, model.equations
        eq = self.equations
        _check_names(eq, name)
        if theta is None:
            theta = getattr(model, "theta", None)
        self.theta: Mapping[str, float] = {}
        if theta is not None:
            values = _finite(theta, eq.parameter_names)
            self.theta = dict(zip(values, values.values(), strict=True))
        self.initial = eq.initial
        if z0 is not None:
            numbers = vector(z0, eq.state_names, "initial values", InitialStateError)
            self.initial = tuple(sp.Float(float(number), 17) for number in numbers)
        if self.initial is None:
            raise InitialStateError(
                "SBML states initial values, and the model has none: give z0= "
                f"({', '.join(eq.state_names)})."
            )
        names = {symbol: symbol.name for symbol in (*eq.states, *eq.parameters, eq.time)}
        self.trees = Trees(library, names, eq.time)
        self.numbers: dict[str, float] = {}
        document = library.SBMLDocument(3, 2)
        self.document, self.model = document, document.createModel()
        taken = {*eq.state_names, *eq.parameter_names, *(label for label, _ in eq.observables)}
        while name in taken:
            name += "_"
        self.model.setId(name)

    def text(self) -> str:
        """Return the file."""
        eq = self.equations
        for symbol in eq.parameters:
            self._parameter(symbol.name, self.theta.get(symbol.name), constant=True)
        assert self.initial is not None
        for state, start in zip(eq.states, self.initial, strict=True):
            is_float = isinstance(start, sp.Float | sp.Integer)
            self._parameter(state.name, float(start) if is_float else None)
            if not is_float:
                element = self.model.createInitialAssignment()
                element.setSymbol(state.name)
                self._set(element, start, f"the initial value of {state}")
        for row, (kind, expression) in enumerate(_rows(eq)):
            where = f"d{eq.states[row]}/d{eq.time}"
            if kind == "rate":
                element = self.model.createRateRule()
                element.setVariable(eq.states[row].name)
            else:
                element, where = self.model.createAlgebraicRule(), "an algebraic equation"
            self._set(element, expression, where)
        for name, expression in eq.observables:
            self._parameter(name, None)
            element = self.model.createAssignmentRule()
            element.setVariable(name)
            self._set(element, expression, f"the observable {name!r}")
        for rule in _events(eq):
            self._event(rule)
        found = self._exact(self.library.writeSBMLToString(self.document))
        try:
            check_xml(found.encode(), "The model")
        except ImportFileError:
            raise ModelError(
                f"An expression is nested more than {DEEPEST} deep, which readers of SBML do not "
                "take; split it with observables or further states."
            ) from None
        return found

    def _parameter(self, key: str, value: float | None, constant: bool = False) -> None:
        element = self.model.createParameter()
        element.setId(key)
        element.setConstant(constant)
        if value is not None:
            element.setValue(value)
            self.numbers[key] = value

    def _set(self, element: Any, expression: sp.Basic, where: str) -> None:
        if element.setMath(self.trees.tree(expression, where)) != 0:
            raise ModelError(f"libSBML does not take {where}.")

    def _event(self, rule: _Rule) -> None:
        event = rule.event
        where = f"the event {event.name!r}"
        element = self.model.createEvent()
        element.setId(rule.key)
        if rule.key != event.name:
            element.setName(event.name)
        element.setUseValuesFromTriggerTime(event.use_trigger_values)
        trigger = element.createTrigger()
        trigger.setPersistent(event.persistent)
        trigger.setInitialValue(event.initial_value)
        self._set(trigger, rule.condition, where)
        if event.priority is not None:
            self._set(element.createPriority(), event.priority, f"the priority of {where}")
        for symbol, value in event.assignments:
            change = element.createEventAssignment()
            change.setVariable(symbol.name)
            self._set(change, value, where)

    def _exact(self, text: str) -> str:
        """Return the text with all digits of values: libSBML writes 15 of them."""

        def value(match: re.Match[str]) -> str:
            return f'{match[1]}{match[2]}" value="{float(self.numbers[match[2]])!r}"'

        return re.sub(r'(<parameter id=")(\w+)" value="[^"]*"', value, text)


def _finite(theta: Any, names: tuple[str, ...]) -> dict[str, float]:
    """Return the values that are stated: NaN stands for none in models read from files."""
    if isinstance(theta, Mapping):
        given = {str(key): float(value) for key, value in theta.items()}
        stated = {key: value for key, value in given.items() if value == value}
        unset = [n for n in names if n in given and n not in stated]
        kept = tuple(n for n in names if n not in unset)
        return dict(zip(kept, vector(stated, kept, "parameters", ParameterError), strict=True))
    return dict(zip(names, vector(theta, names, "parameters", ParameterError), strict=True))


def _check_names(eq: Equations, name: str) -> None:
    names = [*eq.state_names, *eq.parameter_names, *(label for label, _ in eq.observables), name]
    faults = [repr(n) for n in names if not _ID.fullmatch(n)]
    if faults:
        raise ModelError(
            f"SBML's names are made of letters, digits and underscores, and begin with no digit: "
            f"rename {', '.join(faults)}."
        )


def _rows(eq: Equations) -> Iterable[tuple[str, sp.Expr]]:
    """Yield for each equation whether it is a rate, and its expression."""
    if eq.mass is None:
        yield from (("rate", value) for value in eq.rhs)
        return
    rows: dict[int, list[tuple[int, sp.Expr]]] = {}
    for i, j, value in eq.mass:
        rows.setdefault(i, []).append((j, value))
    algebraic, free = eq.algebraic
    held = [i for i, entries in rows.items() if [j for j, _ in entries] != [i]]
    if held or set(algebraic) != set(free):
        names = ", ".join(eq.state_names[i] for i in held or algebraic)
        raise ModelError(
            f"SBML has no words for the mass matrix in the equations of {names}: only diagonal "
            "ones can be written."
        )
    for i, value in enumerate(eq.rhs):
        yield ("rate", value / rows[i][0][1]) if i in rows else ("algebraic", value)


def _events(eq: Equations) -> Iterable[_Rule]:
    moved = {symbol for event in eq.events for symbol, _ in event.assignments}
    taken = {*eq.state_names, *eq.parameter_names, *(label for label, _ in eq.observables)}
    for place, event in enumerate(eq.events):
        if event.terminal:
            raise ModelError(
                f"The event {event.name!r} ends the solve, which SBML has no words for; leave it "
                "out, or let it set states."
            )
        if not event.is_condition and moved & set(symbols_in([event.trigger])):
            raise ModelError(
                f"The event {event.name!r} fires where {brief(event.trigger)} crosses zero, and "
                "not where an event makes it jump across. SBML has no words for that: write the "
                "trigger as a condition, which fires at both."
            )
        key = event.name if _ID.fullmatch(event.name) else f"event_{place}"
        ways = {"": event.trigger} if event.is_condition else {}
        if not event.is_condition and event.direction >= 0:
            ways["_up" if event.direction == 0 else ""] = sp.Gt(event.trigger, 0)
        if not event.is_condition and event.direction <= 0:
            ways["_down" if event.direction == 0 else ""] = sp.Lt(event.trigger, 0)
        for suffix, condition in ways.items():
            label = key + suffix
            while label in taken:
                label += "_"
            taken.add(label)
            yield _Rule(label, condition, event)
