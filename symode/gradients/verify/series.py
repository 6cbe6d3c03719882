r"""Taylor series of a graph in arbitrary precision, with derivatives in chosen directions.

Every value is a dual number (value, tangents), every node a power series of such numbers in time.
Sums and products follow Cauchy's rule, and a function :math:`y = g(x)` its derivative,

.. math:: k\,y_k = \sum_{j=1}^{k} j\,x_j\, d_{k-j}, \qquad d = g'(x),

where d is one more node of the graph. Nothing here uses the tangent or adjoint sweeps, which the
results judge. The digits are those of Python's own ``decimal``: 16 times as fast as mpmath's
numbers at 45 digits; functions of the leading coefficients come from mpmath.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal, getcontext
from functools import lru_cache
from typing import Any, Final

import mpmath
import numpy as np
from numpy.typing import NDArray

from symode.codegen.arithmetic import mpmath_arithmetic
from symode.symbolic.graph import BOOLEAN, LEAVES, Builder, Graph
from symode.symbolic.rules import scaled_partial

Numbers = NDArray[Any]

ARITHMETIC: Final = frozenset({"add", "sub", "neg", "mul", "mul0", "div", "div0", "slope", "abs"})
#: Operations with a kink or a jump: a series on one side says nothing of the other.
KINKS: Final = frozenset({"abs", "max", "min", "floor", "select", "table"}) | BOOLEAN
#: Functions without a series here, where their argument moves.
OPAQUE: Final = frozenset({"gamma", "loggamma", "polygamma"})


class NoSeriesError(Exception):
    """The graph has no Taylor series here; the text says why, as the end of a sentence."""


def precision(digits: int) -> Context:
    """Return a decimal context that signals nothing: infinities and NaN are looked for instead."""
    return Context(
        prec=digits, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[]
    )  # fmt: skip


def number(value: Any) -> Decimal:
    """Return a double, a fraction or an mpmath number as a decimal of the current precision."""
    if hasattr(value, "_mpf_"):
        return +Decimal(mpmath.libmp.to_str(value._mpf_, _digits()))
    if hasattr(value, "denominator") and not isinstance(value, int | np.integer):
        return Decimal(value.numerator) / Decimal(value.denominator)
    return +Decimal(value if isinstance(value, Decimal | int) else float(value))


def _digits() -> int:
    return getcontext().prec + 2


@dataclass(frozen=True)
class Inputs:
    """Dual numbers at which a graph is expanded: rows (value, tangents).

    Parameters
    ----------
    t
        Shape ``(1 + q,)``.
    z, p, v
        Shapes ``(n, 1 + q)``, ``(m, 1 + q)``, ``(k, 1 + q)``.
    """

    t: Numbers
    z: Numbers
    p: Numbers
    v: Numbers


class SeriesGraph:
    """A graph made ready for expansion.

    Parameters
    ----------
    graph
        What to expand.
    moving
        Whether time and states move (an ODE); False for functions that are evaluated once.

    Raises
    ------
    NoSeriesError
        When a kink or a function without series stands where values move.

    Examples
    --------
    >>> b = Builder()
    >>> decay = SeriesGraph(b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))]))
    >>> decay.outputs
    (3,)
    """

    def __init__(self, graph: Graph, moving: bool = True) -> None:
        b: Builder = _Products()
        new: list[int] = []
        for op, args, payload in zip(graph.ops, graph.args, graph.payloads, strict=True):
            mapped = tuple(new[a] for a in args)
            new.append(b.powi(mapped[0], payload) if op == "powi" else b.node(op, mapped, payload))
        self.outputs = tuple(new[i] for i in graph.outputs)
        self.moves: list[bool] = []
        self._extend(b, moving)
        size = len(b.ops)
        for op, moves in zip(b.ops, self.moves, strict=True):
            if moves and op in KINKS:
                raise NoSeriesError(f"the equations hold a kink or a jump ({op})")
            if moves and op in OPAQUE:
                raise NoSeriesError(f"{op} of a moving argument has no series here")
        #: For each function node, its derivative node in each argument that is no constant.
        self.slopes: dict[int, dict[int, int]] = {}
        # Tangents of a slope count where it multiplies a moving argument, and nowhere else: those
        # of a constant function's slope would ask for second derivatives, and third ones.
        wanted = [True] * size
        i = 0
        while i < len(b.ops):
            if wanted[i] and b.ops[i] not in ARITHMETIC | LEAVES | KINKS:
                one = b.const(1)
                self.slopes[i] = {
                    k: scaled_partial(b, i, k, one)
                    for k, a in enumerate(b.args[i])
                    if b.ops[a] != "const"
                }
                self._extend(b, moving)
                wanted += [self.moves[i]] * (len(b.ops) - len(wanted))
            i += 1
        self.ops, self.args, self.payloads = b.ops, b.args, b.payloads

    def _extend(self, b: Builder, moving: bool) -> None:
        for i in range(len(self.moves), len(b.ops)):
            if b.ops[i] == "input":
                self.moves.append(moving and b.payloads[i][0] in ("t", "z"))
            else:
                self.moves.append(any(self.moves[a] for a in b.args[i]))

    def at(self, inputs: Inputs, mp: Any) -> Numbers:
        """Return the outputs as dual numbers. Shape ``(outputs, 1 + q)``."""
        rows = self._leading(inputs, mp)
        return np.array([rows[i] for i in self.outputs], dtype=object)

    def expand(self, inputs: Inputs, order: int, mp: Any) -> Numbers:
        """Return the series of the states of the ODE whose right-hand side the outputs are.

        Returns
        -------
        array
            Coefficients of :math:`(t - t_n)^k`. Shape ``(order + 1, n, 1 + q)``.
        """
        n, width = inputs.z.shape
        zero = Decimal(0)
        lead = self._leading(inputs, mp)
        rows: list[Numbers] = []
        for i, moves in enumerate(self.moves):
            series = np.full((order + 1, width), zero) if moves else lead[i]
            if moves:
                series[0] = lead[i]
            rows.append(series)
        states: dict[int, int] = {}
        for i, op in enumerate(self.ops):
            if op == "input" and self.payloads[i][0] == "z":
                states[self.payloads[i][1]] = i
            elif op == "input" and self.payloads[i][0] == "t" and order:
                rows[i][1, 0] = Decimal(1)
        result = np.full((order + 1, n, width), zero)
        result[0] = inputs.z
        for k in range(order):
            if k:
                for i, moves in enumerate(self.moves):
                    if moves and self.ops[i] != "input":
                        rows[i][k] = self._coefficient(i, k, rows)
            for s, out in enumerate(self.outputs):
                rate = rows[out][k] if self.moves[out] else (rows[out] if k == 0 else None)
                if rate is not None:
                    result[k + 1, s] = rate / (k + 1)
                    if s in states:
                        rows[states[s]][k + 1] = result[k + 1, s]
        return result

    def _leading(self, inputs: Inputs, mp: Any) -> list[Numbers]:
        """Return all nodes as dual numbers: values first, then tangents from slopes' values."""
        operations = _operations(mp)
        of_kind = {"z": inputs.z, "p": inputs.p, "v": inputs.v}
        values: list[Any] = []
        for i, (op, args, payload) in enumerate(
            zip(self.ops, self.args, self.payloads, strict=True)
        ):
            a = [values[j] for j in args]
            if op == "const":
                values.append(number(payload))
            elif op == "nan":
                values.append(Decimal("NaN"))
            elif op == "input":
                row = inputs.t if payload[0] == "t" else of_kind[payload[0]][payload[1]]
                values.append(row[0])
            elif op == "select":
                values.append(a[1] if a[0] else a[2])
            elif op in BOOLEAN or op in ("add", "sub", "neg", "mul", "abs"):
                values.append(operations[op](*a))
            elif op == "mul0":
                values.append(Decimal(0) if a[0] == 0 or a[1] == 0 else a[0] * a[1])
            elif op in ("div", "div0"):
                values.append(Decimal(0) if op == "div0" and a[0] == 0 else a[0] / a[1])
            elif op == "slope" and self.moves[i]:
                if a[1] == 0:
                    raise NoSeriesError("a power meets zero, where it has no series")
                values.append(a[0] / a[1])
            else:
                exact = [mp.mpf(str(x)) for x in a]
                exact = [payload, *exact] if op == "polygamma" else exact
                values.append(number(operations[op](*exact)))
        return self._tangents(values, inputs)

    def _tangents(self, values: list[Any], inputs: Inputs) -> list[Numbers]:
        width = inputs.t.size
        of_kind = {"z": inputs.z, "p": inputs.p, "v": inputs.v}
        rows: list[Numbers] = []
        for i, (op, args, payload) in enumerate(
            zip(self.ops, self.args, self.payloads, strict=True)
        ):
            row = np.full(width, Decimal(0))
            row[0] = values[i]
            a = [rows[j] for j in args]
            if op == "input":
                row = inputs.t if payload[0] == "t" else of_kind[payload[0]][payload[1]]
            elif op in ("add", "sub"):
                row = a[0] + a[1] if op == "add" else a[0] - a[1]
            elif op in ("neg", "abs"):
                row = -a[0] if op == "neg" or values[args[0]] < 0 else a[0]
            elif op in ("mul", "mul0"):
                row = _product(a[0], a[1])
            elif op in ("div", "div0", "slope"):
                if values[args[1]] != 0:
                    row = _quotient(a[0], a[1])
            elif op == "select":
                row = a[1] if values[args[0]] else a[2]
            elif op in ("max", "min"):
                row = a[0] if values[i] == values[args[0]] else a[1]
            elif i in self.slopes:
                for k, slope in self.slopes[i].items():
                    moved = a[k][1:]
                    if any(moved):
                        row[1:] = row[1:] + values[slope] * moved
            rows.append(row)
        return rows

    def _coefficient(self, i: int, k: int, rows: list[Numbers]) -> Numbers:
        op, args, moves = self.ops[i], self.args[i], self.moves
        a = rows[args[0]]
        if op in BOOLEAN:
            return np.full(rows[i].shape[1], Decimal(0))
        if op == "select":
            # Only rules bring these in, to guard a point that is not this one.
            condition = a[0, 0] if moves[args[0]] else a[0]
            chosen = args[1] if condition else args[2]
            return rows[chosen][k] if moves[chosen] else np.full(rows[i].shape[1], Decimal(0))
        if op in ("neg", "abs"):
            return np.asarray(-a[k] if op == "neg" or a[0, 0] < 0 else a[k])
        if op in ("add", "sub"):
            parts = [rows[j][k] if moves[j] else None for j in args]
            if parts[1] is None:
                return np.asarray(parts[0])
            right = parts[1] if op == "add" else -parts[1]
            return np.asarray(right if parts[0] is None else parts[0] + right)
        if op in ("mul", "mul0"):
            left, right = (rows[j] for j in args)
            if not moves[args[0]]:
                return _product(left, right[k])
            if not moves[args[1]]:
                return _product(left[k], right)
            return _convolve(left[: k + 1], right[k::-1])
        if op in ("div", "div0", "slope"):
            below = rows[args[1]]
            if not moves[args[1]]:
                return _quotient(a[k], below)
            top = a[k] if moves[args[0]] else 0 * rows[i][0]
            rest = _convolve(rows[i][:k], below[k:0:-1])
            return _quotient(top - rest, below[0])
        total = np.full(rows[i].shape[1], Decimal(0))
        weights = np.array([Decimal(j) for j in range(1, k + 1)], dtype=object)[:, None]
        for place, slope in self.slopes[i].items():
            x = rows[args[place]]
            if moves[args[place]]:
                d = rows[slope]
                scaled = weights * x[1 : k + 1]
                total = total + (
                    _convolve(scaled, d[k - 1 :: -1] if k > 1 else d[:1])
                    if moves[slope]
                    else _product(scaled[-1], d)
                )
        return total / k


@lru_cache(maxsize=8)
def _operations(mp: Any) -> Any:
    return mpmath_arithmetic(mp).operations


def _product(a: Numbers, b: Numbers) -> Numbers:
    row = a[0] * b
    row[1:] = row[1:] + b[0] * a[1:]
    return np.asarray(row)


def _quotient(a: Numbers, b: Numbers) -> Numbers:
    row = a / b[0]
    row[1:] = row[1:] - row[0] * b[1:] / b[0]
    return np.asarray(row)


def _convolve(a: Numbers, b: Numbers) -> Numbers:
    """Return the sum of products of dual numbers, row by row."""
    row = a[:, 0] @ b
    row[1:] = row[1:] + b[:, 0] @ a[:, 1:]
    return np.asarray(row)


class _Products(Builder):
    """A builder whose integer powers are products, by binary powering."""

    def powi(self, a: int, n: int) -> int:
        if n == 0:
            return self.const(1)
        if n < 0:
            return self.node("div", (self.const(1), self.powi(a, -n)))
        if n == 1:
            return a
        half = self.powi(a, n // 2)
        square = self.node("mul", (half, half))
        return self.node("mul", (square, a)) if n % 2 else square


def rows_of(values: Sequence[Any] | NDArray[Any], width: int) -> Numbers:
    """Return values as dual numbers without tangents. Shape ``(len, width)``."""
    rows = np.full((len(values), width), Decimal(0))
    for i, value in enumerate(values):
        rows[i, 0] = number(value)
    return rows
