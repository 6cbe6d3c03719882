"""GaussAdjoint: lam by the adjoint ODE, the parameters' gradient by quadrature along it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from symode.codegen.compiled import NativeModel
from symode.errors import GradientError
from symode.gradients.methods.base import (
    Floats,
    failed_backward,
    make_forward,
)
from symode.gradients.methods.continuous import (
    ADJOINT_FLOOR,
    LOSS_FLOOR,
    ROUNDING_FLOOR,
    ContinuousRunner,
    start_segment,
)
from symode.gradients.methods.interpolating import adjoint_system
from symode.gradients.task import Task
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.kronrod import gauss_kronrod
from symode.solvers.options import SolverOptions
from symode.solvers.segments import Segment, Stepper
from symode.solvers.stats import SegmentStats, Stats
from symode.status import FULL, MAX_STEPS, SUCCESS

#: Backward steps kept between two calls of the quadrature; 256 where they take more bytes.
CHUNK, CHUNK_MEMORY = 1024, 2**22
#: Share of rtol that lam may miss in one step, in the scaled norm of the gradient. With 1 the error
#: on network_20 begins to grow (7.0e-7 to 7.6e-7); with 0.1 there are a third more steps.
LAM_SHARE = 0.5
#: Share of dJ/dtheta that the error of lam may cost before the gradient is refused.
MOST_LOST = 0.03


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

    lam is held to rtol of the gradient in theta and z0 together: where the parameters move the loss
    less than some 30 rtol times what the initial values do (Robertson's problem to t = 4e10 at rtol
    1e-8), dJ/dtheta would drown in its error, and is refused.

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


class _Along(NamedTuple):
    """The adjoint along segments of one method, and memory to integrate it."""

    adjoint: kt.Field
    whole: kt.Field
    scratch: kt.Scratch
    chunk: kt.Store
    rule: Floats


class GaussRunner(ContinuousRunner):
    """A `GaussAdjoint` made ready for one task."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.compiled, self.system = self._build(task.options)
        self.forward = make_forward(
            task, self.compiled, self.system, keep=True, lazy=False, build=self._build
        )
        self.table = task.loss_table()
        self.gradient = task.gradient_arrays()
        # The quadrature bounds its own panels; steps are counted over all chunks.
        self.control = native.make_control(
            task.options, np.full(task.n, np.inf), np.full(task.n, ADJOINT_FLOOR),
            weight=np.zeros(task.n), rtol=LAM_SHARE * task.options.rtol,
        )  # fmt: skip
        self._memory: dict[Stepper, _Along] = {}
        self._panel_memory = np.zeros((5, max(task.n, task.m, 1)))
        self._drivers = native.Driver(), native.Driver()

    def _build(self, options: SolverOptions) -> tuple[NativeModel, kt.Field]:
        """Return model and system for the method of these options."""
        names = ["rhs", "vjp_z", "vjp_theta", *options.jacobian_kernels("second_z")]
        compiled = self.task.compile(names)
        return compiled, self.task.bind(compiled, options.is_stiff)

    def _along(self, stepper: Stepper) -> _Along:
        """Return what the backward pass along segments of a method needs."""
        if stepper not in self._memory:
            compiled, n = stepper.compiled or self.compiled, self.task.n
            system = native.field_of(stepper.system)

            def with_kernels(m: int, kernels: dict[int, str]) -> kt.Field:
                address = system.address.copy()
                for slot, name in kernels.items():
                    address[slot] = compiled.address.get(name, 0)
                return system._replace(m=m, address=address)

            adjoint = with_kernels(0, {kt.VJP: "vjp_z", kt.SECOND: "second_z"})
            step = 8 * n * (stepper.method.n_dense + 1)
            capacity = CHUNK if CHUNK * step <= CHUNK_MEMORY else 256
            points = min(max((stepper.tableau.embedded_order + 1) // 2, 1), 5)
            self._memory[stepper] = _Along(
                adjoint,
                with_kernels(self.task.m, {kt.VJP: "vjp_theta"}),
                native.make_scratch(stepper.method, adjoint, n, compiled.work_size),
                native.make_store(stepper.method, n, capacity),
                gauss_kronrod(points),
            )
        return self._memory[stepper]

    def compute(self, theta: Floats, z0: Floats | None) -> None:
        """Compute value and gradient, see `Runner`."""
        y0 = self.solve(theta, z0)
        self._backward(theta, y0)
        self.close(y0, z0)

    def _backward(self, theta: Floats, y0: Floats) -> None:
        """Integrate lam from t1 to t0; add the integral to dJ/dtheta."""
        task, forward = self.task, self.forward
        y, before, floor, norm = self.gradient.lam.copy(), None, 0.0, 0.0
        driver, parts = self._drivers[0], []
        # A driver that is kept enters kernels for as long as it found it may.
        driver.seconds = 0.0
        self.gradient.scalars[kt.DRIFT] = 0.0
        self.panels = self.halved = 0
        self._panel_memory[4] = 0.0
        for segment in reversed(forward.end()):
            along = self._along(segment.stepper)
            scratch = along.scratch
            start_segment(segment, task, scratch, y, before)
            if before is None:
                floor = self._set_scales(scratch, y0)
            self._cross(segment, along, theta, floor, driver)
            norm = max(norm, float(scratch.clock[kt.GROUP]))
            name = segment.stepper.tableau.name
            end = "the start of the segment"
            parts.append(SegmentStats.of(name, segment.t1, segment.t0, scratch.count, end))
            y, before = scratch.y.copy(), scratch
        self.gradient.lam[:] = y
        self._check_share(theta, norm)
        self.backward = Stats.over(tuple(parts), driver.seconds, "the methods of the forward pass")

    def _check_share(self, theta: Floats, norm: float) -> None:
        """Raise where the integral is too small a share of what lam is held to.

        lam may err by about rtol times the norm of the gradient in theta and z0 together. Where the
        initial values move the loss ten million times more than the parameters do, as over ten
        decades of a stiff relaxation, that is more than all of dJ/dtheta. The sizes of the parts
        count, not their sum: a gradient that vanishes at an optimum is not refused.
        """
        task = self.task
        scale = np.abs(task.chosen(theta))
        scale[scale == 0.0] = 1.0
        parts = float(np.linalg.norm(self._panel_memory[4, : task.m] * scale))
        lost = task.options.rtol * norm
        if parts > 0.0 and lost > MOST_LOST * parts:
            raise GradientError(
                f"The parameters move the loss {norm / parts:.1e} times less than the initial "
                f"values do, to which lam is held: at rtol={task.options.rtol:g} dJ/dtheta may be "
                f"wrong by {min(lost / parts, 1.0):.0%}. Use DiscreteAdjoint, or tighten rtol=."
            )

    def _set_scales(self, scratch: kt.Scratch, y0: Floats) -> float:
        """Set what counts as the size of lam; return the smallest norm of a gradient that does.

        An error e of lam moves the gradient by the product of e and of the tangents of z, so its
        components count in the size of the states, together. One whose state starts at 0 is dJ/dz0
        in units of 1, whatever the state does later: it is held to rtol of its own size too.
        """
        task, forward, control = self.task, self.forward, self.control
        states, n, options = task.equations.n_states, task.n, task.options
        weights = np.abs(self.gradient.lam[states:])
        loss = float(self.gradient.scalars[kt.SIZE])
        loss += float(weights @ forward.scratch.peak[states:n])
        floor = max(LOSS_FLOOR, ROUNDING_FLOOR / options.rtol) * loss
        size = forward.scratch.peak[:states] + options.atol / options.rtol
        size[size == 0.0] = 1.0
        apart = y0[:states] == 0.0
        control.weight[:states] = size
        control.atol[:states] = np.where(apart, options.rtol * floor / size, np.inf)
        scratch.clock[kt.GROUP] = scratch.clock[kt.GROUP_FLOOR] = floor
        return floor

    def _cross(
        self, segment: Segment, along: _Along, theta: Floats, floor: float, driver: native.Driver
    ) -> None:
        """Integrate lam over one segment of the forward pass, in chunks; add their integrals."""
        from symode.kernels.gradient import continuous_backward

        task, scratch = self.task, along.scratch
        past = adjoint_system(along.adjoint, segment.method, segment.store, segment.steps)
        quadrature = self._quadrature(segment, along, past, theta, floor)
        count, z0, ones, steps = scratch.count, segment.start[: task.n], np.ones(task.n), 0
        while True:
            status = driver.run(
                lambda budget: continuous_backward(
                    segment.method, past, self.control, self.forward.observations, self.table,
                    scratch, along.chunk, 0, segment.t0, z0, ones, self.gradient, budget,
                )
            )  # fmt: skip
            if status not in (SUCCESS, FULL):
                t = float(scratch.clock[kt.T])
                raise failed_backward(task, t, status, "Tighten the tolerances.")
            taken = int(count[kt.STEPS])
            steps += taken
            quadrature(taken)
            if status == SUCCESS:
                break
            if steps >= task.options.max_steps:
                t = float(scratch.clock[kt.T])
                raise failed_backward(task, t, MAX_STEPS, "Raise max_steps=.")
            count[kt.STEPS], count[kt.OPENING] = 0, -1
        count[kt.STEPS] = steps

    def _quadrature(
        self, segment: Segment, along: _Along, past: kt.Adjoint, theta: Floats, floor: float
    ) -> Callable[[int], None]:
        """Return what adds the integral over the steps in the chunk to dJ/dtheta."""
        from symode.kernels.quadrature import N_PLACE, ROOM, integrate_products

        task, before = self.task, (self.panels, self.halved)
        size = np.abs(task.chosen(theta))
        weight = np.where(size == 0.0, 1.0, size)
        memory = self._panel_memory
        stack, place = np.zeros((ROOM, 2)), np.zeros(N_PLACE, dtype=np.int64)
        span = abs(task.t1 - task.t0)
        driver = self._drivers[1]
        # One panel a step at least, and the first of each long step.
        most = 4 * task.options.max_steps

        def add(steps: int) -> None:
            if not task.m:
                return
            place[:2] = 0
            status = driver.run(
                lambda budget: integrate_products(
                    segment.method, past, along.whole, along.chunk, steps, along.rule,
                    along.scratch, memory, stack, place, weight, task.options.rtol, floor, span,
                    most, budget,
                    self.gradient.theta,
                )
            )  # fmt: skip
            self.panels, self.halved = before[0] + int(place[2]), before[1] + int(place[3])
            if status != SUCCESS:
                i = int(place[0])
                raise failed_backward(
                    task, float(along.scratch.clock[kt.T]), status,
                    f"The integral of lam times df/dtheta near t = {along.chunk.t[i]:.6g} does not "
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
