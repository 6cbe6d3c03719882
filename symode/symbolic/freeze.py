"""Switches of a right-hand side frozen: which piece holds is an input, not found out in a stage.

Every condition of f that moves with the state or the time becomes a *switch*: a root function and
a mode, the sign of that function, which kernels read beside the parameters. Within a step all
stages then see one piece, smooth beyond its border, and the solver ends steps where a root function
crosses zero and turns the mode there.
"""

from __future__ import annotations

from dataclasses import dataclass

from symode.symbolic.graph import Builder, Graph

#: Largest number of operations of a root function that is written out in a message.
WRITTEN = 24
_INFIX = {"add": "+", "sub": "-", "mul": "*", "mul0": "*", "div": "/", "lt": "<", "le": "<="}


@dataclass(frozen=True)
class Switch:
    """One switch of a right-hand side.

    Parameters
    ----------
    kind
        "sign": the mode is the sign of its root function. "floor": the mode is a whole number, and
        two root functions tell where the next one down, and up, begins.
    roots
        Places of its root functions.
    continuous
        Whether f goes on without a jump where it turns: of abs, min and max alone.
    """

    kind: str
    roots: tuple[int, ...]
    continuous: bool


@dataclass(frozen=True)
class Frozen:
    """A right-hand side whose switches are inputs.

    Parameters
    ----------
    graph
        f. Behind the parameters, p holds one mode for each switch, then one weight: 0 where the
        mode holds, 1 where the condition is to be found out as it was written.
    roots
        The root functions of all switches, in the order of the switches; they read modes too.
    switches
        What belongs to what.
    timed, linear, nested
        Of each root function: whether it knows no state, whether it is linear in time, and whether
        it depends on another switch.
    parameters
        Of each root function, the places of the parameters it reads.
    """

    graph: Graph
    roots: Graph
    switches: tuple[Switch, ...]
    timed: tuple[bool, ...]
    linear: tuple[bool, ...]
    nested: tuple[bool, ...]
    parameters: tuple[frozenset[int], ...]

    @property
    def n_inputs(self) -> int:
        """What p holds besides parameters and hoisted values."""
        return 2 * len(self.switches)


def freeze(graph: Graph, n_parameters: int) -> Frozen | None:
    """Return a graph with its switches as inputs; None where it has none.

    Conditions of parameters alone stay as they are, and so do equalities, which hold for an
    instant, unless an inequality of the same sides tells more.

    Examples
    --------
    >>> b = Builder()
    >>> x, t = b.input("z", 0), b.input("t", 0)
    >>> f = b.freeze([b.select(b.compare("lt", t, b.input("p", 0)), b.unary("abs", x), x)])
    >>> frozen = freeze(f, n_parameters=1)
    >>> [(s.kind, s.continuous) for s in frozen.switches], frozen.timed, frozen.linear
    ([('sign', False), ('sign', True)], (True, False), (True, False))
    >>> freeze(b.freeze([b.mul(x, t)]), n_parameters=1) is None
    True
    """
    if not {"lt", "le", "abs", "max", "min", "floor"}.intersection(graph.ops):
        return None
    return _Freezer(graph, n_parameters).result()


class _Freezer:
    def __init__(self, graph: Graph, n_parameters: int) -> None:
        self.graph, self.m = graph, n_parameters
        self.b = Builder()
        self.known: dict[tuple[str, int], int] = {}
        #: kind, nodes of the root functions, whether all uses are continuous.
        self.found: list[tuple[str, list[int], bool]] = []
        self.count = self._count()
        pairs = zip(graph.ops, graph.args, strict=True)
        ordered = {"lt", "le", "max", "min"}
        self.ordered = {frozenset(args) for op, args in pairs if op in ordered}

    def _count(self) -> int:
        """Return an upper bound of the number of switches: weights stand behind all modes."""
        return sum(op in ("lt", "le", "abs", "max", "min", "floor") for op in self.graph.ops)

    def mode(self, k: int) -> int:
        return self.b.input("p", self.m + k)

    def weight(self, k: int) -> int:
        return self.b.input("p", self.m + self.count + k)

    def sign(self, root: int, continuous: bool) -> tuple[int, bool]:
        """Return the node whose sign is that of a root function, and whether it is negated."""
        b = self.b
        negated = b.ops[root] == "neg"
        if negated:
            root = b.args[root][0]
        k = self._switch("sign", root, [root], continuous)
        return b.add(b.mul0(self.weight(k), root), self.mode(k)), negated

    def _switch(self, kind: str, key: int, roots: list[int], continuous: bool) -> int:
        k = self.known.setdefault((kind, key), len(self.found))
        if k == len(self.found):
            self.found.append((kind, roots, continuous))
        else:
            self.found[k] = (*self.found[k][:2], self.found[k][2] and continuous)
        return k

    def below(self, root: int, continuous: bool, strictly: bool = True) -> int:
        """Return the condition that a root function is negative."""
        s, negated = self.sign(root, continuous)
        zero = self.b.const(0)
        pair = (zero, s) if negated else (s, zero)
        return self.b.compare("lt" if strictly else "le", *pair)

    def result(self) -> Frozen | None:
        graph, b = self.graph, self.b
        new: list[int] = []
        moving: list[bool] = []
        for i, (op, args, payload) in enumerate(
            zip(graph.ops, graph.args, graph.payloads, strict=True)
        ):
            moves = any(moving[a] for a in args)
            if op == "input":
                moves = payload[0] in ("z", "t")
            at = tuple(new[a] for a in args)
            j = self._frozen(op, args, at) if moves else None
            if j is None:
                j = b.node(op, at, payload)
            if i in graph.guarded:
                b.guard(j)
            new.append(j)
            moving.append(moves)
        if not self.found:
            return None
        return self._collected([new[i] for i in graph.outputs])

    def _frozen(self, op: str, args: tuple[int, ...], at: tuple[int, ...]) -> int | None:
        """Return the node that stands for a condition; None for any other operation."""
        b = self.b
        if op == "abs":
            s, negated = self.sign(at[0], True)
            one, zero = b.const(1), b.const(0)
            lower = b.select(b.compare("lt", s, zero), b.const(-1), zero)
            sign = b.select(b.compare("lt", zero, s), one, lower)
            return b.neg(b.mul(sign, at[0])) if negated else b.mul(sign, at[0])
        if op == "floor":
            k = len(self.found)
            k = self.known.get(("floor", at[0]), k)
            up = b.add(self.mode(k), b.const(1))
            self._switch("floor", at[0], [b.sub(at[0], self.mode(k)), b.sub(at[0], up)], False)
            live = b.compare("lt", b.const(0), self.weight(k))
            return b.select(live, b.unary("floor", at[0]), self.mode(k))
        if op not in ("max", "min", "lt", "le", "eq", "ne"):
            return None
        if op in ("eq", "ne") and frozenset(args) not in self.ordered:
            return None
        root = b.sub(*at)
        if b.value(root) is not None:
            return None
        if op == "max":
            return b.select(self.below(root, True), at[1], at[0])
        if op == "min":
            return b.select(self.below(b.neg(root), True), at[1], at[0])
        if op in ("lt", "le"):
            return self.below(root, False, strictly=op == "lt")
        s, _ = self.sign(root, False)
        return b.compare(op, s, b.const(0))

    def _collected(self, outputs: list[int]) -> Frozen:
        """Return the result, weights moved up to stand behind the modes that there are."""
        count, b = len(self.found), self.b
        shift = self.count - count
        for i, payload in enumerate(b.payloads):
            if b.ops[i] == "input" and payload[0] == "p" and payload[1] >= self.m + self.count:
                b.payloads[i] = ("p", payload[1] - shift)
        nodes = [root for _, roots, _ in self.found for root in roots]
        switches, place = [], 0
        for kind, roots, continuous in self.found:
            switches.append(Switch(kind, tuple(range(place, place + len(roots))), continuous))
            place += len(roots)
        owner = [k for k, (_, roots, _) in enumerate(self.found) for _ in roots]
        reads = [_inputs_of(b, node) for node in nodes]
        places = [{j for kind, j in found if kind == "p"} for found in reads]
        own = [{self.m + k} for k in owner]
        return Frozen(
            graph=b.freeze(outputs),
            roots=b.freeze(nodes),
            switches=tuple(switches),
            timed=tuple(all(kind != "z" for kind, _ in found) for found in reads),
            linear=tuple(_degree(b, node) == 1 for node in nodes),
            nested=tuple(
                any(j >= self.m for j in mine - k) for mine, k in zip(places, own, strict=True)
            ),
            parameters=tuple(frozenset(j for j in mine if j < self.m) for mine in places),
        )


def _inputs_of(b: Builder, node: int) -> set[tuple[str, int]]:
    """Return the inputs that a node depends on."""
    from symode.symbolic.graph import postorder

    return {b.payloads[i] for i in postorder(b.args, [node]) if b.ops[i] == "input"}


def _degree(b: Builder, node: int) -> float:
    """Return the degree of a node as a polynomial in time; infinity where it is none, or unknown.

    Modes are constants: what a switch selects may be linear on each of its pieces.
    """
    from symode.symbolic.graph import postorder

    degree: dict[int, float] = {}
    infinite = float("inf")
    for i in postorder(b.args, [node]):
        op, found = b.ops[i], [degree[a] for a in b.args[i]]
        if op == "input":
            degree[i] = {"t": 1, "p": 0}.get(b.payloads[i][0], infinite)
        elif op in ("add", "sub", "neg"):
            degree[i] = max(found)
        elif op in ("mul", "mul0"):
            degree[i] = sum(found)
        elif op == "div":
            degree[i] = found[0] if found[1] == 0 else infinite
        elif op == "powi" and found[0]:
            degree[i] = found[0] * b.payloads[i]
        elif op == "select":
            degree[i] = max(found[1:]) if found[0] == 0 else infinite
        else:
            degree[i] = 0 if not any(found) else infinite
    return degree[node]


def written(graph: Graph, output: int, states: tuple[str, ...], parameters: tuple[str, ...]) -> str:
    """Return one output of a graph as a person would write it, for messages.

    Examples
    --------
    >>> b = Builder()
    >>> y = b.sub(b.mul(b.input("z", 0), b.input("t", 0)), b.input("p", 0))
    >>> written(b.freeze([y]), 0, ("x",), ("k",))
    'x*t - k'
    """
    from symode.symbolic.graph import postorder

    root = graph.outputs[output]
    order = postorder(graph.args, [root])
    if len(order) > WRITTEN:
        return "a condition of the right-hand side"
    text: dict[int, str] = {}
    for i in order:
        op, args, payload = graph.ops[i], [text[a] for a in graph.args[i]], graph.payloads[i]
        if op == "const":
            whole = payload.denominator == 1
            text[i] = str(payload) if whole else f"{float(payload):.6g}"
        elif op == "input":
            kind, j = payload
            names = {"z": states, "p": parameters}.get(kind, ())
            text[i] = names[j] if j < len(names) else "t" if kind == "t" else "mode"
        elif op in _INFIX:
            tight = op in ("mul", "mul0", "div")
            sides = [f"({a})" if tight and (" " in a or a.startswith("-")) else a for a in args]
            if op == "sub" and " " in sides[1]:
                sides[1] = f"({sides[1]})"
            text[i] = (_INFIX[op] if tight else f" {_INFIX[op]} ").join(sides)
        elif op == "neg":
            text[i] = f"-({args[0]})" if " " in args[0] else f"-{args[0]}"
        elif op == "powi":
            text[i] = f"({args[0]})**{payload}" if " " in args[0] else f"{args[0]}**{payload}"
        else:
            text[i] = f"{op}({', '.join(args)})"
    return text[root]
