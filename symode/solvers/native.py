"""Between Python and kernels: tuples of arrays made, enlarged, and driven in bounded portions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.kernels import types as kt
from symode.solvers.chebyshev import ChebyshevTableau
from symode.solvers.collocation import CollocationTableau
from symode.solvers.dirk_tableau import DirkTableau, stage_guess
from symode.solvers.methods import Tableau
from symode.solvers.options import SolverOptions
from symode.solvers.tableau import RosenbrockTableau
from symode.status import FULL, PAUSED
from symode.symbolic.derive import Field

Floats = NDArray[np.float64]

#: Seconds of compiled work between two looks at the keyboard.
PORTION = 0.05
#: Steps of the first portion, before their cost is known.
FIRST_BUDGET = 256
#: Rows from which LAPACK factors faster than hand-written loops.
LAPACK_FROM = 32
#: How many operations of a dense factorization cost as much as one on the pattern: measured, 1.3
#: at n = 50, 1.6 at 100, 2 from 200 on.
DENSE_FROM = 1.5
#: Rows up to which a matrix that needs pivoting is factored dense. The memory for it, 128 MiB, is
#: given by the system only when it is touched.
PIVOTED_UP_TO = 4096
#: Rows up to which all stages of a collocation step may be solved as one dense block.
BLOCK = 1500


@lru_cache(maxsize=32)
def native_method(tableau: Tableau) -> kt.Method:
    """Return the coefficients as kernels take them: writable copies, one type for all methods."""
    if isinstance(tableau, DirkTableau):
        return kt.Dirk(
            order=tableau.embedded_order + 1,
            n_stages=tableau.n_stages,
            n_dense=tableau.n_stages,
            fsal=True,
            a=tableau.a.copy(),
            b=tableau.b.copy(),
            c=tableau.c.copy(),
            e=np.atleast_2d(tableau.e).copy(),
            dense=tableau.dense.copy(),
            gamma=tableau.gamma,
            guess=stage_guess(tableau.a),
        )
    if isinstance(tableau, RosenbrockTableau):
        stages = tableau.a.shape[0]
        return kt.Rosenbrock(
            order=tableau.embedded_order + 1,
            n_stages=stages,
            n_dense=stages,
            fsal=False,
            a=tableau.a.copy(),
            b=tableau.m.copy(),
            c=tableau.alpha.copy(),
            e=np.atleast_2d(tableau.e).copy(),
            dense=tableau.dense.copy(),
            gamma=float(tableau.gamma),
            coupling=tableau.C.copy(),
            d=tableau.d.copy(),
        )
    if isinstance(tableau, CollocationTableau):
        eigenvalues, into, back = tableau.modes()
        return kt.Collocation(
            order=tableau.embedded_order + 1,
            n_stages=tableau.c.size,
            n_dense=tableau.c.size,
            fsal=False,
            a=tableau.a.copy(),
            b=tableau.b.copy(),
            c=tableau.c.copy(),
            e=np.atleast_2d(tableau.e).copy(),
            dense=tableau.dense.copy(),
            inverse=np.linalg.inv(tableau.a).astype(float),
            eigenvalues=eigenvalues,
            into=np.ascontiguousarray(into),
            back=np.ascontiguousarray(back),
        )
    if isinstance(tableau, ChebyshevTableau):
        return kt.Chebyshev(
            order=tableau.embedded_order + 1,
            n_stages=tableau.n_stages,
            n_dense=tableau.n_stages,
            fsal=True,
            starts=tableau.starts,
            flow=tableau.flow.copy(),
            a=tableau.a.copy(),
            b=tableau.b.copy(),
            c=tableau.c.copy(),
            e=np.zeros((1, 0)),
            error=tableau.e.copy(),
            limit=tableau.limit.copy(),
            dense=tableau.dense.copy(),
        )
    return kt.Erk(
        order=tableau.embedded_order + 1,
        n_stages=tableau.n_stages,
        n_dense=tableau.n_dense,
        fsal=bool(tableau.fsal),
        a=tableau.a.copy(),
        b=tableau.b.copy(),
        c=tableau.c.copy(),
        e=np.atleast_2d(tableau.e).copy(),
        dense=tableau.dense.copy(),
    )


def make_field(
    compiled: NativeModel,
    n: int,
    p: Floats,
    pattern: kt.Pattern | None = None,
    prefix: str = "",
    groups: int = 0,
    m: int | None = None,
) -> kt.Field:
    """Return the functions of a compiled model with p bound.

    ``prefix`` chooses another field compiled in the same bundle (the augmented system); ``m`` is
    the number of parameters that derivatives are taken in, all by default.
    """
    address = np.zeros(kt.OBSERVE + max(groups, 1), dtype=np.int64)
    for slot, name in _SLOTS.items():
        address[slot] = compiled.address.get(prefix + name, 0)
    if not address[kt.JAC]:
        address[kt.JAC] = compiled.address.get(prefix + "jac_values", 0)
    for slot, name in _SHARED.items():
        address[slot] = compiled.address.get(name, 0)
    for g in range(groups):
        address[kt.OBSERVE + g] = compiled.address[f"observe{g}"]
    address[kt.HOIST_AT] = compiled.n_parameters
    asked = compiled.n_parameters if m is None else m
    if pattern is not None and pattern.diagonal.size >= LAPACK_FROM:
        _offer_lapack(address, pattern)
    return kt.Field(n, asked, address, p, pattern or native_pattern(None))


def _offer_lapack(address: NDArray[np.int64], pattern: kt.Pattern) -> None:
    """Set LAPACK's addresses, and whether matrices of this pattern are dense from the start."""
    from symode.kernels.lapack import lapack_addresses

    address[kt.GETRF], address[kt.GETRS] = lapack_addresses()
    n, reached = pattern.diagonal.size, pattern.start[1:] - pattern.diagonal - 1
    operations = int(np.sum(reached * (reached + 1)))
    if address[kt.GETRF] and not address[kt.LU_FACTOR]:
        address[kt.DENSE] = int(n**3 < 3 * DENSE_FROM * operations)


def native_pattern(field: Field | None) -> kt.Pattern:
    """Return the pattern of a field's Jacobian as kernels take it; empty for None."""
    if field is None:
        names = kt.Pattern._fields[:-1]
        nothing = {name: np.empty(0, dtype=np.int64) for name in names}
        return kt.Pattern(**nothing, mass=np.empty(0))
    e, mass = field.elimination, field.mass or ()
    nnz = len(field.jacobian.rows)
    parts = {
        "rows": field.jacobian.rows,
        "cols": field.jacobian.cols,
        "order": e.order,
        "start": e.start,
        "column": e.column,
        "diagonal": e.diagonal,
        "place": e.place[:nnz],
        "node": e.node,
        "wide": e.wide,
        "row_order": e.row_order,
        "mass_rows": [i for i, _, _ in mass],
        "mass_cols": [j for _, j, _ in mass],
        "mass_place": e.place[nnz:],
    }
    values = np.array([float(value) for _, _, value in mass])
    arrays = {name: np.array(part, dtype=np.int64) for name, part in parts.items()}
    return kt.Pattern(**arrays, mass=values)


def field_of(system: kt.System) -> kt.Field:
    """Return the field of a system with tangents, or of an adjoint equation."""
    return kt.Field(**{name: getattr(system, name) for name in kt.Field._fields})


_SLOTS = {
    kt.RHS: "rhs",
    kt.VJP: "vjp",
    kt.JVP: "jvp",
    kt.JAC: "jac",
    kt.SECOND: "second",
    kt.DJAC: "djac",
    kt.LU_FACTOR: "lu_factor",
    kt.LU_SOLVE: "lu_solve",
    kt.LU_SOLVE_T: "lu_solve_t",
    kt.STEP: "lu_step",
    kt.STEP_T: "lu_step_t",
    kt.COMPLEX_FACTOR: "complex_factor",
    kt.COMPLEX_SOLVE: "complex_solve",
    kt.COMPLEX_SOLVE_T: "complex_solve_t",
}
_SHARED = {
    kt.HOIST: "hoist",
    kt.INITIAL: "initial",
    kt.INITIAL_VJP: "initial_vjp",
    kt.TERMINAL: "terminal",
}


def make_control(
    options: SolverOptions,
    atol: Floats,
    floor: Floats,
    *,
    weight: Floats | None = None,
    rtol: float | None = None,
    replay: bool = False,
    lazy: bool = False,
    patience: int = 0,
    limit: float = 0.0,
    n_tested: int = 0,
) -> kt.Control:
    """Return the step control for a state with these absolute tolerances."""
    return kt.Control(
        rtol=options.rtol if rtol is None else rtol,
        max_steps=options.max_steps,
        h_max=options.h_max,
        replay=replay,
        lazy=lazy,
        patience=patience,
        limit=float(limit),
        n_tested=n_tested,
        atol=np.ascontiguousarray(atol, dtype=float),
        floor=np.ascontiguousarray(floor, dtype=float),
        weight=np.empty(0) if weight is None else weight,
    )


def make_scratch(method: kt.Method, system: kt.System, size: int, work_size: int) -> kt.Scratch:
    """Return the memory of one solve whose state has ``size`` components."""
    n, m, nnz = system.n, system.m, system.pattern.rows.size
    stabilised = isinstance(method, kt.Chebyshev)
    stages = kt.CHEBYSHEV_ROWS - 1 if stabilised else method.a.shape[0]
    implicit = not isinstance(method, kt.Erk | kt.Chebyshev)
    # Systems a step factors: one real, and the pairs of a collocation method, each as two.
    modes = stages if isinstance(method, kt.Collocation) else 1
    rows, width = modes * n, n
    if modes > 1 and rows <= BLOCK:
        width = rows
    shape = (rows + 1, width) if modes > 1 and n <= PIVOTED_UP_TO else (1, 1)
    if isinstance(method, kt.Chebyshev):
        # All arguments of a step, made again on the way back; given by the system when touched.
        shape = (int(np.diff(method.starts)[-1]) + 4, n)
    return kt.Scratch(
        clock=np.zeros(kt.N_CLOCK),
        count=np.zeros(kt.N_COUNT, dtype=np.int64),
        y=np.zeros(size),
        new=np.zeros(size),
        stage=np.zeros(max(size, n)),
        k=np.zeros((_stage_rows(method, stages), size)),
        peak=np.zeros(size),
        weights=np.zeros(32),
        z=np.zeros(n),
        zdot=np.zeros(n),
        v=np.zeros(max(nnz + n, n + m)),
        out=np.zeros(max(nnz + n, n + m, size) + 2),
        work=np.zeros(max(work_size, 1)),
        jac=np.zeros((nnz + n) * (modes + 1 if modes > 1 else 1)),
        shift=np.zeros(2 + 3 * modes // 2),
        factors=np.zeros(system.pattern.column.size * modes),
        row=np.zeros(2 * n),
        kept=np.zeros(2 * n),
        size=np.zeros(3 * n),
        lu=np.zeros((n, n) if implicit and n <= PIVOTED_UP_TO else (1, 1)),
        pivots=np.zeros(n if implicit else 1, dtype=np.int64),
        block=np.zeros(shape),
        block_pivots=np.zeros(rows if modes > 1 else 1, dtype=np.int64),
    )


def _stage_rows(method: kt.Method, stages: int) -> int:
    if isinstance(method, kt.Collocation):
        return 5 * stages + 3
    # One for the backward pass; whole steps pack their arguments and results there.
    return stages + (4 if isinstance(method, kt.Rosenbrock) else 1)


def make_store(method: kt.Method, n: int, capacity: int, keep: bool = True) -> kt.Store:
    """Return an empty store of steps."""
    stages = method.n_dense
    return kt.Store(
        keep=keep,
        t=np.empty(capacity + 1),
        h=np.empty(capacity),
        z=np.empty((capacity + 1, n)),
        k=np.empty((capacity, stages, n)),
        member=np.zeros(capacity if isinstance(method, kt.Chebyshev) else 0, dtype=np.int64),
    )


def no_store(method: kt.Method, n: int) -> kt.Store:
    """Return a store that keeps nothing."""
    return make_store(method, n, 0, keep=False)


def enlarged(store: kt.Store, factor: int = 2) -> kt.Store:
    """Return a store of more steps with the same content."""
    return resized(store, max(64, store.h.size * factor))


def resized(store: kt.Store, capacity: int) -> kt.Store:
    """Return a store of this capacity, no less than its own, with the same content."""
    new = kt.Store(
        keep=store.keep,
        t=np.empty(capacity + 1),
        h=np.empty(capacity),
        z=np.empty((capacity + 1, *store.z.shape[1:])),
        k=np.empty((capacity, *store.k.shape[1:])),
        member=np.zeros(capacity if store.member.size else 0, dtype=np.int64),
    )
    for old, fresh in zip(store[1:], new[1:], strict=True):
        fresh[: old.shape[0]] = old
    return new


def make_observations(times: Floats, size: int) -> kt.Observations:
    """Return the table of observations for a state of ``size`` components."""
    k = times.size
    return kt.Observations(
        t=np.ascontiguousarray(times),
        y=np.zeros((k, size)),
        step=np.zeros(k, dtype=np.int64),
        s=np.zeros(k),
    )


@dataclass
class Driver:
    """Enter a resumable kernel again and again, in portions short enough for Ctrl-C.

    Parameters
    ----------
    on_full
        Called to enlarge the store when it is full.
    seconds
        Time spent so far.
    stop
        Set by another thread to end this one's work (Ctrl-C reaches the main thread only).
    """

    on_full: Callable[[], None] | None = None
    budget: int = FIRST_BUDGET
    seconds: float = field(default=0.0)
    stop: threading.Event | None = None

    def run(self, enter: Callable[[int], int]) -> int:
        """Return the final status of ``enter(budget)``."""
        while True:
            status = self.once(enter)
            if status == FULL and self.on_full is not None:
                self.on_full()
            elif status != PAUSED:
                return status

    def once(self, enter: Callable[[int], int], portion: float = PORTION) -> int:
        """Return the status of one entry, aiming at ``portion`` seconds for the next."""
        begun = time.perf_counter()
        status = enter(self.budget)
        elapsed = time.perf_counter() - begun
        self.seconds += elapsed
        if self.stop is not None and self.stop.is_set():
            raise KeyboardInterrupt
        if status == PAUSED:
            growth = portion / max(elapsed, 1e-9)
            self.budget = max(1, int(self.budget * min(growth, 50.0)))
        return int(status)
