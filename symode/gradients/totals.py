r"""Conserved totals as numbers: :math:`W^\top z`, and how W moves with the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.codegen.reference import evaluate
from symode.equations.equations import Equations
from symode.symbolic.conservation import Conserved, conserved_totals
from symode.symbolic.derive import Field, derive_dense

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Singular values below this share of the largest belong to what is conserved.
SAME: Final = 1e-12


@dataclass(frozen=True, eq=False)
class Totals:
    r"""What f conserves: :math:`W^\top z`.

    Parameters
    ----------
    w
        W, shape ``(n, c)``.
    left_out
        The rows of f that it makes redundant. Shape ``(c,)``.
    slopes
        :math:`dW/d\theta_j`, shape ``(m, n, c)``.
    formulas
        {place of a state: its coefficient} of each total, where they were found symbolically.
    """

    w: Floats
    left_out: Ints
    slopes: Floats
    formulas: tuple[Mapping[int, sp.Expr], ...] | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.w.shape[1])

    def same_as(self, other: Totals) -> bool:
        """Whether both are combinations of each other."""
        if self.count != other.count:
            return False
        if not self.count:
            return True
        joint = np.linalg.svd(np.hstack([self.w, other.w]), compute_uv=False)
        return bool(np.count_nonzero(joint > 1e-9 * joint[0]) == self.count)

    def expressions(self, states: tuple[sp.Symbol, ...]) -> tuple[sp.Expr, ...]:
        """Return the totals as SymPy expressions; with numbers where only those are known."""
        if self.formulas is None:
            return tuple(
                sp.Add(*(sp.Float(c, 6) * s for c, s in zip(column, states, strict=True) if c))
                for column in self.w.T
            )
        result = []
        for k, formula in enumerate(self.formulas):
            terms = []
            for i, c in formula.items():
                plain = not c.atoms(sp.Dummy)
                terms.append((c if plain else sp.Float(self.w[i, k], 6)) * states[i])
            result.append(sp.Add(*terms))
        return tuple(result)


class TotalsOf:
    """Finds the totals of one model at given parameters.

    Those of the equations' structure, where they are all that random states show; else those of
    the random states: a model may conserve something by an identity that no structure shows.

    Parameters
    ----------
    equations, field
        The model.
    native
        With kernels "rhs" and "dfdtheta".
    """

    def __init__(self, equations: Equations, field: Field, native: NativeModel) -> None:
        self.equations, self.field, self.native = equations, field, native
        #: By which parameters are 0: what the structure conserves; or totals that do not depend on
        #: parameters; or None, for those found anew at all parameters.
        self._known: dict[bytes, Conserved | Totals | None] = {}

    def __call__(self, theta: Floats, t: float) -> Totals:
        """Return what f conserves at these parameters; time matters where f depends on it."""
        mask = (theta == 0.0).tobytes()
        if mask not in self._known:
            self._known[mask] = self._find(theta, t)
        known = self._known[mask]
        if known is None:
            return self._sample(theta, t, slopes=True)
        return known if isinstance(known, Totals) else self._numbers(known, theta)

    def _find(self, theta: Floats, t: float) -> Conserved | Totals | None:
        zeros = np.flatnonzero(theta == 0.0)
        found = conserved_totals(self.field, self.equations.parameters, zeros.tolist())
        rng = np.random.default_rng(1)
        elsewhere = np.where(theta == 0.0, 0.0, np.exp(rng.uniform(-1.0, 1.0, theta.size)))
        general = self._sample(elsewhere, t)
        if general.count == found.count:
            return self._numbers(found, theta) if found.constant else found
        return general if general.same_as(self._sample(theta, t)) else None

    def _numbers(self, found: Conserved, theta: Floats) -> Totals:
        n, m, c = self.equations.n_states, theta.size, found.count
        rows = np.asarray(evaluate(derive_dense(found.graph, 0, m), 0.0, (), theta), dtype=float)
        rows = rows.reshape(n, c, m + 2)
        w, slopes = rows[:, :, 0].copy(), rows[:, :, 1 : m + 1].transpose(2, 0, 1).copy()
        return Totals(w, _left_out(w), slopes, found.coefficients)

    def _sample(self, theta: Floats, t: float, slopes: bool = False) -> Totals:
        """Return what f conserves at 2n + 2 random states."""
        n, m, rng = self.equations.n_states, theta.size, np.random.default_rng(0)
        p, states = self.native.pack(theta), []
        speeds: list[Floats] = []
        for _ in range(20 * n + 20):
            z = np.exp(rng.uniform(-1.0, 1.0, n))
            speed = self.native.call("rhs", t, z, p)
            if np.isfinite(speed).all():
                states.append(z)
                speeds.append(speed)
            if len(speeds) == 2 * n + 2:
                break
        if not speeds:
            return Totals(np.zeros((n, 0)), np.empty(0, dtype=np.int64), np.zeros((m, n, 0)))
        f = np.array(speeds).T
        # Rows of one size: slow states count as much as fast ones.
        sizes = np.abs(f).max(axis=1)
        sizes[sizes == 0.0] = 1.0
        u, s, _ = np.linalg.svd(f / sizes[:, None])
        rank = int(np.count_nonzero(s > SAME * s[0])) if s[0] else 0
        w = np.ascontiguousarray(u[:, rank:] / sizes[:, None])
        w /= np.linalg.norm(w, axis=0)
        dw = np.zeros((m, n, n - rank))
        if slopes and rank < n:
            # From W'f = 0: (dW/dtheta)' f = -W' f_theta at every state.
            found = [self.native.call("dfdtheta", t, z, p).reshape(n, m) for z in states]
            right = -np.einsum("knm,nc->kmc", np.array(found), w).reshape(len(states), -1)
            solved = np.linalg.lstsq((f / sizes[:, None]).T, right, rcond=SAME)[0]
            dw = (solved / sizes[:, None]).reshape(n, m, -1).transpose(1, 0, 2)
        return Totals(w, _left_out(w), dw)


def _left_out(w: Floats) -> Ints:
    """Return the rows of f that are combinations of the others, one for each total."""
    if not w.shape[1]:
        return np.empty(0, dtype=np.int64)
    from scipy.linalg import qr

    _, _, pivots = qr(w.T / np.linalg.norm(w, axis=0)[:, None], pivoting=True, mode="economic")
    return np.sort(pivots[: w.shape[1]]).astype(np.int64)
