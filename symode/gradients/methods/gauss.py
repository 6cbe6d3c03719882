"""GaussAdjoint: lam by the adjoint ODE, the parameters' gradient by quadrature along it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.errors import GradientError
from symode.gradients.jumps import slopes_at_observations
from symode.gradients.methods.base import (
    Floats,
    check_finite,
    check_loss,
    failed_backward,
    failed_forward,
    make_forward,
)
from symode.gradients.methods.continuous import (
    ADJOINT_FLOOR,
    ContinuousRunner,
    over_jump,
    start_segment,
)
from symode.gradients.task import Task
from symode.gradients.unlocated import refuse_jumps
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.jumps import EventJump
from symode.solvers.kronrod import gauss_kronrod
from symode.solvers.options import SolverOptions
from symode.solvers.segments import Segment, Stepper
from symode.solvers.stats import SegmentStats, Stats
from symode.status import MAX_STEPS, SUCCESS, SWITCH

#: Bytes of backward steps kept for the quadrature, and the fewest steps: what a second-level cache
#: holds. They are read again at every jump of lam, or when there is no more room.
CHUNK_MEMORY, CHUNK = 2**18, 64
#: Estimated error that lam may have in one step, in rtol, in the scaled norm of the gradient: by
#: explicit pairs of high order, whose steps err less than their estimates, and by all others.
LAM_SHARE, HIGH = {True: 3.0, False: 1.0}, 5
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
        return GaussRunner(task.with_switches())


class _Along(NamedTuple):
    """The adjoint along segments of one method, and memory to integrate it."""

    adjoint: kt.Field
    whole: kt.Field
    control: kt.Control
    scratch: kt.Scratch
    chunk: kt.Store
    rows: Floats
    rule: Floats


class GaussRunner(ContinuousRunner):
    """A `GaussAdjoint` made ready for one task."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.compiled, self.system = self._build(task.options)
        self.forward = make_forward(
            task, self.compiled, self.system, keep=True, lazy=False, build=self._build,
            takes_events=True,
        )  # fmt: skip
        self.table = task.loss_table()
        self.gradient = task.gradient_arrays()
        # The quadrature bounds its own panels; steps are counted over all chunks.
        self.control = native.make_control(
            task.options, np.full(task.n, np.inf), np.full(task.n, ADJOINT_FLOOR),
            weight=np.zeros(task.n),
        )  # fmt: skip
        self._memory: dict[Stepper, _Along] = {}
        #: Segments crossed; None where one compiled function has run both passes.
        self._parts: list[tuple[Segment, NDArray[np.int64]]] | None = []
        self._size, self.z0 = np.ones(task.m), np.zeros(task.n)
        self._bound: tuple[kt.Store, bool, Callable[[int], int]] | None = None
        #: Whether both passes are one compiled function, unless the solve changes its method.
        self._at_once = (
            isinstance(self.forward.steppers[0].method, kt.Erk)
            and task.events is None
            and self.forward.stops is None
        )
        self._panel_memory = np.zeros((5, max(task.n, task.m, 1)))
        self._driver = native.Driver()
        self._progress, self._place = np.zeros(kt.N_PROGRESS), np.zeros(kt.N_PLACE, dtype=np.int64)

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
            capacity = max(CHUNK_MEMORY // step, CHUNK)
            points = min(max((stepper.tableau.embedded_order + 3) // 2, 2), 5)
            whole = with_kernels(self.task.m, {kt.VJP: "vjp_theta"})
            self._memory[stepper] = _Along(
                adjoint,
                whole,
                self._control(stepper),
                native.make_scratch(stepper.method, whole, n, compiled.work_size),
                native.make_store(stepper.method, n, capacity),
                np.zeros((stepper.method.dense.shape[1], n)),
                gauss_kronrod(points),
            )
        return self._memory[stepper]

    def _control(self, stepper: Stepper) -> kt.Control:
        """Return what the steps of lam obey: by any method the same sizes, once they are known."""
        high = not stepper.tableau.implicit and stepper.tableau.order >= HIGH
        return self.control._replace(rtol=LAM_SHARE[high] * self.task.options.rtol)

    def compute(self, theta: Floats, z0: Floats | None) -> None:
        """Compute value and gradient, see `Runner`."""
        np.abs(self.task.chosen(theta), out=self._size)
        if not self._size.all():
            self._size[self._size == 0.0] = 1.0
        if self._at_once:
            self._both(theta, z0)
        else:
            y0 = self.run_forward(theta, z0)
            self._backward(y0, z0 is None)
        check_finite(self.task, self.gradient)

    def _both(self, theta: Floats, z0: Floats | None) -> None:
        """Run both passes by their address."""
        task, forward, driver = self.task, self.forward, self._driver
        refuse_jumps(task, theta, z0)
        if forward.closed:
            forward.rewind(task.t0)
        self.system.p[: theta.size] = theta
        if z0 is not None:
            self.z0[: task.equations.n_states] = z0
            self.z0[task.equations.n_states :] = 0.0
        forward.scratch.count[kt.PHASE] = 0
        forward.scratch.clock[kt.H_TRIED] = np.nan
        status = forward.driver.run(lambda budget: self._bind(z0 is None)(budget))
        if status == SWITCH:
            forward.switch()
            status = forward.run()
        if status != SUCCESS:
            raise failed_forward(task, forward, status)
        if forward.closed:
            self._backward(self.z0, z0 is None)
            return
        driver.seconds = 0.0
        self._parts = None
        scratch = self._along(forward.stepper).scratch
        self._judge(driver.run(self._bind(z0 is None)), scratch)
        clock = scratch.clock
        self._check_share(float(clock[kt.GROUP]), min(1.0, 10.0 * float(clock[kt.WORST])))

    def _bind(self, from_initial: bool) -> Callable[[int], int]:
        """Return both passes, bound to the memory of the forward pass."""
        from symode.kernels.gauss_entry import BoundGauss

        forward, task = self.forward, self.task
        bound = self._bound
        if bound is None or bound[0] is not forward.store or bound[1] != from_initial:
            along = self._along(forward.stepper)
            arguments = (
                forward.method, self.system, along.whole, along.adjoint, forward.control,
                along.control, forward.store, along.chunk, forward.observations, self.table,
                forward.scratch, along.scratch, self.gradient, along.rule, self._panel_memory,
                along.rows, self._progress, self._place, self._size, self.z0, task.options.atol,
                float(task.options.rtol), 4 * task.options.max_steps, task.t0, task.t1,
                from_initial,
            )  # fmt: skip
            bound = self._bound = forward.store, from_initial, BoundGauss(*arguments)
        return bound[2]

    def _backward(self, y0: Floats, from_initial: bool) -> None:
        """Evaluate the loss; integrate lam from t1 to t0, and a§3 along it; close the gradient."""
        forward, driver = self.forward, self._driver
        y, before, norm, worst = forward.scratch.y, None, 0.0, 0.0
        # A driver that is kept enters kernels for as long as it found it may.
        driver.seconds = 0.0
        self.gradient.scalars[kt.DRIFT] = 0.0
        self._place[:] = 0
        self._progress[:] = 0.0
        self._panel_memory[4] = 0.0
        self._parts = parts = []
        segments = forward.end()
        for segment in reversed(segments):
            scratch = self._along(segment.stepper).scratch
            if isinstance(segment.jump, EventJump):
                y = self._jump(segment, y)
            start_segment(segment, self.task, scratch, y, before)
            if before is None:
                scratch.clock[kt.WORST] = 0.0
            ends = y0, segment is segments[0], from_initial
            self._cross(segment, forward.scratch.peak, ends)
            if before is None:
                # The pass has evaluated the loss.
                slopes_at_observations(self.task, forward, self.table)
            norm = max(norm, float(scratch.clock[kt.GROUP]))
            worst = max(worst, float(scratch.clock[kt.WORST]))
            parts.append((segment, scratch.count.copy()))
            y, before = scratch.y.copy(), scratch
        self._check_share(norm, min(1.0, 10.0 * worst))

    def _jump(self, segment: Segment, y: Floats) -> Floats:
        """Return lam before the jump at the end of a segment."""
        task, earlier = self.task, self.gradient.theta.copy()
        y = over_jump(task, self.forward, segment, self.table, self.gradient, y, 0)
        # What a jump adds is a part of dJ/dtheta like any other.
        self._panel_memory[4, : task.m] += np.abs(self.gradient.theta - earlier)
        return y

    @property
    def backward(self) -> Stats:
        """What the last backward pass cost."""
        crossed = self._parts
        if crossed is None:
            segment = self.forward.segments[0]
            crossed = [(segment, self._along(segment.stepper).scratch.count.copy())]
        parts = []
        for segment, count in crossed:
            count[kt.STEPS] += count[kt.BEFORE]
            count[kt.BEFORE] = 0
            name = segment.stepper.tableau.name
            end = "the start of the segment"
            parts.append(SegmentStats.of(name, segment.t1, segment.t0, count, end))
        return Stats.over(tuple(parts), self._driver.seconds, "the methods of the forward pass")

    def _check_share(self, norm: float, used: float) -> None:
        """Raise where the integral is too small a share of what lam is held to.

        lam may err by about rtol times the norm of the gradient in theta and z0 together, of which
        the steps have ``used`` a part: next to nothing of it on a span of 1e-9. Where the
        initial values move the loss ten million times more than the parameters do, as over ten
        decades of a stiff relaxation, that is more than all of dJ/dtheta. The sizes of the parts
        count, not their sum: a gradient that vanishes at an optimum is not refused.
        """
        task = self.task
        sizes = self._panel_memory[4, : task.m] * self._size
        parts = math.sqrt(sizes @ sizes)
        lost = task.options.rtol * norm * used
        if parts > 0.0 and lost > MOST_LOST * parts:
            raise GradientError(
                f"The parameters move the loss {norm / parts:.1e} times less than the initial "
                f"values do, to which lam is held: at rtol={task.options.rtol:g} dJ/dtheta may be "
                f"wrong by {min(lost / parts, 1.0):.0%}. Use DiscreteAdjoint, or tighten rtol=."
            )

    def _cross(self, segment: Segment, peak: Floats, ends: tuple[Floats, bool, bool]) -> None:
        """Integrate lam, and a§3 along it, over one segment of the forward pass."""
        from symode.kernels.gauss import gauss_backward

        task, options = self.task, self.task.options
        place, progress = self._place, self._progress
        along, scratch = self._along(segment.stepper), self._along(segment.stepper).scratch
        place[[kt.STRETCH, kt.AT, kt.BEGUN, kt.FORMED]] = 0
        progress[kt.REACHED] = segment.t1
        past = kt.ADJOINT_OF[type(segment.method)](
            *along.adjoint, segment.method, segment.store, segment.steps
        )
        span, most, (y0, last, from_initial) = (
            abs(task.t1 - task.t0),
            4 * task.options.max_steps,
            ends,
        )
        status = self._driver.run(
            lambda budget: gauss_backward(
                segment.method, past, along.whole, along.control, self.forward.observations,
                self.table, scratch, along.chunk, along.rule, self._panel_memory, along.rows,
                progress, place, peak, y0, options.atol, self._size, options.rtol, span, most,
                segment.t0, last, from_initial, self.gradient, budget,
            )
        )  # fmt: skip
        self._judge(status, scratch)

    def _judge(self, status: int, scratch: kt.Scratch) -> None:
        """Raise where a backward pass has failed."""
        task, place, progress = self.task, self._place, self._progress
        if status == SUCCESS:
            return
        t = float(scratch.clock[kt.T])
        if place[kt.STRETCH] == -1:
            check_loss(task, self.gradient, self.table)
        if place[kt.STRETCH] <= 0:
            advice = "Raise max_steps=." if status == MAX_STEPS else "Tighten the tolerances."
            raise failed_backward(task, t, status, advice)
        raise failed_backward(
            task, t, status,
            f"The integral of lam times df/dtheta near t = {progress[kt.REACHED]:.6g} does not "
            f"settle to rtol={task.options.rtol:g} ({place[kt.HALVED]} panels halved): it jumps "
            "or oscillates there. Use DiscreteAdjoint, loosen rtol=, or raise max_steps=.",
        )  # fmt: skip

    def stats(self) -> dict[str, object]:
        """Return what the last call cost."""
        return {
            "method": "gauss",
            "forward": self.forward.stats,
            "backward": self.backward,
            "panels": int(self._place[kt.PANELS]),
            "halved": int(self._place[kt.HALVED]),
        }
