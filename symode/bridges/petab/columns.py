"""Observables of PEtab with their overrides: one column for each distinct pair of them.

``observableParameter1_ID`` and ``noiseParameter1_ID`` in a formula stand for what each row of the
measurement table says. Rows of an observable that say the same are one column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import sympy as sp

from symode.bridges.petab.files import Tables
from symode.bridges.petab.formulas import Meaning, number, parse
from symode.errors import ImportFileError
from symode.problems.noise import Log10Normal, LogNormal, Noise, Normal
from symode.problems.tails import Laplace

MOST_OVERRIDES: Final = 1000
NORMAL = {"lin": Normal, "log": LogNormal, "log10": Log10Normal}


@dataclass(frozen=True, eq=False)
class Observed:
    """One column: what it measures, its noise, and the rows of the table."""

    name: str
    observable: str
    expression: sp.Expr
    noise: Noise
    rows: list[int] = field(default_factory=list)


def split_overrides(value: Any) -> tuple[str, ...]:
    """Return the entries of an override: ``"a;2"`` has two, an empty cell none.

    Examples
    --------
    >>> split_overrides("scale; 2.5"), split_overrides(float("nan")), split_overrides(0.1)
    (('scale', '2.5'), (), ('0.1',))
    """
    if value is None or (isinstance(value, float | np.floating) and value != value):
        return ()
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(";")) if value.strip() else ()
    return (repr(float(value)),)


def make_columns(tables: Tables, meaning: Meaning) -> list[Observed]:
    """Return all columns, in the order in which the measurement table first has them.

    ``meaning`` gives the expression of a name that is no placeholder.

    Raises
    ------
    ImportFileError
        Naming the observable and the row of a wrong override.
    """
    frame = tables.measurements
    empty = [""] * len(frame["observableId"])
    observed = frame.get("observableParameters", empty)
    noisy = frame.get("noiseParameters", empty)
    groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for row, (key, first, second) in enumerate(
        zip(frame["observableId"], observed, noisy, strict=True)
    ):
        groups.setdefault((key, split_overrides(first), split_overrides(second)), []).append(row)
    variants: dict[str, int] = {}
    for key, _, _ in groups:
        variants[key] = variants.get(key, 0) + 1
    # Those that differ in noise alone side by side: numbers of noise become data of one column.
    places = {key: i for i, key in enumerate(variants)}
    overrides: dict[Any, int] = {}
    for group in groups:
        overrides.setdefault(group[:2], len(overrides))
    groups = dict(sorted(groups.items(), key=lambda g: (places[g[0][0]], overrides[g[0][:2]])))
    columns = []
    for (key, first, second), rows in groups.items():
        name = key
        if variants[key] > 1:
            name = f"{key}[{';'.join(first)}|{';'.join(second)}]"
        where = f"{tables.name}: observable {key} (measurement row {rows[0]})"
        expression, sigma = _formulas(tables, key, first, second, meaning, where)
        columns.append(Observed(name, key, expression, _noise(tables, key, sigma, where), rows))
    return columns


def _formulas(
    tables: Tables,
    key: str,
    first: tuple[str, ...],
    second: tuple[str, ...],
    meaning: Meaning,
    where: str,
) -> tuple[sp.Expr, sp.Expr]:
    """Return what is measured, and its spread, with the overrides in place."""
    formula = tables.observables[key]["observableFormula"]
    spread = tables.observables[key]["noiseFormula"]
    given: dict[str, str] = {}
    for kind, values, names in (
        ("observableParameter", first, _placeholders(tables, key, "observable", (formula, spread))),
        ("noiseParameter", second, _placeholders(tables, key, "noise", (spread,))),
    ):
        if len(names) != len(values):
            raise ImportFileError(
                f"{where} has {len(names)} {kind}s in its formula and {len(values)} in the "
                "measurement table."
            )
        given |= dict(zip(names, values, strict=True))

    def with_overrides(name: str) -> sp.Expr:
        if name in given:
            return _override(given[name], meaning, where)
        if name == key:
            return expression
        return meaning(name)

    def without_itself(name: str) -> sp.Expr:
        if name == key:
            raise ImportFileError(f"{where} is defined through itself.")
        return with_overrides(name)

    expression = parse(formula, f"{where}, observableFormula", without_itself)
    return expression, parse(spread, f"{where}, noiseFormula", with_overrides)


def _placeholders(tables: Tables, key: str, kind: str, formulas: tuple[Any, ...]) -> list[str]:
    """Return the names that overrides stand for, in order."""
    column = f"{kind}Placeholders"
    if column in tables.observables[key]:
        return list(tables.observables[key][column])
    start = f"{kind}Parameter"
    text = " ".join(map(str, formulas))
    found = re.findall(rf"\b{start}(\d+)_{re.escape(key)}\b", text)
    count = min(max(map(int, found), default=0), MOST_OVERRIDES)
    return [f"{start}{i}_{key}" for i in range(1, count + 1)]


def _override(text: str, meaning: Meaning, where: str) -> sp.Expr:
    try:
        return number(float(text))
    except ValueError:
        return parse(text, where, meaning)


def _noise(tables: Tables, key: str, sigma: sp.Expr, where: str) -> Noise:
    row: Mapping[str, Any] = tables.observables[key]
    scale, kind = (
        _choice(row, "observableTransformation", "lin"),
        _choice(row, "noiseDistribution", "normal"),
    )
    if sigma.is_Number and not (np.isfinite(float(sigma)) and float(sigma) > 0):
        raise ImportFileError(f"{where}: its noise must be positive; it is {sigma}.")
    if kind == "laplace":
        return Laplace(sigma, on=scale)
    return NORMAL[scale](sigma)


def _choice(row: Mapping[str, Any], column: str, default: str) -> str:
    value = row.get(column, default)
    return value if isinstance(value, str) and value else default
