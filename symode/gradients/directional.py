"""DirectionalTask: the derivative of a loss along one direction, as a task for any method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.equations.loss import ObservationGroup
from symode.gradients.jumps import refuse_events
from symode.gradients.mass import refuse_mass
from symode.gradients.task import Asked, Task
from symode.symbolic.derive import Field
from symode.symbolic.doubled import double_field, double_initial, double_scalar
from symode.symbolic.graph import Graph
from symode.symbolic.lift import lift_expressions, lift_field


@dataclass(frozen=True, eq=False)
class DirectionalTask(Task):
    r"""The functional :math:`J'(\theta, z_0; v)` of the doubled system (z, s).

    Its gradient in theta and z0 is the Hessian of J times v. ``equations`` and the sizes are those
    of the doubled system; theta is (theta, v), z0 is (z0, the direction of z0).

    Parameters
    ----------
    base
        The task of J.
    frozen
        Whether the steps are those of J itself: then s does not count in the error norm, and the
        result is the derivative of the computed gradient. Otherwise s is held to the tolerances
        of z.
    """

    base: Task = None  # type: ignore[assignment]  # always given
    frozen: bool = True

    @classmethod
    def of(cls, base: Task, frozen: bool) -> DirectionalTask:
        """Return the directional task of a task."""
        refuse_mass(base.equations, "A second derivative", "First derivatives do.")
        refuse_events(base.equations, "A second derivative", "First derivatives do.")
        atol = np.concatenate([base.options.atol, base.options.atol])
        asked = Asked(base.asked.theta, base.asked.z0, False)
        return cls(
            doubled_equations(base.equations, base.asked.theta),
            base.loss, base.t0, base.t1, replace(base.options, atol=atol), base.from_initial,
            base.backend, asked, base=base, frozen=frozen,
        )  # fmt: skip

    @property
    def n_model(self) -> int:
        """States of the model itself."""
        return self.base.equations.n_states

    @cached_property
    def field(self) -> Field:
        """The doubled field, its quadratures last."""
        simple = lift_field(self.base.equations, self.loss.running, self.asked.theta)
        return double_field(simple, self.n_model)

    @property
    def n_watched(self) -> int:
        """The model's own states: a tangent may well be 0 throughout."""
        return self.n_model

    @cached_property
    def uncounted(self) -> NDArray[np.int64]:
        """The tangents, where the steps are those of J."""
        if not self.frozen:
            return np.empty(0, dtype=np.int64)
        n = self.n_model
        last = [] if self.loss.running is None else [2 * n + 1]
        return np.array([*range(n, 2 * n), *last], dtype=np.int64)

    def initial_graphs(self) -> tuple[Graph, Graph]:
        """Return z0 with its tangent, and the pullback of both."""
        base = self.base.equations
        assert base.initial is not None
        graph = lift_expressions(base, base.initial)
        return double_initial(graph, self.n, base.n_parameters, self.asked.theta)

    def terminal_graph(self) -> Graph | None:
        """Return the directional derivative of the terminal loss, running cost joined."""
        loss = self.loss
        if loss.terminal is None and loss.running is None:
            return None
        return self._scalar(loss.terminal or sp.S.Zero, (), loss.running is not None)

    def observation_graph(self, group: ObservationGroup) -> Graph:
        """Return the directional derivative of one observation."""
        return self._scalar(group.expression, group.data_symbols, False)

    def _scalar(self, expression: sp.Expr, data: tuple[sp.Symbol, ...], quadrature: bool) -> Graph:
        base = self.base.equations
        graph = lift_expressions(base, [cast(sp.Expr, expression)], data)
        return double_scalar(
            graph, self.n_model, self.n, base.n_parameters, self.asked.theta, quadrature
        )


def doubled_equations(equations: Equations, asked: tuple[int, ...]) -> Equations:
    """Return the names and sizes of the doubled system; its right-hand side is the graph's.

    Examples
    --------
    >>> x, a, b = sp.symbols("x a b")
    >>> decay = Equations((x,), (-a * x + b,), (a, b), sp.Symbol("t"))
    >>> doubled_equations(decay, (1,)).state_names, doubled_equations(decay, (1,)).parameter_names
    (('x', 'tangent of x'), ('a', 'b', 'direction of b'))
    """
    s = tuple(sp.Dummy(f"tangent of {name}") for name in equations.state_names)
    v = tuple(sp.Dummy(f"direction of {equations.parameter_names[j]}") for j in asked)
    states = (*equations.states, *s)
    zeros = (sp.S.Zero,) * len(states)
    return Equations(states, zeros, (*equations.parameters, *v), equations.time)
