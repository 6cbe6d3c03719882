r"""Algebraic rules: which quantity each one determines, and its value where it can be written down.

A rule says :math:`0 = g`. The quantities that may be determined by one are those that vary and that
nothing else determines; rules and quantities are paired by a matching in their bipartite graph
(SBML level 3 version 2, section 4.9.5). Rules linear in their quantities are solved here and become
assignments; the others become algebraic equations of an index-1 system.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy.core.relational import Relational

from symode.equations.walk import distinct_nodes, substituted, symbols_in
from symode.errors import ImportFileError
from symode.symbolic.differentiate import gradient

if TYPE_CHECKING:
    from symode.bridges.sbml.assemble import _Assembly
    from symode.bridges.sbml.quantities import Quantity

#: Constructs between whose branches a derivative does not tell one slope from another.
_KINKED = (sp.Piecewise, sp.Abs, sp.sign, sp.Heaviside, sp.Min, sp.Max, sp.floor, Relational)


def pair_rules(model: Any, quantities: Mapping[str, Quantity], name: str) -> None:
    """Give every algebraic rule to the quantity that it determines.

    Raises
    ------
    ImportFileError
        When a rule determines nothing, or it is open what it determines; naming the quantities.
    """
    rules = [
        rule.getMath()
        for rule in (model.getRule(i) for i in range(model.getNumRules()))
        if rule.isAlgebraic() and rule.isSetMath()
    ]
    if not rules:
        return
    laws = {
        model.getReaction(i).getId(): model.getReaction(i).getKineticLaw()
        for i in range(model.getNumReactions())
    }
    occurring = [_ids_in(tree, quantities, laws) for tree in rules]
    graph = [[key for key in ids if _is_open(quantities[key])] for ids in occurring]
    # Sharper first: what events set, and what has a value of its own, is determined already.
    for keys in graph:
        keys.sort(key=lambda key: _held(quantities[key]))
    pairs = _matching(graph)
    for rule, ids in enumerate(occurring):
        if rule not in pairs:
            raise ImportFileError(
                f"{name}: an algebraic rule of {', '.join(ids) or 'constants'} determines "
                "nothing: what varies in it is determined by reactions or other rules already. "
                "An over-determined model is not supported."
            )
    for rule, key in pairs.items():
        other = _matching([[k for k in keys if k != key] for keys in graph])
        chosen = set(other.values()) - set(pairs.values())
        rivals = [k for k in chosen if _held(quantities[k]) <= _held(quantities[key])]
        if len(other) == len(graph) and rivals:
            raise ImportFileError(
                f"{name}: the algebraic rule of {', '.join(occurring[rule])} may determine {key} "
                f"or {', '.join(sorted(rivals))}; declare constant what shall stay as it is."
            )
        q = quantities[key]
        if q.in_event:
            raise ImportFileError(
                f"{name}: an event sets {key}, which an algebraic rule determines."
            )
        q.algebraic = rules[rule]


def solve_rules(assembly: _Assembly) -> None:
    """Put the solutions of linear rules into ``assembly.solved``, and others into ``implicit``.

    Blocks of rules that determine their quantities together are solved together.
    """
    unknown = [q for q in assembly.quantities.values() if q.algebraic is not None]
    if not unknown:
        return
    equations = {
        q.key: assembly.formulas.expression(
            q.algebraic, assembly.value, f"the algebraic rule that determines {q.key}"
        )
        for q in unknown
    }
    symbols = {q.key: sp.Symbol(q.key) for q in unknown}
    needs = {key: {s.name for s in symbols_in([g])} & set(symbols) for key, g in equations.items()}
    for block in _blocks(needs):
        known = {symbols[key]: value for key, value in assembly.solved.items()}
        rows = [substituted(equations[key], known) for key in block]
        found = _linear_solution(rows, [symbols[key] for key in block])
        if found is None:
            assembly.implicit.update(zip(block, rows, strict=True))
        else:
            assembly.solved.update(zip(block, found, strict=True))


def guess(assembly: _Assembly, key: str) -> sp.Expr:
    """Return where the search for a solution of an algebraic rule begins."""
    q = assembly.known(key)
    volume = assembly.initial(q.compartment) if q.is_species and q.compartment else sp.Integer(1)
    if q.is_species and q.in_concentration and q.initial_concentration is None:
        found = None if q.initial_amount is None else q.initial_amount / volume
    elif q.is_species and q.in_concentration:
        found = q.initial_concentration
    elif q.is_species:
        found = q.initial_amount
    else:
        found = q.number
    if found is None or found is sp.nan:
        raise ImportFileError(
            f"{assembly.name}: {key} is determined by an algebraic rule that is not linear in it; "
            "give it an initial value near its solution."
        )
    return found


def _held(q: Quantity) -> tuple[bool, bool]:
    has_value = (
        q.number is not None
        or q.initial_amount is not None
        or q.initial_concentration is not None
        or q.assignment is not None
    )
    return (q.in_event, has_value)


def _is_open(q: Quantity) -> bool:
    return not q.constant and q.rule is None and q.rate is None and not q.terms


def _ids_in(tree: Any, quantities: Mapping[str, Quantity], laws: Mapping[str, Any]) -> list[str]:
    """Return the ids of a formula, with those of the rules and laws behind them."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    stack = [tree]
    while stack:
        node = stack.pop()
        key = node.getName() if node.isName() else None
        if key is not None and key not in seen:
            seen.add(key)
            if key in quantities:
                found[key] = None
                q = quantities[key]
                if q.rule is not None:
                    stack.append(q.rule)
                if q.is_species and q.compartment in quantities:
                    found[q.compartment] = None
            elif laws.get(key) is not None and laws[key].isSetMath():
                stack.append(laws[key].getMath())
        stack += [node.getChild(i) for i in reversed(range(node.getNumChildren()))]
    return list(found)


def _matching(graph: Sequence[Sequence[str]]) -> dict[int, str]:
    """Return a largest matching of rules to keys, by augmenting paths."""
    owner: dict[str, int] = {}

    def place(rule: int, seen: set[str]) -> bool:
        for key in graph[rule]:
            if key not in seen:
                seen.add(key)
                if key not in owner or place(owner[key], seen):
                    owner[key] = rule
                    return True
        return False

    for rule in range(len(graph)):
        place(rule, set())
    return {rule: key for key, rule in sorted(owner.items(), key=lambda item: item[1])}


def _blocks(needs: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Yield the keys that need each other, after what they need."""
    reach = {key: set(others) | {key} for key, others in needs.items()}
    for middle in needs:
        for key in needs:
            if middle in reach[key]:
                reach[key] |= reach[middle]
    done: set[str] = set()
    while len(done) < len(needs):
        for key in needs:
            block = [k for k in needs if k in reach[key] and key in reach[k]]
            if key not in done and reach[key] - set(block) <= done:
                done |= set(block)
                yield block


def _linear_solution(rows: Sequence[sp.Expr], unknown: Sequence[sp.Symbol]) -> list[sp.Expr] | None:
    """Return the solution of equations that are linear in their unknowns, else None."""
    inside = set(unknown)
    for node in distinct_nodes(rows):
        if isinstance(node, _KINKED) and inside & set(symbols_in([node])):
            return None
    matrix = [gradient(row, unknown) for row in rows]
    if inside & set(symbols_in([c for row in matrix for c in row])):
        return None
    zero = dict.fromkeys(unknown, sp.S.Zero)
    rest = [-substituted(row, zero) for row in rows]
    if len(unknown) == 1:
        # Without a matrix, which asks much of its entries.
        slope = matrix[0][0]
        return None if slope.is_zero else [rest[0] if slope == 1 else rest[0] / slope]
    system = sp.Matrix(matrix)
    if len(unknown) > 4 or system.det() == 0:
        # Large blocks are the solver's; singular ones it refuses with a reason.
        return None
    return list(system.LUsolve(sp.Matrix(rest)))
