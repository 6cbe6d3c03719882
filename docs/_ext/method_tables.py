"""Directives that print symode's own lists, so that the tables of methods cannot grow stale.

``{solver-table}`` prints `symode.solvers.methods.METHODS`,
``{gradient-table}`` prints `symode.gradients.methods.METHODS` and ``JUDGES``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROLES = re.compile(r":math:`(?P<math>[^`]+)`|`+(?P<code>[^`]+)`+")


def inline(text: str) -> list[nodes.Node]:
    """Return text with the two roles that first lines of docstrings use: mathematics and code."""
    parts: list[nodes.Node] = []
    at = 0
    for match in ROLES.finditer(text):
        parts.append(nodes.Text(text[at : match.start()]))
        kind = nodes.math if match["math"] else nodes.literal
        content = match["math"] or match["code"]
        parts.append(kind(content, content))
        at = match.end()
    return [*parts, nodes.Text(text[at:])]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> nodes.table:
    """Return a docutils table; the first column is set as code."""
    group = nodes.tgroup(cols=len(header))
    group.extend(nodes.colspec(colwidth=1) for _ in header)
    head, body = nodes.thead(), nodes.tbody()
    for part, lines in ((head, [header]), (body, rows)):
        for line in lines:
            row = nodes.row()
            for column, text in enumerate(line):
                code = part is body and column == 0
                content = [nodes.literal(text, text)] if code else inline(text)
                row += nodes.entry("", nodes.paragraph("", "", *content))
            part += row
    group += head
    group += body
    return nodes.table("", group)


def stages(method: object) -> str:
    """Return the number of stages, or the range of a family's."""
    sizes = getattr(method, "sizes", None)
    if sizes is not None:
        return f"{int(sizes[0])} to {int(sizes[-1])}"
    return str(len(method.b if hasattr(method, "b") else method.m))  # type: ignore[attr-defined]


class SolverTable(SphinxDirective):
    """One row per solver: family, orders, stages, citation."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from symode.solvers.chebyshev import ChebyshevTableau
        from symode.solvers.collocation import CollocationTableau
        from symode.solvers.dirk_tableau import DirkTableau
        from symode.solvers.methods import METHODS, get_method
        from symode.solvers.tableau import ExplicitTableau

        families = {
            ExplicitTableau: "explicit Runge–Kutta",
            ChebyshevTableau: "stabilised explicit, for mildly stiff problems",
            DirkTableau: "diagonally implicit Runge–Kutta (ESDIRK), for stiff problems",
            CollocationTableau: "implicit Runge–Kutta (collocation), for stiff problems",
        }
        rows = []
        for name in METHODS:
            method = get_method(name)
            rows.append(
                (
                    name,
                    families.get(type(method), "Rosenbrock, for stiff problems"),
                    f"{method.order} ({method.embedded_order})",
                    str(method.dense_order),
                    stages(method),
                    method.source,
                )
            )
        header = ("solver", "family", "order (of the error estimate)", "order of dense output")
        return [table((*header, "stages", "source"), rows)]


class GradientTable(SphinxDirective):
    """One row per gradient method: value, name, and the first sentence of its docstring."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from symode.gradients.methods import JUDGES, METHODS

        rows = [
            (
                f"{type(method).__name__}()",
                method.name,
                (inspect.getdoc(method) or "").split("\n\n")[0].replace("\n", " "),
            )
            for method in (*METHODS, *JUDGES)
        ]
        return [table(("method", "name", "what it does"), rows)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("solver-table", SolverTable)
    app.add_directive("gradient-table", GradientTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
