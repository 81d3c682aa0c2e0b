"""Vectors of floats in LLVM's language, which the products of matrices are written in.

Numba's compiler makes vectors of simple loops. It does not keep a tile of a product's results in
registers, and that is what a product's speed is.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

# What the compiler may use of this processor.
_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
_ARM = platform.machine().lower() in ("aarch64", "arm64")
# Floats in a register, and how many registers there are.
LANES = 16 if "+avx512f" in _FEATURES else 8 if "+avx" in _FEATURES else 4
REGISTERS = 32 if LANES == 16 or _ARM else 16

_FLOAT, _INT, _INT32, _BYTE = ir.FloatType(), ir.IntType(64), ir.IntType(32), ir.IntType(8)
_ALIGNMENT = 4  # bytes: a row may begin anywhere


def number(n: int) -> Any:
    """An integer."""
    return ir.Constant(_INT, n)


class Matrix:
    """A matrix or a vector in memory, in any layout."""

    def __init__(
        self, builder: Any, data: Any, shape: Sequence[Any], strides: Sequence[Any]
    ) -> None:
        self._builder, self._strides = builder, strides  # in bytes
        self._data = builder.bitcast(data, _BYTE.as_pointer())
        self.shape = shape

    @classmethod
    def of(cls, context: Any, builder: Any, kind: Any, value: Any) -> Matrix:
        """An array of a compiled function."""
        array = context.make_array(kind)(context, builder, value=value)
        shape, strides = (cgutils.unpack_tuple(builder, x) for x in (array.shape, array.strides))
        return cls(builder, array.data, shape, strides)

    def rows(self, rows: Any, columns: Any) -> Matrix:
        """The first numbers of a vector, as a matrix."""
        (stride,) = self._strides
        strides = [self._builder.mul(columns, stride), stride]
        return Matrix(self._builder, self._data, [rows, columns], strides)

    def at(self, *index: Any) -> Any:
        """The address of an element."""
        offset = number(0)
        for i, stride in zip(index, self._strides, strict=True):
            offset = self._builder.add(offset, self._builder.mul(i, stride))
        return self._builder.bitcast(self._builder.gep(self._data, [offset]), _FLOAT.as_pointer())


class Vectors:
    """Writes operations on vectors of `lanes` floats."""

    def __init__(self, builder: Any, lanes: int) -> None:
        self.builder, self.lanes = builder, lanes
        self._kind = ir.VectorType(_FLOAT, lanes)
        self._mask = ir.VectorType(ir.IntType(1), lanes)
        self.zero = ir.Constant(self._kind, [0.0] * lanes)

    def load(self, address: Any, mask: Any = None) -> Any:
        """The floats at `address`, and zeros where there is a `mask` and it is not set."""
        pointer = self.builder.bitcast(address, self._kind.as_pointer())
        if mask is None:
            loaded = self.builder.load(pointer)
            loaded.align = _ALIGNMENT
            return loaded
        kinds = [pointer.type, _INT32, self._mask, self._kind]
        load = self._own("masked.load", ".p0", self._kind, kinds)
        return self.builder.call(load, [pointer, ir.Constant(_INT32, _ALIGNMENT), mask, self.zero])

    def store(self, vector: Any, address: Any, mask: Any = None) -> None:
        """Write `vector` to `address`, or of it what `mask` is set for."""
        pointer = self.builder.bitcast(address, self._kind.as_pointer())
        if mask is None:
            self.builder.store(vector, pointer).align = _ALIGNMENT
            return
        kinds = [self._kind, pointer.type, _INT32, self._mask]
        store = self._own("masked.store", ".p0", ir.VoidType(), kinds)
        self.builder.call(store, [vector, pointer, ir.Constant(_INT32, _ALIGNMENT), mask])

    def first(self, count: Any) -> Any:
        """A mask that is set for the first `count` lanes: none, some or all."""
        kind = ir.VectorType(_INT, self.lanes)
        lane = ir.Constant(kind, list(range(self.lanes)))
        return self.builder.icmp_signed("<", lane, self._repeated(count, kind))

    def repeat(self, address: Any) -> Any:
        """The float at `address`, in every lane."""
        return self._repeated(self.builder.load(address), self._kind)

    def positive(self, values: Any, signs: Any) -> Any:
        """`values` where `signs` are above zero or no numbers, and zero elsewhere."""
        above = self.builder.fcmp_unordered(">", signs, self.zero)
        return self.builder.select(above, values, self.zero)

    def sums(self, vectors: Sequence[Any]) -> Any:
        """The sums of each one's lanes, side by side, of up to `lanes`, a power of two.

        Lanes are added pair by pair, the same pairs whatever the number of vectors.
        """
        found, width = list(vectors), self.lanes  # of each sum that is not yet added up
        while width > 1:
            half = width // 2
            low = [lane for lane in range(2 * self.lanes) if lane % width < half]
            high = [lane + half for lane in low]
            pairs = zip(found[::2], found[1::2] or found, strict=True)
            found = [
                self.builder.fadd(self._shuffle(a, b, low), self._shuffle(a, b, high))
                for a, b in pairs
            ]
            width = half
        return found[0]

    def transposed(self, rows: Sequence[Any]) -> list[Any]:
        """As many vectors as there are lanes, transposed: each round interleaves two halves."""
        low = [i // 2 + i % 2 * self.lanes for i in range(self.lanes)]
        high = [lane + self.lanes // 2 for lane in low]
        found, half, rounds = list(rows), self.lanes // 2, self.lanes
        while rounds > 1:
            halves = zip(found[:half], found[half:], strict=True)
            found = [self._shuffle(a, b, lanes) for a, b in halves for lanes in (low, high)]
            rounds //= 2
        return found

    def _shuffle(self, a: Any, b: Any, lanes: Sequence[int]) -> Any:
        """Those `lanes` of `a` and `b`, whose are numbered after a's."""
        kind = ir.VectorType(_INT32, len(lanes))
        return self.builder.shuffle_vector(a, b, ir.Constant(kind, list(lanes)))

    def _repeated(self, value: Any, kind: Any) -> Any:
        undefined = ir.Constant(kind, ir.Undefined)
        vector = self.builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
        return self._shuffle(vector, undefined, [0] * self.lanes)

    def _own(self, name: str, suffix: str, returns: Any, takes: Sequence[Any]) -> Any:
        """LLVM's own function of that name, for our vectors."""
        kind = ir.FunctionType(returns, takes)
        full = f"llvm.{name}.v{self.lanes}f32{suffix}"
        return cgutils.get_or_insert_function(self.builder.module, kind, full)


class Sums:
    """Vectors that stay in registers while loops add to them; all are zero at first."""

    def __init__(self, vectors: Vectors, count: int) -> None:
        self._builder, zero = vectors.builder, vectors.zero
        self._slots = [cgutils.alloca_once(self._builder, zero.type) for _ in range(count)]
        for slot in self._slots:
            self._builder.store(zero, slot)

    def add(self, i: int, a: Any, b: Any) -> None:
        """Add a · b to the i-th, rounded once by every processor that can.

        That is allowed by a flag. LLVM's own fused operation makes the same numbers, and slower
        loops.
        """
        may = ("contract",)
        product = self._builder.fmul(a, b, flags=may)
        total = self._builder.fadd(self._builder.load(self._slots[i]), product, flags=may)
        self._builder.store(total, self._slots[i])

    def read(self) -> list[Any]:
        """All of them."""
        return [self._builder.load(slot) for slot in self._slots]


def in_blocks(
    builder: Any, end: Any, sizes: Sequence[int], write: Callable[[int, Any], None]
) -> None:
    """Go from 0 to `end` in steps of the first of `sizes`, then of the next; the last one is 1.

    `write(size, at)` writes what is done in a step.
    """
    begin = number(0)
    for size in sizes:
        until = builder.sub(end, builder.srem(builder.sub(end, begin), number(size)))
        with cgutils.for_range_slice(builder, begin, until, number(size)) as (at, _):
            write(size, at)
        begin = until
