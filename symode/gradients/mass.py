r"""Gradients of :math:`M \dot z = f`: what both ends of time add, where dz/dt is not f.

The adjoint at t0 counts from consistent values; `Point.pull` carries it to z0 as given, to the
parameters and to t0 (see the theory page). An algebraic state that is found has dJ/dz0 = 0.
"""

from __future__ import annotations

import numpy as np

from symode.codegen.compiled import NativeModel
from symode.errors import UnsupportedCombinationError
from symode.gradients.task import Floats, Task
from symode.kernels import types as kt
from symode.solvers.integrate import Forward
from symode.solvers.mass import Point

#: What to do where a gradient method does not take a mass matrix.
USE_STEPS = (
    "The adjoint of an algebraic state has no initial value of its own, and an observation moves "
    "it by what its equation allows. DiscreteAdjoint and ForwardSensitivity differentiate the "
    "solver's steps, and need none."
)


def refuse_mass(equations: object, what: str, way_out: str) -> None:
    """Raise for a model with a mass matrix; return for any other.

    Raises
    ------
    UnsupportedCombinationError
        With the way out.
    """
    if getattr(equations, "mass", None) is not None:
        raise UnsupportedCombinationError(
            f"{what} does not take a mass matrix or algebraic equations. {way_out}"
        )


def start_from(
    task: Task, forward: Forward, compiled: NativeModel, z0: Floats, p: Floats
) -> Floats:
    """Return the consistent values next to z0, and leave their point with the forward pass."""
    assert task.mass is not None
    forward.start = task.mass.start(compiled, p, task.t0, z0, task.options)
    return forward.start.z


def slopes_in_theta(task: Task, compiled: NativeModel, p: Floats, point: Point) -> Floats:
    """Return df/dtheta at the start, one row per parameter asked for. Shape ``(m, n)``."""
    rows = np.empty((task.m, task.n))
    for j, unit in enumerate(np.eye(task.m)):
        v = np.concatenate([np.zeros(task.n), unit])
        rows[j] = compiled.call("jvp", point.t, point.z, p, v)
    return rows


def add_ends(
    task: Task,
    compiled: NativeModel,
    p: Floats,
    observations: kt.Observations,
    table: kt.LossTable,
    gradient: kt.Gradient,
    z1: Floats,
) -> None:
    """Add the terms of dz/dt to dJ/dt1 and to the dJ/dt_i, where these are asked for."""
    assert task.mass is not None
    if not task.asked.ends:
        return
    n, t1 = task.n, task.t1
    at_end = np.zeros(n)
    if "terminal" in compiled.address:
        at_end += compiled.call("terminal", t1, z1, p, table.parts)[1 : 1 + n]
    for k in range(table.n_start, observations.t.size):
        t, seed = float(observations.t[k]), table.seeds[k]
        if t == t1:
            at_end += seed
        elif seed.any():
            point = task.mass.at(compiled, p, t, observations.y[k, :n].copy())
            table.times[k] += seed @ point.slope()
    if at_end.any():
        gradient.scalars[kt.DT1] += at_end @ task.mass.at(compiled, p, t1, z1).slope()


def close_at_start(
    task: Task,
    compiled: NativeModel,
    p: Floats,
    point: Point,
    table: kt.LossTable,
    gradient: kt.Gradient,
    from_initial: bool,
) -> None:
    r"""Close a gradient whose lam is :math:`a_{§1}(t_0^+)` at the consistent start."""
    m, scalars, lam = task.m, gradient.scalars, gradient.lam

    def theta_of(nu: Floats) -> Floats:
        return compiled.call("vjp", point.t, point.z, p, nu)[task.n :]

    seen, nu = point.pull(lam)
    scalars[kt.DT0] -= seen @ point.slope()
    at_start = table.seeds[: table.n_start].sum(axis=0)
    if at_start.any():
        seen_there, nu_there = point.pull(at_start)
        scalars[kt.DT0] -= nu_there @ point.f_t
        seen, nu = seen + seen_there, nu + nu_there
    if nu.any():
        gradient.theta[:] -= theta_of(nu)
    lam[:] = seen
    if from_initial:
        moved = compiled.call("initial_vjp", task.t0, point.z, p, lam)
        gradient.theta[:] += moved[:m]
        scalars[kt.DT0] += moved[m]
    set_check(gradient)


def set_check(gradient: kt.Gradient) -> None:
    """Leave the mark of a closed gradient: finite if and only if it is."""
    scalars = gradient.scalars
    scalars[kt.CHECK] = 0.0 * (scalars[kt.VALUE] + gradient.lam.sum() + gradient.theta.sum())
