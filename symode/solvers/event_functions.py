"""The functions of a model's events and switches: compiled, and with parameters bound."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.codegen.backends import compile_kernels
from symode.codegen.compiled import NativeModel
from symode.equations.delays import same_moments
from symode.equations.equations import Equations
from symode.solvers.calls import CallMemory, NativeCall
from symode.solvers.options import SolverOptions
from symode.symbolic.derive import Field
from symode.symbolic.freeze import Frozen, freeze, written
from symode.symbolic.graph import Graph
from symode.symbolic.lift_events import lift_events, plan_events

Floats = NDArray[np.float64]

#: Why a solve with events goes forwards.
BACKWARDS = "A model with events is solved forwards, t1 > t0: a jump cannot be undone."


class EventFunctions:
    """A model's events compiled: root functions, assignments, and their pullbacks.

    The root functions of the right-hand side's switches stand behind those of the events.

    Parameters
    ----------
    equations
        A model with events, or with switches.
    asked
        Places of the parameters that derivatives are taken in; all by default.
    frozen
        The switches; None where they are not located.
    """

    def __init__(
        self,
        equations: Equations,
        asked: Sequence[int] | None = None,
        frozen: Frozen | None = None,
    ) -> None:
        self.equations, self.frozen = equations, frozen
        self.events = equations.events
        self.n, self.n_theta = equations.n_states, equations.n_parameters
        self.asked = tuple(range(equations.n_parameters)) if asked is None else tuple(asked)
        plan = plan_events(equations, self.asked)
        self.triggers, self.timed, self.linear, self.free = (
            plan.triggers, plan.timed, plan.linear, plan.free,
        )  # fmt: skip
        self.roots: tuple[Any, ...] = plan.roots
        #: Root functions of events: those of switches follow.
        self.n_own = len(plan.roots)
        self.nested = (False,) * self.n_own
        self.switches = () if frozen is None else frozen.switches
        if frozen is not None:
            names = equations.state_names, equations.parameter_names
            self.roots += tuple(
                written(frozen.roots, k, *names) for k in range(len(frozen.roots.outputs))
            )
            self.timed += frozen.timed
            self.linear += frozen.linear
            self.nested += frozen.nested
            self.free += self._free(self.asked)
        #: The switch that each root function belongs to; -1 for those of events.
        self.switch_of = np.full(len(self.roots), -1)
        for k, switch in enumerate(self.switches):
            self.switch_of[[self.n_own + j for j in switch.roots]] = k
        places = {state: i for i, state in enumerate(equations.states)}
        self.targets = [
            np.array([places[key] for key, _ in event.assignments], dtype=np.intp)
            for event in self.events
        ]
        self.has_priority = any(event.priority is not None for event in self.events)

    def moved_by(self, places: Sequence[int]) -> EventFunctions:
        """Return the same functions where these parameters alone can move an event."""
        other = copy(self)
        other.free = plan_events(self.equations, places).free + self._free(places)
        return other

    def _free(self, places: Sequence[int]) -> tuple[bool, ...]:
        """Tell of each root function of a switch whether these parameters leave its zeros alone."""
        if self.frozen is None:
            return ()
        pairs = zip(self.frozen.timed, self.frozen.parameters, strict=True)
        return tuple(timed and found.isdisjoint(places) for timed, found in pairs)

    @cached_property
    def twins(self) -> tuple[tuple[int, ...], ...]:
        """States whose moments are the same where they are equal, see `same_moments`."""
        return same_moments(self.equations)

    @cached_property
    def graphs(self) -> dict[str, tuple[str, Graph]]:
        """The graphs behind the compiled functions."""
        own = self.roots[: self.n_own]
        return lift_events(
            self.equations, own, self.asked, None if self.frozen is None else self.frozen.roots
        )

    @property
    def n_modes(self) -> int:
        """Numbers that say which pieces of f hold: behind the parameters in p."""
        return 0 if self.frozen is None else self.frozen.n_inputs

    @cached_property
    def compiled(self) -> NativeModel:
        """The machine code."""
        return compile_kernels(self.graphs, self.equations.n_parameters + self.n_modes)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the machine code."""
        return {k: v for k, v in self.__dict__.items() if k not in ("compiled", "graphs")}

    def bound(self, theta: Floats) -> BoundEvents:
        """Return the functions with parameters bound."""
        return BoundEvents(self, np.array(theta, dtype=float))


def switches_of(
    equations: Equations, field: Field, options: SolverOptions, t0: float, t1: float
) -> Frozen | None:
    """Return the switches that a solve looks for; None where there are none, or it does not look.

    Models with a mass matrix, and solves backwards in time, meet switches by error control alone.
    """
    if not options.switch_events or equations.mass is not None or t1 < t0:
        return None
    # Kept with the graph, which tasks of one model share.
    kept = field.graph.__dict__.setdefault("frozen", {})
    if equations.n_parameters not in kept:
        kept[equations.n_parameters] = freeze(field.graph, equations.n_parameters)
    return kept[equations.n_parameters]  # type: ignore[no-any-return]


class BoundEvents:
    """Event functions at one theta, each with memory of its own.

    Parameters
    ----------
    functions
        What to evaluate.
    theta
        All parameters.
    """

    def __init__(self, functions: EventFunctions, theta: Floats) -> None:
        self.functions, self.theta = functions, theta
        self.compiled = functions.compiled
        self.n, self.n_roots = functions.n, len(functions.roots)
        self.p = self.compiled.pack(np.concatenate([theta, np.zeros(functions.n_modes)]))
        self.work = np.empty(max(1, self.compiled.work_size))
        self._unit = np.zeros(self.n_roots)
        self._calls: dict[str, NativeCall] = {}
        largest = max(self.compiled.n_outputs.values(), default=0)
        self._memory = CallMemory(self.n, largest, largest, self.p, self.work)

    def _call(self, name: str) -> NativeCall:
        """Return one of the functions, bound when it is first needed."""
        found = self._calls.get(name)
        if found is None:
            c = self.compiled
            product = c.signature[name] == "product"
            found = NativeCall(c.address[name], c.n_outputs[name], self._memory, product)
            self._calls[name] = found
        return found

    def enter(self, modes: Floats) -> bool:
        """Let these modes hold; return whether others did."""
        at = self.functions.n_theta
        mine = self.p[at : at + modes.size]
        if not modes.size or mine.tobytes() == modes.tobytes():
            return False
        mine[:] = modes
        self.compiled.hoist(self.p, self.work)
        return True

    def roots(self, t: float, z: Floats) -> Floats:
        """Return the values of all root functions."""
        return self._call("roots")(t, z) if self.n_roots else np.empty(0)

    def slope(self, k: int, t: float, z: Floats) -> tuple[Floats, float, Floats]:
        """Return r_z, r_t and r_theta of one root function."""
        self._unit[k] = 1.0
        found = self.split(self._call("roots_vjp")(t, z, self._unit))
        self._unit[k] = 0.0
        return found

    def rate(self, k: int, t: float, z: Floats, f: Floats) -> float:
        """Return dr/dt of one root function along a slope f."""
        r_z, r_t, _ = self.slope(k, t, z)
        return float(r_z @ f) + r_t

    def split(self, row: Floats) -> tuple[Floats, float, Floats]:
        """Return the parts of a pullback: in z, t and theta."""
        n = self.n
        return row[:n], float(row[n]), row[n + 1 :]

    def priority(self, i: int, t: float, z: Floats) -> float:
        """Return the priority of an event now; -inf where it has none."""
        if self.functions.events[i].priority is None:
            return -np.inf
        return float(self._call("priority")(t, z)[i])

    def assigned(self, i: int, t: float, z: Floats) -> Floats:
        """Return the values that an event sets."""
        return self._call(f"jump{i}")(t, z) if self.functions.targets[i].size else np.empty(0)

    def pulled(self, i: int, t: float, z: Floats, v: Floats) -> tuple[Floats, float, Floats]:
        """Return the pullback of the values that an event sets."""
        if not self.functions.targets[i].size:
            return np.zeros(self.n), 0.0, np.zeros(len(self.functions.asked))
        return self.split(self._call(f"jump{i}_vjp")(t, z, v))
