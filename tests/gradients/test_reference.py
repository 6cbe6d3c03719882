"""Gradients of the classic problems match references of 16 digits, stiff ones included."""

import numpy as np
import pytest
from gradients.reference import ENTRIES, Entry, needs_entries

import symode
from symode.errors import DriftError, GradientError, SolverError
from symode.gradients.methods import METHODS

pytestmark = needs_entries

CALM = [e for e in ENTRIES.values() if not e.is_stiff]
STIFF = [e for e in ENTRIES.values() if e.is_stiff]

STIFF_SOLVERS = ("rodas5p", "esdirk54", "radau5", "radau13")

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
name_of = lambda entry: entry.name  # noqa: E731


def gradient_of(entry: Entry, method, solver: str, rtol: float, ratio: float = 1e-2):
    return entry.model.gradient(
        entry.loss, entry.span, theta=entry.theta, z0=entry.z0, method=method, solver=solver,
        rtol=rtol, atol=rtol * ratio,
    )  # fmt: skip


def check(entry: Entry, method, solver: str) -> None:
    try:
        found = gradient_of(entry, method, solver, 1e-8)
    except (DriftError, GradientError, SolverError) as error:
        # Integrating z backwards fails aloud where it is unstable; no other method may fail.
        assert method.name == "backsolve", error
        pytest.skip(f"refused: {type(error).__name__}")
    assert found.value == pytest.approx(entry.value, rel=1e-6)
    assert entry.error(found) <= 1e-6


#: Each solver meets every entry and every method; these meet every pair of them.
WHOLE = ("auto", "tsit5", "rodas5p")


def combinations() -> list:
    """Return (method, entry, solver) for the problems that are not stiff."""
    chosen = []
    for i, method in enumerate(METHODS):
        for j, entry in enumerate(CALM):
            for k, solver in enumerate(["auto", "tsit5", "dop853", *STIFF_SOLVERS]):
                if solver in WHOLE or (i + j + k) % 3 == 0:
                    name = f"{method.name}-{entry.name}-{solver}"
                    chosen.append(pytest.param(method, entry, solver, id=name))
    return chosen


@pytest.mark.parametrize(("method", "entry", "solver"), combinations())
def test_gradient_to_six_digits_at_rtol_1e_8(method, entry, solver):
    check(entry, method, solver)


@pytest.mark.parametrize("solver", STIFF_SOLVERS)
@pytest.mark.parametrize("entry", STIFF, ids=name_of)
@every_method
def test_gradient_of_stiff_problems_to_six_digits(method, entry, solver):
    check(entry, method, solver)


@pytest.mark.parametrize("name", ["van_der_pol_mu5", "lorenz_t2"])
@pytest.mark.parametrize("solver", ["tsit5", "vern7", "dop853", "rodas5p"])
@pytest.mark.parametrize("rtol", [1e-6, 1e-8, 1e-10])
def test_backsolve_refuses_what_it_cannot_integrate_backwards(name, solver, rtol):
    with pytest.raises(GradientError):
        gradient_of(ENTRIES[name], symode.BacksolveAdjoint(), solver, rtol)


@pytest.mark.parametrize("entry", [*CALM, *STIFF], ids=name_of)
@every_method
def test_error_falls_with_rtol(method, entry):
    if method.name == "backsolve" and (
        entry.is_stiff or entry.name in ("van_der_pol_mu5", "lorenz_t2", "brusselator_0d")
    ):
        pytest.skip("refused, as the tests above show")
    solver = "rodas5p" if entry.is_stiff else "tsit5"
    errors = [entry.error(gradient_of(entry, method, solver, rtol)) for rtol in (1e-5, 1e-7, 1e-9)]
    # Four digits of tolerance must give at least two of the gradient, down to rounding.
    assert errors[2] <= max(1e-2 * errors[0], 1e-11), errors
    assert np.isfinite(errors).all()


@every_method
def test_no_failed_pass_returns_a_gradient_on_stiff_problems(method):
    entry = ENTRIES["robertson_t4e4"]
    with pytest.raises(SolverError, match="rodas5p"):
        entry.model.gradient(
            entry.loss, entry.span, theta=entry.theta, z0=entry.z0, method=method, solver="tsit5",
            max_steps=2000,
        )  # fmt: skip
