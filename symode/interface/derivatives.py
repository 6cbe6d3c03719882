"""Derivatives: what a `Model` offers beyond the gradient of one loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from symode.equations.loss import LossLike
from symode.equations.values import initial_vector, named, vector
from symode.equations.vector_loss import VectorLoss
from symode.errors import ParameterError
from symode.gradients.jacobian import Jacobian, jacobian
from symode.gradients.methods import GradientMethod
from symode.gradients.second_order import Hessian, asymmetry_of
from symode.gradients.steady import SteadyState, checked, prepare, steady_state
from symode.gradients.value_and_grad import ValueAndGrad
from symode.interface.solving import needs_initial
from symode.solvers.integrate import check_span
from symode.solvers.options import check_names

if TYPE_CHECKING:
    from symode.equations.equations import Equations


class Derivatives:
    """Derivatives of several losses, of second order, and of steady states."""

    if TYPE_CHECKING:

        @property
        def equations(self) -> Equations:
            """The checked equations."""

    def jacobian(
        self,
        losses: VectorLoss | Mapping[Any, LossLike] | Sequence[LossLike],
        span: tuple[float, float | None],
        theta: Any = None,
        z0: Any = None,
        *,
        wrt: Any = None,
        method: str | GradientMethod = "auto",
        **options: Any,
    ) -> Jacobian:
        r"""Return the values and gradients of several losses, from one forward pass.

        Parameters
        ----------
        losses
            A `VectorLoss`, a mapping {name: loss}, or a sequence of losses.
        span
            (t0, t1); t1 may be None for observations alone: the last of them.
        theta, z0
            As in `Model.gradient`.
        wrt
            Columns: "theta", "z0", "t0", "t1", names or symbols of parameters, and of states for
            their initial values; by default all of them.
        method
            "auto" takes the cheaper of "forward" (one pass with a tangent for each column) and
            "discrete" (one backward pass for each row); any other method computes each row by
            itself.
        **options
            ``solver``, ``rtol``, ``atol``, ``max_steps``, ``h_max``, ``backend``.

        Raises
        ------
        LossError, ParameterError, InitialStateError, OptionError
            For what does not fit, in the model's names.
        SolverError, GradientError
            When a pass fails.

        Examples
        --------
        >>> import sympy as sp, symode
        >>> x, k = sp.symbols("x k")
        >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
        >>> losses = {"end": symode.Loss(terminal=x), "area": symode.Loss(running=x)}
        >>> found = model.jacobian(losses, (0, 1), theta=[0.7], wrt="k")
        >>> found.values, found["area"]["theta"]
        (end=0.99317061, area=1.4383277, k=-0.63593871)
        """
        check_names(options, "jacobian()", "wrt", "method")
        equations = self.equations
        names = equations.parameter_names
        given = [] if theta is None and not names else theta
        values = vector(given, names, "parameters", ParameterError)
        if z0 is None:
            needs_initial(equations)
            start = None
        else:
            start = initial_vector(equations, z0)
        wrt = ("theta", "z0", "t0", "t1") if wrt is None else wrt
        return jacobian(
            equations, losses, (span[0], span[1]), values, start, wrt=wrt, method=method, **options
        )

    def hessian(
        self,
        loss: LossLike,
        span: Sequence[float],
        theta: Any = None,
        z0: Any = None,
        *,
        wrt: Any = None,
        method: str | GradientMethod = "auto",
        **options: Any,
    ) -> Hessian:
        r"""Return the second derivatives of a loss, with its value and gradient.

        One Hessian-vector product for each row: the gradient, by an adjoint, of the directional
        derivative of the loss.

        Parameters
        ----------
        loss, span, theta, z0
            As in `Model.gradient`.
        wrt
            Rows and columns, in this order: "theta", "z0", names or symbols of parameters, and of
            states for their initial values. By default theta, and z0 where it is given.
        method
            Of the products: "auto" differentiates computed steps (`DiscreteAdjoint`); all that
            `Model.gradient` takes.
        **options
            ``solver``, ``rtol``, ``atol``, ``max_steps``, ``h_max``, ``backend``.

        Raises
        ------
        LossError, ParameterError, InitialStateError, OptionError
            For what does not fit, in the model's names.
        SolverError, GradientError
            When a pass fails.

        Examples
        --------
        >>> import sympy as sp, symode
        >>> x, k = sp.symbols("x k")
        >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
        >>> hessian = model.hessian(symode.Loss(terminal=x), (0, 1), theta={"k": 0.7})
        >>> round(hessian["k", "k"], 6)  # t**2 z(t)
        0.993171
        """
        check_names(options, "hessian()", "wrt", "method")
        t0, t1 = check_span(span)
        if wrt is None:
            wrt = "theta" if z0 is None else ("theta", "z0")
        vg = ValueAndGrad(
            self.equations, loss, wrt, theta=theta, z0=z0, t0=t0, t1=t1, method=method, **options
        )
        point = vg.pack(theta=theta, z0=z0)
        value, slope = vg(point)
        matrix = vg.columns(point)
        stats = {"method": vg.product_method.name, "asymmetry": asymmetry_of(matrix, point)}
        return Hessian(value, named(slope, vg.names), 0.5 * (matrix + np.transpose(matrix)), stats)

    def steady_state(
        self,
        theta: Any = None,
        z0: Any = None,
        *,
        method: str = "auto",
        non_negative: bool = False,
        **options: Any,
    ) -> SteadyState:
        r"""Return the steady state that the trajectory from z0 goes to, with its derivatives.

        .. math:: f(z^*, \theta) = 0, \qquad W^\top z^* = W^\top z_0

        where :math:`W^\top z` are the conserved totals, found in the equations.

        Parameters
        ----------
        theta
            Parameters by name, symbol or position. Shape ``(m,)``.
        z0
            The start, instead of the model's own. Shape ``(n,)``.
        method
            "auto" follows the trajectory for as long as it takes and ends with Newton's method; a
            steady state counts when the trajectory comes nearer to it, and an unstable one only
            when the trajectory stays there. "newton" takes what Newton's method finds from z0, be
            it unstable or out of reach of the trajectory.
        non_negative
            Refuse a steady state with negative values.
        **options
            Of the simulation: ``rtol`` (1e-6; Newton's method does the rest), ``atol`` (1e-12),
            ``max_steps`` (20,000), ``h_max``, ``solver`` ("rodas5p").

        Raises
        ------
        SolverError
            When the trajectory does not come to rest (it oscillates, grows or drifts), or where
            steady states are not isolated.
        ModelError
            When f depends on time.
        ParameterError, InitialStateError, OptionError
            For values that do not fit, in the model's names.

        Examples
        --------
        >>> import sympy as sp, symode
        >>> x, k, d = sp.symbols("x k d")
        >>> model = symode.Model({x: k - d * x**2}, parameters=[k, d], initial={x: 1})
        >>> steady = model.steady_state({k: 8, d: 2})
        >>> steady
        SteadyState(x=2; stable; simulated to t = 10, then Newton's method)
        >>> steady.dz_dtheta
        array([[ 0.125, -0.5  ]])
        """
        equations = self.equations
        kept = self.__dict__.setdefault("_resting", {})
        key = (method, *sorted((name, repr(value)) for name, value in options.items()))
        if key not in kept:
            kept[key] = prepare(equations, method, options)
        values, start = checked(equations, theta, z0, method)
        return steady_state(equations, kept[key], values, start, method, non_negative)
