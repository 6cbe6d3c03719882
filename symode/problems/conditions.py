r"""Experimental conditions: what differs between the experiments of one problem.

The problem has its own parameters; in each condition every parameter of the model is one of them,
a number, or an expression in them:

.. math:: \theta_c = g_c(\vartheta), \qquad
          \frac{dJ}{d\vartheta} = \sum_c \Bigl(\frac{\partial g_c}{\partial\vartheta}\Bigr)^{\!\top}
          \frac{dJ_c}{d\theta_c}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.codegen.reference import evaluate
from symode.equations.describe import brief
from symode.equations.equations import Equations
from symode.equations.forcing import check_tables
from symode.equations.inputs import as_expression
from symode.equations.values import is_finite_number
from symode.equations.walk import symbols_in
from symode.errors import ModelError, OptionError
from symode.problems.inputs import with_condition_tables
from symode.solvers.methods import did_you_mean
from symode.symbolic.build import build
from symode.symbolic.derive import derive_dense
from symode.symbolic.graph import Builder, Graph

if TYPE_CHECKING:
    from symode.problems.rest import RestedMap

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Condition:
    """What one experiment sets.

    Parameters
    ----------
    values
        {parameter of the model: number, or expression in the problem's parameters}: doses, inputs,
        temperatures. What is not mentioned is the problem's parameter of that name.
    initial
        {state: number or expression} at t0, in place of the model's own.
    t0
        When the experiment starts; that of the problem by default.
    rest
        Another condition, of pre-equilibration: the experiment starts at the steady state under it,
        but for the states in ``initial``. It may itself start at the rest of a third one.
    inputs
        {parameter of the model: `symode.Table`}: inputs over time in its place; or a DataFrame with
        a column for each. Where one condition has a table, others have one too, or a number in
        ``values``.

    Examples
    --------
    >>> Condition({"dose": 2.5}, initial={"x": 0}).values
    {'dose': 2.5}
    """

    values: Mapping[Any, Any] = field(default_factory=dict)
    initial: Mapping[Any, Any] = field(default_factory=dict)
    t0: float | None = None
    rest: Condition | None = None
    inputs: Any = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", check_tables(self.inputs, "a Condition"))
        if self.rest is not None and isinstance(self.rest, Condition) and self.rest.inputs:
            raise OptionError(
                f"rest= of a Condition has a table of {', '.join(self.rest.inputs)}: with an input "
                "that changes there is no steady state. Give it a number in values=."
            )
        for name in ("values", "initial"):
            given = getattr(self, name)
            if not isinstance(given, Mapping):
                raise OptionError(
                    f"{name}= of a Condition must be a mapping of names to numbers or "
                    f"expressions; got {given!r}."
                )
            object.__setattr__(self, name, {str(key): value for key, value in given.items()})
        if self.t0 is not None and not is_finite_number(self.t0):
            raise OptionError(f"t0= of a Condition must be a finite number; got {self.t0!r}.")
        if self.rest is not None and not isinstance(self.rest, Condition):
            raise OptionError(f"rest= of a Condition must be another Condition; got {self.rest!r}.")

    @property
    def phases(self) -> tuple[Condition, ...]:
        """The condition and those at whose rest it starts, last first."""
        return (self,) if self.rest is None else (self, *self.rest.phases)


@dataclass(frozen=True, eq=False)
class ParameterMap:
    r"""How one condition makes the model's parameters of the problem's.

    Parameters
    ----------
    source
        For each parameter of the model the place of the problem's parameter that it is, or -1.
        Shape ``(m,)``.
    constant
        Its value where it is a number, else 0. Shape ``(m,)``.
    places
        Parameters of the model that are expressions.
    graph
        Their values, each followed by derivatives: rows of ``derive_dense``.
    size
        Number of the problem's parameters.
    """

    source: Ints
    constant: Floats
    places: Ints
    graph: Graph | None
    size: int

    def theta(self, outer: Floats) -> Floats:
        """Return the model's parameters. Shape ``(m,)``."""
        if self.is_identity:
            return outer
        theta = np.where(self.source >= 0, outer[self.source], self.constant)
        if self.graph is not None:
            theta[self.places] = self._rows(outer)[:, 0]
        return theta

    def pull(self, gradient: Floats, outer: Floats) -> Floats:
        r"""Return rows times :math:`\partial g/\partial\vartheta`. Shape ``(..., size)``."""
        if self.is_identity:
            return gradient
        copied = np.flatnonzero(self.source >= 0)
        result = np.zeros((*gradient.shape[:-1], self.size))
        # No two parameters of the model are the same one of the problem: those are expressions.
        result[..., self.source[copied]] = gradient[..., copied]
        if self.graph is not None:
            result += gradient[..., self.places] @ self._rows(outer)[:, 1:]
        return result

    @property
    def phases(self) -> tuple[ParameterMap, ...]:
        """The maps of a condition: this one alone."""
        return (self,)

    @cached_property
    def is_identity(self) -> bool:
        """Whether the model's parameters are the problem's, in order."""
        return self.source.size == self.size and bool((self.source == np.arange(self.size)).all())

    @cached_property
    def _affine(self) -> tuple[Floats, Floats] | None:
        """Values at 0 and slopes of expressions that are linear, such as a parameter's name."""
        assert self.graph is not None
        width = len(self.graph.outputs) // self.places.size
        slopes = [o for i, o in enumerate(self.graph.outputs) if i % width]
        if any(self.graph.ops[o] != "const" for o in slopes):
            return None
        rows = self._evaluated(np.zeros(self.size))
        return rows[:, 0], rows[:, 1:]

    def _rows(self, outer: Floats) -> Floats:
        if self._affine is None:
            return self._evaluated(outer)
        at_zero, slopes = self._affine
        return np.column_stack([at_zero + slopes @ outer, slopes])

    def _evaluated(self, outer: Floats) -> Floats:
        assert self.graph is not None
        flat = np.asarray(evaluate(self.graph, 0.0, (), outer), dtype=float)
        return flat.reshape(self.places.size, -1)[:, : 1 + self.size]


@dataclass(frozen=True, eq=False)
class Layout:
    """The parameters of a problem, and the map of each condition.

    Parameters
    ----------
    equations
        Of the model, with a parameter for each initial value that a condition sets.
    names
        The problem's parameters, in order.
    families
        {name: its copies}, of parameters that each condition has for itself.
    maps
        One for each condition.
    """

    equations: Equations
    names: tuple[str, ...]
    families: Mapping[str, tuple[str, ...]]
    maps: Mapping[str, ParameterMap | RestedMap]

    def spread(self, given: Mapping[Any, Any]) -> dict[str, Any]:
        """Return a mapping by name in which the name of a family stands for all its copies."""
        result: dict[str, Any] = {}
        for key, value in given.items():
            for name in self.families.get(str(key), ()):
                result.setdefault(name, value)
        return result | {str(k): v for k, v in given.items() if str(k) not in self.families}


def make_layout(
    equations: Equations,
    conditions: Mapping[str, Condition],
    extra: Iterable[Any] = (),
    local: Iterable[Any] = (),
) -> Layout:
    """Return the parameters of a problem with these conditions.

    Parameters
    ----------
    extra
        Symbols or names of parameters that only expressions of conditions contain.
    local
        Parameters of the model of which each condition has its own.

    Raises
    ------
    OptionError
        Naming the condition and what it mentions that does not exist.

    Examples
    --------
    >>> x, k, u, t = sp.symbols("x k u t")
    >>> decay = Equations((x,), (u - k * x,), (k, u), t, initial=(2 * k,))
    >>> layout = make_layout(decay, {"a": Condition({u: 1}), "b": Condition({u: k**2})})
    >>> layout.names, layout.maps["b"].theta(np.array([3.0])).tolist()
    (('k',), [3.0, 9.0])
    """
    equations, conditions = with_condition_tables(equations, conditions)
    locals_, extras = [str(p) for p in local], [_symbol(p) for p in extra]
    model_names = equations.parameter_names
    _check(equations, conditions, extras, locals_)
    equations, starts = _with_starts(equations, conditions)
    phases = [phase for condition in conditions.values() for phase in condition.phases]
    everywhere = [name for name in model_names if phases and all(name in p.values for p in phases)]
    names: list[str] = []
    families: dict[str, tuple[str, ...]] = {}
    for name in model_names:
        if name in locals_:
            families[name] = tuple(f"{name}[{c}]" for c, e in conditions.items()
                                   if name not in e.values)  # fmt: skip
            names.extend(families[name])
        elif name not in everywhere:
            names.append(name)
    names.extend(symbol.name for symbol in extras)
    # A parameter that every condition sets may still be what its own expression is made of.
    names.extend(n for n in everywhere if any(_uses_itself(p, n) for p in phases))
    symbols = {s.name: s for s in (*equations.parameters, *extras)}
    shared = equations, starts, names, families, symbols
    makers: dict[bool, Any] = {}

    def make(name: str, condition: Condition) -> ParameterMap | RestedMap:
        plain = _make_map(name, condition, *shared)
        if condition.rest is None:
            return plain
        from symode.problems.rest import RestedMap
        from symode.problems.rest_events import make_rests, may_fire

        before = make(name, condition.rest)
        fires = may_fire(equations, before.source, before.constant, before.places)
        if fires not in makers:
            makers[fires] = make_rests(equations, fires)
        states = [s for s in starts if s not in condition.initial]
        return RestedMap(
            plain,
            before,
            makers[fires],
            name,
            np.array([equations.state_names.index(s) for s in states], dtype=np.int64),
            np.array([starts[s][0] for s in states], dtype=np.int64),
            condition.t0,
        )

    maps = {name: make(name, condition) for name, condition in conditions.items()}
    return Layout(equations, tuple(names), families, maps)


def _make_map(
    name: str,
    condition: Condition,
    equations: Equations,
    starts: Mapping[str, tuple[int, sp.Expr]],
    names: Sequence[str],
    families: Mapping[str, tuple[str, ...]],
    symbols: Mapping[str, sp.Symbol],
) -> ParameterMap:
    m = equations.n_parameters
    source, constant = np.full(m, -1, dtype=np.int64), np.zeros(m)
    settings = {p: as_expression(value) for p, value in condition.values.items()}
    for state, (place, default) in starts.items():
        given = condition.initial.get(state)
        if condition.rest is not None and given is None:
            # The steady state, which `RestedMap` puts there.
            default = sp.Integer(0)
        settings[equations.parameter_names[place]] = (
            default if given is None else as_expression(given)
        )
    columns = {label: label for label in names} | {p: f"{p}[{name}]" for p in families}
    formulas: list[int] = []
    for i, parameter in enumerate(equations.parameter_names):
        value = settings.get(parameter)
        if value is None:
            source[i] = names.index(columns[parameter])
        elif value.is_Number:
            constant[i] = float(value)
        else:
            formulas.append(i)
    graph = None
    if formulas:
        b = Builder()
        node = _resolver(b, name, settings, columns, names, symbols)
        outputs = [node(equations.parameter_names[i], ()) for i in formulas]
        graph = derive_dense(b.freeze(outputs), 0, len(names))
    return ParameterMap(source, constant, np.array(formulas, dtype=np.int64), graph, len(names))


def _resolver(
    b: Builder,
    name: str,
    settings: Mapping[str, sp.Basic],
    columns: Mapping[str, str],
    names: Sequence[str],
    symbols: Mapping[str, sp.Symbol],
) -> Callable[[str, tuple[str, ...]], int]:
    """Return a function that adds the node of a parameter as this condition has it.

    Within an expression a name that the condition sets means what it sets it to; a parameter's own
    name in its own expression means the problem's.
    """
    labels = {symbol: label for label, symbol in symbols.items()}

    def node(label: str, asking: tuple[str, ...]) -> int:
        if label in settings and label not in asking:
            expression = settings[label]
            table = {}
            for symbol in symbols_in([expression]):
                if symbol not in labels:
                    raise OptionError(_stranger(name, symbol, names))
                table[symbol] = node(labels[symbol], (*asking, label))
            return build(b, [expression], table)[0]
        if label in asking[:-1]:
            raise OptionError(
                f"Condition {name!r} defines {label} through itself: {' -> '.join(asking)}."
            )
        column = columns.get(label)
        if column not in names:
            raise OptionError(_stranger(name, label, names))
        return b.input("p", names.index(column))

    return node


def _stranger(condition: str, label: Any, names: Sequence[str]) -> str:
    return (
        f"Condition {condition!r} uses {label}{did_you_mean(str(label), names)}, which is no "
        f"parameter of the problem. Those are {', '.join(names) or 'none'}; declare further ones "
        "with parameters=."
    )


def _with_starts(
    equations: Equations, conditions: Mapping[str, Condition]
) -> tuple[Equations, dict[str, tuple[int, sp.Expr]]]:
    """Return equations whose changed initial values are parameters; {state: (place, default)}."""
    changed = [
        state
        for state in equations.state_names
        if any(state in c.initial or c.rest is not None for c in conditions.values())
    ]
    if not changed:
        return equations, {}
    assert equations.initial is not None
    initial, parameters = list(equations.initial), list(equations.parameters)
    starts: dict[str, tuple[int, sp.Expr]] = {}
    taken = {*equations.state_names, *equations.parameter_names, str(equations.time)}
    for state in changed:
        i, name = equations.state_names.index(state), f"{state}_start"
        while name in taken:
            name += "_"
        if equations.time in symbols_in([initial[i]]):
            raise OptionError(
                f"A condition sets the initial value of {state}, which the model states as "
                f"{brief(initial[i])}, a function of time. Set it in every condition, or make it a "
                "parameter."
            )
        taken.add(name)
        starts[state] = (len(parameters), initial[i])
        parameters.append(sp.Symbol(name))
        initial[i] = parameters[-1]
    extended = replace(equations, parameters=tuple(parameters), initial=tuple(initial))
    return extended, starts


def _check(
    equations: Equations,
    conditions: Mapping[str, Condition],
    extras: Sequence[sp.Symbol],
    local: Sequence[str],
) -> None:
    known, states = equations.parameter_names, equations.state_names
    for name in local:
        if name not in known:
            raise OptionError(
                f"local= names {name}{did_you_mean(name, known)}, which is no parameter of the "
                f"model. Its parameters are {', '.join(known) or 'none'}."
            )
    for symbol in extras:
        if symbol.name in (*known, *states):
            raise OptionError(f"parameters= names {symbol}, which the model has already.")
    for label, condition in conditions.items():
        if not isinstance(condition, Condition):
            raise OptionError(
                f"conditions= must map names to symode.Condition(...); {label!r} is {condition!r}."
            )
        entries = [("values", phase.values, known) for phase in condition.phases]
        entries += [("initial", phase.initial, states) for phase in condition.phases]
        for what, given, names in entries:
            for name, value in given.items():
                if name not in names:
                    kind = "parameter" if what == "values" else "state"
                    raise OptionError(
                        f"Condition {label!r} sets {name}{did_you_mean(name, names)}, which is no "
                        f"{kind} of the model. It has {', '.join(names) or 'none'}."
                    )
                _checked(value, label, name)


def _checked(value: Any, label: str, name: str) -> sp.Basic:
    try:
        expression = as_expression(value)
    except ModelError as error:
        raise OptionError(f"Condition {label!r}: the value of {name} {error}.") from None
    if expression.is_Number and not np.isfinite(float(expression)):
        raise OptionError(f"Condition {label!r}: the value of {name} must be finite; got {value}.")
    return expression


def _uses_itself(condition: Condition, name: str) -> bool:
    value = as_expression(condition.values[name])
    return name in {symbol.name for symbol in symbols_in([value])}


def _symbol(value: Any) -> sp.Symbol:
    return value if isinstance(value, sp.Symbol) else sp.Symbol(str(value))
