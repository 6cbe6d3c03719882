"""Symbols as a function of a model receives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sympy as sp


class SymbolNamespace(Sequence[sp.Symbol]):
    """Symbols that can be indexed, iterated, and reached by name.

    Examples
    --------
    >>> import sympy as sp
    >>> z = SymbolNamespace(sp.symbols("x y"))
    >>> z[0], z.y, z["y"], len(z)
    (x, y, y, 2)
    """

    def __init__(self, symbols: Iterable[sp.Symbol]) -> None:
        self._symbols = tuple(symbols)
        # In the instance, a name hides a method of the class ("index", "count").
        self.__dict__.update({symbol.name: symbol for symbol in self._symbols})

    def __getitem__(self, key: Any) -> Any:
        """Return by position, slice or name."""
        if isinstance(key, str):
            for symbol in self._symbols:
                if symbol.name == key:
                    return symbol
            raise KeyError(f"{key!r} is not one of {', '.join(s.name for s in self._symbols)}")
        return self._symbols[key]

    def __len__(self) -> int:
        """Return the number of symbols."""
        return len(self._symbols)

    def __iter__(self) -> Iterator[sp.Symbol]:
        """Iterate over the symbols in order."""
        return iter(self._symbols)

    def __getattr__(self, name: str) -> sp.Symbol:
        """Say which names exist when an unknown one is asked for."""
        raise AttributeError(f"{name!r} is not one of {', '.join(s.name for s in self._symbols)}")

    def __repr__(self) -> str:
        """Return the names in order."""
        return f"({', '.join(s.name for s in self._symbols)})"
