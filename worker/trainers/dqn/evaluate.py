"""How good the greedy policy is: every agent's episodes at once, in one vector environment."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker import envs
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.randomness import env_seeds


class Episodes(NamedTuple):
    """E greedy episodes of each of S agents."""

    returns: NDArray[np.float64]  # [S, E] undiscounted sums of rewards
    lengths: NDArray[np.int64]  # [S, E] environment steps


def evaluate(
    network: StackedNetwork,
    env_id: str,
    streams: Sequence[np.random.SeedSequence],
    episodes: int,
) -> Episodes:
    """Play `episodes` greedy episodes with each network of the stack.

    Agent i's starts come from `streams[i]` alone; a saved agent is a stack of one:
    `evaluate(load_network(arrays), env_id, [np.random.SeedSequence(seed)], 100)`.
    """
    playing = play(network, env_id, streams, episodes)
    while True:
        try:
            next(playing)
        except StopIteration as end:
            result: Episodes = end.value
            return result


def play(
    network: StackedNetwork,
    env_id: str,
    streams: Sequence[np.random.SeedSequence],
    episodes: int,
) -> Generator[None, None, Episodes]:
    """Do what `evaluate` does, pausing after each step of all environments."""
    shape = (network.stack, episodes)
    env = envs.make_vector_env(env_id, network.stack * episodes)
    try:
        seeds = [seed for source in streams for seed in env_seeds(source, episodes)]
        observations = envs.reset(env, seeds)  # [S·E, O]
        returns = np.zeros(len(seeds))
        lengths = np.zeros(len(seeds), np.int64)
        # Only the first episode of each environment counts: those after it are more of them where
        # episodes are short, and an average over them would favour the short ones.
        playing = np.ones(len(seeds), np.bool_)
        while playing.any():
            actions = network.greedy(observations.reshape(*shape, -1))
            observations, rewards, terminated, truncated, _ = env.step(actions.ravel())
            returns += np.where(playing, rewards, 0.0)
            lengths += playing
            playing &= ~(terminated | truncated)
            yield
    finally:
        env.close()
    return Episodes(returns.reshape(shape), lengths.reshape(shape))
