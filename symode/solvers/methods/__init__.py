"""Methods: one short file each, with the coefficients of a method and their source."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module

from symode.errors import OptionError
from symode.solvers.collocation import CollocationTableau
from symode.solvers.dirk_tableau import DirkTableau
from symode.solvers.tableau import ExplicitTableau, RosenbrockTableau

#: What a method's file may hold; `implicit` tells those that serve stiff models.
Tableau = ExplicitTableau | RosenbrockTableau | DirkTableau | CollocationTableau

METHODS: tuple[str, ...] = (
    "bosh3",
    "dopri5",
    "tsit5",
    "vern7",
    "dop853",
    "rodas5p",
    "esdirk43",
    "esdirk54",
    "radau5",
    "radau9",
    "radau13",
)
"""The names `get_method` knows. A new method is a file here with a `load()`, and its name."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a remark on the known name that is closest, with a space before it, or nothing.

    Examples
    --------
    >>> did_you_mean("rodas", METHODS)
    ' (did you mean rodas5p?)'
    """
    close = get_close_matches(name.lower(), list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def get_method(name: str) -> Tableau:
    """Return the tableau called `name`, upper or lower case. The same object each time.

    Raises
    ------
    OptionError
        There is no method of that name; the message lists those that exist.

    Examples
    --------
    >>> get_method("Tsit5").order
    5
    """
    key = str(name).lower()
    if key not in METHODS:
        raise OptionError(
            f"There is no method called {name!r}{did_you_mean(key, METHODS)}. Choose one of "
            f"{', '.join(METHODS)}; rodas5p is the one for stiff models."
        )
    tableau: Tableau = import_module(f"{__name__}.{key}").load()
    return tableau
