r"""Hierarchical search: scalings, offsets and spreads are set to their optimum at every point.

Inner parameters w of scaling and offset enter the location of normal noise in a straight line,
:math:`u(h_k) = c_k + A_k w` (on a logarithmic scale w is the logarithm of the scaling), and inner
spreads are sigmas of their own. For outer parameters :math:`\vartheta` the best w solves weighted
linear least squares, and the best spread of n residuals is
:math:`\sigma^2 = \tfrac1n \sum_k (u(y_k) - u(h_k))^2`. The objective of the search is

.. math:: J^*(\vartheta) = \min_w J(\vartheta, w), \qquad
          \frac{dJ^*}{d\vartheta} = \frac{\partial J}{\partial\vartheta}\Big|_{w^*}

whose gradient needs no derivative of :math:`w^*` (envelope theorem), and whose Fisher information
is that of the outer parameters with the part that w can follow taken out. Loos, Krause & Hasenauer
(2018), *Bioinformatics* 34, 4266; Golub & Pereyra (1973), *SIAM J. Numer. Anal.* 10, 413.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike, NDArray

from symode.equations.walk import symbols_in
from symode.errors import OptionError
from symode.problems.censoring import KNOWN
from symode.problems.conditions import ParameterMap
from symode.problems.parts import Column, Part, Rows
from symode.problems.scores import Scores
from symode.problems.space import ParameterSpace
from symode.solvers.methods import did_you_mean

if TYPE_CHECKING:
    from symode.problems.problem import Problem

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

#: Rounds of scalings and spreads in turn. Two suffice where the values of a scaling have one
#: spread; several spreads of one scaling converge within some dozens.
ROUNDS: Final = 200


@dataclass(frozen=True, eq=False)
class ReducedScores(Scores):
    """Scores in the outer parameters; inner ones follow."""

    followers: Floats

    @property
    def information_root(self) -> Floats:
        """Return W without what the inner parameters can follow. Shape ``(k, p)``."""
        root = super().information_root
        if not self.followers.size:
            return root
        q, _ = np.linalg.qr(self.followers)
        return np.asarray(root - q @ (q.T @ root))


class Reduced:
    """A problem as a search sees it that sets inner parameters to their optimum.

    Parameters
    ----------
    problem
        The whole problem.
    names
        Inner parameters, as the problem names them.

    Raises
    ------
    OptionError
        Naming a parameter that cannot be an inner one, and why.
    """

    def __init__(self, problem: Problem, names: Sequence[str]) -> None:
        self.problem = problem
        whole = problem.space
        places = [whole.parameters.index(name) for name in names]
        self.inner = np.array([whole.names.index(name) for name in names], dtype=np.intp)
        self.outer = np.setdiff1d(np.arange(whole.size), self.inner)
        self.space = ParameterSpace(
            whole.parameters,
            whole.places[self.outer],
            whole.values,
            tuple(whole.transforms[i] for i in self.outer),
            whole.lower[self.outer],
            whole.upper[self.outer],
        )
        self._places = np.array(places, dtype=np.intp)
        self._moving = np.zeros(len(whole.parameters), dtype=bool)
        self._moving[self._places] = True
        roles = [_roles(part, set(places)) for part in problem.parts]
        #: For each value the inner sigma (place among the inner ones) that it has, or -1.
        at = {place: k for k, place in enumerate(places)}
        self._sigma_of = np.array([at.get(s, -1) for r in roles for s, _ in r], dtype=np.intp)
        self._is_log = np.array([positive for r in roles for _, positive in r])
        spreads = set(self._sigma_of.tolist())
        self._spreads = np.array([k for k in range(len(places)) if k in spreads], dtype=np.intp)
        self._lines = np.array([k for k in range(len(places)) if k not in spreads], dtype=np.intp)
        low, high = whole.theta(whole.lower), whole.theta(whole.upper)
        self._low, self._high = np.asarray(low)[places], np.asarray(high)[places]
        self._start = np.clip(np.ones(len(places)), self._low, self._high)
        self._u = np.concatenate([block.u for part in problem.parts for block in part.blocks])

    def whole(self, x: ArrayLike) -> Floats:
        """Return the point of all estimated parameters, inner ones at their optimum."""
        return self._complete(self.space.check(x))

    def objective(self, x: ArrayLike) -> tuple[float, Floats]:
        """Return the negative log-likelihood and its gradient in the outer parameters."""
        scores = self.scores(x)
        return scores.value, scores.gradient

    def scores(self, x: ArrayLike) -> ReducedScores:
        """Return the scores of all values, inner parameters at their optimum."""
        point = self._complete(self.space.check(x))
        found = self.problem.scores(point)
        sides = self.problem.space.at_bound(point, 0.0)[self.inner]
        free = self.inner[sides == 0]
        return ReducedScores(
            found.slopes,
            found.log_sigma,
            found.dlocation[:, self.outer],
            found.dlog_sigma[:, self.outer],
            replace(
                found.prior,
                gradient=found.prior.gradient[self.outer],
                curvature=found.prior.curvature[self.outer],
            ),
            self._followers(found, free),
        )

    def _followers(self, found: Scores, free: Ints) -> Floats:
        """Return what the free inner parameters do to residuals, in the rows of the root."""
        lines = free[np.isin(free, self.inner[self._lines])]
        columns = np.sqrt(found.slopes.information)[:, None] * found.dlocation[:, lines]
        columns = columns[:, np.any(columns != 0.0, axis=0)]
        below = np.zeros((0, columns.shape[1]))
        if found.dlog_sigma[:, self.outer].any():
            below = np.zeros_like(columns)
        if found.prior.curvature[self.outer].any():
            below = np.vstack([below, np.zeros((self.outer.size, columns.shape[1]))])
        return np.vstack([columns, below])

    def _complete(self, x: Floats) -> Floats:
        """Return the whole point. One solve without derivatives finds the inner optimum."""
        theta = np.array(self.space.theta(x))
        theta[self._places] = self._start
        rows = self.problem._simulator.map(lambda part: part.rows(theta, self._moving))
        theta[self._places] = self._best(rows)
        return self.problem.space.point(theta)

    def _best(self, rows: Sequence[Rows]) -> Floats:
        """Return the inner parameters that the data like best, from rows at the start."""
        found = self._start.copy()
        log_sigma = np.concatenate([r.log_sigma for r in rows])
        residual = np.concatenate([r.slopes.residuals * r.unit for r in rows])
        slopes = np.concatenate([r.dlocation * r.unit[:, None] for r in rows])
        slopes = slopes[:, self._places[self._lines]]
        logs = np.array([bool(self._is_log[s != 0.0].any()) for s in slopes.T], dtype=bool)
        # On a logarithmic scale the straight line is in the logarithm of the scaling.
        start = np.where(logs, np.log(np.where(logs, found[self._lines], 1.0)), found[self._lines])
        slopes = slopes * np.where(logs, found[self._lines], 1.0)
        low, high = self._low[self._lines].copy(), self._high[self._lines].copy()
        with np.errstate(divide="ignore"):
            low[logs], high[logs] = np.log(low[logs]), np.log(high[logs])
        with_sigma, w = self._sigma_of >= 0, start
        left = residual
        for _ in range(ROUNDS):
            if self._lines.size:
                weights = np.exp(-log_sigma)
                w = start + _box(slopes * weights[:, None], residual * weights, low - start,
                                 high - start)  # fmt: skip
                left = residual - slopes @ (w - start)
            before = log_sigma.copy()
            for k in self._spreads:
                here = self._sigma_of == k
                best = np.sqrt(np.mean(left[here] ** 2))
                found[k] = float(np.clip(best, self._low[k], self._high[k]))
                log_sigma[here] = np.log(found[k])
            if not with_sigma.any() or not self._lines.size:
                break
            if np.abs(log_sigma - before).max() < 1e-14:
                break
        found[self._lines] = np.where(logs, np.exp(np.where(logs, w, 0.0)), w)
        return found


def _box(matrix: Floats, right: Floats, low: Floats, high: Floats) -> Floats:
    """Return the least-squares solution within bounds."""
    lengths = np.linalg.norm(matrix, axis=0)
    lengths[lengths == 0.0] = 1.0
    found = np.linalg.lstsq(matrix / lengths, right, rcond=None)[0] / lengths
    if np.all((found >= low) & (found <= high)):
        return np.asarray(found)
    from scipy.optimize import lsq_linear

    bounds = (low * lengths, high * lengths)
    return np.asarray(lsq_linear(matrix / lengths, right, bounds, tol=1e-14).x / lengths)


def make_reduced(problem: Problem, given: Sequence[str]) -> Reduced | None:
    """Return the reduced problem, or None where no inner parameters are given.

    Raises
    ------
    OptionError
        Naming a parameter that cannot be an inner one, and why.
    """
    if not given:
        return None
    space, layout = problem.space, problem.layout
    names = [copy for name in given for copy in layout.families.get(name, (name,))]
    for name in names:
        if name not in space.names:
            raise OptionError(
                f"hierarchical= names {name}{did_you_mean(name, space.names)}, which is not "
                f"estimated. Estimated are {', '.join(space.names)}."
            )
    if len(set(names)) == space.size:
        raise OptionError("hierarchical= names every estimated parameter: none is left to search.")
    places = {space.parameters.index(name) for name in names}
    with_prior = [space.parameters[i] for i, _ in problem.priors if i in places]
    if with_prior:
        raise _refusal(with_prior[0], "it has a prior, which the closed form does not know")
    _check_dynamics(problem, places)
    return Reduced(problem, list(dict.fromkeys(names)))


def _check_dynamics(problem: Problem, places: set[int]) -> None:
    """Raise where an inner parameter moves the solution."""
    equations = problem.layout.equations
    in_solution = set(symbols_in(equations.rhs)) | set(symbols_in(equations.initial or ()))
    rng = np.random.default_rng(0)
    for part in problem.parts:
        source = part.parameters.source
        for symbol, place in zip(equations.parameters, source, strict=True):
            if int(place) in places and symbol in in_solution:
                name = problem.space.parameters[int(place)]
                raise _refusal(name, "the equations or the initial values contain it")
        for place in sorted(places):
            if any(_is_used(m, place, rng) for m in _plain_maps(part)):
                name = problem.space.parameters[place]
                raise _refusal(name, f"condition {part.name!r} has an expression that contains it")


def _plain_maps(part: Part) -> tuple[ParameterMap, ...]:
    return part.parameters.phases


def _is_used(given: ParameterMap, place: int, rng: np.random.Generator) -> bool:
    """Return whether an expression of the condition depends on this parameter of the problem."""
    if given.graph is None:
        return False
    return bool(given._rows(rng.uniform(0.5, 2.0, given.size))[:, 1 + place].any())


def _roles(part: Part, places: set[int]) -> list[tuple[int, bool]]:
    """Return for each value the place of its inner sigma (or -1), and whether u is a logarithm."""
    names = dict(zip(part.equations.parameters, part.parameters.source, strict=True))
    inner = {symbol: int(place) for symbol, place in names.items() if int(place) in places}
    result: list[tuple[int, bool]] = []
    for block in part.blocks:
        column = block.column
        sigma = _check_column(column, block.code, inner)
        result += [(sigma, column.noise.measure.is_positive)] * block.times.size
    return result


def _check_column(column: Column, code: int, inner: dict[Any, int]) -> int:
    """Return the place of the column's inner sigma, or -1; raise where there is no closed form."""
    location = column.noise.measure.location(column.expression)
    lines = [s for s in symbols_in([location]) if s in inner]
    spreads = [s for s in symbols_in([column.sigma]) if s in inner]
    if not lines and not spreads:
        return -1
    name = str((lines + spreads)[0])
    if not column.noise.is_normal or code != KNOWN:
        raise _refusal(name, f"{column.name} has other than normal noise, or censored values")
    if spreads and column.sigma not in inner:
        raise _refusal(str(spreads[0]), f"the sigma of {column.name} is more than this parameter")
    if set(lines) & set(spreads):
        raise _refusal(name, f"it is both in {column.name} and in its sigma")
    for symbol in lines:
        slope = sp.diff(location, symbol)
        if column.noise.measure.is_positive:
            slope = sp.cancel(symbol * slope)
        if not set(symbols_in([sp.cancel(slope)])).isdisjoint(lines):
            raise _refusal(str(symbol), f"{column.name} does not follow it in a straight line")
    return inner[column.sigma] if spreads else -1


def _refusal(name: str, why: str) -> OptionError:
    return OptionError(
        f"hierarchical= names {name}, but {why}. Leave it out: then it is searched like the others."
    )
