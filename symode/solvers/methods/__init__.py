"""Methods: one short file each, with the coefficients of a method and their source."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module

from symode.errors import OptionError
from symode.solvers.chebyshev import ChebyshevTableau
from symode.solvers.collocation import CollocationTableau
from symode.solvers.dirk_tableau import DirkTableau
from symode.solvers.tableau import ExplicitTableau, RosenbrockTableau

#: What a method's file may hold; `implicit` tells those that serve stiff models.
Tableau = ExplicitTableau | RosenbrockTableau | DirkTableau | CollocationTableau | ChebyshevTableau

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
    "rock4",
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


#: What other packages call their methods, and what does their work here.
ELSEWHERE = {
    "rodas5p": ("bdf", "lsoda", "cvode", "cvodes", "vode", "ode15s", "ode23s", "radau", "rodas5",
                "qndf", "fbdf", "kvaerno5", "trbdf2", "stiff"),
    "tsit5": ("rk45", "ode45", "rk4", "dopri", "explicit"),
    "bosh3": ("rk23", "ode23"),
    "dop853": ("dop", "ode113", "ode78", "ode89", "adams"),
}  # fmt: skip


def like(name: str) -> str:
    """Return a remark on the method that does the work of another package's, or nothing.

    Examples
    --------
    >>> like("scipy:BDF")
    ' (its like here is rodas5p)'
    """
    key = name.lower().removeprefix("scipy:")
    found = next((mine for mine, theirs in ELSEWHERE.items() if key in theirs), None)
    return did_you_mean(key, METHODS) if found is None else f" (its like here is {found})"


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
            f"There is no method called {name!r}{like(key)}. Choose one of "
            f"{', '.join(METHODS)}; rodas5p is the one for stiff models."
        )
    tableau: Tableau = import_module(f"{__name__}.{key}").load()
    return tableau
