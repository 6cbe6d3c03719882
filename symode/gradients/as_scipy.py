"""The forward and the augmented backward system as plain functions of (t, y)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import CompiledModel
from symode.symbolic.derive import FIELD_KERNELS, Field, augmented

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NativeFunctions:
    """``fun(t, y)`` and ``jac(t, y)`` of one field with its parameters bound.

    What ``scipy.integrate.solve_ivp`` and other solvers take. ``jac`` returns a dense matrix.
    """

    compiled: CompiledModel
    field: Field
    p: Floats
    prefix: str = ""

    def fun(self, t: float, y: Floats) -> Floats:
        """Return dy/dt. Shape ``(n,)``."""
        return self.compiled.call(f"{self.prefix}rhs", t, y, self.p)

    def jac(self, t: float, y: Floats) -> Floats:
        """Return the Jacobian of dy/dt in y. Shape ``(n, n)``."""
        jacobian = self.field.jacobian
        values = self.compiled.call(f"{self.prefix}jac", t, y, self.p)
        matrix = np.zeros((self.field.n_states, self.field.n_states))
        matrix[list(jacobian.rows), list(jacobian.cols)] = values[: len(jacobian.rows)]
        return matrix


@dataclass(frozen=True, eq=False)
class ScipySystem(NativeFunctions):
    r"""The model as plain functions, and the note's augmented system beside it.

    ``augmented.fun(t, q)`` and ``augmented.jac(t, q)`` belong to q = (z, a§1ᵀ, a§3ᵀ), integrated
    from t1 back to t0.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> system = symode.Model({x: -k * x}, parameters=[k]).as_scipy([2.0])
    >>> system.fun(0.0, [3.0]).tolist(), system.augmented.fun(0.0, [3.0, 1.0, 0.0]).tolist()
    ([-6.0], [-6.0, 2.0, 3.0])
    """

    augmented: NativeFunctions | None = None


def scipy_system(field: Field, theta: Floats) -> ScipySystem:
    """Return the plain functions of a field and of its augmented system."""
    whole = augmented(field)
    kernels = {}
    for prefix, part in (("", field), ("augmented_", whole)):
        for name in ("rhs", "jac"):
            signature, derive = FIELD_KERNELS[name]
            kernels[prefix + name] = (signature, derive(part))
    compiled = CompiledModel(kernels, field.n_parameters)
    p = compiled.pack(theta)
    return ScipySystem(compiled, field, p, "", NativeFunctions(compiled, whole, p, "augmented_"))
