"""The augmented system has the signs, rows and columns of the note."""

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad, solve_ivp

import symode
from symode.equations.inputs import from_mapping
from symode.errors import ModelError
from symode.symbolic.adjoint_system import adjoint_system
from symode.symbolic.blocks import dfdtheta, dfdz
from symode.symbolic.latex import model_latex

x, y, a, b, t = sp.symbols("x y a b t")
ASYMMETRIC = from_mapping({x: a * x * y + t, y: b * x**2 - y}, parameters=(b, a))


def test_the_system_is_that_of_the_note_by_hand():
    system = adjoint_system(ASYMMETRIC)
    ax, ay, ab, aa = sp.symbols("a_x a_y a_b a_a")
    assert list(system.q) == [x, y, ax, ay, ab, aa]
    # da§1/dt = -a§1 ∇§1 f: column sums of the Jacobian, weighted by the row a§1.
    assert list(system.dqdt) == [
        a * x * y + t,
        b * x**2 - y,
        -(ax * a * y + ay * 2 * b * x),
        -(ax * a * x - ay),
        -(ay * x**2),
        -(ax * x * y),
    ]
    assert sp.expand(system.a2 + ax * (a * x * y + t) + ay * (b * x**2 - y)) == 0


def test_blocks_enter_transposed():
    system = adjoint_system(ASYMMETRIC)
    a1 = sp.Matrix([system.a1])
    assert system.dqdt[2:4, 0] == (-(a1 * dfdz(ASYMMETRIC)).T)
    assert system.dqdt[4:, 0] == (-(a1 * dfdtheta(ASYMMETRIC)).T)


def test_a_running_cost_enters_the_adjoints_only():
    cost = x**2 * b + y * t
    with_cost = adjoint_system(ASYMMETRIC, symode.Loss(running=cost))
    without = adjoint_system(ASYMMETRIC)
    difference = sp.simplify(with_cost.dqdt - without.dqdt)
    assert list(difference) == [0, 0, -2 * b * x, -t, -(x**2), 0]
    assert sp.simplify(with_cost.a2 - without.a2 + cost) == 0
    assert not any(with_cost.terminal_a1) and not any(with_cost.terminal_a3)


def test_terminal_conditions_are_rows_of_the_terminal_cost():
    system = adjoint_system(ASYMMETRIC, symode.Loss(terminal=x**2 * y + a * t))
    assert system.terminal_a1 == sp.Matrix([[2 * x * y, x**2]])
    assert system.terminal_a3 == sp.Matrix([[0, t]])


def test_without_a_loss_the_terminal_cost_is_left_open():
    system = adjoint_system(ASYMMETRIC)
    assert str(list(system.terminal_a1)) == (
        "[Derivative(Phi(x, y, t, b, a), x), Derivative(Phi(x, y, t, b, a), y)]"
    )


def test_observations_are_jumps():
    loss = symode.Loss(observations={1.5: x * y + b, 4.0: x * y + b, 2.0: x})
    first, second = adjoint_system(ASYMMETRIC, loss).jumps
    assert first.times == (1.5, 4.0) and second.times == (2.0,)
    assert first.a1 == sp.Matrix([[y, x]])
    assert first.a3 == sp.Matrix([[1, 0]])
    f = sp.Matrix(ASYMMETRIC.rhs)
    assert sp.expand(first.a2 + (first.a1 * f)[0]) == 0


def test_measured_data_stay_symbols_in_the_jumps():
    loss = symode.LeastSquares([1.0, 2.0], [[3.0], [4.0]], observables=[x])
    (jump,) = adjoint_system(ASYMMETRIC, loss).jumps
    (d,) = jump.data_symbols
    assert sp.expand(jump.a1[0] - 2 * (x - d)) == 0


def test_adjoint_symbols_never_clash_with_the_users():
    ax = sp.Symbol("a_x")
    system = adjoint_system(from_mapping({x: -ax * x}, parameters=(ax,)))
    assert len(set(system.q) | {ax}) == 4
    assert system.as_equations().parameters == (ax,)


def test_integrated_backwards_the_system_gives_the_gradient():
    # J = Φ(z(1)) + ∫ c dt for dx/dt = -k x, x(0) = 2: all in closed form.
    k = sp.Symbol("k")
    model = symode.Model({x: -k * x}, parameters=(k,))
    loss = symode.Loss(terminal=x**2, running=k * x)
    system = model.adjoint_system(loss)
    rate, start = 0.7, 2.0

    def objective(rate, start):
        end = start * np.exp(-rate)
        return end**2 + quad(lambda s: rate * start * np.exp(-rate * s), 0, 1)[0]

    numeric = system.as_scipy([rate])
    end = start * np.exp(-rate)
    q1 = [end, 2 * end, 0.0]
    run = solve_ivp(
        numeric.fun, (1.0, 0.0), q1, rtol=1e-11, atol=1e-12, jac=numeric.jac, method="Radau"
    )
    h = 1e-5
    of_rate = (objective(rate + h, start) - objective(rate - h, start)) / (2 * h)
    of_start = (objective(rate, start + h) - objective(rate, start - h)) / (2 * h)
    # Central differences with h = 1e-5 are good to 1e-10 here.
    assert run.y[:, -1] == pytest.approx([start, of_start, of_rate], abs=1e-7)


def test_bare_equations_have_no_numeric_functions():
    with pytest.raises(ModelError, match=r"adjoint_system\(loss\)\.as_scipy"):
        adjoint_system(ASYMMETRIC).as_scipy([1, 2])


def test_latex_shows_system_end_values_and_jumps():
    loss = symode.Loss(terminal=x, observations={1.5: y**2})
    text = adjoint_system(ASYMMETRIC, loss).latex()
    for line in (
        r"\frac{d x}{d t} &= a x y + t",
        r"\frac{d a_{x}}{d t} &= - a a_{x} y - 2 a_{y} b x",
        r"a_{x}(t_{1}) &= 1",
        r"\Delta a_{y} &= 2 y \quad \text{at } t = 1.5",
    ):
        assert line in text
    assert r"\Delta a_{x}" not in text
    assert adjoint_system(ASYMMETRIC)._repr_latex_().startswith(r"$\displaystyle \begin{aligned}")


def test_latex_of_a_model_shows_initial_values_and_observables():
    model = symode.Model({x: -a * x}, initial={x: b}, observables={"total_x": 2 * x})
    assert model.latex().splitlines() == [
        r"\begin{aligned}",
        r"\frac{d x}{d t} &= - a x \\",
        r"x(t_{0}) &= b \\",
        r"\text{total\_x} &= 2 x",
        r"\end{aligned}",
    ]
    assert model._repr_latex_() == rf"$\displaystyle {model.latex()}$"


def test_a_model_too_deep_to_print_falls_back_to_its_repr():
    model = symode.Model.from_text("x' = " + "sin(1 + " * 3000 + "x" + ")" * 3000)
    assert model._repr_latex_() is None
    assert repr(model) == "Model(states=('x',), parameters=())"
    with pytest.raises(ModelError, match="nested too deeply for SymPy to print"):
        model_latex(model.equations)


def test_the_model_offers_the_symbolic_side():
    model = symode.Model({x: a * x * y + t, y: b * x**2 - y}, parameters=(b, a), time=t)
    assert model.dfdz == dfdz(ASYMMETRIC)
    assert model.dfdt == sp.Matrix([1, 0])
    assert model.dfdtheta == dfdtheta(ASYMMETRIC)
    assert model.sparsity["dfdtheta"].tolist() == [[False, True], [True, False]]
    assert (model.states, model.parameters, model.time) == ((x, y), (b, a), t)
