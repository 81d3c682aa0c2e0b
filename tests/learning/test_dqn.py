"""Short trainings whose results a working DQN reaches and a broken one misses.

Each mistake is made on purpose by a patch, and has to miss what the working learner reaches: that
is what says the thresholds mean something.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from worker.trainers.dqn import reference
from worker.trainers.dqn.network import load_network
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Job, Score

pytestmark = pytest.mark.learning

PARAMS = Params(
    learning_rate=1e-3,
    gamma=0.99,
    batch_size=64,
    buffer_size=20_000,
    learning_starts=500,
    train_freq=4,
    gradient_steps=2,
    target_update_interval=100,
    tau=1.0,
    exploration_initial_eps=1.0,
    exploration_fraction=0.3,
    exploration_final_eps=0.05,
    max_grad_norm=10.0,
    net_arch=(64, 64),
    loss="huber",
    double_q=True,
)


def train(
    env_id: str, params: Params, seeds: Sequence[int], steps: int
) -> tuple[Training, NDArray[np.float64]]:
    """Train to the end; return the training and the score of each agent [S]."""
    training = Training(
        Job(
            env=env_id,
            knobs=asdict(params),
            seeds=seeds,
            train_steps=steps,
            eval_every=steps // 2,
            eval_episodes=1,
            score_episodes=20,
            keep="last",
        )
    )
    *_, score = training.run()
    assert isinstance(score, Score)
    return training, score.returns


class StayOrLeave(gymnasium.Env[Any, Any]):
    """Staying pays 1 for as long as you like, leaving pays 5 and terminates.

    There is one state. At a discount of 0.9 staying is worth 1 / (1 - 0.9) = 10 and leaving 5, also
    when the episode is truncated after its second step.
    """

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> Any:
        left = int(action) == 1
        return np.ones(1, np.float32), 5.0 if left else 1.0, left, False, {}


@pytest.fixture(autouse=True)
def own_env() -> Iterator[None]:
    gymnasium.register("StayOrLeave-v0", lambda **_: StayOrLeave(), max_episode_steps=2)
    yield
    del gymnasium.registry["StayOrLeave-v0"]


@pytest.mark.parametrize(
    ("mistake", "learns"),
    [
        ("no mistake", True),
        ("terminal mask dropped", False),
        ("target never updated", False),
        ("truncation taken for termination", False),
    ],
    indirect=["mistake"],
)
def test_the_values_are_the_true_ones(mistake: str, learns: bool) -> None:
    """Catches each mistake about what an end is worth, and a target network that stays behind."""
    params = replace(
        PARAMS,
        gamma=0.9,
        net_arch=(16,),
        learning_starts=100,
        target_update_interval=20,
        train_freq=2,
        exploration_final_eps=0.5,
    )
    training, _ = train("StayOrLeave-v0", params, range(4), 3_000)
    network = load_network(training.result())
    values = network(torch.ones(4, 1, 1)).detach().numpy()[:, 0]  # [S, A]
    print(mistake, values.tolist())
    close = np.abs(values - [10.0, 5.0]).max(axis=1) < 0.5  # [S]
    assert close.all() if learns else not close.any()


def test_the_reference_finds_the_true_values() -> None:
    """The learner that tests hold the others to, by itself."""
    hp = reference.Hyperparameters(
        gamma=0.9,
        net_arch=(16,),
        learning_starts=100,
        target_update_interval=20,
        train_freq=2,
        exploration_final_eps=0.5,
    )
    dqn = reference.Dqn(hp, 1, 2, np.random.default_rng(0))
    list(reference.train(gymnasium.make("StayOrLeave-v0"), dqn, steps=3_000, seed=0))
    values = dqn.online(torch.ones(1)).detach().numpy()  # [A]
    assert np.abs(values - [10.0, 5.0]).max() < 0.5


@pytest.mark.parametrize(
    ("mistake", "learns"),
    [("no mistake", True), ("terminal mask dropped", False), ("target never updated", False)],
    indirect=["mistake"],
)
def test_cartpole_stays_up(mistake: str, learns: bool) -> None:
    """Catches a dropped terminal mask and a frozen target; a random policy lasts 22 steps."""
    _, returns = train("CartPole-v1", PARAMS, range(6), 8_000)
    print(mistake, returns)
    assert bool(returns.mean() > 80) is learns
