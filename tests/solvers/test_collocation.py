"""Radau IIA: coefficients to the last digit, orders on stiff problems, modes, one step by hand."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
import sympy as sp
from scipy import integrate

import symode
from symode.errors import TableauError
from symode.solvers.collocation import CollocationTableau, radau_iia
from symode.solvers.methods import METHODS, get_method

RADAU = [t for t in map(get_method, METHODS) if isinstance(t, CollocationTableau)]
every_method = pytest.mark.parametrize("method", RADAU, ids=lambda m: m.name)


def slope(h, errors):
    return np.polyfit(np.log(h), np.log(errors), 1)[0]


def increments(method, f, dfdz, t, z, h):
    """Return the increments of all stages, by Newton's iteration on the whole system."""
    s, n = len(method.c), len(z)
    inverse, found = np.linalg.inv(method.a), np.zeros((s, n))
    for _ in range(30):
        residual = np.array([f(t + method.c[i] * h, z + found[i]) for i in range(s)])
        residual -= inverse @ found / h
        matrix = np.kron(inverse / h, np.eye(n))
        for i in range(s):
            block = slice(i * n, (i + 1) * n)
            matrix[block, block] -= dfdz(t + method.c[i] * h, z + found[i])
        change = np.linalg.solve(matrix, residual.ravel()).reshape(s, n)
        found += change
        if np.abs(change).max() <= 1e-15 * np.abs(found).max():
            break
    return found


@every_method
def test_coefficients_are_those_of_40_digits(method):
    s = len(method.c)
    with mpmath.workdps(40):

        def polynomial(x):
            return mpmath.legendre(s, x) - mpmath.legendre(s - 1, x)

        c = [(1 + mpmath.findroot(polynomial, 2 * mpmath.mpf(x) - 1)) / 2 for x in method.c[:-1]]
        c.append(mpmath.mpf(1))
        left = mpmath.matrix(s, s)
        right = mpmath.matrix(s, s)
        for i in range(s):
            for k in range(s):
                left[i, k], right[i, k] = c[i] ** k, c[i] ** (k + 1) / (k + 1)
        a = np.array((right * mpmath.inverse(left)).tolist(), dtype=float)
        real = [x for x in mpmath.eig(mpmath.matrix(a))[0] if abs(mpmath.im(x)) < 1e-9]
    # Rounding of doubles in sums of some ten terms.
    assert method.c == pytest.approx([float(x) for x in c], abs=2e-16)
    assert method.a == pytest.approx(a, abs=1e-15)
    assert method.gamma0 == pytest.approx(float(mpmath.re(real[0])), rel=1e-13)


def test_radau5_has_the_published_coefficients():
    # Hairer & Wanner (1996), table IV.5.6 and section IV.8, in closed form.
    r = np.sqrt(6.0)
    method = get_method("radau5")
    assert method.c == pytest.approx([(4 - r) / 10, (4 + r) / 10, 1.0], rel=1e-15)
    assert method.b == pytest.approx([(16 - r) / 36, (16 + r) / 36, 1 / 9], rel=1e-14)
    assert method.a[0] == pytest.approx(
        [(88 - 7 * r) / 360, (296 - 169 * r) / 1800, (-2 + 3 * r) / 225], rel=1e-14
    )
    error = np.array([-13 - 7 * r, -13 + 7 * r, -1]) / 3 * method.gamma0
    assert method.e == pytest.approx(error, rel=1e-13)
    gamma = (6 + 81 ** (1 / 3) - 9 ** (1 / 3)) / 30
    assert method.gamma0 == pytest.approx(gamma, rel=1e-14)


@every_method
def test_modes_separate_the_inverse(method):
    eigenvalues, into, back = method.modes()
    s = len(method.c)
    blocks = np.zeros((s, s))
    blocks[0, 0] = eigenvalues[0, 0]
    for k, (x, y) in enumerate(eigenvalues[1:]):
        at = slice(1 + 2 * k, 3 + 2 * k)
        blocks[at, at] = [[x, -y], [y, x]]
    inverse = np.linalg.inv(method.a)
    # The transformation has condition 10 to 1400.
    assert into @ inverse @ back == pytest.approx(blocks, abs=1e-11)
    assert method.gamma0 * eigenvalues[0, 0] == pytest.approx(1.0, rel=1e-12)
    assert np.all(eigenvalues[:, 0] > 0.0)


@every_method
def test_stability_function_is_bounded_by_one_on_the_imaginary_axis(method):
    # With poles in the right half plane only (positive real parts above) this is A-stability.
    s = len(method.c)
    for y in np.logspace(-3, 5, 200):
        system = np.eye(s) - 1j * y * method.a
        assert abs(1 + 1j * y * method.b @ np.linalg.solve(system, np.ones(s))) <= 1 + 1e-12
    assert abs(method.stability_at_infinity()) < 1e-13


@pytest.mark.parametrize("stiffness", [1e4, 1e6])
@every_method
def test_prothero_robinson_keeps_the_stage_order(method, stiffness):
    # Error h**s / stiffness: the order of the stages, s, not 2s - 1, and no digit is lost.
    # Hairer & Wanner (1996), table IV.15.1.
    s = len(method.c)
    steps = 2.0 / np.array({3: [5, 10, 20], 5: [2, 4, 8], 7: [1, 2, 4]}[s])
    errors = []
    for h in steps:
        t, z, worst = 0.0, np.sin([0.3]), 0.0
        while t < 2.0 - h / 2:
            z = z + increments(
                method,
                lambda t, z: -stiffness * (z - np.sin(t + 0.3)) + np.cos(t + 0.3),
                lambda t, z: np.array([[-stiffness]]),
                t, z, h,
            )[-1]  # fmt: skip
            t += h
            worst = max(worst, abs(z[0] - np.sin(t + 0.3)))
        errors.append(worst)
    assert slope(steps, errors) > s - 0.5
    assert np.all(np.array(errors) < 0.02 * steps**s / stiffness)


@every_method
def test_kaps_problem_keeps_the_order_in_the_limit_of_stiffness(method):
    # z = (exp(-2t), exp(-t)) whatever the stiffness: close to a differential-algebraic system of
    # index 1, on which a stiffly accurate method keeps 2s - 1.
    stiffness = 1e10

    def f(t, z):
        return np.array([-(stiffness + 2) * z[0] + stiffness * z[1] ** 2, z[0] - z[1] * (1 + z[1])])

    def dfdz(t, z):
        return np.array([[-(stiffness + 2), 2 * stiffness * z[1]], [1.0, -1 - 2 * z[1]]])

    # Large steps: errors of order 9 and 13 must stay above rounding.
    steps = np.array({3: [0.5, 0.25, 0.125], 5: [2.0, 1.0, 0.5], 7: [4.0, 2.0]}[len(method.c)])
    errors = []
    for h in steps:
        t, z = 0.0, np.ones(2)
        while t < 4.0 - h / 2:
            z, t = z + increments(method, f, dfdz, t, z, h)[-1], t + h
        errors.append(np.abs(z - np.exp([-8.0, -4.0])).max())
    assert slope(steps, errors) > method.order - 1.0


@pytest.mark.parametrize("s", [2, 4])
def test_an_even_number_of_stages_is_refused(s):
    with pytest.raises(TableauError, match="odd"):
        radau_iia("radau", s, "")


def test_a_wrong_real_eigenvalue_is_refused():
    method = get_method("radau9")
    with pytest.raises(TableauError, match=r"gamma0|error weights"):
        replace(method, gamma0=method.gamma0 * (1 + 1e-7))


X, Y, MU = sp.symbols("x y mu")
OSCILLATOR = symode.Model({X: Y, Y: MU * (1 - X**2) * Y - X}, parameters=[MU])


@every_method
def test_steps_of_the_kernel_solve_the_stage_equations(method):
    found = OSCILLATOR.solve((0, 3), theta=[5.0], z0=[2.0, 0.5], solver=method.name, rtol=1e-10)
    ((_, store, steps),) = found.dense

    def f(t, z):
        return np.array([z[1], 5.0 * (1 - z[0] ** 2) * z[1] - z[0]])

    def dfdz(t, z):
        return np.array([[0.0, 1.0], [-10.0 * z[0] * z[1] - 1.0, 5.0 * (1 - z[0] ** 2)]])

    for i in range(0, steps, 3):
        exact = increments(method, f, dfdz, store.t[i], store.z[i], store.h[i])
        # Newton's iteration stops at 1e-5 of the tolerance 1e-10 |z|.
        assert np.abs(store.k[i] - exact).max() <= 1e-12 * np.abs(store.z[i]).max()


def test_radau5_takes_about_the_steps_of_scipys_radau():
    options = {"rtol": 1e-7, "atol": 1e-9}
    ours = OSCILLATOR.solve((0, 20), theta=[1e2], z0=[2.0, 0.0], solver="radau5", **options)
    theirs = integrate.solve_ivp(
        lambda t, z: [z[1], 1e2 * (1 - z[0] ** 2) * z[1] - z[0]], (0, 20), [2.0, 0.0],
        method="Radau", **options,
    )  # fmt: skip
    # The same method, error estimate and norm; controllers and predictors differ.
    assert ours.stats.steps == pytest.approx(theirs.t.size - 1, rel=0.3)
    assert ours.z[-1] == pytest.approx(theirs.y[:, -1], rel=1e-5)


@every_method
def test_a_singular_right_hand_side_ends_in_a_status_not_in_a_loop(method):
    falling = symode.Model({X: -MU / sp.sqrt(X)}, parameters=[MU])
    with pytest.raises(symode.errors.SolverError, match=method.name):
        falling.solve((0, 3), theta=[1.0], z0=[1.0], solver=method.name)
