"""Tableaus: the coefficients of one-step methods, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from symode.errors import TableauError
from symode.solvers.conditions import ROUNDING, Coefficients, check_weights, order_annihilated
from symode.solvers.trees import rooted_trees, stage_weights

Array = NDArray[np.float64]


def nested_dense(rows: ArrayLike, factors: str) -> Array:
    r"""Return ``dense[i, j]`` for an interpolant written as nested products.

    With `factors` "stst" and rows r0..r3, the weights of the stages are

    .. math:: b(s) = s (r_0 + (1-s) (r_1 + s (r_2 + (1-s) r_3)))

    Parameters
    ----------
    rows
        Row l holds the weights of the stages in the l-th term. Shape ``(d, S)``.
    factors
        One letter a row: ``s`` for s, ``t`` for 1 - s. The first is ``s``.

    Returns
    -------
    numpy.ndarray
        ``b_i(s) = sum_j dense[i, j] * s**(j + 1)``. Shape ``(S, d)``.

    Raises
    ------
    TableauError
        The factors do not fit the rows.

    Examples
    --------
    >>> nested_dense([[1.0], [3.0]], "st").tolist()
    [[4.0, -3.0]]
    """
    rows = np.asarray(rows, dtype=np.float64)
    if len(factors) != len(rows) or factors[:1] != "s" or set(factors) - {"s", "t"}:
        raise TableauError(
            f"{factors!r} does not describe {len(rows)} nested terms: expected one letter "
            "s or t for each, beginning with s."
        )
    basis = np.zeros((len(rows), len(rows)))
    polynomial = np.array([1.0])  # coefficients of s**1, s**2, ...
    for term, letter in enumerate(factors):
        if term:
            polynomial = np.convolve(polynomial, [0.0, 1.0] if letter == "s" else [1.0, -1.0])
        basis[term, : len(polynomial)] = polynomial
    return np.ascontiguousarray(rows.T @ basis)


@dataclass(frozen=True, eq=False, repr=False)
class ExplicitTableau(Coefficients):
    r"""An explicit Runge-Kutta method with error estimate and interpolant.

    .. math::
        k_i &= f\Bigl(t + c_i h,\; z + h \sum_{j<i} a_{ij} k_j\Bigr), \qquad
        z^+ = z + h \sum_i b_i k_i \\
        z(t + s h) &= z + h \sum_i b_i(s) k_i, \qquad
        b_i(s) = \sum_j \mathrm{dense}_{ij}\, s^{j+1}

    Parameters
    ----------
    name
        Lower case; what `get_method` finds it by.
    order
        Order of `b`.
    embedded_order
        The error estimate is of size h**(embedded_order + 1).
    a, c
        All stages, those of the interpolant last. Shapes ``(S, S)``, ``(S,)``.
    b
        Zero for stages that only the interpolant needs. Shape ``(S,)``.
    e
        Error weights, error = h * e @ k. One row: b minus the embedded weights.
        Two rows, E5 and E3: the error is err5**2 / sqrt(err5**2 + 0.01 * err3**2).
        Shape ``(n_err, S)``.
    n_stages
        Stages to advance a step, with the FSAL stage where there is one.
    n_dense
        Stages that the interpolant needs; those from n_stages on are made lazily.
    fsal
        Whether stage n_stages - 1 is f at the new point, the first of the next step.
    dense, dense_order
        The interpolant. Shape ``(S, d)``; its global order.
    stability
        The largest x such that :math:`|R(-x')| \le 1` for all :math:`0 \le x' \le x`.
    source
        Citation.

    Raises
    ------
    TableauError
        A shape, a row sum, an order condition (all rooted trees up to the order
        stated, for the step, the error estimate and the interpolant) or the
        stability limit is wrong.

    Notes
    -----
    Arrays are read-only: a kernel compiled for writable arrays needs a copy.

    References
    ----------
    Hairer, Nørsett & Wanner (1993), *Solving ODEs I*, II.2, II.4 to II.6.

    Examples
    --------
    >>> heun = ExplicitTableau(
    ...     name="heun", order=2, embedded_order=1, a=[[0, 0], [1, 0]], b=[0.5, 0.5],
    ...     c=[0, 1], e=[[-0.5, 0.5]], n_stages=2, n_dense=2, fsal=False,
    ...     dense=[[1, -0.5], [0, 0.5]], dense_order=2, stability=2.0,
    ...     source="Heun (1900)")
    >>> heun
    ExplicitTableau('heun', order 2(1), 2 stages)
    """

    implicit: ClassVar[bool] = False

    name: str
    order: int
    embedded_order: int
    a: Array
    b: Array
    c: Array
    e: Array
    n_stages: int
    n_dense: int
    fsal: bool
    dense: Array
    dense_order: int
    stability: float
    source: str

    def __repr__(self) -> str:
        return (
            f"ExplicitTableau({self.name!r}, order {self.order}({self.embedded_order}), "
            f"{self.n_stages} stages)"
        )

    def __post_init__(self) -> None:
        self.freeze()
        self._check_structure()
        trees = rooted_trees(max(self.order, self.dense_order))
        phi = stage_weights(trees, self.a)
        check_weights(self, phi, self.order, self.b, self.dense, self.dense_order)
        self._check_error_estimate(phi)
        self._check_stability()

    def _check_structure(self) -> None:
        n = len(self.b)
        self.require_shape(
            a=(n, n),
            b=(n,),
            c=(n,),
            e=(*self.e.shape[:1], n),
            dense=(n, *self.dense.shape[1:]),
        )
        if self.e.shape[0] not in (1, 2) or self.dense.ndim != 2:
            raise TableauError(f"{self.name}: e needs one or two rows, dense one row a stage.")
        if not 0 < self.n_stages <= self.n_dense == n:
            raise TableauError(
                f"{self.name}: n_stages = {self.n_stages} and n_dense = {self.n_dense} do not fit "
                f"{n} stages: expected n_stages <= n_dense = {n}."
            )
        if np.any(np.triu(self.a)):
            raise TableauError(f"{self.name}: a is not strictly lower triangular.")
        if np.any(self.b[self.n_stages :]) or np.any(self.e[:, self.n_stages :]):
            raise TableauError(
                f"{self.name}: b and e may not use the stages from {self.n_stages} on, "
                "which exist for the interpolant only."
            )
        self.require_equal(
            "c = row sums of a", self.c, self.a.sum(axis=1), np.abs(self.a).sum(axis=1)
        )
        if self.fsal:
            self.require_equal("last row of a = b (FSAL)", self.a[self.n_stages - 1], self.b, 0.0)

    def _check_error_estimate(self, phi: Array) -> None:
        orders = [order_annihilated(row, phi, self.order) for row in self.e]
        # err5**2 / err3 has the order 2 * (5 + 1) - (3 + 1) = 7 + 1.
        found = orders[0] if len(orders) == 1 else 2 * orders[0] - orders[1]
        if found != self.embedded_order:
            raise TableauError(
                f"{self.name}: the error weights are of order {found}, "
                f"expected {self.embedded_order}."
            )

    def stability_polynomial(self) -> Array:
        r"""Return the coefficients of :math:`R(z) = \sum_k r_k z^k`, lowest first.

        Examples
        --------
        >>> from symode.solvers.methods import get_method
        >>> get_method("bosh3").stability_polynomial().tolist()[:2]
        [1.0, 1.0]
        """
        coefficients, power = [1.0], np.ones(len(self.b))
        for _ in range(self.n_stages):
            coefficients.append(float(self.b @ power))
            power = self.a @ power
        return np.array(coefficients)

    def _check_stability(self) -> None:
        coefficients = self.stability_polynomial()[::-1]
        inside = np.abs(np.polyval(coefficients, -np.linspace(0.0, 0.999, 200) * self.stability))
        edge, beyond = np.abs(
            np.polyval(coefficients, -np.array([1.0, 1.0 + 1e-6]) * self.stability)
        )
        if np.any(inside > 1.0 + ROUNDING) or abs(edge - 1.0) > 1e-9 or not beyond > 1.0:
            raise TableauError(
                f"{self.name}: |R(-x)| first exceeds 1 elsewhere than at stability = "
                f"{self.stability!r}."
            )


@dataclass(frozen=True, eq=False, repr=False)
class RosenbrockTableau(Coefficients):
    r"""A Rosenbrock method in the form that needs no product with the Jacobian J.

    .. math::
        \Bigl(\frac{1}{h\gamma} - J\Bigr) U_i &=
        f\Bigl(t + \alpha_i h,\; z + \sum_{j<i} a_{ij} U_j\Bigr)
        + \frac1h \sum_{j<i} C_{ij} U_j + h d_i\, \partial f / \partial t \\
        z^+ &= z + \sum_i m_i U_i, \qquad \mathrm{error} = \sum_i e_i U_i \\
        z(t + s h) &= z + \sum_i B_i(s) U_i, \qquad
        B_i(s) = \sum_j \mathrm{dense}_{ij}\, s^{j+1}

    J and the derivative in t are those at (t, z). The U have the units of z.

    Parameters
    ----------
    name
        Lower case; what `get_method` finds it by.
    order, embedded_order
        Orders of `m` and of m - e.
    gamma
        The one diagonal entry of the matrix :math:`\Gamma`.
    a, C
        Strictly lower triangular. Shape ``(s, s)``.
    m, e
        Weights of the step and of its error estimate. Shape ``(s,)``.
    alpha, d
        Times of the stages; factors of the time derivative. Shape ``(s,)``.
    dense, dense_order
        The interpolant. Shape ``(s, degree)``; its global order.
    source
        Citation.
    stiffly_accurate
        The claim, checked, that the embedded solution is the argument of the last
        stage and the step is that plus U_s, as in the Rodas family. Then
        :math:`R(\infty) = 0`: with A-stability, the method is L-stable.

    Raises
    ------
    TableauError
        A shape, a row sum, an order condition (all rooted trees up to the order
        stated, for the step, the error estimate and the interpolant) or the claim
        of stiff accuracy is wrong.

    Notes
    -----
    With :math:`\Gamma^{-1} = \mathrm{diag}(1/\gamma) - C`, the usual coefficients are
    :math:`(\alpha_{ij}) = a\Gamma` and :math:`b = m\Gamma`; alpha and d are the row sums of
    :math:`(\alpha_{ij})` and :math:`\Gamma`. The order conditions are checked for these.
    Arrays are read-only: a kernel compiled for writable arrays needs a copy.

    References
    ----------
    Hairer & Wanner (1996), *Solving ODEs II*, section IV.7.

    Examples
    --------
    >>> euler = RosenbrockTableau(
    ...     name="linear Euler", order=1, embedded_order=0, gamma=1.0, a=[[0]], C=[[0]],
    ...     m=[1], e=[1], alpha=[0], d=[1], dense=[[1]], dense_order=1,
    ...     source="Rosenbrock (1963)")
    >>> euler, euler.stability_at_infinity()
    (RosenbrockTableau('linear Euler', order 1(0), 1 stages), 0.0)
    """

    implicit: ClassVar[bool] = True
    jacobian_in_step: ClassVar[bool] = True

    name: str
    order: int
    embedded_order: int
    gamma: float
    a: Array
    C: Array
    m: Array
    e: Array
    alpha: Array
    d: Array
    dense: Array
    dense_order: int
    source: str
    stiffly_accurate: bool = True

    def __repr__(self) -> str:
        return (
            f"RosenbrockTableau({self.name!r}, order {self.order}({self.embedded_order}), "
            f"{len(self.m)} stages)"
        )

    def __post_init__(self) -> None:
        self.freeze()
        n = len(self.m)
        square, flat = (n, n), (n,)
        self.require_shape(
            a=square, C=square, m=flat, e=flat, alpha=flat, d=flat, dense=(n, self.dense.shape[1])
        )
        if not self.gamma > 0.0:
            raise TableauError(f"{self.name}: gamma = {self.gamma!r}, expected a positive number.")
        if np.any(np.triu(self.a)) or np.any(np.triu(self.C)):
            raise TableauError(f"{self.name}: a or C is not strictly lower triangular.")
        alpha, Gamma = self.untransformed()
        self.require_equal(
            "alpha = row sums", self.alpha, alpha.sum(axis=1), np.abs(alpha).sum(axis=1)
        )
        self.require_equal("d = row sums", self.d, Gamma.sum(axis=1), np.abs(Gamma).sum(axis=1))
        trees = rooted_trees(max(self.order, self.dense_order))
        phi = stage_weights(trees, alpha, alpha + Gamma)
        # Weights of the U become weights of k = Gamma^-1 U. The terms that cancel are
        # those of the first product, so their magnitude is that of phi seen from the U.
        check_weights(self, phi @ Gamma.T, self.order, self.m, self.dense, self.dense_order)
        found = order_annihilated(self.e, phi @ Gamma.T, self.order)
        if found != self.embedded_order:
            raise TableauError(
                f"{self.name}: the error weights are of order {found}, "
                f"expected {self.embedded_order}."
            )
        if self.stiffly_accurate:
            last = np.eye(n)[-1]
            self.require_equal("m = last row of a, then 1", self.m, self.a[-1] + last, 0.0)
            self.require_equal("e = the last U", self.e, last, 0.0)
            self.require_equal("R(inf) = 0", self.stability_at_infinity(), 0.0, 0.0)

    def untransformed(self) -> tuple[Array, Array]:
        r"""Return the matrices :math:`(\alpha_{ij})` and :math:`\Gamma` (with its diagonal).

        Examples
        --------
        >>> from symode.solvers.methods import get_method
        >>> alpha, Gamma = get_method("rodas5p").untransformed()
        >>> round(float(alpha[1, 0]), 12), round(float(Gamma[3, 3]), 12)
        (0.635812689583, 0.211937563194)
        """
        inverse = np.eye(len(self.m)) / self.gamma - self.C
        Gamma = np.asarray(np.linalg.inv(inverse), dtype=np.float64)
        return self.a @ Gamma, Gamma

    def stability_at_infinity(self) -> float:
        r"""Return :math:`R(\infty) = 1 - b (\alpha + \Gamma)^{-1} \mathbb 1`.

        Examples
        --------
        >>> from symode.solvers.methods import get_method
        >>> abs(get_method("rodas5p").stability_at_infinity()) < 1e-12
        True
        """
        # b (alpha + Gamma)^-1 = m (a + I)^-1: Gamma cancels.
        n = len(self.m)
        return float(1.0 - self.m @ np.linalg.solve(self.a + np.eye(n), np.ones(n)))
