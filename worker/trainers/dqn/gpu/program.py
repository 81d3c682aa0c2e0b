"""Trials of one shape as one tensor program: all their agents act, step and learn at once.

A GPU is far too large for the agents of one trial. So a program has lanes: trial i has the rows
from i·S on of every tensor. Trials differ in what `requests.OWN` lists, and each is at a step of
its own; they only go through their segments at the same time. No agent's numbers depend on another
agent's.

Random numbers are drawn on the host, as everywhere, and go to the device before a segment; rewards
and ends of episodes come back after it. In between nothing is waited for.

A step (`Walk`, `GreedyWalk`) and an update read and write tensors that stay where they are, so that
a CUDA graph can repeat them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.episodes import Episodes
from worker.trainers.dqn.gpu.cuda_graphs import Graphs
from worker.trainers.dqn.gpu.requests import Play, Segment, Shape
from worker.trainers.dqn.gpu.scheduler import Scheduler
from worker.trainers.dqn.gpu.tensor_envs import TENSOR_ENVS, TensorEnv
from worker.trainers.dqn.learning import Learning, make_stack
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.randomness import Purpose, env_seeds, exploration
from worker.trainers.dqn.replay import ReplayMemory
from worker.trainers.dqn.stepping import Steps

_STEPS_PER_LOOK = 16  # of greedy episodes, before it is asked whether any goes on: that is a wait


class Program:
    """The program.

    Attributes:
        stack: What the agents of all lanes learn in.
        storage: What they remember [N, C + 1, W]; what nobody is to remember goes to the last row.
        lanes: Through which their trials' threads ask for work.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        device, self._agents = shape.device, shape.lanes * shape.agents  # N
        sizes = (shape.observation_size, *shape.params.net_arch, shape.world.actions)
        self.stack = make_stack(sizes, self._agents, device)
        width = 2 * shape.observation_size + 3
        self.storage = torch.zeros(self._agents, shape.capacity + 1, width, device=device)
        self._memory = ReplayMemory(
            stack=self._agents,
            capacity=shape.capacity,
            observation_size=shape.observation_size,
            storage=self.storage,
        )
        self._learning = Learning(shape.params, self.stack)
        # What the next updates are sampled by [K, N, B], and where an agent's rows begin [N, 1].
        words = (shape.params.batches_together, self._agents, shape.params.batch_size)
        self._words = torch.zeros(words, dtype=torch.int32, device=device)
        self._first = torch.arange(self._agents, device=device)[:, None] * (shape.capacity + 1)
        self._playing = StackedNetwork(sizes, self._agents, device)
        self._env = TENSOR_ENVS[shape.world.name]
        self._size = shape.world.starts(np.random.default_rng(0), 1)[0].shape[1]  # of a state
        self._greedy_walks: dict[int, GreedyWalk] = {}  # by episodes of each agent
        self._walk = Walk(
            self._env,
            self.stack.online,
            self.storage,
            steps=shape.eval_every,
            size=self._size,
            limit=shape.limit,
        )
        self._graphs = Graphs(device)
        self.lanes = Scheduler(shape.lanes, self._work)
        # Each kind of work once before it is recorded; nobody is there whom it could change.
        for all_explore in (True, False):
            self._walk.step(all_explore=all_explore)
        self._update([])

    def _work(self, requests: list[Any]) -> Iterator[int | None]:
        return self._play(requests) if isinstance(requests[0], Play) else self._train(requests)

    def _train(self, segments: list[Segment]) -> Iterator[int]:
        """Do segments, each of another trial; it pauses often, and says how far it is."""
        walk, graphs = self._walk, self._graphs
        everyone_explores = self._draw(segments)  # [T]
        there: list[Segment] = []
        for t in range(self.shape.eval_every):
            if len(now := _wanted(segments)) != len(there):
                there = now
                self._place(there)
            all_explore = bool(everyone_explores[t])
            graphs.run(("step", all_explore), partial(walk.step, all_explore=all_explore))
            due = []
            # The order within a step is that of `worker.trainers.dqn.stepping`.
            for segment in there:
                segment.trial.replay.wrote(1)
                step = segment.before + t + 1
                if step % segment.trial.params.target_update_interval == 0:
                    segment.trial.agent.update_target()
                if segment.is_due(step):
                    due.append(segment)
            if due:
                for _ in self._learn(due):
                    yield t + 1
            yield t + 1
        rewards, ended = walk.rewards.cpu().numpy(), walk.ended.cpu().numpy()
        for segment in _wanted(segments):
            rows = segment.trial.rows
            segment.steps = Steps(rewards[:, rows].copy(), ended[:, rows].copy())

    def _draw(self, segments: Sequence[Segment]) -> NDArray[np.bool_]:
        """Draw what is random in segments, and put it there; when [T] all actions are random."""
        shape, walk = self.shape, self._walk
        explore = np.ones((shape.eval_every, self._agents), np.bool_)
        actions = np.zeros((shape.eval_every, self._agents), np.int64)
        seeds = [0] * self._agents
        for segment in segments:
            job, rows = segment.trial.job, segment.trial.rows
            explore[:, rows], actions[:, rows] = exploration(
                segment.streams(Purpose.EXPLORATION),
                segment.trial.params,
                actions=shape.world.actions,
                steps=range(segment.before, segment.before + shape.eval_every),
                train_steps=job.train_steps,
            )
            sources = segment.streams(Purpose.ENVIRONMENT)
            seeds[rows] = [env_seeds(source, 1)[0] for source in sources]
        walk.explore.copy_(torch.from_numpy(explore))
        walk.random_action.copy_(torch.from_numpy(actions))
        walk.starts.copy_(self._starts(seeds, shape.eval_every + 1))
        walk.begin()
        everyone: NDArray[np.bool_] = np.logical_and.reduce(explore, axis=1)
        return everyone

    def _place(self, segments: Sequence[Segment]) -> None:
        """Have the agents of these segments, and nobody else, remember their steps."""
        present = np.zeros(self._agents, np.bool_)
        held = np.zeros(self._agents, np.int64)
        position = np.full(self._agents, self.shape.capacity)
        for segment in segments:
            rows, replay = segment.trial.rows, segment.trial.replay
            present[rows], held[rows], position[rows] = True, replay.size, replay.position
        self._walk.present.copy_(torch.from_numpy(present))
        self._walk.held.copy_(torch.from_numpy(held))
        self._walk.position.copy_(torch.from_numpy(position))

    def _learn(self, segments: Sequence[Segment]) -> Iterator[None]:
        """Take a round of updates of each trial, pausing after some."""
        params = self.shape.params
        words = np.zeros((params.updates_per_round, self._agents, params.batch_size), np.uint32)
        for segment in segments:
            words[:, segment.trial.rows] = next(segment.words)
        for some in torch.split(torch.from_numpy(words.view(np.int32)), params.batches_together):
            agents = tuple(segment.trial.agent for segment in _wanted(segments))
            self._words.copy_(some)
            self._graphs.run(("update", agents), partial(self._update, agents))
            for agent in agents:
                agent.took(params.batches_together)
            yield

    def _update(self, agents: Sequence[Agent]) -> None:
        """Have these agents learn, on what `ReplayMemory.rows` would choose for each."""
        words = self._words.long() & 0xFFFF_FFFF
        rows = ((words * self._walk.held[:, None]) >> 32) + self._first
        self._learning.update(self._memory.sample(rows), agents)

    def _play(self, plays: list[Play]) -> Iterator[None]:
        """Play episodes, as many with each agent of each trial; pauses often."""
        count = plays[0].count
        walk = self._greedy_walk(count)
        seeds = np.zeros((self._agents, count), np.int64)
        playing = np.zeros((self._agents, count), np.bool_)
        for play in plays:
            rows = play.trial.rows
            self._playing.flat[rows] = play.network.flat
            seeds[rows] = [env_seeds(source, count) for source in play.streams]
            playing[rows] = True
        walk.state.copy_(self._starts(seeds.ravel().tolist(), 1).view_as(walk.state))
        walk.goes_on.copy_(torch.from_numpy(playing))
        walk.begin()
        for step in range(self.shape.limit):
            if step % _STEPS_PER_LOOK == 0 and not walk.goes_on.any():
                break
            self._graphs.run(("play", count), walk.step)
            yield
        returns, lengths = walk.returns.cpu().numpy(), walk.lengths.cpu().numpy()
        for play in plays:
            rows = play.trial.rows
            play.episodes = Episodes(returns[rows].copy(), lengths[rows].copy())

    def _greedy_walk(self, count: int) -> GreedyWalk:
        """That of so many episodes, which has been gone before."""
        if count not in self._greedy_walks:
            walk = GreedyWalk(self._env, self._playing, episodes=count, size=self._size)
            walk.step()
            self._greedy_walks[count] = walk
        return self._greedy_walks[count]

    def _starts(self, seeds: Sequence[int], count: int) -> Tensor:
        """The states [·, count, …] that the episodes of environments with these seeds begin in."""
        world = self.shape.world
        drawn = [world.starts(np.random.default_rng(seed), count)[0] for seed in seeds]
        return torch.from_numpy(np.stack(drawn)).to(self.shape.device)


def _wanted(segments: Sequence[Segment]) -> list[Segment]:
    """Those that nobody has withdrawn: a lane may be another trial's at once."""
    return [segment for segment in segments if not segment.withdrawn]


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
