"""Stabilised explicit tableaus: many stages, chosen step by step, for mildly stiff problems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from symode.errors import TableauError
from symode.solvers.conditions import Coefficients, check_weights, order_annihilated
from symode.solvers.trees import rooted_trees, stage_weights

Array = NDArray[np.float64]

#: The cubic through both ends: coefficients of s, s² and s³ for each row.
HERMITE = np.array([[1.0, -2.0, 1.0], [0.0, 3.0, -2.0], [0.0, -1.0, 1.0]])
HERMITE.setflags(write=False)
#: Points of the negative real axis where stability is checked, for each member.
POINTS = 400
#: Largest |R| allowed between the origin's neighbourhood and the end of the stability interval.
DAMPING = 0.96


@dataclass(frozen=True, eq=False, repr=False)
class ChebyshevTableau(Coefficients):
    r"""A family of explicit methods, one for each number of stages s, of one order.

    A three-term recurrence carries the state over the first s - 4 stages, at a cost in memory of
    three vectors whatever s; four stages finish the step and give it its order:

    .. math::
        Y_0 &= z, \qquad Y_1 = z + h m_0 f(Y_0), \\
        Y_{j+1} &= p_j Y_j + (1 - p_j) Y_{j-1} + h m_j f(Y_j), \qquad j < s - 4 \\
        G_i &= Y_{s-4} + h \sum_{l<i} a_{il} f(G_l), \qquad
        z^+ = Y_{s-4} + h \sum_i b_i f(G_i) \\
        \mathrm{error} &= h \sum_{i \le 4} e_i f(G_i) + h e_5 f(z^+)

    The stability function is :math:`|R| \le 0.96` on :math:`[-l_s, -1]` with l of about 0.35 s².
    The interpolant is the cubic through both ends, in the rows f(z), :math:`(z^+ - z)/h`,
    :math:`f(z^+)`.

    Parameters
    ----------
    name
        Lower case; what `get_method` finds it by.
    order, embedded_order
        Order of the step; the error estimate is of size h**(embedded_order + 1).
    sizes
        Number of stages of each member, growing. Shape ``(Q,)``.
    flow
        For each stage of each recurrence p, m and the time of its argument in units of the step,
        all members one after the other. Shape ``(sum(sizes - 4), 3)``.
    a, b, c, e
        The four stages at the end, with their times. Shapes ``(Q, 4, 4)``, ``(Q, 4)``, ``(Q, 4)``,
        ``(Q, 5)``.
    limit
        End of the real stability interval. Shape ``(Q,)``.
    dense_order
        Global order of the interpolant, 3.
    source
        Citation.

    Raises
    ------
    TableauError
        A shape, an order condition (all rooted trees up to the order stated, for every member) or
        the stability on the interval is wrong.

    Notes
    -----
    Arrays are read-only: a kernel compiled for writable arrays needs a copy.
    """

    implicit: ClassVar[bool] = False
    bounds_spectrum: ClassVar[bool] = True
    #: Rows of the interpolant: both slopes and the mean slope between them.
    n_stages: ClassVar[int] = 3

    name: str
    order: int
    embedded_order: int
    sizes: Array
    flow: Array
    a: Array
    b: Array
    c: Array
    e: Array
    limit: Array
    dense_order: int
    source: str

    def __repr__(self) -> str:
        return (
            f"ChebyshevTableau({self.name!r}, order {self.order}({self.embedded_order}), "
            f"{int(self.sizes[0])} to {int(self.sizes[-1])} stages)"
        )

    @property
    def dense(self) -> Array:
        """Weights of the interpolant's rows: ``b_i(s) = sum_j dense[i, j] * s**(j + 1)``."""
        return HERMITE

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each member begins in ``flow``. Shape ``(Q + 1,)``."""
        return np.concatenate([[0], np.cumsum(self.sizes.astype(np.int64) - 4)])

    def __post_init__(self) -> None:
        self.freeze()
        q = len(self.sizes)
        self.require_shape(a=(q, 4, 4), b=(q, 4), c=(q, 4), e=(q, 5), limit=(q,))
        self.require_shape(flow=(int(self.starts[-1]), 3))
        for i in range(q):
            self._check(i)

    def runge_kutta(self, i: int) -> tuple[Array, Array, Array]:
        """Return member i as a Runge-Kutta method with s + 1 stages, the last the slope of z+.

        Returns
        -------
        a, c
            Shapes ``(s + 1, s + 1)``, ``(s + 1,)``. The weights of the step are the last row.
        e
            Error weights. Shape ``(s + 1,)``.
        """
        s, flow = int(self.sizes[i]), self.flow[self.starts[i] : self.starts[i + 1]]
        rows = np.zeros((s + 1, s + 1))
        for j, (p, m, _) in enumerate(flow):
            rows[j + 1] = p * rows[j] + (1.0 - p) * rows[max(j - 1, 0)]
            rows[j + 1, j] += m
        first = s - 4
        for k in range(1, 4):
            rows[first + k] = rows[first]
            rows[first + k, first : first + k] += self.a[i, k, :k]
        rows[s] = rows[first]
        rows[s, first:s] += self.b[i]
        e = np.zeros(s + 1)
        e[first:] = self.e[i]
        return rows, np.concatenate([flow[:, 2], self.c[i], [1.0]]), e

    def stability_function(self, i: int, z: Array) -> Array:
        """Return R(z) of member i; z = h λ, of any shape."""
        flow = self.flow[self.starts[i] : self.starts[i + 1]]
        before, y = np.ones_like(z), np.ones_like(z)
        for p, m, _ in flow:
            before, y = y, p * y + (1.0 - p) * before + m * z * y
        slopes: list[Array] = []
        for k in range(4):
            slopes.append(z * (y + sum(self.a[i, k, j] * slopes[j] for j in range(k))))
        total: Array = y + sum(self.b[i, k] * slopes[k] for k in range(4))
        return total

    def _check(self, i: int) -> None:
        rows, c, e = self.runge_kutta(i)
        self.require_equal("c = row sums", c, rows.sum(axis=1), np.abs(rows).sum(axis=1))
        trees = rooted_trees(max(self.order, self.dense_order))
        phi = stage_weights(trees, rows)
        ends = np.eye(len(rows))[[0, -1]]
        dense = np.outer(ends[0], self.dense[0]) + np.outer(rows[-1], self.dense[1])
        dense += np.outer(ends[1], self.dense[2])
        check_weights(self, phi, self.order, rows[-1], dense, self.dense_order)
        found = order_annihilated(e, phi, self.order)
        if found != self.embedded_order:
            raise TableauError(
                f"{self.name}: the error weights of {int(self.sizes[i])} stages are of order "
                f"{found}, expected {self.embedded_order}."
            )
        end = float(self.limit[i])
        # Denser towards the origin, where R oscillates fastest.
        z = -end * np.sin(np.linspace(0.0, np.pi / 2, POINTS)) ** 2
        growth = np.abs(self.stability_function(i, z))
        if not (growth.max() <= 1.0 + 1e-12 and growth[z < -min(4.0, 0.5 * end)].max() <= DAMPING):
            raise TableauError(
                f"{self.name}: |R| of {int(self.sizes[i])} stages reaches {growth.max():.4g} "
                f"within {end:.4g} of the origin."
            )
