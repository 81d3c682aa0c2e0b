"""Passes through one agent's network as machine code.

A network is its parameters [P], as `worker.trainers.dqn.network` lays them out, and its widths.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.trainers.dqn.compiled import products
from worker.trainers.dqn.compiled.products import F32, exact

I64 = NDArray[np.int64]


@exact
def value_of_each(sizes: I64, network: F32, observation: F32, room: F32) -> F32:
    """The action values [A] of one `observation` [O], in `room` [2, widest layer]."""
    here, at, below = 0, 0, observation
    for layer in range(len(sizes) - 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        above = room[here, :outputs]
        products.neurons(network[at:], below, above, layer < len(sizes) - 2)
        at, here, below = at + (inputs + 1) * outputs, 1 - here, above
    return below


@exact
def greedy(sizes: I64, network: F32, observation: F32, room: F32) -> int:
    """The action of highest value for one `observation` [O]; `room` is [2, widest layer]."""
    return int(np.argmax(value_of_each(sizes, network, observation, room)))


@exact
def values(sizes: I64, network: F32, states: F32, room: F32) -> F32:
    """Return the action values [A, B] of `states` [O, B], which lie in `room`."""
    batch, at, start = states.shape[1], 0, 0
    below = states
    for layer in range(len(sizes) - 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        biases, end = at + inputs * outputs, start + outputs * batch
        weight = network[at:biases].reshape(outputs, inputs)
        bias = network[biases : biases + outputs]
        above = room[start:end].reshape(outputs, batch)
        products.layer(weight, below, bias, above, layer < len(sizes) - 2)
        at, start, below = biases + outputs, end, above
    return below
