"""Whole Rosenbrock steps: they solve the stage equations, and their transpose is a transpose."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from strategies import examples, seeds, smooth_models

from symode.codegen.reference import COMPLEX, evaluate
from symode.solvers.methods import get_method
from symode.symbolic.derive import Field, derive_jac
from symode.symbolic.fused_step import (
    FUSED,
    derive_step,
    derive_step_transposed,
    estimated_size,
    fused_kernels,
)
from symode.symbolic.graph import Builder

METHOD = get_method("rodas5p")
STAGES = len(METHOD.m)
#: Short enough for W to be far from singular in most examples: the others are left out.
H = 1e-2


def matrix(case, t, z, theta):
    """Return J and f_t."""
    n, jacobian = len(z), case.field.jacobian
    values = evaluate(derive_jac(case.field), t, z, theta)
    dense = np.zeros((n, n))
    dense[list(jacobian.rows), list(jacobian.cols)] = values[:-n]
    return dense, values[-n:]


def made(case, seed):
    """Return a step's inputs, W, f_t and U; no example where W is nearly singular."""
    t, z, theta, _, _ = case.point(seed)
    jacobian, slope = matrix(case, t, z, theta)
    w = np.eye(len(z)) / (H * METHOD.gamma) - jacobian
    assume(np.isfinite(w).all() and np.linalg.cond(w) < 1e6)
    out = evaluate(derive_step(case.field, METHOD), t, z, theta, [H])
    assume(np.isfinite(out).all())
    return t, z, theta, w, slope, out


@examples(40)
@given(case=smooth_models(), seed=seeds())
def test_a_whole_step_solves_the_equations_of_its_stages(case, seed):
    t, z, theta, w, slope, out = made(case, seed)
    n = len(z)
    u, new = out[: STAGES * n].reshape(STAGES, n), out[STAGES * n : -1]
    for i in range(STAGES):
        f = evaluate(case.field.graph, t + METHOD.alpha[i] * H, z + METHOD.a[i] @ u, theta)
        terms = [f, METHOD.C[i] @ u / H, H * METHOD.d[i] * slope]
        # Rounding of the sums, times what f makes of that of its argument and W^-1 of both.
        size = sum(np.abs(x).max() for x in terms) + np.abs(w @ u[i]).max()
        size += np.abs(METHOD.C[i]) @ np.abs(u).max(axis=1) / H
        np.testing.assert_allclose(w @ u[i], sum(terms), rtol=0, atol=1e-8 * size + 1e-250)
    size = np.abs(z) + np.abs(METHOD.m) @ np.abs(u)
    np.testing.assert_allclose(new, z + METHOD.m @ u, rtol=0, atol=1e-13 * size.max() + 1e-250)
    assert out[-1] == 0


@examples(40)
@given(case=smooth_models(), seed=seeds())
def test_the_transpose_agrees_with_a_complex_step_through_the_step(case, seed):
    t, z, theta, _, _, out = made(case, seed)
    n, rng = len(z), np.random.default_rng(seed)
    seeds_of_u, base, lam = rng.normal(size=(STAGES, n)), rng.normal(size=n), rng.normal(size=n)
    packed = np.concatenate([seeds_of_u.ravel(), base, z, lam, [H]])
    back = evaluate(derive_step_transposed(case.field, METHOD), t, out[: STAGES * n], theta, packed)
    assume(np.isfinite(back).all())
    assert back[-1] == 0
    weights = np.concatenate([seeds_of_u.ravel(), lam])
    graph = derive_step(case.field, METHOD)
    # Without the check, whose absolute values have no complex derivative.
    graph = Builder(graph).freeze(graph.outputs[:-1])
    step = 1e-30
    for j in range(n + len(theta)):
        moved = np.concatenate([z, theta]).astype(complex)
        moved[j] += 1j * step
        pushed = evaluate(graph, t, moved[:n], moved[n:], [H], COMPLEX).imag / step
        expected = weights @ pushed + (base[j] if j < n else 0.0)
        size = np.abs(weights) @ np.abs(pushed) + np.abs(base).max()
        # Both are exact but for rounding, which second derivatives and W^-1 amplify.
        assert back[j] == pytest.approx(expected, abs=1e-7 * size + 1e-250)


def linear(entries):
    """Return the field of z' = A z."""
    b = Builder()
    z = [b.input("z", i) for i in range(len(entries))]
    return Field(
        b.freeze(
            [b.total([b.mul(b.const(x), y) for x, y in zip(r, z, strict=True)]) for r in entries]
        ),
        n_states=len(entries),
        n_parameters=0,
    )


@pytest.mark.parametrize("transposed", [False, True])
def test_a_pivot_that_vanishes_is_told(transposed):
    # Regular, but not without exchanging rows: W = (0, -1; -1, 0).
    h = 0.1
    d = Fraction(1.0 / (h * METHOD.gamma))
    field = linear([[d, 1], [1, d]])
    if transposed:
        packed = np.concatenate([np.ones((STAGES + 3) * 2), [h]])
        u, step = np.ones(STAGES * 2), derive_step_transposed(field, METHOD)
    else:
        packed, u, step = np.array([h]), np.array([1.0, 2.0]), derive_step(field, METHOD)
    with np.errstate(all="ignore"):
        assert evaluate(step, 0.0, u, [], packed)[-1] > 0


def test_a_large_model_has_no_whole_steps():
    small, large = linear(np.eye(3, dtype=int).tolist()), linear(np.eye(60, dtype=int).tolist())
    assert set(fused_kernels(small, METHOD, transposed=True)) == {"lu_step", "lu_step_t"}
    assert estimated_size(large, STAGES) > FUSED
    assert fused_kernels(large, METHOD, transposed=True) == {}
