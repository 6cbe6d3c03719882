"""Solver options: what a user may ask of a solve, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from symode.errors import OptionError
from symode.solvers.methods import METHODS, Tableau, did_you_mean, get_method, like
from symode.solvers.tableau import RosenbrockTableau

#: The explicit method of ``solver="auto"``: the cheaper of the two at equal gradient error (see
#: docs/measurements.md).
LOOSE_EXPLICIT, TIGHT_EXPLICIT, TIGHT = "tsit5", "vern7", 1e-5
#: The method to name when an explicit one fails on a stiff problem.
DEFAULT_STIFF = "rodas5p"


#: What every solve takes, in this order in messages.
NAMES = (
    "solver",
    "rtol",
    "atol",
    "max_steps",
    "h_max",
    "backend",
    "consistent",
    "switch_events",
)


def check_names(given: Iterable[str], what: str, *more: str) -> None:
    """Raise unless all names of options exist.

    Parameters
    ----------
    given
        Names of the options.
    what
        Whose options they are.
    more
        Names known besides those of every solve.

    Raises
    ------
    OptionError
        With the name that was probably meant, and all there are.

    Examples
    --------
    >>> try:
    ...     check_names(["rto"], "solve()", "times")
    ... except OptionError as error:
    ...     print(str(error)[:49])
    solve() has no option rto (did you mean rtol?). I
    """
    known = (*more, *NAMES)
    unknown = [name for name in given if name not in known]
    if unknown:
        named = ", ".join(f"{name}{did_you_mean(name, known)}" for name in unknown)
        plural = "s" if len(unknown) > 1 else ""
        raise OptionError(
            f"{what} has no option{plural} {named}. Its options are {', '.join(known)}."
        )


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
    stiff
        Name of the method that goes on where the problem is stiff; empty for no switching.
    reason
        Why these methods.
    consistent
        What to do where initial values miss the algebraic equations of a model with a mass matrix:
        "find" those of the algebraic states, or "check" and refuse.
    switch_events
        Whether the solve looks for the moments at which conditions in f turn, and ends steps there.
    """

    tableau: Tableau
    rtol: float
    atol: NDArray[np.float64]
    max_steps: int
    h_max: float
    stiff: str = ""
    reason: str = "chosen by the caller"
    consistent: str = "find"
    switch_events: bool = True

    @property
    def serves_stiff(self) -> bool:
        """Whether stiff problems are solved: by the method itself, or after a switch."""
        return self.is_stiff or bool(self.stiff)

    @property
    def label(self) -> str:
        """The method's name, or the pair that auto switches between."""
        return f"auto ({self.tableau.name}, {self.stiff})" if self.stiff else self.tableau.name

    def with_method(self, name: str) -> SolverOptions:
        """Return these options for one method alone."""
        return replace(self, tableau=get_method(name), stiff="")

    @property
    def is_stiff(self) -> bool:
        """Whether the method is for stiff problems and needs the Jacobian's values."""
        return self.tableau.implicit or self.tableau.bounds_spectrum

    def jacobian_kernels(self, derivative: str = "") -> list[str]:
        """Return the kernels of the Jacobian that steps, or their derivatives, call.

        ``derivative`` names the kernel of second derivatives ("second" or "djac") that transposed
        steps and tangents of a Rosenbrock method call; other methods need none.
        """
        if self.tableau.bounds_spectrum:
            return ["jac_values"]
        if not self.tableau.implicit:
            return []
        second = derivative and self.tableau.jacobian_in_step
        return ["jac", derivative] if second else ["jac"]


def make_options(
    names: Sequence[str],
    solver: str = "auto",
    rtol: float = 1e-8,
    atol: ArrayLike | Mapping[Any, float] = 1e-10,
    max_steps: int = 100_000,
    h_max: float = math.inf,
    consistent: str = "find",
    switch_events: bool = True,
    mass: bool = False,
) -> SolverOptions:
    """Return checked options for states of these names.

    With ``mass``, the model has a mass matrix: only solvers that take it are accepted, and "auto"
    is one of them.

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
    if solver.lower().startswith("scipy:"):
        raise OptionError(
            f"SciPy's solvers, such as {solver!r}, serve Model.gradient() alone. Here choose one "
            f"of auto, {', '.join(METHODS)}{like(solver)}; {DEFAULT_STIFF} is the one for stiff "
            "models. To solve with SciPy all the same, pass model.as_scipy(theta).fun and .jac to "
            "scipy.integrate.solve_ivp."
        )
    if not (isinstance(rtol, int | float) and 1e-14 <= rtol <= 0.1):
        raise OptionError(f"rtol must lie between 1e-14 and 0.1; got {rtol!r}.")
    stiff, reason = "", "chosen by the caller"
    if mass and solver.lower() == "auto":
        solver, reason = DEFAULT_STIFF, "auto: the model has a mass matrix"
    if solver.lower() == "auto":
        solver, stiff, reason = choose_solvers(float(rtol), len(names))
    tableau = get_method(solver)
    if mass and not isinstance(tableau, RosenbrockTableau):
        raise OptionError(
            f"{tableau.name} does not solve models with a mass matrix or algebraic equations. Use "
            f"solver={DEFAULT_STIFF!r}, or leave the choice to symode."
        )
    if consistent not in ("find", "check"):
        raise OptionError(f'consistent must be "find" or "check"; got {consistent!r}.')
    if not isinstance(switch_events, bool):
        raise OptionError(f"switch_events must be True or False; got {switch_events!r}.")
    whole = isinstance(max_steps, Real) and math.isfinite(max_steps) and max_steps % 1 == 0
    if not (whole and max_steps > 0):
        raise OptionError(f"max_steps must be a positive whole number; got {max_steps!r}.")
    if not (isinstance(h_max, Real) and h_max > 0):
        raise OptionError(f"h_max must be a positive number; got {h_max!r}.")
    return SolverOptions(
        tableau, float(rtol), _atol(names, atol), int(max_steps), float(h_max), stiff, reason,
        consistent, switch_events,
    )  # fmt: skip


def choose_solvers(rtol: float, n: int) -> tuple[str, str, str]:
    """Return the explicit and the stiff method of ``solver="auto"``, and the reason.

    Parameters
    ----------
    rtol
        Relative tolerance.
    n
        Number of states.

    Examples
    --------
    >>> choose_solvers(1e-4, 3)[:2]
    ('tsit5', 'rodas5p')
    """
    tight = rtol < TIGHT
    explicit = TIGHT_EXPLICIT if tight else LOOSE_EXPLICIT
    stiff = DEFAULT_STIFF
    reason = (
        f"auto: {explicit} is the cheaper explicit method for rtol {'below' if tight else 'from'} "
        f"{TIGHT:g}; {stiff} goes on where the problem is stiff"
    )
    return explicit, stiff, reason


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
        values = np.asarray(atol, dtype=float)
    except (TypeError, ValueError):
        raise OptionError(
            f"atol must be numbers: one, or one for each of the {len(names)} states; got {atol!r}."
        ) from None
    try:
        values = np.broadcast_to(values, (len(names),)).copy()
    except ValueError:
        raise OptionError(
            f"atol must be one number or one for each of the {len(names)} states "
            f"({', '.join(names)}); got shape {np.shape(atol)}."
        ) from None
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise OptionError(f"atol must be finite and not negative; got {values.tolist()}.")
    return values
