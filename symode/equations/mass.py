r"""The constant mass matrix of :math:`M \dot z = f(z, t, \theta)`: what users write, as entries.

A row of zeros is an algebraic equation, :math:`0 = f_i`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

import sympy as sp

from symode.errors import ModelError

#: The nonzero entries (row, column, value), row by row; None for the identity.
Mass: TypeAlias = tuple[tuple[int, int, sp.Expr], ...] | None


def read_mass(mass: object, states: Sequence[sp.Symbol]) -> Mass:
    """Return the entries of a mass matrix.

    Parameters
    ----------
    mass
        A SymPy Matrix, nested sequences or an array of shape (n, n), or a mapping {state: number}:
        a diagonal that is 1 for the states it does not name. None is the identity.
    states
        The states, in the order of rows and columns.

    Raises
    ------
    ModelError
        When the shape is wrong, or an entry is not a finite real number.

    Examples
    --------
    >>> x, y = sp.symbols("x y")
    >>> read_mass([[2, 0], [sp.Rational(1, 2), 0]], (x, y))
    ((0, 0, 2), (1, 0, 1/2))
    >>> read_mass({y: 0}, (x, y))
    ((0, 0, 1),)
    """
    if mass is None:
        return None
    n = len(states)
    if isinstance(mass, Mapping):
        rows = _diagonal(mass, states)
    else:
        rows = _rows(mass)
        if len(rows) != n or any(len(row) != n for row in rows):
            shape = (len(rows), len(rows[0]) if rows else 0)
            raise ModelError(
                f"mass= has the shape {shape}; give one row and one column for each of the {n} "
                f"states ({', '.join(map(str, states))}), or a mapping {{state: number}}."
            )
    entries = []
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            number = _number(value, states[i], states[j])
            if not number.is_zero:
                entries.append((i, j, number))
    identity = len(entries) == n and all(i == j and float(value) == 1.0 for i, j, value in entries)
    return None if identity else tuple(entries)


def mass_values(mass: Mass, extra: int, n: int) -> tuple[tuple[int, int, Fraction], ...] | None:
    """Return the entries as exact numbers, with a unit row for each of ``extra`` quadratures.

    Examples
    --------
    >>> mass_values(((0, 0, sp.Float(0.5)),), extra=1, n=2)
    ((0, 0, Fraction(1, 2)), (2, 2, Fraction(1, 1)))
    """
    if mass is None:
        return None
    numbers = [(i, j, _fraction(value)) for i, j, value in mass]
    return (*numbers, *((k, k, Fraction(1)) for k in range(n, n + extra)))


def algebraic_rows(mass: Mass, n: int) -> tuple[int, ...]:
    """Return the equations without a derivative.

    Examples
    --------
    >>> algebraic_rows(((0, 0, sp.Integer(1)),), 2), algebraic_rows(None, 2)
    ((1,), ())
    """
    if mass is None:
        return ()
    held = {i for i, _, _ in mass}
    return tuple(i for i in range(n) if i not in held)


def algebraic_states(mass: Mass, n: int) -> tuple[int, ...]:
    """Return the states whose derivative occurs nowhere.

    Examples
    --------
    >>> algebraic_states(((0, 0, sp.Integer(1)), (1, 0, sp.Integer(2))), 2)
    (1,)
    """
    if mass is None:
        return ()
    held = {j for _, j, _ in mass}
    return tuple(j for j in range(n) if j not in held)


def _fraction(value: sp.Expr) -> Fraction:
    if isinstance(value, sp.Rational):
        return Fraction(int(value.p), int(value.q))
    return Fraction(float(value))


def _rows(mass: object) -> list[list[object]]:
    """Return nested lists of whatever is written as a matrix."""
    if isinstance(mass, sp.MatrixBase):
        return [list(mass.row(i)) for i in range(mass.rows)]
    if callable(getattr(mass, "toarray", None)):
        mass = mass.toarray()  # type: ignore[attr-defined]
    if callable(getattr(mass, "tolist", None)):
        mass = mass.tolist()  # type: ignore[attr-defined]
    if isinstance(mass, Iterable) and not isinstance(mass, str):
        rows = list(mass)
        if all(isinstance(row, Iterable) and not isinstance(row, str) for row in rows):
            return [list(row) for row in rows]
    raise ModelError(
        "mass= is not a matrix; give a SymPy Matrix, a list of rows, an array, or a mapping "
        "{state: number} with the diagonal."
    )


def _diagonal(mass: Mapping[object, object], states: Sequence[sp.Symbol]) -> list[list[object]]:
    names = {state.name: i for i, state in enumerate(states)}
    unknown = [str(key) for key in mass if str(key) not in names]
    if unknown:
        raise ModelError(
            f"mass= names {', '.join(unknown)}, and the states are {', '.join(names)}."
        )
    rows: list[list[object]] = [[0] * len(states) for _ in states]
    given = {str(key): value for key, value in mass.items()}
    for name, i in names.items():
        rows[i][i] = given.get(name, 1)
    return rows


def _number(value: object, row: sp.Symbol, column: sp.Symbol) -> sp.Expr:
    number = sp.sympify(value, strict=True) if not isinstance(value, str | bool) else None
    if isinstance(number, sp.Expr) and not isinstance(number, sp.Number) and number.is_number:
        number = number.evalf(30)
    if not (isinstance(number, sp.Number) and number.is_finite and number.is_extended_real):
        raise ModelError(
            f"mass= holds {value!r} in the row of {row} and the column of {column}; its entries "
            "are constant finite real numbers. Divide the equation by what depends on parameters, "
            "time or states."
        )
    return number
