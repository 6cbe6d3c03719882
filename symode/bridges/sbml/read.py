"""read_sbml: a file becomes a Model, with the values it states for parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy as sp

from symode.bridges.sbml.assemble import Assembled, assemble
from symode.bridges.sbml.composition import flatten
from symode.bridges.sbml.safety import check_xml, decoded, path_of, read_text
from symode.equations.equations import Equations
from symode.errors import ImportFileError, MissingExtraError
from symode.interface.model import Model


class SbmlModel(Model):
    """A model read from SBML: ids are the names of states, parameters and observables.

    Parameters
    ----------
    equations
        The checked equations.
    theta
        {parameter: value} as the file states them; NaN where it states none.
    values
        {id: expression} of everything the file names, in states, time and parameters: compartments,
        species as formulas mean them, parameters, species references, rates of reactions.
    concentrations, amounts
        {species: expression}: every species both ways.
    title
        Name or id of the model.

    Made by `read_sbml`, which shows an example.
    """

    def __init__(
        self,
        equations: Equations,
        theta: Mapping[str, float],
        values: Mapping[str, sp.Expr],
        concentrations: Mapping[str, sp.Expr],
        amounts: Mapping[str, sp.Expr],
        title: str = "",
    ) -> None:
        super().__init__(equations)
        self.theta, self.values = dict(theta), dict(values)
        self.concentrations, self.amounts = dict(concentrations), dict(amounts)
        self.title = title

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what was given."""
        return (
            SbmlModel,
            (
                self.equations,
                self.theta,
                self.values,
                self.concentrations,
                self.amounts,
                self.title,
            ),
        )


def read_sbml(source: Any) -> SbmlModel:
    """Return the model of an SBML file, level 2 to 3.

    Species that reactions change are states: concentrations where the file means concentrations and
    the compartment keeps its size, else amounts named ``id_amount``. Assignment rules become
    observables. Constants with a value become parameters; those with an initial assignment are
    expressions. Algebraic rules that are linear in what they determine are solved; others become
    algebraic equations. Models of ``comp`` are flattened.

    Parameters
    ----------
    source
        A path, or the text of a file.

    Raises
    ------
    ImportFileError
        When the file is no SBML, or uses what has no counterpart (`delay`, fast reactions, other
        packages): every such element is named, none is ignored.
    MissingExtraError
        Without libSBML, which the extra ``sbml`` installs.

    Examples
    --------
    >>> import pytest
    >>> libsbml = pytest.importorskip("libsbml")
    >>> model = read_sbml('''<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3"
    ...   version="2"><model><listOfParameters>
    ...   <parameter id="k" value="0.5" constant="true"/>
    ...   <parameter id="x" value="2" constant="false"/></listOfParameters>
    ...   <listOfRules><rateRule variable="x"><math xmlns="http://www.w3.org/1998/Math/MathML">
    ...   <apply><times/><cn>-1</cn><ci>k</ci><ci>x</ci></apply></math></rateRule></listOfRules>
    ...   </model></sbml>''')
    >>> model.equations.rhs, model.theta
    ((-k*x,), {'k': 0.5})
    """
    try:
        import libsbml
    except ImportError as error:
        raise MissingExtraError(
            "Reading SBML needs libSBML: install the extra, symode-adjoint[sbml]."
        ) from error
    content, name = read_text(source)
    check_xml(content, name)
    document = libsbml.readSBMLFromString(decoded(content, name))
    _check(document, libsbml, name)
    flatten(document, libsbml, name, path_of(source))
    properties = libsbml.ConversionProperties()
    properties.addOption("promoteLocalParameters", True)
    if document.convert(properties) != libsbml.LIBSBML_OPERATION_SUCCESS:
        raise ImportFileError(f"{name}: local parameters could not be told apart.")
    try:
        found: Assembled = assemble(document.getModel(), libsbml, name)
    except RecursionError:
        raise ImportFileError(
            f"{name}: its formulas, put into each other, are nested too deeply for SymPy; make "
            "some of the quantities in the chain states."
        ) from None
    return SbmlModel(
        found.equations,
        found.theta,
        found.values,
        found.concentrations,
        found.amounts,
        found.title,
    )


def _check(document: Any, library: Any, name: str) -> None:
    """Raise for errors that make the document no SBML at all."""
    fatal = []
    for i in range(document.getNumErrors()):
        error = document.getError(i)
        if error.getSeverity() >= library.LIBSBML_SEV_ERROR:
            fatal.append(f"line {error.getLine()}: {error.getShortMessage()}")
    if document.getModel() is None or any("line" in f for f in fatal):
        reasons = "; ".join(fatal[:3]) or "it holds no model"
        raise ImportFileError(f"{name} is not valid SBML: {reasons}.")
