"""GaussAdjoint: lam by the adjoint ODE, the parameters' gradient by quadrature along it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from symode.gradients.methods.base import (
    Floats,
    Runner,
    begin,
    check_finite,
    check_loss,
    failed_backward,
    failed_forward,
    make_forward,
)
from symode.gradients.methods.continuous import ADJOINT_FLOOR, set_scales
from symode.gradients.methods.interpolating import adjoint_system
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.kronrod import gauss_kronrod
from symode.solvers.solution import Stats
from symode.status import FULL, MAX_STEPS, SUCCESS

#: Backward steps kept between two calls of the quadrature.
CHUNK = 256


@dataclass(frozen=True)
class GaussAdjoint:
    r"""Integrate a§1 alone backwards; a§3 by Gauss–Kronrod quadrature along its dense output.

    .. math:: \dot a_{§1} = -a_{§1} \nabla_{§1} f(z(t), t, \theta), \qquad
              a_{§3}(t_0) = a_{§3}(t_1) + \int_{t_0}^{t_1} a_{§1} \nabla_{§3} f \, dt

    The backward system has n states however many parameters there are. The product with
    :math:`\nabla_{§3} f` is needed at a few nodes a step, in no stage, and computes what lies
    between parameters and f. The rule's order is that of the solver's error estimate; a Gauss rule
    and its Kronrod extension must agree to rtol, in the scaled norm of the gradient, or the panel
    is halved: a forcing that neither z nor a§1 shows is resolved, or the gradient refused.
    Accuracy: the tolerance of both passes and of the interpolants. Memory:
    :math:`8 (S + 1) n + 16` bytes a step of the forward pass. Serves every solver of symode.

    References
    ----------
    Kronrod (1965), *Nodes and Weights of Quadrature Formulas*; quadrature of the parameters' part
    beside the adjoint as in Hindmarsh et al. (2005), *SUNDIALS*, ACM TOMS 31, 363-396.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k])
    >>> gradient = model.gradient(
    ...     symode.Loss(terminal=x**2), (0, 1), theta=[0.7], z0=[2.0],
    ...     method=symode.GaussAdjoint())
    >>> round(gradient.theta["k"], 6)  # -2 t z(t)**2
    -1.972776
    """

    @property
    def name(self) -> str:
        """Short name, as in tables."""
        return "gauss"

    def prepare(self, task: Task) -> GaussRunner:
        """Compile what the task needs; return the function that computes."""
        return GaussRunner(task)


class GaussRunner(Runner):
    """A `GaussAdjoint` made ready for one task."""

    def __init__(self, task: Task) -> None:
        names = ["rhs", "vjp_z", "vjp_theta", *task.options.jacobian_kernels("second_z")]
        self.task = task
        self.compiled = task.compile(names)
        self.system = task.bind(self.compiled, task.options.is_stiff)
        self.forward = make_forward(task, self.compiled, self.system, keep=True, lazy=False)
        self.table = task.loss_table()
        self.gradient = task.gradient_arrays()
        self.adjoint = self._with(0, {kt.VJP: "vjp_z", kt.SECOND: "second_z"})
        self.whole = self._with(task.m, {kt.VJP: "vjp_theta"})
        n, states = task.n, task.equations.n_states
        atol = np.where(np.arange(n) < states, 0.0, np.inf)
        self.control = native.make_control(task.options, atol, np.full(n, ADJOINT_FLOOR))
        # The quadrature bounds its own panels; steps are counted over all chunks.
        method = self.forward.method
        self.scratch = native.make_scratch(method, self.adjoint, n, self.compiled.work_size)
        self.chunk = native.make_store(method, n, CHUNK)
        points = min(max((task.options.tableau.embedded_order + 1) // 2, 1), 5)
        self.rule = gauss_kronrod(points)

    def _with(self, m: int, kernels: dict[int, str]) -> kt.Field:
        """Return the system with other products, for m parameters."""
        address = self.system.address.copy()
        for slot, name in kernels.items():
            address[slot] = self.compiled.address.get(name, 0)
        return self.system._replace(m=m, address=address)

    def compute(self, theta: Floats, z0: Floats | None) -> None:
        """Compute value and gradient, see `Runner`."""
        from symode.kernels.gradient import close_gradient, loss_value

        task, forward = self.task, self.forward
        y0 = begin(task, forward, self.compiled, theta, z0)
        forward.reset(y0, task.t0, task.t1)
        status = forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        loss_value(self.system, forward.observations, self.table, forward.scratch, self.gradient)
        check_loss(task, self.gradient, self.table)
        self.backward: Stats | None = None
        self.panels = self.halved = 0
        if forward.scratch.count[kt.STORED]:
            self._backward(theta, y0)
        close_gradient(
            self.system, self.table, task.t0, y0, forward.scratch, self.gradient, z0 is None
        )
        check_finite(task, self.gradient)

    def _backward(self, theta: Floats, y0: Floats) -> None:
        """Integrate lam from t1 to t0; add the integral to dJ/dtheta."""
        from symode.kernels.gradient import continuous_backward

        task, forward, scratch = self.task, self.forward, self.scratch
        stored = int(forward.scratch.count[kt.STORED])
        past = adjoint_system(self.adjoint, forward.method, forward.store, stored)
        count = scratch.count
        count[:] = 0
        scratch.y[:] = self.gradient.lam
        set_scales(task, forward, self.control, scratch, self.gradient, np.empty(0), 0)
        count[kt.NEXT_OBS] = count[kt.LEFT] = task.times.size
        scratch.clock[kt.T] = task.t1
        inner = task.times[self.table.n_start :]
        scratch.clock[kt.T_END] = inner[-1] if inner.size else task.t0
        self.gradient.scalars[kt.DRIFT] = 0.0
        quadrature = self._quadrature(past, theta, float(scratch.clock[kt.GROUP]))
        ones, driver, steps = np.ones(task.n), native.Driver(), 0
        while True:
            status = driver.run(
                lambda budget: continuous_backward(
                    forward.method, past, self.control, forward.observations, self.table, scratch,
                    self.chunk, 0, task.t0, y0, ones, self.gradient, budget,
                )
            )  # fmt: skip
            if status not in (SUCCESS, FULL):
                raise failed_backward(task, scratch, status, "Tighten the tolerances.")
            taken = int(count[kt.STEPS])
            steps += taken
            quadrature(taken)
            if status == SUCCESS:
                break
            if steps >= task.options.max_steps:
                raise failed_backward(task, scratch, MAX_STEPS, "Raise max_steps=.")
            count[kt.STEPS] = 0
        count[kt.STEPS] = steps
        self.gradient.lam[:] = scratch.y
        self.backward = Stats.of(task.options.tableau.name, count, driver.seconds)

    def _quadrature(self, past: kt.Adjoint, theta: Floats, floor: float) -> Callable[[int], None]:
        """Return what adds the integral over the steps in the chunk to dJ/dtheta."""
        from symode.kernels.quadrature import N_PLACE, ROOM, integrate_products

        task, forward = self.task, self.forward
        size = np.abs(task.chosen(theta))
        weight = np.where(size == 0.0, 1.0, size)
        memory = np.zeros((4, max(task.n, task.m, 1)))
        stack, place = np.zeros((ROOM, 2)), np.zeros(N_PLACE, dtype=np.int64)
        span = abs(task.t1 - task.t0)
        driver = native.Driver()
        # One panel a step at least, and the first of each long step.
        most = 4 * task.options.max_steps

        def add(steps: int) -> None:
            if not task.m:
                return
            place[:2] = 0
            status = driver.run(
                lambda budget: integrate_products(
                    forward.method, past, self.whole, self.chunk, steps, self.rule, self.scratch,
                    memory, stack, place, weight, task.options.rtol, floor, span, most, budget,
                    self.gradient.theta,
                )
            )  # fmt: skip
            self.panels, self.halved = int(place[2]), int(place[3])
            if status != SUCCESS:
                i = int(place[0])
                raise failed_backward(
                    task, self.scratch, status,
                    f"The integral of lam times df/dtheta near t = {self.chunk.t[i]:.6g} does not "
                    f"settle to rtol={task.options.rtol:g} ({self.halved} panels halved): it jumps "
                    "or oscillates there. Use DiscreteAdjoint, loosen rtol=, or raise max_steps=.",
                )  # fmt: skip

        return add

    def stats(self) -> dict[str, object]:
        """Return what the last call cost."""
        return {
            "method": "gauss",
            "forward": self.forward.stats,
            "backward": self.backward,
            "panels": self.panels,
            "halved": self.halved,
        }
