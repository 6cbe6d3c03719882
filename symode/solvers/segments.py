"""Segments: a trajectory as a sequence of pieces, each made by one method.

A solve that changes its method, or whose state jumps, is a list of segments. Each has the steps of
one method from one state, so everything that goes over steps (dense output, transposes, replays)
goes over segments and, inside each, over steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.kernels import types as kt
from symode.solvers.methods import Tableau
from symode.solvers.options import TIGHT
from symode.solvers.tableau import ExplicitTableau

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Share of an explicit method's stability limit from which |h| ρ counts as stiff, for rtol from
#: 1e-5 and below. Held down by stability, it sits at 1.00, from 0.85 to 1.1 at loose tolerances.
#: Held down by accuracy, calm problems reach 0.8 at rtol 1e-2 (Lorenz), but 0.4 below 1e-5.
STIFF_FROM = {False: 0.9, True: 0.75}
#: Share of the explicit method's limit below which an implicit method hands over to it.
CALM_BELOW = 0.5
#: Signs in a row that make an explicit, and an implicit, method hand over.
PATIENCE = {False: 15, True: 20}
#: An explicit segment shorter than this many steps was a mistake: the implicit method then waits
#: `MISTAKEN` times longer before its next one.
SHORT, MISTAKEN = 60, 4
#: Logarithm of the error that the controller remembers where it remembers none.
LOG_SMALL_ERROR = math.log(1e-4)
#: Where patience ends: no further switch.
ENDLESS = 10**6


def stiff_from(rtol: float) -> float:
    """Return the share of the stability limit that counts as stiff at this tolerance."""
    return STIFF_FROM[rtol < TIGHT]


def can_watch(tableau: Tableau) -> bool:
    """Return whether a method can tell stiffness from its stages.

    An explicit one needs the slope of the new state at the end of its step. The other slope there
    is a stage's, or that of the embedded solution.

    Examples
    --------
    >>> from symode.solvers.methods import get_method
    >>> can_watch(get_method("tsit5")), can_watch(get_method("bosh3"))
    (True, True)
    """
    if not isinstance(tableau, ExplicitTableau):
        return tableau.implicit
    return tableau.fsal


class Jump(Protocol):
    """What happens to the state between two segments: z⁺ = g(z⁻, t, theta).

    None between segments that only change the method. An event gives one: it ends a segment at its
    time, `apply` makes the state from which the next one starts, and on the way back `transpose`
    turns the adjoint after it into the one before it.
    """

    @property
    def reason(self) -> str:
        """Why a segment ends with it, for the statistics."""
        ...

    def apply(self, t: float, z: Floats, theta: Floats) -> Floats:
        """Return the state after the jump. Shape ``(n,)``."""
        ...

    def transpose(
        self, t: float, z: Floats, theta: Floats, lam: Floats, dtheta_out: Floats
    ) -> Floats:
        """Return the adjoint before the jump; add the jump's own part to dJ/dtheta."""
        ...


@dataclass(eq=False)
class Stepper:
    """One method of a solve, bound to a system, with memory of its own.

    Parameters
    ----------
    tableau
        The method.
    compiled
        Machine code of the system; None where the caller binds the parameters itself.
    system, method, control, scratch
        What kernels need.
    stores
        Memory of its segments' steps, used again by the next solve.
    """

    tableau: Tableau
    compiled: NativeModel | None
    system: kt.System
    method: kt.Method
    control: kt.Control
    scratch: kt.Scratch
    stores: list[kt.Store] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Segment:
    """Steps of one method between two switches or jumps.

    Parameters
    ----------
    stepper
        The method that made them.
    store
        Its steps, where they are kept.
    steps
        How many.
    first, stop
        Observations inside: those at its end belong to it, those at its start to the one before.
    t0, t1
        Its ends.
    start
        State of the loop at t0. Shape ``(N,)``.
    count
        The kernel's counters at its end.
    reason
        Why it ended; empty where its jump tells.
    jump
        What the state does at its end; None where it goes on.
    """

    stepper: Stepper
    store: kt.Store
    steps: int
    first: int
    stop: int
    t0: float
    t1: float
    start: Floats
    count: Ints
    reason: str
    jump: Jump | None = None

    @property
    def method(self) -> kt.Method:
        """The method's coefficients as kernels take them."""
        return self.stepper.method

    @property
    def why(self) -> str:
        """Why it ended."""
        return self.reason or (self.jump.reason if self.jump is not None else "")

    @property
    def dense(self) -> tuple[kt.Method, kt.Store, int]:
        """What the interpolant needs: method, steps and their number."""
        return self.stepper.method, self.store, self.steps


@dataclass(frozen=True, eq=False, slots=True)
class Checkpoint:
    """Everything the loop knows between two steps: to go on from it is to repeat, bit by bit.

    Made by `Forward.take`, used by `Forward.restore`. Its size does not depend on the steps before
    it: clocks, counters, state, largest values and the first stage; for an implicit method that
    keeps more from step to step, all of its memory.

    Parameters
    ----------
    stepper
        The method.
    packed
        Content of `memory_between_steps`, in one array.
    """

    stepper: Stepper
    packed: Floats

    @property
    def t(self) -> float:
        """Time of the state."""
        return float(self.packed[kt.T])

    @property
    def y(self) -> Floats:
        """State of the loop. Shape ``(N,)``."""
        return self.packed[kt.N_CLOCK + kt.N_COUNT :][: self.stepper.scratch.y.size]

    @property
    def n_observed(self) -> int:
        """Observations before it."""
        return int(self.packed[kt.N_CLOCK + kt.NEXT_OBS])

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""
        return self.packed.nbytes


def memory_between_steps(stepper: Stepper) -> list[NDArray[Any]]:
    """Return the arrays that carry something from one step to the next; the first three are fixed.

    An explicit method carries its first stage; a stabilised one, the vector of its bound too. An
    implicit one may carry all its stages (to guess the next) and its factored matrix; a Rosenbrock
    method makes both anew at every step.
    """
    scratch = stepper.scratch
    shared = [scratch.clock, scratch.count, scratch.y, scratch.peak]
    if isinstance(stepper.method, kt.Erk):
        return [*shared, scratch.k[0]]
    if isinstance(stepper.method, kt.Chebyshev):
        # And the vector that bounds the spectral radius.
        return [*shared, scratch.k[0], scratch.row]
    if isinstance(stepper.method, kt.Rosenbrock):
        return shared
    known = set(kt.Scratch._fields) - {"clock", "count", "y", "peak", "work"}
    return [*shared, *(getattr(scratch, name) for name in sorted(known))]
