"""Small kernels for the tests of codegen; without SymPy, so that worker processes start fast."""

from __future__ import annotations

import numpy as np

from symode.symbolic.derive import Field, derive_vjp
from symode.symbolic.graph import Builder, Graph

Kernels = dict[str, tuple[str, Graph]]


def oscillator() -> Field:
    """Return x' = y, y' = sin(k t)**2 - exp(-c) x with parameters (k, c)."""
    b = Builder()
    t, x, y, k, c = (
        b.input("t", 0),
        b.input("z", 0),
        b.input("z", 1),
        b.input("p", 0),
        b.input("p", 1),
    )
    force = b.powi(b.unary("sin", b.mul(k, t)), 2)
    return Field(b.freeze([y, b.sub(force, b.mul(b.unary("exp", b.neg(c)), x))]), 2, 2)


def oscillator_kernels() -> Kernels:
    field = oscillator()
    return {"rhs": ("field", field.graph), "vjp": ("product", derive_vjp(field))}


def oscillator_values(t: float, z, theta) -> np.ndarray:
    return np.array([z[1], np.sin(theta[0] * t) ** 2 - np.exp(-theta[1]) * z[0]])


def compile_many_times(barrier, results) -> None:
    """Compile or load the same model several times, together with other processes."""
    from symode.codegen.compiled import CompiledModel

    kernels = oscillator_kernels()
    barrier.wait()
    for _ in range(5):
        model = CompiledModel(kernels, 2)
        value = model.call("rhs", 0.9, [0.3, -0.8], model.pack(np.array([1.7, 0.4])))
        results.put(value.tolist())
