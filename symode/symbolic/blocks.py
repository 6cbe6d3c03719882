r"""The blocks :math:`\nabla_{\S1} f, \nabla_{\S2} f, \nabla_{\S3} f` as exact SymPy matrices.

They are what a person reads and proves things with. What is compiled comes from sweeps over the
graph; tests prove the two equal. Row i belongs to the equation of state i, column j to the j-th
state or parameter (P. Khungurn, *Neural Ordinary Differential Equations*, 2022: gradients are
rows). At kinks the almost-everywhere derivative is taken, so the entries hold no unevaluated
``Derivative`` and no ``DiracDelta``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.symbolic.differentiate import gradient


def dfdz(equations: Equations) -> sp.ImmutableDenseMatrix:
    r"""Return :math:`\nabla_{\S1} f = \partial f_i / \partial z_j`, shape (n, n).

    Raises
    ------
    ModelError
        When an equation is nested too deeply for SymPy, or holds a function without derivative.

    Examples
    --------
    >>> import sympy as sp
    >>> x, y, k, t = sp.symbols("x y k t")
    >>> dfdz(Equations((x, y), (k * x * y, -y + t), (k,), t))
    Matrix([
    [k*y, k*x],
    [  0,  -1]])
    """
    return jacobian(equations.rhs, equations.states)


def dfdt(equations: Equations) -> sp.ImmutableDenseMatrix:
    r"""Return :math:`\nabla_{\S2} f = \partial f_i / \partial t`, shape (n, 1).

    Raises
    ------
    ModelError
        As `dfdz`.

    Examples
    --------
    >>> import sympy as sp
    >>> x, y, k, t = sp.symbols("x y k t")
    >>> dfdt(Equations((x, y), (k * x * y, -y + t), (k,), t))
    Matrix([
    [0],
    [1]])
    """
    return jacobian(equations.rhs, [equations.time])


def dfdtheta(equations: Equations) -> sp.ImmutableDenseMatrix:
    r"""Return :math:`\nabla_{\S3} f = \partial f_i / \partial \theta_j`, shape (n, m).

    Raises
    ------
    ModelError
        As `dfdz`.

    Examples
    --------
    >>> import sympy as sp
    >>> x, y, k, t = sp.symbols("x y k t")
    >>> dfdtheta(Equations((x, y), (k * x * y, -y + t), (k,), t))
    Matrix([
    [x*y],
    [  0]])
    """
    return jacobian(equations.rhs, equations.parameters)


def jacobian(
    expressions: Sequence[sp.Expr], variables: Sequence[sp.Symbol]
) -> sp.ImmutableDenseMatrix:
    """Return the matrix of derivatives, one row per expression and one column per variable.

    Examples
    --------
    >>> import sympy as sp
    >>> x, y = sp.symbols("x y")
    >>> jacobian([sp.Abs(x), x * y], [x, y])
    Matrix([
    [sign(x), 0],
    [      y, x]])
    """
    entries = [entry for row in expressions for entry in gradient(row, variables)]
    return sp.ImmutableDenseMatrix(len(expressions), len(variables), entries)


def sparsity(matrix: sp.MatrixBase) -> NDArray[np.bool_]:
    """Return True where an entry is not written as zero; same shape as the matrix.

    Examples
    --------
    >>> import sympy as sp
    >>> x = sp.Symbol("x")
    >>> sparsity(sp.Matrix([[x, 0], [0, 1]])).tolist()
    [[True, False], [False, True]]
    """
    entries = [not (entry.is_Number and entry == 0) for entry in matrix.flat()]
    return np.array(entries, dtype=bool).reshape(matrix.shape)
