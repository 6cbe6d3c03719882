"""Programs: graphs as straight-line primitive operations, theta-only values hoisted.

All backends run the same program, so they agree to the rounding of the library functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from symode.symbolic.graph import BOOLEAN, LEAVES, Builder, Graph, Payload

FIELD: Final = "field"
PRODUCT: Final = "product"
#: What the names of eliminations contain.
ELIMINATION: Final = "lu_"


@dataclass(frozen=True)
class Program:
    """Straight-line code of one kernel.

    Parameters
    ----------
    name
        Name of the kernel.
    signature
        ``"field"``: reads (t, z, p); ``"product"``: reads v as well.
    ops, args, payloads
        One operation per line in order of execution; arguments are line numbers.
    outputs
        Line numbers of the results, in the order they are written to ``out``.

    Examples
    --------
    >>> b = Builder()
    >>> x = b.input("z", 0)
    >>> program = make_program("f", FIELD, b.freeze([b.unary("sin", x)]))
    >>> program.ops, program.args, program.outputs
    (('input', 'sin'), ((), (0,)), (1,))
    """

    name: str
    signature: str
    ops: tuple[str, ...]
    args: tuple[tuple[int, ...], ...]
    payloads: tuple[Payload, ...]
    outputs: tuple[int, ...]

    @property
    def is_elimination(self) -> bool:
        """Whether this is the factorization or a solve of a linear system.

        These run in the order they were built, which interleaves independent chains, and may fuse
        multiplications into additions: their result is checked by its residual.
        """
        return ELIMINATION in self.name

    @property
    def n_operations(self) -> int:
        """Number of arithmetic operations and function calls."""
        return sum(op not in LEAVES for op in self.ops)


@dataclass(frozen=True)
class Bundle:
    """Programs compiled together; they share the layout of p = (theta, hoisted).

    The program ``hoist``, present when ``n_hoisted > 0``, computes the tail of p from theta.

    Examples
    --------
    >>> make_bundle({}, n_parameters=2)
    Bundle(programs=(), n_parameters=2, n_hoisted=0)
    """

    programs: tuple[Program, ...]
    n_parameters: int
    n_hoisted: int


def to_float(value: Fraction) -> float:
    """Return the nearest double, infinite beyond their range.

    Examples
    --------
    >>> to_float(Fraction(10) ** 400), to_float(Fraction(-1, 4))
    (inf, -0.25)
    """
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def lower(b: Builder, graph: Graph) -> tuple[int, ...]:
    """Add a graph as primitive operations, as every backend has them; return its outputs.

    Examples
    --------
    >>> b = Builder()
    >>> cube = Builder()
    >>> _ = lower(b, cube.freeze([cube.powi(cube.input("z", 0), 3)]))
    >>> b.ops
    ['input', 'mul', 'mul']
    """
    new: list[int] = []
    for op, args, payload in zip(graph.ops, graph.args, graph.payloads, strict=True):
        mapped = tuple(new[a] for a in args)
        if op == "powi":
            new.append(_power(b, mapped[0], payload))
        elif op in _LOWERED:
            new.append(_LOWERED[op](b, *mapped))
        else:
            new.append(b.node(op, mapped, payload))
    return tuple(new[i] for i in graph.outputs)


def _power(b: Builder, x: int, n: int) -> int:
    """Binary powering: x**n in at most 2 log2(n) products, shared between powers of x."""
    if n == 1:
        return x
    half = _power(b, x, n // 2)
    square = b.node("mul", (half, half))
    return b.node("mul", (square, x)) if n % 2 else square


def _exp(b: Builder, x: int) -> int:
    return b.node("exp", (x,))


def _sigmoid(b: Builder, x: int) -> int:
    one = b.const(1)
    return b.node("div", (one, b.node("add", (one, _exp(b, b.neg(x))))))


def _logaddexp(b: Builder, x: int, y: int) -> int:
    top = b.node("max", (x, y))
    gap = b.node("neg", (b.node("abs", (b.node("sub", (x, y)),)),))
    return b.node("add", (top, b.node("log1p", (_exp(b, gap),))))


def _slope(b: Builder, power: int, x: int, y: int) -> int:
    """Return x**(y - 1) from the power x**y."""
    exponent, one = b.value(y), b.const(1)
    if exponent is not None and exponent >= 1:
        at_zero = one if exponent == 1 else b.const(0)
    else:
        at_zero = b.node("div", (one, b.node("abs", (x,))))
    if exponent is None:
        edge = b.select(b.compare("eq", y, one), one, at_zero)
        at_zero = b.select(b.compare("lt", one, y), b.const(0), edge)
    return b.select(b.compare("eq", x, b.const(0)), at_zero, b.node("div", (power, x)))


_LOWERED: Final[dict[str, Callable[..., int]]] = {
    "sigmoid": _sigmoid,
    "logaddexp": _logaddexp,
    "slope": _slope,
}


def make_program(name: str, signature: str, graph: Graph) -> Program:
    """Return the program of a graph, nothing hoisted.

    Examples
    --------
    >>> b = Builder()
    >>> cube = b.freeze([b.powi(b.input("z", 0), 3)])
    >>> make_program("cube", FIELD, cube).ops
    ('input', 'mul', 'mul')
    """
    b = Builder()
    return _program(b, name, signature, lower(b, graph), {})


def make_bundle(kernels: Mapping[str, tuple[str, Graph]], n_parameters: int) -> Bundle:
    """Return the programs of named kernels, with values of theta alone hoisted into p.

    Parameters
    ----------
    kernels
        For each name its signature and graph.
    n_parameters
        m: hoisted values follow the m parameters in p.

    Examples
    --------
    >>> b = Builder()
    >>> x, k = b.input("z", 0), b.input("p", 0)
    >>> graph = b.freeze([b.mul(x, b.unary("exp", k))])
    >>> [program.name for program in make_bundle({"f": (FIELD, graph)}, 1).programs]
    ['hoist', 'f']
    """
    b = Builder()
    outputs = {name: lower(b, graph) for name, (_, graph) in kernels.items()}
    hoisted = _hoistable(b, [i for ids in outputs.values() for i in ids])
    slots = {i: n_parameters + k for k, i in enumerate(hoisted)}
    programs = [_program(b, name, kernels[name][0], ids, slots) for name, ids in outputs.items()]
    if hoisted:
        programs.insert(0, _program(b, "hoist", FIELD, tuple(hoisted), {}))
    return Bundle(tuple(programs), n_parameters, len(hoisted))


def _hoistable(b: Builder, roots: list[int]) -> list[int]:
    """Return the maximal values that depend on parameters alone and cost an operation."""
    constant: list[bool] = []
    for op, args, payload in zip(b.ops, b.args, b.payloads, strict=True):
        if op == "input":
            constant.append(payload[0] == "p")
        else:
            constant.append(all(constant[a] for a in args))
    # A sign or a truth value costs less than the load that would replace it: its users keep it,
    # and what it rests on is hoisted instead.
    cheap = BOOLEAN | {"neg"}
    used = {i for i in roots if constant[i]}
    for i, args in enumerate(b.args):
        if not constant[i]:
            used.update(a for a in args if constant[a])
    # Arguments have smaller ids, so this meets users first.
    for i in range(len(b.ops) - 1, -1, -1):
        if i in used and b.ops[i] in cheap:
            used.update(b.args[i])
    return sorted(i for i in used if b.ops[i] not in cheap | LEAVES)


def _needed(b: Builder, outputs: tuple[int, ...]) -> tuple[int, ...]:
    """Return all nodes below the outputs, in the order they were built."""
    seen = set(outputs)
    stack = list(outputs)
    while stack:
        for a in b.args[stack.pop()]:
            if a not in seen:
                seen.add(a)
                stack.append(a)
    return tuple(sorted(seen))


def _shared_divisors(b: Builder, outputs: tuple[int, ...], slots: Mapping[int, int]) -> set[int]:
    """Return the divisors of more than one division: these become products with one inverse.

    A quotient and its derivative divide by the same value, and a division takes as long as ten
    products: of a reaction network the products with the Jacobian take 0.6 of the time.
    """
    seen, stack, count = set(outputs), list(outputs), Counter[int]()
    while stack:
        i = stack.pop()
        if i in slots:
            continue
        if b.ops[i] == "div" and b.value(b.args[i][1]) is None:
            count[b.args[i][1]] += 1
        for a in b.args[i]:
            if a not in seen:
                seen.add(a)
                stack.append(a)
    return {i for i, times in count.items() if times > 1}


def _program(
    b: Builder, name: str, signature: str, outputs: tuple[int, ...], slots: Mapping[int, int]
) -> Program:
    """Return the lines these outputs need, hoisted nodes turned into inputs.

    In the order of a depth-first walk, which keeps a value close to its use. Eliminations keep the
    order they were built in: a walk would string their chains end to end, and a solve of the
    400-state Brusselator, bound by the latency of one chain, would take twice as long.
    """
    inner = Builder()
    new: dict[int, int] = {}
    shared = set() if ELIMINATION in name else _shared_divisors(b, outputs, slots)
    stack = list(reversed(_needed(b, outputs) if ELIMINATION in name else outputs))
    while stack:
        i = stack[-1]
        if i in new:
            stack.pop()
        elif i in slots:
            new[i] = inner.input("p", slots[i])
        else:
            waiting = [a for a in reversed(b.args[i]) if a not in new]
            if waiting:
                stack.extend(waiting)
            elif b.ops[i] == "div" and b.args[i][1] in shared:
                x, y = b.args[i]
                inverse = inner.node("div", (inner.const(1), new[y]))
                new[i] = inverse if b.value(x) == 1 else inner.node("mul", (new[x], inverse))
            else:
                new[i] = inner.node(b.ops[i], tuple(new[a] for a in b.args[i]), b.payloads[i])
    return Program(
        name,
        signature,
        tuple(inner.ops),
        tuple(inner.args),
        tuple(inner.payloads),
        tuple(new[i] for i in outputs),
    )
