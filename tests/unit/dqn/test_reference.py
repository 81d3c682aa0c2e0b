"""What workers train with, held to the plain learner of `worker.trainers.dqn.reference`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tests.unit.dqn.settings import PARAMS
from worker.trainers.dqn import compiled
from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.randomness import Purpose, env_seeds, replay_words, stream
from worker.trainers.dqn.reference import Batch, Dqn, Hyperparameters, make_network, train
from worker.trainers.dqn.replay import ReplayMemory
from worker.trainers.dqn.stepping import learn_plainly
from worker.trainers.dqn.trainer import Training
from worker.trainers.environment import as_environment, make_one
from worker.trainers.envs import inspect_env
from worker.trainers.protocol import Job

# Sizes, as in the shapes; C transitions are remembered.
O, A, S, C = 4, 3, 3, 400  # noqa: E741
STEPS = 300


def network_of(flat: torch.Tensor, sizes: Sequence[int]) -> nn.Sequential:
    """The network out of torch.nn whose parameters are `flat` [P]."""
    network = make_network(sizes, np.random.default_rng(0))
    vector_to_parameters(flat.clone(), network.parameters())
    return network


def hyperparameters(params: Params) -> Hyperparameters:
    return Hyperparameters(**{f.name: getattr(params, f.name) for f in fields(Hyperparameters)})


def noise(replay: ReplayMemory) -> None:
    """Fill the memory; the agents' rewards differ in size, so that their gradients do."""
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(S, C, 2 * O + 3))
    rows[..., 2 * O] = rng.integers(A, size=(S, C))
    rows[..., 2 * O + 1] *= np.array([[0.1], [1.0], [30.0]])
    rows[..., 2 * O + 2] = rng.random((S, C)) < 0.3
    replay.storage.copy_(torch.from_numpy(rows))
    replay.wrote(C)


def batch_at(rows: torch.Tensor) -> Batch:
    """The batch that these rows [B, W] of a memory are."""
    s_tm1, s_t, a_tm1, r_t, terminal_t = torch.split(rows, [O, O, 1, 1, 1], dim=1)
    return Batch(s_tm1, a_tm1.squeeze(1).long(), r_t.squeeze(1), s_t, terminal_t.squeeze(1))


@pytest.mark.parametrize("how", ["plain", "compiled"])
@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_updates_are_those_of_separate_agents(
    loss: Literal["huber", "mse"], double_q: bool, how: str
) -> None:
    """Catches a wrong target, mask, cost or mean, and a gradient clipped over the whole stack."""
    params = replace(PARAMS, loss=loss, double_q=double_q, max_grad_norm=0.3, learning_rate=1e-2)
    generators = [np.random.default_rng(i) for i in range(S)]
    agent = Agent(params=params, observation_size=O, actions=A, generators=generators)
    replay = ReplayMemory(stack=S, capacity=C, observation_size=O)
    noise(replay)
    references = [Dqn(hyperparameters(params), O, A, np.random.default_rng(i)) for i in range(S)]
    for i, reference in enumerate(references):
        torch.testing.assert_close(agent.online.flat[i], flat(reference.online), rtol=0, atol=0)
    learn: Callable[[NDArray[np.uint32]], Any] = partial(learn_plainly, agent, replay, params)
    if how == "compiled":
        learn = compiled.Learners(params, agent, replay).learn
    rng = np.random.default_rng(8)
    losses: list[list[float]] = [[] for _ in range(S)]
    norms: list[list[float]] = [[] for _ in range(S)]
    for round_ in range(12):
        words = rng.integers(0, 2**32, (params.updates_per_round, S, params.batch_size), np.uint32)
        list(learn(words))
        for rows in (words.astype(np.int64) * C) >> 32:  # [S, B]
            for i, reference in enumerate(references):
                loss_found, norm = reference.update(batch_at(replay.storage[i, rows[i]]))
                losses[i].append(loss_found)
                norms[i].append(norm)
        if round_ == 5:
            agent.update_target()
            for reference in references:
                reference.update_target()
    for i, reference in enumerate(references):
        torch.testing.assert_close(
            agent.online.flat[i], flat(reference.online), rtol=2e-4, atol=2e-5
        )
    np.testing.assert_allclose(agent.loss_sum.numpy(), np.sum(losses, axis=1), rtol=1e-4)
    # The test means something: gradients were clipped for one agent and left alone for another.
    assert min(norms[0]) < params.max_grad_norm < max(norms[2])


def flat(network: nn.Sequential) -> torch.Tensor:
    return parameters_to_vector(network.parameters()).detach()


class Draws:
    """What a worker draws for an agent in a segment, one number after the other.

    It stands for the generator of a `Dqn`.
    """

    def __init__(self, seed: int, params: Params, actions: int) -> None:
        self.uniform = np.random.default_rng(stream(seed, 0, Purpose.NETWORK)).uniform
        rng = np.random.default_rng(stream(seed, 0, Purpose.EXPLORATION))
        self._uniform, self._actions = rng.random(STEPS), rng.integers(actions, size=STEPS)
        self._step = -1
        rounds = replay_words([stream(seed, 0, Purpose.REPLAY)], params)
        self._words = (words for each in rounds for words in each[:, 0])

    def random(self) -> float:
        """Asked once in each step, whether its action is random."""
        self._step += 1
        return float(self._uniform[self._step])

    def integers(self, high: int, size: int | None = None) -> Any:
        """A random action, or the rows of a batch."""
        if size is None:
            return self._actions[self._step]
        return (next(self._words).astype(np.int64) * high) >> 32


@pytest.mark.parametrize("how", ["plain", "compiled", "gpu"])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCar-v0"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"double_q": False, "loss": "mse", "max_grad_norm": 0.5},
        {"buffer_size": 60, "train_freq": 7, "gradient_steps": 3},
        {"tau": 0.1, "target_update_interval": 7, "train_freq": 25, "gradient_steps": -1},
    ],
    ids=["double Q", "mse, clipped", "memory wraps", "target follows"],
)
def test_a_training_is_the_reference_with_the_same_draws(
    changes: dict[str, Any], env_id: str, how: str
) -> None:
    """The steps, what is remembered of them, when it is learned from, and what is learned.

    MountainCar's episodes are truncated, CartPole's terminate.
    """
    seeds, shape = (3, 4), inspect_env(env_id)
    params = replace(PARAMS, learning_starts=100, exploration_fraction=0.8, **changes)
    running = Training(
        Job(
            env=env_id,
            knobs=asdict(params),
            seeds=seeds,
            train_steps=STEPS,
            eval_every=STEPS,
            eval_episodes=1,
            score_episodes=1,
            keep="last",
            compiled=how == "compiled",
        ),
        tensors=how == "gpu" or None,
    )
    list(running._train())
    found = running.state()
    running.close()
    for i, seed in enumerate(seeds):
        draws = cast(np.random.Generator, Draws(seed, params, shape.actions))
        reference = Dqn(hyperparameters(params), shape.observation_size, shape.actions, draws)
        env = make_one(as_environment(env_id))
        source = stream(seed, 0, Purpose.ENVIRONMENT)
        episodes = list(train(env, reference, steps=STEPS, seed=env_seeds(source, 1)[0]))
        assert episodes, "an episode ended"
        rows = [[*t.s_tm1, *t.s_t, t.a_tm1, t.r_t, t.terminal_t] for t in reference.memory]
        # A single other action would show.
        np.testing.assert_allclose(found["replay.rows"][i], np.array(rows, np.float32), atol=1e-4)
        for name, network in (("online", reference.online), ("target", reference.target)):
            learned = found[f"agent.{name}"][i]
            np.testing.assert_allclose(learned, flat(network), rtol=2e-3, atol=2e-4)
