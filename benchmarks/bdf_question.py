"""Would a variable-order BDF win on large systems? Rodas5P against CVODES and SciPy's BDF.

    python benchmarks/bdf_question.py                # five minutes; CasADi is in the extra bench
    python benchmarks/bdf_question.py --systems brusselator

Forward solves and gradients (of the sum of the final states, in parameters and initial values) of
the Brusselator on a line (n = 400) and of Gray-Scott on a square (n = 2048), at falling tolerances:
steps, Jacobians, factorizations, CPU time, and error against Rodas5P at rtol 1e-11. CVODES (through
CasADi, with its sparse direct solver; gradients by its own adjoint) counts as the best BDF there
is; SciPy's is given machine code for f and for a sparse Jacobian.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

if __name__ == "__main__":  # also run as a file, from anywhere
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import sympy as sp
from scipy.integrate import solve_ivp

import symode
from benchmarks.scale import _start_brusselator, _start_gray_scott, gray_scott
from benchmarks.systems import brusselator
from benchmarks.work_precision import Compiled

SYSTEMS = {
    "brusselator": (lambda: brusselator(200), _start_brusselator, 10.0),
    "gray_scott": (lambda: gray_scott(32), _start_gray_scott, 200.0),
}
RTOLS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


def casadi_field(name: str, n: int):
    """Return (z, p, ode) of a system in CasADi's SX."""
    import casadi as ca

    z, p = ca.SX.sym("z", n), ca.SX.sym("p", 4)
    u, v = z[0::2], z[1::2]
    if name == "brusselator":
        c = (n // 2 + 1) ** 2
        left = lambda s, end: ca.vertcat(end, s[:-1])  # noqa: E731
        right = lambda s, end: ca.vertcat(s[1:], end)  # noqa: E731
        du = p[0] + u**2 * v - (p[1] + 1) * u + p[2] * c * (left(u, 1) - 2 * u + right(u, 1))
        dv = p[1] * u - u**2 * v + p[3] * c * (left(v, 3) - 2 * v + right(v, 3))
    else:
        side = round((n // 2) ** 0.5)
        at = np.arange(n // 2).reshape(side, side)
        spread = []
        for s in (u, v):
            around = sum(
                s[np.roll(at, shift, axis).ravel().tolist()] for shift in (1, -1) for axis in (0, 1)
            )
            spread.append(around - 4 * s)
        reaction = u * v**2
        du = p[2] * spread[0] - reaction + p[0] * (1 - u)
        dv = p[3] * spread[1] + reaction - (p[0] + p[1]) * v
    return z, p, ca.vec(ca.horzcat(du, dv).T)


class Case:
    """One system with its references."""

    def __init__(self, name: str) -> None:
        make, start, self.t1 = SYSTEMS[name]
        system = make()
        self.name = name
        self.theta, self.z0, _ = start(system)
        rhs = dict(zip(system.states, system.rhs, strict=True))
        self.model = symode.Model(rhs, parameters=system.parameters)
        self.loss = symode.Loss(terminal=sp.Add(*self.model.states))
        self.point = np.concatenate([self.theta, self.z0])
        self.exact = self.solution(1e-11, 1e-14).z[-1]
        self.slope = self.gradient(1e-10, 1e-13)(self.point)[1]

    def solution(self, rtol, atol, solver="rodas5p"):
        return self.model.solve(
            (0, self.t1), self.theta, self.z0, times=[self.t1], solver=solver, rtol=rtol,
            atol=atol, dense_output=False,
        )  # fmt: skip

    def gradient(self, rtol, atol, method="auto"):
        return self.model.value_and_grad(
            self.loss, t0=0.0, t1=self.t1, solver="rodas5p", rtol=rtol, atol=atol, method=method
        )

    def error(self, z):
        return float(np.linalg.norm(z - self.exact) / np.linalg.norm(self.exact))

    def gradient_error(self, g):
        scale = np.where(self.point == 0, 1.0, np.abs(self.point))
        return float(np.linalg.norm((g - self.slope) * scale) / np.linalg.norm(self.slope * scale))


def clocked(call):
    """Return (result, best CPU seconds) of a few calls."""
    best = np.inf
    for _ in range(3):
        begun = time.process_time()
        result = call()
        best = min(best, time.process_time() - begun)
        if best > 1.0:
            break
    return result, best


def line(case, who, what, rtol, error, seconds, steps="", jacobians="", factors="") -> str:
    return (
        f"{case.name:12} {what:9} {who:14} {rtol:.0e} error {error:.1e} {1e3 * seconds:9.1f} ms "
        f"{steps!s:>6} steps {jacobians!s:>5} J {factors!s:>5} LU"
    )


def by_symode(case: Case, gradients: bool) -> None:
    case.solution(1e-3, 1e-6)
    for rtol in RTOLS:
        solution, seconds = clocked(lambda rtol=rtol: case.solution(rtol, rtol * 1e-3))
        s = solution.stats
        print(
            line(case, "rodas5p", "solve", rtol, case.error(solution.z[-1]), seconds, s.steps,
                 s.njev, s.nlu), flush=True,
        )  # fmt: skip
    for method in ("auto", symode.InterpolatingAdjoint()) if gradients else ():
        who = "discrete" if method == "auto" else "interpolating"
        for rtol in RTOLS[::2]:
            vg = case.gradient(rtol, rtol * 1e-3, method)
            vg(case.point)
            (_, g), seconds = clocked(lambda vg=vg: vg(case.point))
            print(line(case, who, "gradient", rtol, case.gradient_error(g), seconds), flush=True)


def by_cvodes(case: Case, gradients: bool) -> None:
    import casadi as ca

    z, p, ode = casadi_field(case.name, case.z0.size)
    for rtol in RTOLS:
        options = {"reltol": rtol, "abstol": rtol * 1e-3, "max_num_steps": 1_000_000}
        flow = ca.integrator("flow", "cvodes", {"x": z, "p": p, "ode": ode}, 0.0, case.t1, options)
        found, seconds = clocked(
            lambda flow=flow: np.array(flow(x0=case.z0, p=case.theta)["xf"]).ravel()
        )
        stats = flow.stats()
        print(
            line(case, "CVODES", "solve", rtol, case.error(found), seconds, stats["nsteps"], "",
                 stats["nlinsetups"]), flush=True,
        )  # fmt: skip
        if gradients and rtol in RTOLS[::2]:
            theta, z0 = ca.MX.sym("theta", 4), ca.MX.sym("z0", case.z0.size)
            total = ca.sum1(flow(x0=z0, p=theta)["xf"])
            slope = ca.Function(
                "g", [theta, z0], [ca.gradient(total, theta), ca.gradient(total, z0)]
            )

            def call(slope=slope):
                return np.concatenate([np.array(x).ravel() for x in slope(case.theta, case.z0)])

            g, seconds = clocked(call)
            print(line(case, "CVODES adjoint", "gradient", rtol, case.gradient_error(g), seconds),
                  flush=True)  # fmt: skip


def by_scipy(case: Case) -> None:
    compiled = Compiled(case.model, case.theta)
    for rtol in RTOLS[:4]:
        found, seconds = clocked(
            lambda rtol=rtol: solve_ivp(
                compiled.rhs,
                (0, case.t1),
                case.z0,
                method="BDF",
                rtol=rtol,
                atol=rtol * 1e-3,
                jac=compiled.jac,
                t_eval=[case.t1],
            )
        )
        print(
            line(case, "SciPy BDF", "solve", rtol, case.error(found.y[:, -1]), seconds, "",
                 found.njev, found.nlu), flush=True,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--no-gradients", action="store_true")
    options = parser.parse_args()
    for name in options.systems:
        case = Case(name)
        by_symode(case, not options.no_gradients)
        by_scipy(case)
        try:
            by_cvodes(case, not options.no_gradients)
        except ImportError:
            print("CasADi is not installed (pip install casadi)")


if __name__ == "__main__":
    main()
