"""What users write, in any of the accepted forms, normalised to Equations."""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import sympy as sp

from symode.equations.checks import find_faults, refuse
from symode.equations.equations import Equations
from symode.equations.mass import read_mass
from symode.equations.namespace import SymbolNamespace
from symode.equations.walk import symbols_in
from symode.errors import ModelError

SymbolLike: TypeAlias = sp.Symbol | str
SymbolsLike: TypeAlias = Iterable[SymbolLike] | SymbolLike


def as_expression(value: object) -> sp.Basic:
    """Return a number or expression as a SymPy object, without ever reading text.

    Parameters
    ----------
    value
        A SymPy object, a Python or NumPy number, a `fractions.Fraction`, or an object that
        converts itself (``_sympy_``, such as those of symengine).

    Raises
    ------
    ModelError
        For anything else: strings, arrays, None.

    Examples
    --------
    >>> as_expression(10), as_expression(Fraction(1, 2))
    (10, 1/2)
    """
    if isinstance(value, sp.MatrixBase):
        raise ModelError(
            f"is a matrix of shape {value.shape}, and one scalar expression is expected"
        )
    if isinstance(value, sp.Basic):
        return value
    if isinstance(value, str):
        raise ModelError(
            f"is the text {value!r}; write a SymPy expression, or give the whole model as text to "
            "Model.from_text"
        )
    if isinstance(value, bool):
        raise ModelError(f"is {value}, a truth value, and a number or an expression is expected")
    if isinstance(value, numbers.Integral):
        return sp.Integer(int(value))
    if isinstance(value, Fraction):
        return sp.Rational(value.numerator, value.denominator)
    if isinstance(value, numbers.Real):
        return sp.Float(float(value))
    if isinstance(value, numbers.Complex):
        raise ModelError(f"is the complex number {value}; models are real")
    converter = getattr(value, "_sympy_", None)
    if callable(converter):
        return as_expression(converter())
    raise ModelError(f"is a {type(value).__name__}, and a number or a SymPy expression is expected")


class _Reader:
    """Collects the faults and symbols of one model while its pieces are normalised."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.by_name: dict[str, sp.Symbol] = {}

    def know(self, symbols: Iterable[object]) -> None:
        """Let names refer to these symbols; the first symbol of a name wins."""
        for symbol in symbols:
            if isinstance(symbol, sp.Symbol):
                self.by_name.setdefault(symbol.name, symbol)

    def symbol(self, key: object) -> Any:
        """Return the symbol a key stands for; other keys are returned as they are."""
        if isinstance(key, str):
            return self.by_name.setdefault(key, sp.Symbol(key))
        return key

    def expression(self, value: object, place: str) -> sp.Basic:
        """Return a value as an expression, or note the fault and return zero."""
        try:
            return as_expression(value)
        except ModelError as error:
            self.faults.append(f"{place} {error}.")
            return sp.S.Zero


def _split(names: SymbolsLike) -> list[Any]:
    """Return one key for each symbol or name; a string may hold several, as in ``"a b"``."""
    if isinstance(names, str):
        return [name for name in re.split(r"[\s,]+", names) if name]
    if isinstance(names, sp.Symbol):
        return [names]
    return list(names)


def _ordered(names: SymbolsLike, what: str, reader: _Reader) -> list[Any]:
    """Return keys in the order given; refuse containers that have values or no order."""
    if isinstance(names, Mapping):
        reader.faults.append(
            f"{what}= is a mapping; give the symbols only, in the order of the arrays. "
            "Values are passed to each solve."
        )
    elif isinstance(names, set | frozenset):
        reader.faults.append(
            f"{what}= is a set, which has no order; give a list or tuple, in the order of the "
            "arrays."
        )
        return sorted(names, key=str)
    elif not isinstance(names, str | sp.Symbol | Iterable):
        reader.faults.append(f"{what}= is {names!r}; give a list of symbols or names.")
        return []
    return _split(names)


def _equation_pairs(
    equations: object, states: SymbolsLike | None, reader: _Reader
) -> tuple[list[Any], list[object]]:
    """Return state keys and right-hand sides from a mapping, pairs, or a vector with states."""
    given = None if states is None else _ordered(states, "states", reader)
    if isinstance(equations, Mapping):
        pairs = list(equations.items())
    elif isinstance(equations, sp.MatrixBase):
        return _vector(list(equations.flat()), given, reader)
    elif isinstance(equations, Iterable) and not isinstance(equations, str | sp.Basic):
        items = list(equations)
        if not all(isinstance(item, tuple | list | sp.Tuple) and len(item) == 2 for item in items):
            return _vector(items, given, reader)
        pairs = [(item[0], item[1]) for item in items]
    elif isinstance(equations, str):
        raise ModelError("The equations are a text. Model.from_text(text) reads models from text.")
    else:
        raise ModelError(
            f"The equations are a {type(equations).__name__}. Give a mapping {{state: expression}}"
            ", pairs (state, expression), or a list or column Matrix of expressions with states=."
        )
    if given is None:
        return [key for key, _ in pairs], [value for _, value in pairs]
    return _in_order(pairs, given, reader)


def _vector(
    values: list[Any], states: list[Any] | None, reader: _Reader
) -> tuple[list[Any], list[object]]:
    """Return the states next to a bare vector of right-hand sides."""
    if states is None:
        raise ModelError(
            f"The equations are {len(values)} expressions without names. Say whose derivatives "
            "they are with states=, or write a mapping {state: expression}."
        )
    return states, values


def _in_order(
    pairs: Sequence[tuple[Any, Any]], states: list[Any], reader: _Reader
) -> tuple[list[Any], list[object]]:
    """Return pairs rearranged to the order of the states given; note what is missing or extra."""
    reader.know(states)
    reader.know(key for key, _ in pairs)
    ordered = [reader.symbol(state) for state in states]
    found: dict[Any, Any] = {}
    for key, value in pairs:
        symbol = reader.symbol(key)
        if symbol in found:
            reader.faults.append(f"{symbol} has two equations; a state has one.")
        found[symbol] = value
        if symbol not in ordered:
            reader.faults.append(
                f"There is an equation of {symbol}, which is not among states= "
                f"({', '.join(map(str, ordered))})."
            )
    for state in ordered:
        if state not in found:
            reader.faults.append(f"The state {state} has no equation.")
    return ordered, [found.get(state, sp.S.Zero) for state in ordered]


def _initial_values(
    initial: object, states: Sequence[Any], reader: _Reader
) -> tuple[sp.Basic, ...] | None:
    """Return one initial value per state, in order, or None."""
    if initial is None:
        return None
    if isinstance(initial, Mapping):
        found: dict[Any, Any] = {}
        for key, value in initial.items():
            symbol = reader.symbol(key)
            found[symbol] = value
            if symbol not in states:
                reader.faults.append(
                    f"initial= gives a value to {symbol}, which is not a state "
                    f"({', '.join(map(str, states))})."
                )
        for state in states:
            if state not in found:
                reader.faults.append(f"initial= has no value for the state {state}.")
        values: list[object] = [found.get(state, sp.S.Zero) for state in states]
    elif isinstance(initial, sp.MatrixBase):
        values = list(initial.flat())
    elif isinstance(initial, Iterable) and not isinstance(initial, str | set | frozenset):
        values = list(initial)
    else:
        reader.faults.append(
            f"initial= is a {type(initial).__name__}; give a mapping {{state: value}} or one value "
            "per state in a list."
        )
        return None
    labels = [*map(str, states), *(f"number {i + 1}" for i in range(len(states), len(values)))]
    return tuple(
        reader.expression(value, f"The initial value of {label}")
        for label, value in zip(labels, values, strict=False)
    )


def _observables(observables: object, reader: _Reader) -> tuple[tuple[Any, sp.Basic], ...]:
    """Return pairs (name, expression)."""
    if observables is None:
        return ()
    if isinstance(observables, Mapping):
        items = list(observables.items())
    elif isinstance(observables, Iterable) and not isinstance(observables, str):
        items = list(observables)
        if not all(isinstance(item, tuple | list) and len(item) == 2 for item in items):
            reader.faults.append(
                "observables= holds something other than pairs; give a mapping {name: expression}."
            )
            return ()
    else:
        reader.faults.append(
            f"observables= is a {type(observables).__name__}; give a mapping {{name: expression}}."
        )
        return ()
    return tuple(
        (name, reader.expression(value, f"The observable {name!r}")) for name, value in items
    )


def _time_symbol(
    time: SymbolLike | None, expressions: Iterable[sp.Basic], taken: Sequence[Any], reader: _Reader
) -> Any:
    """Return the time symbol given, or the "t" of the expressions, or a new Symbol("t")."""
    if time is not None:
        return reader.symbol(time)
    for symbol in symbols_in(expressions):
        if symbol.name == "t" and symbol not in taken:
            return symbol
    return sp.Symbol("t")


def _inferred_parameters(symbols: Iterable[sp.Symbol], others: Sequence[Any]) -> list[sp.Symbol]:
    """Return the symbols that are neither states nor time, sorted by name.

    A namesake with other assumptions is left out: the checks then say where it stands.
    """
    taken = {symbol.name for symbol in others if isinstance(symbol, sp.Symbol)}
    by_name: dict[str, sp.Symbol] = {}
    for symbol in symbols:
        if symbol.name not in taken:
            by_name.setdefault(symbol.name, symbol)
    return [by_name[name] for name in sorted(by_name)]


def from_mapping(
    equations: object,
    parameters: SymbolsLike | None = None,
    time: SymbolLike | None = None,
    initial: object = None,
    observables: object = None,
    states: SymbolsLike | None = None,
    mass: object = None,
    algebraic: object = None,
) -> Equations:
    """Return checked Equations from SymPy expressions.

    Parameters
    ----------
    equations
        A mapping {state: right-hand side}, a sequence of such pairs, or, with ``states``, a
        sequence or column Matrix of right-hand sides. Keys are symbols or names.
    parameters
        Symbols or names in the order of every parameter array; a string may hold several names.
        None takes every symbol that is neither a state nor time, sorted by name.
    time
        The symbol or name of time. None takes the symbol named "t" of the expressions, or a new
        ``Symbol("t")`` where they have none.
    initial
        A mapping {state: value}, or one value per state; values are numbers or expressions in
        parameters and time. None leaves them to each solve.
    observables
        A mapping {name: expression} in states, time and parameters.
    states
        The order of the states where it is not that of ``equations``.
    mass
        The constant matrix M of ``M dz/dt = f``, see `symode.equations.mass.read_mass`.
    algebraic
        A mapping {state: expression} of equations ``0 = expression``, one for each state that has
        no derivative; these states come after those of ``equations``.

    Raises
    ------
    ModelError
        With every fault found, each named.

    Examples
    --------
    >>> import sympy as sp
    >>> x, y, b, a = sp.symbols("x y b a")
    >>> equations = from_mapping({x: a * x - b * x * y, y: -y}, initial={"x": 10, "y": b})
    >>> equations.parameter_names, equations.initial
    (('a', 'b'), (10, b))
    """
    reader = _Reader()
    if algebraic is not None:
        equations, mass = _with_algebraic(equations, algebraic, mass)
    keys, values = _equation_pairs(equations, states, reader)
    order = None if parameters is None else _ordered(parameters, "parameters", reader)
    reader.know([*keys, *(order or ()), time])
    rhs = [reader.expression(value, f"d{key}/dt") for key, value in zip(keys, values, strict=False)]
    rhs += [reader.expression(v, "An expression without a state") for v in values[len(keys) :]]
    reader.know(symbols_in(rhs))
    state_symbols = [reader.symbol(key) for key in keys]
    z0 = _initial_values(initial, state_symbols, reader)
    pairs = _observables(observables, reader)
    written = [*rhs, *(z0 or ()), *(expression for _, expression in pairs)]
    reader.know(symbols_in(written))
    theta = None if order is None else [reader.symbol(key) for key in order]
    taken = [*state_symbols, *(theta or ())]
    time_symbol = _time_symbol(time, written, taken, reader)
    if theta is None:
        theta = _inferred_parameters(symbols_in(written), [*state_symbols, time_symbol])
    if reader.faults:
        found = find_faults(state_symbols, rhs, theta, time_symbol, z0, pairs)
        refuse(list(dict.fromkeys([*reader.faults, *found])))
    return Equations(
        tuple(state_symbols),
        tuple(rhs),
        tuple(theta),
        time_symbol,
        z0,
        pairs,
        read_mass(mass, state_symbols),
    )


def _with_algebraic(
    equations: object, algebraic: object, mass: object
) -> tuple[list[tuple[Any, Any]], dict[str, int]]:
    """Return all equations as pairs, and the mass matrix of the algebraic ones."""
    if mass is not None:
        raise ModelError(
            "Give mass= or algebraic=, not both: an algebraic equation is a row of zeros of M."
        )
    if not isinstance(algebraic, Mapping):
        raise ModelError(
            f"algebraic= is a {type(algebraic).__name__}; give a mapping {{state: expression}} for "
            "the equations 0 = expression."
        )
    if isinstance(equations, Mapping):
        pairs = list(equations.items())
    elif isinstance(equations, Iterable) and not isinstance(equations, str | sp.Basic):
        pairs = [tuple(item) for item in equations if isinstance(item, tuple | list | sp.Tuple)]
    else:
        pairs = []
    if not all(len(pair) == 2 for pair in pairs) or (equations and not pairs):
        raise ModelError(
            "algebraic= goes with equations that name their states: a mapping {state: expression} "
            "or pairs. For a vector of right-hand sides, pass mass=."
        )
    return [*pairs, *algebraic.items()], {str(state): 0 for state in algebraic}


def from_function(
    function: Callable[[SymbolNamespace, sp.Symbol, SymbolNamespace], object],
    states: SymbolsLike,
    parameters: SymbolsLike = (),
    time: SymbolLike = "t",
    initial: object = None,
    observables: object = None,
) -> Equations:
    """Return checked Equations from a Python function of symbols, ``function(z, t, theta)``.

    The function is called once. ``z`` and ``theta`` can be unpacked, indexed (``z[0]``) and
    reached by name (``theta.k``).

    Raises
    ------
    ModelError
        With every fault found; also when the function needs numbers instead of symbols.

    Examples
    --------
    >>> def decay(z, t, theta):
    ...     return {"x": -theta.k * z.x}
    >>> from_function(decay, states="x", parameters="k").rhs
    (-k*x,)
    """
    reader = _Reader()
    z = [reader.symbol(key) for key in _ordered(states, "states", reader)]
    theta = [reader.symbol(key) for key in _ordered(parameters, "parameters", reader)]
    time_symbol = reader.symbol(time)
    refuse(reader.faults)
    try:
        result = function(SymbolNamespace(z), time_symbol, SymbolNamespace(theta))
    except TypeError as error:
        raise ModelError(
            f"The function could not be called with symbols (z, t, theta): {error}. Inside it, use "
            "the functions of sympy (sympy.sin, not math.sin or numpy.sin) and sympy.Piecewise in "
            "place of if."
        ) from error
    return from_mapping(result, theta, time_symbol, initial, observables, states=z)
