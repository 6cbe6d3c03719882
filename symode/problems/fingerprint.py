"""Fingerprints: what a stored result belongs to, in parts that can be named when they differ."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from symode.equations.equations import Equations
from symode.problems.problem import Problem
from symode.solvers.event_functions import EventFunctions
from symode.symbolic.lift import lift_expressions, lift_field


def fingerprint(problem: Problem) -> dict[str, str]:
    """Return a hash of the model, data, noise, conditions, parameters and solver of a problem.

    Equal for equal problems in every process; independent of the version of symode, as far as it
    derives the same graphs.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    >>> data = symode.Data([1, 2], {"x": [1.0, 0.5]})
    >>> problem = symode.Problem(model, data, symode.Normal(0.1), scale="log10")
    >>> list(fingerprint(problem))
    ['model', 'data', 'noise', 'conditions', 'parameters', 'solver']
    """
    equations, space = problem.layout.equations, problem.space
    assert equations.initial is not None
    initial = lift_expressions(equations, equations.initial)
    measured: list[Any] = []
    for name, data in problem.measured.items():
        measured += [name, data.names, data.times, data.values, data.censored]
    noise: list[Any] = []
    for column in problem.columns:
        graph = lift_expressions(equations, [column.expression, column.sigma])
        noise += [column.name, type(column.noise).__name__, column.noise.measure.name,
                  getattr(column.noise, "df", None), column.codes, graph.digest]  # fmt: skip
    maps: list[Any] = []
    for name, part in problem.layout.maps.items():
        for phase in part.phases:
            digest = None if phase.graph is None else phase.graph.digest
            maps += [name, phase.source, phase.constant, phase.places, digest]
        maps += [len(part.phases), part.places, problem.part(name).t0]
    priors = [(i, repr(prior)) for i, prior in problem.priors]
    return {
        "model": _hash(
            equations.state_names,
            equations.parameter_names,
            lift_field(equations).graph.digest,
            initial.digest,
            *_events(equations),
        ),
        "data": _hash(*measured),
        "noise": _hash(*noise),
        "conditions": _hash(*maps),
        "parameters": _hash(
            space.parameters, space.places, space.values, space.lower, space.upper,
            [repr(t) for t in space.transforms], priors,
            *([] if problem.reduced is None else [problem.reduced.space.names]),
        ),
        "solver": _hash(sorted((k, repr(v)) for k, v in problem.options.items()),
                        repr(problem.method)),
    }  # fmt: skip


def _events(equations: Equations) -> list[Any]:
    """Return what tells a model's events apart; nothing where there are none."""
    if not equations.events:
        return []
    functions = EventFunctions(equations)
    parts: list[Any] = [functions.triggers]
    parts += [(k, graph.digest) for k, (_, graph) in sorted(functions.graphs.items())]
    for event, targets in zip(equations.events, functions.targets, strict=True):
        parts += [event.name, event.persistent, event.initial_value, event.use_trigger_values,
                  event.terminal, targets]  # fmt: skip
    return parts


def _hash(*parts: Any) -> str:
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            # Missing values have many bit patterns, and -0 is 0.
            clean = np.where(np.isnan(part), np.nan, part + 0.0) if part.dtype.kind == "f" else part
            sha.update(f"{part.dtype.kind}{part.shape}".encode() + clean.tobytes())
        else:
            sha.update(repr(part).encode())
        sha.update(b"|")
    return sha.hexdigest()
