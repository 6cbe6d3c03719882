r"""Consistent initial values, slopes and their derivatives for :math:`M \dot z = f(z, t, \theta)`.

With L and V bases of the left and right null spaces of M, solutions lie on the manifold
:math:`L f(z, t, \theta) = 0`; the system has index 1 where :math:`K = L J V` is regular, J = ∇§1 f.
Then, with :math:`M^+` the pseudoinverse,

.. math::
    \dot z &= x - V K^{-1} L (J x + f_t), \qquad x = M^+ f \\
    z_0 &\mapsto z_0 + V w \text{ with } L f(z_0 + V w, t_0, \theta) = 0, \qquad
    dz = (1 - V K^{-1} L J)\,dz_0 - V K^{-1} L (f_\theta\, d\theta + f_t\, dt_0)

Hairer & Wanner (1996), *Solving ODEs II*, sections VI.1 and VII.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.equations.equations import Equations
from symode.errors import InitialStateError, ModelError
from symode.solvers.options import SolverOptions
from symode.symbolic.derive import Field

Floats = NDArray[np.float64]

#: Newton steps to a consistent start; each is halved while it does not reduce the residual.
ITERATIONS, HALVINGS = 50, 30
#: Ratio of the extreme singular values of K, rows and columns in units of their own, below which
#: the algebraic equations count as dependent: the index is then 2 or more, or undefined.
DEPENDENT = 1e-12
#: States up to which matrices are plain arrays here.
DENSE_UP_TO = 200


def check_pencil(equations: Equations, field: Field) -> None:
    r"""Pass if the pencil :math:`s M - J` can be regular, judged by where its entries are.

    Raises
    ------
    ModelError
        Naming the states that no equation can determine.
    """
    lost = [equations.states[j].name for j, i in enumerate(field.partner) if i < 0]
    if lost:
        rows = [equations.states[i].name for i in equations.algebraic[0]]
        listed = ", ".join(rows) or "none"
        raise ModelError(
            f"The equations do not determine {', '.join(lost)}: the pencil s M - df/dz is singular "
            f"for every s. Equations without a derivative: those of {listed}. Each algebraic state "
            "needs an equation of its own in which it, or a state that takes its place, occurs."
        )


class MassMatrix:
    """M of one model, quadratures included, and what follows from it.

    Parameters
    ----------
    equations
        The model, for its names.
    field
        Its field, with the nonzero entries of M.
    """

    def __init__(self, equations: Equations, field: Field) -> None:
        from scipy.sparse import csr_array

        assert field.mass is not None
        check_pencil(equations, field)
        self.equations, self.field = equations, field
        n = self.n = field.n_states
        jacobian = field.jacobian
        self.places = np.array(jacobian.rows, dtype=int), np.array(jacobian.cols, dtype=int)
        rows, cols, values = zip(*field.mass, strict=True) if field.mass else ((), (), ())
        self.matrix = csr_array(
            (np.array(values, dtype=float), (rows, cols)), shape=(n, n), dtype=float
        )
        held_rows, held_cols = np.unique(rows).astype(int), np.unique(cols).astype(int)
        core = self.matrix[held_rows][:, held_cols].toarray() if field.mass else np.zeros((0, 0))
        u, sizes, vt = np.linalg.svd(core)
        rank = int(np.sum(sizes > 1e-13 * n * sizes.max(initial=0.0)))
        left = _unit_rows(_others(held_rows, n), n)
        right = _unit_rows(_others(held_cols, n), n)
        extra = np.zeros((core.shape[0] - rank, n))
        extra[:, held_rows] = u[:, rank:].T
        pack = csr_array if n > DENSE_UP_TO else np.asarray
        self.left: Any = pack(np.vstack([left, extra]))  # L, shape (k, n)
        extra = np.zeros((core.shape[1] - rank, n))
        extra[:, held_cols] = vt[rank:]
        self.right: Any = pack(np.vstack([right, extra]).T)  # V, shape (n, k)
        inverse = np.zeros((n, n))
        inverse[np.ix_(held_cols, held_rows)] = np.linalg.pinv(core)
        self.inverse: Any = pack(inverse)  # M⁺
        #: States that are found, not given: dJ/dz0 is 0 for them.
        self.found = _others(held_cols, n)

    def at(self, compiled: NativeModel, p: Floats, t: float, z: Floats) -> Point:
        """Return f and its derivatives at a point."""
        values, nnz = compiled.call("jac", t, z, p), self.places[0].size
        matrix: Any
        if self.n <= DENSE_UP_TO:
            matrix = np.zeros((self.n, self.n))
            matrix[self.places] = values[:nnz]
        else:
            from scipy.sparse import csr_array

            matrix = csr_array((values[:nnz], self.places), shape=(self.n, self.n))
        k = _dense(self.left @ matrix @ self.right)
        return Point(self, t, z, compiled.call("rhs", t, z, p), matrix, values[nnz:], k)

    def start(
        self, compiled: NativeModel, p: Floats, t: float, z0: Floats, options: SolverOptions
    ) -> Point:
        """Return the point of consistent values next to z0, see `consistent`."""
        point = self.at(compiled, p, t, self.consistent(compiled, p, t, z0, options))
        point.check_index()
        return point

    def consistent(
        self, compiled: NativeModel, p: Floats, t: float, z0: Floats, options: SolverOptions
    ) -> Floats:
        """Return the consistent values next to z0: what M z0 holds stays, the rest is found.

        Raises
        ------
        InitialStateError
            When they are not found, or, with ``consistent="check"``, when they differ from z0 by
            more than the tolerances. Equations and residuals are named.
        ModelError
            When the algebraic equations do not have index 1 there.
        """
        if not self.left.shape[0]:
            return z0
        atol = np.full(self.n, options.atol.min(initial=1e-300))
        atol[: options.atol.size] = options.atol
        z, residual = z0.copy(), self._residual(compiled, p, t, z0)
        last, least = np.inf, residual
        for _ in range(ITERATIONS):
            if not np.isfinite(residual).all():
                break
            if np.linalg.norm(residual) < np.linalg.norm(least):
                least = residual
            point = self.at(compiled, p, t, z)
            point.check_index()
            move = -(self.right @ np.linalg.solve(point.k, residual))
            size = float(np.max(np.abs(move) / (atol + options.rtol * np.abs(z)), initial=0.0))
            # Down to rounding: the gradient takes the equations to hold exactly.
            if size == 0.0 or (size <= 1e-3 and size >= 0.5 * last):
                return self._checked(z0, z, atol, options)
            last = size
            z, residual = self._damped(compiled, p, t, z, move, residual)
        raise InitialStateError(self._not_found(least, t))

    def _residual(self, compiled: NativeModel, p: Floats, t: float, z: Floats) -> Floats:
        return np.asarray(self.left @ compiled.call("rhs", t, z, p), dtype=float)

    def _damped(
        self, compiled: NativeModel, p: Floats, t: float, z: Floats, move: Floats, before: Floats
    ) -> tuple[Floats, Floats]:
        """Return z moved by a whole Newton step, or the longest half of halves that helps."""
        share, old = 1.0, float(np.linalg.norm(before))
        for _ in range(HALVINGS):
            new = z + share * move
            residual = self._residual(compiled, p, t, new)
            if np.linalg.norm(residual) <= (1.0 - 0.1 * share) * old + 1e-14 * old:
                return new, residual
            share *= 0.5
        # At rounding no step reduces the residual; the caller sees how small the steps are.
        new = z + move
        return new, self._residual(compiled, p, t, new)

    def _checked(self, z0: Floats, z: Floats, atol: Floats, options: SolverOptions) -> Floats:
        if options.consistent == "check":
            moved = np.abs(z - z0) / (atol + options.rtol * np.abs(z))
            worst = [i for i in range(self.equations.n_states) if moved[i] > 10.0]
            if worst:
                names = self.equations.state_names
                listed = ", ".join(f"{names[i]} = {z0[i]:.10g} (found {z[i]:.10g})" for i in worst)
                raise InitialStateError(
                    f"The initial values are not consistent with the algebraic equations: {listed}."
                    ' Correct them, or let them be found with consistent="find".'
                )
        return z

    def _not_found(self, residual: Floats, t: float) -> str:
        names = self.equations.state_names
        share = np.abs(_dense(self.left)) * np.abs(residual)[:, None]
        worst = [i for i in np.argsort(-share.max(axis=0))[:5] if i < len(names)]
        listed = ", ".join(
            f"{share[:, i].max():.3g} in that of {names[i]}"
            for i in worst
            if share[:, i].max() > 0.0
        )
        guess = ", ".join(names[i] for i in self.found if i < len(names))
        return (
            f"No consistent initial values were found at t = {t:g}: the algebraic equations keep "
            f"residuals of {listed}. Give better guesses for {guess or 'the states'} in initial= "
            "or z0=, or values of the other states for which a solution exists."
        )


@dataclass(frozen=True, eq=False)
class Point:
    """f, J and f_t at one point of a model with a mass matrix; k is K = L J V."""

    mass: MassMatrix
    t: float
    z: Floats
    f: Floats
    jacobian: Any
    f_t: Floats
    k: Floats

    def check_index(self) -> None:
        """Pass if K is regular: the system has index 1 here.

        Raises
        ------
        ModelError
            Naming the equations that are dependent, and what they leave open.
        """
        k = self.k
        if not np.isfinite(k).all():
            raise InitialStateError(
                f"The derivatives of the algebraic equations are not finite at t = {self.t:g}."
            )
        rows = np.abs(k).max(axis=1, initial=0.0)
        scaled = k / np.where(rows == 0.0, 1.0, rows)[:, None]
        cols = np.abs(scaled).max(axis=0, initial=0.0)
        scaled = scaled / np.where(cols == 0.0, 1.0, cols)
        if not scaled.size or _plainly_regular(scaled):
            return
        u, sizes, vt = np.linalg.svd(scaled)
        if sizes[-1] > DEPENDENT * sizes[0]:
            return
        names = self.mass.equations.state_names
        equations = _large(np.abs(u[:, -1]) @ np.abs(_dense(self.mass.left)), names)
        states = _large(np.abs(_dense(self.mass.right)) @ np.abs(vt[-1]), names)
        raise ModelError(
            f"The algebraic equations (of {equations}) do not determine {states} at "
            f"t = {self.t:g}: their Jacobian in the algebraic states is singular, so the system "
            "does not have index 1. Differentiate the constraint in time until it holds these "
            "states, or start from values where it does."
        )

    def _open(self, residual: Floats) -> Floats:
        """Return V K⁻¹ residual."""
        return np.asarray(self.mass.right @ np.linalg.solve(self.k, residual), dtype=float)

    def slope(self) -> Floats:
        """Return dz/dt on the manifold."""
        x = self.mass.inverse @ self.f
        if not self.k.size:
            return np.asarray(x, dtype=float)
        moved = self._open(self.mass.left @ (self.jacobian @ x + self.f_t))
        return np.asarray(x - moved, dtype=float)

    def push(self, dz0: Floats, f_along: Floats) -> Floats:
        """Return the tangent of the consistent values: of z0 along dz0, and of f along the rest."""
        if not self.k.size:
            return dz0
        return dz0 - self._open(self.mass.left @ (self.jacobian @ dz0 + f_along))

    def pull(self, lam: Floats) -> tuple[Floats, Floats]:
        r"""Return lam seen from z0, and :math:`\nu = L^\top K^{-\top} V^\top\lambda`.

        A derivative of f in anything else contributes :math:`-\nu^\top f_{(\cdot)}`.
        """
        if not self.k.size:
            return lam.copy(), np.zeros_like(lam)
        nu = self.mass.left.T @ np.linalg.solve(self.k.T, self.mass.right.T @ lam)
        seen = lam - self.jacobian.T @ nu
        seen[self.mass.found] = 0.0
        return seen, np.asarray(nu, dtype=float)


def first_step(point: Point, options: SolverOptions, span: float) -> float:
    """Return a cautious first step size: the slope moves no state by more than one per cent."""
    states = options.atol.size
    scale = options.atol + options.rtol * np.abs(point.z[:states])
    scale[scale == 0.0] = 1.0
    size = float(np.linalg.norm(point.z[:states] / scale))
    rate = float(np.linalg.norm(point.slope()[:states] / scale))
    h = 1e-6 * abs(span) if size < 1e-5 or rate < 1e-5 else 0.01 * size / rate
    return float(np.sign(span) * min(h, abs(span), options.h_max))


def _plainly_regular(matrix: Floats) -> bool:
    """Return whether one solve shows no sign of singularity: cheaper than singular values."""
    try:
        grown = np.linalg.solve(matrix, np.cos(np.arange(1.0, matrix.shape[0] + 1.0)))
    except np.linalg.LinAlgError:
        return False
    return bool(np.max(np.abs(grown)) < 1e-4 / DEPENDENT)


def _dense(matrix: Any) -> Floats:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=float)


def _others(held: NDArray[np.int_], n: int) -> NDArray[np.int_]:
    return np.setdiff1d(np.arange(n), held)


def _unit_rows(places: NDArray[np.int_], n: int) -> Floats:
    rows = np.zeros((places.size, n))
    rows[np.arange(places.size), places] = 1.0
    return rows


def _large(weights: Floats, names: Sequence[str]) -> str:
    """Return the names of the entries that matter in a null vector."""
    weights = weights[: len(names)]
    order = [i for i in np.argsort(-weights)[:6] if weights[i] > 0.1 * weights.max()]
    return ", ".join(names[i] for i in sorted(order))
