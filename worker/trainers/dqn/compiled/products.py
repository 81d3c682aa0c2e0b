"""Products of float32 matrices as machine code, as fast as the largest ones of a BLAS.

A BLAS packs its operands first, which pays for large matrices and costs a small one a third of its
speed. Here a tile of results stays in registers while the whole depth is added up, straight from
where the operands are; bias and ReLU are applied before it is stored.

A result's products are added in order, or in 16 lanes and these pair by pair (`dots`), so its bits
depend neither on where in a matrix it is nor on how wide the processor's vectors are.

Results must not overlap operands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from worker.trainers.dqn.compiled.vectors import (
    LANES,
    REGISTERS,
    Matrix,
    Sums,
    Vectors,
    blocks,
    number,
)

F32 = NDArray[np.float32]

# Every operation is rounded as it is written: so a result has one value, on every processor.
exact = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=False)

# Rows and vectors of the tile that stays in registers; a few are left for the operands.
_ROWS, _VECTORS = 6, 4 if REGISTERS == 32 else 2
# Lanes of `dots`, whose bits depend on them.
_DOT_LANES = 16
# A matrix as narrow as this is multiplied by `dots`.
NARROW = 16

# What is stored, given what was added up, by row and column.
_Finish = Callable[[Vectors, Any, Any, Any], Any]


def _write_product(builder: Any, a: Matrix, b: Matrix, out: Matrix, finish: _Finish) -> None:
    vectors = Vectors(builder, LANES)
    rows, columns = out.shape

    def tile(height: int, width: int, m: Any, n: Any, left: Any = None) -> None:
        ms = [builder.add(m, number(i)) for i in range(height)]
        ns = [builder.add(n, number(j * LANES)) for j in range(width)]
        masks = [
            None if left is None else vectors.first(builder.sub(left, number(j * LANES)))
            for j in range(width)
        ]
        sums = Sums(vectors, height * width)
        with cgutils.for_range(builder, a.shape[1]) as loop:
            k = loop.index
            right = [vectors.load(b.at(k, n), mask) for n, mask in zip(ns, masks, strict=True)]
            for i, m in enumerate(ms):
                left_side = vectors.repeat(a.at(m, k))
                for j in range(width):
                    sums.add(i * width + j, left_side, right[j])
        for at, total in enumerate(sums.read()):
            m, n, mask = ms[at // width], ns[at % width], masks[at % width]
            vectors.store(finish(vectors, total, m, n), out.at(m, n), mask)

    def strip(width: int, n: Any, left: Any = None) -> None:
        blocks(builder, rows, (_ROWS, 2, 1), lambda height, m: tile(height, width, m, n, left))

    whole = number(_VECTORS * LANES)
    most = builder.sub(columns, builder.srem(columns, whole))
    with cgutils.for_range_slice(builder, number(0), most, whole) as (n, _):
        strip(_VECTORS, n)
    left = builder.sub(columns, most)
    for width in range(1, _VECTORS + 1):
        above = builder.icmp_signed(">", left, number((width - 1) * LANES))
        with builder.if_then(
            builder.and_(above, builder.icmp_signed("<=", left, number(width * LANES)))
        ):
            strip(width, most, left)


def _written(write: Callable[..., None], *kinds: Any) -> tuple[Any, Any]:
    """What Numba wants of an intrinsic: its signature, and who writes it."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        matrices = zip(signature.args, values, strict=True)
        write(builder, *(Matrix.of(context, builder, kind, value) for kind, value in matrices))
        return context.get_dummy_value()

    return types.void(*kinds), codegen


def _positive(vectors: Vectors, values: Any, signs: Any) -> Any:
    """`values` where `signs` are above zero, or no numbers; else zero."""
    above = vectors.builder.fcmp_unordered(">", signs, vectors.zero)
    return vectors.builder.select(above, values, vectors.zero)


@intrinsic
def _multiply(_: Any, a: Any, b: Any, out: Any) -> Any:
    def write(builder: Any, a: Matrix, b: Matrix, out: Matrix) -> None:
        _write_product(builder, a, b, out, lambda _vectors, total, _m, _n: total)

    return _written(write, a, b, out)


@intrinsic
def _affine(_: Any, weight: Any, below: Any, bias: Any, out: Any) -> Any:
    def write(builder: Any, weight: Matrix, below: Matrix, bias: Matrix, out: Matrix) -> None:
        def finish(vectors: Vectors, total: Any, m: Any, _: Any) -> Any:
            return builder.fadd(total, vectors.repeat(bias.at(m)))

        _write_product(builder, weight, below, out, finish)

    return _written(write, weight, below, bias, out)


@intrinsic
def _affine_relu(_: Any, weight: Any, below: Any, bias: Any, out: Any) -> Any:
    def write(builder: Any, weight: Matrix, below: Matrix, bias: Matrix, out: Matrix) -> None:
        def finish(vectors: Vectors, total: Any, m: Any, _: Any) -> Any:
            value = builder.fadd(total, vectors.repeat(bias.at(m)))
            return _positive(vectors, value, value)

        _write_product(builder, weight, below, out, finish)

    return _written(write, weight, below, bias, out)


@intrinsic
def _multiply_where(_: Any, a: Any, b: Any, active: Any, out: Any) -> Any:
    def write(builder: Any, a: Matrix, b: Matrix, active: Matrix, out: Matrix) -> None:
        def finish(vectors: Vectors, total: Any, m: Any, n: Any) -> Any:
            return _positive(vectors, total, vectors.load(active.at(m, n)))

        _write_product(builder, a, b, out, finish)

    return _written(write, a, b, active, out)


def _dots_tile(
    vectors: Vectors, lefts: Sequence[Callable[[Any], Any]], rights: Sequence[Callable[[Any], Any]], depth: Any
) -> list[Any]:
    """The sums of each row of the one times each row of the other, given their addresses."""
    builder, lanes = vectors.builder, number(vectors.lanes)
    whole = builder.sub(depth, builder.srem(depth, lanes))
    sums = Sums(vectors, len(lefts) * len(rights))

    def add(k: Any, mask: Any = None) -> None:
        loaded = [vectors.load(right(k), mask) for right in rights]
        for i, left in enumerate(lefts):
            one = vectors.load(left(k), mask)
            for j, other in enumerate(loaded):
                sums.add(i * len(rights) + j, one, other)

    with cgutils.for_range_slice(builder, number(0), whole, lanes) as (k, _):
        add(k)
    with builder.if_then(builder.icmp_signed("<", whole, depth)):
        add(whole, vectors.first(builder.sub(depth, whole)))
    return vectors.sums(sums.read())


@intrinsic
def _dots(_: Any, a: Any, b: Any, out: Any) -> Any:
    def write(builder: Any, a: Matrix, b: Matrix, out: Matrix) -> None:
        vectors, depth = Vectors(builder, _DOT_LANES), a.shape[1]
        rows, columns = out.shape

        def tile(height: int, width: int, m: Any, n: Any) -> None:
            ms, ns = ([builder.add(x, number(i)) for i in range(size)] for x, size in ((m, height), (n, width)))
            totals = _dots_tile(
                vectors, [partial(a.at, m) for m in ms], [partial(b.at, n) for n in ns], depth
            )
            for at, total in enumerate(totals):
                address = out.at(ms[at // width], ns[at % width])
                builder.store(total, builder.bitcast(address, total.type.as_pointer()))

        def strip(width: int, n: Any) -> None:
            blocks(builder, rows, (4, 1), lambda height, m: tile(height, width, m, n))

        blocks(builder, columns, (4, 1), strip)

    return _written(write, a, b, out)


@intrinsic
def _neurons(_: Any, layer: Any, below: Any, out: Any, hidden: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        *arrays, hidden = values
        layer, below, out = (
            Matrix.of(context, builder, *each) for each in zip(signature.args, arrays, strict=False)
        )
        vectors = Vectors(builder, _DOT_LANES)
        (outputs,), (inputs,) = out.shape, below.shape
        weight, biases = layer.rows(outputs, inputs), builder.mul(outputs, inputs)

        def tile(height: int, m: Any) -> None:
            ms = [builder.add(m, number(i)) for i in range(height)]
            totals = _dots_tile(vectors, [partial(weight.at, m) for m in ms], [below.at], inputs)
            for m, total in zip(ms, totals, strict=True):
                pointer = total.type.as_pointer()
                bias = builder.load(builder.bitcast(layer.at(builder.add(biases, m)), pointer))
                value, zero = builder.fadd(total, bias), total.type(0.0)
                cut = builder.and_(hidden, builder.fcmp_ordered("<", value, zero))
                builder.store(
                    builder.select(cut, zero, value), builder.bitcast(out.at(m), pointer)
                )

        blocks(builder, outputs, (8, 4, 1), tile)
        return context.get_dummy_value()

    return types.void(layer, below, out, hidden), codegen


@intrinsic
def _transpose(_: Any, a: Any, out: Any) -> Any:
    def write(builder: Any, a: Matrix, out: Matrix) -> None:
        vectors = Vectors(builder, LANES)
        rows, columns = a.shape
        step = number(LANES)
        with (
            cgutils.for_range_slice(builder, number(0), rows, step) as (m, _),
            cgutils.for_range_slice(builder, number(0), columns, step) as (n, _),
        ):
            ms, ns = ([builder.add(x, number(i)) for i in range(LANES)] for x in (m, n))
            block = vectors.transposed([vectors.load(a.at(m, n)) for m in ms])
            for column, vector in zip(ns, block, strict=True):
                vectors.store(vector, out.at(column, m))

    return _written(write, a, out)


@exact
def multiply(a: F32, b: F32, out: F32) -> None:
    """Write `a` [M, K] times `b` [K, N] to `out` [M, N]."""
    _multiply(a, b, out)


@exact
def affine(weight: F32, below: F32, bias: F32, out: F32) -> None:
    """Write a layer's results, of `below` [I, B], to `out` [O, B]."""
    _affine(weight, below, bias, out)


@exact
def affine_relu(weight: F32, below: F32, bias: F32, out: F32) -> None:
    """Write a layer's results, of `below` [I, B], to `out` [O, B], where they are positive."""
    _affine_relu(weight, below, bias, out)


@exact
def multiply_where(a: F32, b: F32, active: F32, out: F32) -> None:
    """Write `a` [M, K] times `b` [K, N] to `out` [M, N] where `active` [M, N] is positive."""
    _multiply_where(a, b, active, out)


@exact
def dots(a: F32, b: F32, out: F32) -> None:
    """Write `a` [M, K] times the transpose of `b` [N, K] to `out` [M, N]: for narrow ones."""
    _dots(a, b, out)


@exact
def neurons(layer: F32, below: F32, out: F32, hidden: bool) -> None:
    """Write a layer's results, of one `below` [I], to `out` [O]; a `hidden` one's if positive.

    `layer` begins with its weights [O · I] and biases [O].
    """
    _neurons(layer, below, out, hidden)


@exact
def transpose(a: F32, out: F32) -> None:
    """Write the transpose of `a` [M, N] to `out`; its rows and columns are `padded`.

    `a` is read beyond its end, up to LANES rows.
    """
    _transpose(a, out)


@exact
def padded(n: int) -> int:
    """What `transpose` has for n rows or columns."""
    return -(-n // LANES) * LANES
