"""SBML: models of systems biology, read by libSBML and rebuilt as SymPy equations, and written."""

from __future__ import annotations

from symode.bridges.sbml.read import SbmlModel, read_sbml
from symode.bridges.sbml.write import write_sbml

__all__ = ["SbmlModel", "read_sbml", "write_sbml"]
