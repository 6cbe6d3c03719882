"""Every method, with every solver, for every kind of loss, finds the gradient in everything."""

import numpy as np
import pytest
from cases import CASES, LOSSES, Case, Exact, exact

import symode
from symode.errors import DriftError
from symode.gradients.methods import METHODS
from symode.solvers.methods import METHODS as SOLVERS

RTOL, ATOL = 1e-9, 1e-11
#: A gradient is as accurate as its tolerance up to the conditioning of these problems, and the
#: local error of a step, held to rtol, adds up over some dozens of steps.
LIMIT = 1e3 * RTOL

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)

#: One solver of each kind meets every combination; of the others each meets a quarter, so that
#: every pair of values still occurs.
WHOLE = ("tsit5", "rodas5p")


def combinations() -> list:
    """Return (method, solver, case, loss) for every test of conformance."""
    chosen = []
    for i, method in enumerate(METHODS):
        for j, solver in enumerate(SOLVERS):
            for k, case in enumerate(CASES):
                for l, loss in enumerate(LOSSES):  # noqa: E741
                    if solver in WHOLE or (i + j + k + l) % 4 == 0:
                        name = f"{method.name}-{solver}-{case.name}-{loss}"
                        chosen.append(pytest.param(method, solver, case, loss, id=name))
    return chosen


def gradient_of(case: Case, loss: str, *, initial: bool = False, **options) -> symode.Gradient:
    return case.model.gradient(
        symode.Loss(**LOSSES[loss](case)), case.span, theta=case.theta,
        z0=None if initial else case.z0, **{"rtol": RTOL, "atol": ATOL, **options},
    )  # fmt: skip


def error_of(found: symode.Gradient, known: Exact, case: Case, z0: np.ndarray) -> float:
    """Return the error in all derivatives, in the scaled norm; times are scaled by the span."""
    size = np.abs(np.concatenate([case.theta, z0]))
    span = abs(case.span[1] - case.span[0])
    scale = np.concatenate([np.where(size == 0.0, 1.0, size), np.full(2 + known.times.size, span)])
    flat = lambda g: np.concatenate([g.theta, g.z0, [g.t0, g.t1], g.times])  # noqa: E731
    gap = (flat(found) - flat(known)) * scale
    return float(np.linalg.norm(gap) / np.linalg.norm(flat(known) * scale))


def initial_of(case: Case) -> np.ndarray:
    values = dict(zip(case.parameters, case.theta, strict=True)) | {case.model.time: case.span[0]}
    return np.array([float(e.subs(values)) for e in case.initial.values()])


@pytest.mark.parametrize(("method", "solver", "case", "loss"), combinations())
def test_gradient_is_the_closed_form_one(method, solver, case, loss):
    # Both ways of giving z0: as values, and as z0(theta, t0), whose derivative joins in.
    for initial in (False, True):
        known = exact(case.name, loss, from_initial=initial)
        found = gradient_of(case, loss, initial=initial, method=method, solver=solver)
        z0 = initial_of(case) if initial else np.array(case.z0)
        assert found.value == pytest.approx(known.value, rel=LIMIT)
        assert error_of(found, known, case, z0) <= LIMIT


@pytest.mark.parametrize("loss", ["mixed", "repeated"])
@every_case
@pytest.mark.parametrize("solver", ["tsit5", "dop853", "rodas5p"])
@every_method
def test_gradient_of_a_solve_backwards_in_time(method, solver, case, loss):
    case = case.reversed()
    known = exact(case.name, loss, backwards=True)
    try:
        found = gradient_of(case, loss, method=method, solver=solver)
    except DriftError:
        # Forwards in time, where its backward pass goes, this problem amplifies errors.
        assert method.name == "backsolve"
        pytest.skip("refused: DriftError")
    assert error_of(found, known, case, np.array(case.z0)) <= LIMIT


@every_method
def test_error_falls_with_the_tolerance(method):
    case = CASES[1]
    known = exact(case.name, "mixed")
    errors = [
        error_of(gradient_of(case, "mixed", method=method, solver="tsit5", rtol=r, atol=r / 100),
                 known, case, np.array(case.z0))
        for r in (1e-4, 1e-7, 1e-10)
    ]  # fmt: skip
    # Steps per unit of error go as its fifth or sixth root: at least half the digits must come.
    assert errors[1] <= errors[0] * 10**-1.5
    assert errors[2] <= errors[1] * 10**-1.5


@pytest.mark.parametrize("solver", ["tsit5", "rodas5p"])
@every_method
@pytest.mark.parametrize("factor", [1e12, 1e-12])
def test_scaling_the_loss_keeps_the_digits(method, solver, factor):
    case = CASES[2]
    parts = LOSSES["mixed"](case)
    scaled = symode.Loss(
        terminal=factor * parts["terminal"],
        running=factor * parts["running"],
        observations=[(t, factor * e) for t, e in parts["observations"]],
    )
    plain, large = (
        case.model.gradient(
            loss, case.span, theta=case.theta, z0=case.z0, method=method, solver=solver
        )
        for loss in (symode.Loss(**parts), scaled)
    )
    for name in ("theta", "z0", "t0", "t1", "times", "value"):
        expected = np.asarray(getattr(plain, name)) * factor
        # The backward steps may differ by rounding in the error norm, and nothing else.
        assert np.allclose(getattr(large, name), expected, rtol=1e-9, atol=1e-9 * factor), name


@every_method
def test_a_method_by_name_equals_the_method_by_value(method):
    case = CASES[0]
    a = gradient_of(case, "mixed", method=method.name)
    b = gradient_of(case, "mixed", method=type(method)())
    assert np.array_equal(a.theta, b.theta)
    assert a.stats["method"] == method.name
