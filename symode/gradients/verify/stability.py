r"""How far errors grow along this trajectory, forwards and backwards, and what that rules out.

Forwards, tangents tell: a perturbation of relative size :math:`\epsilon` at t0 becomes
:math:`G \epsilon`. Backwards, the state is integrated from z(t1) and compared with the stored
forward trajectory: what `BacksolveAdjoint` would do where no observation restarts it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.errors import SymodeError
from symode.gradients.methods import BacksolveAdjoint, DiscreteAdjoint
from symode.gradients.methods.backsolve import DRIFT_LIMIT
from symode.gradients.methods.base import jacobian_function, make_forward
from symode.gradients.verify.frozen import base_solve, builder
from symode.gradients.verify.report import Check
from symode.gradients.verify.subject import Subject
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.options import SolverOptions
from symode.solvers.replay import run_steps, states_of, steps_of
from symode.status import SENTENCES, SUCCESS

Floats = NDArray[np.float64]

#: Stored points compared, and Jacobians looked at.
SAMPLES = 40
#: States up to which eigenvalues of the Jacobian are computed.
EIGENVALUES = 150
#: An explicit step is at most about this long in units of the fastest decay.
STABLE = 3.5
#: Share of the steps that decay alone must ask for before a problem counts as stiff.
STIFF_SHARE = 0.6
#: Growth of perturbations from which a problem is called sensitive.
SENSITIVE = 1e4


@dataclass(frozen=True)
class Stability:
    """What was measured along a trajectory.

    Parameters
    ----------
    growth
        Factor by which a relative perturbation at t0 has grown at its largest.
    drift
        Largest distance of the state integrated backwards from the forward one, in units of the
        tolerance; infinite where the backward solve fails.
    drift_time
        Where it first exceeds the limit, NaN if nowhere.
    failure
        Why the backward solve failed, empty if it did not.
    backsolve_error
        Relative error of the gradient of BacksolveAdjoint, restarted at observations; NaN where
        it fails.
    decay
        Number of time constants of the fastest decay in the span; NaN where n is too large.
    steps
        Steps of the forward solve.
    """

    growth: float
    drift: float
    drift_time: float
    failure: str
    backsolve_error: float
    decay: float
    steps: int


def check_stability(subject: Subject) -> Check:
    """Return what grows and drifts here, and which methods to use instead of those it rules out."""
    found = measure(subject)
    task = subject.task
    left = found.growth * task.options.rtol
    details = []
    if found.failure:
        details.append(
            f"z integrated backwards fails ({found.failure}): BacksolveAdjoint cannot serve; use "
            "DiscreteAdjoint or InterpolatingAdjoint"
        )
    elif found.drift > DRIFT_LIMIT:
        off = ""
        if np.isfinite(found.backsolve_error):
            off = f", and its gradient is off by {found.backsolve_error:.1e} of its size"
        details.append(
            f"z integrated backwards drifts from the stored trajectory by {found.drift:.1e} "
            f"tolerances (limit {DRIFT_LIMIT:g}), from t = {found.drift_time:.4g} on{off}: "
            "BacksolveAdjoint needs observations that restart it; use DiscreteAdjoint or "
            "InterpolatingAdjoint"
        )
    else:
        details.append(
            f"z integrated backwards stays within {found.drift:.1e} tolerances of the stored "
            "trajectory: BacksolveAdjoint can serve"
        )
    if _is_stiff(found, subject):
        way = "" if task.options.serves_stiff else ": use solver='rodas5p'"
        details.append(
            f"stiff: {found.decay:.1e} time constants of the fastest decay in the span, where "
            f"{found.steps} steps were taken{way}"
        )
    if left >= 1e-3 or found.growth >= SENSITIVE:
        details.append(
            f"errors grow by {found.growth:.1e}: a relative error of {task.options.rtol:.0e} "
            f"becomes {left:.1e}. Shorten the span, restart it from data (multiple shooting), "
            "or tighten rtol; gradients of chaotic trajectories are exact and useless"
        )
    summary = f"perturbations grow by at most {found.growth:.1e}"
    digits = float(np.clip(-np.log10(max(left, 1e-16)), 0.0, 16.0))
    return Check("stability", bool(left < 1.0), digits, "stability", summary, tuple(details))


def _is_stiff(found: Stability, subject: Subject) -> bool:
    if not np.isfinite(found.decay):
        return False
    if subject.task.options.serves_stiff:
        return found.decay > STABLE * found.steps
    return found.decay > STIFF_SHARE * STABLE * found.steps and found.steps > 100


def measure(subject: Subject) -> Stability:
    """Measure growth, drift and decay along the trajectory of a subject."""
    if "stability" not in subject.measured:
        subject.measured["stability"] = _measure(subject)
    result: Stability = subject.measured["stability"]
    return result


def _measure(subject: Subject) -> Stability:
    task = subject.task
    forward = base_solve(task, DiscreteAdjoint(), subject.theta, subject.z0)
    steps = steps_of(forward)
    stored = states_of(forward)
    states = task.equations.n_states
    peak = np.maximum(forward.scratch.peak[:states], np.abs(stored[0, :states]))
    last = forward.scratch.y[: task.n].copy()
    drift, where, failure = _drift(subject, steps.t, stored, last, peak)
    error = float("nan")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = subject.outcome(BacksolveAdjoint(on_drift="warn"), task)
        error = subject.error(found, subject.outcome(DiscreteAdjoint(), task))
    except SymodeError:
        pass
    return Stability(
        _growth(subject, peak), drift, where, failure, error,
        _decay(subject, steps.t, stored), int(steps.h.size),
    )  # fmt: skip


def _growth(subject: Subject, peak: Floats) -> float:
    """Return the largest relative size of tangents along random directions in z0."""
    task = subject.task
    n, states = task.n, task.equations.n_states
    steps = subject.steps(task)
    directions = subject.directions(3)
    directions[:, : task.m] = 0.0
    picks = np.linspace(0, steps.t.size - 1, min(SAMPLES, steps.t.size)).astype(int)
    times = np.unique(steps.t[picks])
    times = times if task.t1 > task.t0 else times[::-1]
    fields = builder(task, "rhs", "jvp", derivative="djac")
    still = np.zeros((len(directions), task.m))

    def build(options: SolverOptions) -> tuple[NativeModel, kt.Tangents]:
        compiled, field = fields(options)
        return compiled, kt.Tangents(*field, still)

    compiled, system = build(task.options)
    compiled.pack(subject.theta, system.p)
    start = np.zeros((len(directions), n))
    start[:, :states] = directions[:, task.m :]
    y0 = np.concatenate([task.start(subject.start), start.ravel()])
    observations = native.make_observations(np.ascontiguousarray(times), y0.size)
    status, _ = run_steps(system, task.options, observations, compiled.work_size, y0, steps, build)
    if status != SUCCESS:
        return float("inf")
    tangents = observations.y[:, n:].reshape(times.size, -1, n)[:, :, :states]
    unit = np.where(peak == 0.0, 1.0, peak)
    size = np.linalg.norm(tangents / unit, axis=2)
    first = np.linalg.norm(start[:, :states] / unit, axis=1)
    return float(np.max(size / np.where(first == 0.0, 1.0, first)))


def _drift(
    subject: Subject, t: Floats, stored: Floats, last: Floats, peak: Floats
) -> tuple[float, float, str]:
    """Integrate z from its end backwards; compare with stored points."""
    task = subject.task
    states = task.equations.n_states
    picks = np.unique(np.linspace(0, t.size - 1, min(SAMPLES, t.size)).astype(int))[::-1]
    names = ["rhs", *task.options.jacobian_kernels()]
    compiled = task.compile(names)
    system = task.bind(compiled, task.options.is_stiff)
    compiled.pack(subject.theta, system.p)
    back = make_forward(task, compiled, system, keep=False, lazy=True)
    back.observations = native.make_observations(np.ascontiguousarray(t[picks]), task.n)
    back.reset(last, task.t1, task.t0)
    status = back.run()
    allowed = task.options.rtol * peak + task.options.atol
    allowed = np.where(allowed == 0.0, 1e-300, allowed)
    if status != SUCCESS:
        reached = float(back.scratch.clock[kt.T])
        return float("inf"), reached, f"at t = {reached:.4g}, {SENTENCES[status]}"
    points = np.vstack([stored[: t.size - 1, : task.n], last])[picks]
    gaps = np.max(np.abs(back.observations.y[:, :states] - points[:, :states]) / allowed, axis=1)
    beyond = np.flatnonzero(~(gaps <= DRIFT_LIMIT))
    where = float(t[picks][beyond[0]]) if beyond.size else float("nan")
    return float(np.max(np.where(np.isfinite(gaps), gaps, np.inf))), where, ""


def _decay(subject: Subject, t: Floats, stored: Floats) -> float:
    """Return the integral of the fastest decay rate over the span."""
    task = subject.task
    if task.n > EIGENVALUES:
        return float("nan")
    jacobian = jacobian_function(task, np.asarray(subject.theta))
    picks = np.unique(np.linspace(0, min(t.size, len(stored)) - 1, SAMPLES).astype(int))
    rates = []
    sign = 1.0 if task.t1 > task.t0 else -1.0
    for i in picks:
        matrix = sign * jacobian(float(t[i]), stored[i])
        if not np.isfinite(matrix).all():
            return float("nan")
        rates.append(max(0.0, float(-np.linalg.eigvals(matrix).real.min())))
    if len(rates) < 2:
        return rates[0] * abs(task.t1 - task.t0)
    return float(abs(np.trapezoid(rates, t[picks])))
