"""Vectors of float32 in LLVM's language, which `products` is written in.

Numba's compiler makes vectors of loops by itself, but not of a product that keeps a tile of its
results in registers, and that is what a product's speed is.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils

_FEATURES = binding.get_host_cpu_features()
_ARM = platform.machine().lower() in ("aarch64", "arm64")
# Floats in a register, and how many registers there are.
LANES = 16 if _FEATURES.get("avx512f") else 8 if _FEATURES.get("avx") else 4
REGISTERS = 32 if LANES == 16 or _ARM else 16

_FLOAT, _INT, _BYTE = ir.FloatType(), ir.IntType(64), ir.IntType(8)
_ALIGNMENT = 4  # bytes: a row may begin anywhere


class Matrix:
    """A matrix or a vector in memory, in any layout."""

    def __init__(self, builder: Any, data: Any, shape: Sequence[Any], strides: Sequence[Any]) -> None:
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
        """The vector's numbers row by row."""
        (stride,) = self._strides
        strides = [self._builder.mul(columns, stride), stride]
        return Matrix(self._builder, self._data, [rows, columns], strides)

    def at(self, *index: Any) -> Any:
        """The address of an element."""
        offset = number(0)
        for i, stride in zip(index, self._strides, strict=True):
            offset = self._builder.add(offset, self._builder.mul(i, stride))
        return self._builder.gep(self._data, [offset])


def number(n: int) -> Any:
    """An integer."""
    return ir.Constant(_INT, n)


class Vectors:
    """Writes operations on vectors of `lanes` floats, or 32-bit numbers, with `builder`."""

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
        kinds = [pointer.type, ir.IntType(32), self._mask, self._kind]
        load = self._intrinsic("masked.load", self._kind, kinds, suffix=".p0")
        return self.builder.call(load, [pointer, ir.Constant(kinds[1], 4), mask, self.zero])

    def store(self, vector: Any, address: Any, mask: Any = None) -> None:
        """Write `vector`, or its floats that `mask` is set for."""
        pointer = self.builder.bitcast(address, self._kind.as_pointer())
        if mask is None:
            self.builder.store(vector, pointer).align = _ALIGNMENT
            return
        kinds = [self._kind, pointer.type, ir.IntType(32), self._mask]
        store = self._intrinsic("masked.store", ir.VoidType(), kinds, suffix=".p0")
        self.builder.call(store, [vector, pointer, ir.Constant(kinds[2], 4), mask])

    def first(self, count: Any) -> Any:
        """A mask for the first `count` lanes; there may be fewer, or more."""
        kind = ir.VectorType(_INT, self.lanes)
        counts = self._repeated(count, kind)
        return self.builder.icmp_signed("<", ir.Constant(kind, list(range(self.lanes))), counts)

    def repeat(self, address: Any) -> Any:
        """The float at `address`, in every lane."""
        loaded = self.builder.load(self.builder.bitcast(address, _FLOAT.as_pointer()))
        return self._repeated(loaded, self._kind)

    def add_product(self, total: Any, a: Any, b: Any) -> Any:
        """total + a · b, rounded once, by every processor that can."""
        # By a flag and not by LLVM's own fused operation, from which it makes slower loops.
        may = ("contract",)
        return self.builder.fadd(total, self.builder.fmul(a, b, flags=may), flags=may)

    def shuffle(self, a: Any, b: Any, lanes: Sequence[int]) -> Any:
        """Those `lanes` of `a` and `b`, b's being numbered after a's."""
        kind = ir.VectorType(ir.IntType(32), len(lanes))
        return self.builder.shuffle_vector(a, b, ir.Constant(kind, list(lanes)))

    def sums(self, vectors: Sequence[Any]) -> list[Any]:
        """The sum of each one's lanes, for as many vectors as a power of two, up to `lanes`.

        Lanes are added pair by pair, whatever the number of vectors: the bits are the same.
        """
        found, width = list(vectors), self.lanes  # each holds sums that are still so wide
        while width > 1:
            half = width // 2
            low = [lane for lane in range(2 * self.lanes) if lane % width < half]
            high = [lane + half for lane in low]
            pairs = list(zip(found[::2], found[1::2] or found, strict=True))
            found = [
                self.builder.fadd(self.shuffle(a, b, low), self.shuffle(a, b, high))
                for a, b in pairs
            ]
            width = half
        (all_sums,) = found
        return [
            self.builder.extract_element(all_sums, ir.Constant(ir.IntType(32), i))
            for i in range(len(vectors))
        ]

    def transposed(self, rows: Sequence[Any]) -> list[Any]:
        """As many vectors as there are lanes, transposed: each round interleaves two halves."""
        low = [i // 2 + i % 2 * self.lanes for i in range(self.lanes)]
        high = [lane + self.lanes // 2 for lane in low]
        found, half, rounds = list(rows), self.lanes // 2, self.lanes
        while rounds > 1:
            halves = zip(found[:half], found[half:], strict=True)
            found = [self.shuffle(a, b, lanes) for a, b in halves for lanes in (low, high)]
            rounds //= 2
        return found

    def _repeated(self, value: Any, kind: Any) -> Any:
        undefined = ir.Constant(kind, ir.Undefined)
        vector = self.builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(vector, undefined, [0] * self.lanes)

    def _intrinsic(self, name: str, returns: Any, takes: Sequence[Any], suffix: str = "") -> Any:
        kind = ir.FunctionType(returns, takes)
        full = f"llvm.{name}.v{self.lanes}f32{suffix}"
        return cgutils.get_or_insert_function(self.builder.module, kind, full)


class Sums:
    """Vectors that stay in registers while a loop adds to them, all zero at first."""

    def __init__(self, vectors: Vectors, count: int) -> None:
        self._vectors = vectors
        self._slots = [cgutils.alloca_once(vectors.builder, vectors.zero.type) for _ in range(count)]
        for slot in self._slots:
            vectors.builder.store(vectors.zero, slot)

    def add(self, i: int, a: Any, b: Any) -> None:
        """Add a · b to the i-th."""
        builder = self._vectors.builder
        total = self._vectors.add_product(builder.load(self._slots[i]), a, b)
        builder.store(total, self._slots[i])

    def read(self) -> list[Any]:
        """All of them."""
        return [self._vectors.builder.load(slot) for slot in self._slots]


def blocks(builder: Any, end: Any, sizes: Sequence[int], write: Callable[[int, Any], None]) -> None:
    """Cut 0 … `end` into blocks of the first of `sizes`, what is left into the next, and so on.

    `write(size, at)` writes what is done with a block; the last size is 1.
    """
    begin = number(0)
    for size in sizes:
        until = builder.sub(end, builder.srem(builder.sub(end, begin), number(size)))
        with cgutils.for_range_slice(builder, begin, until, number(size)) as (at, _):
            write(size, at)
        begin = until
