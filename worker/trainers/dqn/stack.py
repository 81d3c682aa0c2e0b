"""What S agents of one shape learn in: a row of each tensor is an agent's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from worker.trainers.dqn.network import StackedNetwork


class Stack(NamedTuple):
    """Networks, Adam's averages and what an update needs of each agent."""

    online: StackedNetwork
    target: StackedNetwork
    exp_avg: Tensor  # [S, P]
    exp_avg_sq: Tensor  # [S, P]
    gradient: Tensor  # [S, P]
    gamma: Tensor  # [S, 1, 1] discount per environment step
    loss_sum: Tensor  # [S] since the owner last zeroed it

    def rows(self, at: slice) -> Stack:
        """The same memory, of some of the agents; their networks must not be `scaled`."""
        return Stack(
            self.online.rows(at),
            self.target.rows(at),
            *(tensor[at] for tensor in self[2:] if isinstance(tensor, Tensor)),
        )


def make_stack(
    sizes: Sequence[int], agents: int, device: str | torch.device = "cpu", *, scaled: bool = False
) -> Stack:
    """Memory for agents whose networks have widths `sizes` (observation, hidden …, actions)."""
    online = StackedNetwork(sizes, agents, device, scaled=scaled)
    return Stack(
        online=online,
        target=StackedNetwork(sizes, agents, device),
        exp_avg=torch.zeros_like(online.flat),
        exp_avg_sq=torch.zeros_like(online.flat),
        gradient=torch.zeros_like(online.flat),
        gamma=torch.zeros(agents, 1, 1, device=device),
        loss_sum=torch.zeros(agents, device=device),
    )
