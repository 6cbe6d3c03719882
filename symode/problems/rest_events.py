r"""Rest of models with events: simulated through them, with tangents, until nothing changes.

Where an event may still come, no equation tells the steady state: the trajectory does. So it is
followed through its events with :math:`dz/d\theta` beside it; both are at rest once they have not
changed over nine tenths of the time so far and f says that they will not. Conserved totals are
those of the last event, which tangents carry over by themselves.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.codegen.reference import evaluate
from symode.equations.equations import Equations
from symode.equations.loss import Loss, ObservationGroup
from symode.errors import GradientError, SolverError
from symode.gradients.residuals import Residuals
from symode.interface.model import Model
from symode.problems.rest import KEPT, Rests
from symode.solvers.options import DEFAULT_STIFF
from symode.symbolic.lift import lift_expressions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Times after the start at which rest is looked for: no round numbers, at which events happen.
TIMES: Final = tuple(13.7 * 10.0**k for k in range(12))
#: Change over the last nine tenths of the time, relative to the size, that counts as none.
SAME: Final = 1e-7
#: Later than any event that comes.
FAR: Final = 1e100
OPTIONS: Final[dict[str, Any]] = {
    "solver": DEFAULT_STIFF,
    "rtol": 1e-10,
    "atol": 1e-12,
    "max_steps": 100_000,
}


def may_fire(equations: Equations, source: Ints, constant: Floats, places: Ints) -> bool:
    """Return whether any event can come where parameters are these.

    One at a time that is a number beyond 1e100 cannot.

    Examples
    --------
    >>> import symode
    >>> x, t, tau = sp.symbols("x t tau")
    >>> model = symode.Model({x: -x}, parameters=[tau], time=t, initial={x: 1},
    ...                      events=[symode.Event(t >= tau, {x: 2})])
    >>> given = np.array([-1]), np.array([1e300]), np.array([], dtype=np.int64)
    >>> may_fire(model.equations, *given)
    False
    """
    known = {
        parameter: constant[i]
        for i, parameter in enumerate(equations.parameters)
        if source[i] < 0 and i not in places
    }
    return any(not _is_far(event.trigger, equations.time, known) for event in equations.events)


def _is_far(trigger: sp.Basic, time: sp.Symbol, known: dict[sp.Symbol, float]) -> bool:
    if not isinstance(trigger, sp.Ge | sp.Gt) or trigger.lhs != time:
        return False
    return bool(known.get(trigger.rhs, 0.0) > FAR)


def make_rests(equations: Equations, fires: bool) -> Rests | EventRests:
    """Return what finds steady states, through events where any may come."""
    return EventRests(equations) if fires else Rests(equations)


class EventRests:
    """Steady states that are reached through events; see `Rests`.

    Parameters
    ----------
    equations
        With initial values and events.

    Examples
    --------
    >>> import symode
    >>> x, k, t = sp.symbols("x k t")
    >>> model = symode.Model({x: k * (1 - x)}, parameters=[k], time=t, initial={x: 0},
    ...                      events=[symode.Event(x > 0.5, {x: 3})])
    >>> z, slopes = EventRests(model.equations)(np.array([1.0]), 0.0)
    >>> bool(abs(z[0] - 1.0) < 1e-9), slopes.shape
    (True, (1, 1))
    """

    def __init__(self, equations: Equations) -> None:
        self.equations = equations
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[Floats, Floats]] = OrderedDict()
        self._made: dict[tuple[float, float], Residuals] = {}

    def __call__(self, theta: Floats, t0: float) -> tuple[Floats, Floats]:
        r"""Return the steady state, shape ``(n,)``, and its derivatives, shape ``(n, m)``.

        Raises
        ------
        SolverError
            When the model does not come to rest.
        """
        key = theta.tobytes() + np.float64(t0).tobytes()
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = self._find(theta, t0)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return found

    def state(self, theta: Floats, t0: float) -> Floats:
        """Return the steady state alone, also where it has no derivatives.

        Raises
        ------
        SolverError
            When the model does not come to rest.
        """
        try:
            return self(theta, t0)[0]
        except GradientError:
            pass
        before: Floats | None = None
        for t, z in self._courses(theta, t0):
            speed, size = self._speed(t, z, theta)
            resting = bool((np.abs(speed) * (t - t0) <= SAME * size).all())
            if resting and before is not None and bool((np.abs(z - before) <= SAME * size).all()):
                return z
            before = z
        raise self._restless(t, z, theta)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out machine code and results."""
        return {"equations": self.equations}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.__init__(state["equations"])  # type: ignore[misc]

    @cached_property
    def _rhs(self) -> Any:
        return lift_expressions(self.equations, self.equations.rhs)

    def _find(self, theta: Floats, t0: float) -> tuple[Floats, Floats]:
        before: tuple[Floats, Floats] | None = None
        for t, z, slopes in self._states(theta, t0):
            speed, size = self._speed(t, z, theta)
            resting = bool((np.abs(speed) * (t - t0) <= SAME * size).all())
            if resting and before is not None:
                same = bool((np.abs(z - before[0]) <= SAME * size).all())
                if same and self._settled(before[1], slopes, size, theta):
                    return z, slopes
            before = z, slopes
        raise self._restless(t, z, theta)

    @staticmethod
    def _settled(before: Floats, slopes: Floats, size: Floats, theta: Floats) -> bool:
        """Whether tangents have not changed, in their own size or that of state by parameter."""
        change = np.abs(slopes - before)
        largest = np.abs(slopes).max(axis=0, initial=0.0)
        unit = np.where(theta == 0.0, 1.0, np.abs(theta))
        return bool(((change <= SAME * largest) | (change * unit <= SAME * size[:, None])).all())

    def _speed(self, t: float, z: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """Return f, and the size of each state."""
        speed = np.array([float(v) for v in evaluate(self._rhs, t, z, theta)])
        return speed, np.abs(z) + 10.0 * OPTIONS["atol"] / SAME

    def _restless(self, t: float, z: Floats, theta: Floats) -> SolverError:
        speed, size = self._speed(t, z, theta)
        worst = int(np.argmax(np.abs(speed) / size))
        return SolverError(
            f"The model does not come to rest: at t = {t:.3g} the state "
            f"{self.equations.state_names[worst]} still changes at {speed[worst]:.3g} per unit of "
            "time."
        )

    def _courses(self, theta: Floats, t0: float) -> Iterator[tuple[float, Floats]]:
        model = Model(self.equations)
        for span in TIMES:
            solution = model.solve(
                (t0, t0 + span), theta=theta, times=[t0 + span], dense_output=False, **OPTIONS
            )
            yield t0 + span, solution.z[-1].copy()

    def _states(self, theta: Floats, t0: float) -> Iterator[tuple[float, Floats, Floats]]:
        for span in TIMES:
            residuals = self._residuals(t0, t0 + span)
            try:
                z, slopes = residuals.compute(theta)
            except SolverError as error:
                error.args = (f"On its way to rest: {error.args[0]}",)
                raise
            yield t0 + span, z.copy(), slopes.copy()

    def _residuals(self, t0: float, t: float) -> Residuals:
        if (t0, t) not in self._made:
            groups = [ObservationGroup(state, np.array([t])) for state in self.equations.states]
            self._made[t0, t] = Residuals(
                self.equations,
                Loss(observations=groups),
                list(self.equations.parameter_names),
                t0=t0,
                t1=t,
                shared=next(iter(self._made.values()), None),
                **OPTIONS,
            )
        return self._made[t0, t]
