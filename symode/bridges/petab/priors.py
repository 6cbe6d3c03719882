"""Objective priors of PEtab."""

from __future__ import annotations

from typing import Any

from symode.errors import ImportFileError, OptionError
from symode.problems.priors import LaplacePrior, NormalPrior, Prior, UniformPrior

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


def read_priors(frame: Any, name: str) -> dict[str, Prior]:
    """Return the priors of the estimated parameters that have one.

    Raises
    ------
    ImportFileError
        Naming the parameter whose prior is unknown or has wrong values.
    """
    result: dict[str, Prior] = {}
    if "objectivePriorType" not in frame.columns:
        return result
    for key, row in frame.iterrows():
        kind = row["objectivePriorType"]
        if not isinstance(kind, str) or not kind or not row["estimate"]:
            continue
        if kind not in KINDS:
            raise ImportFileError(
                f"{name}: parameter {key} has the prior {kind!r}; supported are {', '.join(KINDS)}."
            )
        make, on, of_scale = KINDS[kind]
        try:
            first, second = (float(v) for v in str(row["objectivePriorParameters"]).split(";"))
            scale = on or row["parameterScale"]
            result[str(key)] = make(first, second, on=scale, of_scale=of_scale)
        except (ValueError, OptionError) as error:
            raise ImportFileError(f"{name}: the prior of parameter {key}: {error}") from None
    return result
