"""Tables put in place of input symbols, and where solvers end steps for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.equations.event import Event
from symode.equations.pieces import Pieces, TableFamily, check_span
from symode.equations.table import Table, TableData, Tabulated
from symode.equations.walk import distinct_nodes
from symode.errors import ModelError, OptionError

Floats = NDArray[np.float64]


def check_tables(inputs: Any, where: str) -> dict[str, Table]:
    """Return {name: Table}; a DataFrame gives a linear table for each column.

    Raises
    ------
    OptionError
        For anything else.
    """
    if inputs is None:
        return {}
    if hasattr(inputs, "columns") and not isinstance(inputs, Mapping):
        return Table.read(inputs)
    if not isinstance(inputs, Mapping):
        raise OptionError(
            f"inputs= of {where} must map names to symode.Table(...), or be a DataFrame; got "
            f"{inputs!r}."
        )
    for name, table in inputs.items():
        if not isinstance(table, Table):
            raise OptionError(
                f"inputs= of {where}: {name} must be a symode.Table(times, values); got {table!r}. "
                "A constant input is a parameter."
            )
    return {str(name): table for name, table in inputs.items()}


def with_tables(
    equations: Equations,
    tables: Mapping[str, tuple[Sequence[Table], sp.Expr]],
    more: Sequence[sp.Symbol] = (),
) -> Equations:
    """Return equations in which parameters are tables, of which an expression is the index.

    Parameters
    ----------
    tables
        {name of a parameter: (tables, index)}.
    more
        Symbols of the indices that are parameters.

    Examples
    --------
    >>> x, u, t = sp.symbols("x u t")
    >>> plain = Equations((x,), (u - x,), (u,), t)
    >>> found = with_tables(plain, {"u": ([Table([0, 1], [0.0, 2.0])], sp.Integer(0))})
    >>> found.rhs, found.parameters
    ((-x + u(t),), ())
    """
    if not tables:
        return equations
    by_name = {s.name: s for s in equations.parameters}
    swap = {}
    for name, (members, index) in tables.items():
        family = TableFamily(tuple(table.pieces for table in members))
        swap[by_name[name]] = Tabulated(equations.time, index, TableData(name, family))

    def put(expression: sp.Expr) -> sp.Expr:
        try:
            return expression.xreplace(swap)
        except RecursionError:
            raise ModelError(
                "An equation is nested too deeply to put tables into it: name parts of it as "
                "states or parameters, or write the input as a Piecewise in time."
            ) from None

    held = equations.initial
    return replace(
        equations,
        rhs=tuple(put(e) for e in equations.rhs),
        initial=None if held is None else tuple(put(e) for e in held),
        observables=tuple((name, put(e)) for name, e in equations.observables),
        events=tuple(_put_into(event, put) for event in equations.events),
        parameters=(*(s for s in equations.parameters if s.name not in tables), *more),
    )


def _put_into(event: Event, put: Callable[[sp.Expr], sp.Expr]) -> Event:
    return replace(
        event,
        trigger=put(event.trigger),
        assignments=tuple((state, put(value)) for state, value in event.assignments),
        priority=None if event.priority is None else put(event.priority),
    )


def declared_inputs(parameters: Any, inputs: Any) -> Any:
    """Return the declared parameters with the inputs among them; None stays "all symbols"."""
    if parameters is None:
        return None
    if isinstance(parameters, str):
        parameters = parameters.replace(",", " ").split()
    elif isinstance(parameters, sp.Symbol):
        parameters = [parameters]
    else:
        parameters = list(parameters)
    names = {str(p) for p in parameters}
    keys = check_tables(inputs, "Model()") if not isinstance(inputs, Mapping) else inputs
    return [*parameters, *(key for key in keys if str(key) not in names)]


def model_inputs(equations: Equations, inputs: Any) -> Equations:
    """Return the equations of a model with tables for some of its parameters.

    Raises
    ------
    OptionError
        Naming an input that the model does not contain.
    """
    tables = check_tables(inputs, "Model()")
    known = equations.parameter_names
    for name in tables:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise OptionError(
                f"inputs= names {name}{hint}, which is no symbol of the equations that is free to "
                f"be a table. Those are {', '.join(known) or 'none'}."
            )
    return with_tables(equations, {n: ([t], sp.Integer(0)) for n, t in tables.items()})


@dataclass(frozen=True, eq=False)
class Forcing:
    """The tables in time of a right-hand side.

    Parameters
    ----------
    members
        For each: its name, the tables of its family, and the place of the parameter that is their
        index, or -1 for the first.
    """

    members: tuple[tuple[str, tuple[Pieces, ...], int], ...]

    def check(self, t0: float, t1: float) -> None:
        """Raise unless tables without an index cover a span.

        Raises
        ------
        OptionError
            Naming the table.
        """
        for name, tables, place in self.members:
            if place < 0:
                check_span(name, tables[0], t0, t1)

    @property
    def stops(self) -> Callable[[Floats], Floats] | None:
        """What returns the corners at given parameters; None where tables are smooth."""
        smooth = not any(t.corners.size for _, tables, _ in self.members for t in tables)
        return None if smooth else self.corners

    def corners(self, p: Floats) -> Floats:
        """Return where tables jump or have kinks, sorted, each time once."""
        found = [
            tables[min(max(int(p[place]), 0), len(tables) - 1) if place >= 0 else 0].corners
            for _, tables, place in self.members
        ]
        return np.unique(np.concatenate(found))


def forcing_of(equations: Equations, more: Iterable[sp.Expr] = ()) -> Forcing | None:
    """Return the tables of time in right-hand sides; None where there are none.

    Tables of anything but time itself have no corners known before.

    Examples
    --------
    >>> x, u, t = sp.symbols("x u t")
    >>> plain = Equations((x,), (u - x,), (u,), t)
    >>> table = Table([0, 1, 2], [0.0, 2.0, 4.0], "constant")
    >>> found = forcing_of(with_tables(plain, {"u": ([table], sp.Integer(0))}))
    >>> found.corners(np.empty(0)).tolist()
    [1.0, 2.0]
    """
    places = {s: i for i, s in enumerate(equations.parameters)}
    found: dict[tuple[str, int], tuple[str, tuple[Pieces, ...], int]] = {}
    for node in distinct_nodes([*equations.rhs, *more]):
        if isinstance(node, Tabulated) and node.args[0] == equations.time:
            _, k, data = node.args
            place = places.get(k, -1)
            found[data.family.digest, place] = (data.name, data.family.members, place)
    return Forcing(tuple(found.values())) if found else None
