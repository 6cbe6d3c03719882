"""Model: the façade a user holds. Each method calls one function of a layer below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.equations.checks import non_smooth_constructs
from symode.equations.delays import spread_delays
from symode.equations.equations import Equations
from symode.equations.event import resolve_events
from symode.equations.forcing import declared_inputs, model_inputs
from symode.equations.inputs import SymbolLike, SymbolsLike, from_function, from_mapping
from symode.equations.loss import LossLike
from symode.equations.text import parse_model
from symode.equations.values import vector
from symode.errors import ModelError, ParameterError
from symode.gradients.as_scipy import ScipySystem, scipy_system
from symode.gradients.black_box import BlackBox
from symode.gradients.jumps import USE_JUMPS, refuse_events
from symode.gradients.mass import refuse_mass
from symode.gradients.methods import GradientMethod
from symode.gradients.value_and_grad import Gradient, ValueAndGrad
from symode.interface.derivatives import Derivatives
from symode.interface.solving import gradient, solve, source
from symode.solvers.solution import Solution
from symode.symbolic import blocks
from symode.symbolic.adjoint_system import AdjointSystem, adjoint_system
from symode.symbolic.latex import display, model_latex
from symode.symbolic.lift import lift_field


class Model(Derivatives):
    r"""Dynamics :math:`M \dot z = f(z, t, \theta)` and everything that is derived from them.

    Parameters
    ----------
    equations
        A mapping {state: right-hand side}, a sequence of such pairs, or, with ``states``, a
        sequence or column Matrix of right-hand sides. Keys are symbols or names.
    parameters
        Symbols or names, in the order of every parameter array. None takes every symbol that is
        neither a state nor time, sorted by name.
    time
        The symbol of time; None takes the symbol named "t".
    initial
        A mapping {state: value} or one value per state, in parameters and time; None leaves the
        initial values to each solve.
    observables
        A mapping {name: expression}.
    states
        The order of the states where it is not that of ``equations``.
    mass
        The constant matrix M, which may be singular: a SymPy Matrix, nested lists or an array of
        shape (n, n), or a mapping {state: number} with a diagonal. The identity by default.
    algebraic
        A mapping {state: expression} of algebraic equations ``0 = expression``, instead of
        ``mass``; their states come after those of ``equations``.
    events
        A list of `symode.Event`: what the states become when a trigger turns true.
    inputs
        {symbol in the equations: `symode.Table`}: inputs given as values at times; or a DataFrame
        with a column for each. What differs between experiments belongs into their `Condition`.

    Raises
    ------
    ModelError
        With every fault found, each named.

    Examples
    --------
    >>> import sympy as sp
    >>> x, y, a, b = sp.symbols("x y a b")
    >>> model = Model({x: a * x * y, y: -b * y}, parameters=(a, b))
    >>> model.dfdz
    Matrix([
    [a*y, a*x],
    [  0,  -b]])
    """

    def __init__(
        self,
        equations: object,
        parameters: SymbolsLike | None = None,
        time: SymbolLike | None = None,
        initial: object = None,
        observables: object = None,
        states: SymbolsLike | None = None,
        mass: object = None,
        algebraic: object = None,
        events: object = (),
        inputs: object = None,
    ) -> None:
        if not isinstance(equations, Equations):
            if inputs is not None:
                parameters = declared_inputs(parameters, inputs)
            equations = from_mapping(
                equations, parameters, time, initial, observables, states, mass, algebraic
            )
        if events:
            equations = replace(equations, events=resolve_events(events, equations))
        if inputs is not None:
            equations = model_inputs(equations, inputs)
        equations = spread_delays(equations)
        self._equations: Equations = equations

    @classmethod
    def from_function(
        cls,
        function: Callable[..., object],
        states: SymbolsLike,
        parameters: SymbolsLike = (),
        time: SymbolLike = "t",
        initial: object = None,
        observables: object = None,
    ) -> Model:
        """Return the model of a Python function ``function(z, t, theta)`` of symbols.

        Examples
        --------
        >>> Model.from_function(lambda z, t, theta: [-theta.k * z.x], "x", "k").equations.rhs
        (-k*x,)
        """
        return cls(from_function(function, states, parameters, time, initial, observables))

    @classmethod
    def from_text(cls, text: str) -> Model:
        """Return the model that a text states, in the grammar of `symode.equations.text`.

        Raises
        ------
        ParseError
            With every statement that could not be read, each with line, column and a caret.

        Examples
        --------
        >>> model = Model.from_text("x' = a*x - b*x*y; y' = b*x*y - y; x(0) = 10; y(0) = 5")
        >>> model.parameters, model.equations.initial
        ((a, b), (10, 5))
        """
        return cls(parse_model(text))

    @property
    def equations(self) -> Equations:
        """The checked equations."""
        return self._equations

    @property
    def states(self) -> tuple[sp.Symbol, ...]:
        """The state symbols, in the order of every state array."""
        return self._equations.states

    @property
    def parameters(self) -> tuple[sp.Symbol, ...]:
        """The parameter symbols, in the order of every parameter array."""
        return self._equations.parameters

    @property
    def time(self) -> sp.Symbol:
        """The symbol of time."""
        return self._equations.time

    @cached_property
    def dfdz(self) -> sp.ImmutableMatrix:
        r"""The block :math:`\nabla_{\S1} f`, shape (n, n)."""
        return blocks.dfdz(self._equations)

    @cached_property
    def dfdt(self) -> sp.ImmutableMatrix:
        r"""The block :math:`\nabla_{\S2} f`, shape (n, 1)."""
        return blocks.dfdt(self._equations)

    @cached_property
    def dfdtheta(self) -> sp.ImmutableMatrix:
        r"""The block :math:`\nabla_{\S3} f`, shape (n, m)."""
        return blocks.dfdtheta(self._equations)

    @cached_property
    def non_smooth(self) -> tuple[str, ...]:
        """One statement per construct with a kink or a jump, and where it stands.

        Examples
        --------
        >>> Model.from_text("x' = -k*abs(x)").non_smooth
        ('Abs(x) in dx/dt',)
        """
        return non_smooth_constructs(self._equations)

    @cached_property
    def sparsity(self) -> dict[str, NDArray[np.bool_]]:
        """Where "dfdz", shape (n, n), and "dfdtheta", shape (n, m), are not written as zero.

        Examples
        --------
        >>> Model.from_text("x' = a*x; y' = x - y").sparsity["dfdz"].tolist()
        [[True, False], [True, True]]
        """
        matrices = {"dfdz": self.dfdz, "dfdtheta": self.dfdtheta}
        return {name: blocks.sparsity(matrix) for name, matrix in matrices.items()}

    def adjoint_system(self, loss: LossLike | None = None) -> AdjointSystem:
        r"""Return q, dq/dt, terminal conditions and jumps of the adjoint, as SymPy matrices.

        Parameters
        ----------
        loss
            Gives the terminal and running cost and the observations; None leaves an undefined
            terminal cost Phi.

        Examples
        --------
        >>> Model.from_text("x' = -k*x").adjoint_system().dqdt.T
        Matrix([[-k*x, a_x*k, a_x*x]])
        """
        refuse_mass(
            self._equations,
            "The adjoint system in closed form",
            "Gradients come from model.gradient(); the theory page derives their equations.",
        )
        refuse_events(self._equations, "The adjoint system in closed form", USE_JUMPS)
        return adjoint_system(self._equations, loss, lambda eq, theta: Model(eq).as_scipy(theta))

    def latex(self) -> str:
        r"""Return the equations, initial values and observables as LaTeX.

        Examples
        --------
        >>> print(Model.from_text("x' = -k*x").latex())
        \begin{aligned}
        \frac{d x}{d t} &= - k x
        \end{aligned}
        """
        return model_latex(self._equations)

    def _repr_latex_(self) -> str | None:
        try:
            return display(self.latex())
        except ModelError:
            return None

    def solve(
        self,
        span: Sequence[float],
        theta: Any = None,
        z0: Any = None,
        *,
        times: Any = None,
        dense_output: bool = True,
        raise_on_failure: bool = True,
        **options: Any,
    ) -> Solution:
        r"""Solve the initial value problem and return the trajectory.

        Parameters
        ----------
        span
            (t0, t1), in units of time; t1 < t0 solves backwards.
        theta
            Parameters by name, symbol or position. Shape ``(m,)``.
        z0
            Initial values by name or position, instead of the model's own. Shape ``(n,)``.
        times
            Where to report the states; at the solver's steps by default. They shorten no step.
        dense_output
            Keep the steps, so that the solution can be called at any time.
        raise_on_failure
            False returns what was solved, with its status, instead of raising.
        **options
            ``solver``: "auto" (explicit, and rodas5p while stiff), "bosh3", "dopri5", "tsit5",
            "vern7", "dop853", "rock4" (fast decay that does not oscillate), or, for stiff models,
            "rodas5p", "esdirk43", "esdirk54", "radau5", "radau9", "radau13"; ``rtol`` (1e-8),
            ``atol`` (1e-10; a number, or one for each state), ``max_steps`` (100,000), ``h_max``
            (no limit), ``backend`` ("llvm" or "numba"),
            ``consistent`` ("find", or "check" to refuse initial values that miss the algebraic
            equations), ``switch_events`` (True; False does not end steps where conditions in f
            turn).

        Raises
        ------
        SolverError
            With t, z, h and the likely cause.
        ParameterError, InitialStateError, OptionError
            For values that do not fit, in the model's names.

        Examples
        --------
        >>> import sympy as sp
        >>> x, k = sp.symbols("x k")
        >>> model = Model({x: -k * x}, parameters=[k], initial={x: 2})
        >>> solution = model.solve((0, 1), theta=[0.7], times=[0.5, 1.0])
        >>> solution["x"].round(6).tolist()
        [1.409376, 0.993171]
        """
        return solve(
            self, span, theta, z0, times=times, dense_output=dense_output,
            raise_on_failure=raise_on_failure, **options,
        )  # fmt: skip

    def gradient(
        self,
        loss: LossLike,
        span: Sequence[float],
        theta: Any = None,
        z0: Any = None,
        *,
        method: str | GradientMethod = "auto",
        solver: str | BlackBox = "auto",
        wrt: Any = None,
        gradient_rtol: float | None = None,
        **options: Any,
    ) -> Gradient:
        r"""Return the value of a loss and its gradient in theta, z0, t0, t1 and the t_i.

        Parameters
        ----------
        loss
            A `Loss` or `LeastSquares`.
        span
            (t0, t1).
        theta
            Parameters. Shape ``(m,)``.
        z0
            Initial values, instead of the model's own; then :math:`\partial z_0/\partial\theta`
            is 0. Shape ``(n,)``, or ``(batch, n)`` for the sum of the loss over a batch of
            trajectories, computed on all cores.
        method
            "auto", "discrete", "checkpointed", "interpolating", "backsolve", "gauss", "forward",
            or a value with options such as ``DiscreteAdjoint()``.
        solver
            "auto", "bosh3", "dopri5", "tsit5", "vern7", "dop853", "rock4", or, for stiff models,
            "rodas5p", "esdirk43", "esdirk54", "radau5", "radau9", "radau13";
            ``"scipy:Radau"`` for SciPy's; or a callable ``solver(fun, t_span, y0, t_eval) -> y``
            (one row of y per time).
        wrt
            What derivatives are wanted of, everything by default: any of "theta", "z0", "t0",
            "t1", "times", names or symbols of parameters, and of states for their initial values.
        gradient_rtol
            Tighten the tolerances until two runs, at least ten times apart, agree to this in the
            scaled norm of the gradient; the estimate is in ``stats``.
        **options
            ``rtol`` (1e-8), ``atol`` (1e-10), ``max_steps`` (100,000), ``h_max`` (no limit),
            ``backend`` ("llvm" or "numba"), ``consistent`` ("find" or "check"), ``switch_events``
            (True or False).

        Raises
        ------
        LossError, ParameterError, InitialStateError, OptionError
            For what does not fit, in the model's names.
        SolverError, GradientError, DriftError
            A failed pass never returns a gradient.

        Examples
        --------
        >>> import sympy as sp
        >>> from symode.equations.loss import Loss
        >>> x, k = sp.symbols("x k")
        >>> model = Model({x: -k * x}, parameters=[k], initial={x: 2})
        >>> model.gradient(Loss(terminal=x**2), (0, 1), theta={"k": 0.7}).theta
        k=-1.9727757
        """
        return gradient(
            self.equations, loss, span, theta, z0, method=method, solver=solver, wrt=wrt,
            gradient_rtol=gradient_rtol, **options,
        )  # fmt: skip

    def value_and_grad(
        self, loss: LossLike, wrt: Any = ("theta", "z0"), **options: Any
    ) -> ValueAndGrad:
        """Return the loss as a function of one flat vector, with its gradient.

        Parameters
        ----------
        loss
            A `Loss` or `LeastSquares`.
        wrt
            What the vector holds, in this order: "theta", "z0", "t0", "t1", "times", or
            parameters and, for their initial values, states by name or symbol.
        **options
            ``t0`` (0), ``t1`` (the last observation), ``theta`` and ``z0`` as far as they are not
            in ``wrt``, ``method``, ``solver``, ``rtol``, ``atol``, ``max_steps``, ``h_max``,
            ``backend``.

        Examples
        --------
        >>> import sympy as sp
        >>> from symode.equations.loss import LeastSquares
        >>> x, k = sp.symbols("x k")
        >>> model = Model({x: -k * x}, parameters=[k])
        >>> vg = model.value_and_grad(LeastSquares([1.0], [[1.0]]))
        >>> value, slope = vg(vg.pack(theta=[0.7], z0=[2.0]))
        >>> round(value, 8)
        4.664e-05
        """
        return ValueAndGrad(self.equations, loss, wrt, **options)

    def source(self, kernel: str = "rhs") -> str:
        """Return readable Python source of a kernel, with the model's names in comments.

        Parameters
        ----------
        kernel
            "rhs", "jac" (Jacobian on its pattern, then f_t), "dfdtheta", "vjp", "jvp", "second" or
            "djac". Values of parameters alone are hoisted into a function of their own.

        Examples
        --------
        >>> import sympy as sp
        >>> x, k = sp.symbols("x k")
        >>> print(Model({x: -k * x}, parameters=[k]).source())
        def rhs(t, z, p, out):
            # z[0] = x
            # p[0] = k
            out[0] = -(z[0] * p[0])
        """
        return source(self.equations, kernel)

    def as_scipy(self, theta: Any = None) -> ScipySystem:
        """Return ``fun(t, z)``, ``jac(t, z)`` and the augmented system's, for other solvers."""
        refuse_mass(
            self._equations,
            "scipy.integrate.solve_ivp",
            "Use model.solve(); or pass a model in which the algebraic states are substituted.",
        )
        refuse_events(self._equations, "scipy.integrate.solve_ivp", "Use model.solve().")
        names = self.equations.parameter_names
        values = vector([] if theta is None else theta, names, "parameters", ParameterError)
        return scipy_system(lift_field(self.equations), values)

    def __repr__(self) -> str:
        """Return names and sizes."""
        eq = self._equations
        return f"Model(states={eq.state_names}, parameters={eq.parameter_names})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the equations; everything else is derived again."""
        return (type(self), (self._equations,))
