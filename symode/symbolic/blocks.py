"""Blocks for people."""

from __future__ import annotations

import sympy as sp

from symode.equations.equations import Equations


def dfdz(equations: Equations) -> sp.ImmutableMatrix:
    """Return the block of the states, shape (n, n)."""
    return sp.ImmutableMatrix(sp.Matrix(equations.rhs).jacobian(list(equations.states)))


def dfdt(equations: Equations) -> sp.ImmutableMatrix:
    """Return the block of time, shape (n, 1)."""
    return sp.ImmutableMatrix(sp.Matrix(equations.rhs).diff(equations.time))


def dfdtheta(equations: Equations) -> sp.ImmutableMatrix:
    """Return the block of the parameters, shape (n, m)."""
    if not equations.parameters:
        return sp.ImmutableMatrix(equations.n_states, 0, [])
    return sp.ImmutableMatrix(sp.Matrix(equations.rhs).jacobian(list(equations.parameters)))
