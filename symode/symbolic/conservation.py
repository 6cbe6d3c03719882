r"""Conserved totals: :math:`w^\top f \equiv 0`, found exactly in the graph of f.

Each :math:`f_i` is written as a sum :math:`\sum_k s_{ik}(\theta)\, \varphi_k(z, t)` with different
products :math:`\varphi_k` of what depends on the state. Then :math:`w^\top f \equiv 0` for every w
with :math:`w^\top s = 0`, in exact rational arithmetic: whole numbers for a stoichiometry, rational
functions of the parameters where compartments or yields stand in the equations. What is found is
always conserved; a total that holds only by an identity between the :math:`\varphi_k` is missed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any, Final

import sympy as sp

from symode.symbolic.derive import Field
from symode.symbolic.graph import ONE, Builder, Graph

#: A product of powers of nodes: (node, exponent), sorted.
Monomial = tuple[tuple[int, int], ...]
#: A sum of products.
Sum = dict[Monomial, Fraction]

#: Longer sums are not multiplied out.
LONGEST: Final = 200
#: Totals with coefficients in more parameters than this, or more equations, are left to numbers.
MOST_GENERATORS: Final = 30
MOST_ENTRIES: Final = 4000


@dataclass(frozen=True, eq=False)
class Conserved:
    r"""The totals :math:`w_k^\top z` of a field.

    Parameters
    ----------
    graph
        W, row by row: ``n c`` outputs, in parameters alone.
    coefficients
        {place of a state: its coefficient} of each total: a SymPy expression in the parameters, in
        which a subexpression such as a logarithm of parameters is a dummy.
    """

    graph: Graph
    coefficients: tuple[Mapping[int, sp.Expr], ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.coefficients)

    @property
    def constant(self) -> bool:
        """Whether no coefficient depends on parameters."""
        return all(c.is_Number for total in self.coefficients for c in total.values())


def conserved_totals(
    field: Field, parameters: Collection[sp.Symbol], zeros: Collection[int] = ()
) -> Conserved:
    """Return the linear totals that a field conserves at all states and times.

    Parameters
    ----------
    field
        The graph of f.
    parameters
        Symbols, in order, for the coefficients.
    zeros
        Places of parameters that are 0.

    Examples
    --------
    >>> from symode.equations.text import parse_model
    >>> from symode.symbolic.lift import lift_field
    >>> swap = parse_model("a' = (k*b - j*a)/v; b' = j*a - k*b")
    >>> found = conserved_totals(lift_field(swap), swap.parameters)
    >>> found.coefficients
    ({0: v, 1: 1},)
    """
    graph, n = field.graph, field.n_states
    of_state = _of_state(graph)
    sums = _sums(graph, {("p", j) for j in zeros})
    columns: dict[Monomial, dict[int, Sum]] = {}
    for i in range(n):
        for monomial, value in sums[graph.outputs[i]].items():
            state = tuple(f for f in monomial if of_state[f[0]])
            rest = tuple(f for f in monomial if not of_state[f[0]])
            entries = columns.setdefault(state, {})
            entries.setdefault(i, {})[rest] = value
    whole: list[dict[int, Fraction]] = []
    mixed: list[dict[int, Sum]] = []
    for column in columns.values():
        column = _normalised(column)
        if all(set(entry) == {()} for entry in column.values()):
            whole.append({i: entry[()] for i, entry in column.items()})
        else:
            mixed.append(column)
    basis = null_space(whole, n)
    symbols = {b: s for b, s in zip(_parameters(graph), [*parameters], strict=False) if b >= 0}
    found = _with_parameters(basis, mixed, symbols) if mixed else [
        {i: sp.Rational(c.numerator, c.denominator) for i, c in w.items()} for w in basis
    ]  # fmt: skip
    return _finished(graph, found, n, symbols)


def null_space(equations: list[dict[int, Fraction]], n: int) -> list[dict[int, Fraction]]:
    r"""Return a basis of the solutions w of sparse equations :math:`\sum_i c_i w_i = 0`.

    Whole numbers without a common divisor, in echelon form.

    Examples
    --------
    >>> null_space([{0: Fraction(1), 1: Fraction(-2)}], 3)
    [{1: Fraction(1, 1), 0: Fraction(2, 1)}, {2: Fraction(1, 1)}]
    """
    pivots: dict[int, dict[int, Fraction]] = {}
    for given in equations:
        row = dict(given)
        # Pivots are the first entries of their rows, so one pass upwards clears them.
        for i in sorted(row):
            if i in row and i in pivots:
                _subtract(row, pivots[i], row[i])
        for i in [i for i in row if i in pivots]:
            _subtract(row, pivots[i], row[i])
        if not row:
            continue
        pivot = min(row)
        scale = row[pivot]
        row = {i: c / scale for i, c in row.items()}
        for other in pivots.values():
            if pivot in other:
                _subtract(other, row, other[pivot])
        pivots[pivot] = row
    basis = []
    for free in (i for i in range(n) if i not in pivots):
        w = {free: ONE}
        w |= {i: -row[free] for i, row in pivots.items() if free in row}
        scale = Fraction(lcm(*(c.denominator for c in w.values())))
        basis.append({i: c * scale for i, c in w.items()})
    return _without_minus(basis)


def _without_minus(basis: list[dict[int, Fraction]]) -> list[dict[int, Fraction]]:
    """Return a basis with sums in place of differences, where adding one other total gives them."""
    result = list(basis)
    for k, w in enumerate(result):
        short = [i for i, c in w.items() if c < 0]
        for other in result[:k] + result[k + 1 :]:
            if short and all(other.get(i, 0) > 0 for i in short):
                joint = dict(w)
                _subtract(joint, other, min(w[i] / other[i] for i in short))
                if all(c > 0 for c in joint.values()):
                    scale = Fraction(lcm(*(c.denominator for c in joint.values())))
                    result[k] = {i: c * scale for i, c in joint.items()}
                    break
    return result


def _subtract(row: dict[int, Fraction], other: Mapping[int, Fraction], factor: Fraction) -> None:
    for i, c in other.items():
        value = row.get(i, Fraction(0)) - factor * c
        if value:
            row[i] = value
        else:
            row.pop(i, None)


def _parameters(graph: Graph) -> list[int]:
    """Return the node of each parameter in order, -1 for one that is not used."""
    nodes = {
        payload[1]: i
        for i, (op, payload) in enumerate(zip(graph.ops, graph.payloads, strict=True))
        if op == "input" and payload[0] == "p"
    }
    return [nodes.get(j, -1) for j in range(max(nodes, default=-1) + 1)]


def _of_state(graph: Graph) -> list[bool]:
    """Tell which nodes depend on state or time."""
    result: list[bool] = []
    for op, args, payload in zip(graph.ops, graph.args, graph.payloads, strict=True):
        if op == "input":
            result.append(payload[0] != "p")
        else:
            result.append(any(result[a] for a in args))
    return result


def _sums(graph: Graph, zeros: Collection[tuple[str, int]]) -> list[Sum]:
    """Return every node as a sum of products of nodes that are not sums or products."""
    sums: list[Sum] = []
    for i, (op, args, payload) in enumerate(
        zip(graph.ops, graph.args, graph.payloads, strict=True)
    ):
        given = [sums[a] for a in args]
        found: Sum | None = None
        if op == "const":
            found = {(): payload} if payload else {}
        elif op == "input" and payload in zeros:
            found = {}
        elif op in ("add", "sub"):
            found = dict(given[0])
            for monomial, value in given[1].items():
                total = found.get(monomial, Fraction(0)) + (value if op == "add" else -value)
                found[monomial] = total
                if not total:
                    del found[monomial]
        elif op == "neg":
            found = {monomial: -value for monomial, value in given[0].items()}
        elif op in ("mul", "mul0"):
            found = _product(given[0], given[1])
        elif op in ("div", "div0"):
            over = _power(given[1], -1, args[1])
            found = None if over is None else _product(given[0], over)
        elif op == "powi":
            found = _power(given[0], payload, args[0])
        if found is None or len(found) > LONGEST:
            found = {((i, 1),): ONE}
        sums.append(found)
    return sums


def _product(left: Sum, right: Sum) -> Sum | None:
    if len(left) * len(right) > LONGEST:
        return None
    result: Sum = {}
    for a, x in left.items():
        for b, y in right.items():
            powers = dict(a)
            for node, exponent in b:
                powers[node] = powers.get(node, 0) + exponent
            monomial = tuple(sorted((k, e) for k, e in powers.items() if e))
            total = result.get(monomial, Fraction(0)) + x * y
            result[monomial] = total
            if not total:
                del result[monomial]
    return result


def _power(base: Sum, exponent: int, node: int) -> Sum | None:
    """Return a power; of a sum as the power of its node."""
    if not base:
        return None if exponent < 0 else {}
    if len(base) > 1:
        return {((node, exponent),): ONE}
    ((monomial, value),) = base.items()
    return {tuple((k, e * exponent) for k, e in monomial): value**exponent}


def _normalised(column: dict[int, Sum]) -> dict[int, Sum]:
    """Return entries over the first that is one product: rate constants drop out."""
    single = [entry for entry in column.values() if len(entry) == 1]
    if not single:
        return column
    ((monomial, value),) = single[0].items()
    inverse: Sum = {tuple((k, -e) for k, e in monomial): 1 / value}
    return {i: _product(entry, inverse) or {} for i, entry in column.items()}


def _with_parameters(
    basis: list[dict[int, Fraction]], mixed: list[dict[int, Sum]], symbols: dict[int, sp.Symbol]
) -> list[dict[int, sp.Expr]]:
    """Return the combinations of a basis that solve the equations in parameters too."""
    nodes = sorted({k for c in mixed for entry in c.values() for mono in entry for k, _ in mono})
    touched = [w for w in basis if any(i in column for column in mixed for i in w)]
    plain: list[dict[int, sp.Expr]] = [
        {i: sp.Rational(c.numerator, c.denominator) for i, c in w.items()}
        for w in basis
        if w not in touched
    ]
    if len(nodes) > MOST_GENERATORS or len(mixed) * len(touched) > MOST_ENTRIES or not touched:
        return plain
    for node in nodes:
        symbols.setdefault(node, sp.Dummy(f"c{node}"))
    domain = sp.QQ.frac_field(*(symbols[node] for node in nodes))
    generator = dict(zip(nodes, domain.gens, strict=True))

    def value(entry: Sum) -> Any:
        total = domain.zero
        for monomial, c in entry.items():
            term = domain.convert(sp.QQ(c.numerator, c.denominator))
            for node, exponent in monomial:
                term = term * generator[node] ** exponent
            total = total + term
        return total

    rows = []
    for column in mixed:
        values = {i: value(entry) for i, entry in column.items()}
        row = [domain.zero] * len(touched)
        for k, w in enumerate(touched):
            for i in w.keys() & values.keys():
                row[k] = row[k] + values[i] * sp.QQ(w[i].numerator, w[i].denominator)
        if any(row):
            rows.append(row)
    if not rows:
        solutions = [[domain.one if k == j else domain.zero for k in range(len(touched))]
                     for j in range(len(touched))]  # fmt: skip
    else:
        matrix = sp.polys.matrices.DomainMatrix(rows, (len(rows), len(touched)), domain)
        solutions = matrix.nullspace().to_list()
    result = plain
    for solution in solutions:
        total: dict[int, Any] = {}
        for factor, w in zip(solution, touched, strict=True):
            for i, c in w.items():
                term = factor * sp.QQ(c.numerator, c.denominator)
                total[i] = total.get(i, domain.zero) + term
        result.append(_cleared({i: c for i, c in total.items() if c}, domain))
    return result


def _cleared(total: dict[int, Any], domain: Any) -> dict[int, sp.Expr]:
    """Return coefficients without denominators or common factors."""
    ring = domain.field.ring
    common = ring.one
    for c in total.values():
        common = common.lcm(c.denom)
    numerators = {i: c.numer * (common.exquo(c.denom)) for i, c in total.items()}
    divisor = ring.zero
    for c in numerators.values():
        divisor = divisor.gcd(c)
    return {i: c.exquo(divisor).as_expr() for i, c in numerators.items()}


def _finished(
    graph: Graph, found: list[dict[int, sp.Expr]], n: int, symbols: dict[int, sp.Symbol]
) -> Conserved:
    from symode.symbolic.build import build

    b = Builder(graph)
    table: dict[sp.Basic, int] = {symbol: node for node, symbol in symbols.items()}
    totals: list[Mapping[int, sp.Expr]] = []
    outputs = [b.const(0)] * (n * len(found))
    for k, w in enumerate(found):
        # Of both signs, the one with more coefficients that are plainly positive.
        signs = sum(-1 if c.could_extract_minus_sign() else 1 for c in w.values())
        total = {i: c if signs >= 0 else -c for i, c in sorted(w.items())}
        totals.append(total)
        for i, node in zip(total, build(b, list(total.values()), table), strict=True):
            outputs[i * len(found) + k] = node
    return Conserved(b.freeze(outputs), tuple(totals))
