"""Collocation tableaus: fully implicit Runge-Kutta methods of Radau IIA type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from symode.errors import TableauError
from symode.solvers.conditions import Coefficients

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class CollocationTableau(Coefficients):
    r"""A stiffly accurate collocation method in the increments Z of its stages.

    .. math::
        Z_i &= h \sum_j a_{ij} f(t + c_j h,\; z + Z_j), \qquad z^+ = z + Z_s \\
        z(t + x h) &= z + \sum_i B_i(x) Z_i, \qquad
        B_i(x) = \sum_j \mathrm{dense}_{ij}\, x^{j+1} \\
        \mathrm{error} &= (I - h \gamma_0 J)^{-1}
        \Bigl(h \gamma_0 f(t, z) + \sum_i e_i Z_i\Bigr)

    The interpolant is the collocation polynomial.

    Parameters
    ----------
    name
        Lower case; what `get_method` finds it by.
    order, embedded_order
        2s - 1 and s: the error estimate is of size h**(s + 1).
    a, b, c
        The method; b is the last row of a. Shapes ``(s, s)``, ``(s,)``, ``(s,)``.
    gamma0
        The real eigenvalue of a. The number of stages is odd, so there is exactly one.
    e
        Weights of the increments in the error estimate. Shape ``(s,)``.
    dense, dense_order
        The interpolant. Shape ``(s, s)``; its global order, s.
    source
        Citation.

    Raises
    ------
    TableauError
        A shape, an order condition (the simplifying assumptions B(2s - 1), C(s) and
        D(s - 1), which together prove order 2s - 1), the interpolant, the error
        weights or the eigenvalue is wrong.

    Notes
    -----
    Arrays are read-only: a kernel compiled for writable arrays needs a copy.

    References
    ----------
    Hairer & Wanner (1996), *Solving ODEs II*, sections IV.5 and IV.8.

    Examples
    --------
    >>> from symode.solvers.methods import get_method
    >>> radau = get_method("radau5")
    >>> radau, radau.c.round(4).tolist()
    (CollocationTableau('radau5', order 5(3), 3 stages), [0.1551, 0.6449, 1.0])
    """

    implicit: ClassVar[bool] = True
    iterative: ClassVar[bool] = True
    complex_pairs: ClassVar[bool] = True

    name: str
    order: int
    embedded_order: int
    a: Array
    b: Array
    c: Array
    gamma0: float
    e: Array
    dense: Array
    dense_order: int
    source: str

    def __repr__(self) -> str:
        return (
            f"CollocationTableau({self.name!r}, order {self.order}({self.embedded_order}), "
            f"{len(self.c)} stages)"
        )

    def __post_init__(self) -> None:
        self.freeze()
        s = len(self.c)
        self.require_shape(a=(s, s), b=(s,), c=(s,), e=(s,), dense=(s, s))
        if s % 2 == 0:
            raise TableauError(f"{self.name}: {s} stages; expected an odd number.")
        stated = (self.order, self.embedded_order, self.dense_order)
        if stated != (2 * s - 1, s, s):
            raise TableauError(
                f"{self.name}: orders {stated} do not fit {s} stages: expected {2 * s - 1} for "
                f"the step, {s} for the error estimate and {s} for the interpolant."
            )
        self.require_equal("b = last row of a (stiff accuracy)", self.b, self.a[-1], 0.0)
        self._check_assumptions(s)
        k = np.arange(1, s + 1)
        powers = self.c[:, None] ** k
        scale = np.abs(self.dense).T @ powers
        self.require_equal("the interpolant", self.dense.T @ powers, np.eye(s), scale)
        known = np.where(k == 1, -self.gamma0, 0.0)
        self.require_equal("error weights", self.e @ powers, known, np.abs(self.e) @ powers)
        roots = np.linalg.eigvals(self.a)
        real = roots[np.argmin(np.abs(roots.imag))].real
        # Eigenvalues of these matrices are known to about 1e-13 (s = 7); this guards digits.
        if not abs(real - self.gamma0) <= 1e-10 * abs(real):
            raise TableauError(
                f"{self.name}: gamma0 = {self.gamma0!r}, but the real eigenvalue of a is {real!r}."
            )

    def _check_assumptions(self, s: int) -> None:
        a, b, c = self.a, self.b, self.c
        k = np.arange(1, 2 * s)
        self.require_equal(f"B({2 * s - 1})", b @ c[:, None] ** (k - 1), 1.0 / k, 1.0)
        k = np.arange(1, s + 1)
        self.require_equal(f"C({s})", a @ c[:, None] ** (k - 1), c[:, None] ** k / k, 1.0)
        k = np.arange(1, s)
        found = (b[:, None] * c[:, None] ** (k - 1)).T @ a
        expected = (b * (1.0 - c ** k[:, None])) / k[:, None]
        self.require_equal(f"D({s - 1})", found, expected, 1.0)

    def stability_at_infinity(self) -> float:
        r"""Return :math:`R(\infty) = 1 - b A^{-1} \mathbb 1`, 0 where b is the last row of A.

        Examples
        --------
        >>> from symode.solvers.methods import get_method
        >>> abs(get_method("radau9").stability_at_infinity()) < 1e-13
        True
        """
        return float(1.0 - self.b @ np.linalg.solve(self.a, np.ones(len(self.c))))

    def modes(self) -> tuple[Array, Array, Array]:
        r"""Return eigenvalues of :math:`A^{-1}` and real matrices T⁻¹ and T that separate them.

        .. math:: T^{-1} A^{-1} T = \mathrm{diag}\Bigl(\gamma,
                  \begin{pmatrix} \alpha_k & -\beta_k \\ \beta_k & \alpha_k \end{pmatrix}\Bigr)

        Returns
        -------
        eigenvalues
            Real and imaginary part of γ and of each :math:`\alpha_k + i \beta_k`. Shape
            ``((s + 1) / 2, 2)``.
        into, back
            T⁻¹ and T. Shape ``(s, s)``.

        Examples
        --------
        >>> from symode.solvers.methods import get_method
        >>> eigenvalues, into, back = get_method("radau5").modes()
        >>> eigenvalues.round(4).tolist()
        [[3.6378, 0.0], [2.6811, 3.0504]]
        """
        values, vectors = np.linalg.eig(np.linalg.inv(self.a))
        order = np.argsort(np.abs(values.imag), kind="stable")
        chosen = [i for i in order if values[i].imag >= -1e-9 * abs(values[i])]
        real, pairs = chosen[0], chosen[1:]
        columns = [vectors[:, real].real]
        for i in pairs:
            # w = u + iv of the mode stands for 2 Re(w x) = 2 (u Re x - v Im x).
            columns += [2.0 * vectors[:, i].real, -2.0 * vectors[:, i].imag]
        back = np.stack(columns, axis=1)
        eigenvalues = np.array([(values[i].real, abs(values[i].imag)) for i in chosen])
        eigenvalues[0, 1] = 0.0
        return eigenvalues, np.linalg.inv(back), back


def radau_iia(name: str, s: int, source: str) -> CollocationTableau:
    r"""Return the Radau IIA method with s stages, from the roots of Legendre polynomials.

    The nodes are the roots of :math:`P_s - P_{s-1}` moved to [0, 1], and

    .. math:: A = W X W^\top B, \qquad w_{ij} = \hat P_{j}(c_i),

    with :math:`\hat P_j` the normalised shifted Legendre polynomials, B the diagonal of the
    weights and X tridiagonal. Every factor is well conditioned, so doubles suffice: the conditions
    hold to 1e-14 at s = 7, where powers of c would lose six digits.

    Parameters
    ----------
    name, source
        As in `CollocationTableau`.
    s
        Stages, an odd number.

    References
    ----------
    Hairer & Wanner (1996), *Solving ODEs II*, theorem IV.5.6 and eq. IV.5.16.

    Examples
    --------
    >>> radau_iia("radau5", 3, "").c.round(6).tolist()
    [0.155051, 0.644949, 1.0]
    """
    c = _nodes(s)
    basis = legendre.legvander(2.0 * c - 1.0, s - 1)
    # Weights of the quadrature: Σ b_i P_j(c_i) = δ_j0, in Legendre polynomials.
    b = np.linalg.solve(basis.T, np.eye(s)[0])
    w = basis * np.sqrt(2.0 * np.arange(s) + 1.0)
    x = np.zeros((s, s))
    k = np.arange(1, s)
    xi = 0.5 / np.sqrt(4.0 * k**2 - 1.0)
    x[k, k - 1], x[k - 1, k] = xi, -xi
    x[0, 0], x[s - 1, s - 1] = 0.5, 1.0 / (4.0 * s - 2.0)
    a = w @ x @ w.T * b
    roots = np.linalg.eigvals(x)
    gamma0 = float(roots[np.argmin(np.abs(roots.imag))].real)
    lagrange = _lagrange(c)
    # Error: embedded quadrature through 0 and c, its weight at 0 chosen as gamma0. As a weight
    # of Z it is -gamma0 times the slope of the Lagrange polynomials at 0.
    return CollocationTableau(
        name=name,
        order=2 * s - 1,
        embedded_order=s,
        a=a,
        b=a[-1],
        c=c,
        gamma0=gamma0,
        e=-gamma0 * lagrange[:, 0],
        dense=lagrange,
        dense_order=s,
        source=source,
    )


def _nodes(s: int) -> Array:
    """Return the roots of P_s - P_(s-1) on [0, 1], polished; the last is 1."""
    series = np.zeros(s + 1)
    series[s], series[s - 1] = 1.0, -1.0
    slope = legendre.legder(series)
    x = np.sort(legendre.legroots(series).real)
    for _ in range(3):
        x[:-1] -= legendre.legval(x[:-1], series) / legendre.legval(x[:-1], slope)
    x[-1] = 1.0
    return np.asarray(0.5 * (1.0 + x))


def _lagrange(c: Array) -> Array:
    """Return coefficients (of x, x², ...) of the polynomials that are 1 at one node, 0 at 0."""
    s = len(c)
    found = np.zeros((s, s))
    for i in range(s):
        others = np.delete(c, i)
        # Monic, lowest power first, times x; short products of positive numbers of one size.
        monic = np.poly(others)[::-1]
        found[i] = monic / (c[i] * np.prod(c[i] - others))
    return found
