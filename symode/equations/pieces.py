"""Functions of time made of polynomials, and families of them: the numbers of tables.

Nothing of SymPy here: stored machine code is loaded without it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.errors import OptionError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pieces:
    r"""A function of time made of polynomials, :math:`\sum_d c_{id} (t - b_i)^d`.

    The first piece is before all breaks, the last after them. At a break itself the piece before
    it holds.

    Parameters
    ----------
    breaks
        b, increasing. Shape ``(k,)``.
    coefficients
        c, by piece; the first piece counts from 0. Shape ``(k + 1, degree + 1)``.
    limits
        The times between which solves may use it.
    factors
        What each column is to be multiplied by: derivatives stay exact in any arithmetic. 1 by
        default.
    """

    breaks: Floats
    coefficients: Floats
    limits: tuple[float, float] = (-np.inf, np.inf)
    factors: tuple[int, ...] = ()

    @cached_property
    def rows(self) -> Floats:
        """Coefficients times their factors."""
        c = self.coefficients
        return c * np.array(self.factors) if self.factors else c

    def derivative(self) -> Pieces:
        """Return the derivative, almost everywhere."""
        c = self.coefficients
        if c.shape[1] == 1:
            return Pieces(self.breaks, np.zeros_like(c), self.limits)
        old = self.factors or (1,) * c.shape[1]
        factors = tuple(d * old[d] for d in range(1, c.shape[1]))
        return Pieces(self.breaks, c[:, 1:], self.limits, factors)

    @property
    def origins(self) -> Floats:
        """From where each piece counts. Shape ``(k + 1,)``."""
        return np.concatenate([[0.0], self.breaks])

    @cached_property
    def corners(self) -> Floats:
        """Breaks at which the function jumps or has a kink: solvers end a step there."""
        s = np.diff(self.origins)
        s[:1] = self.breaks[:1]
        before, after = self.rows[:-1], self.rows[1:]
        powers = s[:, None] ** np.arange(before.shape[1])
        ends = (before * powers).sum(axis=1)
        size = np.abs(before * powers).sum(axis=1) + np.abs(after[:, 0])
        found = np.abs(ends - after[:, 0]) > 1e-13 * size
        if before.shape[1] > 1:
            d = np.arange(1, before.shape[1])
            terms = before[:, 1:] * d * powers[:, :-1]
            slopes = np.abs(terms).sum(axis=1) + np.abs(after[:, 1])
            found |= np.abs(terms.sum(axis=1) - after[:, 1]) > 1e-9 * slopes
        result: Floats = self.breaks[found]
        return result


def check_span(name: str, pieces: Pieces, t0: float, t1: float) -> None:
    """Raise unless a table covers a span.

    Raises
    ------
    OptionError
        Naming the input and the time that it does not cover.
    """
    first, last = pieces.limits
    low, high = min(t0, t1), max(t0, t1)
    if low < first or high > last:
        bad, reach = low if low < first else high, f"starts at t = {first:g}"
        if low >= first:
            reach = f"ends at t = {last:g}"
        raise OptionError(
            f"The table of {name} {reach}, but the solve reaches t = {bad:g}. Add rows, or let the "
            "end values hold: outside='hold'."
        )


@dataclass(frozen=True, eq=False)
class TableFamily:
    """Functions of time of which an index chooses one: what the compiled operation evaluates.

    Parameters
    ----------
    members
        In the order of the index.
    """

    members: tuple[Pieces, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all numbers."""
        sha = hashlib.sha256()
        for pieces in self.members:
            sha.update(repr((pieces.rows.shape, pieces.limits)).encode())
            sha.update(pieces.breaks.tobytes() + pieces.rows.tobytes())
        return sha.hexdigest()

    @cached_property
    def is_zero(self) -> bool:
        """Whether all are 0 at all times."""
        return not any(pieces.rows.any() for pieces in self.members)

    @cached_property
    def slope(self) -> TableFamily:
        """Return the derivatives of all."""
        return TableFamily(tuple(pieces.derivative() for pieces in self.members))

    @cached_property
    def degree(self) -> int:
        """Highest degree, at least 1."""
        return max([1, *(int(pieces.coefficients.shape[1]) - 1 for pieces in self.members)])

    @cached_property
    def arrays(self) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Return where the breaks of each member start, all breaks, and all coefficients."""
        starts = np.cumsum([0, *(p.breaks.size for p in self.members)])
        breaks = np.concatenate([p.breaks for p in self.members])
        rows = [
            np.pad(p.rows, ((0, 0), (0, self.degree + 1 - p.rows.shape[1]))) for p in self.members
        ]
        return starts.astype(np.int64), breaks, np.concatenate(rows)

    def member(self, k: Any) -> Pieces:
        """Return the member of an index, which may be any number: the nearest there is."""
        last = len(self.members) - 1
        return self.members[int(min(float(k), last)) if float(k) > 0.0 else 0]

    def __call__(self, x: Any, k: Any, number: Any = None, real: Any = None) -> Any:
        """Return the values at times x, in any arithmetic; ``number`` makes its numbers."""
        pieces = self.member(np.ravel(np.real(k))[0] if isinstance(k, np.ndarray) else k)
        if number is not None:
            at = int(np.searchsorted(pieces.breaks, float(x), side="left"))
            s, total = x - number(float(pieces.origins[at])), number(0.0)
            factors = pieces.factors or (1,) * pieces.rows.shape[1]
            for c, factor in zip(pieces.coefficients[at][::-1], factors[::-1], strict=True):
                total = total * s + factor * number(float(c))
            return total
        at = np.searchsorted(pieces.breaks, np.real(x), side="left")
        s, rows = x - pieces.origins[at], pieces.rows[at]
        total = rows[..., -1] + 0.0 * s
        for d in range(rows.shape[-1] - 2, -1, -1):
            total = total * s + rows[..., d]
        return total

    def __hash__(self) -> int:
        """Hash the numbers."""
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        """Compare the numbers."""
        return isinstance(other, TableFamily) and other.digest == self.digest

    def __repr__(self) -> str:
        """Name the numbers, for digests of graphs."""
        return f"TableFamily({self.digest})"
