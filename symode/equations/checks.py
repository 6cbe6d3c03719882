"""Checks of equations: all faults found at once, each named in the user's symbols.

Expressions are walked with an explicit stack, shared subtrees once, so that nesting depth is no
obstacle and the checks cost time linear in the size of the expressions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeAlias

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.logic.boolalg import Boolean, BooleanAtom, BooleanFunction

from symode.equations.describe import brief, describe_symbol, listed, name_of
from symode.equations.event import faults_of_events
from symode.equations.table import Tabulated
from symode.equations.walk import distinct_nodes
from symode.errors import ModelError

if TYPE_CHECKING:
    from symode.equations.equations import Equations

# A finding is (what is wrong, what to do); the places where it occurs are gathered per finding.
Finding: TypeAlias = tuple[str, str]

_INFINITE = (sp.S.Infinity, sp.S.NegativeInfinity, sp.S.ComplexInfinity, sp.S.NaN)
_COMPLEX = (
    sp.conjugate,
    sp.re,
    sp.im,
    sp.arg,
    sp.adjoint,
    sp.polar_lift,
    sp.exp_polar,
    sp.periodic_argument,
    sp.principal_branch,
)
_UNEVALUATED = (sp.Derivative, sp.Integral, sp.Sum, sp.Product, sp.Limit, sp.Subs)
_UNSUPPORTED = (
    sp.MatrixExpr,
    sp.MatrixBase,
    sp.matrices.expressions.matexpr.MatrixElement,
    sp.Indexed,
    sp.IndexedBase,
    sp.DiracDelta,
    sp.Order,
    sp.AccumBounds,
)
_KINKED = (
    sp.Abs,
    sp.sign,
    sp.Heaviside,
    sp.Min,
    sp.Max,
    sp.Piecewise,
    sp.floor,
    sp.ceiling,
    sp.frac,
    sp.Mod,
)


def check_equations(equations: Equations) -> None:
    """Raise a `ModelError` with every fault of the equations; return when there is none.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import sympy as sp
    >>> x, k, t = sp.symbols("x k t")
    >>> check_equations(SimpleNamespace(states=(x,), rhs=(k * x + sp.I,), parameters=(), time=t,
    ...                                 initial=None, observables=()))
    Traceback (most recent call last):
        ...
    symode.errors.ModelError: The equations do not form a model:
      - The imaginary unit I in dx/dt: models are real.
      - Unknown symbol k in dx/dt: declare it in parameters=.
    """
    events = getattr(equations, "events", ())
    refuse(
        find_faults(
            equations.states,
            equations.rhs,
            equations.parameters,
            equations.time,
            equations.initial,
            equations.observables,
        )
        + (faults_of_events(equations, _declared(equations)) if events else [])
    )


def _declared(equations: Equations) -> dict[sp.Basic, str]:
    symbols = (*equations.states, *equations.parameters, equations.time)
    return dict.fromkeys(symbols, "declared")


def refuse(faults: Sequence[str]) -> None:
    """Raise a `ModelError` that lists the faults; return when there are none.

    Examples
    --------
    >>> refuse([])
    """
    if faults:
        lines = "".join(f"\n  - {fault}" for fault in faults)
        raise ModelError(f"The equations do not form a model:{lines}", faults)


def find_faults(
    states: Sequence[object],
    rhs: Sequence[object],
    parameters: Sequence[object],
    time: object,
    initial: Sequence[object] | None = None,
    observables: Sequence[tuple[object, object]] = (),
) -> list[str]:
    """Return every fault of the pieces of a model, one sentence each; empty for a sound model.

    Examples
    --------
    >>> import sympy as sp
    >>> x, k, t = sp.symbols("x k t")
    >>> find_faults([x], [-k * x], [k, x], t)
    ['The name x is used twice, for a state and a parameter: rename one.']
    """
    faults = _faults_of_declarations(states, parameters, time, observables)
    if not states:
        faults.append("There is no state: a model has at least one equation.")
    if len(rhs) != len(states):
        faults.append(
            f"There are {len(rhs)} right-hand sides for {len(states)} states "
            f"({', '.join(map(name_of, states))}): give one each, in that order."
        )
    if initial is not None and len(initial) != len(states):
        faults.append(
            f"There are {len(initial)} initial values for {len(states)} states "
            f"({', '.join(map(name_of, states))}): give one each, in that order."
        )
    roles = [*((state, "state") for state in states), *((p, "parameter") for p in parameters)]
    known = {s: role for s, role in [*roles, (time, "time")] if isinstance(s, sp.Symbol)}
    clock = name_of(time)
    places = [
        *((f"d{name_of(s)}/d{clock}", e, "rhs") for s, e in zip(states, rhs, strict=False)),
        *(
            (f"the initial value of {name_of(s)}", e, "initial")
            for s, e in zip(states, initial or (), strict=False)
        ),
        *((f"the observable {name!r}", e, "observable") for name, e in observables),
    ]
    found: defaultdict[Finding, list[str]] = defaultdict(list)
    for place, expression, kind in places:
        for finding in _findings(expression, known, kind):
            if place not in found[finding]:
                found[finding].append(place)
    faults += [f"{what} in {listed(where)}: {advice}." for (what, advice), where in found.items()]
    return faults


def faults_of_expression(expression: sp.Basic) -> list[str]:
    """Return why an expression stands for no real number, whatever its symbols are.

    Examples
    --------
    >>> import sympy as sp
    >>> faults_of_expression(sp.Symbol("x") + sp.I)
    ['The imaginary unit I: models are real.']
    """
    known = dict.fromkeys((n for n in distinct_nodes([expression]) if n.is_Symbol), "symbol")
    found = dict.fromkeys(_findings(expression, known, "loss"))
    return [f"{what}: {advice}." for what, advice in found]


def non_smooth_constructs(equations: Equations) -> tuple[str, ...]:
    """Return one statement per construct with a kink or a jump, for display.

    Such models are accepted; their derivatives are those that hold almost everywhere.

    Examples
    --------
    >>> import sympy as sp
    >>> from symode.equations.equations import Equations
    >>> x, t = sp.symbols("x t")
    >>> non_smooth_constructs(Equations((x,), (-sp.Abs(x),), (), t))
    ('Abs(x) in dx/dt',)
    """
    names = [state.name for state in equations.states]
    places = [
        *((f"d{n}/d{equations.time}", e) for n, e in zip(names, equations.rhs, strict=True)),
        *(
            (f"the initial value of {n}", e)
            for n, e in zip(names, equations.initial or (), strict=False)
        ),
        *((f"the observable {name!r}", e) for name, e in equations.observables),
    ]
    return kinks_in(places)


def kinks_in(places: Sequence[tuple[str, sp.Expr]]) -> tuple[str, ...]:
    """Return one statement per construct with a kink or a jump in named expressions.

    Examples
    --------
    >>> import sympy as sp
    >>> x = sp.Symbol("x")
    >>> kinks_in([("the terminal loss", sp.Max(x, 1) + x**2)])
    ('Max(1, x) in the terminal loss',)
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for place, expression in places:
        for node in distinct_nodes([expression]):
            if isinstance(node, _KINKED):
                where = found[brief(node)]
                if place not in where:
                    where.append(place)
    return tuple(f"{construct} in {listed(where)}" for construct, where in found.items())


def _faults_of_declarations(
    states: Sequence[object],
    parameters: Sequence[object],
    time: object,
    observables: Sequence[tuple[object, object]],
) -> list[str]:
    """Return faults of the symbols themselves: kinds, assumptions, names."""
    faults: list[str] = []
    uses: defaultdict[str, list[tuple[sp.Symbol, str]]] = defaultdict(list)
    declared = [*((s, "state") for s in states), *((p, "parameter") for p in parameters)]
    for thing, role in [*declared, (time, "time")]:
        if not isinstance(thing, sp.Symbol):
            faults.append(_not_a_symbol(thing, role))
            continue
        uses[thing.name].append((thing, role))
        faults += _faults_of_assumptions(thing, role)
    for name, entries in uses.items():
        if len(entries) > 1:
            faults.append(_clash(name, entries))
    names: set[str] = set()
    for label, _ in observables:
        if not isinstance(label, str) or not label:
            faults.append(f"The observable {label!r} is not named by a text: use a name in quotes.")
        elif label in names:
            faults.append(f"The observable name {label!r} is used twice: rename one.")
        elif label in uses:
            role = uses[label][0][1]
            article = "" if role == "time" else "a "
            faults.append(
                f"The observable name {label!r} is also that of {article}{role}: rename it."
            )
        if isinstance(label, str):
            names.add(label)
    return faults


def _not_a_symbol(thing: object, role: str) -> str:
    article = "Time" if role == "time" else f"The {role}"
    if isinstance(thing, AppliedUndef):
        name = type(thing).__name__
        way_out = f"is a function: write Symbol({name!r}) for it everywhere"
    elif isinstance(thing, sp.Derivative):
        way_out = "is a derivative: write the state itself, its equation gives the derivative"
    else:
        way_out = f"is a {type(thing).__name__}, and a Symbol is expected"
    return f"{article} {name_of(thing)} {way_out}."


def _faults_of_assumptions(symbol: sp.Symbol, role: str) -> Iterator[str]:
    if not symbol.name.strip():
        yield f"A {role} has an empty name: give it one."
    if symbol.is_commutative is False:
        yield f"{describe_symbol(symbol)} does not commute: models are made of real numbers."
    elif symbol.is_infinite:
        yield f"{describe_symbol(symbol)} is infinite: models are made of real numbers."
    elif symbol.is_extended_real is False:
        yield f"{describe_symbol(symbol)} is not real: models are made of real numbers."


def _clash(name: str, entries: Sequence[tuple[sp.Symbol, str]]) -> str:
    roles = [role if role == "time" else f"a {role}" for _, role in entries]
    way_out = "rename one, or pass another time=" if "time" in roles else "rename one"
    fault = f"The name {name} is used twice, for {' and '.join(dict.fromkeys(roles))}: {way_out}."
    kinds = list(dict.fromkeys(describe_symbol(symbol) for symbol, _ in entries))
    if len(kinds) > 1:
        fault += (
            f" ({' and '.join(kinds)} are different symbols to SymPy, since their assumptions "
            "differ; to mean one, create it once.)"
        )
    return fault


def _findings(expression: object, known: Mapping[sp.Symbol, str], kind: str) -> Iterator[Finding]:
    """Yield what is wrong below one expression, walking it with an explicit stack."""
    if not isinstance(expression, sp.Basic):
        yield (
            f"{expression!r}, a {type(expression).__name__},",
            "a SymPy expression is expected",
        )
        return
    seen: dict[tuple[int, bool], sp.Basic] = {}
    stack: list[tuple[sp.Basic, bool]] = [(expression, False)]
    while stack:
        node, is_condition = entry = stack.pop()
        if (id(node), is_condition) in seen:
            continue
        seen[id(node), is_condition] = node
        if isinstance(node, sp.Symbol):
            finding = _judge_symbol(node, known, kind, is_condition)
            children: Iterable[tuple[sp.Basic, bool]] = ()
        elif is_condition:
            finding, children = _judge_condition(entry[0])
        else:
            finding, children = _judge_number(entry[0], known)
        if finding is not None:
            yield finding
        stack.extend(reversed(list(children)))


def _judge_symbol(
    symbol: sp.Symbol, known: Mapping[sp.Symbol, str], kind: str, is_condition: bool
) -> Finding | None:
    if is_condition:
        return f"The symbol {symbol} as a condition", f"compare it, as in {symbol} > 0"
    role = known.get(symbol)
    if role is not None:
        if kind == "initial" and role == "state":
            return (
                f"The state {symbol}",
                "initial values are expressions in parameters and time only",
            )
        return None
    for other, role in known.items():
        if other.name == symbol.name:
            return (
                f"{describe_symbol(symbol)}",
                f"the {role} of that name was declared as {describe_symbol(other)}, and SymPy "
                "holds symbols with different assumptions to be different. Create the symbol once "
                "and use it everywhere",
            )
    names = [other.name for other in known]
    close = [n for n in names if n.lower() == symbol.name.lower()]
    close = close or get_close_matches(symbol.name, names, n=2)
    guess = f" (did you mean {' or '.join(close)}?)" if close else ""
    return f"Unknown symbol {symbol}", f"declare it in parameters={guess}"


def _judge_condition(node: sp.Basic) -> tuple[Finding | None, list[tuple[sp.Basic, bool]]]:
    if isinstance(node, BooleanAtom):
        return None, []
    if isinstance(node, Relational):
        return None, [(arg, False) for arg in node.args]
    if isinstance(node, BooleanFunction):
        return None, [(arg, True) for arg in node.args]
    finding = f"The condition {brief(node)}", "write it with <, <=, >, >=, And, Or, Not"
    return finding, []


def _judge_number(
    node: sp.Basic, known: Mapping[sp.Symbol, str]
) -> tuple[Finding | None, list[tuple[sp.Basic, bool]]]:
    """Return what is wrong with one node that stands for a number, and its children."""
    nothing: list[tuple[sp.Basic, bool]] = []
    if isinstance(node, sp.Piecewise):
        pairs = [pair for pair in node.args if isinstance(pair, ExprCondPair)]
        return None, [c for pair in pairs for c in ((pair.args[0], False), (pair.args[1], True))]
    if any(node is constant for constant in _INFINITE):
        return (f"The constant {node}", "numbers are finite"), nothing
    if node is sp.I:
        return ("The imaginary unit I", "models are real"), nothing
    if isinstance(node, sp.Number | sp.NumberSymbol):
        return None, nothing
    name = type(node).__name__
    if isinstance(node, _UNEVALUATED):
        advice = "call .doit() to evaluate it, or write out its value"
        return (f"The unevaluated {name} {brief(node)}", advice), nothing
    if isinstance(node, Boolean):
        advice = "a number is expected there; write Piecewise((1, condition), (0, True))"
        return (f"The condition {brief(node)}", advice), nothing
    if isinstance(node, _COMPLEX):
        return (f"The complex construct {brief(node)}", "models are real"), nothing
    if isinstance(node, Tabulated):
        return None, [(arg, False) for arg in node.args[:2]]
    is_expression = isinstance(node, sp.Expr) and not isinstance(node, _UNSUPPORTED)
    if not is_expression or not node.args:
        advice = "it is not a real-valued expression of symbols, numbers and functions"
        return (f"The {name} {brief(node)}", advice), nothing
    if isinstance(node, AppliedUndef):
        for symbol in known:
            if symbol.name == name:
                return (f"The function {brief(node)}", f"write the symbol {symbol} for it"), nothing
    # One level only: asking a deep expression whether it is real would recurse.
    constant = all(isinstance(arg, sp.Number) for arg in node.args)
    if constant and node.is_extended_real is False:
        return (f"The complex number {brief(node)}", "models are real"), nothing
    return None, [(arg, False) for arg in node.args if isinstance(arg, sp.Basic)]
