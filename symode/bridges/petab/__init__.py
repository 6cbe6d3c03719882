"""PEtab: parameter estimation problems, read and written."""

from __future__ import annotations

from symode.bridges.petab.problem import PetabProblem
from symode.bridges.petab.read import read_petab
from symode.bridges.petab.write import write_petab

__all__ = ["PetabProblem", "read_petab", "write_petab"]
