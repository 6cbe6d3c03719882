"""Gradients of classic problems to 16 digits and more, where the data folder is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import symode

PATH = Path(__file__).parents[2].parent / "shared" / "data" / "ivp" / "gradients.json"
needs_entries = pytest.mark.skipif(
    not PATH.exists(), reason="reference gradients (shared/data/ivp/gradients.json) are not here"
)


@dataclass(frozen=True)
class Entry:
    """A problem with its gradient; parameters and states in the model's order."""

    name: str
    model: symode.Model
    loss: symode.Loss
    span: tuple[float, float]
    theta: np.ndarray
    z0: np.ndarray
    value: float
    gradient: np.ndarray

    @property
    def is_stiff(self) -> bool:
        return self.name.startswith(("robertson", "hires"))

    def error(self, found: symode.Gradient) -> float:
        """Return |(g - ref) s| / |ref s|, s = |value| or 1: the scaled norm."""
        size = np.abs(np.concatenate([self.theta, self.z0]))
        scale = np.where(size == 0.0, 1.0, size)
        gap = (np.concatenate([found.theta, found.z0]) - self.gradient) * scale
        return float(np.linalg.norm(gap) / np.linalg.norm(self.gradient * scale))


def _read(entry: dict) -> Entry:
    text = "; ".join(f"{state}' = {rhs}" for state, rhs in entry["rhs"].items())
    model = symode.Model.from_text(text)
    halves = sum(z**2 for z in model.states) / sp.Integer(2)
    if entry["loss"].startswith("G"):
        running = model.states[-1] if "integral of y3" in entry["loss"] else halves
        loss, key = symode.Loss(running=running), "G"
    elif "times" in entry:
        loss, key = symode.Loss(observations={float(t): halves for t in entry["times"]}), "L"
    else:
        loss, key = symode.Loss(terminal=halves), "L"
    theta = [float(sp.Rational(entry["parameters"][str(p)])) for p in model.parameters]
    z0 = [float(entry["z0"][str(s)]) for s in model.states]
    slopes = [float(entry[f"d{key}_dtheta"][str(p)]) for p in model.parameters]
    slopes += [float(entry[f"d{key}_dz0"][str(s)]) for s in model.states]
    return Entry(
        entry["name"], model, loss, (float(entry["t0"]), float(entry["t1"])), np.array(theta),
        np.array(z0), float(entry[key]), np.array(slopes),
    )  # fmt: skip


ENTRIES = (
    {entry["name"]: _read(entry) for entry in json.loads(PATH.read_text("utf-8"))["gradients"]}
    if PATH.exists()
    else {}
)
