"""The classic problems of the acceptance data, solved by Rodas5P at several tolerances.

The bound is 100 rtol in the norm of the end state: local errors held to rtol add up over some
hundreds of steps, and these problems do not amplify them much more. Absolute tolerances are far
below the states that matter, so that rtol alone is judged.
"""

import json
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import symode

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "ivp" / "problems.json"
if not DATA.is_file():
    pytest.skip(f"the acceptance data are missing: {DATA}", allow_module_level=True)
PROBLEMS = {entry["name"]: entry for entry in json.loads(DATA.read_text())["problems"]}
WRITTEN_OUT = [name for name, entry in PROBLEMS.items() if isinstance(entry["rhs"], dict)]
#: Digits of the published end values, where the data give no other.
PUBLISHED_DIGITS = 11.0


def written_out(entry):
    """Return model, parameters and initial values of a problem whose equations are given."""
    helpers = entry.get("auxiliary", {}) | entry.get("constants", {}) | {"pi": repr(math.pi)}

    def expand(text: str) -> str:
        return re.sub(
            r"\b[a-zA-Z]\w*\b",
            lambda word: f"({expand(helpers[word[0]])})" if word[0] in helpers else word[0],
            text,
        )

    lines = [f"{state}' = {expand(text)}" for state, text in entry["rhs"].items()]
    theta = {name: float(Fraction(value)) for name, value in entry["parameters"].items()}
    z0 = {name: float(Fraction(value)) for name, value in entry["z0"].items()}
    return symode.Model.from_text("; ".join(lines)), theta, z0


def error_at_end(entry, solution, names) -> tuple[float, float]:
    """Return the relative error in the norm, and what the reference itself may be wrong by."""
    known = entry.get("high_precision") or entry.get("check") or entry["published_reference"]
    kept = [name for name in names if name in known["z"]]
    exact = np.array([float(known["z"][name]) for name in kept])
    found = np.array([solution[name][-1] for name in kept])
    digits = entry.get("agreement_digits_worst", PUBLISHED_DIGITS)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact)), 10.0**-digits


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8, 1e-10])
@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_error_is_within_a_hundred_tolerances(name, rtol):
    entry = PROBLEMS[name]
    model, theta, z0 = written_out(entry)
    t1 = float(entry["t1"])
    solution = model.solve(
        (float(entry["t0"]), t1), theta, z0, times=[t1], solver="rodas5p", rtol=rtol,
        atol=rtol * 1e-6, max_steps=10**6, dense_output=False,
    )  # fmt: skip
    error, floor = error_at_end(entry, solution, entry["states"])
    assert error <= max(100 * rtol, floor)


def brusselator_1d():
    """Return the Brusselator with N = 500 cells (1000 states)."""
    count = 500
    u, v = sp.symbols(f"u1:{count + 1}"), sp.symbols(f"v1:{count + 1}")
    a, b, alpha = sp.symbols("A B alpha")
    rhs, start, names = {}, {}, {}
    for i, (p, q) in enumerate(zip(u, v, strict=True)):
        left, right = (
            (u[i - 1], v[i - 1]) if i else (1, 3),
            ((u[i + 1], v[i + 1]) if i < count - 1 else (1, 3)),
        )
        c = alpha * (count + 1) ** 2
        rhs[p] = a + p**2 * q - (b + 1) * p + c * (left[0] - 2 * p + right[0])
        rhs[q] = b * p - p**2 * q + c * (left[1] - 2 * q + right[1])
        start |= {p: 1 + math.sin(2 * math.pi * (i + 1) / (count + 1)) / 2, q: 3.0}
        names |= {f"y{2 * i + 1}": p.name, f"y{2 * i + 2}": q.name}
    model = symode.Model(rhs, parameters=(a, b, alpha), time="t")
    return model, [1.0, 3.0, 0.02], list(start.values()), names


def test_a_thousand_states_of_the_brusselator():
    model, theta, z0, names = brusselator_1d()
    entry = PROBLEMS["brusselator_1d"]
    solution = model.solve(
        (0, 10), theta, z0, times=[10.0], solver="rodas5p", rtol=1e-6, atol=1e-9,
        dense_output=False,
    )  # fmt: skip
    known = entry["check"]["z"]
    exact = np.array([float(value) for value in known.values()])
    found = np.array([solution[names[name]][-1] for name in known])
    assert np.linalg.norm(found - exact) <= 100 * 1e-6 * np.linalg.norm(exact)
