"""Composite: a function of several losses of one trajectory, differentiated as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.equations.loss import (
    Loss,
    LossLike,
    ObservationGroup,
    expression_of,
    symbols_of,
)
from symode.equations.vector_loss import Rows, VectorLoss
from symode.errors import LossError


class JointLoss(Loss):
    r"""A composite resolved for a model: :math:`J = g(v_1, \dots, v_r, \theta)`, each v a loss.

    ``groups`` are the observations of all parts, ``row`` whose they are. There is no one terminal
    and no one running loss: ``terminals`` and ``runnings`` hold those of the parts.

    Parameters
    ----------
    rows
        The parts.
    symbols
        What stands for each part in ``outer``.
    outer
        g, in these symbols and the parameters.
    """

    outer: sp.Expr

    def __init__(self, rows: Rows, symbols: tuple[sp.Symbol, ...], outer: sp.Expr) -> None:
        self.groups, self.places = rows.loss.groups, rows.loss.places
        self.names = rows.names
        self.__dict__["row"] = rows.row
        self.symbols, self.outer = symbols, outer
        self.__dict__["n_parts"] = len(symbols)
        self._terminals, self._runnings = rows.terminal, rows.running

    @property
    def terminals(self) -> tuple[tuple[int, sp.Expr], ...]:
        """Part and expression of each terminal loss."""
        return self._terminals

    @property
    def runnings(self) -> tuple[tuple[int, sp.Expr], ...]:
        """Part and expression of each running cost."""
        return self._runnings

    def resolve(self, equations: Equations) -> Loss:
        """Return this loss: its parts were checked when it was made."""
        return self

    def parts(self) -> Rows:
        """Return the parts, one row for each."""
        whole = Loss(
            sp.Add(*(e for _, e in self.terminals)) if self.terminals else None,
            sp.Add(*(e for _, e in self.runnings)) if self.runnings else None,
            self.groups or None,
        )
        return Rows(self.names, whole, self.row, self.terminals, self.runnings)

    def __getattr__(self, name: str) -> Any:
        if name in ("terminal", "running"):
            # Whoever takes a loss for a sum of its terms would be wrong about this one.
            raise LossError(
                f"A Composite is a function of {len(self.symbols)} losses, not a sum: it has no "
                f"{name} loss of its own, and cannot be used here. Use a Loss."
            )
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"Composite({self.outer}; {', '.join(self.names)})"


@dataclass(frozen=True, eq=False)
class _Pair:
    """One expression at one time."""

    time: Any
    expression: Any

    def resolve(self, equations: Equations) -> Loss:
        return Loss(observations=[(self.time, self.expression)]).resolve(equations)


class Composite:
    r"""A function of several losses: :math:`J = g(v_1, \dots, v_r, \theta)`.

    Each part :math:`v_k` is a loss of the trajectory; g is any expression of the parts and the
    parameters: a ratio of the states at two times, the logarithm of a sum of squares, a
    correlation, the largest of several values. By the chain rule

    .. math:: dJ = \sum_k \frac{\partial g}{\partial v_k}\,dv_k
                   + \frac{\partial g}{\partial\theta}\,d\theta,

    and all :math:`\partial g/\partial v_k` are known once the forward pass has ended: they weight
    the terms of the parts, and one backward pass serves them all. Every gradient method and solver
    takes it, and Hessians do, the second derivatives of g included.

    Parameters
    ----------
    expression
        g, in the symbols of the parts and in parameters of the model.
    parts
        {symbol or its name: loss}. A pair ``(time, expression)`` is short for a loss of this one
        observation; a tuple of symbols stands for the rows of a `VectorLoss` or of a list of
        losses.

    Raises
    ------
    LossError
        When a part is not in the expression, or the expression holds what is neither part nor
        parameter.

    Examples
    --------
    >>> import symode
    >>> x, k, early, late = sp.symbols("x k early late")
    >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    >>> decades = Composite(sp.log(early / late, 10), {early: (1.0, x), late: (4.0, x)})
    >>> gradient = model.gradient(decades, (0, 4), theta=[0.7])
    >>> round(gradient.value, 5), round(gradient.theta["k"], 5)  # 3 k / ln 10, 3 / ln 10
    (0.91202, 1.30288)
    """

    def __init__(self, expression: Any, parts: Mapping[Any, Any]) -> None:
        if not isinstance(parts, Mapping) or not parts:
            raise LossError(
                "The parts of a Composite are a mapping {symbol: loss} of one or more; got "
                f"{parts!r}."
            )
        self.expression = expression_of(expression, "expression")
        known = {}
        for symbol in symbols_of(self.expression):
            if symbol.name in known:
                raise LossError(
                    f"The expression of the Composite holds two symbols named {symbol.name}: those "
                    "with other assumptions are other symbols."
                )
            known[symbol.name] = symbol
        self.symbols: tuple[sp.Symbol, ...] = ()
        self._losses: list[tuple[int, Any]] = []
        for key, part in parts.items():
            keys = key if isinstance(key, tuple | list) else [key]
            found = tuple(self._symbol(k, known) for k in keys)
            self.symbols += found
            if isinstance(key, tuple | list) or isinstance(part, VectorLoss):
                self._losses.append((len(found), _vector(part)))
            else:
                self._losses.append((1, VectorLoss({key: _loss(part)})))
        if len(set(self.symbols)) < len(self.symbols):
            raise LossError("Two parts of the Composite have the same symbol.")

    def _symbol(self, key: Any, known: Mapping[str, sp.Symbol]) -> sp.Symbol:
        symbol = known.get(str(key))
        if symbol is None or (isinstance(key, sp.Symbol) and key != symbol):
            raise LossError(
                f"The part {key} is not in the expression {self.expression}, which holds "
                f"{', '.join(sorted(known)) or 'no symbol'}. Symbols with other assumptions are "
                "other symbols."
            )
        return symbol

    def resolve(self, equations: Equations) -> JointLoss:
        """Return the loss for these equations.

        Raises
        ------
        LossError
            When a part does not fit the model, or a symbol of the expression is unknown.
        """
        taken = {*equations.states, *equations.parameters, equations.time}
        clash = [s for s in self.symbols if s in taken]
        if clash:
            raise LossError(
                f"The part {clash[0]} of the Composite has the symbol of a state, a parameter or "
                "the time. Give it one of its own."
            )
        strangers = symbols_of(self.expression) - {*self.symbols, *equations.parameters}
        if strangers:
            raise LossError(
                f"The expression of the Composite holds {', '.join(sorted(map(str, strangers)))}: "
                f"neither one of its parts ({', '.join(map(str, self.symbols))}) nor one of the "
                f"parameters ({', '.join(equations.parameter_names) or 'none'}). States and time "
                "belong into the parts."
            )
        resolved = []
        for count, vector in self._losses:
            rows = vector.resolve(equations)
            if len(rows.names) != count or rows.outers is not None:
                raise LossError(
                    f"{len(rows.names)} losses stand for {count} symbols in the Composite."
                    if rows.outers is None
                    else "The parts of a Composite are losses, not Composites: put the inner "
                    "expression into the outer one."
                )
            resolved.append(rows)
        return JointLoss(_joined(resolved, self.symbols), self.symbols, self.expression)

    def __repr__(self) -> str:
        return f"Composite({self.expression}; {', '.join(map(str, self.symbols))})"


def _joined(parts: Sequence[Rows], symbols: Sequence[sp.Symbol]) -> Rows:
    """Return the rows of all, one after another; observations in the order they were given."""
    groups: list[ObservationGroup] = []
    row, places, terminal, running = [], [], [], []
    rows = observations = 0
    for part in parts:
        groups += part.loss.groups
        row.append(part.row + rows)
        places.append(part.loss.places + observations)
        terminal += [(i + rows, e) for i, e in part.terminal]
        running += [(i + rows, e) for i, e in part.running]
        rows, observations = rows + len(part.names), observations + part.row.size
    whole = copy(parts[0].loss)
    whole.groups, whole.places = tuple(groups), _integers(places)
    names = tuple(map(str, symbols))
    return Rows(names, whole, _integers(row), tuple(terminal), tuple(running))


def _integers(arrays: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, dtype=np.int64), *arrays]).astype(np.int64)


def _loss(part: Any) -> LossLike:
    """Return a part as a loss: a pair is an observation."""
    if isinstance(part, tuple | list) and len(part) == 2 and not hasattr(part[0], "resolve"):
        return _Pair(*part)
    result: LossLike = part
    return result


def _vector(part: Any) -> VectorLoss:
    """Return what stands for several symbols as a vector of losses."""
    if isinstance(part, VectorLoss):
        return part
    if isinstance(part, Mapping) or not isinstance(part, Iterable):
        raise LossError(
            "A tuple of symbols stands for the rows of a VectorLoss or for a list of losses; got "
            f"{part!r}."
        )
    return VectorLoss([_loss(entry) for entry in part])
