"""VectorLoss: several losses of one trajectory, differentiated together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.equations.loss import (
    LeastSquares,
    Loss,
    LossLike,
    ObservationGroup,
    resolve_loss,
    resolve_observables,
)
from symode.errors import LossError


@dataclass(frozen=True)
class Outer:
    """A loss as a function of rows: the first of them, their symbols, and the function."""

    name: str
    first: int
    symbols: tuple[sp.Symbol, ...]
    expression: sp.Expr


@dataclass(frozen=True, eq=False)
class Rows:
    """Losses resolved for a model: all observations in one loss, and whose they are.

    Parameters
    ----------
    names
        One for each row.
    loss
        Their sum: times, groups and data of all.
    row
        The row of each observation, group by group as in ``loss``. Shape ``(K,)``.
    terminal, running
        Row and expression of each terminal and running cost.
    outers
        Where some of the losses asked for are composites: all of them, as functions of the rows,
        which are then their parts. None where the rows are the losses.
    """

    names: tuple[str, ...]
    loss: Loss
    row: NDArray[np.int64]
    terminal: tuple[tuple[int, sp.Expr], ...]
    running: tuple[tuple[int, sp.Expr], ...]
    outers: tuple[Outer, ...] | None = None

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the losses that were asked for."""
        return self.names if self.outers is None else tuple(o.name for o in self.outers)

    def loss_of(self, i: int) -> Loss:
        """Return the loss of one row by itself."""
        groups, at = [], 0
        for group in self.loss.groups:
            mine = self.row[at : at + group.times.size] == i
            at += group.times.size
            if mine.any():
                groups.append(replace(group, times=group.times[mine], data=group.data[mine]))
        terminal, running = dict(self.terminal), dict(self.running)
        return Loss(terminal.get(i), running.get(i), groups or None)


class VectorLoss:
    r"""Several losses :math:`J_1, \dots, J_r`, whose gradients are the rows of a Jacobian.

    Parameters
    ----------
    losses
        {name: loss}, or losses, which are then called "0", "1", ...

    Raises
    ------
    LossError
        When there are none.

    Examples
    --------
    >>> x, k = sp.symbols("x k")
    >>> VectorLoss({"end": Loss(terminal=x), "mean": Loss(running=x)})
    VectorLoss(end, mean)
    """

    def __init__(self, losses: Mapping[Any, LossLike] | Iterable[LossLike]) -> None:
        if not isinstance(losses, Iterable):
            raise LossError(
                f"A VectorLoss is made of several losses, {{name: loss}} or a list; got {losses!r}."
            )
        pairs = (
            [(str(name), loss) for name, loss in losses.items()]
            if isinstance(losses, Mapping)
            else [(str(i), loss) for i, loss in enumerate(losses)]
        )
        if not pairs:
            raise LossError("A VectorLoss needs at least one loss.")
        self.names = tuple(name for name, _ in pairs)
        self._losses: tuple[LossLike, ...] = tuple(loss for _, loss in pairs)

    @classmethod
    def residuals(cls, loss: LeastSquares) -> VectorLoss:
        r"""Return the residuals :math:`\sqrt{w_{ij}}\,(h_j(z(t_i)) - d_{ij})` of least squares.

        One row for each value that is not missing, time by time; their squares add up to the loss.

        Examples
        --------
        >>> from symode.equations.equations import Equations
        >>> x, k = sp.symbols("x k")
        >>> decay = Equations((x,), (-k * x,), (k,), sp.Symbol("t"))
        >>> VectorLoss.residuals(LeastSquares([1.0, 2.0], [[0.5], [0.3]])).resolve(decay).names
        ('x at 1', 'x at 2')
        """
        return _Residuals(loss)

    @classmethod
    def each(cls, loss: LossLike) -> VectorLoss:
        """Return the observations of a loss, one row for each, in the order they were given.

        Examples
        --------
        >>> from symode.equations.equations import Equations
        >>> x, k = sp.symbols("x k")
        >>> decay = Equations((x,), (-k * x,), (k,), sp.Symbol("t"))
        >>> VectorLoss.each(Loss(observations={1.0: x, 2.0: k * x})).resolve(decay).names
        ('x at 1', 'k*x at 2')
        """
        return _Each(loss)

    def resolve(self, equations: Equations) -> Rows:
        """Return the rows for these equations.

        Raises
        ------
        LossError
            When a loss does not fit the model.
        """
        resolved = [resolve_loss(loss, equations) for loss in self._losses]
        groups: list[ObservationGroup] = []
        names: list[str] = []
        outers, row, places = [], [], []
        terminal: list[tuple[int, sp.Expr]] = []
        running: list[tuple[int, sp.Expr]] = []
        for name, loss in zip(self.names, resolved, strict=True):
            first = len(names)
            symbols = loss.symbols or (sp.Dummy(name),)
            outers.append(Outer(name, first, symbols, loss.outer or symbols[0]))
            names += [name] if loss.outer is None else [f"{name}: {s}" for s in symbols]
            row.append(loss.row + first)
            places.append(loss.places + sum(g.times.size for g in groups))
            groups += loss.groups
            terminal += [(r + first, e) for r, e in loss.terminals]
            running += [(r + first, e) for r, e in loss.runnings]
        whole = Loss(
            terminal=sp.Add(*(e for _, e in terminal)) if terminal else None,
            running=sp.Add(*(e for _, e in running)) if running else None,
            observations=groups or None,
        )
        whole.places = np.concatenate(places).astype(np.int64)
        mixed = any(loss.outer is not None for loss in resolved)
        return Rows(
            tuple(names),
            whole,
            np.concatenate(row).astype(np.int64),
            tuple(terminal),
            tuple(running),
            tuple(outers) if mixed else None,
        )

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:6])
        more = f", and {len(self.names) - 6} more" if len(self.names) > 6 else ""
        return f"{type(self).__name__.strip('_')}({shown}{more})"


class _Each(VectorLoss):
    """The observations of a loss."""

    def __init__(self, loss: LossLike) -> None:
        self.names = ()
        self._loss = loss

    def resolve(self, equations: Equations) -> Rows:
        loss = resolve_loss(self._loss, equations)
        if loss.terminal is not None or loss.running is not None or not loss.groups:
            raise LossError(
                "The rows are observations: leave terminal= and running= out of the loss, or pass "
                "them as losses of their own, in a VectorLoss."
            )
        names = [""] * loss.times.size
        at = 0
        for group in loss.groups:
            for t in group.times:
                names[int(loss.places[at])] = f"{group.expression} at {t:g}"
                at += 1
        return Rows(tuple(names), loss, loss.places, (), ())


class _Residuals(VectorLoss):
    """The residuals of least squares."""

    def __init__(self, loss: LeastSquares) -> None:
        if not isinstance(loss, LeastSquares):
            raise LossError(f"Residuals are those of a LeastSquares; got {type(loss).__name__}.")
        self.names = ()
        self._loss = loss

    def resolve(self, equations: Equations) -> Rows:
        expressions = resolve_observables(equations, self._loss.observables)
        # It checks the shapes, and names what does not fit.
        self._loss.resolve(equations)
        times, values = np.asarray(self._loss.times), np.asarray(self._loss.values)
        roots = np.sqrt(np.asarray(self._loss.weights))
        d, w = sp.Dummy("d"), sp.Dummy("w")
        known = ~np.isnan(values)
        place = np.cumsum(known).reshape(known.shape) - 1
        names = [""] * int(known.sum())
        groups, row = [], []
        labels = _labels(self._loss.observables, expressions)
        for j, expression in enumerate(expressions):
            at = np.flatnonzero(known[:, j])
            if not at.size:
                continue
            data = np.column_stack([values[at, j], roots[at, j]])
            groups.append(ObservationGroup(w * (expression - d), times[at], (d, w), data))
            row.append(place[at, j])
            for i in at:
                names[int(place[i, j])] = f"{labels[j]} at {times[i]:g}"
        loss = Loss(observations=groups).resolve(equations)
        return Rows(tuple(names), loss, np.concatenate(row).astype(np.int64), (), ())


def _labels(observables: Any, expressions: Sequence[sp.Expr]) -> list[str]:
    keys = observables if isinstance(observables, Mapping) else expressions
    return [str(key) for key in keys]
