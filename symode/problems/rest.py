"""Rest: conditions that start from the steady state of another, and its derivatives."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.errors import OptionError
from symode.gradients.rest import Resting
from symode.problems.conditions import ParameterMap

if TYPE_CHECKING:
    from symode.problems.rest_events import EventRests

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Steady states kept, for the conditions that share them.
KEPT: Final = 16


@dataclass(frozen=True, eq=False)
class RestedMap:
    """The parameters of a condition whose starts are a steady state; see `ParameterMap`.

    Parameters
    ----------
    during, before
        Maps of the experiment, and of its pre-equilibration.
    rests
        Finds steady states.
    name
        Of the condition.
    states, starts
        Places of the states that start at rest, and of the parameters that are their starts.
    t0
        When the pre-equilibration starts, for models that depend on time.
    """

    during: ParameterMap
    before: ParameterMap | RestedMap
    rests: Rests | EventRests
    name: str
    states: Ints
    starts: Ints
    t0: float | None

    def theta(self, outer: Floats) -> Floats:
        """Return the model's parameters. Shape ``(m,)``."""
        theta = self.during.theta(outer).copy()
        resting = self.rests.state(self.before.theta(outer), self.t0 or 0.0)
        theta[self.starts] = resting[self.states]
        return theta

    def pull(self, gradient: Floats, outer: Floats) -> Floats:
        """Return rows times the derivatives of the parameters. Shape ``(..., size)``."""
        _, slopes = self.rests(self.before.theta(outer), self.t0 or 0.0)
        return self.during.pull(gradient, outer) + self.before.pull(
            gradient[..., self.starts] @ slopes[self.states], outer
        )

    @property
    def source(self) -> Ints:
        """Return that of the experiment."""
        return self.during.source

    @property
    def constant(self) -> Floats:
        """Return that of the experiment."""
        return self.during.constant

    @cached_property
    def places(self) -> Ints:
        """Parameters of the model that are expressions, starts at rest included."""
        return np.union1d(self.during.places, self.starts)

    @property
    def size(self) -> int:
        """Number of the problem's parameters."""
        return self.during.size

    @property
    def phases(self) -> tuple[ParameterMap, ...]:
        """The maps of the experiment and of its pre-equilibrations."""
        return self.during, *self.before.phases

    @property
    def is_identity(self) -> bool:
        """Never."""
        return False


class Rests:
    """Steady states of one model with their derivatives; the last ones are kept.

    Parameters
    ----------
    equations
        With initial values.

    Raises
    ------
    OptionError
        When the model has a mass matrix.

    Examples
    --------
    >>> import sympy as sp
    >>> x, y, a, b, t = sp.symbols("x y a b t")
    >>> rhs, start = (b * y - a * x, a * x - b * y), (a, sp.Integer(3))
    >>> swap = Equations((x, y), rhs, (a, b), t, initial=start)
    >>> z, slopes = Rests(swap)(np.array([1.0, 1.0]), 0.0)
    >>> z.round(9).tolist(), slopes.round(9).tolist()
    ([2.0, 2.0], [[-0.5, 1.0], [1.5, -1.0]])
    """

    def __init__(self, equations: Equations) -> None:
        if equations.mass is not None:
            raise OptionError("rest= of a Condition is not supported with a mass matrix.")
        self.equations = equations
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[Floats, Floats]] = OrderedDict()
        self._resting = Resting(equations)

    def __call__(self, theta: Floats, t0: float) -> tuple[Floats, Floats]:
        r"""Return the steady state, shape ``(n,)``, and its derivatives, shape ``(n, m)``.

        Raises
        ------
        SolverError
            When the model does not come to rest, or its steady states are not isolated.
        """
        key = theta.tobytes() + np.float64(t0).tobytes()
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                rest = self._resting.find(theta, t0=t0)
                found = self._kept[key] = rest.z, self._resting.slopes(rest)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return found

    def state(self, theta: Floats, t0: float) -> Floats:
        """Return the steady state alone."""
        return self(theta, t0)[0]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out machine code and results."""
        return {"equations": self.equations}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.__init__(state["equations"])  # type: ignore[misc]
