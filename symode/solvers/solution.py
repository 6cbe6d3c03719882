"""Solution: times, states, the interpolant and the statistics of one solve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from symode.errors import MissingExtraError, OptionError
from symode.kernels import types as kt
from symode.solvers.firing import Fired
from symode.solvers.stats import Stats as Stats
from symode.status import SENTENCES, SUCCESS

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    r"""A trajectory :math:`z(t)`.

    Parameters
    ----------
    t
        Times asked for, or those of the steps. Shape ``(k,)``.
    z
        States at these times, in the units of the states. Shape ``(k, n)``.
    names
        Names of the states.
    stats
        What it cost.
    status
        0, or the code of the failure (see `symode.status`).
    observables
        Values of the model's observables at ``t``, by name. Each of shape ``(k,)``.
    dense
        Steps of each segment, for the interpolant.
    events
        What fired, in order: each with ``t``, ``name``, and the states ``before`` and ``after``.
        At the time of an event ``z`` is the state after it; among the steps it is there twice, with
        the state before it first.
    """

    t: Floats
    z: Floats
    names: tuple[str, ...]
    stats: Stats
    status: int = SUCCESS
    observables: Mapping[str, Floats] = field(default_factory=dict)
    dense: tuple[tuple[kt.Method, kt.Store, int], ...] = field(default=(), repr=False)
    events: tuple[Fired, ...] = ()

    @property
    def success(self) -> bool:
        """Whether the solve reached its end."""
        return self.status == SUCCESS

    @property
    def message(self) -> str:
        """How the solve ended, in a sentence."""
        return SENTENCES[self.status]

    def __repr__(self) -> str:
        """Return the span, the names and what it cost."""
        s = self.stats
        span = f"t = {self.t[0]:g} to {self.t[-1]:g}" if self.t.size else "no times"
        return (
            f"Solution({', '.join(self.names)}; {self.t.size} times, {span}; {s.solver}: "
            f"{s.steps} steps, {s.rejected} rejected, {s.nfev} calls of f; {self.message})"
        )

    def __getitem__(self, name: Any) -> Floats:
        """Return the course of one state or observable, by name or symbol. Shape ``(k,)``."""
        key = str(name)
        if key in self.names:
            return self.z[:, self.names.index(key)]
        if key in self.observables:
            return self.observables[key]
        known = ", ".join([*self.names, *self.observables])
        raise OptionError(f"There is no state or observable {key!r}. Known: {known}.")

    def __call__(self, t: ArrayLike) -> Floats:
        """Return the interpolated state at times inside the span. Shape ``(n,)`` or ``(k, n)``."""
        if not self.dense:
            raise OptionError(
                "This solution kept no interpolant: solve with dense_output=True to call it."
            )
        from symode.kernels.dense import sample

        times = np.atleast_1d(np.asarray(t, dtype=float))
        starts = [store.t[0] for _, store, _ in self.dense]
        ends = starts[0], self.dense[-1][1].t[self.dense[-1][2]]
        slack = 1e-12 * abs(ends[1] - ends[0])
        bad = ~((times >= min(ends) - slack) & (times <= max(ends) + slack))
        if bad.any():
            raise OptionError(
                f"t = {times[bad][0]:g} lies outside the solved span {ends[0]:g} to {ends[1]:g}."
            )
        z = np.empty((times.size, self.dense[0][1].z.shape[1]))
        # A time on a border belongs to the segment that starts there.
        sign = 1.0 if ends[1] >= ends[0] else -1.0
        place = np.searchsorted(sign * np.array(starts[1:]), sign * times, side="right")
        for i, (method, store, n_steps) in enumerate(self.dense):
            mine = place == i
            part = np.empty((int(mine.sum()), z.shape[1]))
            weights = np.empty(method.n_dense)
            sample(
                np.ascontiguousarray(times[mine]), method, store.t, store.h, store.z, store.k,
                n_steps, weights, part,
            )  # fmt: skip
            z[mine] = part
        return z[0] if np.ndim(t) == 0 else z

    def plot(self, states: Any = None, ax: Any = None) -> Any:
        """Draw the states over time; return the matplotlib axes (needs the extra ``fit``)."""
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise MissingExtraError(
                "plot() needs matplotlib: install the extra, symode-adjoint[fit]."
            ) from error
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        for name in self.names if states is None else [str(s) for s in states]:
            (line,) = ax.plot(self.t, self[name], marker=None if self.dense else ".")
            line.set_label(name)
            if self.dense and name in self.names:
                fine = np.linspace(self.t[0], self.t[-1], 400)
                line.set_data(fine, self(fine)[:, self.names.index(name)])
        ax.set_xlabel("t")
        ax.legend()
        return ax
