"""Solver options: what a user may ask of a solve, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from symode.errors import OptionError
from symode.solvers.methods import METHODS, get_method
from symode.solvers.tableau import ExplicitTableau, RosenbrockTableau

#: What ``solver="auto"`` means until stiffness is detected by the solver itself: the cheaper of
#: the two at equal gradient error (Lotka-Volterra and a network of 20, benchmarks/methods.py).
LOOSE_EXPLICIT, TIGHT_EXPLICIT, TIGHT = "tsit5", "vern7", 1e-5
#: The method to name when an explicit one fails on a stiff problem.
DEFAULT_STIFF = "rodas5p"


@dataclass(frozen=True)
class SolverOptions:
    """Tolerances and limits of a solve.

    Parameters
    ----------
    tableau
        The method.
    rtol
        Relative tolerance, dimensionless, between 1e-14 and 0.1.
    atol
        Absolute tolerance of each state, in its units. Shape ``(n,)``.
    max_steps
        Accepted steps allowed.
    h_max
        Largest step size, in units of time.
    """

    tableau: ExplicitTableau | RosenbrockTableau
    rtol: float
    atol: NDArray[np.float64]
    max_steps: int
    h_max: float

    @property
    def is_stiff(self) -> bool:
        """Whether the method is implicit and needs the Jacobian."""
        return isinstance(self.tableau, RosenbrockTableau)


def make_options(
    names: Sequence[str],
    solver: str = "auto",
    rtol: float = 1e-8,
    atol: ArrayLike | Mapping[Any, float] = 1e-10,
    max_steps: int = 100_000,
    h_max: float = math.inf,
) -> SolverOptions:
    """Return checked options for states of these names.

    Raises
    ------
    OptionError
        Naming the option, what was given and what is possible.

    Examples
    --------
    >>> make_options(["x", "y"], atol={"x": 1e-9, "y": 1e-6}).atol.tolist()
    [1e-09, 1e-06]
    """
    if not isinstance(solver, str):
        raise OptionError(
            f"solver must be a name, one of auto, {', '.join(METHODS)}; got {solver!r}."
        )
    if not (isinstance(rtol, int | float) and 1e-14 <= rtol <= 0.1):
        raise OptionError(f"rtol must lie between 1e-14 and 0.1; got {rtol!r}.")
    if solver.lower() == "auto":
        solver = TIGHT_EXPLICIT if rtol < TIGHT else LOOSE_EXPLICIT
    tableau = get_method(solver)
    if not (int(max_steps) == max_steps and max_steps > 0):
        raise OptionError(f"max_steps must be a positive whole number; got {max_steps!r}.")
    if not h_max > 0:
        raise OptionError(f"h_max must be positive; got {h_max!r}.")
    return SolverOptions(tableau, float(rtol), _atol(names, atol), int(max_steps), float(h_max))


def _atol(names: Sequence[str], atol: ArrayLike | Mapping[Any, float]) -> NDArray[np.float64]:
    if isinstance(atol, Mapping):
        given = {str(key): value for key, value in atol.items()}
        if set(given) != set(names):
            raise OptionError(
                f"atol names {', '.join(sorted(given))}, but the states are {', '.join(names)}. "
                "Give one value for each state, or one number for all."
            )
        atol = [given[name] for name in names]
    try:
        values = np.broadcast_to(np.asarray(atol, dtype=float), (len(names),)).copy()
    except ValueError:
        raise OptionError(
            f"atol must be one number or one for each of the {len(names)} states "
            f"({', '.join(names)}); got shape {np.shape(atol)}."
        ) from None
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise OptionError(f"atol must be finite and not negative; got {values.tolist()}.")
    return values
