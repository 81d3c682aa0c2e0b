"""How products of matrices are computed: tile by tile, in LLVM's language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from worker.trainers.dqn.compiled.vectors import (
    LANES,
    REGISTERS,
    Matrix,
    Sums,
    Vectors,
    in_blocks,
    number,
)

# Rows and vectors of a tile; a few registers are left for the operands.
_ROWS, _VECTORS = (6, 2, 1), 4 if REGISTERS == 32 else 2
# Lanes that dots are added up in: the same everywhere, because their bits depend on it.
_DOT_LANES = 16
# Neurons of a layer that are computed together.
_NEURONS = (16, 8, 4, 2, 1) if LANES == 16 else (4, 2, 1)

# What is stored, given vectors, what was added up, its row and column, and what of it is stored.
Finish = Callable[[Vectors, Any, Any, Any, Any], Any]


def write_product(builder: Any, a: Matrix, b: Matrix, out: Matrix, finish: Finish) -> None:
    """Write `a` [M, K] times `b` [K, N] to `out` [M, N]; a vector is of a row of `b`."""
    vectors = Vectors(builder, LANES)
    rows, columns = out.shape

    def tile(height: int, width: int, m: Any, n: Any, left: Any) -> None:
        ms, ns = _following(builder, m, height), _following(builder, n, width, LANES)
        masks = [
            None if left is None else vectors.first(builder.sub(left, number(j * LANES)))
            for j in range(width)
        ]
        sums = Sums(vectors, height * width)
        with cgutils.for_range(builder, a.shape[1]) as loop:
            k = loop.index
            right = [vectors.load(b.at(k, at), mask) for at, mask in zip(ns, masks, strict=True)]
            for i, row in enumerate(ms):
                one = vectors.repeat(a.at(row, k))
                for j in range(width):
                    sums.add(i * width + j, one, right[j])
        for i, total in enumerate(sums.read()):
            row, column, mask = ms[i // width], ns[i % width], masks[i % width]
            finished = finish(vectors, total, row, column, mask)
            vectors.store(finished, out.at(row, column), mask)

    def strip(width: int, n: Any, left: Any = None) -> None:
        """All rows of so many vectors; given how many columns are `left`, of no more."""
        in_blocks(builder, rows, _ROWS, lambda height, m: tile(height, width, m, n, left))

    whole = number(_VECTORS * LANES)
    end = builder.sub(columns, builder.srem(columns, whole))
    with cgutils.for_range_slice(builder, number(0), end, whole) as (n, _):
        strip(_VECTORS, n)
    left = builder.sub(columns, end)
    for width in range(1, _VECTORS + 1):
        more = builder.icmp_signed(">", left, number((width - 1) * LANES))
        fits = builder.icmp_signed("<=", left, number(width * LANES))
        with builder.if_then(builder.and_(more, fits)):
            strip(width, end, left)


def write_dots(builder: Any, a: Matrix, b: Matrix, out: Matrix) -> None:
    """Write each row of `a` [M, K] times each row of `b` [N, K] to `out` [M, N]."""
    vectors = Vectors(builder, _DOT_LANES)
    rows, columns = out.shape

    def tile(height: int, width: int, m: Any, n: Any) -> None:
        ms, ns = _following(builder, m, height), _following(builder, n, width)
        lefts, rights = [partial(a.at, m) for m in ms], [partial(b.at, n) for n in ns]
        totals = _dots(vectors, lefts, rights, a.shape[1])
        for at in range(height * width):
            total = builder.extract_element(totals, ir.Constant(ir.IntType(32), at))
            builder.store(total, out.at(ms[at // width], ns[at % width]))

    def strip(width: int, n: Any) -> None:
        in_blocks(builder, rows, (4, 2, 1), lambda height, m: tile(height, width, m, n))

    in_blocks(builder, columns, (4, 1), strip)


def write_neurons(builder: Any, layer: Matrix, below: Matrix, out: Matrix, hidden: Any) -> None:
    """Write a layer's results [O] of one `below` [I]; `layer` has [O · I] weights, [O] biases."""
    vectors = Vectors(builder, _DOT_LANES)
    (outputs,), (inputs,) = out.shape, below.shape
    weight, biases = layer.rows(outputs, inputs), builder.mul(outputs, inputs)

    def tile(height: int, m: Any) -> None:
        rows = [partial(weight.at, m) for m in _following(builder, m, height)]
        total = _dots(vectors, rows, [below.at], inputs)
        mask = vectors.first(number(height))
        value = builder.fadd(total, vectors.load(layer.at(builder.add(biases, m)), mask))
        value = builder.select(hidden, vectors.positive(value, value), value)
        vectors.store(value, out.at(m), mask)

    in_blocks(builder, outputs, _NEURONS, tile)


def write_transpose(builder: Any, a: Matrix, out: Matrix) -> None:
    """Write the transpose of `a` to `out`, in squares: both are touched up to a whole one."""
    vectors, step = Vectors(builder, LANES), number(LANES)
    rows, columns = a.shape
    with (
        cgutils.for_range_slice(builder, number(0), rows, step) as (m, _),
        cgutils.for_range_slice(builder, number(0), columns, step) as (n, _),
    ):
        square = [vectors.load(a.at(row, n)) for row in _following(builder, m, LANES)]
        turned = vectors.transposed(square)
        for column, vector in zip(_following(builder, n, LANES), turned, strict=True):
            vectors.store(vector, out.at(column, m))


def _dots(
    vectors: Vectors,
    lefts: Sequence[Callable[[Any], Any]],
    rights: Sequence[Callable[[Any], Any]],
    depth: Any,
) -> Any:
    """The sums of each left times each right one, side by side; each says where its k-th is."""
    builder, lanes = vectors.builder, number(vectors.lanes)
    sums = Sums(vectors, len(lefts) * len(rights))

    def add(k: Any, mask: Any = None) -> None:
        loaded = [vectors.load(right(k), mask) for right in rights]
        for i, left in enumerate(lefts):
            one = vectors.load(left(k), mask)
            for j, other in enumerate(loaded):
                sums.add(i * len(rights) + j, one, other)

    whole = builder.sub(depth, builder.srem(depth, lanes))
    with cgutils.for_range_slice(builder, number(0), whole, lanes) as (k, _):
        add(k)
    with builder.if_then(builder.icmp_signed("<", whole, depth)):
        add(whole, vectors.first(builder.sub(depth, whole)))
    return vectors.sums(sums.read())


def _following(builder: Any, at: Any, count: int, step: int = 1) -> list[Any]:
    return [builder.add(at, number(i * step)) for i in range(count)]
