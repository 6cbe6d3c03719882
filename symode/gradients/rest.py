r"""Rest: the steady state that a trajectory goes to, and its derivatives.

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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from symode.codegen.backends import compile_kernels
from symode.codegen.compiled import NativeModel
from symode.equations.equations import Equations
from symode.errors import SolverError
from symode.gradients.roots import damped_root, nearest_root, solve_scaled
from symode.gradients.totals import Totals, TotalsOf
from symode.kernels import types as kt
from symode.solvers import native as solver
from symode.solvers.forward import Forward
from symode.solvers.integrate import solver_error
from symode.solvers.options import DEFAULT_STIFF, SolverOptions, make_options
from symode.status import SUCCESS
from symode.symbolic.derive import FIELD_KERNELS, linear_kernels
from symode.symbolic.lift import lift_field, lift_initial

Floats = NDArray[np.float64]

#: Spans of simulation after which rest is looked for, each from where the last one ended.
SPANS: Final = tuple(10.0**k for k in range(1, 13))
#: How far Newton's method may move the simulated state, relative to it: else it may have found
#: another steady state than the one the trajectory goes to.
FAR: Final = 1e-3
#: Steps on the way through one span.
MAX_STEPS: Final = 20_000
#: A mode that grows at less than this share of the fastest rate counts as standing still when a
#: trajectory is judged: rounding may have made it.
SLOW: Final = 1e-8
#: A trajectory that is still at an unstable state after so many of its growth times is held there.
HELD: Final = 60.0
#: Time constants of the slowest mode over which a trajectory is watched to come nearer.
WATCHED: Final = 3.0


@dataclass(frozen=True, eq=False)
class Rest:
    """A steady state with what its derivatives are made of.

    Parameters
    ----------
    z, z0
        The steady state, and the start that gives its totals. Shape ``(n,)``.
    t0, t
        When the start was, and when the steady state was found.
    p
        Parameters and hoisted values.
    totals
        What is conserved.
    matrix
        f_z with the totals in place of redundant rows. Shape ``(n, n)``.
    eigenvalues
        Of f_z where totals are kept, fastest growth first. Shape ``(n - c,)``.
    own_start
        Whether z0 is the model's, which depends on the parameters.
    how
        How it was found, in words.
    """

    z: Floats
    z0: Floats
    t0: float
    t: float
    p: Floats
    totals: Totals
    matrix: Floats
    eigenvalues: NDArray[np.complex128]
    own_start: bool
    how: str


class Resting:
    """Finds steady states of one model. May be called from several threads.

    Parameters
    ----------
    equations
        Without mass matrix; their events are not looked at.
    **options
        Of the simulation: ``solver``, ``rtol``, ``atol``, ``max_steps``, ``h_max``.
    """

    def __init__(self, equations: Equations, **options: Any) -> None:
        self.equations = equations
        self._lock = threading.Lock()
        # Newton's method ends what the simulation only has to bring near.
        given: dict[str, Any] = {
            "solver": DEFAULT_STIFF,
            "rtol": 1e-6,
            "atol": 1e-12,
            "max_steps": MAX_STEPS,
        }
        self.options: SolverOptions = make_options(equations.state_names, **(given | options))

    def find(
        self,
        theta: Floats,
        z0: Floats | None = None,
        t0: float = 0.0,
        *,
        simulate: bool = True,
        watch: bool = False,
    ) -> Rest:
        """Return the steady state that the trajectory from z0 goes to.

        Parameters
        ----------
        theta
            Shape ``(m,)``.
        z0
            The model's own by default. Shape ``(n,)``.
        t0
            When to start, for models that depend on time.
        simulate
            False takes what Newton's method finds from z0, whatever the trajectory does.
        watch
            Have the trajectory come nearer before a steady state is believed.

        Raises
        ------
        SolverError
            When the model does not come to rest, or its steady states are not isolated.
        """
        with self._lock:
            native, n = self.native, self.equations.n_states
            p, own = native.pack(theta), z0 is None
            start = native.call("initial", t0, np.zeros(n), p) if z0 is None else z0
            totals = self._totals(theta, t0)
            if simulate:
                return self._simulated(start, t0, p, totals, own, watch)
            z = self._root(t0, start, p, totals, totals.w.T @ start, near=False)
            if z is None:
                raise SolverError(
                    "Newton's method found no steady state from z0. Give a nearer start, or leave "
                    'out method="newton" to follow the trajectory.'
                )
            return self._rest(z, start, t0, t0, p, totals, own, "Newton's method from z0")

    def slopes(self, rest: Rest) -> Floats:
        r"""Return :math:`dz^*/d\theta`, shape ``(n, m)``."""
        with self._lock:
            n, m = self.equations.n_states, self.equations.n_parameters
            right = -self.native.call("dfdtheta", rest.t, rest.z, rest.p).reshape(n, m)
            right[rest.totals.left_out] = self.drift(rest)
        return self._solved(rest.matrix, right)

    def drift(self, rest: Rest) -> Floats:
        r"""Return :math:`W^\top dz_0/d\theta + (dW/d\theta)^\top (z_0 - z^*)`, ``(c, m)``."""
        totals, m = rest.totals, self.equations.n_parameters
        result: Floats = np.einsum("mnc,n->cm", totals.slopes, rest.z0 - rest.z)
        if rest.own_start:
            for k, w in enumerate(totals.w.T):
                result[k] += self.native.call("initial_vjp", rest.t0, rest.z0, rest.p, w)[:m]
        return result

    def start_slopes(self, rest: Rest) -> Floats:
        r"""Return :math:`dz^*/dz_0`, shape ``(n, n)``: what the totals carry over."""
        right = np.zeros_like(rest.matrix)
        right[rest.totals.left_out] = rest.totals.w.T
        return self._solved(rest.matrix, right)

    def adjoint(self, rest: Rest, dphidz: Floats) -> tuple[Floats, Floats]:
        r"""Return rows times :math:`dz^*/d\theta` and :math:`dz^*/dz_0`, from one solve.

        .. math:: \lambda^\top = \frac{\partial\Phi}{\partial z} \begin{pmatrix} f_z \\ W^\top
                  \end{pmatrix}^{-1}
        """
        lam = self._solved(np.ascontiguousarray(rest.matrix.T), dphidz.copy())
        n, m, rows = self.equations.n_states, self.equations.n_parameters, rest.totals.left_out
        of_totals = lam[rows]
        lam[rows] = 0.0
        with self._lock:
            dfdtheta = self.native.call("dfdtheta", rest.t, rest.z, rest.p).reshape(n, m)
            dtheta: Floats = of_totals @ self.drift(rest) - lam @ dfdtheta
        return dtheta, of_totals @ rest.totals.w.T

    def speed(self, rest: Rest) -> Floats:
        """Return f at the steady state. Shape ``(n,)``."""
        with self._lock:
            result: Floats = self.native.call("rhs", rest.t, rest.z, rest.p)
        return result

    # -- compiled once ---------------------------------------------------------------------------

    @cached_property
    def native(self) -> NativeModel:
        """Kernels of f, its derivatives and, where there is one, the model's start."""
        equations = self.equations
        kernels = {
            name: (FIELD_KERNELS[name][0], FIELD_KERNELS[name][1](self._field))
            for name in ("rhs", "jac", "dfdtheta")
        }
        if equations.initial is not None:
            start, pullback = lift_initial(equations, equations.n_states)
            kernels |= {"initial": ("field", start), "initial_vjp": ("product", pullback)}
        pairs = self.options.tableau.complex_pairs
        kernels |= linear_kernels(self._field, transposed=False, pairs=pairs)
        return compile_kernels(kernels, equations.n_parameters)

    @cached_property
    def _field(self) -> Any:
        return lift_field(self.equations)

    @cached_property
    def _totals(self) -> TotalsOf:
        return TotalsOf(self.equations, self._field, self.native)

    @cached_property
    def _forward(self) -> Forward:
        return self._made(self.options, keep=False)

    def _made(self, options: SolverOptions, keep: bool) -> Forward:
        native, n = self.native, self.equations.n_states
        pattern = solver.native_pattern(self._field)
        system = solver.make_field(native, n, np.zeros(native.n_p), pattern)
        none = solver.make_observations(np.empty(0), n)
        return Forward(system, options, none, n, native.work_size, keep=keep)

    # -- the search ------------------------------------------------------------------------------

    def _simulated(
        self, z0: Floats, t0: float, p: Floats, totals: Totals, own: bool, watch: bool
    ) -> Rest:
        t, z, sums, size = t0, z0, totals.w.T @ z0, float(np.max(np.abs(z0), initial=0.0))
        for span in SPANS:
            z, failure = self._ahead(z, t, span, p)
            if failure is not None:
                swings = self._restless(float(self._forward.scratch.clock[kt.T]), z, p, size)
                if swings:
                    raise SolverError(f"The model does not come to rest from this start.{swings}")
                raise SolverError(f"On its way to rest: {failure}")
            t += span
            found = self._root(t, z, p, totals, sums, size=size)
            if found is None:
                continue
            how = f"simulated to t = {t:g}, then Newton's method"
            rest = self._rest(found, z0, t0, t, p, totals, own, how)
            growth = rest.eigenvalues.real.max(initial=-np.inf)
            fastest = np.abs(rest.eigenvalues).max(initial=0.0)
            # A trajectory may pass an unstable state slowly, on its way to another.
            if growth > SLOW * fastest and growth * (t - t0) < HELD:
                continue
            if watch and not self._comes_nearer(rest, z):
                continue
            return rest
        raise SolverError(self._why(t, z, p, totals, size))

    def _ahead(self, z: Floats, t: float, span: float, p: Floats) -> tuple[Floats, str | None]:
        """Return the state after a span, or where it failed and why."""
        forward, n = self._forward, self.equations.n_states
        forward.system.p[:] = p
        forward.reset(z, t, t + span)
        status = forward.run()
        failure = None
        if status != SUCCESS:
            failure = str(solver_error(status, self.equations.state_names, forward))
        return forward.scratch.y[:n].copy(), failure

    def _comes_nearer(self, rest: Rest, z: Floats) -> bool:
        """Tell whether a trajectory goes on towards a steady state, in its slowest time."""
        decay = -rest.eigenvalues.real.max(initial=-np.inf)
        everything = np.concatenate([np.abs(rest.z), np.abs(rest.z0)])
        scale = np.abs(rest.z) + 1e-12 * float(np.max(everything, initial=1e-300))
        before = float(np.max(np.abs(z - rest.z) / scale, initial=0.0))
        if not decay > 0.0 or before < 100.0 * self.options.rtol * FAR:
            return True
        later, failure = self._ahead(z, rest.t, min(WATCHED / decay, SPANS[-1]), rest.p)
        after = float(np.max(np.abs(later - rest.z) / scale, initial=0.0))
        return failure is None and after <= max(0.7 * before, 100.0 * self.options.rtol)

    def _root(
        self,
        t: float,
        start: Floats,
        p: Floats,
        totals: Totals,
        sums: Floats,
        near: bool = True,
        size: float = 0.0,
    ) -> Floats | None:
        """Return a steady state with these totals: next to a state, or anywhere."""

        def residual(z: Floats) -> Floats:
            result = self.native.call("rhs", t, z, p)
            result[totals.left_out] = totals.w.T @ z - sums
            return result

        def matrix(z: Floats) -> Floats:
            result = self._jacobian(t, z, p)
            result[totals.left_out] = totals.w.T
            return result

        if near:
            return nearest_root(residual, matrix, start, FAR, size)
        return damped_root(residual, matrix, start)

    def _rest(
        self, z: Floats, z0: Floats, t0: float, t: float, p: Floats, totals: Totals, own: bool,
        how: str,
    ) -> Rest:  # fmt: skip
        jacobian = self._jacobian(t, z, p)
        matrix = jacobian.copy()
        matrix[totals.left_out] = totals.w.T
        if totals.count:
            # f stays within {z : W'z const}: there f_z is what acts on an orthonormal basis.
            basis = np.linalg.qr(totals.w, mode="complete")[0][:, totals.count :]
            jacobian = basis.T @ jacobian @ basis
        values = np.linalg.eigvals(jacobian).astype(complex)
        order = np.argsort(-values.real, kind="stable")
        return Rest(z, z0, t0, t, p, totals, matrix, values[order], own, how)

    def _jacobian(self, t: float, z: Floats, p: Floats) -> Floats:
        n, pattern = self.equations.n_states, self._field.jacobian
        matrix = np.zeros((n, n))
        rows, cols = list(pattern.rows), list(pattern.cols)
        matrix[rows, cols] = self.native.call("jac", t, z, p)[: len(rows)]
        return matrix

    @staticmethod
    def _solved(matrix: Floats, right: Floats) -> Floats:
        found = solve_scaled(matrix, right)
        if found is None or not np.isfinite(found).all():
            raise SolverError("The steady state is not isolated: it has no derivatives.")
        return found

    # -- why there is none -----------------------------------------------------------------------

    def _why(self, t: float, z: Floats, p: Floats, totals: Totals, size: float) -> str:
        """Return why no steady state was found after all spans."""
        names, speed = self.equations.state_names, self.native.call("rhs", t, z, p)
        each = np.abs(z) + 1e-12 * np.max(np.abs(z), initial=1e-300)
        worst = int(np.argmax(np.abs(speed) / each))
        if float(np.abs(speed / each).max()) * t > 1e-6:
            return (
                f"The model does not come to rest: at t = {t:.3g} the state {names[worst]} still "
                f"changes at {speed[worst]:.3g} per unit of time.{self._restless(t, z, p, size)}"
            )
        matrix = self._jacobian(t, z, p)
        matrix[totals.left_out] = totals.w.T
        rows = np.abs(matrix).max(axis=1)
        rows[rows == 0.0] = 1.0
        free = np.abs(np.linalg.svd(matrix / rows[:, None])[2][-1])
        loose = ", ".join(names[i] for i in np.flatnonzero(free > 0.05 * free.max()))
        return (
            f"The model does not come to rest at a point of its own: its steady states are not "
            f"isolated near t = {t:.3g}, where {loose} may take other values with f = 0, and no "
            "linear conserved total says which. Follow the trajectory with model.solve() to a "
            "late time instead."
        )

    def _restless(self, t: float, z: Floats, p: Floats, size: float) -> str:
        """Return what a trajectory does that goes on: it swings, or it grows; or nothing."""
        if not np.isfinite(z).all():
            return ""
        forward, n = self._made(replace(self.options, max_steps=2000), keep=True), z.size
        forward.system.p[:] = p
        forward.reset(z, t, t + 10.0 * max(abs(t), 1.0))
        forward.run()
        rows = np.concatenate([s.store.z[1 : s.steps + 1, :n] for s in forward.segments])
        if len(rows) < 10 or not np.isfinite(rows).all():
            return ""
        names = self.equations.state_names
        half = rows[len(rows) // 2 :]
        low, high = half.min(axis=0), half.max(axis=0)
        turns = (np.diff(np.sign(half - 0.5 * (low + high)), axis=0) != 0).sum(axis=0)
        swing = (high - low) / (np.abs(high) + np.abs(low) + 1e-300)
        swinging = np.flatnonzero((turns >= 4) & (swing > 1e-3) & (high - low > 1e-6 * size))
        if swinging.size:
            i = int(swinging[np.argmax(swing[swinging])])
            swung = f"{names[i]} between {low[i]:.4g} and {high[i]:.4g}"
            return f" It oscillates: {swung}, still after t = {t:.4g}."
        growing = (np.abs(rows[-1]) > 1.5 * np.abs(rows[0])) & (np.abs(rows[-1]) > size)
        if growing.any():
            i = int(np.argmax(np.where(growing, np.abs(rows[-1]), -1.0)))
            return f" It grows without bound: {names[i]} = {rows[-1][i]:.4g} after t = {t:.4g}."
        return ""
