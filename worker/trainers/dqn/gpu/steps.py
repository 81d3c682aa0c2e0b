"""Environment steps of N agents on a device, as work that a CUDA graph can repeat.

What a step reads and writes are tensors that stay where they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worker.trainers.dqn.gpu.tensor_envs import TensorEnv
from worker.trainers.dqn.network import StackedNetwork


class Walk:
    """Where N agents are in a segment of T steps.

    Args:
        env: What they step in; N states of D numbers.
        network: Acts.
        storage: Their replay memories [N, C + 1, W]; the last row is for those that take no part.
        steps: T.
        size: D.
        limit: Steps of the longest episode.
    """

    def __init__(
        self,
        env: TensorEnv,
        network: StackedNetwork,
        storage: Tensor,
        *,
        steps: int,
        size: int,
        limit: int,
    ) -> None:
        self._env, self._network, self._storage, self._limit = env, network, storage, limit
        n, device = len(storage), storage.device
        self._capacity = storage.shape[1] - 1
        # Drawn for the segment.
        self.explore = torch.zeros(steps, n, dtype=torch.bool, device=device)
        self.random_action = torch.zeros(steps, n, dtype=torch.int64, device=device)
        self.starts = torch.zeros(n, steps + 1, size, dtype=torch.float64, device=device)
        # Of each agent: whether it takes part, how many transitions it remembers, and where the
        # next one goes.
        self.present = torch.zeros(n, dtype=torch.bool, device=device)
        self.held = torch.zeros(n, dtype=torch.int64, device=device)
        self.position = torch.full((n,), self._capacity, device=device)
        # Where it is, the episodes that it has ended, and how long the one at hand is.
        self._state = torch.zeros(n, size, dtype=torch.float64, device=device)
        self._episode = torch.zeros(n, dtype=torch.int64, device=device)
        self._length = torch.zeros(n, dtype=torch.int64, device=device)
        self._t = torch.zeros(1, dtype=torch.int64, device=device)
        self._each = torch.arange(n, device=device)
        # What came of the steps.
        self.rewards = torch.zeros(steps, n, dtype=torch.float64, device=device)
        self.ended = torch.zeros(steps, n, dtype=torch.bool, device=device)

    def begin(self) -> None:
        """Stand at the segment's start, once what is drawn for it is there."""
        self._state.copy_(self.starts[:, 0])
        for each in (self._episode, self._length, self._t):
            each.zero_()

    def step(self, *, all_explore: bool) -> None:
        """Take a step of every agent, and remember it.

        Args:
            all_explore: Whether the action of every agent is a random one.
        """
        env, t = self._env, self._t
        seen = env.observe(self._state)  # [N, O]
        action = self.random_action.index_select(0, t)[0]
        if not all_explore:
            greedy = self._network(seen[:, None]).argmax(2)[:, 0]
            action = torch.where(self.explore.index_select(0, t)[0], action, greedy)
        after, terminated = env.step(self._state, action)
        reward = env.reward(terminated)
        numbers = [x.float().unsqueeze(1) for x in (action, reward, terminated)]
        row = torch.cat([seen, env.observe(after), *numbers], dim=1)
        self._storage.index_put_((self._each, self.position), row)
        self.held.add_(self.present).clamp_(max=self._capacity)
        following = (self.position + 1) % self._capacity
        self.position.copy_(torch.where(self.present, following, self._capacity))
        self._length += 1
        ended = terminated | (self._length >= self._limit)
        self.rewards.index_copy_(0, t, reward.unsqueeze(0))
        self.ended.index_copy_(0, t, ended.unsqueeze(0))
        self._episode += ended
        start = self.starts[self._each, self._episode]
        self._state.copy_(torch.where(ended.unsqueeze(1), start, after))
        self._length.masked_fill_(ended, 0)
        self._t += 1


class GreedyWalk:
    """Where N agents are in E greedy episodes of each.

    Args:
        env: What they step in; states of D numbers.
        network: Acts.
        episodes: E.
        size: D.
    """

    def __init__(
        self, env: TensorEnv, network: StackedNetwork, *, episodes: int, size: int
    ) -> None:
        self._env, self._network = env, network
        device, shape = network.flat.device, (network.stack, episodes)
        self.state = torch.zeros(*shape, size, dtype=torch.float64, device=device)
        self.goes_on = torch.zeros(shape, dtype=torch.bool, device=device)
        self.returns = torch.zeros(shape, dtype=torch.float64, device=device)
        self.lengths = torch.zeros(shape, dtype=torch.int64, device=device)

    def begin(self) -> None:
        """Have done nothing yet, once states and what goes on are there."""
        self.returns.zero_()
        self.lengths.zero_()

    def step(self) -> None:
        """Take a step in every episode; those that have ended count no more."""
        state = self.state.flatten(0, 1)  # [N·E, D]
        seen = self._env.observe(state).view(*self.goes_on.shape, -1)  # [N, E, O]
        action = self._network(seen).argmax(2).flatten()
        after, terminated = self._env.step(state, action)
        reward = self._env.reward(terminated).view_as(self.returns)
        self.state.copy_(after.view_as(self.state))
        self.returns += torch.where(self.goes_on, reward, 0.0)
        self.lengths += self.goes_on
        self.goes_on &= ~terminated.view_as(self.goes_on)
