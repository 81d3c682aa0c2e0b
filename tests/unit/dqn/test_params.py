"""The schedule and the update rhythm at every edge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.dqn.settings import PARAMS
from worker.trainers.dqn.randomness import (
    Purpose,
    env_seeds,
    epsilon,
    exploration,
    replay_words,
    stream,
)


@pytest.mark.parametrize(
    ("step", "initial", "fraction", "final", "wanted"),
    [
        (0, 1.0, 0.5, 0.1, 1.0),
        (1, 1.0, 0.5, 0.1, 1.0 - 0.9 / 500),
        (250, 1.0, 0.5, 0.1, 0.55),
        (499, 1.0, 0.5, 0.1, 0.1018),
        (500, 1.0, 0.5, 0.1, 0.1),
        (501, 1.0, 0.5, 0.1, 0.1),
        (1000, 1.0, 0.5, 0.1, 0.1),
        (0, 1.0, 0.0, 0.1, 0.1),
        (1, 1.0, 0.0, 0.1, 0.1),
        (999, 1.0, 1.0, 0.0, 0.001),
        (1000, 1.0, 1.0, 0.0, 0.0),
        (0, 0.3, 0.5, 0.3, 0.3),
        (900, 0.3, 0.5, 0.3, 0.3),
        (0, 0.0, 0.5, 0.0, 0.0),
        (250, 0.0, 0.5, 0.2, 0.1),
    ],
)
def test_epsilon(step: int, initial: float, fraction: float, final: float, wanted: float) -> None:
    params = replace(
        PARAMS,
        exploration_initial_eps=initial,
        exploration_fraction=fraction,
        exploration_final_eps=final,
    )
    assert epsilon(params, np.array([step]), 1000) == pytest.approx([wanted], abs=1e-12)


@pytest.mark.parametrize(
    ("train_freq", "gradient_steps", "wanted"), [(4, 2, 2), (4, -1, 4), (1, -1, 1)]
)
def test_updates_per_round(train_freq: int, gradient_steps: int, wanted: int) -> None:
    params = replace(PARAMS, train_freq=train_freq, gradient_steps=gradient_steps)
    assert params.updates_per_round == wanted


@pytest.mark.parametrize(
    ("gradient_steps", "batch_size", "wanted"),
    [(128, 64, 8), (64, 128, 4), (10, 64, 5), (7, 64, 7), (11, 64, 1), (1, 64, 1), (64, 2048, 1)],
)
def test_batches_that_pass_together_divide_the_round(
    gradient_steps: int, batch_size: int, wanted: int
) -> None:
    params = replace(PARAMS, gradient_steps=gradient_steps, batch_size=batch_size)
    assert params.batches_together == wanted


@pytest.mark.parametrize(
    ("start", "learning_starts", "random_until"),
    [(0, 0, 0), (0, 40, 40), (0, 200, 100), (100, 40, 0), (100, 100, 0), (100, 130, 30)],
)
def test_every_action_is_random_until_learning_starts(
    start: int, learning_starts: int, random_until: int
) -> None:
    greedy = replace(
        PARAMS,
        learning_starts=learning_starts,
        exploration_initial_eps=0.0,
        exploration_final_eps=0.0,
    )
    streams = [stream(seed, 0, Purpose.EXPLORATION) for seed in range(3)]
    explore, actions = exploration(
        streams, greedy, actions=5, steps=range(start, start + 100), train_steps=300
    )
    assert explore[:random_until].all()
    assert not explore[random_until:].any()
    assert set(np.unique(actions)) == set(range(5))


def test_a_stream_is_named_by_seed_segment_and_purpose() -> None:
    draws = {
        tuple(env_seeds(stream(seed, segment, purpose), 2))
        for seed in (0, 1, 2**70)
        for segment in (0, 1)
        for purpose in Purpose
    }
    assert len(draws) == 3 * 2 * len(Purpose)
    again = env_seeds(stream(2**70, 1, Purpose.REPLAY), 2)
    assert tuple(again) in draws


@pytest.mark.parametrize("gradient_steps", [1, 3, 200])
def test_an_agents_replay_words_are_its_own(gradient_steps: int) -> None:
    params = replace(PARAMS, gradient_steps=gradient_steps)

    def rounds(seeds: list[int]) -> np.ndarray:
        words = replay_words([stream(seed, 0, Purpose.REPLAY) for seed in seeds], params)
        return np.stack([next(words) for _ in range(70)])  # [R, G, S, B]

    found = rounds([1, 2])
    assert found.shape == (70, gradient_steps, 2, params.batch_size)
    assert np.array_equal(found[:, :, :1], rounds([1]))
    flat = found[:, :, 0].ravel()
    assert len(np.unique(flat)) > 0.99 * flat.size  # no block comes twice
