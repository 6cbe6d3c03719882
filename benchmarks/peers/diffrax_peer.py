"""diffrax: jitted value_and_grad on JAX, float64, on the CPU.

A configuration is ``solver-adjoint``: the solvers Tsit5, Dopri5, Dopri8 (explicit) and Kvaerno3/4/5
(stiff) with RecursiveCheckpointAdjoint ("checkpoint"), DirectAdjoint ("direct"), BacksolveAdjoint
("backsolve") or forward mode ("forward", jacfwd through ForwardMode).
"""

from __future__ import annotations

import os
from functools import cache, lru_cache

import numpy as np

NAME = "diffrax"
INSTALL = "pip install diffrax jax"
CONFIGURATIONS = (
    "Tsit5-checkpoint",
    "Tsit5-direct",
    "Tsit5-forward",
    "Tsit5-backsolve",
    "Dopri5-checkpoint",
    "Dopri8-checkpoint",
    "Dopri8-forward",
    "Kvaerno3-checkpoint",
    "Kvaerno5-checkpoint",
    "Kvaerno5-forward",
    "Kvaerno4-checkpoint",
    "Kvaerno3-forward",
)
# The configurations that lead the work-precision diagram of each workload, as measured.
BEST = {
    "lotka_volterra": ("Tsit5-backsolve", "Dopri8-forward"),
    "network_20": ("Tsit5-checkpoint", "Dopri8-checkpoint"),
    "robertson": ("Kvaerno4-forward", "Kvaerno3-forward"),
    "hires": ("Kvaerno4-forward",),
    "brusselator_40": ("Tsit5-checkpoint",),
    "brusselator_200": ("Tsit5-checkpoint",),
}
MAX_STEPS = 4096 * 4


def available() -> bool:
    """Return whether diffrax can be imported."""
    try:
        _jax()
    except ImportError:
        return False
    return True


@lru_cache(maxsize=1)
def _jax():
    # One core, like everybody else in the table; float64.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault(
        "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    )
    import diffrax
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax, diffrax


def prepare(workload, rtol, atol, configuration=None):
    """Return ``call() -> gradient`` in (theta, z0) for one tolerance."""
    jax, _ = _jax()
    configuration = configuration or BEST[workload.name][0]
    gradient = _compiled(workload.name, configuration)
    theta, z0 = jax.device_put(workload.theta), jax.device_put(workload.z0)
    rtol, atol = jax.device_put(float(rtol)), jax.device_put(float(atol))

    def call():
        d_theta, d_z0 = jax.block_until_ready(gradient(theta, z0, rtol, atol))
        return np.concatenate([d_theta, d_z0])

    return call


def ensemble(workload, rtol, atol, z0s):
    """Return ``call() -> (sum of d/dtheta, d/dz0 of each)`` of the vmapped loss."""
    jax, _ = _jax()
    loss = _loss(workload.name, BEST[workload.name][0])

    def total(theta, z0s):
        return jax.numpy.sum(jax.vmap(lambda z0: loss(theta, z0, rtol, atol))(z0s))

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
    theta, z0s = jax.device_put(workload.theta), jax.device_put(z0s)
    return lambda: [np.asarray(g) for g in jax.block_until_ready(gradient(theta, z0s))]


@cache
def _compiled(name, configuration):
    jax, _ = _jax()
    loss = _loss(name, configuration)
    if configuration.endswith("-forward"):
        return jax.jit(jax.jacfwd(loss, argnums=(0, 1)))

    def value_and_gradient(theta, z0, rtol, atol):
        return jax.value_and_grad(loss, argnums=(0, 1))(theta, z0, rtol, atol)[1]

    return jax.jit(value_and_gradient)


def _loss(name, configuration):
    jax, diffrax = _jax()
    jnp = jax.numpy
    from workloads import load

    workload = load(name)
    field = _vector_field(workload, jnp)
    solver_name, adjoint_name = configuration.split("-")
    solver = getattr(diffrax, solver_name)()
    adjoint = {
        "checkpoint": diffrax.RecursiveCheckpointAdjoint,
        "direct": diffrax.DirectAdjoint,
        "forward": diffrax.ForwardMode,
        "backsolve": diffrax.BacksolveAdjoint,
    }[adjoint_name]()
    times, data = jnp.asarray(workload.times), jnp.asarray(workload.data)
    # DirectAdjoint stores every step of its bound; keep the bound as low as the workload allows.
    max_steps = 512 if adjoint_name == "direct" else MAX_STEPS

    def loss(theta, z0, rtol, atol):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver,
            t0=workload.t0,
            t1=float(workload.times[-1]),
            dt0=None,
            y0=z0,
            args=theta,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            adjoint=adjoint,
            max_steps=max_steps,
        )
        return jnp.sum((solution.ys - data) ** 2)

    return loss


def _vector_field(workload, jnp):
    """Return ``f(t, z, theta)`` the way a JAX programmer writes it: vectorised where n is large."""
    if workload.name.startswith("brusselator"):
        c = float((workload.n // 2 + 1) ** 2)

        def brusselator(t, z, theta):
            a, b, du, dv = theta
            u, v = z[0::2], z[1::2]
            lap_u = jnp.pad(u, 1, constant_values=1.0)
            lap_v = jnp.pad(v, 1, constant_values=3.0)
            lap_u = lap_u[:-2] - 2 * u + lap_u[2:]
            lap_v = lap_v[:-2] - 2 * v + lap_v[2:]
            w = u * u * v
            f_u = a + w - (b + 1) * u + du * c * lap_u
            f_v = b * u - w + dv * c * lap_v
            return jnp.stack([f_u, f_v], axis=1).ravel()

        return brusselator
    if workload.name.startswith("network"):
        n = workload.n
        wiring = {key: np.array(value) for key, value in workload.extra["network"].items()}
        active = wiring["act"].astype(bool)
        # Constant matrices: on the CPU faster than gather and scatter.
        select = np.eye(n)
        pick_reg, pick_a, pick_b = (select[wiring[key]] for key in ("reg", "ra", "rb"))
        stoichiometry = (select[wiring["rc"]] - pick_a - pick_b).T

        def network(t, z, theta):
            v, d, q = theta[:n], theta[n : 2 * n], theta[2 * n :]
            h = (pick_reg @ z) ** 2
            regulation = jnp.where(active, h, 1.0) / (1 + h)
            return v * regulation - d * z + stoichiometry @ (q * (pick_a @ z) * (pick_b @ z))

        return network
    import sympy as sp

    z, p, _, rhs = workload.equations()
    function = sp.lambdify([z, p], rhs, modules="math", cse=True)

    def field(t, state, theta):
        return jnp.stack(function(list(state), list(theta)))

    return field
