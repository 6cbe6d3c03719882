"""LLVM IR as text: a program becomes functions of a few hundred operations each.

Values that live longer than one such chunk pass through ``work``; inputs are loaded in the chunk
that uses them. Compile time is then linear in the number of operations, and the code runs faster
than one large function, whose inputs all start in registers it does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from symode.codegen.llvm_table import hexadecimal, table_function, table_name
from symode.codegen.program import FIELD, PRODUCT, Program, make_program, to_float
from symode.codegen.special import polygamma_graph
from symode.symbolic.graph import BOOLEAN, LEAVES, Payload

#: Operations per emitted function. Kernels up to twice this stay whole.
CHUNK: Final = 400

INFIX: Final = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
INTRINSICS: Final = {"sqrt": "sqrt", "abs": "fabs", "floor": "floor"}
COMPARE: Final = {"lt": "olt", "le": "ole", "eq": "oeq", "ne": "une"}
#: Functions of the C mathematics library, by operation.
LIBM: Final = {
    "exp": "exp",
    "log": "log",
    "log1p": "log1p",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "asin": "asin",
    "acos": "acos",
    "atan": "atan",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "asinh": "asinh",
    "acosh": "acosh",
    "atanh": "atanh",
    "erf": "erf",
    "erfc": "erfc",
    "gamma": "tgamma",
    "loggamma": "lgamma",
    "pow": "pow",
    "atan2": "atan2",
}
POINTERS: Final = ("z", "p", "v", "work", "out")


def symbol(program_name: str) -> str:
    """Return the linker name of a kernel.

    Examples
    --------
    >>> symbol("rhs")
    'symode_rhs'
    """
    return f"symode_{program_name}"


def emit_module(programs: Iterable[Program]) -> tuple[str, int, tuple[str, ...]]:
    """Return (IR text, size of work in doubles, external functions called).

    Examples
    --------
    >>> from symode.codegen.program import make_program
    >>> from symode.symbolic.graph import Builder
    >>> b = Builder()
    >>> graph = b.freeze([b.unary("sin", b.input("z", 0))])
    >>> text, work_size, externals = emit_module([make_program("f", FIELD, graph)])
    >>> work_size, externals
    (0, ('sin',))
    >>> text[: text.index("(")]
    'define void @symode_f'
    """
    writer = _Writer()
    for program in programs:
        writer.program(program)
    for n in sorted(writer.polygammas):
        writer.polygamma(n)
    for family in writer.tables.values():
        writer.lines += table_function(family)
    names = sorted(writer.externals)
    declares = [f"declare double @{f}({writer.externals[f]}) #1" for f in names]
    intrinsics = [f"declare double @llvm.{f}.f64(double)" for f in sorted(writer.intrinsics)]
    attributes = [
        "attributes #0 = { nounwind }",
        "attributes #1 = { nounwind willreturn memory(none) }",
    ]
    text = "\n".join([*writer.lines, *declares, *intrinsics, *attributes, ""])
    return text, writer.work_size, tuple(names)


class _Writer:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.externals: dict[str, str] = {}
        self.intrinsics: set[str] = set()
        self.polygammas: set[int] = set()
        self.tables: dict[str, Any] = {}
        self.work_size = 0
        self.flags = ""

    def program(self, program: Program) -> None:
        self.flags = "contract " if program.is_elimination else ""
        chunks = _chunks(program)
        name = symbol(program.name)
        pointers = (
            POINTERS if program.signature == PRODUCT else tuple(p for p in POINTERS if p != "v")
        )
        formal = ", ".join(["double %t", *(f"ptr noalias nocapture %{p}" for p in pointers)])
        actual = ", ".join(["double %t", *(f"ptr %{p}" for p in pointers)])
        slots = _spills(program, chunks)
        self.work_size = max(self.work_size, max(slots.values(), default=-1) + 1)
        outputs: dict[int, list[int]] = {}
        for k, i in enumerate(program.outputs):
            outputs.setdefault(i, []).append(k)
        if len(chunks) == 1:
            self.lines.append(f"define void @{name}({formal}) #0 {{")
            self._body(program, chunks[0], slots, outputs)
            self.lines += ["  ret void", "}"]
            return
        for k, chunk in enumerate(chunks):
            self.lines.append(f"define internal void @{name}_{k}({formal}) #0 noinline {{")
            self._body(program, chunk, slots, outputs)
            self.lines += ["  ret void", "}"]
        self.lines.append(f"define void @{name}({formal}) #0 {{")
        self.lines += [f"  call void @{name}_{k}({actual})" for k in range(len(chunks))]
        self.lines += ["  ret void", "}"]

    def polygamma(self, n: int) -> None:
        """Write the function psi_n(x), called by the programs above."""
        self.flags = ""
        program = make_program(f"polygamma_{n}", FIELD, polygamma_graph(n))
        self.lines.append(
            f"define internal double @{symbol(program.name)}(double %t) #1 noinline {{"
        )
        names = self._body(program, range(len(program.ops)), {}, {})
        self.lines += [f"  ret double {names[program.outputs[0]]}", "}"]

    def _body(
        self,
        program: Program,
        chunk: range,
        slots: Mapping[int, int],
        outputs: Mapping[int, Sequence[int]],
    ) -> dict[int, str]:
        """Write the operations of a chunk; return the name of each value in it."""
        names: dict[int, str] = {}
        for i in chunk:
            op = program.ops[i]
            if op in LEAVES:
                continue
            args = [self._operand(program, a, names, slots) for a in program.args[i]]
            names[i] = f"%x{i}"
            self._operation(i, op, args, program.payloads[i])
            if i in slots:
                self._store("work", slots[i], names[i], op in BOOLEAN, i)
            for k in outputs.get(i, ()):
                self._store("out", k, names[i], False, i)
        if chunk.stop == len(program.ops):
            for i, places in outputs.items():
                if program.ops[i] in LEAVES:
                    value = self._operand(program, i, names, slots)
                    for k in places:
                        self._store("out", k, value, False, i)
        return names

    def _store(self, array: str, index: int, value: str, boolean: bool, i: int) -> None:
        pointer = f"%{array}_{index}"
        if boolean:
            self.lines.append(f"  %w{i} = uitofp i1 {value} to double")
            value = f"%w{i}"
        self.lines.append(f"  {pointer} = getelementptr double, ptr %{array}, i64 {index}")
        self.lines.append(f"  store double {value}, ptr {pointer}")

    def _operand(
        self, program: Program, i: int, names: dict[int, str], slots: Mapping[int, int]
    ) -> str:
        """Return the name of a value, loading it where this chunk meets it first."""
        if i in names:
            return names[i]
        op, payload = program.ops[i], program.payloads[i]
        if op == "const":
            names[i] = hexadecimal(to_float(payload))
        elif op == "nan":
            names[i] = hexadecimal(float("nan"))
        elif op == "input" and payload[0] == "t":
            names[i] = "%t"
        else:
            array, index = payload if op == "input" else ("work", slots[i])
            names[i] = f"%x{i}"
            self.lines.append(f"  %a{i} = getelementptr double, ptr %{array}, i64 {index}")
            if op in BOOLEAN:
                self.lines.append(f"  %l{i} = load double, ptr %a{i}")
                self.lines.append(f"  %x{i} = fcmp one double %l{i}, 0.0")
            else:
                self.lines.append(f"  %x{i} = load double, ptr %a{i}")
        return names[i]

    def _operation(self, i: int, op: str, args: Sequence[str], payload: Payload) -> None:
        x, emit = f"%x{i}", self.lines.append
        if op in INFIX:
            emit(f"  {x} = {INFIX[op]} {self.flags}double {args[0]}, {args[1]}")
        elif op == "neg":
            emit(f"  {x} = fneg double {args[0]}")
        elif op == "mul0":
            a, c = args
            emit(f"  %m{i} = fmul double {a}, {c}")
            emit(f"  %c{i} = fcmp oeq double {a}, 0.0")
            emit(f"  %d{i} = fcmp oeq double {c}, 0.0")
            emit(f"  %e{i} = or i1 %c{i}, %d{i}")
            emit(f"  {x} = select i1 %e{i}, double 0.0, double %m{i}")
        elif op == "div0":
            emit(f"  %m{i} = fdiv double {args[0]}, {args[1]}")
            emit(f"  %c{i} = fcmp oeq double {args[0]}, 0.0")
            emit(f"  {x} = select i1 %c{i}, double 0.0, double %m{i}")
        elif op in COMPARE:
            emit(f"  {x} = fcmp {COMPARE[op]} double {args[0]}, {args[1]}")
        elif op in ("and", "or"):
            emit(f"  {x} = {op} i1 {args[0]}, {args[1]}")
        elif op == "not":
            emit(f"  {x} = xor i1 {args[0]}, true")
        elif op == "select":
            emit(f"  {x} = select i1 {args[0]}, double {args[1]}, double {args[2]}")
        elif op in ("max", "min"):
            # A NaN in either argument comes through.
            a, c = args
            emit(f"  %c{i} = fcmp {'ogt' if op == 'max' else 'olt'} double {a}, {c}")
            emit(f"  %d{i} = fcmp uno double {a}, {a}")
            emit(f"  %e{i} = or i1 %c{i}, %d{i}")
            emit(f"  {x} = select i1 %e{i}, double {a}, double {c}")
        elif op in INTRINSICS:
            self.intrinsics.add(INTRINSICS[op])
            emit(f"  {x} = call double @llvm.{INTRINSICS[op]}.f64(double {args[0]})")
        elif op == "polygamma":
            self.polygammas.add(payload)
            emit(f"  {x} = call double @{symbol(f'polygamma_{payload}')}(double {args[0]}) #1")
        elif op == "table":
            self.tables.setdefault(payload.digest, payload)
            actual = f"double {args[0]}, double {args[1]}"
            emit(f"  {x} = call double @{table_name(payload)}({actual}) #1")
        else:
            name = LIBM[op]
            self.externals[name] = ", ".join(["double"] * len(args))
            actual = ", ".join(f"double {a}" for a in args)
            emit(f"  {x} = call double @{name}({actual}) #1")


def _chunks(program: Program) -> list[range]:
    """Return the ranges of lines that become one function each."""
    n = len(program.ops)
    if program.n_operations <= 2 * CHUNK:
        return [range(n)]
    bounds, count = [0], 0
    for i, op in enumerate(program.ops):
        count += op not in LEAVES
        if count == CHUNK:
            bounds.append(i + 1)
            count = 0
    if bounds[-1] != n:
        bounds.append(n)
    return [range(a, b) for a, b in pairwise(bounds)]


def _spills(program: Program, chunks: list[range]) -> dict[int, int]:
    """Return the place in work of each value used beyond its chunk; places are reused."""
    if len(chunks) == 1:
        return {}
    home = [0] * len(program.ops)
    for k, chunk in enumerate(chunks):
        for i in chunk:
            home[i] = k
    last: dict[int, int] = {}
    for i, args in enumerate(program.args):
        for a in args:
            if home[a] != home[i] and program.ops[a] not in LEAVES:
                last[a] = max(last.get(a, 0), home[i])
    slots: dict[int, int] = {}
    free: list[int] = []
    ending: list[list[int]] = [[] for _ in chunks]
    size = 0
    for k, chunk in enumerate(chunks):
        for i in chunk:
            if i in last:
                if free:
                    slots[i] = free.pop()
                else:
                    slots[i] = size
                    size += 1
                ending[last[i]].append(slots[i])
        # A value read in chunk k may share its place with one written after k only.
        free.extend(ending[k])
    return slots
