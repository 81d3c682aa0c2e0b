"""Where every random number of a training comes from.

A stream is named by (agent seed, segment, purpose), and is made anew at the segment's start. So no
generator needs saving, and no draw for one purpose shifts the draws for another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from worker.trainers.dqn.params import Params

# Words for the replay memory are drawn for about this many updates at a time.
_UPDATES_PER_DRAW = 64


class Purpose(IntEnum):
    """What a stream is for. The numbers are part of every result: add, never renumber."""

    NETWORK = 0
    ENVIRONMENT = 1
    EXPLORATION = 2
    REPLAY = 3
    EVALUATION = 4
    SCORE = 5


def stream(seed: int, segment: int, purpose: Purpose) -> np.random.SeedSequence:
    """Return the stream of one agent (`seed` ≥ 0, any size) in one segment (from 0)."""
    return np.random.SeedSequence(seed, spawn_key=(segment, purpose))


def streams(seeds: Sequence[int], segment: int, purpose: Purpose) -> list[np.random.SeedSequence]:
    """Return the streams of all agents."""
    return [stream(seed, segment, purpose) for seed in seeds]


def env_seeds(source: np.random.SeedSequence, count: int) -> list[int]:
    """Return `count` seeds for `Env.reset`, of 32 bits because some environments take no more."""
    return [int(word) for word in source.generate_state(count)]


def epsilon(params: Params, steps: NDArray[np.int64], train_steps: int) -> NDArray[np.float64]:
    """Return the probability of a random action after `steps` [T] of `train_steps` steps.

    Linear over the first `exploration_fraction` of training, then flat
    (stable_baselines3.common.utils.LinearSchedule). Below `learning_starts` every action is random,
    whatever this says.
    """
    start, end = params.exploration_initial_eps, params.exploration_final_eps
    fraction, progress = params.exploration_fraction, steps / train_steps
    decayed = start + progress * (end - start) / (fraction or 1.0)
    return np.where(progress >= fraction, end, decayed)


def exploration(
    streams: Sequence[np.random.SeedSequence],
    params: Params,
    *,
    actions: int,
    steps: range,
    train_steps: int,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Draw for all of `steps` which actions are random, and the random actions: both [T, S]."""
    random = epsilon(params, np.array(steps), train_steps)  # [T]
    random[: max(0, params.learning_starts - steps.start)] = 1.0
    explore = np.empty((len(steps), len(streams)), np.bool_)
    random_actions = np.empty((len(steps), len(streams)), np.int64)
    for i, source in enumerate(streams):
        rng = np.random.default_rng(source)
        explore[:, i] = rng.random(len(steps)) < random
        random_actions[:, i] = rng.integers(actions, size=len(steps))
    return explore, random_actions


def replay_words(
    streams: Sequence[np.random.SeedSequence], params: Params
) -> Iterator[NDArray[np.uint32]]:
    """Draw without end the words [G, S, B] that sample one round of updates after the other.

    In blocks of rounds, so that the loop over agents is not run in every round.
    """
    updates, size = params.updates_per_round, params.batch_size
    rounds = max(1, _UPDATES_PER_DRAW // updates)
    generators = [np.random.default_rng(source) for source in streams]
    while True:
        blocks = [rng.integers(0, 2**32, (rounds, updates, size), np.uint32) for rng in generators]
        yield from np.stack(blocks, axis=2)  # [R, G, S, B]
