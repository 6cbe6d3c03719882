"""symode itself, in the same shape as its peers.

A configuration is ``solver-method``; "auto" stands for symode's own choice of either.
"""

from __future__ import annotations

from functools import cache

NAME = "symode"
INSTALL = "pip install -e .  (in the repository root)"
CONFIGURATIONS = (
    "auto-auto",
    "tsit5-DiscreteAdjoint",
    "vern7-DiscreteAdjoint",
    "dop853-DiscreteAdjoint",
    "tsit5-ForwardSensitivity",
    "dop853-ForwardSensitivity",
    "tsit5-InterpolatingAdjoint",
    "dop853-InterpolatingAdjoint",
    "tsit5-BacksolveAdjoint",
    "dop853-BacksolveAdjoint",
    "rodas5p-auto",
    "rodas5p-DiscreteAdjoint",
    "rodas5p-ForwardSensitivity",
    "rock4-DiscreteAdjoint",
    "esdirk54-DiscreteAdjoint",
    "radau9-DiscreteAdjoint",
)
# The configurations that lead the work-precision diagram of each workload, as measured.
BEST = {
    "lotka_volterra": ("auto-auto", "dop853-DiscreteAdjoint", "tsit5-DiscreteAdjoint"),
    "network_20": ("auto-auto", "tsit5-DiscreteAdjoint"),
    "robertson": ("rodas5p-auto",),
    "hires": ("rodas5p-auto", "esdirk54-DiscreteAdjoint"),
    "brusselator_40": ("auto-auto", "rock4-DiscreteAdjoint", "esdirk54-DiscreteAdjoint"),
    "brusselator_200": ("rodas5p-auto", "rock4-DiscreteAdjoint", "esdirk54-DiscreteAdjoint"),
}


def available() -> bool:
    """Return whether symode can be imported."""
    try:
        import symode

        symode.Model  # noqa: B018  (loads the interface)
    except ImportError:
        return False
    return True


def prepare(workload, rtol, atol, configuration=None):
    """Return ``call() -> gradient`` in (theta, z0) for one tolerance."""
    value_and_grad = _value_and_grad(workload, rtol, atol, configuration)
    point = value_and_grad.pack(theta=workload.theta, z0=workload.z0)
    return lambda: value_and_grad(point)[1]


def ensemble(workload, rtol, atol, z0s):
    """Return ``call() -> (sum of d/dtheta, d/dz0 of each)``, all members in one call."""
    value_and_grad = _value_and_grad(workload, rtol, atol, None)

    def call():
        _, d_theta, d_z0 = value_and_grad.batch(workload.theta, z0s)
        return d_theta.sum(axis=0), d_z0

    return call


def _value_and_grad(workload, rtol, atol, configuration):
    import symode

    solver, method = (configuration or BEST[workload.name][0]).split("-")
    return _model(workload.name).value_and_grad(
        symode.LeastSquares(workload.times, workload.data),
        wrt=("theta", "z0"),
        t0=workload.t0,
        rtol=rtol,
        atol=atol,
        solver=solver,
        method=method if method == "auto" else getattr(symode, method)(),
    )


@cache
def _model(name):
    from workloads import load

    import symode

    states, parameters, time, rhs = load(name).equations()
    return symode.Model(dict(zip(states, rhs, strict=True)), parameters=parameters, time=time)
