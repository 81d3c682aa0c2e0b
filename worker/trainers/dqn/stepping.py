"""The steps of a segment: all agents act, step and remember together, and learn when it is time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from worker.trainers import envs
from worker.trainers.dqn import episodes
from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.episodes import Episodes
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.randomness import Purpose, env_seeds, exploration, replay_words, streams
from worker.trainers.dqn.replay import ReplayMemory
from worker.trainers.dqn.scaling import Normalizer
from worker.trainers.protocol import Job


class Steps(NamedTuple):
    """What a segment's steps came to."""

    rewards: NDArray[np.float64]  # [T, S]
    ended: NDArray[np.bool_]  # [T, S] whether an episode ended with the step


class Acting(episodes.Stack, Protocol):
    """Networks that act, and that say by what."""

    def values(self, observations: NDArray[np.floating]) -> NDArray[np.float32]:
        """The action values [S, B, A] of `observations` [S, B, O]."""


class Stepping(Protocol):
    """A way to go through the segments of a job; which one changes no more than roundings.

    Attributes:
        portable: See `worker.trainers.protocol.Trainer`.
    """

    portable: bool

    def train(self, segment: int) -> Generator[int, None, Steps]:
        """Do a segment's steps and updates.

        It pauses often and says how many of the segment's steps each agent has done by then.
        """

    def play(
        self, network: StackedNetwork, sources: Sequence[np.random.SeedSequence], count: int
    ) -> Generator[None, None, Episodes]:
        """Do what `worker.trainers.dqn.episodes.evaluate` does, pausing often."""

    def acting(self, network: StackedNetwork) -> Acting:
        """The networks as they act here."""

    def close(self) -> None:
        """Close the environments. May be called again."""


# Takes a round of updates, sampled by words [G, S, B], with a pause after each few.
Learn = Callable[[NDArray[np.uint32]], Iterator[None]]


def learn_plainly(
    agent: Agent, replay: ReplayMemory, params: Params, words: NDArray[np.uint32]
) -> Iterator[None]:
    """Do that with PyTorch, wherever the agents are."""
    rows = replay.rows(words)  # [G, S, B]
    for some in torch.split(rows, params.batches_together):
        agent.update(replay.sample(some))
        yield


class EveryEnv:
    """Steps in any environment, each of them a call of Gymnasium's for all agents."""

    portable = False  # the environment's arithmetic is its own

    def __init__(
        self,
        job: Job,
        params: Params,
        agent: Agent,
        replay: ReplayMemory,
        *,
        actions: int,
        normalizer: Normalizer | None,
        learn: Learn | None = None,
        acting: Callable[[StackedNetwork], Acting] | None = None,
    ) -> None:
        self._job, self._params, self._agent, self._replay = job, params, agent, replay
        self._actions, self._normalizer = actions, normalizer
        self._learn = learn or partial(learn_plainly, agent, replay, params)
        self._acting = acting
        self._env = envs.Copies(job.env, len(job.seeds))

    def train(self, segment: int) -> Generator[int, None, Steps]:
        """See `Stepping`."""
        job, params, agent, replay, env = (
            self._job, self._params, self._agent, self._replay, self._env
        )  # fmt: skip
        before = segment * job.eval_every  # steps that each agent has done
        acting = self.acting(agent.online)
        explore, random_actions = exploration(  # [T, S], [T, S]
            streams(job.seeds, segment, Purpose.EXPLORATION),
            params,
            actions=self._actions,
            steps=range(before, before + job.eval_every),
            train_steps=job.train_steps,
        )
        all_explore = np.logical_and.reduce(explore, axis=1)  # [T]
        words = replay_words(streams(job.seeds, segment, Purpose.REPLAY), params)
        rewards = np.empty((job.eval_every, len(job.seeds)))  # [T, S]
        ended = np.empty((job.eval_every, len(job.seeds)), np.bool_)  # [T, S]
        # A segment starts on fresh episodes; what was going on in the last one is left unfinished.
        sources = streams(job.seeds, segment, Purpose.ENVIRONMENT)
        s_tm1 = env.reset([env_seeds(source, 1)[0] for source in sources])  # [S, O]
        for t in range(job.eval_every):
            if self._normalizer is not None:
                self._normalizer.see(s_tm1)
            a_tm1 = random_actions[t]  # [S]
            if not all_explore[t]:
                a_tm1 = np.where(explore[t], a_tm1, acting.greedy(s_tm1[:, None])[:, 0])
            led_to = env.step(a_tm1)
            replay.add(s_tm1, a_tm1, led_to.rewards, led_to.after, led_to.terminated)
            rewards[t], ended[t], s_tm1 = led_to.rewards, led_to.ended, led_to.now
            step = before + t + 1
            # The order within a step is Stable-Baselines3's: the target network first.
            if step % params.target_update_interval == 0:
                agent.update_target()
            if step % params.train_freq == 0 and step > params.learning_starts:
                replay.flush()
                if self._normalizer is not None:
                    self._normalizer.update(updates=agent.updates)
                for _ in self._learn(next(words)):
                    yield t + 1
            yield t + 1
        if self._normalizer is not None:
            self._normalizer.update(updates=agent.updates)
        return Steps(rewards, ended)

    def play(
        self, network: StackedNetwork, sources: Sequence[np.random.SeedSequence], count: int
    ) -> Generator[None, None, Episodes]:
        """See `Stepping`."""
        return episodes.play(self.acting(network), self._job.env, sources, count)

    def acting(self, network: StackedNetwork) -> Acting:
        """See `Stepping`."""
        return network if self._acting is None else self._acting(network)

    def close(self) -> None:
        """See `Stepping`."""
        self._env.close()
