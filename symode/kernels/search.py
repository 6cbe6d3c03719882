r"""The damped search and the scoring that ends it, compiled.

`symode.problems.damped` and `symode.problems.scoring` have the same in Python, for problems that
this does not cover, with the same tests and constants. Everything a search knows lies in its
arguments, so that it can be left between any two steps of a solve and entered again.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from symode.kernels.decompose import singular_values
from symode.kernels.jit import inline, kernel
from symode.kernels.likelihood import evaluate
from symode.kernels.search_types import (
    ALL_ITERATIONS,
    CUT_OFF,
    DAMPING,
    DECREMENT,
    ENOUGH,
    ENOUGH_GAINED,
    EVALUATIONS,
    FIRST,
    FIRST_DAMPING,
    FOUND_MISFIT,
    FOUND_VALUE,
    FRACTIONS,
    GROWTH,
    ITERATIONS,
    ITERATIONS_EACH,
    KNOWN,
    LEAST,
    LEAST_VALUE,
    LIMIT,
    LONGEST,
    LOST,
    MAX_STEPS,
    MISFIT,
    N_DONE,
    NO_PARAMETER,
    NO_STEP,
    OVER,
    PART,
    PROMISED,
    REASON,
    SCORE,
    SCORE_FIRST,
    SLACK,
    STAGE,
    STEPS,
    TAKEN,
    TRIAL,
    TRIALS,
    TRIED,
    UNDEFINED,
    USED,
    VALUE,
    Noise,
    Parts,
    Point,
    Priors,
    Queue,
    Search,
    Space,
    Work,
)
from symode.kernels.types import Floats
from symode.status import PAUSED, SUCCESS, SWITCH


@inline
def side(space: Space, x: Floats, i: int, slack: float) -> int:
    """Return -1 at the lower bound, 1 at the upper, 0 between."""
    room = slack * space.widths[i] if space.widths[i] < math.inf else 0.0
    found = 0
    if x[i] >= space.upper[i] - room:
        found += 1
    if x[i] <= space.lower[i] + room:
        found -= 1
    return found


@inline
def take(source: Point, target: Point) -> None:
    """Copy a point with what was found there."""
    p, rows = source.root.shape
    target.scalars[VALUE] = source.scalars[VALUE]
    target.scalars[MISFIT] = source.scalars[MISFIT]
    for i in range(p):
        target.x[i] = source.x[i]
        target.gradient[i] = source.gradient[i]
        for k in range(rows):
            target.root[i, k] = source.root[i, k]


@inline
def decompose(space: Space, point: Point, search: Search, slack: float, least: float) -> int:
    """Decompose the root in the parameters that may move; return how many there are."""
    p, rows = point.root.shape
    longest = 0.0
    for i in range(p):
        square = 0.0
        for k in range(rows):
            square += point.root[i, k] ** 2
        search.lengths[i] = math.sqrt(square)
        longest = max(longest, search.lengths[i])
    count = 0
    for i in range(p):
        length = max(search.lengths[i], least * longest)
        # Downhill is out of the box where the gradient points into it.
        if length > 0.0 and side(space, point.x, i, slack) * point.gradient[i] >= 0.0:
            search.lengths[i] = length
            search.free[count] = i
            for k in range(rows):
                search.columns[count, k] = point.root[i, k] / length
            count += 1
    search.free[p] = count
    singular_values(search.columns, count, rows, search.v, search.s)
    for j in range(count):
        total = 0.0
        for i in range(count):
            at = search.free[i]
            total += search.v[j, i] * point.gradient[at] / search.lengths[at]
        search.along[j] = total
    return count


@inline
def damped_step(search: Search) -> float:
    """Set the damped step from the decomposition; return what it promises to gain."""
    p = search.step.size
    count, number = search.free[p], search.number
    largest, promised = 0.0, 0.0
    for j in range(count):
        largest = max(largest, search.s[j] ** 2)
    for i in range(p):
        search.step[i] = 0.0
    for j in range(count):
        value = max(search.s[j] ** 2, LEAST_VALUE * largest)
        along = search.along[j] / (value + number[DAMPING])
        promised += along * (search.along[j] - 0.5 * value * along)
        for i in range(count):
            at = search.free[i]
            search.step[at] -= search.v[j, i] * along / search.lengths[at]
    return promised


@inline
def scoring_step(space: Space, point: Point, search: Search) -> None:
    """Set the scoring step, no longer than the box, and what a whole one would gain."""
    p = search.step.size
    count = decompose(space, point, search, SLACK, 0.0)
    largest, gain = 0.0, 0.0
    for j in range(count):
        largest = max(largest, search.s[j])
    for i in range(p):
        search.step[i] = 0.0
    for j in range(count):
        if not (search.s[j] > CUT_OFF * largest):
            continue
        along = search.along[j] / search.s[j]
        gain += along * along
        for i in range(count):
            at = search.free[i]
            search.step[at] -= search.v[j, i] * along / search.s[j] / search.lengths[at]
    longest = 1.0
    for i in range(p):
        longest = max(longest, abs(search.step[i]) / space.widths[i])
    for i in range(p):
        search.step[i] /= longest
    search.number[DECREMENT] = 0.5 * gain


@inline
def aim(space: Space, point: Point, search: Search, fraction: float, trial: Point) -> None:
    """Set the trial point, inside the bounds."""
    for i in range(search.step.size):
        x = point.x[i] + fraction * search.step[i]
        trial.x[i] = min(max(x, space.lower[i]), space.upper[i])


@inline
def next_damped(space: Space, here: Point, trial: Point, search: Search) -> bool:
    """Aim at the next damped step; return whether there is one, else leave the reason."""
    count, number = search.count, search.number
    if search.free[search.step.size] == 0:
        count[REASON] = NO_PARAMETER
        return False
    if count[TRIED] == TRIALS:
        count[REASON] = NO_STEP
        return False
    number[PROMISED] = damped_step(search)
    value, misfit = here.scalars[VALUE], here.scalars[MISFIT]
    if number[PROMISED] <= ENOUGH * min(1.0, misfit) + 1e-12 * abs(value):
        count[REASON] = ENOUGH_GAINED
        return False
    longest = 0.0
    for i in range(search.step.size):
        longest = max(longest, abs(search.step[i]) / space.widths[i])
    aim(space, here, search, LONGEST / longest if longest > LONGEST else 1.0, trial)
    return True


@inline
def after_damped(
    space: Space, here: Point, trial: Point, search: Search, defined: bool, first: bool
) -> bool:
    """Judge a point; return whether another is to be evaluated."""
    count, number = search.count, search.number
    if first:
        if not (defined and abs(trial.scalars[VALUE]) < math.inf):
            count[REASON] = UNDEFINED
            return False
        number[DAMPING], number[GROWTH] = FIRST_DAMPING, 2.0
    else:
        gain = here.scalars[VALUE] - trial.scalars[VALUE]
        if not defined:
            number[DAMPING] *= 10.0
        elif not (gain > 0.0):
            number[DAMPING] *= number[GROWTH]
            number[GROWTH] *= 2.0
        else:
            # Nielsen (1999): damping follows how well the last step was foretold.
            ratio = gain / number[PROMISED] if number[PROMISED] > 0.0 else 1.0
            number[DAMPING] *= max(1.0 / 3.0, 1.0 - (2.0 * min(ratio, 1.0) - 1.0) ** 3)
            number[GROWTH] = 2.0
            count[ITERATIONS] += 1
            first = True
        if not first:
            count[TRIED] += 1
            return next_damped(space, here, trial, search)
    take(trial, here)
    count[TRIED] = 0
    if count[ITERATIONS] >= count[LIMIT]:
        count[REASON] = ALL_ITERATIONS
        return False
    decompose(space, here, search, 0.0, LEAST)
    return next_damped(space, here, trial, search)


@inline
def next_score(space: Space, here: Point, trial: Point, search: Search) -> bool:
    """Aim at the next scoring step; return whether there is one."""
    scoring_step(space, here, search)
    search.count[TRIED] = 0
    enough = search.number[DECREMENT] <= 1e-14 * (1.0 + abs(here.scalars[VALUE]))
    if enough or search.count[STEPS] == MAX_STEPS:
        return False
    aim(space, here, search, FRACTIONS[0], trial)
    return True


@inline
def after_score(space: Space, here: Point, trial: Point, search: Search, defined: bool) -> bool:
    """Judge a scoring step; return whether another point is to be evaluated."""
    count = search.count
    if defined and trial.scalars[VALUE] < here.scalars[VALUE]:
        take(trial, here)
        count[STEPS] += 1
        return next_score(space, here, trial, search)
    count[TRIED] += 1
    if count[TRIED] == len(FRACTIONS):
        return False
    aim(space, here, search, FRACTIONS[count[TRIED]], trial)
    return True


@inline
def go_on(
    space: Space,
    parts: Parts,
    noise: Noise,
    priors: Priors,
    work: Work,
    here: Point,
    trial: Point,
    search: Search,
    scores: bool,
    budget: int,
) -> int:
    """Go on with one search until it is over; see `run_search`."""
    count = search.count
    while count[STAGE] != OVER:
        stage, goes_on = count[STAGE], True
        if stage == KNOWN:
            count[STEPS] = 0
            goes_on = next_score(space, here, trial, search)
            count[STAGE] = SCORE if goes_on else OVER
            continue
        status = evaluate(space, parts, noise, priors, work, trial, budget)
        if status in (PAUSED, SWITCH):
            return status
        defined = status == SUCCESS
        count[EVALUATIONS] += 1
        if not defined:
            count[LOST] += 1
        if stage == SCORE:
            if not after_score(space, here, trial, search, defined):
                count[STAGE] = OVER
        elif stage == SCORE_FIRST:
            if not (defined and abs(trial.scalars[VALUE]) < math.inf):
                count[REASON] = UNDEFINED
                count[STAGE] = OVER
                continue
            take(trial, here)
            count[STAGE] = KNOWN
        elif after_damped(space, here, trial, search, defined, stage == FIRST):
            count[STAGE] = TRIAL
        else:
            count[STAGE] = KNOWN if scores and count[REASON] != UNDEFINED else OVER
    return SUCCESS


@intrinsic
def take_number(typingctx: Any, counter: Any) -> Any:
    """Return the first entry of an array and raise it by one, as one operation for all threads."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(counter), codegen


@inline
def take_search(parts: Parts, work: Work, trial: Point, search: Search, queue: Queue) -> bool:
    """Begin with the next search of the queue; return whether there is one."""
    taken = take_number(queue.next)
    if taken >= queue.begin.shape[0]:
        return False
    queue.lane[TAKEN] = taken
    for i in range(trial.x.size):
        trial.x[i] = queue.begin[taken, i]
    for i in range(search.count.size):
        search.count[i] = 0
    search.count[STAGE] = FIRST
    search.count[LIMIT] = queue.lane[ITERATIONS_EACH]
    search.number[DECREMENT] = math.inf
    for c in range(parts.entry.size):
        work.entry[c], work.table[c] = parts.entry[c], parts.table[c]
    work.at[PART] = -1
    return True


@inline
def keep_search(here: Point, search: Search, queue: Queue) -> None:
    """Write down where the search under way has led."""
    at = queue.lane[TAKEN]
    for i in range(here.x.size):
        queue.x[at, i] = here.x[i]
        queue.gradient[at, i] = here.gradient[i]
    for i in range(search.number.size):
        queue.numbers[at, i] = search.number[i]
    queue.numbers[at, FOUND_VALUE] = here.scalars[VALUE]
    queue.numbers[at, FOUND_MISFIT] = here.scalars[MISFIT]
    for i in range(search.count.size):
        queue.counts[at, i] = search.count[i]
    queue.done[queue.lane[N_DONE]] = at
    queue.lane[N_DONE] += 1
    queue.lane[TAKEN] = -1


@kernel
def run_search(
    space: Space,
    parts: Parts,
    noise: Noise,
    priors: Priors,
    work: Work,
    here: Point,
    trial: Point,
    search: Search,
    queue: Queue,
    scores: bool,
    budget: int,
) -> int:
    """Search on from ``trial.x`` (stages FIRST, SCORE_FIRST) or ``here`` (KNOWN); return a status.

    SUCCESS ends in stage OVER, with the best point in ``here``; after a damped search scoring
    follows where ``scores``. PAUSED and SWITCH are as in `symode.kernels.likelihood.evaluate`.
    With a queue its searches follow, one after the other: several threads share its first half.
    """
    work.at[USED] = 0
    while True:
        status = go_on(
            space, parts, noise, priors, work, here, trial, search, scores, budget
        )  # fmt: skip
        if status != SUCCESS:
            return status
        if queue.lane[TAKEN] >= 0:
            keep_search(here, search, queue)
        if not take_search(parts, work, trial, search, queue):
            return SUCCESS
