r"""Steady states of a model: values, stability, and exact derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.codegen.reference import evaluate
from symode.equations.equations import Equations
from symode.equations.inputs import as_expression
from symode.equations.loss import Loss
from symode.equations.values import Named, initial_vector, named, vector
from symode.equations.walk import symbols_in
from symode.errors import (
    InitialStateError,
    LossError,
    ModelError,
    OptionError,
    ParameterError,
    SolverError,
)
from symode.gradients.jumps import refuse_events
from symode.gradients.mass import refuse_mass
from symode.gradients.rest import Rest, Resting
from symode.gradients.value_and_grad import Gradient
from symode.solvers.options import DEFAULT_STIFF, check_names
from symode.symbolic.derive import derive_scalar
from symode.symbolic.lift import lift_expressions

Floats = NDArray[np.float64]

#: How a steady state may be looked for.
METHODS: Final = ("auto", "newton")


@dataclass(frozen=True, eq=False)
class SteadyState:
    r"""A state with :math:`f(z^*, \theta) = 0`, and its derivatives.

    Made by `Model.steady_state`. ``steady["x"]`` is the value of a state or observable.

    Parameters
    ----------
    z
        :math:`z^*`, by name or position. Shape ``(n,)``.
    theta
        The parameters. Shape ``(m,)``.
    z0
        The start, which gives the conserved totals. Shape ``(n,)``.
    residual
        :math:`f(z^*, \theta)`, in units of the state per unit of time. Shape ``(n,)``.
    eigenvalues
        Of :math:`\partial f/\partial z` on the states with the same conserved totals, fastest
        growth first, per unit of time. Shape ``(n - c,)``.
    stable
        True where all real parts are negative, False where one is positive, None where rounding
        does not tell.
    totals
        {conserved total, an expression in states and parameters: its value}.
    how
        How it was found, in words.
    observables
        Those of the model, by name.

    Examples
    --------
    >>> import symode
    >>> model = symode.Model.from_text("a' = k*b - j*a; b' = j*a - k*b; a(0) = 1; b(0) = 2")
    >>> steady = model.steady_state({"k": 1, "j": 2})
    >>> steady.z, steady.stable, steady.totals
    (a=1, b=2, True, {a + b: 3.0})
    >>> model.steady_state({"k": 4, "j": 2}, z0=[1, 2]).dz_dz0.round(6).tolist()
    [[0.666667, 0.666667], [0.333333, 0.333333]]
    """

    z: Named
    theta: Named
    z0: Named
    residual: Named
    eigenvalues: NDArray[np.complex128]
    stable: bool | None
    totals: Mapping[sp.Expr, float]
    how: str
    observables: Named
    _equations: Equations = field(repr=False)
    _resting: Resting = field(repr=False)
    _rest: Rest = field(repr=False)

    def __getitem__(self, key: Any) -> float:
        """Return a state or observable by name, symbol or position."""
        if str(key) in self.observables.names:
            return float(self.observables[str(key)])
        return float(self.z[key])

    @cached_property
    def dz_dtheta(self) -> Named:
        r""":math:`dz^*/d\theta`, columns by name; through the model's z0 too where it has one.

        Shape ``(n, m)``. Raises SolverError where the steady state is not isolated.
        """
        return named(self._resting.slopes(self._rest), self._equations.parameter_names)

    @cached_property
    def dz_dz0(self) -> Named:
        r""":math:`dz^*/dz_0`, columns by name: what the conserved totals carry over.

        Shape ``(n, n)``; zero without totals.
        """
        return named(self._resting.start_slopes(self._rest), self._equations.state_names)

    def gradient(self, loss: Any) -> Gradient:
        r"""Return the value and the gradient of a function of the steady state.

        .. math:: \frac{dJ}{d\theta} = \frac{\partial\Phi}{\partial\theta}
                  + \frac{\partial\Phi}{\partial z}\,\frac{dz^*}{d\theta}

        by one solve with the transposed Jacobian, whatever the number of parameters.

        Parameters
        ----------
        loss
            An expression :math:`\Phi` in states and parameters, or a `Loss` with ``terminal=``
            alone.

        Raises
        ------
        LossError
            For other losses, and for expressions in time.
        SolverError
            When the steady state is not isolated.

        Examples
        --------
        >>> import sympy as sp, symode
        >>> x, k, d = sp.symbols("x k d")
        >>> steady = symode.Model({x: k - d * x}, [k, d]).steady_state([6, 2], z0=[0])
        >>> found = steady.gradient(x**2)
        >>> round(found.value, 9), found.theta
        (9.0, k=3, d=-9)
        """
        equations = self._equations
        expression = _expression(loss, equations)
        n, m = equations.n_states, equations.n_parameters
        graph = derive_scalar(lift_expressions(equations, [expression]), n, m)
        row = np.asarray(evaluate(graph, 0.0, np.asarray(self.z), np.asarray(self.theta)), float)
        if not np.isfinite(row).all():
            raise LossError(f"The loss {expression} is not finite at the steady state.")
        dtheta, dz0 = self._resting.adjoint(self._rest, row[1 : 1 + n])
        return Gradient(
            float(row[0]),
            named(row[1 + n : 1 + n + m] + dtheta, equations.parameter_names),
            named(dz0, equations.state_names),
            float("nan"), float("nan"), np.empty(0),
            {"method": "implicit function theorem", "reason": "steady state"},
        )  # fmt: skip

    def __repr__(self) -> str:
        """Return what it is and how it was found."""
        kind = {True: "stable", False: "unstable", None: "neither clearly stable nor unstable"}
        return f"SteadyState({self.z!r}; {kind[self.stable]}; {self.how})"


def steady_state(
    equations: Equations,
    resting: Resting,
    theta: Floats,
    z0: Floats | None,
    method: str,
    non_negative: bool,
) -> SteadyState:
    """Return a steady state, see `Model.steady_state`."""
    rest = resting.find(theta, z0, simulate=method == "auto", watch=method == "auto")
    names = equations.state_names
    if non_negative:
        least = -1e-9 * float(np.max(np.abs(rest.z), initial=0.0))
        below = [f"{name} = {z:.6g}" for name, z in zip(names, rest.z, strict=True) if z < least]
        if below:
            raise SolverError(
                f"The steady state has negative values: {', '.join(below)}. It was found by "
                f"{rest.how}. Start elsewhere (z0=), or leave out non_negative=True."
            )
    values = rest.eigenvalues
    noise = 10.0 * max(values.size, 1) * np.finfo(float).eps * np.abs(values).max(initial=0.0)
    growth = values.real.max(initial=-np.inf)
    stable = None if abs(growth) <= noise else bool(growth < 0.0)
    totals = dict(
        zip(
            rest.totals.expressions(equations.states),
            (rest.totals.w.T @ rest.z0).tolist(),
            strict=True,
        )
    )
    labels = tuple(name for name, _ in equations.observables)
    observed = []
    if labels:
        graph = lift_expressions(equations, [e for _, e in equations.observables])
        observed = [float(v) for v in evaluate(graph, 0.0, rest.z, theta)]
    return SteadyState(
        named(rest.z, names), named(theta, equations.parameter_names), named(rest.z0, names),
        named(resting.speed(rest), names), values, stable, totals, rest.how,
        named(observed, labels), equations, resting, rest,
    )  # fmt: skip


def prepare(equations: Equations, method: str, options: dict[str, Any]) -> Resting:
    """Return what finds the steady states of a model, compiled once.

    Raises
    ------
    ModelError
        When f depends on time: it has no steady states.
    UnsupportedCombinationError
        For events, mass matrices and unknown methods.
    """
    check_names(options, "steady_state()", "method", "non_negative")
    if method not in METHODS:
        raise OptionError(
            f"There is no method {method!r} for steady states; choose "
            f"{' or '.join(repr(m) for m in METHODS)}."
        )
    refuse_mass(
        equations, "A steady state", "Substitute the algebraic states, or solve to a late time."
    )
    refuse_events(
        equations, "A steady state",
        "Leave the events out of the model, or solve to a late time with model.solve().",
    )  # fmt: skip
    moving = [
        name
        for name, rhs in zip(equations.state_names, equations.rhs, strict=True)
        if equations.time in symbols_in([rhs])
    ]
    if moving:
        raise ModelError(
            f"The right-hand side of {', '.join(moving)} depends on time ({equations.time}), so "
            "that the model has no steady states. Make what changes in time a parameter."
        )
    allowed = ("solver", "rtol", "atol", "max_steps", "h_max")
    strangers = [name for name in options if name not in allowed]
    if strangers:
        raise OptionError(f"steady_state() takes {', '.join(allowed)}; got {', '.join(strangers)}.")
    resting = Resting(equations, **options)
    if not resting.options.is_stiff:
        raise OptionError(
            f"{resting.options.tableau.name} would need ever more steps on the way to rest: take a "
            f"solver for stiff models, such as {DEFAULT_STIFF!r}, or leave solver= out."
        )
    return resting


def checked(equations: Equations, theta: Any, z0: Any, method: str) -> tuple[Floats, Floats | None]:
    """Return theta and z0 as arrays; z0 None for the model's own.

    Raises
    ------
    ParameterError, InitialStateError
        For values that do not fit, in the model's names.
    """
    given = [] if theta is None and not equations.n_parameters else theta
    values = vector(given, equations.parameter_names, "parameters", ParameterError)
    if z0 is None and equations.initial is None:
        what = "z0= is where Newton's method starts" if method == "newton" else "z0= is the start"
        raise InitialStateError(
            f"No initial values: {what}, one value for each of {', '.join(equations.state_names)}; "
            "or give the model initial=."
        )
    if z0 is None:
        return values, None
    return values, initial_vector(equations, z0)


def _expression(loss: Any, equations: Equations) -> sp.Expr:
    if not hasattr(loss, "resolve"):
        try:
            loss = Loss(terminal=as_expression(loss))
        except ModelError as error:
            raise LossError(f"The loss {error}.") from None
    resolved = loss.resolve(equations)
    if resolved.running is not None or resolved.groups:
        raise LossError(
            "A loss of a steady state has no running cost and no observations at times: give an "
            "expression in states and parameters, or Loss(terminal=...)."
        )
    if equations.time in symbols_in([resolved.terminal]):
        raise LossError(
            f"The loss {resolved.terminal} depends on time ({equations.time}); a steady state has "
            "none."
        )
    result: sp.Expr = resolved.terminal
    return result
