"""Task: one loss of one model over one span, resolved into graphs and tables for the methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from symode.codegen.backends import compile_kernels
from symode.codegen.compiled import NativeModel
from symode.equations.equations import Equations
from symode.equations.forcing import Forcing, forcing_of
from symode.equations.loss import Loss, ObservationGroup
from symode.errors import LossError, UnsupportedCombinationError
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.event_functions import BACKWARDS, EventFunctions, switches_of
from symode.solvers.mass import MassMatrix
from symode.solvers.methods import get_method
from symode.solvers.options import SolverOptions
from symode.solvers.tableau import RosenbrockTableau
from symode.symbolic.block_tangent import BLOCK_KERNELS
from symode.symbolic.derive import (
    FIELD_KERNELS,
    Field,
    augmented,
    derive_joint,
    linear_kernels,
)
from symode.symbolic.freeze import Frozen
from symode.symbolic.fused_step import fused_kernels
from symode.symbolic.graph import Graph
from symode.symbolic.lift import (
    lift_field,
    lift_initial,
    lift_joint,
    lift_observation,
    lift_terminal,
)

Floats = NDArray[np.float64]
Kernels = dict[str, tuple[str, Graph]]
#: Before a Rosenbrock method's name: its steps, and their transpose, in one kernel each, if small.
WHOLE_STEPS = "whole steps of "


@dataclass(frozen=True)
class Asked:
    """What derivatives are wanted of: the rest costs nothing where a method can leave it out.

    Parameters
    ----------
    theta
        Places of parameters, in the order of every gradient.
    z0
        Places of initial values. Adjoints find all of them in passing.
    t0
        Whether the start time is among them.
    ends
        Whether t1 or observation times are. They cost nothing but with a mass matrix.

    Examples
    --------
    >>> Asked(theta=(2, 0), z0=(), t0=False).n_directions(n_states=3)
    2
    """

    theta: tuple[int, ...]
    z0: tuple[int, ...]
    t0: bool
    ends: bool = dataclasses.field(default=True, repr=False, compare=False)

    def n_directions(self, n_states: int) -> int:
        """Return the number of tangents that give all of this."""
        # With all of z0 at hand, the derivative in t0 is a combination of theirs.
        apart = self.t0 and len(self.z0) < n_states
        return len(self.theta) + len(self.z0) + apart


#: What a method that differentiates computed steps does where stability holds them down.
HeldDown = Literal["watch", "raise", "go on"]


@dataclass(frozen=True, eq=False)
class Task:
    """What a gradient method is asked to do.

    Parameters
    ----------
    equations, loss
        Model and resolved loss.
    t0, t1
        Span, in either direction.
    options
        Solver and tolerances of the forward pass.
    from_initial
        Whether z0 comes from the model's initial values, so that its dependence on the
        parameters belongs to the gradient.
    backend
        What compiles the kernels, see `symode.codegen.backends`.
    asked
        What derivatives are wanted of; everything by default.
    located
        Whether f is frozen between its switches, which the solve locates: see `with_switches`.

    Raises
    ------
    LossError
        When an observation lies outside the span.
    """

    equations: Equations
    loss: Loss
    t0: float
    t1: float
    options: SolverOptions
    from_initial: bool
    backend: str = "llvm"
    asked: Asked = None  # type: ignore[assignment]  # filled in below
    located: bool = False
    _compiled: dict[tuple[tuple[str, ...], tuple[str, ...]], NativeModel] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def held_down(self) -> HeldDown:
        """Watch all directions where an explicit solver stays at the edge of stability."""
        return "watch"

    def __post_init__(self) -> None:
        if self.asked is None:
            sizes = self.equations.n_parameters, self.equations.n_states
            everything = Asked(tuple(range(sizes[0])), tuple(range(sizes[1])), True)
            object.__setattr__(self, "asked", everything)
        times, (low, high) = self.loss.times, sorted((self.t0, self.t1))
        outside = (times < low) | (times > high)
        if outside.any():
            raise LossError(
                f"The observation at t = {times[outside][0]:g} lies outside the span from "
                f"{self.t0:g} to {self.t1:g}."
            )

    @cached_property
    def field(self) -> Field:
        """The right-hand side, with the running costs as last states where there are some."""
        costs = [c for _, c in self.loss.runnings]
        return self.with_modes(lift_field(self.equations, costs, self.asked.theta))

    def with_modes(self, field: Field) -> Field:
        """Return a field with its switches as inputs, where the task has them located."""
        if not self.located:
            return field
        found = switches_of(self.equations, field, self.options, self.t0, self.t1)
        self.__dict__["switches"] = found
        return field if found is None else replace(field, graph=found.graph)

    @cached_property
    def switches(self) -> Frozen | None:
        """The switches of f that a solve can locate; None where there are none."""
        if self.located:
            _ = self.field
            return self.__dict__["switches"]  # type: ignore[no-any-return]
        return switches_of(self.equations, self.field, self.options, self.t0, self.t1)

    @property
    def locates(self) -> bool:
        """Whether a task of this kind has its switches located."""
        return self.options.switch_events and self.t1 > self.t0

    @property
    def looks_for_jumps(self) -> bool:
        """Whether jumps of f that are not located are looked for, see `unlocated.Jumps`."""
        return True

    def with_switches(self) -> Task:
        """Return the task whose solves end steps where f switches; itself where f is smooth.

        For methods that carry derivatives over the jumps of events: the switches are events that
        set nothing.
        """
        if self.located or not self.locates or self.switches is None:
            return self
        if "sibling" not in self.__dict__:
            self.__dict__["sibling"] = replace(self, located=True)
        return self.__dict__["sibling"]  # type: ignore[no-any-return]

    @property
    def n_inputs(self) -> int:
        """Parameters, and modes of located switches: what p begins with."""
        found = self.switches if self.located else None
        return self.equations.n_parameters + (0 if found is None else found.n_inputs)

    @cached_property
    def mass(self) -> MassMatrix | None:
        """The mass matrix and what follows from it; None for the identity."""
        return None if self.equations.mass is None else MassMatrix(self.equations, self.field)

    @cached_property
    def events(self) -> EventFunctions | None:
        """The model's events and located switches; None where it has none."""
        if not self.equations.events and not self.located:
            return None
        if self.t1 < self.t0:
            raise UnsupportedCombinationError(BACKWARDS)
        return EventFunctions(
            self.equations, self.asked.theta, self.switches if self.located else None
        )

    @cached_property
    def forcing(self) -> Forcing | None:
        """The tables of time in what is integrated; None where there are none."""
        return forcing_of(self.equations, [c for _, c in self.loss.runnings])

    @property
    def n(self) -> int:
        """States and quadratures."""
        return self.field.n_states

    @property
    def m(self) -> int:
        """Parameters that derivatives are taken in."""
        return len(self.asked.theta)

    @cached_property
    def wrt(self) -> NDArray[np.int64]:
        """Their places among all parameters. Shape ``(m,)``."""
        return np.array(self.asked.theta, dtype=np.int64)

    def chosen(self, theta: Floats) -> Floats:
        """Return the parameters that derivatives are taken in, of all."""
        return theta if self._whole else theta[self.wrt]

    @cached_property
    def _whole(self) -> bool:
        return self.asked.theta == tuple(range(self.equations.n_parameters))

    @property
    def n_directions(self) -> int:
        """Tangents that forward sensitivities need."""
        return self.asked.n_directions(self.equations.n_states)

    @property
    def n_watched(self) -> int:
        """Leading states that are watched where they stay 0, see `DiscreteAdjoint`."""
        return self.equations.n_states

    @property
    def uncounted(self) -> NDArray[np.int64]:
        """Components of the forward pass's state that do not count in its error norm."""
        return np.empty(0, dtype=np.int64)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Places of the observations in the loss's groups, in the order the solve meets them."""
        times = self.loss.times
        return np.argsort(times if self.t1 >= self.t0 else -times, kind="stable")

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Places of the observations among those given, in the order the solve meets them."""
        return self.loss.places[self.order]

    @cached_property
    def times(self) -> Floats:
        """Observation times in the order the solve meets them."""
        return np.ascontiguousarray(self.loss.times[self.order])

    def kernels(self, names: Iterable[str], augment: Iterable[str] = ()) -> Kernels:
        """Return the graphs of field kernels, of the augmented field's, and of the loss."""
        names = list(names)
        chosen: Kernels = {
            name: (signature, derive(self.field))
            for name in names
            if not name.startswith(WHOLE_STEPS)
            for signature, derive in [(FIELD_KERNELS.get(name) or BLOCK_KERNELS[name])]
        }
        for name in augment:
            signature, derive = FIELD_KERNELS[name]
            chosen[f"augmented_{name}"] = (signature, derive(self.augmented))
        if "jac" in chosen:
            pairs, both = (
                self.options.tableau.complex_pairs,
                not {"vjp", "vjp_z"}.isdisjoint(chosen),
            )
            chosen |= linear_kernels(self.field, transposed=both, pairs=pairs)
        for name in names:
            if name.startswith(WHOLE_STEPS):
                method = get_method(name.removeprefix(WHOLE_STEPS))
                assert isinstance(method, RosenbrockTableau)
                chosen |= fused_kernels(self.field, method, transposed=True)
        if "augmented_jac" in chosen:
            pairs = self.options.tableau.complex_pairs
            whole = linear_kernels(self.augmented, transposed=False, pairs=pairs)
            chosen |= {f"augmented_{name}": entry for name, entry in whole.items()}
        if self.from_initial:
            start, pullback = self.initial_graphs()
            chosen["initial"] = ("field", start)
            chosen["initial_vjp"] = ("product", pullback)
        terminal = self.terminal_graph()
        if terminal is not None:
            # That of a joint loss takes the observations' sums too.
            kind = "field" if self.loss.outer is None else "product"
            chosen["terminal"] = (kind, terminal)
        for g, group in enumerate(self.loss.groups):
            chosen[f"observe{g}"] = ("product", self.observation_graph(group))
        return chosen

    def initial_graphs(self) -> tuple[Graph, Graph]:
        """Return z0 and its pullback, see `lift_initial`."""
        return lift_initial(self.equations, self.n, self.asked.theta)

    def terminal_graph(self) -> Graph | None:
        """Return the terminal, or joint, loss with its derivatives, see `lift_terminal`."""
        if self.loss.outer is not None:
            graph = lift_joint(self.equations, self.loss, self.equations.n_states)
            return derive_joint(graph, self.n, self.asked.theta, self.loss.n_parts)
        return lift_terminal(self.equations, self.loss, self.n, self.asked.theta)

    def observation_graph(self, group: ObservationGroup) -> Graph:
        """Return one observation with its derivatives, see `lift_observation`."""
        return lift_observation(self.equations, group, self.n, self.asked.theta)

    @cached_property
    def augmented(self) -> Field:
        """The note's augmented system q = (z, a§1ᵀ, a§3ᵀ)."""
        return augmented(self.field)

    def compile(self, names: Iterable[str], augment: Iterable[str] = ()) -> NativeModel:
        """Return these kernels compiled together, once for all runners of the task."""
        key = (tuple(names), tuple(augment))
        if key not in self._compiled:
            kernels = self.kernels(*key)
            self._compiled[key] = compile_kernels(kernels, self.n_inputs, self.backend)
        return self._compiled[key]

    def moved(self, t0: float, t1: float, times: Floats | None = None) -> Task:
        """Return this task over another span; observations at t0 and t1 move with these ends.

        ``times`` are those of all observations, in the order of the loss, before that.
        """
        loss = self.loss if times is None else self.loss.at(times)
        if (t0, t1) == (self.t0, self.t1) and times is None:
            return self
        loss = loss.moved({self.t0: t0, self.t1: t1})
        return self.sharing_kernels_with(replace(self, loss=loss, t0=t0, t1=t1))

    def with_options(self, options: SolverOptions) -> Task:
        """Return this task with other tolerances or another solver."""
        return self.sharing_kernels_with(replace(self, options=options))

    def sharing_kernels_with(self, other: Task) -> Task:
        """Return another task of the same equations and expressions, with this one's kernels."""
        # Kernels depend on the equations and on the loss's expressions, not on spans or solvers.
        object.__setattr__(other, "_compiled", self._compiled)
        for name in ("field", "augmented", "mass", "events", "switches"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        mine = self.__dict__.get("sibling")
        if mine is not None and other.with_switches() is not other:
            mine.sharing_kernels_with(other.with_switches())
        return other

    def __getstate__(self) -> dict[str, object]:
        """Leave out machine code: it is compiled, or found in the store, where it is used."""
        return {**self.__dict__, "_compiled": {}}

    def bind(self, compiled: NativeModel, needs_jacobian: bool) -> kt.Field:
        """Return the native field with room for p."""
        pattern = native.native_pattern(self.field if needs_jacobian else None)
        p = np.zeros(compiled.n_p)
        groups = len(self.loss.groups)
        return native.make_field(compiled, self.n, p, pattern, groups=groups, m=self.m)

    def loss_table(self) -> kt.LossTable:
        """Return the tables of observations, in the order the solve meets them."""
        groups = self.loss.groups
        k, width = self.times.size, max((len(g.data_symbols) for g in groups), default=0)
        data, group = np.zeros((k, max(width, 1))), np.zeros(k, dtype=np.int64)
        parts = 0 if self.loss.outer is None else self.loss.n_parts
        at = 0
        for g, entry in enumerate(groups):
            stop = at + entry.times.size
            data[at:stop, : len(entry.data_symbols)] = entry.data
            group[at:stop] = g
            at = stop
        return kt.LossTable(
            n_start=int(np.count_nonzero(self.times == self.t0)) if self.t0 != self.t1 else 0,
            group=group[self.order],
            data=np.ascontiguousarray(data[self.order]),
            seeds=np.zeros((k, self.n)),
            times=np.zeros(k),
            row=self.loss.row[self.order],
            parts=np.zeros(parts),
            joint=np.zeros(2 + self.n + self.m + parts),
        )

    def gradient_arrays(self) -> kt.Gradient:
        """Return the arrays a kernel leaves its result in."""
        return kt.Gradient(np.zeros(kt.N_SCALARS), np.zeros(self.n), np.zeros(self.m))

    def start(self, z0: Floats | None) -> Floats:
        """Return z0 with the quadratures at 0; zeros where the model's own values are used."""
        y0 = np.zeros(self.n)
        if z0 is not None:
            y0[: self.equations.n_states] = z0
        return y0


@dataclass(frozen=True, eq=False)
class Outcome:
    """Raw result of a method: theta in the order asked for, z0 in that of the states.

    Entries of z0 that were not asked for may be NaN, and t0 likewise. ``times`` holds dJ/dt_i in
    the order of the loss; ``stats`` what the passes cost.
    """

    value: float
    theta: Floats
    z0: Floats
    t0: float
    t1: float
    times: Floats
    stats: Mapping[str, object]


def outcome(
    task: Task, gradient: kt.Gradient, table: kt.LossTable, stats: Mapping[str, object]
) -> Outcome:
    """Return the result a kernel has left in its arrays."""
    times = np.empty(task.times.size)
    times[task.places] = table.times
    scalars = gradient.scalars
    return Outcome(
        value=float(scalars[kt.VALUE]),
        theta=gradient.theta.copy(),
        z0=gradient.lam[: task.equations.n_states].copy(),
        t0=float(scalars[kt.DT0]),
        t1=float(scalars[kt.DT1]),
        times=times,
        stats=stats,
    )
