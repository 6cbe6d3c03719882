"""Methods: one short file each, with the coefficients of a method and their source."""

from __future__ import annotations

from importlib import import_module

from symode.errors import OptionError
from symode.solvers.tableau import ExplicitTableau, RosenbrockTableau

METHODS: tuple[str, ...] = ("bosh3", "dopri5", "tsit5", "vern7", "dop853", "rodas5p")
"""The names `get_method` knows. A new method is a file here with a `load()`, and its name."""


def get_method(name: str) -> ExplicitTableau | RosenbrockTableau:
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
            f"There is no method called {name!r}. Choose one of {', '.join(METHODS)}."
        )
    tableau: ExplicitTableau | RosenbrockTableau = import_module(f"{__name__}.{key}").load()
    return tableau
