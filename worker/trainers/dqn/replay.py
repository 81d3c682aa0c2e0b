"""S replay memories in one tensor, an agent's own experience in each.

A transition is one row, `s_tm1 | s_t | a_tm1 | r_t | terminal_t`, so batches are one gather.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Rows wait on the host and go to the device together; this many steps at most.
_STAGED_STEPS = 256


class Batches(NamedTuple):
    """K batches of B transitions of each of S agents, as views of one tensor."""

    states: Tensor  # [K, S, 2, O, B] observation before the action, observation after it
    a_tm1: Tensor  # [K, S, 1, B] int64
    r_t: Tensor  # [K, S, 1, B]
    terminal_t: Tensor  # [K, S, 1, B] 1.0 where the episode terminated; a truncated one goes on


class ReplayMemory:
    """S ring buffers of the same capacity, each with its own length and write position."""

    def __init__(
        self,
        *,
        stack: int,
        capacity: int,
        observation_size: int,
        device: str | torch.device = "cpu",
    ) -> None:
        self.capacity = capacity  # transitions of each agent
        self._stack, self._o = stack, observation_size
        width = 2 * observation_size + 3
        self._storage = torch.zeros(stack, capacity, width, device=device)  # [S, C, W]
        self.positions = np.zeros(stack, np.int64)  # [S] where the next row goes
        self.sizes = np.zeros(stack, np.int64)  # [S] rows that hold a transition
        # Never more steps than rows: a flush must not write a row twice.
        self._limit = min(_STAGED_STEPS, capacity)
        self._staged = np.zeros((self._limit, stack, width), np.float32)  # [T, S, W]
        self._real = np.zeros((self._limit, stack), np.bool_)  # [T, S]
        self._t = 0

    def add(
        self,
        s_tm1: NDArray[np.floating],  # [S, O]
        a_tm1: NDArray[np.integer],  # [S]
        r_t: NDArray[np.floating],  # [S]
        s_t: NDArray[np.floating],  # [S, O]
        terminal_t: NDArray[np.bool_],  # [S]
        real: NDArray[np.bool_],  # [S]
    ) -> None:
        """Remember one step of every agent, except where `real` is false.

        There the environment was only starting over, and the row would teach that an episode's end
        leads to the next one's start.
        """
        if self._t == self._limit:
            self.flush()
        o, row = self._o, self._staged[self._t]
        row[:, :o] = s_tm1
        row[:, o : 2 * o] = s_t
        row[:, 2 * o] = a_tm1
        row[:, 2 * o + 1] = r_t
        row[:, 2 * o + 2] = terminal_t
        self._real[self._t] = real
        self._t += 1

    def flush(self) -> None:
        """Move what `add` has staged to where `sample` finds it."""
        real = self._real[: self._t]  # [T, S]
        if not self._t:
            return
        rank = np.cumsum(real, axis=0) - 1  # [T, S] how many of the agent's own rows come before
        ring = (self.positions + rank) % self.capacity  # [T, S]
        rows = (np.arange(self._stack) * self.capacity + ring)[real]  # [N]
        device = self._storage.device
        self._storage.flatten(0, 1).index_copy_(
            0,
            torch.from_numpy(rows).to(device),
            torch.from_numpy(self._staged[: self._t][real]).to(device),
        )
        written = real.sum(axis=0)  # [S]
        self.positions = (self.positions + written) % self.capacity
        self.sizes = np.minimum(self.sizes + written, self.capacity)
        self._t = 0

    def rows(self, words: NDArray[np.uint32]) -> Tensor:
        """Turn random words [G, S, B] into flat row numbers [G, S, B] for `sample`.

        Uniform over what each agent holds: `words · size / 2³²`, floored, in integers, because a
        float32 product rounds up to `size` itself now and then. What is uneven about it is below
        one part in 2³² / size.
        """
        index = (words.astype(np.int64) * self.sizes[:, None]) >> 32
        index += np.arange(self._stack)[:, None] * self.capacity
        return torch.from_numpy(index).to(self._storage.device)

    def sample(self, rows: Tensor) -> Batches:
        """Return the transitions at `rows` [K, S, B]."""
        flat = self._storage.flatten(0, 1).index_select(0, rows.flatten())  # [K·S·B, W]
        batches = flat.view(*rows.shape, -1).mT  # [K, S, W, B]
        states, a_tm1, r_t, terminal_t = torch.split(batches, [2 * self._o, 1, 1, 1], dim=2)
        k, s, b = rows.shape
        return Batches(states.view(k, s, 2, self._o, b), a_tm1.long(), r_t, terminal_t)

    def remembered(self, count: int) -> Tensor:
        """Return `count` states [S, count, O] of each agent, evenly spaced in its memory."""
        self.flush()
        index = np.arange(count) * self.sizes[:, None] // count  # [S, count]
        index += np.arange(self._stack)[:, None] * self.capacity
        rows = torch.from_numpy(index).to(self._storage.device)
        return self._storage.flatten(0, 1)[rows, : self._o]

    def sums(self) -> NDArray[np.float64]:
        """Return the sum of each agent's rows [S]: not finite where something remembered is not."""
        self.flush()
        sums: NDArray[np.float64] = self._storage.double().sum((1, 2)).cpu().numpy()
        return sums

    def state(self) -> dict[str, Tensor]:
        """Return all that is remembered, without the part that was never written."""
        self.flush()
        return {
            "rows": self._storage[:, : max(self.sizes, default=0)].clone(),
            "positions": torch.from_numpy(self.positions.copy()),
            "sizes": torch.from_numpy(self.sizes.copy()),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Remember what `state` held, and only that."""
        rows = state["rows"]
        self._storage.zero_()
        self._storage[:, : rows.shape[1]] = rows.to(self._storage.device)
        self.positions = state["positions"].numpy().copy()
        self.sizes = state["sizes"].numpy().copy()
        self._t = 0
