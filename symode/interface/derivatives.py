"""Derivatives: what a `Model` offers beyond the gradient of one loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from symode.equations.loss import LossLike
from symode.equations.values import named
from symode.gradients.methods import GradientMethod
from symode.gradients.second_order import Hessian, asymmetry_of
from symode.gradients.value_and_grad import ValueAndGrad
from symode.solvers.integrate import check_span
from symode.solvers.options import check_names

if TYPE_CHECKING:
    from symode.equations.equations import Equations


class Derivatives:
    """Second derivatives of a model's losses."""

    if TYPE_CHECKING:

        @property
        def equations(self) -> Equations:
            """The checked equations."""

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
