"""Tables: inputs that were measured or planned, as functions of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.pieces import Pieces, TableFamily
from symode.errors import DataError, OptionError

Floats = NDArray[np.float64]

KINDS: Final = ("constant", "linear", "cubic", "pchip")
#: What happens outside a table's times.
OUTSIDE: Final = ("refuse", "hold")
#: Columns that hold times without being told so.
TIME_NAMES: Final = ("time", "t")


class Table:
    r"""An input given at some times: doses that were pumped, light, temperature, a control.

    Parameters
    ----------
    times
        Increasing, in units of the model's time. Shape ``(k,)``. Or a DataFrame with one column
        beside that of the times (``time``, ``t`` or the index).
    values
        Shape ``(k,)``; not given with a DataFrame.
    kind
        ``"linear"`` between the times; ``"constant"``: each value holds from its time to the next;
        ``"cubic"``: the spline with continuous second derivative (not-a-knot ends); ``"pchip"``:
        cubic and monotone where the values are.
    outside
        ``"refuse"`` solves beyond the table's times; ``"hold"`` the first and last value there.
        With kind ``"constant"`` the last value always holds.

    Raises
    ------
    DataError
        Naming the row (counted from 0) that is no number, or not later than the one before.
    OptionError
        For unknown kinds, and too few rows.

    Notes
    -----
    Solvers end their steps where a table jumps or has a kink. At the moment of a jump itself an
    observable has the value before it.

    Examples
    --------
    >>> heating = Table([0, 1, 3], [20.0, 80.0, 20.0])
    >>> heating(2.0), heating
    (50.0, Table(3 rows, t = 0 to 3, linear))
    >>> import sympy as sp, symode
    >>> x, u = sp.symbols("x u")
    >>> model = symode.Model({x: u}, initial={x: 0}, inputs={u: heating})
    >>> round(float(model.solve((0, 3))["x"][-1]), 9)  # the area below
    150.0
    """

    def __init__(
        self, times: Any, values: Any = None, kind: str = "linear", *, outside: str = "refuse"
    ) -> None:
        if values is None and hasattr(times, "columns"):
            named = columns_of(times, None)
            if len(named) != 1:
                raise DataError(
                    f"A table of one input has one column beside the times; this one has "
                    f"{', '.join(named) or 'none'}. Use Table.read(frame) for several inputs."
                )
            times, values = next(iter(named.values()))
        elif values is None:
            raise DataError("No values: pass Table(times, values), or a DataFrame.")
        if kind not in KINDS:
            raise OptionError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}.")
        if outside not in OUTSIDE:
            raise OptionError(f"outside must be one of {', '.join(OUTSIDE)}; got {outside!r}.")
        t, u = _numbers(times, "times"), _numbers(values, "values")
        if t.size != u.size:
            raise DataError(f"The table has {t.size} times but {u.size} values.")
        least = 1 if kind == "constant" else 2
        if t.size < least:
            raise OptionError(f"A {kind} table needs at least {least} rows; got {t.size}.")
        back = np.flatnonzero(np.diff(t) <= 0)
        if back.size:
            row = int(back[0]) + 1
            raise DataError(
                f"Row {row} of the table is at t = {t[row]:g}, not later than row {row - 1} at "
                f"t = {t[row - 1]:g}. Sort the table by time; for a jump use kind='constant'."
            )
        self.times, self.values, self.kind, self.outside = t, u, kind, outside

    @classmethod
    def read(
        cls, frame: Any, kind: str = "linear", *, time: str | None = None, outside: str = "refuse"
    ) -> dict[str, Table]:
        """Return {column: Table} of a DataFrame with several inputs.

        A column's missing values are left out: each input has the times at which it was given.

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"time": [0, 1, 2], "light": [0, 5, 0], "feed": [1.0, None, 2.0]})
        >>> Table.read(frame, "constant")["feed"]
        Table(2 rows, t = 0 to 2, constant)
        """
        found = {}
        for name, (times, values) in columns_of(frame, time).items():
            u = _numbers(values, f"column {name!r}", missing=True)
            there = ~np.isnan(u)
            t = _numbers(times, "times")
            found[name] = cls(t[there], u[there], kind, outside=outside)
        return found

    @cached_property
    def pieces(self) -> Pieces:
        """The table as polynomials, with constants before and after."""
        t, u = self.times, self.values
        if self.kind == "constant":
            return Pieces(t[1:], u[:, None], self.limits)
        if self.kind == "linear":
            inner = np.column_stack([u[:-1], np.diff(u) / np.diff(t)])
        else:
            from scipy.interpolate import CubicSpline, PchipInterpolator

            if t.size == 2:
                return Table(t, u, "linear", outside=self.outside).pieces
            inner = (CubicSpline if self.kind == "cubic" else PchipInterpolator)(t, u).c[::-1].T
        ends = np.zeros((2, inner.shape[1]))
        ends[:, 0] = u[0], u[-1]
        return Pieces(t, np.concatenate([ends[:1], inner, ends[1:]]), self.limits)

    @property
    def limits(self) -> tuple[float, float]:
        """The times between which solves may use it."""
        if self.outside == "hold":
            return -np.inf, np.inf
        last = np.inf if self.kind == "constant" else float(self.times[-1])
        return float(self.times[0]), last

    def __call__(self, t: Any) -> Any:
        """Return the value at one time or several."""
        result = TableFamily((self.pieces,))(np.asarray(t, dtype=float), 0)
        if self.kind == "constant":
            at = np.searchsorted(self.times[1:], np.asarray(t, dtype=float), side="right")
            result = self.values[at]
        return float(result) if np.ndim(result) == 0 else result

    def __repr__(self) -> str:
        """Return size, range and kind."""
        t = self.times
        return f"Table({t.size} rows, t = {t[0]:g} to {t[-1]:g}, {self.kind})"


class TableData(sp.AtomicExpr):  # type: ignore[misc]
    """The numbers of a family of tables, as an atom of SymPy expressions."""

    is_commutative = True
    is_real = True

    def __new__(cls, name: str, family: TableFamily) -> TableData:
        """Return the atom of this family; ``name`` is how it is written."""
        result: TableData = sp.AtomicExpr.__new__(cls)
        result.name, result.family = name, family
        return result

    name: str
    family: TableFamily

    def _hashable_content(self) -> tuple[Any, ...]:
        return (self.name, self.family.digest)

    def __getnewargs__(self) -> tuple[str, TableFamily]:
        return self.name, self.family

    def __getstate__(self) -> None:
        return None

    def _sympystr(self, printer: Any) -> str:
        return self.name


class Tabulated(sp.Function):  # type: ignore[misc]
    """The value at x of the k-th table of a family: ``Tabulated(x, k, TableData)``."""

    nargs = 3
    is_commutative = True

    def _eval_is_extended_real(self) -> bool:
        return True

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        """Return the derivative in x: the tables of slopes; in k there is none."""
        x, k, data = self.args
        if argindex != 1 or data.family.slope.is_zero:
            return sp.Integer(0)
        return Tabulated(x, k, TableData(f"{data.name}'", data.family.slope))

    def _eval_evalf(self, prec: int) -> sp.Expr | None:
        x, k, data = self.args
        if not (x.is_number and k.is_number):
            return None
        return sp.Float(data.family(sp.Float(x, 60), k, lambda c: sp.Float(c, 60)), prec)

    def _sympystr(self, printer: Any) -> str:
        return f"{self.args[2].name}({printer.doprint(self.args[0])})"

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        name = sp.latex(sp.Symbol(self.args[2].name))
        text = f"{name}\\left({printer.doprint(self.args[0])}\\right)"
        return text if exp is None else f"{text}^{{{exp}}}"


def columns_of(frame: Any, time: str | None) -> dict[str, tuple[Any, Any]]:
    """Return {column: (times, values)} of a DataFrame."""
    if not hasattr(frame, "columns"):
        raise DataError(f"A DataFrame is expected; got a {type(frame).__name__}.")
    names = {str(column): column for column in frame.columns}
    found = [time] if time is not None else [name for name in TIME_NAMES if name in names]
    if time is not None and time not in names and time != getattr(frame.index, "name", None):
        raise DataError(f"There is no column {time!r}. The columns are {', '.join(names)}.")
    if found and found[0] in names:
        times, own = frame[names[found[0]]], found[0]
    else:
        times, own = frame.index, None
    return {n: (list(times), list(frame[c])) for n, c in names.items() if n != own}


def _numbers(values: Any, what: str, missing: bool = False) -> Floats:
    cells: Sequence[Any] = list(values) if np.ndim(values) else [values]
    result = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            if isinstance(cell, str | bool | Mapping):
                raise TypeError
            result[row] = np.nan if cell is None else float(cell)
        except (TypeError, ValueError):
            raise DataError(
                f"Row {row} of the {what} holds {cell!r}, which is no number."
            ) from None
        if not np.isfinite(result[row]) and not (missing and np.isnan(result[row])):
            raise DataError(f"Row {row} of the {what} holds {cell!r}, which is not finite.")
    return result
