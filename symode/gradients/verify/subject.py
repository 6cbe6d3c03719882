"""Subject: the gradient under test, with what all checks share, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symode.errors import SymodeError
from symode.gradients.methods import (
    CheckpointedAdjoint,
    DiscreteAdjoint,
    ForwardSensitivity,
    GradientMethod,
)
from symode.gradients.task import Outcome, Task
from symode.gradients.verify.frozen import base_solve, own_solve
from symode.solvers.replay import Steps, steps_of

if TYPE_CHECKING:
    from symode.gradients.verify.proof import Statement
    from symode.gradients.verify.reference_run import Reference

Floats = NDArray[np.float64]

#: Ratio of the two tolerances that are compared.
TOLERANCE_RATIO = 100.0
#: Below this rtol the second run is looser instead of tighter: rounding would decide.
TIGHTEST = 1e-12
#: Relative distance of the point whose gradient tells whether the one here is small.
NEARBY = 1e-4

#: Methods that differentiate the steps of a solve, and so agree with their differences to rounding.
#: Continuous adjoints, with steps of their own backwards, agree to the tolerance.
STEP_DERIVATIVES: tuple[type, ...] = (
    DiscreteAdjoint,
    CheckpointedAdjoint,
    ForwardSensitivity,
)


@dataclass(frozen=True, eq=False)
class Subject:
    r"""A method at a point, and the same at a second tolerance.

    The variables of all checks are x = (theta, z0): where z0 comes from the model's initial values,
    it is :math:`z_0(\theta, t_0)` plus an offset, so that both parts of a method's result are
    derivatives of one function.

    Parameters
    ----------
    task
        Model, loss, span, solver and tolerances.
    method
        The method whose gradient is verified.
    theta, z0
        The point; z0 is None where the model's own initial values count.
    seed
        Of the random directions.
    reference_digits
        Digits of the reference; None for the usual ones where they are cheap, 0 for none.
    """

    task: Task
    method: GradientMethod
    theta: Floats
    z0: Floats | None
    seed: int = 0
    reference_digits: int | None = None
    _known: dict[tuple[str, float], Outcome | SymodeError] = field(default_factory=dict)
    _steps: dict[float, Steps] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def second(self) -> Task:
        """The same task on another mesh: tolerances 100 times tighter, or looser at the limit."""
        options = self.task.options
        ratio = 1.0 / TOLERANCE_RATIO
        if options.rtol * ratio < TIGHTEST:
            ratio = TOLERANCE_RATIO
        # Scaled alike, or the tolerance that is not scaled would decide.
        changed = replace(options, rtol=min(options.rtol * ratio, 0.1), atol=options.atol * ratio)
        return self.task.with_options(changed)

    @property
    def tasks(self) -> tuple[Task, Task]:
        """Both tasks, the looser first."""
        a, b = self.task, self.second
        return (a, b) if a.options.rtol >= b.options.rtol else (b, a)

    def outcome(self, method: GradientMethod, task: Task) -> Outcome:
        """Return the result of a method, computed once.

        Raises
        ------
        SymodeError
            Of the method, each time again.
        """
        key = (repr(method), task.options.rtol)
        if key not in self._known:
            try:
                self._known[key] = method.prepare(task)(self.theta, self.z0)
            except SymodeError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, SymodeError):
            raise found
        return found

    @property
    def differentiates_steps(self) -> bool:
        """Whether the method's result is the derivative of the computed numbers."""
        return isinstance(self.method, STEP_DERIVATIVES)

    def steps(self, task: Task) -> Steps:
        """Return the accepted steps along which the method computes J, computed once."""
        rtol = task.options.rtol
        if rtol not in self._steps:
            forward = own_solve(task, self.method, self.theta, self.z0)
            self._steps[rtol] = steps_of(forward)
        return self._steps[rtol]

    @cached_property
    def _ranges(self) -> tuple[Floats, Floats]:
        forward = base_solve(self.task, DiscreteAdjoint(), self.theta, self.z0)
        states = self.task.equations.n_states
        first = forward.segments[0].store
        return first.z[0, :states].copy(), forward.scratch.peak[:states].copy()

    @property
    def start(self) -> Floats:
        """Values of z0. Shape ``(n,)``."""
        return self._ranges[0]

    @cached_property
    def scale(self) -> Floats:
        """Size of each variable: its absolute value, 1 where that is 0. Shape ``(m + n,)``."""
        size = np.abs(np.concatenate([self.theta, self.start]))
        return np.where(size == 0.0, 1.0, size)

    @cached_property
    def unit(self) -> Floats:
        """Perturbation of each variable that changes J gently. Shape ``(m + n,)``.

        Its absolute value; for a state that starts at 0 the largest value it takes later: by 1,
        a state of size 1e-5 would be thrown into another regime.
        """
        size = np.abs(np.concatenate([self.theta, self.start]))
        later = np.concatenate([np.zeros(self.task.m), self._ranges[1]])
        size = np.where(size == 0.0, later, size)
        return np.where(size == 0.0, 1.0, size)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables."""
        equations = self.task.equations
        return (*equations.parameter_names, *(f"{s}(t0)" for s in equations.state_names))

    def directions(self, count: int) -> Floats:
        """Return random directions, no entry small in its unit. Shape ``(q, m + n)``.

        States that start at 0 and take small values hardly count beside the others, so one more
        direction perturbs them alone.
        """
        rng = np.random.default_rng(self.seed)
        resting = np.concatenate([np.zeros(self.task.m, dtype=bool), self.start == 0.0])
        count += int(resting.any() and not resting.all())
        shape = (count, self.unit.size)
        rows = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape) * self.unit
        if resting.any() and not resting.all():
            rows[-1] *= resting
        return np.asarray(rows)

    def error(self, found: Outcome, reference: Outcome) -> float:
        r"""Return the scaled norm :math:`|(g - g_r) s| / |g_r s|` of the difference."""
        return self.gap(vector_of(found), vector_of(reference))

    def gap(self, found: Floats, reference: Floats) -> float:
        """Return the same of vectors in (theta, z0), relative to the floor where that is more."""
        return scaled_error(found, reference, self.scale, self.floor)

    @cached_property
    def floor(self) -> float:
        r"""The size below which :math:`|g s|` counts as zero; 0 unless g vanishes here.

        At an optimum no digit of g is right, and none is needed: its error moves the optimum by
        :math:`H^{-1} \delta g`. So errors are then relative to the gradient at a relative distance
        of `NEARBY`, which is :math:`|H s|` times that, the second-order term of J.
        """
        task, (d,) = self.task, np.random.default_rng(0).uniform(0.5, 1.5, (1, self.scale.size))
        step = NEARBY * d * self.scale
        m = task.m
        try:
            here = self.outcome(DiscreteAdjoint(), task)
            runner = DiscreteAdjoint().prepare(task)
            z0 = None if self.z0 is None else self.z0 + step[m:]
            if z0 is None and not m:
                return 0.0
            there = runner(self.theta + step[:m], z0)
        except SymodeError:
            return 0.0
        moved = float(np.linalg.norm((vector_of(there) - vector_of(here)) * self.scale))
        size = float(np.linalg.norm(vector_of(here) * self.scale))
        return moved if np.isfinite(moved) and size < moved else 0.0

    @property
    def vanishes(self) -> bool:
        """Whether the gradient is so small here that errors are relative to one nearby."""
        return self.floor > 0.0

    @cached_property
    def statements(self) -> list[Statement] | str:
        """What was to be proved of the derived graphs, and how it was; or why it was not tried."""
        from symode.gradients.verify.proof import statements_of

        return statements_of(self.task)

    @cached_property
    def reference(self) -> Reference | str:
        """J and its gradient to 30 digits, or why there is none."""
        from symode.gradients.verify import reference as module
        from symode.gradients.verify.series import NoSeriesError

        asked = self.reference_digits
        if asked == 0:
            return "not asked for (reference_digits=0)"
        try:
            return module.make_reference(
                self.task, self.theta, self.z0, asked or module.DIGITS,
                module.ASKED_BUDGET if asked else module.BUDGET,
            )  # fmt: skip
        except NoSeriesError as error:
            return str(error)


def vector_of(outcome: Outcome) -> Floats:
    """Return the gradient in x = (theta, z0)."""
    return np.concatenate([outcome.theta, outcome.z0])


def scaled_error(found: Floats, reference: Floats, scale: Floats, floor: float = 0.0) -> float:
    """Return |(found - reference) * scale| / |reference * scale|; 0 where both are 0.

    The denominator is at least the floor.
    """
    gap = float(np.linalg.norm((found - reference) * scale))
    size = max(float(np.linalg.norm(reference * scale)), floor)
    if gap == 0.0:
        return 0.0
    return gap / size if size > 0.0 else float("inf")


def worst_entries(
    gaps: Floats, names: Sequence[str], limit: float, count: int = 4
) -> tuple[str, ...]:
    """Return the names of the largest gaps above a limit, the largest first."""
    order = np.argsort(-np.abs(gaps))[:count]
    return tuple(names[i] for i in order if not abs(gaps[i]) <= limit)
