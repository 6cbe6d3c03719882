"""Walks over SymPy expressions with an explicit stack: any nesting depth, shared subtrees once.

SymPy's own ``free_symbols``, ``has`` and ``preorder_traversal`` recurse and overflow the stack at
nesting depths of a few hundred; models must be readable at 3000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import sympy as sp


def distinct_nodes(expressions: Iterable[sp.Basic]) -> Iterator[sp.Basic]:
    """Yield every node below the expressions once, parents before their children.

    Nodes are told apart by identity, not by ``==``: hashing an expression recurses the first time
    it is done. The cost is thus linear in the memory the expressions occupy.

    Examples
    --------
    >>> import sympy as sp
    >>> x = sp.Dummy("x")  # an object of its own, whatever SymPy has cached
    >>> [str(node) for node in distinct_nodes([sp.sin(x) + x])]
    ['_x + sin(_x)', '_x', 'sin(_x)']
    """
    # The dictionary holds the nodes themselves, so that no identity is reused while it is read.
    seen: dict[int, sp.Basic] = {}
    stack = list(expressions)[::-1]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen[id(node)] = node
        yield node
        stack.extend(arg for arg in reversed(node.args) if isinstance(arg, sp.Basic))


def postorder(expression: sp.Basic) -> list[sp.Basic]:
    """Return every distinct node below an expression, children before their parents.

    Examples
    --------
    >>> import sympy as sp
    >>> x = sp.Dummy("x")
    >>> [str(node) for node in postorder(sp.sin(x) + x)]
    ['_x', 'sin(_x)', '_x + sin(_x)']
    """
    done: dict[int, sp.Basic] = {}
    stack: list[tuple[sp.Basic, bool]] = [(expression, False)]
    while stack:
        node, children_are_done = stack.pop()
        if id(node) in done:
            continue
        if children_are_done:
            done[id(node)] = node
            continue
        stack.append((node, True))
        stack.extend((arg, False) for arg in reversed(node.args) if isinstance(arg, sp.Basic))
    return list(done.values())


def written_size(expression: sp.Basic) -> int:
    """Return the number of nodes of an expression written out, shared subtrees as often as used.

    What SymPy asks of an expression, it mostly asks of each of them.

    Examples
    --------
    >>> import sympy as sp
    >>> x = sp.Symbol("x")
    >>> written_size(sp.sin(x) + x)
    4
    """
    size: dict[int, int] = {}
    # The list holds the nodes, so that no identity is reused.
    for node in (nodes := postorder(expression)):
        size[id(node)] = 1 + sum(size[id(a)] for a in node.args if isinstance(a, sp.Basic))
    return size[id(nodes[-1])]


def symbols_in(expressions: Iterable[sp.Basic]) -> tuple[sp.Symbol, ...]:
    """Return the distinct symbols below the expressions, in order of first appearance.

    Symbols of one name and different assumptions are different symbols.

    Examples
    --------
    >>> import sympy as sp
    >>> x, k = sp.symbols("x k")
    >>> symbols_in([sp.sin(x), k * x])
    (x, k)
    """
    found: dict[sp.Symbol, None] = {}
    for node in distinct_nodes(expressions):
        if isinstance(node, sp.Symbol):
            found.setdefault(node)
    return tuple(found)


def substituted(
    expression: sp.Basic,
    known: Mapping[sp.Basic, sp.Basic],
    finish: Callable[[sp.Basic], sp.Basic] = lambda node: node,
) -> sp.Basic:
    """Return an expression with symbols replaced, each shared subtree once.

    Other keys than symbols are replaced where they are the very same object; ``finish`` sees every
    node that is formed, and may return another for it.

    SymPy's ``xreplace`` visits a shared subtree as often as it is written: time exponential in the
    length of a chain of definitions.

    Examples
    --------
    >>> import sympy as sp
    >>> x, y = sp.symbols("x y")
    >>> substituted(sp.sin(x) + x, {x: 2 * y})
    2*y + sin(2*y)
    """
    if not known:
        return expression
    done: dict[int, sp.Basic] = {}
    objects = {id(key): value for key, value in known.items()}
    for node in postorder(expression):
        if isinstance(node, sp.Symbol) or id(node) in objects:
            is_symbol = isinstance(node, sp.Symbol)
            done[id(node)] = known.get(node, node) if is_symbol else objects[id(node)]
            continue
        args = [done.get(id(arg), arg) for arg in node.args]
        same = all(a is b for a, b in zip(args, node.args, strict=True))
        done[id(node)] = node if same else finish(node.func(*args))
    return done[id(expression)]
