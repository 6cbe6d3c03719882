"""Equations: what the user wrote, checked once, then never changed."""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy as sp

from symode.equations.checks import check_equations
from symode.equations.event import Event
from symode.equations.mass import Mass, algebraic_rows, algebraic_states


@dataclass(frozen=True)
class Equations:
    r"""The problem :math:`M \dot z = f(z, t, \theta)`, :math:`z(t_0) = z_0(\theta, t_0)`.

    Parameters
    ----------
    states
        The state symbols, in the order of every state array.
    rhs
        One SymPy expression per state: :math:`f`.
    parameters
        The parameter symbols, in the order of every parameter array.
    time
        The symbol of time.
    initial
        One expression per state in parameters and time, or None where initial
        values are passed to each solve.
    observables
        Pairs (name, expression) in states, time and parameters.
    mass
        The nonzero entries (row, column, number) of the constant matrix M, row by row, see
        `symode.equations.mass`; None for the identity. M may be singular: a row of zeros is an
        algebraic equation.
    events
        What jumps when, see `Event`.
    n_waiting
        Last states that hold what waits for a delayed event, see `symode.equations.delays`.

    Raises
    ------
    ModelError
        With every fault found, each named.

    Examples
    --------
    >>> import sympy as sp
    >>> x, k, t = sp.symbols("x k t")
    >>> Equations((x,), (-k * x,), (k,), t).state_names
    ('x',)
    """

    states: tuple[sp.Symbol, ...]
    rhs: tuple[sp.Expr, ...]
    parameters: tuple[sp.Symbol, ...]
    time: sp.Symbol
    initial: tuple[sp.Expr, ...] | None = None
    observables: tuple[tuple[str, sp.Expr], ...] = field(default=())
    mass: Mass = None
    events: tuple[Event, ...] = ()
    n_waiting: int = 0

    def __post_init__(self) -> None:
        check_equations(self)

    @property
    def n_states(self) -> int:
        """Number of states, n."""
        return len(self.states)

    @property
    def n_parameters(self) -> int:
        """Number of parameters, m."""
        return len(self.parameters)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states, in order."""
        return tuple(s.name for s in self.states)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(s.name for s in self.parameters)

    @property
    def algebraic(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Places of the equations without a derivative, and of the states without one."""
        n = self.n_states
        return algebraic_rows(self.mass, n), algebraic_states(self.mass, n)
