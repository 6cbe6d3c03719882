"""What compiled searches receive, and the constants they share with those written in Python.

See `symode.kernels.likelihood` and `symode.kernels.search`; nothing here needs Numba.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from symode.kernels.types import Floats, Ints

#: Damping at the start, relative to the largest eigenvalue (which D brings to about 1).
FIRST_DAMPING: Final = 1e-2
#: Longest step, as a share of the box. Of 0.05, 0.1 and 0.25 the middle one took the fewest steps
#: and lost no start on the three problems of `benchmarks/fitting.py`.
LONGEST: Final = 0.1
#: Least column length, as a share of the longest. Moré keeps the longest so far: that stalls a
#: parameter whose influence fades, such as a rate on its way to zero on a logarithmic scale.
LEAST: Final = 1e-3
#: Least eigenvalue, as a share of the largest.
LEAST_VALUE: Final = 1e-14
#: The search ends when a step promises less, relative to the value; scoring does the rest.
ENOUGH: Final = 1e-9
#: Trials of one iteration: each damps ten times as much.
TRIALS: Final = 14
#: Scoring steps allowed: near the optimum each gains a digit or more.
MAX_STEPS: Final = 20
#: Fractions of a scoring step that are tried until one lowers the value.
FRACTIONS: Final = (1.0, 0.5, 0.25, 0.0625)
#: Singular values below this share of the largest belong to directions left alone.
CUT_OFF: Final = 1e-7
#: Share of the box that counts as at its bound when scoring.
SLACK: Final = 1e-6

#: Codes of scales: see `symode.problems.transforms`.
LINEAR: Final = 0
POWER: Final = 1
LOGIT: Final = 2
SOFTPLUS: Final = 3
AFFINE: Final = 4
#: Codes of noise.
NORMAL: Final = 0
LAPLACE: Final = 1
STUDENT: Final = 2
#: Codes of priors.
FLAT: Final = 2


class Space(NamedTuple):
    """The estimated parameters; shapes ``(p,)``."""

    scale: Ints
    a: Floats
    b: Floats
    places: Ints
    lower: Floats
    upper: Floats
    widths: Floats


class Parts(NamedTuple):
    """The conditions, C of them, each with its solve; R rows of residuals in all.

    A column is a parameter of the model in which a condition's Jacobian is taken. It is a parameter
    of the problem (``estimated``: its place among those that are estimated, or -1), or a formula in
    them (``formula``: its place in the condition's graph, or -1).
    """

    entry: Ints  # (C,)
    table: Ints  # (C,)
    source: Ints  # (C, m)
    constant: Floats  # (C, m)
    theta: Floats  # (C, m)
    tries: Ints  # (C,)
    graph: Ints  # (C,) addresses of formulas, 0 for none
    hoist: Ints  # (3,) address, where its values start in ``outer``, numbers of a formula
    formulas: Ints  # (F,) parameters that are formulas, one condition after the other
    first_formula: Ints  # (C + 1,)
    row: Ints  # (C + 1,) first row of each
    entries: Ints  # (C + 1,) first entry of each in ``jacobian``
    width: Ints  # (C,) columns
    estimated: Ints  # (C, w)
    formula: Ints  # (C, w)
    values: Floats  # (R,)
    jacobian: Floats  # all of them, one after the other


class Noise(NamedTuple):
    """The measured values; shapes ``(K,)``."""

    kind: Ints
    df: Floats
    u: Floats
    extra: Floats  # what does not depend on the model
    log_sigma: Floats
    part: Ints
    location: Ints  # row of the location
    spread: Ints  # row of the logarithm of sigma, or -1 where it is a number


class Priors(NamedTuple):
    """Priors; shapes ``(q,)``."""

    kind: Ints
    place: Ints
    estimated: Ints
    mean: Floats
    sd: Floats
    factor: Floats  # of the measure; 0 where it is linear
    of_theta: Ints  # whether it is a density of theta on a logarithmic scale
    constant: Floats


class Point(NamedTuple):
    """One point and what was found there."""

    x: Floats  # (p,)
    scalars: Floats  # value, misfit
    gradient: Floats  # (p,)
    root: Floats  # (p, rows) W, transposed


class Work(NamedTuple):
    """Memory of evaluations."""

    outer: Floats  # the problem's parameters, then hoisted values
    slopes: Floats  # (p,) dtheta/dx
    formulas: Floats
    scratch: Floats
    dlog: Floats  # (p,)
    entry: Ints  # (C,) of the method that goes on
    table: Ints  # (C,)
    at: Ints  # see below


#: Places in `Point.scalars`.
VALUE: Final = 0
MISFIT: Final = 1
#: Places in `Work.at`.
PART: Final = 0  # the condition being solved; -1 between evaluations
FRESH: Final = 1  # whether its solve is to begin
USED: Final = 2  # steps tried since the kernel was entered
N_AT: Final = 3

#: Places in `Search.count`.
STAGE: Final = 0
ITERATIONS: Final = 1
TRIED: Final = 2
EVALUATIONS: Final = 3
LOST: Final = 4
REASON: Final = 5
STEPS: Final = 6
LIMIT: Final = 7  # iterations allowed
N_COUNT: Final = 8

#: Stages: what the point under evaluation is for.
FIRST: Final = 0  # the search begins there
TRIAL: Final = 1  # a damped step leads there
KNOWN: Final = 2  # nothing is evaluated: scoring begins at a known point
SCORE_FIRST: Final = 3  # scoring begins there
SCORE: Final = 4  # a scoring step leads there
OVER: Final = 5

#: Why a damped search ended.
NO_PARAMETER: Final = 1
ENOUGH_GAINED: Final = 2
NO_STEP: Final = 3
ALL_ITERATIONS: Final = 4
UNDEFINED: Final = 5  # the first point cannot be computed

#: Places in `Search.number`.
DAMPING: Final = 0
GROWTH: Final = 1
PROMISED: Final = 2
DECREMENT: Final = 3
N_NUMBER: Final = 4


class Search(NamedTuple):
    """A search in progress."""

    count: Ints  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    number: Floats
    free: Ints  # (p,) parameters that may move, the first ``free[p]`` of them; (p + 1,)
    lengths: Floats  # (p,) of the root's columns
    columns: Floats  # (p, rows) the root, overwritten
    v: Floats  # (p, p)
    s: Floats  # (p,)
    along: Floats  # (p,)
    step: Floats  # (p,)


class Queue(NamedTuple):
    """Searches to be taken by whatever thread is free, and where they led; N of them.

    Rows belong to the thread that took them; ``done`` and ``lane`` to one thread alone.
    """

    next: Ints  # (1,) the first that nobody has taken
    begin: Floats  # (N, p) inside the bounds
    x: Floats  # (N, p)
    gradient: Floats  # (N, p)
    numbers: Floats  # (N, N_FOUND)
    counts: Ints  # (N, N_COUNT)
    done: Ints  # (N,) those this thread ended since its memory was read
    lane: Ints  # (N_LANE,)


#: Places in `Queue.numbers`, behind those of `Search.number`.
FOUND_VALUE: Final = N_NUMBER
FOUND_MISFIT: Final = N_NUMBER + 1
N_FOUND: Final = N_NUMBER + 2
#: Places in `Queue.lane`.
TAKEN: Final = 0  # the search under way, or -1
N_DONE: Final = 1
ITERATIONS_EACH: Final = 2  # allowed
N_LANE: Final = 3
