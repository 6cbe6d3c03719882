"""How the searches of a fit went, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from symode.problems.result import Fit


def summary_lines(result: Fit) -> Iterator[str]:
    """Yield how the searches of a fit went, line by line."""
    problem, starts = result.problem, result.starts
    values = ", ".join(f"{s.values.size} of {s.name}" for s in problem.series)
    yield (
        f"Fit of {problem.size} parameters to {problem.n_values} values ({values}) by "
        f"{result.optimizer}, seed {result.seed}, {result.seconds:.2g} s"
    )
    if result.interrupted:
        yield f"  interrupted: {len(starts)} of {result.requested} starts were run"
    failed = [start for start in starts if start.status == "failed"]
    if len(failed) == len(starts):
        yield f"  all {len(starts)} starts failed, the first one so: {failed[0].message}"
        return
    best = result.best
    ended = [start for start in starts if start.status != "failed"]
    yield f"  best negative log-likelihood {best.value:.8g}, {best.status}"
    yield (
        f"  {result.n_best} of {len(starts)} starts ended there, {len(ended) - result.n_best} "
        f"elsewhere, {len(failed)} failed"
    )
    largest = float(np.max(np.abs(np.asarray(best.gradient))))
    yield (
        f"  largest slope {largest:.1e} on the scale of the search; "
        f"a Newton step would gain {best.decrement:.1e}"
    )
    if best.status != "converged":
        yield f"  NOT CONVERGED: {best.message}"
    if best.at_bound:
        held = ", ".join(f"{name} ({side})" for name, side in best.at_bound.items())
        yield f"  at a bound: {held}: widen bounds= if that is not meant"
    if result.n_best == 1 and len(ended) > 1:
        yield "  only one start ended there: more starts may find a better fit"
    if failed:
        yield f"  first failure (start {failed[0].index}): {failed[0].message}"
