"""What all gradient methods share: the contract, the forward pass, and its failures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import CompiledModel, NativeModel
from symode.errors import GradientError, SolverError
from symode.gradients.jumps import USE_JUMPS, refuse_events
from symode.gradients.mass import USE_STEPS, refuse_mass, start_from
from symode.gradients.task import Outcome, Task, outcome
from symode.kernels import types as kt
from symode.solvers.events import EventRun
from symode.solvers.forward import Build
from symode.solvers.integrate import Forward, JacobianFunction, solver_error
from symode.status import SENTENCES

Floats = NDArray[np.float64]


class Runner(ABC):
    """A gradient method made ready for one task; called often, by one thread at a time.

    Subclasses set ``task``, ``gradient`` and ``table`` and leave the results of `compute` in the
    last two.
    """

    task: Task
    gradient: kt.Gradient
    table: kt.LossTable

    @abstractmethod
    def compute(self, theta: Floats, z0: Floats | None) -> None:
        """Compute value and gradient; z0 is None where the model's own initial values count.

        Raises
        ------
        SolverError, GradientError
            When a pass fails or a number is not finite.
        """

    @abstractmethod
    def stats(self) -> dict[str, object]:
        """Return what the last call cost."""

    def __call__(self, theta: Floats, z0: Floats | None) -> Outcome:
        """Return value and gradient as an outcome of its own."""
        self.compute(theta, z0)
        stats, kinks = self.stats(), self.one_sided
        if kinks:
            stats = {**stats, "one_sided": kinks}
        return outcome(self.task, self.gradient, self.table, stats)

    @property
    def one_sided(self) -> tuple[str, ...]:
        """Where J has a kink, from which side the derivative was taken; one sentence each."""
        forward: Forward | None = getattr(getattr(self, "_last", self), "forward", None)
        events = None if forward is None else forward.events
        return () if events is None else events.one_sided


@runtime_checkable
class GradientMethod(Protocol):
    """A way to compute gradients: a frozen value holding its options."""

    @property
    def name(self) -> str:
        """Short name, as in tables."""
        ...

    def prepare(self, task: Task) -> Runner:
        """Compile what the task needs; return the function that computes."""
        ...


def make_forward(
    task: Task,
    compiled: NativeModel,
    system: kt.Field | kt.Tangents,
    *,
    keep: bool,
    lazy: bool,
    tangent_atol: Floats | None = None,
    weight: Floats | None = None,
    build: Build | None = None,
    takes_mass: bool = False,
    takes_events: bool = False,
    tells: bool = False,
    kind: type[Forward] = Forward,
) -> Forward:
    """Return the memory of the task's forward pass.

    ``build`` makes model and system for options with another method: without it the pass keeps to
    the first of ``solver="auto"``. For ``tells`` see `Forward`.
    """
    from symode.solvers.native import make_observations

    if not takes_mass:
        refuse_mass(task.equations, "This gradient method", USE_STEPS)
    if not takes_events:
        refuse_events(task.equations, "This gradient method", USE_JUMPS)
    size = task.n if tangent_atol is None else task.n + tangent_atol.size
    forward = kind(
        system,
        task.options,
        make_observations(task.times, size),
        task.equations.n_states,
        compiled.work_size,
        keep=keep,
        # Events are looked for between steps.
        lazy=lazy and not (keep and task.events),
        tangent_atol=tangent_atol,
        weight=weight,
        build=build,
        tells=tells,
    )
    if keep and task.events is not None:
        forward.events = EventRun(task.events)
    if task.forcing is not None:
        task.forcing.check(task.t0, task.t1)
        forward.stops = task.forcing.stops
    forward.control.atol[task.uncounted] = np.inf
    return forward


def begin(
    task: Task, forward: Forward, compiled: NativeModel, theta: Floats, z0: Floats | None
) -> Floats:
    """Bind theta and return the state at t0 (length n), consistent where there is a mass matrix."""
    p = compiled.pack(theta, forward.system.p)
    own = z0 is None
    y0 = compiled.call("initial", task.t0, np.zeros(task.n), p) if own else task.start(z0)
    return y0 if task.mass is None else start_from(task, forward, compiled, y0, p)


def failed_forward(task: Task, forward: Forward, status: int) -> SolverError:
    """Return the error of a forward pass that did not reach its end."""
    return solver_error(
        status, task.equations.state_names, forward, jacobian_function(task, forward.system.p)
    )


def jacobian_function(task: Task, p: Floats) -> JacobianFunction:
    """Return ∂f/∂z as a function of (t, z), compiled when first called."""

    def jacobian(t: float, z: Floats) -> Floats:
        count = task.n_inputs
        compiled = CompiledModel({"jac": ("field", task.field.jacobian.graph)}, count)
        full = np.zeros(task.n)
        full[: z.size] = z
        values = compiled.call("jac", t, full, compiled.pack(p[:count]))
        matrix = np.zeros((task.n, task.n))
        matrix[list(task.field.jacobian.rows), list(task.field.jacobian.cols)] = values[
            : len(task.field.jacobian.rows)
        ]
        return matrix

    return jacobian


def failed_backward(task: Task, t: float, status: int, advice: str) -> GradientError:
    """Return the error of a backward pass that stopped at t."""
    return GradientError(
        f"The backward pass stopped at t = {t:.6g} on its way from {task.t1:g} to {task.t0:g}: "
        f"{SENTENCES[status]}. {advice}"
    )


def check_finite(task: Task, gradient: kt.Gradient) -> None:
    """Pass if every number of a closed gradient is finite.

    Raises
    ------
    GradientError
        Naming the entries that are not.
    """
    if gradient.scalars[kt.CHECK] == 0.0:
        return
    parameters = task.equations.parameter_names
    names = (*(parameters[j] for j in task.wrt), *task.equations.state_names)
    values = np.concatenate([gradient.theta, gradient.lam[: task.equations.n_states]])
    raise _not_finite(float(gradient.scalars[kt.VALUE]), names, values)


def check_loss(task: Task, gradient: kt.Gradient, table: kt.LossTable) -> None:
    """Pass if a loss and its slopes in z are finite after a forward pass.

    Otherwise a backward pass would stop at them, and blame its step size.

    Raises
    ------
    GradientError
        Naming the states.
    """
    value = float(gradient.scalars[kt.VALUE])
    total = np.abs(gradient.lam) + np.abs(table.seeds).sum(axis=0)
    if not (np.isfinite(value) and np.isfinite(total).all()):
        names = task.equations.state_names
        raise _not_finite(value, names, total[: len(names)])


def _not_finite(value: float, names: Sequence[str], slopes: Floats) -> GradientError:
    if not np.isfinite(value):
        return GradientError(
            f"The loss is {value}: it is not defined on this trajectory. Look for a logarithm, "
            "root or division in the loss that meets zero or negative values."
        )
    bad = [name for name, slope in zip(names, slopes, strict=True) if not np.isfinite(slope)]
    return GradientError(
        f"The loss is {value:.6g}, but its derivative is not finite in {', '.join(bad)}: a term "
        "such as sqrt or a power has an infinite slope here."
    )
