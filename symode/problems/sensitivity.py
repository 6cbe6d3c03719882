r"""Local sensitivity: how observables move with each parameter, over time.

.. math:: S_j(t) = \frac{dh(t)}{d\theta_j}, \qquad
          E_j(t) = \frac{\theta_j}{h(t)} S_j(t)

The first in the units of h per unit of the parameter, the second (elasticity) without units: per
cent of h per per cent of the parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from symode.equations.loss import Loss, ObservationGroup
from symode.equations.values import vector
from symode.errors import InitialStateError, OptionError, ParameterError
from symode.gradients.residuals import Residuals
from symode.interface.model import Model

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LocalSensitivity:
    """Courses of observables with their derivatives.

    Parameters
    ----------
    times
        Shape ``(k,)``.
    observables, parameters
        Names: r and p of them.
    courses
        Shape ``(r, k)``.
    derivatives
        Shape ``(r, k, p)``.
    theta
        Parameters at which they hold. Shape ``(p,)``.
    """

    times: Floats
    observables: tuple[str, ...]
    parameters: tuple[str, ...]
    courses: Floats
    derivatives: Floats
    theta: Floats

    @property
    def elasticities(self) -> Floats:
        """Relative derivatives; NaN where an observable is 0. Shape ``(r, k, p)``."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.derivatives * self.theta / self.courses[:, :, None]
        return np.where(self.courses[:, :, None] == 0.0, np.nan, found)

    def ranking(self, observable: Any = None) -> list[tuple[str, float]]:
        r"""Return parameters with the root mean square of their effect, largest first.

        The effect is :math:`\theta_j\, dh/d\theta_j` over the times, relative to the root mean
        square of h; averaged over all observables where none is named.
        """
        rows = self._rows(observable)
        size = np.sqrt(np.mean(self.courses[rows] ** 2, axis=1))
        size = np.where(size > 0, size, 1.0)[:, None]
        effect = np.sqrt(np.mean((self.derivatives[rows] * self.theta) ** 2, axis=1)) / size
        total = effect.mean(axis=0)
        order = np.argsort(-total, kind="stable")
        return [(self.parameters[i], float(total[i])) for i in order]

    def plot(self, observable: Any = None, count: int = 8) -> Any:
        """Draw the scaled courses of the strongest parameters, and their ranking."""
        from symode.problems.plots_sensitivity import plot_local

        return plot_local(self, observable, count)

    def __repr__(self) -> str:
        """Return the ranking."""
        lines = [f"{name}: {effect:.3g}" for name, effect in self.ranking()]
        return "effect of each parameter, relative to the observables\n  " + "\n  ".join(lines)

    def _rows(self, observable: Any) -> list[int]:
        if observable is None:
            return list(range(len(self.observables)))
        if str(observable) not in self.observables:
            raise OptionError(
                f"There is no observable {observable}; there are {', '.join(self.observables)}."
            )
        return [self.observables.index(str(observable))]


def local_sensitivity(
    model: Model,
    times: ArrayLike,
    theta: Any = None,
    observables: Mapping[str, Any] | Sequence[str] | None = None,
    *,
    wrt: Sequence[Any] | None = None,
    t0: float = 0.0,
    **options: Any,
) -> LocalSensitivity:
    """Return how observables move with parameters, from exact forward sensitivities.

    Parameters
    ----------
    model
        With initial values.
    times
        Shape ``(k,)``, not before t0.
    theta
        All parameters, by name or in order.
    observables
        Names of states or observables, or {name: expression}; all observables of the model by
        default, or all states where it has none.
    wrt
        Parameters; all by default.
    t0
        When the initial values hold.
    **options
        ``solver``, ``rtol``, ``atol``, ``max_steps``, ``h_max``.

    Raises
    ------
    OptionError
        For unknown names and times before t0.
    SolverError
        When the solve fails.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k, x0 = sp.symbols("x k x0")
    >>> model = symode.Model({x: -k * x}, parameters=[k, x0], initial={x: x0})
    >>> found = local_sensitivity(model, [1.0, 2.0], {"k": 0.5, "x0": 3.0})
    >>> found.elasticities[0].round(6).tolist()
    [[-0.5, 1.0], [-1.0, 1.0]]
    >>> found.ranking()[0][0]
    'x0'
    """
    residuals, names, chosen, values, order = prepare_courses(
        model, times, theta, observables, wrt, t0, options
    )
    flat, rows = residuals(values)
    wanted = np.atleast_1d(np.asarray(times, dtype=float))
    back = np.argsort(order, kind="stable")
    shape = (len(names), wanted.size)
    places = [model.equations.parameter_names.index(name) for name in chosen]
    return LocalSensitivity(
        wanted,
        names,
        chosen,
        flat.reshape(shape)[:, back],
        rows.reshape(*shape, len(chosen))[:, back],
        values[places],
    )


def prepare_courses(
    model: Model,
    times: ArrayLike,
    theta: Any,
    observables: Mapping[str, Any] | Sequence[str] | None,
    wrt: Sequence[Any] | None,
    t0: float,
    options: Mapping[str, Any],
) -> tuple[Residuals, tuple[str, ...], tuple[str, ...], Floats, NDArray[np.intp]]:
    """Return compiled courses: residuals, names, parameters, values and the order of times."""
    if not isinstance(model, Model):
        raise OptionError(
            f"Sensitivity analysis expects (model, times, theta): a Model first; got {model!r}."
        )
    equations = model.equations
    if equations.initial is None:
        raise InitialStateError(
            "Sensitivity analysis needs a model with initial values: Model(..., initial={...})."
        )
    try:
        wanted = np.atleast_1d(np.asarray(times, dtype=float))
    except (TypeError, ValueError):
        wanted = np.empty(0)
    if wanted.ndim != 1 or not np.isfinite(wanted).all() or not wanted.size:
        raise OptionError(
            f"times must be a sequence of finite numbers; got {times!r}. The order is (model, "
            "times, theta, observables)."
        )
    if (wanted < t0).any() or not (wanted > t0).any():
        raise OptionError(f"times must not lie before t0 = {t0:g}, and one must lie after it.")
    names, expressions = _named_expressions(model, observables)
    known = equations.parameter_names
    chosen = known if wrt is None else tuple(str(name) for name in wrt)
    strangers = [name for name in chosen if name not in known]
    if strangers:
        raise OptionError(
            f"wrt= names {', '.join(strangers)}; the parameters are {', '.join(known)}."
        )
    order = np.argsort(wanted, kind="stable")
    groups = [ObservationGroup(h, wanted[order]) for h in expressions]
    residuals = Residuals(equations, Loss(observations=groups), chosen, t0=t0, **options)
    values = vector(theta, known, "parameters", ParameterError)
    return residuals, names, chosen, values, order


def _named_expressions(
    model: Model, observables: Mapping[str, Any] | Sequence[str] | None
) -> tuple[tuple[str, ...], list[Any]]:
    equations = model.equations
    known: dict[str, Any] = dict(zip(equations.state_names, equations.states, strict=True))
    named = dict(equations.observables)
    if observables is None:
        chosen = named or known
        return tuple(chosen), list(chosen.values())
    if isinstance(observables, Mapping):
        return tuple(str(n) for n in observables), list(observables.values())
    wanted = [observables] if isinstance(observables, str) else [str(n) for n in observables]
    for name in wanted:
        if name not in known | named:
            raise OptionError(
                f"There is no state or observable {name!r}. Known: {', '.join(known | named)}."
            )
    return tuple(wanted), [(known | named)[name] for name in wanted]
