"""Passes through one agent's network as machine code, and the matrix products in them.

A network is its parameters [P], as `worker.trainers.dqn.network` lays them out, and its widths.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

# OpenBLAS has faster kernels, a sixth and more, for products of up to so many multiplications, so
# larger ones are cut. Below a few rows that costs more than it gains.
_SMALL, _FEW = 1_000_000, 8

# Sums may be reordered, which is what lets them be vectorized. Infinities and NaNs stay what they
# are: a training that diverges is found out by them.
fast = numba.njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract"}
)


@fast
def greedy(sizes: I64, network: F32, observation: F32, room: F32) -> int:
    """The action of highest value for one `observation` [O]; `room` is [2, widest layer]."""
    here, at, below = 0, 0, observation
    for layer in range(len(sizes) - 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        biases = at + inputs * outputs
        above = room[here, :outputs]
        np.dot(network[at:biases].reshape(outputs, inputs), below, above)
        hidden = layer < len(sizes) - 2
        for o in range(outputs):
            value = above[o] + network[biases + o]
            above[o] = np.float32(0) if hidden and value < 0 else value
        at, here, below = biases + outputs, 1 - here, above
    return int(np.argmax(below))


@fast
def rows_at_once(rows: int, width: int) -> int:
    """How many of `rows` rows to multiply at once, where each takes `width` multiplications."""
    most = _SMALL // width
    if most < _FEW or most >= rows:
        return rows
    blocks = -(-rows // most)
    return -(-rows // blocks)


@fast
def multiply(a: F32, b: F32, out: F32) -> None:
    """Write `a` [M, K] times `b` [K, N] to `out`."""
    rows = rows_at_once(len(a), b.size)
    for at in range(0, len(a), rows):
        np.dot(a[at : at + rows], b, out[at : at + rows])


@fast
def multiply_transposed(a: F32, b: F32, out: F32, room: F32) -> None:
    """Write the transpose of `a` [K, M] times `b` [K, N] to `out`; `room` is as large."""
    rows = rows_at_once(len(a), out.size)
    np.dot(a[:rows].T, b[:rows], out)
    for at in range(rows, len(a), rows):
        np.dot(a[at : at + rows].T, b[at : at + rows], room)
        for m in range(out.shape[0]):
            for n in range(out.shape[1]):
                out[m, n] += room[m, n]


@fast
def values(sizes: I64, network: F32, states: F32, room: F32) -> F32:
    """Return the action values [A, B] of `states` [O, B], which lie at the end of `room`."""
    batch, at, start = states.shape[1], 0, 0
    below = states
    for layer in range(len(sizes) - 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        biases = at + inputs * outputs
        weight = network[at:biases].reshape(outputs, inputs)
        above = room[start : start + outputs * batch].reshape(outputs, batch)
        multiply(weight, below, above)
        hidden = layer < len(sizes) - 2
        for o in range(outputs):
            bias, row = network[biases + o], above[o]
            if hidden:
                for b in range(batch):
                    value = row[b] + bias
                    row[b] = np.float32(0) if value < 0 else value
            else:
                for b in range(batch):
                    row[b] += bias
        at, start, below = biases + outputs, start + outputs * batch, above
    return below
