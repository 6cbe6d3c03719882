"""Short names of symbols, expressions and places, for messages."""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp

# Longer expressions are named by their outermost operation: printing recurses, and a message that
# fills the screen is not read.
_PRINTED_NODES = 40


def brief(expression: sp.Basic) -> str:
    """Return an expression as text, or the name of its outermost operation where it is long.

    Examples
    --------
    >>> import sympy as sp
    >>> x = sp.Symbol("x")
    >>> brief(sp.sin(x)), brief(sp.sin(sum(x**k for k in range(40))))
    ('sin(x)', 'sin(...)')
    """
    # Counted as a tree, since a short text is what is asked for.
    stack, count = [expression], 0
    while stack and count <= _PRINTED_NODES:
        count += 1
        stack.extend(arg for arg in stack.pop().args if isinstance(arg, sp.Basic))
    return str(expression) if count <= _PRINTED_NODES else f"{type(expression).__name__}(...)"


def describe_symbol(symbol: sp.Symbol) -> str:
    """Return a symbol with its assumptions, such as ``Symbol('x', positive=True)``.

    Examples
    --------
    >>> import sympy as sp
    >>> describe_symbol(sp.Symbol("x", positive=True))
    "Symbol('x', positive=True)"
    """
    return str(sp.srepr(symbol))


def name_of(thing: object) -> str:
    """Return what a message calls a symbol, or whatever was given in its place.

    Examples
    --------
    >>> import sympy as sp
    >>> name_of(sp.Symbol("x")), name_of("x")
    ('x', "'x'")
    """
    if isinstance(thing, sp.Symbol):
        return str(thing.name)
    return brief(thing) if isinstance(thing, sp.Basic) else repr(thing)


def listed(places: Sequence[str], limit: int = 4) -> str:
    """Return places as a list of words, the first few of many.

    Examples
    --------
    >>> listed(["dx/dt", "dy/dt", "dz/dt"], limit=2)
    'dx/dt, dy/dt and 1 more'
    """
    if len(places) <= limit:
        return ", ".join(places)
    return f"{', '.join(places[:limit])} and {len(places) - limit} more"
