"""gradient_rtol: tolerances tightened until the gradient itself has settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from symode.errors import GradientError, OptionError
from symode.gradients.value_and_grad import Gradient

Floats = np.ndarray[Any, np.dtype[np.float64]]

#: The tightest tolerance tried: rounding rules below it.
TIGHTEST = 1e-13


def tightened(
    compute: Callable[..., Gradient],
    point: Floats,
    gradient_rtol: float,
    rtol: float,
    atol: Any,
) -> Gradient:
    """Tighten the tolerances until two gradients agree.

    The two runs are at least ten times apart in tolerance and take different steps; agreement is
    measured in the norm of ``(g - g') * scale`` with scale the size of each parameter and initial
    value.

    Raises
    ------
    GradientError
        When the tightest tolerance is reached without agreement.
    """
    if not 0 < gradient_rtol < 1:
        raise OptionError(f"gradient_rtol must lie between 0 and 1; got {gradient_rtol!r}.")
    scale = np.abs(point)
    scale[scale == 0.0] = 1.0
    atol = np.array(list(atol.values())) if isinstance(atol, Mapping) else np.asarray(atol)
    coarse, distance = compute(rtol=rtol, atol=atol), np.inf
    while rtol > TIGHTEST:
        rtol, atol = max(rtol / 10, TIGHTEST), atol / 10
        fine = compute(rtol=rtol, atol=atol)
        a, b = _numbers(coarse, scale), _numbers(fine, scale)
        distance = float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-300)
        same_mesh = _steps(coarse) == _steps(fine) and _steps(fine) is not None
        if distance <= gradient_rtol and not same_mesh:
            return replace(
                fine, stats={**fine.stats, "rtol": rtol, "gradient_error_estimate": distance}
            )
        coarse = fine
    raise GradientError(
        f"gradient_rtol={gradient_rtol:g} was not reached: at rtol={rtol:g} two runs still differ "
        f"by {distance:.2g} in the scaled norm. The gradient is too sensitive for double "
        "precision here (a long chaotic span, or a function that is not smooth)."
    )


def _numbers(gradient: Gradient, scale: Floats) -> Floats:
    """Return what is compared: derivatives in theta and z0 where asked for, else in times."""
    if scale.size:
        return np.asarray(np.concatenate([gradient.theta, np.ravel(gradient.z0)]) * scale)
    times = np.array([gradient.t0, gradient.t1, *gradient.times])
    return np.asarray(times[~np.isnan(times)])


def _steps(gradient: Gradient) -> int | None:
    forward = gradient.stats.get("forward")
    return None if forward is None else int(forward.steps)
