"""PEtab: parameter estimation problems, read with the `petab` library."""

from __future__ import annotations

from symode.bridges.petab.problem import PetabProblem
from symode.bridges.petab.read import read_petab

__all__ = ["PetabProblem", "read_petab"]
