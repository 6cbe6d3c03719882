r"""The likelihood of all conditions at one point of a search, compiled.

What `symode.problems.scores.Scores` says in Python, about problems whose noise is of location and
scale: value, misfit, gradient, and W with :math:`W^\top W` the Fisher information.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from symode.kernels.call import call_field
from symode.kernels.jit import inline
from symode.kernels.search_types import (
    AFFINE,
    FLAT,
    FRESH,
    LAPLACE,
    LOGIT,
    MISFIT,
    PART,
    POWER,
    SOFTPLUS,
    STUDENT,
    USED,
    VALUE,
    Noise,
    Parts,
    Point,
    Priors,
    Space,
    Work,
)
from symode.kernels.types import Floats
from symode.status import PAUSED, SUCCESS, SWITCH


@intrinsic
def call_entry(typingctx: Any, address: Any, table: Any, budget: Any, fresh: Any) -> Any:
    """Call ``entry(table, budget, fresh)`` at an address, see `symode.kernels.residuals`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word] * 3)
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return types.int64(types.int64, types.int64, types.int64, types.int64), codegen


@inline
def to_outer(space: Space, x: Floats, work: Work) -> None:
    """Set the problem's parameters, and their slopes on the scale."""
    for i in range(space.places.size):
        kind, a, b, at = space.scale[i], space.a[i], space.b[i], x[i]
        if kind == POWER:
            theta = math.pow(a, at)
            slope = theta * b
        elif kind == LOGIT:
            share = math.exp(at) if at < 0.0 else 1.0
            theta = a + (b - a) * share / (1.0 + math.exp(-abs(at)))
            slope = (theta - a) * (b - theta) / (b - a)
        elif kind == SOFTPLUS:
            theta = max(at, 0.0) + math.log1p(math.exp(-abs(at)))
            slope = -math.expm1(-theta)
        elif kind == AFFINE:
            theta = a + b * at
            slope = b
        else:
            theta = at
            slope = 1.0
        work.outer[space.places[i]] = theta
        work.slopes[i] = slope


@inline
def to_models(parts: Parts, work: Work) -> None:
    """Set the parameters of the model in every condition."""
    if parts.hoist[0] != 0:
        call_field(
            parts.hoist[0], 0.0, work.outer, 0, work.outer, 0, work.scratch, 0, work.outer,
            parts.hoist[1],
        )  # fmt: skip
    stride = parts.hoist[2]
    for c in range(parts.entry.size):
        for i in range(parts.source.shape[1]):
            place = parts.source[c, i]
            parts.theta[c, i] = work.outer[place] if place >= 0 else parts.constant[c, i]
        if parts.graph[c] == 0:
            continue
        first = parts.first_formula[c]
        call_field(
            parts.graph[c], 0.0, work.outer, 0, work.outer, 0, work.scratch, 0, work.formulas,
            first * stride,
        )  # fmt: skip
        for k in range(first, parts.first_formula[c + 1]):
            parts.theta[c, parts.formulas[k]] = work.formulas[k * stride]


@inline
def pull(space: Space, parts: Parts, work: Work, c: int, row: int, out: Floats) -> None:
    """Write a row of a condition's Jacobian in the estimated parameters on their scale."""
    p, width, stride = space.places.size, parts.width[c], parts.hoist[2]
    at = parts.entries[c] + (row - parts.row[c]) * width
    for i in range(p):
        out[i] = 0.0
    for w in range(width):
        entry = parts.jacobian[at + w]
        i = parts.estimated[c, w]
        if i >= 0:
            out[i] += entry * work.slopes[i]
        formula = parts.formula[c, w]
        if formula >= 0:
            start = (parts.first_formula[c] + formula) * stride + 1
            for j in range(p):
                out[j] += entry * work.formulas[start + space.places[j]] * work.slopes[j]


@inline
def join(
    space: Space, parts: Parts, noise: Noise, priors: Priors, work: Work, point: Point
) -> None:
    """Set value, misfit, gradient and root of a point from the residuals of all conditions."""
    p, count = space.places.size, noise.u.size
    value, misfit, after = 0.0, 0.0, count
    row, gradient = work.dlog, point.gradient
    for i in range(p):
        gradient[i] = 0.0
    for k in range(count):
        spread = noise.spread[k]
        log_sigma = parts.values[spread] if spread >= 0 else noise.log_sigma[k]
        sigma = math.exp(log_sigma)
        r = (noise.u[k] - parts.values[noise.location[k]]) / sigma
        information, about_sigma = 1.0, 2.0
        if noise.kind[k] == LAPLACE:
            rho, slope, about_sigma = abs(r), float(np.sign(r)), 1.0
        elif noise.kind[k] == STUDENT:
            df = noise.df[k]
            rho = 0.5 * (df + 1.0) * math.log1p(r * r / df)
            slope = (df + 1.0) * r / (df + r * r)
            information = (df + 1.0) / (df + 3.0)
            about_sigma = 2.0 * df / (df + 3.0)
        else:
            rho, slope = 0.5 * r * r, r
        value += rho + math.log(sigma) + noise.extra[k]
        misfit += 0.5 * r * r
        pull(space, parts, work, noise.part[k], noise.location[k], row)
        weight = math.sqrt(information) / sigma
        for i in range(p):
            gradient[i] -= slope / sigma * row[i]
            point.root[i, k] = weight * row[i]
        if spread >= 0:
            pull(space, parts, work, noise.part[k], spread, row)
            weight = math.sqrt(about_sigma)
            for i in range(p):
                gradient[i] += (1.0 - r * slope) * row[i]
                point.root[i, after] = weight * row[i]
            after += 1
    for q in range(priors.kind.size):
        value += add_prior(priors, q, work, point, after)
        if priors.estimated[q] >= 0:
            after += 1
    point.scalars[VALUE] = value
    point.scalars[MISFIT] = misfit


@inline
def add_prior(priors: Priors, q: int, work: Work, point: Point, at: int) -> float:
    """Add a prior to gradient and root; return its value."""
    theta, kind, factor = work.outer[priors.place[q]], priors.kind[q], priors.factor[q]
    value, slope, du = priors.constant[q], 0.0, 0.0
    if kind != FLAT:
        u, by_theta = theta, 1.0
        if factor != 0.0:
            u, by_theta = factor * math.log(theta), factor / theta
        r = (u - priors.mean[q]) / priors.sd[q]
        du = by_theta / priors.sd[q]
        if kind == LAPLACE:
            value += abs(r)
            slope = float(np.sign(r)) * du
        else:
            value += 0.5 * r * r
            slope = r * du
    if priors.of_theta[q] != 0:
        value += math.log(theta) - math.log(factor)
        slope += 1.0 / theta
    i = priors.estimated[q]
    if i >= 0:
        point.gradient[i] += slope * work.slopes[i]
        for j in range(point.gradient.size):
            point.root[j, at] = 0.0
        point.root[i, at] = du * abs(work.slopes[i])
    return float(value)


@inline
def evaluate(
    space: Space, parts: Parts, noise: Noise, priors: Priors, work: Work, point: Point, budget: int
) -> int:
    """Evaluate a point, or go on with it; return a status.

    PAUSED and SWITCH come back to be entered again, as from a single solve: on SWITCH the condition
    ``at[PART]`` goes on by ``work.entry`` and ``work.table``, which the caller sets. A failure
    leaves nothing of the point behind.
    """
    at = work.at
    if at[PART] < 0:
        if at[USED] >= budget:
            return PAUSED
        to_outer(space, point.x, work)
        to_models(parts, work)
        at[PART] = 0
        at[FRESH] = 1
    while at[PART] < parts.entry.size:
        c = at[PART]
        status = call_entry(work.entry[c], work.table[c], budget, at[FRESH])
        if status in (PAUSED, SWITCH):
            at[FRESH] = 0
            return int(status)
        at[USED] += parts.tries[c]
        work.entry[c], work.table[c] = parts.entry[c], parts.table[c]
        at[FRESH] = 1
        if status != SUCCESS:
            at[PART] = -1
            return int(status)
        at[PART] = c + 1
    join(space, parts, noise, priors, work, point)
    at[PART] = -1
    return SUCCESS
