"""Tableaus of diagonally implicit methods with an explicit first stage (ESDIRK)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from symode.errors import TableauError
from symode.solvers.conditions import Coefficients, check_weights, order_annihilated
from symode.solvers.trees import rooted_trees, stage_weights

Array = NDArray[np.float64]

#: Points of the imaginary axis at which stability is checked.
AXIS = 1j * np.logspace(-2, 4, 120)
#: Order of the first guess of a stage.
GUESS_ORDER = 4


@dataclass(frozen=True, eq=False, repr=False)
class DirkTableau(Coefficients):
    r"""A stiffly accurate, L-stable method whose stages are solved one after another.

    .. math::
        Z_i &= z + h \sum_{j \le i} a_{ij} k_j, \qquad k_i = f(t + c_i h, Z_i), \qquad
        a_{11} = 0, \; a_{ii} = \gamma \\
        z^+ &= Z_S, \qquad
        z(t + s h) = z + h \sum_i b_i(s) k_i, \qquad
        b_i(s) = \sum_j \mathrm{dense}_{ij}\, s^{j+1}

    The first stage is the last of the step before.

    Parameters
    ----------
    name
        Lower case; what `get_method` finds it by.
    order, embedded_order
        Order of the step; the error estimate is of size h**(embedded_order + 1).
    a, c
        Shapes ``(S, S)``, ``(S,)``. The weights of the step are the last row of a.
    e
        Error weights, error = h * e @ k. Shape ``(S,)``.
    dense, dense_order
        The interpolant. Shape ``(S, d)``; its global order.
    source
        Citation.

    Raises
    ------
    TableauError
        A shape, a row sum, an order condition (all rooted trees up to the order stated, for
        the step, the error estimate and the interpolant) or a claim of stability is wrong:
        :math:`R(\infty) = 0`, :math:`|R(iy)| \le 1`, and stages, error estimate and interpolant
        that stay bounded as a mode becomes infinitely stiff.

    Notes
    -----
    With :math:`\hat A` and a the lower rows of the matrix without and in its first column, the
    slopes of an infinitely stiff mode are finite in :math:`k_1 \hat A^{-1} a` only; weights w with
    :math:`w_1 = \hat w \hat A^{-1} a` are combinations of the stage values :math:`Z_i - z`, and do
    not amplify such a mode. Arrays are read-only: a kernel compiled for writable arrays needs a
    copy.

    References
    ----------
    Kennedy & Carpenter (2016), *Diagonally Implicit Runge-Kutta Methods for Ordinary Differential
    Equations. A Review*, NASA/TM-2016-219173.

    Examples
    --------
    >>> trapezoid = DirkTableau(
    ...     name="trbdf", order=1, embedded_order=0, a=[[0, 0], [0, 1]], c=[0, 1], e=[0, 1],
    ...     dense=[[0], [1]], dense_order=1, source="backward Euler")
    >>> trapezoid, trapezoid.gamma
    (DirkTableau('trbdf', order 1(0), 2 stages), 1.0)
    """

    implicit: ClassVar[bool] = True
    iterative: ClassVar[bool] = True

    name: str
    order: int
    embedded_order: int
    a: Array
    c: Array
    e: Array
    dense: Array
    dense_order: int
    source: str

    def __repr__(self) -> str:
        return (
            f"DirkTableau({self.name!r}, order {self.order}({self.embedded_order}), "
            f"{len(self.c)} stages)"
        )

    @property
    def gamma(self) -> float:
        """The diagonal."""
        return float(self.a[-1, -1])

    @property
    def b(self) -> Array:
        """Weights of the step."""
        weights: Array = self.a[-1]
        return weights

    @property
    def n_stages(self) -> int:
        """Stages, the explicit first one included."""
        return len(self.c)

    def __post_init__(self) -> None:
        self.freeze()
        n = len(self.c)
        self.require_shape(a=(n, n), c=(n,), e=(n,), dense=(n, self.dense.shape[1]))
        if np.any(np.triu(self.a, 1)) or np.any(self.a[0]):
            raise TableauError(f"{self.name}: a is not lower triangular with an empty first row.")
        if not self.gamma > 0.0 or np.any(np.diag(self.a)[1:] != self.gamma):
            raise TableauError(
                f"{self.name}: the diagonal is {np.diag(self.a)}, expected 0 and then one positive "
                "number."
            )
        self.require_equal("c = row sums", self.c, self.a.sum(axis=1), np.abs(self.a).sum(axis=1))
        trees = rooted_trees(max(self.order, self.dense_order))
        phi = stage_weights(trees, self.a)
        check_weights(self, phi, self.order, self.b, self.dense, self.dense_order)
        found = order_annihilated(self.e, phi, self.order)
        if found != self.embedded_order:
            raise TableauError(
                f"{self.name}: the error weights are of order {found}, "
                f"expected {self.embedded_order}."
            )
        self._check_stability()

    def _check_stability(self) -> None:
        first = np.linalg.solve(self.a[1:, 1:], self.a[1:, 0])
        self.require_equal("R(inf) = 0", first[-1], 0.0, 0.0)
        for what, weights in (("error estimate", self.e[:, None]), ("interpolant", self.dense)):
            rest = first[:, None] * weights[1:]
            self.require_equal(
                f"boundedness of the {what} for stiff modes",
                weights[0],
                rest.sum(axis=0),
                np.abs(rest).sum(axis=0),
            )
        n = len(self.c)
        slopes = np.linalg.solve(np.eye(n) - AXIS[:, None, None] * self.a, np.ones((n, 1)))
        growth = float(np.abs(1.0 + AXIS * (slopes[:, :, 0] @ self.b)).max())
        if not growth <= 1.0 + 1e-9:
            raise TableauError(
                f"{self.name}: |R| reaches {growth:.6g} on the imaginary axis: not A-stable."
            )

    def stability_function(self, z: complex) -> complex:
        r"""Return :math:`R(z)`: the step for :math:`\dot y = \lambda y`, :math:`z = h\lambda`.

        Examples
        --------
        >>> from symode.solvers.methods import get_method
        >>> abs(get_method("esdirk54").stability_function(-1e9)) < 1e-7
        True
        """
        n = len(self.c)
        slopes = np.linalg.solve(np.eye(n) - z * self.a, np.ones(n))
        return complex(1.0 + z * (self.b @ slopes))


def fractions(rows: list[str]) -> Array:
    """Return the lower triangle written as fractions; "*" repeats the entry before.

    Examples
    --------
    >>> fractions(["1/4", "1/2 *"]).tolist()
    [[0.0, 0.0, 0.0], [0.25, 0.0, 0.0], [0.5, 0.5, 0.0]]
    """
    n = len(rows) + 1
    a = np.zeros((n, n))
    for i, row in enumerate(rows, start=1):
        for j, entry in enumerate(row.split()):
            a[i, j] = a[i, j - 1] if entry == "*" else float(Fraction(entry))
    return a


def _in_stage_values(a: Array, phi: Array) -> Array:
    """Return weights' conditions as conditions on the weights of the stage values Z_i - z."""
    return np.asarray(phi @ a[1:].T)


def stage_value_dense(a: Array, order: int, stiff_order: int) -> Array:
    r"""Return the interpolant that combines stage values, and so amplifies no stiff mode.

    .. math:: z(t + s h) = z + \sum_{i>1} w_i(s) (Z_i - z)

    The polynomials w satisfy the conditions of the order given and, for infinitely stiff modes,
    whose stage values are exact, :math:`\sum w_i c_i^q = s^q` up to ``stiff_order``. What freedom
    is left brings the terms of the next order closest to theirs. At s = 1 this is the step.

    Parameters
    ----------
    a
        Shape ``(S, S)``.
    order, stiff_order
        Of the interpolant.

    Returns
    -------
    numpy.ndarray
        ``b_i(s) = sum_j dense[i, j] * s**(j + 1)``. Shape ``(S, d)``.
    """
    trees = rooted_trees(order + 1)
    phi = _in_stage_values(a, stage_weights(trees, a))
    targets = np.zeros((len(phi), order + 1))
    targets[np.arange(len(phi)), trees.order - 1] = 1.0 / trees.density
    powers = np.arange(1, stiff_order + 1)
    nodes = a.sum(axis=1)[1:]
    inside = trees.up_to(order)
    rows = np.vstack([phi[inside], nodes[None, :] ** powers[:, None]])
    sides = np.vstack([targets[inside], np.eye(order + 1)[:stiff_order]])
    w = np.linalg.lstsq(rows, sides, rcond=1e-10)[0]
    free = _null_space(rows)
    if free.size:
        rest = slice(inside.stop, None)
        left = targets[rest] - phi[rest] @ w
        w += free @ np.linalg.lstsq(phi[rest] @ free, left, rcond=1e-10)[0]
    dense = a[1:].T @ w
    used = np.abs(dense).max(axis=0) > 1e-10
    return np.ascontiguousarray(dense[:, : int(np.flatnonzero(used)[-1]) + 1])


def damped_error_weights(a: Array, order: int, size: float, at_infinity: float) -> Array:
    r"""Return error weights under which stiff transients hardly count as error.

    Weights whose error vanishes for infinitely stiff modes, where the step damps them to nothing
    too, are unique up to their size. They may be blind to a kink between two nodes; a second
    vector of weights of the same order, orthogonal to the first in its principal term, is added
    to give :math:`\hat R(\infty)` a size that can be chosen.

    Parameters
    ----------
    a
        Shape ``(S, S)``.
    order
        Of the embedded solution.
    size
        Euclidean norm of the first vector over the conditions of the next order.
    at_infinity
        Share of an infinitely stiff transient that is estimated as error.
    """
    trees = rooted_trees(order + 1)
    phi = _in_stage_values(a, stage_weights(trees, a))
    free = _null_space(phi[trees.up_to(order)])
    if free.shape[1] != 2:
        raise TableauError(
            f"There are {free.shape[1]} independent error weights of order {order}; expected 2."
        )
    principal = phi[trees.up_to(order).stop :] @ free
    stiff = (np.linalg.solve(a[1:, 1:], a[1:, 0]) + 1.0) @ free
    first = np.array([stiff[1], -stiff[0]])
    first *= size / np.linalg.norm(principal @ first)
    across = principal.T @ (principal @ first)
    second = np.array([across[1], -across[0]])
    weights = a[1:].T @ free
    damped = weights @ first
    return np.asarray(
        damped * np.sign(damped[-1]) + weights @ second * (at_infinity / (stiff @ second))
    )


def _null_space(rows: Array) -> Array:
    """Return an orthonormal basis of what all rows annihilate, as columns."""
    # Conditions agree in pairs up to rounding; independent ones differ by far more.
    _, sizes, right = np.linalg.svd(rows)
    rank = int(np.count_nonzero(sizes > 1e-10 * sizes[0]))
    return np.ascontiguousarray(right[rank:].T)


def stage_guess(a: Array) -> Array:
    r"""Return weights g with :math:`Z_i \approx z + h \sum_{j<i} g_{ij} k_j`. Shape ``(S, S)``.

    Each row is the smallest that has the expansion of its stage up to order 4, or up to the order
    that its number of earlier stages allows.

    Examples
    --------
    >>> a = np.array([[0, 0, 0], [0.25, 0.25, 0], [0.3, 0.45, 0.25]])
    >>> stage_guess(a).tolist()
    [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.05, 0.95, 0.0]]
    """
    n = len(a)
    trees = rooted_trees(GUESS_ORDER)
    phi = stage_weights(trees, a)
    guess = np.zeros((n, n))
    for i in range(1, n):
        for order in range(1, GUESS_ORDER + 1):
            inside = trees.up_to(order)
            rows, sides = phi[inside, :i], phi[inside] @ a[i]
            row = np.linalg.lstsq(rows, sides, rcond=1e-10)[0]
            if np.abs(rows @ row - sides).max() > 1e-9:
                break
            guess[i, :i] = np.round(row, 15)
    return guess
