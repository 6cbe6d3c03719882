"""The order of definitions: rules that use rules are built after them, at any length of the chain.

Each is built from what is known by then, so that no chain of definitions nests calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from symode.errors import ImportFileError

if TYPE_CHECKING:
    from symode.bridges.sbml.assemble import _Assembly

#: Rules that may be put into each other.
LONGEST: Final = 200


def in_order(assembly: _Assembly, build: Callable[[str], Any]) -> None:
    """Build the values or the initial values of a model, what others use before the others.

    What cannot be built is left out: it is refused where it is needed, with its reason.
    """
    seen: set[str] = set()
    depth: dict[str, int] = {}
    roots = [
        q.key
        for q in assembly.quantities.values()
        if not (q.rule is None and q.assignment is None and q.algebraic is None)
    ]
    for root in roots:
        stack = [(root, False)]
        while stack:
            key, is_ready = stack.pop()
            if is_ready:
                names = _names(assembly, key)
                depth[key] = 1 + max((depth.get(n, 0) for n in names), default=0)
                if depth[key] > LONGEST:
                    raise ImportFileError(
                        f"{assembly.name} defines {key} by a chain of more than {LONGEST} rules, "
                        "nested too deeply for SymPy; make a quantity in the chain a state."
                    )
                try:
                    build(key)
                except ImportFileError:
                    continue
            elif key not in seen:
                seen.add(key)
                stack.append((key, True))
                stack += [(name, False) for name in _names(assembly, key)]


def _names(assembly: _Assembly, key: str) -> list[str]:
    """Return the ids that the definitions of one are written in."""
    trees = []
    if key in assembly.reactions:
        law = assembly.reactions[key].getKineticLaw()
        if law is not None and law.isSetMath():
            trees.append(law.getMath())
    else:
        q = assembly.quantities[key]
        trees += [tree for tree in (q.rule, q.assignment, q.algebraic) if tree is not None]
    found = [] if key in assembly.reactions else [assembly.quantities[key].compartment]
    while trees:
        node = trees.pop()
        if node.isName():
            found.append(node.getName())
        trees += [node.getChild(i) for i in range(node.getNumChildren())]
    return [n for n in found if n in assembly.quantities or n in assembly.reactions]
