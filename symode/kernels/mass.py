"""Products with the constant mass matrix M, whose entries are in the pattern."""

from __future__ import annotations

from symode.kernels.jit import inline
from symode.kernels.types import Floats, System


@inline
def has_mass(system: System) -> bool:
    """Return whether M is other than the identity."""
    return system.pattern.mass.size > 0


@inline
def add_product(system: System, x: Floats, transposed: bool, out: Floats) -> None:
    """Add M x, or Mᵀ x, to out."""
    pattern = system.pattern
    for e in range(pattern.mass.size):
        i, j = pattern.mass_rows[e], pattern.mass_cols[e]
        if transposed:
            i, j = j, i
        out[i] += pattern.mass[e] * x[j]
