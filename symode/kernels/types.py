"""What kernels receive: named tuples of arrays and numbers, and the places inside them.

Every tuple has one fixed Numba type, so each kernel is compiled once, for every model and method.
Arrays are C-ordered float64 or int64.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Places of kernel addresses in `System.address`.
RHS: Final = 0
VJP: Final = 1
JVP: Final = 2
JAC: Final = 3
SECOND: Final = 4
DJAC: Final = 5
HOIST: Final = 6
INITIAL: Final = 7
INITIAL_VJP: Final = 8
TERMINAL: Final = 9
LU_FACTOR: Final = 10
LU_SOLVE: Final = 11
LU_SOLVE_T: Final = 12
HOIST_AT: Final = 13  # where hoisted values start in p: the number of parameters, no address
GETRF: Final = 14  # LAPACK's, 0 for small matrices
GETRS: Final = 15
DENSE: Final = 16  # no address: 1 where factors are dense from the start
COMPLEX_FACTOR: Final = 17
COMPLEX_SOLVE: Final = 18
COMPLEX_SOLVE_T: Final = 19
BLOCK: Final = 20  # product with several tangents at once, 0 where there is none
SLOPES: Final = 21  # then the nonzero entries of df/dtheta
STEP: Final = 22  # one whole step of a Rosenbrock method, 0 where it is made of the kernels above
STEP_T: Final = 23
OBSERVE: Final = 24  # first of one address per group of observations

#: Places in `Gradient.scalars`.
VALUE: Final = 0
DT0: Final = 1
DT1: Final = 2
DRIFT: Final = 3
CHECK: Final = 4  # finite if and only if value and gradient are
SIZE: Final = 5  # sum of the sizes of all terms of the loss
N_SCALARS: Final = 6

#: Places in `Scratch.clock`.
T: Final = 0
H: Final = 1
T_END: Final = 2
ERR: Final = 3  # logarithm of the norm of the last accepted step's error, for the PI controller
H_TRIED: Final = 4  # last step size tried, reported on failure
GROUP: Final = 5  # largest norm of the grouped components so far
RHO: Final = 6  # |h| ρ(J) when last found at the limit, see `symode.kernels.stiffness`
H_STEP: Final = 7  # collocation: size of the last try
H_PAST: Final = 8  # and of the accepted step before this one; 0 where there is none
H_FACTORED: Final = 9  # step size of the current factors
ETA: Final = 10  # rate / (1 - rate) of the last Newton iteration
RATE: Final = 11  # its slowest convergence
T_JAC: Final = 12  # dirk: time of the Jacobian in scratch.jac
GROUP_FLOOR: Final = 13  # smallest norm of the grouped components that counts
RADIUS: Final = 14  # chebyshev: bound of ρ(J)
Z_AT: Final = 15  # time of the state in scratch.z, on a stored trajectory
WORST: Final = 16  # largest error of an accepted step, in tolerances
N_CLOCK: Final = 17

#: How far the gradient of a member is, in `Scratch.count[PHASE]`.
FORWARD: Final = 1
BACKWARD: Final = 2
DONE: Final = 3

#: Places in `Scratch.count`.
STEPS: Final = 0
REJECTED: Final = 1
NFEV: Final = 2
NJEV: Final = 3
NLU: Final = 4
STORED: Final = 5  # steps in the store
NEXT_OBS: Final = 6  # first observation not yet passed
STARTED: Final = 7  # whether the first step size has been chosen
FSAL_READY: Final = 8  # whether stage 0 holds f at the current state
CURSOR: Final = 9  # step of the stored trajectory that was used last
PHASE: Final = 10  # how far the gradient of the current member is
CAUSE: Final = 11  # status of a last try that has no error to judge, such as NONFINITE; else 0
JUST_REJECTED: Final = 12  # whether the last try was rejected: the next step may not grow
LEFT: Final = 13  # steps, or observations, that the backward pass still has to visit
PIVOTED: Final = 14  # whether the current factors are the dense, pivoted ones
FIRST_OBS: Final = 15  # first observation of this segment
EARLIER: Final = 16  # segments before this one
BEFORE: Final = 17  # steps in them
PATIENCE: Final = 18  # signs of (or against) stiffness that ask for the other method; 0: never
EVIDENCE: Final = 19  # signs so far
AGAINST: Final = 20  # signs against, in a row
WATCHED: Final = 21  # steps since the start of the segment
RETURN: Final = 22  # patience of the next segment of the implicit method; 0: not yet set
SEEN: Final = 23  # collocation: one more than the number of steps at the last try
PAST: Final = 24  # whether the increments of the step before are kept
FACTORED: Final = 25  # whether there are factors
CHECKED: Final = 26  # whether a solve with them has been checked
JACOBIAN_OF: Final = 27  # one more than the number of steps where J was evaluated
PIVOTED_MODES: Final = 28  # bits of the complex pairs whose factors are pivoted
NEWTON: Final = 29  # iterations of the last step
SLOPE_OF: Final = 30  # one more than the number of steps where f was evaluated
JAC_READY: Final = 31  # dirk: whether scratch.jac holds the Jacobian of some earlier point
OPENING: Final = 32  # stored step that opens the current span between jumps; -1: not stored
MEMBER: Final = 33  # chebyshev: which number of stages the last try had
BOUND_AGE: Final = 34  # chebyshev: tries in this segment
N_COUNT: Final = 35

#: Rows of `Scratch.k` that a stabilised method works in.
CHEBYSHEV_ROWS: Final = 12

#: How far a quadrature along lam is, see `symode.kernels.quadrature`: counters, and times.
STRETCH: Final = 0  # 0: lam is under way; else the status that ended its last stretch, and one more
PANELS: Final = 1  # panels accepted
HALVED: Final = 2  # panels that were too long
AT: Final = 3  # stored step of lam that was used last
BEGUN: Final = 4  # whether this stretch has a panel yet
FORMED: Final = 5  # whether the trajectory's steps are polynomials yet
EVALUATED: Final = 6  # whether the loss is
N_PLACE: Final = 7
REACHED: Final = 0  # how far the integral is
LENGTH: Final = 1  # of the next panel; 0 where nothing is known
OPENING_LENGTH: Final = 2  # of the second panel after a jump
FLOOR: Final = 3  # smallest norm of a gradient that counts
N_PROGRESS: Final = 4


class Erk(NamedTuple):
    """Coefficients of an explicit Runge-Kutta method, see `symode.solvers.tableau`."""

    order: int  # of the controller: order of the error estimate + 1
    n_stages: int
    n_dense: int
    fsal: bool
    a: Floats  # (S, S)
    b: Floats  # (S,)
    c: Floats  # (S,)
    e: Floats  # (n_err, S)
    dense: Floats  # (S, degree)


class Rosenbrock(NamedTuple):
    """Coefficients of a Rosenbrock method in W-transformed form."""

    order: int
    n_stages: int
    n_dense: int
    fsal: bool  # always False
    a: Floats  # (S, S)
    b: Floats  # (S,), m of the method
    c: Floats  # (S,), alpha of the method
    e: Floats  # (1, S)
    dense: Floats  # (S, degree)
    gamma: float
    coupling: Floats  # (S, S), C of the method
    d: Floats  # (S,), gamma_i of the method


class Dirk(NamedTuple):
    """Coefficients of a diagonally implicit method with an explicit first stage."""

    order: int
    n_stages: int
    n_dense: int
    fsal: bool  # always True: the last stage is the slope at the new point
    a: Floats  # (S, S), gamma on the diagonal but for the first
    b: Floats  # (S,), the last row of a
    c: Floats  # (S,)
    e: Floats  # (1, S)
    dense: Floats  # (S, degree)
    gamma: float
    guess: Floats  # (S, S) weights of earlier stages in the first guess of each


class Collocation(NamedTuple):
    """Coefficients of a collocation method, see `symode.solvers.collocation`."""

    order: int
    n_stages: int
    n_dense: int
    fsal: bool  # always False
    a: Floats  # (S, S)
    b: Floats  # (S,)
    c: Floats  # (S,)
    e: Floats  # (1, S)
    dense: Floats  # (S, S)
    inverse: Floats  # (S, S), of a
    eigenvalues: Floats  # ((S + 1) / 2, 2), of the inverse: real and imaginary parts
    into: Floats  # (S, S), T^-1
    back: Floats  # (S, S), T


class Chebyshev(NamedTuple):
    """Coefficients of a stabilised explicit family, see `symode.solvers.chebyshev`."""

    order: int
    n_stages: int  # rows of the interpolant: slope, mean slope, slope at the end
    n_dense: int
    fsal: bool  # always True: the last row is the slope at the new point
    starts: Ints  # (Q + 1,) where each member begins in flow
    flow: Floats  # (F, 3)
    a: Floats  # (Q, 4, 4)
    b: Floats  # (Q, 4)
    c: Floats  # (Q, 4)
    e: Floats  # (1, 0): the estimate is a row of its own
    error: Floats  # (Q, 5)
    limit: Floats  # (Q,)
    dense: Floats  # (3, 3)


class Pattern(NamedTuple):
    """The pattern of the Jacobian and of its elimination, see `symode.symbolic.elimination`.

    The entries of M follow; they are empty where it is the identity.
    """

    rows: Ints
    cols: Ints
    order: Ints
    start: Ints
    column: Ints
    diagonal: Ints
    place: Ints
    node: Ints
    wide: Ints
    row_order: Ints
    mass_rows: Ints
    mass_cols: Ints
    mass_place: Ints
    mass: Floats


class Field(NamedTuple):
    """A model with its parameters bound; the loop's state is z."""

    n: int  # states, quadratures included
    m: int  # parameters that derivatives are taken in
    address: Ints
    p: Floats  # theta, hoisted
    pattern: Pattern


class Tangents(NamedTuple):
    """A model with directions in theta; the state is z, then one tangent of z for each."""

    n: int
    m: int
    address: Ints
    p: Floats
    pattern: Pattern
    directions: Floats  # (q, m)
    width: int = 0  # tangents a call of BLOCK; 0: the directions are not unit vectors, or few
    rows: Ints = np.empty(0, dtype=np.int64)  # pattern of df/dtheta for SLOPES: state, and tangent
    cols: Ints = np.empty(0, dtype=np.int64)


class Store(NamedTuple):
    """Steps of a solve: t, z before each step, h, the stages, and which number of them."""

    keep: bool
    t: Floats  # (capacity + 1,)
    h: Floats  # (capacity,)
    z: Floats  # (capacity + 1, n)
    k: Floats  # (capacity, S, n)
    member: Ints  # (capacity,); empty but for families of methods


class ErkAdjoint(NamedTuple):
    """The adjoint equation along a trajectory of an explicit method; the state is (lam, mu)."""

    n: int
    m: int
    address: Ints
    p: Floats
    pattern: Pattern
    past_method: Erk
    past: Store
    n_past: int


class RosenbrockAdjoint(NamedTuple):
    """The adjoint equation along a trajectory of a Rosenbrock method; the state is (lam, mu)."""

    n: int
    m: int
    address: Ints
    p: Floats
    pattern: Pattern
    past_method: Rosenbrock
    past: Store
    n_past: int


class DirkAdjoint(NamedTuple):
    """The adjoint equation along a trajectory of a Dirk method; the state is (lam, mu)."""

    n: int
    m: int
    address: Ints
    p: Floats
    pattern: Pattern
    past_method: Dirk
    past: Store
    n_past: int


class CollocationAdjoint(NamedTuple):
    """The adjoint equation along a trajectory of a collocation method; the state is (lam, mu)."""

    n: int
    m: int
    address: Ints
    p: Floats
    pattern: Pattern
    past_method: Collocation
    past: Store
    n_past: int


class ChebyshevAdjoint(NamedTuple):
    """The adjoint equation along a trajectory of a stabilised method; the state is (lam, mu)."""

    n: int
    m: int
    address: Ints
    p: Floats
    pattern: Pattern
    past_method: Chebyshev
    past: Store
    n_past: int


Method = Erk | Rosenbrock | Dirk | Collocation | Chebyshev
Adjoint = ErkAdjoint | RosenbrockAdjoint | DirkAdjoint | CollocationAdjoint | ChebyshevAdjoint
System = Field | Tangents | Adjoint
#: The adjoint equation along a trajectory of each method: kernels treat them alike.
ADJOINT_OF: Final[dict[type, type]] = {
    Erk: ErkAdjoint,
    Rosenbrock: RosenbrockAdjoint,
    Dirk: DirkAdjoint,
    Collocation: CollocationAdjoint,
    Chebyshev: ChebyshevAdjoint,
}
ADJOINTS: Final = tuple(ADJOINT_OF.values())


class Control(NamedTuple):
    """What the step size obeys. Sizes are those of the loop's state, N."""

    rtol: float
    max_steps: int
    h_max: float
    replay: bool  # take the stored step sizes as they are
    lazy: bool  # make the interpolant's extra stages only where an observation needs them
    patience: int  # of the first segment, see PATIENCE
    limit: float  # |h| ρ(J) from which it counts as stiff, or below which as not
    n_tested: int  # leading components that tell stiffness: the states
    atol: Floats  # (N,); infinite where a component does not count
    floor: Floats  # (N,) share of the largest past value that counts as current size
    weight: Floats  # (N,) weights of components judged together; empty where there are none


class Observations(NamedTuple):
    """Times inside the span, in the order the solve meets them, with what was found there."""

    t: Floats  # (K,)
    y: Floats  # (K, N)
    step: Ints  # (K,) step that holds the time
    s: Floats  # (K,) fraction of that step; 1 at its end


class LossTable(NamedTuple):
    """The observations of a loss and what it gives: see `symode.kernels.loss`."""

    n_start: int  # observations at t0, first in all tables
    group: Ints  # (K,) which expression
    data: Floats  # (K, r) measured values packed for the expression
    seeds: Floats  # (K, n) dl/dz at each observation
    times: Floats  # (K,) dJ/dt_i
    row: Ints  # (K,) which part of a joint loss
    parts: Floats  # (r,) sums of the observations of each part; empty where J itself is a sum
    joint: Floats  # (2 + n + m + r,) J of the parts, its derivatives, and those in the parts


class Gradient(NamedTuple):
    """Results of one member."""

    scalars: Floats  # value, dJ/dt0, dJ/dt1, drift, check, size
    lam: Floats  # (n,) adjoint; dJ/dz0 at the end
    theta: Floats  # (m,) dJ/dtheta


class Scratch(NamedTuple):
    """Memory of one solve. Nothing here outlives it but the state and the counters."""

    clock: Floats
    count: Ints  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    y: Floats  # (N,) current state
    new: Floats  # (N,)
    stage: Floats  # (N,)
    # (S + 1, N) stages, a row more for the backward pass; rosenbrock: (S + 4, N), see `fused_step`;
    # collocation: (5 S + 3, N)
    k: Floats
    peak: Floats  # (N,) largest value so far
    weights: Floats  # (S,)
    z: Floats  # (n,) interpolated state
    zdot: Floats  # (n,)
    v: Floats  # packed argument of product kernels
    out: Floats  # result of product kernels
    work: Floats  # scratch of native kernels
    jac: Floats  # (nnz + n,) Jacobian values and f_t; collocation: then those of S stages
    shift: Floats  # (2,) d and s of the matrix d M + s J; then three of each complex pair
    factors: Floats  # L and U on the pattern, those of complex pairs behind
    row: Floats  # (n,); here and below twice and more for complex pairs
    kept: Floats  # (n,) right-hand side of a checked solve
    size: Floats  # (n,)
    lu: Floats  # (n, n) dense factors of the fallback
    pivots: Ints  # (n,)
    block: Floats  # collocation: dense factors of complex pairs, or of all stages at once
    block_pivots: Ints
