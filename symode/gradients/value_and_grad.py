"""value_and_grad: an objective and its gradient as a function of one flat vector."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.equations.loss import LossLike, resolve_loss
from symode.equations.values import Named, named, vector
from symode.errors import InitialStateError, LossError, OptionError, ParameterError
from symode.gradients.choose import choose_method
from symode.gradients.methods import GradientMethod, get_gradient_method
from symode.gradients.methods.base import Runner
from symode.gradients.task import Outcome, Task
from symode.kernels import types as kt
from symode.solvers.options import check_names, make_options

Floats = NDArray[np.float64]

#: What a gradient can be taken with respect to.
ARGUMENTS = ("theta", "z0", "t0", "t1")


@dataclass(frozen=True, eq=False)
class Gradient:
    r"""The value of a loss and its derivatives.

    Parameters
    ----------
    value
        J.
    theta
        :math:`dJ/d\theta`, by name or position. Shape ``(m,)``.
    z0
        :math:`dJ/dz_0`. Shape ``(n,)``.
    t0, t1
        :math:`dJ/dt_0` and :math:`dJ/dt_1`, in units of J per unit of time; NaN for a batch.
    times
        :math:`dJ/dt_i` of the observations, in the order of the loss; 0 for those at t0 and t1,
        which are attached to these ends. Shape ``(K,)``; empty for a batch.
    stats
        Method, why it was chosen, and what the passes cost.
    """

    value: float
    theta: Named
    z0: Named
    t0: float
    t1: float
    times: Floats
    stats: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return the numbers by name."""
        return (
            f"Gradient(value={self.value:.10g}, theta=({self.theta!r}), z0=({self.z0!r}), "
            f"t0={self.t0:.8g}, t1={self.t1:.8g}, method={self.stats.get('method')})"
        )


def make_task(
    equations: Equations,
    loss: LossLike,
    span: tuple[float, float | None],
    *,
    from_initial: bool,
    backend: str = "llvm",
    **options: Any,
) -> Task:
    """Return the task of a loss over a span; t1 is the last observation where it is None.

    Raises
    ------
    LossError
        When the loss does not fit the model or the span.
    OptionError
        When a solver option is not valid.
    """
    resolved = resolve_loss(loss, equations)
    t0, t1 = span
    if t1 is None:
        if not resolved.times.size or resolved.terminal is not None or resolved.running is not None:
            raise LossError(
                "t1 is needed: only a loss of observations alone ends by itself, at the last one."
            )
        t1 = float(resolved.times.max())
    if not (np.isfinite(t0) and np.isfinite(t1)) or t0 == t1:
        raise LossError(f"The span must have two different finite ends; got ({t0}, {t1}).")
    solver = make_options(equations.state_names, **options)
    return Task(equations, resolved, float(t0), float(t1), solver, from_initial, backend)


class ValueAndGrad:
    """A loss as a function of one flat vector, with its gradient: compiled once, called often.

    Made by `Model.value_and_grad`. Calling it with a point returns ``(value, gradient)``, ready for
    ``scipy.optimize.minimize(vg, point, jac=True)``. Instances may be called from several threads.
    With z0 of shape ``(batch, n)``, value and gradient are those of the loss summed over the batch.

    Parameters
    ----------
    equations, loss
        Model and loss.
    wrt
        What the point holds, in this order: any of ``"theta"``, ``"z0"``, ``"t0"``, ``"t1"``.
    theta, z0
        Values of what is not in ``wrt``; z0 defaults to the model's initial values.
    t0, t1
        Span. t1 defaults to the last observation.
    method, solver, rtol, atol, max_steps, h_max, backend
        As in `Model.gradient`.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k])
    >>> vg = model.value_and_grad(symode.LeastSquares([1.0, 2.0], [[1.0], [0.6]]))
    >>> value, gradient = vg(vg.pack(theta=[0.7], z0=[2.0]))
    >>> gradient.shape
    (2,)
    """

    def __init__(
        self,
        equations: Equations,
        loss: LossLike,
        wrt: str | Sequence[str] = ("theta", "z0"),
        *,
        theta: Any = None,
        z0: Any = None,
        t0: float = 0.0,
        t1: float | None = None,
        method: str | GradientMethod = "auto",
        **options: Any,
    ) -> None:
        known = ("wrt", "theta", "z0", "t0", "t1", "method")
        check_names(options, "value_and_grad()", *known)
        self.equations = equations
        self.wrt = (wrt,) if isinstance(wrt, str) else tuple(wrt)
        self._check_wrt()
        self._theta = None if "theta" in self.wrt else self._parameters(theta)
        self._z0 = None
        from_initial = False
        if "z0" not in self.wrt:
            if z0 is not None:
                self._z0 = self._initial(z0, batch=True)
            elif equations.initial is None:
                raise InitialStateError(
                    "The model has no initial values: pass z0=, give the model initial=, or "
                    "put 'z0' into wrt."
                )
            else:
                from_initial = True
        self.task = make_task(equations, loss, (t0, t1), from_initial=from_initial, **options)
        self.reason = "chosen by the caller"
        if isinstance(method, str) and method.lower() == "auto":
            self.method, self.reason = choose_method(self.task)
        else:
            self.method = get_gradient_method(method)
        self._local = threading.local()
        self._local.runner = self.method.prepare(self.task)

    def __repr__(self) -> str:
        """Return what the point holds, and how the gradient is computed."""
        solver, names = self.task.options.tableau.name, ", ".join(self.names)
        span = f"({self.task.t0:g}, {self.task.t1:g})"
        return f"ValueAndGrad(point: {names}; span={span}, method={self.method!r}, {solver=!s})"

    @cached_property
    def size(self) -> int:
        """Length of the flat vector (for one trajectory)."""
        return sum(self._sizes.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries of the flat vector."""
        entries = {
            "theta": self.equations.parameter_names,
            "z0": tuple(f"{s}(t0)" for s in self.equations.state_names),
            "t0": ("t0",),
            "t1": ("t1",),
        }
        return tuple(name for part in self.wrt for name in entries[part])

    def pack(
        self, theta: Any = None, z0: Any = None, t0: float | None = None, t1: float | None = None
    ) -> Floats:
        """Return the flat vector of these values, by name or in order, in the order of ``wrt``."""
        parts: dict[str, Callable[[], Floats]] = {
            "theta": lambda: self._parameters(theta),
            "z0": lambda: self._initial(z0, batch=True).ravel(),
            "t0": lambda: np.array([self.task.t0 if t0 is None else float(t0)]),
            "t1": lambda: np.array([self.task.t1 if t1 is None else float(t1)]),
        }
        return np.concatenate([parts[part]() for part in self.wrt])

    def unpack(self, point: Floats) -> dict[str, Any]:
        """Return the named parts of a flat vector (or of a gradient)."""
        point = self._check(point)
        result: dict[str, Any] = {}
        at = 0
        for part, size in self._sizes.items():
            if part == "z0":
                size += point.size - self.size
            values = point[at : at + size]
            at += size
            if part == "theta":
                result[part] = named(values, self.equations.parameter_names)
            elif part == "z0":
                shape = (-1, self.equations.n_states) if point.size > self.size else (-1,)
                result[part] = named(values.reshape(shape), self.equations.state_names)
            else:
                result[part] = float(values[0])
        return result

    def __call__(self, point: Floats) -> tuple[float, Floats]:
        """Return (value, gradient) at a flat vector.

        Raises
        ------
        SolverError, GradientError
            When a pass fails: there is then no gradient.
        """
        theta, z0, ends = self._split(point)
        if z0 is not None and z0.ndim == 2:
            return self._summed(theta, z0)
        runner = self._runner(ends)
        runner.compute(theta, z0)
        found = runner.gradient
        slope = np.empty(self.size)
        for part, place in self._places.items():
            if part == "theta":
                slope[place] = found.theta
            elif part == "z0":
                slope[place] = found.lam[: self.equations.n_states]
            else:
                slope[place] = found.scalars[kt.DT0 if part == "t0" else kt.DT1]
        return float(found.scalars[kt.VALUE]), slope

    def outcome(self, point: Floats) -> Outcome:
        """Return the raw result at a flat vector, with the derivatives in everything."""
        theta, z0, ends = self._split(point)
        return self._runner(ends)(theta, z0)

    def _split(self, point: Any) -> tuple[Floats, Floats | None, dict[str, float]]:
        """Return theta, z0 (two-dimensional for a batch) and moved ends of a flat vector."""
        point = self._check(point)
        theta, z0 = self._theta, self._z0
        ends: dict[str, float] = {}
        # A batch lengthens z0, and moves what stands after it.
        extra, moved = point.size - self.size, 0
        for part, place in self._places.items():
            if moved:
                place = slice(place.start + moved, place.stop + moved)
            if part == "theta":
                theta = point[place]
            elif part == "z0" and extra:
                z0 = point[place.start : place.stop + extra].reshape(-1, self.equations.n_states)
                moved = extra
            elif part == "z0":
                z0 = point[place]
            else:
                ends[part] = float(point[place.start])
        assert theta is not None
        return theta, z0, ends

    def _summed(self, theta: Floats, z0: Floats) -> tuple[float, Floats]:
        values, dtheta, dz0 = self.batch(theta, z0)
        parts = {"theta": dtheta.sum(axis=0), "z0": dz0.ravel()}
        if not set(self.wrt) <= set(parts):
            raise OptionError("A batch of z0 has gradients in theta and z0 only, not in t0 or t1.")
        return float(values.sum()), np.concatenate([parts[part] for part in self.wrt])

    def batch(
        self, theta: Any, z0: Any, workers: int | None = None
    ) -> tuple[Floats, Floats, Floats]:
        r"""Return values and gradients of trajectories that share theta, computed on all cores.

        Parameters
        ----------
        theta
            Parameters.
        z0
            Initial values, shape ``(batch, n)``.
        workers
            Threads; the number of cores by default. The result does not depend on it.

        Returns
        -------
        values, dtheta, dz0
            Shapes ``(batch,)``, ``(batch, m)`` and ``(batch, n)``; sum the first two over the batch
            for the gradient of the summed loss.
        """
        from symode.gradients.ensemble import run_members

        members = vector(
            z0, self.equations.state_names, "initial values", InitialStateError, batch=True
        )
        members = np.atleast_2d(members)
        runners = self._pool(min(workers or os.cpu_count() or 1, members.shape[0]))
        return run_members(self._parameters(theta), members, runners)

    def _pool(self, count: int) -> list[Runner]:
        pool: list[Runner] = self.__dict__.setdefault("_runners", [])
        while len(pool) < count:
            pool.append(self.method.prepare(self.task))
        return pool[:count]

    def _runner(self, ends: Mapping[str, float]) -> Runner:
        if not ends:
            return self._own_runner()
        moved = self.task.moved(ends.get("t0", self.task.t0), ends.get("t1", self.task.t1))
        if moved is not self.task:
            return self.method.prepare(moved)
        return self._own_runner()

    def _own_runner(self) -> Runner:
        runner: Runner | None = getattr(self._local, "runner", None)
        if runner is None:
            runner = self._local.runner = self.method.prepare(self.task)
        return runner

    @cached_property
    def _places(self) -> dict[str, slice]:
        """Where each part stands in the flat vector of one trajectory."""
        stops = np.cumsum([*self._sizes.values()]).tolist()
        starts = [0, *stops[:-1]]
        return {part: slice(a, b) for part, a, b in zip(self._sizes, starts, stops, strict=True)}

    @cached_property
    def _sizes(self) -> dict[str, int]:
        sizes = {
            "theta": self.equations.n_parameters,
            "z0": self.equations.n_states,
            "t0": 1,
            "t1": 1,
        }
        return {part: sizes[part] for part in self.wrt}

    def _check(self, point: Any) -> Floats:
        array = np.asarray(point, dtype=float)
        extra = array.size - self.size if "z0" in self.wrt else 0
        batch = extra > 0 and extra % self.equations.n_states == 0
        if array.ndim != 1 or (array.size != self.size and not batch):
            raise OptionError(
                f"The point has shape {array.shape}; expected ({self.size},) for "
                f"{', '.join(self.names)}. Make one with pack()."
            )
        # The sum is finite unless an entry is not (or they overflow: then look closely).
        if not math.isfinite(array.sum()) and not np.isfinite(array).all():
            bad = np.flatnonzero(~np.isfinite(array))
            names = [self.names[i] if array.size == self.size else f"entry {i}" for i in bad]
            raise ParameterError(f"The point is not finite in {', '.join(names)}.")
        return array

    def _check_wrt(self) -> None:
        unknown = [part for part in self.wrt if part not in ARGUMENTS]
        if unknown or not self.wrt or len(set(self.wrt)) < len(self.wrt):
            raise OptionError(
                f"wrt must hold some of {', '.join(ARGUMENTS)}, each once; got {self.wrt}."
            )

    def _parameters(self, theta: Any) -> Floats:
        names = self.equations.parameter_names
        if theta is None and not names:
            return np.empty(0)
        return vector(theta, names, "parameters", ParameterError)

    def _initial(self, z0: Any, batch: bool = False) -> Floats:
        names = self.equations.state_names
        return vector(z0, names, "initial values", InitialStateError, batch=batch)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the machine code: it is compiled, or found in the store, where it is used."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_local", "_runners")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore; runners are made on first use."""
        self.__dict__.update(state)
        self._local = threading.local()
