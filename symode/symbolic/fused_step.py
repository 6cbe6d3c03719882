r"""One Rosenbrock step as a single graph, and its transpose.

For a small model the loops around f, J and the solves cost more than these: on Robertson's problem
four fifths of a step. With the number of states and the coefficients known, sums over stages, all
evaluations and the elimination become straight-line code,

.. math::
    W U_i &= f\Bigl(t + \alpha_i h,\, z + \sum_{j<i} a_{ij} U_j\Bigr)
        + \tfrac1h \sum_{j<i} C_{ij} U_j + h d_i f_t, \qquad W = \tfrac{1}{h\gamma} I - J \\
    z^+ &= z + \sum_i m_i U_i

Hairer & Wanner (1996), *Solving ODEs II*, eq. IV.7.25; the transpose is that of
`symode.kernels.adjoint_rosenbrock`. Neither pivots: each counts the rows of its first solve that
its factors do not satisfy, and the caller makes a step with such rows by the general kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, Protocol

from symode.symbolic.derive import Field, derive_second, derive_vjp, inputs
from symode.symbolic.elimination import derive_factor, derive_solve, derive_solve_transposed
from symode.symbolic.graph import Builder, Graph

#: Estimated operations of a step up to which it is fused: see docs/measurements.md.
FUSED: Final = 2500
#: Componentwise backward error, and the row too small to count, as in `symode.kernels.linear`.
BACKWARD_ERROR: Final = Fraction(1, 10**10)
UNDERFLOW: Final = Fraction(1, 10**260)


class Weights(Protocol):
    """What a step needs of a Rosenbrock method, see `symode.solvers.tableau`."""

    @property
    def a(self) -> Any:
        """Weights of U in the arguments of f."""

    @property
    def C(self) -> Any:
        """Weights of U in the equations of the stages."""

    @property
    def m(self) -> Any:
        """Weights of U in the step."""

    @property
    def alpha(self) -> Any:
        """Times of the stages."""

    @property
    def d(self) -> Any:
        """Factors of f_t."""

    @property
    def gamma(self) -> float:
        """The diagonal."""


def fused_kernels(field: Field, method: Weights, *, transposed: bool) -> dict[str, Any]:
    """Return the kernels of whole steps, where these are short enough to win; else none."""
    if field.mass is not None or estimated_size(field, len(method.m)) > FUSED:
        return {}
    # Names of eliminations: their code keeps the order it is built in, see `symode.codegen`.
    kernels = {"lu_step": ("product", derive_step(field, method))}
    if transposed:
        kernels["lu_step_t"] = ("product", derive_step_transposed(field, method))
    return kernels


def estimated_size(field: Field, n_stages: int) -> int:
    """Return about how many operations a step of so many stages has.

    Examples
    --------
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> estimated_size(Field(decay, n_states=1, n_parameters=1), n_stages=8)
    105
    """
    elimination = field.elimination
    solve = 2 * len(elimination.column)
    sums = 2 * field.n_states * n_stages
    once = field.jacobian.graph.n_operations + 2 * elimination.n_operations
    return once + n_stages * (field.graph.n_operations // 2 + solve + sums - 6 * field.n_states)


def derive_step(field: Field, method: Weights) -> Graph:
    r"""Return all U, then :math:`z^+`, then the number of rows that fail: (S + 1) n + 1 outputs.

    Inputs: t and z at the start of the step, v = (h,).
    """
    b, n, n_stages = Builder(), field.n_states, len(method.m)
    t, h, z = b.input("t", 0), b.input("v", 0), inputs(b, "z", n)
    start = _Start(b, field, method, t, h, z)
    solve = derive_solve(field.elimination)
    u: list[list[int]] = []
    failed = b.const(0)
    for i in range(n_stages):
        state = start.state(method.a[i], u)
        right = graft(b, field.graph, t=start.time(i), z=state)
        slope = b.mul(h, _const(b, method.d[i]))
        for k in range(n):
            coupled = _weighted(b, method.C[i], [row[k] for row in u])
            right[k] = b.add(right[k], b.mul(start.inverse, coupled))
            right[k] = b.add(right[k], b.mul(slope, start.f_t[k]))
        u.append(graft(b, solve, z=start.factors, v=right))
        if i == 0:
            failed = start.failed(right, u[0], transposed=False)
    new = start.state(method.m, u)
    return b.freeze([*(x for row in u for x in row), *new, failed])


def derive_step_transposed(field: Field, method: Weights) -> Graph:
    r"""Return lam at the start of a step, its part of dJ/dtheta, the number of rows that fail.

    n + m + 1 outputs. Inputs: t at the start, z = all U, v = (seeds of U, seed of z at the start,
    z there, lam at the end, h): (S + 3) n + 1 values.
    """
    b, n, n_stages = Builder(), field.n_states, len(method.m)
    m = len(field.wrt)
    u = [inputs(b, "z", n, start=i * n) for i in range(n_stages)]
    seeds = [inputs(b, "v", n, start=i * n) for i in range(n_stages + 3)]
    base, z, lam = seeds[n_stages:]
    t, h = b.input("t", 0), b.input("v", (n_stages + 3) * n)
    start = _Start(b, field, method, t, h, z)
    states = [start.state(method.a[i], u) for i in range(n_stages)]
    solve, vjp = derive_solve_transposed(field.elimination), derive_vjp(field)
    theta = [b.const(0)] * m
    #: Of each later stage, newest last: weights of all U, what they multiply.
    later: list[tuple[Sequence[float], list[int]]] = []
    weights, moved = list(method.m), lam
    failed = b.const(0)
    mu: list[list[int]] = [[] for _ in range(n_stages)]
    for i in reversed(range(n_stages)):
        # States that differ from the one before by its increment alone hand on what they get.
        nested = i > 0 and list(method.a[i][:i]) == weights[:i]
        kept = [0.0] * i + weights[i:] if nested else weights
        later.append((kept, moved))
        if not nested:
            base = [b.add(x, y) for x, y in zip(base, moved, strict=True)]
        right = list(seeds[i])
        for w, terms in later:
            right = [b.add(x, b.mul(_const(b, w[i]), y)) for x, y in zip(right, terms, strict=True)]
        mu[i] = graft(b, solve, z=start.factors, v=right)
        if i == n_stages - 1:
            failed = start.failed(right, mu[i], transposed=True)
        back = graft(b, vjp, t=start.time(i), z=states[i], v=mu[i])
        theta = [b.add(x, y) for x, y in zip(theta, back[n:], strict=True)]
        later.append((method.C[i], [b.mul(start.inverse, x) for x in mu[i]]))
        pulled = back[:n]
        if nested:
            pulled = [b.add(x, y) for x, y in zip(pulled, moved, strict=True)]
        weights, moved = list(method.a[i]), pulled
    base = [b.add(x, y) for x, y in zip(base, moved, strict=True)]
    along = [
        b.total([b.mul(mu[s][i], u[s][j]) for s in range(n_stages)])
        for i, j in zip(field.jacobian.rows, field.jacobian.cols, strict=True)
    ]
    along += [b.mul(h, _weighted(b, method.d, [row[i] for row in mu])) for i in range(n)]
    second = graft(b, derive_second(field), z=z, v=along)
    result = [b.add(x, y) for x, y in zip([*base, *theta], second, strict=True)]
    return b.freeze([*result, failed])


class _Start:
    """What all stages share: the factors of W, f_t and 1/h."""

    def __init__(
        self, b: Builder, field: Field, method: Weights, t: int, h: int, z: list[int]
    ) -> None:
        self.b, self.field, self.method = b, field, method
        self.t, self.h, self.z = t, h, z
        nnz = len(field.jacobian.rows)
        found = graft(b, field.jacobian.graph, t=[t], z=z)
        self.entries, self.f_t = found[:nnz], found[nnz:]
        self.inverse = b.div(b.const(1), h)
        self.diagonal = b.div(b.const(1), b.mul(h, _const(b, method.gamma)))
        shift = [self.diagonal, b.const(-1)]
        self.factors = graft(b, derive_factor(field.elimination), z=shift, v=self.entries)

    def time(self, i: int) -> list[int]:
        """Return the time of a stage."""
        moved = self.b.mul(self.h, _const(self.b, self.method.alpha[i]))
        return [self.b.add(self.t, moved)]

    def state(self, weights: Sequence[float], u: list[list[int]]) -> list[int]:
        """Return z plus increments, the newest last: the only one that has to be waited for."""
        b, state = self.b, list(self.z)
        for w, row in zip(weights, u, strict=False):
            state = [b.add(x, b.mul(_const(b, w), y)) for x, y in zip(state, row, strict=True)]
        return state

    def failed(self, right: list[int], x: list[int], *, transposed: bool) -> int:
        """Return how many rows of W x = right (or of its transpose) hold badly, or not at all."""
        b, jacobian = self.b, self.field.jacobian
        residual, size = list(right), [b.unary("abs", y) for y in right]

        def take(i: int, term: int) -> None:
            residual[i] = b.sub(residual[i], term)
            size[i] = b.add(size[i], b.unary("abs", term))

        for i, y in enumerate(x):
            take(i, b.mul(self.diagonal, y))
        for i, j, entry in zip(jacobian.rows, jacobian.cols, self.entries, strict=True):
            row, col = (j, i) if transposed else (i, j)
            take(row, b.neg(b.mul(entry, x[col])))
        zero, one, failed = b.const(0), b.const(1), b.const(0)
        for r, s in zip(residual, size, strict=True):
            allowed = b.add(b.mul(b.const(BACKWARD_ERROR), s), b.const(UNDERFLOW))
            # A comparison with NaN does not hold.
            holds = b.compare("le", b.unary("abs", r), allowed)
            failed = b.add(failed, b.select(holds, zero, one))
        return failed


def _const(b: Builder, value: float) -> int:
    return b.const(Fraction(float(value)))


def _weighted(b: Builder, weights: Sequence[float], terms: Sequence[int]) -> int:
    """Return the sum of the first terms times their weights."""
    return b.total(
        [b.mul(_const(b, w), x) for w, x in zip(weights, terms, strict=False) if float(w) != 0.0]
    )


def graft(b: Builder, graph: Graph, **given: Sequence[int]) -> list[int]:
    """Copy a graph with other nodes in place of its inputs; return the ids of its outputs.

    ``given`` has for a kind of input the nodes that take their places; kinds that are not named
    stay inputs. Values are taken to be finite: what may be infinite was guarded in the graph.

    Examples
    --------
    >>> b = Builder()
    >>> square = b.freeze([b.powi(b.input("z", 0), 2)])
    >>> b.payloads[b.args[graft(b, square, z=[b.input("v", 3)])[0]][0]]
    ('v', 3)
    """
    methods: dict[str, Callable[..., int]] = {
        "add": b.add, "sub": b.sub, "neg": b.neg, "mul": b.mul, "div": b.div,
    }  # fmt: skip
    places: Mapping[str, Sequence[int]] = given
    new: list[int] = []
    for op, args, payload in zip(graph.ops, graph.args, graph.payloads, strict=True):
        if op == "input" and payload[0] in places:
            new.append(places[payload[0]][payload[1]])
        elif op in methods:
            new.append(methods[op](*(new[a] for a in args)))
        else:
            new.append(b.node(op, tuple(new[a] for a in args), payload))
    return [new[i] for i in graph.outputs]
