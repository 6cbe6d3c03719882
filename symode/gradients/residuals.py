"""Residuals: the observations of a loss as a vector, with their exact Jacobian."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.equations.loss import LossLike
from symode.equations.values import vector
from symode.errors import LossError, ParameterError
from symode.gradients.residual_runners import ResidualRunner, make_runner
from symode.gradients.setup import make_task

Floats = NDArray[np.float64]


class Residuals:
    r"""The observations :math:`\ell_k` of a loss and :math:`d\ell_k/d\theta`, one row for each.

    .. math:: \frac{d\ell_k}{d\theta_j} = \frac{\partial\ell_k}{\partial z}
              \Bigl(\frac{\partial z}{\partial\theta_j}\Bigr)(t_k)
              + \frac{\partial\ell_k}{\partial\theta_j}

    One forward pass with a tangent for each parameter that the dynamics or the initial values
    contain, which starts at :math:`\partial z_0/\partial\theta_j`; all are in the error norm.
    Compiled once, called often, from several threads.

    Parameters
    ----------
    equations
        Model with initial values.
    loss
        A loss of observations alone.
    wrt
        Names of parameters; all of them by default.
    t0, t1
        Span. t1 defaults to the last observation.
    shared
        Residuals of the same equations and expressions at other times, whose kernels serve these.
    solver, rtol, atol, max_steps, h_max
        As in `Model.solve`.

    Raises
    ------
    LossError
        When the loss has other terms than observations.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    >>> residuals = Residuals(model.equations, symode.Loss(observations={1.0: x, 2.0: x - k}))
    >>> values, jacobian = residuals([0.7])
    >>> values.round(6).tolist(), jacobian.round(6).tolist()
    ([0.993171, -0.206806], [[-0.993171], [-1.986388]])
    """

    def __init__(
        self,
        equations: Equations,
        loss: LossLike,
        wrt: Sequence[str] | None = None,
        *,
        t0: float = 0.0,
        t1: float | None = None,
        shared: Residuals | None = None,
        **options: Any,
    ) -> None:
        self.task = make_task(equations, loss, (t0, t1), from_initial=True, **options)
        if shared is not None:
            self.task = shared.task.sharing_kernels_with(self.task)
        resolved = self.task.loss
        if resolved.terminal is not None or resolved.running is not None:
            raise LossError("Residuals are observations: leave terminal= and running= out.")
        names = equations.parameter_names
        self.wrt = names if wrt is None else tuple(wrt)
        self.columns = np.array([names.index(name) for name in self.wrt], dtype=np.intp)
        self._local = threading.local()

    def __call__(self, theta: Any) -> tuple[Floats, Floats]:
        """Return the values, shape ``(K,)``, and their Jacobian, shape ``(K, len(wrt))``.

        Raises
        ------
        SolverError
            When the solve fails.
        GradientError
            When an observation or a derivative is not finite.
        """
        names = self.task.equations.parameter_names
        return self.compute(vector(theta, names, "parameters", ParameterError))

    def compute(self, theta: Floats) -> tuple[Floats, Floats]:
        """Return the same at parameters that are known to be an array of m finite numbers."""
        runner: ResidualRunner | None = getattr(self._local, "runner", None)
        if runner is None:
            runner = self._local.runner = make_runner(self.task, self.columns)
        return runner(theta)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the machine code."""
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore; the runner is made on first use."""
        self.__dict__.update(state)
        self._local = threading.local()
