"""Second order: Hessian-vector products and Hessians of a loss, exact to the solver's tolerance."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symode.codegen.reference import evaluate
from symode.equations.checks import non_smooth_constructs
from symode.equations.loss import LeastSquares, LossLike
from symode.equations.values import Named
from symode.equations.vector_loss import VectorLoss
from symode.errors import (
    GradientError,
    OptionError,
    UnknownNameError,
    UnsupportedCombinationError,
)
from symode.gradients.directional import DirectionalTask
from symode.gradients.methods import DiscreteAdjoint, GradientMethod
from symode.gradients.methods.base import Runner
from symode.gradients.methods.watched import WatchedRunner
from symode.gradients.rows import RowsMethod, prepare_rows
from symode.gradients.rows_task import RowsTask
from symode.gradients.task import Task
from symode.solvers.forward import HeldDownError
from symode.symbolic.switches import Switches, find_switches

if TYPE_CHECKING:
    from symode.gradients.pack import Layout

Floats = NDArray[np.float64]


class HessianProduct:
    r"""The product of the Hessian of a task's loss with a direction: reverse over forward.

    .. math:: H v = \nabla J'(\theta, z_0; v)

    The directional derivative J' is a functional of z and its tangent s along v; its gradient, by
    any method, is the product. With a method that differentiates computed steps they are those of
    J, and s does not count in the error norm: the result is, to rounding, the derivative of the
    computed gradient, and symmetric. Other methods hold s to the tolerances of z. So does this one
    where stability holds the steps of an explicit solver down, see `HeldDownError`: steps at the
    edge, right for z, may amplify s without bound (Robertson's problem to t = 1 at rtol 1e-6: a
    product 23 times its size wrong, then 4e-6). It is then symmetric to the tolerance only.

    Cost: s moves with z, and the backward pass sees both: about two gradients.

    Where f has a kink, its second derivative has a part that acts at the instant of crossing and
    is not computed: a trajectory that crosses one at a time which parameters move is refused.

    Parameters
    ----------
    task
        The loss, and the parameters and initial values of the Hessian (``asked``).
    method
        The method of the gradient of J'.
    """

    def __init__(self, task: Task, method: GradientMethod) -> None:
        self.base = task
        # Whoever watches zeros differentiates computed steps.
        self.method, self.frozen = method, DirectionalTask.of(task, frozen=True)
        self.runner: Runner = method.prepare(self.frozen)
        if not isinstance(self.runner, WatchedRunner):
            self.runner = self.counted
        self.switches = find_switches(task.field.graph)
        self._smooth_at: tuple[bytes, bytes] | None = None
        #: What computed the last product.
        self.used = self.runner

    @cached_property
    def counted(self) -> Runner:
        """What holds the tangent to the tolerances of z."""
        task = DirectionalTask.of(self.base, frozen=False)
        return self.method.prepare(self.frozen.sharing_kernels_with(task))

    def __call__(
        self, theta: Floats, z0: Floats | None, v_theta: Floats, v_z0: Floats
    ) -> tuple[Floats, Floats]:
        r"""Return the products in theta and z0.

        Parameters
        ----------
        theta, z0
            The point, whole; z0 is None where it comes from the model's initial values.
        v_theta, v_z0
            The direction: of the parameters asked for, and of all initial values.

        Raises
        ------
        SolverError, GradientError
            When a pass fails, or the trajectory crosses a kink.
        """
        if self.switches is not None:
            self._check_kinks(self.switches, theta, z0)
        base, states = self.base, self.base.equations.n_states
        start = np.zeros(states) if z0 is None else z0
        size = np.abs(np.concatenate([base.chosen(theta), start]))
        size[size == 0.0] = 1.0
        # The product is linear in v, the tolerances of s are not: a direction of relative size 1.
        unit = float(np.max(np.abs(np.concatenate([v_theta, v_z0])) / size, initial=0.0))
        if unit == 0.0:
            return np.zeros(base.m), np.zeros(states)
        y0 = None if z0 is None else np.concatenate([z0, v_z0 / unit])
        point = np.concatenate([theta, v_theta / unit])
        runner = self.used = self.runner
        try:
            runner.compute(point, y0)
        except HeldDownError:
            runner = self.used = self.counted
            runner.compute(point, y0)
        found = runner.gradient
        return found.theta * unit, found.lam[:states] * unit

    def _check_kinks(self, switches: Switches, theta: Floats, z0: Floats | None) -> None:
        """Pass if the trajectory stays on one side of each kink; look once at each point."""
        from symode.gradients.verify.frozen import base_solve

        point = (theta.tobytes(), b"" if z0 is None else z0.tobytes())
        if point == self._smooth_at:
            return
        forward = base_solve(self.base, DiscreteAdjoint(), theta, z0)
        kept = [(segment.store, segment.steps + 1) for segment in forward.segments]
        t = np.concatenate([store.t[:count] for store, count in kept])
        z = np.concatenate([store.z[:count] for store, count in kept])
        values = evaluate(switches.graph, t, z.T, theta)
        values = np.array([np.broadcast_to(row, t.shape) for row in values])
        signs, steps = values[: switches.n_signs], values[switches.n_signs :]
        turned = (signs.max(axis=1) > 0.0) & (signs.min(axis=1) < 0.0)
        stepped = steps.max(axis=1) != steps.min(axis=1)
        if turned.any() or stepped.any():
            constructs = ", ".join(non_smooth_constructs(self.base.equations))
            raise GradientError(
                "The trajectory crosses a kink or a jump, at a time that depends on parameters or "
                f"initial values{': ' + constructs if constructs else ''}. The second derivative "
                "has a part that acts at this instant, which is not computed. Use differences of "
                "gradients, or a smooth function."
            )
        self._smooth_at = point


class SecondOrder:
    """Second derivatives of a `ValueAndGrad`, as functions of its flat vector."""

    if TYPE_CHECKING:
        layout: Layout
        task: Task
        method: GradientMethod
        loss: LossLike
        automatic: bool
        _local: threading.local

        def _split(self, point: Any) -> tuple[Floats, Floats | None, dict[str, Any]]: ...

    def hvp(self, point: Any, direction: Any) -> Floats:
        r"""Return the product of the Hessian at a flat vector with a direction.

        Ready for ``scipy.optimize.minimize(vg, point, jac=True, hessp=vg.hvp)`` with the methods
        ``"Newton-CG"``, ``"trust-ncg"``, ``"trust-krylov"`` and ``"trust-constr"``.

        Parameters
        ----------
        point, direction
            In the order of ``wrt``. Shape ``(p,)``.

        Raises
        ------
        SolverError, GradientError
            When a pass fails.
        UnsupportedCombinationError
            Where ``wrt`` holds times, or the point a batch.

        Examples
        --------
        >>> import sympy as sp, symode
        >>> x, k = sp.symbols("x k")
        >>> model = symode.Model({x: -k * x}, parameters=[k])
        >>> vg = model.value_and_grad(symode.Loss(terminal=x), t1=1.0)
        >>> vg.hvp(vg.pack(theta=[0.7], z0=[2.0]), [1.0, 0.0]).round(6)  # of z0 exp(-k t)
        array([ 0.993171, -0.496585])
        """
        theta, z0, product = self._product(point)
        v = np.asarray(direction, dtype=float)
        if v.shape != (self.layout.size,) or not np.isfinite(v).all():
            raise OptionError(
                f"The direction must be {self.layout.size} finite numbers, one for each of "
                f"{', '.join(self.layout.names)}; got {direction!r}."
            )
        return self._column(product, theta, z0, v)

    def hessian(self, point: Any) -> Floats:
        """Return the Hessian at a flat vector. Shape ``(p, p)``, symmetric.

        One product for each column, and the mean with the transpose. Ready for
        ``scipy.optimize.minimize(vg, point, jac=True, hess=vg.hessian)`` with the methods
        ``"trust-exact"``, ``"dogleg"`` and ``"trust-constr"``.

        Raises
        ------
        SolverError, GradientError, UnsupportedCombinationError
            As `hvp`.

        Examples
        --------
        >>> import sympy as sp, symode
        >>> x, k = sp.symbols("x k")
        >>> model = symode.Model({x: -k * x}, parameters=[k])
        >>> vg = model.value_and_grad(symode.Loss(terminal=x), t1=1.0)
        >>> vg.hessian(vg.pack(theta=[0.7], z0=[2.0])).round(6)
        array([[ 0.993171, -0.496585],
               [-0.496585,  0.      ]])
        """
        matrix = self.columns(point)
        return 0.5 * (matrix + matrix.T)

    @property
    def product_method(self) -> GradientMethod:
        """The method of Hessian-vector products."""
        # Of few directions, forward sensitivities may have been chosen for the gradient.
        return DiscreteAdjoint() if self.automatic else self.method

    def columns(self, point: Any) -> Floats:
        """Return the products with all unit vectors: the Hessian before it is made symmetric."""
        theta, z0, product = self._product(point)
        units = np.eye(self.layout.size)
        return np.array([self._column(product, theta, z0, v) for v in units]).T

    def residuals(self, point: Any) -> tuple[Floats, Floats]:
        r"""Return the residuals of least squares, and their Jacobian, at a flat vector.

        .. math:: r_{ij} = \sqrt{w_{ij}}\,(h_j(z(t_i)) - d_{ij}), \qquad J = \sum r_{ij}^2

        Time by time, missing values left out. From one forward pass: with tangents, or transposed
        for each residual, whichever is cheaper.

        Returns
        -------
        residuals, jacobian
            Shapes ``(K,)`` and ``(K, p)``, columns in the order of ``wrt``.

        Raises
        ------
        UnsupportedCombinationError
            When the loss is no `LeastSquares`.

        Examples
        --------
        >>> import sympy as sp, symode
        >>> x, k = sp.symbols("x k")
        >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
        >>> vg = model.value_and_grad(symode.LeastSquares([1.0, 2.0], [[1.0], [0.6]]), "theta")
        >>> r, jacobian = vg.residuals([0.7])
        >>> r.round(6).tolist(), jacobian.round(6).tolist()
        ([-0.006829, -0.106806], [[-0.993171], [-0.986388]])
        """
        theta, z0 = self._at(point)
        compute: RowsMethod | None = getattr(self._local, "rows", None)
        if compute is None:
            if not isinstance(self.loss, LeastSquares):
                raise UnsupportedCombinationError(
                    "Residuals are those of a LeastSquares; the loss is a "
                    f"{type(self.loss).__name__}. For several losses use Model.jacobian."
                )
            rows = VectorLoss.residuals(self.loss).resolve(self.task.equations)
            compute, _ = prepare_rows(RowsTask.of(self.task, rows), "auto")
            self._local.rows = compute
        found = compute(theta, z0)
        columns = [
            found.theta[:, part.among] if part.kind == "theta" else found.z0[:, part.places]
            for part in self.layout.parts
        ]
        return found.values, np.hstack(columns)

    def gauss_newton(self, point: Any) -> Floats:
        r"""Return the Gauss-Newton matrix :math:`2 R^\top R` of least squares at a flat vector.

        R is the Jacobian of the residuals: the Hessian without the curvature of the residuals,
        never indefinite, and the Fisher information of data with normal errors of variance 1/2.
        Ready for ``hess=vg.gauss_newton``. Shape ``(p, p)``.

        Raises
        ------
        UnsupportedCombinationError
            When the loss is no `LeastSquares`.

        Examples
        --------
        >>> import sympy as sp, symode
        >>> x, k = sp.symbols("x k")
        >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
        >>> vg = model.value_and_grad(symode.LeastSquares([1.0, 2.0], [[1.0], [0.6]]), "theta")
        >>> vg.gauss_newton([0.7]).round(6)
        array([[3.918698]])
        """
        _, rows = self.residuals(point)
        return np.asarray(2.0 * rows.T @ rows)

    def _at(self, point: Any) -> tuple[Floats, Floats | None]:
        layout = self.layout
        kinds = {part.kind for part in layout.parts} - {"theta", "z0"}
        if kinds:
            raise UnsupportedCombinationError(
                "Second derivatives are in parameters and initial values; wrt also holds "
                f"{', '.join(sorted(kinds))}. Leave it out, or use differences of gradients."
            )
        theta, z0, _ = self._split(point)
        if z0 is not None and z0.ndim == 2:
            raise UnsupportedCombinationError(
                "Second derivatives are those of one trajectory; z0 is a batch."
            )
        return theta, z0

    def _product(self, point: Any) -> tuple[Floats, Floats | None, HessianProduct]:
        theta, z0 = self._at(point)
        product: HessianProduct | None = getattr(self._local, "product", None)
        if product is None:
            product = self._local.product = HessianProduct(self.task, self.product_method)
        return theta, z0, product

    def _column(
        self, product: HessianProduct, theta: Floats, z0: Floats | None, v: Floats
    ) -> Floats:
        v_theta, v_z0 = np.zeros(self.task.m), np.zeros(self.task.equations.n_states)
        for part in self.layout.parts:
            if part.kind == "theta":
                v_theta[part.among] = v[part.at]
            else:
                v_z0[part.places] = v[part.at]
        dtheta, dz0 = product(theta, z0, v_theta, v_z0)
        result = np.empty(v.size)
        for part in self.layout.parts:
            result[part.at] = dtheta[part.among] if part.kind == "theta" else dz0[part.places]
        return result


@dataclass(frozen=True, eq=False)
class Hessian:
    """Value, gradient and second derivatives of a loss, by name.

    Parameters
    ----------
    value
        J.
    gradient
        In the order asked for. Shape ``(p,)``.
    matrix
        Second derivatives, symmetric. Shape ``(p, p)``.
    stats
        Method, and ``asymmetry``: the largest difference between an entry and its mirror image
        before they were averaged, in units of the largest entry, each scaled by the sizes of its
        parameters. A measure of accuracy for methods other than those of computed steps, whose
        products are symmetric to rounding.
    """

    value: float
    gradient: Named
    matrix: Floats
    stats: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of rows and columns."""
        return self.gradient.names

    def __getitem__(self, pair: tuple[Any, Any]) -> float:
        """Return one entry by two names, symbols or positions."""
        i, j = (self._place(key) for key in pair)
        return float(self.matrix[i, j])

    def _place(self, key: Any) -> int:
        if isinstance(key, int):
            return key
        name = str(key)
        names = [n.removesuffix("(t0)") for n in self.names]
        if name in self.names:
            return self.names.index(name)
        if name in names:
            return names.index(name)
        raise UnknownNameError(f"{key} is none of {', '.join(self.names)}.")

    def __repr__(self) -> str:
        """Return the matrix with its names."""
        width = max(12, *(len(name) + 1 for name in self.names))
        head = " " * width + "".join(name.rjust(width) for name in self.names)
        rows = [
            name.ljust(width) + "".join(f"{v:.5g}".rjust(width) for v in row)
            for name, row in zip(self.names, self.matrix, strict=True)
        ]
        return "\n".join(["Hessian", head, *rows])


def asymmetry_of(matrix: Floats, point: Floats) -> float:
    """Return the largest |H_ij - H_ji| s_i s_j over the largest |H_ij| s_i s_j, s = |point|."""
    size = np.abs(point)
    size[size == 0.0] = 1.0
    scaled = matrix * np.outer(size, size)
    top = float(np.max(np.abs(scaled), initial=0.0))
    return float(np.max(np.abs(scaled - scaled.T))) / top if top else 0.0
