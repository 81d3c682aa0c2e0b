"""Products of float32 matrices as machine code, as fast as a BLAS multiplies the largest ones.

A BLAS first packs its operands, which pays for large matrices and takes a third of a small one's
time. Here a tile of results stays in registers while the whole depth is added up, straight from
where the operands lie, and bias and ReLU are applied before it is stored.

The products in a sum are added in order, or in 16 lanes that are then added pair by pair (`dots`,
`neurons`). So a result's bits depend neither on where in its matrix it is nor on how wide the
processor's vectors are.

A result must not overlap its operands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import extending
from numba.core import types
from numpy.typing import NDArray

from worker.trainers.dqn.compiled import tiles
from worker.trainers.dqn.compiled.vectors import LANES, Matrix, Vectors

F32 = NDArray[np.float32]

# Each operation is rounded as it is written, on every processor. That is said outright, because a
# function that says nothing is compiled as its caller is.
exact = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=False)

# Called from compiled code, an intrinsic takes what follows its first argument; types do not know.
_intrinsic: Any = extending.intrinsic

# `dots` is the faster one where a matrix has fewer rows than this.
NARROW = 16


@exact
def multiply(a: F32, b: F32, out: F32) -> None:
    """Write `a` [M, K] times `b` [K, N] to `out` [M, N]."""
    _multiply(a, b, out)


@exact
def multiply_where(a: F32, b: F32, active: F32, out: F32) -> None:
    """Write it where `active` [M, N] is positive, and zeros elsewhere."""
    _multiply_where(a, b, active, out)


@exact
def layer(weight: F32, below: F32, bias: F32, out: F32, hidden: bool) -> None:
    """Write a layer's results, of `below` [I, B], to `out` [O, B]; a `hidden` one has a ReLU."""
    _layer(weight, below, bias, out, hidden)


@exact
def neurons(parameters: F32, below: F32, out: F32, hidden: bool) -> None:
    """Write a layer's results, of one `below` [I], to `out` [O]; a `hidden` one has a ReLU.

    `parameters` begin with its weights [O · I] and biases [O].
    """
    _neurons(parameters, below, out, hidden)


@exact
def dots(a: F32, b: F32, out: F32) -> None:
    """Write `a` [M, K] times the transpose of `b` [N, K] to `out` [M, N]."""
    _dots(a, b, out)


@exact
def transpose(a: F32, out: F32) -> None:
    """Write the transpose of `a` [M, N] to `out`, which has `padded` rows and columns at least.

    `a` is read beyond its end, as far as it would be `padded`.
    """
    _transpose(a, out)


@exact
def padded(n: int) -> int:
    """So many rows or columns, and those that `transpose` touches."""
    return -(-n // LANES) * LANES


def _written(write: Callable[..., None], *kinds: Any) -> tuple[Any, Any]:
    """What Numba wants of an intrinsic: its signature, and who writes it."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        given = [
            Matrix.of(context, builder, kind, value) if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, values, strict=True)
        ]
        write(builder, *given)
        return context.get_dummy_value()

    return types.void(*kinds), codegen


@_intrinsic
def _multiply(_: Any, a: Any, b: Any, out: Any) -> Any:
    def write(builder: Any, a: Matrix, b: Matrix, out: Matrix) -> None:
        tiles.write_product(builder, a, b, out, lambda _vectors, total, *_where: total)

    return _written(write, a, b, out)


@_intrinsic
def _multiply_where(_: Any, a: Any, b: Any, active: Any, out: Any) -> Any:
    def write(builder: Any, a: Matrix, b: Matrix, active: Matrix, out: Matrix) -> None:
        def finish(vectors: Vectors, total: Any, m: Any, n: Any, mask: Any) -> Any:
            return vectors.positive(total, vectors.load(active.at(m, n), mask))

        tiles.write_product(builder, a, b, out, finish)

    return _written(write, a, b, active, out)


@_intrinsic
def _layer(_: Any, weight: Any, below: Any, bias: Any, out: Any, hidden: Any) -> Any:
    def write(
        builder: Any, weight: Matrix, below: Matrix, bias: Matrix, out: Matrix, hidden: Any
    ) -> None:
        def finish(vectors: Vectors, total: Any, m: Any, *_where: Any) -> Any:
            value = builder.fadd(total, vectors.repeat(bias.at(m)))
            return builder.select(hidden, vectors.positive(value, value), value)

        tiles.write_product(builder, weight, below, out, finish)

    return _written(write, weight, below, bias, out, hidden)


@_intrinsic
def _neurons(_: Any, parameters: Any, below: Any, out: Any, hidden: Any) -> Any:
    return _written(tiles.write_neurons, parameters, below, out, hidden)


@_intrinsic
def _dots(_: Any, a: Any, b: Any, out: Any) -> Any:
    return _written(tiles.write_dots, a, b, out)


@_intrinsic
def _transpose(_: Any, a: Any, out: Any) -> Any:
    return _written(tiles.write_transpose, a, out)
