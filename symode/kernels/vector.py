"""Sums over stages in vector registers.

Loops that LLVM turns into vectors by itself take 16 or 32 components a turn and the rest one by
one, after tests that their arrays do not overlap: for 8 to 30 components, the size of small models
with tangents, most of the time goes there. Here eight components stay in registers while all
stages are added, and the last eight overlap those before them.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_DOUBLE = ir.DoubleType()
_WORD = ir.IntType(64)
_FUNCTION: Final = ir.FunctionType(
    ir.VoidType(),
    [_DOUBLE.as_pointer()] * 2
    + [_DOUBLE, _DOUBLE.as_pointer(), _WORD, _DOUBLE.as_pointer(), _WORD, _WORD],
)
#: Components kept in registers.
WIDE: Final = 8


def _block(builder: Any, function: Any, width: int, at: Any, based: bool) -> None:
    """Emit the sum for ``width`` components from ``at`` on."""
    out, base, factor, weights, count, k, stride, _ = function.args
    kind = ir.VectorType(_DOUBLE, width) if width > 1 else _DOUBLE

    def spread(value: Any) -> Any:
        if width == 1:
            return value
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_WORD, 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)

    def place(pointer: Any, offset: Any) -> Any:
        return builder.bitcast(builder.gep(pointer, [offset]), kind.as_pointer())

    nothing = ir.Constant(kind, [0.0] * width if width > 1 else 0.0)
    before = builder.block
    with cgutils.for_range(builder, count) as loop:
        head = loop.index.parent
        with builder.goto_block(head):
            # The sum lives in a register, beside the loop's counter.
            builder.position_at_start(head)
            total = builder.phi(kind)
        total.add_incoming(nothing, before)
        weight = builder.load(builder.gep(weights, [loop.index]))
        row = builder.add(builder.mul(loop.index, stride), at)
        term = builder.fmul(
            spread(weight), builder.load(place(k, row), align=8), flags=("contract",)
        )
        more = builder.fadd(total, term, flags=("contract",))
        total.add_incoming(more, builder.block)
    scaled = builder.fmul(spread(factor), total, flags=("contract",))
    if based:
        start = builder.load(place(base, at), align=8)
        scaled = builder.fadd(start, scaled, flags=("contract",))
    builder.store(scaled, place(out, at), align=8)


def _define(module: Any, based: bool) -> Any:
    """Return the function of a module, made when first asked for."""
    name = "symode_sum_stages" if based else "symode_weigh_stages"
    function = cgutils.get_or_insert_function(module, _FUNCTION, name)
    if function.blocks:
        return function
    function.linkage = "internal"
    function.attributes.add("nounwind")
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    size, zero = function.args[7], ir.Constant(_WORD, 0)

    def one_by_one() -> None:
        with cgutils.for_range(builder, size) as loop:
            _block(builder, function, 1, loop.index, based)

    for width in (WIDE, WIDE // 2):
        long = builder.icmp_signed(">=", size, ir.Constant(_WORD, width))
        with builder.if_then(long):
            blocks = builder.sdiv(size, ir.Constant(_WORD, width))
            with cgutils.for_range(builder, blocks) as loop:
                at = builder.mul(loop.index, ir.Constant(_WORD, width))
                _block(builder, function, width, at, based)
            last = builder.sub(size, ir.Constant(_WORD, width))
            left = builder.icmp_signed("!=", builder.srem(size, ir.Constant(_WORD, width)), zero)
            with builder.if_then(left):
                _block(builder, function, width, last, based)
            builder.ret_void()
            builder.position_at_end(builder.function.append_basic_block("unreachable"))
            builder.unreachable()
    one_by_one()
    builder.ret_void()
    return function


def _call(context: Any, builder: Any, signature: Any, args: Any, based: bool) -> Any:
    """Emit a call; without a base the second pointer is that of ``out``, and is not read."""
    out, base, factor, weights, first, count, k, size = args
    kinds = dict(zip(("out", "base", "", "weights", "", "", "k"), signature, strict=False))

    def array(name: str, value: Any) -> Any:
        return context.make_array(kinds[name])(context, builder, value)

    matrix = array("k", k)
    stride = builder.extract_value(matrix.shape, 1)
    pointer = builder.gep(array("weights", weights).data, [first])
    builder.call(
        _define(builder.module, based),
        [array("out", out).data, array("base", base).data, factor, pointer, count, matrix.data,
         stride, size],
    )  # fmt: skip
    return context.get_dummy_value()


@intrinsic
def sum_stages(
    typingctx: Any, out: Any, base: Any, factor: Any, weights: Any, first: Any, count: Any, k: Any,
    size: Any,
) -> Any:  # fmt: skip
    """Write ``base + factor * sum_s weights[first + s] * k[s]`` to the first ``size`` of out.

    ``weights`` is read through its memory, row after row; ``k`` is a matrix with a row for each of
    ``count`` stages. ``out`` and ``base`` may not overlap.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(context, builder, signature.args, args, True)

    kinds = (out, base, types.float64, weights, types.intp, types.intp, k, types.intp)
    return types.void(*kinds), codegen


@intrinsic
def weigh_stages(
    typingctx: Any, out: Any, factor: Any, weights: Any, first: Any, count: Any, k: Any, size: Any
) -> Any:
    """Write ``factor * sum_s weights[first + s] * k[s]``, see `sum_stages`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = (signature.args[0], *signature.args)
        return _call(context, builder, kinds, (args[0], *args), False)

    return types.void(out, types.float64, weights, types.intp, types.intp, k, types.intp), codegen
