r"""Rest: conditions that start from the steady state of another, and its derivatives.

The state at rest :math:`z^*(\theta)` solves :math:`f(z^*, \theta) = 0` and keeps every conserved
total :math:`W^\top z^* = W^\top z_0(\theta)`, where the columns of W span
:math:`\{w : w^\top f \equiv 0\}`. By the implicit function theorem

.. math:: \begin{pmatrix} f_z \\ W^\top \end{pmatrix} \frac{dz^*}{d\theta}
          = \begin{pmatrix} -f_\theta \\
            W^\top \, dz_0/d\theta + (dW/d\theta)^\top (z_0 - z^*) \end{pmatrix}

in which as many rows of :math:`f_z` are redundant as there are totals; they are left out.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from symode.codegen.backends import compile_kernels
from symode.codegen.compiled import NativeModel
from symode.equations.equations import Equations
from symode.errors import OptionError, SolverError
from symode.problems.conditions import ParameterMap
from symode.solvers import native as solver
from symode.solvers.forward import Forward
from symode.solvers.integrate import solver_error
from symode.solvers.options import DEFAULT_STIFF, SolverOptions, make_options
from symode.status import SUCCESS
from symode.symbolic.derive import FIELD_KERNELS, linear_kernels
from symode.symbolic.lift import lift_field, lift_initial

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Spans of simulation after which rest is looked for, each from where the last one ended.
SPANS: Final = tuple(10.0**k for k in range(1, 13))
#: How far Newton's method may move the simulated state, relative to it: else it may have found
#: another steady state than the one the trajectory goes to.
FAR: Final = 1e-3
#: A Newton step below this, relative to the state, is rounding.
ROUNDING: Final = 1e-13
#: Singular values below this share of the largest belong to what is conserved.
SAME: Final = 1e-12
#: Steps on the way through one span.
MAX_STEPS: Final = 20_000
#: Steady states kept, for the conditions that share them.
KEPT: Final = 16


@dataclass(frozen=True, eq=False)
class Totals:
    r"""What f conserves: :math:`W^\top z`.

    Parameters
    ----------
    w
        W, shape ``(n, c)``.
    left_out
        The rows of f that it makes redundant. Shape ``(c,)``.
    slopes
        :math:`dW/d\theta_j`, shape ``(m, n, c)``: from :math:`W^\top f = 0`,
        :math:`(dW/d\theta)^\top f = -W^\top f_\theta` at every state.
    """

    w: Floats
    left_out: Ints
    slopes: Floats

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.w.shape[1])

    def same_as(self, other: Totals) -> bool:
        """Whether both are combinations of each other."""
        if self.count != other.count:
            return False
        if not self.count:
            return True
        joint = np.linalg.svd(np.hstack([self.w, other.w]), compute_uv=False)
        return bool(np.count_nonzero(joint > 1e-9 * joint[0]) == self.count)


@dataclass(frozen=True, eq=False)
class RestedMap:
    """The parameters of a condition whose starts are a steady state; see `ParameterMap`.

    Parameters
    ----------
    during, before
        Maps of the experiment, and of its pre-equilibration.
    rests
        Finds steady states.
    name
        Of the condition.
    states, starts
        Places of the states that start at rest, and of the parameters that are their starts.
    t0
        When the pre-equilibration starts, for models that depend on time.
    """

    during: ParameterMap
    before: ParameterMap
    rests: Rests
    name: str
    states: Ints
    starts: Ints
    t0: float | None

    def theta(self, outer: Floats) -> Floats:
        """Return the model's parameters. Shape ``(m,)``."""
        theta = self.during.theta(outer).copy()
        theta[self.starts] = self._rest(outer)[0][self.states]
        return theta

    def pull(self, gradient: Floats, outer: Floats) -> Floats:
        """Return rows times the derivatives of the parameters. Shape ``(..., size)``."""
        slopes = self._rest(outer)[1][self.states]
        return self.during.pull(gradient, outer) + self.before.pull(
            gradient[..., self.starts] @ slopes, outer
        )

    def _rest(self, outer: Floats) -> tuple[Floats, Floats]:
        return self.rests(self.before.theta(outer), self.name, self.t0 or 0.0)

    @property
    def source(self) -> Ints:
        """Return that of the experiment."""
        return self.during.source

    @property
    def constant(self) -> Floats:
        """Return that of the experiment."""
        return self.during.constant

    @cached_property
    def places(self) -> Ints:
        """Parameters of the model that are expressions, starts at rest included."""
        return np.union1d(self.during.places, self.starts)

    @property
    def size(self) -> int:
        """Number of the problem's parameters."""
        return self.during.size

    @property
    def phases(self) -> tuple[ParameterMap, ...]:
        """The maps of the experiment and of its pre-equilibration."""
        return self.during, self.before

    @property
    def is_identity(self) -> bool:
        """Never."""
        return False


class Rests:
    """Steady states of one model with their derivatives; the last ones are kept.

    Parameters
    ----------
    equations
        With initial values.

    Raises
    ------
    OptionError
        When the model has a mass matrix.

    Examples
    --------
    >>> import sympy as sp
    >>> x, y, a, b, t = sp.symbols("x y a b t")
    >>> rhs, start = (b * y - a * x, a * x - b * y), (a, sp.Integer(3))
    >>> swap = Equations((x, y), rhs, (a, b), t, initial=start)
    >>> z, slopes = Rests(swap)(np.array([1.0, 1.0]), "c", 0.0)
    >>> z.round(9).tolist(), slopes.round(9).tolist()
    ([2.0, 2.0], [[-0.5, 1.0], [1.5, -1.0]])
    """

    def __init__(self, equations: Equations) -> None:
        if equations.mass is not None:
            raise OptionError("rest= of a Condition is not supported with a mass matrix.")
        self.equations = equations
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[Floats, Floats]] = OrderedDict()
        self._totals: dict[bytes, Totals | None] = {}

    def __call__(self, theta: Floats, name: str, t0: float) -> tuple[Floats, Floats]:
        r"""Return the steady state, shape ``(n,)``, and its derivatives, shape ``(n, m)``.

        Raises
        ------
        SolverError
            When the model does not come to rest, or its steady states are not isolated.
        """
        key = theta.tobytes() + np.float64(t0).tobytes()
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = self._find(theta, name, t0)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Leave out machine code and results."""
        return {"equations": self.equations}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.__init__(state["equations"])  # type: ignore[misc]

    @cached_property
    def _native(self) -> NativeModel:
        equations = self.equations
        kernels = {
            name: (FIELD_KERNELS[name][0], FIELD_KERNELS[name][1](self._field))
            for name in ("rhs", "jac", "dfdtheta")
        }
        start, pullback = lift_initial(equations, equations.n_states)
        kernels |= {"initial": ("field", start), "initial_vjp": ("product", pullback)}
        pairs = self._options.tableau.complex_pairs
        kernels |= linear_kernels(self._field, transposed=False, pairs=pairs)
        return compile_kernels(kernels, equations.n_parameters)

    @cached_property
    def _field(self) -> Any:
        return lift_field(self.equations)

    @cached_property
    def _options(self) -> SolverOptions:
        # Newton's method ends what the simulation only has to bring near.
        return make_options(
            self.equations.state_names, solver=DEFAULT_STIFF, rtol=1e-6, atol=1e-12,
            max_steps=MAX_STEPS,
        )  # fmt: skip

    @cached_property
    def _forward(self) -> Forward:
        native, n = self._native, self.equations.n_states
        pattern = solver.native_pattern(self._field)
        system = solver.make_field(native, n, np.zeros(native.n_p), pattern)
        none = solver.make_observations(np.empty(0), n)
        return Forward(system, self._options, none, n, native.work_size, keep=False)

    def _find(self, theta: Floats, name: str, t0: float) -> tuple[Floats, Floats]:
        native, n, m = self._native, self.equations.n_states, self.equations.n_parameters
        p = native.pack(theta)
        z0 = native.call("initial", t0, np.zeros(n), p)
        totals = self._conserved(theta, t0)
        forward = self._forward
        forward.system.p[:] = p
        t, z = t0, z0
        for span in SPANS:
            forward.reset(z, t, t + span)
            status = forward.run()
            if status != SUCCESS:
                error = solver_error(status, self.equations.state_names, forward)
                raise SolverError(f"Condition {name!r}, on its way to rest: {error}")
            z = forward.scratch.y[:n].copy()
            t += span
            resting = self._newton(t, z, p, totals, totals.w.T @ z0)
            if resting is not None:
                break
        else:
            speed = native.call("rhs", t, z, p)
            worst = int(np.argmax(np.abs(speed) / (np.abs(z) + 1e-12 * np.max(np.abs(z)))))
            raise SolverError(
                f"Condition {name!r} does not come to rest: at t = {t:.3g} the state "
                f"{self.equations.state_names[worst]} still changes at {speed[worst]:.3g} per unit "
                "of time, or the steady states are not isolated."
            )
        matrix = self._matrix(t, resting, p, totals)
        right = -native.call("dfdtheta", t, resting, p).reshape(n, m)
        if totals.count:
            rows = np.array([native.call("initial_vjp", t0, z0, p, w)[:m] for w in totals.w.T])
            right[totals.left_out] = rows + np.einsum("mnc,n->cm", totals.slopes, z0 - resting)
        slopes = _solve(matrix, right)
        if slopes is None or not np.isfinite(slopes).all():
            raise SolverError(f"Condition {name!r}: its steady state is not isolated.")
        return resting, slopes

    def _newton(
        self, t: float, start: Floats, p: Floats, totals: Totals, sums: Floats
    ) -> Floats | None:
        """Return the steady state next to a state, or None where there is none nearby."""
        z, scale = start, np.abs(start) + 1e-12 * float(np.max(np.abs(start), initial=1e-300))
        best = np.inf
        for _ in range(25):
            right = -self._native.call("rhs", t, z, p)
            right[totals.left_out] = sums - totals.w.T @ z
            step = _solve(self._matrix(t, z, p, totals), right)
            if step is None or not np.isfinite(step).all():
                return None
            size = float(np.max(np.abs(step) / scale))
            z = z + step
            if float(np.max(np.abs(z - start) / scale)) > FAR:
                return None
            if size <= ROUNDING or (size < 1e-9 and size >= 0.5 * best):
                return z
            best = min(best, size)
        return None

    def _matrix(self, t: float, z: Floats, p: Floats, totals: Totals) -> Floats:
        n, pattern = self.equations.n_states, self._field.jacobian
        matrix = np.zeros((n, n))
        rows, cols = list(pattern.rows), list(pattern.cols)
        matrix[rows, cols] = self._native.call("jac", t, z, p)[: len(rows)]
        matrix[totals.left_out] = totals.w.T
        return matrix

    def _conserved(self, theta: Floats, t0: float) -> Totals:
        """Return the totals that f conserves at these parameters.

        Where the model conserves the same at other parameters, its totals do not depend on them
        and are found once for all parameters with the same zeros.
        """
        mask = (theta == 0.0).tobytes()
        if mask not in self._totals:
            rng = np.random.default_rng(1)
            elsewhere = np.where(theta == 0.0, 0.0, np.exp(rng.uniform(-1.0, 1.0, theta.size)))
            general, own = self._sample(elsewhere, t0), self._sample(theta, t0)
            self._totals[mask] = general if general.same_as(own) else None
        known = self._totals[mask]
        return self._sample(theta, t0, slopes=True) if known is None else known

    def _sample(self, theta: Floats, t0: float, slopes: bool = False) -> Totals:
        """Return what f conserves at 2n + 2 random states."""
        from scipy.linalg import qr

        n, m, rng = self.equations.n_states, theta.size, np.random.default_rng(0)
        p, states = self._native.pack(theta), []
        speeds: list[Floats] = []
        for _ in range(20 * n + 20):
            z = np.exp(rng.uniform(-1.0, 1.0, n))
            speed = self._native.call("rhs", t0, z, p)
            if np.isfinite(speed).all():
                states.append(z)
                speeds.append(speed)
            if len(speeds) == 2 * n + 2:
                break
        if not speeds:
            return Totals(np.zeros((n, 0)), np.empty(0, dtype=np.int64), np.zeros((m, n, 0)))
        f = np.array(speeds).T
        # Rows of one size: slow states count as much as fast ones.
        sizes = np.abs(f).max(axis=1)
        sizes[sizes == 0.0] = 1.0
        u, s, _ = np.linalg.svd(f / sizes[:, None])
        rank = int(np.count_nonzero(s > SAME * s[0]))
        w = np.ascontiguousarray(u[:, rank:] / sizes[:, None])
        w /= np.linalg.norm(w, axis=0)
        if rank == n:
            return Totals(w, np.empty(0, dtype=np.int64), np.zeros((m, n, 0)))
        _, _, pivots = qr(w.T, pivoting=True, mode="economic")
        dw = np.zeros((m, n, n - rank))
        if slopes:
            found = [self._native.call("dfdtheta", t0, z, p).reshape(n, m) for z in states]
            right = -np.einsum("knm,nc->kmc", np.array(found), w).reshape(len(states), -1)
            solved = np.linalg.lstsq((f / sizes[:, None]).T, right, rcond=SAME)[0]
            dw = (solved / sizes[:, None]).reshape(n, m, -1).transpose(1, 0, 2)
        return Totals(w, np.sort(pivots[: n - rank]).astype(np.int64), dw)


def _solve(matrix: Floats, right: Floats) -> Floats | None:
    """Return the solution of a square system, None where it is singular to rounding."""
    rows = np.abs(matrix).max(axis=1)
    columns = np.abs(matrix).max(axis=0)
    if not (np.isfinite(rows).all() and rows.all() and columns.all()):
        return None
    scaled = matrix / rows[:, None]
    columns = np.abs(scaled).max(axis=0)
    scaled = scaled / columns
    if np.linalg.cond(scaled) > 1e13:
        return None
    found: Floats = np.linalg.solve(scaled, (right.T / rows).T)
    result: Floats = (found.T / columns).T
    return result
