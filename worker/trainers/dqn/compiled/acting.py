"""Networks that act, as the compiled passes see them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.trainers.dqn.compiled.passes import I64, value_of_each
from worker.trainers.dqn.compiled.products import F32, exact
from worker.trainers.dqn.network import StackedNetwork


class Acting:
    """See `worker.trainers.dqn.stepping.Acting`.

    Args:
        network: Which. It may go on learning, and it then acts by what it has learned.
    """

    def __init__(self, network: StackedNetwork) -> None:
        self.stack = network.stack
        self._sizes = np.array(network.sizes, np.int64)
        self._flat: F32 = network.flat.numpy()
        self._mean, self._factor = scaling_of(network)

    def values(self, observations: NDArray[np.floating]) -> F32:
        """The action values [S, B, A] of `observations` [S, B, O]."""
        seen = np.ascontiguousarray(observations, np.float32)
        out = np.empty((*seen.shape[:2], self._sizes[-1]), np.float32)
        _write_values(self._sizes, self._flat, self._mean, self._factor, seen, out)
        return out

    def greedy(self, observations: NDArray[np.floating]) -> NDArray[np.int64]:
        """The actions [S, B] of highest value for `observations` [S, B, O]."""
        actions: NDArray[np.int64] = self.values(observations).argmax(2)
        return actions


def scaling_of(network: StackedNetwork) -> tuple[F32, F32]:
    """What observations are shifted and scaled by: mean and factor, [S, O] both."""
    if network.scaling is not None and network.scaling.on_host is not None:
        return network.scaling.on_host
    shape = (network.stack, network.sizes[0])
    return np.zeros(shape, np.float32), np.ones(shape, np.float32)


@exact
def _write_values(
    sizes: I64, flat: F32, mean: F32, factor: F32, observations: F32, out: F32
) -> None:
    room, seen = np.empty((2, sizes.max()), np.float32), np.empty(sizes[0], np.float32)
    for s in range(observations.shape[0]):
        for b in range(observations.shape[1]):
            for i in range(len(seen)):
                seen[i] = (observations[s, b, i] - mean[s, i]) * factor[s, i]
            out[s, b] = value_of_each(sizes, flat[s], seen, room)
