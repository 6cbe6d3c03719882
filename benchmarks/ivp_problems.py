"""The classic initial value problems of the acceptance data, as models, with their end values.

``problems.json`` lies beside the repository (``../shared/data/ivp``). Problems on a grid are
described there in words; their equations are written out here.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import sympy as sp

import symode

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "ivp" / "problems.json"
#: Digits of the published end values, where the data give no other.
PUBLISHED_DIGITS = 11.0


@dataclass(frozen=True)
class Problem:
    """A problem with what is known of its solution at t1.

    ``places`` says which states are known, ``exact`` their values, ``floor`` the relative error
    of these values in the norm. ``weight`` scales atol = 1e-6 rtol weight.
    """

    name: str
    title: str
    model: symode.Model
    theta: tuple[float, ...]
    z0: tuple[float, ...]
    span: tuple[float, float]
    places: np.ndarray
    exact: np.ndarray
    floor: float
    stiff: bool
    band: int = 0  # of the Jacobian, where it has one

    def error(self, z: np.ndarray) -> float:
        """Return the relative error of a state at t1, in the norm of the known components."""
        gap = np.asarray(z)[self.places] - self.exact
        return float(np.linalg.norm(gap) / np.linalg.norm(self.exact))

    def atol(self, rtol: float) -> float:
        """Return an absolute tolerance far below the states that matter."""
        return 1e-6 * rtol


@cache
def entries() -> dict[str, dict]:
    """Return the entries of the file by name; empty where it is missing."""
    if not DATA.is_file():
        return {}
    return {entry["name"]: entry for entry in json.loads(DATA.read_text("utf-8"))["problems"]}


def names() -> tuple[str, ...]:
    """Return the names of all problems."""
    return tuple(entries())


@cache
def problem(name: str) -> Problem:
    """Return a problem by name."""
    entry = entries()[name]
    if name == "brusselator_1d":
        model, theta, z0, states, band = _brusselator()
    elif name == "medical_akzo_nobel":
        model, theta, z0, states, band = _medical_akzo_nobel()
    else:
        model, theta, z0 = _written_out(entry)
        states, band = {state: state for state in entry["states"]}, 0
    known = entry.get("high_precision") or entry.get("check") or entry["published_reference"]
    order = [str(s) for s in model.states]
    kept = [y for y in known["z"] if y in states]
    digits = entry.get("agreement_digits_worst", PUBLISHED_DIGITS)
    return Problem(
        name, entry["title"], model, tuple(theta), tuple(z0),
        (float(entry["t0"]), float(entry["t1"])),
        np.array([order.index(states[y]) for y in kept]),
        np.array([float(known["z"][y]) for y in kept]), 10.0**-digits,
        not entry["kind"].startswith("nonstiff"), band,
    )  # fmt: skip


def _written_out(entry):
    """Return model, parameters and initial values of a problem whose equations are given."""
    helpers = entry.get("auxiliary", {}) | entry.get("constants", {}) | {"pi": repr(math.pi)}

    def expand(text: str) -> str:
        return re.sub(
            r"\b[a-zA-Z]\w*\b",
            lambda word: f"({expand(helpers[word[0]])})" if word[0] in helpers else word[0],
            text,
        )

    lines = [f"{state}' = {expand(text)}" for state, text in entry["rhs"].items()]
    model = symode.Model.from_text("; ".join(lines))
    theta = [float(Fraction(entry["parameters"][str(p)])) for p in model.parameters]
    z0 = [float(Fraction(entry["z0"][str(s)])) for s in model.states]
    return model, theta, z0


def _brusselator(count: int = 500):
    """Return the Brusselator with diffusion on a line, the states of each cell side by side."""
    u, v = sp.symbols(f"u1:{count + 1}"), sp.symbols(f"v1:{count + 1}")
    a, b, alpha = sp.symbols("A B alpha")
    rhs, z0, known = {}, [], {}
    c = alpha * (count + 1) ** 2
    for i, (p, q) in enumerate(zip(u, v, strict=True)):
        left = (u[i - 1], v[i - 1]) if i else (1, 3)
        right = (u[i + 1], v[i + 1]) if i < count - 1 else (1, 3)
        rhs[p] = a + p**2 * q - (b + 1) * p + c * (left[0] - 2 * p + right[0])
        rhs[q] = b * p - p**2 * q + c * (left[1] - 2 * q + right[1])
        z0 += [1 + math.sin(2 * math.pi * (i + 1) / (count + 1)) / 2, 3.0]
        known |= {f"y{2 * i + 1}": p.name, f"y{2 * i + 2}": q.name}
    model = symode.Model(rhs, parameters=(a, b, alpha), time="t")
    return model, [1.0, 3.0, 0.02], z0, known, 2


def _medical_akzo_nobel(count: int = 200):
    """Return the reaction-diffusion problem whose input falls from 2 to 0 at t = 5.

    Test Set for IVP Solvers (University of Bari / CWI), MEDAKZO: the grid in zeta = j h is mapped
    from a half line by zeta = x/(x + c).
    """
    u, v = sp.symbols(f"u1:{count + 1}"), sp.symbols(f"v1:{count + 1}")
    t, k, c = sp.symbols("t k c")
    inflow = sp.Piecewise((2, t <= 5), (0, True))
    h = sp.Rational(1, count)
    rhs, known = {}, {}
    for j in range(count):
        zeta = (j + 1) * h
        last = j == count - 1
        reaction = k * u[j] * v[j]
        if last:
            rhs[u[j]] = -reaction
        else:
            left = u[j - 1] if j else inflow
            drift, spread = 2 * (zeta - 1) ** 3 / c**2, (zeta - 1) ** 4 / c**2
            rhs[u[j]] = (
                drift * (u[j + 1] - left) / (2 * h)
                + spread * (left - 2 * u[j] + u[j + 1]) / h**2
                - reaction
            )
        rhs[v[j]] = -reaction
        known |= {f"y{2 * j + 1}": u[j].name, f"y{2 * j + 2}": v[j].name}
    model = symode.Model(rhs, parameters=(k, c), time=t)
    return model, [100.0, 4.0], [0.0, 1.0] * count, known, 2


@cache
def condition(name: str, shares: tuple[float, ...] = (0.0, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9)) -> float:
    r"""Return what a relative error, made at the worst of these times, becomes at t1.

    .. math:: \max_s \|\Phi(t_1, s)\, \mathrm{diag}|z(s)|\|_2 / \|z(t_1)\|

    in the known components, with the transition matrix of the variational equation along the
    solution (forward sensitivities at rtol = 1e-8).
    """
    from symode.gradients.methods.sensitivity import SensitivityRunner
    from symode.gradients.setup import make_task

    p = problem(name)
    (t0, t1), worst = p.span, 0.0
    options = {
        "solver": "rodas5p" if p.stiff else "dop853", "rtol": 1e-8, "atol": 1e-14,
        "max_steps": 10**6,
    }  # fmt: skip
    for share in shares:
        s = t0 + share * (t1 - t0)
        z = np.array(p.z0)
        if share:
            z = p.model.solve((t0, s), p.theta, z, times=[s], dense_output=False, **options).z[-1]
        loss = symode.Loss(terminal=p.model.states[0])
        task = make_task(p.model.equations, loss, (s, t1), from_initial=False, **options)
        runner = SensitivityRunner(task)
        runner.solve(np.array(p.theta), z)
        y = runner.forward.scratch.y
        tangents = y[task.n :].reshape(-1, task.n)[-z.size :]
        matrix = (tangents * np.abs(z)[:, None])[:, p.places]
        worst = max(worst, float(np.linalg.norm(matrix, 2) / np.linalg.norm(y[p.places])))
    return worst
