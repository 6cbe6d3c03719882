"""value_and_grad: an objective and its gradient as a function of one flat vector."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.equations.loss import LossLike, resolve_loss
from symode.equations.values import Named, by_label, initial_vector, real_array, vector
from symode.errors import InitialStateError, LossError, OptionError, ParameterError
from symode.gradients.choose import choose_method
from symode.gradients.methods import GradientMethod, get_gradient_method
from symode.gradients.methods.base import Runner
from symode.gradients.second_order import SecondOrder
from symode.gradients.setup import closed_span, make_layout
from symode.gradients.setup import make_task as make_task
from symode.gradients.task import Outcome
from symode.kernels import types as kt
from symode.solvers.options import check_names

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gradient:
    r"""The value of a loss and its derivatives.

    What was not asked for (``wrt=``) is left out: names, or, for times, NaN.

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


class ValueAndGrad(SecondOrder):
    """A loss as a function of one flat vector, with its gradient: compiled once, called often.

    Made by `Model.value_and_grad`. Calling it with a point returns ``(value, gradient)``, ready for
    ``scipy.optimize.minimize(vg, point, jac=True)``. Instances may be called from several threads.
    With z0 of shape ``(batch, n)``, value and gradient are those of the loss summed over the batch.

    Parameters
    ----------
    equations, loss
        Model and loss.
    wrt
        What the point holds, in this order: any of ``"theta"``, ``"z0"``, ``"t0"``, ``"t1"``,
        ``"times"`` (of the observations inside the span), names or symbols of parameters, and those
        of states for their initial values.
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
        wrt: Any = ("theta", "z0"),
        *,
        theta: Any = None,
        z0: Any = None,
        t0: float = 0.0,
        t1: float | None = None,
        method: str | GradientMethod = "auto",
        **options: Any,
    ) -> None:
        check_names(options, "value_and_grad()", "wrt", "theta", "z0", "t0", "t1", "method")
        self.equations, self.loss = equations, loss
        resolved = resolve_loss(loss, equations)
        span = closed_span(resolved, (t0, t1))
        self.layout = make_layout(equations, resolved, span, wrt)
        self._theta = self.layout.base("theta", theta)
        self._z0, from_initial = self._base_z0(z0)
        self.task = make_task(
            equations, resolved, span, from_initial=from_initial, asked=self.layout.asked,
            **options,
        )  # fmt: skip
        self.reason = "chosen by the caller"
        self.automatic = isinstance(method, str) and method.lower() == "auto"
        if self.automatic:
            self.method, self.reason = choose_method(self.task)
        else:
            self.method = get_gradient_method(method)
        self._parts = self.layout.parts
        self._local = threading.local()
        self._local.runner = self.method.prepare(self.task)

    def _base_z0(self, z0: Any) -> tuple[Floats | None, bool]:
        """Return z0 as far as it is not in the point, and whether the model gives all of it."""
        layout, _names = self.layout, self.equations.state_names
        if layout.places("z0"):
            return layout.base("z0", z0), False
        if z0 is not None:
            return initial_vector(self.equations, z0, batch=True), False
        if self.equations.initial is None:
            raise InitialStateError(
                "The model has no initial values: pass z0=, give the model initial=, or put 'z0' "
                "into wrt."
            )
        return None, True

    def __repr__(self) -> str:
        """Return what the point holds, and how the gradient is computed."""
        solver, names = self.task.options.label, ", ".join(self.names)
        span = f"({self.task.t0:g}, {self.task.t1:g})"
        return f"ValueAndGrad(point: {names}; span={span}, method={self.method!r}, {solver=!s})"

    @property
    def wrt(self) -> tuple[str, ...]:
        """What the point holds, as it was asked for."""
        return self.layout.wrt

    @property
    def size(self) -> int:
        """Length of the flat vector (for one trajectory)."""
        return self.layout.size

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries of the flat vector."""
        return self.layout.names

    def pack(
        self,
        theta: Any = None,
        z0: Any = None,
        t0: float | None = None,
        t1: float | None = None,
        times: Any = None,
    ) -> Floats:
        """Return the flat vector of these values, by name or in order, in the order of ``wrt``.

        Ends and times of observations default to those of the loss and the span.
        """
        given = {"t0": t0, "t1": t1}
        runs = []
        values: dict[str, Floats] = {}
        for part in self._parts:
            if part.kind in given:
                own = self.task.t0 if part.kind == "t0" else self.task.t1
                end = given[part.kind]
                runs.append(np.array([own if end is None else float(end)]))
                continue
            if part.kind not in values:
                source = {"theta": theta, "z0": z0, "times": times}[part.kind]
                values[part.kind] = (
                    self._free_times(source)
                    if part.kind == "times"
                    else self.layout.values(part.kind, source)
                )
            found = values[part.kind]
            runs.append(found if part.whole and part.kind == "z0" else found[part.among])
        return np.concatenate(runs)

    def _times(self) -> Floats:
        """Return all observation times, in the order of the loss."""
        times = np.empty(self.task.times.size)
        times[self.task.places] = self.task.times
        return times

    def _free_times(self, given: Any) -> Floats:
        places = list(self.layout.places("times"))
        own = self._times()
        if given is None:
            return own[places]
        times = np.asarray(given, dtype=float)
        if times.shape not in ((len(places),), own.shape):
            raise OptionError(
                f"times has shape {times.shape}; expected one for each of the {len(places)} "
                "observations inside the span, in the order of the loss."
            )
        return times if times.size == len(places) else times[places]

    def unpack(self, point: Floats) -> dict[str, Any]:
        """Return the named parts of a flat vector (or of a gradient)."""
        return self.layout.unpack(self._check(point))

    def __call__(self, point: Floats) -> tuple[float, Floats]:
        """Return (value, gradient) at a flat vector.

        Raises
        ------
        SolverError, GradientError
            When a pass fails: there is then no gradient.
        """
        theta, z0, moved = self._split(point)
        if z0 is not None and z0.ndim == 2:
            return self._summed(theta, z0)
        runner = self._runner(moved)
        runner.compute(theta, z0)
        found = runner.gradient
        slope = np.empty(self.layout.size)
        for part in self._parts:
            if part.kind == "theta":
                slope[part.at] = found.theta[part.among]
            elif part.kind == "z0":
                slope[part.at] = found.lam[part.places]
            elif part.kind == "times":
                slope[part.at] = runner.table.times[np.argsort(runner.task.places)[part.places]]
            else:
                slope[part.at] = found.scalars[kt.DT0 if part.kind == "t0" else kt.DT1]
        return float(found.scalars[kt.VALUE]), slope

    def outcome(self, point: Floats) -> Outcome:
        """Return the raw result at a flat vector."""
        theta, z0, moved = self._split(point)
        return self._runner(moved)(theta, z0)

    def _split(self, point: Any) -> tuple[Floats, Floats | None, dict[str, Any]]:
        """Return theta, z0 (two-dimensional for a batch) and moved times of a flat vector."""
        point = self._check(point)
        theta, z0 = self._theta, self._z0
        moved: dict[str, Any] = {}
        # A batch lengthens z0, and moves what stands after it.
        extra, later = point.size - self.layout.size, 0
        for part in self._parts:
            run = (
                point[part.at] if not later else point[part.at.start + later : part.at.stop + later]
            )
            if part.kind == "theta":
                theta = run if part.whole else _replaced(theta, part.places, run)
            elif part.kind == "z0" and part.whole:
                z0 = run
                if extra:
                    run = point[part.at.start : part.at.stop + extra]
                    z0, later = run.reshape(-1, self.equations.n_states), extra
            elif part.kind == "z0":
                assert z0 is not None
                z0 = _replaced(z0, part.places, run)
            elif part.kind == "times":
                moved[part.kind] = _replaced(self._times(), part.places, run)
            else:
                moved[part.kind] = float(run[0])
        return theta, z0, moved

    def _summed(self, theta: Floats, z0: Floats) -> tuple[float, Floats]:
        if {part.kind for part in self._parts} - {"theta", "z0"}:
            raise OptionError("A batch of z0 has gradients in theta and z0 only, not in times.")
        values, dtheta, dz0 = self.batch(theta, z0)
        total = dtheta.sum(axis=0)
        runs = [total[p.among] if p.kind == "theta" else dz0.ravel() for p in self._parts]
        return float(values.sum()), np.concatenate(runs)

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
            for the gradient of the summed loss. m counts the parameters asked for.
        """
        from symode.gradients.ensemble import run_members

        members = np.atleast_2d(initial_vector(self.equations, z0, batch=True))
        runners = self._pool(min(workers or os.cpu_count() or 1, members.shape[0]))
        parameters = self.equations.parameter_names
        values = vector(
            [] if theta is None and not parameters else theta,
            parameters,
            "parameters",
            ParameterError,
        )
        return run_members(values, members, runners)

    def _pool(self, count: int) -> list[Runner]:
        # One for each calling thread: a runner's arrays belong to one call at a time.
        pool: list[Runner] = self._local.__dict__.setdefault("pool", [])
        while len(pool) < count:
            pool.append(self.method.prepare(self.task))
        return pool[:count]

    def _runner(self, moved: Mapping[str, Any]) -> Runner:
        if not moved:
            return self._own_runner()
        task, times = self.task, moved.get("times")
        t0, t1 = moved.get("t0", task.t0), moved.get("t1", task.t1)
        if times is not None:
            _check_inside(times[list(self.layout.places("times"))], t0, t1)
            times = None if (times == self._times()).all() else times
        elsewhere = task.moved(t0, t1, times)
        if elsewhere is not task:
            return self.method.prepare(elsewhere)
        return self._own_runner()

    def _own_runner(self) -> Runner:
        runner: Runner | None = getattr(self._local, "runner", None)
        if runner is None:
            runner = self._local.runner = self.method.prepare(self.task)
        return runner

    def _check(self, point: Any) -> Floats:
        plain = type(point) is np.ndarray and point.dtype == np.float64
        array = point if plain else self._read(point)
        extra = array.size - self.layout.size
        batch = extra > 0 and extra % self.equations.n_states == 0 and self.layout.has_whole_z0
        if array.ndim != 1 or (extra and not batch):
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

    def _read(self, point: Any) -> Floats:
        """Return a point that is no float array as one."""
        point = by_label(point)
        if isinstance(point, Mapping):
            return vector(point, self.names, "entries of the point", OptionError)
        try:
            return real_array(point)
        except (TypeError, ValueError):
            raise OptionError(
                f"The point must be real numbers for {', '.join(self.names)}; got {point!r}. Make "
                "one with pack()."
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the machine code: it is compiled, or found in the store, where it is used."""
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore; runners are made on first use."""
        self.__dict__.update(state)
        self._local = threading.local()


def _replaced(values: Floats, places: NDArray[np.intp], run: Floats) -> Floats:
    """Return values with some of them replaced."""
    result = values.copy()
    result[places] = run
    return result


def _check_inside(times: Floats, t0: float, t1: float) -> None:
    """Raise unless all times lie strictly between the ends."""
    outside = ~((times > min(t0, t1)) & (times < max(t0, t1)))
    if outside.any():
        raise LossError(
            f"The observation time {times[outside][0]:g} in the point has left the span from "
            f"{t0:g} to {t1:g}. It may not reach the ends either: there it would be attached to "
            "them, with another derivative."
        )
