"""FiniteDifference: differences of J, with steps chosen by an error balance that is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from symode.errors import GradientError, OptionError
from symode.gradients.directions import close_directions
from symode.gradients.methods.base import (
    Floats,
    begin,
    check_loss,
    failed_forward,
    make_forward,
)
from symode.gradients.methods.watched import WatchedRunner
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.status import SUCCESS

#: How much tighter than asked the solves of ``steps="resolved"`` are, and the tightest tolerance.
TIGHTER, TIGHTEST = 1e-3, 1e-13
#: Steps tried around the balance of rounding against truncation: each four times the next.
LADDER = (64.0, 16.0, 4.0, 1.0, 0.25)
#: Largest step, relative to what is moved.
LARGEST = 0.05
#: Places, in units of rounding, where J is sampled to measure its noise.
WHISPER = 4e-15
#: Weights of J(x + k u) in u times the derivative, for k = 1, 2: central differences.
STENCILS = {2: (0.5,), 4: (2.0 / 3.0, -1.0 / 12.0)}

Objective = Callable[[int, float], float]


@dataclass(frozen=True)
class FiniteDifference:
    r"""Central differences of J in each parameter and initial value.

    .. math:: \frac{J(x + u) - J(x - u)}{2u} \quad\text{or}\quad
              \frac{8 (J(x + u) - J(x - u)) - (J(x + 2u) - J(x - 2u))}{12 u}

    A judge: it uses no derivative of anything. u is the step with the least sum of truncation
    (from two steps four apart) and rounding (noise of J, measured, over u); the sum is reported in
    ``stats`` for each direction. t0, t1 and the observation times follow from dJ/dz0 by the
    formulas of the theory page. Refuses nothing that solves: the user's solver included.

    Parameters
    ----------
    order
        2 or 4.
    step
        u relative to each parameter and initial value (absolute where that is 0); found by the
        balance by default.
    steps
        "frozen": J replayed along the accepted steps, which makes it smooth; the derivative of the
        computed numbers. "resolved": J solved anew each time, at tolerances 1000 times tighter.

    References
    ----------
    Gill, Murray, Saunders & Wright (1983), *Computing forward-difference intervals for numerical
    optimization*, SIAM J. Sci. Stat. Comput. 4, 310-321.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k])
    >>> gradient = model.gradient(
    ...     symode.Loss(terminal=x**2), (0, 1), theta=[0.7], z0=[2.0],
    ...     method=symode.FiniteDifference(order=4))
    >>> round(gradient.theta["k"], 6), gradient.stats["error_estimate"] < 1e-9
    (-1.972776, True)
    """

    order: Literal[2, 4] = 4
    step: float | None = None
    steps: Literal["frozen", "resolved"] = "frozen"

    def __post_init__(self) -> None:
        if self.order not in STENCILS:
            raise OptionError(f"order must be 2 or 4; got {self.order!r}.")
        if self.steps not in ("frozen", "resolved"):
            raise OptionError(f"steps must be 'frozen' or 'resolved'; got {self.steps!r}.")
        good = self.step is None or (isinstance(self.step, int | float) and 0 < self.step < 1)
        if not good:
            raise OptionError(f"step must lie between 0 and 1; got {self.step!r}.")

    @property
    def name(self) -> str:
        """Short name, as in tables."""
        return "finite_difference"

    def prepare(self, task: Task) -> DifferenceRunner:
        """Compile what the task needs; return the function that computes."""
        return DifferenceRunner(task, (), self)

    def differentiate(self, objective: Objective, sizes: Floats, at_zero: float) -> Differences:
        """Return the derivatives of a function along each direction, with their errors.

        Parameters
        ----------
        objective
            ``objective(j, u)``: J with direction j moved by u times its size.
        sizes
            Size of each direction.
        at_zero
            J where nothing moves.
        """
        found = [self._along(objective, j, at_zero) for j in range(sizes.size)]
        values, errors = np.array(found).reshape(-1, 2).T if found else np.empty((2, 0))
        return Differences(values / sizes, errors / sizes, sizes)

    def _along(self, objective: Objective, j: int, at_zero: float) -> tuple[float, float]:
        samples = [objective(j, k * WHISPER) for k in (-2, -1, 1, 2)]
        spread = [abs(s - at_zero) for s in samples if np.isfinite(s)]
        noise = max(max(spread, default=0.0), float(np.spacing(abs(at_zero))))

        def difference(u: float) -> float:
            total = 0.0
            for k, weight in enumerate(STENCILS[self.order], start=1):
                total += weight * (objective(j, k * u) - objective(j, -k * u))
            return total / u

        def truncation(fine: float, coarse: float, ratio: float) -> float:
            # As if the error fell at order 2 only: far from 0 a difference is not yet at its order.
            return abs(fine - coarse) / (ratio**2 - 1.0)

        if self.step is not None:
            fine, coarse = difference(self.step), difference(2.0 * self.step)
            return fine, truncation(fine, coarse, 2.0) + noise / self.step
        relative = noise / abs(at_zero) if noise < abs(at_zero) else 1e-16
        middle = min(max(relative, 1e-16) ** (1.0 / (self.order + 1)), LARGEST)
        best = (float("nan"), float("inf"))
        before, coarse = float("inf"), float("nan")
        for factor in LADDER:
            u = middle * factor
            if u > LARGEST:
                continue
            fine = difference(u)
            error = truncation(fine, coarse, before / u) + noise / u
            if error < best[1]:
                best = (fine, error)
            before, coarse = u, fine
        return best


@dataclass(frozen=True, eq=False)
class Differences:
    """Derivatives, estimates of their errors, and the sizes of the directions. Shapes ``(k,)``."""

    values: Floats
    errors: Floats
    sizes: Floats

    def stats(self) -> dict[str, object]:
        """Return the estimates: one number, in the scaled norm, and one for each direction."""
        total = float(np.linalg.norm(self.values * self.sizes))
        error = float(np.linalg.norm(self.errors * self.sizes))
        return {
            "error_estimate": error / total if total > 0.0 else error,
            "errors": self.errors.copy(),
        }


def sizes_of(task: Task, theta: Floats, y0: Floats) -> Floats:
    """Return the sizes of the parameters asked for and of the initial values; 1 where 0."""
    both = np.abs(np.concatenate([task.chosen(theta), y0[: task.equations.n_states]]))
    return np.where(both == 0.0, 1.0, both)


def moved_point(
    task: Task, theta: Floats, sizes: Floats, j: int, u: float
) -> tuple[Floats, Floats]:
    """Return theta, and what is added to z0, with direction j moved by u times its size."""
    offset = np.zeros(task.equations.n_states)
    if j >= task.m:
        offset[j - task.m] = u * sizes[j]
        return theta, offset
    changed = theta.copy()
    changed[task.wrt[j]] += u * sizes[j]
    return changed, offset


class DifferenceRunner(WatchedRunner):
    """A `FiniteDifference` made ready for one task."""

    switches = True

    def __init__(self, task: Task, watched: tuple[int, ...], method: FiniteDifference) -> None:
        if method.steps == "resolved":
            options = task.options
            ratio = max(TIGHTEST, options.rtol * TIGHTER) / options.rtol
            task = task.with_options(
                replace(
                    options, rtol=options.rtol * ratio, atol=options.atol * ratio,
                    max_steps=100 * options.max_steps,
                )
            )  # fmt: skip
        super().__init__(task, watched)
        self.method = method
        self._found: Differences | None = None

    def _refuse_jumps(self, theta: Floats, z0: Floats | None) -> None:
        # Differences of solves know what a jump does; those of one solve's steps do not.
        if self.method.steps == "frozen":
            super()._refuse_jumps(theta, z0)

    def _sibling(self, watched: tuple[int, ...]) -> DifferenceRunner:
        method = self.method
        sibling = DifferenceRunner(self.task, watched, replace(method, steps="frozen"))
        sibling.method = method
        return sibling

    def _run(self, theta: Floats, z0: Floats | None) -> Floats:
        from symode.kernels.gradient import loss_value

        task, forward = self.task, self.forward
        start = begin(task, forward, self.compiled, theta, z0)
        forward.reset(
            np.concatenate([start, np.zeros(forward.scratch.y.size - task.n)]), task.t0, task.t1
        )
        if self.watched:
            self._start_tangents(theta, z0)
        status = forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        peak = forward.scratch.peak[: task.n_watched].copy()
        loss_value(self.system, forward.observations, self.table, forward.scratch, self.gradient)
        check_loss(task, self.gradient, self.table)
        sizes = sizes_of(task, theta, start)
        frozen = self.method.steps == "frozen"
        value = self._replayed() if frozen else self._resolved()
        self._found = self.method.differentiate(
            lambda j, u: value(*moved_point(task, theta, sizes, j, u), z0),
            sizes,
            value(theta, np.zeros(task.equations.n_states), z0),
        )
        if not np.isfinite(self._found.values).all():
            raise GradientError(
                "J is not finite beside this point: the differences have no value. Choose a "
                "smaller step=, or a method that stays at the point."
            )
        begin(task, forward, self.compiled, theta, z0)
        close_directions(
            task, self.system, self.table, self.gradient, forward.scratch, start,
            self._found.values[: task.m], self._found.values[task.m :], z0 is None,
        )  # fmt: skip
        return peak

    def _replayed(self) -> Callable[[Floats, Floats, Floats | None], float]:
        """Return J along the accepted steps."""
        from symode.gradients.verify.frozen import FrozenLoss
        from symode.solvers.replay import steps_of

        frozen = FrozenLoss(self.task, steps_of(self.forward))
        return lambda theta, offset, z0: frozen(theta, z0, offset)

    def _resolved(self) -> Callable[[Floats, Floats, Floats | None], float]:
        """Return J solved anew; NaN where the solve fails."""
        from symode.gradients.verify.frozen import builder
        from symode.kernels.gradient import loss_value

        task = self.task
        build = builder(task, "rhs")
        compiled, system = build(task.options)
        forward = make_forward(task, compiled, system, keep=False, lazy=True, build=build)
        table, gradient = task.loss_table(), task.gradient_arrays()

        def value(theta: Floats, offset: Floats, z0: Floats | None) -> float:
            y0 = begin(task, forward, compiled, theta, z0)
            y0[: offset.size] += offset
            forward.reset(y0, task.t0, task.t1)
            if forward.run() != SUCCESS:
                return float("nan")
            loss_value(system, forward.observations, table, forward.scratch, gradient)
            return float(gradient.scalars[kt.VALUE])

        return value

    def stats(self) -> dict[str, object]:
        """Return what the last call cost, and the estimated error of its result."""
        found: Differences = self._last._found
        return {
            "method": "finite_difference",
            "forward": self.forward.stats,
            **found.stats(),
        }
