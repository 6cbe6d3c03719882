"""Systems of any size, for bounds on cost and for compile times."""

from __future__ import annotations

import random
from dataclasses import dataclass

import sympy as sp

from symode.symbolic.build import build
from symode.symbolic.derive import Field, derive_vjp
from symode.symbolic.graph import Builder, Graph


@dataclass(frozen=True)
class System:
    """Right-hand sides in SymPy."""

    name: str
    states: tuple[sp.Symbol, ...]
    parameters: tuple[sp.Symbol, ...]
    rhs: tuple[sp.Expr, ...]

    @property
    def title(self) -> str:
        return f"{self.name}, n={len(self.states)} m={len(self.parameters)}"

    def field(self) -> Field:
        b = Builder()
        table = {s: b.input("z", i) for i, s in enumerate(self.states)}
        table |= {s: b.input("p", i) for i, s in enumerate(self.parameters)}
        graph = b.freeze(build(b, self.rhs, table))
        return Field(graph, len(self.states), len(self.parameters))


def network(n: int, m: int, seed: int = 0) -> System:
    """A reaction network: regulated production, decay, and m - 2n bimolecular reactions.

    The equations of the workload ``network_20``, wired at random.
    """
    draw = random.Random(seed)
    z, p = sp.symbols(f"z0:{n}"), sp.symbols(f"p0:{m}")
    production, decay, rates = p[:n], p[n : 2 * n], p[2 * n :]
    rhs = []
    for i in range(n):
        h = z[draw.randrange(n)] ** 2
        regulation = 1 / (1 + h) if i % 2 else h / (1 + h)
        rhs.append(production[i] * regulation - decay[i] * z[i])
    gains: list[list[sp.Expr]] = [[e] for e in rhs]
    for q in rates:
        a, b, c = draw.sample(range(n), 3)
        rate = q * z[a] * z[b]
        gains[a].append(-rate)
        gains[b].append(-rate)
        gains[c].append(rate)
    return System("network", z, p, tuple(sp.Add(*terms) for terms in gains))


def mlp(*widths: int) -> System:
    """A neural ODE: layers of the given widths, tanh between them, the last one linear."""
    names = iter(range(10**6))
    parameters: list[sp.Symbol] = []

    def parameter() -> sp.Symbol:
        parameters.append(sp.Symbol(f"p{next(names)}"))
        return parameters[-1]

    z = sp.symbols(f"z0:{widths[0]}")
    values: list[sp.Expr] = list(z)
    for depth, width in enumerate(widths[1:], start=2):
        sums = [
            sp.Add(*(parameter() * value for value in values), parameter()) for _ in range(width)
        ]
        values = sums if depth == len(widths) else [sp.tanh(s, evaluate=False) for s in sums]
    return System("MLP " + "-".join(map(str, widths)), z, tuple(parameters), tuple(values))


def brusselator(cells: int) -> System:
    """The Brusselator with diffusion on a line, as in the workload ``brusselator_40``."""
    a, b, du, dv = p = sp.symbols("A B Du Dv")
    u, v = sp.symbols(f"u0:{cells}"), sp.symbols(f"v0:{cells}")
    c = (cells + 1) ** 2
    uu, vv = [1, *u, 1], [3, *v, 3]
    rhs = []
    for i in range(1, cells + 1):
        reaction = uu[i] ** 2 * vv[i]
        rhs.append(a + reaction - (b + 1) * uu[i] + du * c * (uu[i - 1] - 2 * uu[i] + uu[i + 1]))
        rhs.append(b * uu[i] - reaction + dv * c * (vv[i - 1] - 2 * vv[i] + vv[i + 1]))
    states = tuple(s for pair in zip(u, v, strict=True) for s in pair)
    return System(f"Brusselator, {cells} cells", states, p, tuple(rhs))


#: The systems of the table of costs.
TABLE = (
    lambda: network(20, 50),
    lambda: network(100, 300),
    lambda: network(500, 1000),
    lambda: mlp(2, 50, 2),
    lambda: mlp(2, 12, 12, 12, 2),
    lambda: brusselator(100),
)


def with_products(field: Field) -> Graph:
    """Return the graph of f and both vector-Jacobian products."""
    b = Builder(field.graph)
    return b.freeze([*field.graph.outputs, *b.graft(derive_vjp(field))])
