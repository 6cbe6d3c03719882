"""gradient_rtol: tolerances tightened until the gradient itself has settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.errors import GradientError, OptionError, SolverError
from symode.gradients.value_and_grad import Gradient

Floats = NDArray[np.float64]

#: The tightest tolerance tried: rounding rules below it.
TIGHTEST = 1e-13
#: A gradient this small against the loss, in the scaled norm, is what cancellation leaves of it.
CANCELLED = 1e-9


def tightened(
    compute: Callable[..., Gradient],
    point: Floats,
    gradient_rtol: float,
    rtol: float,
    atol: Any,
    length: float,
    h_max: float = np.inf,
) -> Gradient:
    """Tighten the tolerances until two gradients agree.

    No run is looser than ten times ``gradient_rtol``, whatever ``rtol`` says. The two runs are at
    least ten times apart in tolerance and take different steps; agreement is measured in the norm
    of ``(g - g') * scale`` with scale the size of each parameter and initial value. Where two
    tolerances lead to the same steps (a solution that any step follows exactly, or steps limited by
    ``h_max``), the finer run is repeated with steps of at most half the size.

    Parameters
    ----------
    compute
        Returns the gradient at ``rtol=``, ``atol=`` and ``h_max=``.
    point
        Values of what is differentiated, for the scale.
    gradient_rtol
        Agreement asked for.
    rtol, atol, h_max
        Options of the first run.
    length
        Length of the span.

    Raises
    ------
    SolverError
        When the first solve fails.
    GradientError
        When the tightest tolerance is reached without agreement, or solves fail on the way there.
    """
    if not (isinstance(gradient_rtol, Real) and 0 < gradient_rtol < 1):
        raise OptionError(f"gradient_rtol must lie between 0 and 1; got {gradient_rtol!r}.")
    scale = np.abs(point)
    scale[scale == 0.0] = 1.0
    # Agreement closer than the tolerances is luck: one of 150 searches met it, 1.7 gradient_rtol
    # wrong. Two runs, ten times apart, must fit above the tightest.
    tolerance = max(min(rtol, 10 * gradient_rtol), 10 * TIGHTEST)
    coarse: Gradient | None = None
    distance, size, trouble = np.inf, 0.0, ""
    while tolerance >= TIGHTEST * (1 - 1e-9):
        options = {"rtol": tolerance, "atol": _times(atol, tolerance / rtol)}
        fine: Gradient | None = None
        try:
            fine = compute(**options, h_max=h_max)
            if coarse is not None and _steps(fine) is not None and _steps(fine) == _steps(coarse):
                steps = max(int(_steps(fine) or 1), 1)
                fine = compute(**options, h_max=min(h_max, length / steps) / 2)
        except GradientError as error:
            # Such as a drift that a tighter tolerance mends.
            trouble = f" At rtol={tolerance:.0e}: {error}"
        except SolverError as error:
            if coarse is None:
                raise
            trouble = f" At rtol={tolerance:.0e}: {error}"
            break
        if coarse is not None and fine is not None:
            a, b = _numbers(coarse, scale), _numbers(fine, scale)
            size, gap = _norm(b), _norm(a - b)
            distance = gap / size if size > 0.0 else (0.0 if gap == 0.0 else np.inf)
            if distance <= gradient_rtol:
                found = {"rtol": tolerance, "gradient_error_estimate": distance}
                return replace(fine, stats={**fine.stats, **found})
        coarse = fine
        tolerance /= 10
    raise GradientError(
        f"gradient_rtol={gradient_rtol:g} was not reached: "
        + _reason(distance, size, coarse, tolerance * 10)
        + trouble
    )


def _reason(distance: float, size: float, last: Gradient | None, rtol: float) -> str:
    """Return what is known of a search that ended without agreement."""
    if not np.isfinite(distance):
        return f"no two runs down to rtol={rtol:.0e} could be compared."
    text = f"down to rtol={rtol:.0e} two runs still differ by {distance:.2g} in the scaled norm."
    if last is not None and size <= CANCELLED * abs(last.value):
        return (
            f"{text} The gradient is nearly zero: its norm of {size:.2g} is what cancellation "
            f"leaves against a loss of {last.value:.3g}, so no digit of it may be right. Judge its "
            "size, not its relative error."
        )
    return (
        f"{text} The gradient is too sensitive for double precision here (a long chaotic span, or "
        "a function that is not smooth)."
    )


def _norm(values: Floats) -> float:
    """Return the Euclidean norm; squares of tiny or huge derivatives do not leave the numbers."""
    top = float(np.max(np.abs(values), initial=0.0))
    return top * float(np.linalg.norm(values / top)) if top > 0.0 else 0.0


def _times(atol: Any, factor: float) -> Any:
    """Return absolute tolerances times a factor, by name where they were given so."""
    if isinstance(atol, Mapping):
        return {name: value * factor for name, value in atol.items()}
    return np.asarray(atol) * factor


def _numbers(gradient: Gradient, scale: Floats) -> Floats:
    """Return what is compared: derivatives in theta and z0 where asked for, else in times."""
    if scale.size:
        return np.asarray(np.concatenate([gradient.theta, np.ravel(gradient.z0)]) * scale)
    times = np.array([gradient.t0, gradient.t1, *gradient.times])
    return np.asarray(times[~np.isnan(times)])


def _steps(gradient: Gradient) -> int | None:
    forward = gradient.stats.get("forward")
    return None if forward is None else int(forward.steps)
