r"""Closed-form solutions: the flow of equations simple enough for SymPy, found in bounded time.

Which equations those are is told from their shape, so that a hard model costs nothing: affine ones
with constant coefficients, :math:`z(t) = e^{A(t - t_0)} \dots`, and cascades, where each equation
holds its own state and earlier ones and is linear, of Bernoulli's kind, or separable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp

from symode.equations.checks import non_smooth_constructs
from symode.equations.equations import Equations
from symode.symbolic.differentiate import gradient
from symode.symbolic.latex import latex

#: States up to which a matrix exponential is formed.
LARGEST = 8

#: ``flow(t, t0, z0, theta) -> z`` in mpmath numbers, analytic in all its arguments.
Flow = Callable[[Any, Any, Sequence[Any], Sequence[Any]], list[Any]]


class NoSolutionError(Exception):
    """There is no closed form here; the text says why."""


@dataclass(frozen=True)
class Solution:
    """A flow in closed form.

    Parameters
    ----------
    kind
        What the equations are, in words.
    formulas
        One line of LaTeX for each state.
    make_flow
        Returns the flow in an mpmath context.
    """

    kind: str
    formulas: tuple[str, ...]
    make_flow: Callable[[Any], Flow]


def solve_equations(equations: Equations) -> Solution:
    r"""Return the flow of the equations.

    Raises
    ------
    NoSolutionError
        Saying why there is none.

    Examples
    --------
    >>> import sympy as sp
    >>> x, k, t = sp.symbols("x k t")
    >>> print(*solve_equations(Equations((x,), (-k * x,), (k,), t)).formulas)
    x(t) = x_{0} e^{- k \left(t - t_{0}\right)}
    """
    if non_smooth_constructs(equations):
        raise NoSolutionError("the equations have a kink or a jump")
    order = _cascade(equations)
    if order is not None:
        return _solve_cascade(equations, order)
    jacobian = [gradient(f, equations.states) for f in equations.rhs]
    moving = {*equations.states, equations.time}
    if any(entry.free_symbols & moving for row in jacobian for entry in row):
        raise NoSolutionError("the equations are coupled and not linear with constant coefficients")
    if equations.n_states > LARGEST:
        raise NoSolutionError(f"linear, but with more than {LARGEST} states")
    return _solve_affine(equations, jacobian)


def _cascade(equations: Equations) -> list[int] | None:
    """Return an order in which each equation holds its own state and earlier ones, if any."""
    needs = [
        {j for j, z in enumerate(equations.states) if j != i and z in f.free_symbols}
        for i, f in enumerate(equations.rhs)
    ]
    order: list[int] = []
    while len(order) < len(needs):
        ready = [i for i, n in enumerate(needs) if i not in order and n <= set(order)]
        if not ready:
            return None
        order += ready
    return order


def _solve_affine(equations: Equations, jacobian: list[list[sp.Expr]]) -> Solution:
    n = equations.n_states
    zero = dict.fromkeys(equations.states, sp.S.Zero)
    rest = [sp.sympify(f.subs(zero)) for f in equations.rhs]
    if any(equations.time in b.free_symbols for b in rest):
        raise NoSolutionError("linear, but driven in time")
    if n == 2:
        found = _solve_pair(equations, sp.Matrix(jacobian), sp.Matrix(rest))
        return Solution("linear with constant coefficients", _lines(equations, found),
                        lambda mp: _compiled(equations, found, mp))  # fmt: skip
    rows = [[*row, b] for row, b in zip(jacobian, rest, strict=True)]
    matrix = sp.ImmutableDenseMatrix([*rows, [0] * (n + 1)])
    t = latex(equations.time)
    formula = rf"(z, 1)^\top = \exp\Bigl(({t} - {t}_0) {latex(matrix)}\Bigr) (z_0, 1)^\top"

    def make_flow(mp: Any) -> Flow:
        entries = sp.lambdify(equations.parameters, matrix.tolist(), [names_in(mp)])

        def flow(t: Any, t0: Any, z0: Sequence[Any], theta: Sequence[Any]) -> list[Any]:
            whole = mp.expm(mp.matrix(entries(*theta)) * (t - t0), method="taylor")
            return list(whole * mp.matrix([*z0, 1]))[:n]

        return flow

    return Solution("linear with constant coefficients", (formula,), make_flow)


def names_in(mp: Any) -> dict[str, Any]:
    """Return mpmath's functions by the names that lambdify prints."""
    names = {name: getattr(mp, name) for name in dir(mp) if not name.startswith("_")}
    return names | {"mpf": mp.mpf, "mpc": mp.mpc}


def _solve_cascade(equations: Equations, order: Sequence[int]) -> Solution:
    t = equations.time
    t0, starts = _start(equations)
    known: dict[sp.Symbol, sp.Expr] = {}
    kinds = []
    for i in order:
        z, f = equations.states[i], equations.rhs[i].subs(known)
        kind, known[z] = _solve_scalar(z, f, t, t0, starts[i])
        kinds.append(kind)
    found = [known[z] for z in equations.states]
    kinds = list(dict.fromkeys(kinds))
    several = "a cascade of equations: " if len(found) > 1 else ""
    return Solution(
        several + ", ".join(kinds), _lines(equations, found),
        lambda mp: _compiled(equations, found, mp),
    )  # fmt: skip


def _start(equations: Equations) -> tuple[sp.Symbol, list[sp.Symbol]]:
    """Return the symbols of t0 and z0."""
    return (
        sp.Symbol(f"{equations.time.name}_0"),
        [sp.Symbol(f"{z.name}_0") for z in equations.states],
    )


def _lines(equations: Equations, found: Sequence[sp.Expr]) -> tuple[str, ...]:
    t = latex(equations.time)
    pairs = zip(equations.states, found, strict=True)
    return tuple(f"{latex(z)}({t}) = {latex(e)}" for z, e in pairs)


def _compiled(equations: Equations, found: Sequence[sp.Expr], mp: Any) -> Flow:
    t0, starts = _start(equations)
    arguments = [equations.time, t0, starts, list(equations.parameters)]
    function = sp.lambdify(arguments, list(found), [names_in(mp)])
    return lambda t, t0, z0, theta: list(function(t, t0, list(z0), list(theta)))


def _solve_pair(equations: Equations, a: sp.Matrix, b: sp.Matrix) -> list[sp.Expr]:
    r"""Return z* + e^{A (t - t0)} (z0 - z*) for two states, A z* + b = 0.

    .. math:: e^{A\tau} = e^{s\tau} \bigl(\cosh q\tau\, I + \tfrac{\sinh q\tau}{q} (A - s I)\bigr),
              \quad s = \tfrac12 \mathrm{tr} A,\; q^2 = s^2 - \det A
    """
    t0, starts = _start(equations)
    tau = equations.time - t0
    s = a.trace() / 2
    q = sp.sqrt(sp.expand(s**2 - a.det()))
    rest = -a.adjugate() * b / a.det() if any(b) else sp.zeros(2, 1)
    one = sp.eye(2)
    grown = sp.cosh(q * tau) * one + sp.sinh(q * tau) / q * (a - s * one)
    grown *= sp.exp(s * tau)
    return list(rest + grown * (sp.Matrix(starts) - rest))


def _solve_scalar(
    z: sp.Symbol, f: sp.Expr, t: sp.Symbol, t0: sp.Symbol, start: sp.Symbol
) -> tuple[str, sp.Expr]:
    """Return the kind of z' = f(z, t) and its solution from z(t0) = start."""
    polynomial = sp.expand(f)
    if polynomial.is_polynomial(z):
        poly = sp.Poly(polynomial, z)
        powers = {k: c for (k,), c in poly.terms() if c != 0}
        if set(powers) <= {0, 1}:
            a, b = powers.get(1, sp.S.Zero), powers.get(0, sp.S.Zero)
            return "linear", _linear(a, b, t, t0, start)
        if len(powers) == 2 and 1 in powers and 0 not in powers:
            n = max(powers)
            u0 = start ** (1 - n)
            u = _linear((1 - n) * powers[1], (1 - n) * powers[n], t, t0, u0)
            # From the start's own factor, which keeps its sign: start * (u / u0)**(1/(1-n)).
            return "of Bernoulli's kind", start * (u / u0) ** sp.Rational(1, 1 - n)
    return "separable", _separable(z, f, t, t0, start)


def _primitive(f: sp.Expr, t: sp.Symbol) -> sp.Expr:
    if t not in f.free_symbols:
        return f * t
    found = _generic(sp.integrate(f, t))
    if found.has(sp.Integral):
        raise NoSolutionError(f"SymPy does not integrate {f} in {t}")
    return found


def _generic(expression: sp.Expr) -> sp.Expr:
    """Return an integral's general branch; numbers tell later whether it holds here."""

    def branch(node: sp.Expr) -> sp.Expr:
        general = [e for e, condition in node.args if isinstance(condition, sp.Ne)]
        return general[0] if general else node.args[-1][0]

    return expression.replace(lambda e: isinstance(e, sp.Piecewise), branch)


def _linear(a: sp.Expr, b: sp.Expr, t: sp.Symbol, t0: sp.Symbol, start: sp.Expr) -> sp.Expr:
    if t not in a.free_symbols and t not in b.free_symbols and a != 0:
        grown = sp.exp(a * (t - t0))
        return start * grown + b * (grown - 1) / a
    primitive = _primitive(a, t)
    ratio = sp.S.Zero if a == 0 else sp.cancel(b / a)
    if ratio != 0 and t not in ratio.free_symbols:
        # A constant solution: z + ratio is homogeneous.
        return (start + ratio) * sp.exp(primitive - primitive.subs(t, t0)) - ratio
    grown = sp.exp(primitive - primitive.subs(t, t0))
    if b == 0:
        return start * grown
    inner = _primitive(sp.expand(b * sp.exp(primitive.subs(t, t0) - primitive)), t)
    return grown * (start + inner - inner.subs(t, t0))


def _separable(z: sp.Symbol, f: sp.Expr, t: sp.Symbol, t0: sp.Symbol, start: sp.Symbol) -> sp.Expr:
    parts = sp.separatevars(f, symbols=[z, t], dict=True)
    if parts is None:
        raise NoSolutionError(f"the equation of {z} is neither linear nor separable")
    of_time = _primitive(parts["coeff"] * parts[t], t)
    of_state = _generic(sp.integrate(sp.simplify(1 / parts[z]), z))
    if of_state.has(sp.Integral):
        raise NoSolutionError(f"SymPy does not integrate 1/({parts[z]}) in {z}")
    right = of_state.subs(z, start) + of_time - of_time.subs(t, t0)
    for root in sp.solve(of_state - right, z):
        if sp.simplify(root.subs(t, t0) - start) == 0:
            return root
    raise NoSolutionError(f"SymPy does not solve the implicit solution for {z}")
