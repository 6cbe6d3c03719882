"""The sensitivity examples of SUNDIALS, reproduced to their true values.

The printed results of the examples are good to two to five digits; the true values were computed
in extended precision. Tolerances here are some thousand times tighter than the examples', and each
number is compared on its own: a relative error of 1e-6 is a thousand times what rtol asks of a
step, and leaves room for a few hundred steps and for the smallest component of a state.
"""

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import symode
from symode.gradients.methods import METHODS
from symode.gradients.residuals import Residuals

PATH = Path(__file__).resolve().parents[3] / "shared" / "data" / "sundials" / "examples.json"
if not PATH.is_file():
    pytest.skip(f"the acceptance data are missing: {PATH}", allow_module_level=True)
ENTRIES = {entry["name"].split(" ")[0]: entry for entry in json.loads(PATH.read_text())["examples"]}

TIGHT = {"solver": "rodas5p", "rtol": 1e-10}
DIGITS = 1e-6


def numbers(texts) -> np.ndarray:
    """Return an array of numbers given as text."""
    return np.array(texts, dtype=float)


def number(text: str) -> float:
    """Return a number given as decimal, fraction or with an exponent."""
    return float(Fraction(text))


def symbolic(entry) -> symode.Model:
    """Return the model of an entry, parsed from its own right-hand sides."""
    lines = [f"{s}' = {rhs}" for s, rhs in zip(entry["states"], entry["rhs"], strict=True)]
    lines += [f"{s}(0) = {v}" for s, v in zip(entry["states"], entry["z0"], strict=True)]
    return symode.Model.from_text("; ".join(lines))


def parameters(entry) -> dict[str, float]:
    return {name: number(value) for name, value in entry["parameters"].items()}


def relative(found, exact) -> float:
    """Return the largest relative error of any entry; of an exact zero, the absolute one."""
    found, exact = np.asarray(found, dtype=float), np.asarray(exact, dtype=float)
    return float(np.max(np.abs(found - exact) / np.where(exact == 0.0, 1.0, np.abs(exact))))


def ulp(text: str) -> float:
    """Return one unit of the last printed digit."""
    mantissa, _, exponent = text.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 10.0 ** (int(exponent or 0) - decimals)


def agrees_with_print(found, printed, error: float) -> bool:
    """Return whether a printed number is what the example's own error allows."""
    allowed = [1.5 * error * abs(float(p)) + ulp(p) for p in printed]
    return bool(np.all(np.abs(np.asarray(found) - numbers(printed)) <= allowed))


# -- Robertson, integral of y3 -------------------------------------------------------------------


def integral_runs():
    """Return (entry, run) of every run with a true value; the DAE form has the same solution."""
    return [
        pytest.param(ENTRIES[name], run, id=f"{name}-{run['run'].split()[0]}-{run['tB0']}")
        for name in ("cvsRoberts_ASAi_dns", "idasRoberts_ASAi_dns")
        for run in ENTRIES[name]["results"]
        if "true" in run
    ]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize(("entry", "run"), integral_runs())
def test_gradient_of_the_integral_of_y3(entry, run, method):
    if method.name == "backsolve":
        pytest.skip("z cannot be integrated backwards on a stiff problem: it refuses, tested there")
    model = symbolic(entry)
    true = run["true"]
    gradient = model.gradient(
        symode.Loss(running=model.states[2]), (0, number(run["tB0"])), theta=parameters(entry),
        method=method, atol=1e-16, max_steps=10**6, **TIGHT,
    )  # fmt: skip
    assert relative(gradient.value, float(true["G"])) <= DIGITS
    # GaussAdjoint's error control does not see how a§1 ∇§3 f cancels over ten decades of time.
    digits = 2e-5 if method.name == "gauss" and run["tB0"] == "4e10" else DIGITS
    assert relative(gradient.theta, numbers(true["dG_dp"])) <= digits
    assert relative(gradient.z0, numbers(true["dG_dy0"])) <= DIGITS
    errors = run["relative_error_of_printed"]
    for key, found in {"dG_dp": gradient.theta, "dG_dy0": gradient.z0}.items():
        if key in run["printed"]:
            worst = max(float(e) for e in errors[key])
            assert agrees_with_print(found, run["printed"][key], worst)


def test_values_at_forty_are_those_printed():
    entry = ENTRIES["cvsRoberts_ASAi_dns"]
    run = entry["results"][2]
    model = symbolic(entry)
    solution = model.solve((0, 40), theta=parameters(entry), times=[40.0], atol=1e-16, **TIGHT)
    for end, name in ((4e7, "from_4e7"), (50.0, "from_50")):
        printed = run["printed"][name]
        assert agrees_with_print(solution.z[-1], printed["y"], 1e-4)
        # lambda at 40 is the gradient in z0 of a solve that starts there.
        rest = model.gradient(
            symode.Loss(running=model.states[2]), (40, end), theta=parameters(entry),
            z0=solution.z[-1], atol=1e-16, **TIGHT,
        )  # fmt: skip
        # No true value or error is given here: these are as good as adjoints at rtol = 1e-6.
        assert agrees_with_print(rest.z0, printed["lambda_"], 5e-4)


# -- Robertson, forward sensitivities -------------------------------------------------------------


def test_states_and_sensitivities_of_robertson_to_4e10():
    entry = ENTRIES["cvsRoberts_FSA_dns"]
    model = symbolic(entry)
    times = [number(row["t"]) for row in entry["results"]]
    rows = [(t, s) for t in times for s in model.states]
    sensitivities = Residuals(
        model.equations, symode.Loss(observations=rows), atol=1e-16, max_steps=10**6, **TIGHT
    )
    values, jacobian = sensitivities([parameters(entry)[str(p)] for p in model.parameters])
    values, jacobian = values.reshape(-1, 3), jacobian.reshape(-1, 3, 3)
    for row, y, dydp in zip(entry["results"], values, jacobian, strict=True):
        true, printed, error = (
            row["true"],
            row["printed"],
            float(row["worst_relative_error_of_printed"]),
        )
        assert relative(y, numbers(true["y"])) <= DIGITS, row["t"]
        assert agrees_with_print(y, printed["y"], error)
        for j, p in enumerate(model.parameters):
            assert relative(dydp[:, j], numbers(true[f"dy_d{p}"])) <= DIGITS, (row["t"], p)
            assert agrees_with_print(dydp[:, j], printed[f"dy_d{p}"], error)


@pytest.mark.parametrize("state", range(3))
def test_adjoint_gives_the_same_sensitivities_at_4e10(state):
    entry = ENTRIES["cvsRoberts_FSA_dns"]
    model, row = symbolic(entry), entry["results"][-1]
    gradient = model.gradient(
        symode.Loss(terminal=model.states[state]), (0, number(row["t"])),
        theta=parameters(entry), atol=1e-16, max_steps=10**6, **TIGHT,
    )  # fmt: skip
    exact = [float(row["true"][f"dy_d{p}"][state]) for p in model.parameters]
    assert relative(gradient.theta, exact) <= DIGITS


# -- the other problems ---------------------------------------------------------------------------


def hessian_case():
    entry = ENTRIES["cvsHessian_ASA_FSA"]
    model = symbolic(entry)
    loss = symode.Loss(running=sum(y**2 for y in model.states) / sp.Integer(2))
    return entry, model, loss


@pytest.mark.parametrize("solver", ["vern7", "rodas5p"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_gradient_of_the_hessian_example(method, solver):
    entry, model, loss = hessian_case()
    true = entry["true"]
    gradient = model.gradient(
        loss, (0, 2), theta=parameters(entry), method=method, solver=solver, rtol=1e-10, atol=1e-12
    )
    assert relative(gradient.value, float(true["G"])) <= DIGITS
    assert relative(gradient.theta, numbers(true["dG_dp"])) <= DIGITS
    assert relative(gradient.z0, numbers(true["dG_dy0"])) <= DIGITS
    assert agrees_with_print(gradient.theta, entry["printed"]["dG_dp_adjoint"], 5e-5)


def test_state_and_sensitivities_of_the_hessian_example():
    entry, model, _ = hessian_case()
    rows = [(2.0, s) for s in model.states]
    sensitivities = Residuals(
        model.equations, symode.Loss(observations=rows), rtol=1e-10, atol=1e-12
    )
    values, jacobian = sensitivities([parameters(entry)[str(p)] for p in model.parameters])
    assert relative(values, numbers(entry["true"]["y"])) <= DIGITS
    assert agrees_with_print(values, entry["printed"]["y"], 5e-5)
    for j, p in enumerate(model.parameters):
        assert relative(jacobian[:, j], numbers(entry["true"][f"dy_d{p}"])) <= DIGITS
        assert agrees_with_print(jacobian[:, j], entry["printed"][f"dy_d{p}"], 5e-5)


def test_printed_hessian_is_the_difference_of_gradients():
    # Central differences of exact gradients: 1e-8 of truncation, 1e-7 of rounding and tolerance.
    entry, model, loss = hessian_case()
    theta = np.array([parameters(entry)[str(p)] for p in model.parameters])
    step = 1e-4
    columns = []
    for unit in np.eye(2):
        plus, minus = (
            model.gradient(
                loss, (0, 2), theta=theta + s * step * unit, rtol=1e-12, atol=1e-14
            ).theta
            for s in (1, -1)
        )
        columns.append((np.array(plus) - np.array(minus)) / (2 * step))
    hessian = np.array(columns)
    assert hessian == pytest.approx(hessian.T, abs=1e-7)
    for found, printed in zip(hessian, entry["printed"]["Hessian"], strict=True):
        assert agrees_with_print(found, printed, 5e-5)


@pytest.mark.parametrize("solver", ["vern7", "dop853", "rodas5p"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_lotka_volterra_with_a_terminal_objective(method, solver):
    entry = ENTRIES["cvsLotkaVolterra_ASA"]
    model, true = symbolic(entry), entry["true"]
    loss = symode.Loss(terminal=sum((1 - u) ** 2 for u in model.states) / sp.Integer(2))
    gradient = model.gradient(
        loss, (0, 10), theta=parameters(entry), method=method, solver=solver, rtol=1e-11,
        atol=1e-13,
    )  # fmt: skip
    assert relative(gradient.z0, numbers(true["dg_du0"])) <= DIGITS
    assert relative(gradient.theta, numbers(true["dg_dp"])) <= DIGITS
    worst = max(float(e) for e in entry["relative_error_of_printed"])
    assert agrees_with_print(gradient.theta, entry["printed"]["dg_dp"], worst)
    assert agrees_with_print(gradient.z0, entry["printed"]["dg_du0"], worst)
    solution = model.solve(
        (0, 10), theta=parameters(entry), times=[10.0], solver=solver, rtol=1e-11, atol=1e-13
    )
    assert relative(solution.z[-1], numbers(true["u"])) <= DIGITS


def advection() -> symode.Model:
    """Return u_i' = p1 (second difference)/dx² + p2 (central difference)/(2 dx), dx = 2/11."""
    p1, p2 = sp.symbols("p1 p2")
    u = (sp.S.Zero, *sp.symbols("u1:11"), sp.S.Zero)
    dx = sp.Rational(2, 11)
    rhs, initial = {}, {}
    for i in range(1, 11):
        x = i * dx
        rhs[u[i]] = p1 * (u[i + 1] - 2 * u[i] + u[i - 1]) / dx**2 + p2 * (u[i + 1] - u[i - 1]) / (
            2 * dx
        )
        initial[u[i]] = x * (2 - x) * sp.exp(2 * x)
    return symode.Model(rhs, parameters=(p1, p2), initial=initial)


@pytest.mark.parametrize("solver", ["vern7", "rodas5p"])
def test_advection_and_diffusion(solver):
    entry = ENTRIES["cvsAdvDiff_FSA_non"]
    assert re.sub(r"\s+", " ", entry["problem"]).startswith(
        "u_i' = p1 (u_{i+1}-2u_i+u_{i-1})/dx^2 + p2 (u_{i+1}-u_{i-1})/(2 dx), i=1..10, dx = 2/11"
    )
    model = advection()
    times = [number(row["t"]) for row in entry["results"]]
    rows = [(t, s) for t in times for s in model.states]
    sensitivities = Residuals(
        model.equations, symode.Loss(observations=rows), rtol=1e-10, atol=1e-14, solver=solver
    )
    values, jacobian = sensitivities([parameters(entry)[str(p)] for p in model.parameters])
    values, jacobian = values.reshape(-1, 10), jacobian.reshape(-1, 10, 2)
    for row, u, dudp in zip(entry["results"], values, jacobian, strict=True):
        # A maximum norm over the states; both parameters move all of them. The printed ones, at
        # atol = 1e-5, are compared with that allowance.
        found = {"u": u, "du_dp1": dudp[:, 0], "du_dp2": dudp[:, 1]}
        for key, values_at in found.items():
            norm = float(np.max(np.abs(values_at)))
            assert norm == pytest.approx(float(row["true_max_norm"][key]), rel=DIGITS)
            assert norm == pytest.approx(float(row["printed_max_norm"][key]), rel=1e-3, abs=2e-5)


@pytest.mark.parametrize("name", [n for n, entry in ENTRIES.items() if "warning" in entry])
def test_entries_with_a_warning_are_no_targets(name):
    pytest.skip(ENTRIES[name]["warning"])
