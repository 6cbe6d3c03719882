"""The plain reference backend: graphs and programs evaluated node by node, in any arithmetic.

Slow and simple on purpose: it judges the compiled backends, replays steps in complex numbers (for
complex-step derivatives) and evaluates in 50 digits (for proofs by numbers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.codegen.arithmetic import COMPLEX, FLOATS, Arithmetic, mpmath_arithmetic
from symode.codegen.program import Program, make_bundle
from symode.codegen.special import polygamma_graph
from symode.symbolic.graph import Graph

Values = Sequence[Any] | NDArray[Any]

__all__ = [
    "COMPLEX",
    "FLOATS",
    "Arithmetic",
    "ReferenceModel",
    "evaluate",
    "mpmath_arithmetic",
]


def evaluate(
    code: Graph | Program,
    t: Any,
    z: Values,
    p: Values,
    v: Values | None = None,
    arithmetic: Arithmetic = FLOATS,
) -> Any:
    """Return the outputs of a graph or program.

    Parameters
    ----------
    code
        What to evaluate.
    t, z, p, v
        Inputs. With `FLOATS` and `COMPLEX` each entry may be an array: ``z`` of shape
        ``(n, k)`` evaluates at k points at once.
    arithmetic
        `FLOATS` (the semantics of the compiled kernels), `COMPLEX`, or one made by
        `mpmath_arithmetic`.

    Returns
    -------
    array or list
        Shape ``(n_outputs,)`` or ``(n_outputs, k)``; with mpmath a list of numbers.

    Examples
    --------
    >>> from symode.symbolic.graph import Builder
    >>> b = Builder()
    >>> square = b.freeze([b.powi(b.input("z", 0), 2)])
    >>> evaluate(square, 0.0, [3.0], [])
    array([9.])
    >>> evaluate(square, 0.0, [[1.0, 2.0]], [])
    array([[1., 4.]])
    """
    inputs = {"z": z, "p": p, "v": () if v is None else v}
    number, operations = arithmetic.number, arithmetic.operations
    values: list[Any] = []
    with np.errstate(all="ignore"):
        for op, args, payload in zip(code.ops, code.args, code.payloads, strict=True):
            if op == "const":
                value = number(payload)
            elif op == "nan":
                value = arithmetic.nan
            elif op == "input":
                kind, index = payload
                value = number(t if kind == "t" else inputs[kind][index])
            elif op == "polygamma" and op not in operations:
                (value,) = evaluate(
                    polygamma_graph(payload), values[args[0]], (), (), (), arithmetic
                )
            elif op == "table":
                value = operations[op](payload, *(values[a] for a in args))
            elif op in ("powi", "polygamma"):
                value = operations[op](payload, values[args[0]])
            else:
                value = operations[op](*(values[a] for a in args))
            values.append(value)
    return arithmetic.collect([values[i] for i in code.outputs])


class ReferenceModel:
    """Kernels of one model, evaluated plainly: the interface of `CompiledModel`, no addresses.

    Parameters
    ----------
    kernels
        For each name its signature (``"field"`` or ``"product"``) and graph.
    n_parameters
        m.
    arithmetic
        What `call` and `pack` compute in.

    Examples
    --------
    >>> from symode.symbolic.graph import Builder
    >>> b = Builder()
    >>> decay = b.freeze([b.neg(b.mul(b.input("p", 0), b.input("z", 0)))])
    >>> model = ReferenceModel({"rhs": ("field", decay)}, n_parameters=1)
    >>> model.call("rhs", 0.0, [2.0], model.pack([0.5]))
    array([-1.])
    """

    def __init__(
        self,
        kernels: Mapping[str, tuple[str, Graph]],
        n_parameters: int,
        arithmetic: Arithmetic = FLOATS,
    ) -> None:
        bundle = make_bundle(kernels, n_parameters)
        self.arithmetic = arithmetic
        self.programs = {program.name: program for program in bundle.programs}
        self.signature = {name: program.signature for name, program in self.programs.items()}
        self.n_outputs = {name: len(program.outputs) for name, program in self.programs.items()}
        self.n_parameters = n_parameters
        self.n_p = n_parameters + bundle.n_hoisted

    def pack(self, theta: Values) -> Any:
        """Return p = (theta, hoisted values)."""
        head = [self.arithmetic.number(value) for value in theta]
        if "hoist" in self.programs:
            head.extend(evaluate(self.programs["hoist"], 0.0, (), head, None, self.arithmetic))
        return self.arithmetic.collect(head)

    def call(self, name: str, t: Any, z: Values, p: Values, v: Values | None = None) -> Any:
        """Return the outputs of one kernel."""
        return evaluate(self.programs[name], t, z, p, v, self.arithmetic)
