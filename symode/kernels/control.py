"""Step size control: the error norm, the first step, and the PI controller."""

from __future__ import annotations

import math

from symode.kernels.dense import stage_scale
from symode.kernels.jit import by_type, inline
from symode.kernels.types import (
    ERR,
    GROUP,
    H_PAST,
    H_STEP,
    NEWTON,
    RATE,
    Chebyshev,
    Collocation,
    Control,
    Dirk,
    Erk,
    Floats,
    Method,
    Rosenbrock,
    Scratch,
)
from symode.kernels.vector import weigh_stages

SAFETY = 0.9
SHRINK = 0.2
GROW = 10.0
#: Convergence rate up to which Jacobian and factors of a step serve the next one too, and the
#: growth that is then forgone (radau.f: thet, quot2).
REUSE, KEEP = 1e-3, 1.2
#: Share of the previous error in the PI controller (Hairer & Wanner 1996, eq. IV.2.44).
BETA = 0.04
#: Components from which their errors are made together, in vectors.
MANY = 4
#: Components judged together from which their errors are made together.
FEW = 8


@inline
def scale_of(control: Control, i: int, size: float, peak: float) -> float:
    """Return the error allowed in component i, in the units of the state."""
    return float(control.atol[i] + control.rtol * max(size, control.floor[i] * peak))


def _weighted_stages(method: Method, k: Floats, row: int, i: int) -> float:
    total = 0.0
    for s in range(method.n_stages):
        total += method.e[row, s] * k[s, i]
    return total


def _few_stages(method: Method, k: Floats, row: int, i: int) -> float:
    # The estimate of a stiffly accurate method is one stage: the others are not even read.
    total = 0.0
    for s in range(method.n_stages):
        if method.e[row, s] != 0.0:
            total += method.e[row, s] * k[s, i]
    return total


def _filtered(method: Collocation | Chebyshev, k: Floats, row: int, i: int) -> float:
    return float(k[method.n_stages, i])


@by_type(
    0,
    {
        Erk: _weighted_stages,
        Rosenbrock: _few_stages,
        Dirk: _weighted_stages,
        Collocation: _filtered,
        Chebyshev: _filtered,
    },
)
def local_error(method: Method, k: Floats, row: int, i: int) -> float:
    """Return one component of an error estimate, in units of the stages' scale."""
    raise NotImplementedError


def _all_weighted(method: Method, k: Floats, size: int, out: Floats) -> None:
    weigh_stages(out, 1.0, method.e, 0, method.n_stages, k, size)


def _all_filtered(method: Collocation | Chebyshev, k: Floats, size: int, out: Floats) -> None:
    for i in range(size):
        out[i] = k[method.n_stages, i]


@by_type(
    0,
    {
        Erk: _all_weighted,
        Rosenbrock: _all_weighted,
        Dirk: _all_weighted,
        Collocation: _all_filtered,
        Chebyshev: _all_filtered,
    },
)
def local_errors(method: Method, k: Floats, size: int, out: Floats) -> None:
    """Write all components of the first estimate, stage by stage: contiguous in memory."""
    raise NotImplementedError


@inline
def error_norm(method: Method, control: Control, h: float, scratch: Scratch) -> float:
    r"""Return the local error in multiples of the tolerance; infinite unless all is finite.

    .. math:: \sqrt{\tfrac1N \sum_i \left(e_i / (a_i + r \max(|y_i|, |y^+_i|))\right)^2}

    With two rows of error weights (DOP853) the norms E5 and E3 of the two estimates combine to
    E5²/sqrt(E5² + 0.01 E3²). Hairer, Nørsett & Wanner (1993), eqs. II.4.11 and II.10.17 ff.
    Components with an infinite atol do not count one by one; those with a weight count as one.
    """
    y, new, k = scratch.y, scratch.new, scratch.k
    scale_h = abs(stage_scale(method, h))
    first, second, counted = 0.0, 0.0, 0
    many = y.size >= MANY
    if many:
        local_errors(method, k, y.size, scratch.out)
    together = many and method.e.shape[0] == 1 and control.weight.size == 0
    if together:
        counted = relative_errors(control, scratch)
        first = square(scratch.out, y.size)
        if not (first < math.inf):
            return math.inf
    for i in range(0 if together else y.size):
        size = abs(new[i])
        if not (size < 1e300):
            return math.inf
        if control.atol[i] == math.inf:
            continue
        scale = scale_of(control, i, max(abs(y[i]), size), scratch.peak[i])
        error = scratch.out[i] if many else local_error(method, k, 0, i)
        counted += 1
        if scale > 0.0:
            first += (error / scale) ** 2
        elif error != 0.0:
            return math.inf
        if method.e.shape[0] == 2 and scale > 0.0:
            error = local_error(method, k, 1, i)
            second += (error / scale) ** 2
    if control.weight.size > 0:
        group = _group_error(method, control, scratch, many)
        first += group
        second += group
        counted += 1
    if counted == 0:
        return 0.0
    if method.e.shape[0] == 2 and first > 0.0:
        first = first * first / (first + 0.01 * second)
    return scale_h * math.sqrt(first / counted)


@inline
def relative_errors(control: Control, scratch: Scratch) -> int:
    """Divide the errors in scratch.out by what is allowed; return how many components count.

    Without branches, so that several are judged at once. An infinite entry tells of a component
    that is not finite, or of an error where none is allowed.
    """
    y, new, out, peak = scratch.y, scratch.new, scratch.out, scratch.peak
    counted = 0
    for i in range(y.size):
        size = abs(new[i])
        scale = scale_of(control, i, max(abs(y[i]), size), peak[i])
        counts = control.atol[i] < math.inf
        counted += 1 if counts else 0
        error = out[i] / (scale if scale > 0.0 else 1e-300)
        error = error if counts else 0.0
        out[i] = error if size < 1e300 else math.inf
    return counted


@inline
def square(x: Floats, size: int) -> float:
    """Return the sum of squares of the first ``size`` entries, in four chains."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    i = 0
    while i + 4 <= size:
        a += x[i] * x[i]
        b += x[i + 1] * x[i + 1]
        c += x[i + 2] * x[i + 2]
        d += x[i + 3] * x[i + 3]
        i += 4
    while i < size:
        a += x[i] * x[i]
        i += 1
    return float((a + b) + (c + d))


@inline
def weighted_square(weight: Floats, y: Floats, size: int) -> float:
    """Return the sum of (weight y)**2, in four chains: one alone waits for each addition."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    i = 0
    while i + 4 <= size:
        a += (weight[i] * y[i]) ** 2
        b += (weight[i + 1] * y[i + 1]) ** 2
        c += (weight[i + 2] * y[i + 2]) ** 2
        d += (weight[i + 3] * y[i + 3]) ** 2
        i += 4
    while i < size:
        a += (weight[i] * y[i]) ** 2
        i += 1
    return float((a + b) + (c + d))


@inline
def group_size(control: Control, y: Floats) -> float:
    """Return the weighted norm of the components judged together."""
    return math.sqrt(weighted_square(control.weight, y, control.weight.size))


@inline
def _group_error(method: Method, control: Control, scratch: Scratch, made: bool) -> float:
    """Return the squared error of the group, relative to rtol times its largest norm so far.

    ``made`` tells that scratch.out holds all components' errors.
    """
    scale = control.rtol * max(scratch.clock[GROUP], group_size(control, scratch.new))
    if scale == 0.0:
        return 0.0
    size = control.weight.size
    if size < FEW and not made:
        total = 0.0
        for i in range(size):
            if control.weight[i] != 0.0:
                error = local_error(method, scratch.k, 0, i)
                total += (control.weight[i] * error / scale) ** 2
        return total
    if not made:
        local_errors(method, scratch.k, size, scratch.out)
    # Not the square of scale, which may underflow: losses come in all units.
    relative: float = math.sqrt(weighted_square(control.weight, scratch.out, size)) / scale
    return relative * relative


def _beta_erk(method: Method) -> float:
    return BETA


def _beta_rosenbrock(method: Method) -> float:
    return 0.0


@by_type(
    0,
    {
        Erk: _beta_erk,
        Rosenbrock: _beta_rosenbrock,
        Collocation: _beta_rosenbrock,
        Dirk: _beta_rosenbrock,
        Chebyshev: _beta_erk,
    },
)
def memory_of_control(method: Method) -> float:
    """Return the exponent of the previous error; implicit methods, less smooth, keep none."""
    raise NotImplementedError


@inline
def step_factor(method: Method, error: float, log_previous: float) -> float:
    """Return the factor of the next step size (PI control), given the last error's logarithm."""
    if error == 0.0:
        return GROW
    beta = memory_of_control(method)
    exponent = 0.75 * beta - 1.0 / method.order
    factor = SAFETY * math.exp(exponent * math.log(error) + beta * log_previous)
    return min(GROW, max(SHRINK, factor))


def _next_by_error(method: Method, error: float, scratch: Scratch) -> float:
    return step_factor(method, error, scratch.clock[ERR])


def _next_predictive(method: Collocation, error: float, scratch: Scratch) -> float:
    clock, newton = scratch.clock, scratch.count[NEWTON]
    limit = 7 + (5 * (method.n_stages - 3)) // 2
    if error == 0.0:
        return GROW
    # A little less where the iteration took long (radau.f).
    factor = SAFETY * (1 + 2 * limit) / (newton + 2 * limit)
    factor *= math.exp(-math.log(error) / method.order)
    past = clock[H_PAST]
    if past != 0.0:
        # The error's trend: Gustafsson's predictive control (Hairer & Wanner, eq. IV.8.27).
        trend = (max(clock[ERR], math.log(1e-2)) - 2.0 * math.log(error)) / method.order
        factor = min(factor, SAFETY * clock[H_STEP] / past * math.exp(min(trend, 20.0)))
    factor = float(min(GROW, max(SHRINK, factor)))
    # The same step size again spares a factorization.
    if 1.0 <= factor <= KEEP and clock[RATE] <= REUSE:
        return 1.0
    return factor


@by_type(
    0,
    {
        Erk: _next_by_error,
        Rosenbrock: _next_by_error,
        Collocation: _next_predictive,
        Dirk: _next_by_error,
        Chebyshev: _next_by_error,
    },
)
def next_factor(method: Method, error: float, scratch: Scratch) -> float:
    """Return the factor of the next step size after an accepted step."""
    raise NotImplementedError


@inline
def first_step(
    method: Method,
    control: Control,
    span: float,
    f0: Floats,
    f1: Floats,
    scratch: Scratch,
    h0: float,
) -> float:
    """Return the first step size from f at t and at t + h0 (Hairer et al. 1993, II.4)."""
    d1, d2, counted = 0.0, 0.0, 0
    for i in range(scratch.y.size):
        if control.atol[i] == math.inf:
            continue
        scale = scale_of(control, i, abs(scratch.y[i]), abs(scratch.y[i]))
        if scale == 0.0:
            continue
        counted += 1
        d1 += (f0[i] / scale) ** 2
        d2 += ((f1[i] - f0[i]) / scale) ** 2
    if counted == 0:
        scale = control.rtol * scratch.clock[GROUP]
        for i in range(control.weight.size):
            if scale > 0.0:
                counted = 1
                d1 += (control.weight[i] * f0[i] / scale) ** 2
                d2 += (control.weight[i] * (f1[i] - f0[i]) / scale) ** 2
    if counted == 0:
        return min(span, h0)
    d1, d2 = math.sqrt(d1 / counted), math.sqrt(d2 / counted) / h0
    top = max(d1, d2)
    h1 = max(1e-6 * span, h0 * 1e-3) if top <= 1e-15 else (0.01 / top) ** (1.0 / method.order)
    return min(100.0 * h0, h1, span)


@inline
def rough_step(control: Control, span: float, f0: Floats, scratch: Scratch) -> float:
    """Return a step on which an explicit Euler step moves the state by one per cent."""
    d0, d1 = 0.0, 0.0
    for i in range(scratch.y.size):
        if control.atol[i] == math.inf:
            continue
        scale = scale_of(control, i, abs(scratch.y[i]), abs(scratch.y[i]))
        if scale == 0.0:
            continue
        d0 += (scratch.y[i] / scale) ** 2
        d1 += (f0[i] / scale) ** 2
    scale = control.rtol * scratch.clock[GROUP]
    if d0 == 0.0 and scale > 0.0:
        # All components are judged together.
        for i in range(control.weight.size):
            d0 += (control.weight[i] * scratch.y[i] / scale) ** 2
            d1 += (control.weight[i] * f0[i] / scale) ** 2
    if d0 < 1e-10 or d1 < 1e-10:
        return 1e-6 * span
    return min(0.01 * math.sqrt(d0 / d1), span)
