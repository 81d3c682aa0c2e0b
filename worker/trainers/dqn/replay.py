"""S replay memories in one tensor, an agent's own experience in each.

A transition is one row, `s_tm1 | s_t | a_tm1 | r_t | terminal_t`, so batches are one gather.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """S ring buffers that are written together, a step of every agent at a time."""

    def __init__(
        self,
        *,
        stack: int,
        capacity: int,
        observation_size: int,
        device: str | torch.device = "cpu",
        storage: Tensor | None = None,
    ) -> None:
        """Remember nothing yet; in `storage` [S, C or more, W] if that is given."""
        self.capacity = capacity  # transitions of each agent
        self._stack, self._o = stack, observation_size
        width = 2 * observation_size + 3
        if storage is None:
            storage = torch.zeros(stack, capacity, width, device=device)
        self.storage = storage  # [S, C, W]
        self.position = 0  # where each agent's next row goes
        self.size = 0  # rows of each agent that hold a transition
        # Never more steps than rows: a flush must not write a row twice.
        self._limit = min(_STAGED_STEPS, capacity)
        self._staged = np.zeros((self._limit, stack, width), np.float32)  # [T, S, W]
        self._t = 0
        self._copy: Tensor | None = None  # [S, C, W] on the CPU, for `state`
        self._uncopied = 0  # rows of each agent that were written since

    def add(
        self,
        s_tm1: NDArray[np.floating],  # [S, O]
        a_tm1: NDArray[np.integer],  # [S]
        r_t: NDArray[np.floating],  # [S]
        s_t: NDArray[np.floating],  # [S, O]
        terminal_t: NDArray[np.bool_],  # [S]
    ) -> None:
        """Remember one step of every agent."""
        if self._t == self._limit:
            self.flush()
        o, row = self._o, self._staged[self._t]
        row[:, :o] = s_tm1
        row[:, o : 2 * o] = s_t
        row[:, 2 * o] = a_tm1
        row[:, 2 * o + 1] = r_t
        row[:, 2 * o + 2] = terminal_t
        self._t += 1

    def flush(self) -> None:
        """Move what `add` has staged to where `sample` finds it."""
        if not self._t:
            return
        ring = (self.position + np.arange(self._t)) % self.capacity  # [T]
        device = self.storage.device
        staged = torch.from_numpy(self._staged[: self._t]).to(device).transpose(0, 1)  # [S, T, W]
        self.storage.index_copy_(1, torch.from_numpy(ring).to(device), staged)
        self.wrote(self._t)
        self._t = 0

    def wrote(self, steps: int) -> None:
        """Count `steps` rows of each agent that were written to `storage`, from `position` on."""
        self.position = (self.position + steps) % self.capacity
        self.size = min(self.size + steps, self.capacity)
        self._uncopied = min(self._uncopied + steps, self.capacity)

    def rows(self, words: NDArray[np.uint32]) -> Tensor:
        """Turn random words [G, S, B] into flat row numbers [G, S, B] for `sample`.

        Uniform over what each agent holds: `words · size / 2³²`, floored, in integers, because a
        float32 product rounds up to `size` itself now and then. What is uneven about it is below
        one part in 2³² / size.
        """
        index = (words.astype(np.int64) * self.size) >> 32
        index += np.arange(self._stack)[:, None] * self.capacity
        return torch.from_numpy(index).to(self.storage.device)

    def sample(self, rows: Tensor) -> Batches:
        """Return the transitions at `rows` [K, S, B]."""
        flat = self.storage.flatten(0, 1).index_select(0, rows.flatten())  # [K·S·B, W]
        batches = flat.view(*rows.shape, -1).mT  # [K, S, W, B]
        states, a_tm1, r_t, terminal_t = torch.split(batches, [2 * self._o, 1, 1, 1], dim=2)
        k, s, b = rows.shape
        return Batches(states.view(k, s, 2, self._o, b), a_tm1.long(), r_t, terminal_t)

    def remembered(self, count: int) -> Tensor:
        """Return `count` states [S, count, O] of each agent, evenly spaced in its memory."""
        self.flush()
        rows = torch.from_numpy(np.arange(count) * self.size // count)  # [count]
        return self.storage[:, rows.to(self.storage.device), : self._o]

    def sums(self) -> NDArray[np.float64]:
        """Return the sum of each agent's rows [S]: not finite where something remembered is not."""
        self.flush()
        held = self.storage[:, : self.size].double()
        sums: NDArray[np.float64] = held.sum((1, 2)).cpu().numpy()
        return sums

    def state(self) -> dict[str, Tensor]:
        """Return all that is remembered, without the part that was never written.

        It holds until the next call, which copies only what was written in between: a whole copy
        after each segment costs as much as everything else that a worker does besides training.
        """
        self.flush()
        if self._copy is None:
            self._copy = torch.zeros(self.storage.shape)
        ring = (self.position - self._uncopied + np.arange(self._uncopied)) % self.capacity
        rows = torch.from_numpy(ring)
        new = self.storage.index_select(1, rows.to(self.storage.device))
        self._copy.index_copy_(1, rows, new.cpu())
        self._uncopied = 0
        return {"rows": self._copy[:, : self.size], "position": torch.tensor(self.position)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Remember what `state` held, and only that."""
        rows = state["rows"]
        self.storage.zero_()
        self.storage[:, : rows.shape[1]] = rows.to(self.storage.device)
        self.position, self.size = int(state["position"]), rows.shape[1]
        self._t, self._uncopied = 0, self.size
