"""SBML: models of systems biology, read by libSBML and rebuilt as SymPy equations."""

from __future__ import annotations

from symode.bridges.sbml.read import SbmlModel, read_sbml

__all__ = ["SbmlModel", "read_sbml"]
