"""Model: the façade a user holds. Each method calls one function of a layer below."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import sympy as sp

from symode.equations.equations import Equations
from symode.equations.inputs import SymbolLike, SymbolsLike, from_function, from_mapping
from symode.symbolic import blocks


class Model:
    r"""Dynamics :math:`\dot z = f(z, t, \theta)` and everything that is derived from them.

    Parameters
    ----------
    equations
        A mapping {state: right-hand side}, a sequence of such pairs, or, with ``states``, a
        sequence or column Matrix of right-hand sides. Keys are symbols or names.
    parameters
        Symbols or names, in the order of every parameter array. None takes every symbol that is
        neither a state nor time, sorted by name.
    time
        The symbol of time; None takes the symbol named "t".
    initial
        A mapping {state: value} or one value per state, in parameters and time; None leaves the
        initial values to each solve.
    observables
        A mapping {name: expression}.
    states
        The order of the states where it is not that of ``equations``.

    Raises
    ------
    ModelError
        With every fault found, each named.

    Examples
    --------
    >>> import sympy as sp
    >>> x, y, a, b = sp.symbols("x y a b")
    >>> model = Model({x: a * x * y, y: -b * y}, parameters=(a, b))
    >>> model.dfdz
    Matrix([
    [a*y, a*x],
    [  0,  -b]])
    """

    def __init__(
        self,
        equations: object,
        parameters: SymbolsLike | None = None,
        time: SymbolLike | None = None,
        initial: object = None,
        observables: object = None,
        states: SymbolsLike | None = None,
    ) -> None:
        if not isinstance(equations, Equations):
            equations = from_mapping(equations, parameters, time, initial, observables, states)
        self._equations: Equations = equations

    @classmethod
    def from_function(
        cls,
        function: Callable[..., object],
        states: SymbolsLike,
        parameters: SymbolsLike = (),
        time: SymbolLike = "t",
        initial: object = None,
        observables: object = None,
    ) -> Model:
        """Return the model of a Python function ``function(z, t, theta)`` of symbols.

        Examples
        --------
        >>> Model.from_function(lambda z, t, theta: [-theta.k * z.x], "x", "k").equations.rhs
        (-k*x,)
        """
        return cls(from_function(function, states, parameters, time, initial, observables))

    @property
    def equations(self) -> Equations:
        """The checked equations."""
        return self._equations

    @property
    def states(self) -> tuple[sp.Symbol, ...]:
        """The state symbols, in the order of every state array."""
        return self._equations.states

    @property
    def parameters(self) -> tuple[sp.Symbol, ...]:
        """The parameter symbols, in the order of every parameter array."""
        return self._equations.parameters

    @property
    def time(self) -> sp.Symbol:
        """The symbol of time."""
        return self._equations.time

    @cached_property
    def dfdz(self) -> sp.ImmutableMatrix:
        r"""The block :math:`\nabla_{\S1} f`, shape (n, n)."""
        return blocks.dfdz(self._equations)

    @cached_property
    def dfdt(self) -> sp.ImmutableMatrix:
        r"""The block :math:`\nabla_{\S2} f`, shape (n, 1)."""
        return blocks.dfdt(self._equations)

    @cached_property
    def dfdtheta(self) -> sp.ImmutableMatrix:
        r"""The block :math:`\nabla_{\S3} f`, shape (n, m)."""
        return blocks.dfdtheta(self._equations)

    def __repr__(self) -> str:
        """Return names and sizes."""
        eq = self._equations
        return f"Model(states={eq.state_names}, parameters={eq.parameter_names})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the equations; everything else is derived again."""
        return (type(self), (self._equations,))
