"""Tables as LLVM IR: constant arrays, and a function that looks its piece up by halving."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from symode.equations.pieces import TableFamily


def hexadecimal(value: float) -> str:
    """Return a double as LLVM writes it exactly.

    Examples
    --------
    >>> hexadecimal(1.0)
    '0x3FF0000000000000'
    """
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def table_name(family: TableFamily) -> str:
    """Return the linker name of a family's function."""
    return f"symode_table_{family.digest[:16]}"


def table_function(family: TableFamily) -> list[str]:
    """Return the lines of ``double table(double x, double k)`` and of the numbers it reads.

    Examples
    --------
    >>> from symode.equations.table import Table
    >>> lines = table_function(TableFamily((Table([0, 1], [2.0, 3.0]).pieces,)))
    >>> lines[-1], len([line for line in lines if line.startswith("@")])
    ('}', 4)
    """
    name = table_name(family)
    starts, breaks, rows = family.arrays
    last, width = len(family.members) - 1, family.degree + 1
    origins = [x for pieces in family.members for x in pieces.origins]
    # An array of no elements has no address to offset.
    lines = [
        _numbers(f"{name}_b", breaks if breaks.size else [0.0]),
        _numbers(f"{name}_o", origins),
        _numbers(f"{name}_c", rows.ravel()),
        f"@{name}_s = internal constant [{starts.size} x i64] "
        f"[{', '.join(f'i64 {i}' for i in starts)}]",
        f"define internal double @{name}(double %x, double %k) #1 noinline {{",
        "entry:",
        # The nearest member there is, whatever the number.
        "  %above = fcmp ogt double %k, 0.0",
        "  %k0 = select i1 %above, double %k, double 0.0",
        f"  %beyond = fcmp ogt double %k0, {hexadecimal(float(last))}",
        f"  %k1 = select i1 %beyond, double {hexadecimal(float(last))}, double %k0",
        "  %m = fptosi double %k1 to i64",
        "  %m1 = add i64 %m, 1",
        f"  %sa = getelementptr i64, ptr @{name}_s, i64 %m",
        f"  %sb = getelementptr i64, ptr @{name}_s, i64 %m1",
        "  %first = load i64, ptr %sa",
        "  %stop = load i64, ptr %sb",
        "  br label %search",
        "search:",
        "  %lo = phi i64 [ %first, %entry ], [ %lo1, %step ]",
        "  %hi = phi i64 [ %stop, %entry ], [ %hi1, %step ]",
        "  %open = icmp slt i64 %lo, %hi",
        "  br i1 %open, label %step, label %found",
        "step:",
        "  %sum = add i64 %lo, %hi",
        "  %mid = lshr i64 %sum, 1",
        f"  %ba = getelementptr double, ptr @{name}_b, i64 %mid",
        "  %b = load double, ptr %ba",
        "  %after = fcmp olt double %b, %x",
        "  %next = add i64 %mid, 1",
        "  %lo1 = select i1 %after, i64 %next, i64 %lo",
        "  %hi1 = select i1 %after, i64 %hi, i64 %mid",
        "  br label %search",
        "found:",
        # Each member has one piece more than it has breaks.
        "  %piece = add i64 %lo, %m",
        f"  %oa = getelementptr double, ptr @{name}_o, i64 %piece",
        "  %origin = load double, ptr %oa",
        "  %s = fsub double %x, %origin",
        f"  %row = mul i64 %piece, {width}",
    ]
    for d in range(width):
        lines += [
            f"  %i{d} = add i64 %row, {d}",
            f"  %a{d} = getelementptr double, ptr @{name}_c, i64 %i{d}",
            f"  %c{d} = load double, ptr %a{d}",
        ]
    total = f"%c{width - 1}"
    for d in range(width - 2, -1, -1):
        lines += [
            f"  %p{d} = fmul double {total}, %s",
            f"  %v{d} = fadd double %p{d}, %c{d}",
        ]
        total = f"%v{d}"
    return [*lines, f"  ret double {total}", "}"]


def _numbers(name: str, values: Iterable[float]) -> str:
    text = [f"double {hexadecimal(float(v))}" for v in values]
    return f"@{name} = internal constant [{len(text)} x double] [{', '.join(text)}]"
