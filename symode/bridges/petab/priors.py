"""Objective priors of PEtab."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from symode.errors import ImportFileError, OptionError
from symode.problems.densities import (
    CauchyPrior,
    ExponentialPrior,
    GammaPrior,
    RayleighPrior,
    TruncatedPrior,
)
from symode.problems.priors import LaplacePrior, NormalPrior, Prior, UniformPrior

Table = Mapping[str, Mapping[str, Any]]

#: {type: (prior, scale of the density, whether it is a density of the scaled parameter)}; None
#: stands for the parameter's own scale.
KINDS: dict[str, tuple[Any, str | None, bool]] = {
    "normal": (NormalPrior, "lin", False),
    "laplace": (LaplacePrior, "lin", False),
    "uniform": (UniformPrior, "lin", False),
    "logNormal": (NormalPrior, "log", False),
    "logLaplace": (LaplacePrior, "log", False),
    "parameterScaleNormal": (NormalPrior, None, True),
    "parameterScaleLaplace": (LaplacePrior, None, True),
    "parameterScaleUniform": (UniformPrior, None, True),
}


def read_priors(table: Table, name: str) -> dict[str, Prior]:
    """Return the priors of the estimated parameters that have one.

    Raises
    ------
    ImportFileError
        Naming the parameter whose prior is unknown or has wrong values.
    """
    result: dict[str, Prior] = {}
    for key, row in table.items():
        kind = row.get("objectivePriorType", "")
        if not kind or not row["estimate"]:
            continue
        if kind not in KINDS:
            raise ImportFileError(
                f"{name}: parameter {key} has the prior {kind!r}; supported are {', '.join(KINDS)}."
            )
        make, on, of_scale = KINDS[kind]
        try:
            first, second = (float(v) for v in row.get("objectivePriorParameters", "").split(";"))
            scale = on or row["parameterScale"]
            result[key] = make(first, second, on=scale, of_scale=of_scale)
        except (ValueError, OptionError) as error:
            raise ImportFileError(f"{name}: the prior of parameter {key}: {error}") from None
    return result


def _log_uniform(low: float, high: float) -> Prior:
    return UniformPrior(math.log(low), math.log(high), on="log")


#: {distribution of version 2: (prior, how many parameters it has)}.
KINDS2: dict[str, tuple[Callable[..., Prior], int]] = {
    "cauchy": (CauchyPrior, 2),
    "chisquare": (lambda degrees: GammaPrior(degrees / 2, 2.0), 1),
    "exponential": (ExponentialPrior, 1),
    "gamma": (GammaPrior, 2),
    "laplace": (LaplacePrior, 2),
    "log-laplace": (lambda mean, scale: LaplacePrior(mean, scale, on="log"), 2),
    "log-normal": (lambda mean, sd: NormalPrior(mean, sd, on="log"), 2),
    "log-uniform": (_log_uniform, 2),
    "normal": (NormalPrior, 2),
    "rayleigh": (RayleighPrior, 1),
    "uniform": (UniformPrior, 2),
}


def read_priors2(table: Table, name: str) -> dict[str, Prior]:
    """Return the priors of version 2, cut off at the bounds.

    Where any parameter has one, those without are uniform between their bounds.

    Raises
    ------
    ImportFileError
        Naming the parameter whose prior is unknown or has wrong values.
    """
    estimated = {key: row for key, row in table.items() if row["estimate"]}
    if not any(row.get("priorDistribution") for row in estimated.values()):
        return {}
    result: dict[str, Prior] = {}
    for key, row in estimated.items():
        kind, text = row.get("priorDistribution", ""), row.get("priorParameters", "")
        low, high = float(row["lowerBound"]), float(row["upperBound"])
        where = f"{name}: the prior of parameter {key}"
        if not kind:
            if math.isfinite(high - low) and low < high:
                result[key] = UniformPrior(low, high)
            continue
        if kind not in KINDS2:
            raise ImportFileError(f"{where} is {kind!r}; supported are {', '.join(KINDS2)}.")
        make, count = KINDS2[kind]
        try:
            values = [float(value) for value in text.split(";") if value.strip()]
            if len(values) != count:
                raise ImportFileError(
                    f"{where}: {kind} takes {count} parameters; it has {len(values)}."
                )
            result[key] = TruncatedPrior(make(*values), low, high)
        except ImportFileError:
            raise
        except (ValueError, OptionError) as error:
            raise ImportFileError(f"{where}: {error}") from None
    return result
