"""The Numba backend: kernels as readable Python source, and that source compiled.

The source shows people what a kernel computes; compiled, it judges the LLVM backend. It holds
generated text only: no name a user chose enters it, except letters, digits and underscores in
comments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, Final

import numpy as np

from symode.codegen.compiled import NativeModel
from symode.codegen.program import FIELD, PRODUCT, Program, make_bundle, make_program, to_float
from symode.codegen.special import polygamma_graph
from symode.symbolic.graph import BOOLEAN, LEAVES, Graph

#: Binary operators with their precedence.
INFIX: Final = {
    "or": ("or", 1),
    "and": ("and", 2),
    "lt": ("<", 4),
    "le": ("<=", 4),
    "eq": ("==", 4),
    "ne": ("!=", 4),
    "add": ("+", 5),
    "sub": ("-", 5),
    "mul": ("*", 6),
    "div": ("/", 6),
    "pow": ("**", 8),
}
SELECT, NOT, NEG, ATOM = 0, 3, 7, 9
#: Operations written as calls, where the name differs.
CALLS: Final = {"gamma": "gamma", "loggamma": "lgamma", "max": "maximum", "min": "minimum"}
#: A value used once is written where it is used, as long as lines stay shorter than this.
LINE: Final = 60


def source(program: Program, names: Mapping[tuple[str, int], str] | None = None) -> str:
    """Return a Python function that computes the program.

    Its arguments are the time, the states ``z``, ``p`` (parameters, then values of parameters
    alone), for products the vector ``v``, and the array ``out`` of results.

    Parameters
    ----------
    names
        Names of inputs, ``("z", 0)`` and so on, for the comments.

    Examples
    --------
    >>> from symode.symbolic.graph import Builder
    >>> b = Builder()
    >>> z = b.input("z", 0)
    >>> growth = b.freeze([b.mul(b.input("p", 0), b.mul(z, b.sub(b.const(1), z)))])
    >>> print(source(make_program("rhs", FIELD, growth), {("z", 0): "x", ("p", 0): "r"}))
    def rhs(t, z, p, out):
        # z[0] = x
        # p[0] = r
        out[0] = p[0] * (z[0] * (1.0 - z[0]))
    """
    inner = "t, z, p, v, out" if program.signature == PRODUCT else "t, z, p, out"
    texts, lines = _statements(program)
    results = [f"out[{k}] = {texts[i][0]}" for k, i in enumerate(program.outputs)]
    body = [*_comments(program, names or {}), *lines, *results] or ["pass"]
    return "\n".join([f"def {_identifier(program.name)}({inner}):", *(f"    {x}" for x in body)])


def _comments(program: Program, names: Mapping[tuple[str, int], str]) -> list[str]:
    used = {
        payload for op, payload in zip(program.ops, program.payloads, strict=True) if op == "input"
    }
    order = {kind: k for k, kind in enumerate("tzpv")}
    return [
        f"# {_input(*key)} = {_identifier(names[key])}"
        for key in sorted(used, key=lambda key: (order[key[0]], key[1]))
        if key in names
    ]


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def _input(kind: str, index: int) -> str:
    return "t" if kind == "t" else f"{kind}[{index}]"


def _statements(program: Program) -> tuple[list[tuple[str, int]], list[str]]:
    """Return the text of each value with its precedence, and the assignments they rest on."""
    uses = [0] * len(program.ops)
    for args in program.args:
        for a in args:
            uses[a] += 1
    for i in program.outputs:
        uses[i] += 1
    texts: list[tuple[str, int]] = []
    lines: list[str] = []
    count = 0
    for i, (op, args, payload) in enumerate(
        zip(program.ops, program.args, program.payloads, strict=True)
    ):
        text, rank = _text(op, [texts[a] for a in args], payload)
        if op not in LEAVES and (uses[i] > 1 or len(text) > LINE):
            variable = f"{'b' if op in BOOLEAN else 'x'}{count}"
            count += 1
            lines.append(f"{variable} = {text}")
            text, rank = variable, ATOM
        texts.append((text, rank))
    return texts, lines


def _text(op: str, args: list[tuple[str, int]], payload: Any) -> tuple[str, int]:
    if op == "const":
        value = to_float(payload)
        if math.isinf(value):
            return ("inf", ATOM) if value > 0 else ("-inf", NEG)
        return repr(value), ATOM if value >= 0 else NEG
    if op == "nan":
        return "nan", ATOM
    if op == "input":
        return _input(*payload), ATOM
    if op in INFIX:
        sign, rank = INFIX[op]
        # Equal ranks group to the left; operands of ** and of comparisons are always enclosed.
        strict = rank in (4, 8)
        left = _enclosed(args[0], rank + strict)
        return f"{left} {sign} {_enclosed(args[1], rank + 1)}", rank
    if op == "neg":
        return f"-{_enclosed(args[0], NEG + 1)}", NEG
    if op == "not":
        return f"not {_enclosed(args[0], NOT + 1)}", NOT
    if op == "select":
        condition, then, other = (_enclosed(a, SELECT + 1) for a in args)
        return f"{then} if {condition} else {other}", SELECT
    name = f"polygamma_{payload}" if op == "polygamma" else CALLS.get(op, op)
    if op == "table":
        name = f"table_{payload.digest[:16]}"
    return f"{name}({', '.join(text for text, _ in args)})", ATOM


def _enclosed(value: tuple[str, int], least: int) -> str:
    text, rank = value
    return text if rank >= least else f"({text})"


# -- compiled -----------------------------------------------------------------------------------


def mul0(a: float, b: float) -> float:
    """Return a * b; an exact 0 wins over an infinite or undefined factor.

    Examples
    --------
    >>> mul0(0.0, math.inf)
    0.0
    """
    return 0.0 if a == 0.0 or b == 0.0 else a * b


def div0(a: float, b: float) -> float:
    """Return a / b; an exact 0 of a wins over b = 0.

    Examples
    --------
    >>> div0(0.0, 0.0)
    0.0
    """
    return 0.0 if a == 0.0 else a / b


def maximum(a: float, b: float) -> float:
    """Return the larger; a NaN of either comes through.

    Examples
    --------
    >>> maximum(1.0, 2.0)
    2.0
    """
    return a if a > b or a != a else b


def minimum(a: float, b: float) -> float:
    """Return the smaller; a NaN of either comes through.

    Examples
    --------
    >>> minimum(1.0, 2.0)
    1.0
    """
    return a if a < b or a != a else b


def floor(x: float) -> float:
    """Return the floor as a double, of any size.

    Examples
    --------
    >>> float(floor(-1.5))
    -2.0
    """
    return np.floor(x)  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _namespace() -> dict[str, Any]:
    """Return what the names of generated source mean."""
    from numba import njit

    scope: dict[str, Any] = {"nan": math.nan, "inf": math.inf, "abs": abs}
    for name in (
        *("sqrt", "exp", "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2"),
        *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "gamma", "lgamma"),
    ):
        scope[name] = getattr(math, name)
    for helper in (mul0, div0, maximum, minimum, floor):
        scope[helper.__name__] = njit(error_model="numpy")(helper)
    return scope


def _compiled(text: str, name: str, scope: Mapping[str, Any]) -> Any:
    """Return the jitted function of generated text."""
    from numba import njit

    scope = {**scope, "__builtins__": {}}
    exec(compile(text, f"<symode {name}>", "exec"), scope)
    return njit(error_model="numpy")(scope[name])


@cache
def _jitted_polygamma(n: int) -> Any:
    name = f"polygamma_{n}"
    lines = source(make_program(name, FIELD, polygamma_graph(n))).splitlines()
    lines[0] = f"def {name}(t):"
    lines[-1] = lines[-1].replace("out[0] =", "return")
    return _compiled("\n".join(lines), name, _namespace())


@cache
def _jitted_table(family: Any) -> Any:
    from numba import njit

    starts, breaks, rows = family.arrays
    origins = np.concatenate([pieces.origins for pieces in family.members])
    last, width = len(family.members) - 1, family.degree + 1

    def table(x: float, k: float) -> float:
        m = int(min(k, last)) if k > 0.0 else 0
        at = starts[m] + np.searchsorted(breaks[starts[m] : starts[m + 1]], x)
        piece = at + m
        s, total = x - origins[piece], rows[piece, width - 1]
        for d in range(width - 2, -1, -1):
            total = total * s + rows[piece, d]
        return total  # type: ignore[no-any-return]

    return njit(error_model="numpy")(table)


class NumbaModel(NativeModel):
    """Kernels of one model compiled by Numba from their readable source.

    The interface of `CompiledModel` at many times its compile time: a second target, to judge
    the first. Nothing is stored on disk.

    Parameters
    ----------
    kernels
        For each name its signature (``"field"`` or ``"product"``) and graph.
    n_parameters
        m.

    Attributes
    ----------
    sources
        The text of each kernel.

    Examples
    --------
    >>> from symode.symbolic.graph import Builder
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> model = NumbaModel({"rhs": ("field", decay)}, n_parameters=1)
    >>> model.call("rhs", 0.0, [2.0], model.pack([0.5]))
    array([-1.])
    """

    def __init__(self, kernels: Mapping[str, tuple[str, Graph]], n_parameters: int) -> None:
        bundle = make_bundle(kernels, n_parameters)
        self.signature = {program.name: program.signature for program in bundle.programs}
        self.sources = {program.name: source(program) for program in bundle.programs}
        self.n_outputs = {program.name: len(program.outputs) for program in bundle.programs}
        self.work_size = 0
        self.n_parameters = n_parameters
        self.n_p = n_parameters + bundle.n_hoisted
        self._entries = {program.name: _entry(program) for program in bundle.programs}
        self.address = {name: int(entry.address) for name, entry in self._entries.items()}


def _entry(program: Program) -> Any:
    """Return a C callback with the native signature, compiled from the source."""
    from numba import cfunc, types

    scope = dict(_namespace())
    for op, payload in zip(program.ops, program.payloads, strict=True):
        if op == "polygamma":
            scope[f"polygamma_{payload}"] = _jitted_polygamma(payload)
        elif op == "table":
            scope[f"table_{payload.digest[:16]}"] = _jitted_table(payload)
    function = _compiled(source(program), _identifier(program.name), scope)
    array = types.CPointer(types.float64)
    if program.signature == PRODUCT:

        def product(t, z, p, v, work, out):  # type: ignore[no-untyped-def]
            function(t, z, p, v, out)

        return cfunc(types.void(types.float64, *[array] * 5))(product)

    def field(t, z, p, work, out):  # type: ignore[no-untyped-def]
        function(t, z, p, out)

    return cfunc(types.void(types.float64, *[array] * 4))(field)
