"""What every tableau checks about itself, and its value semantics."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from symode.errors import TableauError
from symode.solvers.trees import rooted_trees

Array = NDArray[np.float64]

# Published coefficients carry 16 digits or more; what is left in an order condition is
# rounding, in proportion to the terms that cancel in it. Measured: at most 5e-15, but 4e-14
# in the interpolant of DOP853. A wrong seventh digit in any coefficient is far above.
ROUNDING = 1e-12


class Coefficients:
    """Value semantics for dataclasses that hold arrays: equality, hash, pickling by content."""

    name: str
    #: Whether steps solve equations with the Jacobian; such methods serve stiff models.
    implicit: ClassVar[bool]
    #: Whether the number of stages follows from a bound of the Jacobian's spectral radius.
    bounds_spectrum: ClassVar[bool] = False
    #: Whether the step is a function of the Jacobian itself, as in Rosenbrock methods: its
    #: derivative then needs second derivatives of f.
    jacobian_in_step: ClassVar[bool] = False
    #: Whether stages are solved by iteration, up to a share of the tolerance.
    iterative: ClassVar[bool] = False
    #: Whether steps solve complex systems too.
    complex_pairs: ClassVar[bool] = False

    def freeze(self) -> None:
        """Turn the fields annotated `Array` into read-only float64 arrays."""
        # Loaders hand the same object to everyone, so nobody may write into it.
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.type == "Array":
                value = np.array(value, dtype=np.float64, order="C")
                if not np.all(np.isfinite(value)):
                    raise TableauError(
                        f"{self.name}: {field.name} has entries that are not finite."
                    )
                value.setflags(write=False)
                object.__setattr__(self, field.name, value)

    def values(self) -> tuple[Any, ...]:
        """Return the fields in the order of the constructor."""
        return tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    def key(self) -> tuple[object, ...]:
        """Return the content in a form that compares and hashes."""
        return tuple(
            (v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for v in self.values()
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Coefficients) or type(self) is not type(other):
            return NotImplemented
        return self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.values()

    def require_shape(self, **shapes: tuple[int, ...]) -> None:
        """Raise unless the named fields have these shapes."""
        for name, shape in shapes.items():
            found = getattr(self, name).shape
            if found != shape:
                raise TableauError(f"{self.name}: {name} has shape {found}, expected {shape}.")

    def require_equal(self, what: str, found: ArrayLike, expected: ArrayLike, scale: Any) -> None:
        """Raise unless both agree to rounding in sums whose terms have magnitude `scale`."""
        found, expected = np.broadcast_arrays(np.asarray(found), np.asarray(expected))
        gap = np.abs(found - expected)
        bad = ~(gap <= ROUNDING * (1.0 + np.asarray(scale)))
        if np.any(bad):
            at = np.unravel_index(int(np.argmax(np.where(bad, gap, -1.0))), gap.shape)
            where = f" at {tuple(int(i) for i in at)}" if gap.ndim else ""
            raise TableauError(
                f"{self.name}: {what} is violated{where}: {found[at]:.17g}, expected "
                f"{expected[at]:.17g}. Compare the coefficients with their source, digit by digit."
            )


def check_weights(
    tableau: Coefficients, phi: Array, order: int, b: Array, dense: Array, dense_order: int
) -> None:
    r"""Check :math:`b \cdot \Phi = 1/\gamma` and the same of the interpolant, power by power."""
    if dense.shape[1] < dense_order:
        raise TableauError(
            f"{tableau.name}: an interpolant of degree {dense.shape[1]} cannot have order "
            f"{dense_order}."
        )
    trees = rooted_trees(max(order, dense_order))
    upto = trees.up_to(order)
    tableau.require_equal(
        f"an order condition up to order {order}",
        phi[upto] @ b,
        1.0 / trees.density[upto],
        np.abs(phi[upto]) @ np.abs(b),
    )
    tableau.require_equal(
        "dense(1) = weights of the step", dense.sum(axis=1), b, np.abs(dense).sum(axis=1)
    )
    upto = trees.up_to(dense_order)
    # sum_i b_i(s) phi_i = s**|tree| / density, as polynomials in s.
    expected = np.zeros((phi[upto].shape[0], dense.shape[1]))
    expected[np.arange(len(expected)), trees.order[upto] - 1] = 1.0 / trees.density[upto]
    tableau.require_equal(
        f"an order condition of the interpolant up to order {dense_order}",
        phi[upto] @ dense,
        expected,
        np.abs(phi[upto]) @ np.abs(dense),
    )


def order_annihilated(e: Array, phi: Array, order: int) -> int:
    """Return the largest q such that e . phi vanishes on all trees with up to q vertices."""
    trees = rooted_trees(order)
    phi = phi[trees.up_to(order)]
    vanishes = np.abs(phi @ e) <= ROUNDING * (1.0 + np.abs(phi) @ np.abs(e))
    return order if vanishes.all() else int(trees.order[np.argmin(vanishes)]) - 1
