"""Speed workloads: equations in SymPy, data, reference gradients and the error norm.

The numbers come from ``workloads.json`` of the acceptance data, which lies beside the repository
(``../shared/data/workloads.json`` relative to the repository root). Every peer and symode
itself start from the same `Workload`:

    loss = sum over times and states of (z - data)**2,    gradient = d loss / d (theta, z0).

The error of a gradient g is ``norm((g - ref) * scale) / norm(ref * scale)`` where ``scale`` is the
magnitude of each parameter and initial value, 1 where that is 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
DATA_FILE = REPOSITORY.parent / "shared" / "data" / "workloads.json"

# Tolerances of the acceptance data: name -> (rtol, atol).
TOLERANCES = {"A": (1e-6, 1e-9), "B": (1e-8, 1e-10)}

# The workloads of the table, in the order of growing cost; brusselator_200 is run on request.
STANDARD = ("lotka_volterra", "network_20", "robertson", "hires", "brusselator_40")
ALL = (*STANDARD, "brusselator_200")


@dataclass(frozen=True)
class Workload:
    """One speed workload: numbers for everybody, equations in SymPy for those who ask.

    ``extra`` holds what the equations need beyond n and m (the wiring of a network).
    """

    name: str
    n: int
    m: int
    theta: np.ndarray
    z0: np.ndarray
    t0: float
    times: np.ndarray
    data: np.ndarray
    reference: np.ndarray
    stiff: bool
    extra: dict = field(default_factory=dict)

    @property
    def scale(self) -> np.ndarray:
        """Return the magnitude of each parameter and initial value, 1 where it is 0."""
        magnitude = np.abs(np.concatenate([self.theta, self.z0]))
        return np.where(magnitude == 0.0, 1.0, magnitude)

    def error(self, gradient: np.ndarray) -> float:
        """Return the scaled relative error of a gradient in (theta, z0)."""
        gradient = np.asarray(gradient, dtype=float).ravel()
        if gradient.shape != self.reference.shape:
            raise ValueError(
                f"{self.name}: the gradient has {gradient.size} entries, expected "
                f"{self.m} parameters and {self.n} initial values, theta first."
            )
        wrong = (gradient - self.reference) * self.scale
        return float(np.linalg.norm(wrong) / np.linalg.norm(self.reference * self.scale))

    def equations(self):
        """Return ``(states, parameters, time, rhs)`` as SymPy symbols and expressions."""
        return _equations(self.name)


@lru_cache(maxsize=1)
def _file() -> dict:
    if not DATA_FILE.is_file():
        raise SystemExit(
            f"The benchmark data is missing: {DATA_FILE}\n"
            "workloads.json belongs to the acceptance data; it is expected in shared/data/ "
            "beside the repository."
        )
    return json.loads(DATA_FILE.read_text(encoding="utf-8"))["workloads"]


@cache
def load(name: str) -> Workload:
    """Return one workload by name."""
    entries = _file()
    if name not in entries:
        raise SystemExit(f"No workload {name!r}; there are: {', '.join(entries)}.")
    entry = entries[name]
    return Workload(
        name=name,
        n=entry["n"],
        m=entry["m"],
        theta=np.array(entry["theta"], dtype=float),
        z0=np.array(entry["z0"], dtype=float),
        t0=float(entry["t0"]),
        times=np.array(entry["times"], dtype=float),
        data=np.array(entry["data"], dtype=float),
        reference=np.array(entry["gradient_reference"], dtype=float),
        stiff=bool(entry["stiff"]),
        extra={key: entry[key] for key in ("network",) if key in entry},
    )


@cache
def _equations(name: str):
    import sympy as sp

    workload = load(name)
    time = sp.Symbol("t")
    z = sp.symbols(f"z0:{workload.n}")
    p = sp.symbols(f"p0:{workload.m}")
    family = name.rsplit("_", 1)[0] if name.startswith(("network", "brusselator")) else name
    rhs = _RIGHT_HAND_SIDES[family](z, p, workload)
    return list(z), list(p), time, list(rhs)


def _lotka_volterra(z, p, workload):
    x, y = z
    return p[0] * x - p[1] * x * y, -p[2] * y + p[3] * x * y


def _robertson(z, p, workload):
    slow, fast, middle = p[0] * z[0], p[1] * z[1] ** 2, p[2] * z[1] * z[2]
    return -slow + middle, slow - fast - middle, fast


def _hires(y, p, workload):
    k1, k2, k3, k4, k5, k6, kp, km, ks, oks = p
    r = kp * y[5] * y[7]
    s = (k2 + km + ks) * y[6]
    return (
        -k1 * y[0] + k2 * y[1] + k6 * y[2] + oks,
        k1 * y[0] - (k2 + k3) * y[1],
        -(k6 + k1) * y[2] + k2 * y[3] + k5 * y[4],
        k3 * y[1] + k1 * y[2] - (k4 + k2) * y[3],
        -(k1 + k5) * y[4] + k2 * (y[5] + y[6]),
        -r + k4 * y[3] + k1 * y[4] - k2 * y[5] + km * y[6],
        r - s,
        -r + s,
    )


def _brusselator(z, p, workload):
    a, b, du, dv = p
    cells = workload.n // 2
    c = (cells + 1) ** 2
    u = [1, *z[0::2], 1]
    v = [3, *z[1::2], 3]
    rhs = []
    for i in range(1, cells + 1):
        reaction = u[i] ** 2 * v[i]
        rhs.append(a + reaction - (b + 1) * u[i] + du * c * (u[i - 1] - 2 * u[i] + u[i + 1]))
        rhs.append(b * u[i] - reaction + dv * c * (v[i - 1] - 2 * v[i] + v[i + 1]))
    return rhs


def _network(z, p, workload):
    wiring = workload.extra["network"]
    n = workload.n
    v, d, q = p[:n], p[n : 2 * n], p[2 * n :]
    rhs = []
    for i in range(n):
        h = z[wiring["reg"][i]] ** 2
        regulation = h / (1 + h) if wiring["act"][i] else 1 / (1 + h)
        rhs.append(v[i] * regulation - d[i] * z[i])
    for k, (a, b, c) in enumerate(zip(wiring["ra"], wiring["rb"], wiring["rc"], strict=True)):
        rate = q[k] * z[a] * z[b]
        rhs[a] -= rate
        rhs[b] -= rate
        rhs[c] += rate
    return rhs


_RIGHT_HAND_SIDES = {
    "lotka_volterra": _lotka_volterra,
    "robertson": _robertson,
    "hires": _hires,
    "brusselator": _brusselator,
    "network": _network,
}
