r"""The augmented adjoint system of a model, as SymPy matrices that a person can read.

Notation and signs are those of P. Khungurn, *Neural Ordinary Differential Equations* (2022):
gradients are rows, and the adjoint :math:`a = (a_{\S1}, a_{\S2}, a_{\S3})` is the gradient of the
objective still to come in (state, time, parameters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sympy as sp

from symode.equations.equations import Equations
from symode.equations.loss import Loss, LossLike, ObservationGroup, resolve_loss
from symode.errors import ModelError
from symode.symbolic import blocks
from symode.symbolic.differentiate import gradient
from symode.symbolic.latex import aligned, display, latex, rate


@dataclass(frozen=True, eq=False)
class Jump:
    r"""What the adjoint gains when the backward pass crosses an observation :math:`\ell`.

    Attributes
    ----------
    times
        Where: the observation times :math:`t_i`.
    a1
        The row :math:`\partial\ell/\partial z`, shape (1, n).
    a2
        The scalar :math:`-(\partial\ell/\partial z) f`.
    a3
        The row :math:`\partial\ell/\partial\theta`, shape (1, m).
    data_symbols
        Symbols that stand for measured values, which differ from time to time.
    expression
        :math:`\ell` itself.

    Examples
    --------
    >>> import sympy as sp
    >>> x, k, t = sp.symbols("x k t")
    >>> equations = Equations((x,), (-k * x,), (k,), t)
    >>> (jump,) = adjoint_system(equations, Loss(observations={1.5: x**2})).jumps
    >>> jump.times, jump.a1, jump.a2
    ((1.5,), Matrix([[2*x]]), 2*k*x**2)
    """

    times: tuple[float, ...]
    a1: sp.ImmutableDenseMatrix
    a2: sp.Expr
    a3: sp.ImmutableDenseMatrix
    data_symbols: tuple[sp.Symbol, ...] = ()
    expression: sp.Expr = sp.S.Zero


@dataclass(frozen=True, eq=False)
class AdjointSystem:
    r"""The system for :math:`q = (z, a_{\S1}^\top, a_{\S3}^\top)`, to be run from t1 back to t0.

    .. math:: \dot q = \bigl(f,\;
              -(\nabla_{\S1} f)^\top a_{\S1}^\top - (\partial c/\partial z)^\top,\;
              -(\nabla_{\S3} f)^\top a_{\S1}^\top - (\partial c/\partial\theta)^\top\bigr)

    Attributes
    ----------
    equations
        The model.
    a1, a3
        Symbols of :math:`a_{\S1}`, one per state, and of :math:`a_{\S3}`, one per parameter.
    terminal, running
        :math:`\Phi` and c; without a loss, an undefined function Phi and 0.
    jumps
        One for each observation of the loss.
    outer, weights
        Of a `Composite` J = g(v, theta): g, and a symbol for each ∂g/∂v with its expression in the
        parts v. They are numbers once the forward pass has ended: terminal, running and jumps are
        those of the sum of the parts times their weights, and ∂g/∂theta joins the end value of a§3.

    Examples
    --------
    >>> import sympy as sp
    >>> x, k, t = sp.symbols("x k t")
    >>> system = adjoint_system(Equations((x,), (-k * x,), (k,), t), Loss(terminal=x**2))
    >>> system.q.T, system.dqdt.T
    (Matrix([[x, a_x, a_k]]), Matrix([[-k*x, a_x*k, a_x*x]]))
    >>> system.terminal_a1, system.terminal_a3, system.a2
    (Matrix([[2*x]]), Matrix([[0]]), a_x*k*x)
    """

    equations: Equations
    a1: tuple[sp.Symbol, ...]
    a3: tuple[sp.Symbol, ...]
    terminal: sp.Expr
    running: sp.Expr
    jumps: tuple[Jump, ...] = ()
    numeric: Callable[[Equations, Any], Any] | None = field(default=None, repr=False)
    outer: sp.Expr = sp.S.Zero
    weights: tuple[tuple[sp.Symbol, sp.Expr], ...] = ()

    @cached_property
    def q(self) -> sp.ImmutableDenseMatrix:
        """The column of all symbols, shape (2n + m, 1)."""
        return _column([*self.equations.states, *self.a1, *self.a3])

    @cached_property
    def dqdt(self) -> sp.ImmutableDenseMatrix:
        """The right-hand side, shape (2n + m, 1)."""
        eq = self.equations
        a1 = _column(self.a1)
        of_states = -(blocks.dfdz(eq).T * a1) - _column(gradient(self.running, eq.states))
        of_theta = -(blocks.dfdtheta(eq).T * a1) - _column(gradient(self.running, eq.parameters))
        return _column([*eq.rhs, *of_states, *of_theta])

    @cached_property
    def a2(self) -> sp.Expr:
        r"""The adjoint of time, :math:`a_{\S2} = -(a_{\S1} f + c)`, at every t, jumps included."""
        terms = (a * f for a, f in zip(self.a1, self.equations.rhs, strict=True))
        return -(sp.Add(*terms) + self.running)

    @cached_property
    def terminal_a1(self) -> sp.ImmutableDenseMatrix:
        r"""The row :math:`a_{\S1}(t_1) = \partial\Phi/\partial z`, shape (1, n)."""
        return _row(self._terminal_gradient(self.equations.states))

    @cached_property
    def terminal_a3(self) -> sp.ImmutableDenseMatrix:
        r"""The row :math:`a_{\S3}(t_1) = \partial\Phi/\partial\theta`, shape (1, m)."""
        return _row(self._terminal_gradient(self.equations.parameters))

    def _terminal_gradient(self, variables: tuple[sp.Symbol, ...]) -> list[sp.Expr]:
        if isinstance(self.terminal, sp.core.function.AppliedUndef):
            return [sp.Derivative(self.terminal, variable) for variable in variables]
        found = gradient(self.terminal, variables)
        if variables != self.equations.parameters:
            return found
        return [a + b for a, b in zip(found, gradient(self.outer, variables), strict=True)]

    def as_equations(self) -> Equations:
        """Return the augmented system as the equations of a model with states q.

        Weights of a composite's parts are parameters behind the model's.

        Examples
        --------
        >>> import sympy as sp
        >>> x, k, t = sp.symbols("x k t")
        >>> adjoint_system(Equations((x,), (-k * x,), (k,), t)).as_equations().state_names
        ('x', 'a_x', 'a_k')
        """
        eq = self.equations
        parameters = (*eq.parameters, *(w for w, _ in self.weights))
        return Equations(tuple(self.q.flat()), tuple(self.dqdt.flat()), parameters, eq.time)

    def as_scipy(self, theta: Any = None) -> Any:
        """Return ``fun(t, q)`` and ``jac(t, q)`` for `scipy.integrate.solve_ivp`.

        Raises
        ------
        ModelError
            When the system was made from bare equations, and not by ``Model.adjoint_system``.

        Examples
        --------
        >>> import symode, sympy as sp
        >>> x, k = sp.symbols("x k")
        >>> system = symode.Model({x: -k * x}, parameters=[k]).adjoint_system()
        >>> system.as_scipy([2.0]).fun(0.0, [3.0, 1.0, 0.0]).tolist()
        [-6.0, 2.0, 3.0]
        """
        if self.numeric is None:
            raise ModelError(
                "These are bare equations. Numeric functions come from "
                "Model(...).adjoint_system(loss).as_scipy(theta)."
            )
        return self.numeric(self.as_equations(), theta)

    def latex(self) -> str:
        r"""Return the system, its values at the end, and its jumps as LaTeX.

        Examples
        --------
        >>> import sympy as sp
        >>> x, k, t = sp.symbols("x k t")
        >>> print(adjoint_system(Equations((x,), (-k * x,), (k,), t), Loss(terminal=x)).latex())
        \begin{aligned}
        \frac{d x}{d t} &= - k x \\
        \frac{d a_{x}}{d t} &= a_{x} k \\
        \frac{d a_{k}}{d t} &= a_{x} x \\
        a_{x}(t_{1}) &= 1 \\
        a_{k}(t_{1}) &= 0
        \end{aligned}
        """
        time = self.equations.time
        lines = [
            (rate(q, time), latex(f)) for q, f in zip(self.q.flat(), self.dqdt.flat(), strict=True)
        ]
        lines += [(latex(w), latex(value)) for w, value in self.weights]
        ends = zip((*self.a1, *self.a3), (*self.terminal_a1, *self.terminal_a3), strict=True)
        lines += [(f"{latex(a)}({latex(time)}_{{1}})", latex(value)) for a, value in ends]
        for jump in self.jumps:
            at = _times(jump.times, time)
            gains = zip((*self.a1, *self.a3), (*jump.a1, *jump.a3), strict=True)
            lines += [
                (rf"\Delta {latex(a)}", rf"{latex(gain)} \quad \text{{at }} {at}")
                for a, gain in gains
                if gain != 0
            ]
        return aligned(lines)

    def _repr_latex_(self) -> str | None:
        try:
            return display(self.latex())
        except ModelError:
            return None


def adjoint_system(
    equations: Equations,
    loss: LossLike | None = None,
    numeric: Callable[[Equations, Any], Any] | None = None,
) -> AdjointSystem:
    r"""Return the augmented adjoint system of a model, for a loss or for any terminal one.

    Parameters
    ----------
    equations
        The model.
    loss
        Gives :math:`\Phi`, c and the observations. None leaves :math:`\Phi` undefined and c = 0.
    numeric
        Makes numeric functions from the augmented equations and theta, for ``as_scipy``.

    Raises
    ------
    LossError
        When the loss does not fit the model.
    ModelError
        As `symode.symbolic.blocks.dfdz`.

    Examples
    --------
    >>> import sympy as sp
    >>> x, k, t = sp.symbols("x k t")
    >>> adjoint_system(Equations((x,), (-k * x,), (k,), t), Loss(running=x)).dqdt.T
    Matrix([[-k*x, a_x*k - 1, a_x*x]])
    """
    a1, a3 = _adjoint_symbols(equations)
    if loss is None:
        arguments = (*equations.states, equations.time, *equations.parameters)
        terminal: sp.Expr = sp.Function("Phi")(*arguments)
        return AdjointSystem(equations, a1, a3, terminal, sp.S.Zero, (), numeric)
    resolved = resolve_loss(loss, equations)
    zero = sp.S.Zero
    if resolved.outer is not None:
        return _of_joint(equations, resolved, (a1, a3), numeric)
    return AdjointSystem(
        equations,
        a1,
        a3,
        zero if resolved.terminal is None else resolved.terminal,
        zero if resolved.running is None else resolved.running,
        tuple(_jump(equations, g, g.times, g.expression) for g in resolved.groups),
        numeric,
    )


def _jump(
    equations: Equations, group: ObservationGroup, times: Iterable[float], expression: sp.Expr
) -> Jump:
    of_states = gradient(expression, equations.states)
    of_theta = gradient(expression, equations.parameters)
    rates = (s * f for s, f in zip(of_states, equations.rhs, strict=True))
    return Jump(
        tuple(map(float, times)), _row(of_states), -sp.Add(*rates), _row(of_theta),
        group.data_symbols, expression,
    )  # fmt: skip


def _of_joint(
    equations: Equations,
    loss: Loss,
    adjoints: tuple[tuple[sp.Symbol, ...], tuple[sp.Symbol, ...]],
    numeric: Callable[[Equations, Any], Any] | None,
) -> AdjointSystem:
    """Return the system of a composite: that of its parts, each times its weight."""
    assert loss.outer is not None
    taken = {s.name for s in (*equations.states, *equations.parameters, *adjoints[0], *adjoints[1])}
    prefix = "w"
    while any(f"{prefix}_{s.name}" in taken for s in loss.symbols):
        prefix += "w"
    w = [sp.Symbol(f"{prefix}_{s.name}") for s in loss.symbols]
    jumps, at = [], 0
    for group in loss.groups:
        rows = loss.row[at : at + group.times.size]
        at += group.times.size
        jumps += [
            _jump(equations, group, group.times[rows == k], w[k] * group.expression)
            for k in dict.fromkeys(rows.tolist())
        ]
    return AdjointSystem(
        equations, *adjoints,
        sp.Add(*(w[k] * e for k, e in loss.terminals)),
        sp.Add(*(w[k] * e for k, e in loss.runnings)),
        tuple(jumps), numeric, loss.outer,
        tuple(zip(w, gradient(loss.outer, loss.symbols), strict=True)),
    )  # fmt: skip


def _adjoint_symbols(
    equations: Equations,
) -> tuple[tuple[sp.Symbol, ...], tuple[sp.Symbol, ...]]:
    """Return symbols a_x for states and parameters x, with a prefix that makes no clash."""
    states, parameters = equations.state_names, equations.parameter_names
    taken = {*states, *parameters, equations.time.name}
    prefix = "a"
    while any(f"{prefix}_{name}" in taken for name in (*states, *parameters)):
        prefix += "a"
    a1 = tuple(sp.Symbol(f"{prefix}_{name}") for name in states)
    return a1, tuple(sp.Symbol(f"{prefix}_{name}") for name in parameters)


def _column(entries: Iterable[sp.Expr]) -> sp.ImmutableDenseMatrix:
    listed = list(entries)
    return sp.ImmutableDenseMatrix(len(listed), 1, listed)


def _row(entries: Iterable[sp.Expr]) -> sp.ImmutableDenseMatrix:
    listed = list(entries)
    return sp.ImmutableDenseMatrix(1, len(listed), listed)


def _times(times: tuple[float, ...], clock: sp.Symbol, limit: int = 4) -> str:
    shown = ", ".join(f"{t:g}" for t in times[:limit])
    return f"{latex(clock)} = {shown}" + (r", \dots" if len(times) > limit else "")
