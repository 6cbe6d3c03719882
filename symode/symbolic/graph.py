"""The expression graph: hash-consed nodes in topological order.

A node is an operation, the ids of its arguments and a static payload. Arguments always have
smaller ids, so a forward pass over ids evaluates and a backward pass differentiates; nothing here
recurses, whatever the depth of the expression.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Final

Payload = Any  # Fraction of a constant, (kind, index) of an input, int of powi, tables

#: Kinds of input: time, state, parameter, packed vector of a product kernel.
INPUT_KINDS: Final = ("t", "z", "p", "v")
LEAVES: Final = frozenset({"const", "nan", "input"})
BOOLEAN: Final = frozenset({"lt", "le", "eq", "ne", "and", "or", "not"})
COMMUTATIVE: Final = frozenset({"add", "mul", "mul0", "max", "min", "eq", "ne", "and", "or"})
ZERO: Final = Fraction(0)
ONE: Final = Fraction(1)


@dataclass(frozen=True)
class Graph:
    """A frozen set of nodes with the outputs read from it.

    Parameters
    ----------
    ops, args, payloads
        One entry per node: operation, ids of arguments, static payload.
    guarded
        Ids of derivative nodes that may be infinite, or that may be an exact zero next to an
        infinite factor; products with them are formed by ``mul0`` (see `symode.symbolic.rules`).
    outputs
        Ids of the values the graph computes, in order.

    Examples
    --------
    >>> b = Builder()
    >>> x = b.input("z", 0)
    >>> graph = b.freeze([b.mul(x, b.unary("sin", x))])
    >>> graph, graph.ops
    (Graph(2 operations, 1 outputs), ('input', 'sin', 'mul'))
    """

    ops: tuple[str, ...]
    args: tuple[tuple[int, ...], ...]
    payloads: tuple[Payload, ...]
    guarded: frozenset[int]
    outputs: tuple[int, ...]

    @property
    def n_operations(self) -> int:
        """Number of operations: nodes that are neither constants nor inputs."""
        return sum(op not in LEAVES for op in self.ops)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the nodes and outputs: equal for equal graphs in every process."""
        sha = hashlib.sha256()
        for op, args, payload in zip(self.ops, self.args, self.payloads, strict=True):
            sha.update(f"{op}{args}{payload};".encode())
        sha.update(repr(self.outputs).encode())
        return sha.hexdigest()

    def __getstate__(self) -> dict[str, object]:
        """Leave out what was derived from the graph and kept with it."""
        return {k: v for k, v in self.__dict__.items() if k not in ("jacobians", "frozen")}

    def __repr__(self) -> str:
        return f"Graph({self.n_operations} operations, {len(self.outputs)} outputs)"


class Builder:
    """Grow a graph node by node; equal nodes are made once, and trivial algebra is done here.

    Simplifications keep values exact: identities with 0 and 1, folding of rational constants,
    signs pulled outwards so that ``(-a)*b`` and ``a*b`` share their product.

    Examples
    --------
    >>> b = Builder()
    >>> x, y = b.input("z", 0), b.input("z", 1)
    >>> b.mul(x, y) == b.mul(y, x), b.sub(x, x) == b.const(0)
    (True, True)
    """

    def __init__(self, graph: Graph | None = None) -> None:
        self.ops: list[str] = []
        self.args: list[tuple[int, ...]] = []
        self.payloads: list[Payload] = []
        self.guarded: set[int] = set()
        self._table: dict[tuple[str, tuple[int, ...], Payload], int] = {}
        self._whole: dict[int, int] = {}  # constants that are whole numbers: their hash is cheap
        if graph is not None:
            self.ops, self.args = list(graph.ops), list(graph.args)
            self.payloads, self.guarded = list(graph.payloads), set(graph.guarded)
            keys = zip(self.ops, self.args, self.payloads, strict=True)
            self._table = {key: i for i, key in enumerate(keys)}

    # -- leaves -----------------------------------------------------------------------------

    def node(self, op: str, args: tuple[int, ...] = (), payload: Payload = None) -> int:
        """Return the id of this node, making it only if no equal one exists."""
        if op in COMMUTATIVE and args[0] > args[1]:
            args = (args[1], args[0])
        key = (op, args, payload)
        found = self._table.get(key)
        if found is None:
            found = self._table[key] = len(self.ops)
            self.ops.append(op)
            self.args.append(args)
            self.payloads.append(payload)
        return found

    def const(self, value: Fraction | int | float) -> int:
        """Return the node of an exact rational constant."""
        if type(value) is not int:
            return self.node("const", (), Fraction(value))
        found = self._whole.get(value)
        if found is None:
            found = self._whole[value] = self.node("const", (), Fraction(value))
        return found

    def input(self, kind: str, index: int) -> int:
        """Return the node of an input: kind is one of ``INPUT_KINDS``."""
        return self.node("input", (), (kind, index))

    def value(self, i: int) -> Fraction | None:
        """Return the value of a constant node, None for any other."""
        return self.payloads[i] if self.ops[i] == "const" else None

    # -- arithmetic -------------------------------------------------------------------------

    def add(self, a: int, b: int) -> int:
        """Return the node of a + b."""
        va, vb = self.value(a), self.value(b)
        if va == 0:
            return b
        if vb == 0:
            return a
        if va is not None and vb is not None and _is_short(va + vb):
            return self.const(va + vb)
        if self.ops[b] == "neg":
            return self.sub(a, self.args[b][0])
        if self.ops[a] == "neg":
            return self.sub(b, self.args[a][0])
        return self._guard(self.node("add", (a, b)), a, b)

    def sub(self, a: int, b: int) -> int:
        """Return the node of a - b."""
        va, vb = self.value(a), self.value(b)
        if vb == 0:
            return a
        if va == 0:
            return self.neg(b)
        if va is not None and vb is not None and _is_short(va - vb):
            return self.const(va - vb)
        if a == b and a not in self.guarded:
            return self.const(0)
        if self.ops[b] == "neg":
            return self.add(a, self.args[b][0])
        if self.ops[a] == "neg":
            return self.neg(self.add(self.args[a][0], b))
        # One orientation only, so that a - b and b - a share their operation.
        if ("sub", (b, a), None) in self._table:
            return self.neg(self._table[("sub", (b, a), None)])
        return self._guard(self.node("sub", (a, b)), a, b)

    def neg(self, a: int) -> int:
        """Return the node of -a."""
        va = self.value(a)
        if va is not None:
            return self.const(-va)
        if self.ops[a] == "neg":
            return self.args[a][0]
        return self._guard(self.node("neg", (a,)), a)

    def mul(self, a: int, b: int) -> int:
        """Return the node of a * b; ``mul0`` where a factor is guarded."""
        return self._product("mul0" if a in self.guarded or b in self.guarded else "mul", a, b)

    def mul0(self, a: int, b: int) -> int:
        """Return the node of a * b that is 0 wherever a factor is exactly 0, even next to inf."""
        return self._product("mul0", a, b)

    def _product(self, op: str, a: int, b: int) -> int:
        va, vb = self.value(a), self.value(b)
        if va == 0 or vb == 0:
            return self.const(0)
        if va is not None and vb is not None and _is_short(va * vb):
            return self.const(va * vb)
        if va is not None or vb is not None:
            op = "mul"  # the constant is finite and not 0
        sign_a, a = self._split_sign(a)
        sign_b, b = self._split_sign(b)
        if self.value(a) == 1:
            product = b
        elif self.value(b) == 1:
            product = a
        else:
            product = self._guard(self.node(op, (a, b)), a, b)
        return self.neg(product) if sign_a != sign_b else product

    def div(self, a: int, b: int) -> int:
        """Return the node of a / b; ``div0`` where the numerator is guarded."""
        va, vb = self.value(a), self.value(b)
        if va == 0:
            return self.const(0)
        if vb is not None and vb != 0:
            if va is not None and _is_short(va / vb):
                return self.const(va / vb)
            if abs(vb) == 1 or _is_power_of_two(vb):
                return self.mul(a, self.const(1 / vb))
        if a == b and a not in self.guarded:
            return self.const(1)
        sign_a, a = self._split_sign(a)
        sign_b, b = self._split_sign(b)
        if a in self.guarded:
            quotient = self.div0(a, b)
        else:
            quotient = self._guard(self.node("div", (a, b)), b)
        return self.neg(quotient) if sign_a != sign_b else quotient

    def div0(self, a: int, b: int) -> int:
        """Return the node of a / b that is 0 wherever a is exactly 0; the result is guarded."""
        if self.value(a) == 0:
            return self.const(0)
        return self.guard(self.node("div0", (a, b)))

    def powi(self, a: int, n: int) -> int:
        """Return the node of a**n for an integer n."""
        if n == 0:
            return self.const(1)
        if n < 0:
            return self.div(self.const(1), self.powi(a, -n))
        if n == 1:
            return a
        va = self.value(a)
        if va is not None and n <= 64 and _is_short(va**n):
            return self.const(va**n)
        if self.ops[a] == "neg":
            p = self.powi(self.args[a][0], n)
            return self.neg(p) if n % 2 else p
        return self._guard(self.node("powi", (a,), n), a)

    def slope(self, power: int, x: int, y: int) -> int:
        """Return the node of x**(y - 1), formed from the power x**y without a second call.

        Exact at x = 0: 0, 1 or infinite as y is above, at or below 1.
        """
        i = self.node("slope", (power, x, y))
        exponent = self.value(y)
        return self.guard(i) if exponent is None or exponent < 1 else i

    def unary(self, op: str, a: int, payload: Payload = None) -> int:
        """Return the node of a function of one argument."""
        va = self.value(a)
        if va is not None and (op, va) in _EXACT:
            return self.const(_EXACT[op, va])
        if op == "abs" and self.ops[a] in ("neg", "abs"):
            return self.unary("abs", self.args[a][0])
        return self.node(op, (a,), payload)

    def binary(self, op: str, a: int, b: int) -> int:
        """Return the node of ``pow``, ``atan2``, ``max``, ``min`` or ``logaddexp``."""
        if op in ("max", "min") and a == b:
            return a
        return self.node(op, (a, b))

    # -- conditions -------------------------------------------------------------------------

    def compare(self, op: str, a: int, b: int) -> int:
        """Return the boolean node of ``lt``, ``le``, ``eq`` or ``ne``."""
        return self.node(op, (a, b))

    def select(self, condition: int, a: int, b: int) -> int:
        """Return the node that is a where the condition holds and b elsewhere."""
        if a == b:
            return a
        return self._guard(self.node("select", (condition, a, b)), a, b)

    def mask(self, condition: int, a: int, holds: bool = True) -> int:
        """Return the node that is a where the condition holds (or fails) and an exact 0 elsewhere.

        Guarded: the values it will be multiplied by may not exist on the other branch.
        """
        if self.value(a) == 0:
            return a
        zero = self.const(0)
        return self.guard(
            self.node("select", (condition, a, zero) if holds else (condition, zero, a))
        )

    def guard(self, i: int) -> int:
        """Mark a value as possibly infinite: products with it are formed by ``mul0``."""
        if self.value(i) is None:
            self.guarded.add(i)
        return i

    # -- whole graphs -----------------------------------------------------------------------

    def total(self, terms: Sequence[int]) -> int:
        """Return the node of the sum of terms, from left to right."""
        if not terms:
            return self.const(0)
        result = terms[0]
        for term in terms[1:]:
            result = self.add(result, term)
        return result

    def graft(self, graph: Graph) -> tuple[int, ...]:
        """Copy a graph into this one, sharing equal nodes; return the ids of its outputs."""
        new: list[int] = []
        for i, (op, args, payload) in enumerate(
            zip(graph.ops, graph.args, graph.payloads, strict=True)
        ):
            j = self.node(op, tuple(new[a] for a in args), payload)
            new.append(j)
            if i in graph.guarded:
                self.guarded.add(j)
        return tuple(new[i] for i in graph.outputs)

    def freeze(self, outputs: Sequence[int]) -> Graph:
        """Return the graph of what these outputs need, in the order of a depth-first walk.

        The walk keeps a value close to its use, which is what the registers of the compiled
        kernel want.
        """
        order = postorder(self.args, outputs)
        new = {old: i for i, old in enumerate(order)}
        return Graph(
            ops=tuple(self.ops[i] for i in order),
            args=tuple(self._renumbered(i, new) for i in order),
            payloads=tuple(self.payloads[i] for i in order),
            guarded=frozenset(new[i] for i in order if i in self.guarded),
            outputs=tuple(new[i] for i in outputs),
        )

    def _renumbered(self, i: int, new: dict[int, int]) -> tuple[int, ...]:
        args = tuple(new[a] for a in self.args[i])
        return tuple(sorted(args)) if self.ops[i] in COMMUTATIVE else args

    def _guard(self, i: int, *args: int) -> int:
        return self.guard(i) if any(a in self.guarded for a in args) else i

    def _split_sign(self, a: int) -> tuple[int, int]:
        if self.ops[a] == "neg":
            return -1, self.args[a][0]
        value = self.value(a)
        if value is not None and value < 0:
            return -1, self.const(-value)
        return 1, a


def postorder(args: Sequence[tuple[int, ...]], roots: Iterable[int]) -> list[int]:
    """Return the nodes needed by the roots, arguments before their users, depth first.

    Examples
    --------
    >>> postorder([(), (), (1,), (0, 2)], [3])
    [0, 1, 2, 3]
    >>> postorder([(), (), (1,), (0, 2)], [2])
    [1, 2]
    """
    order: list[int] = []
    seen: set[int] = set()
    for root in roots:
        stack = [(root, False)]
        while stack:
            i, expanded = stack.pop()
            if expanded:
                order.append(i)
            elif i not in seen:
                seen.add(i)
                stack.append((i, True))
                stack.extend((a, False) for a in reversed(args[i]) if a not in seen)
    return order


def _is_power_of_two(value: Fraction) -> bool:
    n, d = abs(value.numerator), value.denominator
    return n & (n - 1) == 0 and d & (d - 1) == 0


def _is_short(value: Fraction) -> bool:
    # Exact products of many constants would grow without bound; longer ones are left to floats.
    return value.numerator.bit_length() + value.denominator.bit_length() < 4096


_EXACT: Final[dict[tuple[str, Fraction], int]] = {
    ("sqrt", ZERO): 0,
    ("sqrt", ONE): 1,
    ("exp", ZERO): 1,
    ("log", ONE): 0,
    ("sin", ZERO): 0,
    ("cos", ZERO): 1,
    ("tan", ZERO): 0,
    ("tanh", ZERO): 0,
    ("sinh", ZERO): 0,
    ("cosh", ZERO): 1,
    ("abs", ZERO): 0,
    ("erf", ZERO): 0,
    ("atan", ZERO): 0,
    ("asin", ZERO): 0,
}
