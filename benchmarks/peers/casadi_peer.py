"""CasADi: SUNDIALS' CVODES on an SX graph, called through CasADi's buffer interface.

adjoint-*    CasADi's own reverse sensitivities of the integrator (CVODES checkpointing);
sens-*       its own forward sensitivities;
augmented-*  the sensitivity system, derived by CasADi, as one plain ODE: usually much quicker,
             since nothing but CVODES runs between two output times. ``-jit``: compiled by gcc.
fixed_rk4-c  classical Runge-Kutta with a fixed step, differentiated by CasADi and compiled by gcc
             as one C function. No error control: the number of steps was found by comparing with
             the reference, which a user does not have. For orientation, not a competitor.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import subprocess
import tempfile
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

NAME = "casadi"
INSTALL = "pip install casadi"
CONFIGURATIONS = (
    "augmented-bdf",
    "augmented-adams",
    "augmented-adams_functional",
    "augmented-bdf_functional",
    "augmented-bdf-jit",
    "augmented-adams_functional-jit",
    "augmented-bdf_functional-jit",
    "adjoint-bdf",
    "adjoint-adams_functional",
    "sens-bdf",
    "sens-adams_functional",
    "fixed_rk4-c",
)
# The configurations that lead the work-precision diagram of each workload, as measured.
BEST = {
    "lotka_volterra": ("augmented-adams_functional-jit",),
    "network_20": ("augmented-bdf_functional-jit",),
    "robertson": ("augmented-bdf-jit",),
    "hires": ("augmented-bdf-jit",),
    "brusselator_40": ("adjoint-bdf-jit",),
    "brusselator_200": ("adjoint-bdf-jit",),
}
# Shown, never counted as "the best peer": no error control.
UNCONTROLLED = ("fixed_rk4-c",)
METHODS = {
    "bdf": {"linear_multistep_method": "bdf", "nonlinear_solver_iteration": "newton"},
    "adams": {"linear_multistep_method": "adams", "nonlinear_solver_iteration": "newton"},
    "adams_functional": {
        "linear_multistep_method": "adams",
        "nonlinear_solver_iteration": "functional",
    },
    "bdf_functional": {
        "linear_multistep_method": "bdf",
        "nonlinear_solver_iteration": "functional",
    },
}


def available() -> bool:
    """Return whether CasADi can be imported."""
    try:
        import casadi  # noqa: F401
    except ImportError:
        return False
    return True


def prepare(workload, rtol, atol, configuration=None):
    """Return ``call() -> gradient`` in (theta, z0) for one tolerance."""
    configuration = configuration or BEST[workload.name][0]
    if configuration == "fixed_rk4-c":
        function = _fixed_rk4(workload, rtol)
    else:
        how, method, *jit = configuration.split("-")
        options = {"reltol": rtol, "abstol": atol, "max_num_steps": 1_000_000, **METHODS[method]}
        if jit:
            options |= {
                "jit": True,
                "compiler": "shell",
                # -O1: quicker to compile than -O3 and no slower to run (straight-line code).
                "jit_options": {"flags": ["-O1", "-march=native"]},
            }
        function = _integrated(workload, options, how)
    return _buffered(function, workload)


def _buffered(function, workload):
    """Return a call without Python objects: arguments and result are NumPy's own memory."""
    theta, z0 = workload.theta.copy(), workload.z0.copy()
    result = np.zeros(workload.m + workload.n)
    buffer, trigger = function.buffer()
    buffer.set_arg(0, memoryview(theta))
    buffer.set_arg(1, memoryview(z0))
    buffer.set_res(0, memoryview(result))

    def call():
        trigger()
        if buffer.ret():
            raise RuntimeError("CasADi's integrator failed")
        return result.copy()

    call.keep_alive = (function, buffer, theta, z0)
    return call


@cache
def _symbols(name):
    import casadi as ca
    import sympy as sp
    from workloads import load

    workload = load(name)
    z, p, _, rhs = workload.equations()
    states, parameters = ca.SX.sym("z", workload.n), ca.SX.sym("p", workload.m)
    function = sp.lambdify([z, p], rhs, modules="math", cse=True)
    return states, parameters, ca.vertcat(*function(ca.vertsplit(states), ca.vertsplit(parameters)))


def _augmented_system(workload):
    """Return ``(y, parameters, dy/dt, s0)``: states and sensitivities to the scaled unknowns."""
    import casadi as ca

    states, parameters, ode = _symbols(workload.name)
    n, m = workload.n, workload.m
    s = ca.SX.sym("s", n, m + n)
    dfdtheta = ca.jacobian(ode, parameters) @ ca.diag(ca.DM(workload.scale[:m]))
    ds = ca.jacobian(ode, states) @ s + ca.horzcat(dfdtheta, ca.SX(n, n))
    s0 = np.hstack([np.zeros((n, m)), np.diag(workload.scale[m:])]).ravel(order="F")
    return ca.vertcat(states, ca.vec(s)), parameters, ca.vertcat(ode, ca.vec(ds)), s0


def _integrated(workload, options, how):
    import casadi as ca

    n, m = workload.n, workload.m
    p, z0 = ca.MX.sym("p", m), ca.MX.sym("z0", n)
    data, times = ca.DM(workload.data.T), list(workload.times)
    # CasADi's jit writes its C file into the current folder, and removes it at exit.
    with contextlib.chdir(_scratch_folder()):
        if how == "augmented":
            y, parameters, dy, s0 = _augmented_system(workload)
            problem = {"x": y, "p": parameters, "ode": dy}
            integrator = ca.integrator("flow", "cvodes", problem, workload.t0, times, options)
            out = integrator(x0=ca.vertcat(z0, ca.DM(s0)), p=p)["xf"]
            residuals = 2 * (out[:n, :] - data)
            gradient = 0
            for k in range(len(times)):
                gradient += ca.reshape(out[n:, k], n, n + m).T @ residuals[:, k]
            return ca.Function("gradient", [p, z0], [gradient / ca.DM(workload.scale)])
        states, parameters, ode = _symbols(workload.name)
        problem = {"x": states, "p": parameters, "ode": ode}
        integrator = ca.integrator("flow", "cvodes", problem, workload.t0, times, options)
        out = integrator(x0=z0, p=p)["xf"]
        if how == "adjoint":
            loss = ca.sumsqr(out - data)
            gradient = ca.vertcat(ca.gradient(loss, p), ca.gradient(loss, z0))
        else:
            residuals = 2 * (ca.vec(out) - ca.vec(data))
            gradient = ca.vertcat(
                ca.jacobian(ca.vec(out), p).T @ residuals,
                ca.jacobian(ca.vec(out), z0).T @ residuals,
            )
        return ca.Function("gradient", [p, z0], [gradient])


def _fixed_rk4(workload, rtol):
    """Return the compiled gradient of classical Runge-Kutta with steps growing as rtol**(-1/4)."""
    import casadi as ca

    n, m = workload.n, workload.m
    steps = max(2, round(5 * (1e-4 / rtol) ** 0.25))
    forward = n * (n + m) <= 40
    if forward:
        y, parameters, dy, s0 = _augmented_system(workload)
    else:
        y, parameters, dy = _symbols(workload.name)
        s0 = np.zeros(0)
    field = ca.Function("field", [y, parameters], [dy])
    h, start = ca.SX.sym("h"), ca.SX.sym("y", y.numel())
    k1 = field(start, parameters)
    k2 = field(start + h / 2 * k1, parameters)
    k3 = field(start + h / 2 * k2, parameters)
    k4 = field(start + h * k3, parameters)
    step = ca.Function(
        "step", [start, parameters, h], [start + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)], {"cse": True}
    )
    segment = step.fold(steps)
    p, z0 = ca.MX.sym("p", m), ca.MX.sym("z0", n)
    current, loss, gradient = ca.vertcat(z0, ca.DM(s0)), 0, 0
    edges = np.concatenate([[workload.t0], workload.times])
    for k, length in enumerate(np.diff(edges)):
        sizes = ca.DM.ones(1, steps) * (length / steps)
        current = segment(current, ca.repmat(p, 1, steps), sizes)
        residual = current[:n] - ca.DM(workload.data[k])
        loss += ca.sumsqr(residual)
        if forward:
            gradient += ca.reshape(current[n:], n, n + m).T @ (2 * residual)
    if forward:
        gradient = gradient / ca.DM(workload.scale)
    else:
        gradient = ca.vertcat(ca.gradient(loss, p), ca.gradient(loss, z0))
    return _compile(ca.Function("gradient", [p, z0], [gradient]))


@lru_cache(maxsize=1)
def _scratch_folder() -> Path:
    """Return a folder for generated C files, removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="bench_casadi_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _compile(function):
    """Return the function as C compiled by gcc."""
    import casadi as ca

    if not shutil.which("gcc"):
        raise RuntimeError("the compiled configurations of CasADi need gcc")
    folder = _scratch_folder()
    number = len(list(folder.glob("generated*.c")))
    source, library = f"generated{number}.c", folder / f"generated{number}.so"
    generator = ca.CodeGenerator(source)
    generator.add(function)
    (folder / source).write_text(generator.dump())
    command = ["gcc", "-shared", "-fPIC", "-march=native", "-O3", "-ffast-math", source]
    subprocess.run([*command, "-o", str(library)], cwd=folder, check=True)
    return ca.external(function.name(), str(library))
