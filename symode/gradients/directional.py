"""DirectionalTask: the derivative of a loss along one direction, as a task for any method."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.equations.forcing import Forcing
from symode.equations.loss import Loss, ObservationGroup
from symode.gradients.jumps import refuse_events
from symode.gradients.mass import refuse_mass
from symode.gradients.task import Asked, HeldDown, Task
from symode.symbolic.derive import Field, derive_joint, derive_scalar
from symode.symbolic.doubled import (
    double_field,
    double_initial,
    double_joint,
    double_scalar,
)
from symode.symbolic.graph import Graph
from symode.symbolic.lift import lift_expressions, lift_field, lift_joint


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

    @property
    def held_down(self) -> HeldDown:
        """`HessianProduct` goes on with s in the error norm, where it then is already."""
        return "raise" if self.frozen else "go on"

    @classmethod
    def of(cls, base: Task, frozen: bool) -> DirectionalTask:
        """Return the directional task of a task."""
        refuse_mass(base.equations, "A second derivative", "First derivatives do.")
        refuse_events(base.equations, "A second derivative", "First derivatives do.")
        atol = np.concatenate([base.options.atol, base.options.atol])
        asked = Asked(base.asked.theta, base.asked.z0, False)
        loss = base.loss if base.loss.outer is None else doubled_loss(base.loss)
        return cls(
            doubled_equations(base.equations, base.asked.theta),
            loss, base.t0, base.t1, replace(base.options, atol=atol), base.from_initial,
            base.backend, asked, base=base, frozen=frozen,
        )  # fmt: skip

    @property
    def locates(self) -> bool:
        """Whether switches are located: a second derivative has parts there that are not known."""
        return False

    @property
    def looks_for_jumps(self) -> bool:
        """Whether jumps are looked for here: `HessianProduct` has done so."""
        return False

    @property
    def forcing(self) -> Forcing | None:
        """The tables of the model itself: the doubled equations name sizes alone."""
        return self.base.forcing

    @property
    def n_model(self) -> int:
        """States of the model itself."""
        return self.base.equations.n_states

    @cached_property
    def field(self) -> Field:
        """The doubled field, its quadratures last."""
        runnings = [c for _, c in self.base.loss.runnings]
        simple = lift_field(self.base.equations, runnings, self.asked.theta)
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
        q = len(self.base.loss.runnings)
        return np.array([*range(n, 2 * n), *range(2 * n + q, 2 * n + 2 * q)], dtype=np.int64)

    def initial_graphs(self) -> tuple[Graph, Graph]:
        """Return z0 with its tangent, and the pullback of both."""
        base = self.base.equations
        assert base.initial is not None
        graph = lift_expressions(base, base.initial)
        return double_initial(graph, self.n, base.n_parameters, self.asked.theta)

    def terminal_graph(self) -> Graph | None:
        """Return the directional derivative of the terminal loss, running cost joined."""
        loss, base, n = self.base.loss, self.base.equations, self.n_model
        if loss.outer is not None:
            graph = double_joint(
                lift_joint(base, loss, quadrature=2 * n), n, len(loss.runnings), loss.n_parts,
                base.n_parameters, self.asked.theta,
            )  # fmt: skip
            return derive_joint(graph, self.n, self.asked.theta, 2 * loss.n_parts)
        if loss.terminal is None and loss.running is None:
            return None
        return self._scalar(loss.terminal or sp.S.Zero, (), loss.running is not None)

    def observation_graph(self, group: ObservationGroup) -> Graph:
        """Return the directional derivative of one observation; of a joint loss also its value."""
        if self.loss.outer is not None and not isinstance(group, Moved):
            graph = lift_expressions(self.base.equations, [group.expression], group.data_symbols)
            return derive_scalar(graph, self.n, self.asked.theta)
        return self._scalar(group.expression, group.data_symbols, False)

    def _scalar(self, expression: sp.Expr, data: tuple[sp.Symbol, ...], quadrature: bool) -> Graph:
        base = self.base.equations
        graph = lift_expressions(base, [cast(sp.Expr, expression)], data)
        return double_scalar(
            graph, self.n_model, self.n, base.n_parameters, self.asked.theta, quadrature
        )


class Moved(ObservationGroup):
    """Observations whose directional derivative is meant, in a doubled joint loss."""


def doubled_loss(loss: Loss) -> Loss:
    """Return a joint loss with each observation twice: its value, then its derivative.

    The parts' directional derivatives are parts of their own, behind the parts themselves.

    Examples
    --------
    >>> from symode.equations.composite import Composite
    >>> x, a, v = sp.symbols("x a v")
    >>> decay = Equations((x,), (-a * x,), (a,), sp.Symbol("t"))
    >>> doubled_loss(Composite(v**2, {v: (1.0, x)}).resolve(decay)).row.tolist()
    [0, 1]
    """
    result, count = copy(loss), loss.times.size
    moved = tuple(Moved(g.expression, g.times, g.data_symbols, g.data) for g in loss.groups)
    result.groups = (*loss.groups, *moved)
    result.places = np.concatenate([loss.places, loss.places + count])
    result.__dict__["row"] = np.concatenate([loss.row, loss.row + loss.n_parts])
    result.__dict__["n_parts"] = 2 * loss.n_parts
    return result


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
