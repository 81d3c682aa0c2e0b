"""What episodes come to: greedy ones, all agents' at once, and those that training has ended."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.trainers import envs
from worker.trainers.dqn.randomness import env_seeds
from worker.trainers.environment import EnvLike


class Stack(Protocol):
    """S networks that act."""

    @property
    def stack(self) -> int:
        """S."""

    def greedy(self, observations: NDArray[np.floating]) -> NDArray[np.int64]:
        """The actions [S, B] of highest value for `observations` [S, B, O]."""


class Episodes(NamedTuple):
    """E greedy episodes of each of S agents."""

    returns: NDArray[np.float64]  # [S, E] undiscounted sums of rewards
    lengths: NDArray[np.int64]  # [S, E] environment steps


def evaluate(
    network: Stack,
    env: EnvLike,
    streams: Sequence[np.random.SeedSequence],
    episodes: int,
) -> Episodes:
    """Play `episodes` greedy episodes with each network of the stack.

    Agent i's starts come from `streams[i]` alone; a saved agent is a stack of one:
    `evaluate(SavedAgent(arrays), env, [np.random.SeedSequence(seed)], 100)`.
    """
    playing = play(network, env, streams, episodes)
    while True:
        try:
            next(playing)
        except StopIteration as end:
            result: Episodes = end.value
            return result


def play(
    network: Stack,
    env: EnvLike,
    streams: Sequence[np.random.SeedSequence],
    episodes: int,
) -> Generator[None, None, Episodes]:
    """Do what `evaluate` does, pausing after each step of all environments."""
    shape = (network.stack, episodes)
    copies = envs.Copies(env, network.stack * episodes)
    try:
        seeds = [seed for source in streams for seed in env_seeds(source, episodes)]
        observations = copies.reset(seeds)  # [S·E, O]
        returns = np.zeros(len(seeds))
        lengths = np.zeros(len(seeds), np.int64)
        # Only the first episode of each environment counts: those after it are more of them where
        # episodes are short, and an average over them would favour the short ones.
        playing = np.ones(len(seeds), np.bool_)
        while playing.any():
            actions = network.greedy(observations.reshape(*shape, -1))
            led_to = copies.step(actions.ravel())
            observations = led_to.now
            returns += np.where(playing, led_to.rewards, 0.0)
            lengths += playing
            playing &= ~led_to.ended
            yield
    finally:
        copies.close()
    return Episodes(returns.reshape(shape), lengths.reshape(shape))


def mean_return_of_ended(
    rewards: NDArray[np.float64], ended: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the mean return [S] of the episodes that ended within these steps; NaN without any.

    Args:
        rewards: Of each step, from the start of an episode on `[T, S]`.
        ended: Whether an episode ended with the step `[T, S]`.
    """
    steps, agents = ended.shape
    episodes = ended.sum(axis=0)  # [S]
    last_end = steps - 1 - ended[::-1].argmax(axis=0)  # [S] row of the last end, where there is one
    # A running sum adds in order, whatever the number of agents.
    total = np.cumsum(rewards, axis=0)[last_end, np.arange(agents)]  # [S]
    return np.where(episodes > 0, total / np.maximum(episodes, 1), np.nan)
