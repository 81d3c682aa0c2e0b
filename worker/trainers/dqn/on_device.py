"""The steps of a segment where the networks are: a GPU's agents never wait for the host's steps.

Random numbers are drawn on the host, as everywhere, and go to the device before a segment; rewards
and ends of episodes come back after it. In between nothing is waited for.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor

from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.episodes import Episodes
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.randomness import Purpose, env_seeds, exploration, replay_words, streams
from worker.trainers.dqn.replay import ReplayMemory
from worker.trainers.dqn.stepping import Steps, learn_plainly
from worker.trainers.dqn.tensors import TENSOR_ENVS
from worker.trainers.dqn.worlds import World
from worker.trainers.protocol import Job

_STEPS_PER_LOOK = 16  # of greedy episodes, before it is asked whether any goes on: that is a wait


class OnDevice:
    """The agents of a job in tensor code; see `worker.trainers.dqn.stepping.Stepping`.

    Args:
        job: What to train, and on which device.
        params: Its knobs.
        agent: Its agents.
        replay: What they learn from.
        world: Where they act.
        limit: Steps of the longest episode.
    """

    def __init__(
        self,
        job: Job,
        params: Params,
        agent: Agent,
        replay: ReplayMemory,
        *,
        world: World,
        limit: int,
    ) -> None:
        self._job, self._params, self._agent, self._replay = job, params, agent, replay
        self._world, self._env, self._limit = world, TENSOR_ENVS[world.name], limit

    def train(self, segment: int) -> Generator[int, None, Steps]:
        """See `Stepping`."""
        job, params, agent, replay, env = (
            self._job, self._params, self._agent, self._replay, self._env
        )  # fmt: skip
        before, stack = segment * job.eval_every, len(job.seeds)
        drawn = exploration(
            streams(job.seeds, segment, Purpose.EXPLORATION),
            params,
            actions=self._world.actions,
            steps=range(before, before + job.eval_every),
            train_steps=job.train_steps,
        )
        all_explore = np.logical_and.reduce(drawn[0], axis=1)  # [T]
        explore, random_actions = (self._there(array) for array in drawn)  # [T, S]
        words = replay_words(streams(job.seeds, segment, Purpose.REPLAY), params)
        sources = streams(job.seeds, segment, Purpose.ENVIRONMENT)
        seeds = [env_seeds(source, 1)[0] for source in sources]
        starts = self._starts(seeds, job.eval_every + 1)  # [S, T + 1, N]
        state, each = starts[:, 0], torch.arange(stack, device=job.device)
        episode = torch.zeros_like(each)  # [S] begun and ended
        length = torch.zeros_like(each)  # [S] of the one that goes on
        rewards = torch.empty(job.eval_every, stack, dtype=torch.float64, device=job.device)
        ended = torch.empty(job.eval_every, stack, dtype=torch.bool, device=job.device)
        for t in range(job.eval_every):
            seen = env.observe(state)  # [S, O]
            action = random_actions[t]
            if not all_explore[t]:
                action = torch.where(explore[t], action, _greedy(agent.online, seen[:, None])[:, 0])
            after, terminated = env.step(state, action)
            rewards[t] = env.reward(terminated)
            row = (action, rewards[t], terminated)
            replay.put(
                torch.cat([seen, env.observe(after), *(x.float().unsqueeze(1) for x in row)], dim=1)
            )
            length += 1
            ended[t] = terminated | (length >= self._limit)
            episode += ended[t]
            state = torch.where(ended[t].unsqueeze(1), starts[each, episode], after)
            length.masked_fill_(ended[t], 0)
            step = before + t + 1
            # The order within a step is that of `worker.trainers.dqn.stepping`.
            if step % params.target_update_interval == 0:
                agent.update_target()
            if step % params.train_freq == 0 and step > params.learning_starts:
                for _ in learn_plainly(agent, replay, params, next(words)):
                    yield t + 1
            yield t + 1
        return Steps(rewards.cpu().numpy(), ended.cpu().numpy())

    def play(
        self, network: StackedNetwork, sources: Sequence[np.random.SeedSequence], count: int
    ) -> Generator[None, None, Episodes]:
        """See `Stepping`."""
        env, shape = self._env, (network.stack, count)
        seeds = [seed for source in sources for seed in env_seeds(source, count)]
        state = self._starts(seeds, 1)[:, 0]  # [S·E, N]
        playing = torch.ones(len(seeds), dtype=torch.bool, device=self._job.device)
        returns = torch.zeros(len(seeds), dtype=torch.float64, device=self._job.device)
        lengths = torch.zeros(len(seeds), dtype=torch.int64, device=self._job.device)
        for step in range(self._limit):
            if step % _STEPS_PER_LOOK == 0 and not playing.any():
                break
            seen = env.observe(state).view(*shape, -1)  # [S, E, O]
            state, terminated = env.step(state, _greedy(network, seen).flatten())
            returns += torch.where(playing, env.reward(terminated), 0.0)
            lengths += playing
            playing &= ~terminated
            yield
        return Episodes(returns.view(shape).cpu().numpy(), lengths.view(shape).cpu().numpy())

    def _starts(self, seeds: Sequence[int], count: int) -> Tensor:
        """The states [S, count, N] that the episodes of environments with these seeds begin in."""
        drawn = [self._world.starts(np.random.default_rng(seed), count)[0] for seed in seeds]
        return self._there(np.stack(drawn))

    def _there(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        return torch.from_numpy(array).to(self._job.device)

    def close(self) -> None:
        """See `Stepping`; there is nothing to close."""


def _greedy(network: StackedNetwork, seen: Tensor) -> Tensor:
    """The actions [S, B] of highest value."""
    return network(seen).argmax(2)
